"""The arm's geometry and optima: against brute force, hand-computed cases, and trajectories of the real tasks."""

import math

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import maximum_filter1d
from task_toys import start_states

from mbrl_gym.envs.arm import Arm
from mbrl_gym.envs.arm_optimum import (
    Links,
    closest,
    placing_steps,
    reaching_bound,
    reaching_path,
    reaching_return,
    steps_to_disc,
    tip,
)
from mbrl_gym.envs.arm_sparse import ArmSparse
from mbrl_gym.envs.task import Noise

NOTHING = Noise(np.zeros(0), np.zeros(0))
ARM = Links(1.0, 0.8)
ANGLES = st.floats(-4.0, 4.0)
LENGTHS = st.floats(0.2, 2.0)


def distance(links, pose, target):
    return np.hypot(*np.moveaxis(tip(links, pose) - target, -1, 0))


# --- geometry ---


def test_tip_is_the_tasks_own():
    task = Arm(dtype="float64", link_1=0.7, link_2=1.3)
    states = start_states(task, 50)
    assert_allclose(tip(Links(0.7, 1.3), states[:, :2]), np.stack(task.joints(states)[2:], -1), atol=1e-14)


@given(
    links=st.builds(Links, LENGTHS, LENGTHS),
    center=st.tuples(ANGLES, ANGLES),
    half=st.tuples(st.floats(0.0, 3.5), st.floats(0.0, 3.5)),
    target=st.tuples(st.floats(-3.0, 3.0), st.floats(-3.0, 3.0)),
)
@settings(deadline=None, max_examples=200)
def test_closest_pose_of_a_box_is_the_best_of_a_fine_grid(links, center, half, target):
    center, half, target = map(np.array, (center, half, target))
    least, pose = closest(links, center, half, target)
    assert (np.abs(pose - center) <= half + 1e-12).all()
    assert_allclose(distance(links, pose, target), least, atol=1e-12)
    axes = [np.linspace(center[i] - half[i], center[i] + half[i], 81) for i in range(2)]
    by_grid = distance(links, np.stack(np.meshgrid(*axes), -1), target).min()
    between = half[0] / 80 * (links.first + links.second) + half[1] / 80 * links.second  # the tip moves by less
    assert by_grid - between - 1e-12 <= least <= by_grid + 1e-12


def test_closest_broadcasts_rows():
    centers, targets = np.zeros((3, 1, 2)), np.array([[1.8, 0.0], [0.0, 1.8]])
    least, pose = closest(ARM, centers, np.array([0.5, 0.0]), targets)
    assert pose.shape == (3, 2, 2)
    assert_allclose(least, np.tile([0.0, 2 * 1.8 * math.sin((math.pi / 2 - 0.5) / 2)], (3, 1)), atol=1e-12)


@pytest.mark.parametrize(
    ("pose", "target", "radius", "steps"),
    [
        ((0.0, 0.0), (1.8, 0.0), 0.05, 0),
        ((0.0, 0.0), (1.8 * math.cos(1.0), 1.8 * math.sin(1.0)), 1e-6, 10),  # stretched, only the base turns
        ((0.3, 0.0), (1.8 * math.cos(1.0), 1.8 * math.sin(1.0)), 1e-6, 7),
        ((0.0, 0.0), (1.85, 0.0), 0.05, 0),  # just beyond the stretched arm
        ((0.0, 0.0), (1.85, 0.0), 0.049, 51),
        ((3.1, 0.0), (1.8 * math.cos(-3.1), 1.8 * math.sin(-3.1)), 1e-6, 1),  # across the back
        ((0.0, math.pi), (0.2, 0.0), 1e-6, 0),
        ((0.0, 0.0), (5.0, 0.0), 0.05, 51),  # never
    ],
)
def test_steps_to_a_disc_by_hand(pose, target, radius, steps):
    assert steps_to_disc(ARM, np.array(pose), np.array(target), radius, 0.1, 50) == steps


# --- reaching ---


def exhaustive_return(task, state, steps, choices):
    """Return the best return over all sequences of moves from a list, by stepping the task."""
    moves = np.array([(a, b) for a in choices for b in choices])
    states, returns = state[None], np.zeros(1)
    for _ in range(steps):
        states = np.repeat(states, len(moves), axis=0)
        actions = np.tile(moves, (len(returns), 1))
        states = task.transition(states, actions, NOTHING)
        returns = np.repeat(returns, len(moves)) + task.reward(None, None, task.observation(states))
    return returns.max()


