"""The vector environments of tasks and of models: equal to single ones and to Gymnasium's, in all autoreset modes."""

import copy
import math
import pickle
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from env_toys import arrays, flat, observed_dtype
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mbrl_gym.envs.arm import ArmVectorEnv
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.task import NoiseSizes, Params, Task, draw, namespace
from mbrl_gym.errors import InvalidActionError, InvalidSettingError
from mbrl_gym.models import ExactModel

MODES = tuple(AutoresetMode)
ROWS = 4


@dataclass(frozen=True, kw_only=True)
class CorridorParams(Params):
    length: float = 2.0
    positive: ClassVar[tuple[str, ...]] = ("length",)


class Corridor(Task):
    """A deterministic walk from 0 that terminates where |x| reaches `length`, and says how far it went."""

    params_class = CorridorParams
    state_columns = ("x", "steps taken")
    scene = "none"
    nominal_steps = 8
    initial_noise = transition_noise = NoiseSizes()

    def __init__(self, **settings):
        super().__init__(**settings)
        self.observation_space = spaces.Box(-100.0, 100.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def initial(self, noise):
        return np.zeros((*noise.normal.shape[:-1], 2), self.dtype)

    def transition(self, state, action, noise):
        move = namespace(action).clip(action[..., 0], -1.0, 1.0)
        return namespace(state).stack([state[..., 0] + move, state[..., 1] + 1], axis=-1)

    def observation(self, state):
        return +state

    def state(self, observation):
        return +observation

    def reward(self, observation, action, next_observation):
        return next_observation[..., 0] - observation[..., 0]

    def terminal(self, next_observation):
        return abs(next_observation[..., 0]) >= self.params.length

    def info(self, state, action, next_state):
        return {"from": state[..., 0], "far": abs(next_state[..., 0]) > 1}


class CorridorEnv(TaskEnv):
    task_class = Corridor


class CorridorVectorEnv(TaskVectorEnv):
    task_class = Corridor


def trajectory(env, actions, **reset):
    """Reset, take the actions, and return all that the environment said."""
    return [env.reset(**reset), *(env.step(action) for action in actions)]


def replay(env, actions):
    """Take the actions without a reset."""
    return [env.step(action) for action in actions]


def same(one, other):
    """Whether two records are equal to the bit, types included."""
    return data_equivalence(one, other, exact=True)


def mask_of(*rows):
    """Return the mask that chooses these rows."""
    return np.isin(np.arange(ROWS), rows)


def assert_same_info(native, expected):
    """Compare the entries that the masks show; an entry without a mask that shows it may be missing."""
    for name in {*native, *expected}:
        if name.startswith("_"):
            continue
        nobody = np.zeros(ROWS, np.bool_)
        shown = expected.get(f"_{name}", nobody)
        assert_array_equal(native.get(f"_{name}", nobody), shown, err_msg=name)
        if not shown.any():
            continue
        if isinstance(expected[name], dict):
            assert_same_info(native[name], expected[name])
        else:
            for row in np.flatnonzero(shown):
                assert_array_equal(flat(native[name][row]), flat(expected[name][row]), err_msg=name)


def assert_same_step(native, expected):
    """Compare two results of `step`, apart from how the infos lay out what their masks hide."""
    for one, other in zip(map(flat, native[:4]), map(flat, expected[:4]), strict=True):
        assert_array_equal(one, other)
        assert one.shape == other.shape
    assert native[2].dtype == native[3].dtype == np.bool_
    assert_same_info(native[4], expected[4])


def assert_behaves_like(native, reference, actions, mode):
    """Run both through the same actions, with partial resets so that rows end at different times."""
    assert_array_equal(flat(native.reset(seed=0)[0]), flat(reference.reset(seed=0)[0]))
    ends = np.zeros(ROWS, int)
    for time, action in enumerate(actions):
        result, expected = native.step(action), reference.step(action)
        assert_same_step(result, expected)
        ended = expected[2] | expected[3]
        ends += ended
        mask = mask_of(1, 3) & (time % 7 == 0) | ended & (mode is AutoresetMode.DISABLED)
        if mask.any():
            native_reset, expected_reset = (
                env.reset(options={"reset_mask": mask.copy()}) for env in (native, reference)
            )
            assert_array_equal(flat(native_reset[0]), flat(expected_reset[0]))
    assert (ends >= 2).all(), "too few actions for every row to end twice"


# --- like Gymnasium ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [5, -1])
def test_terminating_episodes_are_like_gymnasiums(some_actions, mode, limit):
    native = CorridorVectorEnv(num_envs=ROWS, max_episode_steps=limit, autoreset_mode=mode)

    def single():
        return CorridorEnv() if limit == -1 else TimeLimit(CorridorEnv(), limit)

    reference = SyncVectorEnv([single] * ROWS, autoreset_mode=mode)
    assert_behaves_like(native, reference, some_actions(native.action_space, 60), mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [5, -1])
def test_imagined_episodes_are_like_gymnasiums(some_actions, mode, limit):
    model = ExactModel(Corridor(), termination_fn=lambda observation: observation[..., 0].abs() >= 2)
    settings = {"model": model, "start_states": np.zeros((1, 2)), "horizon": 8, "max_episode_steps": limit}
    native = gym.make_vec("mbrl/Imagined-v0", num_envs=ROWS, autoreset_mode=mode, **settings)
    reference = SyncVectorEnv([partial(gym.make, "mbrl/Imagined-v0", **settings)] * ROWS, autoreset_mode=mode)
    assert_behaves_like(native, reference, some_actions(native.action_space, 60), mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("fixed_noise")
def test_truncated_episodes_are_like_gymnasiums(env_id, some_actions, mode):
    native = gym.make_vec(env_id, num_envs=ROWS, max_episode_steps=3, autoreset_mode=mode)
    reference = SyncVectorEnv([partial(gym.make, env_id, max_episode_steps=3)] * ROWS, autoreset_mode=mode)
    assert_behaves_like(native, reference, some_actions(native.action_space, 12), mode)


@pytest.mark.usefixtures("fixed_noise")
def test_rows_equal_single_environments_bit_for_bit(env_id, some_actions):
    vec = gym.make_vec(env_id, num_envs=5, max_episode_steps=-1)
    task = vec.task
    state = task.initial(draw(np.random.default_rng(0), (5,), task.initial_noise, task.dtype))
    observation, _ = vec.reset(options={"state": state})
    singles = [gym.make(env_id).unwrapped for _ in range(5)]
    for row, env in enumerate(singles):
        assert_array_equal(flat(env.reset(options={"state": state[row]})[0]), flat(observation)[row])
    for action in some_actions(vec.action_space, min(task.nominal_steps, 1000)):
        observation, reward, terminated, truncated, info = vec.step(action)
        assert not truncated.any()
        for row, env in enumerate(singles):
            alone = env.step(action[row])
            assert same(flat(alone[0]), flat(observation)[row].copy())
            assert alone[1:3] == (float(reward[row]), bool(terminated[row]))
            assert alone[4] == {name: info[name][row] for name in alone[4]}
        if terminated.any():
            break


def test_one_row_equals_a_single_environment_with_its_noise(case, some_actions):
    vec, env = case.make(num_envs=1), case.make_single()
    assert_array_equal(flat(vec.reset(seed=7)[0])[0], flat(env.reset(seed=7)[0]))
    for action in some_actions(env.action_space, 20):
        together, alone = vec.step(action[None]), env.step(action)
        assert_array_equal(flat(together[0])[0], flat(alone[0]))
        assert together[1][0] == alone[1]
        if alone[2]:
            break


# --- autoreset ---


def end_of_episode(case, some_actions, mode, limit=3):
    """Return a vector environment just after the step that truncated every row, and that step."""
    vec = case.make(num_envs=ROWS, max_episode_steps=limit, autoreset_mode=mode)
    steps = trajectory(vec, some_actions(vec.action_space, limit), seed=0)
    assert steps[-1][3].all()
    return vec, steps[-1]


def test_next_step_ignores_the_action_and_restarts_without_reward(case, some_actions):
    vec, _ = end_of_episode(case, some_actions, "NextStep")
    twin = copy.deepcopy(vec)
    one, other = some_actions(vec.action_space, 2, seed=9)
    observation, reward, terminated, truncated, _ = step = vec.step(one)
    assert same(step, twin.step(other))
    assert_array_equal(reward, 0)
    assert not (terminated | truncated).any()
    assert_array_equal(flat(observation), case.observed(vec))
    for action in some_actions(vec.action_space, 2):
        assert not vec.step(action)[3].any()
    assert vec.step(action)[3].all(), "the new episode has its full length"


def test_same_step_returns_the_new_start_and_keeps_the_end(case, some_actions):
    vec, (observation, reward, _, _, info) = end_of_episode(case, some_actions, "SameStep")
    endless = case.make(num_envs=ROWS, max_episode_steps=-1)
    expected = trajectory(endless, some_actions(vec.action_space, 3), seed=0)[-1]
    assert_array_equal(reward, expected[1])
    assert_array_equal(info["_final_obs"], True)
    assert info["final_obs"].dtype == object
    assert_array_equal(np.stack([flat(final) for final in info["final_obs"]]), flat(expected[0]))
    assert_same_info(info["final_info"], expected[4])
    assert_array_equal(flat(observation), case.observed(vec))


def test_steps_between_the_ends_have_no_final_entries(case, some_actions):
    vec, _ = end_of_episode(case, some_actions, "SameStep")
    assert not {"final_obs", "final_info"} & {*vec.step(some_actions(vec.action_space, 1)[0])[4]}


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_restarted_rows_get_starts_of_their_own(case, some_actions, mode):
    vec, _ = end_of_episode(case, some_actions, mode)
    if mode == "NextStep":
        vec.step(some_actions(vec.action_space, 1)[0])
    restarted = case.rows(vec)
    if case.starts_differ:
        assert len(np.unique(restarted, axis=0)) == ROWS


def test_disabled_refuses_to_step_rows_that_ended(case, some_actions):
    vec, _ = end_of_episode(case, some_actions, "Disabled")
    action = some_actions(vec.action_space, 1)[0]
    vec.reset(options={"reset_mask": mask_of(0, 3)})
    before = case.rows(vec)
    with pytest.raises(gym.error.ResetNeeded, match="rows \\[1, 2\\] have ended"):
        vec.step(action)
    assert_array_equal(case.rows(vec), before)
    vec.reset(options={"reset_mask": mask_of(1, 2)})
    assert not vec.step(action)[3].any()


@pytest.mark.parametrize("mode", MODES)
def test_partial_reset_restarts_the_chosen_rows_only(case, some_actions, mode):
    vec = case.make(num_envs=ROWS, max_episode_steps=5, autoreset_mode=mode)
    actions = some_actions(vec.action_space, 5)
    running = flat(trajectory(vec, actions[:3], seed=0)[-1][0])
    before = case.rows(vec)
    observation, info = vec.reset(options={"reset_mask": mask_of(2)})
    after = case.rows(vec)
    assert info == {}
    assert_array_equal(after[[0, 1, 3]], before[[0, 1, 3]])
    assert_array_equal(flat(observation)[[0, 1, 3]], running[[0, 1, 3]])
    assert not np.array_equal(after[2], before[2])
    vec.step(actions[3])
    assert_array_equal(vec.step(actions[4])[3], [True, True, False, True])


def test_partial_reset_with_states_sets_the_chosen_rows_only(case):
    vec = case.make(num_envs=ROWS)
    vec.reset(seed=0)
    before = case.rows(vec)
    given_states = np.roll(before, 1, axis=0)
    observation, _ = vec.reset(options={case.option: given_states, "reset_mask": mask_of(0, 2)})
    expected = before.copy()
    expected[[0, 2]] = given_states[[0, 2]]
    assert_array_equal(case.rows(vec), expected)
    assert_array_equal(flat(observation), case.observed(vec))


def test_one_given_state_serves_all_rows(case):
    vec = case.make(num_envs=ROWS)
    vec.reset(seed=0)
    state = case.rows(vec)[1]
    vec.reset(options={case.option: state.tolist()})
    assert_array_equal(case.rows(vec), np.stack([state] * ROWS))


@pytest.mark.parametrize("mode", MODES)
def test_returned_arrays_are_the_callers_own(case, some_actions, mode):
    vec = case.make(num_envs=ROWS, max_episode_steps=3, autoreset_mode=mode)
    returned = [vec.reset(seed=0)]
    for time, action in enumerate(some_actions(vec.action_space, 8)):
        returned.append(vec.step(action))
        kept = copy.deepcopy(returned)
        mask = mask_of(0, 1, 2, 3) if returned[-1][3].any() else mask_of(time % ROWS)
        vec.reset(options={"reset_mask": mask})
        assert same(returned, kept)


def test_writing_into_returned_arrays_changes_nothing(case, some_actions):
    vec, twin = (case.make(num_envs=ROWS, autoreset_mode="SameStep") for _ in range(2))
    assert same(vec.reset(seed=0), twin.reset(seed=0))
    for action in some_actions(vec.action_space, 5):
        step, expected = vec.step(action), twin.step(action)
        assert same(step, expected)
        for array in (*arrays(step[0]), *step[1:4]):
            array[...] = 1


@pytest.mark.parametrize("make", [CorridorEnv, partial(CorridorVectorEnv, num_envs=1)], ids=["single", "vector"])
def test_reward_does_not_see_what_the_caller_wrote(make):
    env = make()
    action = np.full(env.action_space.shape, 0.5, np.float32)
    observation, _ = env.reset()
    for _ in range(3):
        observation[...] = 7  # the corridor's reward depends on the previous observation
        observation, reward, *_ = env.step(action)
        assert_array_equal(reward, 0.5)


# --- the bandit's info ---


def bandit_at_known_means(mode):
    vec = gym.make_vec(
        "mbrl/Bandit-v0", num_envs=ROWS, max_episode_steps=2, autoreset_mode=mode, arms=3, reward_std=0.0
    )
    means = np.array([[0.0, 1.0, 3.0], [2.0, 0.5, 0.0], [1.0, 1.0, 0.0], [-1.0, -2.0, -3.0]])
    vec.reset(seed=0, options={"state": np.hstack([means, np.zeros((ROWS, 4))])})
    return vec


def test_bandit_regret_of_every_row():
    vec = bandit_at_known_means("NextStep")
    _, reward, _, _, info = vec.step(np.array([0, 1, 1, 2]))
    assert_allclose(reward, [0.0, 0.5, 1.0, -3.0])
    assert_allclose(info["regret"], [3.0, 1.5, 0.0, 2.0])
    assert info["optimal"].tolist() == [False, False, True, False]
    assert_array_equal(info["_regret"], True)
    assert_array_equal(info["_optimal"], True)


def test_bandit_regret_is_masked_where_the_step_was_a_reset():
    vec = bandit_at_known_means("NextStep")
    vec.step(np.zeros(ROWS, int))
    vec.reset(options={"reset_mask": mask_of(1, 2)})
    vec.step(np.zeros(ROWS, int))
    info = vec.step(np.zeros(ROWS, int))[4]
    assert_array_equal(info["_regret"], mask_of(1, 2))
    assert_array_equal(info["_optimal"], mask_of(1, 2))
    assert_array_equal(info["regret"][mask_of(0, 3)], 0)


def test_bandit_regret_of_the_last_pull_is_in_the_final_info():
    vec = bandit_at_known_means("SameStep")
    vec.step(np.array([2, 0, 0, 0]))
    _, reward, _, _, info = vec.step(np.array([0, 1, 1, 2]))
    assert_allclose(reward, [0.0, 0.5, 1.0, -3.0])
    assert_allclose(info["final_info"]["regret"], [3.0, 1.5, 0.0, 2.0])
    assert_array_equal(info["final_info"]["_regret"], True)
    assert not info["_regret"].any()
    assert_allclose(np.stack(info["final_obs"])[:, -1], reward)


# --- settings ---


@pytest.mark.parametrize("given_mode", [*MODES, *(mode.value for mode in MODES)], ids=str)
def test_autoreset_mode_is_declared_as_gymnasium_wants_it(case, given_mode):
    vec = case.make(num_envs=2, autoreset_mode=given_mode)
    assert vec.metadata["autoreset_mode"] is AutoresetMode(given_mode)
    assert case.make().metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


@pytest.mark.parametrize("limit", [None, 1, 7])
def test_episodes_are_truncated_at_the_limit(case, some_actions, limit):
    kwargs = {} if limit is None else {"max_episode_steps": limit}
    vec = case.make(num_envs=2, **kwargs)
    limit = limit or case.limit
    steps = trajectory(vec, some_actions(vec.action_space, limit), seed=0)[1:]
    age, ended = np.zeros(2, int), np.zeros(2, np.bool_)
    for _, _, terminated, truncated, _ in steps:
        age = np.where(ended, 0, age + 1)  # a row that terminated starts anew
        assert_array_equal(truncated, age == limit)
        ended = terminated | truncated


def test_limit_of_minus_one_never_truncates(env_id, some_actions):
    vec = gym.make_vec(env_id, num_envs=2, max_episode_steps=-1)
    actions = some_actions(vec.action_space, gym.spec(env_id).max_episode_steps + 5)
    assert not any(step[3].any() for step in trajectory(vec, actions, seed=0)[1:])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_episode_steps": 0}, "max_episode_steps must be at least 1, or -1"),
        ({"max_episode_steps": -2}, "max_episode_steps must be at least 1, or -1"),
        ({"num_envs": 0}, "num_envs must be a whole number of at least 1"),
        ({"autoreset_mode": "never"}, "'NextStep', 'SameStep', 'Disabled'.*'never'"),
    ],
)
def test_bad_settings_are_refused(case, setting, message):
    with pytest.raises(InvalidSettingError, match=message):
        case.make(**setting)


