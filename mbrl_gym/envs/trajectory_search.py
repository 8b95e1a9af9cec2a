"""Best-known returns: multi-start trajectory optimisation on a task's own equations.

Control-limited differential dynamic programming (Tassa, Mansard and Todorov, 2014, "Control-limited differential
dynamic programming") with Gauss-Newton Hessians (iLQR: Li and Todorov, 2004), for many trajectories at once. The
Jacobians of all steps come from central differences of the task's batched functions, in two calls of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mbrl_gym.envs.task import Array, Task
from mbrl_gym.noise import Noise

__all__ = ["BestFound", "Search", "best_found"]

STEP = 1e-5  # of the central differences of the dynamics
WIDE_STEP = 3e-3  # of the second differences of the reward; it rounds the kink of a distance off
STEP_SIZES = 0.5 ** np.arange(10)  # tried at once in every forward pass
LOWEST_DAMPING, HIGHEST_DAMPING = 1e-6, 1e6


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings of the search."""

    random_starts: int = 7  # random initial action sequences, beside the task's own guesses
    spread: float = 0.4  # standard deviation of the last of them
    iterations: int = 150
    tolerance: float = 1e-5  # a trajectory is done when an iteration gains less, relative to the cost
    seed: int = 0


class BestFound(Task):
    """A task whose `best_return` is the best that the search finds, given before the task's other bases."""

    angle_columns: ClassVar[tuple[int, ...]] = ()  # state columns that are equal modulo 2 pi
    search: ClassVar[Search] = Search()

    def search_reward(self, action: Array, next_observation: Array) -> Array:
        """Return the reward `[...]` that the search follows: without jumps, whatever the true one does."""
        return self.reward(next_observation, action, next_observation)

    def guesses(self, state: Array, steps: int) -> Array:
        """Return action sequences `[K, N, steps, A]` that the search starts from, beside random ones."""
        return np.zeros((1, len(state), steps, self.action_space.shape[0]))  # type: ignore[index]

    def best_return(self, state: Array, steps: int) -> Array:
        """Return the best returns that the search finds."""
        return best_found(self, state, steps)[0]


class Quadratic(NamedTuple):
    """What one step looks like close to B trajectories of H steps: S moving state columns, A actions."""

    by_state: Array  # [B, H, S, S] next state by state
    by_action: Array  # [B, H, S, A] next state by action
    slope: Array  # [B, H, S] cost by next state
    curvature: Array  # [B, H, S, S]
    action_slope: Array  # [B, H, A] cost by action
    action_curvature: Array  # [B, H, A, A]


def best_found(task: BestFound, state: Array, steps: int, search: Search | None = None) -> tuple[Array, Array]:
    """Return the best returns `[N]` and action sequences `[N, steps, A]` that were found from states `[N, S]`.

    Noise is at its mean (normal numbers 0, uniform ones 0.5); the returns are those of the task itself.
    """
    search = task.search if search is None else search
    exact: Any = type(task)(dtype="float64", **vars(task.params))
    state = np.asarray(state, np.float64)
    guesses = np.concatenate([exact.guesses(state, steps), random_actions(exact, len(state), steps, search)])
    starts = len(guesses)
    many = np.tile(state, (starts, 1))
    actions = Optimiser(exact, search).improve(many, guesses.reshape(-1, *guesses.shape[2:]).copy())
    returns = returns_of(exact, many, actions).reshape(starts, -1)
    best = returns.argmax(0), np.arange(len(state))
    return returns[best], actions.reshape(guesses.shape)[best]


