"""The exact model against the tasks' own equations in NumPy, and against the real environments."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from model_toys import fully_observed_tasks, some_actions, task_states
from numpy.testing import assert_allclose

from mbrl_gym.envs import gym_env
from mbrl_gym.envs.task import draw as draw_numpy
from mbrl_gym.errors import UnsupportedSpaceError
from mbrl_gym.models import ExactModel, exact_dynamics
from mbrl_gym.noise import Noise, NoiseSizes

TASKS = fully_observed_tasks()


@pytest.fixture(params=TASKS)
def task_id(request: pytest.FixtureRequest) -> str:
    """Every id whose task is fully observed."""
    return request.param


def to_torch(noise: Noise) -> Noise:
    return Noise(*(torch.as_tensor(part) for part in noise))


@pytest.mark.parametrize("particles", [1, 3])
def test_a_step_is_the_tasks_own(task_id, particles):
    task = TASKS[task_id]
    rows = 40
    state = task_states(task, rows)
    action = 1.3 * some_actions(task.action_space, rows)  # beyond the bounds too
    noise = draw_numpy(np.random.default_rng(1), (particles, rows), task.transition_noise, task.dtype)
    model = ExactModel(task)
    observation = task.observation(state)
    prediction = model.step(
        model.start(torch.as_tensor(observation), particles), torch.as_tensor(action), to_torch(noise)
    )
    for particle in range(particles):
        following = task.transition(state, action, Noise(noise.normal[particle], noise.uniform[particle]))
        expected = task.observation(following)
        # float32, and the state was read back from an observation
        assert_allclose(prediction.observation[particle], expected, rtol=1e-5, atol=2e-5)
        assert_allclose(prediction.reward[particle], task.reward(observation, action, expected), rtol=1e-5, atol=2e-5)
        assert_allclose(prediction.terminated[particle], task.terminal(expected))


def test_exact_dynamics_are_the_exact_model_without_noise(task_id):
    task = TASKS[task_id]
    model, observation = ExactModel(task), torch.as_tensor(task.observation(task_states(task, 8)))
    action = torch.as_tensor(some_actions(task.action_space, 8))
    expected = model.step(model.start(observation, 2), action).observation
    dynamics = exact_dynamics(task)
    assert torch.equal(dynamics(observation, action), expected[0])
    assert torch.equal(dynamics(observation.expand(2, *observation.shape), action.expand(2, *action.shape)), expected)


def test_it_predicts_the_real_environment_step_for_step(task_id, monkeypatch):
    drawn = []

    def recording(*args):
        drawn.append(draw_numpy(*args))
        return drawn[-1]

    monkeypatch.setattr(gym_env, "draw", recording)
    env = gym.make(task_id)
    if env.unwrapped.task.parts:
        env = FlattenObservation(env)
    observation, _ = env.reset(seed=3)
    env.action_space.seed(3)
    model = ExactModel(env.unwrapped.task)
    state = model.start(torch.as_tensor(observation)[None])  # once: the rest is the model's own roll-out
    ended = False
    steps = 0
    while not ended:
        action = env.action_space.sample()
        one_step = model.start(torch.as_tensor(observation)[None])
        observation, reward, terminated, truncated, _ = env.step(action)
        noise = Noise(*(torch.as_tensor(part)[None, None] for part in drawn[-1]))
        for before, tolerance in ((one_step, 2e-5), (state, 5e-4)):
            prediction = model.step(before, torch.as_tensor(action)[None], noise)
            assert_allclose(prediction.observation[0, 0], observation, rtol=1e-5, atol=tolerance)
            assert_allclose(prediction.reward[0, 0], reward, rtol=1e-5, atol=tolerance)
            assert bool(prediction.terminated[0, 0]) == terminated
        state = prediction.state
        ended = terminated or truncated
        steps += 1
    assert terminated or steps == env.spec.max_episode_steps
    assert len(drawn) == 1 + steps


def test_hand_computed_drift():
    model = ExactModel(gym.make("mbrl/Drift-v0").unwrapped.task)
    state = model.start(torch.tensor([[2.0], [-0.3]]))
    prediction = model.step(state, torch.tensor([[-0.5], [5.0]]))
    # 2 - 0.5 + 0.1 and -0.3 + 1 (clipped) + 0.1
    assert_allclose(prediction.observation, [[[1.6], [0.8]]], rtol=1e-6)
    assert_allclose(prediction.reward, [[-1.6, -0.8]], rtol=1e-6)
    prediction = model.step(
        prediction.state, torch.tensor([[0.0], [-1.0]]), Noise(torch.tensor([[[2.0], [-1.0]]]), torch.zeros(1, 2, 0))
    )
    assert_allclose(prediction.observation, [[[1.9], [-0.2]]], rtol=1e-5)  # + 0.1 + 0.2 and - 1 + 0.1 - 0.1
    assert_allclose(prediction.reward, [[-1.9, -0.2]], rtol=1e-5)


def test_particles_with_their_own_noise_go_their_own_ways():
    model = ExactModel(gym.make("mbrl/Drift-v0", drift=0.0, noise_std=1.0).unwrapped.task)
    state = model.start(torch.zeros(2, 1), 3)
    for _ in range(4):
        noise = Noise(torch.tensor([1.0, 0.0, -2.0])[:, None, None], torch.zeros(3, 1, 0))
        prediction = model.step(state, torch.zeros(2, 1), noise)
        state = prediction.state
    assert_allclose(prediction.observation[..., 0], [[4.0, 4.0], [0.0, 0.0], [-8.0, -8.0]])


def test_a_hidden_state_is_refused_by_name():
    with pytest.raises(UnsupportedSpaceError, match=r"fully observed.*Bandit.*learn a model"):
        ExactModel(gym.make("mbrl/Bandit-v0").unwrapped.task)


def test_nothing_is_learned():
    task = TASKS["mbrl/Drone-v0"]
    model = ExactModel(task)
    assert model.fitted
    assert model.particle_unit == 1
    assert not list(model.parameters())


class UniformTask:
    """x' = x + a + u, which ends beyond 2: the only task here with uniform noise and an end."""

    fully_observed = True
    observation_space = spaces.Box(-9.0, 9.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    transition_noise = NoiseSizes(uniform=1)

    def state(self, observation):
        return observation

    def observation(self, state):
        return state

    def transition(self, state, action, noise):
        return state + action + noise.uniform

    def reward(self, observation, action, next_observation):
        return observation[..., 0] + 10 * action[..., 0] + 100 * next_observation[..., 0]

    def terminal(self, next_observation):
        return next_observation[..., 0] > 2


def test_uniform_noise_rests_at_a_half_and_the_reward_sees_both_observations():
    model = ExactModel(UniformTask())
    prediction = model.step(model.start(torch.tensor([[1.0], [0.0]]), 2), torch.tensor([[1.0], [0.25]]))
    assert_allclose(prediction.observation[..., 0], [[2.5, 0.75]] * 2)
    assert_allclose(prediction.reward, [[1.0 + 10.0 + 250.0, 0.0 + 2.5 + 75.0]] * 2)
    assert prediction.terminated.tolist() == [[True, False]] * 2
    following = model.step(prediction.state, torch.zeros(2, 1), Noise(torch.zeros(2, 1, 0), torch.zeros(2, 1, 1)))
    assert_allclose(following.reward, [[2.5 + 250.0, 0.75 + 75.0]] * 2)  # the last step's outcome is the start of this