def test_unknown_settings_are_refused(env_id):
    with pytest.raises(InvalidSettingError, match="'humidity'"):
        gym.make_vec(env_id, humidity=1.0)


def test_spec_round_trip_keeps_every_setting(env_id, some_actions):
    vec = gym.make_vec(env_id, num_envs=3, max_episode_steps=4, autoreset_mode="SameStep", dtype="float64")
    again = gym.make_vec(EnvSpec.from_json(vec.spec.to_json()))
    assert type(again) is type(vec)
    actions = some_actions(vec.action_space, 10)
    expected = trajectory(vec, actions, seed=0)
    assert same(trajectory(again, actions, seed=0), expected)
    assert expected[4][3].all()
    assert flat(expected[0][0]).dtype == observed_dtype(vec.single_observation_space, np.float64)


# --- seeds and replay ---


def test_seeds_decide_the_trajectory(case, some_actions):
    vec, other = (case.make(num_envs=ROWS, max_episode_steps=6) for _ in range(2))
    actions = some_actions(vec.action_space, 20)
    first = trajectory(vec, actions, seed=3)
    assert same(first, trajectory(other, actions, seed=3))
    assert same(first, trajectory(other, actions, seed=4)) != case.random
    assert same(first, trajectory(vec, actions)) != case.random


