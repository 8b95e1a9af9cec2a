"""Observations and actions that users give, checked against their spaces and brought into rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from mbrl_gym.errors import InvalidActionError, InvalidSettingError
from mbrl_gym.models.base import Transitions, check
from mbrl_gym.models.spaces import event_shape, to_rows
from mbrl_gym.vector import to_numpy

__all__ = ["bounds_of", "check_action", "check_rows", "start_rows"]

Array = np.ndarray[Any, Any]


def bounds_of(space: spaces.Space[Any]) -> tuple[Array, Array] | None:
    """Return the least and greatest values of rows of floats; None for integers."""
    if isinstance(space, _CHOICES):
        return None
    flat: Any = spaces.flatten_space(space)
    return flat.low, flat.high


def start_rows(space: spaces.Space[Any], given: Any) -> Array:
    """Return start states, in memory of their own, as rows `[M, ...]`, or refuse them."""
    given = given.observation if isinstance(given, Transitions) else given
    rows = check_rows(space, given, "start_states", (None,))
    check(len(rows) > 0, "start_states", given, "at least one observation")
    return rows.copy()


def check_rows(space: spaces.Space[Any], given: Any, name: str, *batches: tuple[int | None, ...]) -> Array:
    """Return observations, given as environments publish them or as rows, as rows, or refuse them.

    Args:
        space: Of one observation.
        given: The observations.
        name: What the error calls them.
        *batches: The leading shapes that are allowed; None is any number.
    """
    shapes = [(*batch, *event_shape(space)) for batch in batches]
    choices = isinstance(space, _CHOICES)
    try:
        rows = to_rows(space, given) if isinstance(given, dict | tuple) else to_numpy(given)
    except (IndexError, KeyError, TypeError, ValueError):
        rows = np.empty((), object)
    if rows.dtype.kind not in ("iu" if choices else "fiu") or not any(_fits(rows.shape, shape) for shape in shapes):
        allowed = " or ".join(str(shape).replace("None", "M") for shape in shapes)
        raise InvalidSettingError(f"{name} must be observations {allowed} of {space}, but {given!r} was given")
    if not choices:
        rows = rows.astype(np.float64 if space.dtype == np.float64 else np.float32, copy=False)
    check(_inside(space, rows) if choices else bool(np.isfinite(rows).all()), name, given, f"within {space}")
    return rows


def check_action(space: Any, action: Any, batch: tuple[int, ...]) -> Array:
    """Return actions of a batch as an array, those of a Box within their bounds.

    Raises:
        InvalidActionError: Wrong shape, not finite, or no such choice.
    """
    try:
        values = to_numpy(action)
    except (TypeError, ValueError) as error:
        raise InvalidActionError(f"the action must be one array, but {action!r} was given") from error
    shape, choices = (*batch, *(space.shape or ())), isinstance(space, _CHOICES)
    if values.dtype.kind not in ("iu" if choices else "fiu"):
        raise InvalidActionError(f"the action must be {'integers' if choices else 'numbers'}, but {action!r} was given")
    if values.shape != shape:
        raise InvalidActionError(f"the action must have shape {shape}, but {values.shape} was given")
    if choices:
        if not _inside(space, values):
            raise InvalidActionError(f"the action must be one of the choices of {space}, but {action!r} was given")
        return values
    if not np.isfinite(values).all():
        raise InvalidActionError(f"the action must be finite, but {action!r} was given")
    return values.clip(space.low, space.high).astype(space.dtype)


_CHOICES = (spaces.Discrete, spaces.MultiDiscrete)


def _inside(space: Any, choices: Array) -> bool:
    count = space.n if isinstance(space, spaces.Discrete) else space.nvec
    return bool(((choices >= space.start) & (choices < space.start + count)).all())


def _fits(shape: tuple[int, ...], allowed: tuple[int | None, ...]) -> bool:
    return len(shape) == len(allowed) and all(size in (None, given) for given, size in zip(shape, allowed, strict=True))
