"""World models as environments: equal to the real ones under exact models, and true to their own predictions.

What holds for every vector environment is in tests/envs/test_vector_env.py, which imagined ones join.
"""

import copy
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mbrl_gym.errors import InvalidActionError, InvalidSettingError, MbrlGymError
from mbrl_gym.models import ExactModel, FitReport, GaussianEnsemble, Prediction, Transitions, WorldModel
from mbrl_gym.models.spaces import to_rows
from mbrl_gym.noise import NoiseSizes
from mbrl_gym.wrappers import ImaginedEnv, ImaginedVectorEnv

MODES = tuple(AutoresetMode)
# Fully observed tasks without noise in their steps; the last two terminate.
TASKS = {
    "mbrl/Drift-v0": {"noise_std": 0.0},
    "mbrl/Arm-v0": {},
    "mbrl/ArmTorque-v0": {},
    "mbrl/Drone-v0": {},
    "mbrl/CartPoleContinuous-v0": {},
}


class Walker(WorldModel):
    """Members that walk by the action, plus their own number times `drift`, on a line that ends beyond `limit`.

    The reward is the number of steps since the start, which the state holds beside the position.
    """

    noise_sizes = NoiseSizes()

    def __init__(self, members=3, drift=0.0, limit=1e9, high=100.0):
        super().__init__(spaces.Box(-high, high, (2,), np.float32), spaces.Box(-1.0, 1.0, (1,), np.float32))
        self.arguments = {}
        self.members, self.drift, self.limit = members, drift, limit
        self.shapes = []

    @property
    def particle_unit(self):
        return self.members

    def start(self, observation, particles=1):
        self.check_particles(particles)
        return observation.new_zeros(observation.shape[:2]), (observation[..., 0],)

    def step(self, state, action, noise=None):
        self.shapes.append(tuple(action.shape))
        steps, (position,) = state
        member = torch.arange(self.members)[:, None].expand(position.shape)
        position = position + action[..., 0] + self.drift * member
        observation = torch.stack([position, member.float()], -1)
        return Prediction((steps + 1, (position,)), observation, steps + 1, position > self.limit)

    def fit(self, transitions):
        self.drift += 1
        return FitReport(0, 0, 0, 0.0, (), (), 0.0)

    def uncertainty(self, observation, action):
        return torch.zeros(len(observation))


ORIGIN = np.zeros((1, 2), np.float32)


def walkers(count, horizon=5, starts=ORIGIN, model=None, **kwargs):
    return ImaginedVectorEnv(model or Walker(), starts, count, horizon, **kwargs)


def steps_of(vec, count, action=0.0):
    return [vec.step(np.full(vec.action_space.shape, action, np.float32)) for _ in range(count)]


# --- under the exact model, the dream is the real thing ---


