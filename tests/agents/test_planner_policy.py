"""The random numbers of deterministic decisions."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from mbrl_gym.agents import MPC
from mbrl_gym.agents.planner_policy import STREAMS
from mbrl_gym.agents.planning import Plan

NEVER, ALWAYS = np.zeros(1, bool), np.ones(1, bool)


@pytest.fixture
def agent():
    """Plan with the drone's own equations."""
    settings = {"population": 12, "iterations": 2, "horizon": 4}
    return MPC("iCEM", "mbrl/Drone-v0", model="exact", planner_kwargs=settings, seed=3)


def observations(count):
    return gym.make_vec("mbrl/Drone-v0", num_envs=count).reset(seed=0)[0]


def first_numbers(agent, decisions):
    """Return the first random number of each decision of an episode."""
    seen, inner = [], agent.planner.plan

    def plan(model, observation, previous, generator):
        seen.append(torch.rand(1, generator=generator.clone_state()).item())
        return inner(model, observation, previous, generator)

    agent.planner.plan = plan
    state = None
    for decision in range(decisions):
        start = NEVER if decision else ALWAYS
        _, state = agent.predict(observations(1), state, start, deterministic=True)
    del agent.planner.plan
    return seen


def test_successive_decisions_see_other_random_numbers_and_episodes_repeat_them(agent):
    numbers = first_numbers(agent, STREAMS + 3)
    assert len(set(numbers)) == STREAMS
    assert numbers[STREAMS:] == numbers[:3]
    assert first_numbers(agent, 4) == numbers[:4]


def test_a_batch_of_rows_at_different_ages_equals_its_rows_one_by_one(agent):
    start = observations(5)
    _, state = agent.predict(start, None, None, deterministic=True)
    restarted = np.array([False, True, False, False, True])
    for _ in range(2):  # rows 1 and 4 are one decision younger in the second round
        before = state
        action, state = agent.predict(start, before, restarted, deterministic=True)
        for row in range(5):
            some = Plan(*(part[row : row + 1] for part in before))
            alone, own = agent.predict(start[row : row + 1], some, restarted[row : row + 1], deterministic=True)
            assert_array_equal(alone[0], action[row])
            for mine, whole in zip(own, state, strict=True):
                assert_array_equal(mine[0], whole[row])
        restarted = np.zeros(5, bool)
    assert state.age.tolist() == [2, 1, 2, 2, 1]


def test_deterministic_decisions_depend_on_no_earlier_calls(agent):
    start = observations(2)
    first, _ = agent.predict(start, None, None, deterministic=True)
    agent.predict(observations(4), None, None, deterministic=False)
    again, _ = agent.predict(start, None, None, deterministic=True)
    assert_array_equal(first, again)
    own = [agent.predict(start, None, None, deterministic=False)[0] for _ in range(2)]
    assert not np.array_equal(*own)
