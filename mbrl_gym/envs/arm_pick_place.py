"""`mbrl/ArmPickPlace-v0`: a kinematic two-link arm with a gripper carries an object to a goal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.arm import ArmParams, forward_kinematics, point_on_ring
from mbrl_gym.envs.arm_optimum import Links, placing_steps, steps_to_disc
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.task import (
    Array,
    Noise,
    NoiseSizes,
    Optimum,
    Task,
    as_number,
    clip,
    column,
    namespace,
    norm,
    stack_columns,
    unstack_columns,
)

__all__ = ["ArmPickPlace", "ArmPickPlaceEnv", "ArmPickPlaceParams", "ArmPickPlaceVectorEnv"]


@dataclass(frozen=True, kw_only=True)
class ArmPickPlaceParams(ArmParams):
    """Constants of the arm with a gripper."""

    grasp_radius: float = 0.1  # largest distance from tip to object at which the gripper grasps [m]
    tolerance: float = 0.05  # largest distance from object to goal that counts as success [m]

    positive: ClassVar[tuple[str, ...]] = (*ArmParams.positive, "grasp_radius", "tolerance")
    fixed: ClassVar[tuple[str, ...]] = ("tolerance",)


class ArmPickPlace(Task):
    """The arm's kinematics, and an object that moves with the tip while it is held.

    In a step the joints turn first, and a held object goes along; then the gripper opens or closes. A gripper that
    closes (it was open) with the tip within `grasp_radius` of the object centres it on the tip and holds it until it
    opens; then the object lies where it is. A gripper that is closed already grasps nothing.
    """

    params_class = ArmPickPlaceParams
    state_columns = (
        *("theta_1 [rad]", "theta_2 [rad]", "object x [m]", "object y [m]", "goal x [m]", "goal y [m]"),
        *("gripper closed", "object held"),
    )
    parts: Mapping[str, slice] = {
        "achieved_goal": slice(0, 2),
        "desired_goal": slice(2, 4),
        "observation": slice(4, 14),
    }
    scene = "arm"
    nominal_steps = 50
    optimum = Optimum("exact", "least number of steps, by branch and bound over the poses that grasp")
    initial_noise = NoiseSizes(uniform=6)
    transition_noise = NoiseSizes()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        reach = (self.highest("link_1") + self.highest("link_2")) * (1 + 1e-6)  # rounding included
        high = np.array([reach] * 4 + [1.0] * 4 + [reach] * 2 + [2 * reach] * 2 + [1.0] * 2, self.dtype)
        low = np.array([*-high[:12], 0.0, 0.0], self.dtype)
        self.observation_space = spaces.Box(low, high, dtype=self.dtype.type)
        self.action_space = spaces.Box(-1.0, 1.0, (3,), np.float32)

    def initial(self, noise: Noise) -> Array:
        """Return any pose with an open gripper; object and goal are uniform over the reachable ring."""
        uniform = noise.uniform
        constants = self.draw_constants(noise)
        zero = 0.0 * uniform[..., 0]
        return stack_columns(
            math.pi * (2.0 * uniform[..., 0] - 1.0),
            math.pi * (2.0 * uniform[..., 1] - 1.0),
            *point_on_ring(constants, uniform[..., 2], uniform[..., 3]),
            *point_on_ring(constants, uniform[..., 4], uniform[..., 5]),
            zero,
            zero,
            *self.constant_columns(constants),
        )

    def allows(self, state: Array) -> bool:
        """Return whether the gripper is open or closed, and what it holds is at the tip."""
        closed, held = state[..., 6], state[..., 7]
        if not np.all((closed == 0) | (closed == 1)) or not np.all((held == 0) | (held == closed)):
            return False
        tip_x, tip_y = self.joints(state)[2:]
        distance = norm(state[..., 2] - tip_x, state[..., 3] - tip_y)
        return bool(np.all((held == 0) | (distance < 1e-4))) and super().allows(state)

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Turn the joints, then open or close the gripper."""
        constants = self.constants(state)
        theta_1, theta_2, object_x, object_y, goal_x, goal_y, closed, held = unstack_columns(state)[:8]
        theta_1 = theta_1 + constants.max_step * clip(column(action, 0), -1.0, 1.0)
        theta_2 = theta_2 + constants.max_step * clip(column(action, 1), -1.0, 1.0)
        _, _, tip_x, tip_y = forward_kinematics(constants, theta_1, theta_2)
        free = 1.0 - held
        object_x = held * tip_x + free * object_x
        object_y = held * tip_y + free * object_y
        near = norm(object_x - tip_x, object_y - tip_y) <= constants.grasp_radius
        closes = as_number(column(action, 2) > 0.0, closed)
        held = closes * (held + (1.0 - closed) * as_number(near, closed))
        free = 1.0 - held
        return stack_columns(
            theta_1,
            theta_2,
            held * tip_x + free * object_x,
            held * tip_y + free * object_y,
            goal_x,
            goal_y,
            closes,
            held,
            *self.constant_columns(constants),
        )

    def joints(self, state: Array) -> tuple[Array, Array, Array, Array]:
        """Return x and y of the elbow, then of the tip, each `[...]` in metres."""
        return forward_kinematics(self.constants(state), state[..., 0], state[..., 1])

    def target(self, state: Array) -> tuple[Array, Array]:
        """Return x and y of the goal, each `[...]` in metres."""
        return state[..., 4], state[..., 5]

    def object_position(self, state: Array) -> tuple[Array, Array]:
        """Return x and y of the object, each `[...]` in metres."""
        return state[..., 2], state[..., 3]

    def holding(self, state: Array) -> Array:
        """Return whether the gripper holds the object `[...]`."""
        return state[..., 7] > 0.5

    def observation(self, state: Array) -> Array:
        """Return object and goal, then cos and sin of both angles, object, object - tip, gripper closed, held."""
        xp = namespace(state)
        theta_1, theta_2, object_x, object_y, goal_x, goal_y, closed, held = unstack_columns(state)[:8]
        _, _, tip_x, tip_y = forward_kinematics(self.constants(state), theta_1, theta_2)
        return stack_columns(
            *(object_x, object_y, goal_x, goal_y),
            *(xp.cos(theta_1), xp.sin(theta_1), xp.cos(theta_2), xp.sin(theta_2)),
            *(object_x, object_y, object_x - tip_x, object_y - tip_y),
            *(closed, held),
        )

    def state(self, observation: Array) -> Array:
        """Return both angles in [-pi, pi], object, goal, and whether the gripper is closed and holds the object."""
        self.check_observed()
        xp = namespace(observation)
        arctan2 = xp.arctan2 if xp is np else xp.atan2
        return stack_columns(
            arctan2(observation[..., 5], observation[..., 4]),
            arctan2(observation[..., 7], observation[..., 6]),
            *(observation[..., i] for i in (0, 1, 2, 3, 12, 13)),
        )

    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return `compute_reward` of the object and the goal after the step."""
        return self.compute_reward(next_observation[..., :2], next_observation[..., 2:4])

    def compute_reward(self, achieved_goal: Array, desired_goal: Array) -> Array:
        """Return 0 where the object `[..., 2]` is within `tolerance` of the goal `[..., 2]`, else -1."""
        offset = achieved_goal - desired_goal
        distance = norm(column(offset, 0), column(offset, 1))
        return as_number(distance <= self.params.tolerance, distance) - 1.0

    def info(self, state: Array, action: Array, next_state: Array) -> dict[str, Array]:
        """Return whether the object is at the goal."""
        return {"is_success": self.compute_reward(next_state[..., 2:4], next_state[..., 4:6]) == 0.0}

    def best_return(self, state: Array, steps: int) -> Array:
        """Return minus the steps before the one in which the object can first be at the goal, where it stays."""
        return self._returns([self._first_success(row, steps)[0] for row in state], steps)

    def best_return_bound(self, state: Array, steps: int) -> Array:
        """Return the same of the lower bound of these steps, from which they hardly ever differ."""
        return self._returns([self._first_success(row, steps)[1] for row in state], steps)

    def _returns(self, first: list[int], steps: int) -> Array:
        return -np.clip(np.array(first, np.float64) - 1.0, 0.0, steps)

    def _first_success(self, state: Array, steps: int) -> tuple[int, int]:
        """Return the fewest steps known to bring the object to the goal, and a lower bound; at most `steps + 1`."""
        params = self.params
        links, place = Links(params.link_1, params.link_2), (state[4:6], params.tolerance)
        closed, held = state[6:8] > 0.5
        if self.compute_reward(state[2:4], state[4:6]) == 0.0:
            return 0, 0
        if held:
            fewest = int(steps_to_disc(links, state[:2], *place, params.max_step, steps))
            return fewest, fewest
        wait = 2 if closed else 1  # a closed gripper has to open first
        pick = (state[2:4], params.grasp_radius)
        return placing_steps(links, state[:2], pick, place, params.max_step, steps, wait)


class _GoalFace:
    """What goal-conditioned environments add, for hindsight relabelling."""

    task: Task

    def compute_reward(self, achieved_goal: Array, desired_goal: Array, info: Any = None) -> Array:
        """Return the rewards `[...]` of having the object at `achieved_goal` `[..., 2]` [m]; `info` is not used."""
        return self.task.compute_reward(achieved_goal, desired_goal)  # type: ignore[attr-defined]


class ArmPickPlaceEnv(_GoalFace, TaskEnv):
    """A two-link arm with a gripper carries an object to a goal.

    ## Description
    A goal-conditioned task in the manner of the Fetch environments (Plappert et al., 2018, "Multi-Goal Reinforcement
    Learning: Challenging Robotics Environments and Request for Research"), with the kinematic arm of `mbrl/Arm-v0`.
    In a step the joints turn first, and a held object goes along; then the gripper opens or closes. A gripper that
    closes (it was open) with the tip within `grasp_radius` of the object centres it on the tip and holds it until it
    opens; then the object lies where it is. A gripper that is closed already grasps nothing, so that sweeping over
    the object with a closed gripper does not pick it up.

    ## Action Space
    `Box(-1, 1, (3,), float32)`: the turn of each joint, in units of `max_step` (0.1 rad), and the gripper: above 0
    closed, else open. Actions beyond the bounds are clipped.

    ## Observation Space
    A `Dict`; `gymnasium.wrappers.FlattenObservation` joins its parts in this order.

    | part | column | meaning | range |
    |---|---|---|---|
    | achieved_goal | 0, 1 | object x, y [m] | -1.8 to 1.8 |
    | desired_goal | 0, 1 | goal x, y [m] | -1.8 to 1.8 |
    | observation | 0, 1 | cos, sin of theta_1 | -1 to 1 |
    | | 2, 3 | cos, sin of theta_2 | -1 to 1 |
    | | 4, 5 | object x, y [m] | -1.8 to 1.8 |
    | | 6, 7 | object - tip x, y [m] | -3.6 to 3.6 |
    | | 8 | gripper closed | 0 or 1 |
    | | 9 | object held | 0 or 1 |

    ## Reward
    0 if the object is within `tolerance` (0.05 m) of the goal after the step, else -1:
    `compute_reward(achieved_goal, desired_goal, info)`. `info["is_success"]` says which.

    ## Starting State
    Any pose (both angles uniform), gripper open; object and goal uniform over the ring that the tip can reach;
    `reset(options={"state": [theta_1, theta_2, object_x, object_y, goal_x, goal_y, closed, held]})` sets it.

    ## Episode End
    Truncated after 50 steps; never terminated.

    ## Arguments
    `link_1=1.0`, `link_2=0.8`, `max_step=0.1`, `grasp_radius=0.1`, `tolerance=0.05`, `dtype="float32"`; `randomize`
    takes all constants but `tolerance`.

    ## Optimum
    Exact, about -31 on average over the starts: the least number of steps to grasp the object and to bring it to
    the goal, by branch and bound. For 1 start in 100 the steps do not suffice.

    ## Version History
    v0: initial version.
    """

    task_class = ArmPickPlace


class ArmPickPlaceVectorEnv(_GoalFace, TaskVectorEnv):
    """Many copies of `ArmPickPlaceEnv` in one array."""

    task_class = ArmPickPlace
