"""Equations of motion of a quadrotor, over one Runge-Kutta step of order 4, as tuples of columns `[...]`.

Each function takes constants by name: mass, gravity, max_thrust, motor_lag, torque_ratio, arm_length, inertia_x,
inertia_y, inertia_z, drag and dt (see `DroneQuadParams`), numbers or columns.
"""

from __future__ import annotations

import math
from typing import Any

from mbrl_gym.envs.quaternions import Columns, normalised, quaternion_rate, third_axis
from mbrl_gym.envs.task import Array, clip, namespace, unstack_columns

__all__ = ["thrusts_of_step", "torques", "travel", "turn"]


def _moved(columns: Columns, rates: Columns, time: Any) -> Columns:
    """Return columns + time * rates."""
    return tuple(column + time * rate for column, rate in zip(columns, rates, strict=True))


def _mean_rate(first: Columns, second: Columns, third: Columns, fourth: Columns) -> Columns:
    """Return the weighted mean of the four slopes of the classical Runge-Kutta method."""
    return tuple((a + 2.0 * (b + c) + d) * (1.0 / 6.0) for a, b, c, d in zip(first, second, third, fourth, strict=True))


def thrusts_of_step(start: Columns, action: Array, constants: Any) -> tuple[Columns, Columns, Columns]:
    """Return the rotors' thrusts [N] at the start, the middle and the end of the step: the lag's exact solution."""
    goal = tuple(0.5 * (clip(part, -1.0, 1.0) + 1.0) * constants.max_thrust for part in unstack_columns(action))
    exponent = -0.5 * constants.dt / constants.motor_lag
    left = math.exp(exponent) if type(exponent) is float else namespace(exponent).exp(exponent)
    middle = tuple(aim + left * (thrust - aim) for thrust, aim in zip(start, goal, strict=True))
    end = tuple(aim + left * (thrust - aim) for thrust, aim in zip(middle, goal, strict=True))
    return start, middle, end


def torques(thrusts: Columns, constants: Any) -> Columns:
    """Return the rotors' torques about the body's axes [N m].

    X configuration: arms of length l at 45 degrees to the x axis. With the body's axes forward, left and up, thrust
    on the left rolls to the right (about +x), thrust at the rear pitches the nose down (about +y). Front left and
    rear right turn clockwise, seen from above, and yaw the body counterclockwise (about +z); the others oppose.
    """
    front_left, rear_left, rear_right, front_right = thrusts
    arm = math.sqrt(0.5) * constants.arm_length
    one, other = front_left - rear_right, rear_left - front_right
    return (
        arm * (one + other),
        arm * (other - one),
        constants.torque_ratio * ((front_left + rear_right) - (rear_left + front_right)),
    )


def turn(
    q: Columns, rates: Columns, thrusts: tuple[Columns, Columns, Columns], constants: Any
) -> tuple[tuple[Columns, ...], Columns, Columns]:
    """Return the quaternions of the four stages, and quaternion and body rates after the step."""
    inertia = constants.inertia_x, constants.inertia_y, constants.inertia_z
    x, y, z = inertia
    gyroscopic = y - z, z - x, x - y
    torque = [torques(thrust, constants) for thrust in thrusts]
    dt = constants.dt

    def slopes(q: Columns, rates: Columns, torque: Columns) -> tuple[Columns, Columns]:
        a, b, c = rates
        products = b * c, c * a, a * b
        # Euler's equations: J w' = torque - w x J w
        spin = tuple((torque[i] + gyroscopic[i] * products[i]) / inertia[i] for i in range(3))
        return quaternion_rate(q, rates), spin

    q_1, w_1 = slopes(q, rates, torque[0])
    second = _moved(q, q_1, 0.5 * dt)
    q_2, w_2 = slopes(second, _moved(rates, w_1, 0.5 * dt), torque[1])
    third = _moved(q, q_2, 0.5 * dt)
    q_3, w_3 = slopes(third, _moved(rates, w_2, 0.5 * dt), torque[1])
    fourth = _moved(q, q_3, dt)
    q_4, w_4 = slopes(fourth, _moved(rates, w_3, dt), torque[2])
    after = normalised(_moved(q, _mean_rate(q_1, q_2, q_3, q_4), dt))
    return (q, second, third, fourth), after, _moved(rates, _mean_rate(w_1, w_2, w_3, w_4), dt)


def travel(
    p: Columns, v: Columns, stages: tuple[Columns, ...], thrusts: tuple[Columns, Columns, Columns], constants: Any
) -> tuple[Columns, Columns]:
    """Return position and velocity after the step.

    The slope of p is v: the four stages of p' come from those of v' in closed form.
    """
    dt, per_mass, gravity = constants.dt, 1.0 / constants.mass, constants.gravity
    damping = constants.drag * per_mass
    lift = [((f[0] + f[2]) + (f[1] + f[3])) * per_mass for f in thrusts]

    def slope(q: Columns, lift: Array, v: Columns) -> Columns:
        x, y, z = third_axis(q)
        return lift * x - damping * v[0], lift * y - damping * v[1], lift * z - gravity - damping * v[2]

    first = slope(stages[0], lift[0], v)
    second = slope(stages[1], lift[1], _moved(v, first, 0.5 * dt))
    third = slope(stages[2], lift[1], _moved(v, second, 0.5 * dt))
    fourth = slope(stages[3], lift[2], _moved(v, third, dt))
    early = tuple((a + b + c) * (1.0 / 6.0) for a, b, c in zip(first, second, third, strict=True))
    return _moved(p, _moved(v, early, dt), dt), _moved(v, _mean_rate(first, second, third, fourth), dt)
