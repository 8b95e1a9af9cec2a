"""`mbrl/ArmSparse-v0`: the kinematic arm, paid only while its tip is at the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mbrl_gym.envs.arm import Arm, ArmParams
from mbrl_gym.envs.arm_optimum import Links, steps_to_disc
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.task import Array, Optimum, Task, as_number, column, norm

__all__ = ["ArmSparse", "ArmSparseEnv", "ArmSparseParams", "ArmSparseVectorEnv"]


@dataclass(frozen=True, kw_only=True)
class ArmSparseParams(ArmParams):
    """Constants of the sparse arm."""

    tolerance: float = 0.05  # largest distance from tip to target that pays [m]

    positive: ClassVar[tuple[str, ...]] = (*ArmParams.positive, "tolerance")
    fixed: ClassVar[tuple[str, ...]] = ("tolerance",)


class ArmSparse(Arm):
    """The arm's dynamics; reward 1 where the tip is within `tolerance` of the target, else 0."""

    params_class = ArmSparseParams
    optimum = Optimum("exact", "closed form: the steps until the box of poses in reach meets the target's disc")

    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return 1 where the tip is at the target after the step, else 0."""
        distance = norm(column(next_observation, 6), column(next_observation, 7))
        return as_number(distance <= self.params.tolerance, distance)

    best_return_bound = Task.best_return_bound  # the optimum is exact

    def best_return(self, state: Array, steps: int) -> Array:
        """Return the number of steps after which the tip can be at the target: once there, it stays."""
        params = self.params
        links = Links(params.link_1, params.link_2)
        first = steps_to_disc(links, state[:, :2], state[:, 2:], params.tolerance, params.max_step, steps)
        return steps + 1 - np.maximum(first, 1)


class ArmSparseEnv(TaskEnv):
    """A two-link arm in the plane finds a target without being told the way.

    ## Description
    The kinematic arm of `mbrl/Arm-v0`, `theta' = theta + max_step * a`, with a reward that is zero but for a small
    disc: a task of exploration.

    ## Action Space
    `Box(-1, 1, (2,), float32)`: the turn of each joint, in units of `max_step` (0.1 rad). Actions beyond the bounds
    are clipped.

    ## Observation Space
    | column | meaning | range |
    |---|---|---|
    | 0, 1 | cos, sin of theta_1 | -1 to 1 |
    | 2, 3 | cos, sin of theta_2 | -1 to 1 |
    | 4, 5 | target x, y [m] | -1.8 to 1.8 |
    | 6, 7 | tip - target x, y [m] | -3.6 to 3.6 |

    ## Reward
    1 if the distance from tip to target after the step is at most `tolerance` (0.05 m), else 0.

    ## Starting State
    Any pose (both angles uniform), any reachable target (uniform over the ring that the tip can reach);
    `reset(options={"state": [theta_1, theta_2, target_x, target_y]})` sets it.

    ## Episode End
    Truncated after 50 steps; never terminated.

    ## Arguments
    `link_1=1.0`, `link_2=0.8`, `max_step=0.1`, `tolerance=0.05`, `dtype="float32"`; `randomize` takes all constants
    but `tolerance`.

    ## Optimum
    Exact, about 34.9 on average over the starts: the tip enters the disc as soon as a pose of it is in reach, and
    stays.

    ## Version History
    v0: initial version.
    """

    task_class = ArmSparse


class ArmSparseVectorEnv(TaskVectorEnv):
    """Many copies of `ArmSparseEnv` in one array."""

    task_class = ArmSparse
