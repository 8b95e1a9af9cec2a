"""Pictures of a judged model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator, PercentFormatter, ScalarFormatter

from mbrl_gym.models.base import Transitions, WorldModel, check
from mbrl_gym.models.evaluation import open_loop
from mbrl_gym.models.report import ModelReport

__all__ = ["plot_error", "plot_reliability", "plot_trajectory"]

# Okabe and Ito's palette, which colour-blind people can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TEXT, MUTED, LINES = "#283548", "#5E6C80", "#E2E8F0"
DASHES = (0, (6, 3))
TICKS = (1, 2, 5, 10)  # steps between ticks, times a power of ten
BAND = 0.9  # probability of the band of noisy particles
NOISY_PARTICLES = 200  # that make it, at least

Array = np.ndarray[Any, Any]


def plot_error(reports: ModelReport | Mapping[str, ModelReport], *, title: str = "") -> Figure:
    """Draw the error against the horizon, beside that of "nothing changes", both axes logarithmic.

    The error is the mean squared one over the data's variance; of models of nothing but choices, the share that is
    wrong.

    Args:
        reports: One report, or several by the names of their models; up to six.
        title: Written above.

    Raises:
        InvalidSettingError: No report, or too many.
    """
    named = _named(reports)
    continuous = any(not math.isnan(at.error) for report in named.values() for at in report.horizons)
    own, trivial = ("error", "baseline") if continuous else ("misclassified", "baseline_misclassified")
    figure, axes = _figure(title, (6.4, 4.8))
    baselines = {label: _curve(report, trivial) for label, report in named.items()}
    shared = next(iter(baselines.values()))
    same = all(curve == shared for curve in baselines.values())
    for color, (label, report) in zip(COLORS, named.items(), strict=False):
        axes.plot(*_curve(report, own), color=color, linewidth=2, marker="o", markersize=4.5, label=label)
        if not same:
            axes.plot(
                *baselines[label], color=color, linewidth=1.4, linestyle=DASHES, label=f"nothing changes, {label}"
            )
    if same:
        axes.plot(*shared, color=MUTED, linewidth=1.6, linestyle=DASHES, label="nothing changes", zorder=1)
    horizons = sorted({at.horizon for report in named.values() for at in report.horizons})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(horizons))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("steps ahead", color=TEXT)
    axes.set_ylabel("squared error / variance of the data" if continuous else "share of wrong choices", color=TEXT)
    _legend(figure, axes)
    return figure


def plot_reliability(reports: ModelReport | Mapping[str, ModelReport], *, title: str = "") -> Figure:
    """Draw which share of the targets lay in central intervals, against the intervals' probability.

    On the diagonal a model is calibrated; below it, it is over-confident. Thin lines are the single columns, if there
    is one report only.

    Args:
        reports: One report, or several by the names of their models; up to six.
        title: Written above.

    Raises:
        InvalidSettingError: No report, or too many.
    """
    named = _named(reports)
    figure, axes = _figure(title, (5.0, 5.8))
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.6, linestyle=DASHES, label="calibrated", zorder=1)
    for color, (label, report) in zip(COLORS, named.items(), strict=False):
        shown = f"{label} (calibration error {100 * report.calibration_error:.1f}%)"
        axes.plot(report.levels, report.coverage, color=color, linewidth=2, marker="o", markersize=4.5, label=shown)
    if len(named) == 1:
        columns = np.array([c for c in report.column_coverage if not math.isnan(c[0])]).reshape(-1, len(report.levels))
        for index, column in enumerate(columns):
            name = None if index else "single columns"
            axes.plot(report.levels, column, color=COLORS[0], linewidth=0.8, alpha=0.45, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
        axis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
    axes.set_xlabel("probability of the central interval", color=TEXT)
    axes.set_ylabel("targets within it", color=TEXT)
    _legend(figure, axes, columns=1)
    return figure


def plot_trajectory(
    model: WorldModel,
    transitions: Transitions,
    start: int,
    horizon: int,
    columns: Sequence[int] | Mapping[int, str] | None = None,
    *,
    seed: int = 0,
    title: str = "",
) -> Figure:
    """Draw what a model predicts along recorded actions beside what happened, one panel a column.

    The dark band spans the noise-free particles (an ensemble's members), the light one holds the central 90% of
    particles that sample the model's noise. Where the model expects a termination it goes on predicting.

    Args:
        model: A fitted model.
        transitions: What really happened.
        start: Row from which to predict.
        horizon: Steps to predict, all in the row's episode.
        columns: Feature columns, or their names by column; all by default.
        seed: Seeds the model's noise.
        title: Written above.

    Raises:
        InvalidSettingError: No such row, too few steps in its episode, or no such column.
    """
    rows = _window(transitions, start, horizon)
    names = _column_names(columns, model.encode_observation.size)
    real = np.concatenate(
        [_features(model, transitions.observation[rows[:1]]), _features(model, transitions.next_observation[rows])]
    )
    members = _paths(model, transitions, rows, model.particle_unit)
    samples = None
    if any(model.noise_sizes):
        count = model.particle_unit * -(-NOISY_PARTICLES // model.particle_unit)
        samples = _paths(model, transitions, rows, count, torch.Generator().manual_seed(seed))
    figure = _canvas((8.0, 1.3 + 1.7 * len(names)))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    steps = np.arange(horizon + 1)
    for axes, (column, name) in zip(panels, names.items(), strict=True):
        _draw_bands(axes, steps, members[..., column], None if samples is None else samples[..., column])
        axes.plot(steps, members[..., column].mean(0), color=COLORS[0], linewidth=2, label="predicted")
        axes.plot(steps, real[:, column], color=TEXT, linewidth=1.6, linestyle=DASHES, label="real")
        axes.set_ylabel(name, color=TEXT)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=TICKS))
        axes.margins(x=0.01)
        _style(axes)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=TICKS))
    panels[-1].set_xlabel("steps ahead", color=TEXT)
    figure.align_ylabels(panels)
    _title(figure, title)
    _legend(figure, panels[0])
    return figure


def _draw_bands(axes: Any, steps: Array, members: Array, samples: Array | None) -> None:
    """Draw the spread of members `[P, H + 1]` and of noisy particles."""
    if samples is not None:
        low, high = np.quantile(samples, [(1 - BAND) / 2, (1 + BAND) / 2], axis=0)
        label = f"{100 * BAND:.0f}% of noisy particles"
        axes.fill_between(steps, low, high, color=COLORS[0], alpha=0.15, linewidth=0, label=label)
    if len(members) > 1:
        label = f"range of the {len(members)} members"
        axes.fill_between(steps, members.min(0), members.max(0), color=COLORS[0], alpha=0.3, linewidth=0, label=label)


@torch.no_grad()
def _paths(
    model: WorldModel, transitions: Transitions, rows: Array, particles: int, generator: torch.Generator | None = None
) -> Array:
    """Return the features `[P, H + 1, F]` that particles go through, the start included."""
    device = model.encode_observation.continuous.device
    start = torch.as_tensor(transitions.observation[rows[:1]], device=device)
    actions = torch.as_tensor(transitions.action[rows], device=device)[:, None]
    predicted = [
        _features(model, prediction.observation)[:, 0]
        for prediction in open_loop(model, start, actions, particles, generator)
    ]
    return np.stack([np.repeat(_features(model, start), particles, 0), *predicted], 1)


def _features(model: WorldModel, observation: Any) -> Array:
    return model._features(observation, model.encode_observation.continuous.device).cpu().numpy()


def _window(transitions: Transitions, start: int, horizon: int) -> Array:
    """Return the rows of the steps from `start` on."""
    count = len(transitions.reward)
    check(0 <= start < count, "start", start, f"a row of the {count} transitions")
    check(horizon >= 1, "horizon", horizon, "at least 1")
    rows = np.flatnonzero(transitions.episode == transitions.episode[start])
    rows = rows[rows >= start][:horizon]
    check(len(rows) == horizon, "horizon", horizon, f"at most the {len(rows)} steps that row {start}'s episode goes on")
    return rows


def _column_names(columns: Sequence[int] | Mapping[int, str] | None, size: int) -> dict[int, str]:
    chosen = range(size) if columns is None else columns
    names = dict(columns) if isinstance(columns, Mapping) else {column: f"column {column}" for column in chosen}
    check(len(names) > 0 and all(0 <= c < size for c in names), "columns", tuple(names), f"between 0 and {size - 1}")
    return names


def _named(reports: ModelReport | Mapping[str, ModelReport]) -> dict[str, ModelReport]:
    named = {"model": reports} if isinstance(reports, ModelReport) else dict(reports)
    check(1 <= len(named) <= len(COLORS), "reports", list(named), f"between 1 and {len(COLORS)}")
    return named


def _curve(report: ModelReport, name: str) -> tuple[list[int], list[float]]:
    """Return the horizons at which a figure is defined, and the figure."""
    points = [(at.horizon, getattr(at, name)) for at in report.horizons if not math.isnan(getattr(at, name))]
    return [x for x, _ in points], [y for _, y in points]


def _figure(title: str, size: tuple[float, float]) -> tuple[Figure, Any]:
    figure = _canvas(size)
    axes = figure.subplots()
    _title(figure, title)
    _style(axes)
    return figure, axes


def _canvas(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _title(figure: Figure, title: str) -> None:
    if title:
        figure.suptitle(title, color=TEXT, fontsize=12, x=0.01, ha="left", fontweight="bold")


def _style(axes: Any) -> None:
    axes.grid(color=LINES, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, length=0, pad=6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def _legend(figure: Figure, axes: Any, columns: int | None = None) -> None:
    handles, labels = axes.get_legend_handles_labels()
    count = columns or min(len(labels), 4)
    figure.legend(handles, labels, loc="outside lower center", ncols=count, frameon=False, labelcolor=TEXT)
