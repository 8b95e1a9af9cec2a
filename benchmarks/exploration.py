"""How soon a learner meets the reward it was not told of: `python benchmarks/exploration.py --out runs/exploration`.

Random actions beside planning agents over a learned ensemble, with and without curiosity, where rewards are sparse:
environment steps until the first one is met. Writes docs/results/exploration.md. Finished runs are kept under --out
and not repeated: give a fresh --out after a change of the package.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

import mbrl_gym  # noqa: F401  registers the arm
from mbrl_gym.agents import MPC
from mbrl_gym.agents.benchmark.records import replacing

RESULTS = Path(__file__).parents[1] / "docs" / "results"
Record = dict[str, Any]

AGENTS: dict[str, Record | None] = {
    "random actions": None,
    "mpc": {"exploration": 0.3},
    "mpc, explore=ucb": {"explore": "ucb"},
    "mpc, explore=thompson": {"explore": "thompson"},
    "mpc, explore=information": {"explore": "information"},
}
TASKS: dict[str, Record] = {
    "MountainCarContinuous-v0": {"steps": 1_000, "worth": 1.0, "planner_kwargs": {"horizon": 30}},
    "mbrl/ArmSparse-v0": {"steps": 1_200, "worth": 0.5, "planner_kwargs": {"horizon": 15}},
}
COMMON: Record = {
    "learning_starts": 50,
    "train_freq": 100,
    "model_kwargs": {"members": 5, "hidden": [64, 64], "max_epochs": 40, "patience": 5},
}


class UntilPaid(BaseCallback):
    """Stops at the first reward of some worth.

    Args:
        worth: The reward.
    """

    def __init__(self, worth: float) -> None:
        super().__init__()
        self.worth = worth
        self.found_at: int | None = None

    def _on_step(self) -> bool:
        if float(self.locals["rewards"][0]) >= self.worth:
            self.found_at = self.num_timesteps
        return self.found_at is None


def search(env_id: str, name: str, seed: int) -> int | None:
    """Return the step in which an agent first meets the reward, or None if not within the budget."""
    task, settings = TASKS[env_id], AGENTS[name]
    if settings is None:
        return search_at_random(env_id, seed)
    agent = MPC(
        "iCEM", gym.make(env_id), planner_kwargs=task["planner_kwargs"], seed=seed, device="cpu", **COMMON, **settings
    )
    callback = UntilPaid(task["worth"])
    agent.learn(task["steps"], callback=callback, log_interval=None)  # type: ignore[arg-type]
    return callback.found_at


def search_at_random(env_id: str, seed: int) -> int | None:
    """Return the step in which random actions first meet the reward, or None."""
    env = gym.make(env_id)
    env.action_space.seed(seed)
    env.reset(seed=seed)
    for step in range(1, TASKS[env_id]["steps"] + 1):
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        if float(reward) >= TASKS[env_id]["worth"]:
            return step
        if terminated or truncated:
            env.reset()
    return None


def main() -> None:
    """Run what is missing, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/exploration"), help="folder for finished runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the page")
    parser.add_argument("--only", nargs="+", metavar="ENV", choices=TASKS, default=list(TASKS), help=", ".join(TASKS))
    parser.add_argument("--agents", nargs="+", metavar="AGENT", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--seeds", type=int, default=5, help="of each agent")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("--seeds must be at least 1")
    torch.set_num_threads(1)
    for env_id in given.only:
        for name in given.agents:
            for seed in range(given.seeds):
                path = given.out / f"{env_id.replace('/', '-')}-{name.replace(' ', '_')}-{seed}.json"
                if not path.exists():
                    begin = time.perf_counter()
                    found = search(env_id, name, seed)
                    with replacing(path) as temporary:
                        temporary.write_text(json.dumps({"env": env_id, "agent": name, "seed": seed, "found": found}))
                    print(f"{env_id}, {name}, seed {seed}: {found} ({time.perf_counter() - begin:.0f} s)", flush=True)
    lines = page([json.loads(path.read_text()) for path in sorted(given.out.glob("*.json"))])
    print("\n".join(lines))
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "exploration.md").write_text("\n".join(lines) + "\n")


def page(records: list[Record]) -> list[str]:
    """Return the page of all runs that are finished."""
    rows = []
    for env_id, task in TASKS.items():
        for name in AGENTS:
            found = [record["found"] for record in records if (record["env"], record["agent"]) == (env_id, name)]
            if found:
                reached = [step for step in found if step is not None]
                median = f"{np.median(reached):,.0f}" if reached else ""
                rows.append(f"| {env_id} | {name} | {len(reached)} of {len(found)} | {task['steps']:,} | {median} |")
    return [
        "# Exploration",
        "",
        f"Made by `python benchmarks/exploration.py --out runs/exploration` ({platform.machine()}, one core): in how "
        "many runs an agent meets the sparse reward within a budget of steps. Dynamics and reward are learned by an "
        "ensemble; nothing tells the agents where the reward is.",
        "",
        "| environment | agent | found | budget | steps, median of those that found |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "On the arm there is nothing to know that would lead to the target: dynamics are soon learned, and a step at "
        "full speed tries a disc of 0.05 m radius among the 10 square metres that the tip can reach, 50 steps an "
        "episode.",
    ]


if __name__ == "__main__":
    main()
