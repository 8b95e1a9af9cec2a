"""Values that an agent has learned, over pictures of Discrete environments."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import RecordVideo

from mbrl_gym.agents.benchmark import make_film_env
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.wrappers import ShowValues, TabularAgent

MAZE = "mbrl/DynaMaze-v0"


class Learner:
    """An agent whose table changes."""

    def __init__(self):
        self.q_values = np.zeros((54, 4))


def pictured(**settings):
    return gym.make(MAZE, render_mode="rgb_array", width=160, height=120, **settings)


def picture_of(values):
    """Return the picture of the first state with these values, drawn without the wrapper."""
    env = pictured()
    env.reset(seed=0)
    env.unwrapped.show_values(values)
    return env.render()


def some_values(seed=0):
    return np.random.default_rng(seed).normal(size=(54, 4))


@pytest.mark.parametrize(
    "kind", [np.asarray, np.float32, np.ndarray.tolist, torch.from_numpy], ids=["array", "float32", "list", "tensor"]
)
def test_a_table_is_drawn_over_every_picture(kind):
    values = some_values()
    env = ShowValues(pictured(), kind(values))
    env.reset(seed=0)
    expected = picture_of(values)
    np.testing.assert_array_equal(env.render(), expected)
    env.step(0)
    env.step(1)
    assert (env.render() != expected).any()
    env.reset()
    np.testing.assert_array_equal(env.render(), expected)
    assert (expected != picture_of(None)).any()


def test_learning_can_be_watched():
    agent = Learner()
    env = ShowValues(pictured(), agent)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), picture_of(agent.q_values))
    for seed in range(3):
        agent.q_values = some_values(seed)
        np.testing.assert_array_equal(env.render(), picture_of(agent.q_values))


def test_the_table_drawn_is_the_one_of_its_time():
    values = some_values()
    env = pictured()
    env.reset(seed=0)
    env.unwrapped.show_values(values)
    before = env.render()
    values[:] = 0.0
    np.testing.assert_array_equal(env.render(), before)


def test_steps_are_those_of_the_environment():
    plain, shown = pictured(), ShowValues(pictured(), Learner())
    assert plain.reset(seed=0) == shown.reset(seed=0)
    for action in (3, 2, 1, 0, 2):
        assert plain.step(action) == shown.step(action)


def test_windows_show_values_too():
    env = ShowValues(gym.make(MAZE, render_mode="human", width=64, height=64), some_values())
    drawn = []
    env.unwrapped._draw_frame = lambda episode: drawn.append(episode.values)
    env.reset(seed=0)
    env.step(1)
    env.reset()
    assert len(drawn) == 3
    assert all(np.array_equal(values, some_values()) for values in drawn)


@pytest.mark.parametrize(
    ("values", "given"),
    [
        (np.zeros((54, 3)), r"\(54, 3\)"),
        (np.zeros(54), r"\(54,\)"),
        (np.full((54, 4), np.nan), "finite"),
        (np.full((54, 4), "up"), "finite numbers"),
        (None, None),
    ],
)
def test_other_tables_are_refused(values, given):
    if values is None:  # draws nothing
        ShowValues(pictured(), None).reset(seed=0)
        return
    with pytest.raises(InvalidSettingError, match=given):
        ShowValues(pictured(), values)
    with pytest.raises(InvalidSettingError, match=r"shape \(54, 4\)"):
        ShowValues(pictured(), SimpleNamespace(q_values=values))


def test_environments_that_cannot_draw_values_are_refused():
    with pytest.raises(InvalidSettingError, match=r"Discrete observations and actions, but Bandit has Box"):
        ShowValues(gym.make("mbrl/Bandit-v0", render_mode="rgb_array"), np.zeros((11, 10)))
    with pytest.raises(InvalidSettingError, match="no method `show_values`"):
        ShowValues(gym.make("CliffWalking-v1", render_mode="rgb_array"), np.zeros((48, 4)))


def test_an_agent_is_what_has_a_table():
    assert isinstance(Learner(), TabularAgent)
    assert not isinstance(np.zeros((54, 4)), TabularAgent)


def test_films_show_what_tabular_agents_know():
    plain = gym.make(MAZE)
    agent = Learner()
    agent.observation_space, agent.action_space = plain.observation_space, plain.action_space
    env = make_film_env(MAZE, agent, "rgb_array", (160, 120))
    assert isinstance(env, ShowValues)
    env.reset(seed=0)
    agent.q_values = some_values()
    np.testing.assert_array_equal(env.render(), picture_of(some_values()))
    cliffs = gym.make("CliffWalking-v1")
    agent.observation_space, agent.action_space = cliffs.observation_space, cliffs.action_space
    assert not isinstance(make_film_env("CliffWalking-v1", agent, "rgb_array"), ShowValues)


def test_videos(tmp_path):
    env = RecordVideo(
        ShowValues(pictured(max_episode_steps=4), some_values()), str(tmp_path / "videos"), disable_logger=True
    )
    env.reset(seed=0)
    for _ in range(4):
        env.step(2)
    env.close()
    (video,) = tmp_path.glob("videos/*.mp4")
    assert video.stat().st_size > 500
