"""The continuous cart-pole: CartPole-v1 step for step, a Lagrangian, true bounds, and the optimum."""

import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg, stats
from task_toys import start_states

from mbrl_gym.envs.cartpole import CartPoleContinuous
from mbrl_gym.envs.task import Noise
from mbrl_gym.errors import InvalidSettingError

NOTHING = Noise(np.zeros(0), np.zeros(0))
CONSTANTS = {
    "gravity": 3.7,
    "cart_mass": 0.4,
    "pole_mass": 0.9,
    "half_length": 1.3,
    "max_force": 21.0,
    "dt": 0.01,
    "x_limit": 1.1,
    "theta_limit": 0.6,
    "start_range": 0.2,
}


def gymnasiums_cartpole(params):
    """Return Gymnasium's CartPole-v1 with the constants of a task."""
    env = CartPoleEnv()
    env.reset(seed=0)
    env.gravity, env.force_mag, env.tau = params.gravity, params.max_force, params.dt
    env.masscart, env.masspole, env.length = params.cart_mass, params.pole_mass, params.half_length
    env.total_mass, env.polemass_length = env.masspole + env.masscart, env.masspole * env.length
    env.x_threshold, env.theta_threshold_radians = params.x_limit, params.theta_limit
    return env


# --- equations ---


@pytest.mark.parametrize("params", [{}, CONSTANTS], ids=["default", "other constants"])
def test_episodes_equal_those_of_gymnasium_bit_for_bit(params):
    task = CartPoleContinuous(dtype="float64", **params)
    reference, generator = gymnasiums_cartpole(task.params), np.random.default_rng(0)
    ends = 0
    for state in start_states(task, 40):
        reference.reset()
        reference.state = state.copy()
        for _ in range(200):
            push = int(generator.integers(2))
            _, reward, terminated, _, _ = reference.step(push)
            state = task.transition(state, np.array([2.0 * push - 1.0]), NOTHING)
            assert_array_equal(state, reference.state)
            assert task.reward(None, None, task.observation(state)) == reward == 1.0
            assert task.terminal(task.observation(state)) == terminated
            if terminated:
                ends += 1
                break
    assert ends > 30


def test_defaults_are_those_of_gymnasium():
    ours, reference = gymnasiums_cartpole(CartPoleContinuous().params), CartPoleEnv()
    for name in ("gravity", "force_mag", "tau", "masscart", "masspole", "length", "x_threshold"):
        assert getattr(ours, name) == getattr(reference, name)
    assert ours.theta_threshold_radians == reference.theta_threshold_radians


@given(
    st.tuples(st.floats(-2.4, 2.4), st.floats(-5, 5), st.floats(-0.2, 0.2), st.floats(-3, 3)),
    st.floats(-2, 2),
)
@settings(deadline=None, max_examples=100)
def test_accelerations_solve_the_lagrangian(state, action):
    """The equations of motion as a linear system, derived from the kinetic and potential energy of a rod."""
    task = CartPoleContinuous(dtype="float64")
    after = task.transition(np.array(state), np.array([action]), NOTHING)
    theta, omega, m, length = state[2], state[3], 0.1, 0.5
    # (M + m) x'' + m l cos(theta) theta'' = F + m l theta'^2 sin(theta)
    # m l cos(theta) x'' + 4/3 m l^2 theta'' = m g l sin(theta)
    matrix = np.array([[1.1, m * length * math.cos(theta)], [m * length * math.cos(theta), 4 / 3 * m * length**2]])
    force = 10.0 * min(max(action, -1.0), 1.0)
    right = [force + m * length * omega**2 * math.sin(theta), m * 9.8 * length * math.sin(theta)]
    x_acc, theta_acc = np.linalg.solve(matrix, right)
    expected = np.array(state) + 0.02 * np.array([state[1], x_acc, omega, theta_acc])
    assert_allclose(after, expected, rtol=1e-10, atol=1e-12)


def energy(state, params):
    """Return the energy of cart and rod [J]."""
    _, v, theta, omega = state
    m, length = params.pole_mass, params.half_length
    kinetic = 0.5 * (params.cart_mass + m) * v**2 + m * length * v * omega * math.cos(theta)
    return kinetic + 2 / 3 * m * length**2 * omega**2 + m * params.gravity * length * math.cos(theta)


@pytest.mark.parametrize("constants", [{}, {"gravity": -9.8, "pole_mass": 1.0}])
def test_energy_is_kept_without_force_as_the_step_shrinks(constants):
    errors = []
    for dt in (1e-3, 1e-4):
        task = CartPoleContinuous(dtype="float64", dt=dt, **constants)
        state = first = np.array([0.0, 0.3, 0.05, -0.2])
        for _ in range(round(0.3 / dt)):
            state = task.transition(state, np.zeros(1), NOTHING)
        errors.append(abs(energy(state, task.params) - energy(first, task.params)))
    assert errors[0] < 5e-3
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.2)  # explicit Euler is of first order


