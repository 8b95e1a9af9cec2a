"""The picture of the learning curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .evaluation import Reference
from .records import Run, replacing
from .settings import AGENTS

__all__ = [
    "LINES",
    "MOST",
    "MUTED",
    "PALETTE",
    "TEXT",
    "count_label",
    "duration_label",
    "plot_learning_curves",
    "style",
]

# Okabe and Ito's palette, which colour-blind people can tell apart.
PALETTE = ("#0072B2", "#CC79A7", "#D55E00", "#009E73", "#E69F00", "#56B4E9")
COLORS = dict(zip(AGENTS, PALETTE, strict=True))
TEXT, MUTED, LINES = "#283548", "#5E6C80", "#E2E8F0"
MOST = 1000.0  # ratio of the ends of the logarithmic part: what comes before takes little room


def plot_learning_curves(runs: Sequence[Run], reference: Reference, path: str | Path, *, title: str) -> None:
    """Write a PNG with the return against environment steps and against training time, both logarithmic.

    Lines are medians over seeds, bands reach from the smallest to the largest. To show the start, the axes are linear
    from 0 to the first evaluation.

    Args:
        runs: Runs of any agents; all runs of one agent have the same number of evaluations.
        reference: Drawn as horizontal lines.
        path: The file.
        title: Written above.
    """
    figure = Figure(figsize=(10.0, 4.9), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, label in zip(panels, ("steps", "seconds"), ("environment steps", "training time"), strict=True):
        _draw_panel(axes, runs, column, reference)
        axes.set_xlabel(label, color=TEXT)
    panels[0].set_ylabel("return (line: median of the seeds, band: min to max)", color=TEXT)
    figure.suptitle(title, color=TEXT, fontsize=12, x=0.01, ha="left", fontweight="bold")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, labelcolor=TEXT)
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary)


def _draw_panel(axes: Any, runs: Sequence[Run], column: str, reference: Reference) -> None:
    """Draw every agent's curve against one column of its runs."""
    first, last = np.inf, 0.0
    for agent in (name for name in AGENTS if any(run.agent == name for run in runs)):
        own = [run for run in runs if run.agent == agent]
        x = np.median([getattr(run, column) for run in own], axis=0)  # [M]
        returns = np.array([run.mean for run in own])  # [seeds, M]
        color = COLORS[agent]
        axes.fill_between(x, returns.min(0), returns.max(0), color=color, alpha=0.18, linewidth=0)
        axes.plot(x, np.median(returns, 0), color=color, linewidth=2, marker="o", markersize=3.5, label=agent)
        first, last = min(first, x[1]), max(last, x[-1])
    if reference.optimum is not None:
        axes.axhline(reference.optimum, color=TEXT, linewidth=1.2, linestyle=(0, (6, 3)), label="optimum", zorder=1)
    axes.axhline(reference.random, color=MUTED, linewidth=1.2, linestyle=(0, (1, 2)), label="random", zorder=1)
    style(axes, max(first, last / MOST), last, count_label if column == "steps" else duration_label)


def style(axes: Any, first: float, last: float, label: Callable[[float, int], str]) -> None:
    """Scale the x axis logarithmically from `first` to `last`, and clear the frame."""
    axes.set_xscale("symlog", linthresh=first, linscale=0.4)
    axes.set_xlim(0, 1.15 * last)
    decades = 10.0 ** np.arange(np.floor(np.log10(first)), np.floor(np.log10(last)) + 1)
    within = [m * d for d in decades for m in (1, 2, 5) if first <= m * d <= 1.15 * last]
    ticks = [x for x in within if x in decades] if len(within) > 6 else within
    axes.xaxis.set_major_locator(FixedLocator([0.0, *ticks]))
    axes.xaxis.set_major_formatter(FuncFormatter(label))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(color=LINES, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def count_label(value: float, _: int) -> str:
    return f"{value:,.0f}"


def duration_label(value: float, _: int) -> str:
    return f"{value:,g} s" if value else "0"
