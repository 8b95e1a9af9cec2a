"""Curious plans; disturbances of actions: how often, how large, how long."""

import collections

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.vec_env import DummyVecEnv

from mbrl_gym.agents import MPC
from mbrl_gym.agents.exploration import CuriousPlans, Exploration
from mbrl_gym.agents.novelty import NewPlaces
from mbrl_gym.agents.planning import Objective
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import GaussianEnsemble
from mbrl_gym.wrappers.visits import Visits

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


# Curious plans ------------------------------------------------------------------------------------------------------

SPACES = spaces.Box(-9.0, 9.0, (1,), np.float32), spaces.Box(-1.0, 1.0, (1,), np.float32)


def ensemble():
    return GaussianEnsemble(*SPACES, members=4, elites=3, seed=0)


def decisions(explore, plain, starts, weight=2.0):
    curious, source = CuriousPlans(explore, weight, ensemble()), generator()
    return [curious.objective(plain, np.array(each), source) for each in starts]


def test_what_plans_look_for():
    plain = Objective(discount=0.9, risk=0.5)
    assert decisions(None, plain, [[True]]) == [plain]
    assert decisions("ucb", plain, [[True]]) == [Objective(discount=0.9, risk=-1.5)]
    assert decisions("information", plain, [[True]]) == [Objective(discount=0.9, risk=0.5, information=2.0)]


def test_posterior_sampling_believes_one_member_for_an_episode():
    starts = [[step % 5 == 0, step % 10 == 0] for step in range(600)]
    particles = [each.particle for each in decisions("thompson", Objective(particles=6), starts)]
    episodes = np.array(particles).reshape(-1, 5)
    assert (episodes == episodes[:, :1]).all()
    values, counts = np.unique(episodes[:, 0], return_counts=True)
    assert_array_equal(values, range(6))
    assert counts.min() >= 8  # of 120


@pytest.mark.parametrize("explore", ["ucb", "thompson", "information", "counts"])
def test_curiosity_changes_what_is_learned_from_and_not_what_is_predicted(explore):
    settings = {
        "learning_starts": 20,
        "model_kwargs": {"hidden": [8], "max_epochs": 2},
        "planner_kwargs": {"horizon": 3, "population": 12, "iterations": 2},
        "seed": 0,
    }
    plain = MPC("iCEM", "mbrl/Drift-v0", **settings).learn(30)
    curious = MPC("iCEM", "mbrl/Drift-v0", explore=explore, explore_weight=5.0, **settings).learn(30)
    first, second = (agent.recorded().action for agent in (plain, curious))
    assert_array_equal(first[:20], second[:20])
    assert not np.array_equal(first[20:], second[20:])
    assert curious.planner.objective == plain.planner.objective == Objective()
    twin = MPC("iCEM", "mbrl/Drift-v0", **settings)
    twin.policy.world_model.load_state_dict(curious.world_model.state_dict())
    row = np.ones(1, np.float32)
    assert_array_equal(*(agent.predict(row, deterministic=True)[0] for agent in (curious, twin)))


@pytest.mark.parametrize("explore", ["ucb", "thompson", "information", "counts"])
def test_a_curious_run_is_resumed_exactly(explore, tmp_path):
    settings = {
        "learning_starts": 10,
        "train_freq": 5,
        "model_kwargs": {"hidden": [8], "max_epochs": 2},
        "planner_kwargs": {"horizon": 3, "population": 12, "iterations": 1},
        "explore": explore,
        "seed": 0,
    }
    whole = MPC("iCEM", "mbrl/Drift-v0", **settings).learn(30)
    MPC("iCEM", "mbrl/Drift-v0", **settings).learn(15).save(tmp_path / "half", include=["replay_buffer"])
    resumed = MPC.load(tmp_path / "half", gym.make("mbrl/Drift-v0")).learn(15, reset_num_timesteps=False)
    assert_array_equal(whole.recorded().action, resumed.recorded().action)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"explore": "rnd"}, "explore must be None or one of ucb, thompson, information, counts, but 'rnd' was given"),
        ({"explore": "ucb", "explore_weight": 0.0}, "explore_weight must be greater than 0 and finite, but 0.0"),
        ({"explore": "counts", "explore_cells": 0}, "cells must be a whole number of at least 1, but 0 was given"),
        ({"explore": "thompson", "model": "linear"}, "asks members that may disagree, but LinearModel has none"),
    ],
)
def test_wrong_curiosity_is_named(settings, message):
    with pytest.raises(InvalidSettingError, match=message):
        MPC("iCEM", "mbrl/Drift-v0", **settings)


# New places ---------------------------------------------------------------------------------------------------------


def along(*places):
    """Return the bonuses of one plan through places, after visits of 0.05 (twice) and 0.15."""
    known = NewPlaces(spaces.Box(0.0, 1.0, (1,), np.float32), cells=10)
    known.saw(np.array([[0.05], [0.15], [0.07]], np.float32))
    bonus = known.bonus(torch.tensor(places)[None, None, :, None])
    assert bonus.shape == (1, 1, len(places))
    return (bonus.flatten() ** -2).tolist()


