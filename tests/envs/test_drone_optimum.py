"""The optimum of the point mass: attained by the task, and equal to independent solutions where there are any."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from mbrl_gym.envs.drone import Drone
from mbrl_gym.envs.drone_optimum import least_distances_of_rotorcraft, shortest_distances
from mbrl_gym.envs.drone_quad import DroneQuad
from mbrl_gym.envs.task import draw
from mbrl_gym.envs.trajectory_search import Search, best_found
from mbrl_gym.noise import Noise

pytest.importorskip("cvxpy")
NOTHING = Noise(np.zeros(0), np.zeros(0))


def starts(task, rows, seed=0):
    return task.initial(draw(np.random.default_rng(seed), (rows,), task.initial_noise, task.dtype))


def play(task, state, actions):
    """Return the return of an action sequence `[T, 3]` in the task itself."""
    total = 0.0
    for action in actions:
        state = task.transition(state, action, NOTHING)
        total += float(task.reward(None, action, task.observation(state)))
    return total


def test_optimum_is_attained_by_stepping_the_task():
    task = Drone(dtype="float64")
    for state in starts(task, 5):
        unit = 0.1 * 0.1
        _, actions = shortest_distances((state[:3] - state[6:]) / unit, state[3:6] / 0.1, 100)
        assert_allclose(play(task, state, actions), task.optimal_return(state), rtol=3e-5)


def test_one_step_is_a_projection_on_the_box():
    task = Drone(dtype="float64", dt=0.5, max_acceleration=2.0)
    state = np.array([0.0, 0.0, 0.0, 0.3, -0.2, 0.0, 1.0, -0.1, 0.05])
    wanted = (state[6:] - 0.5 * state[3:6]) / (0.5 * 0.5 * 2.0)
    left = (wanted - np.clip(wanted, -1, 1)) * 0.5
    assert_allclose(task.optimal_return(state, steps=1), -np.linalg.norm(left), atol=1e-6)


@pytest.mark.parametrize(("distance", "speed"), [(4.0, 0.0), (0.3, 0.5), (2.0, -1.0)])
def test_flight_along_an_axis_equals_a_linear_program(distance, speed):
    steps, dt = 60, 0.1
    sums = np.tril(np.ones((steps, steps)))
    reach, free = dt * dt * sums @ sums, speed * dt * np.arange(1, steps + 1)
    # Minimise sum d with d >= +-(free + reach a - distance) over (a, d).
    identity = np.eye(steps)
    upper = np.block([[reach, -identity], [-reach, -identity]])
    bound = np.concatenate([distance - free, free - distance])
    cost = np.concatenate([np.zeros(steps), np.ones(steps)])
    found = linprog(cost, upper, bound, bounds=[(-1, 1)] * steps + [(0, None)] * steps)
    state = np.array([0, 0, 0, 0, speed, 0, 0, distance, 0], np.float64)
    assert_allclose(Drone().optimal_return(state, steps), -found.fun, rtol=1e-5, atol=1e-5)


def test_no_controller_does_better():
    task, generator = Drone(dtype="float64"), np.random.default_rng(0)
    state = starts(task, 1)[0]
    unit = 0.1 * 0.1
    _, best = shortest_distances((state[:3] - state[6:]) / unit, state[3:6] / 0.1, 100)
    limit = float(task.optimal_return(state))
    for scale in (1e-3, 1e-2, 0.1, 1.0):
        changed = np.clip(best + scale * generator.standard_normal((20, 100, 3)), -1, 1)
        assert max(play(task, state, actions) for actions in changed) < limit + 1e-6


def test_scaled_constants_scale_the_optimum():
    state = starts(Drone(dtype="float64"), 1)[0]
    twice = state.copy()
    twice[6:] *= 2
    assert_allclose(
        Drone(max_acceleration=2.0, target_range=10.0).optimal_return(twice),
        2 * Drone().optimal_return(state),
        rtol=1e-6,
    )


def test_optimum_uses_the_constants_of_each_row():
    task = Drone(dtype="float64", randomize={"max_acceleration": (0.5, 2.0)})
    states = starts(task, 3)
    expected = [Drone(max_acceleration=float(row[-1])).optimal_return(row[:-1]) for row in states]
    assert_allclose(task.optimal_return(states), expected, rtol=1e-6)
    assert len({round(float(value), 6) for value in expected}) == 3


@pytest.mark.parametrize("drag", [0.0, 0.4])
def test_a_far_target_overhead_takes_full_thrust_upwards(drag):
    dt, thrust, gravity, height, speed, total = 0.02, 20.0, 9.81, 0.0, 0.3, 0.0
    for _ in range(30):  # constant acceleration over a step, in closed form
        if drag:
            final = (thrust - gravity) / drag
            height += final * dt + (speed - final) * (1 - np.exp(-drag * dt)) / drag
            speed = final + (speed - final) * np.exp(-drag * dt)
        else:
            height += speed * dt + 0.5 * (thrust - gravity) * dt * dt
            speed += (thrust - gravity) * dt
        total += 50.0 - height
    found = least_distances_of_rotorcraft(
        np.array([0, 0, -50.0]), np.array([0, 0, 0.3]), 30, dt=dt, drag=drag, gravity=gravity, thrust=thrust
    )
    assert_allclose(found, total, rtol=1e-5)


def test_no_flight_of_the_quadrotor_exceeds_its_bound():
    task = DroneQuad(dtype="float64")
    state = starts(task, 3)
    bound = task.return_bound(state, steps=80)
    found, _ = best_found(task, state, 80, Search(random_starts=0, iterations=15))
    assert (found <= bound).all()
    assert (found > 2 * bound).all()  # it says something
