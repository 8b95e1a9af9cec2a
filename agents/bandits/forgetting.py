"""Bandit algorithms for arms that change: they forget, and look again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .statistics import BanditAlgorithm, IndexAlgorithm, Statistics, best

__all__ = ["DiscountedUCB", "SlidingWindowUCB"]

Array = np.ndarray[Any, Any]
Generator = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class DiscountedUCB(IndexAlgorithm):
    """Discounted UCB (Kocsis and Szepesvari 2006; Garivier and Moulines 2011, section 2.1).

    All that was seen loses weight with every pull; the index is mean + 2 B sqrt(xi ln(sum of n) / n), with discounted
    means and counts n.

    Args:
        discount: Weight that a reward keeps with every further pull, in (0, 1]; 1 forgets nothing.
        xi: Weight of the logarithm.
        reward_range: Upper bound B of the rewards, or the length of their interval.
    """

    discount: float = 0.99
    xi: float = 0.6
    reward_range: float = 1.0

    positive: ClassVar[tuple[str, ...]] = ("discount", "reward_range")
    non_negative: ClassVar[tuple[str, ...]] = ("xi",)
    shares: ClassVar[tuple[str, ...]] = ("discount",)

    def learn(self, state: Statistics, arm: Array, reward: Array) -> Statistics:
        """Discount what was seen, and count the pulls."""
        return super().learn(state._replace(counts=self.discount * state.counts), arm, reward)

    def index(self, state: Statistics, generator: Generator) -> Array:
        """Return the index `[N, k]`; arms that were never pulled come first."""
        return _index(state.counts, state.means, state.counts.sum(1), 2.0 * self.reward_range, self.xi)


class Window(NamedTuple):
    """The last W pulls of N bandits; two lists of W arrays, of which successive states share all but the newest."""

    pulls: Array  # [N] pulls so far
    counts: Array  # [N, k] pulls of each arm in the window
    sums: Array  # [N, k] sums of their rewards
    arms: tuple[Array, ...]  # W times [N]: which arm pull t pulled, in place t modulo W
    rewards: tuple[Array, ...]  # W times [N]: what it paid


@dataclass(frozen=True, kw_only=True)
class SlidingWindowUCB(BanditAlgorithm):
    """Sliding-window UCB (Garivier and Moulines 2011, section 2.2): UCB on the last pulls alone.

    The index is mean + B sqrt(xi ln(min(t, window)) / n), with means and counts n of the window.

    Args:
        window: Pulls W that count.
        xi: Weight of the logarithm.
        reward_range: Upper bound B of the rewards, or the length of their interval.
    """

    window: int = 500
    xi: float = 0.6
    reward_range: float = 1.0

    positive: ClassVar[tuple[str, ...]] = ("window", "reward_range")
    non_negative: ClassVar[tuple[str, ...]] = ("xi",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("window", isinstance(self.window, int), "a whole number")

    def start(self, rows: int, arms: int) -> Window:
        """Return an empty window."""
        zeros, none = np.zeros((rows, arms)), np.zeros(rows, np.int64)
        return Window(none, zeros, zeros, (none,) * self.window, (np.zeros(rows),) * self.window)

    def learn(self, state: Window, arm: Array, reward: Array) -> Window:
        """Put the newest pull in the place of the oldest."""
        counts, sums = state.counts.copy(), state.sums.copy()
        arms, rewards = list(state.arms), list(state.rewards)
        places = state.pulls % self.window
        for place in np.unique(places).tolist():  # one, where all bandits started together
            here = places == place
            full = np.flatnonzero(here & (state.pulls >= self.window))
            oldest = arms[place][full]
            counts[full, oldest] -= 1.0
            sums[full, oldest] -= rewards[place][full]
            arms[place], rewards[place] = np.where(here, arm, arms[place]), np.where(here, reward, rewards[place])
        rows = np.arange(len(arm))
        counts[rows, arm] += 1.0
        sums[rows, arm] += reward
        return Window(state.pulls + 1, counts, sums, tuple(arms), tuple(rewards))

    def choose(self, state: Window, generator: Generator) -> Array:
        """Return the arms with the largest index `[N]`; those that the window lacks come first."""
        means = state.sums / np.maximum(state.counts, 1.0)
        total = np.minimum(state.pulls, self.window)
        return best(_index(state.counts, means, total, self.reward_range, self.xi), generator)


def _index(counts: Array, means: Array, total: Array, scale: float, xi: float) -> Array:
    """Return mean + scale sqrt(xi ln total / n) `[N, k]`, and infinity where there was no pull."""
    log = np.log(np.maximum(total, 1.0))[:, None]
    bonus = scale * np.sqrt(xi * log / np.where(counts > 0, counts, 1.0))
    return np.where(counts > 0, means + bonus, np.inf)
