"""What recorders keep, against loops written by hand."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from wrapper_toys import LADDER_SPACES, Ladder, assert_checker_is_silent, ladder

import mbrl_gym  # noqa: F401  (registers the environments)
from mbrl_gym.envs import TaskVectorEnv
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import Transitions
from mbrl_gym.models.spaces import to_rows
from mbrl_gym.wrappers import RecordTransitions, vector
from mbrl_gym.wrappers.transition_buffer import TransitionBuffer

MODES = list(AutoresetMode)
PLANE, CHOICES = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3)
ENVS: dict[str, Callable[[], gym.Env]] = {
    "CartPole": lambda: gym.make("CartPole-v1", max_episode_steps=12),
    "Box actions": lambda: gym.make("mbrl/CartPoleContinuous-v0", max_episode_steps=12),
    **{f"ladder, {kind}": lambda kind=kind: ladder(kind) for kind in LADDER_SPACES},
}


def actions(space: spaces.Space, seed: int) -> Iterator[Any]:
    """Yield actions for ever."""
    space = copy.deepcopy(space)
    space.seed(seed)
    while True:
        yield space.sample()


def by_hand(env: gym.Env, steps: int, seed: int) -> Transitions:
    """Record steps with nothing but the environment; both of `actions` and of resets there is one stream."""
    rows: list[Any] = []
    stream = actions(env.action_space, seed)
    observation, _ = env.reset(seed=seed)
    observation, episode = copy.deepcopy(observation), 0
    for _ in range(steps):
        action = next(stream)
        following, reward, terminated, truncated, _ = env.step(action)
        following = copy.deepcopy(following)
        rows.append((observation, action, reward, following, terminated, truncated, episode))
        observation = following
        if terminated or truncated:
            observation, episode = copy.deepcopy(env.reset()[0]), episode + 1
    columns = [list(column) for column in zip(*rows, strict=True)]
    for index in (0, 3):
        columns[index] = np.stack([to_rows(env.observation_space, value) for value in columns[index]])
    return Transitions(*(np.asarray(column) for column in columns))


def assert_same(first: Transitions, second: Transitions) -> None:
    for name in Transitions._fields:
        one, two = getattr(first, name), getattr(second, name)
        assert one.shape == two.shape, name
        assert np.array_equal(one, two), name


def episodes(transitions: Transitions) -> Counter[bytes]:
    """Return the episodes as a multiset, without their numbers."""
    found = []
    for number in np.unique(transitions.episode):
        rows = transitions.rows(transitions.episode == number)
        found.append(b"|".join(part.tobytes() for part in rows[:-1]))
    return Counter(found)


def assert_consistent(transitions: Transitions) -> None:
    """Each episode's steps follow one another, and only the last one ends it."""
    for number in np.unique(transitions.episode):
        rows = transitions.rows(transitions.episode == number)
        assert np.array_equal(rows.next_observation[:-1], rows.observation[1:])
        assert not (rows.terminated | rows.truncated)[:-1].any()


# One environment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ENVS.values(), ids=ENVS)
def test_one_environment_is_recorded_as_by_hand(make):
    expected = by_hand(make(), 60, seed=3)
    assert (expected.terminated | expected.truncated).sum() > 3
    env = RecordTransitions(make())
    stream = actions(env.action_space, 3)
    env.reset(seed=3)
    for _ in range(60):
        _, _, terminated, truncated, _ = env.step(next(stream))
        if terminated or truncated:
            env.reset()
    assert_same(env.transitions(), expected)
    assert len(env) == 60
    recorded = env.transitions()
    assert recorded.reward.dtype == np.float64
    assert recorded.terminated.dtype == recorded.truncated.dtype == bool
    assert recorded.action.dtype == env.action_space.dtype


def test_environments_may_write_into_what_they_returned():
    env = RecordTransitions(ladder(reuse=True))
    first = env.reset(seed=0)[0].copy()
    second = env.step(1)[0].copy()
    third = env.step(1)[0].copy()
    assert np.array_equal(env.transitions().observation, [first, second])
    assert np.array_equal(env.transitions().next_observation, [second, third])


