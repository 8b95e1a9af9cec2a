"""The search for best-known returns, against problems whose optimum is known."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import solve_discrete_are
from scipy.optimize import minimize

from mbrl_gym.envs.arm_torque import ArmTorque
from mbrl_gym.envs.drone import Drone
from mbrl_gym.envs.drone_obstacles import DroneObstacles
from mbrl_gym.envs.drone_quad import DroneQuad
from mbrl_gym.envs.task import NoiseSizes, Params, draw, stack_columns
from mbrl_gym.envs.trajectory_search import BestFound, Optimiser, Search, best_found, box_minimum, convex, returns_of
from mbrl_gym.noise import Noise

NOTHING = Noise(np.zeros(0), np.zeros(0))


class FoundDrone(BestFound, Drone):
    """The point mass, whose optimum is a cone program, left to the search."""

    best_return = BestFound.best_return
    search = Search(random_starts=1)


class Cart(BestFound):
    """A double integrator with quadratic costs: linear-quadratic control is optimal."""

    params_class = Params
    state_columns = ("x", "v")
    initial_noise = transition_noise = NoiseSizes()
    nominal_steps = 60
    search = Search(random_starts=1)

    def __init__(self, **settings):
        super().__init__(**settings)
        self.observation_space = gym.spaces.Box(-100, 100, (2,), self.dtype.type)
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def initial(self, noise):
        raise NotImplementedError

    def transition(self, state, action, noise):
        v = state[..., 1] + 0.2 * np.clip(action[..., 0], -1, 1)
        return stack_columns(state[..., 0] + 0.2 * v, v)

    def observation(self, state):
        return +state

    def reward(self, observation, action, next_observation):
        x, v, a = next_observation[..., 0], next_observation[..., 1], action[..., 0]
        return -(x * x + 0.1 * v * v + 0.5 * a * a)


def starts(task, rows, seed=0):
    noise = draw(np.random.default_rng(seed), (rows,), task.initial_noise, np.dtype("float64"))
    return task.initial(noise).astype(np.float64)


def test_linear_quadratic_problem_is_solved_exactly():
    a, b = np.array([[1, 0.2], [0, 1]]), np.array([[0.04], [0.2]])
    weights = np.diag([1.0, 0.1])
    value = solve_discrete_are(a, b, weights, np.array([[0.5]])) - weights  # costs fall due after the steps
    state = np.array([[0.3, 0.1], [-0.2, 0.3]])  # small enough for the bounds not to bind
    found, actions = best_found(Cart(), state, 60)
    assert np.abs(actions).max() < 1
    assert_allclose(found, [-x @ value @ x for x in state], rtol=1e-4)


def test_bounded_actions_of_the_point_mass_reach_the_cone_program():
    pytest.importorskip("cvxpy")
    task = FoundDrone()
    state = starts(task, 4)
    exact = Drone().optimal_return(state, steps=60)
    found = task.optimal_return(state, steps=60)
    assert (found <= exact * (1 - 2e-5)).all()  # the exact one has its tolerance
    assert_allclose(found, exact, rtol=3e-3)
    assert_allclose(found.mean(), exact.mean(), rtol=1e-3)


def test_returns_are_those_of_the_task():
    task = ArmTorque(dtype="float64")
    state = starts(task, 2)
    found, actions = best_found(task, state, 20, Search(random_starts=0, iterations=5))
    for row in range(2):
        now, total = state[row], 0.0
        for action in actions[row]:
            now = task.transition(now, action, NOTHING)
            total += float(task.reward(None, action, task.observation(now)))
        assert found[row] == pytest.approx(total, abs=1e-9)
    assert np.abs(actions).max() <= 1


def test_returns_stop_where_the_episode_ends():
    task = DroneObstacles(dtype="float64")
    state = starts(task, 1)
    state[0, 6:9], state[0, 9:12] = (5, 0, 0), 0
    state[0, 13:17] = (1.2, 0, 0, 0.5)  # in the way
    crashed = returns_of(task, state, np.tile([1.0, 0, 0], (1, 100, 1)))[0]
    stopped = returns_of(task, state, np.tile([1.0, 0, 0], (1, 15, 1)))[0]
    assert crashed == stopped
    assert crashed < -1000


def test_search_flies_around_what_is_in_the_way():
    pytest.importorskip("cvxpy")
    task = DroneObstacles(dtype="float64")
    state = starts(task, 1)
    state[0, 6:9], state[0, 9:12] = (2.5, 0, 0), 0
    state[0, 13::4] += 50
    free = task.optimal_return(state, steps=50)
    state[0, 13:17] = (1.2, 0.1, 0, 0.6)
    around = task.optimal_return(state, steps=50)
    bound = task.return_bound(state, steps=50)
    assert_allclose(free, bound, rtol=2e-3)
    assert bound - 15 < around < bound - 0.5


@pytest.mark.parametrize(("task", "steps"), [(ArmTorque(), 30), (DroneQuad(), 60), (DroneObstacles(), 40)])
def test_more_search_is_never_worse_and_beats_random_actions(task, steps):
    state = starts(task, 2)
    short, long = (
        best_found(task, state, steps, replace(task.search, random_starts=1, iterations=iterations))[0]
        for iterations in (2, 12)
    )
    generator = np.random.default_rng(0)
    exact = type(task)(dtype="float64")
    many = state.repeat(200, 0)
    chance = returns_of(exact, many, generator.uniform(-1, 1, (400, steps, *task.action_space.shape)))
    assert (long >= short - 1e-9).all()
    assert (long > chance.reshape(2, 200).max(1)).all()


def test_no_change_of_the_plan_does_better():
    task = ArmTorque(dtype="float64")
    state = starts(task, 1)
    found, actions = best_found(task, state, 40)
    generator = np.random.default_rng(0)
    for scale in (1e-3, 1e-2, 0.1):
        noise = scale * generator.standard_normal((300, 40, 2))
        changed = returns_of(task, state.repeat(300, 0), np.clip(actions + noise, -1, 1))
        assert changed.max() < found[0] + 2e-3 * abs(found[0])


def test_jacobians_equal_those_of_the_linear_dynamics():
    optimiser = Optimiser(Cart(dtype="float64"), Search())
    generator = np.random.default_rng(0)
    states, _ = optimiser.roll_out(generator.normal(size=(3, 2)), actions := generator.uniform(-0.9, 0.9, (3, 4, 1)))
    step = optimiser.expand(states, actions, np.arange(2))
    assert_allclose(step.by_state, np.broadcast_to([[1, 0.2], [0, 1]], (3, 4, 2, 2)), atol=1e-8)
    assert_allclose(step.by_action, np.broadcast_to([[0.04], [0.2]], (3, 4, 2, 1)), atol=1e-8)
    assert_allclose(step.slope, states[:, 1:] * [2, 0.2], atol=1e-6)
    assert_allclose(step.curvature, np.broadcast_to(np.diag([2, 0.2]), (3, 4, 2, 2)), atol=1e-5)
    assert_allclose(step.action_slope, actions, atol=1e-6)
    assert_allclose(step.action_curvature, np.ones((3, 4, 1, 1)), atol=1e-5)


def test_angles_differ_the_short_way_round():
    optimiser = Optimiser(ArmTorque(dtype="float64"), Search())
    one, other = np.array([[3.1, -3.1, 5.0, 0, 0, 0]]), np.array([[-3.1, 3.1, -5.0, 0, 0, 0]])
    apart = 6.2 - 2 * np.pi
    assert_allclose(optimiser.difference(one, other), [[apart, -apart, 10.0, 0, 0, 0]])


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@example(406, 4)  # the solver's own tolerance is not enough here
@settings(deadline=None, max_examples=30)
def test_box_minimum_equals_a_general_solver(seed, size):
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(size, size))
    hessian, slope = root @ root.T + 0.1 * np.eye(size), generator.normal(size=size)
    low, high = -generator.uniform(0, 1, size), generator.uniform(0, 1, size)
    x, free = box_minimum(hessian[None], slope[None], low[None], high[None], sweeps=300)
    expected = minimize(
        lambda x: x @ hessian @ x / 2 + slope @ x,
        np.zeros(size),
        jac=lambda x: hessian @ x + slope,
        bounds=list(zip(low, high, strict=True)),
        options={"ftol": 1e-15, "gtol": 1e-10},
    ).x
    assert_allclose(x[0], expected, atol=1e-3)
    assert (((x[0] > low) & (x[0] < high)) >= free[0]).all()


def test_convex_drops_negative_eigenvalues():
    assert_allclose(convex(np.array([[[0.0, 2.0], [2.0, 0.0]]])), [[[1, 1], [1, 1]]], atol=1e-12)
    kept = np.array([[[2.0, 0.5], [0.5, 1.0]]])
    assert_allclose(convex(kept), kept, atol=1e-12)


def test_seeded_search_reproduces():
    task = DroneObstacles()
    state = starts(task, 1)
    search = Search(random_starts=2, iterations=3, seed=5)
    one, other = (best_found(task, state, 20, search)[1] for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("collision_cost", [0.0, 10.0])
def test_a_cheap_crash_stays_below_the_bound(collision_cost):
    pytest.importorskip("cvxpy")
    task = DroneObstacles(dtype="float64", collision_cost=collision_cost)
    state = starts(task, 8)
    nearest = state[:, 13:16]
    thrust = nearest / np.abs(nearest).max(1, keepdims=True)
    crashed = returns_of(task, state, np.repeat(thrust[:, None], 100, axis=1))
    assert (crashed <= task.return_bound(state) + 1e-6).all()
    assert (crashed > DroneObstacles().return_bound(state)).any()  # what the bound without crashes would miss