def test_rows_have_noise_of_their_own(env_id):
    vec = gym.make_vec(env_id, num_envs=64)
    vec.reset(seed=0)
    task = vec.task
    if sum(task.initial_noise):
        assert len(np.unique(vec.get_state()["state"], axis=0)) == 64
    if sum(task.transition_noise):
        vec.reset(options={"state": vec.get_state()["state"][0]})
        vec.step(np.zeros(vec.action_space.shape, vec.action_space.dtype))
        outcomes = 2 if env_id == "mbrl/BanditBernoulli-v0" else 64  # success or not
        assert len(np.unique(vec.get_state()["state"], axis=0)) == outcomes


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
def test_clone_replays_identically(case, some_actions, mode, clone):
    vec = case.make(num_envs=ROWS, max_episode_steps=4, autoreset_mode=mode)
    actions = some_actions(vec.action_space, 15)
    trajectory(vec, actions[:4], seed=0)
    twin = clone(vec)
    assert same(replay(vec, actions), replay(twin, actions))
    assert same(trajectory(vec, actions), trajectory(twin, actions))


@pytest.mark.parametrize("done_steps", [2, 4, 5])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_snapshot_replays_identically_here_and_elsewhere(case, some_actions, mode, done_steps):
    vec, elsewhere = (case.make(num_envs=ROWS, max_episode_steps=4, autoreset_mode=mode) for _ in range(2))
    actions = some_actions(vec.action_space, 12)
    trajectory(vec, actions[:done_steps], seed=0)
    snapshot = vec.get_state()
    expected = replay(vec, actions), trajectory(vec, actions)
    for other in (vec, elsewhere, elsewhere):
        other.set_state(snapshot)
        assert same((replay(other, actions), trajectory(other, actions)), expected)