@pytest.mark.parametrize("make", ENVS.values(), ids=ENVS)
def test_the_steps_in_which_autoreset_resets_are_not_recorded(make):
    env = RecordTransitions(gym.wrappers.Autoreset(make()))
    stream = actions(env.action_space, 5)
    env.reset(seed=5)
    ended, skipped = False, 0
    while len(env) < 50:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample() if ended else next(stream))
        skipped += ended
        ended = terminated or truncated
    assert skipped > 3
    assert_same(env.transitions(), by_hand(make(), 50, seed=5))


def test_a_reset_in_the_middle_starts_another_episode():
    env = RecordTransitions(ladder())
    for _ in range(3):
        env.reset(seed=0)
        env.step(1)
    assert env.transitions().episode.tolist() == [0, 1, 2]
    assert not (env.transitions().terminated | env.transitions().truncated).any()


def test_what_comes_after_the_end_of_an_episode_does_not_count():
    env = RecordTransitions(ladder(limit=2))
    env.reset(seed=0)
    for _ in range(5):
        env.step(1)
    assert len(env) == 2


def test_steps_before_the_first_reset_are_refused():
    env = RecordTransitions(Ladder())
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(1)


def test_actions_of_other_types_become_those_of_the_space():
    env = RecordTransitions(gym.make("mbrl/CartPoleContinuous-v0"))
    env.reset(seed=0)
    env.step(np.array([0.5]))
    env.step([0.25])
    assert env.transitions().action.tolist() == [[0.5], [0.25]]
    assert env.transitions().action.dtype == np.float32


def test_transitions_are_copies_and_clear_forgets_them():
    env = RecordTransitions(ladder())
    env.reset(seed=0)
    env.step(1)
    first = env.transitions()
    first.reward[:] = 99.0
    assert env.transitions().reward[0] != 99.0
    env.clear()
    assert len(env) == len(env.transitions().reward) == 0
    assert env  # an environment, with or without records
    assert env.transitions().observation.shape == (0, 2)
    env.step(0)
    assert env.transitions().episode.tolist() == [0]


def test_a_capacity_keeps_the_latest():
    def record(capacity):
        env = RecordTransitions(ENVS["CartPole"](), capacity=capacity)
        env.reset(seed=0)
        for step in range(90):
            _, _, terminated, truncated, _ = env.step(step % 2)
            if terminated or truncated:
                env.reset()
        return env.transitions()

    assert_same(record(20), record(None).rows(slice(-20, None)))


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_of_nothing_is_refused(capacity):
    with pytest.raises(InvalidSettingError, match=f"capacity must be at least 1, or None, but {capacity} was given"):
        RecordTransitions(ladder(), capacity)


