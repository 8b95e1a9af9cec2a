"""`mbrl/ArmTorque-v0`: a two-link arm with inertia, under gravity, whose motors reach for a target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.arm import forward_kinematics, point_on_ring
from mbrl_gym.envs.arm_torque_control import reaching_actions
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.task import (
    Array,
    Noise,
    NoiseSizes,
    Optimum,
    Params,
    clip,
    column,
    namespace,
    norm,
    stack_columns,
    unstack_columns,
)
from mbrl_gym.envs.trajectory_search import BestFound, Search

__all__ = ["ArmTorque", "ArmTorqueEnv", "ArmTorqueParams", "ArmTorqueVectorEnv"]


@dataclass(frozen=True, kw_only=True)
class ArmTorqueParams(Params):
    """Constants of the arm."""

    link_1: float = 1.0  # length of the first link [m]
    link_2: float = 0.8  # length of the second link [m]
    mass_1: float = 1.0  # mass of the first link, a uniform rod [kg]
    mass_2: float = 0.8  # mass of the second link, a uniform rod [kg]
    payload: float = 0.0  # point mass at the tip [kg]
    gravity: float = 9.81  # along -y [m/s2]
    damping: float = 0.5  # of each joint [N m s/rad]
    max_torque_1: float = 40.0  # torque of action 1 at the shoulder [N m]
    max_torque_2: float = 15.0  # torque of action 1 at the elbow [N m]
    max_speed: float = 25.0  # the joints turn no faster [rad/s]
    dt: float = 0.05  # time step [s]
    effort_cost: float = 0.01  # reward lost to full torque of one motor

    positive: ClassVar[tuple[str, ...]] = (
        *("link_1", "link_2", "mass_1", "mass_2"),
        *("max_torque_1", "max_torque_2", "max_speed", "dt"),
    )
    non_negative: ClassVar[tuple[str, ...]] = ("payload", "gravity", "damping", "effort_cost")
    fixed: ClassVar[tuple[str, ...]] = ("max_speed", "effort_cost")


class LinkDynamics(NamedTuple):
    """What the constants amount to in the equations of motion: numbers, or columns `[...]`."""

    first: Array  # inertia about the shoulder of link 1, with all that hangs on the elbow as a point mass [kg m2]
    second: Array  # inertia about the elbow of link 2 and the payload [kg m2]
    coupling: Array  # between the links, when they are parallel [kg m2]
    weight_1: Array  # torque of gravity on link 1, when it is horizontal [N m]
    weight_2: Array  # the same of link 2 [N m]
    damping: Array  # [N m s/rad]

    @classmethod
    def of(cls, constants: Any) -> LinkDynamics:
        """Return the coefficients for rods with inertia m l^2 / 12 about their centres, and a payload."""
        rod_1, rod_2, payload = constants.mass_1, constants.mass_2, constants.payload
        moment_1 = (0.5 * rod_1 + rod_2 + payload) * constants.link_1
        moment_2 = (0.5 * rod_2 + payload) * constants.link_2
        return cls(
            first=(rod_1 / 3.0 + rod_2 + payload) * (constants.link_1 * constants.link_1),
            second=(rod_2 / 3.0 + payload) * (constants.link_2 * constants.link_2),
            coupling=constants.link_1 * moment_2,
            weight_1=constants.gravity * moment_1,
            weight_2=constants.gravity * moment_2,
            damping=constants.damping,
        )

    def accelerations(
        self, phi_1: Array, phi_2: Array, w_1: Array, w_2: Array, torque_1: Array, torque_2: Array
    ) -> tuple[Array, Array]:
        """Return the links' angular accelerations [rad/s2] from their angles with the x axis, speeds, and torques.

        In these angles (phi_2 = theta_1 + theta_2) the manipulator equations of Spong, Hutchinson and Vidyasagar,
        "Robot Modeling and Control", section 7.4, are at their shortest; the shoulder's torque acts on link 1, the
        elbow's on link 2, and its reaction on link 1.
        """
        xp = namespace(phi_1)
        bend = phi_2 - phi_1
        mass = self.coupling * xp.cos(bend)
        turn = self.coupling * xp.sin(bend)
        elbow = torque_2 - self.damping * (w_2 - w_1)
        load_1 = torque_1 - self.damping * w_1 - elbow + turn * (w_2 * w_2) - self.weight_1 * xp.cos(phi_1)
        load_2 = elbow - turn * (w_1 * w_1) - self.weight_2 * xp.cos(phi_2)
        determinant = self.first * self.second - mass * mass  # positive for all rods and payloads
        return (
            (self.second * load_1 - mass * load_2) / determinant,
            (self.first * load_2 - mass * load_1) / determinant,
        )


class ArmTorque(BestFound):
    """Rigid-body dynamics of the arm; reward minus the distance from tip to target [m] and minus the effort."""

    params_class = ArmTorqueParams
    state_columns = (
        *("theta_1 [rad]", "theta_2 [rad]", "omega_1 [rad/s]", "omega_2 [rad/s]"),
        *("target x [m]", "target y [m]"),
    )
    scene = "arm"
    nominal_steps = 100
    optimum = Optimum(
        "best known", "differential dynamic programming from 24 runs of computed torque control", quick=False
    )
    angle_columns = (0, 1)
    search = Search(random_starts=0)
    initial_noise = NoiseSizes(uniform=4)
    transition_noise = NoiseSizes()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        reach = (self.highest("link_1") + self.highest("link_2")) * (1 + 1e-6)  # rounding included
        bounds = [1.0] * 4 + [self.params.max_speed] * 2 + [reach] * 2 + [2 * reach] * 2
        high = np.array(bounds, self.dtype)
        self.observation_space = spaces.Box(-high, high, dtype=self.dtype.type)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._links = None if self.randomize else LinkDynamics.of(self.params)

    def links(self, constants: Any) -> LinkDynamics:
        """Return the coefficients of the equations of motion."""
        return LinkDynamics.of(constants) if self._links is None else self._links

    def initial(self, noise: Noise) -> Array:
        """Return any pose at rest, and targets uniform over the reachable ring."""
        uniform = noise.uniform
        constants = self.draw_constants(noise)
        zero = 0.0 * uniform[..., 0]
        return stack_columns(
            math.pi * (2.0 * uniform[..., 0] - 1.0),
            math.pi * (2.0 * uniform[..., 1] - 1.0),
            zero,
            zero,
            *point_on_ring(constants, uniform[..., 2], uniform[..., 3]),
            *self.constant_columns(constants),
        )

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Advance by one step of the classical Runge-Kutta method, the torques held."""
        constants = self.constants(state)
        torques = (
            constants.max_torque_1 * clip(column(action, 0), -1.0, 1.0),
            constants.max_torque_2 * clip(column(action, 1), -1.0, 1.0),
        )
        theta_1, theta_2, omega_1, omega_2, *rest = unstack_columns(state)
        phi_1, phi_2, w_1, w_2 = runge_kutta(
            self.links(constants), theta_1, theta_1 + theta_2, omega_1, omega_1 + omega_2, torques, constants.dt
        )
        limit = self.params.max_speed
        return stack_columns(
            wrap(phi_1),
            wrap(phi_2 - phi_1),
            clip(w_1, -limit, limit),
            clip(w_2 - w_1, -limit, limit),
            *rest,
        )

    def joints(self, state: Array) -> tuple[Array, Array, Array, Array]:
        """Return x and y of the elbow, then of the tip, each `[...]` in metres."""
        return forward_kinematics(self.constants(state), state[..., 0], state[..., 1])

    def target(self, state: Array) -> tuple[Array, Array]:
        """Return x and y of the target, each `[...]` in metres."""
        return state[..., 4], state[..., 5]

    def observation(self, state: Array) -> Array:
        """Return cos and sin of both angles, both speeds, the target, and the vector from target to tip."""
        xp, constants = namespace(state), self.constants(state)
        theta_1, theta_2, omega_1, omega_2, target_x, target_y = unstack_columns(state)[:6]
        cos_1, sin_1, cos_2, sin_2 = xp.cos(theta_1), xp.sin(theta_1), xp.cos(theta_2), xp.sin(theta_2)
        offset_x = constants.link_1 * cos_1 + constants.link_2 * (cos_1 * cos_2 - sin_1 * sin_2) - target_x
        offset_y = constants.link_1 * sin_1 + constants.link_2 * (sin_1 * cos_2 + cos_1 * sin_2) - target_y
        return stack_columns(cos_1, sin_1, cos_2, sin_2, omega_1, omega_2, target_x, target_y, offset_x, offset_y)

    def state(self, observation: Array) -> Array:
        """Return both angles in [-pi, pi], the speeds and the target."""
        self.check_observed()
        xp = namespace(observation)
        arctan2 = xp.arctan2 if xp is np else xp.atan2
        return stack_columns(
            arctan2(observation[..., 1], observation[..., 0]),
            arctan2(observation[..., 3], observation[..., 2]),
            *(observation[..., i] for i in range(4, 8)),
        )

    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return minus the distance after the step [m], minus the cost of the (clipped) action's squared length."""
        drive_1, drive_2 = (clip(column(action, i), -1.0, 1.0) for i in range(2))
        effort = drive_1 * drive_1 + drive_2 * drive_2
        return -norm(column(next_observation, 8), column(next_observation, 9)) - self.params.effort_cost * effort

    def guesses(self, state: Array, steps: int) -> Array:
        """Return action sequences that reach for the target in eight ways at three speeds."""
        return np.concatenate([reaching_actions(self, state, steps, frequency) for frequency in (7.0, 12.0, 20.0)])

    def energy(self, state: Array) -> Array:
        """Return the kinetic and potential energy `[...]` [J]; the latter is 0 in the stretched horizontal pose."""
        xp, links = namespace(state), self.links(self.constants(state))
        phi_1, phi_2 = state[..., 0], state[..., 0] + state[..., 1]
        w_1, w_2 = state[..., 2], state[..., 2] + state[..., 3]
        kinetic = 0.5 * (links.first * (w_1 * w_1) + links.second * (w_2 * w_2))
        kinetic = kinetic + links.coupling * xp.cos(state[..., 1]) * (w_1 * w_2)
        return kinetic + links.weight_1 * xp.sin(phi_1) + links.weight_2 * xp.sin(phi_2)

    def holding_torque(self, state: Array) -> tuple[Array, Array]:
        """Return the torques of shoulder and elbow, each `[...]` [N m], that hold the arm against gravity."""
        xp, links = namespace(state), self.links(self.constants(state))
        elbow = links.weight_2 * xp.cos(state[..., 0] + state[..., 1])
        return links.weight_1 * xp.cos(state[..., 0]) + elbow, elbow


