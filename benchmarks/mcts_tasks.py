"""Episodes of agents that search trees; part of `mcts.py`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import scipy.linalg
import torch
from mcts_classic import MODELS, check

import mbrl_gym
from mbrl_gym.agents import MCTS
from mbrl_gym.agents.planner_policy import STREAMS
from mbrl_gym.wrappers import SimulatorModel

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """An environment, how it is searched, and what a return is worth."""

    env_id: str
    selection: str = "UCT"
    model: str = "simulator"
    repeats: int = 1  # of an action in a compiled model's step
    steps: int = 0  # of learning
    episodes: int = 20
    words: str
    worth: Callable[[list[float], list[Any]], str]
    exact: Callable[[MCTS], str] | None = None  # the expected return without drawing episodes
    arguments: dict[str, Any] = field(default_factory=dict)
    value: Callable[[Any], Any] | None = None  # makes the leaves' value from the learned model


@cache
def lake_reference() -> float:
    """Return the success rate of value iteration's policy (undiscounted) within the 100 steps of FrozenLake-v1."""
    q = _lake_values()
    table = SimulatorModel(gym.make("FrozenLake-v1")).outcome_table
    assert table is not None
    value, states, best = np.zeros(16), np.arange(16), q.round(10).argmax(1)
    for _ in range(100):
        target = table.reward + ~table.ends * value[table.following]
        value = (table.probability * target).sum(-1)[states, best]
    return float(value[0])


def _lake_values() -> Any:
    table, value = SimulatorModel(gym.make("FrozenLake-v1")).outcome_table, np.zeros(16)
    assert table is not None
    for _ in range(5000):
        q = (table.probability * (table.reward + ~table.ends * value[table.following])).sum(-1)
        value = q.max(1)
    return q


def _lake(returns: list[float], starts: list[Any]) -> str:
    error = np.sqrt(np.mean(returns) * (1 - np.mean(returns)) / len(returns))
    return f"value iteration's {lake_reference():.3f}; standard error {error:.3f}"


def lake_success(agent: MCTS) -> str:
    """Return the exact probability with which an agent that reuses no trees crosses the lake within 100 steps.

    Its deterministic decisions depend on the state and on the step modulo `STREAMS` alone: all of them are made, and
    followed through the table of outcomes.
    """
    table = SimulatorModel(gym.make("FrozenLake-v1")).outcome_table
    assert table is not None
    states, actions, found = np.arange(16), [], None
    for age in range(STREAMS):
        if found is not None:
            found = found._replace(age=np.full(16, age - 1))
        action, found = agent.predict(states, found, deterministic=True)  # type: ignore[assignment, arg-type]
        actions.append(action)
    value = np.zeros(16)
    for step in reversed(range(100)):
        target = table.reward + ~table.ends * value[table.following]
        value = (table.probability * target).sum(-1)[states, actions[step % STREAMS]]
    return f"exactly {value[0]:.4f}, by following all decisions through the table of outcomes"


def _taxi(returns: list[float], starts: list[Any]) -> str:
    """Compare with the shortest path from every start, by breadth-first search; a step costs 1, the last one pays 20.

    Illegal actions cost more, so that a return tells whether an episode was as short as can be.
    """
    table = SimulatorModel(gym.make("Taxi-v4")).outcome_table
    assert table is not None
    following, ends = table.following[..., 0], table.ends[..., 0]
    length, reached, steps = np.full(500, np.inf), ends.any(1), 1
    while (reached & np.isinf(length)).any():
        length[reached & np.isinf(length)] = steps
        reached, steps = (np.isfinite(length)[following] & ~ends).any(1), steps + 1
    best = 21 - length[np.array(starts)]
    return (
        f"{np.mean(np.isclose(best, returns)):.0%} of episodes as short as breadth-first search's paths; the optimum "
        f"is {best.mean():.2f}"
    )


def _score(env_id: str) -> Callable[[list[float], list[Any]], str]:
    return lambda returns, starts: f"score {mbrl_gym.score(env_id, float(np.mean(returns))):.3f}"


def _solved(least: float) -> Callable[[list[float], list[Any]], str]:
    return lambda returns, starts: f"{np.mean(np.array(returns) >= least):.0%} of episodes at least {least:g}"


def regulator_value(model: Any) -> Callable[[Any], Any]:
    """Return the negative cost to go of the linear-quadratic regulator for a model of CartPole-v1 near its upright.

    The model is linearised by central differences; positions and angles cost 1 a squared unit and step, velocities 0.1,
    an action 1. The cost at the edge of the track counts 100.
    """

    def step(rows: Any, action: int) -> Any:
        observation = torch.as_tensor(np.atleast_2d(rows), dtype=torch.float32)
        state = model.start(observation, model.particle_unit)
        with torch.no_grad():
            return model.step(state, torch.full((len(observation),), action)).observation.mean(0).double().numpy()

    offsets = np.diag([0.3, 0.3, 0.05, 0.3])
    ahead, behind = ((step(sign * offsets, 0) + step(sign * offsets, 1)) / 2 for sign in (1, -1))
    dynamics = ((ahead - behind) / (2 * np.diag(offsets)[:, None])).T
    control = ((step(np.zeros(4), 1) - step(np.zeros(4), 0)) / 2).T
    cost = scipy.linalg.solve_discrete_are(dynamics, control, np.diag([1.0, 0.1, 1.0, 0.1]), np.eye(1))
    weights = torch.as_tensor(100 * cost / (cost[0, 0] * 2.4**2), dtype=torch.float32)
    return lambda observation: -torch.einsum("ni,ij,nj->n", observation, weights, observation)


