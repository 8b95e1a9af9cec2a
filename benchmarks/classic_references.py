"""What Gymnasium's classic control tasks are worth at random and at best: `python benchmarks/classic_references.py`.

Prints the mean returns of the 100 evaluation episodes (`env.reset(seed=s)` for the seeds of mbrl_gym.score) for the
`[reference]` tables of agents/benchmark/suites/. Random: uniform actions, mean over 10 repetitions. Best known, by
controllers that know the equations, played in Gymnasium's own environments:

- Pendulum-v1: dynamic programming over 200 steps on a grid of angle, speed and torque; greedy in one step.
- MountainCarContinuous-v0: value iteration on a grid of position, speed and force; greedy in one step.
- Acrobot-v1: beam search from each start, which keeps the states of most energy in different cells.

CartPole-v1 needs none: 500 is the most that an episode can earn. Takes some minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from scipy.ndimage import map_coordinates
from tqdm import tqdm

from mbrl_gym.agents.benchmark import Evaluation, RandomPolicy
from mbrl_gym.scores import EVALUATION_SEEDS

Array = np.ndarray[Any, Any]
Controller = Callable[[Array, int], Any]  # state of the environment, step -> action


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env_ids", nargs="*", metavar="ENV_ID", default=["CartPole-v1", *BEST])
    for env_id in parser.parse_args().env_ids:
        evaluation = Evaluation(env_id, len(EVALUATION_SEEDS))
        random = [evaluation(RandomPolicy(evaluation.env.action_space, seed)).mean() for seed in range(10)]
        best = BEST[env_id]() if env_id in BEST else 500.0
        print(f"{env_id}: random {np.mean(random):.3f}, best known {best:.3f}", flush=True)


def play(env_id: str, controller: Controller) -> float:
    """Return the mean return of the evaluation episodes."""
    returns = []
    with gym.make(env_id) as env:
        for seed in tqdm(EVALUATION_SEEDS, env_id, leave=False):
            env.reset(seed=seed)
            total, step, ended = 0.0, 0, False
            while not ended:
                action = controller(np.array(env.unwrapped.state), step)  # type: ignore[attr-defined]
                _, reward, terminated, truncated, _ = env.step(action)
                total, step, ended = total + float(reward), step + 1, terminated or truncated
            returns.append(total)
    return float(np.mean(returns))


# Pendulum -------------------------------------------------------------------------------------------------------------

ANGLES, SPEEDS, STEPS = 360, 321, 200
TORQUES = np.linspace(-2.0, 2.0, 33)


def pendulum_step(angle: Array, speed: Array, torque: Array) -> tuple[Array, Array, Array]:
    """Return the next angle, speed and the reward."""
    wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
    reward = -(wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + (15 * np.sin(angle) + 3 * torque) * 0.05, -8, 8)
    return angle + speed * 0.05, speed, reward


def pendulum_value(value: Array, angle: Array, speed: Array) -> Array:
    """Interpolate a table `[ANGLES, SPEEDS]`, periodic in the angle."""
    rows = (angle + np.pi) / (2 * np.pi) * ANGLES
    columns = (speed + 8) / 16 * (SPEEDS - 1)
    return map_coordinates(value, [rows, columns], order=1, mode="grid-wrap")


def pendulum() -> float:
    """Return the mean return of dynamic programming."""
    angle, speed = np.meshgrid(
        -np.pi + 2 * np.pi * np.arange(ANGLES) / ANGLES, np.linspace(-8, 8, SPEEDS), indexing="ij"
    )
    values = np.zeros((STEPS + 1, ANGLES, SPEEDS), np.float32)
    for step in tqdm(reversed(range(STEPS)), "Pendulum-v1", STEPS, leave=False):
        best = np.full_like(angle, -np.inf)
        for torque in TORQUES:
            *after, reward = pendulum_step(angle, speed, torque)
            best = np.maximum(best, reward + pendulum_value(values[step + 1], *after))
        values[step] = best
    fine = np.linspace(-2, 2, 401)

    def act(state: Array, step: int) -> Array:
        *after, reward = pendulum_step(np.full_like(fine, state[0]), np.full_like(fine, state[1]), fine)
        return np.array([fine[np.argmax(reward + pendulum_value(values[step + 1], *after))]], np.float32)

    return play("Pendulum-v1", act)


# Mountain car ---------------------------------------------------------------------------------------------------------

LOW, HIGH, FASTEST, GOAL = -1.2, 0.6, 0.07, 0.45
FORCES = np.linspace(-1.0, 1.0, 21)
SHAPE = (361, 281)


def car_step(position: Array, speed: Array, force: Array) -> tuple[Array, Array, Array, Array]:
    """Return the next position, speed, the reward and whether the goal is reached."""
    speed = np.clip(speed + force * 0.0015 - 0.0025 * np.cos(3 * position), -FASTEST, FASTEST)
    position = np.clip(position + speed, LOW, HIGH)
    speed = np.where((position <= LOW) & (speed < 0), 0.0, speed)
    reached = (position >= GOAL) & (speed >= 0)
    return position, speed, 100.0 * reached - 0.1 * force**2, reached


def car_value(value: Array, position: Array, speed: Array) -> Array:
    """Interpolate a table of SHAPE."""
    rows = (position - LOW) / (HIGH - LOW) * (SHAPE[0] - 1)
    columns = (speed + FASTEST) / (2 * FASTEST) * (SHAPE[1] - 1)
    return map_coordinates(value, [rows, columns], order=1, mode="nearest")


def mountain_car() -> float:
    """Return the mean return of value iteration; a step costs a millionth, so that plans come to an end."""
    position, speed = np.meshgrid(
        np.linspace(LOW, HIGH, SHAPE[0]), np.linspace(-FASTEST, FASTEST, SHAPE[1]), indexing="ij"
    )
    value = np.zeros(SHAPE)
    for _ in tqdm(range(400), "MountainCarContinuous-v0", leave=False):
        best = np.full(SHAPE, -np.inf)
        for force in FORCES:
            *after, reward, reached = car_step(position, speed, force)
            best = np.maximum(best, reward - 1e-6 + np.where(reached, 0.0, car_value(value, *after)))
        value = best
    fine = np.linspace(-1, 1, 401)

    def act(state: Array, step: int) -> Array:
        *after, reward, reached = car_step(np.full_like(fine, state[0]), np.full_like(fine, state[1]), fine)
        return np.array([fine[np.argmax(reward + np.where(reached, 0.0, car_value(value, *after)))]], np.float32)

    return play("MountainCarContinuous-v0", act)


# Acrobot --------------------------------------------------------------------------------------------------------------

BEAM = 4000


def acrobot_rates(state: Array, torque: Array) -> Array:
    """Return the time derivatives `[N, 4]` of states, for links of 1 m and 1 kg (Sutton and Barto's equations)."""
    theta1, theta2, omega1, omega2 = state.T
    d1 = 0.25 + (1 + 0.25 + np.cos(theta2)) + 2
    d2 = 0.25 + 0.5 * np.cos(theta2) + 1
    phi2 = 0.5 * 9.8 * np.cos(theta1 + theta2 - np.pi / 2)
    phi1 = (
        -0.5 * omega2**2 * np.sin(theta2)
        - omega2 * omega1 * np.sin(theta2)
        + (0.5 + 1) * 9.8 * np.cos(theta1 - np.pi / 2)
        + phi2
    )
    alpha2 = (torque + d2 / d1 * phi1 - 0.5 * omega1**2 * np.sin(theta2) - phi2) / (0.25 + 1 - d2**2 / d1)
    alpha1 = -(d2 * alpha2 + phi1) / d1
    return np.stack([omega1, omega2, alpha1, alpha2], axis=-1)


def acrobot_step(state: Array, torque: Array) -> Array:
    """Return the states `[N, 4]` 0.2 s later, by one step of Runge and Kutta."""
    k1 = acrobot_rates(state, torque)
    k2 = acrobot_rates(state + 0.1 * k1, torque)
    k3 = acrobot_rates(state + 0.1 * k2, torque)
    k4 = acrobot_rates(state + 0.2 * k3, torque)
    after = state + 0.2 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    after[:, :2] = (after[:, :2] + np.pi) % (2 * np.pi) - np.pi
    return np.clip(after, [-np.pi, -np.pi, -4 * np.pi, -9 * np.pi], [np.pi, np.pi, 4 * np.pi, 9 * np.pi])


def acrobot_energy(state: Array) -> Array:
    """Return kinetic plus potential energy of states `[N, 4]` [J]."""
    theta1, theta2, omega1, omega2 = state.T
    d1 = 0.25 + (1 + 0.25 + np.cos(theta2)) + 2
    d2 = 0.25 + 0.5 * np.cos(theta2) + 1
    kinetic = 0.5 * d1 * omega1**2 + d2 * omega1 * omega2 + 0.5 * 1.25 * omega2**2
    return kinetic - 9.8 * (1.5 * np.cos(theta1) + 0.5 * np.cos(theta1 + theta2))


def acrobot_plan(start: Array) -> list[int]:
    """Return actions that swing the tip above the line in few steps."""
    states, histories = start[None], np.zeros((1, 0), np.int8)
    for _ in range(500):
        states = acrobot_step(np.repeat(states, 3, axis=0), np.tile([-1.0, 0.0, 1.0], len(states)))
        actions = np.tile(np.arange(3, dtype=np.int8), len(histories))
        histories = np.column_stack([np.repeat(histories, 3, axis=0), actions])
        height = -np.cos(states[:, 0]) - np.cos(states[:, 0] + states[:, 1])
        if (height > 1.0).any():
            return histories[np.argmax(height)].tolist()
        order = np.argsort(-acrobot_energy(states))
        cells = np.round(states[order] / [0.15, 0.15, 0.3, 0.3]).astype(np.int64)
        _, first = np.unique(cells, axis=0, return_index=True)
        kept = order[np.sort(first)[:BEAM]]
        states, histories = states[kept], histories[kept]
    return histories[0].tolist()


def acrobot() -> float:
    """Return the mean return of beam search."""
    plan: list[int] = []

    def act(state: Array, step: int) -> int:
        nonlocal plan
        if step == 0:
            plan = acrobot_plan(state)
        return plan[step] if step < len(plan) else 1

    return play("Acrobot-v1", act)


BEST = {"Pendulum-v1": pendulum, "MountainCarContinuous-v0": mountain_car, "Acrobot-v1": acrobot}
"""Best known mean returns."""


if __name__ == "__main__":
    main()