def in_numpy(snapshot):
    """Return a copy of a snapshot whose tensors are arrays."""
    if isinstance(snapshot, dict):
        return {name: in_numpy(part) for name, part in snapshot.items()}
    if isinstance(snapshot, tuple):
        return tuple(map(in_numpy, snapshot))
    if isinstance(snapshot, torch.Tensor):
        return snapshot.numpy().copy()
    return copy.deepcopy(snapshot)


@pytest.mark.parametrize("done_steps", [2, 4])
def test_snapshot_stays_as_it_was(case, some_actions, done_steps):
    vec = case.make(num_envs=ROWS, max_episode_steps=4)
    actions = some_actions(vec.action_space, 4)
    trajectory(vec, actions[:done_steps], seed=0)
    snapshot = vec.get_state()
    kept = in_numpy(snapshot)
    vec.reset()
    assert same(in_numpy(snapshot), kept)
    vec.set_state(snapshot)
    vec.reset(options={"reset_mask": mask_of(1, 2)})
    replay(vec, actions)
    assert same(in_numpy(snapshot), kept)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_episode_statistics_wrapper(case, some_actions, mode):
    vec = RecordEpisodeStatistics(case.make(num_envs=ROWS, max_episode_steps=4, autoreset_mode=mode))
    plain = case.make(num_envs=ROWS, max_episode_steps=-1)
    actions = some_actions(vec.action_space, 20)
    first_four = trajectory(plain, actions[:4], seed=0)[1:]
    steps = trajectory(vec, actions, seed=0)[1:]
    assert_array_equal(steps[3][4]["episode"]["l"], 4)
    assert_allclose(steps[3][4]["episode"]["r"], np.sum([step[1] for step in first_four], axis=0, dtype=float))
    assert set(vec.length_queue) == {4}
    assert vec.episode_count == ROWS * {"NextStep": 4, "SameStep": 5}[mode]


