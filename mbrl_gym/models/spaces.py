"""What models make of Gymnasium's spaces: which ones they take, and how values become numbers.

Inside models an observation of a `Discrete` space is an integer (batches `[N]`), one of a `MultiDiscrete` space K
integers (`[N, K]`), and everything else a row of floats (`[N, O]`): flat `Box` observations as they are, `Dict` and
`Tuple` ones as `gymnasium.spaces.flatten` lays them out. Actions likewise. `to_rows` and `from_rows` go between these
and what environments give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError

__all__ = [
    "ActionEncoder",
    "Numbering",
    "ObservationEncoder",
    "check_action_space",
    "check_observation_space",
    "event_shape",
    "from_rows",
    "leaves",
    "row_dtype",
    "to_rows",
]

Space = spaces.Space[Any]


def check_observation_space(space: Space) -> Space:
    """Return the space if world models can handle it.

    Raises:
        UnsupportedSpaceError: Anything but flat `Box`, `Discrete`, `MultiDiscrete`, and `Dict` or `Tuple` of these.
    """
    for _, leaf in leaves(space):
        if not (_is_flat_box(leaf) or _is_flat_choice(leaf)):
            raise UnsupportedSpaceError(
                "world models take flat Box, Discrete and flat MultiDiscrete observations, and Dict or Tuple ones of "
                f"these, but the observation space is {space}; gymnasium.wrappers.FlattenObservation turns many others "
                "into a flat Box"
            )
    return space


def check_action_space(space: Space) -> Space:
    """Return the space if world models can handle it.

    Raises:
        UnsupportedSpaceError: Anything but flat, bounded `Box`, `Discrete` and flat `MultiDiscrete`.
    """
    if _is_flat_choice(space) or (_is_flat_box(space) and isinstance(space, spaces.Box) and space.is_bounded()):
        return space
    raise UnsupportedSpaceError(
        "world models take Discrete, flat MultiDiscrete and flat, bounded Box actions, but the action space is "
        f"{space}; gymnasium.wrappers.TransformAction can translate others"
    )


def event_shape(space: Space) -> tuple[int, ...]:
    """Return the shape of one observation or action inside models: `()`, `[K]` integers or `[O]` floats."""
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return space.shape or ()
    return (int(spaces.flatdim(space)),)


def row_dtype(space: Space) -> np.dtype[Any]:
    """Return the dtype of rows: of Dict and Tuple spaces float64 if a part is, else float32."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return np.dtype(space.dtype)
    return np.dtype(np.float64 if any(leaf.dtype == np.float64 for _, leaf in leaves(space)) else np.float32)


