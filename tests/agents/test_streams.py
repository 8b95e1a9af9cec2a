"""Agents draw from streams of their own where Stable-Baselines3 uses the global generators."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from mbrl_gym.agents.streams import RandomStreams


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
    streams = RandomStreams(3)
    for one in expected:
        with streams:
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
    with RandomStreams(2):
        draws()
    assert_same(draws(), expected[1])


def test_inside_of_itself_it_goes_on():
    streams, plain = RandomStreams(0), RandomStreams(0)
    with plain:
        expected = [draws(), draws(), draws()]
    with streams:
        assert_same(draws(), expected[0])
        with streams:
            assert_same(draws(), expected[1])
        assert_same(draws(), expected[2])


def test_two_agents_do_not_disturb_each_other():
    outer, inner, alone = RandomStreams(0), RandomStreams(1), RandomStreams(0)
    with alone:
        expected = draws(), draws()
    with outer:
        assert_same(draws(), expected[0])
        with inner:
            draws()
        assert_same(draws(), expected[1])


def test_an_error_puts_the_global_generators_back():
    np.random.seed(1)
    torch.manual_seed(1)
    expected = draws()
    np.random.seed(1)
    torch.manual_seed(1)
    streams = RandomStreams(2)
    with pytest.raises(ZeroDivisionError), streams:
        [draws(), 1 / 0]
    assert_same(draws(), expected)
    with streams:  # and it can be entered again
        draws()


def test_a_restored_state_goes_on():
    streams = RandomStreams(4)
    with streams:
        draws()
    state = streams.state()
    with streams:
        expected = draws()
    other = RandomStreams(9)
    other.restore(state)
    with other:
        assert_same(draws(), expected)
