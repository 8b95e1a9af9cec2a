"""Where recorders keep their transitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from mbrl_gym.models.base import Transitions, check
from mbrl_gym.models.spaces import event_shape, row_dtype

__all__ = ["TransitionBuffer"]

SMALLEST = 64  # rows to begin with


class TransitionBuffer:
    """Transitions in arrays that double when they are full, up to a capacity from which on they are a ring.

    Args:
        observation_space: Of one environment.
        action_space: Of one environment.
        capacity: Number of transitions that are kept, the latest; None keeps all.

    Raises:
        InvalidSettingError: A capacity of less than 1.
    """

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], capacity: int | None = None
    ) -> None:
        check(capacity is None or capacity >= 1, "capacity", capacity, "at least 1, or None")
        self.capacity = capacity
        rows = SMALLEST if capacity is None else min(SMALLEST, capacity)
        observation, action = (
            np.zeros((rows, *event_shape(space)), row_dtype(space)) for space in (observation_space, action_space)
        )
        flags = np.zeros(rows, np.bool_)
        self._arrays = Transitions(
            observation,
            action,
            np.zeros(rows),
            observation.copy(),
            flags,
            flags.copy(),
            np.zeros(rows, np.int64),
        )
        self._count = 0  # rows in use
        self._next = 0  # row that the next transition is written to

    def __len__(self) -> int:
        """Return the number of transitions that are kept."""
        return self._count

    def add(self, transitions: Transitions) -> None:
        """Copy transitions into the buffer; the oldest make room for them."""
        if self.capacity is not None:
            transitions = transitions.rows(slice(-self.capacity, None))
        count = len(transitions.reward)
        self._make_room(count)
        size = len(self._arrays.reward)
        rows = slice(self._next, self._next + count) if self._next + count <= size else self._ring(count)
        for array, part in zip(self._arrays, transitions, strict=True):
            array[rows] = part
        self._next = (self._next + count) % size
        self._count = min(self._count + count, size)

    def transitions(self) -> Transitions:
        """Return copies of all that is kept, oldest first."""
        if self._count == len(self._arrays.reward):
            return Transitions(*(np.roll(array, -self._next, axis=0) for array in self._arrays))
        return Transitions(*(array[: self._count].copy() for array in self._arrays))

    def clear(self) -> None:
        """Forget all transitions."""
        self._count = self._next = 0

    def _ring(self, count: int) -> np.ndarray[Any, Any]:
        return (self._next + np.arange(count)) % len(self._arrays.reward)

    def _make_room(self, count: int) -> None:
        """Double the arrays while what comes does not fit; none has wrapped around before they reach the capacity."""
        size, needed = len(self._arrays.reward), self._count + count
        if needed <= size or size == self.capacity:
            return
        larger = size
        while larger < needed:
            larger *= 2
        larger = larger if self.capacity is None else min(larger, self.capacity)
        self._next = self._count  # a full buffer had wrapped around to its start
        more = larger - size
        self._arrays = Transitions(
            *(np.concatenate((array, np.zeros((more, *array.shape[1:]), array.dtype))) for array in self._arrays)
        )
