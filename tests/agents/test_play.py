"""`mbrl-gym play`: keys and mouse in, actions and moved targets out, without a screen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from gymnasium import spaces
from typer.testing import CliRunner

import mbrl_gym
from mbrl_gym.agents import MPC, cli
from mbrl_gym.agents.play import AXES, Controls, Game
from mbrl_gym.envs.rendering import Renderer
from mbrl_gym.errors import UnsupportedSpaceError
from mbrl_gym.wrappers import ShowPlans

ARM, BANDIT, DRIFT = "mbrl/Arm-v0", "mbrl/Bandit-v0", "mbrl/Drift-v0"
LEFT, RIGHT, DOWN, UP = pygame.K_LEFT, pygame.K_RIGHT, pygame.K_DOWN, pygame.K_UP


class Recorder(gym.Wrapper):
    """Notes the actions."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.actions: list[Any] = []

    def step(self, action: Any) -> Any:
        self.actions.append(action)
        return self.env.step(action)


class Still:
    """An agent of Stable-Baselines3's manner that never moves."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.starts: list[bool] = []
        self.seen: list[np.ndarray] = []

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[Any, Any]:
        self.starts.append(bool(episode_start[0]))
        self.seen.append(np.array(observation))
        return np.zeros(self.size, np.float32), state


@pytest.fixture(autouse=True)
def no_screen(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    if pygame.display.get_init():
        pygame.event.clear()
    yield
    if pygame.display.get_init():
        pygame.event.clear()


@pytest.fixture
def start() -> Any:
    """Start games that are closed at the end of the test."""
    games = []

    def make(env_id: str, agent: Any = None, **settings: Any) -> Game:
        size = {"width": 320, "height": 240} if env_id in mbrl_gym.env_ids() else {}
        env = Recorder(gym.make(env_id, render_mode="rgb_array", **size, **settings))
        said: list[str] = []
        game = Game(env, agent, seed=3, report=said.append)
        game.said = said  # type: ignore[attr-defined]
        games.append(game)
        return game

    yield make
    for game in games:
        game.close()


def press(key: int) -> None:
    pygame.event.post(pygame.Event(pygame.KEYDOWN, key=key))


def release(key: int) -> None:
    pygame.event.post(pygame.Event(pygame.KEYUP, key=key))


# Controls -------------------------------------------------------------------------------------------------------


def test_each_component_of_a_box_has_two_keys() -> None:
    controls = Controls(spaces.Box(np.array([-1, 0, -3], np.float32), np.array([1, 4, 5], np.float32)))
    np.testing.assert_array_equal(controls.action(set()), [0, 2, 1])
    np.testing.assert_array_equal(controls.action({RIGHT, DOWN, pygame.K_w}), [1, 0, 5])
    np.testing.assert_array_equal(controls.action({LEFT, UP, pygame.K_s}), [-1, 4, -3])
    np.testing.assert_array_equal(controls.action({LEFT, RIGHT, UP}), [0, 4, 1])
    given = np.array([0.5, 1.0, 2.0], np.float32)
    np.testing.assert_array_equal(controls.action({UP}, given), [0.5, 4, 2])
    np.testing.assert_array_equal(given, [0.5, 1, 2])
    assert controls.action(set()).dtype == np.float32


def test_digits_choose_discrete_actions() -> None:
    controls = Controls(spaces.Discrete(10))
    assert controls.action(set()) is None
    assert controls.action(set(), 4) == 4
    assert controls.action({pygame.K_7}, 4) == 7
    assert Controls(spaces.Discrete(3)).action({pygame.K_3}) is None
    two = Controls(spaces.Discrete(2, start=5))
    assert (two.action({LEFT}), two.action({RIGHT}), two.action({pygame.K_1})) == (5, 6, 6)


@pytest.mark.parametrize(
    ("keys", "action"),
    [
        ((pygame.K_1, pygame.K_0), 0),
        ((pygame.K_0, pygame.K_1), 1),
        ((RIGHT, LEFT), 0),
        ((LEFT, RIGHT), 1),
        ((RIGHT, pygame.K_0), 0),
        ((pygame.K_1, UP, LEFT, DOWN), 0),
    ],
)
def test_of_several_choices_the_last_pressed_counts(keys: tuple[int, ...], action: int) -> None:
    assert Controls(spaces.Discrete(2)).action(dict.fromkeys(keys)) == action


def test_no_key_has_two_meanings_and_the_help_names_all() -> None:
    keys = [key for *pair, _ in AXES for key in pair]
    assert len({*keys, pygame.K_r, pygame.K_SPACE, pygame.K_ESCAPE}) == len(keys) + 3
    assert Controls(spaces.Box(-1, 1, (6,))).help.count(",") == 5


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Discrete(10), "0 to 9: actions 0 to 9"),
        (spaces.Discrete(3, start=5), "0 to 2: actions 5 to 7"),
        (spaces.Discrete(4, start=-2), "0 to 3: actions -2 to 1"),
        (spaces.Discrete(2, start=1), "0 to 1, or Left Right: actions 1 to 2"),
        (spaces.Discrete(1, start=7), "0: action 7"),
    ],
)
def test_the_help_names_the_actions_that_digits_choose(space: spaces.Discrete, words: str) -> None:
    controls = Controls(space)
    assert controls.help == words
    chosen = [controls.action({pygame.K_0 + digit}) for digit in range(space.n)]
    assert chosen == list(range(space.start, space.start + space.n))


@pytest.mark.parametrize(
    "space", [spaces.Discrete(11), spaces.Box(-1, 1, (7,)), spaces.Box(-1, 1, (2, 2)), spaces.MultiBinary(2)]
)
def test_spaces_without_enough_keys_are_refused(space: spaces.Space) -> None:
    with pytest.raises(UnsupportedSpaceError, match="a keyboard has keys for"):
        Controls(space)


# The game -------------------------------------------------------------------------------------------------------


def test_held_keys_steer_until_they_are_let_go(start: Any) -> None:
    game = start(ARM)
    assert game.frame()
    press(RIGHT)
    game.frame()
    game.frame()
    press(DOWN)
    game.frame()
    release(RIGHT)
    game.frame()
    np.testing.assert_array_equal(game.env.actions, [[0, 0], [1, 0], [1, 0], [1, -1], [0, -1]])


def test_a_key_let_go_within_a_frame_counts_once(start: Any) -> None:
    game = start(ARM)
    press(UP)
    release(UP)
    game.frame()
    game.frame()
    np.testing.assert_array_equal(game.env.actions, [[0, 1], [0, 0]])


def test_bandits_wait_for_a_key(start: Any) -> None:
    game = start(BANDIT)
    game.frame()
    game.frame()
    assert game.env.actions == []
    press(pygame.K_4)
    game.frame()
    release(pygame.K_4)
    game.frame()
    assert game.env.actions == [4]


def test_of_several_held_digits_the_last_pressed_counts(start: Any) -> None:
    game = start(BANDIT)
    for act, key in (
        (press, pygame.K_7),
        (press, pygame.K_2),  # 7 and 2 are held
        (press, pygame.K_5),
        (release, pygame.K_2),  # 7 and 5
        (release, pygame.K_5),  # 7 alone
        (press, pygame.K_9),
        (press, pygame.K_7),  # pressed again: its release went elsewhere
    ):
        act(key)
        game.frame()
    assert game.env.actions == [7, 2, 5, 5, 7, 9, 7]


def test_a_tapped_digit_counts_in_the_order_of_pressing(start: Any) -> None:
    game = start(BANDIT)
    for key in (pygame.K_3, pygame.K_8):  # 8 is pressed last, and held
        press(key)
        if key == pygame.K_3:
            release(key)
    game.frame()
    press(pygame.K_1)  # tapped while 8 is held
    release(pygame.K_1)
    game.frame()
    game.frame()
    assert game.env.actions == [8, 1, 8]


def test_pause_restart_and_quit(start: Any) -> None:
    game = start(ARM, Still(2))
    game.frame()
    press(pygame.K_SPACE)
    game.frame()
    game.frame()
    assert game.paused
    assert len(game.env.actions) == len(game.agent.starts) == 1
    press(pygame.K_SPACE)
    game.frame()
    press(pygame.K_r)
    game.frame()
    assert game.agent.starts == [True, False, True]
    press(pygame.K_ESCAPE)
    assert not game.frame()


def test_a_restarted_episode_is_the_same_and_the_aborted_one_does_not_count(start: Any) -> None:
    env = gym.make(DRIFT, max_episode_steps=3)
    game = start(DRIFT, max_episode_steps=3)
    press(RIGHT)
    totals = []
    for seed in (3, 4):
        env.reset(seed=seed)
        totals.append(sum(env.step(np.ones(1, np.float32))[1] for _ in range(3)))
        game.frame()
        game.frame()
        press(pygame.K_r)  # two steps into the episode
        for _ in range(3):
            game.frame()
        assert game.returns == pytest.approx(totals)
    assert game.said == [f"episode {i + 1}: return {total:.2f}" for i, total in enumerate(totals)]


@pytest.mark.parametrize("kind", [pygame.QUIT, pygame.WINDOWCLOSE])
def test_closing_the_window_ends_the_game(start: Any, kind: int) -> None:
    game = start(ARM)
    pygame.event.post(pygame.Event(kind))
    assert not game.frame()
    assert game.env.actions == []


def test_episodes_restart_at_their_end_with_the_next_seed(start: Any) -> None:
    game = start(DRIFT, max_episode_steps=3)
    env = gym.make(DRIFT, max_episode_steps=3)
    totals = []
    for seed in (3, 4):
        env.reset(seed=seed)
        totals.append(sum(env.step(np.ones(1, np.float32))[1] for _ in range(3)))
    press(RIGHT)
    for _ in range(6):
        game.frame()
    assert game.returns == pytest.approx(totals)
    assert len(game.said) == 2


def test_keys_overrule_the_agent_by_component(start: Any) -> None:
    game = start("mbrl/Drone-v0", Still(3))
    press(UP)
    game.frame()
    np.testing.assert_array_equal(game.env.actions, [[0, 1, 0]])


def drag(game: Game, x: float, y: float) -> Any:
    """Hold the mouse on a point of the picture [px] for a frame; return where in the world it is."""
    point = game.env.unwrapped.locate(x, y)
    pygame.event.post(pygame.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(10, 10)))
    pygame.event.post(pygame.Event(pygame.MOUSEMOTION, pos=(x, y)))
    game.frame()
    pygame.event.post(pygame.Event(pygame.MOUSEBUTTONUP, button=1, pos=(x, y)))
    game.frame()
    return point


def test_mazes_are_walked_with_the_arrows(start: Any) -> None:
    game = start("mbrl/DynaMaze-v0")
    cells = []
    for key in (UP, RIGHT, DOWN, LEFT):
        press(key)
        game.frame()
        release(key)
        cells.append(int(game.env.unwrapped.get_state()["state"][0]))
    assert cells == [9, 10, 19, 18]
    assert game.help[0] == "0 to 3, or Up Down Right Left: actions 0 to 3"


def test_combinations_of_keys_are_left_out() -> None:
    controls = Controls(spaces.Discrete(3, start=5), {(UP,): 5, (UP, LEFT): 6, (DOWN,): 7, "w": 5})
    assert [controls.action({key}) for key in (UP, DOWN, LEFT, pygame.K_1)] == [5, 7, None, 6]


def target(game: Game) -> Any:
    task, state = game.env.unwrapped.task, game.env.unwrapped.get_state()["state"]
    return state[[i for i, name in enumerate(task.state_columns) if name.startswith(("target", "goal"))]]


@pytest.mark.parametrize("name", [name for name in mbrl_gym.env_ids() if "Arm" in name or "Drone" in name])
def test_the_mouse_drags_the_target(start: Any, name: str) -> None:
    game = start(name)
    np.testing.assert_allclose(drag(game, 150, 100), target(game), atol=1e-3)
    before = target(game)
    pygame.event.post(pygame.Event(pygame.MOUSEMOTION, pos=(100, 80)))  # the button is up
    game.frame()
    np.testing.assert_array_equal(target(game), before)
    assert "drag the target" in game.help[0]


def test_agents_see_the_dragged_target_at_once(start: Any) -> None:
    still = Still(2)
    game = start(ARM, still)
    point = drag(game, 150, 100)
    np.testing.assert_allclose(still.seen[0][4:6], point, atol=1e-5)


def test_dragging_works_in_a_resized_window(start: Any) -> None:
    game = start(ARM)
    game._window.size = (640, 2 * 240 + game._strip)
    game.frame()
    point = game.env.unwrapped.locate(150, 100)
    pygame.event.post(pygame.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(300, 200)))
    game.frame()
    np.testing.assert_allclose(target(game), point, atol=1e-3)


def test_a_planning_agent_follows_the_dragged_target_and_shows_its_plan() -> None:
    exact = MPC("iCEM", ARM, model="exact", planner_kwargs={"horizon": 6, "population": 40, "iterations": 2}, seed=0)
    env = ShowPlans(gym.make(ARM, render_mode="rgb_array", width=320, height=240, max_episode_steps=-1), exact)
    game = Game(env, exact, report=lambda text: None)
    pygame.event.post(pygame.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(190, 110)))
    for _ in range(40):
        game.frame()
    task, state = env.unwrapped.task, env.unwrapped.get_state()["state"]
    tip = np.array(task.joints(state)[2:])
    np.testing.assert_allclose(target(game), env.unwrapped.locate(190, 110), atol=1e-3)
    assert np.hypot(*(tip - target(game))) < 0.1
    assert env.unwrapped._episode.imagined.plans.shape[1] == 6
    game.close()


def test_other_peoples_environments_can_be_played(start: Any) -> None:
    game = start("CartPole-v1")
    press(RIGHT)
    game.frame()
    assert game.env.actions == [1]
    assert "drag" not in game.help[0]
    pygame.event.post(pygame.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(5, 5)))
    assert game.frame()


@pytest.mark.parametrize("name", mbrl_gym.env_ids())
def test_every_environment_can_be_played(start: Any, name: str) -> None:
    game = start(name)
    press(pygame.K_1)
    press(LEFT)
    pygame.event.post(pygame.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(160, 120)))
    for _ in range(3):
        assert game.frame()
    assert len(game.env.actions) == 3
    surface = pygame.surfarray.array3d(game._window.get_surface())
    assert surface.shape == (320, 240 + game._strip, 3)
    assert (surface[:, :240] != surface[0, 0]).any()
    assert (surface[:, 240:] != surface[0, -1]).any()


# The command ----------------------------------------------------------------------------------------------------


def call(*arguments: Any) -> Any:
    return CliRunner(env={"COLUMNS": "100"}).invoke(cli.app, ["play", *map(str, arguments)])


def at_each_frame(monkeypatch: pytest.MonkeyPatch, keys: dict[int, int]) -> list[int]:
    """Press keys before frames; return the list of frames."""
    frames: list[int] = []
    plain = Game.frame

    def frame(self: Game) -> bool:
        frames.append(len(frames))
        if frames[-1] in keys:
            press(keys[frames[-1]])
        return plain(self)

    monkeypatch.setattr(Game, "frame", frame)
    return frames


def test_the_command_plays_until_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    length = gym.spec(DRIFT).max_episode_steps
    frames = at_each_frame(monkeypatch, {2: pygame.K_r, 2 + length: pygame.K_ESCAPE})
    monkeypatch.setattr(Game, "fps", 0.0)  # as fast as it goes
    done = call(DRIFT, "--seed", 5)
    assert done.exit_code == 0, done.output
    assert len(frames) == 2 + length + 1
    lines = done.stdout.splitlines()
    assert "Esc: quit" in lines[1]
    (line,) = lines[2:]
    assert re.fullmatch(r"episode 1: return -\d+\.\d\d", line)


def test_the_command_plays_with_an_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = {"horizon": 3, "population": 8, "iterations": 1}
    MPC("iCEM", DRIFT, model="exact", planner_kwargs=settings, seed=0).save(tmp_path / "agent.zip")
    frames = at_each_frame(monkeypatch, {101: pygame.K_ESCAPE})
    monkeypatch.setattr(Game, "fps", 0.0)  # as fast as it goes
    done = call(DRIFT, "--agent", tmp_path / "agent.zip", "--endless")
    assert done.exit_code == 0, done.output
    assert len(frames) == 102
    assert "else the agent's" in done.stdout
    assert "episode" not in done.stdout


def test_mistakes_in_play_are_one_line(tmp_path: Path) -> None:
    for arguments, message in (
        (["mbrl/Nothing-v0"], "doesn't exist"),
        ([ARM, "--agent", tmp_path / "none.zip"], "there is no file"),
        ([BANDIT, "--algo", "a2c", "--agent", tmp_path / "none.zip"], "choose from ppo, sac, td3, dqn"),
    ):
        done = call(*arguments)
        assert done.exit_code == 2, done.output
        (line,) = done.stderr.splitlines()
        assert re.match(rf"mbrl-gym: .*{message}", line), line


def test_no_screen_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Game) -> Any:
        raise pygame.error("No available video device")

    monkeypatch.setattr(Game, "_open", fail)
    done = call(ARM)
    assert done.exit_code == 2
    assert "cannot open a window (No available video device): the game needs a screen" in done.stderr


def test_watch_stops_when_the_window_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = {"horizon": 3, "population": 8, "iterations": 1}
    MPC("iCEM", DRIFT, model="exact", planner_kwargs=settings, seed=0).save(tmp_path / "agent.zip")
    shown: list[int] = []
    show = Renderer._show

    def close_at_the_fourth(self: Renderer, episode: Any) -> None:
        shown.append(len(episode.actions))
        if len(shown) == 4:
            pygame.event.post(pygame.Event(pygame.QUIT))
        show(self, episode)

    monkeypatch.setattr(Renderer, "_show", close_at_the_fourth)
    done = CliRunner().invoke(cli.app, ["watch", DRIFT, "--agent", str(tmp_path / "agent.zip")])
    assert done.exit_code == 0, done.output
    assert shown == [0, 1, 2, 3]
    assert done.stdout == ""
