"""Constants that are drawn anew in every episode: their law, their life, and that the equations obey them."""

import copy
import math
import pickle
from dataclasses import asdict, dataclass, fields

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from task_toys import one_step, some_steps, start_states

from mbrl_gym.envs.bandit import Bandit
from mbrl_gym.envs.drift import Drift
from mbrl_gym.envs.drone import Drone
from mbrl_gym.envs.task import Noise, NoiseSizes, Params, draw
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import ExactModel

MODES = ("NextStep", "SameStep", "Disabled")
ROWS = 4


@pytest.fixture(scope="module")
def ranges(env_id, make_task):
    """Return a range of every constant of the id that can vary, next to its default value."""
    params = make_task(env_id).params
    names = [f.name for f in fields(params) if f.type in ("float", float) and f.name not in params.fixed]
    if not names:
        pytest.skip("has no constant that can vary")
    defaults = {name: getattr(params, name) for name in names}
    return {name: tuple(sorted((0.9 * value, value))) if value else (0.0, 0.05) for name, value in defaults.items()}


def fixed_task(task, row):
    """Make the task whose constants are those of one state, by hand."""
    drawn = dict(zip(task.randomize, row[-len(task.randomize) :].tolist(), strict=True))
    return type(task)(dtype=task.dtype, **{**asdict(task.params), **drawn})


def shown(info, names):
    """Return the constants that an info of a vector environment holds, `[N, R]`; all rows must be shown."""
    for name in names:
        assert_array_equal(info[f"_{name}"], True)
    return np.stack([info[name] for name in names], axis=-1)


def held(vec, names):
    """Return the constants `[N, R]` in the states of a vector environment."""
    return vec.get_state()["state"][:, -len(names) :]


def same(one, other):
    """Whether two records are equal to the bit, types included."""
    return data_equivalence(one, other, exact=True)


# --- the law ---


def test_draws_are_uniform_independent_and_within_their_ranges(env_id, ranges):
    vec = gym.make_vec(env_id, num_envs=2000, randomize=ranges)
    values = shown(vec.reset(seed=1)[1], ranges)
    for column, (low, high) in zip(values.T, ranges.values(), strict=True):
        assert column.min() >= np.float32(low)
        assert column.max() <= np.float32(high)
        assert stats.kstest(column, stats.uniform(low, high - low).cdf).pvalue > 1e-4
    correlation = np.corrcoef(values.T) - np.eye(len(ranges))
    assert np.abs(correlation).max() < 5 / math.sqrt(2000)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(["float32", "float64"]))
@example(1.83, 1.92, "float32")
@example(-1.93, -1.84, "float32")
@settings(deadline=None, max_examples=200)
def test_no_rounding_leaves_the_range(one, other, dtype):
    low, high = sorted((one, other))
    task = Drift(dtype=dtype, randomize={"drift": (low, high)})
    uniform = np.array([0.0, 2.0**-24, 0.3, 0.5, 1 - 2.0**-24], dtype)
    states = task.initial(Noise(np.zeros((5, 0), dtype), np.stack([0 * uniform, uniform], -1)))
    assert (states[:, -1] >= task.dtype.type(low)).all()
    assert (states[:, -1] <= task.dtype.type(high)).all()
    assert task.allows(states)


def test_a_seed_decides_the_draws(env_id, ranges):
    one, other = (gym.make(env_id, randomize=ranges) for _ in range(2))
    first, again = one.reset(seed=3), other.reset(seed=3)
    assert same(first, again)
    assert set(first[1]) >= set(ranges)
    assert one.reset(seed=4)[1] != first[1]
    assert same(one.reset(seed=3), first)
    vecs = [gym.make_vec(env_id, num_envs=ROWS, randomize=ranges).reset(seed=3) for _ in range(2)]
    assert same(*vecs)


# --- the life of a constant ---


def test_constants_last_for_one_episode(env_id, ranges, some_actions):
    env = gym.make(env_id, randomize=ranges).unwrapped
    episodes = []
    for _ in range(3):
        _, start = env.reset()
        for action in some_actions(env.action_space, 5):
            info = env.step(action)[-1]
            assert {name: info[name] for name in ranges} == start
            assert all(type(info[name]) is float for name in ranges)
        episodes.append(tuple(start.values()))
    assert len(set(episodes)) == 3