# --- refusals and bounds ---


def bad_actions(space):
    """Return actions that no vector environment of four rows can execute."""
    if isinstance(space, spaces.MultiDiscrete):
        beyond = np.where(mask_of(2), space.nvec, 0)
        return [
            beyond,
            np.where(mask_of(0), -1, 0),
            np.zeros(ROWS),
            np.zeros(ROWS + 1, int),
            0,
            np.zeros((ROWS, 1), int),
        ]
    zeros = np.zeros(space.shape, np.float32)
    one_bad = mask_of(2)[:, None]
    return [
        np.where(one_bad, math.nan, zeros),
        np.where(one_bad, math.inf, zeros),
        np.where(one_bad, -math.inf, zeros),
        zeros[1:],
        zeros[0],
        zeros.T if zeros.shape[0] != zeros.shape[1] else zeros[None],
        0.0,
    ]


def test_bad_actions_are_refused_and_change_nothing(case, some_actions):
    vec = case.make(num_envs=ROWS)
    first, second = some_actions(vec.action_space, 2)
    trajectory(vec, [first], seed=0)
    twin = copy.deepcopy(vec)
    for action in bad_actions(vec.action_space):
        with pytest.raises(InvalidActionError, match="the action must"):
            vec.step(action)
    assert same(vec.step(second), twin.step(second))


