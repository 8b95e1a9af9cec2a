"""Summaries of runs over seeds: in the terminal and as CSV."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from .evaluation import Reference
from .records import COLUMNS, Run, replacing

__all__ = ["Spread", "Summary", "render", "summarize", "write_curves", "write_results"]


@dataclass(frozen=True)
class Spread:
    """A number over seeds."""

    median: float
    low: float  # the smallest
    high: float  # the largest

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Summary:
    """One agent over its seeds."""

    agent: str
    seeds: int  # how many
    final_return: Spread  # mean return of the evaluation episodes after training
    steps: Spread  # environment steps
    seconds: Spread  # training time [s]
    decision_ms: Spread  # time of a decision [ms]


def summarize(runs: Sequence[Run]) -> list[Summary]:
    """Summarise runs by agent, best median return first."""
    summaries = []
    for agent in dict.fromkeys(run.agent for run in runs):
        own = [run for run in runs if run.agent == agent]
        summaries.append(
            Summary(
                agent,
                len(own),
                Spread.of([float(run.mean[-1]) for run in own]),
                Spread.of([int(run.steps[-1]) for run in own]),
                Spread.of([float(run.seconds[-1]) for run in own]),
                Spread.of([run.decision_ms for run in own]),
            )
        )
    return sorted(summaries, key=lambda summary: -summary.final_return.median)


def render(summaries: Sequence[Summary], reference: Reference, *, title: str, caption: str) -> Table:
    """Return the summaries as a table for the terminal."""
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    table.add_column("agent", style="bold")
    for name in ("return", "min \N{HORIZONTAL ELLIPSIS} max", "steps", "training", "a decision"):
        table.add_column(name, justify="right", no_wrap=True)
    digits = _digits([summary.final_return.median for summary in summaries])
    for summary in summaries:
        spread = summary.final_return
        table.add_row(
            summary.agent,
            Text(_number(spread.median, digits), style="bold"),
            f"{_number(spread.low, digits)} \N{HORIZONTAL ELLIPSIS} {_number(spread.high, digits)}",
            f"{summary.steps.median:,.0f}",
            f"{_significant(summary.seconds.median)} s",
            f"{_significant(summary.decision_ms.median)} ms",
        )
    table.add_section()
    if reference.optimum is not None:
        table.add_row("optimum", _number(reference.optimum, digits), style="dim")
    table.add_row("random", _number(reference.random, digits), style="dim")
    return table


def write_results(summaries: Sequence[Summary], reference: Reference, path: Path) -> None:
    """Write a row an agent, and one for each reference value."""
    names = ("return", "steps", "training_seconds", "decision_ms")
    header = [f"{name}_{part}" for name in names for part in ("median", "min", "max")]
    blank = [""] * (len(header) - 1)
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["agent", "seeds", *header])
        for summary in summaries:
            spreads = (summary.final_return, summary.steps, summary.seconds, summary.decision_ms)
            numbers = [number for spread in spreads for number in (spread.median, spread.low, spread.high)]
            writer.writerow([summary.agent, summary.seeds, *numbers])
        if reference.optimum is not None:
            writer.writerow(["optimum", "", reference.optimum, *blank])
        writer.writerow(["random", "", reference.random, *blank])


def write_curves(runs: Sequence[Run], path: Path) -> None:
    """Write a row an evaluation."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["agent", "seed", *COLUMNS])
        for run in sorted(runs, key=lambda run: (run.agent, run.seed)):
            columns = (column.tolist() for column in (run.steps, run.seconds, run.mean, run.std))
            writer.writerows([run.agent, run.seed, *row] for row in zip(*columns, strict=True))


def _digits(values: Sequence[float]) -> int:
    """Return the decimals that show three significant digits of the smallest value."""
    smallest = min((abs(value) for value in values), default=0.0)
    return 0 if smallest >= 1000 else 1 if smallest >= 100 else 2


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _significant(value: float) -> str:
    """Write a positive number with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