@pytest.mark.parametrize("mode", MODES)
def test_every_autoreset_draws_new_constants_for_its_rows_only(env_id, ranges, some_actions, mode):
    vec = gym.make_vec(env_id, num_envs=ROWS, max_episode_steps=4, autoreset_mode=mode, randomize=ranges)
    _, info = vec.reset(seed=0)
    restarted = np.zeros(ROWS, np.bool_)
    kept = shown(info, ranges)
    for time, action in enumerate(some_actions(vec.action_space, 14)):
        _, _, terminated, truncated, info = vec.step(action)
        ended = terminated | truncated
        if mode == "SameStep":
            restarted = ended
        values = shown(info, ranges)
        assert_array_equal(values, held(vec, ranges))
        assert_array_equal((values != kept).any(-1), restarted)
        kept, restarted = values, ended
        mask = ended if mode == "Disabled" else np.arange(ROWS) == (2 if time == 1 else -1)
        if mask.any():  # also rows that have not ended
            _, info = vec.reset(options={"reset_mask": mask})
            values = shown(info, ranges)
            assert_array_equal((values != kept).any(-1), mask)
            kept, restarted = values, restarted & ~mask


def test_final_info_has_the_constants_of_the_episode_that_ended(env_id, ranges, some_actions):
    vec = gym.make_vec(env_id, num_envs=ROWS, max_episode_steps=3, autoreset_mode="SameStep", randomize=ranges)
    started = shown(vec.reset(seed=0)[1], ranges)
    vec.reset(options={"reset_mask": np.arange(ROWS) == 1})  # the second row ends one step later
    vec.step(some_actions(vec.action_space, 1)[0])
    vec.reset(options={"reset_mask": np.arange(ROWS) == 1})
    running = held(vec, ranges)
    assert_array_equal((running != started).any(-1), np.arange(ROWS) == 1)
    for action in some_actions(vec.action_space, 2):
        info = vec.step(action)[-1]
    ended = np.arange(ROWS) != 1
    for column, name in enumerate(ranges):
        assert_array_equal(info["final_info"][f"_{name}"], ended)
        assert_array_equal(info["final_info"][name][ended], running[ended, column])
    assert_array_equal((shown(info, ranges) != running).any(-1), ended)


# --- the equations ---


def test_each_row_evolves_like_the_task_with_its_constants(env_id, ranges, make_task):
    task = make_task(env_id, dtype="float64", randomize=ranges)
    state, action, noise = some_steps(task, rows=12)
    together = one_step(task, state, action, noise)
    own = task.state_size - len(ranges)
    for row in range(12):
        fixed = fixed_task(task, state[row])
        assert fixed.params == task.with_constants_of(state[row]).params
        assert fixed.state_size == own
        alone = one_step(fixed, state[row, :own], action[row], Noise(*(part[row] for part in noise)))
        for name, expected in alone.items():
            got = together[name][row]
            if name == "state":
                assert_array_equal(got[own:], state[row, own:])
                got = got[:own]
            assert_allclose(got, expected, rtol=1e-13, atol=1e-13, err_msg=name)


def test_each_row_starts_like_the_task_with_its_constants(env_id, ranges, make_task):
    task = make_task(env_id, dtype="float64", randomize=ranges)
    noise = draw(np.random.default_rng(2), (12,), task.initial_noise, task.dtype)
    states, own = task.initial(noise), task.state_size - len(ranges)
    for row in range(12):
        fixed = fixed_task(task, states[row])
        of_row = Noise(noise.normal[row], noise.uniform[row, : -len(ranges)])
        assert_allclose(states[row, :own], fixed.initial(of_row), rtol=1e-13, atol=1e-13)


def test_a_range_of_one_value_equals_the_fixed_task(env_id, ranges, make_task):
    fixed = make_task(env_id, dtype="float64")
    values = {name: getattr(fixed.params, name) for name in ranges}
    task = make_task(env_id, dtype="float64", randomize={name: (value, value) for name, value in values.items()})
    state, action, noise = some_steps(task, rows=8)
    own = fixed.state_size
    assert_array_equal(state[:, own:], np.tile(list(values.values()), (8, 1)))
    expected = one_step(fixed, state[:, :own], action, noise)
    for name, got in one_step(task, state, action, noise).items():
        got = got[:, :own] if name == "state" else got
        assert_allclose(got, expected[name], rtol=1e-13, atol=1e-13, err_msg=name)
    assert_allclose(task.observation_space.high, fixed.observation_space.high)


