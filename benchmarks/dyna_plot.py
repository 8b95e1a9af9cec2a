"""The picture of `dyna.py`: returns against environment steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

COLORS = {"mbpo": "#0072B2", "sac": "#D55E00"}
LABELS = {"mbpo": "MBPO", "sac": "SAC"}
TEXT, MUTED = "#283548", "#5E6C80"


def plot_curves(
    records: dict[str, dict[str, list[dict[str, Any]]]], targets: dict[str, float | None], path: Path
) -> None:
    """Write a PNG with a panel for each environment that has runs.

    Lines are medians over seeds, bands reach from the smallest to the largest; steps are on a logarithmic axis.
    """
    shown = [name for name, agents in records.items() if any(agents.values())]
    if not shown:
        return
    figure = Figure(figsize=(3.9 * len(shown), 3.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for agent, runs in records[name].items():
            if runs:
                _draw(axes, agent, runs)
        if targets[name] is not None:
            axes.axhline(targets[name], color=MUTED, linestyle=":", linewidth=1.2)
            axes.annotate(
                "target",
                (0.02, targets[name]),
                xycoords=("axes fraction", "data"),
                color=MUTED,
                va="bottom",
                fontsize=8,
            )
        axes.set_title(name, color=TEXT, fontsize=11, loc="left")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: f"{steps:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("environment steps", color=TEXT)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="best", labelcolor=TEXT)
    figure.supylabel("return (median of the seeds, min to max)", color=TEXT, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw(axes: Axes, agent: str, runs: list[dict[str, Any]]) -> None:
    count = min(len(run["mean"]) for run in runs)
    steps = np.array(runs[0]["steps"][1:count])  # 0 has no place on a logarithmic axis
    returns = np.array([run["mean"][1:count] for run in runs])
    axes.plot(steps, np.median(returns, 0), color=COLORS[agent], label=LABELS[agent], linewidth=1.6)
    axes.fill_between(steps, returns.min(0), returns.max(0), color=COLORS[agent], alpha=0.18, linewidth=0)
