"""Judging the world model while an agent trains."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_toys import TINY
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.logger import KVWriter, Logger

from mbrl_gym.agents import MPC, EvaluateModelCallback, random_transitions
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import GaussianEnsemble, evaluate_model

FEW = {"horizons": (1, 5), "starts": 20}


class Written(KVWriter):
    """An output format of the logger that keeps what it is given."""

    def __init__(self):
        self.rows = []

    def write(self, values, excluded, step=0):
        """Keep the values that belong to a step."""
        self.rows.append((step, dict(values)))

    def close(self):
        """Do nothing."""


def with_log(agent):
    written = Written()
    agent.set_logger(Logger(None, [written]))
    return written


def test_random_transitions_are_steps_of_the_environment():
    env = gym.make("CartPole-v1")
    env.action_space.seed(5)
    data = random_transitions(env, 200, seed=1)
    own = [env.action_space.sample() for _ in range(30)]
    env.action_space.seed(5)
    assert own == [env.action_space.sample() for _ in range(30)]  # its generator was left alone
    assert len(data.reward) == 200
    first, _ = env.reset(seed=1)
    assert_array_equal(data.observation[0], first)
    assert data.terminated.sum() == data.episode.max() > 5
    same = data.episode[1:] == data.episode[:-1]
    assert_array_equal(data.next_observation[:-1][same], data.observation[1:][same])
    assert_array_equal(same, ~data.terminated[:-1])
    again = random_transitions("CartPole-v1", 200, seed=1)
    other = random_transitions("CartPole-v1", 200, seed=2)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(data, again, strict=True))
    assert (other.action != data.action).any()
    with pytest.raises(InvalidSettingError, match=r"steps.*at least 1.*0"):
        random_transitions("CartPole-v1", 0, seed=1)


def test_the_figures_of_the_report_are_logged_with_their_steps(tiny_agent):
    agent = tiny_agent()
    written = with_log(agent)
    data = random_transitions("mbrl/Arm-v0", 60, seed=9)
    callback = EvaluateModelCallback(20, data, seed=4, **FEW)
    agent.learn(110, callback=callback)
    logged = {step: values for step, values in written.rows if "model_eval/error_1" in values}
    # rollouts start every 20 steps; the model is fitted for the first time in step 31
    assert list(logged) == [steps for steps, _ in callback.reports] == [40, 60, 80, 100, 120]
    for steps, report in callback.reports:
        figures = {name: value for name, value in logged[steps].items() if name.startswith("model_eval/")}
        assert figures == {f"model_eval/{name}": value for name, value in report.as_dict().items()}
        assert logged[steps]["time/total_timesteps"] == steps
    last = evaluate_model(agent.world_model, data, seed=4, **FEW)
    assert last.as_dict() == callback.reports[-1][1].as_dict()


def test_held_out_steps_may_come_from_an_environment(tiny_agent):
    callback = EvaluateModelCallback(20, "mbrl/Arm-v0", steps=50, seed=7)
    expected = random_transitions("mbrl/Arm-v0", 50, seed=7)
    assert_array_equal(callback.transitions.observation, expected.observation)
    env = gym.make("mbrl/Arm-v0")
    assert_array_equal(EvaluateModelCallback(20, env, steps=50, seed=7).transitions.action, expected.action)


@pytest.mark.parametrize("env_id", ["mbrl/Arm-v0", "mbrl/CartPoleContinuous-v0"])
def test_training_goes_on_as_it_would_without(tiny_agent, env_id):
    def train(callback):
        agent = tiny_agent(env_id, exploration=0.2, reward="learned").learn(65, callback=callback)
        buffer = agent.replay_buffer
        return [buffer.observations, buffer.actions, buffer.rewards], agent.policy.state_dict(), agent

    before = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
    callback = EvaluateModelCallback(1, env_id, steps=60, seed=0, **FEW)
    rows, weights, agent = train(callback)
    assert len(callback.reports) >= 2
    assert before == (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist())
    plain_rows, plain_weights, plain = train(None)
    for mine, other in zip(rows, plain_rows, strict=True):
        assert_array_equal(mine, other)
    assert all(torch.equal(value, plain_weights[name]) for name, value in weights.items())
    for mine, other in ((agent.policy, plain.policy), (agent.world_model, plain.world_model)):
        assert torch.equal(mine.generator.get_state(), other.generator.get_state())


def test_it_waits_for_the_first_fit_and_for_its_turn(tiny_agent):
    callback = EvaluateModelCallback(50, "mbrl/Arm-v0", steps=40, **FEW)
    agent = tiny_agent().learn(200, callback=callback)
    assert [steps for steps, _ in callback.reports] == [60, 120, 180, 200]  # the last when training ends
    agent.learn(60, callback=callback, reset_num_timesteps=False)
    assert [steps for steps, _ in callback.reports] == [60, 120, 180, 200, 260]
    never = EvaluateModelCallback(1, "mbrl/Arm-v0", steps=40, **FEW)
    tiny_agent(learning_starts=1000).learn(40, callback=never)
    assert never.reports == []


def test_any_agent_can_train_beside_a_given_model():
    """The model of somebody else, here fitted once, is judged while PPO and DQN learn."""
    data = random_transitions("CartPole-v1", 200, seed=0)
    env = gym.make("CartPole-v1")
    model = GaussianEnsemble(env.observation_space, env.action_space, members=2, hidden=[16], max_epochs=2)
    for algorithm, settings in ((PPO, {"n_steps": 32, "batch_size": 32, "n_epochs": 1}), (DQN, {})):
        callback = EvaluateModelCallback(30, data, model=model, **FEW)
        agent = algorithm("MlpPolicy", "CartPole-v1", seed=0, **settings)
        written = with_log(agent)
        agent.learn(64, callback=callback)
        assert len(callback.reports) == (2 if model.fitted else 0)
        model.fit(data)
        agent.learn(64, callback=callback)
        assert len(callback.reports) >= 2
        logged = [values["model_eval/ratio_1"] for _, values in written.rows if "model_eval/ratio_1" in values]
        assert_allclose(logged, [report.horizons[0].ratio for _, report in callback.reports])
        missed = callback.reports[-1][1]
        assert missed.terminations == data.terminated.sum() > 0


def test_agents_without_a_model_are_refused():
    callback = EvaluateModelCallback(10, "CartPole-v1", steps=20)
    with pytest.raises(InvalidSettingError, match=r"PPO has no world model: pass model= to EvaluateModelCallback"):
        PPO("MlpPolicy", "CartPole-v1").learn(10, callback=callback)
    with pytest.raises(InvalidSettingError, match=r"every.*at least 1.*0"):
        EvaluateModelCallback(0, "CartPole-v1")


def test_reports_are_printed_if_asked_for(capsys):
    callback = EvaluateModelCallback(20, "mbrl/Arm-v0", steps=20, verbose=1, **FEW)
    MPC("iCEM", "mbrl/Arm-v0", seed=0, **TINY).learn(45, callback=callback)
    printed = capsys.readouterr().out
    assert printed.count("The world model after 40 steps:\n| steps ahead |") == 1
