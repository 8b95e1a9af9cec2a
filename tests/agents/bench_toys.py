"""A small benchmark for tests."""

import json
import os
import signal
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from mbrl_gym.agents.benchmark.suite import Suite, parse_suite
from mbrl_gym.models.saved import read_archive


class Deadly(gym.Env):
    """Kills its process in the fifth step, if it was seeded with 1."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1, (1,))
    steps, deadly = 0, False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.deadly |= seed == 1
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.deadly and self.steps == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros(1, np.float32), 0.0, False, False, {}


gym.register("Deadly-v0", Deadly, max_episode_steps=10)

SMALL_MPC = {
    "learning_starts": 20,
    "train_freq": 10,
    "model": "linear",
    "planner_kwargs": {"horizon": 2, "population": 8, "iterations": 2},
}


def document(env_id="mbrl/Drift-v0", **changes):
    """Return settings of an environment with a planning agent and a baseline, as a file holds them."""
    agents = {
        "mpc": {"algorithm": "MPC", "steps": 60, "evaluations": 3, "settings": SMALL_MPC},
        "ppo": {"algorithm": "PPO", "steps": 64, "evaluations": 2, "settings": {"n_steps": 32, "batch_size": 32}},
    }
    return {"env_id": env_id, "episodes": 4, "agents": agents, **changes}


def small_suite(env_id="mbrl/Drift-v0", **changes) -> Suite:
    return parse_suite(document(env_id, **changes), "test")


def write_toml(path: Path, content: dict) -> Path:
    """Write nested tables of numbers, texts, lists and small tables; TOML takes JSON's form of the values."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in content.items() if not isinstance(value, dict)]
    for name, value in content.items():
        if isinstance(value, dict):
            lines += _table(name, value)
    path.write_text("\n".join(lines) + "\n")
    return path


def _table(place: str, content: dict) -> list[str]:
    lines = [f"[{place}]"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in content.items() if not isinstance(value, dict)]
    for name, value in content.items():
        if isinstance(value, dict):
            lines += _table(f"{place}.{name}", value)
    return lines


def results(folder: Path) -> dict:
    """Return all of a run's results that must not depend on when it ran, or whether it was interrupted."""
    with np.load(folder / "evaluations.npz") as arrays:
        found = {name: array.tolist() for name, array in arrays.items()}
    curve = (folder / "curve.csv").read_text().splitlines()
    found["curve"] = [[row.split(",")[i] for i in (0, 2, 3)] for row in curve]
    rows = [line.split(",") for line in (folder / "progress.csv").read_text().splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if name == "time/total_timesteps" or not name.startswith("time/")]
    found["progress"] = [[row[i] for i in kept] for row in rows]
    found["agent"] = _agent(folder / "agent.zip")
    return found


def _agent(path: Path) -> dict:
    """Return the tensors of an agent's file."""
    try:
        _, content = read_archive(path)
    except ValueError:
        from stable_baselines3.common.save_util import load_from_zip_file

        content = {"state": {"policy": load_from_zip_file(path, device="cpu")[1]["policy"]}}
    return {name: tensor.tolist() for name, tensor in content["state"]["policy"].items()}
