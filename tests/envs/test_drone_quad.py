"""The quadrotor against hand-computed values, conservation laws and an independent integration of its equations."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.integrate import solve_ivp
from scipy.spatial.transform import Rotation

from mbrl_gym.envs.drone_quad import DroneQuad
from mbrl_gym.envs.quadrotor import torques
from mbrl_gym.envs.quaternions import quaternion_of, rotation_matrix
from mbrl_gym.envs.task import Noise, draw
from mbrl_gym.errors import InvalidSettingError

NOTHING = Noise(np.zeros(0), np.zeros(0))
LEVEL = (1.0, 0.0, 0.0, 0.0)
INERTIA = {"inertia_x": 0.002, "inertia_y": 0.003, "inertia_z": 0.0045}
CUT = -np.ones(4)  # the command of no thrust
P, V, Q, RATES, THRUSTS = slice(0, 3), slice(3, 6), slice(6, 10), slice(10, 13), slice(13, 17)


def make_state(*, p=(0, 0, 0), v=(0, 0, 0), q=LEVEL, rates=(0, 0, 0), thrusts=(0, 0, 0, 0), target=(0, 0, 0)):
    return np.array([*p, *v, *q, *rates, *thrusts, *target], np.float64)


def fly(task, state, actions):
    for action in actions:
        state = task.transition(state, np.asarray(action, np.float64), NOTHING)
    return state


def to_world(state):
    """Return the rotation from body to world, by SciPy."""
    return Rotation.from_quat(state[Q], scalar_first=True)


# --- laws ---


def spin_errors(dt, seconds=1.0):
    """Return the errors of angular momentum and energy of a spinning body without thrust, over all steps."""
    task = DroneQuad(dtype="float64", dt=dt, max_rate=1e3, **INERTIA)
    inertia = np.array(list(INERTIA.values()))
    state = make_state(q=Rotation.from_rotvec([0.3, -1.0, 0.5]).as_quat(scalar_first=True), rates=(6.0, -9.0, 4.0))

    def invariants(state):
        rates = state[RATES]
        return np.append(to_world(state).apply(inertia * rates) / 0.03, rates @ (inertia * rates) / 0.4)

    start, worst = invariants(state), 0.0
    for _ in range(round(seconds / dt)):
        state = fly(task, state, [CUT])
        worst = np.maximum(worst, np.abs(invariants(state) - start))
    return np.max(worst[:3]), worst[3]


def test_free_spin_keeps_angular_momentum_and_energy_to_the_order_of_the_integrator():
    coarse, fine = spin_errors(0.02), spin_errors(0.01)
    for error, smaller in zip(coarse, fine, strict=True):
        assert smaller < 2e-4
        assert 13.0 < error / smaller < 36.0  # order 4, or 5 where the leading term keeps the invariant


def test_free_fall_is_exact():
    task = DroneQuad(dtype="float64", drag=0.0, gravity=9.0)
    state = make_state(v=(1.0, -2.0, 3.0), p=(0.5, 0.0, -1.0), rates=(1.0, 2.0, 3.0))
    state = fly(task, state, [CUT] * 50)
    assert_allclose(state[V], [1.0, -2.0, 3.0 - 9.0], atol=1e-12)
    assert_allclose(state[P], [1.5, -2.0, -1.0 + 3.0 - 4.5], atol=1e-12)


def test_action_zero_hovers_for_a_whole_episode():
    task = DroneQuad(dtype="float64")
    start = task.initial(Noise(np.zeros(0), np.array([0.1, 0.5, 0.9])))
    assert_allclose(fly(task, start, np.zeros((250, 4))), start, atol=1e-9)


@pytest.mark.parametrize("mass", [0.3, 0.9])
def test_any_mass_hovers_at_the_documented_command(mass):
    task = DroneQuad(dtype="float64", mass=mass)
    start = task.initial(Noise(np.zeros(0), np.full(3, 0.5)))
    command = mass * 9.81 / (2 * task.params.max_thrust) - 1
    assert_allclose(fly(task, start, np.full((100, 4), command)), start, atol=1e-9)


def test_a_mass_beyond_all_thrust_starts_at_full_thrust():
    task = DroneQuad(dtype="float64", mass=5.0)
    start = task.initial(Noise(np.zeros(0), np.full(3, 0.5)))
    assert_array_equal(start[THRUSTS], task.params.max_thrust)


def test_full_thrust_lifts_twice_the_weight():
    task = DroneQuad(dtype="float64", drag=0.0)
    state = fly(task, make_state(thrusts=[task.params.max_thrust] * 4), np.ones((50, 4)))
    assert_allclose(state[V], [0.0, 0.0, 9.81], atol=1e-9)


def test_terminal_velocity_balances_weight_and_drag():
    task = DroneQuad(dtype="float64", drag=0.5, mass=0.4, gravity=10.0)
    state = make_state(v=(3.0, 0.0, 0.0))
    after = fly(task, state, [CUT] * 40)  # 0.8 s, one time constant m / drag
    assert_allclose(after[V], [3.0 * math.exp(-1.0), 0.0, -8.0 * (1 - math.exp(-1.0))], rtol=1e-6, atol=1e-9)
    assert_allclose(fly(task, after, [CUT] * 800)[V], [0.0, 0.0, -8.0], atol=1e-6)


def test_speed_position_and_rates_stop_at_their_bounds():
    task = DroneQuad(dtype="float64", max_speed=2.0, max_distance=1.0, max_rate=3.0)
    state = fly(task, make_state(), [CUT] * 200)
    assert_allclose(state[:6], [0, 0, -1.0, 0, 0, -2.0])
    rolling = fly(task, make_state(), [(1, 1, -1, -1)] * 100)
    assert_allclose(rolling[RATES], [3.0, 0.0, 0.0], atol=1e-12)


def test_rotors_follow_their_commands_exponentially():
    task = DroneQuad(dtype="float64", motor_lag=0.08, max_thrust=3.0)
    state = make_state(thrusts=(0.0, 1.0, 2.0, 3.0))
    command = np.array([-1.0, -0.5, 0.0, 1.0])
    after = fly(task, state, [command] * 7)
    goal = 1.5 * (1 + command)
    assert_allclose(after[THRUSTS], goal + (state[THRUSTS] - goal) * math.exp(-7 * 0.02 / 0.08), atol=1e-12)


# --- signs ---


@pytest.mark.parametrize(
    ("rotor", "signs"),
    [
        (0, (1, -1, 1)),  # front left: rolls right, pitches up, yaws left
        (1, (1, 1, -1)),  # rear left: rolls right, pitches down, yaws right
        (2, (-1, 1, 1)),  # rear right
        (3, (-1, -1, -1)),  # front right
    ],
)
def test_torques_of_a_single_rotor_by_hand(rotor, signs):
    task = DroneQuad(dtype="float64", arm_length=0.2, torque_ratio=0.03)
    thrusts = np.zeros(4)
    thrusts[rotor] = 2.0
    lever = 0.2 / math.sqrt(2)
    assert_allclose(torques(tuple(thrusts), task.params), np.array(signs) * [2 * lever, 2 * lever, 0.06], atol=1e-12)
    action = CUT.copy()
    action[rotor] = 1.0
    after = fly(task, make_state(), [action])
    assert_array_equal(np.sign(after[RATES]), signs)


@pytest.mark.parametrize(
    ("action", "moves"),
    [
        ((0.02, 0.02, -0.02, -0.02), (0, -1)),  # thrust on the left: it tilts and flies to the right, -y
        ((-0.02, 0.02, 0.02, -0.02), (1, 0)),  # thrust at the rear: the nose goes down, it flies forward
    ],
)
def test_tilting_moves_it_sideways(action, moves):
    task = DroneQuad(dtype="float64")
    start = task.initial(Noise(np.zeros(0), np.full(3, 0.5)))
    v = fly(task, start, [action] * 10)[V]
    assert v[:2] @ moves > 1e-4
    assert abs(v[0] * moves[1]) + abs(v[1] * moves[0]) < 1e-9


# --- an independent derivation ---

POSITIONS = np.array([(1, 1, 0), (-1, 1, 0), (-1, -1, 0), (1, -1, 0)]) / math.sqrt(2)  # of the rotors, in arms
YAWS = np.array([1, -1, 1, -1])


def integrate(params, state, action, seconds):
    """Integrate the equations of motion with rotation matrices, cross products and an adaptive step."""
    inertia = np.diag([params.inertia_x, params.inertia_y, params.inertia_z])
    up = np.array([0.0, 0.0, 1.0])

    def slope(_, y):
        v, matrix, rates, thrusts = y[3:6], y[6:15].reshape(3, 3), y[15:18], y[18:22]
        force = matrix @ up * thrusts.sum() - params.drag * v - params.mass * params.gravity * up
        levers = np.cross(params.arm_length * POSITIONS, thrusts[:, None] * up).sum(0)
        torque = levers + params.torque_ratio * (YAWS @ thrusts) * up
        spin = np.linalg.solve(inertia, torque - np.cross(rates, inertia @ rates))
        skew = np.array([[0, -rates[2], rates[1]], [rates[2], 0, -rates[0]], [-rates[1], rates[0], 0]])
        lag = (params.max_thrust * (1 + action) / 2 - thrusts) / params.motor_lag
        return np.concatenate([v, force / params.mass, (matrix @ skew).ravel(), spin, lag])

    start = np.concatenate([state[:6], to_world(state).as_matrix().ravel(), state[10:17]])
    return solve_ivp(slope, (0.0, seconds), start, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]


def deviation(dt, seconds=0.32):
    """Return the largest difference to the independent integration, after flying on a constant command."""
    task = DroneQuad(dtype="float64", dt=dt, max_rate=1e3, **INERTIA)
    action = np.array([0.3, -0.1, 0.2, -0.45])
    q = Rotation.from_rotvec([0.4, -0.7, 1.5]).as_quat(scalar_first=True)
    state = make_state(p=(1, 2, 3), v=(1, -2, 4), q=q, rates=(2, -3, 1.5), thrusts=(0.5, 1.0, 1.5, 0.2))
    expected = integrate(task.params, state, action, seconds)
    after = fly(task, state, [action] * round(seconds / dt))
    reached = np.concatenate([after[:6], to_world(after).as_matrix().ravel(), after[10:17]])
    return np.max(np.abs(reached - expected))


def test_motion_equals_an_independent_integration_to_order_four():
    coarse, fine, finest = deviation(0.02), deviation(0.01), deviation(0.005)
    assert coarse < 0.02
    assert finest < 1e-5
    assert 11.0 < fine / finest < 30.0
    assert coarse / fine > 11.0


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=15)
def test_short_steps_are_exact_anywhere(seed):
    generator = np.random.default_rng(seed)
    params = {name: value * generator.uniform(0.7, 1.3) for name, value in INERTIA.items()}
    task = DroneQuad(dtype="float64", dt=1e-3, mass=generator.uniform(0.3, 1.0), **params)
    action = generator.uniform(-1, 1, 4)
    q = Rotation.random(rng=generator).as_quat(scalar_first=True)
    p, v, rates, target = generator.normal(0, 2.0, (4, 3))
    state = make_state(p=p, v=v, q=q, rates=rates, thrusts=generator.uniform(0, 2, 4), target=target)
    expected = integrate(task.params, state, action, 5e-3)
    after = task.observation(fly(task, state, [action] * 5))
    reached = np.concatenate([after[22:], after[3:22]])
    assert_allclose(reached, expected, atol=1e-9)
    assert_allclose(after[:3], target - expected[:3], atol=1e-9)


# --- attitude ---


@given(st.integers(0, 2**32 - 1), st.floats(-1e-9, 1e-9))
@settings(deadline=None, max_examples=60)
def test_rotation_matrix_and_back_for_any_rotation_by_about_pi_too(seed, beyond):
    generator = np.random.default_rng(seed)
    axes = np.vstack([np.eye(3), -np.eye(3), generator.normal(size=(10, 3)), [[1, 1, 0], [0, 1, -1], [1, 1, 1]]])
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    angles = np.array([0.0, 1e-7, 0.5 * math.pi, math.pi + beyond, 2 * math.pi, generator.uniform(0, 6)])
    rotations = Rotation.from_rotvec((angles[:, None, None] * axes).reshape(-1, 3))
    q = rotations.as_quat(scalar_first=True)
    matrix = rotation_matrix(tuple(q.T))
    assert_allclose(np.stack(matrix, -1).reshape(-1, 3, 3), rotations.as_matrix(), atol=1e-14)
    again = np.stack(quaternion_of(matrix), -1)
    assert_allclose(np.abs(np.sum(again * q, -1)), 1.0, atol=1e-14)
    assert_allclose(again * np.sign(np.sum(again * q, -1, keepdims=True)), q, atol=1e-12)


def test_both_signs_of_the_quaternion_are_one_state():
    task = DroneQuad(dtype="float64")
    state = make_state(q=(0.5, -0.5, 0.1, 0.7), rates=(3, 2, 1), thrusts=(1, 2, 0.5, 0.3))
    state[Q] /= np.linalg.norm(state[Q])
    other = state.copy()
    other[Q] *= -1
    assert_array_equal(task.observation(state), task.observation(other))
    one, two = (task.observation(fly(task, start, np.eye(4))) for start in (state, other))
    assert_allclose(one, two, atol=1e-14)


def test_quaternion_stays_unit_while_a_random_policy_tumbles():
    task = DroneQuad()
    generator = np.random.default_rng(0)
    state = task.initial(draw(generator, (50,), task.initial_noise, task.dtype))
    for _ in range(250):
        state = task.transition(state, generator.uniform(-1, 1, (50, 4)).astype(np.float32), NOTHING)
        assert task.allows(state)
    assert_allclose(np.linalg.norm(state[:, Q], axis=-1), 1.0, atol=3e-7)
    assert np.mean(task.observation(state)[:, 14] < 0) > 0.2  # many are upside down


def test_gradients_are_finite_at_rest_and_upside_down():
    task = DroneQuad(dtype="float64")
    for q in (LEVEL, (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)):
        observation = torch.tensor(task.observation(make_state(q=q)), requires_grad=True)
        action = torch.full((4,), -1.0, dtype=torch.float64, requires_grad=True)
        state = task.state(observation)
        for _ in range(3):
            state = task.transition(state, action, NOTHING)
        (task.observation(state).sum() + task.reward(observation, action, task.observation(state))).backward()
        assert torch.isfinite(observation.grad).all()
        assert torch.isfinite(action.grad).all()


# --- the task ---


def cascade(task, observation):
    """Return the action of a cascade: position to acceleration, to attitude, to body rates, to rotors."""
    params = task.params
    offset, v, rates = observation[..., :3], observation[..., 3:6], observation[..., 15:18]
    matrix = observation[..., 6:15].reshape(-1, 3, 3)
    wish = np.add(np.clip(6.0 * offset - 4.0 * v, -5.0, 5.0), [0.0, 0.0, params.gravity])
    lift = params.mass * np.einsum("ni,ni->n", wish, matrix[..., 2])
    up = np.einsum("nij,ni->nj", matrix, wish / np.linalg.norm(wish, axis=-1, keepdims=True))
    tilt = np.stack([-up[:, 1], up[:, 0], -matrix[:, 1, 0]], -1)  # error in the body's axes; the last is yaw
    torque = [params.inertia_x, params.inertia_y, params.inertia_z] * (14.0 * (10.0 * tilt * [1, 1, 0.2] - rates))
    mixer = np.stack([torques(tuple(rotor), params) for rotor in np.eye(4)], -1)
    thrusts = np.linalg.solve(np.vstack([np.ones(4), mixer]), np.column_stack([lift, torque])[..., None])[..., 0]
    return 2 * thrusts / params.max_thrust - 1


def test_a_cascade_of_controllers_flies_it_to_the_target_far_from_all_bounds():
    task = DroneQuad(dtype="float64")
    state = task.initial(draw(np.random.default_rng(0), (50,), task.initial_noise, task.dtype))
    total, extremes = np.zeros(50), np.zeros(25)
    for _ in range(250):
        observation = task.observation(state)
        action = cascade(task, observation)
        state = task.transition(state, action, NOTHING)
        total += task.reward(observation, action, task.observation(state))
        extremes = np.maximum(extremes, np.abs(task.observation(state)).max(0))
    assert np.linalg.norm(state[:, P] - state[:, 17:20], axis=-1).max() < 0.02
    assert np.mean(total) > -150  # hovering at the start: -480
    bounds = task.observation_space.high
    assert np.all(extremes[3:6] < 0.5 * bounds[3:6])
    assert np.all(extremes[15:18] < 0.8 * bounds[15:18])


def test_reward_by_hand():
    task = DroneQuad(dtype="float64", effort_cost=0.1, spin_cost=0.01)
    observation = task.observation(make_state(p=(1, 0, 0), target=(0, 2, -2), rates=(1, -2, 3)))
    action = np.array([0.5, -3.0, 0.0, 1.0])  # the second counts as -1
    assert task.reward(None, action, observation) == pytest.approx(-3.0 - 0.1 * 2.25 - 0.01 * 14.0)
    assert task.reward(None, np.zeros(4), observation) == pytest.approx(-3.0 - 0.01 * 14.0)


def test_observation_columns():
    task = DroneQuad(dtype="float64")
    quarter_left = Rotation.from_rotvec([0, 0, math.pi / 2]).as_quat(scalar_first=True)
    state = make_state(
        p=(1, 2, 3), v=(4, 5, 6), q=quarter_left, rates=(7, 8, 9), thrusts=(0.1, 0.2, 0.3, 0.4), target=(2, 2, 2)
    )
    expected = [1, 0, -1, 4, 5, 6, 0, -1, 0, 1, 0, 0, 0, 0, 1, 7, 8, 9, 0.1, 0.2, 0.3, 0.4, 1, 2, 3]
    assert_allclose(task.observation(state), expected, atol=1e-15)


def test_starts_hover_level_with_uniform_targets():
    task = DroneQuad(target_range=3.0)
    states = task.initial(draw(np.random.default_rng(0), (20_000,), task.initial_noise, task.dtype))
    assert_allclose(states[:, :17], np.tile(make_state(thrusts=[0.5 * 9.81 / 4] * 4)[:17], (20_000, 1)), rtol=1e-6)
    for column in (17, 18, 19):
        assert stats.kstest(states[:, column], stats.uniform(-3, 6).cdf).pvalue > 1e-3


def test_each_row_flies_with_its_own_constants():
    ranges = {"mass": (0.4, 0.7), "motor_lag": (0.03, 0.1), "inertia_z": (0.003, 0.005), "dt": (0.01, 0.03)}
    task = DroneQuad(dtype="float64", randomize=ranges)
    generator = np.random.default_rng(0)
    start = task.initial(draw(generator, (6,), task.initial_noise, task.dtype))
    actions = generator.uniform(-1, 1, (10, 6, 4))
    after = fly(task, start, actions)
    assert not task.fully_observed
    for row in range(6):
        constants = dict(zip(ranges, start[row, 20:], strict=True))
        alone = DroneQuad(dtype="float64", **constants)
        assert_allclose(start[row, THRUSTS], constants["mass"] * 9.81 / 4)
        assert_allclose(fly(alone, start[row, :20], actions[:, row]), after[row, :20], atol=1e-12)
        assert_array_equal(fly(task, start[row], actions[:, row]), after[row])


@pytest.mark.parametrize("q", [(0, 0, 0, 0), (1, 1, 0, 0), (0.99, 0, 0, 0)])
def test_quaternions_must_be_unit(q):
    with pytest.raises(InvalidSettingError, match="must be finite and lead to an observation"):
        gym.make("mbrl/DroneQuad-v0").reset(options={"state": make_state(q=q)})


def test_targets_must_be_within_their_range():
    env = gym.make("mbrl/DroneQuad-v0")
    env.reset(options={"state": make_state(q=(0.70711, 0, -0.70711, 0), target=(2, -2, 2))})
    with pytest.raises(InvalidSettingError, match="must be finite and lead to an observation"):
        env.reset(options={"state": make_state(target=(0, 2.1, 0))})
