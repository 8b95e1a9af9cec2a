"""Transitions as Minari datasets: what is written, what is read, and what Minari itself records."""

from __future__ import annotations

import sys

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from wrapper_toys import LADDER_SPACES, Drift, Ladder, ladder

import mbrl_gym  # noqa: F401  (registers the environments)
from mbrl_gym.errors import InvalidSettingError, MbrlGymError, MissingPackageError, UnsupportedSpaceError
from mbrl_gym.models import Transitions
from mbrl_gym.wrappers import LearnModel, RecordTransitions, from_minari, to_minari, vector

METADATA = {
    "algorithm_name": "random",
    "author": "nobody",
    "author_email": "nobody@example.org",
    "code_permalink": "https://example.org",
    "description": "a walk on a ladder",
    "eval_env": "CartPole-v1",
}
CARTPOLE = "CartPole-v1"


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    """Keep Minari's datasets in a folder of the test."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def walk(env: gym.Env, steps: int, seed: int = 0) -> gym.Env:
    generator = np.random.default_rng(seed)
    env.reset(seed=seed)
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(int(generator.integers(2)))
        if terminated or truncated:
            env.reset()
    return env


def write(source, name="ladder-v0", env=None, **metadata):
    with pytest.warns(UserWarning, match="env_spec is None"):
        return to_minari(source, name, env, **{**METADATA, **metadata})


def parts(observation):
    """Return the values that an observation consists of."""
    if isinstance(observation, dict):
        return list(observation.values())
    return list(observation) if isinstance(observation, tuple) else [observation]


def assert_same(first: Transitions, second: Transitions, but: tuple[str, ...] = ()) -> None:
    for name in Transitions._fields:
        one, two = getattr(first, name), getattr(second, name)
        assert one.dtype == two.dtype, name
        assert one.shape == two.shape, name
        assert name in but or np.array_equal(one, two), name


@pytest.mark.parametrize("kind", LADDER_SPACES)
def test_what_is_written_is_read_again(kind):
    env = walk(RecordTransitions(ladder(kind)), 70)
    expected = env.transitions()
    dataset = write(env)
    assert dataset.total_steps == 70
    assert dataset.total_episodes == len(np.unique(expected.episode)) > 9
    assert dataset.observation_space == env.observation_space
    for found in (from_minari(dataset), from_minari("ladder-v0")):
        assert_same(found, expected, but=("truncated",))
        assert np.array_equal(found.truncated[:-1], expected.truncated[:-1])


@pytest.mark.parametrize("kind", LADDER_SPACES)
def test_minari_holds_what_the_environment_gives(kind):
    """Every observation of the dataset is one of the space, and equals that of a run by hand."""
    env = walk(RecordTransitions(ladder(kind)), 12)
    episode = write(env)[0]
    again = Ladder(kind)
    observation, _ = again.reset(seed=0)
    pick = {
        "Dict": lambda values, step: {name: part[step] for name, part in values.items()},
        "Tuple": lambda values, step: tuple(part[step] for part in values),
    }.get(kind, lambda values, step: values[step])
    for step in range(len(episode) + 1):
        found = pick(episode.observations, step)
        assert found in env.observation_space
        for one, two in zip(parts(found), parts(observation), strict=True):
            assert np.array_equal(one, two)
        if step < len(episode):
            observation, reward, *_ = again.step(episode.actions[step])
            assert episode.rewards[step] == reward
    assert episode.terminations.tolist() == [False] * (len(episode) - 1) + [True]
    assert "total_steps" in repr(episode)


def test_an_episode_that_still_runs_is_marked_as_truncated():
    env = RecordTransitions(ladder())
    env.reset(seed=0)
    env.step(1)
    env.reset(seed=0)
    env.step(1)
    env.step(0)
    assert not env.transitions().truncated.any()
    dataset = write(env)
    assert [episode.truncations.tolist() for episode in dataset] == [[True], [False, True]]
    assert from_minari(dataset).truncated.tolist() == [True, False, True]
    assert not env.transitions().truncated.any()  # there nothing changed


def test_datasets_in_the_layout_of_minaris_own_collector_are_read():
    """It appends step by step: lists of T + 1 observations, apart for each part of a Dict, and infos."""
    first = minari.data_collector.EpisodeBuffer(
        observations={"height": [np.float32([h]) for h in (0, 1, 2)], "odd": [np.int64(h % 2) for h in (0, 1, 2)]},
        actions=[np.int64(1), np.int64(1)],
        rewards=[1.0, 2.5],
        terminations=[False, True],
        truncations=[False, False],
        infos={"note": [0, 1, 2]},
    )
    second = minari.data_collector.EpisodeBuffer(
        observations={"height": [np.float32([h]) for h in (5, 4)], "odd": [np.int64(1), np.int64(0)]},
        actions=[np.int64(0)],
        rewards=[4.0],
        terminations=[False],
        truncations=[True],
        infos={"note": [0, 1]},
    )
    spaces_of = {"observation_space": LADDER_SPACES["Dict"], "action_space": spaces.Discrete(2)}
    with pytest.warns(UserWarning, match="env_spec is None"):
        dataset = minari.create_dataset_from_buffers("own-v0", [first, second], **spaces_of, **METADATA)
    found = from_minari(dataset)
    assert found.observation.tolist() == [[0, 1, 0], [1, 0, 1], [5, 0, 1]]
    assert found.next_observation.tolist() == [[1, 0, 1], [2, 1, 0], [4, 1, 0]]
    assert found.action.tolist() == [1, 1, 0]
    assert found.reward.tolist() == [1.0, 2.5, 4.0]
    assert found.terminated.tolist() == [False, True, False]
    assert found.truncated.tolist() == [False, False, True]
    assert found.episode.tolist() == [0, 0, 1]
    only = dataset.filter_episodes(lambda episode: episode.truncations[-1])
    assert from_minari(only).reward.tolist() == [4.0]
    assert len(from_minari(dataset.filter_episodes(lambda episode: False)).reward) == 0


def test_the_environment_can_be_made_again_from_the_dataset():
    env = walk(RecordTransitions(gym.make(CARTPOLE, max_episode_steps=9)), 30)
    dataset = to_minari(env, "group/cartpole-v3", **METADATA)
    made = dataset.recover_environment()
    assert made.spec.max_episode_steps == 9
    assert not isinstance(made, RecordTransitions)
    by_id = to_minari(env.transitions(), "by-id-v0", CARTPOLE, **METADATA)
    by_spec = to_minari(env.transitions(), "by-spec-v0", gym.spec(CARTPOLE), **METADATA)
    assert by_id.env_spec.id == by_spec.env_spec.id == CARTPOLE
    assert_same(from_minari(by_id), from_minari(dataset))
    assert_same(from_minari(by_spec), from_minari(dataset))


def test_the_episodes_of_vector_environments_are_taken_apart():
    env = vector.RecordTransitions(SyncVectorEnv([lambda: ladder("Dict")] * 3))
    env.reset(seed=0)
    for step in range(40):
        env.step(np.array([1, step % 2, (step // 3) % 2]))
    transitions = env.transitions()
    found = from_minari(write(env))
    order = np.argsort(transitions.episode, kind="stable")
    assert (np.diff(transitions.episode) < 0).any()
    assert_same(found, transitions.rows(order), but=("truncated", "episode"))
    assert np.array_equal(found.episode, np.unique(transitions.episode[order], return_inverse=True)[1])


def test_learners_are_recorders_too():
    env = walk(LearnModel(ladder(), Drift(LADDER_SPACES["Box"], spaces.Discrete(2)), every=20), 20)
    assert from_minari(write(env)).reward.tolist() == env.transitions().reward.tolist()


def test_the_latest_rows_of_a_full_recorder_are_whole_episodes_but_for_the_first():
    env = walk(RecordTransitions(ladder(), capacity=25), 70)
    assert_same(from_minari(write(env)), env.transitions(), but=("truncated", "episode"))


def test_what_is_missing_is_refused():
    env = RecordTransitions(ladder(limit=10))
    for _ in range(2):
        env.reset(seed=0)
        for step in range(10):
            env.step(step % 2)
    data = env.transitions()
    with pytest.raises(InvalidSettingError, match="give env"):
        to_minari(data, "none-v0")
    with pytest.raises(InvalidSettingError, match="no transitions"):
        to_minari(data.rows(slice(0)), "none-v0", env)
    with pytest.raises(InvalidSettingError, match=r"episode 0 has missing steps"):
        to_minari(data.rows(np.arange(20) != 1), "none-v0", env)
    with pytest.raises(InvalidSettingError, match=r"episode 7 has missing steps"):
        to_minari(data._replace(episode=np.full(20, 7)), "none-v0", env)
    with pytest.raises(InvalidSettingError, match=r"minari.load_dataset\('none-v0', download=True\)"):
        from_minari("none-v0")
    assert minari.list_local_datasets() == {}


def test_datasets_of_other_spaces_are_refused():
    image = spaces.Box(0, 255, (4, 4), np.uint8)
    episode = minari.data_collector.EpisodeBuffer(
        observations=np.zeros((3, 4, 4), np.uint8),
        actions=np.zeros(2, int),
        rewards=np.zeros(2),
        terminations=np.zeros(2, bool),
        truncations=np.array([False, True]),
        infos={},
    )
    settings = {"observation_space": image, "action_space": spaces.Discrete(2), **METADATA}
    with pytest.warns(UserWarning, match="env_spec is None"):
        dataset = minari.create_dataset_from_buffers("image-v0", [episode], **settings)
    with pytest.raises(UnsupportedSpaceError, match="FlattenObservation"):
        from_minari(dataset)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    for call in (lambda: from_minari("x-v0"), lambda: to_minari(RecordTransitions(ladder()), "x-v0")):
        with pytest.raises(MissingPackageError, match=r'pip install "mbrl-gym\[minari\]"') as caught:
            call()
        assert isinstance(caught.value, ImportError)
        assert isinstance(caught.value, MbrlGymError)


@settings(max_examples=10, deadline=None)
@given(
    kind=st.sampled_from(list(LADDER_SPACES)), steps=st.integers(1, 40), limit=st.integers(1, 9), seed=st.integers(0)
)
def test_round_trips_keep_every_row(kind, steps, limit, seed, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        env = walk(RecordTransitions(ladder(kind, limit)), steps, seed % 1000)
        assert_same(from_minari(write(env)), env.transitions(), but=("truncated",))
