"""The adapter of vector environments to Stable-Baselines3, against DummyVecEnv step by step."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from agent_toys import native
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from numpy.testing import assert_array_equal
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import mbrl_gym
from mbrl_gym.agents import as_sb3_vec_env
from mbrl_gym.envs import TaskVectorEnv
from mbrl_gym.errors import InvalidSettingError, MbrlGymError, UnsupportedSpaceError
from mbrl_gym.models import GaussianEnsemble, LinearModel, Transitions
from mbrl_gym.wrappers.vector import CuriosityReward, LearnModel

SAME_STEP, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


class Counter(gym.Env):
    """Counts the steps, ends at its length, and says in `info` what belongs to starts and what to steps."""

    observation_space = spaces.Discrete(100)
    action_space = spaces.Discrete(3)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}  # noqa: RUF012

    def __init__(self, length=3, render_mode=None):
        self.length, self.render_mode = length, render_mode
        self.count = self.episodes = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.episodes = (options or {}).get("count", 0), self.episodes + 1
        return np.int64(self.count), {"episode number": self.episodes}

    def step(self, action):
        self.count += 1
        info = {"action": int(action), "nested": {"double": 2.0 * self.count}, "row": np.full(2, self.count)}
        if self.count == 2:
            info["rare"] = "two"
        return np.int64(self.count), float(self.count), self.count >= self.length, False, info

    def render(self):
        return np.full((4, 4, 3), self.count, np.uint8)

    def add(self, number):
        return self.length + number


def adapted(kind, functions):
    """Return the functions' environments as a vector environment of a kind, adapted."""
    vectorise, mode = {
        "sync": (SyncVectorEnv, SAME_STEP),
        "sync disabled": (SyncVectorEnv, DISABLED),
        "sync in place": (partial(SyncVectorEnv, copy=False), DISABLED),
        "async": (AsyncVectorEnv, SAME_STEP),
    }[kind]
    return as_sb3_vec_env(vectorise(functions, autoreset_mode=mode))


def assert_same(one, other):
    """Compare to the bit, types included, apart from which kind of dict holds the parts of an observation."""
    one, other = (dict(each) if isinstance(each, dict) else each for each in (one, other))
    assert data_equivalence(one, other, exact=True), (one, other)


def assert_equals_dummy(adapter, functions, steps=25):
    """Run the adapter and DummyVecEnv from one seed through the same actions: all that they say is equal."""
    dummy = DummyVecEnv(functions)
    assert (adapter.observation_space, adapter.action_space) == (dummy.observation_space, dummy.action_space)
    adapter.seed(5)
    dummy.seed(5)
    given = [adapter.reset()], [dummy.reset()]
    ends = 0
    dummy.action_space.seed(0)
    for _ in range(steps):
        actions = np.stack([dummy.action_space.sample() for _ in functions])
        mine, other = adapter.step(actions), dummy.step(actions)
        for one, expected in zip(mine, other, strict=True):
            assert_same(one, expected)
        assert_same(adapter.reset_infos, dummy.reset_infos)
        ends += other[2].sum()
        given[0].append(mine[0])
        given[1].append(other[0])
    assert ends > len(functions)
    for one, expected in zip(*given, strict=True):  # nothing was overwritten by later steps
        assert_same(one, expected)
    adapter.close()


@pytest.mark.parametrize("kind", ["sync", "sync disabled", "sync in place"])
@pytest.mark.parametrize(
    ("env_id", "limit"), [("CartPole-v1", 12), ("CartPole-v1", 500), ("Pendulum-v1", 6), ("mbrl/ArmPickPlace-v0", 7)]
)
def test_gymnasiums_vector_environments_equal_dummy_vec_env(kind, env_id, limit):
    functions = [partial(gym.make, env_id, max_episode_steps=limit)] * 3
    assert_equals_dummy(adapted(kind, functions), functions, steps=60 if limit > 60 else 25)


