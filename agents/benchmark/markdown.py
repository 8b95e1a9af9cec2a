"""The report of a benchmark as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .findings import TARGET, Collection, Group, Standing, efficiency, facts, improvements, standings
from .statistics import Interval, Time, interquartile_mean

__all__ = [
    "NO",
    "Table",
    "introduction",
    "markdown",
    "markdown_table",
    "settings_lines",
    "significant",
    "tables",
    "troubles",
]

NO = "-"

Table = tuple[str, list[str], list[list[str]]]  # caption, header, rows


def markdown(collection: Collection) -> str:
    """Return the report."""
    if not collection.groups:
        parts = ["# Benchmark", "There is no finished run."]
    else:
        parts = ["# Benchmark", introduction(collection)]
        for title, content in tables(collection):
            parts += [f"## {title}", *(markdown_table(table) for table in content)]
        parts += ["## Settings", "\n".join(f"- {line}" for line in settings_lines(collection))]
        parts += ["## Made with", "; ".join(facts(collection)) + "."]
    return "\n\n".join([*parts, *_troubles(collection)]) + "\n"


def introduction(collection: Collection) -> str:
    """Return what the numbers mean."""
    runs = sum(len(group.runs) for group in collection.groups)
    return (
        f"{runs} runs of {len(collection.agents)} agents in {len(collection.env_ids)} environments. A score of 0 is "
        "what random actions earn, 1 is the optimum. Numbers are interquartile means over seeds with 95% intervals of "
        "stratified bootstraps (Agarwal et al. 2021). Times to a score are medians over seeds (Kaplan and Meier); runs "
        "that ended without reaching it count as censored. Training time leaves evaluations out; every run has one "
        "thread."
    )


def tables(collection: Collection) -> list[tuple[str, list[Table]]]:
    """Return the tables by their titles."""
    found = []
    overall = [each for each in (_overall(collection), _improvements(collection)) if each[2]]
    if overall:
        found.append(("All environments", overall))
    for env_id in collection.env_ids:
        groups = collection.of(env_id)
        content = [environment_table(standings(groups)), _efficiency(groups), _splits(groups)]
        found.append((env_id, [table for table in content if table[2]]))
    return found


def _overall(collection: Collection) -> Table:
    rows = []
    for agent in collection.agents:
        scores = collection.final_scores(agent)
        if scores:
            runs = sum(len(values) for values in scores.values())
            rows.append([agent, str(len(scores)), str(runs), interval(interquartile_mean(scores))])
    return "Scores at the end of training", ["agent", "environments", "runs", "score"], rows


def _improvements(collection: Collection) -> Table:
    rows = [[f"{one} > {other}", str(tasks), interval(found)] for one, other, tasks, found in improvements(collection)]
    return "Probability of improvement", ["pair", "environments", "probability"], rows


def environment_table(found: Sequence[Standing]) -> Table:
    """Return the table of one environment."""
    header = [
        "agent",
        "seeds",
        "steps",
        "return",
        "score",
        f"steps to {TARGET}",
        f"seconds to {TARGET}",
        "training [s]",
        "a decision [ms]",
    ]
    rows = []
    for standing in found:
        group = standing.group
        rows.append(
            [
                group.agent,
                str(len(group.runs)),
                f"{group.steps[-1]:,}",
                interval(standing.final_return, digits_of(standing.final_return.value)),
                NO if standing.score is None else interval(standing.score),
                _time(standing.steps, lambda value: f"{value:,.0f}"),
                _time(standing.seconds, significant),
                significant(float(group.seconds[-1])),
                significant(float(np.median([run.decision_ms for run in group.runs]))),
            ]
        )
    reference = found[0].group.settings["reference"]
    caption = "" if not reference else _reference(reference)
    return caption, header, rows


def _reference(reference: dict[str, Any]) -> str:
    method = f", {reference['method']}" if reference.get("method") else ""
    kind = f" ({reference['kind']}{method})" if reference.get("kind") else ""
    return f"Random actions return {reference['random']:,.2f}, the best {reference['optimal']:,.2f}{kind}"


def _efficiency(groups: list[Group]) -> Table:
    found = efficiency(groups)
    rows = [
        [each.other.agent, ratio(each.steps, each.steps_bound), ratio(each.seconds, each.seconds_bound)]
        for each in found
    ]
    caption = f"Times as much as {found[0].ours.agent} takes to a score of {TARGET}" if found else ""
    return caption, ["agent", "steps", "seconds"], rows


def _splits(groups: list[Group]) -> Table:
    header, rows = ["agent", "environment", "model fits", "planning and acting", "updates", "other"], []
    for group in groups:
        split = group.split()
        if split:
            shares = [f"{100 * split.get(part, 0.0):.0f}%" for part in ("env", "fit", "plan", "update", "other")]
            rows.append([group.agent, *shares])
    return "Where the training time goes", header, rows


def settings_lines(collection: Collection) -> list[str]:
    """Return the settings of each agent in each environment, and where they are from."""
    lines = []
    for group in collection.groups:
        settings = group.settings
        more = {name: settings[name] for name in ("policy", "env", "shared_env") if settings[name]}
        more |= {"n_envs": settings["n_envs"]} if settings["n_envs"] > 1 else {}
        more |= {"normalize": True} if settings["normalize"] else {}
        source = f" ({settings['source']})" if settings["source"] else ""
        told = json.dumps({**settings["settings"], **more})
        lines.append(f"{group.env_id}, {group.agent}: {settings['algorithm']} `{told}`{source}")
    return lines


def _troubles(collection: Collection) -> list[str]:
    """Return the sections about what is missing."""
    parts = []
    if collection.failures:
        parts.append("## Failed runs")
        parts += [f"{place}:\n\n```\n{text.strip()}\n```" for place, text in collection.failures]
    for title, places in troubles(collection):
        parts += [f"## {title}", "\n".join(f"- {place}" for place in places)]
    return parts


def troubles(collection: Collection) -> list[tuple[str, list[str]]]:
    """Return lists of runs that do not count, by their titles."""
    found = [
        ("Damaged runs, which are not counted", collection.damaged),
        ("Unfinished runs", collection.unfinished),
        ("Runs of other settings than the rest, which are not counted", collection.left_out),
    ]
    return [(title, places) for title, places in found if places]


def markdown_table(table: Table) -> str:
    """Return a table under its caption."""
    caption, header, rows = table
    lines = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join([*([caption + ":", ""] if caption else []), *lines])


def interval(found: Interval, digits: int = 2) -> str:
    """Write a number with its interval."""
    if math.isnan(found.low):
        return f"{found.value:,.{digits}f}"
    return f"{found.value:,.{digits}f} ({found.low:,.{digits}f} to {found.high:,.{digits}f})"


def _time(found: Time | None, write: Callable[[float], str]) -> str:
    if found is None:
        return NO
    reached = "" if found.reached == found.runs else f"; {found.reached} of {found.runs} runs"
    if math.isinf(found.median):
        return f"> {write(found.at_least)}{reached}"
    if math.isnan(found.low) or found.low == found.high:
        return f"{write(found.median)}{reached}"
    high = f"> {write(found.at_least)}" if math.isinf(found.high) else write(found.high)
    return f"{write(found.median)} ({write(found.low)} to {high}){reached}"


def ratio(found: Interval, bound: bool) -> str:
    """Write how many times as much; a lower bound with a sign."""
    if math.isnan(found.value):
        return NO
    ends = "" if math.isnan(found.low) else f" ({significant(found.low)} to {significant(found.high)})"
    return f"{'> ' if bound else ''}{significant(found.value)}{ends}"


def digits_of(value: float) -> int:
    """Return the decimals with which a return is written."""
    return 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2


def significant(value: float) -> str:
    """Write a positive number with about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
