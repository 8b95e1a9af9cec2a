"""Scene of the arms: two links in the plane, the ring they can reach, the target, motors, gripper and object."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.hud import Entry, draw_frame
from mbrl_gym.envs.rendering.layout import Axes, Inverse, ticks
from mbrl_gym.envs.rendering.overlay import draw_band, draw_plans
from mbrl_gym.envs.rendering.palette import ACCENT, BACKGROUND, BODY, GRID, OBJECT, PANEL, SHADE, TARGET, mix

__all__ = ["draw"]

TIP = Entry("tip and its path", "disc", ACCENT)
AIM = Entry("target", "ring", TARGET)
DISTANCE = Entry("distance", "dashes", mix(TARGET, 0.7))
TORQUE = Entry("torque", "arrow", mix(ACCENT, 0.75))
PIECE = Entry("object", "bar", OBJECT)
GOAL = Entry("goal of the object", "ring", TARGET)
REACH = Entry("within reach", "bar", mix(ACCENT, 0.16))
PAST_STEPS = 60

Point = tuple[float, float]  # in the picture [px]


def draw(canvas: Canvas, episode: Episode) -> Inverse:
    """Draw the arm, the tip's path, the target, the object if there is one, and the imagined paths of the tip."""
    task: Any = episode.task
    box = draw_frame(canvas, episode, _legend(task))
    constants = episode.constants
    reach = constants.link_1 + constants.link_2
    margin = 1.06 * reach
    axes = Axes(box, (-margin, margin), (-margin, margin), equal=True)
    states = episode.past(PAST_STEPS)
    elbow_x, elbow_y, tip_x, tip_y = task.joints(states)
    base, elbow = axes.point(0.0, 0.0), axes.point(elbow_x[-1], elbow_y[-1])
    tip, target = axes.point(tip_x[-1], tip_y[-1]), axes.point(*_pair(task.target(states[-1])))
    _draw_ground(canvas, axes, reach, abs(constants.link_1 - constants.link_2))
    draw_band(canvas, box, episode.imagined, tip, lambda o: axes.points(*_tip_of(task, o)))
    canvas.trail(axes.points(tip_x, tip_y), ACCENT, max(2.5 * canvas.unit, 1.2), SHADE)
    moved = axes.point(*_pair(task.object_position(states[-1]))) if _has_object(task) else tip
    canvas.dashes(moved, target, DISTANCE.color, max(2 * canvas.unit, 1.0), max(6 * canvas.unit, 2.0))
    tolerance = getattr(constants, "tolerance", None)
    if tolerance is None:
        _draw_target(canvas, axes, target)
    _draw_links(canvas, axes, base, elbow, tip)
    if canvas.text_size and hasattr(constants, "max_torque_1") and episode.actions:
        _draw_torques(canvas, axes, (base, elbow), np.clip(episode.actions[-1], -1.0, 1.0))
    if _has_object(task):
        _draw_object(canvas, axes, moved)
    if tolerance is not None:
        _draw_disc(canvas, axes, target, tolerance * axes.x_scale)
    if _has_object(task):
        gap = 0.65 if task.holding(states[-1]) else 0.2 if _is_closed(task, states[-1]) else 1.25
        _draw_gripper(canvas, axes, elbow, tip, gap)
    draw_plans(canvas, box, episode.imagined, tip, lambda o: axes.points(*_tip_of(task, o)))
    return axes.world


def _legend(task: Any) -> list[Entry]:
    if _has_object(task):
        return [TIP, PIECE, GOAL, DISTANCE, REACH]
    return [TIP, AIM, DISTANCE, *([TORQUE] if hasattr(task.params, "max_torque_1") else []), REACH]


def _has_object(task: Any) -> bool:
    return hasattr(task, "object_position")


def _pair(point: Any) -> Point:
    """Return x and y of a point, given as `[2]` or as a pair of columns."""
    return float(point[0]), float(point[1])


