"""Spaces of choices as the numbers by which tables are indexed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.spaces import Numbering

__all__ = ["MOST_PAIRS", "Choices", "check_choices", "check_table"]

Array = np.ndarray[Any, Any]
Space = spaces.Space[Any]

MOST_PAIRS = 2**25  # (state, action): tables of a few gigabytes


class Choices:
    """Numbers the values of a `Discrete` or flat `MultiDiscrete` space from 0 on, as `Numbering` does; on NumPy.

    Args:
        space: The space.
    """

    def __init__(self, space: Space) -> None:
        numbering = Numbering(space)
        self.space, self.count = space, numbering.count
        self.rank = len(space.shape or ())
        self.sizes, self.starts = np.array(numbering.sizes), np.array(numbering.encoder.starts)
        self._weights = np.array([int(np.prod(numbering.sizes[k + 1 :])) for k in range(len(numbering.sizes))])
        self._numbering = numbering

    def number(self, values: Any) -> Array:
        """Return the numbers `[N]` of a batch of values, `[N]` or `[N, K]`.

        Raises:
            InvalidSettingError: A value that the space does not hold.
        """
        batch = np.asarray(values)
        columns = batch[:, None] if self.rank == 0 and batch.ndim == 1 else batch
        fits = columns.ndim == 2 and columns.shape[1] == len(self.sizes) and np.issubdtype(columns.dtype, np.integer)
        if fits:
            columns = columns.astype(np.int64) - self.starts
            fits = bool(((columns >= 0) & (columns < self.sizes)).all())
        if not fits:
            raise InvalidSettingError(f"{values!r} holds something that is not in {self.space}")
        return columns @ self._weights

    def all_values(self) -> Array:
        """Return the values of all numbers, `[count]` or `[count, K]`, as the space's dtype."""
        return self._numbering.rows(torch.arange(self.count)).numpy().astype(self.space.dtype)


def check_choices(what: str, space: Space) -> None:
    """Refuse spaces that tables cannot number.

    Args:
        what: "observation" or "action".
        space: The space.

    Raises:
        UnsupportedSpaceError: Neither `Discrete` nor flat `MultiDiscrete`; names what turns it into one.
    """
    if isinstance(space, spaces.Discrete) or (isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1):
        return
    raise UnsupportedSpaceError(
        f"tabular agents take Discrete and flat MultiDiscrete {what}s, but the {what} space is {space}: "
        f"{_advice(what, space)}"
    )


def check_table(observation_space: Space, action_space: Space) -> None:
    """Refuse tables that are too large.

    Raises:
        UnsupportedSpaceError: More than `MOST_PAIRS` pairs of observations and actions.
    """
    states, actions = Numbering(observation_space).count, Numbering(action_space).count
    if states * actions > MOST_PAIRS:
        raise UnsupportedSpaceError(
            f"tables hold at most {MOST_PAIRS} pairs, but {observation_space} has {states} values and {action_space} "
            f"{actions}: leave out choices, discretise more coarsely, or take an agent with a network"
        )


def _advice(what: str, space: Space) -> str:
    wrapper = f"gymnasium.wrappers.Transform{what.capitalize()}"
    if isinstance(space, spaces.Box):
        return (
            f"gymnasium.wrappers.Discretize{what.capitalize()} cuts a bounded Box into bins (bound it first, with "
            f"{wrapper}, where it is not)"
        )
    if isinstance(space, spaces.Tuple) and all(isinstance(part, spaces.Discrete) for part in space):
        sizes = [int(part.n) for part in space]  # type: ignore[attr-defined]
        return f"{wrapper}(env, numpy.array, gymnasium.spaces.MultiDiscrete({sizes})) makes it flat"
    return f"{wrapper} can translate it to Discrete or MultiDiscrete"
