"""`mbrl/DroneObstacles-v0`: a point mass flies to a target in gusts of wind, around obstacles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.drone_optimum import shortest_distances
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.spheres import beside_the_line, range_readings, segment_distance
from mbrl_gym.envs.task import (
    Array,
    Noise,
    NoiseSizes,
    Optimum,
    Params,
    as_number,
    clip,
    column,
    namespace,
    norm,
    stack_columns,
    unstack_columns,
)
from mbrl_gym.envs.trajectory_search import BestFound, Search
from mbrl_gym.errors import InvalidSettingError

__all__ = ["DroneObstacles", "DroneObstaclesEnv", "DroneObstaclesParams", "DroneObstaclesVectorEnv"]

FIRST = 13  # state column of the first obstacle
WIND_LIMIT = 5.0  # the wind stops at this many standard deviations


@dataclass(frozen=True, kw_only=True)
class DroneObstaclesParams(Params):
    """Constants of the drone among obstacles."""

    obstacles: int = 5  # number K of spheres
    rays: int = 8  # number R of range readings
    max_acceleration: float = 1.0  # acceleration of action 1, along each axis [m/s2]
    dt: float = 0.1  # time step [s]
    target_range: float = 5.0  # targets are uniform in [-target_range, target_range] along each axis [m]
    drag: float = 0.3  # deceleration per speed relative to the air [1/s]
    wind_std: float = 1.0  # standard deviation of the wind along each axis [m/s]
    wind_time: float = 2.0  # correlation time of the wind [s]
    min_radius: float = 0.5  # radii of the obstacles are uniform in [min_radius, max_radius] [m]
    max_radius: float = 1.2
    corridor: float = 2.0  # obstacles lie up to this far from the line from start to target [m]
    margin: float = 0.3  # clearance of the start and of the target, at least [m]
    drone_radius: float = 0.2  # [m]
    sensor_range: float = 5.0  # longest range reading [m]
    collision_cost: float = 1000.0

    positive: ClassVar[tuple[str, ...]] = (
        *("max_acceleration", "dt", "target_range", "wind_time", "min_radius", "max_radius", "corridor"),
        *("margin", "drone_radius", "sensor_range"),
    )
    non_negative: ClassVar[tuple[str, ...]] = ("drag", "wind_std", "collision_cost")
    fixed: ClassVar[tuple[str, ...]] = ("min_radius", "max_radius", "sensor_range", "collision_cost")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("obstacles", "rays"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InvalidSettingError(f"{name} must be a whole number of at least 1, but {value} was given")
        if self.min_radius > self.max_radius:
            raise InvalidSettingError(
                f"min_radius must be at most max_radius, but {self.min_radius} and {self.max_radius} were given"
            )


class DroneObstacles(BestFound):
    """Drone-v0 with air drag, wind and obstacles; reward minus the distance to the target [m], and collision_cost.

        v' = (v + dt (max_acceleration a + drag wind)) / (1 + drag dt),    p' = p + dt v'

    State: columns 0 to 2 position p [m], 3 to 5 velocity v [m/s], 6 to 8 target [m], 9 to 11 wind [m/s], 12
    clearance of the last step [m]; from 13 on four columns an obstacle: centre x, y, z [m] and radius [m].

    The wind along each axis is an Ornstein-Uhlenbeck process in its exact discretisation (Gillespie 1996, "Exact
    numerical simulation of the Ornstein-Uhlenbeck process and its integral", Physical Review E 54), which is also
    Dryden's model of longitudinal gusts; it stops at 5 standard deviations. It starts in its stationary law.

    The clearance of a step is the smallest distance between the surfaces of the drone and any obstacle on the
    straight way from p to p'; negative after a collision.

    Velocity and position stop at `max_speed` and `max_distance`, which no episode of the registered length can
    reach from rest: they keep the observation bounded in longer ones.
    """

    params_class = DroneObstaclesParams
    scene = "drone_obstacles"
    render_fps = 10
    nominal_steps = 100
    optimum = Optimum(
        "best known",
        "differential dynamic programming from 5 starts, in the wind's expected course (an estimate: no plan is that "
        "good in gusts); the bound is the cone program without obstacles",
        quick=False,
    )
    search = Search(random_starts=4, spread=1.0)
    transition_noise = NoiseSizes(normal=3)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.obstacles, self.rays = self.params.obstacles, self.params.rays
        angles = [math.tau * ray / self.rays for ray in range(self.rays)]
        self.directions = np.array([(math.cos(a), math.sin(a)) for a in angles])  # horizontal unit vectors [R, 2]
        longest = self.highest("dt") * self.nominal_steps
        # Without wind it keeps a width, for those who scale observations by their bounds.
        wind, thrust = max(WIND_LIMIT * self.highest("wind_std"), 1e-3), self.highest("max_acceleration")
        speed = (thrust + self.highest("drag") * wind) * longest
        if self.lowest("drag") > 0:  # where drag balances the thrust
            speed = min(speed, wind + thrust / self.lowest("drag"))
        self.max_wind, self.max_speed = wind, 1.001 * speed
        self.max_distance = self.max_speed * longest
        closest = self.params.max_radius + self.highest("drone_radius") + self.highest("margin")
        self._farthest_centre = (self.highest("target_range") + max(self.highest("corridor"), closest)) * (1 + 1e-6)
        self.observation_space = self._bounds()
        self.action_space = spaces.Box(-1.0, 1.0, (3,), np.float32)

    def _bounds(self) -> spaces.Box:
        """Return the observation space."""
        params, rounding = self.params, 1 + 1e-6
        offset = self.max_distance + self.highest("target_range")
        to_centre = self.max_distance + self._farthest_centre
        deepest = params.max_radius + self.highest("drone_radius")
        point = [*[offset] * 3, *[self.max_speed] * 3, *[self.max_distance] * 3, *[self.max_wind] * 3]
        high = [*point, 2 * to_centre, *[params.sensor_range] * self.rays]
        low = [*(-bound for bound in point), -deepest, *[0.0] * self.rays]
        high += [*[to_centre] * 3, params.max_radius] * self.obstacles
        low += [*[-to_centre] * 3, 0.0] * self.obstacles
        lowest, highest = (np.multiply(bound, rounding).astype(self.dtype) for bound in (low, high))
        return spaces.Box(lowest, highest, dtype=self.dtype.type)

    def own_columns(self) -> tuple[str, ...]:
        """Return the names of the state columns."""
        groups = ("p {} [m]", "v {} [m/s]", "target {} [m]", "wind {} [m/s]")
        point = [group.format(axis) for group in groups for axis in "xyz"]
        parts = ("x", "y", "z", "radius")
        spheres = [f"obstacle {i} {part} [m]" for i in range(self.params.obstacles) for part in parts]
        return (*point, "clearance [m]", *spheres)

    def start_noise(self) -> NoiseSizes:
        """Return the wind's normal numbers, and the target's and the obstacles' uniform ones."""
        return NoiseSizes(normal=3, uniform=3 + 4 * self.params.obstacles)

    def initial(self, noise: Noise) -> Array:
        """Return rest at the origin, targets uniform in a cube, and obstacles around the line between them."""
        constants = self.draw_constants(noise)
        uniform = unstack_columns(noise.uniform)
        xp = namespace(noise.uniform)
        target = [(2.0 * number - 1.0) * constants.target_range for number in uniform[:3]]
        wind = [self._limited(constants.wind_std * number) for number in unstack_columns(noise.normal)]
        zero, spheres, gaps = xp.zeros_like(target[0]), [], []
        for i in range(self.obstacles):
            along, away, angle, size = uniform[3 + 4 * i : 7 + 4 * i]
            radius = self.params.min_radius + (self.params.max_radius - self.params.min_radius) * size
            distance = radius + (constants.drone_radius + constants.margin)
            centre = beside_the_line(tuple(target), distance, (along, away, angle), constants.corridor)
            gaps.append(norm(*centre) - radius)
            spheres += [*centre, radius]
        clearance = xp.min(xp.stack(gaps), axis=0) - constants.drone_radius
        fixed = self.constant_columns(constants)
        return stack_columns(zero, zero, zero, zero, zero, zero, *target, *wind, clearance, *spheres, *fixed)

    def allows(self, state: Array) -> bool:
        """Return whether targets and obstacles are where starts place them."""
        near = np.all(np.abs(state[..., 6:9]) <= self.highest("target_range"))
        centres = [state[..., FIRST + axis : FIRST + 4 * self.obstacles : 4] for axis in range(3)]
        return bool(near and np.all(np.abs(centres) <= self._farthest_centre)) and super().allows(state)

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Advance wind and drone, and measure the clearance on the way."""
        xp, constants = namespace(state), self.constants(state)
        columns = unstack_columns(state)
        p, v, wind = columns[:3], columns[3:6], columns[9:12]
        dt = constants.dt
        gain, pull = constants.max_acceleration * dt, constants.drag * dt
        slowing = 1.0 + pull
        thrust = [clip(column(action, i), -1.0, 1.0) for i in range(3)]
        v = [(v[i] + gain * thrust[i] + pull * wind[i]) / slowing for i in range(3)]
        v = [clip(each, -self.max_speed, self.max_speed) for each in v]
        after = [clip(p[i] + dt * v[i], -self.max_distance, self.max_distance) for i in range(3)]
        segment = after[0] - p[0], after[1] - p[1], after[2] - p[2]
        *centre, radius = self._spheres(state, p)
        gap = segment_distance(tuple(centre), segment) - radius
        clearance = xp.min(gap, axis=0) - constants.drone_radius
        gusts = self._gusts(wind, unstack_columns(noise.normal), constants)
        return stack_columns(*after, *v, *columns[6:9], *gusts, clearance, *columns[FIRST:])

    def _gusts(self, wind: list[Array], normal: list[Array], constants: Any) -> list[Array]:
        """Return the wind one time step later, given standard normal numbers."""
        exponent = -constants.dt / constants.wind_time
        xp: Any = math if type(exponent) is float else namespace(exponent)
        kept = xp.exp(exponent)
        fresh = constants.wind_std * xp.sqrt(-xp.expm1(2.0 * exponent))
        return [self._limited(kept * old + fresh * new) for old, new in zip(wind, normal, strict=True)]

    def _limited(self, wind: Array) -> Array:
        return clip(wind, -self.max_wind, self.max_wind)

    def _spheres(self, state: Array, p: list[Array]) -> tuple[Array, Array, Array, Array]:
        """Return the obstacles' centres relative to p, by axis, and their radii, each `[K, ...]`."""
        rows = state if state.ndim == 1 else namespace(state).moveaxis(state, -1, 0)
        spheres = rows[FIRST : FIRST + 4 * self.obstacles]
        return spheres[0::4] - p[0], spheres[1::4] - p[1], spheres[2::4] - p[2], spheres[3::4]

    def observation(self, state: Array) -> Array:
        """Return target - p, v, p, wind, clearance, range readings, and the obstacles relative to p."""
        columns = unstack_columns(state)
        p, target = columns[:3], columns[6:9]
        x, y, z, radius = self._spheres(state, p)
        spheres = [part[i] for i in range(self.obstacles) for part in (x, y, z, radius)]
        offset = [goal - here for goal, here in zip(target, p, strict=True)]
        ranges = range_readings((x, y, z), radius, self.directions, self.params.sensor_range)
        return stack_columns(*offset, *columns[3:6], *p, *columns[9:13], *ranges, *spheres)

    def state(self, observation: Array) -> Array:
        """Return the state."""
        self.check_observed()
        columns = unstack_columns(observation)
        p = columns[6:9]
        target = [away + here for away, here in zip(columns[:3], p, strict=True)]
        spheres = columns[FIRST + self.rays :]
        for i in range(self.obstacles):
            for axis in range(3):
                spheres[4 * i + axis] = spheres[4 * i + axis] + p[axis]
        return stack_columns(*p, *columns[3:6], *target, *columns[9:13], *spheres)

    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return minus the distance to the target after the step [m], and minus `collision_cost` at a collision."""
        distance = norm(*(column(next_observation, i) for i in range(3)))
        crash = as_number(self.terminal(next_observation), distance)
        return -distance - self.params.collision_cost * crash

    def terminal(self, next_observation: Array) -> Array:
        """Return whether the drone touched an obstacle in the step."""
        return next_observation[..., 12] < 0.0

    def search_reward(self, action: Array, next_observation: Array) -> Array:
        """Return minus the distance, minus a steep but smooth penalty on clearances below 2 cm."""
        missing = 0.02 - clip(column(next_observation, 12), -math.inf, 0.02)
        return -norm(*(column(next_observation, i) for i in range(3))) - 1e3 * missing * missing

    def best_return_bound(self, state: Array, steps: int) -> Array:
        """Return the optimum without obstacles in the wind's expected course, or that of a crash if it is better.

        By Jensen's inequality no controller does better on average, whatever it knows of the wind to come: without
        obstacles the sum of the distances is jointly convex in wind and actions. An episode that a crash cuts short
        loses at least `collision_cost`. The limits of wind, speed and position are taken not to bind.
        """
        params = self.params
        decay, gain = 1.0 / (1.0 + params.drag * params.dt), params.max_acceleration * params.dt
        unit = gain * params.dt
        fading = np.exp(-params.dt / params.wind_time * np.arange(steps))[:, None]
        sums = []
        for row in state:
            push = decay * params.drag * params.dt * fading * row[9:12] / gain
            offset, velocity = (row[:3] - row[6:9]) / unit, row[3:6] / gain
            sums.append(shortest_distances(offset, velocity, steps, decay=decay, push=push)[0])
        return np.maximum(-unit * np.array(sums), -params.collision_cost)

    def cost(self, next_observation: Array) -> Array:
        """Return the safety cost of the steps [m]: minus the clearance at their ends, thus positive in an obstacle.

        Constrained planners keep it at or below a limit: minus the distance that they keep. It is computed from the
        obstacles' columns, which a learned model predicts well; the clearance column, the smallest on the way, it
        predicts badly.
        """
        xp, columns = namespace(next_observation), unstack_columns(next_observation)[FIRST + self.rays :]
        gaps = [norm(*columns[i : i + 3]) - columns[i + 3] for i in range(0, 4 * self.obstacles, 4)]
        return self.highest("drone_radius") - xp.min(xp.stack(gaps), axis=0)


class DroneObstaclesEnv(TaskEnv):
    """A drone flies to a target in gusts of wind, around obstacles that it must not touch.

    ## Description
    The point mass of `mbrl/Drone-v0` in moving air. Drag pulls it along with the wind, which changes at random but
    slowly: `v' = (v + dt * (max_acceleration * a + drag * wind)) / (1 + drag * dt)`, `p' = p + dt * v'`. Along each
    axis the wind is an Ornstein-Uhlenbeck process of standard deviation `wind_std` and correlation time `wind_time`,
    `wind' = k * wind + sqrt(1 - k^2) * wind_std * eps` with `k = exp(-dt / wind_time)`.

    Spheres lie around the line from start to target, and in most episodes one of them blocks it. Whether the drone
    touches one is checked along the whole way from p to p', so that it cannot pass through one between two steps.
    Without drag and obstacles in the way it moves like `mbrl/Drone-v0`.

    ## Action Space
    `Box(-1, 1, (3,), float32)`: the acceleration along x, y, z in units of `max_acceleration` (1 m/s2). Actions
    beyond the bounds are clipped.

    ## Observation Space
    With K = 5 obstacles and R = 8 rays, 41 columns:

    | column | meaning | range |
    |---|---|---|
    | 0 to 2 | target - p [m] | -88.5 to 88.5 |
    | 3 to 5 | v [m/s] | -8.34 to 8.34 |
    | 6 to 8 | p [m] | -83.5 to 83.5 |
    | 9 to 11 | wind [m/s] | -5 to 5 |
    | 12 | clearance of the last step [m], negative after a collision | -1.4 to 181 |
    | 13 to 12 + R | distance from p to the next obstacle along a ray, `sensor_range` if none is nearer [m] | 0 to 5 |
    | 13 + R to 12 + R + 4K | for each obstacle: centre - p [m], radius [m] | -90.5 to 90.5, 0 to 1.2 |

    The rays lie in the horizontal plane at angles of 360 / R degrees, from the x axis towards the y axis.

    ## Reward
    Minus the distance to the target after the step [m], and minus `collision_cost` at a collision. With 1000 it
    never pays to crash: an obstacle is at most about 10 m from the target, so that to wait there until the end of
    100 steps costs less.

    ## Starting State
    At rest in the origin, target uniform in [-5, 5]^3, wind in its stationary law. Obstacles have radii uniform in
    [0.5, 1.2] m and lie around the line from start to target: at a uniform place along it, up to `corridor` from it,
    pushed away from it where the drone would have a clearance below `margin` at the start or at the target. Five
    obstacles cannot wall in either of them: seen from there each hides a cone of at most 56 degrees around its axis
    from the drone, and five such cones cover all directions from 63.4 degrees on only. So there is always a way.

    `reset(options={"state": [p, v, target, wind, clearance, x, y, z and radius of each obstacle]})` (13 + 4K
    numbers) sets it.

    ## Episode End
    Terminated by a collision; truncated after 100 steps (10 s). Velocity and position stop at the bounds above, which
    an episode of 100 steps cannot reach, the wind at 5 standard deviations.

    ## Arguments
    `obstacles=5`, `rays=8`, `max_acceleration=1.0`, `dt=0.1`, `target_range=5.0`, `drag=0.3`, `wind_std=1.0`,
    `wind_time=2.0`, `min_radius=0.5`, `max_radius=1.2`, `corridor=2.0`, `margin=0.3`, `drone_radius=0.2`,
    `sensor_range=5.0`, `collision_cost=1000.0`, `dtype="float32"`; `randomize={"wind_std": (0.0, 2.0)}` draws
    constants anew at every start (all numbers but the obstacles' radii, `sensor_range` and `collision_cost`).

    ## Optimum
    Best known, by differential dynamic programming on the equations with the wind in its expected course: an estimate,
    since gusts spoil every plan. The bound that no controller can exceed on average leaves the obstacles out: a cone
    program, for CVXPY
    (`pip install "mbrl-gym[optimum]"`).

    ## Version History
    v0: initial version.
    """

    task_class = DroneObstacles


class DroneObstaclesVectorEnv(TaskVectorEnv):
    """Many copies of `DroneObstaclesEnv` in one array."""

    task_class = DroneObstacles
