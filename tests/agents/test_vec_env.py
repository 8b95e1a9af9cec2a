"""The adapter of vector environments to Stable-Baselines3, against DummyVecEnv step by step."""

import gymnasium as gym
import numpy as np
import pytest
from agent_toys import native
from gymnasium import spaces
from numpy.testing import assert_array_equal
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import mbrl_gym
from mbrl_gym.agents import as_sb3_vec_env
from mbrl_gym.errors import InvalidSettingError


@pytest.mark.parametrize("env_id", ["mbrl/Arm-v0", "mbrl/Drone-v0"])
def test_steps_equal_those_of_dummy_vec_env(env_id):
    adapter = native(env_id, 3, max_episode_steps=7)
    dummy = DummyVecEnv([lambda: gym.make(env_id, max_episode_steps=7)] * 3)
    task = adapter.get_attr("task")[0]
    states = [env.unwrapped for env in dummy.envs]
    dummy.seed(1)
    dummy.reset()
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
            assert mine["TimeLimit.truncated"] == other["TimeLimit.truncated"]
            if done[0]:
                assert_array_equal(mine["terminal_observation"], other["terminal_observation"])
        if not done.any():
            assert_array_equal(actual[0], expected[0])
            assert actual[0].dtype == expected[0].dtype


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


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_other_autoreset_modes_are_refused(mode):
    with pytest.raises(InvalidSettingError, match="SameStep"):
        as_sb3_vec_env(gym.make_vec("mbrl/Arm-v0", num_envs=2, autoreset_mode=mode))


@pytest.mark.parametrize("env_id", mbrl_gym.env_ids())
def test_ppo_trains_on_arrays(env_id):
    environment = VecMonitor(native(env_id, 8, max_episode_steps=10))
    policy = "MultiInputPolicy" if isinstance(environment.observation_space, spaces.Dict) else "MlpPolicy"
    agent = PPO(policy, environment, n_steps=16, batch_size=64, seed=0).learn(256)
    assert len(agent.ep_info_buffer) > 0
    assert {int(episode["l"]) for episode in agent.ep_info_buffer} == {10}


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
