"""Disturbances of actions: how often, how large, how long."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal

from mbrl_gym.agents.exploration import Exploration
from mbrl_gym.errors import InvalidSettingError

ROWS, STEPS = 200, 300


def generator():
    return torch.Generator().manual_seed(0)


def disturbed(space, amount, action):
    """Return what becomes of an action that is always the same, `[STEPS, ROWS, ...]`."""
    exploration, source = Exploration(space, amount), generator()
    return np.stack([exploration(np.repeat(action[None], ROWS, 0), source) for _ in range(STEPS)])


def test_noise_on_box_actions_is_slow_and_of_the_given_size():
    actions = disturbed(spaces.Box(-1.0, 1.0, (2,)), 0.1, np.zeros(2, np.float32))
    assert_allclose(actions.std(), 0.1, rtol=0.03)
    assert_allclose((actions[1:] * actions[:-1]).mean() / 0.01, 0.85, atol=0.03)
    assert np.abs(disturbed(spaces.Box(-1.0, 1.0, (2,)), 5.0, np.zeros(2))).max() == 1.0


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_choices_are_replaced_in_a_share_of_the_steps_and_for_a_while(share):
    actions = disturbed(spaces.Discrete(1000, start=5), share, np.array(0))  # no choice of the space
    assert actions.dtype.kind == "i"
    replaced = actions > 0
    assert_allclose(replaced.mean(), share, atol=0.02)
    assert set(np.unique(actions[replaced])) <= set(range(5, 1005))
    assert len(np.unique(actions)) > 700
    # A choice goes on with probability 0.85, apart from one in a thousand that is drawn twice.
    before, after = actions[:-1], actions[1:]
    assert_allclose((before == after)[before > 0].mean(), 0.85, atol=0.02)


def test_every_part_of_a_multidiscrete_action_is_replaced_within_its_range():
    space = spaces.MultiDiscrete([2, 5], start=[3, -1])
    actions = disturbed(space, 1.0, np.array([3, 0]))
    assert actions.shape == (STEPS, ROWS, 2)
    for part, choices in enumerate(([3, 4], [-1, 0, 1, 2, 3])):
        values, counts = np.unique(actions[..., part], return_counts=True)
        assert_array_equal(values, choices)
        assert_allclose(counts / counts.sum(), 1 / len(choices), atol=0.03)


def test_without_exploration_nothing_is_drawn():
    source, action = generator(), np.array([1, 0])
    assert Exploration(spaces.Discrete(2), 0.0)(action, source) is action
    assert torch.equal(source.get_state(), generator().get_state())


@pytest.mark.parametrize(
    ("space", "amount", "message"),
    [
        (spaces.Box(-1.0, 1.0, (1,)), -0.1, "at least 0, but -0.1"),
        (spaces.Discrete(2), -1.0, "at least 0"),
        (spaces.Discrete(2), 1.5, r"share of steps.*in \[0, 1\], but 1.5"),
    ],
)
def test_amounts_out_of_range_are_refused(space, amount, message):
    with pytest.raises(InvalidSettingError, match=message):
        Exploration(space, amount)
