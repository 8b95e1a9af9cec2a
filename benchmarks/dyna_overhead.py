"""What MBPO costs beyond the sum of its parts; part of `dyna.py`.

The parts are timed alone in the same process, with the same settings, sizes and numbers: SAC's gradient steps on its
own replay buffer, fits of a fresh model to the same transitions, and roll-outs of the same lengths. Processor time
counts, of one thread, so that other programs on the machine do not.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import configure

from mbrl_gym.agents import MBPO
from mbrl_gym.agents.replay import transitions

STEPS = 1_000
ROUNDS = 3  # of which the fastest counts for every part


def measure_overhead(env_id: str, settings: dict[str, Any]) -> dict[str, float]:
    """Return the milliseconds that an environment step takes, of MBPO and of its parts."""
    agents = [_trained(env_id, settings, seed) for seed in range(ROUNDS)]
    whole = min(seconds for _, seconds in agents)
    agent = agents[0][0]
    steps = STEPS - agent.learning_starts
    parts = {
        "gradient": min(_gradient_steps(env_id, settings, steps * agent.gradient_steps) for _ in range(ROUNDS)),
        "fit": min(_fits(env_id, settings, agent) for _ in range(ROUNDS)),
        "rollouts": min(_rollouts(agent) for _ in range(ROUNDS)),
    }
    figures = {"mbpo": whole, **parts, "sum": sum(parts.values())}
    return {**{name: 1000 * seconds / steps for name, seconds in figures.items()}, "ratio": whole / figures["sum"]}


def overhead_lines(measured: dict[str, float]) -> list[str]:
    """Return the Markdown lines that tell what was measured."""
    return [
        f"A step of MBPO on Pendulum-v1 takes {measured['mbpo']:.1f} ms of processor time after the random ones, "
        f"{measured['ratio']:.2f} times the sum of its parts timed alone: SAC's gradient steps "
        f"{measured['gradient']:.1f} ms, fits {measured['fit']:.1f} ms, roll-outs {measured['rollouts']:.1f} ms (best "
        f"of {ROUNDS} rounds; at most 1.3 was asked)."
    ]


def _trained(env_id: str, settings: dict[str, Any], seed: int) -> tuple[MBPO, float]:
    """Return an agent, and the seconds that all its steps but the random ones took."""
    agent = MBPO("MlpPolicy", env_id, seed=seed, device="cpu", **settings)
    agent.learn(agent.learning_starts)
    begin = time.process_time()
    agent.learn(STEPS - agent.learning_starts, reset_num_timesteps=False)
    return agent, time.process_time() - begin


def _gradient_steps(env_id: str, settings: dict[str, Any], count: int) -> float:
    own = ("policy_kwargs", "learning_starts", "batch_size", "learning_rate", "gamma", "tau")
    chosen = {name: value for name, value in settings.items() if name in own}
    if "policy_kwargs" in chosen:
        chosen["policy_kwargs"] = dict(chosen["policy_kwargs"])  # Stable-Baselines3 writes into it
    sac = SAC("MlpPolicy", env_id, seed=0, device="cpu", gradient_steps=0, **chosen).learn(STEPS)
    sac.set_logger(configure(None, []))
    begin = time.process_time()
    sac.train(count, sac.batch_size)
    return time.process_time() - begin


def _fits(env_id: str, settings: dict[str, Any], trained: MBPO) -> float:
    """Return the seconds of the fits that training made, by a fresh model on the same transitions."""
    model = MBPO("MlpPolicy", env_id, seed=0, device="cpu", **settings).world_model
    assert model is not None
    data = transitions(trained.replay_buffer, trained.policy)
    counts = range(trained.learning_starts + 1, STEPS + 1, trained.arguments["model_train_freq"])
    begin = time.process_time()
    for count in counts:
        model.fit(data.rows(slice(count)))
    return time.process_time() - begin


def _rollouts(agent: MBPO) -> float:
    """Return the seconds of the roll-outs that training made, from states of the buffer."""
    model, every = agent.world_model, agent.arguments["rollout_freq"] or agent.arguments["model_train_freq"]
    assert model is not None
    count, rows = agent.arguments["rollout_batch"], agent.replay_buffer.size()
    generator, drawn = torch.Generator().manual_seed(0), np.random.default_rng(0)
    steps = range(agent.learning_starts + 1, STEPS + 1, every)
    begin = time.process_time()
    for step in steps:
        starts = torch.as_tensor(agent.replay_buffer.observations[drawn.integers(rows, size=count), 0])
        agent.replay_buffer.imagined.refresh()
        keep = agent.replay_buffer.imagined.add
        agent._imagination(model, starts.float(), agent._schedule(step), keep, generator)
    return time.process_time() - begin