def test_torch_agrees_with_numpy(env_id, ranges, make_task):
    task = make_task(env_id, dtype="float64", randomize=ranges)
    state, action, noise = some_steps(task, rows=32)
    expected = one_step(task, state, action, noise)
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in (state, action, *noise)]
    for name, got in one_step(task, tensors[0], tensors[1], Noise(*tensors[2:])).items():
        assert_allclose(got.numpy(), expected[name], rtol=1e-12, atol=1e-12, err_msg=name)
    start = draw(np.random.default_rng(0), (32,), task.initial_noise, task.dtype)
    assert_allclose(task.initial(Noise(*map(torch.from_numpy, start))).numpy(), task.initial(start), atol=1e-12)


def test_each_row_equals_the_single_state_bit_for_bit(env_id, ranges, make_task):
    task = make_task(env_id, randomize=ranges)
    state, action, noise = some_steps(task, rows=17)
    together = one_step(task, state, action, noise)
    assert together["state"].strides[0] == state.itemsize, "columns are contiguous"
    assert {together[name].dtype for name in ("state", "observation", "reward")} == {np.dtype("float32")}
    for row in range(17):
        alone = one_step(task, state[row].copy(), action[row], Noise(*(part[row] for part in noise)))
        for name, expected in together.items():
            assert_array_equal(alone[name], expected[row], err_msg=name)


def test_drift_moves_by_each_rows_drift():
    vec = gym.make_vec(
        "mbrl/Drift-v0", num_envs=3, dtype="float64", noise_std=0.0, randomize={"drift": (-1, 1), "max_step": (1, 2)}
    )
    vec.reset(options={"state": [[0.0, -1.0, 1.0], [0.0, 0.25, 2.0], [3.0, 0.5, 1.5]]})
    observation, reward, *_, info = vec.step(np.full((3, 1), 0.5, np.float32))
    assert_allclose(observation[:, 0], [-0.5, 1.25, 4.25])
    assert_allclose(reward, [-0.5, -1.25, -4.25])
    assert_array_equal(info["drift"], [-1.0, 0.25, 0.5])


# --- spaces ---


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2.0**-24])
def test_observations_stay_in_their_space_at_the_ends_of_the_ranges(env_id, ranges, some_actions, uniform):
    vec = gym.make_vec(env_id, num_envs=ROWS, max_episode_steps=-1, randomize=ranges)
    task = vec.task
    noise = draw(np.random.default_rng(0), (ROWS,), task.initial_noise, task.dtype)
    noise.uniform[:, -len(ranges) :] = uniform
    observation, _ = vec.reset(options={"state": task.initial(noise)})
    assert observation in vec.observation_space
    for action in some_actions(vec.action_space, 30):
        assert vec.step(np.round(action))[0] in vec.observation_space


def test_the_space_covers_every_value_of_the_range():
    task = Drone(randomize={"max_acceleration": (0.5, 3.0), "target_range": (1.0, 8.0)})
    assert task.observation_space == Drone(max_acceleration=3.0, target_range=8.0).observation_space
    assert (task.lowest("max_acceleration"), task.highest("max_acceleration")) == (0.5, 3.0)
    assert task.lowest("dt") == task.highest("dt") == 0.1


def test_constants_are_hidden_from_the_observation(env_id, ranges, make_task):
    plain, task = make_task(env_id), make_task(env_id, randomize=ranges)
    assert task.published_space().keys() == plain.published_space().keys() if task.parts else True
    assert task.observation_space.shape == plain.observation_space.shape
    assert task.state_columns == (*plain.state_columns, *(f"constant {name}" for name in ranges))
    assert not task.fully_observed
    with pytest.raises(InvalidSettingError, match="not fully observed"):
        task.state(task.observation(start_states(task, 2)))


def test_an_exact_model_of_a_randomised_task_is_refused():
    ExactModel(Drone())
    with pytest.raises(UnsupportedSpaceError, match="Drone hides a part of its state"):
        ExactModel(Drone(randomize={"max_acceleration": (0.5, 1.5)}))


