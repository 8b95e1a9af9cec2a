"""PPO in imagination beside PPO in the environment: `python benchmarks/imagined_ppo.py --out runs/imagined_ppo`.

Trains ImaginedPPO, and Stable-Baselines3's PPO for many more steps, from several seeds for every entry of ENTRIES, each
run in a process of its own with one torch thread, plays the 100 evaluation episodes, and writes
docs/results/imagined_ppo.md. Finished runs are kept as JSON under --out and not repeated, unless their settings
changed. Runs of other code are not told apart: give a fresh --out after a change of the package.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from control import Target, play
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from mbrl_gym.agents import ImaginedPPO
from mbrl_gym.agents.benchmark import Spread
from mbrl_gym.agents.benchmark.records import replacing
from mbrl_gym.scores import EVALUATION_SEEDS

RESULTS = Path("docs/results/imagined_ppo.md")
AGENTS = "ImaginedPPO", "PPO"
ENVS = 8  # in which PPO acts side by side


@dataclass(frozen=True)
class Entry:
    """One environment, and what both agents do in it."""

    env_id: str
    steps: int  # of ImaginedPPO, real ones
    settings: dict[str, Any]  # keyword arguments of `ImaginedPPO`
    ppo_steps: int
    ppo_settings: dict[str, Any]  # keyword arguments of `PPO`
    target: Target | None = None  # of ImaginedPPO's return


SWING = {"gamma": 0.95, "gae_lambda": 0.95, "learning_rate": 1e-3}

ENTRIES = {
    entry.env_id: entry
    for entry in (
        Entry(
            "CartPole-v1",
            2_000,  # of the 5,000 that are allowed
            {},
            100_000,
            {"n_steps": 32, "batch_size": 256, "n_epochs": 20, "gamma": 0.98, "gae_lambda": 0.8, "learning_rate": 1e-3},
            Target(475.0),
        ),
        Entry(
            "Pendulum-v1",
            2_000,
            {"ppo_kwargs": {**SWING, "n_steps": 100, "batch_size": 400}},
            100_000,
            {**SWING, "n_steps": 400, "batch_size": 400},
        ),
        Entry(
            "mbrl/Drone-v0",
            5_000,
            {
                "ppo_kwargs": {**SWING, "n_steps": 50, "batch_size": 400},
                "learning_starts": 1_000,
                "train_freq": 1_000,
                "updates": 80,
                "patience": 5,
            },
            150_000,
            {**SWING, "n_steps": 200, "batch_size": 400},
        ),
    )
}
"""What both are asked to do; PPO, too, sees rewards in units of their returns' deviation (`VecNormalize`)."""


