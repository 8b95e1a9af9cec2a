"""Scene of the arm: two links in the plane, the ring they can reach, and the target."""

from __future__ import annotations

from typing import Any

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.hud import PLAN, Entry, draw_frame
from mbrl_gym.envs.rendering.layout import Axes, ticks
from mbrl_gym.envs.rendering.palette import ACCENT, BACKGROUND, BODY, GRID, PANEL, SHADE, TARGET, mix

__all__ = ["draw"]

LEGEND = (
    Entry("tip and its path", "disc", ACCENT),
    Entry("target", "ring", TARGET),
    Entry("distance", "dashes", mix(TARGET, 0.7)),
    Entry("within reach", "bar", mix(ACCENT, 0.16)),
)
PAST_STEPS = 60

Point = tuple[float, float]  # in the picture [px]


def draw(canvas: Canvas, episode: Episode) -> None:
    """Draw the arm, the tip's path, the target and the imagined paths of the tip."""
    box = draw_frame(canvas, episode, LEGEND if episode.imagined is None else (*LEGEND, PLAN))
    task: Any = episode.task
    params = task.params
    reach = params.link_1 + params.link_2
    margin = 1.06 * reach
    axes = Axes(box, (-margin, margin), (-margin, margin), equal=True)
    _draw_ground(canvas, axes, reach, abs(params.link_1 - params.link_2))
    states = np.stack(episode.states[-PAST_STEPS - 1 :]).astype(np.float64)
    elbow_x, elbow_y, tip_x, tip_y = task.joints(states)
    canvas.trail(axes.points(tip_x, tip_y), ACCENT, max(2.5 * canvas.unit, 1.2), SHADE)
    tip, target = axes.point(tip_x[-1], tip_y[-1]), axes.point(states[-1, 2], states[-1, 3])
    canvas.dashes(tip, target, mix(TARGET, 0.7), max(2 * canvas.unit, 1.0), max(6 * canvas.unit, 2.0))
    _draw_target(canvas, axes, target)
    _draw_links(canvas, axes, axes.point(0.0, 0.0), axes.point(elbow_x[-1], elbow_y[-1]), tip)
    if episode.imagined is not None:
        _draw_imagined(canvas, axes, tip, np.asarray(episode.imagined))


def _draw_ground(canvas: Canvas, axes: Axes, longest: float, shortest: float) -> None:
    """Draw the ring between both radii [m] and a grid over the whole picture."""
    box, center = axes.box, axes.point(0.0, 0.0)
    canvas.disc(center, longest * axes.x_scale, SHADE)
    canvas.disc(center, shortest * axes.x_scale, BACKGROUND)
    half = max(box.width, box.height) / (2 * axes.x_scale)
    width = max(canvas.unit, 0.5)
    with canvas.clip(box):
        for value in ticks(-half, half, 8):
            x, y = axes.point(value, value)
            canvas.segments([(x, box.top), (x, box.bottom), (box.left, y), (box.right, y)], GRID, width)
    canvas.ring(center, longest * axes.x_scale, mix(ACCENT, 0.3), max(1.5 * canvas.unit, 1.0))
    canvas.ring(center, shortest * axes.x_scale, mix(ACCENT, 0.3), max(1.5 * canvas.unit, 1.0))


def _draw_links(canvas: Canvas, axes: Axes, base: Point, elbow: Point, tip: Point) -> None:
    size = min(axes.box.width, axes.box.height)
    width = max(0.045 * size, 3.5)
    canvas.disc(base, 0.85 * width, mix(BODY, 0.35))
    canvas.bar(base, elbow, BODY, width)
    canvas.bar(elbow, tip, mix(BODY, 0.75), 0.78 * width)
    canvas.disc(elbow, 0.5 * width, BODY)
    for joint in (base, elbow):
        canvas.disc(joint, 0.24 * width, PANEL)
    canvas.disc(tip, 0.52 * width, PANEL)
    canvas.disc(tip, 0.4 * width, ACCENT)


def _draw_target(canvas: Canvas, axes: Axes, target: Point) -> None:
    radius = max(0.034 * min(axes.box.width, axes.box.height), 3.0)
    canvas.disc(target, 1.25 * radius, mix(TARGET, 0.18))
    canvas.ring(target, radius, TARGET, 0.3 * radius)
    canvas.disc(target, 0.36 * radius, TARGET)


def _draw_imagined(canvas: Canvas, axes: Axes, tip: Point, plans: np.ndarray[Any, Any]) -> None:
    """Draw the tip's paths of imagined observations `[K, H, 8]`, the best plan strongly."""
    paths = axes.points(plans[..., 6] + plans[..., 4], plans[..., 7] + plans[..., 5])
    for k in range(len(paths) - 1, -1, -1):
        path = np.concatenate([[tip], paths[k]])
        canvas.lines(path, mix(ACCENT, 1.0 if k == 0 else 0.35), max((3 if k == 0 else 1.2) * canvas.unit, 1.0))
