"""How good learned models are: `python benchmarks/models.py --out docs/results/models.md --pictures docs/results`.

Fits models to 5,000 random steps of each environment and judges them by 10,000 others, open loop and without noise.
Errors are squared errors over the data's variance; "nothing changes" is the observation at the start. An ensemble's
one-step error must be at least 100 times less, since all of these dynamics are deterministic.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import gymnasium as gym
import torch
from PIL import Image

import mbrl_gym  # noqa: F401  # registers the ids
from mbrl_gym.agents import random_transitions
from mbrl_gym.models import LEARNED_MODELS, FitReport, ModelReport, WorldModel, evaluate_model
from mbrl_gym.models.plots import plot_error, plot_reliability, plot_trajectory

ENVIRONMENTS = ("Pendulum-v1", "CartPole-v1", "Acrobot-v1", "MountainCarContinuous-v0", "mbrl/ArmTorque-v0")
HORIZONS = (1, 10, 50)
STEPS, HELD_OUT_STEPS = 5_000, 10_000
SEED, OTHER_SEED = 0, 1_000
FEWEST_WINDOWS = 20  # from which an error is told
REQUIRED = 100.0  # times less one-step error than "nothing changes"
FEW = 500  # steps of the other model in the pictures
START = 100  # row from which the pictured trajectory is predicted


def main() -> None:
    """Fit, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="ensemble,linear,gp", help=f"with commas, of {','.join(LEARNED_MODELS)}")
    parser.add_argument("--envs", default=",".join(ENVIRONMENTS), help="ids, with commas")
    parser.add_argument("--out", type=Path, default=None, help="file for the table")
    parser.add_argument("--pictures", type=Path, default=None, help="folder for pictures of Pendulum-v1")
    given = parser.parse_args()
    models = given.models.split(",")
    if unknown := [name for name in models if name not in LEARNED_MODELS]:
        parser.error(f"no model {', '.join(unknown)}: choose from {', '.join(LEARNED_MODELS)}")
    torch.set_num_threads(1)
    lines, short = [], []
    for env_id in given.envs.split(","):
        data, held_out = random_transitions(env_id, STEPS, SEED), random_transitions(env_id, HELD_OUT_STEPS, OTHER_SEED)
        for name in models:
            model = make_model(name, env_id)
            fit = model.fit(data)
            report = evaluate_model(model, held_out, horizons=HORIZONS)
            lines.append(row(env_id, name, fit, report))
            print(lines[-1], flush=True)
            if not report.horizons[0].ratio <= 1 / REQUIRED:
                short.append(f"{name} on {env_id}")
    exceptions = f"all but {', '.join(short)}" if short else "all"
    verdict = f'One-step errors at least {REQUIRED:.0f} times less than those of "nothing changes": {exceptions}.'
    print(verdict)
    if given.out:
        given.out.write_text("\n".join([*heading(given.models), *lines, "", verdict, ""]))
    if given.pictures:
        draw(given.pictures)


def make_model(name: str, env_id: str) -> WorldModel:
    """Return an unfitted model with its default settings."""
    with gym.make(env_id) as env:
        return LEARNED_MODELS[name](env.observation_space, env.action_space)


def heading(models: str) -> list[str]:
    """Return what stands above the rows."""
    return [
        f"Made by `python benchmarks/models.py --models {models}`, one thread: {STEPS:,} random steps to learn from, "
        f"{HELD_OUT_STEPS:,} others to judge by.",
        "",
        "Errors are squared errors over the data's variance, open loop and without noise. In brackets: how many times "
        'less they are than those of "nothing changes". Calibration error: mean difference between the probability of '
        "central intervals and the share of targets within them.",
        "",
        "| environment | model | 1 step | 10 steps | 50 steps | windows of 50 steps | calibration error "
        "| coverage of 90% | balanced accuracy of termination | fit [s] |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]


def row(env_id: str, name: str, fit: FitReport, report: ModelReport) -> str:
    """Return a model's row of the table."""
    errors = [
        f"{at.error:.1e} ({rounded(at.baseline / at.error) if at.error else 'exact'})"
        if at.windows >= FEWEST_WINDOWS
        else "-"
        for at in report.horizons
    ]
    accuracy = "-"
    if not math.isnan(report.balanced_accuracy):
        ends = "end" if report.terminations == 1 else "ends"
        accuracy = f"{report.balanced_accuracy:.3f} ({report.terminations} {ends})"
    cells = [
        *(env_id, name),
        *errors,
        f"{report.horizons[-1].windows:,}",
        f"{report.calibration_error:.2f}",
        f"{100 * report.coverage[report.levels.index(0.9)]:.1f}%",
        accuracy,
        f"{fit.seconds:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def rounded(value: float) -> str:
    """Return a number to two digits."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def draw(folder: Path) -> None:
    """Draw what ensembles from few and from many random steps of Pendulum-v1 predict."""
    env_id, title = "Pendulum-v1", "Pendulum-v1, ensembles from random steps"
    models = {f"{steps:,} steps": make_model("ensemble", env_id) for steps in (FEW, STEPS)}
    held_out, reports = random_transitions(env_id, HELD_OUT_STEPS, OTHER_SEED), {}
    for steps, (name, model) in zip((FEW, STEPS), models.items(), strict=True):
        model.fit(random_transitions(env_id, steps, SEED))
        reports[name] = evaluate_model(model, held_out)
    names = {0: "cos θ", 1: "sin θ", 2: "angular velocity\n[rad/s]"}
    last = list(models)[-1]
    pictures = {
        "error": plot_error(reports, title=title),
        "reliability": plot_reliability(reports, title=title),
        "trajectory": plot_trajectory(
            models[last], held_out, START, 50, names, title=f"Pendulum-v1, an ensemble from {last}"
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        path = folder / f"model_{name}.png"
        figure.savefig(path)
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
