"""The best possible flight of the point mass, a second-order cone program (needs the extra `optimum`)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from mbrl_gym.envs.task import Array

__all__ = ["shortest_distances"]


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
    try:
        import cvxpy
    except ImportError as error:
        raise ImportError('the optimum of the drone needs CVXPY: pip install "mbrl-gym[optimum]"') from error
    problem, action = _problem(steps, decay)
    given = problem.param_dict
    given["offset"].value, given["velocity"].value = offset, velocity
    given["push"].value = np.zeros((steps, 3)) if push is None else push
    problem.solve(solver=cvxpy.CLARABEL)
    return float(problem.value), np.clip(action.value, -1.0, 1.0)


@lru_cache(maxsize=8)
def _problem(steps: int, decay: float) -> tuple[Any, Any]:
    """Return the problem with the parameters offset, velocity and push, and its actions."""
    import cvxpy

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
