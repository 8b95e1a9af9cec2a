"""Results of bandit algorithms as a table, as CSV files, and as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from ..benchmark.records import replacing
from .simulation import BanditRun

__all__ = ["plot_runs", "render_runs", "write_run_curves", "write_runs"]

Array = np.ndarray[Any, Any]

# Okabe and Ito's palette, which colour-blind people can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.5)))
TEXT, MUTED, LINES = "#283548", "#5E6C80", "#E2E8F0"
CONFIDENCE = 1.96  # standard errors of a 95 % interval
POINTS = 400  # that a curve of a picture has, at most

COLUMNS = ("algorithm", "regret", "regret_error", "optimal", "reward", "law_ratio", "law_slope", "seconds")


def figures(run: BanditRun) -> dict[str, Any]:
    """Return the figures of a run by column: shares and rewards are those of the last tenth of the pulls."""
    last = slice(-max(1, run.pulls // 10), None)
    since = max(1, run.pulls // 10)
    return {
        "algorithm": run.label,
        "regret": run.regret[-1],
        "regret_error": run.regret_error[-1],
        "optimal": run.optimal[last].mean(),
        "reward": run.reward[last].mean(),
        "law_ratio": run.law_ratio,
        "law_slope": run.law_slope(since) if run.pulls > since else None,
        "seconds": run.seconds,
    }


def render_runs(runs: Sequence[BanditRun], *, title: str) -> Table:
    """Return a table for the terminal, the least regret first."""
    lawful = runs[0].lai_robbins is not None
    table = Table(box=box.SIMPLE, pad_edge=False, title=title, title_justify="left", title_style="bold")
    table.add_column("algorithm", style="bold", overflow="fold")
    heads = ["regret (95 %)", "optimal pulls, last 10 %", "reward, last 10 %"]
    heads += ["regret / (c ln n)", "slope / c, last decade"] if lawful else []
    for head in (*heads, "seconds"):
        table.add_column(head, justify="right")
    for run in sorted(runs, key=lambda run: float(run.regret[-1])):
        row = figures(run)
        cells = [f"{row['regret']:,.1f} ± {CONFIDENCE * row['regret_error']:.1f}"]
        cells += [f"{100 * row['optimal']:.1f} %", f"{row['reward']:.3f}"]
        if lawful:
            cells += ["" if row[name] is None else f"{row[name]:.2f}" for name in ("law_ratio", "law_slope")]
        table.add_row(run.label, *cells, f"{row['seconds']:.1f}")
    return table


def write_runs(runs: Sequence[BanditRun], path: Path) -> None:
    """Write the table as CSV."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(figures(run) for run in runs)


def write_run_curves(runs: Sequence[BanditRun], path: Path) -> None:
    """Write the curves as CSV, at every pull up to some hundreds, then at ever wider distances."""
    names = ("reward", "optimal", "regret", "regret_error")
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("algorithm", "pull", *names))
        for run in runs:
            for pull in _spread(run.pulls):
                writer.writerow((run.label, pull, *(f"{getattr(run, name)[pull - 1]:.6g}" for name in names)))


def plot_runs(runs: Sequence[BanditRun], path: Path, *, title: str) -> None:
    """Write a PNG with the reward, the share of optimal pulls and the regret, with 95 % confidence bands.

    Rewards and shares are means over blocks of pulls. The regret's axis of pulls is logarithmic, where the Lai-Robbins
    bound is a straight line.

    Args:
        runs: Of the same problems and pulls.
        path: The file.
        title: Written above.
    """
    figure = Figure(figsize=(13.0, 5.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    reward, optimal, regret = figure.subplots(1, 3)
    for number, run in enumerate(runs):
        style = {"color": COLORS[number % len(COLORS)], "linestyle": DASHES[number // len(COLORS) % len(DASHES)]}
        _draw(reward, *_blocks(run.reward, run.block), run.reward_error, style, run.label)
        _draw(optimal, *_blocks(100 * run.optimal, run.block), 100 * run.optimal_error, style)
        pulls = _spread(run.pulls)
        _draw(regret, pulls, run.regret[pulls - 1], run.regret_error[pulls - 1], style)
    _draw_law(regret, runs[0])
    labels = ("mean reward of a pull", "optimal pulls [%]", "regret so far")
    for axes, label in zip((reward, optimal, regret), labels, strict=True):
        _style(axes, label, runs[0].pulls)
    optimal.set_ylim(0, 100)
    regret.set_xscale("log")
    regret.set_xlim(1, max(2, runs[0].pulls))
    figure.suptitle(title, color=TEXT, fontsize=12, x=0.01, ha="left", fontweight="bold")
    handles, names = reward.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), frameon=False, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _draw(axes: Any, x: Array, mean: Array, error: Array, style: dict[str, Any], label: str | None = None) -> None:
    band = CONFIDENCE * error
    axes.fill_between(x, mean - band, mean + band, color=style["color"], alpha=0.18, linewidth=0)
    axes.plot(x, mean, linewidth=1.6, label=label, **style)


def _draw_law(axes: Any, run: BanditRun) -> None:
    """Draw the slope of the Lai-Robbins bound, c ln t."""
    if run.lai_robbins is None:
        return
    pulls = _spread(run.pulls)
    bound = run.lai_robbins.mean() * np.log(pulls)
    # Tiny gaps make the mean constant huge: the bound then says nothing yet.
    if not 0 < bound[-1] <= 1.5 * axes.get_ylim()[1]:
        return
    axes.plot(pulls, bound, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    middle = len(pulls) // 2  # where the curves are still below
    axes.annotate("Lai-Robbins: c ln t ", (pulls[middle], bound[middle]), color=MUTED, ha="right", fontsize=9)


def _style(axes: Any, label: str, pulls: int) -> None:
    axes.set_xlabel("pull", color=TEXT)
    axes.set_ylabel(label, color=TEXT)
    axes.set_xlim(0, pulls)
    axes.grid(color=LINES, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=MUTED, labelsize=9)


def _blocks(values: Array, size: int) -> tuple[Array, Array]:
    """Return the middles of the blocks of pulls, counted from 1, and the means in them."""
    count = len(values) // size
    return np.arange(count) * size + 0.5 * (size + 1), values[: count * size].reshape(count, size).mean(1)


def _spread(pulls: int) -> Array:
    """Return numbers of pulls at ever wider distances, the first and the last among them."""
    return np.unique(np.geomspace(1, pulls, POINTS).round().astype(np.int64))