@pytest.mark.parametrize("params", [{}, {"link_1": 0.6, "link_2": 1.1, "max_step": 0.7}, {"max_step": 2.5}])
def test_no_sequence_of_a_few_actions_beats_the_optimum(params):
    task = Arm(dtype="float64", **params)
    states = start_states(task, 6)
    best = task.optimal_return(states, 4)
    for state, value in zip(states, best, strict=True):
        assert exhaustive_return(task, state, 4, (-1.0, 0.0, 1.0)) <= value + 1e-9
        assert exhaustive_return(task, state, 2, np.linspace(-1, 1, 15)) <= task.optimal_return(state, 2) + 1e-9


@pytest.mark.parametrize("params", [{}, {"link_1": 0.5, "link_2": 1.5, "max_step": 0.3}, {"max_step": 0.02}])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_the_real_task_attains_the_optimum(params, steps):
    task = Arm(dtype="float64", **params)
    links, max_step = Links(task.params.link_1, task.params.link_2), task.params.max_step
    for state in start_states(task, 3, seed=steps):
        path = reaching_path(links, state[:2], state[2:], max_step, steps)
        assert path.shape == (steps, 2)
        actions = np.diff(path, axis=0, prepend=state[None, :2]) / max_step
        assert np.abs(actions).max() <= 1 + 1e-9
        total = 0.0
        for action in actions:
            state = task.transition(state, action, NOTHING)
            total += task.reward(None, None, task.observation(state))
        start = np.array([*path[0] - max_step * actions[0], *state[2:]])
        assert_allclose(total, task.optimal_return(start, steps), atol=1e-6)


def test_a_finer_lattice_alone_comes_close_from_below():
    links, max_step, steps = ARM, 0.1, 15
    task = Arm(dtype="float64")
    for state in start_states(task, 3, seed=5):
        axis = np.arange(-300, 301) * (max_step / 20)
        grid = np.stack(np.meshgrid(state[0] + axis, state[1] + axis, indexing="ij"), -1)
        reward = -distance(links, grid, state[2:])
        value = np.zeros_like(reward)
        for _ in range(steps):
            value = reward + value
            for side in (0, 1):
                value = maximum_filter1d(value, 41, axis=side)
        best = task.optimal_return(state, steps)
        assert value[300, 300] <= best + 1e-9
        assert value[300, 300] >= best - 0.01 * steps


def test_the_upper_bound_is_close_on_average():
    task = Arm(dtype="float64")
    states = start_states(task, 12, seed=2)
    best = task.optimal_return(states)
    bound = np.array([reaching_bound(ARM, state[:2], state[2:], 0.1, 50) for state in states])
    assert (bound >= best - 1e-9).all()
    assert (bound - best).sum() < 0.005 * -best.sum()


def test_upper_bound_of_a_straight_way_is_exact():
    # The target lies beyond the stretched arm's tip: nothing is better than to stay.
    assert reaching_bound(ARM, np.zeros(2), np.array([2.0, 0.0]), 0.1, 30) == pytest.approx(-30 * 0.2)
    assert reaching_return(ARM, np.zeros(2), np.array([2.0, 0.0]), 0.1, 30) == pytest.approx(-30 * 0.2)


@pytest.mark.parametrize("steps", [0, 1, 20])
def test_an_arm_on_its_target_loses_nothing(steps):
    task = Arm(dtype="float64")
    state = np.array([0.4, -1.0, *tip(ARM, np.array([0.4, -1.0]))])
    assert task.optimal_return(state, steps) == pytest.approx(0.0, abs=1e-9)


def test_arm_optimum_falls_with_the_steps_until_the_target_is_reached():
    task = Arm(dtype="float64")
    for state in start_states(task, 3, seed=8):
        best = [float(task.optimal_return(state, steps)) for steps in (1, 2, 4, 8, 16, 32, 40, 200)]
        assert (np.diff(best) <= 1e-6).all()
        assert best[-1] == pytest.approx(best[-2], abs=1e-4)


def test_arm_optimum_with_randomised_constants_is_that_of_each_row():
    task = Arm(dtype="float64", randomize={"link_2": (0.5, 1.0), "max_step": (0.05, 0.2)})
    states = start_states(task, 3)
    best = task.optimal_return(states[None], 12)
    assert best.shape == (1, 3)
    for state, value in zip(states, best[0], strict=True):
        alone = Arm(dtype="float64", link_2=state[4], max_step=state[5])
        assert value == alone.optimal_return(state[:4], 12)


# --- the sparse arm ---


