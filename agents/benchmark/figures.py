"""Pictures of a benchmark's report."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .findings import TARGET, Collection, Group
from .plots import LINES, MOST, MUTED, PALETTE, TEXT, count_label, duration_label, style
from .statistics import interquartile_mean, performance_profile

__all__ = ["curves_figure", "overall_figure", "styles"]

DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
LEAST = -0.3  # of the scores that are drawn: beginners may be far worse than random actions
FEWER = 400  # resamples, which are enough for a band


def styles(agents: list[str]) -> dict[str, dict[str, Any]]:
    """Return a colour and a kind of line for each agent."""
    return {
        agent: {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i // len(PALETTE) % len(DASHES)]}
        for i, agent in enumerate(agents)
    }


def curves_figure(groups: list[Group], looks: dict[str, dict[str, Any]]) -> Figure:
    """Draw the agents of one environment: scores (or returns) against environment steps and against training time.

    Lines are interquartile means over seeds, bands their 95% intervals.
    """
    figure = _figure(9.6, 4.4)
    panels = figure.subplots(1, 2, sharey=True)
    scored = groups[0].scores is not None
    for axes, column, label in zip(panels, ("steps", "seconds"), ("environment steps", "training time"), strict=True):
        first, last = np.inf, 0.0
        for group in groups:
            x, look = getattr(group, column), looks[group.agent]
            values = group.scores if group.scores is not None else group.returns
            found = interquartile_mean({group.env_id: values}, resamples=FEWER)
            if not np.isnan(found.low).any():
                axes.fill_between(x, found.low, found.high, color=look["color"], alpha=0.16, linewidth=0)
            axes.plot(x, found.value, linewidth=2, marker="o", markersize=3, label=group.agent, **look)
            first, last = min(first, x[1]), max(last, x[-1])
        if scored:
            axes.axhline(1.0, color=TEXT, linewidth=1.2, linestyle=(0, (6, 3)), zorder=1)
            axes.axhline(TARGET, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
            axes.set_ylim(LEAST, 1.1)
        style(axes, max(first, last / MOST), last, count_label if column == "steps" else duration_label)
        axes.set_xlabel(label, color=TEXT)
    panels[0].set_ylabel("score (1 is the optimum)" if scored else "return", color=TEXT)
    handles, labels = panels[0].get_legend_handles_labels()
    columns = min(len(labels), 6)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, labelcolor=TEXT)
    return figure


def overall_figure(collection: Collection, looks: dict[str, dict[str, Any]]) -> Figure | None:
    """Draw scores over all environments, and performance profiles; None if no scores are known."""
    scores = {agent: collection.final_scores(agent) for agent in collection.agents}
    scores = {agent: found for agent, found in scores.items() if found}
    if not scores:
        return None
    figure = _figure(9.6, max(3.2, 1.6 + 0.32 * len(scores)))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    for row, (agent, found) in enumerate(scores.items()):
        mean, color = interquartile_mean(found), looks[agent]["color"]
        if not np.isnan(mean.low):
            left.plot([max(mean.low, LEAST), max(mean.high, LEAST)], [row, row], color=color, linewidth=7, alpha=0.3)
        marker, place = ("o", mean.value) if mean.value >= LEAST else ("<", LEAST)
        left.plot([place], [row], marker, color=color, markersize=7, clip_on=False)
    left.set_yticks(range(len(scores)), list(scores))
    left.set_ylim(len(scores) - 0.4, -0.6)
    left.set_xlim(LEAST, 1.05)
    left.set_xlabel("score at the end: interquartile mean", color=TEXT)
    thresholds = np.linspace(0.0, 1.0, 101)
    for agent, found in scores.items():
        profile = performance_profile(found, thresholds, resamples=FEWER)
        if not np.isnan(profile.low).any():
            color = looks[agent]["color"]
            right.fill_between(thresholds, profile.low, profile.high, color=color, alpha=0.14, linewidth=0)
        right.plot(thresholds, profile.value, linewidth=2, label=agent, **looks[agent])
    right.set_xlabel("score s", color=TEXT)
    right.set_ylabel("share of runs above s", color=TEXT)
    right.set_xlim(0, 1)
    right.set_ylim(-0.02, 1.02)
    for axes in (left, right):
        axes.grid(color=LINES, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=MUTED, length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(MUTED)
    right.legend(frameon=False, labelcolor=TEXT, fontsize=9, loc="lower left")
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
