"""Rewards of steps that end an episode: a jump at few transitions, learned apart from all other rewards."""

import numpy as np
import pytest
import torch
from model_toys import LINE, UNIT, transitions
from numpy.testing import assert_allclose
from torch.testing import assert_close

from mbrl_gym.models import GaussianEnsemble, GPModel, LinearModel, MLPModel

NETWORK = {"hidden": (32, 32), "max_epochs": 200, "learning_rate": 0.01}
MODELS = {
    "ensemble": lambda **given: GaussianEnsemble(LINE, UNIT, members=3, **NETWORK, **given),
    "mlp": lambda **given: MLPModel(LINE, UNIT, **NETWORK, **given),
    "gp": lambda **given: GPModel(LINE, UNIT, **given),
}


def walk(prize=100.0, goal=0.95, count=300):
    """x' = x + a / 2; where x' passes the goal the episode ends with a prize; actions cost 0.1 a^2."""
    generator = np.random.default_rng(0)
    x, a = generator.uniform(-1, 0.7, (count, 1)), generator.uniform(-1, 1, (count, 1))
    following = x + a / 2
    ends = following[:, 0] > goal
    return transitions(x, a, prize * ends - 0.1 * a[:, 0] ** 2, following, ends)


def steps_of(model, x, a):
    place, action = torch.tensor([[x]]), torch.tensor([[a]])
    prediction = model.step(model.start(place), action)
    return prediction.reward.mean().item(), prediction.terminated.all().item()


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
    data = walk()
    assert 2 <= data.terminated.sum() <= 9  # few
    model = MODELS[request.param]()
    model.fit(data)
    return model, data


def test_few_ends_show_the_prize_and_no_other_step_gets_a_part_of_it(fitted):
    model, _ = fitted
    reward, ends = steps_of(model, 0.65, 0.9)  # to 1.1
    assert ends
    assert_allclose(reward, 100, atol=1)
    for x, a in ((0.65, 0.2), (0.0, 1.0), (-0.5, -1.0)):
        reward, ends = steps_of(model, x, a)
        assert not ends
        assert_allclose(reward, -0.1 * a**2, atol=0.1)


def test_the_bonus_is_the_difference_of_the_means(fitted):
    model, data = fitted
    ends = data.terminated
    expected = data.reward[ends].astype(float).mean() - data.reward[~ends].astype(float).mean()
    assert_allclose(model.end_bonus.item(), expected, rtol=1e-5)


def test_the_distribution_mixes_both_rewards_by_the_probability_of_an_end(fitted):
    model, data = fitted
    observation, action = torch.as_tensor(data.observation), torch.as_tensor(data.action)
    bonus = model.end_bonus.clone()
    mixed = model.outcome(observation, action)
    model.end_bonus.zero_()
    plain = model.outcome(observation, action)
    model.end_bonus.copy_(bonus)
    end = mixed.terminated
    assert_close(mixed.mean[..., 1], plain.mean[..., 1] + end * bonus)
    variance = plain.deviation[..., 1] ** 2 + end * (1 - end) * bonus**2
    assert_close(mixed.deviation[..., 1] ** 2, variance, rtol=1e-3, atol=1e-6)
    assert_close(mixed.mean[..., 0], plain.mean[..., 0])


def test_it_is_saved(fitted, request):
    model, _ = fitted
    fresh = MODELS[request.node.callspec.params["fitted"]]()
    fresh.load_state_dict(model.state_dict())
    assert steps_of(fresh, 0.65, 0.9) == steps_of(model, 0.65, 0.9)


@pytest.mark.parametrize("name", MODELS)
def test_there_is_none_without_ends_with_an_exact_reward_or_where_ends_pay_like_other_steps(name):
    model = MODELS[name]()
    model.fit(walk())
    assert model.end_bonus > 90
    model.fit(walk(goal=2.0))
    assert model.end_bonus == 0
    exact = MODELS[name](reward_fn=lambda observation, action, following: following[..., 0])
    exact.fit(walk())
    assert exact.end_bonus == 0
    data = walk()
    model.fit(data._replace(reward=np.ones_like(data.reward)))
    assert model.end_bonus == 0


def test_a_linear_model_has_none():
    model = LinearModel(LINE, UNIT)
    model.fit(walk())
    assert model.end_bonus == 0
