"""`mbrl/Drone-v0`: a point mass in space that flies to a target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

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

__all__ = ["Drone", "DroneEnv", "DroneParams", "DroneVectorEnv"]


@dataclass(frozen=True, kw_only=True)
class DroneParams(Params):
    """Constants of the drone."""

    max_acceleration: float = 1.0  # acceleration of action 1, along each axis [m/s2]
    dt: float = 0.1  # time step [s]
    target_range: float = 5.0  # targets are uniform in [-target_range, target_range] along each axis [m]

    positive: ClassVar[tuple[str, ...]] = ("max_acceleration", "dt", "target_range")


class Drone(Task):
    """v' = v + max_acceleration * a * dt, p' = p + v' * dt; reward minus the distance to the target [m].

    Velocity and position stop at `max_speed` and `max_distance`, which no episode of the registered length can
    reach from rest: they keep the observation bounded in longer ones.
    """

    params_class = DroneParams
    state_columns = tuple(f"{name} {axis}" for name in ("p [m]", "v [m/s]", "target [m]") for axis in "xyz")
    scene = "drone"
    render_fps = 10
    nominal_steps = 100
    optimum = Optimum(
        "exact", "second-order cone program, solved to about 1e-5, while no bound on speed or position binds"
    )
    initial_noise = NoiseSizes(uniform=3)
    transition_noise = NoiseSizes()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Full thrust all along reaches 1 and about 0.5 times these; the margin takes up rounding.
        longest = self.highest("dt") * self.nominal_steps
        self.max_speed = 1.001 * self.highest("max_acceleration") * longest
        self.max_distance = self.max_speed * longest
        rounding = 1 + 1e-6
        bounds = [self.max_distance + self.highest("target_range"), self.max_speed, self.max_distance]
        high = np.repeat(np.array(bounds) * rounding, 3).astype(self.dtype)
        self.observation_space = spaces.Box(-high, high, dtype=self.dtype.type)
        self.action_space = spaces.Box(-1.0, 1.0, (3,), np.float32)

    def initial(self, noise: Noise) -> Array:
        """Return rest at the origin, and targets uniform in a cube."""
        constants = self.draw_constants(noise)
        target = [(2.0 * noise.uniform[..., axis] - 1.0) * constants.target_range for axis in range(3)]
        zero = namespace(target[0]).zeros_like(target[0])
        return stack_columns(*[zero] * 6, *target, *self.constant_columns(constants))

    def allows(self, state: Array) -> bool:
        """Return whether all targets are within `target_range`."""
        return bool(np.all(np.abs(state[..., 6:9]) <= self.highest("target_range"))) and super().allows(state)

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Advance by one semi-implicit Euler step."""
        constants, columns = self.constants(state), unstack_columns(state)
        dt = constants.dt
        gain = constants.max_acceleration * dt
        positions, velocities = [], []
        for axis in range(3):
            thrust = clip(column(action, axis), -1.0, 1.0)
            velocity = clip(columns[3 + axis] + gain * thrust, -self.max_speed, self.max_speed)
            position = clip(columns[axis] + dt * velocity, -self.max_distance, self.max_distance)
            velocities.append(velocity)
            positions.append(position)
        return stack_columns(*positions, *velocities, *columns[6:])

    def observation(self, state: Array) -> Array:
        """Return target - p, v and p."""
        p_x, p_y, p_z, v_x, v_y, v_z, x, y, z = unstack_columns(state)[:9]
        return stack_columns(x - p_x, y - p_y, z - p_z, v_x, v_y, v_z, p_x, p_y, p_z)

    def state(self, observation: Array) -> Array:
        """Return p, v and the target."""
        self.check_observed()
        offset, v, p = ([observation[..., 3 * k + axis] for axis in range(3)] for k in range(3))
        return stack_columns(*p, *v, *(offset[axis] + p[axis] for axis in range(3)))

    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return minus the distance to the target after the step [m]."""
        return -norm(*(column(next_observation, axis) for axis in range(3)))

    def best_return(self, state: Array, steps: int) -> Array:
        """Return the best return; the bounds on speed and position are taken not to bind."""
        from mbrl_gym.envs.drone_optimum import shortest_distances

        gain = self.params.max_acceleration * self.params.dt  # [m/s], the unit of v; that of p is gain * dt
        unit = gain * self.params.dt
        sums = [shortest_distances((row[:3] - row[6:9]) / unit, row[3:6] / gain, steps)[0] for row in state]
        return -unit * np.array(sums, np.float64)


class DroneEnv(TaskEnv):
    """A point mass in space flies to a target and stays there.

    ## Description
    A drone reduced to its centre of mass, without gravity: the action is an acceleration, integrated by one
    semi-implicit Euler step, `v' = v + max_acceleration * a * dt`, `p' = p + v' * dt`. To be fast one has to
    accelerate towards the target and brake in time.

    ## Action Space
    `Box(-1, 1, (3,), float32)`: the acceleration along x, y, z in units of `max_acceleration` (1 m/s2). Actions
    beyond the bounds are clipped.

    ## Observation Space
    | column | meaning | range |
    |---|---|---|
    | 0 to 2 | target - p [m] | -105.1 to 105.1 |
    | 3 to 5 | v [m/s] | -10.01 to 10.01 |
    | 6 to 8 | p [m] | -100.1 to 100.1 |

    ## Reward
    Minus the distance to the target after the step [m].

    ## Starting State
    At rest in the origin, target uniform in [-5, 5]^3; `reset(options={"state": [p, v, target]})` (nine numbers)
    sets it.

    ## Episode End
    Truncated after 100 steps (10 s); never terminated. Velocity and position stop at the bounds above, which an
    episode of 100 steps cannot reach.

    ## Arguments
    `max_acceleration=1.0`, `dt=0.1`, `target_range=5.0`, `dtype="float32"`;
    `randomize={"max_acceleration": (0.5, 2.0)}` draws constants anew at every start.

    ## Optimum
    A second-order cone program, solved to about 1e-5 by CVXPY with Clarabel (`pip install "mbrl-gym[optimum]"`), while
    no bound on speed or position binds: from every regular start.

    ## Version History
    v0: initial version.
    """

    task_class = Drone


class DroneVectorEnv(TaskVectorEnv):
    """Many copies of `DroneEnv` in one array."""

    task_class = Drone