def random_actions(task: Task, states: int, steps: int, search: Search) -> Array:
    """Return `[K, states, steps, A]`: lines through 6 random knots, the same for all states, ever larger."""
    generator, size = np.random.default_rng(search.seed), task.action_space.shape[0]  # type: ignore[index]
    scale = np.linspace(0.0, search.spread, search.random_starts + 1)[1:, None, None]
    knots = np.clip(scale * generator.standard_normal((search.random_starts, 6, size)), -1.0, 1.0)
    times, at = np.linspace(0.0, 1.0, steps), np.linspace(0.0, 1.0, 6)
    lines = np.empty((search.random_starts, 1, steps, size))
    for k in range(search.random_starts):
        for i in range(size):
            lines[k, 0, :, i] = np.interp(times, at, knots[k, :, i])
    return lines.repeat(states, 1)


def no_noise(task: Task, rows: int) -> Noise:
    """Return the noise of `rows` steps at its mean."""
    normal, uniform = task.transition_noise
    return Noise(np.zeros((rows, normal)), np.full((rows, uniform), 0.5))


def returns_of(task: Task, state: Array, actions: Array) -> Array:
    """Return the returns `[B]` of action sequences `[B, H, A]` in the task, up to the end of each episode."""
    total, alive = np.zeros(len(state)), np.ones(len(state), np.bool_)
    observation, noise = task.observation(state), no_noise(task, len(state))
    for t in range(actions.shape[1]):
        state = task.transition(state, actions[:, t], noise)
        following = task.observation(state)
        total += np.where(alive, task.reward(observation, actions[:, t], following), 0.0)
        alive &= ~task.terminal(following)
        observation = following
    return total


