"""Bandit algorithms that know nothing of the family of rewards: what each makes of the shared statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .statistics import BanditAlgorithm, IndexAlgorithm, Statistics, untried_first

__all__ = [
    "MOSS",
    "UCB1",
    "UCBV",
    "EpsilonGreedy",
    "ExploreThenCommit",
    "GradientBandit",
    "UCBTuned",
]

Array = np.ndarray[Any, Any]
Generator = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class EpsilonGreedy(IndexAlgorithm):
    """Pulls any arm with probability epsilon, else the one with the largest mean (Sutton and Barto 2018, section 2.2).

    `epsilon=0` is the greedy algorithm; optimistic is `EpsilonGreedy(epsilon=0, initial_value=5, step_size=0.1)`
    (section 2.6).

    Args:
        epsilon: Probability of a random pull, at most.
        decay: Lets it fall as min(epsilon, decay k / t) in pull t; None for no fall. With epsilon 1 and decay c / d^2
            this is the epsilon_n-greedy algorithm of Auer et al. (2002, figure 3).
        initial_value: What arms are expected to pay before their first pull.
        step_size: Step of the mean towards each reward, in [0, 1]; None for sample means, which forget the initial
            value at the first pull.
    """

    epsilon: float = 0.1
    decay: float | None = None
    initial_value: float = 0.0
    step_size: float | None = None

    non_negative: ClassVar[tuple[str, ...]] = ("decay",)
    shares: ClassVar[tuple[str, ...]] = ("epsilon", "step_size")

    @property
    def first_value(self) -> float:
        """What arms that were never pulled are expected to pay."""
        return self.initial_value

    def step(self, count: Array) -> Array | float:
        """Return the step size `[N]` of the update of means by the count-th reward."""
        return 1.0 / count if self.step_size is None else self.step_size

    def index(self, state: Statistics, generator: Generator) -> Array:
        """Return the means."""
        return state.means

    def choose(self, state: Statistics, generator: Generator) -> Array:
        """Return the best arms, or any ones `[N]`."""
        rows, arms = state.means.shape
        epsilon = np.full(rows, self.epsilon)
        if self.decay is not None:
            epsilon = np.minimum(epsilon, self.decay * arms / (state.pulls + 1))
        explores = generator.random(rows) < epsilon
        return np.where(explores, generator.integers(arms, size=rows), super().choose(state, generator))


@dataclass(frozen=True, kw_only=True)
class UCB1(IndexAlgorithm):
    """UCB1 (Auer, Cesa-Bianchi and Fischer 2002, figure 1): mean + c sqrt(ln t / n), each arm once at first.

    Args:
        coefficient: The c. The default is the paper's, for rewards in [0, 1]; 2 is that of Sutton and Barto (2018,
            equation 2.10) for their testbed. 0 is greedy after a pull of each arm.
    """

    coefficient: float = math.sqrt(2.0)

    non_negative: ClassVar[tuple[str, ...]] = ("coefficient",)

    def index(self, state: Statistics, generator: Generator) -> Array:
        """Return mean + c sqrt(ln t / n) `[N, k]`."""
        return untried_first(state, lambda log, n: state.means + self.coefficient * np.sqrt(log / n))


@dataclass(frozen=True, kw_only=True)
class UCBTuned(IndexAlgorithm):
    """UCB-tuned (Auer et al. 2002, section 4): UCB1 with an upper bound on the arm's variance.

    The index is mean + b sqrt(ln t / n min(1/4, V)), where V = variance / b^2 + sqrt(2 ln t / n).

    Args:
        reward_range: Length b of the interval of rewards; of Gaussian ones, twice the standard deviation.
    """

    reward_range: float = 1.0

    positive: ClassVar[tuple[str, ...]] = ("reward_range",)

    def index(self, state: Statistics, generator: Generator) -> Array:
        """Return the index `[N, k]`."""
        b = self.reward_range

        def bound(log: Array, n: Array) -> Array:
            variance = np.minimum(0.25, state.deviations / (n * b * b) + np.sqrt(2.0 * log / n))
            return state.means + b * np.sqrt(log / n * variance)

        return untried_first(state, bound)


@dataclass(frozen=True, kw_only=True)
class UCBV(IndexAlgorithm):
    """UCB-V (Audibert, Munos and Szepesvari 2009, section 2): mean + sqrt(2 V e / n) + 3 c b e / n, e = zeta ln t.

    Args:
        zeta: Weight of the logarithm; the paper's bounds need more than 1.
        c: Weight of the last term.
        reward_range: Upper bound b of rewards that are at least 0, or the length of their interval.
    """

    zeta: float = 1.2
    c: float = 1.0
    reward_range: float = 1.0

    positive: ClassVar[tuple[str, ...]] = ("zeta", "reward_range")
    non_negative: ClassVar[tuple[str, ...]] = ("c",)

    def index(self, state: Statistics, generator: Generator) -> Array:
        """Return the index `[N, k]`."""

        def bound(log: Array, n: Array) -> Array:
            e, variance = self.zeta * log, state.deviations / n
            return state.means + np.sqrt(2.0 * variance * e / n) + 3.0 * self.c * self.reward_range * e / n

        return untried_first(state, bound)


@dataclass(frozen=True, kw_only=True)
class MOSS(IndexAlgorithm):
    """MOSS (Audibert and Bubeck 2009): mean + s sqrt(max(0, ln(horizon / (k n))) / n).

    Without a horizon it is MOSS-anytime (Degenne and Perchet 2016): t in its place, times (1 + alpha) / 2.

    Args:
        horizon: Pulls of an episode, where they are known.
        alpha: Of the anytime form.
        scale: The s: 1 for rewards in [0, 1]; for Gaussian ones twice their standard deviation.
    """

    horizon: int | None = None
    alpha: float = 1.35
    scale: float = 1.0

    positive: ClassVar[tuple[str, ...]] = ("horizon", "alpha", "scale")

    def index(self, state: Statistics, generator: Generator) -> Array:
        """Return the index `[N, k]`."""
        arms = state.counts.shape[1]
        total = state.pulls[:, None] if self.horizon is None else self.horizon
        weight = 0.5 * (1.0 + self.alpha) if self.horizon is None else 1.0

        def bound(log: Array, n: Array) -> Array:
            exploration = np.maximum(0.0, np.log(np.maximum(total, 1) / (arms * n)))
            return state.means + self.scale * np.sqrt(weight * exploration / n)

        return untried_first(state, bound)


class Preferences(NamedTuple):
    """The state of gradient bandits."""

    pulls: Array  # [N] pulls so far
    preferences: Array  # [N, k]
    mean: Array  # [N] mean of all rewards


@dataclass(frozen=True, kw_only=True)
class GradientBandit(BanditAlgorithm):
    """The gradient bandit (Sutton and Barto 2018, equation 2.12): a softmax of preferences that follow the gradient.

    Args:
        step_size: The alpha.
        baseline: Whether rewards are compared with the mean of those before; else with 0.
    """

    step_size: float = 0.1
    baseline: bool = True

    positive: ClassVar[tuple[str, ...]] = ("step_size",)

    def start(self, rows: int, arms: int) -> Preferences:
        """Return equal preferences."""
        return Preferences(np.zeros(rows, np.int64), np.zeros((rows, arms)), np.zeros(rows))

    def probabilities(self, state: Preferences) -> Array:
        """Return the softmax of the preferences `[N, k]`."""
        weights = np.exp(state.preferences - state.preferences.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True)

    def learn(self, state: Preferences, arm: Array, reward: Array) -> Preferences:
        """Move the preferences up the gradient of the expected reward."""
        pulls = state.pulls + 1
        mean = state.mean + (reward - state.mean) / pulls
        baseline = np.where(state.pulls > 0, state.mean, reward) if self.baseline else 0.0
        gain = self.step_size * (reward - baseline)
        preferences = state.preferences - gain[:, None] * self.probabilities(state)
        preferences[np.arange(len(arm)), arm] += gain
        return Preferences(pulls, preferences, mean)

    def choose(self, state: Preferences, generator: Generator) -> Array:
        """Draw arms `[N]` by their probabilities."""
        reached = self.probabilities(state).cumsum(1)
        drawn = generator.random((len(reached), 1)) * reached[:, -1:]
        return (reached[:, :-1] <= drawn).sum(1)


@dataclass(frozen=True, kw_only=True)
class ExploreThenCommit(IndexAlgorithm):
    """Pulls each arm the same number of times, then for ever the one that paid most (Garivier et al. 2016).

    A reference for others, and what A/B tests do.

    Args:
        explore_pulls: Pulls of each arm before the choice.
    """

    explore_pulls: int = 10

    positive: ClassVar[tuple[str, ...]] = ("explore_pulls",)

    def index(self, state: Statistics, generator: Generator) -> Array:
        """Return whether the arm is to be pulled, as a number that only the choice itself leaves to the means."""
        least, most = state.counts.min(1, keepdims=True), state.counts.max(1, keepdims=True)
        index = np.where(most > self.explore_pulls, state.counts, state.means)  # committed, or about to
        return np.where(least < self.explore_pulls, -state.counts, index)
