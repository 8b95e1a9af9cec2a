"""The best possible flight of the point mass, a second-order cone program (needs the extra `optimum`)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from mbrl_gym.envs.task import Array

__all__ = ["least_distances_of_rotorcraft", "shortest_distances"]


def shortest_distances(
    offset: Array, velocity: Array, steps: int, *, decay: float = 1.0, push: Array | None = None
) -> tuple[float, Array]:
    """Minimise the sum over `steps` steps of |x_t| for v' = decay (v + a) + push_t, x' = x + v', |a_i| <= 1.

    The problem is convex (Boyd and Vandenberghe, 2004, section 4.4.2), so that the result, by Clarabel, is the
    optimum up to a relative error of about 1e-5.

    Args:
        offset: x at the start `[3]`.
        velocity: v at the start `[3]`.
        steps: Number of steps T.
        decay: Share of the velocity that is left after a step of air drag.
        push: Velocity that the wind adds `[T, 3]`; none by default.

    Returns:
        The sum of the distances, and the actions `[T, 3]`.

    Raises:
        ImportError: CVXPY is not installed.
    """
    cvxpy = _cvxpy()
    problem, action = _problem(steps, decay)
    given = problem.param_dict
    given["offset"].value, given["velocity"].value = offset, velocity
    given["push"].value = np.zeros((steps, 3)) if push is None else push
    problem.solve(solver=cvxpy.CLARABEL)
    return float(problem.value), np.clip(action.value, -1.0, 1.0)


def least_distances_of_rotorcraft(
    offset: Array, velocity: Array, steps: int, *, dt: float, drag: float, gravity: float, thrust: float
) -> float:
    """Return a lower bound of the sum over `steps` steps of the distances [m] that a rotorcraft can reach.

    The relaxation lets the thrust point anywhere at once: over a step, velocity and position each get a mean
    acceleration out of the ball of that radius. Attitude, lag and the rotors' limits are left out.

    Args:
        offset: Position minus target at the start `[3]` [m].
        velocity: Velocity at the start `[3]` [m/s].
        steps: Number of steps.
        dt: Time step [s].
        drag: Deceleration per speed [1/s].
        gravity: Along -z [m/s2].
        thrust: Largest acceleration by thrust [m/s2].

    Raises:
        ImportError: CVXPY is not installed.
    """
    cvxpy = _cvxpy()
    problem = _relaxation(steps, dt, drag, gravity, thrust)
    given = problem.param_dict
    given["offset"].value, given["velocity"].value = offset, velocity
    return float(problem.solve(solver=cvxpy.CLARABEL))


def _cvxpy() -> Any:
    try:
        import cvxpy
    except ImportError as error:
        raise ImportError('the optimum of the drones needs CVXPY: pip install "mbrl-gym[optimum]"') from error
    return cvxpy


@lru_cache(maxsize=8)
def _relaxation(steps: int, dt: float, drag: float, gravity: float, thrust: float) -> Any:
    """Return the problem with the parameters offset and velocity."""
    cvxpy = _cvxpy()
    # A constant acceleration u over a step adds reach * u to the velocity and shift * u to the position.
    reach = -np.expm1(-drag * dt) / drag if drag else dt
    shift = (dt - reach) / drag if drag else dt * dt / 2
    lift = [cvxpy.Variable((steps, 3)) for _ in range(2)]
    v, x = cvxpy.Variable((steps + 1, 3)), cvxpy.Variable((steps + 1, 3))
    fall = np.array([[0.0, 0.0, gravity]])
    constraints = [
        v[0] == cvxpy.Parameter(3, name="velocity"),
        x[0] == cvxpy.Parameter(3, name="offset"),
        v[1:] == (1 - drag * reach) * v[:-1] + reach * (lift[0] - fall),
        x[1:] == x[:-1] + reach * v[:-1] + shift * (lift[1] - fall),
        *(cvxpy.norm(part, axis=1) <= thrust for part in lift),
    ]
    return cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.norm(x[1:], axis=1))), constraints)


@lru_cache(maxsize=8)
def _problem(steps: int, decay: float) -> tuple[Any, Any]:
    """Return the problem with the parameters offset, velocity and push, and its actions."""
    cvxpy = _cvxpy()
    push = cvxpy.Parameter((steps, 3), name="push")
    action = cvxpy.Variable((steps, 3))
    v, x = cvxpy.Variable((steps + 1, 3)), cvxpy.Variable((steps + 1, 3))
    constraints = [
        v[0] == cvxpy.Parameter(3, name="velocity"),
        x[0] == cvxpy.Parameter(3, name="offset"),
        v[1:] == decay * (v[:-1] + action) + push,
        x[1:] == x[:-1] + v[1:],
        cvxpy.abs(action) <= 1.0,
    ]
    return cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.norm(x[1:], axis=1))), constraints), action
