"""Whether the distributions that a model states come true: likelihood, coverage of intervals, confidence in choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mbrl_gym.models.base import Outcome

__all__ = [
    "Columns",
    "classification_error",
    "coverage",
    "describe_columns",
    "levels_of",
    "log_likelihood",
    "probabilities",
    "trivial_outcome",
]

RESOLUTION = 1e-4  # of a column's standard deviation: differences below it do not count
ROUNDING = 2.0**-22  # of a column's largest magnitude: what single precision may lose in a difference
LEAST_PROBABILITY = 1e-6  # of a choice
BINS = 15  # of confidence (Guo et al. 2017)


class Columns(NamedTuple):
    """The D target columns of a data set; see `Outcome`."""

    measured: Tensor  # [D] bool, continuous columns that vary in the data
    resolution: Tensor  # [D], in each column's units
    groups: list[tuple[int, int]]  # first and last column (exclusive) of each choice


def describe_columns(
    target: Tensor, magnitude: Tensor, continuous: Tensor, groups: Sequence[tuple[int, int]]
) -> Columns:
    """Find out which columns vary, and how finely.

    Args:
        target: `[T, D]` in float64.
        magnitude: `[D]`, the largest absolute value of the observations (and rewards) behind the targets.
        continuous: `[D]` bool.
        groups: First and last column (exclusive) of each choice.
    """
    deviation, rounding = target.std(0, correction=0), ROUNDING * magnitude
    return Columns(continuous & (deviation > rounding), torch.maximum(RESOLUTION * deviation, rounding), list(groups))


def probabilities(weights: Tensor) -> Tensor:
    """Return the probabilities `[..., K]` that models mean by their predictions of K choices."""
    clipped = weights.clamp(min=LEAST_PROBABILITY)
    return clipped / clipped.sum(-1, keepdim=True)


def log_likelihood(outcome: Outcome, target: Tensor, columns: Columns) -> Tensor:
    """Return the log density of the mixture at each row's targets `[T]`, in nats.

    Standard deviations are at least the columns' resolution (a ten-thousandth of the targets' standard deviation), so
    that models without noise have a density, too. Constant columns are left out.
    """
    chosen = columns.measured
    deviation = outcome.deviation[..., chosen].double().clamp(min=columns.resolution[chosen])
    z = (target[:, chosen] - outcome.mean[..., chosen].double()) / deviation
    log = (-0.5 * z.square() - deviation.log() - 0.5 * math.log(2 * math.pi)).sum(-1)  # [M, T]
    for first, last in columns.groups:
        chance = probabilities(outcome.mean[..., first:last].double())
        log = log + (chance * target[:, first:last]).sum(-1).log()
    log = torch.where(log.isnan(), -torch.inf, log)  # the prediction overflowed
    return torch.logsumexp(log, 0) - math.log(len(log))


def trivial_outcome(target: Tensor, continuous: Tensor) -> Outcome:
    """Return what the data say without a model: nothing changes, by and large.

    Changes are Gaussian around 0 with their root mean square, rewards around their mean, and choices have their
    frequencies.

    Args:
        target: `[T, D]` in float64; the last column is the reward.
        continuous: `[D]` bool.
    """
    mean = torch.where(continuous, 0.0, target.mean(0))
    mean[-1] = target[:, -1].mean()
    deviation = (target - mean).square().mean(0).sqrt()
    return Outcome(mean[None, None], torch.where(continuous, deviation, 0.0)[None, None], torch.zeros((1, len(target))))


def levels_of(outcome: Outcome, target: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
    """Return the levels of the mixture's quantiles that the targets may be, lowest and highest.

    Both are `[T, *]`, of the columns that are measured.

    The level of a target is its value of the cumulative distribution (its probability integral transform). Targets
    are known up to the resolution, so that the level is an interval: a short one, or [0, 1] if all of the
    probability lies within the resolution.
    """
    chosen, resolution = columns.measured, columns.resolution[columns.measured]
    deviation = outcome.deviation[..., chosen].double().clamp(min=1e-3 * resolution)
    error = target[:, chosen] - outcome.mean[..., chosen].double()
    low, high = (torch.special.ndtr((error + sign * resolution) / deviation).mean(0) for sign in (-1.0, 1.0))
    return low, high


def coverage(low: Tensor, high: Tensor, levels: Sequence[float]) -> Tensor:
    """Return the share of targets `[L, D]` that lie in the central intervals of L probabilities.

    Where the level of a target is an interval, its part within the central one counts (the non-randomised transform of
    Czado, Gneiting and Held 2009): a model that is certain, and right, is perfectly calibrated.

    Args:
        low: From `levels_of`, `[T, D]`.
        high: Likewise.
        levels: Probabilities of the central intervals.
    """
    shares = []
    for level in levels:
        first, last = (1 - level) / 2, (1 + level) / 2
        overlap = (high.clamp(max=last) - low.clamp(min=first)).clamp(min=0)
        width = high - low
        inside = ((low >= first) & (high <= last)).to(low.dtype)
        shares.append(torch.where(width > 1e-9, overlap / width, inside).mean(0))
    return torch.stack(shares)


def classification_error(chance: Tensor, correct: Tensor) -> float:
    """Return the expected calibration error of classifications (Guo et al. 2017, equation 3).

    The mean, over 15 bins of equal width, of |accuracy - mean confidence| in the bin, weighted by the bin's rows.

    Args:
        chance: Predicted probability of the most probable choice, `[T]`.
        correct: Whether it was the right one, `[T]` bool.
    """
    bins = (chance * BINS).ceil().long().clamp(1, BINS) - 1  # bin b holds (b / 15, (b + 1) / 15]
    surplus = torch.zeros(BINS, dtype=torch.float64, device=chance.device)
    surplus.index_add_(0, bins, correct.double() - chance.double())
    return float(surplus.abs().sum()) / len(chance)
