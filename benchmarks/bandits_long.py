"""Millions of pulls of few Bernoulli arms, for `benchmarks/bandits.py`: its algorithms in a compiled loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mbrl_gym.agents.bandits.confidence import _bernoulli_upper
from mbrl_gym.agents.compiled import compiled

__all__ = ["play_long"]

Array = np.ndarray[Any, Any]


def play_long(name: str, means: Array, problems: int, at: Array, seed: int = 0) -> Array:
    """Return the regret `[problems, len(at)]` of the first pulls, as many as `at` says, in ascending order.

    Args:
        name: "KL-UCB" or "Thompson", with the settings that are the defaults of `run_bandit`.
        means: Of the arms `[k]`.
        problems: Bandits, one after the other.
        at: Numbers of pulls.
        seed: Of rewards, ties and posterior draws.
    """
    generator = np.random.default_rng(seed)
    return _play(name == "Thompson", np.asarray(means, np.float64), problems, np.asarray(at, np.int64), generator)


@compiled
def _play(thompson: bool, means: Array, problems: int, at: Array, generator: Any) -> Array:
    arms, regret = len(means), np.zeros((problems, len(at)))
    gaps = means.max() - means
    for problem in range(problems):
        counts, successes, index = np.zeros(arms), np.zeros(arms), np.zeros(arms)
        total, mark = 0.0, 0
        for pull in range(at[-1]):
            if thompson:
                for arm in range(arms):
                    index[arm] = generator.beta(1.0 + successes[arm], 1.0 + counts[arm] - successes[arm])
            elif pull < arms:  # every arm once, in any order
                index[:] = np.where(counts == 0, np.inf, 0.0)
            else:
                index = _bernoulli_upper(successes / counts, math.log(pull) / counts)
            best, ties = 0, 1
            for arm in range(1, arms):
                ties = ties + 1 if index[arm] == index[best] else 1 if index[arm] > index[best] else ties
                if index[arm] > index[best] or (index[arm] == index[best] and generator.random() * ties < 1.0):
                    best = arm
            counts[best] += 1
            successes[best] += generator.random() < means[best]
            total += gaps[best]
            if pull + 1 == at[mark]:
                regret[problem, mark] = total
                mark += 1
    return regret
