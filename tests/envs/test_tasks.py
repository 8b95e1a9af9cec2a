"""The tasks' equations: hand-computed values, closed forms, and NumPy against torch."""

import math
from dataclasses import fields

import gymnasium as gym
import numpy as np
import pytest
import torch
from env_toys import observed_dtype
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.ndimage import maximum_filter1d
from task_toys import one_step, some_steps, start_states

from mbrl_gym import MbrlGymError
from mbrl_gym.envs.arm import Arm
from mbrl_gym.envs.bandit import Bandit
from mbrl_gym.envs.drift import Drift
from mbrl_gym.envs.drone import Drone
from mbrl_gym.envs.task import Noise, NoiseSizes, draw, norm
from mbrl_gym.errors import InvalidSettingError

NOTHING = Noise(np.zeros(0), np.zeros(0))
QUARTER = math.pi / 4
ROOT_HALF = math.sqrt(0.5)
# Ids whose noise has no bounds, so that their observations have none; all others have finite ones.
UNBOUNDED = ("mbrl/Drift-v0", "mbrl/Bandit-v0", "mbrl/BanditDrifting-v0")


def eps(*numbers):
    """Return normal noise chosen by hand."""
    return Noise(np.array(numbers, np.float64), np.zeros(0))


# --- every task ---


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-13)])
def test_torch_agrees_with_numpy(env_id, make_task, dtype, tolerance):
    task = make_task(env_id, dtype=dtype)
    state, action, noise = some_steps(task, rows=64)
    in_numpy = one_step(task, state, action, noise)
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in (state, action, *noise)]
    in_torch = one_step(task, tensors[0], tensors[1], Noise(*tensors[2:]))
    for name, expected in in_numpy.items():
        assert in_torch[name].shape == expected.shape, name
        assert in_torch[name].numpy().dtype == expected.dtype, name
        assert_allclose(in_torch[name].numpy(), expected, rtol=tolerance, atol=tolerance, err_msg=name)


def test_torch_starts_agree_with_numpy(env_id, make_task):
    task = make_task(env_id)
    noise = draw(np.random.default_rng(0), (64,), task.initial_noise, task.dtype)
    started = task.initial(Noise(*map(torch.from_numpy, noise)))
    assert_allclose(started.numpy(), task.initial(noise), rtol=2e-6, atol=2e-6)


def test_each_row_equals_the_single_state_bit_for_bit(env_id, make_task):
    task = make_task(env_id)
    state, action, noise = some_steps(task, rows=33)
    together = one_step(task, state, action, noise)
    for row in range(33):
        alone = one_step(task, state[row].copy(), action[row], Noise(*(part[row] for part in noise)))
        for name, expected in together.items():
            assert_array_equal(alone[name], expected[row], err_msg=name)


def test_any_leading_axes_are_a_batch(env_id, make_task):
    task = make_task(env_id)
    state, action, noise = some_steps(task, rows=6)

    def fold(array):
        return array.reshape(2, 3, *array.shape[1:])

    flat = one_step(task, state, action, noise)
    folded = one_step(task, fold(state), fold(action), Noise(*map(fold, noise)))
    for name, expected in flat.items():
        assert_array_equal(folded[name], fold(expected), err_msg=name)


def test_steps_leave_their_arguments_alone(env_id, make_task):
    task = make_task(env_id)
    state, action, noise = some_steps(task, rows=5)
    for array in (state, action, *noise):
        array.flags.writeable = False  # a write would raise
    step = one_step(task, state, action, noise)
    for name in ("state", "observation"):
        assert not np.shares_memory(step[name], state), name
    assert not np.shares_memory(step["next_observation"], step["state"])


def test_columns_of_a_batch_are_contiguous(env_id, make_task):
    task = make_task(env_id)
    state, action, noise = some_steps(task, rows=16)
    for name, array in (("start", start_states(task, 16)), ("next", task.transition(state, action, noise))):
        assert array.strides[0] == array.itemsize, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept(env_id, make_task, dtype):
    task = make_task(env_id, dtype=dtype)
    step = one_step(task, *some_steps(task, rows=3))
    assert task.observation_space.dtype == observed_dtype(task.observation_space, dtype)
    assert {step[name].dtype for name in ("state", "reward")} == {np.dtype(dtype)}
    assert step["observation"].dtype == task.observation_space.dtype