def to_rows(space: Space, values: Any) -> np.ndarray[Any, Any]:
    """Turn a batch as a vector environment gives it into rows `[N, *event_shape]`."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return np.asarray(values)
    parts = []
    for path, leaf in leaves(space):
        part = values
        for key in path:
            part = part[key]
        parts.append(_one_hot(leaf, np.asarray(part)) if isinstance(leaf, _CHOICES) else np.asarray(part))
    return np.concatenate(parts, axis=-1, dtype=row_dtype(space), casting="same_kind")


def from_rows(space: Space, rows: np.ndarray[Any, Any]) -> Any:
    """Turn rows `[N, *event_shape]` back into a batch as a vector environment gives it."""
    if isinstance(space, spaces.Dict):
        parts = np.split(rows, np.cumsum([spaces.flatdim(part) for part in space.values()])[:-1], axis=-1)
        return {name: _part_from_rows(part, row) for (name, part), row in zip(space.items(), parts, strict=True)}
    if isinstance(space, spaces.Tuple):
        parts = np.split(rows, np.cumsum([spaces.flatdim(part) for part in space])[:-1], axis=-1)
        return tuple(_part_from_rows(part, row) for part, row in zip(space, parts, strict=True))
    return (np.rint(rows) if np.issubdtype(space.dtype, np.integer) else rows).astype(space.dtype)


class ObservationEncoder(nn.Module):
    """Turns observations into F feature columns, and predicted features into observations.

    Continuous columns are features as they are, and models predict their change; what is predicted stays within the
    space's bounds. Choices are one-hot features, and models predict their probabilities.

    Args:
        space: An observation space that `check_observation_space` accepts.
        dtype: Of the features.
    """

    def __init__(self, space: Space, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.size = int(spaces.flatdim(space))
        self.event_shape = event_shape(space)
        self.chooses = isinstance(space, _CHOICES)  # whether observations are integers
        self.groups: list[tuple[int, int]] = []  # first and last feature (exclusive) of each one-hot group
        first, starts = 0, []
        continuous = np.ones(self.size, np.bool_)
        for _, leaf in leaves(space):
            for count, start in _choices(leaf):
                self.groups.append((first, first + count))
                continuous[first : first + count] = False
                starts.append(start)
                first += count
            if not isinstance(leaf, _CHOICES):
                first += int(spaces.flatdim(leaf))
        self.starts = starts
        self.all_continuous = not self.groups
        low, high = _feature_bounds(space)
        self.bounded = bool(np.isfinite([low[continuous], high[continuous]]).any())
        self.continuous: Tensor
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("continuous", torch.as_tensor(continuous), persistent=False)
        self.register_buffer("low", _rounded_inwards(low, high, dtype), persistent=False)
        self.register_buffer("high", -_rounded_inwards(-high, -low, dtype), persistent=False)

    def forward(self, observation: Tensor) -> Tensor:
        """Return the features `[..., F]` of observations `[..., *event_shape]`."""
        if not self.chooses:
            return observation.to(self.dtype)
        columns = observation.long() if self.event_shape else observation.long()[..., None]
        return torch.cat(
            [
                functional.one_hot(column - start, last - first).to(self.dtype)
                for column, start, (first, last) in zip(columns.unbind(-1), self.starts, self.groups, strict=True)
            ],
            -1,
        )

    def targets(self, before: Tensor, after: Tensor) -> Tensor:
        """Return what models predict `[..., F]`: changes of continuous features, next values of the others."""
        return after - before if self.all_continuous else torch.where(self.continuous, after - before, after)

    def decode(self, before: Tensor, predicted: Tensor, uniform: Tensor | None = None) -> Tensor:
        """Return the next observations `[..., *event_shape]`.

        Args:
            before: Features of the observations before the step, `[..., F]`.
            predicted: Targets, `[..., F]`; those of choices are clipped and normalised to probabilities.
            uniform: `[..., groups]` in [0, 1) draws the choices; None takes the most probable ones.
        """
        following = before + predicted
        if self.bounded:
            following = torch.clamp(following, self.low, self.high)
        if self.all_continuous:
            return following
        chosen = []
        for group, (first, last) in enumerate(self.groups):
            weights = predicted[..., first:last].clamp(min=0)
            if uniform is None:
                chosen.append(weights.argmax(-1))
            else:
                cumulative = weights.cumsum(-1)
                level = uniform[..., group, None] * cumulative[..., -1:]
                # The last choice that has any weight catches what rounding leaves over.
                passed = (cumulative[..., :-1] <= level).sum(-1)
                chosen.append(torch.minimum(passed, last - first - 1 - weights.flip(-1).gt(0).int().argmax(-1)))
        if self.chooses:
            columns = [choice + start for choice, start in zip(chosen, self.starts, strict=True)]
            return torch.stack(columns, -1) if self.event_shape else columns[0]
        for choice, (first, last) in zip(chosen, self.groups, strict=True):
            following[..., first:last] = functional.one_hot(choice, last - first).to(self.dtype)
        return following


class ActionEncoder(nn.Module):
    """Turns actions into network inputs: Box scaled to [-1, 1], choices one-hot."""

    def __init__(self, space: Space, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.size = int(spaces.flatdim(space))
        self.chooses = isinstance(space, _CHOICES)
        self.choices = ObservationEncoder(space, dtype) if self.chooses else None
        self.center: Tensor
        self.half_range: Tensor
        if isinstance(space, spaces.Box):
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        else:
            low, high = np.full(self.size, -1.0), np.full(self.size, 1.0)
        self.register_buffer("center", torch.tensor((high + low) / 2, dtype=dtype))
        self.register_buffer("half_range", torch.tensor(np.where(high > low, (high - low) / 2, 1.0), dtype=dtype))

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return centre and half range `[size]` (float64) by which `forward` scales what `for_folded` returns."""
        return self.center.double(), self.half_range.double()

    def for_folded(self, action: Tensor) -> Tensor:
        """Encode `[..., *event_shape]` as `[..., size]` without scaling, for weights that have it folded in."""
        return action.to(self.dtype) if self.choices is None else self.choices(action)

    def forward(self, action: Tensor) -> Tensor:
        """Encode `[..., *event_shape]` as `[..., size]`."""
        if self.choices is not None:
            return self.choices(action)
        return (action.to(self.dtype) - self.center) / self.half_range


