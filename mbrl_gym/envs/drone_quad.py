"""`mbrl/DroneQuad-v0`: a quadrotor with six degrees of freedom and four rotors that flies to a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.drone_optimum import least_distances_of_rotorcraft
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.quadrotor import thrusts_of_step, travel, turn
from mbrl_gym.envs.quaternions import quaternion_of, rotation_matrix
from mbrl_gym.envs.task import (
    Array,
    Noise,
    NoiseSizes,
    Optimum,
    Params,
    clip,
    namespace,
    norm,
    stack_columns,
    unstack_columns,
)
from mbrl_gym.envs.trajectory_search import BestFound, Search

__all__ = ["DroneQuad", "DroneQuadEnv", "DroneQuadParams", "DroneQuadVectorEnv"]


@dataclass(frozen=True, kw_only=True)
class DroneQuadParams(Params):
    """Constants of the quadrotor, of the size of those of an AscTec Hummingbird."""

    mass: float = 0.5  # [kg]
    gravity: float = 9.81  # [m/s2]
    max_thrust: float = 0.5 * 9.81 / 2  # thrust of a rotor at action 1 [N]: all four lift twice the weight
    motor_lag: float = 0.05  # time constant of the rotors [s]
    torque_ratio: float = 0.025  # reaction torque about a rotor's axis per thrust [m]
    arm_length: float = 0.17  # distance of the rotors from the centre of mass [m]
    inertia_x: float = 2.3e-3  # principal moments of inertia [kg m2]
    inertia_y: float = 2.3e-3
    inertia_z: float = 4.0e-3
    drag: float = 0.2  # linear air drag [N s/m]
    dt: float = 0.02  # time step [s]
    target_range: float = 2.0  # targets are uniform in [-target_range, target_range] along each axis [m]
    effort_cost: float = 0.01  # cost of |a|^2
    spin_cost: float = 0.001  # cost of |body rates|^2 [s2/rad2]
    max_speed: float = 15.0  # bound of the velocity along each axis [m/s]
    max_rate: float = 20.0  # bound of the body rate about each axis [rad/s]
    max_distance: float = 10.0  # bound of the position along each axis [m]

    positive: ClassVar[tuple[str, ...]] = (
        *("mass", "max_thrust", "motor_lag", "arm_length", "inertia_x", "inertia_y", "inertia_z", "dt"),
        *("target_range", "max_speed", "max_rate", "max_distance"),
    )
    non_negative: ClassVar[tuple[str, ...]] = ("gravity", "torque_ratio", "drag", "effort_cost", "spin_cost")
    fixed: ClassVar[tuple[str, ...]] = ("effort_cost", "spin_cost", "max_speed", "max_rate", "max_distance")


class DroneQuad(BestFound):
    """Rigid body under gravity, linear drag and four rotors in X configuration; reward minus distance and effort.

    Equations (Mahony, Kumar and Corke 2012, "Multirotor aerial vehicles: modeling, estimation, and control of
    quadrotor", IEEE Robotics and Automation Magazine 19(3)), with the world's and the body's z axes up and R the
    rotation from body to world:

        p' = v,    m v' = R e_z sum(f) - m g e_z - drag v,
        R' = R [w]x,    J w' = torque(f) - w x J w,    motor_lag f' = max_thrust (1 + a) / 2 - f.

    State: columns 0 to 2 position p [m], 3 to 5 velocity v [m/s], both in the world; 6 to 9 unit quaternion of R
    (w, x, y, z); 10 to 12 body rates w [rad/s]; 13 to 16 thrusts f of the rotors front left, rear left, rear right,
    front right [N]; 17 to 19 target [m]. The body's x axis points forward, y to the left.

    Velocity, body rates and position stop at `max_speed`, `max_rate` and `max_distance` along each axis.
    """

    params_class = DroneQuadParams
    state_columns = (
        *("p x [m]", "p y [m]", "p z [m]", "v x [m/s]", "v y [m/s]", "v z [m/s]"),
        *("quaternion w", "quaternion x", "quaternion y", "quaternion z"),
        *("rate x [rad/s]", "rate y [rad/s]", "rate z [rad/s]"),
        *("thrust front left [N]", "thrust rear left [N]", "thrust rear right [N]", "thrust front right [N]"),
        *("target x [m]", "target y [m]", "target z [m]"),
    )
    scene = "drone_quad"
    render_fps = 50
    nominal_steps = 250
    optimum = Optimum("best known", "differential dynamic programming from hovering and a random start", quick=False)
    search = Search(random_starts=1)
    initial_noise = NoiseSizes(uniform=3)
    transition_noise = NoiseSizes()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        params = self.params
        offset = params.max_distance + self.highest("target_range")
        rounding = 1 + 1e-6
        lengths = [*[offset] * 3, *[params.max_speed] * 3, *[1 + 1e-4] * 9, *[params.max_rate] * 3]
        high = np.array([*lengths, *[self.highest("max_thrust")] * 4, *[params.max_distance] * 3]) * rounding
        low = -high
        low[18:22] = 0.0
        self.observation_space = spaces.Box(low.astype(self.dtype), high.astype(self.dtype), dtype=self.dtype.type)
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)

    def initial(self, noise: Noise) -> Array:
        """Return level rest at the origin, rotors that carry the weight, and targets uniform in a cube."""
        constants = self.draw_constants(noise)
        target = [(2.0 * noise.uniform[..., axis] - 1.0) * constants.target_range for axis in range(3)]
        xp = namespace(target[0])
        zero, one = xp.zeros_like(target[0]), xp.ones_like(target[0])
        hover = xp.clip(one * (0.25 * constants.mass * constants.gravity / constants.max_thrust), None, 1.0)
        thrust = hover * constants.max_thrust
        columns = [*[zero] * 6, one, *[zero] * 6, *[thrust] * 4, *target, *self.constant_columns(constants)]
        return stack_columns(*columns)

    def allows(self, state: Array) -> bool:
        """Return whether quaternions are unit, and targets within `target_range`."""
        square = np.sum(np.square(state[..., 6:10]), -1, dtype=np.float64)
        targets = np.abs(state[..., 17:20])
        fine = np.all(np.abs(square - 1) < 1e-5) and np.all(targets <= self.highest("target_range"))
        return bool(fine) and super().allows(state)

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Advance by one Runge-Kutta step of order 4, under thrusts that follow the command exactly."""
        constants = self.constants(state)
        columns = unstack_columns(state)
        thrusts = thrusts_of_step(tuple(columns[13:17]), action, constants)
        # Thrust turns with the attitude, which moves on its own: it goes first.
        stages, q, rates = turn(tuple(columns[6:10]), tuple(columns[10:13]), thrusts, constants)
        p, v = travel(tuple(columns[:3]), tuple(columns[3:6]), stages, thrusts, constants)
        farthest, fastest, fastest_turn = self.params.max_distance, self.params.max_speed, self.params.max_rate
        return stack_columns(
            *(clip(each, -farthest, farthest) for each in p),
            *(clip(each, -fastest, fastest) for each in v),
            *q,
            *(clip(each, -fastest_turn, fastest_turn) for each in rates),
            *thrusts[2],
            *columns[17:],
        )

    def observation(self, state: Array) -> Array:
        """Return target - p, v, the rotation matrix, body rates, thrusts and p."""
        columns = unstack_columns(state)
        p, target = columns[:3], columns[17:20]
        offset = (goal - here for goal, here in zip(target, p, strict=True))
        return stack_columns(*offset, *columns[3:6], *rotation_matrix(tuple(columns[6:10])), *columns[10:17], *p)

    def state(self, observation: Array) -> Array:
        """Return the state, where the quaternion has either sign: both are the same rotation."""
        self.check_observed()
        columns = unstack_columns(observation)
        offset, p = columns[:3], columns[22:]
        target = (away + here for away, here in zip(offset, p, strict=True))
        return stack_columns(*p, *columns[3:6], *quaternion_of(tuple(columns[6:15])), *columns[15:22], *target)

    def best_return_bound(self, state: Array, steps: int) -> Array:
        """Return the optimum of a craft whose thrust points anywhere at once, without costs of effort and spin.

        Thrusts get 1% more than they have: between the stages of a step the integrator's quaternions are not quite
        unit. The limits of speed and position are taken not to bind.
        """
        params = self.params
        settings = {
            "dt": params.dt,
            "drag": params.drag / params.mass,
            "gravity": params.gravity,
            "thrust": 1.01 * 4 * params.max_thrust / params.mass,
        }
        rows = ((row[:3] - row[17:20], row[3:6]) for row in state)
        return np.array([-least_distances_of_rotorcraft(*row, steps, **settings) for row in rows])

    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return minus the distance to the target after the step, minus the costs of effort and spin."""
        command = namespace(action).clip(action, -1.0, 1.0)
        distance = norm(*(next_observation[..., i] for i in range(3)))
        effort = _square(*unstack_columns(command))
        spin = _square(*(next_observation[..., i] for i in range(15, 18)))
        return -distance - self.params.effort_cost * effort - self.params.spin_cost * spin


def _square(*columns: Array) -> Array:
    """Return the sum of squares."""
    total = columns[0] * columns[0]
    for column in columns[1:]:
        total = total + column * column
    return total


class DroneQuadEnv(TaskEnv):
    """A quadrotor flies to a target and stays there.

    ## Description
    A rigid body with six degrees of freedom under gravity, linear air drag and the thrust of four rotors, which
    follow their commands with a lag (Mahony, Kumar and Corke 2012). It can push along its own z axis alone: to
    move sideways it has to tilt, and to tilt it has to spin up two rotors and slow down the others in time. Without
    control it tumbles.

    The equations are integrated by one Runge-Kutta step of order 4 with the command held; the rotors' lag is exact.

    ## Action Space
    `Box(-1, 1, (4,), float32)`: commands of the rotors front left, rear left, rear right, front right. The commanded
    thrust is `max_thrust * (1 + a) / 2`: none at -1, and `max_thrust` at 1. By default a = 0 hovers and a = 1 lifts
    twice the weight; in general the command `mass * gravity / (2 * max_thrust) - 1` hovers. Actions beyond the
    bounds are clipped.

    ## Observation Space
    | column | meaning | range |
    |---|---|---|
    | 0 to 2 | target - p [m] | -12 to 12 |
    | 3 to 5 | velocity v in the world [m/s] | -15 to 15 |
    | 6 to 14 | rotation matrix from body to world, row by row | -1 to 1 |
    | 15 to 17 | body rates about the body's axes [rad/s] | -20 to 20 |
    | 18 to 21 | thrusts of the rotors, in the order of the action [N] | 0 to 2.4525 |
    | 22 to 24 | position p [m] | -10 to 10 |

    ## Reward
    `-|target - p| - effort_cost * |a|^2 - spin_cost * |body rates|^2` after the step.

    ## Starting State
    At rest in the origin, level, with rotors that carry the weight; target uniform in [-2, 2]^3.
    `reset(options={"state": [p, v, quaternion (w, x, y, z), body rates, thrusts, target]})` (20 numbers) sets it.

    ## Episode End
    Truncated after 250 steps (5 s); never terminated. There is no ground. Velocity, body rates and position stop at
    the bounds above, along each axis: a good flight meets none of them, a random one tumbles and falls 10 m.

    ## Arguments
    `mass=0.5`, `gravity=9.81`, `max_thrust=2.4525`, `motor_lag=0.05`, `torque_ratio=0.025`, `arm_length=0.17`,
    `inertia_x=0.0023`, `inertia_y=0.0023`, `inertia_z=0.004`, `drag=0.2`, `dt=0.02`, `target_range=2.0`,
    `effort_cost=0.01`, `spin_cost=0.001`, `max_speed=15.0`, `max_rate=20.0`, `max_distance=10.0`,
    `dtype="float32"`; `randomize={"mass": (0.4, 0.6)}` draws constants anew at every start (all but the costs and
    the bounds).

    ## Optimum
    Best known, by differential dynamic programming on the equations; searches from several starts agree to about 0.3%.
    The bound is a cone program, for CVXPY (`pip install "mbrl-gym[optimum]"`), which lets the thrust point anywhere at
    once.

    ## Version History
    v0: initial version.
    """

    task_class = DroneQuad


class DroneQuadVectorEnv(TaskVectorEnv):
    """Many copies of `DroneQuadEnv` in one array."""

    task_class = DroneQuad
