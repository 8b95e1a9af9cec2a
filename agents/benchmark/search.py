"""Ranges of settings, in which a search looks for better ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbrl_gym.errors import InvalidSettingError

__all__ = ["Choice", "Range", "Space", "merged"]

RANGE = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, whole ones if both are."""

    low: float
    high: float
    log: bool = False  # whether orders of magnitude are equally likely, rather than numbers
    step: float | None = None  # between the numbers; None for all (whole) ones

    @property
    def whole(self) -> bool:
        """Whether it holds integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choice:
    """One of a list of values."""

    values: tuple[str, ...]  # as JSON


@dataclass(frozen=True)
class Space:
    """Settings to search, by their paths."""

    parts: dict[str, Range | Choice]  # by the names of a setting and of what it is in: "planner_kwargs.horizon"

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Space:
        """Read a table of a file of settings: `{ low = 1e-4, high = 1e-2, log = true }` is a range, a list are choices,
        and other tables hold those of a setting that is a table itself.

        Raises:
            InvalidSettingError: Neither of these; names what it is about.
        """
        parts: dict[str, Range | Choice] = {}
        for name, value in table.items():
            if isinstance(value, dict) and not {"low", "high"} & value.keys():
                inner = cls.parse(value).parts if value else {}
                parts |= {f"{name}.{path}": part for path, part in inner.items()}
            else:
                parts[name] = _choice(name, value) if isinstance(value, list) else _range(name, value)
        return cls(parts)

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Return settings that a trial of Optuna suggests."""
        found: dict[str, Any] = {}
        for path, part in self.parts.items():
            *outer, name = path.split(".")
            inner = found
            for each in outer:
                inner = inner.setdefault(each, {})
            inner[name] = _suggest(trial, path, part)
        return found


def _suggest(trial: Any, path: str, part: Range | Choice) -> Any:
    if isinstance(part, Choice):
        return json.loads(trial.suggest_categorical(path, part.values))
    if part.whole:
        return trial.suggest_int(path, part.low, part.high, step=part.step or 1, log=part.log)
    return trial.suggest_float(path, part.low, part.high, step=part.step, log=part.log)


def _choice(name: str, values: list[Any]) -> Choice:
    texts = tuple(json.dumps(value) for value in values)
    if len(set(texts)) < max(2, len(texts)):
        raise InvalidSettingError(f"{name} must list at least two different values, but {values} was given")
    return Choice(texts)


def _range(name: str, given: Any) -> Range:
    form = f"{name} must be a list, or a range such as {{ low = 1e-4, high = 1e-2, log = true }}"
    if not isinstance(given, dict) or not {"low", "high"} <= given.keys() <= RANGE:
        raise InvalidSettingError(f"{form}, but {given!r} was given")
    numbers = [given["low"], given["high"], *([given["step"]] if "step" in given else [])]
    if any(type(number) not in (int, float) for number in numbers) or type(given.get("log", False)) is not bool:
        raise InvalidSettingError(f"{form}, but {given!r} was given")
    found = Range(**given)
    if not found.low < found.high or (found.step is not None and not 0 < found.step <= found.high - found.low):
        raise InvalidSettingError(f"{name} must have low < high, and a step that fits in between, but is {given}")
    if found.log and (found.low <= 0 or found.step is not None):
        raise InvalidSettingError(f"{name}: log needs low > 0 and no step, but {given} was given")
    if found.whole and isinstance(found.step, float):
        raise InvalidSettingError(f"{name}: the step of whole numbers must be whole, but {given} was given")
    return found


def merged(settings: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which values were replaced, also those of tables within."""
    result = dict(settings)
    for name, value in found.items():
        inner = result.get(name)
        result[name] = merged(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return result