class Odd(gym.Env):
    """An environment of any spaces."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space


@pytest.mark.parametrize(
    ("observation_space", "action_space", "remedy"),
    [
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), CHOICES, "FlattenObservation"),
        (spaces.Dict({"text": spaces.Text(4)}), CHOICES, "FlattenObservation"),
        (PLANE, spaces.Dict({"a": CHOICES}), "TransformAction"),
        (PLANE, spaces.Box(-1.0, 1.0, (2, 2), np.float32), "TransformAction"),
    ],
)
def test_other_spaces_are_refused_with_what_would_work(observation_space, action_space, remedy):
    with pytest.raises(UnsupportedSpaceError, match=remedy):
        RecordTransitions(Odd(observation_space, action_space))


def test_actions_need_no_bounds():
    RecordTransitions(Odd(PLANE, spaces.Box(-np.inf, np.inf, (2,), np.float32)))


def test_the_wrapper_keeps_gymnasiums_rules():
    env = RecordTransitions(gym.make("CartPole-v1"), capacity=50)
    assert_checker_is_silent(env)
    twin = env.spec.make()
    assert isinstance(twin, RecordTransitions)
    assert twin.spec == env.spec
    twin.reset(seed=0)
    twin.step(1)
    assert len(twin) == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_go_on_by_themselves(copied):
    env = RecordTransitions(gym.make("CartPole-v1"))
    env.reset(seed=0)
    env.step(1)
    twin = copied(env)
    for each in (env, twin):
        each.step(0)
        each.reset()
        each.step(1)
    assert_same(env.transitions(), twin.transitions())
    twin.step(1)
    assert (len(env), len(twin)) == (3, 4)


# Vector environments ---------------------------------------------------------------------------------------------


def record_rows(env: VectorEnv, steps: int, seed: int, mode: AutoresetMode) -> tuple[Transitions, list[int]]:
    """Record with a stream of actions for each row; return how many steps each row took."""
    env = vector.RecordTransitions(env)
    streams = [actions(env.single_action_space, seed + row) for row in range(env.num_envs)]
    ended, counts = np.zeros(env.num_envs, bool), np.zeros(env.num_envs, int)
    env.reset(seed=seed)
    for _ in range(steps):
        if mode is AutoresetMode.DISABLED and ended.any():
            env.reset(options={"reset_mask": ended.copy()})
            ended[:] = False
        idle = env.single_action_space.sample()
        resting = ended & (mode is AutoresetMode.NEXT_STEP)
        chosen = [idle if rests else next(stream) for stream, rests in zip(streams, resting, strict=True)]
        _, _, terminated, truncated, _ = env.step(np.array(chosen))
        counts += ~resting
        ended = terminated | truncated
    env.close()
    return env.transitions(), counts.tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", ENVS.values(), ids=ENVS)
def test_every_autoreset_mode_records_what_each_copy_does_alone(make, mode):
    transitions, counts = record_rows(SyncVectorEnv([make] * 3, autoreset_mode=mode), 40, 7, mode)
    assert len(transitions.reward) == sum(counts)
    assert len(np.unique(transitions.episode)) > 9
    alone = [by_hand(make(), count, seed=7 + row) for row, count in enumerate(counts)]
    assert episodes(transitions) == sum((episodes(each) for each in alone), Counter())
    assert_consistent(transitions)


def test_asynchronous_environments_are_recorded_alike():
    make, mode = ENVS["ladder, Dict"], AutoresetMode.SAME_STEP
    together, apart = (
        record_rows(kind([make] * 2, autoreset_mode=mode), 12, 7, mode)[0] for kind in (SyncVectorEnv, AsyncVectorEnv)
    )
    assert_same(together, apart)


@pytest.mark.parametrize("mode", MODES)
def test_task_environments_give_transitions_that_obey_their_law(mode):
    """Also where episodes ended: there, the next observation is the last one, not the next episode's first."""
    made = gym.make_vec(
        "mbrl/CartPoleContinuous-v0", num_envs=4, max_episode_steps=20, autoreset_mode=mode.value, dtype="float64"
    )
    transitions, counts = record_rows(made, 150, 1, mode)
    assert transitions.observation.dtype == np.float64
    assert transitions.terminated.sum() > 3
    assert (transitions.truncated & ~transitions.terminated).sum() > 3
    assert len(transitions.reward) == sum(counts)
    assert_consistent(transitions)
    task = made.unwrapped.task
    expected = task.observation(
        task.transition(task.state(transitions.observation), transitions.action.astype(np.float64), None)
    )
    np.testing.assert_allclose(transitions.next_observation, expected, rtol=0, atol=1e-12)
    assert np.array_equal(transitions.terminated, task.terminal(transitions.next_observation))


def test_the_rows_of_one_step_stand_side_by_side():
    env = vector.RecordTransitions(SyncVectorEnv([ladder] * 3), capacity=5)
    first, _ = env.reset(seed=0)
    second = env.step(np.array([0, 1, 0]))[0]
    assert np.array_equal(env.transitions().observation, first)
    assert np.array_equal(env.transitions().next_observation, second)
    assert env.transitions().episode.tolist() == [0, 1, 2]
    third = env.step(np.array([1, 0, 1]))[0]
    assert len(env) == 5
    assert np.array_equal(env.transitions().next_observation, np.concatenate((second, third))[1:])


def test_a_reset_of_some_rows_starts_episodes_in_these_only():
    env = vector.RecordTransitions(SyncVectorEnv([ladder] * 3, autoreset_mode=AutoresetMode.DISABLED))
    env.reset(seed=0)
    env.step(np.zeros(3, int))
    env.reset(options={"reset_mask": np.array([False, True, False])})
    env.step(np.ones(3, int))
    env.reset()
    env.step(np.zeros(3, int))
    assert env.transitions().episode.tolist() == [0, 1, 2, 0, 3, 2, 4, 5, 6]
    assert_consistent(env.transitions())