def _tip_of(task: Any, observation: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Return x and y of the tip, which observations give relative to the object or to the target."""
    if _has_object(task):
        return observation[..., 8] - observation[..., 10], observation[..., 9] - observation[..., 11]
    return observation[..., -4] + observation[..., -2], observation[..., -3] + observation[..., -1]


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


def _thickness(axes: Axes) -> float:
    return max(0.045 * min(axes.box.width, axes.box.height), 3.5)


def _draw_links(canvas: Canvas, axes: Axes, base: Point, elbow: Point, tip: Point) -> None:
    width = _thickness(axes)
    canvas.disc(base, 0.85 * width, mix(BODY, 0.35))
    canvas.bar(base, elbow, BODY, width)
    canvas.bar(elbow, tip, mix(BODY, 0.75), 0.78 * width)
    canvas.disc(elbow, 0.5 * width, BODY)
    for joint in (base, elbow):
        canvas.disc(joint, 0.24 * width, PANEL)
    canvas.disc(tip, 0.52 * width, PANEL)
    canvas.disc(tip, 0.4 * width, ACCENT)


def _draw_torques(canvas: Canvas, axes: Axes, joints: tuple[Point, Point], shares: Any) -> None:
    """Draw an arc around each joint, as long as its share of the largest torque, in the direction of the torque."""
    radius, width = 1.35 * _thickness(axes), max(3.0 * canvas.unit, 1.5)
    for (x, y), share in zip(joints, shares.tolist(), strict=True):
        if abs(share) < 0.02:
            continue
        angles = 0.5 * math.pi + np.linspace(-1.0, 1.0, 16) * 0.8 * math.pi * share
        arc = np.stack([x + radius * np.cos(angles), y - radius * np.sin(angles)], -1)
        canvas.lines(arc, TORQUE.color, width)
        ahead = arc[-1] + 2.2 * width * _unit(arc[-1] - arc[-2])
        canvas.arrow(arc[-1], ahead, TORQUE.color, 0.9 * width)


def _unit(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return vector / max(math.hypot(*vector), 1e-12)


def _draw_target(canvas: Canvas, axes: Axes, target: Point) -> None:
    radius = _mark(axes)
    canvas.disc(target, 1.25 * radius, mix(TARGET, 0.18))
    canvas.ring(target, radius, TARGET, 0.3 * radius)
    canvas.disc(target, 0.36 * radius, TARGET)


def _draw_disc(canvas: Canvas, axes: Axes, target: Point, tolerance: float) -> None:
    """Draw the disc [px] that decides about the reward, at true scale, and a ring around it that is easily seen."""
    width = max(2.0 * canvas.unit, 1.0)
    canvas.ring(target, max(1.3 * _mark(axes), tolerance + 3 * width), mix(TARGET, 0.6), width)
    canvas.disc(target, max(tolerance, 1.2), TARGET)


def _mark(axes: Axes) -> float:
    return max(0.034 * min(axes.box.width, axes.box.height), 3.0)


def _draw_object(canvas: Canvas, axes: Axes, place: Point) -> None:
    half = 0.62 * _thickness(axes)
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    canvas.polygon(np.asarray(place) + 1.25 * corners, PANEL)
    canvas.polygon(np.asarray(place) + corners, OBJECT)


def _is_closed(task: Any, state: np.ndarray[Any, Any]) -> bool:
    return bool(state[task.state_columns.index("gripper closed")] > 0.5)


def _draw_gripper(canvas: Canvas, axes: Axes, elbow: Point, tip: Point, gap: float) -> None:
    """Draw two fingers along the second link, each `gap` thicknesses of the link away from its middle."""
    size, at = _thickness(axes), np.asarray(tip)
    along = _unit(at - np.asarray(elbow))
    across = np.array([-along[1], along[0]])
    width = max(0.28 * size, 1.0)
    for side in (-1.0, 1.0):
        wrist = at - 0.5 * size * along
        knuckle = at + side * max(gap, 0.55) * size * across - 0.2 * size * along
        finger = at + side * gap * size * across + 0.95 * size * along
        canvas.bar(wrist, knuckle, BODY, width)
        canvas.bar(knuckle, finger, BODY, width)
    canvas.disc(tip, 0.3 * size, ACCENT)
