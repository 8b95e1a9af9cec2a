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


def test_a_batch_equals_its_rows_one_by_one(agent):
    start, state = observations(5), None
    for _ in range(3):
        before = state
        action, state = agent.predict(start, before, None, deterministic=True)
        for row in range(5):
            some = None if before is None else Plan(*(part[row : row + 1] for part in before))
            alone, own = agent.predict(start[row : row + 1], some, None, deterministic=True)
            assert_array_equal(alone[0], action[row])
            for mine, whole in zip(own, state, strict=True):
                assert_array_equal(mine[0], whole[row])


def test_rows_of_different_ages_are_planned_for_in_one_search(agent):
    start, searches, inner = observations(4), [], agent.planner.plan

    def plan(model, observation, previous, generator):
        searches.append(len(observation))
        return inner(model, observation, previous, generator)

    agent.planner.plan = plan
    _, state = agent.predict(start, None, None, deterministic=True)
    for restarted in ([False, True, False, True], [True, False, False, False]):
        _, state = agent.predict(start, state, np.array(restarted), deterministic=True)
    assert searches == [4, 4, 4]
    assert state.age.tolist() == [0, 1, 2, 1]


def test_deterministic_decisions_depend_on_no_earlier_calls(agent):
    start = observations(2)
    first, _ = agent.predict(start, None, None, deterministic=True)
    agent.predict(observations(4), None, None, deterministic=False)
    again, _ = agent.predict(start, None, None, deterministic=True)
    assert_array_equal(first, again)
    own = [agent.predict(start, None, None, deterministic=False)[0] for _ in range(2)]
    assert not np.array_equal(*own)
