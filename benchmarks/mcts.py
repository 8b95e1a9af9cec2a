"""Tree search, measured: `python benchmarks/mcts.py --out runs/mcts`.

    python -m venv mctx-env && mctx-env/bin/pip install mctx jax
    python benchmarks/mcts.py --mctx-python mctx-env/bin/python

Sections (`--only speed,tasks`): `speed`, simulations a second beside DeepMind's mctx, measured in its own environment
(its interpreter is PATH; see `benchmarks/peers/mctx_search.py`), and how the cost of a simulation grows with the tree;
`leaves`, whether several leaves in flight decide as one at a time does; `tasks`, episodes on Gymnasium's and this
package's environments.

Every figure is kept in `--out` as soon as it is there, and measured again only if its settings or the code changed,
or `--again` is given. Ratios are medians over turns that alternate in one run; rates hold on this processor only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from mcts_speed import agreement, compare, growth
from mcts_tasks import TASKS, episodes, lake_reference
from model_speed import machine
from planning import Store

Figures = dict[str, Any]

SIZES = ((1, 64), (1, 512), (32, 64))
GROWING = [64, 256, 1024, 4096]


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--tasks", default=";".join(TASKS), help="tasks, separated by semicolons")
    parser.add_argument("--out", type=Path, default=Path("runs/mcts"), help="folder that keeps the figures")
    parser.add_argument("--report", type=Path, default=Path("docs/results/mcts.md"))
    parser.add_argument("--mctx-python", type=Path, default=None, help="interpreter of mctx's environment")
    parser.add_argument("--turns", type=int, default=20, help="turns of every comparison")
    parser.add_argument("--problems", type=int, default=200, help="random problems of section leaves")
    parser.add_argument("--again", action="store_true", help="measure also what is there")
    given = parser.parse_args()
    chosen = given.only.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"--only takes {', '.join(SECTIONS)}, but {', '.join(sorted(unknown))} was given")
    torch.set_num_threads(1)
    store = Store(given.out, again=given.again, name="mcts")
    for name in chosen:
        SECTIONS[name][0](store, given)
    lines = ["Made by `python benchmarks/mcts.py`.", "", machine()]
    for _, render in SECTIONS.values():
        lines += ["", *render(store)]
    print("\n".join(lines))
    given.report.write_text("\n".join([*lines, ""]))


def measure_speed(store: Store, given: argparse.Namespace) -> None:
    """Simulations a second beside mctx."""
    if given.mctx_python is None:
        print("speed needs --mctx-python, the interpreter of an environment with mctx")
        return
    for trees, simulations in SIZES:
        store.once(
            f"speed {trees} {simulations}",
            lambda **settings: compare(given.mctx_python, **settings),
            trees=trees,
            simulations=simulations,
            turns=given.turns,
        )
    store.once("growth", lambda **s: growth(given.mctx_python, **s), sizes=GROWING, turns=given.turns)


def render_speed(store: Store) -> list[str]:
    """Return the tables of section speed."""
    lines = [
        "## Speed",
        "",
        "A model of 8 numbers and 4 actions, compiled by numba here and by XLA there; PUCT, values in place of",
        "roll-outs, one leaf in flight.",
        "",
        "| trees | simulations | simulations a second | mctx | ratio (quartiles) |",
        "|---|---|---|---|---|",
    ]
    for name, figures in store.figures.items():
        if name.startswith("speed "):
            low, high = figures["quartiles"]
            _, trees, simulations = name.split()
            lines.append(
                f"| {trees} | {simulations} | {figures['ours']:,.0f} | {figures['mctx']:,.0f} | {figures['ratio']:.1f} "
                f"({low:.1f} to {high:.1f}) |"
            )
    if "growth" in store.figures:
        lines += ["", "| simulations of one tree | us a simulation | mctx |", "|---|---|---|"]
        lines += [f"| {n} | {mine:.2f} | {theirs:.1f} |" for n, mine, theirs in store.figures["growth"]["rows"]]
    return lines


def measure_leaves(store: Store, given: argparse.Namespace) -> None:
    """Decisions with several leaves in flight beside those with one."""
    store.once("leaves", agreement, problems=given.problems, simulations=2048, leaves=[4, 8, 16])


def render_leaves(store: Store) -> list[str]:
    """Return the table of section leaves."""
    if "leaves" not in store.figures:
        return []
    figures = store.figures["leaves"]
    problems = figures["settings"]["problems"]
    lines = [
        "## Leaves in flight",
        "",
        f"Share of {problems} random problems (200 states, 4 actions, roll-outs of up to 10 steps, 2,048 simulations)",
        "in which the action is that of one leaf at a time, and its mean regret by value iteration, where rewards have",
        "a standard deviation of 1.4. The first row is one leaf at a time with other random numbers.",
        "",
        "| leaves in flight | same action, one outcome | regret | same action, three outcomes | regret |",
        "|---|---|---|---|---|",
    ]
    for row in figures["1"]:
        one, three = figures["1"][row], figures["3"][row]
        lines.append(f"| {row} | {one[0]:.1%} | {one[1]:.3f} | {three[0]:.1%} | {three[1]:.3f} |")
    return lines


def measure_tasks(store: Store, given: argparse.Namespace) -> None:
    """Episodes of the tasks."""
    for name in given.tasks.split(";"):
        store.once(f"task {name}", episodes, task=name)


def render_tasks(store: Store) -> list[str]:
    """Return the table of section tasks."""
    rows = {name: figures for name, figures in store.figures.items() if name.startswith("task ")}
    if not rows:
        return []
    lines = [
        "## Tasks",
        "",
        f"Value iteration's policy crosses `FrozenLake-v1` within its 100 steps in {lake_reference():.3f} of all "
        "episodes. Times are those of a decision for one state, in processor time.",
        "",
        "| task | model | settings | episodes | mean return (least, most) | what it is worth | ms a decision (99%) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, figures in rows.items():
        task = TASKS[name.removeprefix("task ")]
        low, high = figures["range"]
        lines.append(
            f"| `{task.env_id}` | {task.model} | {task.words} | {figures['episodes']} | {figures['mean']:.2f} "
            f"({low:.1f}, {high:.1f}) | {figures['worth']} | {figures['median_ms']:.1f} ({figures['p99_ms']:.1f}) |"
        )
    return lines


SECTIONS = {
    "speed": (measure_speed, render_speed),
    "leaves": (measure_leaves, render_leaves),
    "tasks": (measure_tasks, render_tasks),
}


if __name__ == "__main__":
    main()
