"""Scene of the drone: a cube of air in perspective, with shadows on the ground that tell positions apart."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.hud import PLAN, Entry, draw_frame
from mbrl_gym.envs.rendering.layout import Box, ticks
from mbrl_gym.envs.rendering.palette import ACCENT, BODY, GRID, PANEL, SHADE, TARGET, mix

__all__ = ["draw"]

Points = np.ndarray[Any, Any]  # [..., 3] in metres

LEGEND = (
    Entry("drone and its path", "disc", ACCENT),
    Entry("target", "disc", TARGET),
    Entry("velocity", "arrow", BODY),
)
PAST_STEPS = 150
CIRCLE = np.linspace(0.0, 2.0 * math.pi, 20, endpoint=False)


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
        view = points @ self._axes
        depth = view[..., 2:] + self._distance
        return view[..., :2] * (self._focal / np.where(depth > self._near, depth, np.nan)) + self._shift

    def scale(self, point: Points) -> float:
        """Return pixels a metre at a point."""
        return float(self._focal / max(self._distance + point @ self._axes[:, 2], self._near))


def draw(canvas: Canvas, episode: Episode) -> None:
    """Draw the room, the target, the drone with its past, and the imagined flights."""
    box = draw_frame(canvas, episode, LEGEND if episode.imagined is None else (*LEGEND, PLAN))
    states = np.stack(episode.states[-PAST_STEPS - 1 :]).astype(np.float64)
    past, target = states[:, :3], states[-1, 6:9]
    reach = max(episode.task.params.target_range, float(np.abs(past).max()), float(np.abs(target).max()))
    camera, room = _view(box, reach, 10 if canvas.text_size else 6)
    _draw_room(canvas, room, box)
    for point, color in ((target, TARGET), (past[-1], BODY)):
        _draw_shadow(canvas, camera, point, reach, color)
    _draw_paths(canvas, camera, past, reach)
    # Whatever is nearer to the camera covers the other.
    if camera.scale(target) > camera.scale(past[-1]):
        _draw_drone(canvas, camera, episode, reach)
        _draw_target(canvas, camera, target, reach)
    else:
        _draw_target(canvas, camera, target, reach)
        _draw_drone(canvas, camera, episode, reach)
    if episode.imagined is not None:
        _draw_imagined(canvas, camera, past[-1], np.asarray(episode.imagined)[..., 6:9])


class Room(NamedTuple):
    """The ground and the two walls behind, in the picture."""

    sides: list[np.ndarray[Any, Any]]  # three times [4, 2]
    grid: np.ndarray[Any, Any]  # [M, 2, 2]
    edges: np.ndarray[Any, Any]  # [12, 2, 2]
    step: float  # between the lines of the grid [m]


@lru_cache(maxsize=8)
def _view(box: Box, reach: float, most: int) -> tuple[Camera, Room]:
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
    return camera, Room(list(sides), camera(np.concatenate(grids)), edges, lines[1] - lines[0])


def _draw_room(canvas: Canvas, room: Room, box: Box) -> None:
    width = max(canvas.unit, 0.5)
    for side, share in zip(room.sides, (0.45, 0.75, 1.0), strict=True):
        canvas.polygon(side, mix(SHADE, share))
    canvas.segments(room.grid, GRID, width)
    canvas.segments(room.edges, mix(BODY, 0.25), width)
    place = (box.right, box.bottom - 0.5 * canvas.text_size)
    canvas.text(f"grid {room.step:g} m", place, size=0.8, anchor=(1.0, 0.5))


def _draw_shadow(canvas: Canvas, camera: Camera, point: Points, reach: float, color: tuple[int, int, int]) -> None:
    """Draw the shadow on the ground and the vertical from it to the point."""
    foot = np.array([point[0], point[1], -reach])
    radius = max(0.06 * reach, 2.0 / camera.scale(foot))
    rim = foot + radius * np.stack([np.cos(CIRCLE), np.sin(CIRCLE), 0 * CIRCLE], -1)
    canvas.polygon(camera(rim), mix(color, 0.4, SHADE))
    start, end = camera(np.stack([foot, point]))
    canvas.dashes(start, end, mix(color, 0.5, SHADE), max(1.2 * canvas.unit, 0.75), max(4 * canvas.unit, 2.0))


def _draw_paths(canvas: Canvas, camera: Camera, past: Points, reach: float) -> None:
    """Draw where the drone was, `[T, 3]`, and, where there is room, the shadow of it."""
    if canvas.text_size:
        ground = past * [1.0, 1.0, 0.0] - [0.0, 0.0, reach]
        canvas.trail(camera(ground), mix(BODY, 0.35, SHADE), max(1.5 * canvas.unit, 0.75), SHADE)
    canvas.trail(camera(past), ACCENT, max(3 * canvas.unit, 1.5), SHADE)


def _draw_target(canvas: Canvas, camera: Camera, target: Points, reach: float) -> None:
    """Draw a shaded ball."""
    center = camera(target)
    radius = max(0.055 * reach * camera.scale(target), 3.0)
    canvas.disc(center, radius, TARGET)
    light = center - 0.12 * radius
    for share, white in ((0.72, 0.12), (0.48, 0.25), (0.22, 0.55)):
        light = light - 0.06 * radius
        canvas.disc(light, share * radius, mix(PANEL, white, TARGET))


def _rotors(action: Points, span: float) -> tuple[Points, Points]:
    """Return the rotors' hubs `[4, 3]` and rims `[4, 20, 3]` about the drone's centre [m].

    A point mass has no attitude: the picture lets it lean into its last acceleration.
    """
    up = np.array([0.25 * action[0], 0.25 * action[1], 1.0])
    up /= math.sqrt(up @ up)
    front = np.array([up[2], 0.0, -up[0]]) / math.hypot(up[0], up[2])
    side = np.array([up[1] * front[2], up[2] * front[0] - up[0] * front[2], -up[1] * front[0]])  # up x front
    hubs = 0.71 * span * np.array([front + side, side - front, front - side, -front - side])
    circle = np.cos(CIRCLE)[:, None] * front + np.sin(CIRCLE)[:, None] * side
    return hubs, hubs[:, None] + 0.52 * span * circle


def _draw_drone(canvas: Canvas, camera: Camera, episode: Episode, reach: float) -> None:
    """Draw a quadrotor, and an arrow to where it would be in two seconds."""
    p, velocity = (np.asarray(episode.states[-1][i : i + 3], np.float64) for i in (0, 3))
    action = np.clip(episode.actions[-1], -1.0, 1.0) if episode.actions else np.zeros(3)
    scale = camera.scale(p)
    span = max(0.15 * reach, 5.0 / scale)  # from the centre to a rotor [m]
    hubs, rims = _rotors(action, span)
    center, width = camera(p), max(0.022 * reach * scale, 1.2)
    speed = math.sqrt(velocity @ velocity)
    if speed > 0 and canvas.text_size:
        ahead = p + velocity * min(2.0, reach / speed)
        canvas.arrow(center, camera(ahead), BODY, max(2.5 * canvas.unit, 1.2))
    for rim in camera(p + rims):
        canvas.polygon(rim, ACCENT, 0.3)
        canvas.lines(rim[[*range(len(rim)), 0]], ACCENT, 0.45 * width)
    canvas.segments(camera(p + np.stack([hubs, 0.0 * hubs], 1)), BODY, width)
    canvas.disc(center, max(0.2 * span * scale, 1.5), BODY)
    canvas.disc(center, max(0.1 * span * scale, 0.5), PANEL)


def _draw_imagined(canvas: Canvas, camera: Camera, p: Points, plans: Points) -> None:
    """Draw imagined flights `[K, H, 3]`, the best one strongly."""
    paths = camera(np.concatenate([np.broadcast_to(p, (len(plans), 1, 3)), plans], 1))
    for k in range(len(paths) - 1, -1, -1):
        canvas.lines(paths[k], mix(ACCENT, 1.0 if k == 0 else 0.3), max((2.5 if k == 0 else 1.2) * canvas.unit, 0.8))
