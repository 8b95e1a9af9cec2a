"""Scene of the mazes: walls as they are now, the way so far, and what an agent knows or imagines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pygame

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.grid import HEAT, Grid, draw_heat, draw_policy
from mbrl_gym.envs.rendering.hud import Entry, draw_frame
from mbrl_gym.envs.rendering.layout import number
from mbrl_gym.envs.rendering.overlay import draw_band, draw_plans
from mbrl_gym.envs.rendering.palette import ACCENT, AXIS, BODY, GRID, MUTED, PANEL, TARGET, TEXT, mix

__all__ = ["KEYS", "draw"]

WALL = mix(BODY, 0.85, PANEL)
LEGEND = (
    Entry("agent and its way", "disc", ACCENT),
    Entry("start", "ring", MUTED),
    Entry("goal", "bar", TARGET),
    Entry("wall", "bar", WALL),
)
DIRECTIONS = np.array([[0, -1], [0, 1], [1, 0], [-1, 0]])  # of the actions: x to the right, y downwards
KEYS: dict[tuple[int, ...], int] = {  # held keys -> action
    (pygame.K_UP,): 0,
    (pygame.K_DOWN,): 1,
    (pygame.K_RIGHT,): 2,
    (pygame.K_LEFT,): 3,
}
PAST_STEPS = 40


def draw(canvas: Canvas, episode: Episode) -> None:
    """Draw the maze, the last PAST_STEPS steps, and the agent, who faces where it last went."""
    task: Any = episode.task
    layout = task.layout_at(episode.states[-1])
    walls = layout.has_wall(np.arange(layout.cells))
    box = draw_frame(canvas, episode, (*LEGEND, *_value_entries(episode, walls)))
    grid = Grid.in_box(layout.rows, layout.columns, box)
    canvas.panel(grid.box, PANEL)
    if episode.values is not None:
        draw_heat(canvas, grid, episode.values.max(-1), _known_cells(episode, walls))
    _draw_cells(canvas, grid, layout, walls)
    way = grid.centers(episode.past(PAST_STEPS)[:, 0])
    draw_band(canvas, grid.box, episode.imagined, way[-1], grid.centers)
    ground = PANEL if episode.values is None else mix(HEAT, 0.4, PANEL)
    canvas.trail(way, ACCENT, max(0.07 * grid.size, 1.0), ground)
    if episode.values is not None:
        cells = _known_cells(episode, walls)
        draw_policy(canvas, grid, episode.values, DIRECTIONS, cells[cells != episode.states[-1][0]])
    draw_plans(canvas, grid.box, episode.imagined, way[-1], grid.centers)
    _draw_agent(canvas, grid, way[-1], episode.actions)


def _known_cells(episode: Episode, walls: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the numbers of the cells in which a decision is to be made."""
    task: Any = episode.task
    cells = np.flatnonzero(~walls)
    return cells[cells != task.layout.goal]


def _value_entries(episode: Episode, walls: np.ndarray[Any, Any]) -> list[Entry]:
    if episode.values is None:
        return []
    values = episode.values.max(-1)[_known_cells(episode, walls)]
    text = f"value, {number(values.min())} to {number(values.max())}"
    return [Entry(text, "bar", HEAT), Entry("best actions", "arrow", TEXT)]


def _draw_cells(canvas: Canvas, grid: Grid, layout: Any, walls: np.ndarray[Any, Any]) -> None:
    """Draw the lines between cells, the walls, start and goal."""
    box, line = grid.box, max(canvas.unit, 0.75)
    for column in range(grid.columns + 1):
        x = box.left + column * grid.size
        canvas.lines([(x, box.top), (x, box.bottom)], GRID, line)
    for row in range(grid.rows + 1):
        y = box.top + row * grid.size
        canvas.lines([(box.left, y), (box.right, y)], GRID, line)
    for cell in np.flatnonzero(walls).tolist():
        canvas.panel(grid.cell(cell), WALL)
    x, y = grid.centers(layout.start)
    canvas.ring((x, y), 0.36 * grid.size, MUTED, max(0.05 * grid.size, 1.0))
    margin = 0.12 * grid.size
    canvas.panel(grid.cell(layout.goal).inset(margin, margin), TARGET, 0.16 * grid.size)
    corners = [(box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom)]
    canvas.lines([*corners, corners[0]], AXIS, max(2 * canvas.unit, 1.0))


def _draw_agent(canvas: Canvas, grid: Grid, place: np.ndarray[Any, Any], actions: list[Any]) -> None:
    radius = max(0.28 * grid.size, 2.0)
    canvas.disc(place, radius, PANEL)
    canvas.disc(place, 0.86 * radius, ACCENT)
    looks = DIRECTIONS[int(actions[-1])] if actions else np.zeros(2)
    canvas.disc(place + 0.42 * radius * looks, 0.27 * radius, PANEL)
