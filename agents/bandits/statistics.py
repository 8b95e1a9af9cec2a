"""What bandit algorithms know of N bandits side by side, and what all of them share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from mbrl_gym.errors import InvalidSettingError

__all__ = ["BanditAlgorithm", "IndexAlgorithm", "Statistics", "best", "untried_first"]

Array = np.ndarray[Any, Any]


class Statistics(NamedTuple):
    """What was seen of N bandits with k arms each."""

    pulls: Array  # [N] pulls so far
    counts: Array  # [N, k] pulls of each arm; fewer where an algorithm forgets
    means: Array  # [N, k] mean rewards
    deviations: Array  # [N, k] sums of the squared deviations from the means


@dataclass(frozen=True, kw_only=True)
class BanditAlgorithm(ABC):
    """A rule that pulls arms, for N bandits at once; its settings are the fields.

    `positive`, `non_negative` and `shares` name the settings that must be above 0, at least 0, and in [0, 1].

    Raises:
        InvalidSettingError: A setting out of its range.
    """

    positive: ClassVar[tuple[str, ...]] = ()
    non_negative: ClassVar[tuple[str, ...]] = ()
    shares: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value is None or isinstance(value, str):
                continue
            if not isinstance(value, bool | int | float | np.number) or not math.isfinite(value):
                self.check(name, False, "a finite number")
            self.check(name, name not in self.positive or value > 0, "greater than 0")
            self.check(name, name not in self.non_negative or value >= 0, "at least 0")
            self.check(name, name not in self.shares or 0 <= value <= 1, "in [0, 1]")

    def check(self, name: str, right: Any, allowed: str) -> None:
        """Refuse a setting out of its range."""
        if not right:
            raise InvalidSettingError(
                f"{name} of {type(self).__name__} must be {allowed}, but {getattr(self, name)!r} was given"
            )

    @property
    def label(self) -> str:
        """The algorithm's name, and its settings that are not the defaults."""
        given = ((field, getattr(self, field.name)) for field in fields(self))
        changed = ", ".join(f"{field.name}={value!r}" for field, value in given if value != field.default)
        return type(self).__name__ + (f"({changed})" if changed else "")

    def suited_to(self, low: float, high: float) -> Self:
        """Return this algorithm for rewards between two bounds, or refuse them."""
        return self

    @abstractmethod
    def start(self, rows: int, arms: int) -> Any:
        """Return the state before the first pull: a NamedTuple of arrays whose first axis has N rows."""

    @abstractmethod
    def learn(self, state: Any, arm: Array, reward: Array) -> Any:
        """Return the state after pulls of arms `[N]` that paid rewards `[N]`; the one given stays as it is."""

    @abstractmethod
    def choose(self, state: Any, generator: np.random.Generator) -> Array:
        """Return the arms to pull `[N]`."""


@dataclass(frozen=True, kw_only=True)
class IndexAlgorithm(BanditAlgorithm):
    """Pulls the arm with the largest index; ties are broken at random."""

    def start(self, rows: int, arms: int) -> Statistics:
        """Return statistics of no pulls."""
        zeros = np.zeros((rows, arms))
        return Statistics(np.zeros(rows, np.int64), zeros, np.full((rows, arms), self.first_value), zeros)

    @property
    def first_value(self) -> float:
        """What arms that were never pulled are expected to pay."""
        return 0.0

    def step(self, count: Array) -> Array | float:
        """Return the step size `[N]` of the update of means by the count-th reward."""
        return 1.0 / count

    def learn(self, state: Statistics, arm: Array, reward: Array) -> Statistics:
        """Count the pulls (Welford 1962)."""
        rows = np.arange(len(arm))
        counts, means, deviations = state.counts.copy(), state.means.copy(), state.deviations.copy()
        counts[rows, arm] += 1.0
        before = means[rows, arm]
        after = before + self.step(counts[rows, arm]) * (reward - before)
        means[rows, arm] = after
        deviations[rows, arm] += (reward - before) * (reward - after)
        return Statistics(state.pulls + 1, counts, means, deviations)

    def choose(self, state: Statistics, generator: np.random.Generator) -> Array:
        """Return the arms with the largest index `[N]`."""
        return best(self.index(state, generator), generator)

    @abstractmethod
    def index(self, state: Statistics, generator: np.random.Generator) -> Array:
        """Return how much each arm is worth a pull `[N, k]`."""


def best(index: Array, generator: np.random.Generator) -> Array:
    """Return the columns of the largest numbers `[N]` of rows `[N, k]`, ties broken at random."""
    ties = index == index.max(1, keepdims=True)
    chosen = ties.argmax(1)
    tied = np.flatnonzero(ties.sum(1) > 1)
    if len(tied):
        order = ties[tied].cumsum(1)  # 1, 2, ... at the largest ones
        drawn = 1 + (generator.random(len(tied)) * order[:, -1]).astype(np.int64)
        chosen[tied] = (order >= drawn[:, None]).argmax(1)
    return chosen


def untried_first(state: Statistics, bound: Callable[[Array, Array], Array]) -> Array:
    """Return `bound(ln t, n)` `[N, k]` of arms that were pulled n times in t pulls, and infinity of the others."""
    log = np.log(np.maximum(state.pulls, 1))[:, None]
    return np.where(state.counts > 0, bound(log, np.maximum(state.counts, 1.0)), np.inf)
