"""`mbrl/Arm-v0`: a kinematic two-link arm in the plane that reaches for a target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.task import Array, Noise, NoiseSizes, Params, Task, namespace, norm, stack_columns

__all__ = ["Arm", "ArmEnv", "ArmParams", "ArmVectorEnv"]


@dataclass(frozen=True, kw_only=True)
class ArmParams(Params):
    """Constants of the arm."""

    link_1: float = 1.0  # length of the first link [m]
    link_2: float = 0.8  # length of the second link [m]
    max_step: float = 0.1  # joint displacement of action 1 [rad]

    positive: ClassVar[tuple[str, ...]] = ("link_1", "link_2", "max_step")


class Arm(Task):
    """theta' = theta + max_step * a; reward minus the distance from tip to target [m]."""

    params_class = ArmParams
    state_columns = ("theta_1 [rad]", "theta_2 [rad]", "target x [m]", "target y [m]")
    scene = "arm"
    nominal_steps = 50
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
        xp = namespace(uniform)
        constants = self.draw_constants(noise)
        longest = constants.link_1 + constants.link_2
        shortest = abs(constants.link_1 - constants.link_2)
        radius = xp.sqrt(shortest * shortest + uniform[..., 2] * (longest * longest - shortest * shortest))
        angle = math.pi * (2.0 * uniform[..., 3] - 1.0)
        return stack_columns(
            math.pi * (2.0 * uniform[..., 0] - 1.0),
            math.pi * (2.0 * uniform[..., 1] - 1.0),
            radius * xp.cos(angle),
            radius * xp.sin(angle),
            *self.constant_columns(constants),
        )

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Turn the joints."""
        max_step = self.constants(state).max_step
        turn = namespace(action).clip(action, -1.0, 1.0)
        return stack_columns(
            state[..., 0] + max_step * turn[..., 0],
            state[..., 1] + max_step * turn[..., 1],
            *(state[..., i] for i in range(2, self.state_size)),
        )

    def joints(self, state: Array) -> tuple[Array, Array, Array, Array]:
        """Return x and y of the elbow, then of the tip, each `[...]` in metres."""
        xp, constants = namespace(state), self.constants(state)
        first, both = state[..., 0], state[..., 0] + state[..., 1]
        elbow_x, elbow_y = constants.link_1 * xp.cos(first), constants.link_1 * xp.sin(first)
        return (
            elbow_x,
            elbow_y,
            elbow_x + constants.link_2 * xp.cos(both),
            elbow_y + constants.link_2 * xp.sin(both),
        )

    def observation(self, state: Array) -> Array:
        """Return cos and sin of both angles, the target, and the vector from target to tip."""
        xp, constants = namespace(state), self.constants(state)
        theta_1, theta_2, target_x, target_y = (state[..., i] for i in range(4))
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
        return -norm(next_observation[..., 6], next_observation[..., 7])


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
    `link_1=1.0`, `link_2=0.8`, `max_step=0.1`, `dtype="float32"`.

    ## Version History
    v0: initial version.
    """

    task_class = Arm


class ArmVectorEnv(TaskVectorEnv):
    """Many copies of `ArmEnv` in one array."""

    task_class = Arm
