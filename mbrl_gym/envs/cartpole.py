"""`mbrl/CartPoleContinuous-v0`: CartPole-v1's cart and pole, with a force of any size."""

from __future__ import annotations

import math
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
    stack_columns,
    unstack_columns,
)
from mbrl_gym.errors import InvalidSettingError

__all__ = ["CartPoleContinuous", "CartPoleContinuousEnv", "CartPoleContinuousParams", "CartPoleContinuousVectorEnv"]


@dataclass(frozen=True, kw_only=True)
class CartPoleContinuousParams(Params):
    """Constants of cart and pole."""

    gravity: float = 9.8  # [m/s2]
    cart_mass: float = 1.0  # [kg]
    pole_mass: float = 0.1  # [kg]
    half_length: float = 0.5  # half the pole's length [m]
    max_force: float = 10.0  # force of action 1 [N]
    dt: float = 0.02  # time step [s]
    x_limit: float = 2.4  # the episode ends beyond this position [m]
    theta_limit: float = 12 * 2 * math.pi / 360  # and beyond this angle [rad]
    start_range: float = 0.05  # all four columns start uniform in [-start_range, start_range] [m, m/s, rad, rad/s]

    positive: ClassVar[tuple[str, ...]] = (
        "cart_mass",
        "pole_mass",
        "half_length",
        "max_force",
        "dt",
        "x_limit",
        "theta_limit",
    )
    non_negative: ClassVar[tuple[str, ...]] = ("start_range",)
    fixed: ClassVar[tuple[str, ...]] = ("x_limit", "theta_limit")


