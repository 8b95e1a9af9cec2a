"""How often places were reached."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten_space

from mbrl_gym.models.base import check

__all__ = ["Visits"]

Array = np.ndarray[Any, Any]

CELLS = 10  # of a bounded column
WIDTH = 0.5  # of the cells of columns without bounds, in their own units
FARTHEST = 2.0**52  # number of a cell, so that it is exact
ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio (Knuth 1998, section 6.4: multiplicative hashing)
HALF = np.uint64(32)


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
        self.codes = np.zeros(0, np.uint64)  # [C] of the cells that were visited, in ascending order
        self.counts = np.zeros(0, np.int64)  # [C] their visits

    def __call__(self, rows: Array) -> Array:
        """Count visits of observations, `[n, O]`, `[n, K]` or `[n]`, and return the counts of their cells `[n]`."""
        cells = self.cells(rows)
        codes, visits = np.unique(cells, return_counts=True)
        fresh = self.of_cells(codes) == 0
        places = np.searchsorted(self.codes, codes[fresh])
        self.counts = np.insert(self.counts, places, 0)
        self.codes = np.insert(self.codes, places, codes[fresh])
        self.counts[np.searchsorted(self.codes, codes)] += visits
        return self.of_cells(cells)

    def cells(self, rows: Array) -> Array:
        """Return codes of the cells of observations `[n]`, the same for the same cell; 64-bit hashes of their numbers.

        Of a million cells, the probability that any two share a code is 3e-8.
        """
        columns = np.asarray(rows, np.float64).reshape(len(rows), -1)
        numbers = np.minimum(np.floor((columns - self._low) / self._width), self._last)
        numbers = np.clip(np.nan_to_num(numbers, nan=FARTHEST), -FARTHEST, FARTHEST).astype(np.int64).view(np.uint64)
        codes = np.zeros(len(numbers), np.uint64)
        for column in numbers.T:
            codes = (codes ^ column) * ODD
            codes ^= codes >> HALF
        return codes

    def of_cells(self, codes: Array) -> Array:
        """Return how often cells were visited `[n]`, given their codes `[n]`, and count nothing."""
        if not len(self.codes):
            return np.zeros(len(codes))
        places = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[places] == codes, self.counts[places], 0).astype(np.float64)
