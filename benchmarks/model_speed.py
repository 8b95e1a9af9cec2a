"""Cost of the Gaussian ensemble beside its bare matrix products, in one run: `python benchmarks/model_speed.py`.

Seven members of four layers of 200, six inputs, five outputs. A gradient step on minibatches of 256 is set beside the
batched matrix products (`torch.bmm` into memory that is there already) of its forward and backward pass, a predicted
step beside those of its forward pass. The products are those of plain layers without padding: the ensemble's linear
map, its padding, activations, biases, loss and Adam are all on its own account. What is compared takes turns of a few
calls each; a ratio is the median over the turns, with the quartiles behind it.

bfloat16 is set beside float32 in the same way, with what it costs in accuracy: the root mean square difference between
the predicted targets, in units of their spread in the data, beside the model's own error.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

import mbrl_gym  # noqa: F401  # registers the ids
from mbrl_gym.agents import random_transitions
from mbrl_gym.models import GaussianEnsemble, Transitions, draw
from mbrl_gym.models.ensemble_training import EnsembleTraining, Networks, Samples

MEMBERS, INPUTS, OUTPUTS, HIDDEN, BATCH, ROWS = 7, 6, 5, (200, 200, 200, 200), 256, 10_000
PADDED = 16  # output columns of the ensemble: means, log variances, padding
ENVIRONMENTS = ("Pendulum-v1", "CartPole-v1", "mbrl/Arm-v0")  # for the accuracy of bfloat16
FITTED: dict[str, Any] = {"members": MEMBERS, "hidden": HIDDEN, "batch_size": BATCH, "max_epochs": 30}
Run = Callable[[], int]  # returns how many of the things that are timed it has done


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=60, help="turns of every comparison")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=None, help="Markdown file to write")
    given = parser.parse_args()
    model = fitted_to_noise()
    lines = [machine(), ""]
    for title, runs in (
        (f"gradient step, minibatches of {BATCH}", training()),
        (f"predicted step, {ROWS:,} rows by each member", prediction(model, ROWS)),
        (f"predicted step, {ROWS:,} rows in all", prediction(model, ROWS // MEMBERS)),
        ("bfloat16 (the ratio is its gain in speed)", halved(model, ROWS // MEMBERS)),
    ):
        lines += [f"| {title} | threads | ms | a second | to the first | quartiles |", "|---|---|---|---|---|---|"]
        for threads in given.threads:
            torch.set_num_threads(threads)
            lines += rows(threads, take_turns(runs, given.turns))
        lines.append("")
    lines += accuracy()
    print("\n".join(lines))
    if given.out:
        command = " ".join(["python benchmarks/model_speed.py", *sys.argv[1:]])
        given.out.write_text("\n".join([f"Made by `{command}`.", "", *lines, ""]))


def take_turns(runs: dict[str, Run], turns: int) -> dict[str, np.ndarray]:
    """Return the seconds that one of each took, in every turn."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + 2):
        for name, run in runs.items():
            begin = time.perf_counter()
            done = run()
            if turn >= 2:  # the first ones warm up
                seconds[name].append((time.perf_counter() - begin) / done)
    return {name: np.array(values) for name, values in seconds.items()}


def rows(threads: int, seconds: dict[str, np.ndarray]) -> list[str]:
    """Return the rows of a table; ratios are to the first entry."""
    first, lines = next(iter(seconds.values())), []
    for name, values in seconds.items():
        median = np.median(values)
        low, middle, high = np.percentile(values / first, [25, 50, 75])
        lines.append(
            f"| {name} | {threads} | {1e3 * median:.2f} | {1 / median:.3g} | {middle:.2f} | {low:.2f} to {high:.2f} |"
        )
    return lines


def training() -> dict[str, Run]:
    """Return the products of a gradient step, and the step."""
    generator = torch.Generator().manual_seed(0)
    sizes = [INPUTS, *HIDDEN, PADDED]
    bounds = torch.full((MEMBERS, 1, OUTPUTS), -12.0), torch.full((MEMBERS, 1, OUTPUTS), 1.0)
    networks = Networks(
        [torch.randn(MEMBERS, a, b, generator=generator) / a**0.5 for a, b in pairwise(sizes)],
        [torch.zeros(MEMBERS, 1, size) for size in sizes[1:]],
        torch.zeros(MEMBERS, INPUTS, OUTPUTS),
        *bounds,
    )
    data = Samples(*(torch.randn(MEMBERS, 16 * BATCH, size, generator=generator) for size in (INPUTS, OUTPUTS)))
    batch, few = (Samples(*(part[:, :count] for part in data)) for count in (BATCH, 1))
    first, second = (EnsembleTraining(networks, learning_rate=1e-3, weight_decay=1e-5) for _ in range(2))
    schedule: dict[str, Any] = {"batch_size": BATCH, "max_epochs": 1, "patience": 1, "generator": generator}
    return {
        f"bare products, {2 * OUTPUTS} output columns": repeat(products(2 * OUTPUTS, BATCH, backward=True)),
        f"bare products, {PADDED} output columns": repeat(products(PADDED, BATCH, backward=True)),
        "gradient step": repeat(lambda: first.step(batch)),
        "the same in an epoch, with shuffling and gathering": lambda: second.run(data, few, **schedule).steps,
    }


