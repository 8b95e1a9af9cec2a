"""Steps a second of every task beside Gymnasium's own environments, in one run: `python benchmarks/speed.py`.

Vector environments of 4,096 copies beside Gymnasium's native CartPole-v1, single ones through `gym.make` beside
Pendulum-v1, and pictures of 64 x 64 pixels beside CartPole-v1's (which are 600 x 400). Rounds alternate between
the environments, so that all meet the same machine; the best round counts.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import torch

import mbrl_gym
from mbrl_gym.envs import TaskVectorEnv

ROWS = 4096
Run = Callable[[int], float]  # steps to take -> steps a second


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a round of one environment")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*unbounded.*|.*infinity.*")
    ids = mbrl_gym.env_ids()
    vector = {name: vector_run(name) for name in ("CartPole-v1", *ids)}
    tensors = {f"{name}, torch": tensor_run(name) for name in ("mbrl/Arm-v0", "mbrl/Drone-v0")}
    single = {name: single_run(name) for name in ("Pendulum-v1", *ids)}
    pictures = {name: picture_run(name) for name in ("CartPole-v1", *ids)}
    lines = [
        *table(f"{ROWS:,} copies, million steps/s", best(vector | tensors, given), "CartPole-v1", 1e6),
        "",
        *table("single, thousand steps/s", best(single, given), "Pendulum-v1", 1e3),
        "",
        *table("pictures, thousand frames/s", best(pictures, given), "CartPole-v1", 1e3),
    ]
    print("\n".join(lines))
    if given.out:
        given.out.write_text("\n".join(["Made by `python benchmarks/speed.py`, one core.", "", *lines, ""]))


def vector_run(env_id: str) -> Run:
    """Return a run of a native vector environment."""
    env = gym.make_vec(env_id, num_envs=ROWS, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(8)]
    return lambda steps: ROWS * timed(env, actions, steps)


def tensor_run(env_id: str) -> Run:
    """Return a run of a vector environment on tensors."""
    env = TaskVectorEnv(gym.make(env_id).unwrapped.task, ROWS, xp=torch, max_episode_steps=100)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [torch.from_numpy(env.action_space.sample()) for _ in range(8)]
    return lambda steps: ROWS * timed(env, actions, steps)


def single_run(env_id: str) -> Run:
    """Return a run of a single environment through `gym.make`."""
    env = gym.make(env_id)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]

    def run(steps: int) -> float:
        begin = time.perf_counter()
        for i in range(steps):
            _, _, terminated, truncated, _ = env.step(actions[i % 64])
            if terminated or truncated:
                env.reset()
        return steps / (time.perf_counter() - begin)

    return run


def picture_run(env_id: str) -> Run:
    """Return a run of pictures, some 40 steps into an episode."""
    size = {"width": 64, "height": 64} if env_id.startswith("mbrl/") else {}
    env = gym.make(env_id, render_mode="rgb_array", **size)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(40):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()

    def run(frames: int) -> float:
        begin = time.perf_counter()
        for _ in range(frames):
            env.render()
        return frames / (time.perf_counter() - begin)

    return run


def timed(env: object, actions: list[object], steps: int) -> float:
    """Return calls of `step` a second."""
    step = env.step  # type: ignore[attr-defined]
    begin = time.perf_counter()
    for i in range(steps):
        step(actions[i % len(actions)])
    return steps / (time.perf_counter() - begin)


def best(runs: dict[str, Run], given: argparse.Namespace) -> dict[str, float]:
    """Return the best of alternating rounds."""
    steps, rates = {}, dict.fromkeys(runs, 0.0)
    for name, run in runs.items():
        run(20)
        begin = time.perf_counter()
        run(20)
        steps[name] = max(20, round(20 * given.seconds / (time.perf_counter() - begin)))
    for _ in range(given.rounds):
        for name, run in runs.items():
            rates[name] = max(rates[name], run(steps[name]))
    return rates


def table(title: str, rates: dict[str, float], peer: str, unit: float) -> list[str]:
    """Return a Markdown table."""
    rows = [f"| {name} | {rate / unit:.3g} | {rate / rates[peer]:.2f} |" for name, rate in rates.items()]
    return [f"| {title} | rate | to {peer} |", "|---|---|---|", *rows]


if __name__ == "__main__":
    main()