def test_a_reset_of_some_rows_leaves_the_resets_of_others_to_the_environment():
    env = vector.RecordTransitions(SyncVectorEnv([lambda: ladder(limit=1)] * 2))
    env.reset(seed=0)
    env.step(np.array([0, 1]))  # which ends both episodes
    env.reset(options={"reset_mask": np.array([False, True])})
    env.step(np.array([0, 1]))  # which only resets the first
    assert env.transitions().episode.tolist() == [0, 1, 2]
    assert env.transitions().action.tolist() == [0, 1, 1]


def test_tensors_are_refused_with_what_would_work():
    task = gym.make("mbrl/CartPoleContinuous-v0").unwrapped.task
    tensors = TaskVectorEnv(task, 3, xp=torch, autoreset_mode="SameStep", max_episode_steps=4)
    with pytest.raises(InvalidSettingError, match="ArrayConversion"):
        vector.RecordTransitions(tensors).reset(seed=0)
    arrays = gym.wrappers.vector.ArrayConversion(tensors, env_xp=torch, target_xp=np)
    env = vector.RecordTransitions(arrays)
    env.reset(seed=0)
    for _ in range(6):
        env.step(np.full((3, 1), 0.1, np.float32))
    assert env.transitions().episode.tolist() == [0, 1, 2] * 4 + [3, 4, 5] * 2
    assert_consistent(env.transitions())


@settings(max_examples=25, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    copies=st.integers(1, 4),
    limit=st.integers(1, 5),
    capacity=st.none() | st.integers(1, 40),
    moves=st.lists(st.integers(0, 15), min_size=1, max_size=25),
)
def test_the_steps_of_an_episode_follow_one_another(mode, copies, limit, capacity, moves):
    env = SyncVectorEnv([lambda: ladder(limit=limit)] * copies, autoreset_mode=mode, copy=False)
    env = vector.RecordTransitions(env, capacity)
    env.reset(seed=0)
    taken, ended = 0, np.zeros(copies, bool)
    for move in moves:
        if mode is AutoresetMode.DISABLED and ended.any():
            env.reset(options={"reset_mask": ended.copy()})
        taken += copies - (ended.sum() if mode is AutoresetMode.NEXT_STEP else 0)
        _, _, terminated, truncated, _ = env.step(np.array([(move >> row) & 1 for row in range(copies)]))
        ended = terminated | truncated
    transitions = env.transitions()
    assert len(env) == len(transitions.reward) == (taken if capacity is None else min(taken, capacity))
    assert_consistent(transitions)
    climbed = transitions.next_observation[:, 0] - transitions.observation[:, 0]
    assert np.array_equal(climbed, 2 * transitions.action - 1)
    assert np.array_equal(transitions.reward, transitions.next_observation[:, 0])


@settings(max_examples=40, deadline=None)
@given(
    capacity=st.none() | st.integers(1, 200), batches=st.lists(st.integers(0, 90), max_size=8), cut=st.integers(0, 8)
)
def test_a_buffer_holds_the_tail_of_what_came_since_it_was_cleared(capacity, batches, cut):
    buffer, count = TransitionBuffer(PLANE, CHOICES, capacity), 0
    expected: list[int] = []
    for index, size in enumerate(batches):
        if index == cut:
            buffer.clear()
            expected = []
        numbers = np.arange(count, count + size)
        pairs = np.stack((numbers, -numbers), axis=1).astype(np.float32)
        buffer.add(Transitions(pairs, numbers % 3, numbers * 0.5, pairs + 1, numbers % 2 > 0, numbers % 5 > 3, numbers))
        expected += numbers.tolist()
        count += size
    kept = expected if capacity is None else expected[-capacity:]
    found = buffer.transitions()
    assert len(buffer) == len(kept)
    assert found.episode.tolist() == kept
    assert np.array_equal(found.observation[:, 1], -np.array(kept, np.float32))
    assert np.array_equal(found.next_observation[:, 0], np.array(kept, np.float32) + 1)
    assert np.array_equal(found.reward, 0.5 * np.array(kept))
