"""Upper confidence bounds of probabilities, for many arms at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

__all__ = ["bernoulli_upper", "beta_quantile"]

Array = np.ndarray[Any, Any]

TOLERANCE = 1e-9  # of a probability


def bernoulli_upper(mean: Array, divergence: Array) -> Array:
    """Return the largest q in [mean, 1] with KL(Bernoulli(mean) || Bernoulli(q)) <= divergence.

    Newton's steps on a function that is convex in q, from above: they never overshoot. The start is the least of three
    upper bounds on q, which follow from KL >= 2 (q - p)^2 (Pinsker), KL >= (q - p)^2 / (2 q), and
    KL >= -H(p) - (1 - p) ln(1 - q), where H is the entropy.

    Args:
        mean: Probabilities p `[...]` in [0, 1].
        divergence: `[...]`, at least 0.
    """
    mean = np.clip(mean, 0.0, 1.0)
    left = 1.0 - mean
    entropy = special.entr(mean) + special.entr(left)
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = 1.0 - np.exp(-(divergence + entropy) / left)
        q = np.minimum(mean + np.sqrt(0.5 * divergence), bound)
        q = np.minimum(q, mean + divergence + np.sqrt(divergence * (divergence + 2.0 * mean)))
        target = divergence + entropy
        for _ in range(20):
            error = -mean * np.log(q) - left * np.log(1.0 - q) - target
            step = error * q * (1.0 - q) / (q - mean)
            # Where q is the mean or 1, it is the solution; rounding may put the error below zero.
            step = np.where(step > 0.0, step, 0.0)
            q = q - step
            if step.max() < TOLERANCE:
                break
    return np.where(left > 0.0, np.maximum(q, mean), 1.0)


def beta_quantile(first: Array, second: Array, tail: Array) -> Array:
    """Return the number that a beta variable exceeds with probability `tail`, `[...]`."""
    return special.betainccinv(first, second, tail)
