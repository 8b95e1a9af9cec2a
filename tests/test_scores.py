"""The published optima: stored numbers against their recomputation, and scores."""

import json
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from numpy.testing import assert_allclose

import mbrl_gym
from mbrl_gym import MbrlGymError
from mbrl_gym.agents.planning import ICEM
from mbrl_gym.envs.task import draw
from mbrl_gym.envs.trajectory_search import BestFound, best_found
from mbrl_gym.models import ExactModel
from mbrl_gym.scores import EVALUATION_SEEDS, evaluation_states

STORED = json.loads(Path(mbrl_gym.__file__).with_name("reference.json").read_text())
ALL_IDS = mbrl_gym.env_ids()


def task_of(env_id):
    return gym.make(env_id).unwrapped.task


def optimum_of(task, states):
    """Return the optimum, or skip where it needs a package that is not installed."""
    try:
        return task.optimal_return(states)
    except ImportError as error:
        pytest.skip(str(error))


def test_every_id_has_reference_values():
    assert list(STORED) == list(ALL_IDS)


@pytest.mark.parametrize("env_id", ALL_IDS)
def test_stored_values_agree_with_the_task(env_id):
    known, task = mbrl_gym.reference(env_id), task_of(env_id)
    assert (known.kind, known.method) == (task.optimum.kind, task.optimum.method)
    assert known.kind in ("exact", "best known")
    assert known.command == f"python benchmarks/optimum.py {env_id}"
    assert len(known.optimal_returns) == len(EVALUATION_SEEDS) == 100
    assert known.optimal == pytest.approx(np.mean(known.optimal_returns), abs=1e-3)
    assert known.random < known.optimal
    assert (known.gap == 0) == (known.kind == "exact")
    assert "## Optimum" in str(type(gym.make(env_id).unwrapped).__doc__)


@pytest.mark.parametrize("env_id", ALL_IDS)
def test_stored_optima_are_recomputed(env_id):
    task, known = task_of(env_id), mbrl_gym.reference(env_id)
    sample = [3, 41] if not isinstance(task, BestFound) else [3]
    states, stored = evaluation_states(env_id)[sample], np.array(known.optimal_returns)[sample]
    if not isinstance(task, BestFound):
        assert_allclose(optimum_of(task, states), stored, rtol=2e-4, atol=2e-3)
        return
    # The full search takes long: a short one comes close from below.
    found = best_found(task, states, task.nominal_steps, replace(task.search, random_starts=0, iterations=30))[0]
    assert (found <= stored + 0.01 * np.abs(stored)).all()
    assert (found >= stored - 0.15 * np.abs(stored)).all()


@pytest.mark.parametrize("env_id", ALL_IDS)
def test_random_returns_are_recomputed(env_id):
    task, known = task_of(env_id), mbrl_gym.reference(env_id)
    generator = np.random.default_rng(1)
    state = evaluation_states(env_id)
    observation = task.observation(state)
    total, alive = np.zeros(100), np.ones(100, np.bool_)
    for _ in range(task.nominal_steps):
        if isinstance(task.action_space, gym.spaces.Discrete):
            action = generator.integers(task.action_space.n, size=100)
        else:
            action = generator.uniform(-1, 1, (100, *task.action_space.shape)).astype(task.dtype)
        state = task.transition(state, action, draw(generator, (100,), task.transition_noise, task.dtype))
        following = task.observation(state)
        total += np.where(alive, task.reward(observation, action, following), 0.0)
        alive &= ~task.terminal(following)
        observation = following
    rare = 3e-3 * (known.optimal - known.random)  # rewards that 100 episodes may not meet
    assert abs(total.mean() - known.random) <= 5 * total.std() / 10 + rare


@pytest.mark.parametrize("env_id", ALL_IDS)
def test_bounds_are_above_the_optima(env_id):
    task = task_of(env_id)
    states = evaluation_states(env_id)[:2]
    try:
        bound = task.return_bound(states)
    except NotImplementedError:
        assert mbrl_gym.reference(env_id).gap is None
        return
    except ImportError as error:
        pytest.skip(str(error))
    stored = np.array(mbrl_gym.reference(env_id).optimal_returns[:2])
    assert (bound >= stored - 1e-3 * np.abs(stored) - 1e-3).all()


@pytest.mark.parametrize(
    ("env_id", "horizon"), [("mbrl/Arm-v0", 10), ("mbrl/Drone-v0", 15), ("mbrl/Drift-v0", 3), ("mbrl/ArmTorque-v0", 12)]
)
def test_no_planner_beats_the_optimum(env_id, horizon):
    """iCEM with the exact model, on the first 8 evaluation episodes."""
    import torch

    task, episodes = task_of(env_id), 8
    known, model = mbrl_gym.reference(env_id), ExactModel(task)
    planner = ICEM(task.action_space, horizon=horizon, population=16, iterations=2)
    generator, draws = torch.Generator().manual_seed(0), np.random.default_rng(0)
    state, plan, returns = evaluation_states(env_id)[:episodes], None, np.zeros(episodes)
    for _ in range(task.nominal_steps):
        observation = task.observation(state)
        plan = planner.plan(model, torch.from_numpy(np.ascontiguousarray(observation)), plan, generator)
        action = plan.actions[:, 0].numpy()
        state = task.transition(state, action, draw(draws, (episodes,), task.transition_noise, task.dtype))
        returns += task.reward(observation, action, task.observation(state))
    excess = returns - np.array(known.optimal_returns[:episodes])
    noise = 0.0 if not sum(task.transition_noise) else 4 * excess.std() / np.sqrt(episodes)
    assert excess.mean() <= (known.gap or 0.0) + noise + 1e-4 * abs(known.optimal)
    assert mbrl_gym.score(env_id, returns.mean() - np.mean(known.optimal_returns[:episodes]) + known.optimal) > 0.5


def test_score_is_linear_between_random_and_optimum():
    known = mbrl_gym.reference("mbrl/Arm-v0")
    middle = (known.random + known.optimal) / 2
    scores = mbrl_gym.score("mbrl/Arm-v0", [[known.random, known.optimal], [middle, 2 * known.random - known.optimal]])
    assert_allclose(scores, [[0, 1], [0.5, -1]])
    assert type(mbrl_gym.score("mbrl/Arm-v0", known.optimal)) is float


def test_unknown_ids_are_refused_with_the_known_ones():
    with pytest.raises(MbrlGymError, match=r"'CartPole-v1'.*mbrl/Arm-v0"):
        mbrl_gym.score("CartPole-v1", 1.0)


def test_evaluation_states_are_those_of_the_seeds():
    env = gym.make("mbrl/Drone-v0")
    states = evaluation_states("mbrl/Drone-v0")
    assert len(states) == 100
    for row in (0, 7, 99):
        env.reset(seed=EVALUATION_SEEDS[row])
        assert np.array_equal(env.unwrapped.get_state()["state"], states[row])


@pytest.mark.parametrize(
    "given", [{"state": [0.0, 0.0, 1.0]}, {"state": 1.0}, {"state": [0.0] * 4, "steps": -1}], ids=str
)
def test_optima_of_no_state_are_refused(given):
    with pytest.raises(MbrlGymError, match=r"have 4 columns \(theta_1.*at least 0"):
        task_of("mbrl/Arm-v0").optimal_return(**given)
