"""PETS's cart-pole on several seeds: `python benchmarks/cartpole.py --seeds 5 --threads 1`.

Trains our MPC on `mbrl/CartPoleContinuous-v0` with exact reward and termination until a trial lasts at least 195 of 200
steps, and writes a table. Required: that trial starts after at most 350 steps (the random ones included), in less than
30 s in all, at a median decision time of at most 56 ms, 30 times below MBRL-Lib's 1.7 s.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from model_speed import machine
from planning_cartpole import ENOUGH, SETTINGS, solve

MOST_STEPS, MOST_SECONDS, MOST_MS = 350, 30.0, 56.0  # before the trial; in all [s]; for a decision [ms]
OUT = Path(__file__).parents[1] / "docs" / "results" / "cartpole.md"


def main() -> None:
    """Train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT, help="file for the table")
    given = parser.parse_args()
    if given.seeds < 1 or given.threads < 1:
        parser.error("--seeds and --threads must be at least 1")
    torch.set_num_threads(given.threads)
    lines = heading(given.seeds, given.threads)
    print("\n".join(lines))
    results = []
    for seed in range(given.seeds):
        results.append(solve(seed))
        lines.append(row(seed, results[-1]))
        print(lines[-1], flush=True)
    closing = ["", spread(results), "", verdict(results)]
    print("\n".join(closing))
    given.out.write_text("\n".join([*lines, *closing, ""]))


def heading(seeds: int, threads: int) -> list[str]:
    """Return what stands above the rows."""
    settings = ", ".join(
        f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}" for name, value in SETTINGS.items()
    )
    return [
        f"# PETS's cart-pole: until a trial lasts {ENOUGH} of 200 steps",
        "",
        f"Made by `python benchmarks/cartpole.py --seeds {seeds} --threads {threads}` on {machine().rstrip('.')}.",
        "",
        f'`MPC("iCEM", "mbrl/CartPoleContinuous-v0", {settings}, seed=...)`. Steps count from the first random one, '
        "seconds from the agent's construction.",
        "",
        "| seed | steps of the trials | steps before the last trial | steps in all | seconds in all "
        "| decision [ms], median |",
        "|---|---|---|---|---|---|",
    ]


def row(seed: int, result: dict[str, Any]) -> str:
    """Return a seed's row of the table."""
    cells = [
        str(seed),
        ", ".join(str(length) for length in result["trials"]),
        str(before(result)) if result["solved"] else "none lasted",
        str(result["total_steps"]),
        f"{result['seconds']:.1f}",
        f"{result['decision_ms']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def before(result: dict[str, Any]) -> int:
    """Return the steps before the last trial."""
    return result["total_steps"] - result["trials"][-1]


def spread(results: Sequence[dict[str, Any]]) -> str:
    """Return medians and ranges over the seeds that solved the task."""
    solved = [result for result in results if result["solved"]]
    if not solved:
        return "No seed's trial lasted."
    columns = {
        "steps before the trial": ([before(result) for result in solved], "{:.0f}"),
        "seconds": ([result["seconds"] for result in solved], "{:.1f}"),
        "ms a decision": ([result["decision_ms"] for result in solved], "{:.1f}"),
    }
    parts = [
        f"{name} {form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"
        for name, (values, form) in columns.items()
    ]
    return f"Median and range over {len(solved)} of {len(results)} seeds: {', '.join(parts)}."


def verdict(results: Sequence[dict[str, Any]]) -> str:
    """Return how many seeds keep all bounds."""
    kept = sum(
        result["solved"]
        and before(result) <= MOST_STEPS
        and result["seconds"] < MOST_SECONDS
        and result["decision_ms"] <= MOST_MS
        for result in results
    )
    return (
        f"At most {MOST_STEPS} steps before that trial, less than {MOST_SECONDS:.0f} s and at most {MOST_MS:.0f} ms a "
        f"decision: {kept} of {len(results)} seeds."
    )


if __name__ == "__main__":
    main()
