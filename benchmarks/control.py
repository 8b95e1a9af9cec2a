"""How well MPC controls after few steps: `python benchmarks/control.py --out runs/control`.

Trains MPC from five seeds for every entry of FIGURES, each run in a process of its own with one torch thread, plays
the 100 evaluation episodes, and writes docs/results/control.md. Finished runs are kept as JSON under --out and not
repeated; those that were interrupted, or whose settings changed, start again. Runs of other code are not told apart:
give a fresh --out after a change of the package.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

import mbrl_gym
from mbrl_gym.agents import MPC
from mbrl_gym.agents.benchmark import Evaluation, Spread
from mbrl_gym.agents.benchmark.records import replacing
from mbrl_gym.scores import EVALUATION_SEEDS, evaluation_states

RESULTS = Path("docs/results/control.md")
Array = np.ndarray[Any, Any]


class Episodes(NamedTuple):
    """The N evaluation episodes."""

    env_id: str
    returns: Array  # [N]
    lengths: Array  # [N]
    terminated: Array  # [N] bool; others were truncated
    final_observations: Array  # [N, ...] the last one of each
    final_infos: list[dict[str, Any]]  # N, the last one of each


MEASURES: dict[str, Callable[[Episodes], float]] = {
    "score": lambda played: mbrl_gym.score(played.env_id, played.returns.mean()),
    "return": lambda played: float(played.returns.mean()),
    "return / optimum": lambda played: float(played.returns.mean() / mbrl_gym.reference(played.env_id).optimal),
    "terminated": lambda played: float(played.terminated.mean()),
    "ends within 0.5 m": lambda played: float((_distance(played.final_observations) < 0.5).mean()),
}
"""Numbers that are computed from the evaluation episodes."""


@dataclass(frozen=True)
class Target:
    """What a measure must reach."""

    value: float
    at_most: bool = False

    def reached(self, value: float) -> bool:
        """Whether a value is as good as asked."""
        return (operator.le if self.at_most else operator.ge)(value, self.value)

    def __str__(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {_number(self.value)}"


@dataclass(frozen=True)
class Figure:
    """One entry of the table."""

    env_id: str
    steps: int  # of training
    settings: dict[str, Any]  # keyword arguments of `MPC`, and its planner "policy" if that is not iCEM
    targets: dict[str, Target | None]  # by measure; None: told without a target
    training: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the environment in training only


def minus_distance(observation: Tensor, action: Tensor, following: Tensor) -> Tensor:
    """Return the reward of the drones without the price of a collision."""
    return -torch.linalg.vector_norm(following[..., :3], dim=-1)


def in_obstacle(following: Tensor) -> Tensor:
    """Return whether a step ends in an obstacle."""
    return _obstacles().cost(following) > 0


@functools.cache
def _obstacles() -> Any:
    return gym.make("mbrl/DroneObstacles-v0").unwrapped.task


def _distance(observation: Array) -> Array:
    """Return how far drones are from their target [m]."""
    return np.linalg.norm(observation[..., :3], axis=-1)


EXACT: dict[str, Any] = {"reward": "exact", "termination": "exact"}
LINEAR = {"model": "linear", "learning_starts": 25, "train_freq": 5}
REACH = {"horizon": 12, "population": 32, "iterations": 4, "colour": 3.0, "deviation": 1.0}
FAST_GP = {"iterations": 30, "likelihood_rows": 150}
# The learned reward has a kink at the target, which the rougher kernel follows; inducing points make decisions fast.
# Rewards of places where nobody has been are taken for bad ones: far from the target they are.
ROUGH_GP = {
    "kernel": "matern52",
    "exact_limit": 400,
    "inducing": 128,
    "iterations": 20,
    "reward_inputs": "next",
    "reward_prior": "least",
}

FIGURES = {
    "Arm, exact reward": Figure(
        "mbrl/Arm-v0",
        500,
        {
            **EXACT,
            "model": "gp",
            "model_kwargs": FAST_GP,
            "planner_kwargs": REACH,
            "learning_starts": 250,
            "train_freq": 250,
        },
        {"score": Target(0.97)},
    ),
    "Drone, exact reward": Figure(
        "mbrl/Drone-v0",
        300,
        {**EXACT, **LINEAR, "planner_kwargs": {"horizon": 20, "population": 48}},
        {"score": Target(0.98)},
    ),
    "Drift, exact reward": Figure(
        "mbrl/Drift-v0",
        60,
        {**EXACT, **LINEAR, "exploration": 0.5, "planner_kwargs": {"horizon": 2, "population": 64}},
        {"return / optimum": Target(1.05, at_most=True), "return": None},
    ),
    "Arm, all learned": Figure(
        "mbrl/Arm-v0",
        1_500,
        {
            "model": "gp",
            "model_kwargs": ROUGH_GP,
            "planner_kwargs": REACH,
            "learning_starts": 300,
            "train_freq": 300,
            "exploration": 0.2,
        },
        {"score": Target(0.95)},
    ),
    "Drone, all learned": Figure(
        "mbrl/Drone-v0",
        3_000,
        {
            "model": "gp",
            "model_kwargs": ROUGH_GP,
            "planner_kwargs": {"horizon": 20, "population": 24, "iterations": 3},
            "learning_starts": 300,
            "train_freq": 500,
            "exploration": 0.3,
        },
        {"score": Target(0.9)},
    ),
    "Pendulum, all learned": Figure(
        "Pendulum-v1",
        2_000,
        {"learning_starts": 200, "train_freq": 200, "planner_kwargs": {"horizon": 20, "population": 32}},
        {"return": Target(-160.0)},
    ),
    "CartPole, all learned": Figure(
        "CartPole-v1",
        2_000,
        {
            "policy": "MPPI",
            "model": "mlp",
            # Who knows but one end of the track, or none, drifts off it; a cautious model stays where it was.
            "termination": "cautious",
            "learning_starts": 50,
            "train_freq": 50,
            "exploration": 0.2,
            "planner_kwargs": {"horizon": 50, "population": 100, "colour": 0.0, "discount": 0.99},
        },
        {"return": Target(475.0)},
    ),
    "ArmTorque, exact reward": Figure(
        "mbrl/ArmTorque-v0",
        3_000,
        {
            "reward": "exact",
            "planner_kwargs": {"horizon": 10, "population": 48, "deviation": 0.3},
            "learning_starts": 200,
            "train_freq": 250,
        },
        {"score": Target(0.9)},
    ),
    # Planned with the distance alone: the limit on the cost keeps clear of obstacles.
    "DroneObstacles, exact distance and cost limit": Figure(
        "mbrl/DroneObstacles-v0",
        1_000,  # a fifth of the 5,000 that are allowed
        {
            "reward": minus_distance,
            "termination": in_obstacle,
            "cost": "exact",
            "cost_limit": -0.25,
            "model": "linear",
            "planner_kwargs": {"horizon": 25, "population": 48},
            "learning_starts": 200,
            "train_freq": 200,
        },
        {"score": Target(0.85), "terminated": Target(0.02, at_most=True)},
    ),
    # Whoever tumbles learns nothing of hovering in the rest of an episode: training episodes are short.
    "DroneQuad, exact reward, short training episodes": Figure(
        "mbrl/DroneQuad-v0",
        5_000,
        {
            "reward": "exact",
            "model_kwargs": {"members": 3, "max_epochs": 80, "patience": 8},
            "planner_kwargs": {"horizon": 25, "population": 32, "iterations": 4, "deviation": 0.3, "colour": 1.0},
            "learning_starts": 200,
            "train_freq": 200,
        },
        {"score": None, "ends within 0.5 m": Target(0.9)},
        training={"max_episode_steps": 50},
    ),
}
"""What MPC is asked to reach, and the settings with which it does."""


def main() -> None:
    """Train, evaluate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/control"), help="folder for finished runs")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    for name, seed, record in run_all(given.only, given.seeds, given.out, given.jobs):
        told = ", ".join(f"{measure} {_number(value)}" for measure, value in record["measures"].items())
        print(f"  {name}, seed {seed}: {told}, {record['training_seconds']:.0f} s", flush=True)
    # The file tells of all entries that have runs, so that one entry can be repeated alone.
    lines = table(given.out, given.seeds)
    print("\n".join(lines))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")