@pytest.mark.parametrize("scalar", [np.float64, np.float32])
def test_numpy_numbers_as_parameters_keep_the_dtype(env_id, make_task, scalar):
    plain = make_task(env_id)
    given_params = {
        field.name: scalar(getattr(plain.params, field.name))
        for field in fields(plain.params)
        if isinstance(getattr(plain.params, field.name), float)
    }
    task = make_task(env_id, **given_params)
    step = one_step(task, *some_steps(task, rows=3))
    assert {step[name].dtype for name in ("state", "reward")} == {np.dtype("float32")}
    assert step["observation"].dtype == plain.observation_space.dtype
    assert_allclose(step["state"], plain.transition(*some_steps(plain, rows=3)), rtol=1e-5, atol=1e-5)


def test_state_behind_the_observation_has_the_same_present_and_future(env_id, make_task):
    task = make_task(env_id, dtype="float64")
    state, action, noise = some_steps(task, rows=64)
    observation = task.observation(state)
    if not task.fully_observed:
        with pytest.raises(InvalidSettingError, match=f"{type(task).__name__} is not fully observed"):
            task.state(observation)
        return
    again = task.state(observation)
    assert again.shape == state.shape
    assert_allclose(task.observation(again), observation, atol=1e-12)
    future, future_again = (task.observation(task.transition(s, action, noise)) for s in (state, again))
    assert_allclose(future_again, future, atol=1e-12)


def test_observation_bounds_are_finite_unless_the_law_is_unbounded(env_id, make_task):
    space = make_task(env_id).observation_space
    assert (isinstance(space, spaces.Discrete) or space.is_bounded()) == (env_id not in UNBOUNDED)


@pytest.mark.parametrize("uniform", [0.0, 0.25, 0.5, 1.0 - 2.0**-24])
def test_extreme_starts_lie_in_the_observation_space(env_id, make_task, uniform):
    task = make_task(env_id)
    sizes = task.initial_noise
    noise = Noise(np.full(sizes.normal, 5.0, np.float32), np.full(sizes.uniform, uniform, np.float32))
    assert task.observation(task.initial(noise)) in task.observation_space


def test_reward_gradient_is_finite_at_the_origin(env_id, make_task):
    task = make_task(env_id)
    observation = torch.zeros(3, *task.observation_space.shape, requires_grad=True)
    action = torch.zeros(3, *task.action_space.shape)
    reward = task.reward(observation, action, observation).sum()
    if not reward.requires_grad:  # it only counts
        return
    reward.backward()
    assert torch.isfinite(observation.grad).all()


def test_reward_gradient_equals_finite_differences(env_id, make_task):
    task = make_task(env_id, dtype="float64")
    if isinstance(task.observation_space, spaces.Discrete):
        pytest.skip("between whole numbers there is nothing to differentiate")
    state, action, noise = some_steps(task, rows=8, seed=1)
    noise = Noise(*map(torch.from_numpy, noise))
    inputs = [torch.tensor(state, requires_grad=True)]
    if isinstance(task.action_space, spaces.Box):
        inputs.append(torch.tensor(0.7 * action, requires_grad=True))  # inside the bounds, where clip is smooth
    fixed_action = torch.from_numpy(np.asarray(action))

    def reward(state, action=fixed_action):
        return task.reward(task.observation(state), action, task.observation(task.transition(state, action, noise)))

    assert torch.autograd.gradcheck(reward, inputs)


# --- settings ---


def test_unknown_parameter_is_refused_with_the_valid_names(env_id, make_task):
    task = make_task(env_id)
    with pytest.raises(InvalidSettingError, match="'humidity'") as caught:
        type(task)(humidity=1.0)
    for field in fields(task.params):
        assert field.name in str(caught.value)
    assert isinstance(caught.value, MbrlGymError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, np.True_, "1", None, [1.0]], ids=repr)
def test_parameters_must_be_finite_numbers(env_id, make_task, value):
    task = make_task(env_id)
    for field in fields(task.params):
        with pytest.raises(InvalidSettingError, match=f"^{field.name} must be"):
            type(task)(**{field.name: value})


def test_parameters_out_of_range_are_refused(env_id, make_task):
    task = make_task(env_id)
    for name in task.params.positive:
        for value in (0, -0.5):
            with pytest.raises(InvalidSettingError, match=f"^{name} must be greater than 0, but {value} was"):
                type(task)(**{name: value})
    for name in task.params.non_negative:
        type(task)(**{name: 0})
        with pytest.raises(InvalidSettingError, match=f"^{name} must be at least 0, but -0.5 was"):
            type(task)(**{name: -0.5})


