"""The dynamic arm: its equations against a symbolic derivation, MuJoCo, energy, and numbers by hand."""

import itertools
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

from mbrl_gym.envs.arm_torque import ArmTorque, LinkDynamics
from mbrl_gym.envs.arm_torque_control import computed_torque, poses_at_target
from mbrl_gym.envs.task import Noise, draw
from mbrl_gym.errors import InvalidSettingError

NOTHING = Noise(np.zeros(0), np.zeros(0))
DEFAULTS = {"link_1": 1.0, "link_2": 0.8, "mass_1": 1.0, "mass_2": 0.8, "payload": 0.0, "gravity": 9.81, "damping": 0.5}
SETTINGS = {**DEFAULTS, "max_torque_1": 40.0, "max_torque_2": 15.0, "dt": 0.05}
OTHER = {"link_1": 0.7, "link_2": 1.1, "mass_1": 2.0, "mass_2": 0.6, "payload": 0.9, "gravity": 3.7, "damping": 0.2}
FREE = {"damping": 0.0, "payload": 0.3}  # nothing but gravity acts on it
ROUND = {"link_1": 1.0, "link_2": 1.0, "mass_1": 3.0, "mass_2": 3.0, "damping": 0.0}


def some_states(rows, seed=0, speed=6.0):
    """Return states `[rows, 6]` at any pose and speed."""
    generator = np.random.default_rng(seed)
    angles = generator.uniform(-math.pi, math.pi, (rows, 2))
    speeds = generator.uniform(-speed, speed, (rows, 2))
    return np.concatenate([angles, speeds, generator.uniform(-1, 1, (rows, 2))], axis=-1)


def some_torques(rows, seed=0):
    """Return torques `[rows, 2]` [N m]."""
    return np.random.default_rng(seed).uniform(-1, 1, (rows, 2)) * [40.0, 15.0]


def accelerations(task, state, torque):
    """Return the joints' accelerations `[..., 2]`."""
    links = LinkDynamics.of(task.params)
    phi_2, w_2 = state[..., 0] + state[..., 1], state[..., 2] + state[..., 3]
    first, second = links.accelerations(state[..., 0], phi_2, state[..., 2], w_2, torque[..., 0], torque[..., 1])
    return np.stack([first, second - first], axis=-1)


def exact_motion(task, state, torque, seconds):
    """Return the state after the motion of an adaptive solver at tight tolerance (speeds not clipped)."""

    def slope(_, q):
        return [*q[2:4], *accelerations(task, q, torque)]

    solution = solve_ivp(slope, (0.0, seconds), state[:4], method="DOP853", rtol=1e-12, atol=1e-12)
    return np.concatenate([solution.y[:, -1], state[4:]])


def pose_error(one, other):
    """Return the largest difference of angles (whole turns apart) and speeds."""
    apart = one[..., :4] - other[..., :4]
    apart[..., :2] = np.remainder(apart[..., :2] + math.pi, math.tau) - math.pi
    return np.abs(apart).max()


# --- the equations of motion ---


@pytest.fixture(scope="module")
def lagrangian():
    """Derive M(q) qdd = f(q, qd, tau) from the energies of the rods' mass elements, with sympy."""
    import sympy as sp

    time, along = sp.symbols("t s")
    names = ("link_1", "link_2", "mass_1", "mass_2", "payload", "gravity", "damping")
    constants = sp.symbols(names)
    l_1, l_2, m_1, m_2, payload, g, d = constants
    q = [sp.Function(name)(time) for name in ("q_1", "q_2")]
    elbow = l_1 * sp.Matrix([sp.cos(q[0]), sp.sin(q[0])])
    second = l_2 * sp.Matrix([sp.cos(q[0] + q[1]), sp.sin(q[0] + q[1])])

    def lagrange_density(place):  # of one kilogram there
        velocity = place.diff(time)
        return sp.expand(velocity.dot(velocity)) / 2 - g * place[1]

    total = payload * lagrange_density(elbow + second)
    for mass, place in ((m_1, along * elbow), (m_2, elbow + along * second)):
        total += mass * sp.integrate(sp.expand(lagrange_density(place)), (along, 0, 1))
    qd = [angle.diff(time) for angle in q]
    inertia, forces = sp.zeros(2, 2), []
    torques = sp.symbols("tau_1 tau_2")
    rates = sp.symbols("w_1 w_2 a_1 a_2")
    for i in range(2):
        equation = total.diff(qd[i]).diff(time) - total.diff(q[i]) - torques[i] + d * qd[i]
        seconds = [qd[0].diff(time), qd[1].diff(time)]
        equation = equation.subs(dict(zip(seconds, rates[2:], strict=True))).subs(dict(zip(qd, rates[:2], strict=True)))
        equation = sp.expand(equation)
        for j in range(2):
            inertia[i, j] = equation.coeff(rates[2 + j])
        forces.append(-equation.subs({rates[2]: 0, rates[3]: 0}))
    angles = sp.symbols("theta_1 theta_2")
    place = dict(zip(q, angles, strict=True))
    arguments = [*angles, *rates[:2], *torques, *constants]
    function = sp.lambdify(arguments, [inertia.subs(place), sp.Matrix(forces).subs(place)], "numpy")

    def solve(params, state, torque):
        numbers = [params[name] for name in names]
        matrix, force = function(*state[:4], *torque, *numbers)
        return np.linalg.solve(matrix, force)[:, 0]

    return solve


