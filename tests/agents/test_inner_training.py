"""Training inside of a model ends when its members say so, and each of them says what the policy earns in it."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from model_members import Lengths
from numpy.testing import assert_array_equal
from stable_baselines3 import PPO

from mbrl_gym.agents.inner_training import train_while_improving
from mbrl_gym.agents.member_check import MemberCheck, held_out_by_default, split_members
from mbrl_gym.models import GaussianEnsemble, LinearModel

SETTINGS = {"updates": 8, "check_freq": 2, "improved_share": 0.7, "patience": 1}


@pytest.fixture
def ppo():
    return PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, n_epochs=1, seed=0, device="cpu")


class Scripted:
    """Says what it was told to, and keeps the weights that it was asked about."""

    def __init__(self, *returns):
        self.returns = list(returns)
        self.asked = []

    def __call__(self, policy):
        self.asked.append({name: value.clone() for name, value in policy.state_dict().items()})
        return np.array(self.returns[len(self.asked) - 1], float)


def same(policy, weights):
    return all(torch.equal(value, weights[name]) for name, value in policy.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "returns", "updates", "kept"),
    [
        ({}, [[0, 0, 0], [1, 1, 1], [2, 2, 1]], 4, 1),  # two of three are too few
        ({"improved_share": 0.6}, [[0, 0, 0], [1, 1, 1], [2, 2, 0], [2, 2, 0]], 6, 2),  # but enough here; ties are none
        ({}, [[5, 5], [5, 5]], 2, 0),  # nothing passed: back to where it began
        ({"patience": 2}, [[0], [1], [1], [3], [2], [3]], 10, 3),  # failures count in a row
        ({"updates": 4}, [[0], [1], [2]], 4, 2),  # as many updates as there are
        ({"updates": 5}, [[0], [1], [2], [3]], 5, 3),  # the last one is checked, too
    ],
)
def test_training_ends_when_too_few_members_see_an_improvement(ppo, changes, returns, updates, kept):
    judge = Scripted(*returns)
    done = train_while_improving(ppo, judge, **{**SETTINGS, "updates": 20, **changes})
    assert len(judge.asked) == len(returns)
    assert done.updates == updates
    assert ppo.num_timesteps == 8 * updates
    assert same(ppo.policy, judge.asked[kept])
    assert_array_equal(done.before, returns[0])
    assert_array_equal(done.after, returns[kept])
    assert [same(ppo.policy, weights) for weights in judge.asked].count(True) == 1  # each update changes the policy


def test_the_optimiser_goes_back_with_the_policy(ppo):
    done = train_while_improving(ppo, Scripted([0], [1], [0]), **SETTINGS)
    assert done.updates == 4
    assert ppo.policy.optimizer.state_dict()["state"][0]["step"] == 2  # one gradient step an update; two updates passed


def test_the_share_and_the_times_are_reported(ppo):
    done = train_while_improving(ppo, Scripted([0, 0, 0], [1, 1, -1]), **SETTINGS)
    assert done.improved == pytest.approx(2 / 3)
    assert min(done.imagine_seconds, done.update_seconds, done.check_seconds) > 0


class Fixed:
    """A policy that draws from the global generator and does the same whatever it draws."""

    device = "cpu"

    def predict(self, observation):
        torch.rand(1), np.random.random()
        return np.zeros(len(observation), np.int64), None


def test_members_are_told_apart_and_rows_that_ended_earn_no_more():
    model = Lengths([3, 5, 9])  # member m lasts so many steps, of reward m + 1
    check = MemberCheck(model, np.zeros((1, 1), np.float32), horizon=7, episodes=4, seed=0)
    assert_array_equal(check(Fixed()), [3 * 1, 5 * 2, 7 * 3])


def test_checks_repeat_themselves_and_leave_the_global_generators_alone():
    ensemble, data = fitted()
    check = MemberCheck(ensemble, data.observation[:5], horizon=6, episodes=3, seed=0)
    policy = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu").policy
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = check(policy)
    assert torch.equal(before[0], torch.get_rng_state())
    assert_array_equal(before[1], np.random.get_state()[1])
    torch.rand(3)
    assert_array_equal(check(policy), first)
    assert first.shape == (5,)
    assert len(set(first)) == 5
    other = MemberCheck(ensemble, data.observation[:5], horizon=6, episodes=3, seed=1)
    assert not np.array_equal(other(policy), first)


def fitted():
    from mbrl_gym.agents import random_transitions

    data = random_transitions("Pendulum-v1", 60, 0)
    env = PPO("MlpPolicy", "Pendulum-v1", device="cpu")
    model = GaussianEnsemble(env.observation_space, env.action_space, hidden=(8,), max_epochs=2)
    model.fit(data)
    return model, data


def test_policies_train_in_other_members_than_those_that_judge_them():
    model, _ = fitted()
    training, judging = split_members(model, 2)
    assert training.elite_members.tolist() == [0, 1, 2]
    assert judging.elite_members.tolist() == [3, 4]
    assert split_members(model, 0) == (model, model)


def test_two_of_five_members_are_held_out_by_default():
    space = spaces.Box(-1.0, 1.0, (1,))
    counts = [held_out_by_default(GaussianEnsemble(space, space, members=each)) for each in (1, 2, 3, 5, 7, 10)]
    assert counts == [0, 0, 1, 2, 2, 4]
    assert held_out_by_default(LinearModel(space, space)) == 0
