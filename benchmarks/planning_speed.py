"""Cost of a decision beside the bare matrix products of its model, in one run: `python benchmarks/planning_speed.py`.

PETS's model and budget (Chua et al. 2018): an ensemble of 5 members with 4 layers of 200 for
`mbrl/CartPoleContinuous-v0`, 400 candidates with 20 particles that sample noise, 15 steps ahead, 5 iterations of CEM;
reward and termination are exact. Beside it stand the products of its layers (`torch.bmm` of plain layers in float32,
into memory that is there already) and nothing else, as often as a decision needs them. What is compared takes turns;
each ratio is the median over turns, with the quartiles behind it. A transition is one step of one particle.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from model_speed import Run, in_bfloat16, machine, take_turns

import mbrl_gym  # noqa: F401  # registers the ids
from mbrl_gym.agents import CEM, ICEM, Planner, random_transitions
from mbrl_gym.models import GaussianEnsemble

ENVIRONMENT = "mbrl/CartPoleContinuous-v0"
MEMBERS, HIDDEN = 5, (200, 200, 200, 200)
POPULATION, PARTICLES, HORIZON, ITERATIONS = 400, 20, 15, 5
TRANSITIONS = POPULATION * PARTICLES * HORIZON * ITERATIONS  # of a decision


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20, help="turns of every comparison")
    parser.add_argument("--decisions", type=int, default=50, help="of PETS's size; ten times as many of iCEM")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bf16"], choices=["float32", "bf16"])
    parser.add_argument("--out", type=Path, default=None, help="Markdown file to write")
    given = parser.parse_args()
    lines = [machine(), "", *SPEED_HEAD]
    for threads in given.threads:
        for precision in given.precisions:
            lines.append(speed_row(speed(threads=threads, precision=precision, turns=given.turns)))
    lines += ["", *LATENCY_HEAD]
    for threads in given.threads:
        lines += latency_rows(latency(threads=threads, decisions=given.decisions))
    print("\n".join(lines))
    if given.out:
        command = " ".join(["python benchmarks/planning_speed.py", *sys.argv[1:]])
        given.out.write_text("\n".join([f"Made by `{command}`.", "", *lines, ""]))


SPEED_HEAD = [
    "| decision of PETS's size | threads | transitions a second | bare float32 products "
    "| bare products in its precision | share of float32's | quartiles |",
    "|---|---|---|---|---|---|---|",
]
LATENCY_HEAD = ["| decision in float32 | threads | p50 [ms] | p99 [ms] |", "|---|---|---|---|"]


def speed(*, threads: int, precision: str = "float32", turns: int = 20) -> dict[str, Any]:
    """Return transitions a second of decisions, those that the bare products allow, and the share reached.

    The share is that of the products in float32; in the decisions' own precision they are told beside them.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = pets_model(precision)
        runs = {"bare": bare_products(), "decision": decision(pets_planner(), model)}
        if precision == "bf16":
            runs["bare, own precision"] = bare_products(torch.bfloat16)
        seconds = take_turns(runs, turns)
    finally:
        torch.set_num_threads(before)
    low, share, high = np.percentile(seconds["bare"] / seconds["decision"], [25, 50, 75])
    return {
        "precision": precision,
        "threads": threads,
        "transitions": TRANSITIONS / float(np.median(seconds["decision"])),
        "bare": TRANSITIONS / float(np.median(seconds["bare"])),
        "bare_own_precision": TRANSITIONS / float(np.median(seconds.get("bare, own precision", seconds["bare"]))),
        "share": float(share),
        "quartiles": [float(low), float(high)],
    }


def speed_row(figures: dict[str, Any]) -> str:
    """Return the row of a table of what `speed` measured."""
    low, high = figures["quartiles"]
    return (
        f"| {figures['precision']} | {figures['threads']} | {figures['transitions']:,.0f} | {figures['bare']:,.0f} "
        f"| {figures['bare_own_precision']:,.0f} | {figures['share']:.0%} | {low:.0%} to {high:.0%} |"
    )


