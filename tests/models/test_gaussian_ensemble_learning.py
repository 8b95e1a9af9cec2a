"""What the ensemble learns, on data whose law is known. Everything is seeded; the bounds leave room for retuning."""

import numpy as np
import pytest
import torch
from model_toys import LINE, UNIT, transitions
from scipy import stats

from mbrl_gym.envs import Drone
from mbrl_gym.models import GaussianEnsemble, draw
from mbrl_gym.noise import Noise


def as_tensors(data):
    return torch.as_tensor(data.observation), torch.as_tensor(data.action)


def drone_steps(count, seed):
    """Draw random steps of the drone; everything but the reward is linear."""
    task, generator = Drone(), np.random.default_rng(seed)
    state = generator.normal(size=(count, 9)).astype(np.float32)
    action = generator.uniform(-1, 1, (count, 3)).astype(np.float32)
    observation = task.observation(state)
    following = task.observation(task.transition(state, action, Noise(np.zeros((count, 0)), np.zeros((count, 0)))))
    return transitions(observation, action, task.reward(observation, action, following), following)


def test_linear_dynamics_are_learned_from_few_steps():
    task = Drone()
    model = GaussianEnsemble(task.observation_space, task.action_space, members=3, hidden=(32,), max_epochs=60)
    model.fit(drone_steps(60, seed=0))
    test = drone_steps(500, seed=1)
    at = as_tensors(test)
    predicted = model.step(model.start(at[0]), at[1]).observation.mean(0).numpy()
    error = np.sqrt(np.mean((predicted - test.next_observation) ** 2, axis=0))
    nothing_changes = np.sqrt(np.mean((test.observation - test.next_observation) ** 2, axis=0))
    assert (error < 0.03 * nothing_changes).all()


def noise_of(x):
    return 0.1 + 0.15 * np.abs(x)


def heteroscedastic(count, seed):
    """Draw x' = x + sin 2x + sigma(x) eps, reward cos x + sigma(x) / 2 eps; the action does nothing."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(-2, 2, (count, 1))
    eps = generator.normal(size=(2, count))
    change = np.sin(2 * x) + noise_of(x) * eps[0][:, None]
    reward = np.cos(x[:, 0]) + 0.5 * noise_of(x[:, 0]) * eps[1]
    return transitions(x, generator.uniform(-1, 1, (count, 1)), reward, x + change)


@pytest.fixture(scope="module")
def noisy_model():
    model = GaussianEnsemble(
        LINE, UNIT, members=3, hidden=(32, 32), learning_rate=0.005, batch_size=128, max_epochs=80, patience=15
    )
    model.fit(heteroscedastic(2000, seed=0))
    return model


def mixture(model, data):
    """Return mean and standard deviation of the members' mixture, `[N, 2]` each."""
    mean, deviation, _ = model.outcome(*as_tensors(data))
    second = (mean.square() + deviation.square()).mean(0)
    return mean.mean(0).numpy(), (second - mean.mean(0).square()).sqrt().numpy()


def test_predicted_deviation_is_the_true_one(noisy_model):
    test = heteroscedastic(1000, seed=1)
    x = test.observation[:, 0]
    mean, deviation = mixture(noisy_model, test)
    assert np.sqrt(np.mean((mean[:, 0] - np.sin(2 * x)) ** 2)) < 0.1
    for column, truth in ((0, noise_of(x)), (1, 0.5 * noise_of(x))):
        ratio = deviation[:, column] / truth
        assert 0.85 < np.median(ratio) < 1.15
        assert np.mean(np.abs(ratio - 1)) < 0.2
        assert stats.spearmanr(deviation[:, column], truth).statistic > 0.8


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_central_intervals_cover_what_they_promise(noisy_model, level):
    test = heteroscedastic(5000, seed=2)
    mean, deviation = mixture(noisy_model, test)
    target = np.stack([(test.next_observation - test.observation)[:, 0], test.reward], 1)
    inside = np.abs(target - mean) < stats.norm.ppf((1 + level) / 2) * deviation
    assert np.abs(inside.mean(0) - level).max() < 0.05


def test_noisy_predictions_scatter_by_the_predicted_deviation(noisy_model):
    at = torch.linspace(-2, 2, 5)[:, None], torch.zeros(5, 1)
    particles = 3 * 4000
    noise = draw(torch.Generator().manual_seed(0), (particles, 5), noisy_model.noise_sizes)
    change = (noisy_model.step(noisy_model.start(at[0], particles), at[1], noise).observation - at[0])[..., 0]
    mean, deviation, _ = noisy_model.outcome(*at)
    for member in range(3):
        own = change[4000 * member : 4000 * (member + 1)]
        np.testing.assert_allclose(own.std(0), deviation[member, :, 0], rtol=0.05)
        np.testing.assert_allclose(own.mean(0), mean[member, :, 0], atol=4 * deviation[member, :, 0].max() / 4000**0.5)


def test_members_disagree_more_far_from_the_data_than_inside(noisy_model):
    inside = noisy_model.uncertainty(torch.linspace(-1.8, 1.8, 40)[:, None], torch.zeros(40, 1))
    far = torch.cat((torch.linspace(-8, -5, 20), torch.linspace(5, 8, 20)))[:, None]
    outside = noisy_model.uncertainty(far, torch.zeros(40, 1))
    assert outside.median() > 5 * inside.median()
    assert outside.min() > inside.median()


def boundary(count, seed):
    """Draw x' = x + 0.3 a, which ends where x' > 1: about one step in seven."""
    generator = np.random.default_rng(seed)
    x, a = generator.uniform(-2, 1.3, (count, 1)), generator.uniform(-1, 1, (count, 1))
    following = x + 0.3 * a
    return transitions(x, a, -np.abs(x[:, 0]), following, following[:, 0] > 1)


@pytest.mark.parametrize("count", [500, 2000])
def test_termination_is_learned(count):
    settings = {"members": 3, "hidden": (64, 64), "learning_rate": 0.003, "max_epochs": 100, "patience": 15}
    model = GaussianEnsemble(LINE, UNIT, **settings)
    model.fit(boundary(count, seed=0))
    assert model.terminates
    test = boundary(2000, seed=1)
    at = as_tensors(test)
    for member in model.step(model.start(at[0]), at[1]).terminated.numpy():
        hits, rejections = member[test.terminated].mean(), (~member)[~test.terminated].mean()
        assert (hits + rejections) / 2 > 0.9  # always False has 0.5; the boundary is a straight line
    probability = model.outcome(*at)[2].mean(0).numpy()
    assert probability[test.terminated].mean() > 0.7
    assert probability[~test.terminated].mean() < 0.15


def test_without_a_termination_in_the_data_none_is_predicted():
    data = boundary(200, seed=0)
    model = GaussianEnsemble(LINE, UNIT, members=2, hidden=(8,), max_epochs=5)
    model.fit(data._replace(terminated=np.zeros(200, bool)))
    assert not model.terminates
    assert not model.step(model.start(torch.full((3, 1), 5.0)), torch.ones(3, 1)).terminated.any()
    model.fit(data)
    assert model.terminates
