"""What the replay buffer holds becomes the transitions that took place."""

import gymnasium as gym
import numpy as np
import pytest
from agent_toys import Counter, Offset
from numpy.testing import assert_array_equal
from stable_baselines3.common.vec_env import DummyVecEnv

from mbrl_gym.agents import MPC
from mbrl_gym.agents.replay import buffer_state, restore_buffer, transitions


def random_steps(make, steps, num_envs, **settings):
    """Return an agent that acted at random only."""
    env = DummyVecEnv([make] * num_envs)
    return MPC("CEM", env, learning_starts=10_000, train_freq=1, seed=0, **settings).learn(steps * num_envs)


def held(agent):
    return transitions(agent.replay_buffer, agent.policy)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_dict_observations_become_rows(num_envs):
    data = held(random_steps(Counter, 20, num_envs))
    assert data.observation.shape == data.next_observation.shape == (20 * num_envs, 10 + 3 + 4 + 2)
    assert data.observation.dtype == np.float64
    before, after = (rows[:, :10].argmax(1) + 1 for rows in (data.observation, data.next_observation))
    assert_array_equal(before, np.repeat(np.arange(20) % 8 + 1, num_envs))
    assert_array_equal(after, before + 1)
    assert_array_equal(data.next_observation[:, 17:], np.stack([after / 2, -after], -1))
    assert data.action.shape == (20 * num_envs, 2)
    assert_array_equal(data.next_observation[:, 10:13].argmax(1), data.action[:, 0])
    assert_array_equal(data.next_observation[:, 13:17].argmax(1), data.action[:, 1] - 5)
    assert_array_equal(data.reward, data.action[:, 0] + data.action[:, 1] - 5)
    assert_array_equal(data.terminated, after == 9)
    assert len(np.unique(data.episode)) == 3 * num_envs
    for number in np.unique(data.episode):
        assert_array_equal(np.diff(before[data.episode == number]), 1)


def test_integers_stay_integers():
    data = held(random_steps(Offset, 20, 2))
    assert data.observation.shape == data.action.shape == (40,)
    assert data.observation.dtype.kind == data.action.dtype.kind == "i"
    assert_array_equal(data.next_observation, data.action + 8)
    assert_array_equal(data.observation[2:], data.next_observation[:-2])  # two environments side by side
    assert set(data.action) == {-1, 0, 1}
    assert len(np.unique(data.episode)) == 2


@pytest.mark.parametrize("make", [Counter, Offset, lambda: gym.make("Pendulum-v1")])
@pytest.mark.parametrize("size", [15, 100])
def test_a_buffer_is_restored_from_its_state(make, size):
    agent, other = (random_steps(make, steps, 1, buffer_size=size) for steps in (20, 2))
    restore_buffer(other.replay_buffer, buffer_state(agent.replay_buffer))
    first, second = held(agent), held(other)
    assert len(first.reward) == min(size, 20)
    for mine, theirs in zip(first, second, strict=True):
        assert_array_equal(mine, theirs)