@pytest.mark.parametrize("kind", ["sync", "sync disabled"])
def test_infos_of_steps_ends_and_starts_equal_those_of_dummy_vec_env(kind):
    functions = [partial(Counter, length) for length in (3, 5, 2)]
    assert_equals_dummy(adapted(kind, functions), functions)


@pytest.mark.parametrize("kind", ["sync", "sync disabled"])
def test_statistics_of_single_environments_are_kept(kind):
    functions = [lambda: Monitor(Counter(3)), lambda: Monitor(Counter(4))]
    adapter = adapted(kind, functions)
    adapter.reset()
    infos = [adapter.step(np.zeros(2, int))[3] for _ in range(4)]
    assert (infos[2][0]["episode"]["r"], infos[2][0]["episode"]["l"]) == (6.0, 3)
    assert (infos[3][1]["episode"]["r"], infos[3][1]["episode"]["l"]) == (10.0, 4)
    assert "episode" not in infos[2][1]
    assert adapter.env_is_wrapped(Monitor) == [True, True]


def test_worker_processes_equal_dummy_vec_env():
    functions = [partial(gym.make, "CartPole-v1", max_episode_steps=12)] * 2
    adapter = adapted("async", functions)
    assert adapter.get_attr("theta_threshold_radians", indices=[1]) == [12 * 2 * np.pi / 360]
    adapter.set_attr("note", [1, 2])
    assert adapter.get_attr("note") == [[1, 2], [1, 2]]
    assert [value is not None for value in adapter.env_method("get_wrapper_attr", "spec")] == [True, True]
    with pytest.raises(InvalidSettingError, match=r"all at once, but rows \[1\]"):
        adapter.env_method("get_wrapper_attr", "spec", indices=1)
    with pytest.raises(InvalidSettingError, match="all at once"):
        adapter.set_attr("note", 3, indices=[0])
    assert_equals_dummy(adapter, functions)


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
@pytest.mark.parametrize("env_id", ["mbrl/Arm-v0", "mbrl/Drone-v0", "mbrl/ArmPickPlace-v0"])
def test_native_environments_equal_dummy_vec_env(env_id, mode):
    adapter = as_sb3_vec_env(gym.make_vec(env_id, num_envs=3, max_episode_steps=7, autoreset_mode=mode))
    dummy = DummyVecEnv([lambda: gym.make(env_id, max_episode_steps=7)] * 3)
    task = adapter.get_attr("task")[0]
    states = [env.unwrapped for env in dummy.envs]
    dummy.seed(1)
    dummy.reset()
    adapter.reset()
    for steps in range(20):
        if steps % 7 == 0:  # a new episode: the generators differ, so the start is copied
            adapter.vector_env.set_state(
                {
                    **adapter.vector_env.get_state(),
                    "state": np.stack([env.get_state()["state"] for env in states]),
                    "steps": np.zeros(3, int),
                    "ended": np.zeros(3, bool),
                }
            )
        actions = np.random.default_rng(steps).uniform(-1, 1, (3, *task.action_space.shape)).astype(np.float32)
        expected, actual = dummy.step(actions), adapter.step(actions)
        done = expected[2]
        assert_array_equal(actual[2], done)
        assert_array_equal(actual[1], expected[1])
        assert actual[1].dtype == expected[1].dtype
        for mine, other in zip(actual[3], expected[3], strict=True):
            assert mine["TimeLimit.truncated"] is other["TimeLimit.truncated"]
            if done[0]:
                assert_same(mine["terminal_observation"], other["terminal_observation"])
        if not done.any():
            assert_same(actual[0], expected[0])


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_rows_that_terminate_at_the_limit_are_not_cut_off(mode):
    settings = {"num_envs": 2, "max_episode_steps": 4, "autoreset_mode": mode}
    adapter = as_sb3_vec_env(gym.make_vec("mbrl/CartPoleContinuous-v0", **settings))
    start = np.zeros((2, 4))
    start[1, 2:] = 0.187, 0.25  # [rad, rad/s], beyond the limit of 12 degrees after 4 steps
    adapter.set_options({"state": start})
    adapter.reset()
    for _ in range(4):
        _, _, done, infos = adapter.step(np.zeros((2, 1), np.float32))
    assert done.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [True, False]
    assert infos[0]["terminal_observation"][2] == 0
    assert infos[1]["terminal_observation"][2] > 12 * 2 * np.pi / 360