@pytest.mark.parametrize("arms", [1, 0, -3, 2.5, 10.0])
def test_bandit_needs_a_whole_number_of_at_least_two_arms(arms):
    with pytest.raises(InvalidSettingError, match=f"^arms must be a whole number of at least 2, but {arms} was"):
        Bandit(arms=arms)


@pytest.mark.parametrize("dtype", ["float16", "int32", "real"])
def test_dtype_must_be_float32_or_float64(dtype):
    with pytest.raises(InvalidSettingError, match=f'"float32" or "float64", but .*{dtype}'):
        Drift(dtype=dtype)


def test_parameters_cannot_be_changed_behind_the_tasks_back():
    with pytest.raises(AttributeError):
        Arm().params.link_1 = 2.0


# --- helpers of the tasks ---


def test_draw_has_the_declared_sizes_and_laws():
    noise = draw(np.random.default_rng(0), (2000,), NoiseSizes(normal=2, uniform=3), np.dtype("float32"))
    assert noise.normal.shape == (2000, 2)
    assert noise.uniform.shape == (2000, 3)
    assert noise.normal.dtype == noise.uniform.dtype == np.float32
    assert stats.kstest(noise.normal.ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(noise.uniform.ravel(), "uniform").pvalue > 1e-3


def test_draw_without_sizes_leaves_the_generator_alone():
    generator = np.random.default_rng(0)
    draw(generator, (5,), NoiseSizes(), np.dtype("float32"))
    assert generator.random() == np.random.default_rng(0).random()


def test_norm_is_euclidean_with_zero_gradient_at_zero():
    x = torch.tensor([3.0, 0.0, -1.0], requires_grad=True)
    y = torch.tensor([4.0, 0.0, 0.0], requires_grad=True)
    length = norm(x, y)
    assert_allclose(length.detach(), [5.0, 0.0, 1.0], atol=1e-12)
    length.sum().backward()
    assert_allclose(x.grad, [0.6, 0.0, -1.0], atol=1e-7)
    assert_allclose(y.grad, [0.8, 0.0, 0.0], atol=1e-7)


# --- drift ---


def test_drift_step_by_hand():
    task = Drift(dtype="float64", drift=0.25, noise_std=0.5, max_step=2.0)
    after = task.transition(np.array([1.0]), np.array([-0.75]), eps(3.0))
    assert_allclose(after, [1.0 - 1.5 + 0.25 + 1.5])
    assert task.reward(task.observation(np.array([1.0])), None, after) == -1.25
    assert task.reward(None, None, -after) == -1.25


@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(-3, 3)), min_size=1, max_size=30), st.floats(-5, 5))
@settings(deadline=None, max_examples=50)
def test_drift_position_is_the_sum_of_its_moves(steps, start):
    task = Drift(dtype="float64")
    state = np.array([start])
    for action, noise in steps:
        state = task.transition(state, np.array([action]), eps(noise))
    moves = [min(max(action, -1.0), 1.0) + 0.1 + 0.1 * noise for action, noise in steps]
    assert_allclose(state, [start + sum(moves)], atol=1e-12)


def test_drift_starts_are_uniform():
    starts = start_states(Drift(start_range=3.0), 20_000)
    assert stats.kstest(starts[:, 0], stats.uniform(-3, 6).cdf).pvalue > 1e-3


def test_textbook_walk_from_zero():
    env = gym.make("mbrl/Drift-v0", drift=0.0, noise_std=0.0)
    env.reset(options={"state": [0.0]})
    walked = [env.step(np.array([action], np.float32))[:2] for action in (0.5, 1.0, -0.25, 4.0)]
    assert [float(position[0]) for position, _ in walked] == [0.5, 1.5, 1.25, 2.25]
    assert [reward for _, reward in walked] == [-0.5, -1.5, -1.25, -2.25]


def brute_force_drift_return(start, steps, *, drift, noise_std, max_step, spacing=0.02, reach=40.0):
    """Maximise over every landing point on a grid, backwards in time; the policy may be anything."""
    half = round(reach / spacing)
    grid = np.arange(-half, half + 1) * spacing
    wide = math.ceil(6 * noise_std / spacing)
    edges = (np.arange(-wide, wide + 2) - 0.5) * spacing
    weights = np.diff(stats.norm.cdf(edges / noise_std)) if noise_std else np.ones(1)
    weights /= weights.sum()
    shifted = np.clip(np.arange(len(grid)) + round(drift / spacing), 0, len(grid) - 1)
    value = np.zeros_like(grid)
    for _ in range(steps):
        padded = np.pad(value - np.abs(grid), wide, mode="reflect", reflect_type="odd")
        landing_value = np.convolve(padded, weights, mode="valid")
        value = maximum_filter1d(landing_value, 2 * round(max_step / spacing) + 1, mode="nearest")[shifted]
    return np.interp(start, grid, value)