@pytest.mark.parametrize("nothing", [None, {}])
def test_nothing_randomised_is_the_plain_task(env_id, make_task, some_actions, nothing):
    task, plain = make_task(env_id, randomize=nothing), make_task(env_id)
    assert task.state_columns == plain.state_columns
    assert task.initial_noise == plain.initial_noise
    assert task.fully_observed == plain.fully_observed
    env = gym.make_vec(env_id, num_envs=2, randomize=nothing)
    assert env.reset(seed=0)[1] == {}


# --- the state option ---


def test_the_state_option_sets_the_constants_too(env_id, ranges):
    env = gym.make(env_id, randomize=ranges).unwrapped
    env.reset(seed=0)
    state = env.get_state()["state"]
    _, info = gym.make(env_id, randomize=ranges).reset(seed=9, options={"state": state.tolist()})
    assert list(info.values()) == state[-len(ranges) :].tolist()


def test_states_without_their_constants_are_refused(env_id, ranges):
    env = gym.make(env_id, randomize=ranges).unwrapped
    env.reset(seed=0)
    own = env.get_state()["state"][: -len(ranges)]
    with pytest.raises(InvalidSettingError, match='options\\["state"\\] must have shape') as caught:
        env.reset(options={"state": own})
    assert all(f"constant {name}" in str(caught.value) for name in ranges)


@pytest.mark.parametrize("make", [gym.make, lambda *a, **k: gym.make_vec(*a, num_envs=2, **k)], ids=["one", "many"])
def test_constants_out_of_their_range_are_refused(env_id, ranges, make):
    env = make(env_id, randomize=ranges)
    env.reset(seed=0)
    state = env.unwrapped.get_state()["state"]
    for column, (low, high) in enumerate(ranges.values(), start=-len(ranges)):
        width = high - low
        for value, good in ((low, True), (high, True), (low - 0.01 * width, False), (high + 0.01 * width, False)):
            changed = state.copy()
            changed[..., column] = value
            if good:
                env.reset(options={"state": changed})
                continue
            with pytest.raises(InvalidSettingError, match="all constants in their ranges"):
                env.reset(options={"state": changed})


def test_a_range_from_zero_admits_no_negative_value():
    env = gym.make("mbrl/Drift-v0", randomize={"noise_std": (0.0, 1000.0)})
    with pytest.raises(InvalidSettingError, match="all constants in their ranges"):
        env.reset(options={"state": [0.0, -1e-4]})
    env.reset(options={"state": [0.0, 0.0]})


# --- refusals ---


@pytest.mark.parametrize(
    ("randomize", "message"),
    [
        ({"humidity": (0.0, 1.0)}, "randomize cannot vary 'humidity'; it can: .*noise_std"),
        ({"dtype": (0.0, 1.0)}, "randomize cannot vary 'dtype'"),
        ({"drift": (1.0, 0.5)}, r"randomize needs low <= high for drift, but \(1.0, 0.5\) was"),
        ({"drift": 0.5}, "randomize needs .low, high. for drift, but 0.5 was"),
        ({"drift": (0.5,)}, "randomize needs .low, high. for drift"),
        ({"drift": (0.1, 0.2, 0.3)}, "randomize needs .low, high. for drift"),
        ({"drift": None}, "randomize needs .low, high. for drift, but None was"),
        ({"drift": ("a", "b")}, "drift must be a number, but 'a' was"),
        ({"drift": (0.0, math.nan)}, "drift must be finite, but nan was"),
        ({"drift": (-math.inf, 0.0)}, "drift must be finite, but -inf was"),
        ({"drift": (False, True)}, "drift must be a number, but False was"),
        ({"max_step": (0.0, 1.0)}, "max_step must be greater than 0, but 0.0 was"),
        ({"noise_std": (-0.1, 1.0)}, "noise_std must be at least 0, but -0.1 was"),
        ([("drift", (0.0, 1.0))], "randomize must be a dict"),
        ("drift", "randomize must be a dict of .low, high., but 'drift' was"),
    ],
)
@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_bad_ranges_are_refused(make, randomize, message):
    with pytest.raises(InvalidSettingError, match=message):
        make("mbrl/Drift-v0", randomize=randomize)


def test_whole_numbers_and_fixed_constants_cannot_vary(env_id, make_task):
    task = make_task(env_id)
    unfit = [f.name for f in fields(task.params) if f.type not in ("float", float) or f.name in task.params.fixed]
    for name in unfit:
        value = getattr(task.params, name)
        with pytest.raises(InvalidSettingError, match=f"randomize cannot vary '{name}'"):
            type(task)(randomize={name: (value, value)})


