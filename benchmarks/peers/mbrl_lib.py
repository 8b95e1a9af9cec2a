"""Speed and cart-pole of MBRL-Lib's PETS (Pineda et al. 2021), as JSON lines: `python mbrl_lib.py speed|cartpole`.

MBRL-Lib 0.2.0 needs Gymnasium 0.26 and so an environment of its own, and runs only there:

    python3.11 -m venv peer && peer/bin/pip install torch==2.13.0
    peer/bin/pip install --requirement benchmarks/peers/mbrl_lib.txt
    peer/bin/pip install --no-deps mbrl==0.2.0
    OMP_WAIT_POLICY=passive peer/bin/python benchmarks/peers/mbrl_lib.py speed

`speed` sets one evaluation of 400 candidates x 20 particles x horizon 15, and a decision of CEM with 5 of them, beside
the bare matrix products of the same shapes; they take turns. `cartpole` runs PETS on the library's continuous
cart-pole until a trial lasts 195 of 200 steps. Settings are those that the library publishes for PETS on cart-pole
(`mbrl/examples/conf`); `speed` differs from them in 5 members, all of them elite, and 400 candidates.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import mbrl
import mbrl.models
import mbrl.planning
import mbrl.util.common
import numpy as np
import torch
from mbrl.env import cartpole_continuous, reward_fns, termination_fns
from omegaconf import DictConfig, OmegaConf

ENOUGH = 195  # steps of a trial that count as solved
CEM = {  # conf/action_optimizer/cem.yaml, which the package lacks
    "_target_": "mbrl.planning.CEMOptimizer",
    "num_iterations": "${overrides.cem_num_iters}",
    "elite_ratio": "${overrides.cem_elite_ratio}",
    "population_size": "${overrides.cem_population_size}",
    "alpha": "${overrides.cem_alpha}",
    "clipped_normal": "${overrides.cem_clipped_normal}",
    "return_mean_elites": True,
    "lower_bound": "???",
    "upper_bound": "???",
    "device": "${device}",
}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "cartpole"])
    parser.add_argument("--threads", type=int, nargs="+", default=None, help="1 and 2 for speed, 1 for cartpole")
    parser.add_argument("--turns", type=int, default=8, help="turns of the measurement of speed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit", type=float, default=1200.0, help="seconds of processor time after which cartpole gives up"
    )
    given = parser.parse_args()
    for threads in given.threads or {"speed": [1, 2], "cartpole": [1]}[given.what]:
        torch.set_num_threads(threads)
        if given.what == "speed":
            report(speed(given.turns), what="speed", threads=threads)
        else:
            report(CartPole(given.seed).solve(given.limit), what="cartpole", threads=threads, seed=given.seed)


def report(figures: dict[str, Any], **labels: Any) -> None:
    """Print a JSON line."""
    print(json.dumps({**labels, **figures, "mbrl": mbrl.__version__, "torch": torch.__version__}), flush=True)


def settings(**changed: Any) -> DictConfig:
    """Return the library's published settings of PETS on cart-pole, some of them changed."""
    folder = Path(mbrl.__file__).parent / "examples" / "conf"
    files = {"algorithm": "pets", "dynamics_model": "gaussian_mlp_ensemble", "overrides": "pets_cartpole"}
    config = OmegaConf.create({name: OmegaConf.load(folder / name / f"{file}.yaml") for name, file in files.items()})
    config.update({"action_optimizer": CEM, "device": "cpu", "debug_mode": False})
    for part in (config.dynamics_model, config.algorithm.agent):
        part["_recursive_"] = False  # nested settings stay settings, as with the hydra that the library pins
    for key, value in changed.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    return config


class Peer:
    """The library's model, model environment and planning agent for its continuous cart-pole."""

    def __init__(self, config: DictConfig, seed: int) -> None:
        np.random.seed(seed)  # noqa: NPY002  # the library draws from the global generators
        torch.manual_seed(seed)
        self.config = config
        self.env = gym.wrappers.TimeLimit(cartpole_continuous.CartPoleEnv(), config.overrides.trial_length)
        self.env.reset(seed=seed)
        self.env.action_space.seed(seed)
        self.shapes = self.env.observation_space.shape, self.env.action_space.shape
        config.dynamics_model.in_size = self.shapes[0][0] + self.shapes[1][0]
        config.dynamics_model.out_size = self.shapes[0][0]
        self.model = mbrl.util.common.create_one_dim_tr_model(config, *self.shapes)
        self.model_env = mbrl.models.ModelEnv(
            self.env,
            self.model,
            termination_fns.cartpole,
            reward_fns.cartpole,
            generator=torch.Generator().manual_seed(seed),
        )
        self.agent = mbrl.planning.create_trajectory_optim_agent_for_model(
            self.model_env, config.algorithm.agent, num_particles=config.algorithm.num_particles
        )


