"""What an agent imagines, drawn over a scene: its plans, and how sure its model is of the best one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Imagined
from mbrl_gym.envs.rendering.layout import Box
from mbrl_gym.envs.rendering.palette import ACCENT, BODY, PANEL, mix

__all__ = ["draw_band", "draw_plans"]

Points = np.ndarray[Any, Any]
Project = Callable[[Points], Points]
"""Observations `[..., H, O]` of H steps from now on -> points `[..., H, 2]` in the picture [px]."""

BAND = 2.0  # half width of the band in standard deviations
COLOR = mix(ACCENT, 0.2, PANEL)
DIRECTIONS = np.stack([np.cos(np.arange(24) * math.pi / 12), np.sin(np.arange(24) * math.pi / 12)])  # [2, 24]


def draw_band(canvas: Canvas, box: Box, imagined: Imagined | None, now: Any, project: Project) -> None:
    """Shade where the particles expect the best plan to lead: `BAND` standard deviations to either side.

    It tints what lies below: draw it right after the ground.

    Args:
        canvas: Where to draw.
        box: The part of the picture that the band stays in.
        imagined: Plans and particles.
        now: Where all paths start, `[2]` in the picture.
        project: Maps observations into the picture.
    """
    if imagined is None or imagined.particles is None or len(imagined.particles) < 2:
        return
    points = project(np.asarray(imagined.particles, np.float64))
    if not np.isfinite(points).all():
        points = points[:, : np.isfinite(points).all((0, 2)).argmin()]  # up to the first step that is not
    if points.shape[1]:
        with canvas.tint(box):
            for hull in _hulls(points, np.asarray(now)):
                canvas.polygon(hull, COLOR)


def _hulls(points: Points, now: Points) -> Points:
    """Return for each step the convex hull `[H, 24, 2]` of the ellipse before it and the one after it.

    In each direction the hull touches the ellipse that reaches farther.
    """
    centers = np.concatenate([[now], points.mean(0)])
    offsets = points - centers[1:]
    covariance = np.zeros((len(centers), 2, 2))
    covariance[1:] = np.einsum("phi,phj->hij", offsets, offsets) / len(points)
    stretched = covariance @ DIRECTIONS  # [H + 1, 2, 24]
    deviation = np.sqrt(np.maximum((stretched * DIRECTIONS).sum(1), 0.0)) + 1e-9
    touch = centers[:, :, None] + BAND * stretched / deviation[:, None]
    reach = centers @ DIRECTIONS + BAND * deviation
    earlier = (reach[:-1] > reach[1:])[:, None]
    return np.where(earlier, touch[:-1], touch[1:]).swapaxes(1, 2)


def draw_plans(canvas: Canvas, box: Box, imagined: Imagined | None, now: Any, project: Project) -> None:
    """Draw the paths of all plans, what each particle expects of the best one, and the best one strongly.

    The arguments are those of `draw_band`.
    """
    if imagined is None:
        return
    plans = project(np.asarray(imagined.plans, np.float64))
    particles = plans[:0] if imagined.particles is None else project(np.asarray(imagined.particles, np.float64))
    thin, thick = max(1.1 * canvas.unit, 0.7), max(3.0 * canvas.unit, 1.2)
    with canvas.clip(box):
        for path in plans[:0:-1]:
            canvas.lines(np.concatenate([[now], path]), mix(BODY, 0.35), thin)
        for path in particles:
            canvas.lines(np.concatenate([[now], path]), mix(ACCENT, 0.5), thin)
        canvas.lines(np.concatenate([[now], plans[0]]), ACCENT, thick)