def latency(*, threads: int, decisions: int = 50) -> list[dict[str, Any]]:
    """Return the median and the 99th percentile of the time [ms] of a decision, with iCEM's defaults and PETS's size.

    A decision follows the plan of the one before, as in an episode. iCEM's model has the ensemble's default size.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    space = gym.make(ENVIRONMENT).action_space
    cases = (
        ("iCEM, default model and budget", ICEM(space), default_model(), 10 * decisions),
        ("CEM, PETS's model and budget", pets_planner(), pets_model(), decisions),
    )
    try:
        return [
            {"name": name, "threads": threads, "decisions": count, **_percentiles(planner, model, count)}
            for name, planner, model, count in cases
        ]
    finally:
        torch.set_num_threads(before)


def latency_rows(figures: list[dict[str, Any]]) -> list[str]:
    """Return the rows of a table of what `latency` measured."""
    return [
        f"| {row['name']} ({row['decisions']} decisions) | {row['threads']} | {row['p50']:.1f} | {row['p99']:.1f} |"
        for row in figures
    ]


def pets_planner() -> CEM:
    """Return the cross-entropy method with PETS's budget."""
    space = gym.make(ENVIRONMENT).action_space
    budget: dict[str, Any] = {"population": POPULATION, "elites": 40, "iterations": ITERATIONS, "horizon": HORIZON}
    return CEM(space, **budget, particles=PARTICLES, noise=True)


def pets_model(precision: str = "float32") -> GaussianEnsemble:
    """Return an ensemble of PETS's size, trained a little."""
    model = default_model(members=MEMBERS, hidden=HIDDEN, max_epochs=2)
    return in_bfloat16(model) if precision == "bf16" else model


def default_model(**settings: Any) -> GaussianEnsemble:
    """Return an ensemble for the cart-pole with exact reward and termination, trained on 200 random steps."""
    env = gym.make(ENVIRONMENT)
    task: Any = env.unwrapped
    exact = {"reward_fn": task.task.reward, "termination_fn": task.task.terminal}
    model = GaussianEnsemble(env.observation_space, env.action_space, **exact, **settings)
    model.fit(random_transitions(ENVIRONMENT, 200, seed=0))
    return model


def decision(planner: Planner, model: GaussianEnsemble) -> Run:
    """Return a run of one decision."""
    observation = torch.zeros(1, 4)
    generator = torch.Generator().manual_seed(0)

    def run() -> int:
        with torch.inference_mode():
            planner.plan(model, observation, None, generator)
        return 1

    return run


def bare_products(dtype: torch.dtype = torch.float32, columns: int = 8) -> Run:
    """Return a run of the products of a decision: layers that end in means and log variances of four columns."""
    rows = POPULATION * PARTICLES // MEMBERS
    sizes = [5, *HIDDEN, columns]
    layers = [torch.randn(MEMBERS, rows, size).to(dtype) for size in sizes]
    weights = [(torch.randn(MEMBERS, a, b) / a**0.5).to(dtype) for a, b in pairwise(sizes)]

    def run() -> int:
        for _ in range(HORIZON * ITERATIONS):
            for below, weight, above in zip(layers[:-1], weights, layers[1:], strict=True):
                torch.bmm(below, weight, out=above)
        return 1

    return run


def _percentiles(planner: Planner, model: GaussianEnsemble, decisions: int) -> dict[str, float]:
    observation, generator = torch.zeros(1, 4), torch.Generator().manual_seed(0)
    plan, milliseconds = None, []
    for _ in range(3 + decisions):
        begin = time.perf_counter()
        with torch.inference_mode():
            plan = planner.plan(model, observation, plan, generator)
        milliseconds.append(1e3 * (time.perf_counter() - begin))
    p50, p99 = np.percentile(milliseconds[3:], [50, 99])  # the first ones warm up
    return {"p50": float(p50), "p99": float(p99)}


if __name__ == "__main__":
    main()