def assert_close(imagined, real):
    for one, other in zip(imagined[:4], real[:4], strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    ended = real[4].get("_final_obs", np.zeros(len(real[1]), bool))
    assert_array_equal(imagined[4].get("_final_obs", np.zeros_like(ended)), ended)
    for row in np.flatnonzero(ended):
        assert_allclose(imagined[4]["final_obs"][row], real[4]["final_obs"][row], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", TASKS)
def test_the_exact_model_dreams_the_real_environment(env_id, mode):
    rows, limit = 6, 23
    real = gym.make_vec(
        env_id, num_envs=rows, max_episode_steps=limit, autoreset_mode=mode, dtype="float64", **TASKS[env_id]
    )
    now, starting = [], [np.ones(rows, bool)]
    dream = ImaginedVectorEnv(
        ExactModel(real.task), lambda generator, n: now[-1][starting[-1]], rows, limit, autoreset_mode=mode
    )
    now.append(real.reset(seed=0)[0])
    assert_array_equal(dream.reset()[0], now[-1])
    generator, ends, ended = np.random.default_rng(0), np.zeros(rows), np.zeros(rows, bool)
    for _ in range(3 * limit):
        actions = generator.uniform(-1.0, 2.0, real.action_space.shape).astype(np.float32)
        expected = real.step(actions)
        now.append(expected[0])
        ending = expected[2] | expected[3]
        starting.append(ending if mode is AutoresetMode.SAME_STEP else ended)
        assert_close(dream.step(actions), expected)
        if mode is AutoresetMode.DISABLED and ending.any():
            now.append(real.reset(options={"reset_mask": ending})[0])
            starting.append(ending)
            assert_allclose(dream.reset(options={"reset_mask": ending})[0], now[-1], rtol=1e-9, atol=1e-9)
        ends, ended = ends + ending, ending
    assert (ends >= 2).all()
    if env_id == "mbrl/CartPoleContinuous-v0":
        assert ends.max() > 3, "some episodes should have terminated before the limit"


@pytest.mark.parametrize("env_id", TASKS)
def test_a_single_dream_equals_the_single_environment(env_id):
    real = gym.make(env_id, dtype="float64", max_episode_steps=12, **TASKS[env_id])
    start, _ = real.reset(seed=0)
    dream = ImaginedEnv(ExactModel(real.unwrapped.task), start[None], 12)
    assert_array_equal(dream.reset(seed=1)[0], start)
    over = False
    while not over:
        action = real.action_space.sample()
        expected, imagined = real.step(action), dream.step(action)
        assert_allclose(imagined[0], expected[0], rtol=1e-9, atol=1e-9)
        assert imagined[1] == pytest.approx(expected[1], rel=1e-9)
        assert imagined[2:4] == expected[2:4]
        over = expected[2] or expected[3]
    with pytest.raises(gym.error.ResetNeeded, match="has ended"):
        dream.step(action)


# --- noise ---


def drift(rows, **kwargs):
    task = gym.make("mbrl/Drift-v0", drift=0.3, noise_std=0.2).unwrapped.task
    return ImaginedVectorEnv(ExactModel(task), np.zeros((1, 1)), rows, 50, **kwargs)


def test_rows_draw_the_models_noise():
    vec = drift(20_000)
    vec.reset(seed=0)
    first, second = (step[0][:, 0] for step in steps_of(vec, 2))
    assert first.mean() == pytest.approx(0.3, abs=4 * 0.2 / 20_000**0.5)
    assert first.std() == pytest.approx(0.2, rel=0.03)
    assert abs(np.corrcoef(first, second - first)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.03


def test_without_noise_rows_take_the_mean():
    vec = drift(3, noise=False)
    vec.reset(seed=0)
    assert_allclose(steps_of(vec, 2)[1][0], 0.6, rtol=1e-6)


def test_noise_does_not_change_the_starts():
    task = gym.make("mbrl/Drift-v0").unwrapped.task
    starts = np.linspace(-5, 5, 1000)[:, None]
    dreams = [ImaginedVectorEnv(ExactModel(task), starts, 9, 4, noise=noise) for noise in (True, False)]
    assert_array_equal(*(vec.reset(seed=3)[0] for vec in dreams))


def test_global_generators_are_neither_used_nor_changed():
    def global_states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()

    before = global_states()
    vec = drift(4)
    vec.reset(seed=0)
    steps_of(vec, 60)
    assert global_states() == before


# --- particles ---


@pytest.mark.parametrize("count", [1, 3, 7])
def test_every_row_follows_one_member_for_its_whole_episode(count):
    vec = walkers(count, model=Walker(drift=0.125), autoreset_mode="SameStep")
    vec.reset(seed=0)
    seen = set()
    for _ in range(20):
        steps = steps_of(vec, 5)
        paths = [step[0] for step in steps[:-1]] + [np.stack(list(steps[-1][4]["final_obs"]))]
        members = np.stack(paths)[..., 1]
        assert (members == members[0]).all()
        for time, path in enumerate(paths, 1):
            assert_allclose(path[:, 0], time * 0.125 * members[0])
        seen |= set(members[0].tolist())
    assert seen == {0.0, 1.0, 2.0}


@pytest.mark.parametrize(("count", "places"), [(1, 1), (6, 2), (7, 3)])
def test_rows_cost_as_many_model_steps(count, places):
    vec = walkers(count)
    vec.reset(seed=0)
    steps_of(vec, 2)
    assert vec.model.shapes == [(3, places, 1)] * 2


def test_members_share_the_rows_evenly():
    vec = walkers(9)
    vec.reset(seed=0)
    for _ in range(3):
        assert_array_equal(np.bincount(steps_of(vec, 1)[0][0][:, 1].astype(int)), [3, 3, 3])
        vec.reset(options={"reset_mask": np.arange(9) < 4})


def test_an_ensemble_predicts_each_row_by_one_member():
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    model = GaussianEnsemble(space, spaces.Discrete(2), members=3, hidden=(8,), max_epochs=2)
    generator, never = np.random.default_rng(0), np.zeros(60, bool)
    observation = generator.normal(size=(60, 2)).astype(np.float32)
    action = generator.integers(2, size=60)
    model.fit(Transitions(observation, action, observation[:, 0], -observation, never, never, np.arange(60)))
    vec = ImaginedVectorEnv(model, observation, 5, 10, noise=False)
    start, _ = vec.reset(seed=0)
    following, reward, *_ = vec.step(action[:5])
    prediction = model.step(model.start(torch.as_tensor(start), 3), torch.as_tensor(action[:5]))
    of_members = prediction.observation.detach().numpy()
    members = np.abs(of_members - following).max(-1).argmin(0)
    assert len(set(members.tolist())) > 1
    assert_allclose(following, of_members[members, np.arange(5)], rtol=1e-5)
    assert_allclose(reward, prediction.reward.detach().numpy()[members, np.arange(5)], rtol=1e-5)


def test_restarted_rows_get_a_fresh_model_state():
    starts = np.array([[10.0, 0.0], [20.0, 0.0], [30.0, 0.0], [40.0, 0.0]], np.float32)
    vec = walkers(4, starts=starts)
    vec.reset(seed=0, options={"observation": starts})
    steps_of(vec, 2, action=0.5)
    observation, _ = vec.reset(options={"observation": -starts, "reset_mask": np.array([False, True, False, True])})
    assert_array_equal(observation[:, 0], [11, -20, 31, -40])
    observation, reward, *_ = steps_of(vec, 1, action=0.5)[0]
    assert_array_equal(observation[:, 0], [11.5, -19.5, 31.5, -39.5])
    assert_array_equal(reward, [3, 1, 3, 1])


# --- episodes ---


def test_dreams_end_where_the_model_terminates_or_at_the_horizon():
    starts = np.array([[2.5, 0], [0.5, 0], [-9.0, 0]], np.float32)
    vec = walkers(3, horizon=4, model=Walker(limit=2.9), autoreset_mode="SameStep")
    vec.reset(options={"observation": starts})
    ends = [(step[2].tolist(), step[3].tolist()) for step in steps_of(vec, 4, action=1.0)]
    assert ends[0] == ([True, False, False], [False] * 3)
    assert ends[2] == ([False, True, False], [False] * 3)
    assert ends[3] == ([True, False, False], [False, False, True])  # the first row goes from 0 in its second episode


def test_observations_are_clipped_while_the_model_goes_on():
    vec = walkers(2, horizon=20, model=Walker(high=2.0))
    vec.reset(seed=0)
    assert_array_equal([step[0][0, 0] for step in steps_of(vec, 4, action=1.0)], [1, 2, 2, 2])
    assert_array_equal([step[0][0, 0] for step in steps_of(vec, 3, action=-1.0)], [2, 2, 1])


def test_actions_beyond_their_bounds_are_clipped():
    vec = walkers(1)
    vec.reset()
    assert_array_equal(steps_of(vec, 1, action=7.0)[0][0][0, 0], 1.0)


def test_predictions_that_are_not_finite_are_refused():
    vec = walkers(3, horizon=9, model=Walker(drift=float("inf")))
    vec.reset(seed=0)
    with pytest.raises(MbrlGymError, match=r"Walker predicts values that are not finite in rows \[.*1 steps"):
        steps_of(vec, 1)


def test_another_fit_takes_effect():
    vec = walkers(3)
    vec.reset(seed=0)
    vec.model.fit(None)
    vec.reset(seed=0)
    assert_array_equal(sorted(steps_of(vec, 1)[0][0][:, 0]), [0, 1, 2])


# --- spaces ---

CHOICES = {
    "Discrete": spaces.Discrete(5, start=-2),
    "MultiDiscrete": spaces.MultiDiscrete([3, 2], start=[1, 0]),
    "Dict": spaces.Dict({"gear": spaces.Discrete(3, start=1), "place": spaces.Box(-1, 1, (2,), np.float32)}),
    "Tuple": spaces.Tuple((spaces.Box(-1, 1, (1,), np.float64), spaces.MultiDiscrete([3, 2]))),
    "Box of integers": spaces.Box(-5, 5, (2,), np.int64),
}


@pytest.mark.parametrize("space", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize("action_space", [spaces.Discrete(3, start=4), spaces.MultiDiscrete([2, 3])], ids=str)
def test_observations_are_those_of_the_original_space(space, action_space):
    batch = gym.vector.utils.batch_space(
        space,
        41,
    )
    batch.seed(0)
    observed = batch.sample()
    rows = to_rows(space, observed)
    action_space.seed(0)
    action, never = np.stack([action_space.sample() for _ in range(40)]), np.zeros(40, bool)
    data = Transitions(rows[:-1], action, np.arange(40.0), rows[1:], never, never, np.zeros(40, int))
    model = GaussianEnsemble(space, action_space, members=2, hidden=(4,), max_epochs=1)
    model.fit(data)
    vec = ImaginedVectorEnv(model, data, 4, 3, autoreset_mode="SameStep")
    single = gym.make("mbrl/Imagined-v0", model=model, start_states=observed, horizon=3)
    assert vec.reset(seed=0)[0] in vec.observation_space
    assert single.reset(seed=0)[0] in space
    vec.action_space.seed(0)
    for _ in range(3):
        observation, *_, info = vec.step(vec.action_space.sample())
        assert observation in vec.observation_space
        assert single.step(vec.single_action_space.sample())[0] in space
    assert all(last in space for last in info["final_obs"])
    assert single.reset(options={"observation": info["final_obs"][0]})[0] in space


def test_starts_are_drawn_from_all_observations():
    data = Transitions(*(np.zeros((40, 2), np.float32),) * 2, *(np.zeros(40),) * 5)
    data = data._replace(observation=np.arange(80, dtype=np.float32).reshape(40, 2))
    observation, _ = walkers(4000, starts=data).reset(seed=0)
    rows, counts = np.unique(observation, axis=0, return_counts=True)
    assert_array_equal(rows, data.observation)
    assert counts.min() > 50  # of 100 expected


def test_starts_may_come_from_a_function_of_the_environments_generator():
    asked = []

    def starts(generator, count):
        asked.append(count)
        return generator.uniform(5, 6, (count, 2))

    vec = walkers(4, starts=starts)
    first, _ = vec.reset(seed=0)
    vec.reset(options={"reset_mask": np.array([True, False, False, False])})
    assert asked == [4, 1]
    assert ((first >= 5) & (first <= 6)).all()
    assert_array_equal(vec.reset(seed=0)[0], first)


def test_later_changes_of_the_given_array_do_nothing():
    starts = ORIGIN.copy()
    vec = walkers(1, starts=starts)
    starts += 7
    assert_array_equal(vec.reset()[0], ORIGIN)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"starts": np.zeros(2)}, r"start_states must be observations \(M, 2\)"),
        ({"starts": np.zeros((3, 4))}, r"start_states must be observations \(M, 2\)"),
        ({"starts": np.zeros((0, 2))}, "start_states must be at least one observation"),
        ({"starts": [[np.nan, 0.0]]}, "start_states must be within"),
        ({"starts": [["a", "b"]]}, "start_states must be observations"),
        ({"starts": [[1.0], [1.0, 2.0]]}, "start_states must be observations"),
        ({"horizon": 0}, "horizon must be a whole number of at least 1, but 0 was given"),
        ({"horizon": 2.5}, "horizon must be a whole number"),
        ({"model": "ensemble"}, "model must be a world model"),
        ({"render_mode": "human"}, "render_mode must be None"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(InvalidSettingError, match=message):
        walkers(2, **setting)


def test_choices_that_do_not_exist_are_refused():
    model = GaussianEnsemble(CHOICES["Discrete"], spaces.Discrete(3, start=4))
    for starts in ([-3], [3], [0.5], [[1]]):
        with pytest.raises(InvalidSettingError, match="start_states"):
            ImaginedVectorEnv(model, starts, 2, 5)
    vec = ImaginedVectorEnv(model, [-2, 2], 2, 5)
    with pytest.raises(InvalidSettingError, match="not fitted"):
        vec.reset()
    same = np.tile([-2, 2], 5)
    never = np.zeros(10, bool)
    model.fit(Transitions(same, np.full(10, 4), np.zeros(10), same, never, never, np.arange(10)))
    vec.reset()
    for action in ([4, 7], [3, 4], [4.0, 5.0], [4]):
        with pytest.raises(InvalidActionError, match="the action must"):
            vec.step(action)


def test_a_function_that_gives_something_else_is_refused():
    with pytest.raises(InvalidSettingError, match=r"start_states\(generator, 2\) must be observations \(2, 2\)"):
        walkers(2, starts=lambda generator, count: np.zeros((1, 2))).reset()


# --- as Gymnasium makes them ---

SETTINGS = {"start_states": ORIGIN, "horizon": 7}


def test_gymnasium_makes_dreams_of_the_model_itself():
    model = Walker()
    vec = gym.make_vec("mbrl/Imagined-v0", num_envs=3, model=model, **SETTINGS)
    env = gym.make("mbrl/Imagined-v0", model=model, **SETTINGS)
    assert vec.model is env.unwrapped.model is model
    assert (vec.spec.kwargs["horizon"], env.spec.kwargs["horizon"]) == (7, 7)
    assert vec.spec.kwargs["model"] is model
    env.reset(seed=0)
    model.fit(None)
    vec.reset(seed=0)
    assert_array_equal(sorted(steps_of(vec, 1)[0][0][:, 0]), [0, 1, 2])


def test_gymnasiums_checker_is_content():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make("mbrl/Imagined-v0", model=Walker(), **SETTINGS).unwrapped)


@pytest.mark.parametrize(("limit", "length"), [(None, 7), (-1, 7), (3, 3), (9, 7)])
def test_max_episode_steps_shortens_the_horizon(limit, length):
    vec = gym.make_vec("mbrl/Imagined-v0", num_envs=2, model=Walker(), max_episode_steps=limit, **SETTINGS)
    env = gym.make("mbrl/Imagined-v0", model=Walker(), max_episode_steps=limit, **SETTINGS)
    vec.reset()
    env.reset()
    cuts = [step[3].all() for step in steps_of(vec, length)]
    assert cuts == [False] * (length - 1) + [True]
    assert [env.step(env.action_space.sample())[3] for _ in range(length)] == cuts


def test_single_dreams_can_be_vectorised_as_any_environment():
    vec = gym.make_vec("mbrl/Imagined-v0", num_envs=3, vectorization_mode="sync", model=Walker(), **SETTINGS)
    assert isinstance(vec, SyncVectorEnv)
    vec.reset(seed=0)
    assert vec.step(np.ones((3, 1), np.float32))[0].shape == (3, 2)


def test_a_single_dream_follows_its_seed_and_its_snapshot():
    env = ImaginedEnv(Walker(drift=0.5), lambda generator, count: generator.normal(size=(count, 2)), 9)

    def episode():
        return [env.step(np.zeros(1))[:4] for _ in range(4)]

    first = env.reset(seed=3), episode()
    assert env.np_random_seed == 3
    snapshot = copy.deepcopy(env.get_state())
    following = env.reset(), episode()
    env.set_state(snapshot)
    assert data_equivalence((env.reset(), episode()), following, exact=True)
    assert data_equivalence((env.reset(seed=3), episode()), first, exact=True)
    assert_array_equal(env.reset(options={"observation": [3.0, 4.0]})[0], [3.0, 4.0])
    with pytest.raises(InvalidSettingError, match="reset_mask"):
        env.reset(options={"reset_mask": np.ones(1, bool)})
    with pytest.raises(InvalidActionError, match=r"shape \(1,\)"):
        env.step(np.zeros((1, 1)))


@given(
    count=st.integers(1, 9),
    members=st.integers(1, 4),
    horizon=st.integers(1, 4),
    mode=st.sampled_from(["NextStep", "SameStep"]),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=30)
def test_rows_keep_their_place_whatever_the_sizes(count, members, horizon, mode, seed):
    generator = np.random.default_rng(seed)
    vec = walkers(count, horizon, model=Walker(members), autoreset_mode=mode)
    vec.reset(seed=seed)
    position, age, ended = np.zeros(count), np.zeros(count), np.zeros(count, bool)
    for _ in range(8):
        actions = generator.integers(-4, 5, (count, 1)) / 4
        observation, reward, _, truncated, info = vec.step(actions)
        reset = ended if mode == "NextStep" else np.zeros(count, bool)
        position, age = np.where(reset, 0, position + actions[:, 0]), np.where(reset, 0, age + 1)
        shown, ended = position.copy(), age == horizon
        assert_array_equal(truncated, ended)
        assert_array_equal(reward, age)
        if mode == "SameStep" and ended.any():
            finals = [info["final_obs"][row][0] for row in np.flatnonzero(ended)]
            assert_array_equal(finals, position[ended])
            position, age = np.where(ended, 0, position), np.where(ended, 0, age)
            shown = position
        assert_array_equal(observation[:, 0], shown)