class Labelled(VectorWrapper):
    """Lays out its last observations and infos as a plain batch, without masks; counts its resets."""

    resets = 0

    def reset(self, *, seed=None, options=None):
        self.resets += 1
        return self.env.reset(seed=seed, options=options)

    def step(self, actions):
        observation, reward, terminated, truncated, info = self.env.step(actions)
        if "final_obs" in info:
            blank = next(last for last in info["final_obs"] if last is not None)
            rows = [blank if last is None else last for last in info["final_obs"]]
            info["final_obs"] = {name: np.stack([row[name] for row in rows]) for name in blank}
        return observation, reward, terminated, truncated, {**info, "label": ["a", "b"]}


def test_last_observations_may_be_a_batch():
    adapter = as_sb3_vec_env(
        Labelled(gym.make_vec("mbrl/ArmPickPlace-v0", num_envs=2, max_episode_steps=3, autoreset_mode="SameStep"))
    )
    plain = native("mbrl/ArmPickPlace-v0", 2, max_episode_steps=3)
    for environment in (adapter, plain):
        environment.seed(0)
        environment.reset()
    for _ in range(3):
        actions = np.zeros((2, *plain.action_space.shape), np.float32)
        infos, expected = adapter.step(actions)[3], plain.step(actions)[3]
    assert [info["label"] for info in adapter.reset_infos] == ["a", "b"]
    for mine, other in zip(infos, expected, strict=True):
        assert_same(mine["terminal_observation"], other["terminal_observation"])
    assert adapter.get_attr("resets") == [1, 1]


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_statistics_of_vector_environments_are_kept(mode):
    vec = gym.make_vec("mbrl/Bandit-v0", num_envs=4, max_episode_steps=3, autoreset_mode=mode)
    adapter = as_sb3_vec_env(RecordEpisodeStatistics(vec))
    adapter.reset()
    steps = [adapter.step(np.arange(4)) for _ in range(6)]
    for first in (0, 3):
        returns = sum(step[1] for step in steps[first : first + 3])
        for row, info in enumerate(steps[first + 2][3]):
            assert info["episode"]["l"] == 3
            assert info["episode"]["r"] == pytest.approx(returns[row], abs=1e-5)
            assert "regret" in info
    assert not any("episode" in info for info in (*steps[0][3], *steps[3][3], *adapter.reset_infos))


def test_seeds_options_and_infos():
    adapter = native("mbrl/Bandit-v0", 4, max_episode_steps=3)
    adapter.seed(5)
    first = adapter.reset()
    steps = [adapter.step(np.arange(4)) for _ in range(3)]
    adapter.seed(5)
    assert_array_equal(adapter.reset(), first)
    again = [adapter.step(np.arange(4)) for _ in range(3)]
    for mine, other in zip(again, steps, strict=True):
        assert_array_equal(mine[1], other[1])
    assert all(isinstance(info["regret"], float) for info in steps[0][3])
    assert all("regret" in info and "terminal_observation" in info for info in steps[2][3])
    assert steps[2][2].all()
    drift = native("mbrl/Drift-v0", 2)
    drift.set_options({"state": [[1.0], [2.0]]})
    assert_array_equal(drift.reset(), [[1.0], [2.0]])
    with pytest.raises(InvalidSettingError, match="one reset serves all rows"):
        drift.set_options([{"state": [1.0]}, {"state": [2.0]}])


def test_options_serve_one_reset():
    adapter = adapted("sync disabled", [Counter, Counter])
    adapter.set_options({"count": 1})
    assert_array_equal(adapter.reset(), [1, 1])
    adapter.step(np.zeros(2, int))
    assert_array_equal(adapter.step(np.zeros(2, int))[0], [0, 0])


