"""The pictures of `benchmarks/dyna_q.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbrl_gym.agents.benchmark.records import replacing

# Okabe and Ito's palette, which colour-blind people can tell apart.
COLORS = ("#0072B2", "#009E73", "#D55E00")
TEXT, MUTED, LINES = "#283548", "#5E6C80", "#E2E8F0"
AGENTS = {"DynaQPlus": ("Dyna-Q+", COLORS[2]), "DynaQ": ("Dyna-Q", COLORS[0])}
HIGHEST = 800  # steps that the axis shows, as in the book


def draw_lengths(records: dict[int, dict[str, Any]], enough: int, path: Path) -> None:
    """Draw the mean length of episodes, as figure 8.2 of Sutton and Barto (2018); bands are two standard errors.

    Args:
        records: "mean", "error" `[episodes]` and "runs" by planning steps.
        enough: Length that is marked.
        path: The PNG.
    """
    figure, axes = _figure("Dyna maze: what planning saves")
    for color, (n, record) in zip(COLORS, records.items(), strict=False):
        mean, error = np.array(record["mean"]), np.array(record["error"])
        episodes = np.arange(1, len(mean) + 1)
        label = "no planning (Q-learning)" if n == 0 else f"{n} planning steps"
        axes.fill_between(episodes, mean - 2 * error, mean + 2 * error, color=color, alpha=0.2, linewidth=0)
        axes.plot(episodes, mean, color=color, linewidth=1.8, label=label)
    axes.axhline(enough, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.annotate(f"{enough} steps", (len(mean), enough), color=MUTED, ha="right", va="bottom", fontsize=9)
    axes.set_xlim(1, len(mean))
    axes.set_ylim(0, HIGHEST)
    axes.set_xlabel("episode", color=TEXT)
    axes.set_ylabel(f"steps per episode (mean of {record['runs']} runs)", color=TEXT)
    _write(figure, axes, path)


def draw_rewards(name: str, record: dict[str, Any], change_at: int, path: Path) -> None:
    """Draw the reward gathered so far, as figures 8.4 and 8.5 of Sutton and Barto (2018).

    Bands are two standard errors of the mean.

    Args:
        name: Of the maze.
        record: "runs", and by agent "mean" and "deviation" `[steps]`.
        change_at: The step at which the maze changes.
        path: The PNG.
    """
    figure, axes = _figure(f"{name}: who looks again finds the new way")
    for agent, (label, color) in AGENTS.items():
        mean, deviation = np.array(record[agent]["mean"]), np.array(record[agent]["deviation"])
        error, steps = deviation / np.sqrt(record["runs"]), np.arange(1, len(mean) + 1)
        axes.fill_between(steps, mean - 2 * error, mean + 2 * error, color=color, alpha=0.2, linewidth=0)
        axes.plot(steps, mean, color=color, linewidth=1.8, label=label)
    axes.axvline(change_at, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.annotate("the maze changes ", (change_at, axes.get_ylim()[1]), color=MUTED, ha="right", va="top", fontsize=9)
    axes.set_xlim(0, len(mean))
    axes.set_ylim(0)
    axes.set_xlabel("step", color=TEXT)
    axes.set_ylabel(f"reward gathered (mean of {record['runs']} runs)", color=TEXT)
    _write(figure, axes, path)


def _figure(title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    figure.suptitle(title, color=TEXT, fontsize=12, x=0.01, ha="left", fontweight="bold")
    axes.grid(color=LINES, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=MUTED, labelsize=9)
    return figure, axes


def _write(figure: Figure, axes: Any, path: Path) -> None:
    axes.legend(frameon=False, labelcolor=TEXT, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary)
