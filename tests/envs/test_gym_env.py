"""The single environments: the contracts of Gymnasium and Stable-Baselines3, replay, and refusals."""

import copy
import math
import pickle
import warnings
from dataclasses import asdict

import gymnasium as gym
import numpy as np
import pytest
from env_toys import arrays, flat, is_random, observed_dtype
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.wrappers import RecordEpisodeStatistics
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from mbrl_gym.envs.drone import Drone
from mbrl_gym.errors import InvalidActionError, InvalidSettingError

# Ids of which Gymnasium may note that their observations have no bounds, because their noise has none.
UNBOUNDED = ("mbrl/Drift-v0", "mbrl/Bandit-v0", "mbrl/BanditDrifting-v0")
INFINITY_NOTES = (
    "Box observation space minimum value is -infinity",
    "Box observation space maximum value is infinity",
)


def trajectory(env, actions, **reset):
    """Reset, take the actions, and return all that the environment said."""
    return [env.reset(**reset), *(env.step(action) for action in actions)]


def replay(env, actions):
    """Take the actions without a reset."""
    return [env.step(action) for action in actions]


def same(one, other):
    """Whether two records are equal to the bit, types included."""
    return data_equivalence(one, other, exact=True)


def bad_actions(space, kind):
    """Return actions of a kind that no environment with this space can execute."""
    if isinstance(space, spaces.Discrete):
        return {
            "value": [-1, int(space.n), math.nan, math.inf],
            "mixed": [0.0, 1.5, np.float32(1)],
            "shape": [[0], np.zeros(2, np.int64), np.zeros((1, 1), np.int64)],
            "type": ["0", None, {}],
        }[kind]
    size = space.shape[0]
    zeros, first = np.zeros(size, np.float32), np.arange(size) == 0
    return {
        "value": [zeros + math.nan, zeros + math.inf, zeros - math.inf, np.where(first, math.nan, zeros)],
        "mixed": [np.where(first, -math.inf, math.inf), np.where(first, math.nan, math.inf)],
        "shape": [0.0, zeros[None], np.zeros(size + 1, np.float32), []],
        "type": [["left"] * size, None, {}, [[0.0], [0.0, 0.0]]],
    }[kind]


# --- the checkers ---


