"""Pictures: their shape, what they show, and that windows open and close only where they should."""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest
from gymnasium.wrappers import AddRenderObservation, RecordVideo
from PIL import Image

import mbrl_gym
from mbrl_gym.envs import draw
from mbrl_gym.envs.rendering import Episode, Imagined, Renderer
from mbrl_gym.envs.rendering.bandit import statistics
from mbrl_gym.envs.rendering.layout import ticks
from mbrl_gym.errors import InvalidSettingError

IDS = mbrl_gym.env_ids()
PLANNED = [  # scenes that draw imagined rows of numbers
    name for name in IDS if "Bandit" not in name and "Maze" not in name
]
SIZES = [(64, 64), (640, 480), (300, 900), (1000, 1000)]


def make(name: str, size: tuple[int, int] = (160, 120), **params: Any) -> gym.Env[Any, Any]:
    return gym.make(name, render_mode="rgb_array", width=size[0], height=size[1], **params)


def picture(name: str, size: tuple[int, int] = (160, 120), steps: int = 0, **params: Any) -> np.ndarray:
    """Return the picture after a start from seed 3 and the same `steps` actions."""
    state = params.pop("state", None)
    env = make(name, size, **params)
    env.reset(seed=3, options=None if state is None else {"state": state})
    env.action_space.seed(0)
    for _ in range(steps):
        env.step(env.action_space.sample())
    return env.render()


def where(image: np.ndarray, hue: str) -> np.ndarray:
    """Return the mean [x, y] of the blue pixels (what the agent moves) or the orange ones (the target)."""
    red, blue = image[..., 0].astype(int), image[..., 2].astype(int)
    near = blue - red > 60 if hue == "blue" else red - blue > 60
    assert near.any(), f"no {hue} pixel"
    return np.argwhere(near).mean(0)[::-1]