class Optimiser:
    """The iterations of the search, over B trajectories side by side."""

    def __init__(self, task: BestFound, search: Search) -> None:
        self.task = task
        self.search = search

    def improve(self, start: Array, actions: Array) -> Array:
        """Return better action sequences `[B, H, A]` from starts `[B, S]`."""
        states, costs = self.roll_out(start, actions)
        moving = self.moving_columns(start, actions.shape[2])
        damping = np.full(len(start), 1.0)
        active = np.arange(len(start))
        for _ in range(self.search.iterations):
            trial = self.try_step(states[active], actions[active], damping[active], moving)
            gain = costs[active] - trial[2]
            better = gain > 0
            rows = active[better]
            states[rows], actions[rows], costs[rows] = (part[better] for part in trial[:3])
            factor = np.where(trial[3] > 0.4, 0.25, np.where(trial[3] > 0.1, 1.0, 3.0))
            damping[active] = np.where(better, damping[active] * factor, damping[active] * 10).clip(
                LOWEST_DAMPING, None
            )
            small = better & (gain < self.search.tolerance * np.abs(costs[active]))
            active = active[~small & (damping[active] < HIGHEST_DAMPING)]
            if not len(active):
                break
        return actions

    def roll_out(self, start: Array, actions: Array) -> tuple[Array, Array]:
        """Return states `[B, H + 1, S]` and costs `[B]`."""
        return self._follow(start, lambda t, state: actions[:, t], actions.shape[1])[::2]

    def _follow(self, start: Array, choose: Callable[[int, Array], Array], steps: int) -> tuple[Array, Array, Array]:
        task, noise = self.task, no_noise(self.task, len(start))
        states, actions, cost = [start], [], np.zeros(len(start))
        for t in range(steps):
            action = choose(t, states[-1])
            states.append(task.transition(states[-1], action, noise))
            actions.append(action)
            cost += self.cost(action, states[-1])
        return np.stack(states, 1), np.stack(actions, 1), cost

    def cost(self, action: Array, following: Array) -> Array:
        """Return the cost `[...]` of a step into the states `[..., S]`."""
        return -self.task.search_reward(action, self.task.observation(following))

    def moving_columns(self, start: Array, size: int) -> Array:
        """Return the indices of the state columns that random actions change."""
        wiggle = np.random.default_rng(self.search.seed).uniform(-1.0, 1.0, (len(start), 10, size))
        states, _ = self.roll_out(start, wiggle)
        return np.flatnonzero((states[:, 1:] != states[:, :-1]).any((0, 1)))

    def try_step(
        self, states: Array, actions: Array, damping: Array, moving: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Return states, actions and costs of the best step size, and this size, for each trajectory."""
        change, gain = backward_pass(self.expand(states, actions, moving), actions, damping)
        sizes, rows = len(STEP_SIZES), len(states)
        sized = STEP_SIZES.repeat(rows)[:, None]

        def choose(t: int, state: Array) -> Array:
            off = self.difference(state, np.tile(states[:, t], (sizes, 1)))[:, moving]
            feedback = np.einsum("sbaj,sbj->sba", gain[None, :, t], off.reshape(sizes, rows, -1))
            correction = feedback.reshape(sizes * rows, -1) + sized * np.tile(change[:, t], (sizes, 1))
            return np.clip(np.tile(actions[:, t], (sizes, 1)) + correction, -1.0, 1.0)

        with np.errstate(over="ignore", invalid="ignore"):
            tried = self._follow(np.tile(states[:, 0], (sizes, 1)), choose, actions.shape[1])
        costs = np.where(np.isfinite(tried[2]), tried[2], np.inf).reshape(sizes, rows)
        best = costs.argmin(0) * rows + np.arange(rows)
        return tried[0][best], tried[1][best], costs.min(0), STEP_SIZES[costs.argmin(0)]

    def difference(self, state: Array, other: Array) -> Array:
        """Return state - other, angles the short way round."""
        gap = state - other
        for column in self.task.angle_columns:
            gap[..., column] -= 2 * np.pi * np.round(gap[..., column] / (2 * np.pi))
        return gap

    def expand(self, states: Array, actions: Array, moving: Array) -> Quadratic:
        """Expand dynamics and cost at all steps of trajectories `[B, H + 1, S]`, `[B, H, A]`."""
        batch, steps, size = actions.shape
        before = states[:, :-1].reshape(batch * steps, -1)
        after, action = states[:, 1:].reshape(batch * steps, -1), actions.reshape(batch * steps, size)
        by_state = self._jacobian(lambda shift: (before + shift, action), before.shape[1], moving)[:, moving]
        by_action = self._jacobian(lambda shift: (before, action + shift), size, np.arange(size))[:, moving]
        slope, curvature = differences(lambda shift: self.cost(action, after + shift), after.shape[1], moving)
        for_action = differences(lambda shift: self.cost(action + shift, after), size, np.arange(size), inside=action)
        parts = (by_state, by_action, slope, convex(curvature), for_action[0], convex(for_action[1]))
        return Quadratic(*(part.reshape(batch, steps, *part.shape[1:]) for part in parts))

    def _jacobian(self, at: Callable[[Array], tuple[Array, Array]], columns: int, chosen: Array) -> Array:
        """Return the next states `[M, S, chosen]` by each chosen column."""
        shift = STEP * np.eye(columns)[chosen]
        slopes = []
        for row in shift:
            ends = []
            for sign in (1.0, -1.0):
                state, action = at(sign * row)
                ends.append(self.task.transition(state, action, no_noise(self.task, len(state))))
            slopes.append(self.difference(*ends) / (2 * STEP))
        return np.stack(slopes, -1)


def differences(
    cost: Callable[[Array], Array], columns: int, chosen: Array, inside: Array | None = None
) -> tuple[Array, Array]:
    """Return slope `[M, chosen]` and curvature `[M, chosen, chosen]` of a cost of shifts `[columns]`.

    Actions `inside` their bounds are shifted only as far as these allow.
    """
    eye = np.eye(columns)[chosen]
    middle = cost(np.zeros(columns))
    slope = np.zeros((len(middle), len(chosen)))
    curvature = np.zeros((len(middle), len(chosen), len(chosen)))
    for i, axis in enumerate(eye):
        ahead, behind = (cost(sign * STEP * axis) for sign in (1, -1))
        if inside is None:
            slope[:, i] = (ahead - behind) / (2 * STEP)
        else:  # the task clips beyond: one-sided at a bound
            slope[:, i] = np.where(
                inside[:, i] + STEP > 1,
                (middle - behind) / STEP,
                np.where(inside[:, i] - STEP < -1, (ahead - middle) / STEP, (ahead - behind) / (2 * STEP)),
            )
    moved: list[int] = np.flatnonzero(slope.any(0)).tolist()
    single = {i: [cost(sign * WIDE_STEP * eye[i]) for sign in (1, -1)] for i in moved}
    for i in moved:
        curvature[:, i, i] = (single[i][0] - 2 * middle + single[i][1]) / WIDE_STEP**2
        for j in (other for other in moved if other < i):
            corners = [cost(sign * WIDE_STEP * (eye[i] + eye[j])) for sign in (1, -1)]
            mixed = sum(corners) + 2 * middle - sum(single[i]) - sum(single[j])
            curvature[:, i, j] = curvature[:, j, i] = mixed / (2 * WIDE_STEP**2)
    return slope, curvature


def convex(matrices: Array) -> Array:
    """Return symmetric matrices `[..., n, n]` without their negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrices)
    return (vectors * values.clip(0.0, None)[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def backward_pass(step: Quadratic, actions: Array, damping: Array) -> tuple[Array, Array]:
    """Return the changes `[B, H, A]` and the gains `[B, H, A, S]` of the actions (Tassa et al., 2014, section III)."""
    batch, steps, size = actions.shape
    columns = step.slope.shape[-1]
    value, curve = np.zeros((batch, columns)), np.zeros((batch, columns, columns))
    change, gain = np.zeros((batch, steps, size)), np.zeros((batch, steps, size, columns))
    for t in range(steps - 1, -1, -1):
        f_x, f_u = step.by_state[:, t], step.by_action[:, t]
        f_xt, f_ut = np.swapaxes(f_x, 1, 2), np.swapaxes(f_u, 1, 2)
        slope, hessian = value + step.slope[:, t], curve + step.curvature[:, t]
        q_x = (f_xt @ slope[..., None])[..., 0]
        q_u = (f_ut @ slope[..., None])[..., 0] + step.action_slope[:, t]
        q_xx, q_ux = f_xt @ hessian @ f_x, f_ut @ hessian @ f_x
        q_uu = f_ut @ hessian @ f_u + step.action_curvature[:, t]
        damped = q_uu + damping[:, None, None] * np.eye(size)
        k, free = box_minimum(damped, q_u, -1.0 - actions[:, t], 1.0 - actions[:, t])
        both = free[:, :, None] & free[:, None, :]
        gains = -np.linalg.solve(np.where(both, damped, np.eye(size)), np.where(free[..., None], q_ux, 0.0))
        change[:, t], gain[:, t] = k, gains
        gains_t = np.swapaxes(gains, 1, 2)
        value = (
            q_x + (gains_t @ (q_uu @ k[..., None] + q_u[..., None]) + np.swapaxes(q_ux, 1, 2) @ k[..., None])[..., 0]
        )
        cross = gains_t @ q_ux
        curve = q_xx + gains_t @ q_uu @ gains + cross + np.swapaxes(cross, 1, 2)
        curve = 0.5 * (curve + np.swapaxes(curve, 1, 2))
    return change, gain


def box_minimum(hessian: Array, slope: Array, low: Array, high: Array, sweeps: int = 30) -> tuple[Array, Array]:
    """Minimise x'Hx/2 + g'x over boxes by coordinate descent; return x `[B, n]` and which are off the bounds."""
    x = np.zeros_like(slope)
    for _ in range(sweeps):
        for i in range(slope.shape[1]):
            rest = slope[:, i] + (hessian[:, i] * x).sum(1) - hessian[:, i, i] * x[:, i]
            x[:, i] = np.clip(-rest / hessian[:, i, i], low[:, i], high[:, i])
    margin = 1e-9
    return x, (x > low + margin) & (x < high - margin)
