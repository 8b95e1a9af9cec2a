"""`mbrl/Arm-v0`: a kinematic two-link arm in the plane that reaches for a target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.arm_optimum import Links, reaching_bound, reaching_return
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.task import (
    Array,
    Noise,
    NoiseSizes,
    Optimum,
    Params,
    Task,
    clip,
    column,
    namespace,
    norm,
    stack_columns,
    unstack_columns,
)

__all__ = ["Arm", "ArmEnv", "ArmParams", "ArmVectorEnv", "forward_kinematics", "point_on_ring"]


@dataclass(frozen=True, kw_only=True)
class ArmParams(Params):
    """Constants of the arm."""

    link_1: float = 1.0  # length of the first link [m]
    link_2: float = 0.8  # length of the second link [m]
    max_step: float = 0.1  # joint displacement of action 1 [rad]

    positive: ClassVar[tuple[str, ...]] = ("link_1", "link_2", "max_step")


def forward_kinematics(constants: Any, theta_1: Array, theta_2: Array) -> tuple[Array, Array, Array, Array]:
    """Return x and y of the elbow, then of the tip, each `[...]` in metres."""
    xp, both = namespace(theta_1), theta_1 + theta_2
    elbow_x, elbow_y = constants.link_1 * xp.cos(theta_1), constants.link_1 * xp.sin(theta_1)
    return (
        elbow_x,
        elbow_y,
        elbow_x + constants.link_2 * xp.cos(both),
        elbow_y + constants.link_2 * xp.sin(both),
    )


def point_on_ring(constants: Any, share: Array, turn: Array) -> tuple[Array, Array]:
    """Return x and y `[...]` of points uniform over the ring that the tip can reach, from two uniform numbers."""
    xp = namespace(share)
    longest = constants.link_1 + constants.link_2
    shortest = abs(constants.link_1 - constants.link_2)
    radius = xp.sqrt(shortest * shortest + share * (longest * longest - shortest * shortest))
    angle = math.pi * (2.0 * turn - 1.0)
    return radius * xp.cos(angle), radius * xp.sin(angle)


class Arm(Task):
    """theta' = theta + max_step * a; reward minus the distance from tip to target [m]."""

    params_class = ArmParams
    state_columns = ("theta_1 [rad]", "theta_2 [rad]", "target x [m]", "target y [m]")
    scene = "arm"
    nominal_steps = 50
    optimum = Optimum(
        "best known", "lattice search polished by multi-start; gap to an upper bound at most 1%, on average 0.05%"
    )
    initial_noise = NoiseSizes(uniform=4)
    transition_noise = NoiseSizes()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        reach = (self.highest("link_1") + self.highest("link_2")) * (1 + 1e-6)  # rounding included
        high = np.array([1.0] * 4 + [reach] * 2 + [2 * reach] * 2, self.dtype)
        self.observation_space = spaces.Box(-high, high, dtype=self.dtype.type)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def initial(self, noise: Noise) -> Array:
        """Return any pose, and targets uniform over the reachable ring."""
        uniform = noise.uniform
        constants = self.draw_constants(noise)
        return stack_columns(
            math.pi * (2.0 * uniform[..., 0] - 1.0),
            math.pi * (2.0 * uniform[..., 1] - 1.0),
            *point_on_ring(constants, uniform[..., 2], uniform[..., 3]),
            *self.constant_columns(constants),
        )

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Turn the joints."""
        max_step = self.constants(state).max_step
        theta_1, theta_2, *rest = unstack_columns(state)
        turn_1, turn_2 = (clip(column(action, i), -1.0, 1.0) for i in range(2))
        return stack_columns(theta_1 + max_step * turn_1, theta_2 + max_step * turn_2, *rest)

    def joints(self, state: Array) -> tuple[Array, Array, Array, Array]:
        """Return x and y of the elbow, then of the tip, each `[...]` in metres."""
        return forward_kinematics(self.constants(state), state[..., 0], state[..., 1])

    def target(self, state: Array) -> tuple[Array, Array]:
        """Return x and y of the target, each `[...]` in metres."""
        return state[..., 2], state[..., 3]

    def observation(self, state: Array) -> Array:
        """Return cos and sin of both angles, the target, and the vector from target to tip."""
        xp, constants = namespace(state), self.constants(state)
        theta_1, theta_2, target_x, target_y = unstack_columns(state)[:4]
        cos_1, sin_1, cos_2, sin_2 = xp.cos(theta_1), xp.sin(theta_1), xp.cos(theta_2), xp.sin(theta_2)
        # The second link's direction by the addition theorem: two trigonometric calls fewer than `joints`.
        tip_x = constants.link_1 * cos_1 + constants.link_2 * (cos_1 * cos_2 - sin_1 * sin_2)
        tip_y = constants.link_1 * sin_1 + constants.link_2 * (sin_1 * cos_2 + cos_1 * sin_2)
        return stack_columns(cos_1, sin_1, cos_2, sin_2, target_x, target_y, tip_x - target_x, tip_y - target_y)

    def state(self, observation: Array) -> Array:
        """Return both angles in [-pi, pi] and the target."""
        self.check_observed()
        xp = namespace(observation)
        arctan2 = xp.arctan2 if xp is np else xp.atan2
        return stack_columns(
            arctan2(observation[..., 1], observation[..., 0]),
            arctan2(observation[..., 3], observation[..., 2]),
            observation[..., 4],
            observation[..., 5],
        )

    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return minus the distance from tip to target after the step [m]."""
        return -norm(column(next_observation, 6), column(next_observation, 7))

    def best_return(self, state: Array, steps: int) -> Array:
        """Return the best known return, by search."""
        return np.array([reaching_return(*self._reach(row), steps) for row in state])

    def best_return_bound(self, state: Array, steps: int) -> Array:
        """Return an upper bound, by branch and bound."""
        return np.array([reaching_bound(*self._reach(row), steps) for row in state])

    def _reach(self, state: Array) -> tuple[Links, Array, Array, float]:
        return Links(self.params.link_1, self.params.link_2), state[:2], state[2:], self.params.max_step


class ArmEnv(TaskEnv):
    """A two-link arm in the plane reaches for a target.

    ## Description
    A kinematic arm with links of 1.0 m and 0.8 m turns both joints by a commanded amount:
    `theta' = theta + max_step * a`. theta_2 is measured from the direction of the first link. The geometry makes
    the task non-linear, and most targets can be reached with the elbow on either side.

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
    Minus the distance from tip to target after the step [m].

    ## Starting State
    Any pose (both angles uniform), any reachable target (uniform over the ring that the tip can reach);
    `reset(options={"state": [theta_1, theta_2, target_x, target_y]})` sets it.

    ## Episode End
    Truncated after 50 steps; never terminated.

    ## Arguments
    `link_1=1.0`, `link_2=0.8`, `max_step=0.1`, `dtype="float32"`; `randomize={"link_2": (0.6, 1.0)}` draws constants
    at every start.

    ## Optimum
    Best known, about -14 on average over the starts: a lattice search through the start pose, polished by
    continuous optimisation from several starts. On 100 starts it lies 0.05% below an upper bound by branch and bound
    on average, and 0.84% at most.

    ## Version History
    v0: initial version.
    """

    task_class = Arm


class ArmVectorEnv(TaskVectorEnv):
    """Many copies of `ArmEnv` in one array."""

    task_class = Arm