def prediction(model: GaussianEnsemble, count: int) -> dict[str, Run]:
    """Return the products of a predicted step of some rows by each member, and the step."""
    generator = torch.Generator().manual_seed(0)
    observation, action = torch.randn(count, 4, generator=generator), torch.rand(count, 2, generator=generator)
    noise = draw(generator, (MEMBERS, count), model.noise_sizes)
    calls = max(1, 6000 // count)
    return {
        f"bare products, {OUTPUTS} output columns": repeat(products(OUTPUTS, count, backward=False), calls),
        "step": repeat(lambda: model.step(model.start(observation), action), calls),
        "step with noise": repeat(lambda: model.step(model.start(observation), action, noise), calls),
    }


def halved(model: GaussianEnsemble, count: int) -> dict[str, Run]:
    """Return predicted steps in bfloat16 and in float32."""
    half = in_bfloat16(model)
    generator = torch.Generator().manual_seed(0)
    observation, action = torch.randn(count, 4, generator=generator), torch.rand(count, 2, generator=generator)
    return {
        "bfloat16": repeat(lambda: half.step(half.start(observation), action), 4),
        "float32": repeat(lambda: model.step(model.start(observation), action), 4),
    }


def in_bfloat16(model: GaussianEnsemble) -> GaussianEnsemble:
    """Return a twin that predicts in bfloat16."""
    half = GaussianEnsemble(model.observation_space, model.action_space, **{**model.arguments, "precision": "bf16"})
    half.load_state_dict(model.state_dict())
    return half


def repeat(run: Callable[[], object], calls: int = 10) -> Run:
    """Return a run of several calls."""

    def several() -> int:
        for _ in range(calls):
            run()
        return calls

    return several


def products(columns: int, count: int, *, backward: bool) -> Callable[[], None]:
    """Return the matrix products of plain layers that end in so many columns."""
    sizes = [INPUTS, *HIDDEN, columns]
    layers = [torch.randn(MEMBERS, count, size) for size in sizes]
    weights = [torch.randn(MEMBERS, a, b) / a**0.5 for a, b in pairwise(sizes)]
    layer_slopes: list[Tensor] = [torch.randn(layer.shape) for layer in layers] if backward else []
    weight_slopes = [torch.empty_like(weight) for weight in weights]

    def run() -> None:
        for below, weight, above in zip(layers[:-1], weights, layers[1:], strict=True):
            torch.bmm(below, weight, out=above)
        for index in reversed(range(len(weights) if backward else 0)):
            torch.bmm(layers[index].mT, layer_slopes[index + 1], out=weight_slopes[index])
            if index:
                torch.bmm(layer_slopes[index + 1], weights[index].mT, out=layer_slopes[index])

    return run


def fitted_to_noise() -> GaussianEnsemble:
    """Return an ensemble of the measured size without terminations."""
    generator = np.random.default_rng(0)
    observation, following, action = (generator.normal(size=(100, n)).astype(np.float32) for n in (4, 4, 2))
    never = np.zeros(100, bool)
    reward = observation[:, 0]
    data = Transitions(observation, np.tanh(action), reward, following, never, never, np.arange(100))
    box = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    model = GaussianEnsemble(box, spaces.Box(-1, 1, (2,)), members=MEMBERS, hidden=HIDDEN, max_epochs=1)
    model.fit(data)
    return model


def accuracy() -> list[str]:
    """Return a table of what bfloat16 costs, on 1,000 other random steps of each environment."""
    lines = [
        "| bfloat16, after 3,000 random steps | difference to float32 | error of float32 | of bfloat16 |",
        "|---|---|---|---|",
    ]
    for env_id in ENVIRONMENTS:
        env = gym.make(env_id)
        model = GaussianEnsemble(env.observation_space, env.action_space, **FITTED)
        model.fit(random_transitions(env_id, 3000, seed=0))
        test = random_transitions(env_id, 1000, seed=1)
        at = torch.as_tensor(test.observation), torch.as_tensor(test.action)
        means = [each.outcome(*at).mean.double() for each in (model, in_bfloat16(model))]
        truth = model.targets(test)
        spread = truth.std(0).clamp(min=1e-9)
        varies = truth.std(0) > 1e-6
        figures = [
            float(((one - two) / spread)[..., varies].square().mean().sqrt())
            for one, two in ((means[1], means[0]), (means[0], truth), (means[1], truth))
        ]
        lines.append(f"| {env_id} | " + " | ".join(f"{figure:.2g}" for figure in figures) + " |")
    return lines


def machine() -> str:
    """Describe processor and library."""
    name, flags = platform.processor() or platform.machine(), set()
    if Path("/proc/cpuinfo").exists():
        entries = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
        known = {key.strip(): value.strip() for key, value in entries}
        name, flags = known.get("model name", name), set(known.get("flags", "").split())
    has = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    instructions = (
        f"bfloat16 instructions: {', '.join(has)}"
        if has
        else (
            "no bfloat16 instructions (avx512_bf16, amx_bf16), so that its products are emulated and cannot be faster"
        )
    )
    return f"{name}, {instructions}; torch {torch.__version__}."


if __name__ == "__main__":
    main()
