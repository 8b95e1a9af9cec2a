"""Scene of the drone that is a point mass."""

from __future__ import annotations

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.flight import PAST_STEPS, Flight, draw_flight, lean
from mbrl_gym.envs.rendering.layout import Inverse

__all__ = ["draw"]


def draw(canvas: Canvas, episode: Episode) -> Inverse:
    """Draw the room, the target, the drone with its past, and the imagined flights."""
    states = episode.past(PAST_STEPS)
    push = np.clip(episode.actions[-1], -1.0, 1.0) if episode.actions else np.zeros(3)
    flight = Flight(
        past=states[:, :3],
        velocity=states[-1, 3:6],
        target=states[-1, 6:9],
        seen=slice(6, 9),
        axes=lean(push),
        thrust=[0.3] * 4,
    )
    return draw_flight(canvas, episode, flight, reach=episode.task.highest("target_range"), span=0.0)