def run(script: str, **environment: str) -> str:
    """Run a script in a fresh interpreter that knows no display unless `environment` names one."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DISPLAY", "WAYLAND", "SDL_", "PYGAME"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("size", SIZES)
def test_picture_has_the_size_asked_for_and_shows_something(name: str, size: tuple[int, int]) -> None:
    image = picture(name, size, steps=3)
    assert image.shape == (size[1], size[0], 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    where(image, "blue")
    where(image, "orange")


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("size", [(16, 16), (16, 600), (700, 16), (180, 1000), (1000, 180)])
def test_odd_sizes_and_the_first_frame(name: str, size: tuple[int, int]) -> None:
    assert picture(name, size).shape == (size[1], size[0], 3)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("size", [(64, 64), (640, 480)])
def test_same_episode_same_picture_and_every_step_changes_it(name: str, size: tuple[int, int]) -> None:
    one = picture(name, size, steps=4)
    np.testing.assert_array_equal(one, picture(name, size, steps=4))
    assert (one != picture(name, size, steps=5)).any()


@pytest.mark.parametrize("name", IDS)
def test_pictures_do_not_share_memory(name: str) -> None:
    env = make(name)
    env.reset(seed=0)
    first = env.render()
    kept = first.copy()
    env.step(env.action_space.sample())
    env.render()
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (300, 900)])
def test_arm_target_moves_with_the_state(size: tuple[int, int]) -> None:
    left, right, up = (
        where(picture("mbrl/Arm-v0", size, state=[-2.0, 0.5, x, y]), "orange")
        for x, y in ((-0.6, 0.9), (0.6, 0.9), (0.6, 1.2))
    )
    assert right[0] > left[0] + 0.1 * size[0]
    assert up[1] < right[1]


@pytest.mark.parametrize("size", [(64, 64), (640, 480)])
def test_walker_moves_with_the_state_and_is_seen_far_out(size: tuple[int, int]) -> None:
    xs = [where(picture("mbrl/Drift-v0", size, state=[x]), "blue")[0] for x in (-4.0, 0.0, 4.0)]
    assert xs[0] < xs[1] < xs[2]
    far = picture("mbrl/Drift-v0", (64, 64), state=[250.0])
    assert 48 < where(far, "blue")[0] < 64


def test_drone_target_moves_in_all_three_directions_and_is_seen_far_out() -> None:
    center = where(picture("mbrl/Drone-v0", (64, 64), state=[3.0, 3, 3, 0, 0, 0, 0, 0, 0]), "orange")
    for axis in range(3):
        state = np.zeros(9)
        state[:3], state[6 + axis] = 3.0, 3.0
        moved = where(picture("mbrl/Drone-v0", (64, 64), state=state), "orange")
        assert np.abs(moved - center).max() > 2
        assert axis != 2 or moved[1] < center[1] - 4  # z is up
    far = picture("mbrl/Drone-v0", (64, 64), state=[90.0, -90, 90, 5, 5, 5, 0, 0, 0])
    where(far, "blue")
    where(far, "orange")


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("mbrl/Drift-v0", {"start_range": 2.0, "drift": -0.4}),
        ("mbrl/Arm-v0", {"link_1": 0.4}),
        ("mbrl/Drone-v0", {"target_range": 9.0}),
        ("mbrl/Bandit-v0", {"arms": 2}),
        ("mbrl/Bandit-v0", {"arms": 50, "mean_loc": 100.0}),
        ("mbrl/Bandit-v0", {"mean_std": 0.0, "reward_std": 0.0}),
    ],
)
def test_pictures_follow_the_parameters(name: str, params: dict[str, float]) -> None:
    changed = picture(name, (320, 240), steps=6, **params)
    assert (changed != picture(name, (320, 240), steps=6)).any()
    where(changed, "orange")


@pytest.mark.parametrize("name", PLANNED)
def test_imagined_observations_are_drawn(name: str) -> None:
    env = make(name, (320, 240))
    env.reset(seed=1)
    task: Any = env.unwrapped.task
    state = env.unwrapped.get_state()["state"]
    episode = Episode(task, [state], [], [])
    renderer = Renderer("rgb_array", (320, 240), 10)
    without = renderer.draw(episode)
    np.testing.assert_array_equal(without, env.render())
    now = task.observation(state)
    plans = now + np.linspace(0.0, 0.5, 12)[:, None] * np.random.default_rng(0).normal(size=(2, 1, len(now)))
    episode.imagine(plans)
    drawn = renderer.draw(episode)
    assert (drawn != without).any()
    episode.imagine(plans[::-1])  # the other plan is the best one
    assert (renderer.draw(episode) != drawn).any()
    env.unwrapped.imagine(plans)
    np.testing.assert_array_equal(env.render(), drawn)
    env.unwrapped.imagine(None)
    np.testing.assert_array_equal(env.render(), without)


@pytest.mark.parametrize("name", PLANNED)
@pytest.mark.parametrize("size", [(64, 64), (320, 240)])
def test_the_spread_of_the_particles_is_drawn(name: str, size: tuple[int, int]) -> None:
    """The more the particles differ, the more is tinted."""
    env = make(name, size)
    env.reset(seed=1)
    now = env.unwrapped.task.observation(env.unwrapped.get_state()["state"]).astype(np.float64)
    plan = now + np.linspace(0.0, 0.3, 10)[None, :, None]
    apart = np.random.default_rng(0).normal(size=(6, 10, len(now)))
    images = []
    for scale in (0.0, 0.1, 0.3):
        env.unwrapped.imagine(plan, plan + scale * apart)
        images.append(env.render().astype(int))
    tinted = [np.abs(image - images[0]).sum() for image in images]
    assert tinted[0] < tinted[1] < tinted[2]


@pytest.mark.parametrize("shape", [(12, 8), (0, 12, 8), (2, 0, 8), (2, 12, 7)])
def test_imagined_observations_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    env = make("mbrl/Arm-v0")
    env.reset(seed=0)
    with pytest.raises(InvalidSettingError, match=r"plans must have shape \(number, steps, 8\)"):
        env.unwrapped.imagine(np.zeros(shape))
    with pytest.raises(InvalidSettingError, match="particles must have shape"):
        env.unwrapped.imagine(np.zeros((1, 3, 8)), np.zeros(shape))


def test_steps_use_an_imagined_plan_up() -> None:
    plans, particles = np.arange(24.0).reshape(2, 3, 4), np.arange(36.0).reshape(3, 3, 4)
    rest = Imagined(plans, particles).rest()
    assert rest is not None
    np.testing.assert_array_equal(rest.plans, plans[:, 1:])
    np.testing.assert_array_equal(rest.particles, particles[:, 1:])
    last = Imagined(plans[:, :2]).rest()
    assert last is not None
    assert last.particles is None
    assert last.rest() is None


def test_an_accurate_plan_stays_where_it_is_while_the_arm_follows_it() -> None:
    env = make("mbrl/Arm-v0", (320, 240))
    env.reset(seed=2)
    task = env.unwrapped.task
    states, action = [env.unwrapped.get_state()["state"]], np.array([1.0, -1.0], np.float32)
    for _ in range(6):
        states.append(
            task.transition(states[-1], action, draw(np.random.default_rng(0), (), task.transition_noise, task.dtype))
        )
    env.unwrapped.imagine(task.observation(np.stack(states[1:]))[None])
    for done in range(1, 7):
        env.step(action)
        kept = env.render()
        env.unwrapped.imagine(task.observation(np.stack(states[1 + done :]))[None] if done < 6 else None)
        np.testing.assert_array_equal(env.render(), kept)


@pytest.mark.parametrize("name", [name for name in PLANNED if "Drift" not in name and "Cart" not in name])
def test_the_mouse_finds_the_target_and_moves_it(name: str) -> None:
    """Where the target is dragged to, there the picture shows it."""
    env = make(name, (640, 480))
    env.reset(seed=4)
    env.render()
    assert env.unwrapped.dismissed is False
    size = len(env.unwrapped.locate(320.0, 240.0))
    pixel = np.array([300.0, 200.0])
    point = env.unwrapped.locate(*pixel)
    observation = env.unwrapped.move_target(point)
    assert env.observation_space.contains(observation)
    image = env.render().astype(int)
    np.testing.assert_allclose(env.unwrapped.locate(*pixel), point, atol=1e-5)
    target = _target(env)
    np.testing.assert_allclose(target, point, atol=2e-3 * size)
    red, blue = image[..., 0], image[..., 2]
    near = np.argwhere((red - blue > 130) & (image[..., 1] < 140))[:, ::-1]  # pure orange
    assert np.hypot(*(near - pixel).T).min() < 12
    # Far out the target stops at what the task allows.
    env.unwrapped.move_target(1e3 * np.ones(size))
    assert env.unwrapped.task.allows(env.unwrapped.get_state()["state"])
    assert np.abs(_target(env)).max() < 20
    assert (_target(env) > target).all()


def _target(env: gym.Env[Any, Any]) -> np.ndarray:
    """Return the target's coordinates."""
    task, state = env.unwrapped.task, env.unwrapped.get_state()["state"]
    columns = [i for i, name in enumerate(task.state_columns) if name.startswith(("target", "goal"))]
    return state[columns].astype(np.float64)