def main() -> None:
    """Train, evaluate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/imagined_ppo"), help="folder for finished runs")
    parser.add_argument("--only", nargs="+", metavar="ID", choices=ENTRIES, default=list(ENTRIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    for record in run_all(given.only, given.seeds, given.out, given.jobs):
        told = f"{record['agent']} on {record['env_id']}, seed {record['seed']}: return {mean_return(record):.1f}"
        print(f"  {told}, {record['training_seconds']:.0f} s", flush=True)
    # The file tells of all entries that have runs, so that one entry can be repeated alone.
    lines = table(given.out, given.seeds)
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n")


def run_all(env_ids: Sequence[str], seeds: int, out: Path, jobs: int) -> Iterator[dict[str, Any]]:
    """Yield the records of all runs, finished ones first."""
    missing = []
    for env_id in env_ids:
        for agent in AGENTS:
            for seed in range(seeds):
                record = load(out, env_id, agent, seed)
                if record is None:
                    missing.append((env_id, agent, seed, out))
                else:
                    yield record
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(run, *each) for each in missing]):
            yield future.result()


def run(env_id: str, agent: str, seed: int, out: Path) -> dict[str, Any]:
    """Train and evaluate one agent, and store the record."""
    torch.set_num_threads(1)
    entry, begin = ENTRIES[env_id], time.perf_counter()
    trained = dream(entry, seed) if agent == "ImaginedPPO" else act(entry, seed)
    seconds = time.perf_counter() - begin
    returns = play(trained, env_id).returns
    record = {
        **description(env_id, agent, seed),
        "training_seconds": seconds,
        "imagined_steps": getattr(trained, "imagined_timesteps", 0),
        "returns": returns.tolist(),
    }
    with replacing(path_of(out, env_id, agent, seed)) as path:
        path.write_text(json.dumps(record, indent=2))
    return record


def dream(entry: Entry, seed: int) -> BaseAlgorithm:
    """Train ImaginedPPO."""
    return ImaginedPPO("MlpPolicy", entry.env_id, seed=seed, device="cpu", **entry.settings).learn(entry.steps)


def act(entry: Entry, seed: int) -> BaseAlgorithm:
    """Train PPO in the environment."""
    gamma = entry.ppo_settings["gamma"]
    env = VecNormalize(make_vec_env(entry.env_id, ENVS, seed=seed), norm_obs=False, gamma=gamma)
    return PPO("MlpPolicy", env, seed=seed, device="cpu", **entry.ppo_settings).learn(entry.ppo_steps)


def description(env_id: str, agent: str, seed: int) -> dict[str, Any]:
    """Return all that decides a run's result, as JSON values."""
    entry = ENTRIES[env_id]
    imagined = agent == "ImaginedPPO"
    steps, settings = (entry.steps, entry.settings) if imagined else (entry.ppo_steps, entry.ppo_settings)
    return {"env_id": env_id, "agent": agent, "steps": steps, "settings": settings, "seed": seed}


def path_of(out: Path, env_id: str, agent: str, seed: int) -> Path:
    """Return where a run's record lies."""
    return out / f"{env_id.replace('/', '-')}-{agent}-{seed}.json"


def load(out: Path, env_id: str, agent: str, seed: int) -> dict[str, Any] | None:
    """Return the record of a finished run, or None if there is none of these settings."""
    try:
        record: dict[str, Any] = json.loads(path_of(out, env_id, agent, seed).read_text())
    except (OSError, ValueError):
        return None
    return record if description(env_id, agent, seed).items() <= record.items() else None


def mean_return(record: dict[str, Any]) -> float:
    """Return the mean over the evaluation episodes."""
    return sum(record["returns"]) / len(record["returns"])


def table(out: Path, seeds: int) -> list[str]:
    """Return the Markdown lines of all entries that have finished runs."""
    lines = [
        "# PPO in imagination",
        "",
        "Made by `python benchmarks/imagined_ppo.py`: medians over seeds (smallest to largest), one thread a run, "
        f"means over the {len(EVALUATION_SEEDS)} evaluation episodes with deterministic actions.",
        "",
        "| environment | agent | real steps | imagined steps | seeds | return | asked | training [s] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    settings = []
    for env_id, entry in ENTRIES.items():
        for agent in AGENTS:
            found = [load(out, env_id, agent, seed) for seed in range(seeds)]
            records = [record for record in found if record is not None]
            if records:
                lines.append(row(records, entry.target if agent == "ImaginedPPO" else None))
                settings.append(f"- {agent} on {env_id}: `{json.dumps(records[0]['settings'])}`")
    return [*lines, "", "Settings other than the agents' own defaults:", "", *settings]


def row(records: list[dict[str, Any]], target: Target | None) -> str:
    """Return the row of an agent in an environment."""
    first = records[0]
    returns = Spread.of([mean_return(record) for record in records])
    imagined = Spread.of([record["imagined_steps"] for record in records]).median
    seconds = Spread.of([record["training_seconds"] for record in records]).median
    mark = "" if target is None else " yes" if target.reached(returns.median) else " **no**"
    cells = [
        first["env_id"],
        first["agent"],
        f"{first['steps']:,}",
        f"{imagined:,.0f}" if imagined else "-",
        str(len(records)),
        f"{returns.median:.1f} ({returns.low:.1f} to {returns.high:.1f}){mark}",
        "-" if target is None else str(target),
        f"{seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