def speed(turns: int) -> dict[str, Any]:
    """Return the seconds of an evaluation, of the products in it, and of a decision, turn by turn."""
    config = settings(dynamics_model__ensemble_size=5, overrides__cem_population_size=400)
    peer = Peer(config, 0)
    observation = np.zeros(peer.shapes[0])
    horizon, particles = config.overrides.planning_horizon, config.algorithm.num_particles
    population, iterations = config.overrides.cem_population_size, config.overrides.cem_num_iters
    candidates = torch.rand(population, horizon, peer.shapes[1][0]) * 2 - 1
    members, count = config.dynamics_model.ensemble_size, population * particles // config.dynamics_model.ensemble_size
    runs = {
        "products": products(members, count, config.dynamics_model, steps=horizon),
        "evaluation": lambda: peer.model_env.evaluate_action_sequences(candidates, observation, particles),
        "decision": lambda: peer.agent.act(observation),
    }
    seconds = take_turns(runs, turns)
    transitions = population * particles * horizon
    share = seconds["products"] / seconds["evaluation"]
    whole = iterations * seconds["products"] / seconds["decision"]
    return {
        "members": members,
        "hidden": [config.dynamics_model.hid_size] * config.dynamics_model.num_layers,
        "budget": [population, particles, horizon, iterations],
        "products_per_s": transitions / float(np.median(seconds["products"])),
        "evaluation_per_s": transitions / float(np.median(seconds["evaluation"])),
        "decision_per_s": iterations * transitions / float(np.median(seconds["decision"])),
        "evaluation_share": quartiles(share),
        "decision_share": quartiles(whole),
        "decision_ms": 1e3 * float(np.median(seconds["decision"])),
        "turns": turns,
    }


def products(members: int, count: int, network: DictConfig, *, steps: int) -> Callable[[], None]:
    """Return the bare matrix products of so many predicted steps, into memory that is there already."""
    sizes = [network.in_size, *[network.hid_size] * network.num_layers, 2 * network.out_size]
    layers = [torch.randn(members, count, size) for size in sizes]
    weights = [torch.randn(members, a, b) / a**0.5 for a, b in pairwise(sizes)]

    def run() -> None:
        for _ in range(steps):
            for below, weight, above in zip(layers[:-1], weights, layers[1:], strict=True):
                torch.bmm(below, weight, out=above)

    return run


def take_turns(runs: dict[str, Callable[[], Any]], turns: int) -> dict[str, np.ndarray]:
    """Return the seconds that each took, in every turn; a first one warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: np.array(values[1:]) for name, values in seconds.items()}


def quartiles(values: np.ndarray) -> list[float]:
    """Return the quartiles, the median in the middle."""
    return [float(value) for value in np.percentile(values, [25, 50, 75])]


class CartPole(Peer):
    """PETS on the continuous cart-pole: random steps, then trials, and a fit every `freq_train_model` steps."""

    def __init__(self, seed: int) -> None:
        super().__init__(settings(), seed)
        dtype = np.double if self.config.algorithm.normalize_double_precision else np.float32
        self.buffer = mbrl.util.common.create_replay_buffer(
            self.config, *self.shapes, dtype, dtype, dtype, rng=np.random.default_rng(seed)
        )
        self.trainer = mbrl.models.ModelTrainer(
            self.model, optim_lr=self.config.overrides.model_lr, weight_decay=self.config.overrides.model_wd
        )
        self.begin, self.steps, self.fitting = (time.perf_counter(), time.process_time()), 0, 0.0
        self.decisions: list[float] = []

    def solve(self, limit: float) -> dict[str, Any]:
        """Return what it took until a trial of 195 steps, or until the time was up."""
        explored = self.config.algorithm.initial_exploration_steps
        rollouts = mbrl.util.common.rollout_agent_trajectories
        rollouts(self.env, explored, mbrl.planning.RandomAgent(self.env), {}, replay_buffer=self.buffer)
        trials: list[int] = []
        while (not trials or trials[-1] < ENOUGH) and self.processor_seconds() < limit:
            trials.append(self.trial(limit))
        decided = np.array(self.decisions)
        return {
            "solved": trials[-1] >= ENOUGH,
            "random_steps": explored,
            "trials": trials,
            "planned_steps": sum(trials),
            "total_steps": explored + sum(trials),
            "seconds": time.perf_counter() - self.begin[0],
            "processor_seconds": self.processor_seconds(),
            "planning_seconds": float(decided.sum()),
            "fitting_seconds": self.fitting,
            "decision_ms": 1e3 * float(np.median(decided)),
        }

    def processor_seconds(self) -> float:
        """Return the processor time since the start, which other processes do not lengthen as they do the seconds."""
        return time.process_time() - self.begin[1]

    def trial(self, limit: float) -> int:
        """Return the steps of one trial."""
        observation, _ = self.env.reset()
        self.agent.reset()
        steps, ended = 0, False
        while not ended and self.processor_seconds() < limit:
            if self.steps % self.config.algorithm.freq_train_model == 0:
                self.fit()
            begin = time.perf_counter()
            action = self.agent.act(observation)
            self.decisions.append(time.perf_counter() - begin)
            following, reward, terminated, truncated, _ = self.env.step(action)
            self.buffer.add(observation, action, following, reward, terminated, truncated)
            observation, ended = following, terminated or truncated
            steps, self.steps = steps + 1, self.steps + 1
        return steps

    def fit(self) -> None:
        """Fit the model to everything seen."""
        begin = time.perf_counter()
        train = mbrl.util.common.train_model_and_save_model_and_data
        train(self.model, self.trainer, self.config.overrides, self.buffer)
        self.fitting += time.perf_counter() - begin


if __name__ == "__main__":
    main()
