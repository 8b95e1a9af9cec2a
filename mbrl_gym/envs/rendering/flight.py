"""The picture that all drones share: room, target, obstacles, the drone with its past, and the imagined flights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.hud import Entry, draw_frame
from mbrl_gym.envs.rendering.layout import Inverse
from mbrl_gym.envs.rendering.overlay import draw_band, draw_plans
from mbrl_gym.envs.rendering.palette import ACCENT, BODY, DANGER, MUTED, OBSTACLE, TARGET, mix
from mbrl_gym.envs.rendering.space import (
    Camera,
    draw_ball,
    draw_paths,
    draw_room,
    draw_rotors,
    draw_shadow,
    view_of,
)

__all__ = ["CROSS", "NONE", "PAST_STEPS", "Flight", "draw_flight", "lean"]

Points = np.ndarray[Any, Any]  # [..., 3] in metres

DRONE = Entry("drone and its path", "disc", ACCENT)
AIM = Entry("target", "disc", TARGET)
SPEED = Entry("velocity", "arrow", BODY)
SPHERE = Entry("obstacle", "disc", OBSTACLE)
RAY = Entry("range readings", "line", mix(OBSTACLE, 0.5))
WIND = Entry("wind", "arrow", MUTED)
PAST_STEPS = 150
NONE = np.empty((0, 3))
CROSS = math.sqrt(0.5) * np.array([(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)])  # front left, and so on round


class Flight(NamedTuple):
    """What there is to see, in metres and seconds."""

    past: Points  # [T, 3] positions, up to now
    velocity: Points  # [3]
    target: Points  # [3]
    seen: slice  # of an observation, the position
    axes: Points  # [3, 3] the drone's directions front, side (left) and up
    thrust: Sequence[float]  # of the four rotors, shares of the largest
    centers: Points = NONE  # [N, 3] of the obstacles
    radii: Points = NONE[:, 0]  # [N]
    rays: Points = NONE  # [M, 3] where the rays of the range readings end
    wind: Points | None = None  # [3] velocity of the air
    collided: bool = False


def draw_flight(canvas: Canvas, episode: Episode, flight: Flight, reach: float, span: float) -> Inverse:
    """Draw the picture.

    Args:
        canvas: Where to draw.
        episode: The running episode.
        flight: What there is to see.
        reach: Half an edge of the cube of air [m]; more, where something is outside.
        span: From the drone's centre to a rotor [m], enlarged where it would be too small to see.
    """
    box = draw_frame(canvas, episode, _legend(flight))
    now = flight.past[-1]
    reach = max(reach, float(np.abs(flight.past).max()), float(np.abs(flight.target).max()))
    camera, room = view_of(box, reach, 10 if canvas.text_size else 6)
    draw_room(canvas, camera, room, box, flight.centers, flight.radii)
    here = camera(now)
    draw_band(canvas, box, episode.imagined, here, lambda o: camera(o[..., flight.seen]))
    for point, color in ((flight.target, TARGET), (now, BODY)):
        draw_shadow(canvas, camera, point, reach, color)
    draw_paths(canvas, camera, flight.past, reach)
    if _draw_bodies(canvas, camera, flight, reach, span):
        canvas.ring(here, max(0.1 * reach * camera.scale(now), 4.0), ACCENT, max(2.0 * canvas.unit, 1.0))
    if flight.wind is not None and canvas.text_size:
        _draw_wind(canvas, camera, flight.wind, reach)
    draw_plans(canvas, box, episode.imagined, here, lambda o: camera(o[..., flight.seen]))
    return camera.inverse(flight.target)


def _legend(flight: Flight) -> list[Entry]:
    legend = [DRONE, AIM, SPEED]
    if len(flight.centers):
        legend.append(SPHERE)
    if len(flight.rays):
        legend.append(RAY)
    return legend if flight.wind is None else [*legend, WIND]


def _draw_bodies(canvas: Canvas, camera: Camera, flight: Flight, reach: float, span: float) -> bool:
    """Draw all bodies, the nearer ones over the others; return whether an obstacle hides the drone's centre."""
    places = np.concatenate([[flight.past[-1], flight.target], flight.centers])
    scales, points = camera.scales(places), camera(places).tolist()
    radii = (scales * np.concatenate([[0.0, 0.055 * reach], flight.radii])).tolist()
    hidden, drawn = False, False
    for i in np.argsort(scales, kind="stable").tolist():
        if i == 0:
            _draw_drone(canvas, camera, flight, reach, span)
            drawn = True
            continue
        draw_ball(canvas, points[i], radii[i], TARGET if i == 1 else OBSTACLE)
        hidden |= drawn and i > 1 and math.dist(points[i], points[0]) < radii[i]
    return hidden


def _draw_drone(canvas: Canvas, camera: Camera, flight: Flight, reach: float, span: float) -> None:
    """Draw the rays, an arrow to where the drone would be in two seconds (at most), and the drone."""
    now = flight.past[-1]
    for end in flight.rays:
        canvas.lines(camera(np.stack([now, end])), RAY.color, max(canvas.unit, 0.6))
    speed = math.sqrt(flight.velocity @ flight.velocity)
    if speed > 0 and canvas.text_size:
        ahead = now + flight.velocity * min(2.0, 0.6 * reach / speed)
        canvas.arrow(camera(now), camera(ahead), BODY, max(2.5 * canvas.unit, 1.2))
    span = max(span, 0.15 * reach, 5.0 / camera.scale(now))
    draw_rotors(canvas, camera, now, flight.axes, span, CROSS, flight.thrust)
    if flight.collided:
        canvas.ring(camera(now), 1.8 * span * camera.scale(now), DANGER, max(3.0 * canvas.unit, 1.5))


def _draw_wind(canvas: Canvas, camera: Camera, wind: Points, reach: float) -> None:
    """Draw the wind's arrow at the far corner above, where it would be in a second."""
    start = reach * np.array([-0.7, 0.7, 0.7])
    speed = math.sqrt(wind @ wind)
    if speed > 0:
        end = start + wind * min(1.0, 0.8 * reach / speed)
        canvas.arrow(camera(start), camera(end), MUTED, max(3.0 * canvas.unit, 1.5))


def lean(push: Points) -> Points:
    """Return the directions front, side and up `[3, 3]` of a drone that leans into a horizontal push x, y.

    A point mass has no attitude: its picture gets one.
    """
    up = np.array([0.25 * push[0], 0.25 * push[1], 1.0])
    up /= math.sqrt(up @ up)
    front = np.array([up[2], 0.0, -up[0]]) / math.hypot(up[0], up[2])
    side = np.array([up[1] * front[2], up[2] * front[0] - up[0] * front[2], -up[1] * front[0]])  # up x front
    return np.stack([front, side, up])
