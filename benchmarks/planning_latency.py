"""Decisions within a time budget on mbrl/Drone-v0; part of `planning.py`.

CEM with 400 candidates, 5 iterations and horizon 20 plans with an ensemble that was learned beforehand, once without a
limit and once for every budget; the reward is exact. A decision is a call of `predict` for one state.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import gymnasium as gym
import numpy as np

import mbrl_gym  # noqa: F401  # registers the ids
from mbrl_gym.agents import MPC
from mbrl_gym.agents.planning import CEM

ENVIRONMENT, HORIZON = "mbrl/Drone-v0", 20
BUDGETS = (None, 100.0, 50.0, 20.0, 10.0)  # [ms]


@functools.cache
def trained(steps: int) -> MPC:
    """Return an agent that has learned the environment, with a planner that does not look at the clock."""
    settings: dict[str, Any] = {"planner_kwargs": {"horizon": HORIZON}, "learning_starts": 50, "reward": "exact"}
    agent = MPC("iCEM", gym.make(ENVIRONMENT), seed=0, device="cpu", **settings)
    agent.learn(steps)
    return agent


def latency(*, budget_ms: float | None, episodes: int, steps: int) -> dict[str, Any]:
    """Return quantiles of the milliseconds of a decision, and the mean return."""
    agent, env = trained(steps), gym.make(ENVIRONMENT)
    agent.policy.planner = CEM(env.action_space, horizon=HORIZON, time_budget_ms=budget_ms)
    decisions, returns = [], []
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        state, started, total, ended = None, np.array([True]), 0.0, False
        while not ended:
            begin = time.perf_counter()
            action, state = agent.predict(observation, state, started, deterministic=True)
            decisions.append(1e3 * (time.perf_counter() - begin))
            observation, reward, terminated, truncated, _ = env.step(action)
            started, total, ended = np.array([False]), total + float(reward), terminated or truncated
        returns.append(total)
    low, high = np.percentile(decisions, [50, 99])
    late = 0.0 if budget_ms is None else float(np.mean(np.array(decisions) > budget_ms))
    return {
        "p50_ms": float(low),
        "p99_ms": float(high),
        "longest_ms": max(decisions),
        "late": late,
        "decisions": len(decisions),
        "mean_return": float(np.mean(returns)),
    }
