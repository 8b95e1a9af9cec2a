"""Recompute the reference scores in mbrl_gym/reference.json: `python benchmarks/optimum.py [ENV_ID ...]`.

For the given ids, or for all, the best possible return from the start of each of the 100 evaluation seeds, and the mean
return of random actions from the same starts. Values of other ids stay; each id is written as soon as it is known.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from tqdm import tqdm

import mbrl_gym
from mbrl_gym.envs import Task, draw
from mbrl_gym.scores import evaluation_states

FILE = Path(mbrl_gym.__file__).with_name("reference.json")
RANDOM_EPISODES = 20  # of each start


def main(env_ids: list[str]) -> None:
    """Compute, write and print."""
    print(f"{'id':30} {'random':>10} {'optimal':>10} {'gap':>8} {'kind':>10} {'seconds':>8}")
    for env_id in env_ids or mbrl_gym.env_ids():
        begin = time.perf_counter()
        task: Task = gym.make(env_id).unwrapped.task
        states = evaluation_states(env_id)
        entry = describe(env_id, task, states)
        write(env_id, entry)
        gap = "?" if entry["gap"] is None else f"{entry['gap']:.3f}"
        seconds = time.perf_counter() - begin
        print(
            f"{env_id:30} {entry['random']:10.3f} {entry['optimal']:10.3f} {gap:>8} {entry['kind']:>10} {seconds:8.1f}",
            flush=True,
        )


def describe(env_id: str, task: Task, states: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the entry of one id."""
    chunks = np.array_split(states, 5)  # what takes minutes shows how far it is
    best = np.concatenate([task.optimal_return(part) for part in tqdm(chunks, env_id, leave=False, delay=10)])
    try:
        gap = max(0.0, round(float(np.mean(task.return_bound(states) - best)), 4))
    except NotImplementedError:
        gap = None
    return {
        "random": round(random_return(task, states), 4),
        "optimal": round(float(best.mean()), 4),
        "kind": task.optimum.kind,
        "method": task.optimum.method,
        "gap": gap,
        "optimal_returns": [round(float(value), 4) for value in best],
        "command": f"python benchmarks/optimum.py {env_id}",
    }


def random_return(task: Task, states: np.ndarray[Any, Any]) -> float:
    """Return the mean return of random actions."""
    generator = np.random.default_rng(0)
    state = np.tile(states, (RANDOM_EPISODES, 1))
    rows = len(state)
    observation = task.observation(state)
    total, alive = np.zeros(rows), np.ones(rows, np.bool_)
    for _ in range(task.nominal_steps):
        if isinstance(task.action_space, gym.spaces.Discrete):
            action = generator.integers(task.action_space.n, size=rows)
        else:
            action = generator.uniform(-1.0, 1.0, (rows, *task.action_space.shape)).astype(task.dtype)
        state = task.transition(state, action, draw(generator, (rows,), task.transition_noise, task.dtype))
        following = task.observation(state)
        total += np.where(alive, task.reward(observation, action, following), 0.0)
        alive &= ~task.terminal(following)
        observation = following
    return float(total.mean())


def write(env_id: str, entry: dict[str, Any]) -> None:
    """Replace the entry of one id."""
    stored = json.loads(FILE.read_text()) if FILE.exists() else {}
    stored[env_id] = entry
    ordered = {name: stored[name] for name in mbrl_gym.env_ids() if name in stored}
    temporary = FILE.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(ordered, indent=1) + "\n")
    os.replace(temporary, FILE)


if __name__ == "__main__":
    main(sys.argv[1:])
