"""Our MPPI beside pytorch_mppi (extra `peers`) on the equations of Gymnasium's Pendulum-v1; part of `planning.py`.

Both get the same functions of float32 tensors: state (theta, theta_dot), torque, and the cost of a step at the state
that it leads to (pytorch_mppi passes no other). Temperature 1 and white noise of variance 10 are those of
pytorch_mppi's own example of this environment; the torque is bounded to [-2, 2] N m. Ours runs with the same settings,
and with its default ones.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytorch_mppi
import torch
from gymnasium import spaces
from model_speed import repeat, take_turns
from torch import Tensor

from mbrl_gym.agents.planning import MPPI, Plan
from mbrl_gym.models import AnalyticModel

MAX_TORQUE, MAX_SPEED, DT = 2.0, 8.0, 0.05  # [N m], [rad/s], [s]
TEMPERATURE, VARIANCE = 1.0, 10.0
SAME = {"temperature": TEMPERATURE, "normalise": False, "deviation": VARIANCE**0.5 / MAX_TORQUE, "colour": 0.0}
ACTIONS = spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,), np.float32)
STATES = spaces.Box(-np.inf, np.inf, (2,), np.float32)
Controller = Callable[[Tensor], Tensor]  # state [2] -> torque [1]


def dynamics(state: Tensor, action: Tensor) -> Tensor:
    """Return the next states `[..., 2]` of Pendulum-v1 (g 10, mass 1, length 1), theta 0 upright and not wrapped."""
    theta, speed = state.unbind(-1)
    torque = action[..., 0].clamp(-MAX_TORQUE, MAX_TORQUE)
    speed = (speed + (15.0 * theta.sin() + 3.0 * torque) * DT).clamp(-MAX_SPEED, MAX_SPEED)
    return torch.stack((theta + speed * DT, speed), -1)


def cost(state: Tensor, action: Tensor) -> Tensor:
    """Return Pendulum-v1's cost `[...]` of being in a state."""
    theta, speed = state.unbind(-1)
    angle = torch.remainder(theta + math.pi, 2 * math.pi) - math.pi
    return angle.square() + 0.1 * speed.square() + 0.001 * action[..., 0].square()


def peer(candidates: int, horizon: int, seed: int = 0) -> Controller:
    """Return pytorch_mppi's controller."""
    torch.manual_seed(seed)  # it draws from the global generator
    bound = torch.tensor([MAX_TORQUE])
    controller = pytorch_mppi.MPPI(
        dynamics,
        cost,
        2,
        torch.tensor([[VARIANCE]]),
        num_samples=candidates,
        horizon=horizon,
        lambda_=TEMPERATURE,
        u_min=-bound,
        u_max=bound,
        U_init=torch.zeros(horizon, 1),
    )
    return controller.command


def peer_without_gradients(candidates: int, horizon: int, seed: int = 0) -> Controller:
    """Return pytorch_mppi's controller in inference mode, which it leaves to its caller and our planners use."""
    return torch.inference_mode()(peer(candidates, horizon, seed))


def ours(candidates: int, horizon: int, seed: int = 0, **settings: Any) -> Controller:
    """Return our controller, by default with its own settings."""
    model = AnalyticModel(
        STATES, ACTIONS, dynamics_fn=dynamics, reward_fn=lambda before, action, after: -cost(after, action)
    )
    planner = MPPI(ACTIONS, population=candidates, horizon=horizon, **settings)
    generator = torch.Generator().manual_seed(seed)
    last: list[Plan | None] = [None]

    def command(state: Tensor) -> Tensor:
        plan = planner.plan(model, state[None], last[0], generator)
        last[0] = plan
        return plan.actions[0, 0]

    return command


CONTROLLERS = {
    "pytorch_mppi": peer,
    "pytorch_mppi, inference mode": peer_without_gradients,
    "ours": partial(ours, **SAME),
    "ours, default settings": ours,
}


def speed(candidates: int, *, horizon: int, turns: int) -> dict[str, Any]:
    """Return commands a second, and their ratio to pytorch_mppi's turn by turn (quartiles)."""
    state = torch.tensor([math.pi, 0.0])
    runs = {}
    for name, make in CONTROLLERS.items():
        controller = make(candidates, horizon)
        begin = time.perf_counter()
        for _ in range(10):
            controller(state)
        calls = max(3, round(2.0 / (time.perf_counter() - begin)))  # a turn takes some 0.2 s
        runs[name] = repeat(lambda controller=controller: controller(state), calls)
    seconds = take_turns(runs, turns)
    return {
        name: {
            "per_s": float(1 / np.median(values)),
            "ratio": np.percentile(seconds["pytorch_mppi"] / values, [25, 50, 75]).tolist(),
        }
        for name, values in seconds.items()
    }


def closed_loop(*, candidates: int, horizon: int, episodes: int) -> dict[str, Any]:
    """Return each controller's returns on the same episodes of Pendulum-v1."""
    env = gym.make("Pendulum-v1")
    return {
        name: {"returns": [episode(env, make(candidates, horizon, seed), seed) for seed in range(episodes)]}
        for name, make in CONTROLLERS.items()
    }


def episode(env: gym.Env, controller: Controller, seed: int) -> float:
    """Return the return of one episode."""
    env.reset(seed=seed)
    total, ended = 0.0, False
    while not ended:
        state = torch.as_tensor(env.unwrapped.state, dtype=torch.float32)
        _, reward, terminated, truncated, _ = env.step(controller(state).numpy())
        total, ended = total + float(reward), terminated or truncated
    return total
