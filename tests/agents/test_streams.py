"""Agents draw from streams of their own where Stable-Baselines3 uses the global generators."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from mbrl_gym.agents.streams import Streams, own_streams


def draws():
    return np.random.random(3), np.random.normal(), torch.rand(2).numpy(), torch.randperm(5).numpy()


def assert_same(first, second):
    for mine, other in zip(first, second, strict=True):
        assert_array_equal(mine, other)


def test_inside_draws_go_on_from_the_seed_whatever_happens_outside():
    numpy, generator = np.random.RandomState(3), torch.Generator().manual_seed(3)
    expected = [
        (
            numpy.random_sample(3),
            numpy.normal(),
            torch.rand(2, generator=generator).numpy(),
            torch.randperm(5, generator=generator).numpy(),
        )
        for _ in range(3)
    ]
    streams = Streams(3)
    for one in expected:
        with own_streams(streams):
            assert_same(draws(), one)
        draws()
        torch.manual_seed(5)


def test_outside_nothing_changes():
    np.random.seed(1)
    torch.manual_seed(1)
    expected = [draws(), draws()]
    np.random.seed(1)
    torch.manual_seed(1)
    assert_same(draws(), expected[0])
    with own_streams(Streams(2)):
        draws()
    assert_same(draws(), expected[1])


def test_inside_of_itself_it_goes_on():
    streams, plain = Streams(0), Streams(0)
    with own_streams(plain):
        expected = [draws(), draws(), draws()]
    with own_streams(streams):
        assert_same(draws(), expected[0])
        with own_streams(streams):
            assert_same(draws(), expected[1])
        assert_same(draws(), expected[2])


def test_two_agents_do_not_disturb_each_other():
    outer, inner, alone = Streams(0), Streams(1), Streams(0)
    with own_streams(alone):
        expected = draws(), draws()
    with own_streams(outer):
        assert_same(draws(), expected[0])
        with own_streams(inner):
            draws()
        assert_same(draws(), expected[1])


def test_an_error_puts_the_global_generators_back():
    np.random.seed(1)
    torch.manual_seed(1)
    expected = draws()
    np.random.seed(1)
    torch.manual_seed(1)
    streams = Streams(2)
    with pytest.raises(ZeroDivisionError), own_streams(streams):
        [draws(), 1 / 0]
    assert_same(draws(), expected)
    with own_streams(streams):  # and it can be entered again
        draws()


def test_a_restored_state_goes_on():
    streams = Streams(4)
    with own_streams(streams):
        draws()
    state = streams.state
    with own_streams(streams):
        expected = draws()
    other = Streams(9)
    other.state = state
    with own_streams(other):
        assert_same(draws(), expected)
