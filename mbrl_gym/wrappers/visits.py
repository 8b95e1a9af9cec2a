"""How often places were reached."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten_space

from mbrl_gym.models.base import check

__all__ = ["Visits"]

Array = np.ndarray[Any, Any]

CELLS = 10  # of a bounded column
WIDTH = 0.5  # of the cells of columns without bounds, in their own units


class Visits:
    """Counts visits of cells of the observation space.

    Bounded columns are cut into `cells` parts, columns without bounds into parts of width 0.5 (scale them, by
    `gymnasium.wrappers.TransformObservation`, if that does not suit them); choices are cells of their own.

    Args:
        space: The observation space.
        cells: Parts of a bounded column.

    Raises:
        InvalidSettingError: Not a whole number of at least 1.
    """

    def __init__(self, space: spaces.Space[Any], cells: int = CELLS) -> None:
        check(isinstance(cells, int | np.integer) and cells >= 1, "cells", cells, "a whole number of at least 1")
        box = flatten_space(space) if isinstance(space, spaces.Dict | spaces.Tuple) else space
        self._low: Array | float = 0.0
        self._width: Array | float = 1.0
        self._last: Array | float = np.inf  # number of a column's last cell, to which its upper bound belongs
        if isinstance(box, spaces.Box):
            low, high = box.low.astype(np.float64).ravel(), box.high.astype(np.float64).ravel()
            bounded = np.isfinite(low) & np.isfinite(high) & (high > low)
            self._low = np.where(bounded, low, 0.0)
            self._width = np.where(bounded, np.where(bounded, high - low, 1.0) / cells, WIDTH)
            self._last = np.where(bounded, cells - 1.0, np.inf)
        self.counts: collections.Counter[bytes] = collections.Counter()

    def __call__(self, rows: Array) -> Array:
        """Count visits of observations, `[n, O]`, `[n, K]` or `[n]`, and return the counts of their cells `[n]`."""
        cells = np.minimum(np.floor((rows.reshape(len(rows), -1) - self._low) / self._width), self._last)
        keys = [cell.tobytes() for cell in cells.astype(np.int64)]
        self.counts.update(keys)
        return np.array([self.counts[key] for key in keys], np.float64)