class Numbering:
    """Numbers the values of a space that consists of choices only, from 0 to `count` - 1; the last choice runs fastest.

    Args:
        space: `Discrete`, `MultiDiscrete`, or a `Dict` or `Tuple` of these.

    Raises:
        UnsupportedSpaceError: A part of the space is continuous.
    """

    def __init__(self, space: Space) -> None:
        self.encoder = ObservationEncoder(space)
        if self.encoder.continuous.any():
            raise UnsupportedSpaceError(f"only choices can be numbered, but the space is {space}")
        self.sizes = [last - first for first, last in self.encoder.groups]
        self.count = math.prod(self.sizes)

    def columns(self, rows: Tensor) -> Tensor:
        """Return the choices `[..., K]` in rows `[..., *event_shape]`, each counted from 0."""
        encoder = self.encoder
        if not encoder.chooses:
            return torch.stack([rows[..., first:last].argmax(-1) for first, last in encoder.groups], -1)
        columns = rows.long() if encoder.event_shape else rows.long()[..., None]
        return torch.stack([column - s for column, s in zip(columns.unbind(-1), encoder.starts, strict=True)], -1)

    def number(self, rows: Tensor) -> Tensor:
        """Return the numbers `[...]` of rows `[..., *event_shape]`."""
        columns = self.columns(rows)
        number = columns[..., 0]
        for column, size in zip(columns.unbind(-1)[1:], self.sizes[1:], strict=True):
            number = number * size + column
        return number

    def split(self, number: Tensor) -> list[Tensor]:
        """Return each choice `[...]`, counted from 0, of numbers `[...]`."""
        columns = []
        for size in reversed(self.sizes):
            columns.append(number % size)
            number = number // size
        return columns[::-1]

    def rows(self, number: Tensor) -> Tensor:
        """Return the rows `[..., *event_shape]` of numbers `[...]`."""
        encoder, columns = self.encoder, self.split(number)
        if not encoder.chooses:
            parts = zip(columns, self.sizes, strict=True)
            return torch.cat([functional.one_hot(column, size) for column, size in parts], -1).to(encoder.dtype)
        columns = [column + start for column, start in zip(columns, encoder.starts, strict=True)]
        return torch.stack(columns, -1) if encoder.event_shape else columns[0]


_CHOICES = (spaces.Discrete, spaces.MultiDiscrete)


def leaves(space: Space, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Space]]:
    """Yield the spaces within `Dict` and `Tuple` spaces, in the order of `gymnasium.spaces.flatten`."""
    if isinstance(space, spaces.Dict):
        for name, part in space.items():
            yield from leaves(part, (*path, name))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space):
            yield from leaves(part, (*path, index))
    else:
        yield path, space


def _feature_bounds(space: Space) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the lowest and highest values `[F]` (float64) of the features of a space."""
    boxes = [spaces.flatten_space(leaf) for _, leaf in leaves(space)]
    bounds = ([getattr(box, end).astype(np.float64) for box in boxes] for end in ("low", "high"))
    low, high = (np.concatenate(parts) for parts in bounds)
    return low, high


def _rounded_inwards(low: np.ndarray[Any, Any], high: np.ndarray[Any, Any], dtype: torch.dtype) -> Tensor:
    """Return lower bounds (float64) in a dtype, rounded up where there is room below the upper ones."""
    bound = torch.as_tensor(low, dtype=dtype)
    above = torch.nextafter(bound, torch.full_like(bound, torch.inf))
    short = (bound.double() < torch.as_tensor(low)) & (above.double() <= torch.as_tensor(high))
    return torch.where(short, above, bound)


def _is_flat_box(space: Space) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and np.dtype(space.dtype) != np.uint8


def _is_flat_choice(space: Space) -> bool:
    return isinstance(space, _CHOICES) and len(space.shape or ()) <= 1


def _choices(space: Space) -> list[tuple[int, int]]:
    """Return number and first value of each choice of a space; none of a Box."""
    if isinstance(space, spaces.Discrete):
        return [(int(space.n), int(space.start))]
    if isinstance(space, spaces.MultiDiscrete):
        return list(zip(space.nvec.tolist(), space.start.tolist(), strict=True))
    return []


def _one_hot(space: Space, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    columns = values[..., None] if isinstance(space, spaces.Discrete) else values
    parts = [np.zeros((*columns.shape[:-1], count), np.float32) for count, _ in _choices(space)]
    for k, (part, (count, start)) in enumerate(zip(parts, _choices(space), strict=True)):
        chosen = columns[..., k, None] - start
        if ((chosen < 0) | (chosen >= count)).any():
            raise InvalidSettingError(f"choices must lie within {space}, but {values!r} was given")
        np.put_along_axis(part, chosen, 1.0, axis=-1)
    return np.concatenate(parts, axis=-1)


def _part_from_rows(space: Space, rows: np.ndarray[Any, Any]) -> Any:
    """Return a part of a `Dict` or `Tuple` batch from its columns `[N, flatdim]`."""
    if not isinstance(space, _CHOICES):
        return from_rows(space, rows)
    choices = _choices(space)
    groups = np.split(rows, np.cumsum([count for count, _ in choices])[:-1], axis=-1)
    columns = [group.argmax(-1) + start for group, (_, start) in zip(groups, choices, strict=True)]
    values = columns[0] if isinstance(space, spaces.Discrete) else np.stack(columns, axis=-1)
    return values.astype(space.dtype)