@pytest.mark.parametrize("params", [DEFAULTS, OTHER, {**OTHER, "gravity": 0.0, "damping": 0.0}], ids=str)
def test_accelerations_equal_those_of_the_lagrangian(lagrangian, params):
    task = ArmTorque(dtype="float64", **params)
    states, torques = some_states(40), some_torques(40)
    expected = [lagrangian(params, state, torque) for state, torque in zip(states, torques, strict=True)]
    assert_allclose(accelerations(task, states, torques), expected, rtol=1e-10, atol=1e-10)


MJCF = """
<mujoco>
  <option integrator="RK4" timestep="{dt}" gravity="0 -{gravity} 0"/>
  <worldbody>
    <body>
      <joint name="shoulder" type="hinge" axis="0 0 1" damping="{damping}"/>
      <inertial pos="{half_1} 0 0" mass="{mass_1}" diaginertia="1e-6 {inertia_1} {inertia_1}"/>
      <body pos="{link_1} 0 0">
        <joint name="elbow" type="hinge" axis="0 0 1" damping="{damping}"/>
        <inertial pos="{half_2} 0 0" mass="{mass_2}" diaginertia="1e-6 {inertia_2} {inertia_2}"/>
        <body pos="{link_2} 0 0">
          <inertial pos="0 0 0" mass="{payload}" diaginertia="1e-12 1e-12 1e-12"/>
        </body>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.mark.parametrize("params", [{**DEFAULTS, "payload": 0.5, "dt": 0.05}, {**OTHER, "dt": 0.02}], ids=str)
def test_steps_equal_those_of_mujoco(params):
    mujoco = pytest.importorskip("mujoco")
    task = ArmTorque(dtype="float64", **params)
    numbers = {
        **params,
        **{f"half_{i}": params[f"link_{i}"] / 2 for i in (1, 2)},
        **{f"inertia_{i}": params[f"mass_{i}"] * params[f"link_{i}"] ** 2 / 12 for i in (1, 2)},
    }
    model = mujoco.MjModel.from_xml_string(MJCF.format(**numbers))
    data = mujoco.MjData(model)
    for start, actions in zip(some_states(5), np.random.default_rng(0).uniform(-0.3, 0.3, (5, 20, 2)), strict=True):
        state = start
        data.qpos[:], data.qvel[:] = start[:2], start[2:4]
        for action in actions:
            data.qfrc_applied[:] = action * [task.params.max_torque_1, task.params.max_torque_2]
            mujoco.mj_step(model, data)
            state = task.transition(state, action, NOTHING)
            assert np.abs(state[2:4]).max() < task.params.max_speed
            assert pose_error(state, np.concatenate([data.qpos, data.qvel])) < 1e-8


def test_accelerations_by_hand():
    task = ArmTorque(dtype="float64", gravity=10.0, **ROUND)
    # Inertias: link 1 about the shoulder with link 2 at its end 1 + 3, link 2 about the elbow 1, coupling 3 / 2.
    bent = np.array([0.0, math.pi / 2, 0.0, 0.0])  # the links do not feel each other's turning: M = [[5, 1], [1, 1]]
    weight = 10.0 * (3 * 0.5 + 3 * 1)  # about the shoulder; none about the elbow
    for torque, expected in (((0.0, 0.0), (0.0, 0.0)), ((4.0, 0.0), (1.0, -1.0)), ((0.0, 2.0), (-0.5, 2.5))):
        torques = np.array([weight + torque[0], torque[1]])
        assert_allclose(accelerations(task, bent, torques), expected, atol=1e-12)
    # Turning as one at 2 rad/s: C qd = (0, 1.5 * 2^2); M (1.5, -7.5) = (0, -6).
    turning = np.array([0.0, math.pi / 2, 2.0, 0.0])
    assert_allclose(accelerations(task, turning, np.array([weight, 0.0])), [1.5, -7.5], atol=1e-12)
    # Damping 0.5 N m s/rad: 1 N m less at the shoulder.
    damped = ArmTorque(dtype="float64", gravity=10.0, **{**ROUND, "damping": 0.5})
    assert_allclose(accelerations(damped, turning, np.array([weight + 1.0, 0.0])), [1.5, -7.5], atol=1e-12)
    # Stretched and falling: M = [[8, 2.5], [2.5, 1]], g = (60, 15): determinant 1.75.
    falling = accelerations(task, np.zeros(4), np.zeros(2))
    assert_allclose(falling, [(-60 + 2.5 * 15) / 1.75, (2.5 * 60 - 8 * 15) / 1.75], atol=1e-12)


def test_straight_arm_that_turns_freely_keeps_its_speed():
    task = ArmTorque(dtype="float64", gravity=0.0, damping=0.0)
    state = np.array([3.0, 0.0, 4.0, 0.0, 0.5, 0.5])
    after = task.transition(state, np.zeros(2), NOTHING)
    assert_allclose(after, [3.2 - math.tau, 0.0, 4.0, 0.0, 0.5, 0.5], atol=1e-12)


def test_hanging_arm_stays_and_the_motors_scale_the_actions():
    task = ArmTorque(dtype="float64", dt=1e-5, **{**ROUND, "max_torque_1": 4.0, "max_torque_2": 2.0})
    hanging = np.array([-math.pi / 2, 0.0, 0.0, 0.0, 1.0, 0.0])
    assert_allclose(task.transition(hanging, np.zeros(2), NOTHING), hanging, atol=1e-12)
    # M = [[8, 2.5], [2.5, 1]]: the inverse is [[1, -2.5], [-2.5, 8]] / 1.75.
    for action, torque in (([0.5, 0.0], [2.0, 0.0]), ([0.0, -1.0], [0.0, -2.0]), ([7.0, -7.0], [4.0, -2.0])):
        speed = task.transition(hanging, np.array(action), NOTHING)[2:4] / 1e-5
        expected = [torque[0] - 2.5 * torque[1], -2.5 * torque[0] + 8 * torque[1]]
        assert_allclose(speed, np.array(expected) / 1.75, rtol=1e-6)


# --- energy ---


def test_energy_by_hand():
    task = ArmTorque(dtype="float64", gravity=10.0, **ROUND, payload=2.0)
    # At rest upright: m g h of both centres and the payload.
    upright = np.array([math.pi / 2, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert_allclose(task.energy(upright), 10.0 * (3 * 0.5 + 3 * 1.5 + 2 * 2.0))
    # Turning as one at 3 rad/s while stretched: a rod of 6 kg and 2 m about its end, and the payload 2 m away.
    assert_allclose(task.energy(np.array([0.0, 0.0, 3.0, 0.0, 0.0, 0.0])), 0.5 * (6 * 4 / 3 + 2 * 4) * 9)
    # Only the second link turns: 3 kg and 1 m about its end, the payload 1 m away.
    assert_allclose(task.energy(np.array([0.0, math.pi, 0.0, 3.0, 0.0, 0.0])), 0.5 * (3 / 3 + 2) * 9, atol=1e-12)


def energy_error(dt, seconds=0.8, rows=200):
    """Return the mean change of energy of the free arm, over starts."""
    task = ArmTorque(dtype="float64", dt=dt, max_speed=1e3, **FREE)
    start = state = some_states(rows, speed=2.0)
    for _ in range(round(seconds / dt)):
        state = task.transition(state, np.zeros((rows, 2)), NOTHING)
    return np.abs(task.energy(state) - task.energy(start)).mean()


def test_energy_is_conserved_to_the_order_of_the_integrator():
    errors = [energy_error(dt) for dt in (0.02, 0.01, 0.005)]
    assert errors[0] < 0.05
    for coarse, fine in itertools.pairwise(errors):
        assert 12 < coarse / fine < 36  # 2^4 by its order; most of it is a drift of order 5


def test_motion_converges_to_that_of_an_adaptive_solver_with_order_four():
    task = ArmTorque(dtype="float64", **OTHER)
    action, seconds = np.array([0.1, -0.3]), 0.4
    for start in some_states(4, speed=2.0):
        expected = exact_motion(task, start, action * [40.0, 15.0], seconds)
        errors = []
        for dt in (0.01, 0.005):
            fine, state = ArmTorque(dtype="float64", dt=dt, **OTHER), start
            for _ in range(round(seconds / dt)):
                state = fine.transition(state, action, NOTHING)
            errors.append(pose_error(state, expected))
        assert errors[1] < 1e-5
        assert 11 < errors[0] / errors[1] < 24


def test_power_is_that_of_the_motors_less_that_of_the_damping():
    task = ArmTorque(dtype="float64", **OTHER)
    states, torques = some_states(50), some_torques(50)
    tensor = torch.tensor(states, requires_grad=True)
    (slope,) = torch.autograd.grad(task.energy(tensor).sum(), tensor)
    speeds = states[:, 2:4]
    rates = np.concatenate([speeds, accelerations(task, states, torques)], axis=-1)
    power = (slope.numpy()[:, :4] * rates).sum(-1)
    assert_allclose(power, (torques * speeds).sum(-1) - 0.2 * (speeds**2).sum(-1), rtol=1e-9, atol=1e-9)


# --- gravity and the motors ---


@pytest.mark.parametrize("params", [DEFAULTS, OTHER], ids=["defaults", "other"])
def test_holding_torque_keeps_the_arm_at_rest(params):
    task = ArmTorque(dtype="float64", **params)
    states = some_states(50, speed=0.0)
    torques = np.stack(task.holding_torque(states), axis=-1)
    assert_allclose(accelerations(task, states, torques), 0.0, atol=1e-11)
    action = torques / [40.0, 15.0]
    assert np.abs(action).max() < 1
    after = task.transition(states, action, NOTHING)
    assert pose_error(after, states) < 1e-12


def test_motors_hold_the_stretched_arm_with_a_kilogram():
    task = ArmTorque(dtype="float64", payload=1.0)
    stretched = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
    # Levers: rods at 0.5 m and 1.4 m, payload at 1.8 m; about the elbow 0.4 m and 0.8 m.
    expected = 9.81 * (1.0 * 0.5 + 0.8 * 1.4 + 1.8), 9.81 * (0.8 * 0.4 + 0.8)
    assert_allclose(task.holding_torque(stretched), expected)
    assert_allclose(expected, [33.5502, 10.9872])
    action, state = np.array(expected) / [40.0, 15.0], stretched
    assert (action < 1).all()
    for _ in range(100):
        state = task.transition(state, action, NOTHING)
    assert_allclose(state, stretched, atol=1e-6)
    # Full torque lifts it.
    lifted = task.transition(stretched, np.ones(2), NOTHING)
    assert task.observation(lifted)[9] > task.observation(stretched)[9]


def reaching_torques(task, state, frequency):
    """Computed torque control towards the pose of the target with the elbow to the left."""
    apart = poses_at_target(task, state)[0] - state[:, :2]
    return computed_torque(task, state, np.remainder(apart + math.pi, math.tau) - math.pi, frequency)


@pytest.mark.parametrize("payload", [0.0, 1.0])
def test_the_motors_reach_every_target_without_meeting_the_speed_limit(payload):
    task = ArmTorque(dtype="float64", payload=payload)
    state = task.initial(draw(np.random.default_rng(0), (200,), task.initial_noise, task.dtype))
    fastest = 0.0
    for _ in range(100):
        state = task.transition(state, reaching_torques(task, state, 6.0) / [40.0, 15.0], NOTHING)
        fastest = max(fastest, np.abs(state[:, 2:4]).max())
    assert np.hypot(*task.observation(state)[:, 8:].T).max() < 1e-3
    assert fastest < task.params.max_speed


# --- limits ---


def test_full_torque_meets_the_speed_limit_and_no_more():
    task = ArmTorque(max_speed=20.0)
    state = np.zeros((2, 6), np.float32)
    fastest = np.zeros(2)
    for _ in range(100):
        state = task.transition(state, np.array([[1.0, 1.0], [0.0, -1.0]], np.float32), NOTHING)
        assert task.observation(state) in gym.vector.utils.batch_space(task.observation_space, 2)
        fastest = np.maximum(fastest, np.abs(state[:, 2:4]).max(-1))
    assert_array_equal(fastest, 20.0)


@given(
    angles=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    speeds=st.tuples(st.floats(-10, 10), st.floats(-10, 10)),
    turns=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
)
@settings(deadline=None, max_examples=50)
def test_angles_are_wrapped_and_whole_turns_mean_nothing(angles, speeds, turns):
    task = ArmTorque(dtype="float64")
    state = np.array([*angles, *speeds, 0.5, -0.5])
    turned = state + np.array([*turns, 0, 0, 0, 0]) * math.tau
    one, other = (task.transition(given_state, np.array([0.3, -0.2]), NOTHING) for given_state in (state, turned))
    assert (np.abs(one[:2]) <= math.pi + 1e-12).all()
    assert pose_error(one, other) < 1e-9


def test_an_arm_that_goes_on_turning_keeps_its_digits():
    task = ArmTorque(gravity=0.0, damping=0.0)
    state = np.array([0.0, 0.0, 19.3, 0.0, 0.0, 0.0], np.float32)
    for _ in range(2000):
        state = task.transition(state, np.zeros(2, np.float32), NOTHING)
    turned = np.array([2000 * 0.05 * 19.3, 0.0, 19.3, 0.0])
    assert pose_error(state, turned) < 2e-3


# --- task ---


def test_observation_and_reward_by_hand():
    task = ArmTorque(dtype="float64")
    state = np.array([math.pi / 2, -math.pi / 2, 1.5, -2.5, 0.5, 0.6])
    assert_allclose(task.joints(state), [0.0, 1.0, 0.8, 1.0], atol=1e-12)
    assert_allclose(task.target(state), [0.5, 0.6])
    observation = task.observation(state)
    assert_allclose(observation, [0, 1, 0, -1, 1.5, -2.5, 0.5, 0.6, 0.3, 0.4], atol=1e-12)
    # Distance 0.5; the second motor's action is clipped to -1.
    assert_allclose(task.reward(None, np.array([0.5, -3.0]), observation), -0.5 - 0.01 * (0.25 + 1.0))
    costly = ArmTorque(dtype="float64", effort_cost=2.0)
    assert_allclose(costly.reward(None, np.array([0.5, 0.0]), observation), -1.0)


def test_reward_of_a_step_is_that_of_the_pose_after_it():
    env = gym.make("mbrl/ArmTorque-v0", dtype="float64")
    env.reset(options={"state": [0.2, 0.4, 0.0, 0.0, 1.0, 1.0]})
    observation, reward, *_ = env.step(np.array([1.0, -0.5], np.float32))
    assert reward == pytest.approx(-math.hypot(*observation[8:]) - 0.01 * 1.25)
    assert_allclose(observation[6:8], 1.0)


def test_starts_are_at_rest_and_uniform():
    task = ArmTorque(dtype="float64", link_1=0.5, link_2=1.25)
    states = task.initial(draw(np.random.default_rng(0), (20_000,), task.initial_noise, task.dtype))
    assert_array_equal(states[:, 2:4], 0)
    radius = np.hypot(states[:, 4], states[:, 5])
    assert stats.kstest((radius**2 - 0.75**2) / (1.75**2 - 0.75**2), "uniform").pvalue > 1e-3
    for angle in (states[:, 0], states[:, 1], np.arctan2(states[:, 5], states[:, 4])):
        assert stats.kstest(angle, stats.uniform(-math.pi, math.tau).cdf).pvalue > 1e-3


def test_gradient_is_finite_through_an_episode_and_on_the_target():
    task = ArmTorque(dtype="float64")
    stretched = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.8, 0.0], [1.0, math.pi, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    holding = torch.stack(task.holding_torque(stretched), -1) / torch.tensor([40.0, 15.0])
    actions = holding.repeat(100, 1, 1).requires_grad_()
    state, total = stretched, 0.0
    for action in actions:
        state = task.transition(state, action, Noise(torch.zeros(0), torch.zeros(0)))
        observation = task.observation(state)
        total = total + task.reward(observation, action, observation).sum()
    total.backward()
    assert torch.isfinite(actions.grad).all()
    assert (actions.grad[:, 0].abs().sum(-1) > 0).all()


def test_gradient_of_a_step_equals_finite_differences():
    task = ArmTorque(dtype="float64", randomize={"payload": (0.0, 1.0), "link_2": (0.5, 1.0)})
    state = np.concatenate([some_states(5), np.full((5, 2), [0.4, 0.7])], axis=-1)
    inputs = torch.tensor(state, requires_grad=True), torch.full((5, 2), 0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda state, action: task.transition(state, action, None), inputs)


# --- randomised constants ---


def test_every_row_moves_by_its_own_constants():
    ranges = {name: (0.9 * value, 1.1 * value + 0.1) for name, value in SETTINGS.items()}
    task = ArmTorque(dtype="float64", randomize=ranges)
    states = task.initial(draw(np.random.default_rng(0), (20,), task.initial_noise, task.dtype))
    states[:, 2:4] = some_states(20)[:, 2:4]
    actions = some_torques(20) / 40.0
    after = task.transition(states, actions, NOTHING)
    assert_array_equal(after[:, 6:], states[:, 6:])
    for row, action, moved in zip(states, actions, after, strict=True):
        alone = ArmTorque(dtype="float64", **dict(zip(ranges, row[6:].tolist(), strict=True)))
        assert_allclose(moved[:6], alone.transition(row[:6], action, NOTHING), rtol=1e-12, atol=1e-12)
        assert_allclose(task.observation(moved), alone.observation(moved[:6]), rtol=1e-12, atol=1e-12)
        assert_allclose(task.energy(moved), alone.energy(moved[:6]), rtol=1e-12)
        assert_allclose(task.holding_torque(moved), alone.holding_torque(moved[:6]), rtol=1e-12, atol=1e-12)


def test_randomised_payload_is_drawn_within_its_range_hidden_and_reproducible():
    settings = {"num_envs": 500, "randomize": {"payload": (0.2, 0.7)}}
    one, other = (gym.make_vec("mbrl/ArmTorque-v0", **settings) for _ in range(2))
    observation, info = one.reset(seed=5)
    assert observation.shape == (500, 10)
    assert stats.kstest(info["payload"], stats.uniform(0.2, 0.5).cdf).pvalue > 1e-3
    again, info_again = other.reset(seed=5)
    assert_array_equal(info["payload"], info_again["payload"])
    assert_array_equal(observation, again)
    actions = some_torques(500).astype(np.float32) / 40
    first, second = one.step(actions), other.step(actions)
    assert_array_equal(first[0], second[0])
    assert_array_equal(first[4]["payload"], info["payload"])
    # The same starts without payloads move elsewhere.
    light = gym.make_vec("mbrl/ArmTorque-v0", num_envs=500)
    light.reset(options={"state": ArmTorque().state(observation)})
    assert (np.abs(light.step(actions)[0] - first[0])[:, 4:6].max(-1) > 1e-3).mean() > 0.9


@pytest.mark.parametrize("name", ["max_speed", "effort_cost"])
def test_constants_of_the_spaces_and_the_reward_cannot_be_randomised(name):
    with pytest.raises(InvalidSettingError, match=f"cannot vary '{name}'; it can: link_1, .*payload, gravity"):
        ArmTorque(randomize={name: (1.0, 2.0)})


def test_randomised_links_widen_the_bounds():
    space = ArmTorque(randomize={"link_1": (0.5, 1.5), "link_2": (0.5, 1.0)}).observation_space
    assert_allclose(space.high, [1, 1, 1, 1, 25, 25, 2.5, 2.5, 5, 5], rtol=1e-5)
