"""The page of `benchmarks/exploration.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["page"]

Record = dict[str, Any]

DISC, RING = np.pi * 0.05**2, np.pi * (1.8**2 - 0.2**2)  # [m^2]
FIRST = 5  # seeds, in which a curious agent is to find what random actions do not
EPISODE, BUDGET = 50, 1_200  # steps


def page(records: Sequence[Record], tasks: Sequence[str], agents: Sequence[str], machine: str) -> list[str]:
    """Return the page of all runs that are finished."""
    return [
        "# Exploration",
        "",
        f"Made by `python benchmarks/exploration.py --out runs/exploration` ({machine}, one core): in how many runs an "
        "agent meets the sparse reward within a budget of steps. Dynamics and reward are learned; nothing tells the "
        "agents where the reward is.",
        "",
        f"| task | agent | budget | found, seeds 0 to {FIRST - 1} | found, all seeds | steps of those that found |",
        "|---|---|---|---|---|---|",
        *_rows(records, tasks, agents),
        *_targets([record for record in records if "curve" in record]),
    ]


def _rows(records: Sequence[Record], tasks: Sequence[str], agents: Sequence[str]) -> list[str]:
    rows = []
    for task in tasks:
        for agent in agents:
            runs = [record for record in records if (record.get("task"), record.get("agent")) == (task, agent)]
            if runs:
                reached = sorted(run["found"] for run in runs if run["found"] is not None)
                steps = ", ".join(f"{step:,}" for step in reached)
                first = [run["found"] is not None for run in runs if run["seed"] < FIRST]
                shares = f"{sum(first)} of {len(first)} | {len(reached)} of {len(runs)}"
                rows.append(f"| {task} | {agent} | {runs[0]['budget']:,} | {shares} | {steps} |")
    return rows


def _targets(curves: Sequence[Record]) -> list[str]:
    """Return what one target and ever new ones make of the arm."""
    if not curves:
        return []
    marks = curves[0]["marks"]
    share = EPISODE * DISC / RING
    within = 1 - (1 - share) ** (BUDGET / EPISODE)
    lucky = 5 * within**4 * (1 - within) + within**5
    needed = EPISODE * np.log(0.2) / np.log(1 - share)
    rows = [
        f"| {curve['curve']} | {curve['hold']} | "
        + " | ".join(f"{100 * found:.0f} %" for found in curve["found"])
        + " |"
        for curve in sorted(curves, key=lambda curve: (curve["curve"] != "one target", curve["hold"]))
    ]
    return [
        "",
        "## One target, or ever new ones",
        "",
        "`mbrl/ArmSparse-v0` draws a start and a target for every episode of 50 steps. With *one target* every episode "
        "starts in the state that the first reset of the seed finds, by `reset(options={'state': ...})`, so that an "
        "agent can profit from what it has tried before: random actions hardly ever leave the start's surroundings, "
        "while plans for new places go to where no episode led before.",
        "",
        "With a *new target* in every episode nothing that was learned tells where it is: every episode is a search of "
        f"its own. A step tries a disc of 5 cm radius, and the tip can reach {RING:.1f} square metres. An agent that "
        f"never tries a place twice in an episode finds the target in {share:.1%} of them, so within {BUDGET:,} steps "
        f"in {within:.0%} of the runs, and within {needed:,.0f} steps in 80 %. Random actions do so in about half as "
        f"many. Five seeds are few: at {within:.0%}, 4 or 5 of 5 runs find it in {lucky:.0%} of the cases.",
        "",
        f"Random actions in {curves[0]['runs']} runs, each action taken for some steps; share of the runs that met the "
        "reward by step",
        "",
        "| targets | steps an action | " + " | ".join(f"{mark:,}" for mark in marks) + " |",
        "|---|---|" + "---|" * len(marks),
        *rows,
    ]
