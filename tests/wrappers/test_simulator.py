"""Simulators as models: they replay their environment, know where they stand, and refuse what they cannot do."""

import threading

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, FrameStackObservation
from numpy.testing import assert_allclose, assert_array_equal

import mbrl_gym  # noqa: F401  # registers the ids
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import draw
from mbrl_gym.wrappers import SimulatorModel, TrackState

KNOWN = ["CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1", "Pendulum-v1", "Taxi-v4"]


@pytest.mark.parametrize("env_id", [*KNOWN, "CliffWalking-v1", "mbrl/Arm-v0", "mbrl/Drone-v0"])
def test_a_simulator_predicts_what_happens(env_id):
    """From the observation alone, for as long as an episode lasts; classic control observes float32 of float64."""
    env = gym.make(env_id)
    model = SimulatorModel(env)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=3)
    state = model.start(torch.as_tensor(np.asarray(observation)[None]))
    for _ in range(12):
        action = env.action_space.sample()
        prediction = model.step(state, torch.as_tensor(np.asarray(action))[None])
        observation, reward, terminated, *_ = env.step(action)
        assert_allclose(prediction.observation[0, 0], observation, rtol=1e-4, atol=1e-5)
        assert_allclose(prediction.reward[0, 0], reward, rtol=1e-4, atol=1e-5)
        assert bool(prediction.terminated[0, 0]) == terminated
        if terminated:
            break
        state = prediction.state


def test_states_can_be_gone_on_from_in_any_order():
    model = SimulatorModel(gym.make("CartPole-v1"))
    start = model.start(torch.zeros(1, 4))
    left, right = (model.step(start, torch.tensor([action])) for action in (0, 1))
    both = torch.cat([left.state, right.state], 1)
    after = model.step(both, torch.tensor([1, 1]))
    again = model.step(model.step(start, torch.tensor([0])).state, torch.tensor([1]))
    assert_array_equal(after.observation[0, 0], again.observation[0, 0])
    assert not torch.equal(after.observation[0, 0], after.observation[0, 1])


def test_the_given_environment_is_left_alone():
    env = gym.make("CartPole-v1")
    observation, _ = env.reset(seed=1)
    before = env.unwrapped.state
    model = SimulatorModel(env)
    model.step(model.start(torch.as_tensor(observation)[None]), torch.tensor([1]))
    assert env.unwrapped.state is before


def test_time_limits_play_no_role():
    env = gym.make("Pendulum-v1", max_episode_steps=3)
    model = SimulatorModel(env)
    state = model.start(torch.tensor([[1.0, 0.0, 0.0]]))
    for _ in range(5):
        prediction = model.step(state, torch.zeros(1, 1))
        state = prediction.state
        assert not prediction.terminated.any()


def test_random_outcomes_are_those_of_the_noise():
    model = SimulatorModel(gym.make("FrozenLake-v1"))
    assert model.noise_sizes.uniform == 1
    state = model.start(torch.tensor([14]), 600)
    noise = draw(torch.Generator().manual_seed(0), (600, 1), model.noise_sizes)
    first, second = (model.step(state, torch.tensor([1]), noise) for _ in range(2))
    assert_array_equal(first.observation, second.observation)
    following, counts = np.unique(first.observation, return_counts=True)
    assert_array_equal(following, [13, 14, 15])
    assert_allclose(counts / 600, 1 / 3, atol=0.08)
    assert_array_equal(first.terminated, first.observation == 15)
    assert_array_equal(first.reward, (first.observation == 15).float())


def test_tables_hold_all_outcomes():
    table = SimulatorModel(gym.make("FrozenLake-v1", is_slippery=False)).outcome_table
    assert table.probability.shape == (16, 4, 1)
    assert_array_equal(table.following[14, :, 0], [13, 14, 15, 10])
    assert_array_equal(table.reward[14, :, 0], [0, 0, 1, 0])
    assert_array_equal(table.ends[14, :, 0], [False, False, True, False])
    assert SimulatorModel(gym.make("CartPole-v1")).outcome_table is None


def test_copies_serve_where_states_are_not_known():
    """Frame stacks have a memory; tracked, the model starts from the very environment."""
    env = TrackState(FlattenObservation(FrameStackObservation(gym.make("CartPole-v1"), 2)))
    model = SimulatorModel(env)
    assert not model.keeps_states
    observation, _ = env.reset(seed=5)
    for action in (0, 1, 1):
        state = model.start(torch.as_tensor(observation)[None])
        predicted = model.step(state, torch.tensor([action]))
        observation, *_ = env.step(action)
        assert_array_equal(predicted.observation[0, 0], observation.astype(np.float32))
    with pytest.raises(InvalidSettingError, match="no tracked environment stands at"):
        model.start(torch.zeros(1, 8))


def test_several_environments_can_be_tracked():
    envs = [TrackState(FlattenObservation(gym.make("CartPole-v1"))) for _ in range(2)]
    observations = np.stack([env.reset(seed=seed)[0] for seed, env in enumerate(envs)])
    model = SimulatorModel(envs)
    predicted = model.step(model.start(torch.as_tensor(observations[::-1].copy())), torch.tensor([0, 1]))
    assert_allclose(predicted.observation[0, 0], envs[1].step(0)[0], rtol=1e-6)
    assert_allclose(predicted.observation[0, 1], envs[0].step(1)[0], rtol=1e-6)


class Hidden(gym.Env):
    """A counter of which only the parity is seen."""

    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return 0, {}

    def step(self, action):
        self.count += 1 + int(action)
        return self.count % 2, float(self.count), False, False, {}


def test_a_function_can_set_the_state():
    def set_state(env, observation):
        env.unwrapped.count = 10 + int(observation)

    model = SimulatorModel(Hidden(), set_state=set_state)
    assert_array_equal(model.step(model.start(torch.tensor([0, 1])), torch.tensor([1, 1])).reward, [[12.0, 13.0]])
    with pytest.raises(InvalidSettingError, match=r"give set_state.*TrackState"):
        SimulatorModel(Hidden())


class Restless(Hidden):
    """Counts in its class, where no copy reaches."""

    total = 0

    def step(self, action):
        Restless.total += 1
        return Restless.total % 2, 0.0, False, False, {}


class Locked(Hidden):
    """Holds something that cannot be copied."""

    def __init__(self):
        self.lock = threading.Lock()


def test_environments_that_do_not_replay_are_refused():
    with pytest.raises(InvalidSettingError, match="does not replay"):
        SimulatorModel(TrackState(Restless()))
    with pytest.raises(InvalidSettingError, match="cannot be copied"):
        SimulatorModel(TrackState(Locked()))


def test_files_hold_no_simulators(tmp_path):
    with pytest.raises(InvalidSettingError, match="files hold no code"):
        SimulatorModel(gym.make("CartPole-v1")).save(tmp_path / "model")
