"""A cube of air in perspective, with shadows on the ground that tell positions apart: what drones share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.layout import Box, Inverse, ticks
from mbrl_gym.envs.rendering.palette import ACCENT, BODY, GRID, OBSTACLE, PANEL, SHADE, Color, mix

__all__ = ["Camera", "Room", "draw_ball", "draw_paths", "draw_room", "draw_rotors", "draw_shadow", "view_of"]

Points = np.ndarray[Any, Any]  # [..., 3] in metres

CIRCLE = np.linspace(0.0, 2.0 * math.pi, 20, endpoint=False)
DISC = np.stack([np.cos(CIRCLE), np.sin(CIRCLE), 0.0 * CIRCLE], -1)  # the unit circle's points [20, 3]


class Camera:
    """Perspective view of the cube [-reach, reach]^3, as large as the box allows."""

    AZIMUTH, ELEVATION, DISTANCE = math.radians(-60.0), math.radians(24.0), 5.0  # distance in units of reach

    def __init__(self, box: Box, reach: float) -> None:
        a, e = self.AZIMUTH, self.ELEVATION
        backward = np.array([math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)])
        right = np.array([-math.sin(a), math.cos(a), 0.0])
        self._axes = np.stack([right, np.cross(right, backward), -backward], -1)  # columns: right, down, depth
        self._distance, self._near = self.DISTANCE * reach, 0.5 * reach
        self._focal, self._shift = 1.0, np.zeros(2)
        corners = reach * np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        view = self(corners)
        low, high = view.min(0), view.max(0)
        self._focal = min(box.width / (high[0] - low[0]), box.height / (high[1] - low[1]))
        self._shift = np.array([box.left + box.right, box.top + box.bottom]) / 2 - self._focal * (low + high) / 2

    def __call__(self, points: Points) -> np.ndarray[Any, Any]:
        """Return the picture's points `[..., 2]`; NaN for points behind the camera."""
        view = points.reshape(-1, 3) @ self._axes
        depth = view[:, 2:] + self._distance
        if not (depth > self._near).all():
            depth[~(depth > self._near)] = np.nan
        picture: np.ndarray[Any, Any] = view[:, :2] * (self._focal / depth) + self._shift
        return picture.reshape(*points.shape[:-1], 2)

    def scale(self, point: Points) -> float:
        """Return pixels a metre at a point."""
        return float(self._focal / max(self._distance + point @ self._axes[:, 2], self._near))

    def scales(self, points: Points) -> np.ndarray[Any, Any]:
        """Return pixels a metre at points `[N, 3]`."""
        scales: np.ndarray[Any, Any] = self._focal / np.maximum(self._distance + points @ self._axes[:, 2], self._near)
        return scales

    def inverse(self, at: Points) -> Inverse:
        """Return the map from the picture to the plane through the point `at` that is parallel to the picture."""
        depth = float(at @ self._axes[:, 2])

        def world(x: float, y: float) -> Points:
            across = (np.array([x, y]) - self._shift) * ((depth + self._distance) / self._focal)
            point: Points = self._axes @ np.append(across, depth)
            return point

        return world


class Room(NamedTuple):
    """The ground and the two walls behind, in the picture."""

    sides: list[np.ndarray[Any, Any]]  # three times [4, 2]
    grid: np.ndarray[Any, Any]  # [M, 2, 2]
    edges: np.ndarray[Any, Any]  # [12, 2, 2]
    step: float  # between the lines of the grid [m]
    reach: float  # half an edge of the cube [m]


@lru_cache(maxsize=8)
def view_of(box: Box, reach: float, most: int) -> tuple[Camera, Room]:
    """Return the camera and the room, the same from step to step, with at most `most` lines across a side."""
    camera = Camera(box, reach)
    lines = ticks(-reach, reach, most)
    at, ends = lines[:, None, None], np.array([-reach, reach])[None, :, None]
    corners, grids = [], []
    x, y, z = np.eye(3)
    for across, along, outwards in ((x, z, y), (y, z, -x), (x, y, -z)):
        origin = reach * outwards
        turns = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        corners.append([origin + reach * (i * across + j * along) for i, j in turns])
        grids += [origin + at * across + ends * along, origin + at * along + ends * across]
    sides = camera(np.array(corners))
    edges = np.stack([sides, np.roll(sides, 1, axis=1)], 2).reshape(-1, 2, 2)
    return camera, Room(list(sides), camera(np.concatenate(grids)), edges, lines[1] - lines[0], reach)


