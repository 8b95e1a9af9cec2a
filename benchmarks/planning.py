"""Planning beside its peers, in one run: `python benchmarks/planning.py --out runs/planning`.

    pip install -e ".[peers]"
    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/planning.py --mbrl-python PATH

Sections (`--only speed,mppi`): `speed`, candidate evaluation beside the bare matrix products of the same shapes;
`mppi`, MPPI beside pytorch_mppi; `mbrl`, MBRL-Lib's PETS, measured in its own environment (its interpreter is PATH; see
`benchmarks/peers/mbrl_lib.py`); `cartpole`, our MPC on PETS's cart-pole; `latency`, decisions within a time budget.

Every figure is kept in `--out` as soon as it is there, and measured again only if its settings or the code changed,
or `--again` is given; the report is made of what is there. What is compared takes turns of a few calls, and a ratio is
the median over the turns: ratios hold on other processors, rates do not.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_speed import machine

import mbrl_gym
import mbrl_gym.agents

MPPI_CONTROLLERS = ("pytorch_mppi", "pytorch_mppi, inference mode", "ours", "ours, default settings")
PEER = Path(__file__).parent / "peers" / "mbrl_lib.py"
Figures = dict[str, Any]


class Store:
    """Figures in a JSON file, each measured once for its settings."""

    def __init__(self, folder: Path, *, again: bool, name: str = "planning") -> None:
        self.path, self.again = folder / f"{name}.json", again
        self.figures: dict[str, Figures] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def once(self, name: str, measure: Callable[..., Figures], **settings: Any) -> None:
        """Measure and keep what is not there with the same settings."""
        key = {"settings": json.loads(json.dumps(settings)), "code": _code()}
        if not self.again and key.items() <= self.figures.get(name, {}).items():
            return
        begin = time.perf_counter()
        figures = measure(**settings)
        self.figures[name] = {**key, "threads": torch.get_num_threads(), **figures}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.with_suffix(".part")
        whole.write_text(json.dumps(self.figures, indent=1))
        whole.replace(self.path)
        print(f"{name} ({time.perf_counter() - begin:.0f} s): {json.dumps(figures)}", flush=True)

    def under(self, prefix: str) -> Iterable[Figures]:
        """Return the figures whose names start with a prefix."""
        return [figures for name, figures in self.figures.items() if name.startswith(prefix)]


@functools.cache
def _code() -> str:
    """Return a digest of the package's and the benchmarks' code: figures of other code are measured again."""
    digest = hashlib.sha256()
    for folder in (Path(mbrl_gym.__file__).parent, Path(mbrl_gym.agents.__file__).parent, Path(__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("runs/planning"), help="folder that keeps the figures")
    parser.add_argument("--report", type=Path, default=Path("docs/results/planning.md"))
    parser.add_argument("--mbrl-python", type=Path, default=None, help="interpreter of MBRL-Lib's environment")
    parser.add_argument("--mbrl-seeds", type=int, default=1, help="cart-poles of MBRL-Lib, several minutes each")
    parser.add_argument("--seeds", type=int, default=5, help="our cart-poles")
    parser.add_argument("--turns", type=int, default=30, help="turns of every comparison")
    parser.add_argument("--episodes", type=int, default=20, help="of Pendulum-v1, and for every time budget")
    parser.add_argument("--again", action="store_true", help="measure also what is there")
    given = parser.parse_args()
    chosen = given.only.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"--only takes {', '.join(SECTIONS)}, but {', '.join(sorted(unknown))} was given")
    torch.set_num_threads(1)
    store = Store(given.out, again=given.again)
    for name in chosen:
        SECTIONS[name][0](store, given)
    lines = ["Made by `python benchmarks/planning.py`.", "", machine()]
    for _, render in SECTIONS.values():
        lines += ["", *render(store)]
    print("\n".join(lines))
    given.report.write_text("\n".join([*lines, ""]))


def middle(quartiles: list[float]) -> str:
    """Return a median with its quartiles."""
    low, median, high = quartiles
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def measure_speed(store: Store, given: argparse.Namespace) -> None:
    """Our decisions beside the bare matrix products."""
    import planning_speed

    def measure(**settings: Any) -> Figures:
        figures = planning_speed.speed(**settings)
        return {**figures, "decision_ms": 1e3 * planning_speed.TRANSITIONS / figures["transitions"]}

    emulated = "no bfloat16" in machine()
    turns = {"float32": max(3, given.turns // 2), "bf16": 3 if emulated else max(3, given.turns // 2)}
    for threads in (1, 2):
        for precision, count in turns.items():
            store.once(f"speed/{precision}/{threads}", measure, threads=threads, precision=precision, turns=count)


def report_speed(store: Store) -> list[str]:
    """Return the table of our decisions."""
    lines = [
        "## Transitions a second beside the bare matrix products",
        "",
        "A decision of CEM on the continuous cart-pole: an ensemble of 5 members of four layers of 200, 400 candidates "
        "x 20 particles x horizon 15 x 5 iterations. The bare products are `torch.bmm` of the same shapes in the same "
        "process, in float32 and in the decision's own precision; the share is that of float32's.",
        "",
        "| | precision | threads | bare float32, transitions/s | bare in its precision, transitions/s "
        "| decision, transitions/s | share of the bare float32 (quartiles) | decision [ms] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [
        f"| ours | {row['precision']} | {row['threads']} | {row['bare']:,.0f} "
        f"| {row['bare_own_precision']:,.0f} | {row['transitions']:,.0f} "
        f"| {middle([row['quartiles'][0], row['share'], row['quartiles'][1]])} | {row['decision_ms']:,.0f} |"
        for row in store.under("speed/")
    ]
    rows += [
        f"| MBRL-Lib 0.2.0 | float32 | {row['threads']} | {row['products_per_s']:,.0f} "
        f"| {row['products_per_s']:,.0f} | {row['decision_per_s']:,.0f} "
        f"| {middle(row['decision_share'])} | {row['decision_ms']:,.0f} |"
        for row in store.under("mbrl/speed/")
    ]
    return [*lines, *rows] if rows else [*lines[:2], "Not measured."]


def measure_mppi(store: Store, given: argparse.Namespace) -> None:
    """MPPI beside pytorch_mppi."""
    if importlib.util.find_spec("pytorch_mppi") is None:
        print("mppi: left out, since pytorch-mppi is not installed (extra `peers`)")
        return
    import planning_mppi

    for candidates in (1_000, 10_000):
        store.once(
            f"mppi/speed/{candidates}", planning_mppi.speed, candidates=candidates, horizon=30, turns=given.turns
        )
    store.once("mppi/return", planning_mppi.closed_loop, candidates=500, horizon=20, episodes=given.episodes)


def report_mppi(store: Store) -> list[str]:
    """Return the tables of MPPI."""
    version = metadata.version("pytorch_mppi") if importlib.util.find_spec("pytorch_mppi") else ""
    lines = [f"## MPPI beside pytorch_mppi {version} on the equations of Pendulum-v1, one thread", ""]
    speeds, returns = list(store.under("mppi/speed/")), list(store.under("mppi/return"))
    if not speeds:
        return [*lines, "Not measured."]
    lines += ["| K | T | | commands/s | to pytorch_mppi's (quartiles) |", "|---|---|---|---|---|"]
    for row in speeds:
        size = f"| {row['settings']['candidates']:,} | {row['settings']['horizon']} "
        lines += [
            f"{size}| {name} | {row[name]['per_s']:.0f} | {middle(row[name]['ratio'])} |" for name in MPPI_CONTROLLERS
        ]
    for row in returns:
        size = row["settings"]
        lines += [
            "",
            f"| Pendulum-v1, K {size['candidates']}, T {size['horizon']}, {size['episodes']} episodes | mean return "
            "| worst | mean difference to pytorch_mppi on the same episodes, +- standard error |",
            "|---|---|---|---|",
        ]
        theirs = np.array(row["pytorch_mppi"]["returns"])
        for name in MPPI_CONTROLLERS:
            own = np.array(row[name]["returns"])
            error = (own - theirs).std(ddof=1) / len(own) ** 0.5
            lines.append(
                f"| {name} | {own.mean():.1f} | {own.min():.1f} | {(own - theirs).mean():.1f} +- {error:.1f} |"
            )
    return lines


def measure_mbrl(store: Store, given: argparse.Namespace) -> None:
    """MBRL-Lib's PETS in its own environment."""
    if given.mbrl_python is None:
        print("mbrl: left out, since --mbrl-python was not given (see benchmarks/peers/mbrl_lib.py)")
        return

    def run(what: str, **options: Any) -> Figures:
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        command = [str(given.mbrl_python), str(PEER), what, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    turns = max(3, given.turns // 3)  # a turn takes several seconds
    for threads in (1, 2):
        store.once(f"mbrl/speed/{threads}", run, what="speed", threads=threads, turns=turns)
    for seed in range(given.mbrl_seeds):
        store.once(f"mbrl/cartpole/{seed}", run, what="cartpole", threads=1, seed=seed, limit=1200)


def report_mbrl(store: Store) -> list[str]:
    """Return what MBRL-Lib's evaluation alone reaches; its decisions stand beside ours."""
    shares = [
        f"{middle(row['evaluation_share'])} of the products with {row['threads']} thread(s)"
        for row in store.under("mbrl/speed/")
    ]
    if not shares:
        return ["MBRL-Lib was not measured: `--mbrl-python` was not given."]
    return [f"MBRL-Lib's `evaluate_action_sequences` alone, without the search: {'; '.join(shares)}."]


def measure_cartpole(store: Store, given: argparse.Namespace) -> None:
    """Our MPC on PETS's cart-pole."""
    import planning_cartpole

    for seed in range(given.seeds):
        store.once(f"cartpole/{seed}", planning_cartpole.solve, seed=seed, most_steps=1000)


def report_cartpole(store: Store) -> list[str]:
    """Return the table of the cart-pole."""
    lines = [
        "## PETS's cart-pole: until a trial lasts 195 of 200 steps, one thread",
        "",
        "| | seed | steps in all, that trial included | random ones among them | seconds in all | processor seconds "
        "| planning [s] | decision [ms], median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = []
    for name, prefix in (("ours", "cartpole/"), ("MBRL-Lib", "mbrl/cartpole/")):
        for row in store.under(prefix):
            steps = f"{row['total_steps']}" if row["solved"] else f"not in {row['total_steps']}"
            rows.append(
                f"| {name} | {row['settings']['seed']} | {steps} | {row['random_steps']} | {row['seconds']:.0f} "
                f"| {row['processor_seconds']:.0f} | {row['planning_seconds']:.0f} | {row['decision_ms']:,.1f} |"
            )
    return [*lines, *rows] if rows else [*lines[:2], "Not measured."]


def measure_latency(store: Store, given: argparse.Namespace) -> None:
    """Decisions within a time budget."""
    import planning_latency

    for budget in planning_latency.BUDGETS:
        store.once(
            f"latency/{budget}",
            planning_latency.latency,
            budget_ms=budget,
            episodes=max(1, given.episodes // 2),
            steps=300,
        )


def report_latency(store: Store) -> list[str]:
    """Return the table of time budgets."""
    lines = [
        "## Time budgets: CEM with 400 candidates x 5 iterations and a learned ensemble on mbrl/Drone-v0, one thread",
        "",
        "| budget [ms] | p50 [ms] | p99 [ms] | longest [ms] | decisions over it | mean return |",
        "|---|---|---|---|---|---|",
    ]
    rows = [
        f"| {row['settings']['budget_ms'] or 'none'} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} "
        f"| {row['longest_ms']:.1f} | {row['late']:.1%} of {row['decisions']:,} | {row['mean_return']:.1f} |"
        for row in store.under("latency/")
    ]
    return [*lines, *rows] if rows else [*lines[:2], "Not measured."]


SECTIONS: dict[str, tuple[Callable[[Store, argparse.Namespace], None], Callable[[Store], list[str]]]] = {
    "speed": (measure_speed, report_speed),
    "mbrl": (measure_mbrl, report_mbrl),
    "mppi": (measure_mppi, report_mppi),
    "cartpole": (measure_cartpole, report_cartpole),
    "latency": (measure_latency, report_latency),
}

if __name__ == "__main__":
    main()
