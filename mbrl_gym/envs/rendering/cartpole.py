"""Scene of cart and pole: the track with its limits, and the angles within which the pole may lean."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.hud import Entry, draw_frame
from mbrl_gym.envs.rendering.layout import Axes, Box, ticks
from mbrl_gym.envs.rendering.overlay import draw_band, draw_plans
from mbrl_gym.envs.rendering.palette import ACCENT, AXIS, BODY, DANGER, GRID, PANEL, SHADE, TARGET, mix

__all__ = ["draw"]

LEGEND = (
    Entry("pole and its tip's path", "line", ACCENT),
    Entry("upright", "dashes", TARGET),
    Entry("force", "arrow", BODY),
    Entry("limits", "line", DANGER),
)
PAST_STEPS = 60


class View(NamedTuple):
    """Where things are: the cart moves at one scale, cart and pole are drawn at a larger one."""

    axes: Axes  # x [m]; the pivot moves along y = 0
    scale: float  # of cart and pole [px/m]

    def tip(self, x: Any, theta: Any, length: float) -> np.ndarray[Any, Any]:
        """Return the picture's points `[..., 2]` at a distance `length` [m] from the pivot."""
        along = self.scale * length
        return np.stack([self.axes.x(x) + along * np.sin(theta), self.axes.y(0.0) - along * np.cos(theta)], -1)


def draw(canvas: Canvas, episode: Episode) -> None:
    """Draw track, cart, pole, the last force, and the imagined paths of the pole's tip."""
    box = draw_frame(canvas, episode, LEGEND)
    task, constants = episode.task, episode.constants
    longest = 2.0 * task.highest("half_length")
    scale = min(0.68 * box.height / longest, 0.42 * box.width / longest)
    middle = (box.top + box.bottom) / 2 + 0.46 * scale * longest  # height of the pivot
    shift = middle - (box.top + box.bottom) / 2
    half = 1.12 * constants.x_limit
    axes = Axes(Box(box.left, box.top + shift, box.right, box.bottom + shift), (-half, half), (-1.0, 1.0))
    view, length = View(axes, scale), 2.0 * float(constants.half_length)
    states = episode.past(PAST_STEPS)
    tips = view.tip(states[:, 0], states[:, 2], length)
    x, theta = states[-1, 0], states[-1, 2]
    _draw_track(canvas, box, view, longest, constants.x_limit)
    _draw_sector(canvas, view, x, length, constants.theta_limit)
    draw_band(canvas, box, episode.imagined, tips[-1], lambda o: view.tip(o[..., 0], o[..., 2], length))
    canvas.trail(tips, ACCENT, max(2.0 * canvas.unit, 1.0))
    _draw_cart(canvas, view, x, longest)
    pivot, width = view.tip(x, theta, 0.0), max(0.06 * scale * longest, 2.0)
    canvas.bar(pivot, tips[-1], ACCENT, width)
    canvas.disc(pivot, 0.75 * width, BODY)
    canvas.disc(pivot, 0.3 * width, PANEL)
    if episode.actions and canvas.text_size:
        _draw_force(canvas, view, x, longest, float(np.clip(episode.actions[-1][0], -1.0, 1.0)))
    draw_plans(canvas, box, episode.imagined, tips[-1], lambda o: view.tip(o[..., 0], o[..., 2], length))


def _ground(view: View, longest: float) -> float:
    """Return the picture's y of the track."""
    return float(view.axes.y(0.0) + 0.16 * view.scale * longest)


def _draw_track(canvas: Canvas, box: Box, view: View, longest: float, limit: float) -> None:
    """Draw the ground with its ticks, and a post at either end of the track."""
    axes, unit = view.axes, canvas.unit
    y = _ground(view, longest)
    width = max(unit, 0.75)
    for value in ticks(-1.1 * limit, 1.1 * limit, 10):
        at = axes.x(value)
        canvas.lines([(at, box.top), (at, y)], GRID, width)
        canvas.text(
            f"{value:g}".replace("-", "\N{MINUS SIGN}"), (at, y + 1.1 * canvas.text_size), size=0.85, anchor=(0.5, 0.5)
        )
    canvas.bar((box.left, y), (box.right, y), AXIS, max(3 * unit, 1.5))
    high = 0.3 * view.scale * longest
    for end in (-limit, limit):
        at = axes.x(end)
        canvas.bar((at, y), (at, y - high), DANGER, max(4 * unit, 1.5))


def _draw_sector(canvas: Canvas, view: View, x: float, length: float, limit: float) -> None:
    """Draw the angles within which the pole may lean, and the upright one."""
    pivot, longer = view.tip(x, 0.0, 0.0), 1.06 * length
    rim = view.tip(x, np.linspace(-limit, limit, 12), longer)
    canvas.polygon(np.concatenate([[pivot], rim]), SHADE)
    for end in (rim[0], rim[-1]):
        canvas.lines(np.stack([pivot, end]), mix(DANGER, 0.5), max(1.2 * canvas.unit, 0.75))
    upright = view.tip(x, 0.0, 1.12 * length)
    canvas.dashes(pivot, upright, TARGET, max(2 * canvas.unit, 1.2), max(5 * canvas.unit, 2.0))


def _draw_cart(canvas: Canvas, view: View, x: float, longest: float) -> None:
    pivot_x, pivot_y = float(view.axes.x(x)), float(view.axes.y(0.0))
    half, down = 0.17 * view.scale * longest, _ground(view, longest) - pivot_y
    box = Box(pivot_x - half, pivot_y - 0.25 * down, pivot_x + half, pivot_y + 0.7 * down)
    canvas.panel(box, BODY, 0.2 * down)
    for side in (-0.55, 0.55):
        wheel = (pivot_x + side * half, pivot_y + 0.72 * down)
        canvas.disc(wheel, 0.3 * down, mix(BODY, 0.8))
        canvas.disc(wheel, 0.12 * down, PANEL)


def _draw_force(canvas: Canvas, view: View, x: float, longest: float, share: float) -> None:
    """Draw the last force as an arrow that pushes the cart."""
    if share:
        half, side = 0.19 * view.scale * longest, math.copysign(1.0, share)
        start = float(view.axes.x(x)) + side * half
        y = float(view.axes.y(0.0)) + 0.04 * view.scale * longest
        canvas.arrow((start, y), (start + 0.45 * view.scale * longest * share, y), BODY, max(4 * canvas.unit, 2.0))