def runge_kutta(
    links: LinkDynamics, phi_1: Array, phi_2: Array, w_1: Array, w_2: Array, torques: tuple[Array, Array], dt: Array
) -> tuple[Array, Array, Array, Array]:
    """Return angles and speeds of the links after one step of the classical fourth-order Runge-Kutta method.

    For an equation of second order its four stages need no slopes of the angles but the speeds themselves
    (Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", section II.14).
    """
    half, square = 0.5 * dt, dt * dt
    a_1, a_2 = links.accelerations(phi_1, phi_2, w_1, w_2, *torques)
    middle_1, middle_2 = phi_1 + half * w_1, phi_2 + half * w_2
    b_1, b_2 = links.accelerations(middle_1, middle_2, w_1 + half * a_1, w_2 + half * a_2, *torques)
    quarter = 0.25 * square
    c_1, c_2 = links.accelerations(
        middle_1 + quarter * a_1, middle_2 + quarter * a_2, w_1 + half * b_1, w_2 + half * b_2, *torques
    )
    end_1, end_2 = phi_1 + dt * w_1, phi_2 + dt * w_2
    d_1, d_2 = links.accelerations(
        end_1 + (0.5 * square) * b_1, end_2 + (0.5 * square) * b_2, w_1 + dt * c_1, w_2 + dt * c_2, *torques
    )
    b_1, b_2 = b_1 + c_1, b_2 + c_2
    sixth = dt / 6.0
    return (
        end_1 + (square / 6.0) * (a_1 + b_1),
        end_2 + (square / 6.0) * (a_2 + b_2),
        w_1 + sixth * (a_1 + d_1 + 2.0 * b_1),
        w_2 + sixth * (a_2 + d_2 + 2.0 * b_2),
    )