def test_next_step_is_refused_with_the_reason():
    for vec in (gym.make_vec("mbrl/Arm-v0", num_envs=2), SyncVectorEnv([Counter])):
        with pytest.raises(InvalidSettingError, match=r"a step later.*SameStep"):
            as_sb3_vec_env(vec)


def test_an_undeclared_mode_is_refused_with_the_reason():
    vec = gym.make_vec("mbrl/Arm-v0", num_envs=2, autoreset_mode="SameStep")
    for metadata in ({}, {"autoreset_mode": "SameStep"}):
        vec.metadata = metadata
        with pytest.raises(InvalidSettingError, match=r"does not declare.*SameStep"):
            as_sb3_vec_env(vec)


def test_an_end_without_its_observation_is_refused():
    class Forgetful(VectorEnv):
        metadata = {"autoreset_mode": SAME_STEP}  # noqa: RUF012
        num_envs, single_observation_space, single_action_space = 1, spaces.Discrete(2), spaces.Discrete(2)

        def step(self, actions):
            return np.zeros(1, int), np.zeros(1), np.ones(1, bool), np.zeros(1, bool), {}

    with pytest.raises(MbrlGymError, match="final_obs"):
        as_sb3_vec_env(Forgetful()).step(np.zeros(1, int))


@pytest.mark.parametrize("env_id", mbrl_gym.env_ids())
def test_ppo_trains_on_arrays(env_id):
    environment = VecMonitor(native(env_id, 8, max_episode_steps=10))
    policy = "MultiInputPolicy" if isinstance(environment.observation_space, spaces.Dict) else "MlpPolicy"
    agent = PPO(policy, environment, n_steps=16, batch_size=64, seed=0).learn(256)
    assert len(agent.ep_info_buffer) > 0
    assert {int(episode["l"]) for episode in agent.ep_info_buffer} == {10}


def test_ppo_trains_on_hundreds_of_rows():
    environment = VecMonitor(native("mbrl/Arm-v0", 256))
    agent = PPO("MlpPolicy", environment, n_steps=50, batch_size=6400, n_epochs=1, seed=0).learn(256 * 50)
    assert agent.num_timesteps == 256 * 50
    assert len(agent.ep_info_buffer) == 100


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_agents_train_inside_a_dream(algorithm, mode):
    generator, count = np.random.default_rng(0), 200
    observation_space, action_space = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(3)
    observation = generator.uniform(-1, 1, (count, 2)).astype(np.float32)
    action, never = generator.integers(3, size=count), np.zeros(count, bool)
    following = 0.9 * observation + 0.1 * (action[:, None] - 1)
    terminated = following[:, 0] > 0.8
    data = Transitions(observation, action, following[:, 0], following, terminated, never, np.arange(count))
    model = GaussianEnsemble(observation_space, action_space, members=3, hidden=(8,), max_epochs=3)
    model.fit(data)
    settings = {"model": model, "start_states": data, "horizon": 10, "autoreset_mode": mode}
    dream = VecMonitor(as_sb3_vec_env(gym.make_vec("mbrl/Imagined-v0", num_envs=8, **settings)))
    tiny = {"n_steps": 16, "batch_size": 32} if algorithm is PPO else {"learning_starts": 50, "batch_size": 8}
    agent = algorithm("MlpPolicy", dream, seed=0, **tiny).learn(256)
    lengths = {int(episode["l"]) for episode in agent.ep_info_buffer}
    assert max(lengths) == 10
    assert min(lengths) < 10


class Recycling(VectorEnv):
    """Two rows of two and five steps that keep writing into the same arrays."""

    def __init__(self):
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.num_envs = 2
        self.single_observation_space = spaces.Box(0, 9, (1,))
        self.single_action_space = spaces.Discrete(2)
        self.step_count, self.lengths = np.zeros(2, int), np.array([2, 5])
        self.reward, self.terminated, self.truncated = np.zeros(2), np.zeros(2, bool), np.zeros(2, bool)

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(2, bool))
        for part in (self.step_count, self.reward, self.truncated):
            part[mask] = 0
        return self.step_count[:, None].astype(np.float32), {}

    def step(self, actions):
        self.step_count += 1
        self.reward[:] = 7
        self.truncated[:] = self.step_count >= self.lengths
        observation = self.step_count[:, None].astype(np.float32)
        return observation, self.reward, self.terminated, self.truncated, {"time": 3.0}


