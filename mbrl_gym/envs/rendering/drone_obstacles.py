"""Scene of the drone among obstacles: spheres, range readings, and the wind."""

from __future__ import annotations

from typing import Any

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.flight import NONE, PAST_STEPS, Flight, draw_flight, lean
from mbrl_gym.envs.rendering.layout import Inverse

__all__ = ["draw"]

FIRST = 13  # state column of the first obstacle, and observation column of the first range reading


def draw(canvas: Canvas, episode: Episode) -> Inverse:
    """Draw the room, the target, the obstacles, the drone with its past and its rays, and the imagined flights."""
    task: Any = episode.task
    states = episode.past(PAST_STEPS)
    now = states[-1]
    spheres = now[FIRST : FIRST + 4 * task.obstacles].reshape(-1, 4)
    push = np.clip(episode.actions[-1], -1.0, 1.0) if episode.actions else np.zeros(3)
    flight = Flight(
        past=states[:, :3],
        velocity=now[3:6],
        target=now[6:9],
        seen=slice(6, 9),
        axes=lean(push),
        thrust=[0.3] * 4,
        centers=spheres[:, :3],
        radii=spheres[:, 3],
        rays=_ray_ends(task, episode.states[-1]) if canvas.text_size else NONE,
        wind=now[9:12],
        collided=bool(now[12] < 0.0),
    )
    outermost = float((np.abs(spheres[:, :3]) + spheres[:, 3:]).max())
    reach = max(task.highest("target_range"), outermost)
    return draw_flight(canvas, episode, flight, reach, span=float(episode.constants.drone_radius))


def _ray_ends(task: Any, state: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the points `[R, 3]` where the level rays end, at an obstacle or at the sensor's range."""
    ranges = np.asarray(task.observation(state)[FIRST : FIRST + task.rays], np.float64)
    angles = 2.0 * np.pi * np.arange(task.rays) / task.rays
    directions = np.stack([np.cos(angles), np.sin(angles), 0.0 * angles], -1)
    return np.asarray(state[:3], np.float64) + ranges[:, None] * directions
