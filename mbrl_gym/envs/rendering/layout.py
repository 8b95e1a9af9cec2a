"""Rectangles of a picture, and charts in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Axes", "Box", "Inverse", "number", "ticks"]

Inverse = Callable[[float, float], np.ndarray[Any, Any]]
"""Point of the picture x, y [px] -> where in the world it is, in the target's coordinates."""


def number(value: float) -> str:
    """Return a short text of a number, with a true minus sign."""
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.2f}" if abs(value) < 1000 else f"{value:,.0f}" if abs(value) < 1e6 else f"{value:.2e}"
    return text.replace("-", "\N{MINUS SIGN}")


def ticks(low: float, high: float, at_most: int) -> np.ndarray[Any, Any]:
    """Return round numbers in [low, high], 1, 2 or 5 times a power of ten apart."""
    span = max(high - low, 1e-30)
    power = 10.0 ** math.floor(math.log10(span / max(at_most, 1)))
    step = next(power * m for m in (1, 2, 5, 10, 20) if span / (power * m) <= max(at_most, 1))
    return step * np.arange(math.ceil(low / step), math.floor(high / step) + 1)


class Box(NamedTuple):
    """A rectangle in the picture [px]."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Width [px]."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height [px]."""
        return self.bottom - self.top

    def inset(self, x: float, y: float) -> Box:
        """Return the box without a margin of x and y pixels on either side."""
        return Box(self.left + x, self.top + y, self.right - x, self.bottom - y)


class Axes:
    """Maps world coordinates, y upwards, into a box; with `equal`, both axes have the smaller scale."""

    def __init__(self, box: Box, x: tuple[float, float], y: tuple[float, float], *, equal: bool = False) -> None:
        self.box = box
        self.x_scale, self.y_scale = box.width / (x[1] - x[0]), box.height / (y[1] - y[0])
        if equal:
            self.x_scale = self.y_scale = min(self.x_scale, self.y_scale)
        self._x_origin = (box.left + box.right - self.x_scale * (x[0] + x[1])) / 2
        self._y_origin = (box.top + box.bottom + self.y_scale * (y[0] + y[1])) / 2

    def x(self, value: Any) -> Any:
        """Return the picture's x `[...]` of world x `[...]`."""
        return self._x_origin + self.x_scale * value

    def y(self, value: Any) -> Any:
        """Return the picture's y `[...]` of world y `[...]`."""
        return self._y_origin - self.y_scale * value

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return one point."""
        return float(self.x(x)), float(self.y(y))

    def world(self, x: float, y: float) -> np.ndarray[Any, Any]:
        """Return the world's point `[2]` at a point of the picture."""
        return np.array([(x - self._x_origin) / self.x_scale, (self._y_origin - y) / self.y_scale])

    def points(self, x: Any, y: Any) -> np.ndarray[Any, Any]:
        """Return points `[..., 2]` of world x and y `[...]`."""
        return np.stack([self.x(x), self.y(y)], -1)