def test_the_bonus_of_places_counts_earlier_visits_and_those_of_the_plan_itself():
    assert along(0.05, 0.15, 0.15, 0.25, 1.0) == pytest.approx([3.0, 2.0, 3.0, 1.0, 1.0])
    assert along(0.55, 0.55, 0.55) == pytest.approx([1.0, 2.0, 3.0])
    assert along(0.95, 1.0, 0.05, 0.92) == pytest.approx([1.0, 2.0, 3.0, 3.0])


def test_every_plan_and_particle_has_places_of_its_own():
    known = NewPlaces(spaces.Box(0.0, 1.0, (2,), np.float32), cells=4)
    path = torch.rand((3, 5, 7, 2), generator=generator())
    for particle in range(3):
        for plan in range(5):
            alone = known.bonus(path[particle, plan][None, None])
            assert torch.equal(known.bonus(path)[particle, plan], alone[0, 0])


@pytest.mark.parametrize(
    ("space", "shape"), [(spaces.Discrete(9), (2, 3, 4)), (spaces.MultiDiscrete([3, 3]), (2, 3, 4, 2))]
)
def test_choices_are_places(space, shape):
    known = NewPlaces(space, cells=10)
    known.saw(np.zeros((3, *shape[3:]), np.int64))
    assert_allclose(known.bonus(torch.zeros(shape, dtype=torch.int64))[0, 0] ** -2, [4.0, 5.0, 6.0, 7.0], rtol=1e-6)
    assert_allclose(known.bonus(torch.ones(shape, dtype=torch.int64))[0, 0] ** -2, [1.0, 2.0, 3.0, 4.0], rtol=1e-6)


def test_what_is_predicted_after_an_end_may_be_anything():
    known = NewPlaces(spaces.Box(-np.inf, np.inf, (1,), np.float32), cells=10)
    path = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30, 0.0])[None, None, :, None]
    assert known.bonus(path).isfinite().all()


def test_plans_for_new_places_add_to_what_the_planner_was_given():
    (curious,) = decisions("counts", Objective(novelty=lambda path: 10.0 + 0.0 * path[..., 0]), [[True]])
    path = torch.zeros(1, 1, 2, 1)
    assert_allclose(curious.novelty(path)[0, 0], [10.0 + 2.0, 10.0 + 2.0 * 2.0**-0.5], rtol=1e-6)
    assert decisions("counts", Objective(discount=0.9), [[True]])[0].discount == 0.9


class Hall(gym.Env):
    """A walk over the choices 0 to 9 in a Dict, which ends at 3."""

    observation_space = spaces.Dict({"place": spaces.Discrete(10)})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return {"place": self.place}, {}

    def step(self, action):
        self.place += 1
        return {"place": self.place}, 0.0, self.place == 3, False, {}


def test_counted_is_where_steps_led_and_not_where_the_next_episode_starts():
    agent = MPC("iCEM", DummyVecEnv([Hall, Hall]), explore="counts", train_freq=20, learning_starts=40, seed=0).learn(
        40
    )
    places = agent._curious.places.visits
    assert sorted(places.counts) == [12, 14, 14]  # 20 steps of both: 6 whole episodes, and two steps
    before = dict(zip(places.codes, places.counts, strict=True))
    places(agent.recorded().next_observation)
    assert {code: 2 * count for code, count in before.items()} == dict(zip(places.codes, places.counts, strict=True))


def test_an_agent_that_counts_reaches_more_places_than_one_that_does_not():
    reached = {}
    planner = {"horizon": 8, "population": 24, "iterations": 2}
    settings = {"model": "exact", "planner_kwargs": planner, "learning_starts": 10, "seed": 0}
    for explore in (None, "counts"):
        agent = MPC("iCEM", "mbrl/ArmSparse-v0", explore=explore, explore_cells=20, **settings)
        data = agent.learn(150).recorded()
        reached[explore] = Visits(agent.observation_space, 20)
        reached[explore](data.next_observation)
    assert len(reached["counts"].codes) > 1.5 * len(reached[None].codes)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=12), min_size=1, max_size=6))
def test_visits_are_those_of_a_counter(batches):
    visits, counter = Visits(spaces.Box(-2.0, 2.0, (2,)), cells=4), collections.Counter()
    for batch in batches:
        rows = np.array([(x, -x) for x in batch], np.float64).clip(-2.0, 2.0)
        cells = [tuple(np.minimum(np.floor(row + 2.0), 3.0)) for row in rows]
        assert_array_equal(visits.of_cells(visits.cells(rows)), [counter[cell] for cell in cells])
        counter.update(cells)
        assert_array_equal(visits(rows), [counter[cell] for cell in cells])
    assert sorted(visits.counts) == sorted(counter.values())