@pytest.mark.parametrize(
    ("drift", "noise_std", "max_step"),
    [(0.1, 0.1, 1.0), (0.0, 0.5, 0.3), (-0.3, 0.2, 0.5), (0.5, 1.0, 1.0), (0.9, 1.0, 1.0), (1.5, 0.0, 1.0)],
)
def test_drift_optimum_equals_brute_force(drift, noise_std, max_step):
    params = {"drift": drift, "noise_std": noise_std, "max_step": max_step}
    start = np.array([-4.0, -1.0, 0.0, 0.5, 3.0])
    expected = brute_force_drift_return(start, 20, **params)
    assert_allclose(Drift(**params).optimal_return(start[:, None], steps=20), expected, rtol=1e-3, atol=0.01)


@pytest.mark.parametrize(
    "params", [{}, {"drift": 0.0, "noise_std": 0.5, "max_step": 0.3}, {"drift": -0.3, "noise_std": 0.05}]
)
def test_drift_optimum_is_the_mean_return_of_the_optimal_controller(params):
    task = Drift(dtype="float64", **params)
    generator = np.random.default_rng(0)
    for start in (-4.3, 0.0, 2.0):
        state, returns = np.full((20_000, 1), start), np.zeros(20_000)
        for _ in range(100):
            noise = draw(generator, (20_000,), task.transition_noise, task.dtype)
            action = np.clip(-(state + task.params.drift) / task.params.max_step, -1, 1)
            state = task.transition(state, action, noise)
            returns += task.reward(None, None, state)
        error = returns.std() / math.sqrt(len(returns))
        assert abs(task.optimal_return(np.array([start])) - returns.mean()) < 4 * error + 1e-3


@given(
    start=st.floats(-20, 20),
    drift=st.floats(-0.5, 0.5),
    max_step=st.floats(0.6, 2.0),
    steps=st.integers(0, 40),
)
@settings(deadline=None, max_examples=30)
def test_drift_optimum_without_noise_is_an_explicit_rollout(start, drift, max_step, steps):
    task = Drift(dtype="float64", drift=drift, noise_std=0.0, max_step=max_step)
    position, total = start, 0.0
    for _ in range(steps):
        reached = position + drift
        position = max(abs(reached) - max_step, 0.0) * math.copysign(1.0, reached)
        total -= abs(position)
    assert_allclose(task.optimal_return(np.array([start]), steps), total, rtol=1e-3, atol=1e-3)


def test_drift_optimum_at_default_settings_is_a_closed_form():
    # The first step lands on the origin, and 9 standard deviations lie within reach: only the noise costs.
    expected = -100 * 0.1 * math.sqrt(2 / math.pi)
    assert_allclose(Drift().optimal_return(np.array([[0.0], [-0.6], [0.5]])), expected, atol=1e-3)


def test_drift_optimum_has_the_shape_of_the_batch_and_defaults_to_the_registered_length():
    task = Drift()
    states = np.linspace(-5, 5, 6, dtype=np.float32).reshape(2, 3, 1)
    assert task.optimal_return(states).shape == (2, 3)
    assert_array_equal(
        task.optimal_return(states), task.optimal_return(states, gym.spec("mbrl/Drift-v0").max_episode_steps)
    )
    assert_array_equal(task.optimal_return(states, steps=0), np.zeros((2, 3)))


# --- arm ---


@pytest.mark.parametrize(
    ("links", "angles", "elbow", "tip"),
    [
        ((1.0, 0.8), (0.0, 0.0), (1.0, 0.0), (1.8, 0.0)),
        ((1.0, 0.8), (2 * QUARTER, 0.0), (0.0, 1.0), (0.0, 1.8)),
        ((1.0, 0.8), (0.0, 2 * QUARTER), (1.0, 0.0), (1.0, 0.8)),
        ((1.0, 0.8), (0.0, -4 * QUARTER), (1.0, 0.0), (0.2, 0.0)),
        ((1.0, 0.8), (QUARTER, QUARTER), (ROOT_HALF, ROOT_HALF), (ROOT_HALF, ROOT_HALF + 0.8)),
        ((0.5, 2.0), (math.pi, QUARTER), (-0.5, 0.0), (-0.5 - 2 * ROOT_HALF, -2 * ROOT_HALF)),
    ],
)
def test_arm_kinematics_by_hand(links, angles, elbow, tip):
    task = Arm(dtype="float64", link_1=links[0], link_2=links[1])
    state = np.array([*angles, 0.3, -0.2])
    assert_allclose(task.joints(state), (*elbow, *tip), atol=1e-12)
    cosines = [math.cos(angles[0]), math.sin(angles[0]), math.cos(angles[1]), math.sin(angles[1])]
    expected = [*cosines, 0.3, -0.2, tip[0] - 0.3, tip[1] + 0.2]
    assert_allclose(task.observation(state), expected, atol=1e-12)