def test_upright_rest_is_an_equilibrium_and_unstable():
    task = CartPoleContinuous(dtype="float64")
    assert_array_equal(task.transition(np.zeros(4), np.zeros(1), NOTHING), np.zeros(4))
    leaning = task.transition(np.array([0.0, 0.0, 0.01, 0.0]), np.zeros(1), NOTHING)
    assert leaning[3] > 0
    assert leaning[1] < 0, "the falling pole pushes the cart back"


def test_the_mirror_image_is_a_step_too():
    task = CartPoleContinuous(dtype="float64")
    state, action = np.array([0.3, -0.2, 0.1, 0.7]), np.array([0.4])
    assert_array_equal(task.transition(-state, -action, NOTHING), -task.transition(state, action, NOTHING))


@pytest.mark.parametrize(
    ("x", "theta", "ends"),
    [(2.4, 0.2094, False), (2.41, 0.0, True), (-2.41, 0.0, True), (0.0, 0.21, True), (0.0, -0.21, True)],
)
def test_the_episode_ends_beyond_the_limits(x, theta, ends):
    assert CartPoleContinuous(dtype="float64").terminal(np.array([x, 9.0, theta, -3.0])) == ends


def test_starts_are_uniform_in_all_columns():
    states = start_states(CartPoleContinuous(start_range=0.1), 10_000)
    for column in range(4):
        assert stats.kstest(states[:, column], stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


# --- bounds ---


def run(task, state, choose, steps):
    """Return the states `[T, N, 4]` of running episodes, ends included; rows that ended become NaN."""
    nothing = Noise(np.zeros((len(state), 0)), np.zeros((len(state), 0)))
    states, ended = [state], np.zeros(len(state), np.bool_)
    for step in range(steps):
        state = task.transition(state, choose(step, state), nothing)
        states.append(np.where(ended[:, None], np.nan, state))
        ended |= task.terminal(state)
    return np.array(states)


@pytest.mark.parametrize(
    "params",
    [
        {},
        CONSTANTS,
        {"pole_mass": 20.0},
        {"dt": 0.2},
        {"max_force": 300.0, "start_range": 0.2, "dt": 0.001},
        {"gravity": -30.0, "theta_limit": 3.0},
        {"start_range": 0.2},
        {"start_range": 0.2, "half_length": 0.05},
    ],
)
def test_no_episode_reaches_the_bounds(params):
    task = CartPoleContinuous(dtype="float64", **params)
    rows, generator = 2000, np.random.default_rng(0)
    switching = generator.uniform(0.0, 0.3, rows)
    side = generator.choice([-1.0, 1.0], rows)

    def bang_bang(step, state):
        side[:] = np.where(generator.random(rows) < switching, -side, side)
        faster = {0: -np.sign(state[:, 3]), 1: np.sign(state[:, 1])}  # the pole, or the cart
        return np.choose(np.arange(rows) % 3, [faster[0], faster[1], side])[:, None]

    farthest = np.nanmax(np.abs(run(task, start_states(task, rows), bang_bang, 200)), axis=(0, 1))
    assert (farthest < np.array(task.max_columns) / 1.001).all()
    if {*params} <= {"start_range"}:
        assert farthest[3] > 0.85 * task.max_columns[3], "the bound is tight"


def test_the_columns_stop_at_their_bounds_after_the_end():
    env = gym.make("mbrl/CartPoleContinuous-v0", max_episode_steps=-1).unwrapped
    env.reset(seed=0)
    for _ in range(500):
        observation, *_ = env.step(np.ones(1, np.float32))
        assert observation in env.observation_space
    assert_allclose(observation[0], env.observation_space.high[0], rtol=1e-5)


def test_bounds_cover_every_row_of_randomised_constants():
    ranges = {"gravity": (1.0, 20.0), "cart_mass": (0.2, 2.0), "pole_mass": (0.05, 1.0), "half_length": (0.2, 1.0)}
    task = CartPoleContinuous(dtype="float64", randomize={**ranges, "max_force": (1.0, 30.0), "dt": (0.01, 0.05)})
    for row in start_states(task, 200):
        fixed = task.with_constants_of(row)
        assert (np.array(fixed.max_columns) <= np.array(task.max_columns) * (1 + 1e-12)).all()


def test_limits_cannot_be_randomised_and_hold_the_starts():
    with pytest.raises(InvalidSettingError, match="randomize cannot vary 'theta_limit'"):
        CartPoleContinuous(randomize={"theta_limit": (0.1, 0.2)})
    with pytest.raises(InvalidSettingError, match=r"start_range must be at most 0\.2094"):
        CartPoleContinuous(start_range=0.3)
    with pytest.raises(InvalidSettingError, match=r"start_range must be at most 0\.2094.* but 0\.25 was"):
        CartPoleContinuous(randomize={"start_range": (0.0, 0.25)})


# --- optimum ---


def linear_model(task):
    """Return A and B of a step around the upright pole by central differences."""
    a, step = np.empty((4, 4)), 1e-6
    for column in range(4):
        nudge = step * (np.arange(4) == column)
        ends = [task.transition(sign * nudge, np.zeros(1), NOTHING) for sign in (-1, 1)]
        a[:, column] = (ends[1] - ends[0]) / (2 * step)
    ends = [task.transition(np.zeros(4), np.array([sign * step]), NOTHING) for sign in (-1, 1)]
    return a, ((ends[1] - ends[0]) / (2 * step))[:, None]


@pytest.mark.parametrize("params", [{}, CONSTANTS], ids=["default", "other constants"])
def test_the_gain_solves_the_riccati_equation(params):
    task = CartPoleContinuous(dtype="float64", **params)
    a, b = linear_model(task)
    cost = np.diag([1 / task.params.x_limit**2, 0.0, 1 / task.params.theta_limit**2, 0.0])
    value = linalg.solve_discrete_are(a, b, cost, np.eye(1))
    gain = np.linalg.solve(1.0 + b.T @ value @ b, b.T @ value @ a)
    assert_allclose(task.balancing_gain(), gain[0], rtol=1e-4, atol=1e-6)


def test_every_start_pays_200_and_a_controller_earns_them():
    vec = gym.make_vec("mbrl/CartPoleContinuous-v0", num_envs=100, autoreset_mode="Disabled")
    gain = vec.task.balancing_gain()
    observation, _ = vec.reset(seed=0)
    assert_array_equal(vec.task.optimal_return(vec.get_state()["state"]), 200)
    total = np.zeros(100)
    for _ in range(200):
        observation, reward, terminated, truncated, _ = vec.step(-(observation @ gain)[:, None].astype(np.float32))
        total += reward
        assert not terminated.any()
    assert truncated.all()
    assert_array_equal(total, 200)


def test_the_corners_of_the_starts_can_be_saved_and_steps_count():
    task = CartPoleContinuous()
    corners = 0.05 * (2.0 * np.stack(np.unravel_index(np.arange(16), (2,) * 4), -1) - 1.0)
    assert_array_equal(task.optimal_return(corners), 200)
    assert_array_equal(task.optimal_return(corners.reshape(4, 4, 4), steps=1000), np.full((4, 4), 1000))
    assert task.optimal_return(corners[0], steps=0) == 0


def brute_force_survival(state, task, steps):
    """Return the most steps survived over all sequences of actions -1, 0, 1."""
    alive, best = state[None], 0
    for step in range(steps):
        nothing = Noise(np.zeros((3 * len(alive), 0)), np.zeros((3 * len(alive), 0)))
        actions = np.tile([-1.0, 0.0, 1.0], len(alive))[:, None]
        following = task.transition(np.repeat(alive, 3, axis=0), actions, nothing)
        best = step + 1
        alive = following[~task.terminal(following)]
        if not len(alive):
            break
    return best


@pytest.mark.parametrize(
    "state",
    [
        (0, 0, 0.2, 3.0),
        (0, 0, 0.15, 2.0),
        (0, 0, -0.1, -2.5),
        (2.3, 6.0, 0, 0),
        (1.94, 3.504, -0.038, -0.891),
        (0, 0, 0.3, 0),
    ],
)
def test_lost_states_are_worth_the_steps_that_brute_force_survives(state):
    task = CartPoleContinuous(dtype="float64")
    state = np.array(state, np.float64)
    assert task.optimal_return(state, steps=9) == brute_force_survival(state, task, 9)


def test_nearly_all_lost_states_are_worth_what_brute_force_survives():
    # The search is over pushes to one side first: a lower bound, which a rare state near the track's end shows.
    task, generator = CartPoleContinuous(dtype="float64"), np.random.default_rng(0)
    states = generator.uniform([-2.4, -6.0, -0.2, -4.0], [2.4, 6.0, 0.2, 4.0], (60, 4))
    best = task.optimal_return(states, steps=9)
    most = np.array([brute_force_survival(state, task, 9) for state in states])
    assert (most < 9).sum() > 20
    assert (best <= most).all()
    assert np.mean(best == most) > 0.95


def test_a_weak_force_survives_as_long_as_the_pole_falls():
    task = CartPoleContinuous(dtype="float64", max_force=0.01)
    best = task.optimal_return(np.array([0.0, 0.0, 0.05, 0.05]))
    assert 10 < best < 200


@pytest.mark.parametrize("gravity", [0.0, -9.8])
def test_a_pole_that_does_not_fall_is_no_exception(gravity):
    task = CartPoleContinuous(gravity=gravity)
    assert_array_equal(task.optimal_return(np.zeros((1, 4))), 200)
    assert np.isfinite(task.balancing_gain()).all()


def test_no_controller_exceeds_the_bound_where_the_optimum_is_only_searched():
    task = CartPoleContinuous(dtype="float64")
    state = np.array([1.644, -2.798, 0.092, -1.622])
    assert task.return_bound(state, steps=200) == 200
    assert task.optimal_return(state, steps=200) <= 200
