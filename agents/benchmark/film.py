"""Episodes to look at: an agent at work, with the plan that it imagines drawn over the scene."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm

import mbrl_gym
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.wrappers import PlanningAgent, ShowPlans, ShowValues, TabularAgent

from ..bandits import BanditPolicy
from .records import Run, replacing
from .settings import AGENTS, brief, check_env, full_id, load_agent

__all__ = [
    "Player",
    "check_drawable",
    "make_film_env",
    "play",
    "shows_plans",
    "write_best_gif",
    "write_gif",
]

Player = BaseAlgorithm | BanditPolicy
"""Who plays an episode."""

SIZE = (480, 360)  # largest picture [px]
MAX_BYTES = 3_000_000
MAX_FRAMES = 250
COLORS = 96
MAX_DURATION = 100  # of a frame that stands for several steps [ms]


def check_drawable(env_id: str, render_mode: str) -> None:
    """Refuse an environment that cannot draw in a mode."""
    with closing(check_env(env_id)) as env:
        modes = env.metadata.get("render_modes", [])
    if render_mode not in modes:
        raise InvalidSettingError(f"{env_id} cannot draw in mode {render_mode!r}: its render modes are {modes}")


def make_film_env(
    env_id: str, agent: Player | None, render_mode: str, size: tuple[int, int] = SIZE, **settings: Any
) -> gym.Env[Any, Any]:
    """Make an environment that draws, with the agent's plans or values, for an agent that was trained in its like.

    Args:
        env_id: The environment.
        agent: Who plays, if anybody does.
        render_mode: "human" or "rgb_array".
        size: Width and height of the pictures in mode "rgb_array", for this package's environments [px].
        **settings: Arguments of `gym.make`.

    Raises:
        InvalidSettingError: No such environment, one that cannot draw so, or one with other spaces than the agent's.
    """
    check_drawable(env_id, render_mode)
    with closing(check_env(env_id)) as plain:
        env_id = full_id(plain, env_id)
        given = (plain.observation_space, plain.action_space)
    if agent is not None and given != (agent.observation_space, agent.action_space):
        raise InvalidSettingError(
            f"the agent was trained in another environment: {env_id} has observations {brief(given[0])} and actions "
            f"{brief(given[1])}, its own were {brief(agent.observation_space)} and {brief(agent.action_space)}"
        )
    if env_id in mbrl_gym.env_ids() and render_mode == "rgb_array":
        settings |= {"width": size[0], "height": size[1]}
    env = check_env(env_id, render_mode=render_mode, **settings)
    if agent is not None and shows_plans(env, agent):
        return ShowPlans(env, agent)  # type: ignore[arg-type]
    if isinstance(agent, TabularAgent) and _shows_values(env):
        return ShowValues(env, agent)
    return env


def _shows_values(env: gym.Env[Any, Any]) -> bool:
    """Return whether pictures of an environment can show a table of action values."""
    discrete = isinstance(env.observation_space, spaces.Discrete) and isinstance(env.action_space, spaces.Discrete)
    return discrete and hasattr(env.unwrapped, "show_values")


def shows_plans(env: gym.Env[Any, Any], agent: Player) -> bool:
    """Whether the agent tells what it imagines and the environment draws it."""
    return isinstance(agent, PlanningAgent) and hasattr(env.unwrapped, "imagine")


def play(env: gym.Env[Any, Any], agent: Player, seed: int | None = None) -> Iterator[float]:
    """Play one episode; whenever a picture is due (before each step and after the last), yield the return so far."""
    observation, _ = env.reset(seed=seed)
    state: Any = None
    start, total, ended = np.ones(1, np.bool_), 0.0, False
    while not ended:
        yield total
        if isinstance(env, ShowPlans):
            action = env.decide()
        else:
            action, state = agent.predict(observation, state, start, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        start, total, ended = np.zeros(1, np.bool_), total + float(reward), terminated or truncated
    yield total


def write_gif(
    env_id: str,
    agent: Player,
    path: str | Path,
    *,
    seed: int = 0,
    size: tuple[int, int] = SIZE,
    max_bytes: int | None = None,
    **settings: Any,
) -> float:
    """Write one episode as an animated GIF of at most 480 x 360 pixels and 3 MB, and return its return.

    Long episodes are shown in every n-th step.

    Args:
        env_id: The environment.
        agent: Who plays.
        path: The file.
        seed: Seeds the episode.
        size: Largest picture [px].
        max_bytes: Size of the file; pictures are left out until it is kept.
        **settings: Arguments of `gym.make`.

    Raises:
        InvalidSettingError: No such environment, one that cannot draw, or one with other spaces than the agent's.
    """
    with closing(make_film_env(env_id, agent, "rgb_array", size, **settings)) as env:
        length = (env.spec.max_episode_steps if env.spec else None) or MAX_FRAMES
        stride = -(-length // MAX_FRAMES)
        duration = 1000 / env.metadata.get("render_fps", 30)
        while duration * stride < 20:  # browsers slow faster pictures down
            stride += 1
        frames = []
        for step, reached in enumerate(play(env, agent, seed)):
            total = reached
            if step % stride == 0:
                frames.append(_picture(env.render(), size))
        frames.append(_picture(env.render(), size))
    duration *= stride
    if stride > 1:
        duration = min(duration, MAX_DURATION)
    _save(frames, duration, Path(path), max_bytes or MAX_BYTES)
    return total


def write_best_gif(env_id: str, runs: Sequence[Run], folder: Path) -> Path:
    """Write AGENT.gif: an episode of the best run of a planning agent, or of any agent if there is none."""
    best = max([run for run in runs if AGENTS[run.agent].plans] or runs, key=lambda run: run.mean[-1])
    agent = load_agent(best.file, None if AGENTS[best.agent].plans else best.agent)
    path = folder / f"{best.agent}.gif"
    write_gif(env_id, agent, path)
    return path


def _picture(pixels: Any, size: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(np.asarray(pixels))
    picture.thumbnail(size, Image.Resampling.LANCZOS)
    return picture


def _save(frames: Sequence[Image.Image], duration: float, path: Path, max_bytes: int) -> None:
    """Write frames of `duration` ms, the last one for a second; leave out every other one while the file is large."""
    palette = _palette(frames)
    while True:
        indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        durations = [max(round(duration), 20)] * (len(indexed) - 1) + [1000]
        content = io.BytesIO()
        indexed[0].save(
            content, "GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=False
        )
        if content.tell() <= max_bytes or len(frames) < 20:
            break
        frames, duration = [*frames[:-1:2], frames[-1]], 2 * duration
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())


def _palette(frames: Sequence[Image.Image]) -> Image.Image:
    """Return an image whose palette suits all frames, from five of them."""
    some = [frames[round(share * (len(frames) - 1))] for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    stacked = Image.fromarray(np.concatenate([np.asarray(frame) for frame in some]))
    return stacked.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
