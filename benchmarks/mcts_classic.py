"""Gymnasium's Acrobot-v1 and MountainCar-v0 as compiled models; part of `mcts.py`.

The models take an action several times in a row, as the agent will hardly do: it decides anew at every step. Single
random actions cancel each other out, so that roll-outs hardly ever reach the goal.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numba
import numpy as np
import torch

from mbrl_gym.agents import CompiledModel
from mbrl_gym.wrappers import SimulatorModel

__all__ = ["MODELS", "check"]

Array = np.ndarray[Any, Any]

GRAVITY, DT = 9.8, 0.2


@numba.njit
def mountain_car_step(state, force, following):  # type: ignore[no-untyped-def]
    """Advance position and velocity (Moore 1990)."""
    speed = state[1] + force * 0.001 - 0.0025 * math.cos(3.0 * state[0])
    speed = min(max(speed, -0.07), 0.07)
    position = min(max(state[0] + speed, -1.2), 0.6)
    if position == -1.2 and speed < 0.0:
        speed = 0.0
    following[0], following[1] = position, speed
    return -1.0, position >= 0.5 and speed >= 0.0


@numba.njit
def acceleration(theta1, theta2, speed1, speed2, torque):  # type: ignore[no-untyped-def]
    """Return both angular accelerations [rad/s2] of links of 1 m and 1 kg (Sutton and Barto 1998, equation 11.4)."""
    d1 = 3.5 + math.cos(theta2)
    d2 = 1.25 + 0.5 * math.cos(theta2)
    phi2 = 0.5 * GRAVITY * math.cos(theta1 + theta2 - math.pi / 2)
    phi1 = -0.5 * speed2 * speed2 * math.sin(theta2) - speed2 * speed1 * math.sin(theta2)
    phi1 += 1.5 * GRAVITY * math.cos(theta1 - math.pi / 2) + phi2
    second = torque + d2 / d1 * phi1 - 0.5 * speed1 * speed1 * math.sin(theta2) - phi2
    second /= 1.25 - d2 * d2 / d1
    return -(d2 * second + phi1) / d1, second


@numba.njit
def acrobot_step(state, torque, following):  # type: ignore[no-untyped-def]
    """Advance both angles and angular velocities by 0.2 s with one step of Runge and Kutta's method."""
    a, b, c, d = state[0], state[1], state[2], state[3]
    k1, m1 = acceleration(a, b, c, d, torque)
    k2, m2 = acceleration(a + DT / 2 * c, b + DT / 2 * d, c + DT / 2 * k1, d + DT / 2 * m1, torque)
    c2, d2 = c + DT / 2 * k1, d + DT / 2 * m1
    c3, d3 = c + DT / 2 * k2, d + DT / 2 * m2
    k3, m3 = acceleration(a + DT / 2 * c2, b + DT / 2 * d2, c3, d3, torque)
    c4, d4 = c + DT * k3, d + DT * m3
    k4, m4 = acceleration(a + DT * c3, b + DT * d3, c4, d4, torque)
    a += DT / 6 * (c + 2 * c2 + 2 * c3 + c4)
    b += DT / 6 * (d + 2 * d2 + 2 * d3 + d4)
    following[0] = (a + math.pi) % (2 * math.pi) - math.pi
    following[1] = (b + math.pi) % (2 * math.pi) - math.pi
    following[2] = min(max(c + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4), -4 * math.pi), 4 * math.pi)
    following[3] = min(max(d + DT / 6 * (m1 + 2 * m2 + 2 * m3 + m4), -9 * math.pi), 9 * math.pi)
    done = -math.cos(following[0]) - math.cos(following[1] + following[0]) > 1.0
    return 0.0 if done else -1.0, done


def repeated(once: Any, size: int) -> Any:
    """Return a `step` of `CompiledModel` that takes an action `parameters[0]` times."""

    def step(parameters, state, action, following, random):  # type: ignore[no-untyped-def]
        before = np.empty(size)
        before[:] = state
        total, ended = 0.0, False
        for _ in range(int(parameters[0])):
            reward, ended = once(before, action[0] - 1.0, following)
            total += reward
            if ended:
                break
            before[:] = following
        return total, ended

    return step


def mountain_car(repeats: int) -> CompiledModel:
    """Return MountainCar-v0, whose observation is its state."""
    space = gym.make("MountainCar-v0").action_space
    return CompiledModel(space, MOUNTAIN_CAR, state_size=2, parameters=[repeats])


def acrobot(repeats: int) -> CompiledModel:
    """Return Acrobot-v1; its observation holds cosines and sines of the angles."""

    def state_of(observation: Any) -> Array:
        rows = np.asarray(observation, np.float64).reshape(-1, 6)
        angles = np.arctan2(rows[:, 1], rows[:, 0]), np.arctan2(rows[:, 3], rows[:, 2])
        return np.stack([*angles, rows[:, 4], rows[:, 5]], 1)

    space = gym.make("Acrobot-v1").action_space
    return CompiledModel(space, ACROBOT, state_size=4, parameters=[repeats], state_of=state_of)


MOUNTAIN_CAR, ACROBOT = repeated(mountain_car_step, 2), repeated(acrobot_step, 4)
MODELS = {"Acrobot-v1": (acrobot, acrobot_step), "MountainCar-v0": (mountain_car, mountain_car_step)}


def check(env_id: str, steps: int = 300) -> None:
    """Compare a compiled model with Gymnasium's own code along random episodes."""
    make, step = MODELS[env_id]
    model = make(1)
    simulator, env = SimulatorModel(gym.make(env_id)), gym.make(env_id)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    following = np.empty(model.state_size)
    for _ in range(steps):
        action = int(env.action_space.sample())
        before = model.states(observation)[0]
        reward, ended = step(before, action - 1.0, following)
        start = simulator.start(torch.as_tensor(observation)[None])
        exact = simulator.step(start, torch.tensor([action]))
        found = model.states(exact.observation[0].numpy())[0]
        difference = np.abs(np.sin((found - following) / 2)).max()
        if difference > 1e-5 or reward != float(exact.reward) or ended != bool(exact.terminated):
            raise RuntimeError(f"the compiled model of {env_id} goes to {following}, Gymnasium to {found}")
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
