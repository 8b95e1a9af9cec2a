"""Upper confidence bounds of probabilities, for many arms at once; compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from ..compiled import compiled

__all__ = ["bernoulli_upper", "beta_quantile"]

Array = np.ndarray[Any, Any]

TABLE = 2**14  # places at which equal numbers meet
SHIFT = np.uint64(64 - 14)
ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio (Knuth 1998, section 6.4: multiplicative hashing)


def bernoulli_upper(mean: Array, divergence: Array) -> Array:
    """Return the largest q in [mean, 1] with KL(Bernoulli(mean) || Bernoulli(q)) <= divergence.

    Args:
        mean: Probabilities p `[...]` in [0, 1].
        divergence: `[...]`, at least 0.
    """
    return _once(_bernoulli_upper, mean, divergence)


@compiled
def _bernoulli_upper(mean: Array, divergence: Array) -> Array:
    """Solve by Newton's steps on a function that is convex in q, from above: they never overshoot.

    The start is the least of three upper bounds on q, which follow from KL >= 2 (q - p)^2 (Pinsker's inequality),
    KL >= (q - p)^2 / (2 q), and KL >= -H(p) - (1 - p) ln(1 - q), where H is the entropy.
    """
    upper = np.empty_like(divergence)
    for i in range(len(mean)):
        p, d = min(max(mean[i], 0.0), 1.0), divergence[i]
        left = 1.0 - p
        entropy = 0.0
        if 0.0 < p < 1.0:
            entropy = -p * math.log(p) - left * math.log(left)
        if left == 0.0 or d == 0.0:
            upper[i] = p
            continue
        q = 1.0 - math.exp(-(d + entropy) / left)
        if p > 0.0:
            q = min(q, p + math.sqrt(0.5 * d), p + d + math.sqrt(d * (d + 2.0 * p)))
            for _ in range(100):
                if q <= p or q >= 1.0:  # by rounding
                    break
                error = -p * math.log(q) - left * math.log(1.0 - q) - entropy - d
                step = max(error * q * (1.0 - q) / (q - p), 0.0)  # rounding may put it below zero at the solution
                q -= step
                if step <= 1e-5 * min(q - p, 1.0 - q):  # what is left is of the order of the square
                    break
        upper[i] = max(q, p)
    return upper


def beta_quantile(first: Array, second: Array, tail: Array) -> Array:
    """Return the number that a beta variable exceeds with probability `tail`.

    Args:
        first: First parameters `[...]`.
        second: Second parameters `[...]`.
        tail: Probabilities `[...]` in [0, 1].
    """
    return _once(_quantiles, first, second, tail)


def _once(solve: Callable[..., Array], *numbers: Array) -> Array:
    """Solve for arrays of numbers `[...]`, once for those that are equal: many bandits have few different records."""
    shape = np.broadcast_shapes(*(part.shape for part in numbers))
    columns = [np.broadcast_to(part, shape).ravel() for part in numbers]
    bits = [np.ascontiguousarray(part, np.float64).view(np.uint64) for part in (*columns, columns[-1])[:3]]
    first = _first_alike(*bits)
    alone = np.flatnonzero(first == np.arange(len(first)))
    solved = np.empty(len(first))
    solved[alone] = solve(*(part[alone] for part in columns))
    return solved[first].reshape(shape)


@compiled
def _first_alike(a: Array, b: Array, c: Array) -> Array:
    """Return for each place one with the same three numbers `[n]`, which for itself is itself.

    Places meet in a table by a hash of their numbers; a place that finds another one there takes over.
    """
    table = np.full(TABLE, -1, np.int64)
    first = np.arange(len(a))
    for i in range(len(a)):
        code = ((((a[i] * ODD) ^ b[i]) * ODD) ^ c[i]) * ODD
        slot = np.int64(code >> SHIFT)
        other = table[slot]
        if other >= 0 and a[other] == a[i] and b[other] == b[i] and c[other] == c[i]:
            first[i] = other
        else:
            table[slot] = i
    return first


def _quantiles(a: Array, b: Array, tail: Array) -> Array:
    """Return quantiles `[n]`; SciPy knows those that the compiled solver is not made for."""
    common = (a >= 1.0) & (b >= 1.0) & (tail < 0.2) & (tail > 1e-100)
    quantile = np.empty(len(a))
    quantile[common] = _upper_quantiles(a[common], b[common], -special.ndtri(tail[common]), np.log(tail[common]))
    rare = ~common
    quantile[rare] = special.betainccinv(a[rare], b[rare], tail[rare])
    return quantile


@compiled
def _upper_quantiles(first: Array, second: Array, normal: Array, log_tail: Array) -> Array:
    """Solve for the quantiles by Halley's steps on the logarithm of the tail's probability.

    The start is Abramowitz and Stegun (1964), 26.5.22.

    Args:
        first: First parameters a, at least 1 `[n]`.
        second: Second parameters b, at least 1 `[n]`.
        normal: The standard normal quantile of the same tail `[n]`.
        log_tail: Logarithm of the tail's probability `[n]`.
    """
    quantile = np.empty_like(first)
    for i in range(len(first)):
        a, b, y = first[i], second[i], normal[i]
        u, v = 1.0 / (2.0 * a - 1.0), 1.0 / (2.0 * b - 1.0)
        h, third = 2.0 / (u + v), (y * y - 3.0) / 6.0
        w = y * math.sqrt(max(h + third, 0.0)) / h - (u - v) * (third + 5.0 / 6.0 - 2.0 / (3.0 * h))
        x = a / (a + b * math.exp(-2.0 * w))
        constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - math.log(b)
        for _ in range(50):
            mass = _tail_fraction(b, a, 1.0 - x)
            error = constant + a * math.log(x) + b * math.log(1.0 - x) + math.log(mass) - log_tail[i]
            hazard = b / (x * (1.0 - x) * mass)
            newton = error / hazard
            slope = hazard + (a - 1.0) / x - (b - 1.0) / (1.0 - x)  # of the logarithm of the hazard
            step = newton / (1.0 + 0.5 * newton * slope) if abs(newton * slope) < 1.0 else newton
            near = 0.5 * min(x, 1.0 - x)
            step = min(max(step, -near), near)
            x += step
            if abs(step) * max(hazard, abs(slope)) < 1e-3:  # what is left is of the order of the cube
                break
        quantile[i] = x
    return quantile


@compiled
def _tail_fraction(a: float, b: float, x: float) -> float:
    """Return a B(a, b) I_x(a, b) / (x^a (1 - x)^b) by its continued fraction (Abramowitz and Stegun 26.5.8)."""
    before, numerator, denominator = 1.0, 1.0, 1.0 - (a + b) * x / (a + 1.0)
    numerator_before, denominator_before = 1.0, 1.0
    for m in range(1, 10_000):
        twice = a + 2.0 * m
        even = m * (b - m) * x / ((twice - 1.0) * twice)
        odd = -(a + m) * (a + b + m) * x / (twice * (twice + 1.0))
        numerator_even = numerator + even * numerator_before
        denominator_even = denominator + even * denominator_before
        numerator_odd = numerator_even + odd * numerator
        denominator_odd = denominator_even + odd * denominator
        scale = 1.0 / denominator_odd
        numerator_before, denominator_before = numerator_even * scale, denominator_even * scale
        numerator, denominator = numerator_odd * scale, 1.0
        if abs(numerator - before) < 1e-11 * numerator:
            break
        before = numerator
    return numerator
