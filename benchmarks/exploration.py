"""How soon a learner meets the reward it was not told of: `python benchmarks/exploration.py --out runs/exploration`.

Random actions beside agents with and without curiosity where rewards are sparse: environment steps until the first one
is met. Writes docs/results/exploration.md. Finished runs are kept under --out and not repeated: give a fresh --out
after a change of the package.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from exploration_page import page
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

import mbrl_gym  # noqa: F401  registers the arm
from mbrl_gym.agents import MPC
from mbrl_gym.agents.benchmark.records import replacing
from mbrl_gym.wrappers import CuriosityReward

RESULTS = Path(__file__).parents[1] / "docs" / "results"
Record = dict[str, Any]

SHORT: Record = {"horizon": 12, "iterations": 2}  # half the time of the defaults
TASKS: dict[str, Record] = {
    "MountainCarContinuous-v0": {"steps": 1_000, "worth": 1.0, "planner": {"horizon": 30}, "cells": 20},
    "mbrl/ArmSparse-v0, one target": {"steps": 5_000, "worth": 0.5, "planner": SHORT, "cells": 20},
    "mbrl/ArmSparse-v0": {"steps": 1_200, "worth": 0.5, "planner": SHORT, "cells": 20},
}
ENSEMBLE: Record = {"model_kwargs": {"members": 5, "hidden": [64, 64], "max_epochs": 40, "patience": 5}}
NETWORK: Record = {"model": "mlp", "model_kwargs": {"hidden": [64, 64], "max_epochs": 40, "patience": 5}}

RUNS, HORIZON = 400, 20_000  # of random actions side by side
MARKS = (600, 1_200, 2_000, 5_000, 10_000, 20_000)


class SameStart(gym.Wrapper[Any, Any, Any, Any]):
    """Every episode starts in the same state, and so with the same target.

    Args:
        env: An environment of this package.
        seed: Of the reset that finds the state.
    """

    def __init__(self, env: gym.Env[Any, Any], seed: int) -> None:
        super().__init__(env)
        env.reset(seed=seed)
        self.start = env.unwrapped.get_state()["state"].tolist()  # type: ignore[attr-defined]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        return self.env.reset(seed=seed, options={"state": self.start})


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
        paid = self.locals["infos"][0].get("extrinsic_reward", self.locals["rewards"][0])
        if float(paid) >= self.worth:
            self.found_at = self.num_timesteps
        return self.found_at is None


def make(name: str, seed: int) -> gym.Env[Any, Any]:
    """Return the environment of a task."""
    env_id, _, same = name.partition(", ")
    env = gym.make(env_id)
    return SameStart(env, seed) if same else env


def plan(name: str, seed: int, **settings: Any) -> BaseAlgorithm:
    """Return a planning agent."""
    task = TASKS[name]
    if settings.get("explore") == "counts":
        settings["explore_cells"] = task["cells"]
    common = {"planner_kwargs": task["planner"], "learning_starts": 50, "train_freq": 100, "device": "cpu"}
    if task["steps"] > 2_000:
        common["train_freq"] = 250
    return MPC("iCEM", make(name, seed), seed=seed, **{**common, **settings})


def actor_critic(name: str, seed: int, curious: bool) -> BaseAlgorithm:
    """Return Stable-Baselines3's SAC, with a bonus for new places or without."""
    env = make(name, seed)
    if curious:
        env = CuriosityReward(env, None, kind="counts")
    return SAC("MlpPolicy", env, seed=seed, device="cpu")


AGENTS: dict[str, Callable[[str, int], BaseAlgorithm] | int] = {
    "random actions": 1,
    "random actions, each for 10 steps": 10,
    "SAC": partial(actor_critic, curious=False),
    "SAC, CuriosityReward of counts": partial(actor_critic, curious=True),
    "MPC, exploration=0.3": partial(plan, exploration=0.3, **ENSEMBLE),
    "MPC, explore=ucb": partial(plan, explore="ucb", **ENSEMBLE),
    "MPC, explore=thompson": partial(plan, explore="thompson", **ENSEMBLE),
    "MPC, explore=information": partial(plan, explore="information", **ENSEMBLE),
    "MPC, explore=counts": partial(plan, explore="counts", **NETWORK),
}


