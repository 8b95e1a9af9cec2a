"""Judging a model: how far off it is, how far ahead, and whether it knows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbrl_gym.models.base import Outcome, Prediction, Transitions, WorldModel, as_tensor, check, draw
from mbrl_gym.models.calibration import (
    ROUNDING,
    Columns,
    classification_error,
    coverage,
    describe_columns,
    levels_of,
    log_likelihood,
    probabilities,
    trivial_outcome,
)
from mbrl_gym.models.report import HorizonError, ModelReport

__all__ = ["evaluate_model", "open_loop", "windows"]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ROWS_PER_CHUNK = 4096  # rows whose outcome is asked for at once


@torch.no_grad()
def evaluate_model(
    model: WorldModel,
    transitions: Transitions,
    *,
    horizons: Sequence[int] = (1, 2, 5, 10, 20, 50),
    starts: int = 1000,
    particles: int | None = None,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
) -> ModelReport:
    """Compare a model's predictions with transitions, which it should not have been fitted to.

    k steps ahead means open loop: the model follows the recorded actions from a recorded observation, each particle on
    its own, without noise; the mean over particles is the prediction (of choices, the most frequent one). Windows of k
    steps lie within an episode. The baseline says that the observation stays what it was at the start of the window.
    Where the model expects a termination it goes on predicting, since only observations are compared.

    Likelihood, calibration, reward and termination are those of `model.outcome`, one step ahead, over all transitions:

    - The likelihood's baseline takes changes as Gaussian around 0, rewards around their mean, both with the data's own
      spread, and choices at their frequencies. Standard deviations count as at least a ten-thousandth of the
      targets' own.
    - Calibration follows Kuleshov, Fenner and Ermon (2018) with central intervals: the share of targets within them,
      pooled over continuous columns and the reward, against their probability. That of choices follows Guo et al.
      (2017). A certain prediction that is right is perfectly calibrated, one that is wrong is not at all.
    - Columns that are constant in the data are left out.

    Args:
        model: A fitted model.
        transitions: What really happened.
        horizons: Steps ahead at which errors are measured.
        starts: At most so many windows for each horizon, drawn without replacement.
        particles: Number P of particles; the model's `particle_unit` by default.
        levels: Probabilities of the central intervals.
        seed: Seeds the choice of windows.

    Raises:
        InvalidSettingError: No transitions, a setting out of its range, or a model that was not fitted.
    """
    count = len(transitions.reward)
    check(count >= 1, "transitions", count, "at least 1 row")
    check(len(horizons) > 0 and min(horizons) >= 1, "horizons", tuple(horizons), "step counts of at least 1")
    check(starts >= 1, "starts", starts, "at least 1")
    check(len(levels) > 0 and 0 < min(levels) <= max(levels) < 1, "levels", tuple(levels), "between 0 and 1")
    check(model.fitted, "model", type(model).__name__, "fitted: call fit(transitions) first")
    generator = np.random.default_rng(seed)
    errors = []
    for horizon in horizons:
        rows = _without_gaps(transitions, windows(transitions.episode, horizon))
        if len(rows) > starts:
            rows = rows[np.sort(generator.choice(len(rows), starts, replace=False))]
        errors.append(_horizon_error(model, transitions, rows, particles))
    return ModelReport(count, int(transitions.terminated.sum()), tuple(errors), **_one_step(model, transitions, levels))


def windows(episode: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
    """Return the rows `[W, length]` of all windows of consecutive steps of one episode.

    Args:
        episode: `[T]`, the same for the rows of an episode, which are in order but may alternate with others.
        length: Steps of a window.
    """
    order = np.argsort(episode, kind="stable")
    episodes = episode[order]
    first = np.flatnonzero(episodes[: max(0, len(order) - length + 1)] == episodes[length - 1 :])
    return order[first[:, None] + np.arange(length)]


def _without_gaps(transitions: Transitions, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the windows `[W, length]` in which every step starts where the one before it ended."""
    after, before = transitions.next_observation[rows[:, :-1]], transitions.observation[rows[:, 1:]]
    return rows[(after == before).all(tuple(range(1, after.ndim)))]


def open_loop(
    model: WorldModel,
    observation: Tensor,
    actions: Tensor,
    particles: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Prediction]:
    """Yield a model's predictions along given actions.

    Args:
        model: A fitted model.
        observation: Where to start, `[N, O]`.
        actions: `[H, N, A]`, or `[H, N]` if discrete.
        particles: Number P of particles; the model's `particle_unit` by default.
        generator: Draws the model's noise; None predicts without noise.
    """
    particles = model.particle_unit if particles is None else particles
    state = model.start(observation, particles)
    for action in actions:
        noise = None
        if generator is not None:
            noise = draw(generator, (particles, len(observation)), model.noise_sizes, observation.device)
        prediction = model.step(state, action, noise)
        state = prediction.state
        yield prediction


class _Error(NamedTuple):
    """How far observations lie from what happened."""

    error: float
    misclassified: float
    rmse: tuple[float, ...]  # [F]


