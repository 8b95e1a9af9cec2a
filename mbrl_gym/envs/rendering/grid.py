"""Cells in rows and columns, and what an agent knows about each of them: its value as a colour, its best actions."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.layout import Box
from mbrl_gym.envs.rendering.palette import OBJECT, PANEL, TEXT, Color, mix

__all__ = ["HEAT", "Grid", "draw_heat", "draw_policy"]

Array = np.ndarray[Any, Any]

HEAT = mix(OBJECT, 0.7, PANEL)  # of the highest value
ARROW = mix(TEXT, 0.75, PANEL)
SMALLEST_ARROW = 11.0  # cells in which arrows can be told apart are at least as large [px]


class Grid(NamedTuple):
    """Square cells, numbered row by row from the top left."""

    rows: int
    columns: int
    left: float  # of the first cell [px]
    top: float
    size: float  # of a cell [px]

    @classmethod
    def in_box(cls, rows: int, columns: int, box: Box) -> Grid:
        """Return the largest grid that fits into a box, in its middle; cells have whole sizes where they are large."""
        size = min(box.width / columns, box.height / rows)
        size = float(math.floor(size)) if size >= 8 else size
        left = (box.left + box.right - size * columns) / 2
        return cls(rows, columns, left, (box.top + box.bottom - size * rows) / 2, size)

    @property
    def box(self) -> Box:
        """Where the grid is."""
        return Box(self.left, self.top, self.left + self.size * self.columns, self.top + self.size * self.rows)

    def cell(self, number: int) -> Box:
        """Return where a cell is."""
        row, column = divmod(number, self.columns)
        left, top = self.left + self.size * column, self.top + self.size * row
        return Box(left, top, left + self.size, top + self.size)

    def centers(self, numbers: Any) -> Array:
        """Return the middles `[..., 2]` of cells `[...]`; numbers that are none are NaN."""
        numbers = np.asarray(numbers, np.float64)
        row = np.floor(numbers / self.columns)
        column = numbers - self.columns * row
        return np.stack([self.left + self.size * (column + 0.5), self.top + self.size * (row + 0.5)], -1)


def draw_heat(canvas: Canvas, grid: Grid, values: Array, cells: Array) -> None:
    """Colour cells by their values, from the lowest (white) to the highest.

    Args:
        canvas: Where to draw.
        grid: The cells.
        values: Of all cells, `[rows * columns]`.
        cells: Numbers of those that are coloured.
    """
    low, high = values[cells].min(), values[cells].max()
    for cell in cells.tolist() if high > low else ():
        share = float((values[cell] - low) / (high - low))
        canvas.panel(grid.cell(cell), _heat(share))


def _heat(share: float) -> Color:
    return mix(HEAT, round(share, 3), PANEL)


def draw_policy(canvas: Canvas, grid: Grid, values: Array, directions: Array, cells: Array) -> None:
    """Draw an arrow for each of the best actions of cells in which not all are equally good.

    Args:
        canvas: Where to draw.
        grid: The cells.
        values: Of all cells and actions, `[rows * columns, A]`.
        directions: In which the actions lead, `[A, 2]`: x to the right, y downwards.
        cells: Numbers of those that get arrows.
    """
    if grid.size < SMALLEST_ARROW:
        return
    best = values == values.max(-1, keepdims=True)
    for cell in cells:
        actions = np.flatnonzero(best[cell])
        if len(actions) == values.shape[1]:
            continue
        # Several begin in the middle, and are thinner so that their heads lie apart.
        start, end, width = (-0.27, 0.33, 0.055) if len(actions) == 1 else (0.0, 0.4, 0.042)
        for action in actions:
            middle, along = grid.centers(cell), grid.size * directions[action]
            canvas.arrow(middle + start * along, middle + end * along, ARROW, max(width * grid.size, 1.0))