def test_tasks_without_a_target_refuse_to_move_it() -> None:
    env = make("mbrl/Drift-v0")
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.move_target([1.0])
    env.reset(seed=0)
    env.render()
    assert env.unwrapped.locate(3.0, 3.0) is None
    with pytest.raises(InvalidSettingError, match="target of 0 coordinates"):
        env.unwrapped.move_target([1.0])
    arm = make("mbrl/Arm-v0")
    arm.reset(seed=0)
    with pytest.raises(InvalidSettingError, match="target of 2 coordinates"):
        arm.unwrapped.move_target([1.0, 2.0, 3.0])


def test_move_target_keeps_the_running_episode() -> None:
    env = make("mbrl/Arm-v0")
    env.reset(seed=0)
    before = env.unwrapped.get_state()["state"].copy()
    env.unwrapped.move_target([0.5, 0.25])
    after = env.unwrapped.get_state()["state"]
    np.testing.assert_array_equal(after, np.float32([*before[:2], 0.5, 0.25]))
    reward = env.step(np.zeros(2, np.float32))[1]
    tip = np.array(env.unwrapped.task.joints(after)[2:])
    assert reward == pytest.approx(-np.hypot(*(tip - [0.5, 0.25])), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "constant", "low", "high"),
    [
        ("mbrl/Arm-v0", "link_2", 0.3, 0.8),
        ("mbrl/ArmTorque-v0", "link_1", 0.4, 1.0),
        ("mbrl/CartPoleContinuous-v0", "half_length", 0.2, 0.5),
        ("mbrl/Drift-v0", "drift", -0.5, 0.1),
    ],
)
def test_pictures_show_the_drawn_constants(name: str, constant: str, low: float, high: float) -> None:
    """The same start under another drawn constant is another picture, and equals that of a fixed constant's task."""
    env = make(name, (320, 240), randomize={constant: (low, high)})
    own = env.unwrapped.task.state_size - 1
    images = []
    env.reset(seed=3)
    state = env.unwrapped.get_state()["state"].copy()
    for value in (low, high):
        state[own] = value
        env.reset(options={"state": state})
        images.append(env.render())
    assert (images[0] != images[1]).any()
    fixed = make(name, (320, 240), **{constant: high})
    fixed.reset(options={"state": state[:own]})
    np.testing.assert_array_equal(images[1], fixed.render())


