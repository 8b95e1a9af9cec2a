"""Pictures of a benchmark's report."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .findings import TARGET, Collection, Group
from .plots import LINES, MOST, MUTED, PALETTE, TEXT, count_label, duration_label, style
from .statistics import interquartile_mean, performance_profile

__all__ = ["curve_figure", "profiles_figure", "scores_figure", "styles"]

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
LEAST = -0.3  # of the scores that are drawn: beginners may be far worse than random actions
FEWER = 400  # resamples, which are enough for a band


def styles(agents: list[str]) -> dict[str, dict[str, Any]]:
    """Return a colour and a kind of line for each agent."""
    return {
        agent: {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i // len(PALETTE) % len(DASHES)]}
        for i, agent in enumerate(agents)
    }


def curve_figure(groups: list[Group], column: str, looks: dict[str, dict[str, Any]]) -> Figure:
    """Draw the agents of one environment: scores (or returns) against "steps" or "seconds" of training.

    Lines are interquartile means over seeds, bands their 95% intervals.
    """
    figure, axes = _figure(3.9)
    first, last = np.inf, 0.0
    for group in groups:
        x, look = getattr(group, column), looks[group.agent]
        values = group.returns if group.scores is None else group.scores
        found = interquartile_mean({group.env_id: values}, resamples=FEWER)
        if not np.isnan(found.low).any():
            axes.fill_between(x, found.low, found.high, color=look["color"], alpha=0.16, linewidth=0)
        axes.plot(x, found.value, linewidth=2, marker="o", markersize=3, label=group.agent, **look)
        first, last = min(first, x[1]), max(last, x[-1])
    scored = groups[0].scores is not None
    if scored:
        axes.axhline(1.0, color=TEXT, linewidth=1.2, linestyle=(0, (6, 3)), zorder=1)
        axes.axhline(TARGET, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
        axes.set_ylim(LEAST, 1.1)
    style(axes, max(first, last / MOST), last, count_label if column == "steps" else duration_label)
    axes.set_xlabel("environment steps" if column == "steps" else "training time", color=TEXT)
    axes.set_ylabel("score (1 is the optimum)" if scored else "return", color=TEXT)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False)
    return figure


def scores_figure(collection: Collection, looks: dict[str, dict[str, Any]]) -> Figure:
    """Draw the interquartile means over all environments with their intervals."""
    scores = collection.all_final_scores()
    figure, axes = _figure(max(2.4, 1.0 + 0.35 * len(scores)))
    for row, (agent, found) in enumerate(scores.items()):
        mean, color = interquartile_mean(found), looks[agent]["color"]
        if not np.isnan(mean.low):
            axes.plot([max(mean.low, LEAST), max(mean.high, LEAST)], [row, row], color=color, linewidth=7, alpha=0.3)
        marker, place = ("o", mean.value) if mean.value >= LEAST else ("<", LEAST)
        axes.plot([place], [row], marker, color=color, markersize=7, clip_on=False)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.set_xlim(LEAST, 1.05)
    axes.set_xlabel("score at the end of training", color=TEXT)
    _plain(axes)
    return figure


def profiles_figure(collection: Collection, looks: dict[str, dict[str, Any]]) -> Figure:
    """Draw the share of runs above each score, over all environments."""
    scores = collection.all_final_scores()
    figure, axes = _figure(max(2.4, 1.0 + 0.35 * len(scores)))
    thresholds = np.linspace(0.0, 1.0, 101)
    for agent, found in scores.items():
        profile = performance_profile(found, thresholds, resamples=FEWER)
        if not np.isnan(profile.low).any():
            color = looks[agent]["color"]
            axes.fill_between(thresholds, profile.low, profile.high, color=color, alpha=0.14, linewidth=0)
        axes.plot(thresholds, profile.value, linewidth=2, label=agent, **looks[agent])
    axes.set_xlabel("score s", color=TEXT)
    axes.set_ylabel("share of runs above s", color=TEXT)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    _plain(axes)
    axes.legend(frameon=False, labelcolor=TEXT, fontsize=9, loc="lower left")
    return figure


def _plain(axes: Any) -> None:
    axes.grid(color=LINES, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def _figure(height: float) -> tuple[Figure, Any]:
    """Return a figure that is as wide as a phone's screen, and its axes."""
    figure = Figure(figsize=(5.0, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()