def test_bandits_cannot_vary_the_number_of_arms():
    with pytest.raises(InvalidSettingError, match="cannot vary 'arms'; it can: mean_loc, mean_std, reward_std"):
        Bandit(randomize={"arms": (2, 5)})


@dataclass(frozen=True, kw_only=True)
class EagerParams(Params):
    """Annotations are classes here, not strings as in the package's own modules."""

    speed: float = 2.0
    teeth: int = 3


class Eager(Drift):
    """x' = x + speed."""

    params_class = EagerParams
    transition_noise = NoiseSizes()

    def initial(self, noise):
        constants = self.draw_constants(noise)
        return np.stack([0 * constants.speed, *self.constant_columns(constants)], -1)


def test_params_with_evaluated_annotations_can_vary():
    task = Eager(randomize={"speed": (1.0, 3.0)})
    assert_array_equal(task.initial(Noise(np.zeros((2, 0)), np.array([[0, 0.0], [0, 0.5]])))[:, 1], [1.0, 2.0])
    with pytest.raises(InvalidSettingError, match="cannot vary 'teeth'; it can: speed"):
        Eager(randomize={"teeth": (1, 3)})


# --- copies ---


def replay(env, actions):
    """Take the actions, with a reset among them."""
    first = [env.step(action) for action in actions]
    return [*first, env.reset(), *(env.step(action) for action in actions)]


@pytest.mark.parametrize("make", [gym.make, lambda *a, **k: gym.make_vec(*a, num_envs=2, **k)], ids=["one", "many"])
def test_specs_copies_and_snapshots_keep_the_randomisation(env_id, ranges, some_actions, make):
    again = gym.make if make is gym.make else gym.make_vec
    env = make(env_id, max_episode_steps=6, randomize=ranges)
    actions = some_actions(env.action_space, 5)
    from_spec = [again(env.spec), again(EnvSpec.from_json(env.spec.to_json()))]
    started = env.reset(seed=5)
    assert all(same(twin.reset(seed=5), started) for twin in from_spec)
    env.step(actions[0])
    snapshot, twins = env.unwrapped.get_state(), [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    elsewhere = make(env_id, max_episode_steps=6, randomize=ranges).unwrapped
    elsewhere.set_state(snapshot)
    expected = replay(env.unwrapped, actions)
    assert all(same(replay(twin.unwrapped, actions), expected) for twin in (*twins, elsewhere))
    assert set(ranges) <= set(expected[-1][-1])


def test_the_ranges_are_the_tasks_own():
    given_ranges = {"drift": [0.0, 1.0]}
    task = Drift(randomize=given_ranges)
    given_ranges["drift"][1] = 5.0
    given_ranges["noise_std"] = (0.0, 1.0)
    assert task.randomize == {"drift": (0.0, 1.0)}
    assert "randomize={'drift': (0.0, 1.0)}" in repr(task)
    assert "randomize" not in repr(Drift())


# --- the optimum ---


def test_the_optimum_knows_each_rows_constants(env_id, ranges, make_task):
    task = make_task(env_id, randomize=ranges)
    states = start_states(task, 3)
    own = task.state_size - len(ranges)
    try:
        best = task.optimal_return(states, steps=4)
    except (NotImplementedError, ImportError) as error:
        pytest.skip(str(error))
    assert best.shape == (3,)
    assert best.dtype == np.float64
    expected = [fixed_task(task, row).optimal_return(row[:own].astype(np.float64), steps=4) for row in states]
    assert_allclose(best, expected, rtol=1e-6, atol=1e-6)
    assert_allclose(task.optimal_return(states[0], steps=4), best[0])


def test_the_optimum_of_two_drifts_by_hand():
    task = Drift(noise_std=0.0, randomize={"drift": (-2.0, 2.0)})
    # From 0: a drift within max_step is undone; one of 1.5 wins 0.5 at each step.
    states = np.array([[0.0, 0.5], [0.0, 1.5], [0.0, -1.5]])
    assert_allclose(task.optimal_return(states, steps=3), [0.0, -3.0, -3.0], atol=1e-3)
    assert task.optimal_return(states.reshape(1, 3, 2), steps=3).shape == (1, 3)
