"""Computed torque control of the two-link arm, from which the search for its best return starts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mbrl_gym.envs.task import Array
from mbrl_gym.noise import Noise

if TYPE_CHECKING:
    from mbrl_gym.envs.arm_torque import ArmTorque

__all__ = ["computed_torque", "poses_at_target", "reaching_actions"]

NOTHING = Noise(np.zeros(0), np.zeros(0))


def poses_at_target(task: ArmTorque, state: Array) -> Array:
    """Return the poses `[2, N, 2]` [rad] that put the tip at the target: elbow to the left, then to the right."""
    x, y = task.target(state)
    l_1, l_2 = task.params.link_1, task.params.link_2
    bend = np.arccos(np.clip((x * x + y * y - l_1 * l_1 - l_2 * l_2) / (2 * l_1 * l_2), -1.0, 1.0))
    poses = [(np.arctan2(y, x) - np.arctan2(l_2 * np.sin(b), l_1 + l_2 * np.cos(b)), b) for b in (bend, -bend)]
    return np.stack([np.stack(pose, -1) for pose in poses])


def computed_torque(task: ArmTorque, state: Array, apart: Array, frequency: float) -> Array:
    """Return torques `[N, 2]` [N m] that close the angles `apart` `[N, 2]` like critically damped oscillators.

    Spong, Hutchinson and Vidyasagar, "Robot Modeling and Control", section 8.3; the frequency is in rad/s.
    """
    links, speed = task.links(task.params), state[:, 2:4]
    wanted = frequency * (frequency * apart - 2.0 * speed)
    mass, turn = links.coupling * np.cos(state[:, 1]), links.coupling * np.sin(state[:, 1])
    m_12 = links.second + mass
    m_11 = links.first + m_12 + mass
    coriolis = np.stack([-turn * speed[:, 1] * (2 * speed[:, 0] + speed[:, 1]), turn * speed[:, 0] * speed[:, 0]], -1)
    inertial = np.stack(
        [m_11 * wanted[:, 0] + m_12 * wanted[:, 1], m_12 * wanted[:, 0] + links.second * wanted[:, 1]], -1
    )
    return inertial + coriolis + np.stack(task.holding_torque(state), -1) + task.params.damping * speed


def reaching_actions(task: ArmTorque, state: Array, steps: int, frequency: float) -> Array:
    """Return actions `[8, N, steps, 2]` that reach for the target with either elbow, each joint either way round."""
    limits = np.array([task.params.max_torque_1, task.params.max_torque_2])
    ways = np.array([(0, 0), (1, 0), (0, 1), (1, 1)])[:, None, None]  # [4, 1, 1, 2] whether a joint goes the long way
    apart = poses_at_target(task, state) - state[:, :2]
    short = np.remainder(apart + math.pi, math.tau) - math.pi
    ahead = short - ways * math.tau * np.where(short >= 0, 1.0, -1.0)  # [4, 2, N, 2]
    left = ahead.reshape(-1, 2)
    now, actions = np.tile(state, (8, 1)), np.empty((len(left), steps, 2))
    for t in range(steps):
        actions[:, t] = np.clip(computed_torque(task, now, left, frequency) / limits, -1.0, 1.0)
        following = task.transition(now, actions[:, t], NOTHING)
        turned = following[:, :2] - now[:, :2]
        left = left - (np.remainder(turned + math.pi, math.tau) - math.pi)
        now = following
    return actions.reshape(8, len(state), steps, 2)
