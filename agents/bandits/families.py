"""Bandit algorithms that know the family of rewards: confidence bounds by divergence, and posteriors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy import special

from .confidence import bernoulli_upper, beta_quantile
from .statistics import IndexAlgorithm, Statistics, untried_first

__all__ = ["KLUCB", "BayesUCB", "ThompsonSampling"]

Array = np.ndarray[Any, Any]
Generator = np.random.Generator

FAMILIES = ("auto", "bernoulli", "gaussian")


@dataclass(frozen=True, kw_only=True)
class FamilyAlgorithm(IndexAlgorithm):
    """An algorithm that knows the family of the arms' rewards.

    Args:
        family: "bernoulli" (rewards in [0, 1]), "gaussian" (of known standard deviation), or "auto": the former where
            the observation space bounds rewards to [0, 1].
        reward_std: Standard deviation of Gaussian rewards.
    """

    family: str = "auto"
    reward_std: float = 1.0

    positive: ClassVar[tuple[str, ...]] = ("reward_std",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("family", self.family in FAMILIES, f"one of {', '.join(FAMILIES)}")

    def suited_to(self, low: float, high: float) -> Self:
        """Return this algorithm with its family settled."""
        unit = low >= 0.0 and high <= 1.0
        if self.family == "auto":
            return replace(self, family="bernoulli" if unit else "gaussian")
        self.check("family", unit or self.family == "gaussian", f"gaussian for rewards between {low:g} and {high:g}")
        return self

    @property
    def bernoulli(self) -> bool:
        """Whether rewards are of the Bernoulli family."""
        return self.family == "bernoulli"

    def successes(self, state: Statistics) -> Array:
        """Return the sums of Bernoulli rewards `[N, k]`, equal in every bit for arms with the same record."""
        return np.round(state.counts * state.means, 9)


@dataclass(frozen=True, kw_only=True)
class KLUCB(FamilyAlgorithm):
    """KL-UCB (Garivier and Cappe 2011, algorithm 1): the largest mean whose divergence is at most the exploration / n.

    Its regret meets the Lai-Robbins bound for Bernoulli rewards, and holds for any in [0, 1].

    Args:
        c: The exploration is ln t + c ln ln t; the paper proves for 3 and advises 0.
        family: See `FamilyAlgorithm`; for Gaussian rewards the index is mean + sqrt(2 reward_std^2 exploration / n).
        reward_std: Standard deviation of Gaussian rewards.
    """

    c: float = 0.0

    non_negative: ClassVar[tuple[str, ...]] = ("c",)

    def index(self, state: Statistics, generator: Generator) -> Array:
        """Return the upper confidence bound `[N, k]`."""

        def bound(log: Array, n: Array) -> Array:
            exploration = (log + self.c * np.log(np.maximum(log, 1.0))) / n
            if self.bernoulli:
                return bernoulli_upper(self.successes(state) / n, exploration)
            return state.means + self.reward_std * np.sqrt(2.0 * exploration)

        return untried_first(state, bound)


@dataclass(frozen=True, kw_only=True)
class BayesianAlgorithm(FamilyAlgorithm):
    """An algorithm with a conjugate posterior of every arm's mean.

    Args:
        prior_mean: Of the normal prior of a Gaussian arm's mean.
        prior_std: Its standard deviation.
        prior_successes: First parameter of the beta prior of a Bernoulli arm's mean.
        prior_failures: Its second parameter.
    """

    prior_mean: float = 0.0
    prior_std: float = 1.0
    prior_successes: float = 1.0
    prior_failures: float = 1.0

    positive: ClassVar[tuple[str, ...]] = ("reward_std", "prior_std", "prior_successes", "prior_failures")

    def beta(self, state: Statistics) -> tuple[Array, Array]:
        """Return both parameters `[N, k]` of the posteriors of Bernoulli arms."""
        successes = self.successes(state)
        return self.prior_successes + successes, self.prior_failures + (state.counts - successes)

    def normal(self, state: Statistics) -> tuple[Array, Array]:
        """Return means and standard deviations `[N, k]` of the posteriors of Gaussian arms."""
        prior, seen = self.prior_std**-2, state.counts * self.reward_std**-2
        return (prior * self.prior_mean + seen * state.means) / (prior + seen), 1.0 / np.sqrt(prior + seen)


@dataclass(frozen=True, kw_only=True)
class ThompsonSampling(BayesianAlgorithm):
    """Thompson sampling (Thompson 1933; Russo et al. 2018, algorithm 3.2): pulls the best arm of a posterior draw.

    Args:
        family: See `FamilyAlgorithm`.
        reward_std: Standard deviation of Gaussian rewards.
        prior_mean: See `BayesianAlgorithm`, also for the other settings of the prior.
    """

    def index(self, state: Statistics, generator: Generator) -> Array:
        """Return a draw of each arm's mean `[N, k]`."""
        if not self.bernoulli:
            mean, std = self.normal(state)
            return mean + std * generator.standard_normal(mean.shape)
        # A ratio of gamma variables; single precision is 5 times as fast as NumPy's beta variables.
        first, second = (
            generator.standard_gamma(shape.astype(np.float32), dtype=np.float32).astype(np.float64)
            for shape in self.beta(state)
        )
        return first / (first + second)


@dataclass(frozen=True, kw_only=True)
class BayesUCB(BayesianAlgorithm):
    """Bayes-UCB (Kaufmann, Cappe and Garivier 2012, algorithm 1): a quantile of the posterior that rises with time.

    In pull t it is the quantile of 1 - 1 / (t max(1, ln horizon)^c).

    Args:
        c: The paper proves for 5 and advises 0, which needs no horizon.
        horizon: Pulls of an episode.
        family: See `FamilyAlgorithm`.
        reward_std: Standard deviation of Gaussian rewards.
        prior_mean: See `BayesianAlgorithm`, also for the other settings of the prior.
    """

    c: float = 0.0
    horizon: int = 1000

    positive: ClassVar[tuple[str, ...]] = (*BayesianAlgorithm.positive, "horizon")
    non_negative: ClassVar[tuple[str, ...]] = ("c",)

    def index(self, state: Statistics, generator: Generator) -> Array:
        """Return the quantile `[N, k]`."""
        tail = 1.0 / ((state.pulls + 1)[:, None] * max(1.0, math.log(self.horizon)) ** self.c)
        if self.bernoulli:
            return beta_quantile(*self.beta(state), tail)
        mean, std = self.normal(state)
        return mean - std * special.ndtri(tail)