def _horizon_error(
    model: WorldModel, transitions: Transitions, rows: np.ndarray[Any, Any], particles: int | None
) -> HorizonError:
    """Measure the errors at the end of windows `[W, k]`."""
    device = model.encode_observation.continuous.device
    whole = model._features(transitions.observation, device)
    before = model._features(transitions.observation[rows[:, 0]], device)
    after = model._features(transitions.next_observation[rows[:, -1]], device)
    if len(rows):
        start = torch.as_tensor(transitions.observation[rows[:, 0]], device=device)
        for prediction in open_loop(
            model, start, torch.as_tensor(transitions.action[rows.T], device=device), particles
        ):
            last = prediction.observation
        predicted = model._features(last, device).mean(0)
    else:
        predicted = before
    own, trivial = (_error(model, guess, after, whole) for guess in (predicted, before))
    return HorizonError(
        horizon=rows.shape[1],
        windows=len(rows),
        error=own.error,
        baseline=trivial.error,
        misclassified=own.misclassified,
        baseline_misclassified=trivial.misclassified,
        rmse=own.rmse,
        baseline_rmse=trivial.rmse,
    )


def _error(model: WorldModel, predicted: Tensor, after: Tensor, whole: Tensor) -> _Error:
    """Compare predicted features `[W, F]` with those that followed; `whole` `[T, F]` gives their scale."""
    encode = model.encode_observation
    deviation = whole.std(0, correction=0)
    varies = encode.continuous & (deviation > ROUNDING * whole.abs().amax(0))
    squared = (predicted - after).square().mean(0)
    if len(after):
        squared = torch.where(squared.isnan(), torch.inf, squared)  # the prediction overflowed
    wrong = [predicted[:, first:last].argmax(-1) != after[:, first:last].argmax(-1) for first, last in encode.groups]
    return _Error(
        error=float((squared / deviation.square())[varies].mean()),
        misclassified=float(torch.stack(wrong).double().mean()) if wrong else math.nan,
        rmse=tuple(torch.where(encode.continuous, squared.sqrt(), torch.nan).tolist()),
    )


def _one_step(model: WorldModel, transitions: Transitions, levels: Sequence[float]) -> dict[str, Any]:
    """Return the figures of a report that judge `model.outcome`."""
    encode, target = model.encode_observation, model.targets(transitions)
    continuous = torch.cat((encode.continuous, encode.continuous.new_ones(1)))
    before = model._features(transitions.observation, target.device)
    magnitude = torch.cat((before, target[:, -1:]), -1).abs().amax(0)
    columns = describe_columns(target, magnitude, continuous, encode.groups)
    outcome = _outcome(model, transitions, target.device)
    shares = torch.full((len(levels), target.shape[1]), torch.nan, dtype=torch.float64, device=target.device)
    shares[:, columns.measured] = coverage(*levels_of(outcome, target, columns), levels)
    pooled = shares[:, columns.measured].mean(1)
    off = (pooled - torch.as_tensor(levels, dtype=torch.float64, device=target.device)).abs()
    trivial = trivial_outcome(target, continuous)
    measurable = bool(columns.measured.any()) or bool(columns.groups)
    return {
        "nll": -float(log_likelihood(outcome, target, columns).mean()) if measurable else math.nan,
        "baseline_nll": -float(log_likelihood(trivial, target, columns).mean()) if measurable else math.nan,
        "levels": tuple(levels),
        "coverage": tuple(pooled.tolist()),
        "column_coverage": tuple(tuple(column) for column in shares.T.tolist()),
        "calibration_error": float(off.mean()),
        "classification_error": _classification_error(outcome, target, columns),
        "reward_rmse": _rms(outcome.mean[..., -1].double().mean(0) - target[:, -1]),
        "baseline_reward_rmse": _rms(trivial.mean[0, :, -1] - target[:, -1]),
        **_termination_errors(outcome, transitions),
    }


def _outcome(model: WorldModel, transitions: Transitions, device: torch.device) -> Outcome:
    """Return the outcome of all transitions."""
    parts = []
    for first in range(0, len(transitions.reward), ROWS_PER_CHUNK):
        some = transitions.rows(slice(first, first + ROWS_PER_CHUNK))
        observation, action = (as_tensor(part, device) for part in (some.observation, some.action))
        parts.append(model.outcome(observation, action))
    return Outcome(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))


def _classification_error(outcome: Outcome, target: Tensor, columns: Columns) -> float:
    """Return the expected calibration error, pooled over all choices."""
    chances, correct = [], []
    for first, last in columns.groups:
        chance, choice = probabilities(outcome.mean[..., first:last].double()).mean(0).max(-1)
        chances.append(chance)
        correct.append(choice == target[:, first:last].argmax(-1))
    return classification_error(torch.cat(chances), torch.cat(correct)) if chances else math.nan


def _termination_errors(outcome: Outcome, transitions: Transitions) -> dict[str, float]:
    """Return the errors of the rule that weighs both kinds alike: an end where it is likelier than on average."""
    ended = transitions.terminated.astype(bool)
    expected = (outcome.terminated.mean(0) > (ended.mean() if ended.any() and not ended.all() else 0.5)).cpu().numpy()
    return {
        "missed_terminations": float(1 - expected[ended].mean()) if ended.any() else math.nan,
        "false_terminations": float(expected[~ended].mean()) if not ended.all() else math.nan,
    }


def _rms(error: Tensor) -> float:
    return float(error.square().mean().sqrt())