GRAPH = {"transpositions": True, "backup": "max", "rollout": "none", "exploration": 0.3}

TASKS = {
    "lake": Task(
        env_id="FrozenLake-v1",
        episodes=30,
        words="UCT, 250 simulations, horizon 100, exploration 0.3, no reuse; transpositions, backup by maximum, leaves "
        "are worth 1",
        worth=_lake,
        exact=lake_success,
        arguments={
            "simulations": 250,
            "search_kwargs": {"horizon": 100, "leaf_value": 1.0, "reuse": False, **GRAPH},
        },
    ),
    "taxi": Task(
        env_id="Taxi-v4",
        episodes=100,
        words="UCT, 1,000 simulations, horizon 50, exploration 0.3, discount 1; transpositions, backup by maximum, "
        "leaves are worth 20",
        worth=_taxi,
        arguments={
            "simulations": 1_000,
            "gamma": 1.0,
            "search_kwargs": {"horizon": 50, "leaf_value": 20.0, **GRAPH},
        },
    ),
    "cartpole": Task(
        env_id="CartPole-v1",
        model="ensemble",
        steps=2_000,
        episodes=5,
        words="2,000 random steps; UCT, 64 simulations, 8 in flight, horizon 20, exploration 0.3; leaves are worth the "
        "negative cost to go of the regulator of the learned model",
        worth=_solved(500),
        arguments={
            "learning_starts": 2_000,
            "train_freq": 2_000,
            "search_kwargs": {"horizon": 20, "exploration": 0.3},
        },
        value=regulator_value,
    ),
    "cartpole, roll-outs": Task(
        env_id="CartPole-v1",
        model="ensemble",
        steps=2_000,
        episodes=5,
        words="2,000 random steps; UCT, 64 simulations, 16 in flight, horizon 20; random roll-outs",
        worth=_solved(500),
        arguments={
            "learning_starts": 2_000,
            "train_freq": 2_000,
            "search_kwargs": {"horizon": 20, "leaves": 16},
        },
    ),
    "acrobot": Task(
        env_id="Acrobot-v1",
        model="compiled",
        repeats=5,
        episodes=5,
        words="UCT, 300 simulations, horizon 60, discount 1; the model takes every action 5 times",
        worth=_solved(-100),
        arguments={"simulations": 300, "gamma": 1.0, "search_kwargs": {"horizon": 60}},
    ),
    "mountaincar": Task(
        env_id="MountainCar-v0",
        model="compiled",
        repeats=10,
        episodes=5,
        words="UCT, 300 simulations, horizon 20, discount 1; the model takes every action 10 times",
        worth=_solved(-110),
        arguments={"simulations": 300, "gamma": 1.0, "search_kwargs": {"horizon": 20}},
    ),
    "drift": Task(
        env_id="mbrl/Drift-v0",
        model="exact",
        episodes=20,
        words="UCT, 64 simulations, horizon 6",
        worth=_score("mbrl/Drift-v0"),
        arguments={"search_kwargs": {"horizon": 6}},
    ),
    "arm": Task(
        env_id="mbrl/Arm-v0",
        model="exact",
        episodes=20,
        words="UCT, 200 simulations, horizon 12, widening 2 n^0.4, stretch 2, exploration 0.5",
        worth=_score("mbrl/Arm-v0"),
        arguments={
            "simulations": 200,
            "search_kwargs": {"horizon": 12, "widening": (2.0, 0.4), "stretch": 2.0, "exploration": 0.5},
        },
    ),
}
"""What is measured, and with which settings: the best of a few."""


def episodes(task: str, seed: int = 0) -> Figures:
    """Learn if there is anything to learn, and return the figures of evaluation episodes with fixed starts."""
    given = TASKS[task]
    model: Any = given.model
    if model == "simulator":
        model = SimulatorModel(gym.make(given.env_id))
    elif model == "compiled":
        check(given.env_id)
        model = MODELS[given.env_id][0](given.repeats)
    agent = MCTS(given.selection, gym.make(given.env_id), model=model, seed=seed, **given.arguments)
    if given.steps:
        agent.learn(given.steps)
        if not agent.world_model.fitted:
            agent.train()
    if given.value is not None:
        model = agent.world_model
        settings = {"model": model, "value": given.value(model), **given.arguments}
        agent = MCTS(given.selection, gym.make(given.env_id), seed=seed, **settings)
    env, returns, starts, times = gym.make(given.env_id), [], [], []
    for episode in range(given.episodes):
        observation, _ = env.reset(seed=10_000 + episode)
        starts.append(observation if np.ndim(observation) else int(observation))
        state, total, done, start = None, 0.0, False, np.ones(1, np.bool_)
        while not done:
            begin = time.process_time()
            action, state = agent.predict(observation, state, start, deterministic=True)
            times.append(1e3 * (time.process_time() - begin))
            observation, reward, terminated, truncated, _ = env.step(action)
            total, done, start = total + float(reward), terminated or truncated, np.zeros(1, np.bool_)
        returns.append(total)
        if 10 * (episode + 1) % given.episodes < 10:
            print(f"  {task}: {episode + 1} of {given.episodes} episodes, mean {np.mean(returns):.3f}", flush=True)
    return {
        "episodes": len(returns),
        "mean": float(np.mean(returns)),
        "range": [min(returns), max(returns)],
        "worth": given.worth(returns, starts) + ("" if given.exact is None else "; " + given.exact(agent)),
        "median_ms": float(np.median(times)),
        "p99_ms": float(np.percentile(times, 99)),
    }