def assert_checker_is_silent(env_id, check, env):
    """Run a checker; where the law is unbounded Gymnasium may note it, and nothing else may be said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check(env)
    messages = [str(warning.message) for warning in said]
    allowed = INFINITY_NOTES if env_id in UNBOUNDED else ()
    assert [text for text in messages if not any(note in text for note in allowed)] == []


def test_gymnasium_checker_is_silent(env_id):
    assert_checker_is_silent(env_id, lambda env: check_env(env, skip_render_check=True), gym.make(env_id).unwrapped)


def test_stable_baselines_checker_is_silent(env_id):
    assert_checker_is_silent(env_id, sb3_check_env, gym.make(env_id).unwrapped)


# --- episodes ---


def test_step_returns_plain_python_numbers(env_id, some_actions):
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    for action in some_actions(env.action_space, 5):
        observation, reward, terminated, truncated, info = env.step(action)
        assert flat(observation).dtype == env.task.observation_space.dtype
        assert type(reward) is float
        assert type(terminated) is bool
        assert type(truncated) is bool
        assert {type(value) for value in info.values()} <= {float, int, bool, str}


def test_episode_has_the_registered_length(env_id, some_actions):
    env = RecordEpisodeStatistics(gym.make(env_id))
    env.reset(seed=0)
    rewards = []
    for action in some_actions(env.action_space, env.spec.max_episode_steps):
        _, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        if terminated or truncated:
            break
    assert terminated or len(rewards) == env.spec.max_episode_steps == env.unwrapped.task.nominal_steps
    assert info["episode"]["l"] == len(rewards)
    assert info["episode"]["r"] == pytest.approx(sum(rewards))


def test_same_seed_same_trajectory(env_id, some_actions):
    one, other = gym.make(env_id), gym.make(env_id)
    actions = some_actions(one.action_space, 20)
    first = trajectory(one, actions, seed=3)
    assert same(first, trajectory(other, actions, seed=3))
    assert same(first, trajectory(one, actions, seed=3))


def test_other_seed_other_trajectory(env_id, some_actions):
    env = gym.make(env_id)
    actions = some_actions(env.action_space, 20)
    assert same(trajectory(env, actions, seed=3), trajectory(env, actions, seed=4)) != is_random(env.unwrapped.task)


def test_reset_without_seed_goes_on_with_the_generator(env_id, some_actions):
    env = gym.make(env_id)
    actions = some_actions(env.action_space, 20)
    first, second = trajectory(env, actions, seed=3), trajectory(env, actions)
    assert same(first, second) != is_random(env.unwrapped.task)
    env.reset(seed=3)
    replay(env, actions)
    assert same(second, trajectory(env, actions))


def test_given_state_is_set_exactly(env_id):
    env = gym.make(env_id).unwrapped
    env.reset(seed=1)
    state = env.get_state()["state"]
    elsewhere = gym.make(env_id).unwrapped
    observation, _ = elsewhere.reset(seed=2, options={"state": state.tolist()})
    assert_array_equal(elsewhere.get_state()["state"], state)
    assert_array_equal(flat(observation), env.task.observation(state))


def test_given_state_is_copied(env_id):
    env = gym.make(env_id).unwrapped
    env.reset(seed=1)
    given_state = env.get_state()["state"]
    kept = given_state.copy()
    env.reset(options={"state": given_state})
    given_state += 1
    assert_array_equal(env.get_state()["state"], kept)


def test_returned_observation_is_the_callers_own(env_id, some_actions):
    env, twin = gym.make(env_id).unwrapped, gym.make(env_id).unwrapped
    actions = some_actions(env.action_space, 3)
    observation, _ = env.reset(seed=0)
    twin.reset(seed=0)
    for action in actions:
        for array in arrays(observation):
            array[...] = np.nan
        observation, *rest = env.step(action)
        assert same([observation, *rest], list(twin.step(action)))


def test_step_needs_a_reset(env_id):
    for env in (gym.make(env_id), gym.make(env_id).unwrapped):
        with pytest.raises(gym.error.ResetNeeded):
            env.step(env.action_space.sample())


# --- bounds ---


@given(data=st.data(), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=15)
def test_observations_stay_in_their_space_whatever_the_actions(env_id, action_arrays, data, seed):
    env = gym.make(env_id).unwrapped
    observation, _ = env.reset(seed=seed)
    assert observation in env.observation_space
    for action in data.draw(action_arrays(env.action_space, 40)):
        observation, reward, *_ = env.step(action)
        assert observation in env.observation_space
        assert math.isfinite(reward)


def long_rollout(env, choose, steps=400):
    """Step on with the actions that `choose(space)` gives, and return the last observation."""
    for _ in range(steps):
        observation, reward, *_ = env.step(choose(env.action_space))
        assert observation in env.observation_space
        assert math.isfinite(reward)
    return observation


@pytest.mark.parametrize("end", ["low", "high"])
def test_constant_extreme_actions_never_leave_the_space(env_id, end):
    env = gym.make(env_id, max_episode_steps=-1)
    env.reset(seed=0)

    def extreme(space):
        return getattr(space, end) if isinstance(space, spaces.Box) else {"low": 0, "high": space.n - 1}[end]

    long_rollout(env, extreme)


@pytest.mark.parametrize("params", [{}, {"max_acceleration": 7.3, "dt": 0.03}, {"target_range": 123.4, "dt": 0.7}])
@pytest.mark.parametrize("thrust", [-1.0, 1.0])
def test_drone_bounds_are_reached_and_hold_in_long_episodes(params, thrust):
    env = gym.make("mbrl/Drone-v0", max_episode_steps=-1, **params)
    far = env.unwrapped.task.params.target_range
    env.reset(options={"state": [0.0] * 6 + [-thrust * far] * 3})
    observation = long_rollout(env, lambda space: np.full(3, thrust, np.float32))
    assert_allclose(np.abs(observation), env.observation_space.high, rtol=1e-5)


@given(
    acceleration=st.floats(0.1, 10.0),
    dt=st.floats(0.01, 1.0),
    target_range=st.floats(0.1, 100.0),
    signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=9, max_size=9),
)
@settings(deadline=None, max_examples=200)
def test_drone_corners_of_the_state_space_lie_in_the_observation_space(acceleration, dt, target_range, signs):
    task = Drone(max_acceleration=acceleration, dt=dt, target_range=target_range)
    limits = np.repeat([task.max_distance, task.max_speed, target_range], 3).astype(np.float32)
    assert task.observation(limits * np.array(signs, np.float32)) in task.observation_space


@given(st.lists(st.sampled_from([-105.0, -100.0, -5.0, 0.0, 5.0, 100.0, 105.0]), min_size=6, max_size=6))
@example([0.0, 0.0, 0.0, 100.0, 0.0, 0.0])
@settings(deadline=None, max_examples=15)
def test_drone_stays_in_its_space_from_every_state_that_reset_accepts(places):
    vec = gym.make_vec("mbrl/Drone-v0", num_envs=2, max_episode_steps=-1)
    try:
        vec.reset(options={"state": [*places[:3], 0.0, 0.0, 0.0, *places[3:]]})
    except InvalidSettingError:
        return
    for _ in range(250):  # full thrust to either side
        observation, *_ = vec.step(np.array([[-1.0] * 3, [1.0] * 3], np.float32))
        assert observation in vec.observation_space


# --- actions ---


@pytest.mark.parametrize("kind", ["value", "mixed", "shape", "type"])
def test_bad_actions_are_refused_and_change_nothing(env_id, some_actions, kind):
    env = gym.make(env_id).unwrapped
    first, second = some_actions(env.action_space, 2)
    env.reset(seed=0)
    env.step(first)
    twin = copy.deepcopy(env)
    for action in bad_actions(env.action_space, kind):
        with pytest.raises(InvalidActionError, match="the action must"):
            env.step(action)
    assert same(env.step(second), twin.step(second))


@pytest.mark.parametrize("beyond", [1.5, 1e6, 3e38, 1e300])
def test_box_actions_beyond_the_bounds_act_like_clipped_ones(env_id, some_actions, beyond):
    env, twin = gym.make(env_id).unwrapped, gym.make(env_id).unwrapped
    if not isinstance(env.action_space, spaces.Box):
        with pytest.raises(InvalidActionError):
            trajectory(env, [int(env.action_space.n)])
        return
    clipped = np.where(some_actions(env.action_space, 5) > 0, 1.0, -1.0)
    assert same(trajectory(env, beyond * clipped, seed=0), trajectory(twin, clipped, seed=0))


def test_integer_actions_of_any_width_are_the_same_choice():
    steps = []
    for kind in (int, np.int32, np.int64, np.uint8, np.array):
        env = gym.make("mbrl/Bandit-v0").unwrapped
        steps.append(trajectory(env, [kind(4)], seed=0))
    assert all(same(steps[0], other) for other in steps[1:])


# --- options ---


def test_unknown_option_is_refused_with_the_valid_ones(env_id):
    env = gym.make(env_id).unwrapped
    for name in ("start", "reset_mask"):
        with pytest.raises(InvalidSettingError, match=f"no option '{name}'; it has: state"):
            env.reset(options={name: 1})


def test_state_of_a_wrong_shape_is_refused_with_the_columns(env_id):
    env = gym.make(env_id).unwrapped
    size = env.task.state_size
    for state in (0.0, np.zeros(size + 1), np.zeros((2, size)), []):
        with pytest.raises(InvalidSettingError, match='options\\["state"\\] must have shape') as caught:
            env.reset(options={"state": state})
        assert all(column in str(caught.value) for column in env.task.state_columns)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, "here"])
def test_state_that_is_not_finite_is_refused(env_id, value):
    env = gym.make(env_id).unwrapped
    size = env.task.state_size
    for column in range(size):
        state = [0.0] * size
        state[column] = value
        with pytest.raises(InvalidSettingError, match='options\\["state"\\] must be'):
            env.reset(options={"state": state})


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("mbrl/Arm-v0", [0.0, 0.0, 5.0, 0.0]),
        ("mbrl/Drone-v0", [200.0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("mbrl/Drone-v0", [0, 0, 0, 11.0, 0, 0, 0, 0, 0]),
        ("mbrl/Bandit-v0", [0.0] * 10 + [3.0] + [0.0] * 10),
    ],
)
def test_state_out_of_bounds_is_refused(name, state):
    with pytest.raises(InvalidSettingError, match="lead to an observation within"):
        gym.make(name).reset(options={"state": state})


def test_refused_reset_changes_nothing(env_id, some_actions):
    env = gym.make(env_id).unwrapped
    first, *actions = some_actions(env.action_space, 4)
    trajectory(env, [first], seed=0)
    twin = copy.deepcopy(env)
    for options in ({"state": [0.0] * 99}, {"start": 1}):
        with pytest.raises(InvalidSettingError):
            env.reset(seed=5, options=options)
    assert same(replay(env, actions), replay(twin, actions))
    assert same(trajectory(env, actions), trajectory(twin, actions))


@pytest.mark.parametrize(
    "setting",
    [{"render_mode": "ascii"}, {"width": 8}, {"height": 10_000}, {"humidity": 9.8}, {"dtype": "float16"}],
)
def test_unknown_settings_are_refused_by_name(env_id, make_task, setting):
    env_class = type(gym.make(env_id).unwrapped)
    ((name, value),) = setting.items()
    with pytest.raises(InvalidSettingError) as caught:
        env_class(**setting)
    assert name in str(caught.value)
    assert str(value) in str(caught.value) or name == "humidity"


# --- copies and replay ---


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
def test_clone_replays_identically(env_id, some_actions, clone):
    env = gym.make(env_id)
    actions = some_actions(env.action_space, 20)
    trajectory(env, actions[:5], seed=0)
    twin = clone(env)
    assert same(replay(env, actions), replay(twin, actions))
    assert same(trajectory(env, actions), trajectory(twin, actions))


def test_snapshot_replays_identically_here_and_elsewhere(env_id, some_actions):
    env, elsewhere = gym.make(env_id).unwrapped, gym.make(env_id).unwrapped
    actions = some_actions(env.action_space, 20)
    trajectory(env, actions[:5], seed=0)
    snapshot = env.get_state()
    expected = (
        replay(env, actions),
        trajectory(env, actions),
    )  # the second goes through the generator's resets
    for other in (env, elsewhere, elsewhere):
        other.set_state(snapshot)
        assert same((replay(other, actions), trajectory(other, actions)), expected)


def test_snapshot_before_the_first_reset(env_id, some_actions):
    env, other = gym.make(env_id).unwrapped, gym.make(env_id).unwrapped
    snapshot = env.get_state()
    trajectory(other, some_actions(env.action_space, 2), seed=0)
    other.set_state(snapshot)
    with pytest.raises(gym.error.ResetNeeded):
        other.step(other.action_space.sample())
    assert same(env.reset(), other.reset())


def test_spec_round_trip_keeps_every_setting(env_id, make_task, some_actions):
    params = {
        name: value + 1 if isinstance(value, int) else 1.2 * value + 0.1
        for name, value in asdict(make_task(env_id).params).items()
    }
    if "prob_high" in params:
        params["prob_high"] = 0.7  # a probability
    env = gym.make(env_id, max_episode_steps=7, dtype="float64", **params)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert asdict(again.unwrapped.task.params) == params
    actions = some_actions(env.action_space, 7)
    expected = trajectory(env, actions, seed=0)
    assert same(trajectory(again, actions, seed=0), expected)
    assert expected[-1][3], "truncated after the given length"
    assert flat(expected[0][0]).dtype == observed_dtype(env.observation_space, np.float64)


def test_closing_twice_is_allowed(env_id):
    env = gym.make(env_id)
    env.reset(seed=0)
    env.close()
    env.close()
    assert env.unwrapped.get_state()["state"] is not None