def search(name: str, agent: str, seed: int) -> int | None:
    """Return the step in which an agent first meets the reward, or None if not within the budget."""
    task, made = TASKS[name], AGENTS[agent]
    if isinstance(made, int):
        return search_at_random(name, seed, made)
    callback = UntilPaid(task["worth"])
    made(name, seed).learn(task["steps"], callback=callback, log_interval=None)  # type: ignore[arg-type]
    return callback.found_at


def search_at_random(name: str, seed: int, hold: int) -> int | None:
    """Return the step in which random actions, each taken for some steps, first meet the reward, or None."""
    env, task = make(name, seed), TASKS[name]
    env.action_space.seed(seed)
    env.reset(seed=seed)
    for step in range(task["steps"]):
        if step % hold == 0:
            action = env.action_space.sample()
        _, reward, terminated, truncated, _ = env.step(action)
        if float(reward) >= task["worth"]:
            return step + 1
        if terminated or truncated:
            env.reset()
    return None


def random_curve(same: bool, hold: int) -> list[float]:
    """Return the shares of many runs of random actions on the arm that meet the reward by each of the marks."""
    env = gym.make_vec("mbrl/ArmSparse-v0", num_envs=RUNS, autoreset_mode="SameStep")
    generator, found = np.random.default_rng(0), np.full(RUNS, HORIZON + 1)
    env.reset(seed=0)
    start = env.unwrapped.get_state()["state"].copy()  # type: ignore[attr-defined]
    for step in range(HORIZON):
        if same and step % 50 == 0:
            env.reset(options={"state": start})
        if step % hold == 0:
            action = generator.uniform(-1, 1, (RUNS, 2)).astype(np.float32)
        reward = env.step(action)[1]
        found = np.where((reward > 0) & (found > HORIZON), step + 1, found)
    return [float((found <= mark).mean()) for mark in MARKS]


def keep(path: Path, what: str, make_record: Callable[[], Record]) -> None:
    """Make a record, unless there is one."""
    if path.exists():
        return
    begin = time.perf_counter()
    record = make_record()
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record))
    print(f"{what}: {record['found']} ({time.perf_counter() - begin:.0f} s)", flush=True)


def main() -> None:
    """Run what is missing, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/exploration"), help="folder for finished runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the page")
    parser.add_argument("--only", nargs="+", metavar="TASK", choices=TASKS, default=list(TASKS), help="; ".join(TASKS))
    parser.add_argument("--agents", nargs="+", metavar="AGENT", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--seeds", type=int, default=5, help="of each agent")
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("--seeds must be at least 1")
    torch.set_num_threads(1)
    for same in (False, True):
        for hold in (1, 10):
            curve = {"curve": "one target" if same else "new targets", "hold": hold, "marks": MARKS, "runs": RUNS}
            path = given.out / f"random-{'same' if same else 'new'}-{hold}.json"
            keep(path, path.stem, lambda c=curve, s=same, h=hold: {**c, "found": random_curve(s, h)})
    for name in given.only:
        for agent in given.agents:
            for seed in range(given.seeds):
                run = {"task": name, "agent": agent, "seed": seed, "budget": TASKS[name]["steps"]}
                path = given.out / f"{_plain(name)}-{_plain(agent)}-{seed}.json"
                what = f"{name}, {agent}, seed {seed}"
                keep(path, what, lambda r=run, of=(name, agent, seed): {**r, "found": search(*of)})
    records = [json.loads(path.read_text()) for path in sorted(given.out.glob("*.json"))]
    lines = page(records, list(TASKS), list(AGENTS), platform.machine())
    print("\n".join(lines))
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "exploration.md").write_text("\n".join(lines) + "\n")


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


if __name__ == "__main__":
    main()
