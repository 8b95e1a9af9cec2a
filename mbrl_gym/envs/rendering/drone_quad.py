"""Scene of the quadrotor: its attitude, and its rotors' thrusts."""

from __future__ import annotations

import numpy as np

from mbrl_gym.envs.quaternions import rotation_matrix
from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.flight import PAST_STEPS, Flight, draw_flight
from mbrl_gym.envs.rendering.layout import Inverse

__all__ = ["draw"]


def draw(canvas: Canvas, episode: Episode) -> Inverse:
    """Draw the room, the target, the quadrotor with its past, and the imagined flights."""
    states = episode.past(PAST_STEPS)
    now = states[-1]
    rotation = np.reshape(rotation_matrix(tuple(now[6:10])), (3, 3))
    flight = Flight(
        past=states[:, :3],
        velocity=now[3:6],
        target=now[17:20],
        seen=slice(22, 25),
        axes=rotation.T,
        thrust=(now[13:17] / episode.constants.max_thrust).tolist(),
    )
    span = float(episode.constants.arm_length)
    return draw_flight(canvas, episode, flight, reach=episode.task.highest("target_range"), span=span)
