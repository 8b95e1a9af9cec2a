"""Statistics of searches in `info`."""

import gymnasium as gym
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import mbrl_gym  # noqa: F401  # registers the ids
from mbrl_gym.agents import MCTS
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.wrappers import SearchInfo, SimulatorModel


def lake(**options):
    env = gym.make("FrozenLake-v1", is_slippery=False, **options)
    settings = {"horizon": 20, "transpositions": True, "backup": "max", "rollout": "none"}
    return env, MCTS("UCT", env, model=SimulatorModel(env), simulations=400, search_kwargs=settings, seed=0)


def test_info_tells_the_root_of_every_decision():
    """The same as predict's recurrent state, step by step; after the goal there is nothing to decide."""
    env, agent = lake()
    told = SearchInfo(env, agent)
    observation, info = told.reset(seed=0)
    state, steps, done = None, 0, False
    while not done:
        action, state = agent.predict(observation, state, np.array([steps == 0]), deterministic=True)
        assert told.decide() == action == info["search"]["action"]
        found = state.decisions
        for name in ("actions", "visits", "values", "prior"):
            assert_array_equal(info["search"][name], getattr(found, name)[0])
        assert_array_equal(info["search"]["actions"], [0, 1, 2, 3])
        assert info["search"]["value"] == pytest.approx(0.99 ** (5 - steps))
        assert info["prob"] == 1  # what the environment tells itself
        observation, reward, terminated, truncated, info = told.step(told.decide())
        steps, done = steps + 1, terminated or truncated
    assert (steps, reward) == (6, 1)
    assert "search" not in info
    with pytest.raises(gym.error.ResetNeeded):
        told.decide()
    assert told.reset(seed=0)[1]["search"]["visits"].sum() >= 400


def test_other_actions_than_the_agents_may_be_taken():
    env, agent = lake()
    told = SearchInfo(env, agent)
    told.reset(seed=0)
    for action, following in ((0, 0), (2, 1), (0, 0)):
        observation, *_, info = told.step(action)
        assert observation == following
        assert info["search"]["value"] == pytest.approx(0.99 ** (5 - following))
        assert told.decide() in ((1, 2) if following == 0 else (2,))


def test_of_box_actions_those_that_were_tried_are_told():
    env = gym.make("mbrl/Drift-v0")
    agent = MCTS("UCT", env, model="exact", simulations=25, search_kwargs={"horizon": 3}, seed=0)
    _, info = SearchInfo(env, agent).reset(seed=0)
    found = info["search"]
    assert found["actions"].shape[1:] == (1,)
    assert 5 <= len(found["actions"]) <= 6  # the square root of 25, and of those that were in flight besides
    assert (found["visits"] > 0).all()
    assert found["visits"].sum() == 25
    assert found["action"] in found["actions"]


def test_agents_without_a_search_are_refused():
    with pytest.raises(InvalidSettingError, match="int has no search"):
        SearchInfo(gym.make("CartPole-v1"), 3)