def test_textbook_arm_reaches_from_45_degrees():
    env = gym.make("mbrl/Arm-v0")
    observation, _ = env.reset(options={"state": [QUARTER, QUARTER, 1.5, 0.5]})
    expected = [ROOT_HALF] * 4 + [1.5, 0.5, ROOT_HALF - 1.5, ROOT_HALF + 0.8 - 0.5]
    assert_allclose(observation, expected, atol=1e-6)
    # Turning the joints against each other keeps the second link upright: only the elbow moves.
    _, reward, *_ = env.step(np.array([-1.0, 1.0], np.float32))
    tip = math.cos(QUARTER - 0.1), math.sin(QUARTER - 0.1) + 0.8
    assert reward == pytest.approx(-math.hypot(tip[0] - 1.5, tip[1] - 0.5), abs=1e-6)


def test_arm_reward_is_the_distance_after_the_step():
    task = Arm(dtype="float64")
    state = np.array([0.0, 0.0, 1.5, 0.4])
    still = task.transition(state, np.zeros(2), NOTHING)
    assert task.reward(None, None, task.observation(still)) == pytest.approx(-0.5)
    on_target = task.observation(np.array([0.0, 0.0, 1.8, 0.0]))
    assert task.reward(None, None, on_target) == pytest.approx(0.0, abs=1e-12)


def test_arm_actions_turn_by_max_step_and_are_clipped():
    task = Arm(dtype="float64", max_step=0.2)
    state = np.array([1.0, -2.0, 0.5, 0.6])
    assert_allclose(task.transition(state, np.array([0.5, -7.0]), NOTHING), [1.1, -2.2, 0.5, 0.6])


def test_arm_state_has_the_angles_modulo_a_turn():
    task = Arm(dtype="float64")
    state, _, _ = some_steps(task, rows=200)
    turned = state + np.array([20 * math.pi, -4 * math.pi, 0, 0])
    turns = (task.state(task.observation(turned)) - state)[:, :2] / math.tau
    assert_allclose(turns, np.round(turns), atol=1e-12)
    assert_allclose(task.state(task.observation(state))[:, 2:], state[:, 2:])


@pytest.mark.parametrize(("link_1", "link_2"), [(1.0, 0.8), (0.5, 1.25), (1.0, 1.0)])
def test_arm_starts_are_uniform_in_pose_and_target_area(link_1, link_2):
    states = start_states(Arm(dtype="float64", link_1=link_1, link_2=link_2), 20_000)
    radius = np.hypot(states[:, 2], states[:, 3])
    inner, outer = abs(link_1 - link_2), link_1 + link_2
    assert radius.min() >= inner - 1e-12
    assert radius.max() <= outer + 1e-12
    share_of_area = (radius**2 - inner**2) / (outer**2 - inner**2)
    assert stats.kstest(share_of_area, "uniform").pvalue > 1e-3
    whole_turn = stats.uniform(-math.pi, math.tau).cdf
    for angle in (states[:, 0], states[:, 1], np.arctan2(states[:, 3], states[:, 2])):
        assert stats.kstest(angle, whole_turn).pvalue > 1e-3


# --- drone ---


@pytest.mark.parametrize("acceleration", [(1.0, 0.5, -0.25), (-3.0, 0.0, 1.0)])
def test_drone_under_constant_acceleration(acceleration):
    task = Drone(dtype="float64", max_acceleration=2.0, dt=0.05)
    state = np.zeros(9)
    for step in range(1, 51):
        state = task.transition(state, np.array(acceleration), NOTHING)
        # Semi-implicit Euler: v = n a dt and p = a dt^2 (1 + 2 + ... + n).
        a = 2.0 * np.clip(acceleration, -1, 1)
        assert_allclose(state[3:6], step * a * 0.05, atol=1e-12)
        assert_allclose(state[:3], a * 0.05**2 * step * (step + 1) / 2, atol=1e-12)