@pytest.mark.parametrize(
    "options",
    [
        {"reset_mask": np.array([1, 0, 0, 1])},
        {"reset_mask": np.zeros(ROWS, np.bool_)},
        {"reset_mask": np.ones(ROWS + 1, np.bool_)},
        {"reset_mask": np.ones((ROWS, 1), np.bool_)},
        {"reset_mask": True},
        {"reset_mask": "all"},
        {"start": np.zeros((ROWS + 1, 99))},
        {"start": np.nan},
        {"starts": 0},
    ],
    ids=repr,
)
def test_bad_options_are_refused_and_change_nothing(case, some_actions, options):
    vec = case.make(num_envs=ROWS)
    actions = some_actions(vec.action_space, 3)
    trajectory(vec, actions, seed=0)
    twin = copy.deepcopy(vec)
    options = {name.replace("start", case.option): value for name, value in options.items()}
    with pytest.raises(InvalidSettingError, match=next(iter(options))):
        vec.reset(seed=5, options=options)
    assert same(replay(vec, actions), replay(twin, actions))
    assert same(trajectory(vec, actions), trajectory(twin, actions))


def test_first_reset_must_be_of_all_rows(case):
    vec = case.make(num_envs=ROWS)
    with pytest.raises(InvalidSettingError, match="first reset must reset all rows"):
        vec.reset(options={"reset_mask": mask_of(0)})
    observation, _ = vec.reset(seed=0, options={"reset_mask": mask_of(0, 1, 2, 3)})
    assert_array_equal(flat(observation), flat(case.make(num_envs=ROWS).reset(seed=0)[0]))