def test_a_reset_of_rows_takes_nothing_back_of_the_step_before():
    adapter = as_sb3_vec_env(Recycling())
    adapter.reset()
    adapter.step(np.zeros(2, int))
    observation, reward, done, infos = adapter.step(np.zeros(2, int))
    assert reward.tolist() == [7, 7]
    assert done.tolist() == [True, False]
    assert observation.tolist() == [[0], [2]]
    assert infos[0]["TimeLimit.truncated"]
    assert infos[0]["terminal_observation"].tolist() == [2]
    assert infos[1] == {"time": 3.0, "TimeLimit.truncated": False}


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_what_wrappers_tell_of_an_episodes_last_step_arrives(mode):
    envs = gym.make_vec("mbrl/Arm-v0", num_envs=2, max_episode_steps=3, autoreset_mode=mode)
    model = LinearModel(envs.single_observation_space, envs.single_action_space)
    adapter = as_sb3_vec_env(CuriosityReward(LearnModel(envs, model, every=100, start=4), model))
    adapter.reset()
    for _ in range(2):
        adapter.step(np.zeros((2, 2), np.float32))
    reward, done, infos = adapter.step(np.ones((2, 2), np.float32))[1:]
    assert done.all()
    for row, info in enumerate(infos):
        assert info["model/error"] >= 0
        assert info["curiosity"] > 0
        assert reward[row] == pytest.approx(info["extrinsic_reward"] + info["curiosity"])


def test_what_stable_baselines_cannot_hold_is_refused():
    tensors = TaskVectorEnv(gym.make("mbrl/Arm-v0").unwrapped.task, 2, xp="torch", autoreset_mode="SameStep")
    with pytest.raises(InvalidSettingError, match="ArrayConversion"):
        as_sb3_vec_env(tensors).reset()
    tuples = Recycling()
    tuples.single_observation_space = spaces.Tuple([spaces.Discrete(2)])
    with pytest.raises(UnsupportedSpaceError, match="FlattenObservation"):
        as_sb3_vec_env(tuples)


def test_attributes_methods_and_pictures():
    adapter = native("mbrl/Arm-v0", 2, render_mode="rgb_array", width=64, height=64)
    adapter.reset()
    assert [image.shape for image in adapter.get_images()] == [(64, 64, 3)] * 2
    assert adapter.get_attr("num_envs", indices=[0]) == [2]
    assert adapter.env_method("get_state", indices=0)[0]["state"].shape == (2, 4)
    adapter.set_attr("note", 3)
    assert adapter.vector_env.note == 3
    assert adapter.env_is_wrapped(gym.Wrapper) == [False, False]
    with pytest.raises(AttributeError):
        adapter.get_attr("nothing")
    adapter.close()


def test_attributes_methods_and_pictures_of_single_environments():
    adapter = adapted("sync", [partial(Counter, 3, render_mode="rgb_array"), partial(Counter, 5, "rgb_array")])
    assert adapter.render_mode == "rgb_array"
    assert adapter.metadata["render_fps"] == 7
    adapter.reset()
    adapter.step(np.zeros(2, int))
    assert [image.max() for image in adapter.get_images()] == [1, 1]
    assert adapter.get_attr("length") == [3, 5]
    assert adapter.env_method("add", 10, indices=[1]) == [15]
    adapter.set_attr("length", 9, indices=[0])
    assert adapter.get_attr("length") == [9, 5]
    adapter.set_attr("length", [1, 2])  # one value for all, whatever it is
    assert adapter.get_attr("length") == [[1, 2], [1, 2]]
    assert callable(adapter.get_attr("add")[0])
    with pytest.raises(AttributeError):
        adapter.get_attr("nothing")
