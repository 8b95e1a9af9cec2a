"""How few steps MBPO needs beside SAC: `python benchmarks/dyna.py --out runs/dyna`.

Trains MBPO and Stable-Baselines3's SAC from five seeds for every entry of ENTRIES, each run in a process of its own
with one torch thread, evaluates them on the same episodes at fixed steps, and writes docs/results/dyna.md and dyna.png.
Also measures what MBPO costs beyond the sum of its parts. Finished runs are kept as JSON under --out and not repeated;
those that were interrupted, or whose settings changed, start again. Runs of other code are not told apart: give a fresh
--out after a change of the package.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from dyna_overhead import measure_overhead, overhead_lines
from dyna_plot import plot_curves
from stable_baselines3 import SAC

import mbrl_gym  # noqa: F401  # registers the ids
from mbrl_gym.agents import MBPO
from mbrl_gym.agents.benchmark import Evaluation, Spread
from mbrl_gym.agents.benchmark.evaluation import EvaluationCallback
from mbrl_gym.agents.benchmark.records import replacing

RESULTS = Path("docs/results")
EPISODES = 20
ALGORITHMS = {"mbpo": MBPO, "sac": SAC}


@dataclass(frozen=True)
class Training:
    """How an agent is trained."""

    steps: int
    every: int  # steps between evaluations
    settings: dict[str, Any]  # keyword arguments of the algorithm
    env: dict[str, Any] = field(default_factory=dict)  # keyword arguments of `gym.make`, in training only


@dataclass(frozen=True)
class Entry:
    """An environment, and the agents that are trained in it."""

    env_id: str
    agents: dict[str, Training]  # by name of the algorithm
    target: float | None = None  # return that MBPO must reach; None: SAC's last one, the median over seeds


FAST = {
    "policy_kwargs": {"net_arch": [64, 64]},
    "learning_starts": 200,
    "learning_rate": 1e-3,
    "batch_size": 256,
}
# Many short refreshes, long remembered: with the newest alone (model_retain 1) returns collapse now and then.
IMAGINED = {
    **FAST,
    "gradient_steps": 10,
    "rollout_freq": 50,
    "model_train_freq": 100,
    "model_retain": 20,
}
SAC_TRAINING = Training(20_000, 1_000, FAST)
# Where every episode has a target of its own, a policy must see many of them: real episodes are short, and branches
# go on beyond their ends.
ENTRIES = {
    "Pendulum-v1": Entry(
        "Pendulum-v1",
        {
            "mbpo": Training(
                2_000,
                100,
                {**IMAGINED, "gradient_steps": 20, "model_noise": False, "rollout_length": 15, "rollout_batch": 400},
            ),
            "sac": SAC_TRAINING,
        },
    ),
    "mbrl/ArmTorque-v0": Entry(
        "mbrl/ArmTorque-v0",
        {
            "mbpo": Training(
                2_000,
                100,
                {
                    **IMAGINED,
                    "model": "gp",
                    "model_noise": False,
                    "model_train_freq": 200,
                    "reward": "exact",
                    "rollout_length": 40,
                    "rollout_batch": 150,
                },
                {"max_episode_steps": 12},
            ),
            "sac": SAC_TRAINING,
        },
    ),
    "mbrl/Drone-v0": Entry(
        "mbrl/Drone-v0",
        {
            "mbpo": Training(
                2_000,
                100,
                {**IMAGINED, "model": "linear", "reward": "exact", "rollout_length": 50, "rollout_batch": 100},
                {"max_episode_steps": 20},
            ),
            "sac": SAC_TRAINING,
        },
    ),
    "InvertedPendulum-v5": Entry(
        "InvertedPendulum-v5",
        {
            "mbpo": Training(
                4_000,
                200,
                {**IMAGINED, "model_train_freq": 200, "rollout_length": (1, 20, 200, 1_500), "rollout_batch": 400},
            ),
            "sac": SAC_TRAINING,
        },
        target=950.0,
    ),
}
"""What MBPO is asked to reach, and all settings; SAC has the same networks and learning rate."""


def main() -> None:
    """Train, evaluate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/dyna"), help="folder for finished runs")
    parser.add_argument("--only", nargs="+", metavar="ENV", choices=ENTRIES, default=list(ENTRIES))
    parser.add_argument("--agents", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    jobs = [(name, agent, seed) for name in given.only for agent in given.agents for seed in range(given.seeds)]
    for (name, agent, seed), record in run_all(jobs, given.out, given.jobs):
        told = f"{record['mean'][-1]:.1f} after {record['steps'][-1]:,} steps, {record['seconds'][-1]:.0f} s"
        print(f"  {name}, {agent}, seed {seed}: {told}", flush=True)
    overhead = load_overhead(given.out)
    # The files tell of all entries that have runs, so that one entry can be repeated alone.
    records = {name: {agent: finished(given.out, name, agent, given.seeds) for agent in ALGORITHMS} for name in ENTRIES}
    lines = [*table(records), "", *overhead_lines(overhead), "", *settings_lines()]
    print("\n".join(lines))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "dyna.md").write_text("\n".join(lines) + "\n")
    plot_curves(records, {name: target_of(ENTRIES[name], records[name]) for name in records}, RESULTS / "dyna.png")


def run_all(
    jobs: Sequence[tuple[str, str, int]], out: Path, processes: int
) -> Iterator[tuple[tuple[str, str, int], dict[str, Any]]]:
    """Yield all jobs (entry, agent, seed) with their records, finished ones first."""
    missing = []
    for job in jobs:
        record = load(out, *job)
        if record is None:
            missing.append(job)
        else:
            yield job, record
    # The longest runs first, so that none is left over in the end.
    missing.sort(key=lambda job: -ENTRIES[job[0]].agents[job[1]].steps)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run, *job, out): job for job in missing}
        for future in as_completed(futures):
            yield futures[future], future.result()