def run_all(names: Sequence[str], seeds: int, out: Path, jobs: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield the names, seeds and records of all runs, finished ones first."""
    missing = []
    for name in names:
        for seed in range(seeds):
            record = load(out, name, seed)
            if record is None:
                missing.append((name, seed))
            else:
                yield name, seed, record
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run, name, seed, out): (name, seed) for name, seed in missing}
        for future in as_completed(futures):
            yield *futures[future], future.result()


def run(name: str, seed: int, out: Path) -> dict[str, Any]:
    """Train and evaluate one agent, and store the record."""
    torch.set_num_threads(1)
    figure = FIGURES[name]
    begin = time.perf_counter()
    with gym.make(figure.env_id, **figure.training) as env:
        agent = MPC(**{"policy": "iCEM", "device": "cpu", **figure.settings}, env=env, seed=seed)
        agent.learn(figure.steps)
    trained = time.perf_counter()
    played = play(agent, figure.env_id)
    record = {
        **description(name, seed),
        "measures": {measure: MEASURES[measure](played) for measure in figure.targets},
        "training_seconds": trained - begin,
        "evaluation_seconds": time.perf_counter() - trained,
        "decision_ms": decision_ms(agent, figure.env_id),
        "returns": played.returns.tolist(),
    }
    with replacing(path_of(out, name, seed)) as path:
        path.write_text(json.dumps(record, indent=2))
    return record


def play(agent: BaseAlgorithm, env_id: str) -> Episodes:
    """Play the 100 evaluation episodes in one batch."""
    count = len(EVALUATION_SEEDS)
    if env_id in mbrl_gym.env_ids():
        env = gym.make_vec(env_id, num_envs=count, autoreset_mode="SameStep")
        observation, _ = env.reset(seed=EVALUATION_SEEDS[0], options={"state": evaluation_states(env_id)})
    else:
        mode = gym.vector.AutoresetMode.SAME_STEP
        env = gym.vector.SyncVectorEnv([lambda: gym.make(env_id)] * count, autoreset_mode=mode)
        observation, _ = env.reset(seed=list(EVALUATION_SEEDS))
    returns, lengths = np.zeros(count), np.zeros(count, np.int64)
    running, terminated = np.ones(count, np.bool_), np.zeros(count, np.bool_)
    finals: list[Any] = [None] * count
    infos: list[dict[str, Any]] = [{} for _ in range(count)]
    state, start = None, np.ones(count, np.bool_)
    while running.any():
        action, state = agent.predict(observation, state, start, deterministic=True)
        observation, reward, ended, cut, info = env.step(action)
        start = ended | cut
        returns += np.where(running, reward, 0.0)
        lengths += running
        for row in np.flatnonzero(running & start):
            finals[row] = np.array(info["final_obs"][row])
            infos[row] = {key: np.asarray(value[row]) for key, value in info.get("final_info", {}).items()}
        terminated |= running & ended
        running &= ~start
    env.close()
    return Episodes(env_id, returns, lengths, terminated, np.stack(finals), infos)


def decision_ms(agent: MPC, env_id: str) -> float:
    """Return the median time of a decision for one observation [ms]."""
    evaluation = Evaluation(env_id, 1)
    try:
        return evaluation.decision_ms(agent)
    finally:
        evaluation.close()


def description(name: str, seed: int) -> dict[str, Any]:
    """Return all that decides a run's result, as JSON values."""
    figure = asdict(FIGURES[name])
    described = {key: figure[key] for key in ("env_id", "steps", "settings", "training") if figure[key]}
    return {"name": name, "seed": seed, **json.loads(json.dumps(described, default=lambda part: part.__qualname__))}


def path_of(out: Path, name: str, seed: int) -> Path:
    """Return where a run's record lies."""
    return out / f"{name.replace(', ', '_').replace(' ', '_')}-{seed}.json"


def load(out: Path, name: str, seed: int) -> dict[str, Any] | None:
    """Return the record of a finished run, or None if there is none of these settings."""
    try:
        record: dict[str, Any] = json.loads(path_of(out, name, seed).read_text())
    except (OSError, ValueError):
        return None
    same = all(record.get(key) == value for key, value in description(name, seed).items())
    return record if same and set(FIGURES[name].targets) <= set(record["measures"]) else None


def table(out: Path, seeds: int) -> list[str]:
    """Return the Markdown lines of all entries that have finished runs."""
    lines = [
        "Made by `python benchmarks/control.py`: medians over seeds (smallest to largest), one thread a run, two runs "
        "at a time, "
        f"means over the {len(EVALUATION_SEEDS)} evaluation episodes.",
        "",
        "| entry | environment | steps | seeds | measure | asked | reached | training [s] | a decision [ms] |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in FIGURES:
        found = [load(out, name, seed) for seed in range(seeds)]
        records = [record for record in found if record is not None]
        if records:
            lines += rows(name, records)
    settings = (description(name, 0) for name in FIGURES)
    return [*lines, "", *(f"- {each.pop('name')}: `{json.dumps(each['settings'])}`{_only(each)}" for each in settings)]


def _only(described: dict[str, Any]) -> str:
    """Return what is different about the environment in training."""
    return f", trained with `{json.dumps(described['training'])}`" if "training" in described else ""


def rows(name: str, records: list[dict[str, Any]]) -> list[str]:
    """Return the rows of one entry, one a measure."""
    figure = FIGURES[name]
    seconds = Spread.of([record["training_seconds"] for record in records]).median
    decision = Spread.of([record["decision_ms"] for record in records]).median
    lines = []
    for measure, target in figure.targets.items():
        spread = Spread.of([record["measures"][measure] for record in records])
        mark = "" if target is None else " yes" if target.reached(spread.median) else " **no**"
        numbers = f"{_number(spread.median)} ({_number(spread.low)} to {_number(spread.high)}){mark}"
        cells = [
            name,
            figure.env_id,
            f"{figure.steps:,}",
            str(len(records)),
            measure,
            "-" if target is None else str(target),
            numbers,
        ]
        lines.append(f"| {' | '.join(cells)} | {seconds:.1f} | {decision:.0f} |")
    return lines


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


if __name__ == "__main__":
    main()
