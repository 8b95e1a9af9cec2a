"""The drone among obstacles: geometry by brute force, the wind's law, collisions and placement."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from mbrl_gym.envs.drone import Drone
from mbrl_gym.envs.drone_obstacles import DroneObstacles
from mbrl_gym.envs.spheres import beside_the_line, segment_distance
from mbrl_gym.envs.task import Noise, draw
from mbrl_gym.errors import InvalidSettingError

STILL = Noise(np.zeros(3), np.zeros(0))
AWAY = (-6.5, -6.5, -6.5, 0.5)  # an obstacle far from the drone
coordinates = st.floats(-3, 3).map(lambda x: round(x, 3))
points = st.tuples(coordinates, coordinates, coordinates).map(np.array)


def make_state(*spheres, p=(0, 0, 0), v=(0, 0, 0), target=(0, 0, 0), wind=(0, 0, 0), clearance=1.0):
    return np.array([*p, *v, *target, *wind, clearance, *np.ravel(spheres)], np.float64)


def make_task(spheres=1, **params):
    return DroneObstacles(dtype="float64", obstacles=spheres, **params)


def still_air(spheres=1, **params):
    return make_task(spheres, **{"drag": 0.0, "wind_std": 0.0, **params})


def starts(task, rows, seed=0):
    return task.initial(draw(np.random.default_rng(seed), (rows,), task.initial_noise, task.dtype))


def split(task, states):
    """Return targets `[N, 3]`, centres `[N, K, 3]` and radii `[N, K]`."""
    spheres = states[:, 13 : 13 + 4 * task.obstacles].reshape(len(states), -1, 4)
    return states[:, 6:9], spheres[..., :3], spheres[..., 3]


# --- geometry by brute force ---


@given(points, points, points)
@settings(deadline=None, max_examples=200)
def test_distance_to_a_segment_is_the_smallest_of_a_dense_sample(start, end, point):
    shares = np.linspace(0, 1, 20_001)[:, None]
    sampled = np.min(np.linalg.norm(start + shares * (end - start) - point, axis=-1))
    assert_allclose(segment_distance(tuple(point - start), tuple(end - start)), sampled, atol=1e-3)
    still = segment_distance(tuple(point - start), (0.0 * end[0], 0.0 * end[1], 0.0 * end[2]))
    assert_allclose(still, np.linalg.norm(point - start), atol=1e-12)


@given(st.lists(st.tuples(points, st.floats(0.1, 2.0)), min_size=1, max_size=4), points, st.integers(1, 9))
@settings(deadline=None, max_examples=100)
def test_range_readings_are_the_first_points_within_a_sphere(spheres, p, rays):
    task = make_task(len(spheres), rays=rays, sensor_range=4.0, max_radius=2.0)
    state = make_state(*[(*centre, radius) for centre, radius in spheres], p=p)
    readings = task.observation(state)[13 : 13 + rays]
    along = np.arange(0.0, 4.0, 1e-3)
    for ray, reading in enumerate(readings):
        angle = 2 * math.pi * ray / rays
        way = p + along[:, None] * np.array([math.cos(angle), math.sin(angle), 0.0])
        depths = np.max([radius - np.linalg.norm(way - centre, axis=-1) for centre, radius in spheres], axis=0)
        # A ray that grazes a sphere within the sampling error has no clear answer.
        early, late = (along[np.argmax(depths > depth)] if np.any(depths > depth) else 4.0 for depth in (-2e-3, 2e-3))
        assert early - 2e-3 <= reading <= late + 2e-3


def test_range_readings_by_hand():
    task = make_task(3, rays=4, sensor_range=5.0)
    state = make_state((3, 0, 0, 1.0), (0, 2, 0.8, 1.0), (-9, 0, 0, 1.2), p=(0, 0, 0))
    assert_allclose(task.observation(state)[13:17], [2.0, 2.0 - 0.6, 5.0, 5.0], atol=1e-12)
    nearer = make_state((3, 0, 0, 1.0), (4.5, 0, 0, 1.0), (0, -2, 0, 0.5), p=(1, 0, 0))
    assert_allclose(task.observation(nearer)[13:17], [1.0, 5.0, 5.0, 5.0], atol=1e-12)
    within = make_state((3, 0, 0, 1.0), (0, 2, 0, 0.5), (0, 0, 0, 0.5), p=(0.1, 0, 0))
    assert_array_equal(task.observation(within)[13:17], 0.0)


def test_large_batches_read_the_same_ranges():
    task = DroneObstacles()
    states = starts(task, 2000)
    assert_array_equal(task.observation(states)[:50], task.observation(states[:50].copy()))


def test_readings_of_rays_that_graze_an_obstacle_have_finite_gradients():
    task = make_task(1, rays=4)
    for height in (1.0, 1.0 - 1e-14, 1.0 + 1e-14, 0.0):
        state = torch.tensor(make_state((2, 0, height, 1.0)), requires_grad=True)
        task.observation(state)[13:17].sum().backward()
        assert torch.isfinite(state.grad).all()


# --- collisions ---


@given(points, points, points, st.floats(0.0, 1.0), st.floats(0.1, 0.5))
@settings(deadline=None, max_examples=100)
def test_clearance_is_the_smallest_on_the_way(p, step, centre, radius, drone_radius):
    task = still_air(2, dt=1.0, drone_radius=drone_radius, max_radius=2.0)
    state = make_state((*centre, radius), AWAY, p=p, v=step)
    after = task.transition(state, np.zeros(3), STILL)
    assert_allclose(after[:3], p + step, atol=1e-12)
    way = p + np.linspace(0, 1, 10_001)[:, None] * step
    gaps = [np.linalg.norm(way - c, axis=-1) - r for c, r in ((centre, radius), (np.array(AWAY[:3]), AWAY[3]))]
    assert_allclose(after[12], np.min(gaps) - drone_radius, atol=1e-3)


def test_a_fast_drone_does_not_pass_through_a_thin_obstacle():
    task = still_air(1, max_acceleration=10.0)
    state = make_state((5.0, 0.3, 0.0, 0.25), p=(4.0, 0, 0), v=(20.0, 0, 0))
    observation = task.observation(task.transition(state, np.zeros(3), STILL))
    assert_allclose(observation[6:9], [6.0, 0, 0])  # both ends of the step are free
    assert_allclose(observation[12], 0.3 - 0.25 - 0.2)
    assert task.terminal(observation)
    beside = make_state((5.0, 0.5, 0.0, 0.25), p=(4.0, 0, 0), v=(20.0, 0, 0))
    assert not task.terminal(task.observation(task.transition(beside, np.zeros(3), STILL)))


def test_a_collision_ends_the_episode_and_costs():
    env = gym.make("mbrl/DroneObstacles-v0", obstacles=1, drag=0.0, wind_std=0.0, collision_cost=70.0)
    env.reset(options={"state": make_state((2.0, 0, 0, 1.0), p=(0.45, 0, 0), v=(1, 0, 0), target=(3.6, 4, 0))})
    rewards, clearances = [], []
    for _ in range(9):
        observation, reward, terminated, truncated, _ = env.step(np.zeros(3, np.float32))
        rewards.append(reward)
        clearances.append(observation[12])
        if terminated:
            break
    # Contact at x = 0.8: with 0.1 m a step, in the fourth one.
    assert_allclose(clearances, [0.25, 0.15, 0.05, -0.05], atol=1e-6)
    assert terminated
    assert not truncated
    costs = [math.hypot(3.6 - x, 4.0) for x in (0.55, 0.65, 0.75, 0.85)]
    costs[-1] += 70.0
    assert_allclose(rewards, np.negative(costs), rtol=1e-6)


def test_reward_terminal_and_cost_by_hand():
    task = make_task(1)
    observation = task.observation(make_state(AWAY, p=(1, 0, 0), target=(1, 3, 4), clearance=0.25))
    assert task.reward(None, None, observation) == pytest.approx(-5.0)
    assert not task.terminal(observation)
    observation[12] = -0.01
    assert task.reward(None, None, observation) == pytest.approx(-1005.0)
    assert task.terminal(observation)


def test_cost_is_how_deep_a_step_ends_in_the_nearest_obstacle():
    task = make_task(2)
    centres = (AWAY, (1.0, 3.0, 4.0, 0.5))  # 5 m from the drone, whose own radius is 0.2 m
    observation = task.observation(make_state(*centres, p=(1, 0, 0), target=(1, 3, 4), clearance=-3.0))
    assert task.cost(observation) == pytest.approx(-(5.0 - 0.5 - 0.2))
    inside = task.observation(make_state(*centres, p=(1, 3, 3.4), target=(1, 3, 4)))
    assert task.cost(inside) == pytest.approx(0.1)
    batch = task.cost(torch.as_tensor(np.stack([observation, inside])))
    assert_allclose(batch, [-4.3, 0.1])


def test_waiting_beside_the_farthest_obstacle_costs_less_than_crashing_into_it():
    task = DroneObstacles(dtype="float64")
    target, centre, radius = split(task, starts(task, 50_000))
    farthest = np.linalg.norm(centre - target[:, None], axis=-1) + radius + 0.2
    nearest = np.linalg.norm(centre, axis=-1) - radius - 0.2
    # Full thrust with the strongest wind behind it: the first steps cannot reach the obstacle.
    speedup = math.sqrt(3) * (1.0 + 0.3 * 5.0)
    steps_there = np.floor(np.sqrt(2 * nearest / speedup) / 0.1) - 1
    assert np.max((100 - steps_there) * farthest) < task.params.collision_cost


# --- motion ---


def test_without_air_and_obstacles_it_moves_like_the_drone():
    task, drone = still_air(1, max_acceleration=1.5, dt=0.2), Drone(dtype="float64", max_acceleration=1.5, dt=0.2)
    state, plain = make_state((6.5, 6.5, 6.5, 0.5), target=(1, 2, 3)), np.array([0.0] * 6 + [1, 2, 3])
    for action in np.random.default_rng(0).uniform(-1.5, 1.5, (100, 3)):
        state, plain = task.transition(state, action, STILL), drone.transition(plain, action, STILL)
        assert_array_equal(state[:9], plain)
        observation = task.observation(state)
        assert_array_equal(observation[:9], drone.observation(plain))
        assert task.reward(None, None, observation) == drone.reward(None, None, observation)


@pytest.mark.parametrize("drag", [0.3, 50.0])
def test_terminal_velocity_is_the_wind_and_what_thrust_adds(drag):
    task = make_task(1, drag=drag, wind_std=2.0, wind_time=1e9, max_acceleration=1.5)
    state = make_state(AWAY, wind=(1.0, -2.0, 0.5))
    for _ in range(600):
        state = task.transition(state, np.array([1.0, 0.0, -2.0]), STILL)
    assert_allclose(state[3:6], [1.0 + 1.5 / drag, -2.0, 0.5 - 1.5 / drag], atol=1e-5)


def test_one_step_by_hand():
    task = make_task(1, drag=0.5, dt=0.2, max_acceleration=2.0)
    state = make_state(AWAY, p=(1, 2, 3), v=(1, 0, -1), wind=(0, 2, 0))
    after = task.transition(state, np.array([0.5, 0.0, 9.0]), STILL)
    v = np.array([1 + 0.2 * 1.0, 0.2 * 0.5 * 2, -1 + 0.2 * 2.0]) / 1.1
    assert_allclose(after[3:6], v)
    assert_allclose(after[:3], np.array([1, 2, 3]) + 0.2 * v)


# --- wind ---


def test_wind_is_the_exact_discretisation_of_its_process():
    task = make_task(1, wind_std=1.5, wind_time=0.8, dt=0.2)
    state = make_state(AWAY, wind=(1.0, -2.0, 3.0))
    after = task.transition(state, np.zeros(3), Noise(np.array([0.0, 1.0, -2.0]), np.zeros(0)))
    kept = math.exp(-0.25)
    fresh = 1.5 * math.sqrt(1 - math.exp(-0.5))
    assert_allclose(after[9:12], [kept, -2 * kept + fresh, 3 * kept - 2 * fresh])


def test_two_short_steps_of_wind_have_the_law_of_a_long_one():
    """Mean and variance of w'' given w: the semigroup property, which approximate discretisations lack."""
    laws = []
    for dt, steps in ((0.4, 1), (0.2, 2)):
        task = make_task(1, dt=dt, wind_std=1.5, wind_time=0.8, max_acceleration=0.1)
        rows = np.tile(make_state(AWAY, wind=(2.0, 0, 0)), (2, 1))
        means, gains = rows.copy(), []
        for _ in range(steps):
            unit = task.transition(rows, np.zeros((2, 3)), Noise(np.array([[1.0] * 3, [0.0] * 3]), np.zeros((2, 0))))
            gains = [gain * math.exp(-dt / 0.8) for gain in gains] + [unit[0, 10] - unit[1, 10]]
            means = task.transition(means, np.zeros((2, 3)), Noise(np.zeros((2, 3)), np.zeros((2, 0))))
        laws.append((means[0, 9], math.sqrt(sum(gain**2 for gain in gains))))
    assert_allclose(laws[0], laws[1], rtol=1e-12)


def test_wind_starts_and_stays_in_its_stationary_law():
    task = make_task(1, wind_std=0.8, wind_time=0.5, dt=0.1)
    generator = np.random.default_rng(1)
    state = starts(task, 20_000)
    first = state[:, 9:12].copy()
    assert stats.kstest(first.ravel(), stats.norm(0, 0.8).cdf).pvalue > 1e-3
    for _ in range(5):
        noise = draw(generator, (20_000,), task.transition_noise, task.dtype)
        state = task.transition(state, np.zeros((20_000, 3)), noise)
    wind = state[:, 9:12]
    assert stats.kstest(wind.ravel(), stats.norm(0, 0.8).cdf).pvalue > 1e-3
    correlations = np.corrcoef(np.hstack([first, wind]).T)
    assert_allclose(np.diag(correlations[:3, 3:]), math.exp(-1.0), atol=0.03)  # lag: one correlation time
    assert np.max(np.abs(correlations[3:, 3:] - np.eye(3))) < 0.03  # axes are independent


def test_wind_stops_at_five_standard_deviations():
    task = make_task(1, wind_std=0.5)
    storm = Noise(np.array([90.0, -90.0, 0.0]), np.zeros(0))
    assert_allclose(task.transition(make_state(AWAY), np.zeros(3), storm)[9:12], [2.5, -2.5, 0.0])
    assert_allclose(starts(task, 5)[:, 9:12], np.clip(starts(task, 5)[:, 9:12], -2.5, 2.5))


# --- placement ---


@given(
    seed=st.integers(0, 2**32 - 1),
    target_range=st.sampled_from([1e-9, 0.1, 2.0, 5.0, 50.0]),
    radii=st.tuples(st.floats(0.05, 3.0), st.floats(0.05, 3.0)),
    corridor=st.floats(0.01, 6.0),
    margin=st.floats(0.01, 2.0),
)
@settings(deadline=None, max_examples=60)
def test_start_and_target_are_always_clear(seed, target_range, radii, corridor, margin):
    small, large = sorted(radii)
    task = make_task(4, target_range=target_range, min_radius=small, max_radius=large, corridor=corridor, margin=margin)
    states = starts(task, 200, seed)
    target, centre, radius = split(task, states)
    for place in (np.zeros_like(target), target):
        gaps = np.linalg.norm(centre - place[:, None], axis=-1) - radius - 0.2
        assert np.all(gaps >= margin - 1e-9)
    assert_allclose(states[:, 12], np.min(np.linalg.norm(centre, axis=-1) - radius, axis=-1) - 0.2, atol=1e-9)
    assert np.all((radius >= small - 1e-12) & (radius <= large + 1e-12))
    assert task.allows(states)


@given(end=points, along=st.floats(0, 1), angle=st.floats(0, 1), distance=st.floats(0.1, 4.0))
@settings(deadline=None, max_examples=200)
def test_points_too_close_to_an_end_are_pushed_straight_away_from_the_line(end, along, angle, distance):
    numbers = (np.float64(along), np.float64(0.0), np.float64(angle))
    point = np.array(beside_the_line(tuple(end), np.float64(distance), numbers, 0.5))
    length = np.linalg.norm(end)
    assert np.linalg.norm(point) >= distance * (1 - 1e-9)
    assert np.linalg.norm(point - end) >= distance * (1 - 1e-9)
    assert_allclose(point @ end, along * length**2, atol=1e-7)  # on the line it would be there
    if min(along, 1 - along) * length > distance:
        assert np.linalg.norm(np.cross(point, end)) <= 1e-7
    else:
        assert min(np.linalg.norm(point), np.linalg.norm(point - end)) == pytest.approx(distance, rel=1e-6)


def test_obstacles_lie_evenly_around_the_line_and_block_it_often():
    task = DroneObstacles(dtype="float64")
    target, centre, radius = split(task, starts(task, 20_000))
    assert stats.kstest(radius.ravel(), stats.uniform(0.5, 0.7).cdf).pvalue > 1e-3
    length = np.linalg.norm(target, axis=-1)
    share = np.einsum("nkd,nd->nk", centre, target) / length[:, None] ** 2
    assert stats.kstest(share.ravel(), "uniform").pvalue > 1e-3
    aside = centre - share[..., None] * target[:, None]
    offset = np.linalg.norm(aside, axis=-1)
    unpushed = np.minimum(share, 1 - share) * length[:, None] > radius + 0.5
    assert stats.kstest((offset[unpushed] / 2.0) ** 2, "uniform").pvalue > 1e-3
    assert np.linalg.norm(np.mean(aside / offset[..., None], axis=(0, 1))) < 0.02  # no side is preferred
    blocked = np.any(offset < radius + 0.2, axis=-1)
    assert 0.5 < np.mean(blocked) < 0.9


def test_a_target_in_the_origin_has_obstacles_around_it():
    task = DroneObstacles()
    sizes = task.initial_noise
    state = task.initial(Noise(np.zeros(sizes.normal, np.float32), np.full(sizes.uniform, 0.5, np.float32)))
    assert_array_equal(state[6:9], 0.0)
    assert np.isfinite(state).all()
    assert state[12] >= 0.3 - 1e-6


# --- the task ---


@pytest.mark.parametrize("name", ["obstacles", "rays"])
@pytest.mark.parametrize("value", [0, -1, 2.5, 3.0])
def test_counts_are_whole_numbers_of_at_least_one(name, value):
    with pytest.raises(InvalidSettingError, match=f"^{name} must be a whole number of at least 1, but {value} was"):
        DroneObstacles(**{name: value})
    with pytest.raises(InvalidSettingError, match=f"randomize cannot vary '{name}'"):
        DroneObstacles(randomize={name: (1, 3)})


def test_radii_are_in_order():
    with pytest.raises(InvalidSettingError, match=r"min_radius must be at most max_radius, but 2.0 and 1.2 were"):
        DroneObstacles(min_radius=2.0)


@pytest.mark.parametrize(("obstacles", "rays"), [(1, 1), (7, 3)])
def test_sizes_follow_the_counts(obstacles, rays):
    task = DroneObstacles(obstacles=obstacles, rays=rays)
    assert task.state_size == 13 + 4 * obstacles
    assert task.observation_space.shape == (13 + rays + 4 * obstacles,)
    assert task.observation(starts(task, 1)[0]) in task.observation_space


@pytest.mark.parametrize("state", [make_state((7.5, 0, 0, 1)), make_state((0, 0, 3, 1.3)), make_state((0, 0, 3, -1))])
def test_obstacles_where_none_can_be_are_refused(state):
    env = gym.make("mbrl/DroneObstacles-v0", obstacles=1)
    env.reset(options={"state": make_state((7.0, 0, 0, 1))})
    with pytest.raises(InvalidSettingError, match="must be finite and lead to an observation"):
        env.reset(options={"state": state})


def test_speed_bounds_hold_against_the_strongest_wind_and_are_nearly_reached():
    task = DroneObstacles(drag=0.8)
    state = starts(task, 20)
    for _ in range(300):
        noise = Noise(np.full((20, 3), 50.0, np.float32), np.zeros((20, 0), np.float32))
        state = task.transition(state, np.ones((20, 3), np.float32), noise)
        assert task.allows(state)
    assert_allclose(state[:, 3:6], 5.0 + 1.0 / 0.8, rtol=1e-4)
    assert task.max_speed < 1.01 * (5.0 + 1.0 / 0.8)


def test_each_row_flies_with_its_own_constants():
    ranges = {"drag": (0.1, 1.0), "wind_time": (0.5, 4.0), "wind_std": (0.0, 2.0), "drone_radius": (0.1, 0.4)}
    task = DroneObstacles(dtype="float64", randomize=ranges)
    generator = np.random.default_rng(0)
    before = starts(task, 6)
    action = generator.uniform(-1, 1, (6, 3))
    noise = draw(generator, (6,), task.transition_noise, task.dtype)
    after = task.transition(before, action, noise)
    assert not task.fully_observed
    for row in range(6):
        constants = dict(zip(ranges, before[row, -4:], strict=True))
        alone = DroneObstacles(dtype="float64", **constants)
        expected = alone.transition(before[row, :-4], action[row], Noise(noise.normal[row], noise.uniform[row]))
        assert_allclose(after[row, :-4], expected, atol=1e-12)


def test_gradients_through_an_episode_are_finite():
    task = DroneObstacles()
    state = torch.from_numpy(np.ascontiguousarray(starts(task, 16)))
    action = torch.zeros(16, 3, requires_grad=True)
    total = 0.0
    for _ in range(20):
        state = task.transition(state, action, Noise(torch.zeros(16, 3), torch.zeros(16, 0)))
        observation = task.observation(state)
        total = total + task.reward(None, None, observation).sum() + observation[..., 12:21].sum()
    total.backward()
    assert torch.isfinite(action.grad).all()
    assert (action.grad.abs().sum(-1) > 0).all()
