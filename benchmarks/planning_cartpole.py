"""PETS's cart-pole with our MPC: what it takes until a trial lasts 195 of 200 steps; part of `planning.py`.

Reward and termination are exact, as in MBRL-Lib's example; steps count from the first random one, seconds from the
agent's construction.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

import mbrl_gym  # noqa: F401  # registers the ids
from mbrl_gym.agents import MPC

ENOUGH = 195  # steps of a trial that count as solved
SETTINGS: dict[str, Any] = {"reward": "exact", "termination": "exact", "learning_starts": 50, "train_freq": 50}


class Trials(BaseCallback):
    """Counts the steps of trials, and ends training after one that lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths = [0]

    def _on_step(self) -> bool:
        self.lengths[-1] += 1
        if not self.locals["dones"][0]:
            return True
        solved = self.lengths[-1] >= ENOUGH
        self.lengths.append(0)
        return not solved


def solve(seed: int, *, most_steps: int = 1000) -> dict[str, Any]:
    """Return steps and seconds until a full trial, and the median time of a decision."""
    begin, processor_begin = time.perf_counter(), time.process_time()
    env = gym.make("mbrl/CartPoleContinuous-v0")
    agent = MPC("iCEM", env, seed=seed, device="cpu", **SETTINGS)
    decide, decisions = agent.policy.predict, []

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        decision = decide(*args, **kwargs)
        decisions.append(time.perf_counter() - start)
        return decision

    agent.policy.predict = timed  # type: ignore[method-assign]
    trials = Trials()
    agent.learn(most_steps, callback=trials)
    lengths = [length for length in trials.lengths if length]
    return {
        "solved": lengths[-1] >= ENOUGH,
        "random_steps": SETTINGS["learning_starts"],
        "trials": lengths,
        "total_steps": sum(lengths),
        "seconds": time.perf_counter() - begin,
        "processor_seconds": time.process_time() - processor_begin,
        "planning_seconds": sum(decisions),
        "decision_ms": 1e3 * float(np.median(decisions)),
    }