def test_sparse_optimum_counts_the_steps_within():
    task = ArmSparse(dtype="float64", tolerance=1e-6)
    there = [1.8 * math.cos(1.0), 1.8 * math.sin(1.0)]
    states = np.array([[1.0, 0.0, *there], [0.95, 0.0, *there], [0.0, 0.0, *there], [0.0, 0.0, 1.9, 0.0]])
    assert_array_equal(task.optimal_return(states), [50, 50, 41, 0])  # there, one step, ten steps, out of reach
    assert_array_equal(task.optimal_return(states, 10), [10, 10, 1, 0])
    assert_array_equal(task.optimal_return(states, 9), [9, 9, 0, 0])
    assert_array_equal(task.optimal_return(states.reshape(2, 2, 4), 0), np.zeros((2, 2)))


@pytest.mark.parametrize("params", [{}, {"link_1": 0.6, "link_2": 1.1, "max_step": 0.5, "tolerance": 0.2}])
def test_sparse_optimum_is_attained_and_never_beaten(params):
    task = ArmSparse(dtype="float64", **params)
    links, max_step = Links(task.params.link_1, task.params.link_2), task.params.max_step
    states = start_states(task, 200)
    best = task.optimal_return(states)
    assert (best > 0).all()
    first = 51 - best
    for state, steps in zip(states[:40], first[:40], strict=True):
        _, goal = closest(links, state[:2], np.full(2, steps * max_step), state[2:])
        move = (goal - state[:2]) / (steps * max_step)
        total = 0.0
        for step in range(50):
            state = task.transition(state, move if step < steps else 0 * move, NOTHING)
            total += task.reward(None, None, task.observation(state))
        assert total == 51 - steps
    # A fine grid over everything that one step less can reach has no pose within the tolerance.
    share = np.linspace(-1, 1, 301)
    grid = np.stack(np.meshgrid(share, share), -1)
    for state, steps in zip(states[:40], first[:40], strict=True):
        if steps > 1:
            near = distance(links, state[:2] + (steps - 1) * max_step * grid, state[2:])
            assert near.min() > task.params.tolerance


# --- picking and placing ---


def test_placing_steps_by_hand():
    # Stretched, along a circle of 1.8 m: discs of a hair at 1 rad and at 0.45 rad.
    def at(angle):
        return np.array([1.8 * math.cos(angle), 1.8 * math.sin(angle)])

    hair = 1e-6
    start = np.zeros(2)
    assert placing_steps(ARM, start, (at(1.0), hair), (at(0.45), hair), 0.1, 50) == (16, 16)
    assert placing_steps(ARM, start, (at(1.0), hair), (at(0.45), hair), 0.1, 16) == (16, 16)
    assert placing_steps(ARM, start, (at(1.0), hair), (at(0.45), hair), 0.1, 15) == (16, 16)
    assert placing_steps(ARM, start, (at(0.0), hair), (at(0.45), hair), 0.1, 50) == (6, 6)  # a step to grasp
    assert placing_steps(ARM, start, (at(0.0), hair), (at(0.45), hair), 0.1, 50, wait=2) == (7, 7)
    assert placing_steps(ARM, start, (np.array([3.0, 0.0]), hair), (at(0.45), hair), 0.1, 50) == (51, 51)


@pytest.mark.parametrize("seed", range(4))
def test_placing_steps_equal_those_of_a_dense_grid_of_grasps(seed):
    generator = np.random.default_rng(seed)
    start, *poses = generator.uniform(-math.pi, math.pi, (3, 2))
    pick, place = (tip(ARM, pose) for pose in poses)
    fewest, bound = placing_steps(ARM, start, (pick, 0.1), (place, 0.05), 0.1, 60)
    assert fewest == bound
    turns = np.linspace(-math.pi, math.pi, 1201)
    grasps = start + np.stack(np.meshgrid(turns, turns), -1).reshape(-1, 2)
    grasps = grasps[distance(ARM, grasps, pick) <= 0.1]
    first = np.maximum(np.ceil(np.abs(grasps - start).max(-1) / 0.1 - 1e-9), 1)
    totals = first + steps_to_disc(ARM, grasps, place, 0.05, 0.1, 60)
    assert fewest <= totals.min() <= fewest + 1  # the grid misses narrow regions


@pytest.mark.parametrize(("env_id", "kind"), [("Arm", "best known"), ("ArmSparse", "exact"), ("ArmPickPlace", "exact")])
def test_the_optimum_says_how_it_is_known(env_id, kind):
    with gym.make(f"mbrl/{env_id}-v0") as env:
        assert env.unwrapped.task.optimum.kind == kind