@pytest.mark.parametrize("name", PLANNED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e300])
def test_diverging_models_can_be_drawn(name: str, bad: float) -> None:
    env = make(name)
    env.reset(seed=1)
    state = env.unwrapped.get_state()["state"]
    imagined = np.tile(env.unwrapped.task.observation(state).astype(np.float64), (3, 5, 1))
    imagined[0, 2:] = imagined[1] = bad
    episode = Episode(env.unwrapped.task, [state], [], [])
    episode.imagine(imagined, imagined + 0.1 * np.arange(3)[:, None, None])
    assert Renderer("rgb_array", (64, 64), 10).draw(episode) is not None


def test_bandit_statistics() -> None:
    pulls, means, errors = statistics([2, 0, 2, np.int64(2)], [1.0, 5.0, 3.0, 2.0], 4)
    np.testing.assert_array_equal(pulls, [1, 0, 3, 0])
    np.testing.assert_allclose(means, [5.0, 0.0, 2.0, 0.0])
    # The residuals -1, 1, 0 leave two degrees of freedom: the standard deviation is 1.
    np.testing.assert_allclose(errors, [1.96, 0.0, 1.96 / np.sqrt(3), 0.0])
    assert statistics([], [], 2).errors.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("span", [1e-6, 0.3, 1.0, 7.3, 1234.0, 1e9])
def test_ticks_are_round_and_within_the_range(span: float) -> None:
    values = ticks(-0.4 * span, 0.6 * span, 8)
    assert 3 <= len(values) <= 9
    assert values[0] >= -0.4 * span
    assert values[-1] <= 0.6 * span
    mantissa = float(f"{values[1] - values[0]:.6e}".split("e")[0])
    assert mantissa in (1.0, 2.0, 5.0)


@pytest.mark.parametrize("name", IDS)
def test_rendered_environments_can_be_copied_and_pickled(name: str) -> None:
    env = make(name)
    env.reset(seed=2)
    env.step(env.action_space.sample())
    image = env.render()
    action = env.action_space.sample()
    clones = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    env.step(action)
    for clone in clones:
        np.testing.assert_array_equal(clone.render(), image)
        clone.step(action)
        np.testing.assert_array_equal(clone.render(), env.render())


@pytest.mark.parametrize("name", IDS)
def test_vector_environments_return_a_picture_of_each_copy(name: str) -> None:
    envs = gym.make_vec(name, num_envs=3, render_mode="rgb_array", width=64, height=48)
    envs.reset(seed=0)
    envs.action_space.seed(1)
    envs.step(envs.action_space.sample())
    images = envs.render()
    assert isinstance(images, tuple)
    assert [image.shape for image in images] == [(48, 64, 3)] * 3
    assert (images[0] != images[1]).any()
    envs.close()


def test_add_render_observation() -> None:
    env = AddRenderObservation(make("mbrl/Arm-v0", (64, 48)))
    assert env.observation_space.shape == (48, 64, 3)
    observation, _ = env.reset(seed=0)
    following = env.step(np.ones(2, np.float32))[0]
    assert env.observation_space.contains(observation)
    assert (following != observation).any()


def test_record_video(tmp_path: Path) -> None:
    env = RecordVideo(make("mbrl/Drift-v0", (64, 64)), str(tmp_path / "videos"), disable_logger=True)
    env.reset(seed=0)
    for _ in range(100):
        _, _, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
    assert truncated
    assert not terminated
    env.close()
    (video,) = tmp_path.glob("videos/*.mp4")
    assert video.stat().st_size > 1000


def test_someone_elses_quit_does_not_matter() -> None:
    env = make("mbrl/Arm-v0", (320, 240))
    env.reset(seed=0)
    image = env.render()
    pygame.quit()
    np.testing.assert_array_equal(env.render(), image)
    pygame.font.quit()
    pygame.font.init()
    np.testing.assert_array_equal(env.render(), image)


def test_closing_one_environment_leaves_the_others() -> None:
    one, other = make("mbrl/Drone-v0", (320, 240)), make("mbrl/Drone-v0", (320, 240))
    for env in (one, other):
        env.reset(seed=0)
    image = one.render()
    other.render()
    other.close()
    other.close()
    np.testing.assert_array_equal(one.render(), image)


def test_importing_the_environments_does_not_import_pygame() -> None:
    script = "import sys, mbrl_gym, mbrl_gym.envs; print('pygame' in sys.modules)"
    assert run(script) == "False"


