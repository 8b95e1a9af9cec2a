"""Statistics of few runs (Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice").

Scores come as one array of runs a task, `{task: [seeds]}`: tasks may have different numbers of runs. Intervals are
percentile intervals of stratified bootstraps: runs are drawn with replacement within each task.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from mbrl_gym.errors import InvalidSettingError

__all__ = [
    "Interval",
    "Reached",
    "Time",
    "first_reached",
    "interquartile_mean",
    "median_time",
    "performance_profile",
    "probability_of_improvement",
    "ratio_of_times",
]

Array = np.ndarray[Any, Any]

RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A statistic with a confidence interval, whose ends are NaN where a task has one run only."""

    value: Any  # number, or array [...]
    low: Any
    high: Any


class Reached(NamedTuple):
    """When a run first reached a score, or that it never did."""

    when: float  # steps or seconds; where censored, those of the whole run
    censored: bool  # whether the run ended without


class Time(NamedTuple):
    """The median time of runs to a score; infinite where half of the runs or more never reached it."""

    median: float
    low: float
    high: float
    reached: int  # runs that reached it
    runs: int  # all runs
    at_least: float  # what an infinite median exceeds: the shortest of the runs that never reached the score


def interquartile_mean(scores: Mapping[str, Array], seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of the middle half of all scores, with its interval.

    Args:
        scores: `[..., seeds]` of each task; leading axes, which are the same everywhere, are treated one by one.
        seed: Seeds the resampling.
        resamples: Number of resamples.

    Returns:
        Numbers, or arrays `[...]`.
    """
    return _bootstrap(_iqm, _samples(scores), seed, resamples)


def _iqm(*samples: Array, axis: int = -1) -> Array:
    return stats.trim_mean(np.concatenate(samples, axis=axis), 0.25, axis=axis)


def probability_of_improvement(
    ours: Mapping[str, Array], others: Mapping[str, Array], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return how probable it is that a run of one agent scores more than one of another on the same task.

    The mean over the tasks that both have of the Mann-Whitney statistic U divided by the number of pairs; a tie counts
    half.

    Args:
        ours: `[seeds]` of each task.
        others: Likewise, of the other agent.
        seed: Seeds the resampling.
        resamples: Number of resamples.

    Raises:
        InvalidSettingError: They have no task in common.
    """
    tasks = [task for task in ours if task in others]
    if not tasks:
        raise InvalidSettingError(f"the agents share no task: {', '.join(ours)} and {', '.join(others)}")
    return _bootstrap(
        _improvement, [np.asarray(each[task]) for task in tasks for each in (ours, others)], seed, resamples
    )


def _improvement(*samples: Array, axis: int = -1) -> Array:
    """Compare samples in pairs, `[..., n]` with `[..., m]`."""
    shares = []
    for one, other in zip(samples[::2], samples[1::2], strict=True):
        one, other = np.moveaxis(one, axis, -1), np.moveaxis(other, axis, -1)
        difference = one[..., :, None] - other[..., None, :]
        shares.append(((difference > 0) + 0.5 * (difference == 0)).mean((-2, -1)))
    return np.mean(shares, axis=0)


def performance_profile(
    scores: Mapping[str, Array], thresholds: Array, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return the share of runs whose score exceeds each threshold `[T]`, the mean over tasks, with its intervals.

    Args:
        scores: `[seeds]` of each task.
        thresholds: `[T]`.
        seed: Seeds the resampling.
        resamples: Number of resamples.
    """
    above = {task: np.asarray(values)[None] > np.asarray(thresholds)[:, None] for task, values in scores.items()}
    return _bootstrap(_mean_of_means, [each.astype(np.float64) for each in above.values()], seed, resamples)


def _mean_of_means(*samples: Array, axis: int = -1) -> Array:
    return np.mean([sample.mean(axis) for sample in samples], axis=0)


def first_reached(when: Array, scores: Array, target: float) -> Reached:
    """Return when a run was first evaluated at a target or above.

    Args:
        when: `[M]` steps or seconds of the evaluations.
        scores: `[M]`.
        target: The score.
    """
    reached = np.flatnonzero(np.asarray(scores) >= target)
    return Reached(float(when[reached[0]]), False) if len(reached) else Reached(float(when[-1]), True)


def median_time(runs: Sequence[Reached], seed: int = 0, resamples: int = RESAMPLES) -> Time:
    """Return the median time of runs to a score, by Kaplan and Meier's estimate: censored runs count as such.

    Args:
        runs: When each run reached it.
        seed: Seeds the resampling.
        resamples: Number of resamples.
    """
    when, censored = np.array([run.when for run in runs]), np.array([run.censored for run in runs])
    medians = _resampled_medians(when, censored, seed, resamples)
    low, high = _ends(medians)
    missed = when[censored]
    at_least = float(missed.min()) if len(missed) else math.nan
    return Time(
        _kaplan_meier_median(tuple(when), tuple(censored)), low, high, int((~censored).sum()), len(runs), at_least
    )


def ratio_of_times(
    others: Sequence[Reached], ours: Sequence[Reached], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Interval, bool]:
    """Return how many times as long other runs take to a score as ours, in the median.

    Where the others' median is not reached, the ratio is to the time that they had without reaching it, and a lower
    bound: the second value is True. It is NaN where ours is not reached.
    """
    one, two = median_time(others, seed, resamples), median_time(ours, seed, resamples)
    bound = math.isinf(one.median)
    numerator = one.at_least if bound else one.median
    # Resamples are independent: two sides of different seeds.
    top = _resampled_medians(*_arrays(others), seed, resamples)
    bottom = _resampled_medians(*_arrays(ours), seed + 1, resamples)
    if len(top) and len(bottom):
        least = np.where(np.isinf(top), one.at_least, top)
        with np.errstate(invalid="ignore", divide="ignore"):
            low, high = _ends(np.where(np.isinf(bottom), math.nan, least / bottom))
    else:
        low = high = math.nan
    value = math.nan if math.isinf(two.median) or two.median == 0 else numerator / two.median
    return Interval(value, low, high), bound


def _arrays(runs: Sequence[Reached]) -> tuple[Array, Array]:
    return np.array([run.when for run in runs]), np.array([run.censored for run in runs])


@functools.lru_cache(maxsize=10_000)  # few runs have few different resamples, whatever they are resampled for
def _kaplan_meier_median(when: tuple[float, ...], censored: tuple[bool, ...]) -> float:
    """Return the least time after which at most half of the runs are left, or infinity."""
    left = stats.ecdf(stats.CensoredData.right_censored(np.array(when), np.array(censored))).sf
    below = np.flatnonzero(left.probabilities <= 0.5 + 1e-12)
    return float(left.quantiles[below[0]]) if len(below) else math.inf


def _resampled_medians(when: Array, censored: Array, seed: int, resamples: int) -> Array:
    """Return the medians of resampled runs; none if there is one run only, or no resamples are asked for."""
    if len(when) < 2 or not resamples:
        return np.empty(0)
    rows = np.random.default_rng(seed).integers(len(when), size=(resamples, len(when)))
    distinct, where = np.unique(np.sort(rows, axis=1), axis=0, return_inverse=True)
    return np.array([_kaplan_meier_median(tuple(when[row]), tuple(censored[row])) for row in distinct])[where.ravel()]


def _ends(values: Array) -> tuple[float, float]:
    """Return the ends of the percentile interval, at values that were found, since some may be infinite."""
    if not len(values) or np.isnan(values).any():
        return math.nan, math.nan
    tail = 100 * (1 - CONFIDENCE) / 2
    return tuple(float(np.percentile(values, end, method="nearest")) for end in (tail, 100 - tail))  # type: ignore[return-value]


def _samples(scores: Mapping[str, Array]) -> list[Array]:
    if not scores:
        raise InvalidSettingError("there are no scores: give at least one task")
    return [np.asarray(values, np.float64) for values in scores.values()]


def _bootstrap(statistic: Callable[..., Array], samples: list[Array], seed: int, resamples: int) -> Interval:
    value = statistic(*samples, axis=-1)
    if min(sample.shape[-1] for sample in samples) < 2:
        nothing = np.full(np.shape(value), math.nan)[()]
        return Interval(value, nothing, nothing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # runs that all score the same
        found = stats.bootstrap(
            samples,
            statistic,
            n_resamples=resamples,
            vectorized=True,
            axis=-1,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return Interval(value, found.confidence_interval.low, found.confidence_interval.high)
