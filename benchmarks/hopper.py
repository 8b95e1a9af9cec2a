"""MBPO on Hopper-v5 for 125,000 steps: `python benchmarks/hopper.py --out runs/hopper` (extra `mujoco`).

Started again, it goes on from its last checkpoint; the simulator cannot be stored, so that a new episode starts there.
The curve is written as it goes, to curve.csv in --out, and in the end (or with --steps 0 at any time) as a table and a
picture to docs/results/hopper.md and hopper.png. --seed gives further runs folders of their own.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from mbrl_gym.agents import MBPO, ResumableCheckpointCallback
from mbrl_gym.agents.benchmark import Evaluation
from mbrl_gym.agents.benchmark.records import replacing

ENV_ID, STEPS, EPISODES = "Hopper-v5", 125_000, 5
RESULTS = Path("docs/results")
COLUMNS = ("steps", "seconds", "mean_return", "min_return", "max_return", "new_step_error", "imagined_reward_error")


def fallen(following: Tensor) -> Tensor:
    """Return whether a hopper is unhealthy, as Hopper-v5 defines it of height and angle and all other columns."""
    height, angle = following[..., 0], following[..., 1]
    healthy = (height > 0.7) & (angle.abs() < 0.2) & (following[..., 1:].abs() < 100).all(-1)
    return ~healthy


SETTINGS: dict[str, Any] = {
    # Janner et al. 2019, appendix C, but for smaller members that are fitted a quarter as often, and half the updates.
    "model_kwargs": {"members": 7, "elites": 5, "hidden": [128, 128, 128], "batch_size": 256, "patience": 4},
    "termination": fallen,
    "rollout_length": (1, 15, 20_000, 100_000),
    "rollout_batch": 20_000,
    "model_train_freq": 1_000,
    "rollout_freq": 250,
    "gradient_steps": 10,
    "learning_starts": 5_000,
    "policy_kwargs": {"net_arch": [256, 256]},
    "target_entropy": -1.0,
}


def main() -> None:
    """Train from the last checkpoint on, and write what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/hopper"), help="folder for checkpoints and curves")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of training in all")
    parser.add_argument("--every", type=int, default=1_000, help="steps between evaluations")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.out / str(given.seed)
    if given.steps:
        train(folder, given.steps, given.every, given.seed)
    write_results(given.out)


def train(folder: Path, steps: int, every: int, seed: int) -> None:
    """Train until so many steps in all, from the folder's checkpoint on if it has one."""
    checkpoint = folder / "checkpoint.zip"
    env = gym.make(ENV_ID)
    if checkpoint.exists():
        agent = MBPO.load(checkpoint, env, device="cpu", termination=fallen)
        print(f"goes on after {agent.num_timesteps:,} steps", flush=True)
    else:
        agent = MBPO("MlpPolicy", env, seed=seed, device="cpu", **SETTINGS)
    missing = steps - agent.num_timesteps
    if missing <= 0:
        return
    curve = Curve(folder / "curve.csv", every)
    saving = ResumableCheckpointCallback(checkpoint, every=5 * every)
    agent.learn(missing, callback=[saving, curve], reset_num_timesteps=False)
    agent.save(checkpoint, include=["replay_buffer"])


class Curve(BaseCallback):
    """Evaluates the agent on fixed episodes and appends to a file; rows after the checkpoint are dropped first.

    Args:
        path: The file.
        every: Steps between evaluations.
    """

    def __init__(self, path: Path, every: int) -> None:
        super().__init__()
        self.path, self.every = path, every
        self.evaluation = Evaluation(ENV_ID, EPISODES)
        self.rows: list[dict[str, float]] = []

    def _on_training_start(self) -> None:
        self.rows = [row for row in read_curve(self.path) if row["steps"] <= self.num_timesteps]
        self.before = self.rows[-1]["seconds"] if self.rows else 0.0
        self.begin = time.perf_counter()

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            self._evaluate()
        return True

    def _evaluate(self) -> None:
        now = time.perf_counter()
        returns = self.evaluation(self.model)
        assert isinstance(self.model, MBPO)
        known = self.model.figures
        figures = (
            self.num_timesteps,
            self.before + now - self.begin,
            returns.mean(),
            returns.min(),
            returns.max(),
            known.get("model/new_step_error", math.nan),
            known.get("imagined/reward_mean", math.nan) - known.get("real/reward_mean", math.nan),
        )
        self.begin += time.perf_counter() - now  # evaluations are no training
        self.rows.append({name: float(figure) for name, figure in zip(COLUMNS, figures, strict=True)})
        write_curve(self.path, self.rows)
        print(f"{self.num_timesteps:,} steps: return {returns.mean():.0f}", flush=True)


def read_curve(path: Path) -> list[dict[str, float]]:
    """Return the rows of a curve, none if there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def write_curve(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the rows of a curve."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def write_results(out: Path) -> None:
    """Write the table and the picture of all seeds that have a curve."""
    curves = {path.parent.name: read_curve(path) for path in sorted(out.glob("*/curve.csv"))}
    lines = [
        f"MBPO on {ENV_ID}, by `python benchmarks/hopper.py`: mean returns of {EPISODES} evaluation episodes, as far "
        f"as the runs went (of {STEPS:,} steps).",
        "",
        "| seed | steps | last return | best return | training [h] |",
        "|---|---|---|---|---|",
    ]
    for seed, rows in curves.items():
        last, best = rows[-1], max(row["mean_return"] for row in rows)
        hours = last["seconds"] / 3600
        lines.append(f"| {seed} | {last['steps']:,.0f} | {last['mean_return']:.0f} | {best:.0f} | {hours:.1f} |")
    print("\n".join(lines))
    if not curves:
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "hopper.md").write_text("\n".join(lines) + "\n")
    figure = Figure(figsize=(6.4, 3.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for seed, rows in curves.items():
        steps = [row["steps"] for row in rows]
        axes.plot(steps, [row["mean_return"] for row in rows], label=f"seed {seed}", linewidth=1.6)
        low, high = ([row[name] for row in rows] for name in ("min_return", "max_return"))
        axes.fill_between(steps, low, high, alpha=0.15, linewidth=0)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(f"return (mean of {EPISODES} episodes, min to max)")
    axes.set_title(f"MBPO on {ENV_ID}", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(RESULTS / "hopper.png")


if __name__ == "__main__":
    main()