class CartPoleContinuous(Task):
    """The cart-pole of Barto, Sutton and Anderson (1983), one explicit Euler step at a time; reward 1 a step.

    The columns stop at bounds that no episode from the task's own starts can reach, whatever its length: they keep the
    observation bounded where somebody steps on after the end.
    """

    params_class = CartPoleContinuousParams
    state_columns = ("x [m]", "x velocity [m/s]", "theta [rad]", "theta velocity [rad/s]")
    scene = "cartpole"
    render_fps = 50
    nominal_steps = 200
    optimum = Optimum(
        "exact",
        "1 a step is the most, and at the default constants a linear-quadratic controller keeps the pole up to the end",
    )
    initial_noise = NoiseSizes(uniform=4)
    transition_noise = NoiseSizes()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        limit = min(self.params.x_limit, self.params.theta_limit)
        if self.highest("start_range") > limit:
            raise InvalidSettingError(
                f"start_range must be at most {limit:g} (x_limit and theta_limit), "
                f"but {self.highest('start_range')} was given"
            )
        self.max_columns = self._bounds()
        high = np.array(self.max_columns).astype(self.dtype) * self.dtype.type(1 + 1e-6)  # rounding included
        self.observation_space = spaces.Box(-high, high, dtype=self.dtype.type)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def initial(self, noise: Noise) -> Array:
        """Return starts near the upright pole in the middle of the track."""
        constants = self.draw_constants(noise)
        columns = [(2.0 * noise.uniform[..., i] - 1.0) * constants.start_range for i in range(4)]
        return stack_columns(*columns, *self.constant_columns(constants))

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Advance by one explicit Euler step: positions by the velocities before it.

        Accelerations without friction as in Florian (2005), "Correct equations for the dynamics of the cart-pole
        system", equations 23 and 24, with the operations in Gymnasium's order.
        """
        xp, constants = namespace(state), self.constants(state)
        x, x_dot, theta, theta_dot, *rest = unstack_columns(state)
        force = constants.max_force * clip(column(action, 0), -1.0, 1.0)
        cos, sin = xp.cos(theta), xp.sin(theta)
        mass, length, dt = constants.cart_mass + constants.pole_mass, constants.half_length, constants.dt
        moment = constants.pole_mass * length
        push = (force + moment * (theta_dot * theta_dot) * sin) / mass
        theta_acc = (constants.gravity * sin - cos * push) / (
            length * (4.0 / 3.0 - constants.pole_mass * (cos * cos) / mass)
        )
        x_acc = push - moment * theta_acc * cos / mass
        columns = (x + dt * x_dot, x_dot + dt * x_acc, theta + dt * theta_dot, theta_dot + dt * theta_acc)
        clipped = (clip(each, -most, most) for each, most in zip(columns, self.max_columns, strict=True))
        return stack_columns(*clipped, *rest)

    def observation(self, state: Array) -> Array:
        """Return positions and velocities."""
        return +state[..., :4]

    def state(self, observation: Array) -> Array:
        """Return the observation."""
        self.check_observed()
        return +observation

    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return 1, also for the step that ends the episode."""
        return 1.0 + 0.0 * next_observation[..., 0]  # keeps a (zero) gradient

    def terminal(self, next_observation: Array) -> Array:
        """Return whether the cart left the track, or the pole fell."""
        x, theta = next_observation[..., 0], next_observation[..., 2]
        return (abs(x) > self.params.x_limit) | (abs(theta) > self.params.theta_limit)

    def best_return_bound(self, state: Array, steps: int) -> Array:
        """Return 1 a step."""
        return np.full(len(state), float(steps))

    def best_return(self, state: Array, steps: int) -> Array:
        """Return the most steps that any controller survives.

        1 a step is an upper bound, and a linear-quadratic controller attains it from every start within the default
        `start_range`: there the value is proven by its own rollout. From states that it cannot save, and perhaps
        nobody can (a fast or far leaning pole, given by `options`, or a weak force), the value is the best of plans
        that push fully to one side for a while first: a lower bound, as long as it is less than `steps`.
        """
        gain = self.balancing_gain()
        longest = self._survival(state, gain, 0, steps)
        for pushes in range(1, min(steps, 100) + 1):
            for side in (-1, 1):
                lost = np.flatnonzero(longest < steps)
                if lost.size:
                    found = self._survival(state[lost], gain, side * pushes, steps)
                    longest[lost] = np.maximum(longest[lost], found)
        return longest

    def _survival(self, state: Array, gain: Array, pushes: int, steps: int) -> Array:
        """Return the steps survived `[N]` with `abs(pushes)` full pushes to one side, then the controller."""
        nothing = Noise(np.zeros((len(state), 0)), np.zeros((len(state), 0)))
        survived, alive = np.zeros(len(state)), np.ones(len(state), np.bool_)
        for step in range(steps):
            action = np.full(len(state), np.sign(pushes)) if step < abs(pushes) else -(state @ gain)
            state = self.transition(state, action[:, None], nothing)
            survived += alive
            alive &= ~self.terminal(state)
            if not alive.any():
                break
        return survived

    def balancing_gain(self) -> Array:
        """Return the gain `[4]` of the linear-quadratic regulator `a = -gain @ state` around the upright pole.

        Positions weigh by their limits and the action by its range (Bryson's rule); the Riccati equation is iterated.
        """
        p = self.params
        mass = p.cart_mass + p.pole_mass
        inertia = p.half_length * (4.0 / 3.0 - p.pole_mass / mass)
        pull = p.pole_mass * p.half_length / mass  # of the pole's angular acceleration on the cart
        fall, turn = p.gravity / inertia, -p.max_force / (mass * inertia)
        a = np.eye(4) + p.dt * np.array([[0, 1, 0, 0], [0, 0, -pull * fall, 0], [0, 0, 0, 1], [0, 0, fall, 0]])
        b = p.dt * np.array([0.0, p.max_force / mass - pull * turn, 0.0, turn])
        cost = np.diag([1 / p.x_limit, 0.0, 1 / p.theta_limit, 0.0]) ** 2
        value, gain = cost, np.zeros(4)
        for _ in range(1000):
            gain = (b @ value @ a) / (1.0 + b @ value @ b)
            value = cost + a.T @ value @ (a - np.outer(b, gain))
        return gain

    def _bounds(self) -> tuple[float, float, float, float]:
        """Return bounds of the columns that hold for every step of every episode, whatever its length.

        Let A bound the acceleration while the episode runs. While the speed w keeps its sign, a step adds at most
        2 A dt w to w (w - dt A), and the sum of dt w is the distance, at most twice the limit: hence `fastest`.
        A depends on the angular speed itself: at first that from which one step ends the episode, then refined.
        """
        theta_limit, x_limit, dt = self.params.theta_limit, self.params.x_limit, self.highest("dt")
        start = self.highest("start_range")
        mass = self.lowest("cart_mass") + self.lowest("pole_mass")
        share = self.highest("pole_mass") / (self.lowest("cart_mass") + self.highest("pole_mass"))
        gravity = max(abs(self.lowest("gravity")), abs(self.highest("gravity")))
        sin = math.sin(min(theta_limit, 0.5 * math.pi))
        shortest, longest = self.lowest("half_length"), self.highest("half_length")

        def accelerations(speed: float) -> tuple[float, float]:
            push = self.highest("max_force") / mass
            swing = share * speed * speed * sin  # over the half length
            turn = (gravity * sin + push) / shortest + swing
            turn /= 4.0 / 3.0 - share
            return push + longest * (swing + share * turn), turn

        def fastest(limit: float, acceleration: float) -> float:
            half = 0.5 * dt * acceleration
            return 3.0 * half + math.sqrt(half * half + 4.0 * acceleration * limit + start * start)

        speed = max(start, 2.0 * theta_limit / self.lowest("dt"))  # a faster pole falls within one step
        for _ in range(2):
            speed += dt * accelerations(speed)[1]
        for _ in range(20):
            speed = min(speed, fastest(theta_limit, accelerations(speed)[1]))
        x_speed = fastest(x_limit, accelerations(speed)[0])
        slack = 1.001
        return slack * (x_limit + dt * x_speed), slack * x_speed, slack * (theta_limit + dt * speed), slack * speed