def draw_room(
    canvas: Canvas, camera: Camera, room: Room, box: Box, centers: Points, radii: np.ndarray[Any, Any]
) -> None:
    """Draw the ground and the walls with their grid, and the shadows of balls `[N, 3]`, `[N]` that do not move."""
    width = max(canvas.unit, 0.5)

    def paint() -> None:
        for side, share in zip(room.sides, (0.45, 0.75, 1.0), strict=True):
            canvas.polygon(side, mix(SHADE, share))
        canvas.segments(room.grid, GRID, width)
        canvas.segments(room.edges, mix(BODY, 0.25), width)
        for center, radius in zip(centers, radii, strict=True):
            foot = np.array([center[0], center[1], -room.reach])
            canvas.polygon(camera(foot + radius * DISC), mix(OBSTACLE, 0.2, SHADE))

    canvas.backdrop(box, (room.reach, centers.tobytes(), radii.tobytes()), paint)
    place = (box.right, box.bottom - 0.5 * canvas.text_size)
    canvas.text(f"grid {room.step:g} m", place, size=0.8, anchor=(1.0, 0.5))


def draw_shadow(canvas: Canvas, camera: Camera, point: Points, reach: float, color: Color) -> None:
    """Draw the shadow on the ground and the vertical from it to the point."""
    foot = np.array([point[0], point[1], -reach])
    radius = max(0.06 * reach, 2.0 / camera.scale(foot))
    view = camera(np.concatenate([foot + radius * DISC, [foot, point]]))
    canvas.polygon(view[:-2], mix(color, 0.4, SHADE))
    start, end = view[-2:].tolist()
    canvas.dashes(start, end, mix(color, 0.5, SHADE), max(1.2 * canvas.unit, 0.75), max(4 * canvas.unit, 2.0))


def draw_paths(canvas: Canvas, camera: Camera, past: Points, reach: float) -> None:
    """Draw where the drone was, `[T, 3]`, and, where there is room, the shadow of it."""
    if canvas.text_size:
        ground = past * [1.0, 1.0, 0.0] - [0.0, 0.0, reach]
        canvas.trail(camera(ground), mix(BODY, 0.35, SHADE), max(1.5 * canvas.unit, 0.75), SHADE)
    canvas.trail(camera(past), ACCENT, max(3 * canvas.unit, 1.5), SHADE)


def draw_ball(canvas: Canvas, center: Sequence[float], radius: float, color: Color) -> None:
    """Draw a shaded ball, all in pixels of the picture."""
    radius = max(radius, 3.0)
    canvas.disc(center, radius, color)
    x, y = (place - 0.12 * radius for place in center)
    for share, white in ((0.72, 0.12), (0.48, 0.25), (0.22, 0.55)):
        x, y = x - 0.06 * radius, y - 0.06 * radius
        canvas.disc((x, y), share * radius, mix(PANEL, white, color))


def draw_rotors(
    canvas: Canvas, camera: Camera, at: Points, axes: Points, span: float, hubs: Points, thrust: Sequence[float]
) -> None:
    """Draw a rotorcraft.

    Args:
        canvas: Where to draw.
        camera: The view.
        at: Its centre [m].
        axes: Its directions front, side and up, `[3, 3]`.
        span: From the centre to a rotor [m].
        hubs: The four rotors' places `[4, 2]` along front and side, in units of the span.
        thrust: Each rotor's thrust, as a share of the largest: the stronger, the darker its disc.
    """
    scale = camera.scale(at)
    width = max(0.15 * span * scale, 1.2)
    places = np.concatenate([0.52 * DISC[:, :2] + hub for hub in hubs] + [hubs, [(0.0, 0.0)]])
    view = camera(at + span * places @ axes[:2])
    center, n = view[-1].tolist(), len(DISC)
    for rim, share in zip(view[:-5].reshape(4, n, 2), thrust, strict=True):
        canvas.polygon(rim, ACCENT, 0.1 + 0.7 * min(max(share, 0.0), 1.0))
        canvas.lines(np.concatenate([rim, rim[:1]]), ACCENT, 0.45 * width)
    for end in view[-5:-1].tolist():
        canvas.segments([center, end], BODY, width)
    canvas.disc(center, max(0.2 * span * scale, 1.5), BODY)
    canvas.disc(center, max(0.1 * span * scale, 0.5), PANEL)
