"""Results that are committed as CSV, and the table that quotes them."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_gym.errors import DamagedFileError

from .findings import TARGET, Collection, Group, fewest_steps
from .markdown import NO, Table, introduction, markdown_table, significant, tables
from .records import Run
from .statistics import Reached, median_time, ratio_of_times

__all__ = ["csv_text", "headline", "markdown_of_csv", "read_csv"]

NUMBERS = ("seconds", "mean_return", "std_return", "decision_ms")
COLUMNS = (
    "environment",
    "agent",
    "algorithm",
    "seed",
    "steps",
    *NUMBERS,
    "score",
    "random_return",  # mean returns of random and of the best actions, which score 0 and 1
    "optimal_return",
)
BASELINES = ("PPO", "SAC or DQN")  # algorithms: the latter where actions are choices


def csv_text(collection: Collection) -> str:
    """Return a row an evaluation; `read_csv` makes the same scores and times of them again."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for group in collection.groups:
        scores, reference = group.scores, group.settings["reference"]
        common = [group.env_id, group.agent, group.settings["algorithm"]]
        ends = [reference.get("random", ""), reference.get("optimal", "")]
        for column, run in enumerate(group.runs):
            for row, steps in enumerate(run.steps.tolist()):
                score = "" if scores is None else f"{scores[row, column]:.5f}"
                # Not rounded: tables round what they read, and must say the same as those of the run folders.
                seconds, mean, std = float(run.seconds[row]), float(run.mean[row]), float(run.std[row])
                writer.writerow([*common, run.seed, steps, seconds, mean, std, float(run.decision_ms), score, *ends])
    return text.getvalue()


def read_csv(paths: Iterable[Path]) -> Collection:
    """Read what `csv_text` made.

    Raises:
        DamagedFileError: A column or a number is missing; names the file and its line.
    """
    rows: dict[tuple[str, str], dict[int, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for path in paths:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            missing = set(COLUMNS) - set(reader.fieldnames or [])
            if missing:
                raise DamagedFileError(f"{path} has no column {', '.join(sorted(missing))}")
            for row in reader:
                try:
                    for name in ("seed", "steps", *NUMBERS):
                        float(row[name])
                    rows[row["environment"], row["agent"]][int(row["seed"])].append(row)
                except (TypeError, ValueError) as error:
                    raise DamagedFileError(f"{path}, line {reader.line_num}: {error}") from error
    return Collection([_group(env_id, agent, seeds) for (env_id, agent), seeds in rows.items()])


def _group(env_id: str, agent: str, seeds: dict[int, list[dict[str, str]]]) -> Group:
    runs, contents = [], []
    for seed, rows in sorted(seeds.items()):
        first = rows[0]
        columns = [[float(row[name]) for row in rows] for name in ("steps", "seconds", "mean_return", "std_return")]
        run = Run.of(agent, seed, Path(), list(zip(*columns, strict=True)), float(first["decision_ms"]))
        known = first["random_return"] and first["optimal_return"]
        ends = {name: float(first[f"{name}_return"]) for name in ("random", "optimal")} if known else {}
        settings = {"env_id": env_id, "agent": agent, "algorithm": first["algorithm"], "reference": ends, "seed": seed}
        runs.append(run)
        contents.append({"settings": settings, "versions": {}})
    return Group(env_id, agent, runs, contents)


def markdown_of_csv(collection: Collection) -> str:
    """Return the tables of a report, without what the folders of the runs alone hold."""
    if not collection.groups:
        return "There is no finished run.\n"
    parts = [introduction(collection)]
    for title, content in tables(collection):
        parts += [f"## {title}", *(markdown_table(table) for table in content)]
    return "\n\n".join(parts) + "\n"


def headline(collection: Collection, baselines: Sequence[str] = BASELINES) -> Table:
    """Return the table that says whether the model pays: in each environment the best agent of this package beside
    baselines, by the median steps and training times to `TARGET`, and how many times as much the baselines take.

    Args:
        collection: The runs.
        baselines: Algorithms, one or several ("SAC or DQN") a column, of which the best counts.
    """
    header = ["environment", "agent"]
    for unit in ("steps", "seconds"):
        header += [f"{unit} to {TARGET}", *(f"{unit} of {name}" for name in baselines)]
    rows = []
    for env_id in collection.env_ids:
        scored = [group for group in collection.of(env_id) if group.scores is not None]
        best = fewest_steps([group for group in scored if group.ours])
        if best is not None:
            others = [fewest_steps([each for each in scored if _is_one(each, name)]) for name in baselines]
            rows.append([env_id, best.agent, *_cells(best, others, "steps"), *_cells(best, others, "seconds")])
    return "", header, rows


def _is_one(group: Group, names: str) -> bool:
    return group.settings["algorithm"] in names.split(" or ")


def _cells(best: Group, others: list[Group | None], unit: str) -> list[str]:
    write: Callable[[float], str] = significant if unit == "seconds" else lambda value: f"{value:,.0f}"
    ours = best.reached(unit)
    cells = [_median(ours, write)]
    for other in others:
        if other is None:
            cells.append(NO)
            continue
        theirs = other.reached(unit)
        times, bound = ratio_of_times(theirs, ours, resamples=0)
        ratio = NO if math.isnan(times.value) else f"{'> ' if bound else ''}{significant(times.value)} times"
        cells.append(f"{_median(theirs, write)} ({ratio})")
    return cells


def _median(reached: Sequence[Reached], write: Callable[[float], str]) -> str:
    """Write a median time; one that is not reached as a bound."""
    found: Any = median_time(reached, resamples=0)
    return f"> {write(found.at_least)}" if np.isinf(found.median) else write(found.median)
