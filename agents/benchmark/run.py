"""One run: train an agent from one seed, and evaluate it along the way."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from mbrl_gym.errors import InvalidSettingError

from .evaluation import EVALUATION_SEED, Evaluation, EvaluationCallback
from .records import Run, discard_run, load_run, save_run
from .settings import AGENTS, check_agent, check_env, full_id, make_agent, settings_of

__all__ = ["describe", "even_marks", "run", "versions", "warm_up"]

PACKAGES = ("mbrl-gym", "gymnasium", "stable-baselines3", "torch", "numpy")


def run(
    env_id: str,
    agent: str,
    seed: int,
    steps: int,
    *,
    evaluations: int = 10,
    episodes: int = 50,
    folder: str | Path,
) -> Run:
    """Train an agent in one environment, or return the run that the folder already holds.

    Args:
        env_id: The environment.
        agent: The agent's name, one of `AGENTS`.
        seed: Seeds the agent and the environment in which it trains.
        steps: Environment steps; agents that act in rollouts (PPO) or fit every so many steps (MPC) round them up.
        evaluations: Evaluations at evenly spaced steps, the last one at the end; one more comes before training.
        episodes: Episodes of an evaluation, always the same ones.
        folder: Where agent.zip, curve.csv and run.json go.

    Raises:
        InvalidSettingError: A setting out of its range.
        UnsupportedSpaceError: A space that the agent cannot handle; names the agents that can.
    """
    folder = Path(folder)
    with closing(check_env(env_id)) as env:
        env_id = full_id(env, env_id)
        settings = describe(env, env_id, agent, seed, steps, evaluations=evaluations, episodes=episodes)
        finished = load_run(folder, settings)
        if finished is not None:
            return finished
        discard_run(folder)
        evaluation = Evaluation(env_id, episodes)
        try:
            return _train(env, evaluation, settings, folder)
        finally:
            evaluation.close()


def _train(env: gym.Env[Any, Any], evaluation: Evaluation, settings: dict[str, Any], folder: Path) -> Run:
    name, seed, steps = settings["agent"], settings["seed"], settings["steps"]
    model = make_agent(name, env, settings["env_id"], seed)
    callback = EvaluationCallback(evaluation, even_marks(steps, settings["evaluations"]))
    warm_up()
    model.learn(steps, callback=callback)
    done = Run.of(name, seed, folder, callback.rows, evaluation.decision_ms(model))
    save_run(done, model, settings, versions())
    return done


def even_marks(steps: int, evaluations: int) -> list[int]:
    """Return the steps of evaluations at even distances, but for the one at the end."""
    return [-(-steps * k // evaluations) for k in range(1, evaluations)]


def warm_up() -> None:
    """Take an optimiser step: the first one in a process makes torch import parts of itself, for seconds."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.Adam([parameter]).step()


def describe(
    env: gym.Env[Any, Any], env_id: str, agent: str, seed: int, steps: int, *, evaluations: int, episodes: int
) -> dict[str, Any]:
    """Check a run's settings and return all that decides its result, as JSON values.

    Raises:
        InvalidSettingError: A setting out of its range.
        UnsupportedSpaceError: A space that the agent cannot handle; names the agents that can.
    """
    check_agent(agent, env, env_id)
    for name, value in (("steps", steps), ("evaluations", evaluations), ("episodes", episodes)):
        if value < 1:
            raise InvalidSettingError(f"{name} must be at least 1, but {value} was given")
    if seed < 0:
        raise InvalidSettingError(f"seed must be at least 0, but {seed} was given")
    if evaluations > steps:
        raise InvalidSettingError(f"evaluations must be at most the steps ({steps}), but {evaluations} was given")
    agent_settings = settings_of(agent, env_id)
    if AGENTS[agent].plans and steps <= (random := agent_settings.get("learning_starts", 100)):
        raise InvalidSettingError(
            f"{agent} takes {random} random steps in {env_id} before it learns: "
            f"steps must be at least {random + 1}, but {steps} was given"
        )
    return {
        "env_id": env_id,
        "agent": agent,
        "seed": seed,
        "steps": steps,
        "evaluations": evaluations,
        "episodes": episodes,
        "evaluation_seed": EVALUATION_SEED,
        "agent_settings": agent_settings,
    }


def versions() -> dict[str, Any]:
    """Return what else may matter to the result, or to its times."""
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "torch threads": torch.get_num_threads(),
    }
