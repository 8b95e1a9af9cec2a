"""Constants that are looked up by whole numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from mbrl_gym.envs.task import Array, namespace

__all__ = ["Table"]


class Table:
    """An array that tensors can index, too: it is copied once to each device that asks, and copies are not pickled."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values = values
        self._copies: dict[Any, Array] = {}

    def __getitem__(self, index: tuple[Array, ...]) -> Array:
        """Return the values `[...]` at integer arrays `[...]` of one kind, one for each axis."""
        first = index[0]
        if isinstance(first, np.ndarray | np.generic):
            return self.values[index]
        if first.device not in self._copies:
            self._copies[first.device] = namespace(first).asarray(self.values, device=first.device)
        return self._copies[first.device][index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_copies": {}}
