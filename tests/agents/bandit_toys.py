"""Bandit algorithms one pull of one bandit at a time, in lines that can be read against the papers."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special, stats


def observe(arms, arm=None, reward=0.0):
    """Return the observation after a pull, or before the first."""
    row = np.zeros(arms + 1)
    if arm is not None:
        row[arm], row[-1] = 1.0, reward
    return row


def history_of(rng, arms, pulls, binary):
    """Return random pulls of random arms with their rewards."""
    draw = (lambda: float(rng.random() < 0.4)) if binary else (lambda: float(rng.normal(0.3, 1.0)))
    return [(int(rng.integers(arms)), draw()) for _ in range(pulls)]


def rewards_of(history, arm):
    return [reward for pulled, reward in history if pulled == arm]


def upper_bernoulli(mean, divergence):
    """Return the KL upper bound by a bracketing solver."""
    if mean == 1.0 or divergence == 0.0:
        return mean

    def excess(q):
        return special.rel_entr(mean, q) + special.rel_entr(1 - mean, 1 - q) - divergence

    high = math.nextafter(1.0, 0.0)
    return high if excess(high) < 0 else optimize.brentq(excess, mean, high, xtol=1e-15)


def scalar_index(name, history, arm, *, binary, settings):
    """Return an arm's index from all pulls of one bandit so far, each formula as its paper has it."""
    rewards, t = rewards_of(history, arm), len(history)
    arms = settings.pop("arms")
    n = len(rewards)
    if name in ("UCB1", "UCB-tuned", "UCB-V", "KL-UCB", "MOSS") and n == 0:
        return math.inf
    mean = sum(rewards) / n if n else 0.0
    variance = sum((r - mean) ** 2 for r in rewards) / n if n else 0.0
    log = math.log(t) if t else 0.0
    if name == "epsilon-greedy":
        return mean
    if name == "UCB1":
        return mean + settings["coefficient"] * math.sqrt(log / n)
    if name == "UCB-tuned":
        return mean + math.sqrt(log / n * min(0.25, variance + math.sqrt(2 * log / n)))
    if name == "UCB-V":
        return mean + math.sqrt(2 * variance * 1.2 * log / n) + 3 * 1.2 * log / n
    if name == "MOSS":
        return mean + math.sqrt(max(0.0, math.log(settings["horizon"] / (arms * n))) / n)
    if name == "KL-UCB":
        exploration = log + settings["c"] * (math.log(log) if log > 1 else 0.0)
        return upper_bernoulli(mean, exploration / n) if binary else mean + math.sqrt(2 * exploration / n)
    assert name == "Bayes-UCB"
    quantile = 1 - 1 / (t + 1)
    if binary:
        return stats.beta(1 + sum(rewards), 1 + n - sum(rewards)).ppf(quantile)
    return stats.norm(sum(rewards) / (1 + n), 1 / math.sqrt(1 + n)).ppf(quantile)


def scalar_discounted(history, arm, *, discount, xi):
    """Return the index of discounted UCB as sums over the whole history."""
    t = len(history)
    weights = [discount ** (t - 1 - s) for s in range(t)]
    n = sum(w for w, (pulled, _) in zip(weights, history, strict=True) if pulled == arm)
    if n == 0:
        return math.inf
    total = sum(w * r for w, (pulled, r) in zip(weights, history, strict=True) if pulled == arm)
    return total / n + 2 * math.sqrt(xi * math.log(max(1.0, sum(weights))) / n)


def scalar_window(history, arm, *, window, xi):
    """Return the index of sliding-window UCB as sums over the window."""
    rewards = rewards_of(history[-window:], arm)
    if not rewards:
        return math.inf
    return sum(rewards) / len(rewards) + math.sqrt(xi * math.log(min(len(history), window)) / len(rewards))


def scalar_gradient(history, arms, *, step_size, baseline):
    """Return the probabilities of a gradient bandit."""
    preferences, seen = [0.0] * arms, []
    for pulled, reward in history:
        weights = [math.exp(p) for p in preferences]
        reference = (sum(seen) / len(seen) if seen else reward) if baseline else 0.0
        for arm in range(arms):
            share = weights[arm] / sum(weights)
            preferences[arm] += step_size * (reward - reference) * ((arm == pulled) - share)
        seen.append(reward)
    weights = np.exp(preferences)
    return weights / weights.sum()