class CartPoleContinuousEnv(TaskEnv):
    """A cart balances a pole by forces of any size up to 10 N.

    ## Description
    The dynamics of Gymnasium's `CartPole-v1` (Barto, Sutton and Anderson 1983), step by step, with a continuous force
    `max_force * a`: an unactuated pole stands on a cart that moves along a track without friction, integrated by
    explicit Euler steps of 0.02 s. Actions of 1 and -1 are those of `CartPole-v1`.

    ## Action Space
    `Box(-1, 1, (1,), float32)`: the force on the cart, in units of `max_force` (10 N). Actions beyond the bounds are
    clipped.

    ## Observation Space
    | column | meaning | range |
    |---|---|---|
    | 0 | x of the cart [m] | -2.61 to 2.61 |
    | 1 | its velocity [m/s] | -10.17 to 10.17 |
    | 2 | theta of the pole, 0 upright [rad] | -0.299 to 0.299 |
    | 3 | its angular velocity [rad/s] | -4.47 to 4.47 |

    ## Reward
    1 at every step, also the one that ends the episode.

    ## Starting State
    All four columns uniform in [-0.05, 0.05]; `reset(options={"state": [x, x_dot, theta, theta_dot]})` sets them.

    ## Episode End
    Terminated where |x| > 2.4 m or |theta| > 12 degrees (0.2094 rad); truncated after 200 steps (4 s). The columns
    stop at the bounds above, which no step up to the end can reach from the starts above; from faster ones given by
    `options` it may.

    ## Arguments
    `gravity=9.8`, `cart_mass=1.0`, `pole_mass=0.1`, `half_length=0.5`, `max_force=10.0`, `dt=0.02`, `x_limit=2.4`,
    `theta_limit=0.20944`, `start_range=0.05`, `dtype="float32"`; `randomize={name: (low, high)}` draws constants
    (but for the two limits) at every reset.

    ## Optimum
    200 from every start: a linear-quadratic controller reaches it. From given states out of which no controller may
    survive, the most steps that a search found.

    ## Version History
    v0: initial version.
    """

    task_class = CartPoleContinuous


class CartPoleContinuousVectorEnv(TaskVectorEnv):
    """Many copies of `CartPoleContinuousEnv` in one array."""

    task_class = CartPoleContinuous