def test_pictures_need_no_display_and_print_nothing() -> None:
    script = """
import gymnasium as gym, mbrl_gym
for name in mbrl_gym.env_ids():
    env = gym.make(name, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (480, 640, 3)
import pygame
print(pygame.display.get_init())
env.close()
"""
    assert run(script) == "False"


def test_missing_pygame_is_named() -> None:
    script = """
import sys, gymnasium as gym, mbrl_gym
sys.modules["pygame"] = None
env = gym.make("mbrl/Arm-v0", render_mode="rgb_array")
try:
    env.reset(seed=0)
except gym.error.DependencyNotInstalled as error:
    print(error)
"""
    assert "pip install" in run(script)


def test_window_resizes_closes_and_leaves_others_alone() -> None:
    script = """
import gymnasium as gym, numpy as np, pygame, mbrl_gym

def shown(env):
    return env.unwrapped._renderer._window

def rgb(size):
    env = gym.make("mbrl/Arm-v0", render_mode="rgb_array", width=size[0], height=size[1])
    env.reset(seed=0)
    env.step(np.ones(2, np.float32))
    return env.render()

one, other = (gym.make("mbrl/Arm-v0", render_mode="human", width=320, height=240) for _ in range(2))
one.reset(seed=0)
other.reset(seed=1)
assert shown(one).resizable and shown(one).get_surface().get_size() == (320, 240)
shown(one).size = (500, 300)
one.step(np.ones(2, np.float32))
surface = shown(one).get_surface()
assert surface.get_size() == (500, 300)
assert (pygame.surfarray.array3d(surface).swapaxes(0, 1) == rgb((500, 300))).all()
shown(one).size = (3, 2)
one.step(np.ones(2, np.float32))

pygame.event.post(pygame.Event(pygame.KEYDOWN, key=pygame.K_a))
pygame.event.post(pygame.Event(pygame.WINDOWCLOSE, window=shown(other)))
one.step(np.ones(2, np.float32))
assert shown(one) is not None and shown(other) is None
assert other.unwrapped.dismissed and not one.unwrapped.dismissed
assert pygame.event.peek(pygame.KEYDOWN)
other.step(np.ones(2, np.float32))
assert shown(other) is None
pygame.event.post(pygame.Event(pygame.QUIT))
for _ in range(3):
    one.step(np.ones(2, np.float32))
    assert shown(one) is None and one.unwrapped.dismissed
one.close()
one.reset(seed=0)
assert shown(one) is not None and not one.unwrapped.dismissed
pygame.quit()
one.reset(seed=0)
assert shown(one).get_surface().get_size() == (320, 240)
one.close()
other.close()
one.close()
assert pygame.display.get_init()
print("done")
"""
    assert run(script, SDL_VIDEODRIVER="dummy") == "done"


def test_window_shows_frames_at_the_rate_of_the_task() -> None:
    script = """
import time, gymnasium as gym, numpy as np, mbrl_gym
env = gym.make_vec("mbrl/Drift-v0", num_envs=2, render_mode="human", width=64, height=64)
env.reset(seed=0)
start = time.perf_counter()
for _ in range(5):
    env.step(np.zeros((2, 1), np.float32))
    assert env.render() is None
seconds, frames = time.perf_counter() - start, 10  # a step shows a frame of its own
print(0.8 * frames / env.metadata["render_fps"] < seconds)
"""
    assert run(script, SDL_VIDEODRIVER="dummy") == "True"


# The gallery ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gallery() -> Any:
    """The script that writes the gallery."""
    path = Path(mbrl_gym.__file__).parents[1] / "docs" / "gallery.py"
    spec = importlib.util.spec_from_file_location("gallery_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", IDS)
def test_the_gallery_shows_every_environment(gallery: Any, name: str) -> None:
    page = (gallery.FOLDER / "gallery.md").read_text(encoding="utf-8")
    assert page.count(f"## {name}\n") == 1
    file = gallery.picture_of(name)
    assert f"![{name}]({file.relative_to(gallery.FOLDER).as_posix()})" in page
    with Image.open(file) as image:
        assert image.size == (640, 480)
        colors = image.convert("RGB").getcolors(1 << 20)
    assert colors is not None
    assert len(colors) > 50


def test_the_gallery_is_as_its_script_writes_it(gallery: Any) -> None:
    assert (gallery.FOLDER / "gallery.md").read_text(encoding="utf-8") == gallery.page()
    shown = {gallery.picture_of(name) for name in IDS}
    assert set((gallery.FOLDER / "gallery").glob("*.png")) == shown
