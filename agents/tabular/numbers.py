"""Spaces of choices as the numbers by which tables are indexed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError

__all__ = ["MOST_PAIRS", "Choices", "check_choices", "check_table"]

Array = np.ndarray[Any, Any]
Space = spaces.Space[Any]

MOST_PAIRS = 2**25  # (state, action): tables of a few gigabytes


class Choices:
    """Numbers the values of a space from 0 on, the last choice running fastest (as `mbrl_gym.models` does).

    Args:
        space: `Discrete` or flat `MultiDiscrete`.
    """

    def __init__(self, space: Space) -> None:
        self.space, self.rank = space, len(space.shape or ())
        self.sizes = _sizes(space)
        self.count = math.prod(self.sizes)
        self.start: Array = np.asarray(getattr(space, "start", 0), np.int64)

    def number(self, values: Any) -> Array:
        """Return the numbers `[N]` of a batch of values, `[N]` or `[N, K]`.

        Raises:
            InvalidSettingError: A value that the space does not hold.
        """
        try:
            columns = np.asarray(values) - self.start
            if columns.ndim != 1 + self.rank:
                raise ValueError("not a batch")
            return np.ravel_multi_index(tuple(columns.T) if self.rank else (columns,), self.sizes)
        except (TypeError, ValueError) as error:
            raise InvalidSettingError(f"{values!r} holds something that is not in {self.space}") from error

    def all_values(self) -> Array:
        """Return the values of all numbers, `[count]` or `[count, K]`, as the space's dtype."""
        columns = np.stack(np.unravel_index(np.arange(self.count), self.sizes), -1)
        return ((columns if self.rank else columns[:, 0]) + self.start).astype(self.space.dtype)


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
    states, actions = (math.prod(_sizes(space)) for space in (observation_space, action_space))
    if states * actions > MOST_PAIRS:
        raise UnsupportedSpaceError(
            f"tables hold at most {MOST_PAIRS} pairs, but {observation_space} has {states} values and {action_space} "
            f"{actions}: leave out choices, discretise more coarsely, or take an agent with a network"
        )


def _sizes(space: Space) -> tuple[int, ...]:
    """Return how many values each choice of a space has."""
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    assert isinstance(space, spaces.MultiDiscrete)
    return tuple(space.nvec.tolist())


def _advice(what: str, space: Space) -> str:
    wrapper = f"gymnasium.wrappers.Transform{what.capitalize()}"
    if isinstance(space, spaces.Box):
        return (
            f"gymnasium.wrappers.Discretize{what.capitalize()} cuts a bounded Box into bins (bound it first, with "
            f"{wrapper}, where it is not)"
        )
    parts = [part for part in space if isinstance(part, spaces.Discrete)] if isinstance(space, spaces.Tuple) else []
    if isinstance(space, spaces.Tuple) and len(parts) == len(space) and all(part.start == 0 for part in parts):
        sizes = [int(part.n) for part in parts]
        return f"{wrapper}(env, numpy.array, gymnasium.spaces.MultiDiscrete({sizes})) makes it flat"
    return f"{wrapper} can translate it to Discrete or MultiDiscrete"