def test_textbook_drone_flies_to_the_corner():
    env = gym.make("mbrl/Drone-v0", dtype="float64")
    observation, _ = env.reset(options={"state": [0.0] * 6 + [5.0] * 3})
    assert_allclose(observation, [5, 5, 5, 0, 0, 0, 0, 0, 0])
    # 25 steps at 0.8 m/s2 and 25 at -0.8 m/s2 cover 0.8 * 0.1^2 * 25^2 = 5 m and end at rest.
    steps = [env.step(np.full(3, thrust, np.float32)) for thrust in [0.8] * 25 + [-0.8] * 25]
    assert steps[0][1] == pytest.approx(-math.sqrt(3) * (5 - 0.008), abs=1e-6)
    assert_allclose(steps[24][0][6:], 0.8 * 0.01 * 25 * 26 / 2, rtol=1e-6)
    assert_allclose(steps[-1][0], [0, 0, 0, 0, 0, 0, 5, 5, 5], atol=1e-6)
    assert steps[-1][1] == pytest.approx(0.0, abs=1e-6)


def test_drone_reward_is_the_distance_after_the_step():
    task = Drone(dtype="float64")
    after = task.transition(np.array([0, 0, 0, 0, 0, 0, 2, 3, 6.0]), np.zeros(3), NOTHING)
    assert task.reward(None, None, task.observation(after)) == pytest.approx(-7.0)


def test_drone_starts_at_rest_with_uniform_targets():
    states = start_states(Drone(target_range=2.0), 20_000)
    assert_array_equal(states[:, :6], 0)
    for column in (6, 7, 8):
        assert stats.kstest(states[:, column], stats.uniform(-2, 4).cdf).pvalue > 1e-3


def test_drone_never_meets_its_speed_limit_within_a_registered_episode():
    task = Drone(dtype="float64", dt=0.2, max_acceleration=3.0)
    state = np.zeros(9)
    for _ in range(gym.spec("mbrl/Drone-v0").max_episode_steps):
        state = task.transition(state, np.ones(3), NOTHING)
    assert_allclose(state[3:6], 3.0 * 0.2 * 100)
    assert (state[:3] < task.max_distance).all()


# --- bandit ---


def test_bandit_pull_by_hand():
    task = Bandit(dtype="float64", arms=3, reward_std=0.5)
    state = np.array([0.25, 2.0, -1.0, 0, 0, 1, 9.0])
    after = task.transition(state, np.int64(1), eps(-3.0))
    assert_allclose(after, [0.25, 2.0, -1.0, 0, 1, 0, 0.5])
    assert_allclose(task.observation(after), [0, 1, 0, 0.5])
    assert task.reward(task.observation(state), 1, task.observation(after)) == 0.5


def test_bandit_regret_is_the_gap_of_the_means_whatever_the_noise():
    task = Bandit(dtype="float64", arms=3)
    means = np.array([0.25, 2.0, -1.0])
    states = np.tile([*means, 0, 0, 0, 0], (3, 1))
    pulls = np.arange(3)
    after = task.transition(states, pulls, Noise(np.array([[9.0], [-9.0], [4.0]]), np.zeros((3, 0))))
    info = task.info(states, pulls, after)
    assert_allclose(info["regret"], [1.75, 0.0, 3.0])
    assert info["optimal"].tolist() == [False, True, False]


def test_bandit_starts_with_normal_means_and_no_history():
    states = start_states(Bandit(arms=4, mean_loc=2.0, mean_std=0.5), 5_000)
    assert stats.kstest(states[:, :4].ravel(), stats.norm(2.0, 0.5).cdf).pvalue > 1e-3
    assert_array_equal(states[:, 4:], 0)


def test_bandit_optimum_is_the_best_mean_at_every_pull():
    task = Bandit(arms=3)
    states = np.array([[0.5, 2.0, -1, 0, 0, 0, 0], [-3.0, -1.5, -2, 0, 0, 0, 0]], np.float32)
    assert_allclose(task.optimal_return(states, steps=10), [20.0, -15.0])
    assert_allclose(task.optimal_return(states), [2000.0, -1500.0])


def test_bandit_has_as_many_columns_as_its_arms_ask_for():
    task = Bandit(arms=4)
    assert task.state_size == 9
    assert task.observation_space.shape == (5,)
    assert task.action_space == spaces.Discrete(4)
