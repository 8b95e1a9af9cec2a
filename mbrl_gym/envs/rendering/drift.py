"""Scene of the drift task: a walker on a line, with its past below and what it expects above."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.hud import Entry, draw_frame
from mbrl_gym.envs.rendering.layout import Axes, Box, ticks
from mbrl_gym.envs.rendering.overlay import draw_band, draw_plans
from mbrl_gym.envs.rendering.palette import ACCENT, AXIS, BODY, GRID, PANEL, TARGET, mix

__all__ = ["draw"]

LEGEND = (
    Entry("walker and its past", "disc", ACCENT),
    Entry("origin", "line", TARGET),
    Entry("action", "arrow", ACCENT),
    Entry("drift", "arrow", BODY),
)
PAST_STEPS = 50


def draw(canvas: Canvas, episode: Episode) -> None:
    """Draw the line, the walker, the last PAST_STEPS steps below it and the imagined ones above."""
    box = draw_frame(canvas, episode, LEGEND)
    past = episode.past(PAST_STEPS)[:, 0]
    axes = _axes(canvas, box, episode, past)
    now = axes.point(past[-1], 0.0)
    _draw_ground(canvas, axes)
    draw_band(canvas, axes.box, episode.imagined, now, lambda o: _ahead(axes, o))
    draw_plans(canvas, axes.box, episode.imagined, now, lambda o: _ahead(axes, o))
    with canvas.clip(axes.box):
        steps_ago = np.arange(len(past))[::-1]
        canvas.trail(axes.points(past, -steps_ago), ACCENT, max(2.5 * canvas.unit, 1.5), PANEL)
    _draw_walker(canvas, axes, past[-1])
    if canvas.text_size:
        _draw_arrows(canvas, axes, episode, past[-1])


def _axes(canvas: Canvas, box: Box, episode: Episode, past: np.ndarray[Any, Any]) -> Axes:
    """Return x against steps from now; the range widens for a walker that is far out."""
    task = episode.task
    reach = 1.12 * max(task.highest("start_range"), 2.0 * task.highest("max_step"), float(np.abs(past).max()))
    line = canvas.text_size
    chart = box._replace(left=box.left + 2.0 * line, bottom=box.bottom - 1.6 * line)
    share = 0.62  # of the height lies below the line
    return Axes(chart, (-reach, reach), (-PAST_STEPS, PAST_STEPS * (1.0 - share) / share))


def _draw_ground(canvas: Canvas, axes: Axes) -> None:
    """Draw the panel, the ticks and the origin."""
    box, unit = axes.box, canvas.unit
    canvas.panel(box, PANEL, 8 * unit)
    low, high = ((edge - axes.x(0.0)) / axes.x_scale for edge in (box.left, box.right))
    most = int(box.width / (4.5 * canvas.text_size)) if canvas.text_size else 4
    line = axes.y(0.0)
    for value in ticks(low, high, most):
        x = axes.x(value)
        canvas.lines([(x, box.top), (x, box.bottom)], GRID, max(unit, 0.75))
        canvas.text(
            f"{value:g}".replace("-", "\N{MINUS SIGN}"),
            (x, box.bottom + 0.9 * canvas.text_size),
            size=0.85,
            anchor=(0.5, 0.5),
        )
    for steps, label in ((0, "now"), (-20, "\N{MINUS SIGN}20"), (-40, "\N{MINUS SIGN}40")):
        y = axes.y(steps)
        canvas.lines([(box.left, y), (box.right, y)], GRID, max(unit, 0.75))
        canvas.text(label, (box.left - 0.5 * canvas.text_size, y), size=0.85, anchor=(1.0, 0.5))
    origin = axes.x(0.0)
    canvas.bar((origin, box.top), (origin, box.bottom), mix(TARGET, 0.75, PANEL), max(2 * unit, 1.5))
    canvas.bar((box.left, line), (box.right, line), AXIS, max(3 * unit, 1.5))


def _ahead(axes: Axes, observation: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the picture's points of H steps `[..., H, 1]`, upwards from the line."""
    horizon = observation.shape[-2]
    room = (axes.y(0.0) - axes.box.top) / axes.y_scale
    steps = np.arange(1, horizon + 1) * min(1.0, 0.95 * room / horizon)
    return axes.points(observation[..., 0], np.broadcast_to(steps, observation.shape[:-1]))


def _draw_walker(canvas: Canvas, axes: Axes, x: float) -> None:
    radius = max(11 * canvas.unit, 4.0)
    center = (axes.x(x), axes.y(0.0))
    canvas.disc(center, radius, PANEL)
    canvas.disc(center, 0.82 * radius, ACCENT)
    canvas.disc(center, 0.3 * radius, PANEL)


def _draw_arrows(canvas: Canvas, axes: Axes, episode: Episode, x: float) -> None:
    """Draw the last action and the drift above the walker, both in units of the largest step."""
    constants, unit = episode.constants, canvas.unit
    longest = 0.2 * axes.box.width
    shares = [(float(constants.drift / constants.max_step), BODY, 44)]
    if episode.actions:
        shares.append((float(np.clip(episode.actions[-1][0], -1, 1)), ACCENT, 26))
    for share, color, height in shares:
        if share:
            length = math.copysign(max(longest * min(abs(share), 1.5), 18 * unit), share)
            start = (axes.x(x), axes.y(0.0) - height * unit)
            end = min(max(start[0] + length, axes.box.left + 6 * unit), axes.box.right - 6 * unit)
            canvas.arrow(start, (end, start[1]), color, max(3 * unit, 1.5))