@pytest.mark.parametrize("seed", [[1, 2, 3, 4], (1, 2, 3, 4), "1", 1.5], ids=repr)
def test_one_seed_serves_all_rows(case, seed):
    with pytest.raises(InvalidSettingError, match="one generator serves all rows: seed must be a number"):
        case.make(num_envs=ROWS).reset(seed=seed)


def test_step_needs_a_reset(case):
    vec = case.make(num_envs=ROWS)
    with pytest.raises(gym.error.ResetNeeded):
        vec.step(vec.action_space.sample())


@given(data=st.data(), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=15)
def test_observations_stay_in_their_space_whatever_the_actions(case, action_arrays, data, seed):
    vec = case.make(num_envs=ROWS, max_episode_steps=13)
    assert vec.reset(seed=seed)[0] in vec.observation_space
    for action in data.draw(action_arrays(vec.action_space, 30)):
        observation, reward, *_ = vec.step(action)
        assert observation in vec.observation_space
        assert np.isfinite(reward).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batched_spaces_and_dtypes(env_id, some_actions, dtype):
    vec = gym.make_vec(env_id, num_envs=ROWS, dtype=dtype)
    env = gym.make(env_id, dtype=dtype)
    assert vec.single_observation_space == env.observation_space
    assert vec.single_action_space == env.action_space
    assert vec.observation_space == batch_space(env.observation_space, ROWS)
    vec.reset(seed=0)
    observation, reward, terminated, truncated, _ = vec.step(some_actions(vec.action_space, 1)[0])
    assert flat(observation).dtype == observed_dtype(env.observation_space, dtype)
    assert reward.dtype == dtype
    assert reward.shape == terminated.shape == truncated.shape == (ROWS,)


def test_closing_declares_the_environment_closed(case):
    vec = case.make(num_envs=2)
    vec.close()
    vec.close()
    assert vec.closed


def test_a_limit_of_none_is_no_limit_of_its_own():
    assert gym.make_vec("mbrl/Arm-v0", num_envs=2, max_episode_steps=None).max_episode_steps in (50, -1)
    assert ArmVectorEnv(num_envs=2, max_episode_steps=None).max_episode_steps == -1


@pytest.mark.parametrize(
    "setting", [{"num_envs": 2.5}, {"max_episode_steps": 2.5}, {"width": "640"}, {"height": 640.7}]
)
def test_settings_must_be_whole_numbers(setting):
    (name,) = setting
    with pytest.raises(InvalidSettingError, match=f"^{name} must be"):
        ArmVectorEnv(**{"num_envs": 2, **setting})