def wrap(angle: Array) -> Array:
    """Return the angle in [-pi, pi): without it, float32 would lose the digits of an arm that goes on turning."""
    return angle - math.tau * namespace(angle).floor(angle * (1 / math.tau) + 0.5)


class ArmTorqueEnv(TaskEnv):
    """A two-link arm with inertia holds its tip at a target against gravity.

    ## Description
    The arm of `mbrl/Arm-v0` in a vertical plane, as a machine: uniform rods of 1.0 kg and 0.8 kg, a payload at the
    tip, damped joints and motors of limited torque,

    `M(theta) theta'' + C(theta, theta') theta' + g(theta) + damping * theta' = tau`

    (Spong, Hutchinson and Vidyasagar, "Robot Modeling and Control", section 7.4). theta_1 is measured from the x axis,
    theta_2 from the direction of the first link; gravity points along -y. One step is one step of the classical
    Runge-Kutta method of `dt` = 0.05 s with the torques held. The motors can hold the arm stretched out horizontally
    with a payload of up to 1 kg, which takes 33.6 N m and 11.0 N m. After each step the joint speeds are clipped to
    `max_speed`, which reaching for a target does not need and random torques meet in 0.3% of the steps.

    The step is part of the task. Up to 5 rad/s its speeds differ from the continuous motion's by less than 0.02 rad/s
    in 99 of 100 cases, up to 10 rad/s by less than 0.4 rad/s; near `max_speed` it is coarse.

    ## Action Space
    `Box(-1, 1, (2,), float32)`: the torques of shoulder and elbow, in units of `max_torque_1` (40 N m) and
    `max_torque_2` (15 N m). Actions beyond the bounds are clipped.

    ## Observation Space
    | column | meaning | range |
    |---|---|---|
    | 0, 1 | cos, sin of theta_1 | -1 to 1 |
    | 2, 3 | cos, sin of theta_2 | -1 to 1 |
    | 4, 5 | theta_1', theta_2' [rad/s] | -25 to 25 |
    | 6, 7 | target x, y [m] | -1.8 to 1.8 |
    | 8, 9 | tip - target x, y [m] | -3.6 to 3.6 |

    ## Reward
    Minus the distance from tip to target after the step [m], minus `effort_cost` times the sum of the squares of the
    (clipped) actions.

    ## Starting State
    At rest in any pose (both angles uniform), any reachable target (uniform over the ring that the tip can reach);
    `reset(options={"state": [theta_1, theta_2, omega_1, omega_2, target_x, target_y]})` sets it.

    ## Episode End
    Truncated after 100 steps (5 s); never terminated.

    ## Arguments
    `link_1=1.0`, `link_2=0.8`, `mass_1=1.0`, `mass_2=0.8`, `payload=0.0`, `gravity=9.81`, `damping=0.5`,
    `max_torque_1=40.0`, `max_torque_2=15.0`, `max_speed=25.0`, `dt=0.05`, `effort_cost=0.01`, `dtype="float32"`.
    `randomize={"payload": (0.0, 1.0)}` draws a constant anew at every start, hidden from the agent; all but
    `max_speed` and `effort_cost` can be. The time step has to suit the constants: with much lighter links the joints'
    damping and speeds need a shorter one.

    ## Optimum
    Best known: differential dynamic programming on the equations, from 24 runs of computed torque control (either
    elbow, each joint either way round, three speeds). Other local optima may be better.

    ## Version History
    v0: initial version.
    """

    task_class = ArmTorque


class ArmTorqueVectorEnv(TaskVectorEnv):
    """Many copies of `ArmTorqueEnv` in one array."""

    task_class = ArmTorque