def run(name: str, agent: str, seed: int, out: Path) -> dict[str, Any]:
    """Train and evaluate one agent, and store the record."""
    torch.set_num_threads(1)
    entry = ENTRIES[name]
    training = entry.agents[agent]
    evaluation = Evaluation(entry.env_id, EPISODES)
    callback = EvaluationCallback(evaluation, range(training.every, training.steps, training.every))
    with gym.make(entry.env_id, **training.env) as env:
        # Stable-Baselines3 writes into its arguments: a copy.
        settings = json.loads(json.dumps(training.settings))
        algorithm = ALGORITHMS[agent]("MlpPolicy", env, seed=seed, device="cpu", **settings)
        algorithm.learn(training.steps, callback=callback)
    evaluation.close()
    steps, seconds, mean, std = (np.array(column).tolist() for column in zip(*callback.rows, strict=True))
    record = {**description(name, agent, seed), "steps": steps, "seconds": seconds, "mean": mean, "std": std}
    with replacing(path_of(out, name, agent, seed)) as path:
        path.write_text(json.dumps(record, indent=2))
    return record


def description(name: str, agent: str, seed: int) -> dict[str, Any]:
    """Return all that decides a run's result, as JSON values."""
    entry = ENTRIES[name]
    described = {"env_id": entry.env_id, "agent": agent, "seed": seed, "episodes": EPISODES}
    return {**described, "training": json.loads(json.dumps(asdict(entry.agents[agent])))}


def path_of(out: Path, name: str, agent: str, seed: int) -> Path:
    """Return where a run's record lies."""
    return out / f"{name.removeprefix('mbrl/')}-{agent}-{seed}.json"


def load(out: Path, name: str, agent: str, seed: int) -> dict[str, Any] | None:
    """Return the record of a finished run, or None if there is none of these settings."""
    try:
        record: dict[str, Any] = json.loads(path_of(out, name, agent, seed).read_text())
    except (OSError, ValueError):
        return None
    same = all(record.get(key) == value for key, value in description(name, agent, seed).items())
    return record if same else None


def load_overhead(out: Path) -> dict[str, float]:
    """Return the measured overhead, or measure it now, when no other run disturbs it."""
    path = out / "overhead.json"
    if not path.exists():
        torch.set_num_threads(1)
        with replacing(path) as temporary:
            temporary.write_text(
                json.dumps(measure_overhead("Pendulum-v1", ENTRIES["Pendulum-v1"].agents["mbpo"].settings), indent=2)
            )
    measured: dict[str, float] = json.loads(path.read_text())
    return measured


def finished(out: Path, name: str, agent: str, seeds: int) -> list[dict[str, Any]]:
    """Return the records of an agent's finished runs."""
    found = [load(out, name, agent, seed) for seed in range(seeds)]
    return [record for record in found if record is not None]


def target_of(entry: Entry, records: dict[str, list[dict[str, Any]]]) -> float | None:
    """Return the return that MBPO must reach; None as long as it is not known."""
    if entry.target is not None:
        return entry.target
    final = [record["mean"][-1] for record in records["sac"]]
    return statistics.median(final) if final else None


def reached(record: dict[str, Any], target: float | None) -> float:
    """Return the steps after which a run first has a mean return; infinity if it never has."""
    if target is None:
        return float("inf")
    enough = np.flatnonzero(np.array(record["mean"]) >= target)
    return float(record["steps"][enough[0]]) if len(enough) else float("inf")


def table(records: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    """Return the Markdown lines of all entries that have finished runs."""
    lines = [
        f"Made by `python benchmarks/dyna.py`: medians over seeds (smallest to largest) of mean returns of {EPISODES} "
        "evaluation episodes, one thread a run, two runs at a time. The target is the median of SAC's last returns, "
        "unless a number is asked for; it counts as reached at the first evaluation that is as good.",
        "",
        "| environment | agent | steps | seeds | last return | target | reached after steps | training [s] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, agents in records.items():
        target = target_of(ENTRIES[name], agents)
        lines += [row(name, agent, runs, target) for agent, runs in agents.items() if runs]
    return lines


def row(name: str, agent: str, records: list[dict[str, Any]], target: float | None) -> str:
    """Return the row of one agent in one environment."""
    last = Spread.of([record["mean"][-1] for record in records])
    steps = [reached(record, target) for record in records]
    median = statistics.median(steps)
    missed = sum(step == float("inf") for step in steps)
    told = "not reached" if median == float("inf") else f"{median:,.0f}"
    cells = [
        name,
        agent,
        f"{records[0]['steps'][-1]:,}",
        str(len(records)),
        f"{last.median:.1f} ({last.low:.1f} to {last.high:.1f})",
        "-" if target is None else f"{target:.1f}",
        told + (f" ({missed} of {len(steps)} never)" if missed else ""),
        f"{statistics.median(record['seconds'][-1] for record in records):.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def settings_lines() -> list[str]:
    """Return the Markdown lines of all settings."""
    return [
        f"- {name}, {agent}: `{json.dumps(training.settings)}`"
        + (f", trained with `gym.make` arguments `{json.dumps(training.env)}`" if training.env else "")
        for name, entry in ENTRIES.items()
        for agent, training in entry.agents.items()
    ]


if __name__ == "__main__":
    main()
