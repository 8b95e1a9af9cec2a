"""The pictures of `benchmarks/bandits.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mbrl_gym.agents.benchmark.records import replacing

# Okabe and Ito's palette, which colour-blind people can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
TEXT, MUTED, LINES = "#283548", "#5E6C80", "#E2E8F0"


def draw_testbed(record: dict[str, Any], path: Path) -> None:
    """Draw the mean reward and the share of optimal pulls by pull, as figures 2.2, 2.4 and 2.5 of the book do."""
    figure, (reward, optimal) = _figure("The 10-armed testbed", 2)
    for color, (label, found) in zip(COLORS, record.items(), strict=False):
        pulls = np.arange(1, 1 + len(found["reward"]))
        reward.plot(pulls, found["reward"], color=color, linewidth=1.0, label=label)
        optimal.plot(pulls, 100 * np.array(found["optimal"]), color=color, linewidth=1.0)
    reward.set_ylabel("mean reward of a pull, less the centre of the means", color=TEXT)
    optimal.set_ylabel("optimal pulls [%]", color=TEXT)
    optimal.set_ylim(0, 100)
    for axes in (reward, optimal):
        axes.set_xlim(0, len(pulls))
        axes.set_xlabel("pull", color=TEXT)
    _write(figure, reward, path)


def draw_study(record: dict[str, Any], path: Path) -> None:
    """Draw the mean reward of the first 1,000 pulls by setting, as figure 2.6 of the book does."""
    figure, axes = _figure("Every algorithm at every setting", 1)
    for color, (label, found) in zip(COLORS, record.items(), strict=False):
        axes.plot(found["values"], found["rewards"], color=color, linewidth=1.8, marker="o", markersize=4, label=label)
    axes.set_xscale("log", base=2)
    ticks = 2.0 ** np.arange(-7, 3)
    axes.set_xticks(ticks, [f"1/{1 / tick:.0f}" if tick < 1 else f"{tick:.0f}" for tick in ticks])
    axes.set_xlabel("epsilon, alpha, c or initial value", color=TEXT)
    axes.set_ylabel("mean reward of the first 1,000 pulls", color=TEXT)
    _write(figure, axes, path)


def draw_regret(record: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the regret against the logarithm of the pulls, with 95 % bands and the bound's slope."""
    figure, panels = _figure("Regret beside the law", len(record))
    panels = np.atleast_1d(panels)
    names = list(dict.fromkeys(name for runs in record.values() for name in runs))
    colors = dict(zip(names, COLORS, strict=False))
    for axes, (case, runs) in zip(panels, record.items(), strict=True):
        for name, found in runs.items():
            color = colors[name]
            pulls, regret, band = (np.array(found[key]) for key in ("pulls", "regret", "error"))
            axes.fill_between(pulls, regret - 1.96 * band, regret + 1.96 * band, color=color, alpha=0.2, linewidth=0)
            axes.plot(pulls, regret, color=color, linewidth=1.8, label=name)
        law = found["constant"] * np.log(pulls)
        axes.plot(pulls, law, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="c ln t (Lai and Robbins)")
        axes.set_xscale("log")
        axes.set_xlim(1, pulls[-1])
        axes.set_ylim(0, 2 * law[-1])
        axes.set_title(case, color=TEXT, fontsize=10, loc="left")
        axes.set_xlabel("pull", color=TEXT)
    panels[0].set_ylabel("mean regret so far", color=TEXT)
    _write(figure, panels[0], path)


def _figure(title: str, panels: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7.2 if panels == 1 else 11.0, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels)
    figure.suptitle(title, color=TEXT, fontsize=12, x=0.01, ha="left", fontweight="bold")
    for each in np.atleast_1d(axes):
        each.grid(color=LINES, linewidth=0.8)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=MUTED, labelsize=9)
    return figure, axes


def _write(figure: Figure, axes: Any, path: Path) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, labelcolor=TEXT, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary)
