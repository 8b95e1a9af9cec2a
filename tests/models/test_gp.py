"""Gaussian processes against GPyTorch's own and textbook formulas; what they learn, and how they are kept."""

import json
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import CHOICES, LINE, ODD, PLANE, UNIT, transitions, wild
from numpy.testing import assert_allclose
from torch.testing import assert_close

from mbrl_gym.errors import InvalidSettingError, MissingPackageError
from mbrl_gym.models import GPModel, draw, gp_posterior
from mbrl_gym.models.gp_posterior import KERNELS, Hyperparameters, condition, condition_sparse

NOISE = 0.1


@pytest.fixture(scope="module")
def gpytorch():
    """GPyTorch, imported as the model does: elsewhere its import warns."""
    return __import__("mbrl_gym.models.gp_training", fromlist=["gpytorch"]).gpytorch


def at(data):
    return torch.as_tensor(data.observation), torch.as_tensor(data.action)


def wave(count, seed=0, noise=NOISE):
    """Draw x' = x + sin 2x + noise, reward cos x; the action does nothing."""
    generator = np.random.default_rng(seed)
    x, a = generator.uniform(-2, 2, (count, 1)), generator.uniform(-1, 1, (count, 1))
    change = np.sin(2 * x) + noise * generator.normal(size=(count, 1))
    return transitions(x, a, np.cos(x[:, 0]), x + change)


def fitted(data, **changes):
    observation_space, space = (LINE, UNIT) if data.observation.shape[1] == 1 else (PLANE, ODD)
    model = GPModel(observation_space, space, **{"dtype": "float64", **changes})
    return model, model.fit(data)


def normalised(model, data):
    """Return inputs and targets as the processes see them."""
    observation, action = at(data)
    inputs = torch.cat((observation.double(), model.encode_action(action).double()), 1)
    targets = model.targets(data)
    return (
        (inputs - inputs.mean(0)) / inputs.std(0, correction=0),
        (targets - targets.mean(0)) / targets.std(0, correction=0),
    )


def hyper_of(model, target):
    return Hyperparameters(model.lengthscale[target], model.outputscale[target], model.noise[target])


def kernel_by_hand(kernel, hyper, one, other):
    lengthscale, outputscale, _ = (value.numpy() for value in hyper)
    distance = np.sqrt((((one[:, None] - other[None]) / lengthscale) ** 2).sum(-1))
    if kernel == "rbf":
        return outputscale * np.exp(-(distance**2) / 2)
    return outputscale * (1 + 5**0.5 * distance + 5 / 3 * distance**2) * np.exp(-(5**0.5) * distance)


@pytest.mark.parametrize("kernel", KERNELS)
def test_prediction_is_the_textbook_formula(kernel):
    data, test = wave(7), wave(20, seed=1)
    model, _ = fitted(data, kernel=kernel, iterations=10)
    inputs, targets = (part.numpy() for part in normalised(model, data))
    raw = torch.cat((at(test)[0].double(), model.encode_action(at(test)[1]).double()), 1).numpy()
    rows = (raw - model.input_mean.numpy()) / model.input_scale.numpy()
    mean, deviation, _ = (part.numpy() for part in model.outcome(*at(test)))
    variances = []
    for d in range(2):
        hyper = hyper_of(model, d)
        with_data = kernel_by_hand(kernel, hyper, rows, inputs)
        inverse = np.linalg.inv(kernel_by_hand(kernel, hyper, inputs, inputs) + hyper.noise.item() * np.eye(7))
        scale = model.targets(data).numpy()[:, d].std()
        assert_allclose(mean[0, :, d], (with_data @ inverse @ targets[:, d]) * scale + model.target_mean[d].item())
        variances.append(hyper.outputscale.item() - np.einsum("nt,ts,ns->n", with_data, inverse, with_data))
        assert_allclose(deviation[0, :, d], scale * np.sqrt(variances[d] + hyper.noise.item()), rtol=1e-4)
    assert_allclose(model.uncertainty(*at(test)), np.sqrt(np.mean(variances, axis=0)), rtol=1e-4)


def exact_process(gpytorch, kernel, hyper, inputs, target):
    """Build GPyTorch's exact process with a zero mean."""

    class Process(gpytorch.models.ExactGP):
        def __init__(self):
            super().__init__(inputs, target, gpytorch.likelihoods.GaussianLikelihood())
            self.mean_module = gpytorch.means.ZeroMean()
            base = {
                "rbf": gpytorch.kernels.RBFKernel(ard_num_dims=inputs.shape[1]),
                "matern52": gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=inputs.shape[1]),
            }[kernel]
            self.covar_module = gpytorch.kernels.ScaleKernel(base)

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    process = Process().double()
    process.likelihood.noise_covar.register_constraint("raw_noise", gpytorch.constraints.Positive())
    process.likelihood.noise = hyper.noise
    process.covar_module.base_kernel.lengthscale = hyper.lengthscale
    process.covar_module.outputscale = hyper.outputscale
    return process


@pytest.mark.parametrize("kernel", KERNELS)
def test_posterior_and_likelihood_are_gpytorchs(gpytorch, kernel):
    data, test = wild(ODD, 120), wild(ODD, 50, seed=1)
    model, report = fitted(data, kernel=kernel, iterations=15)
    inputs, targets = normalised(model, data)
    raw = torch.cat((at(test)[0].double(), model.encode_action(at(test)[1]).double()), 1)
    rows = (raw - model.input_mean) / model.input_scale
    mean, deviation, _ = model.outcome(*at(test))
    losses, variances = [], []
    for d in range(3):
        process = exact_process(gpytorch, kernel, hyper_of(model, d), inputs, targets[:, d])
        likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(process.likelihood, process)
        with torch.no_grad(), gpytorch.settings.fast_computations(False, False, False):
            losses.append(-likelihood(process.train()(inputs), targets[:, d]).item())
            latent = process.eval()(rows)
            noisy = process.likelihood.eval()(latent)
        scale = model.target_scale[d]
        assert_close(mean[0, :, d], latent.mean * scale + model.target_mean[d], rtol=1e-7, atol=1e-9)
        assert_close(deviation[0, :, d], noisy.variance.sqrt() * scale, rtol=1e-6, atol=0)
        variances.append(latent.variance)
    assert report.loss == pytest.approx(np.mean(losses), rel=1e-9)
    assert_close(model.uncertainty(*at(test)), torch.stack(variances).mean(0).sqrt(), rtol=1e-5, atol=0)


def test_noise_is_drawn_from_the_predictive_distribution():
    model, _ = fitted(wave(50))
    observation, action = at(wave(6, seed=1))
    mean, deviation, _ = model.outcome(observation, action)
    noise = draw(torch.Generator().manual_seed(0), (3, 6), model.noise_sizes)
    prediction = model.step(model.start(observation, 3), action, noise)
    expected = observation + mean[..., :1] + deviation[..., :1] * noise.normal
    assert_close(prediction.observation, expected)
    assert_close(prediction.reward, mean[..., 1].expand(3, -1))


# Inducing points ------------------------------------------------------------------------------------------------


def sparse_problem():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn((300, 2), generator=generator, dtype=torch.float64)
    target = torch.sin(2 * inputs[:, 0]) + 0.1 * torch.randn(300, generator=generator, dtype=torch.float64)
    hyper = Hyperparameters(*(torch.tensor(value, dtype=torch.float64) for value in ([0.8, 3.0], 1.5, 0.01)))
    rows = torch.randn((40, 2), generator=generator, dtype=torch.float64)
    return hyper, inputs, target, rows


def predict(hyper, points, weights, factor, rows):
    return gp_posterior.Posterior("rbf", hyper, points, weights, factor).moments(rows, variance=True)


def test_sparse_posterior_and_bound_are_gpytorchs(gpytorch):
    """GPyTorch's variational process, its distribution set to the optimum by natural parameters."""
    hyper, inputs, target, rows = sparse_problem()
    inducing = inputs[:30]
    known = condition_sparse("rbf", hyper, inducing, inputs, target)
    jitter = 1e-8 * hyper.outputscale.item()

    class Process(gpytorch.models.ApproximateGP):
        def __init__(self):
            distribution = gpytorch.variational.NaturalVariationalDistribution(30)
            strategy = gpytorch.variational.VariationalStrategy(self, inducing, distribution, jitter_val=jitter)
            super().__init__(strategy)
            self.strategy, self.distribution = strategy, distribution
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=2))

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(torch.zeros_like(x[..., 0]), self.covar_module(x))

    process, likelihood = Process().double(), gpytorch.likelihoods.GaussianLikelihood().double()
    process.covar_module.base_kernel.lengthscale = hyper.lengthscale
    process.covar_module.outputscale, likelihood.noise = hyper.outputscale, hyper.noise
    with torch.no_grad():
        process.distribution.natural_vec.copy_(known.natural_vector)
        process.distribution.natural_mat.copy_(-known.precision / 2)
        process.strategy.variational_params_initialized.fill_(1)
    bound = gpytorch.mlls.VariationalELBO(likelihood, process.train(), len(inputs))
    loss = -bound(process(inputs), target)
    gradient = torch.autograd.grad(loss, list(process.distribution.parameters()))
    # GPyTorch adds its jitter to the variances, too.
    assert known.loss + 0.5 * jitter / 0.01 == pytest.approx(loss.item(), abs=1e-9)
    assert all(part.abs().max() < 1e-6 for part in gradient)  # the optimum
    with torch.no_grad():
        expected = process.eval()(rows)
    mean, variance = predict(hyper, inducing, known.weights, known.factor, rows)
    assert_close(mean, expected.mean, rtol=0, atol=1e-7)
    assert_close(variance + jitter, expected.variance, rtol=1e-6, atol=1e-10)


def test_inducing_points_at_all_of_the_data_give_exact_inference():
    hyper, inputs, target, rows = sparse_problem()
    exact = condition("rbf", hyper, inputs[:80], target[:80])
    sparse = condition_sparse("rbf", hyper, inputs[:80], inputs[:80], target[:80])
    expected = predict(hyper, inputs[:80], exact.weights, None, rows)
    mean, variance = predict(hyper, inputs[:80], sparse.weights, sparse.factor, rows)
    assert_close(mean, expected[0], rtol=0, atol=1e-4)
    assert_close(variance, expected[1], rtol=1e-3, atol=1e-6)
    assert sparse.loss == pytest.approx(exact.loss, abs=1e-4)


def test_fewer_inducing_points_come_close_to_exact_inference():
    data, test = wave(400), wave(300, seed=1)
    exact, _ = fitted(data)
    sparse, report = fitted(data, exact_limit=399, inducing=40)
    assert sparse.points.shape == (2, 40, 2)
    assert report.transitions == 400
    for one, other in zip(exact.outcome(*at(test))[:2], sparse.outcome(*at(test))[:2], strict=True):
        assert ((one - other).abs() / exact.target_scale).max() < 0.02
    assert exact.target_scale[0] > 0.5


@pytest.mark.parametrize("limit", [0, 500])
def test_noise_and_intervals_are_those_of_the_data(limit):
    data, test = wave(500), wave(2000, seed=1)
    model, _ = fitted(data, exact_limit=limit, inducing=40, likelihood_rows=200)
    deviation = (model.noise.sqrt() * model.target_scale).numpy()
    assert deviation[0] == pytest.approx(NOISE, rel=0.15)
    assert deviation[1] < 0.01
    mean, spread = (part[0, :, 0].numpy() for part in model.outcome(*at(test))[:2])
    error = (test.next_observation - test.observation)[:, 0] - mean
    assert np.mean(np.abs(error) < 1.645 * spread) == pytest.approx(0.9, abs=0.04)
    truth = np.sin(2 * test.observation[:, 0])
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.03


@pytest.mark.parametrize(("start", "low", "high"), [(1e-6, 0.003, 0.03), (0.01, 0.01, 0.01), (0.2, 0.2, 0.2)])
def test_noise_is_raised_to_what_the_data_need_and_not_lowered(start, low, high):
    """The data have a noise variance of 0.01."""
    from mbrl_gym.models.gp_training import raise_noise

    hyper, inputs, target, _ = sparse_problem()
    raised, known = raise_noise("rbf", hyper._replace(noise=torch.full_like(hyper.noise, start)), inputs, target)
    assert low * 0.999 <= raised.noise.item() <= high * 1.001
    assert known.loss == condition("rbf", raised, inputs, target).loss


def test_a_kink_that_few_rows_show_does_not_make_the_model_overconfident():
    """x' = min(x + a, 1.2): one step in fifty reaches the limit."""
    generator = np.random.default_rng(0)

    def steps(count):
        x, a = generator.uniform(-1, 1, (count, 1)), generator.uniform(-0.5, 0.5, (count, 1))
        return transitions(x, a, -x[:, 0], np.minimum(x + a, 1.2))

    model, _ = fitted(steps(800), likelihood_rows=40)
    test = steps(1000)
    mean, deviation = (part[0, :, 0].numpy() for part in model.outcome(*at(test))[:2])
    error = (test.next_observation - test.observation)[:, 0] - mean
    assert np.mean(np.square(error / deviation)) < 5  # the likelihood of 40 rows alone leaves 45


# What is learned --------------------------------------------------------------------------------------------------


def test_uncertainty_falls_at_the_data_and_returns_to_the_prior_far_away():
    model, _ = fitted(wave(60, noise=0))
    places = torch.tensor([[0.5], [3.0], [1e4]], dtype=torch.float64)
    inside, near, far = model.uncertainty(places, torch.zeros(3, 1)).tolist()
    assert 0 < inside < 0.02 < near < far
    assert far == pytest.approx(model.outputscale.mean().sqrt().item(), rel=1e-6)
    outcome = model.outcome(places[2:], torch.zeros(1, 1))
    assert_close(outcome.mean[0, 0], model.target_mean)


def test_irrelevant_inputs_get_long_lengthscales():
    model, _ = fitted(wave(200))
    assert (model.lengthscale[:, 1] > 20 * model.lengthscale[:, 0]).all()


def test_targets_that_do_not_vary_are_certain():
    data = wave(30)
    model, _ = fitted(data._replace(reward=np.full(30, 2.5, np.float32)))
    mean, deviation, _ = model.outcome(*at(wave(5, seed=1)))
    assert (mean[..., 1] == 2.5).all()
    assert (deviation[..., 1] == 0).all()
    assert (deviation[..., 0] > 0).all()


def test_a_fit_goes_on_from_the_last_one():
    data = wave(100)
    model, first = fitted(data)
    second = model.fit(data)
    assert second.gradient_steps < first.gradient_steps
    assert second.loss == pytest.approx(first.loss, abs=0.01)


def test_a_fit_recovers_from_hyperparameters_that_explain_nothing():
    data = wave(100)
    model, first = fitted(data)
    model.noise.fill_(1.9)
    model.lengthscale.fill_(9e3)
    model.outputscale.fill_(1e-3)
    assert model.fit(data).loss == pytest.approx(first.loss, abs=0.01)


@pytest.mark.parametrize("limit", [0, 500])
def test_fits_of_the_same_seed_are_equal_and_of_another_differ(limit):
    settings = {"exact_limit": limit, "inducing": 10, "likelihood_rows": 30, "iterations": 8}
    first, second, other = (fitted(wave(60), seed=seed, **settings)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["lengthscale"], other["lengthscale"])


def collected(env_id, steps, seed):
    """Step an environment at random."""
    env = gym.make(env_id)
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    rows = []
    for _ in range(steps):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, reward, following, terminated))
        observation = env.reset()[0] if terminated or truncated else following
    return env, transitions(*zip(*rows, strict=True))


def test_the_arm_is_learned_to_two_millimetres_from_500_steps():
    env, data = collected("mbrl/Arm-v0", 500, seed=0)
    _, test = collected("mbrl/Arm-v0", 2000, seed=1)
    model = GPModel(env.observation_space, env.action_space)
    model.fit(data)
    observation, action = at(test)
    predicted = model.step(model.start(observation, 1), action).observation[0].numpy()
    tip_error = np.linalg.norm((predicted - test.next_observation)[:, 6:], axis=1)  # metres; the target stays
    moved = np.linalg.norm((test.next_observation - test.observation)[:, 6:], axis=1)
    assert moved.mean() > 0.05
    assert tip_error.mean() < 0.0015
    assert np.median(tip_error) < 0.001


# The reward as a function of where a step leads -------------------------------------------------------------------


def walk(count, seed=0, noise=0.0):
    """Draw x' = x + a + noise in the plane, with the reward -|x'|."""
    generator = np.random.default_rng(seed)
    x, a = generator.uniform(-2, 2, (count, 2)), generator.uniform(-1, 1, (count, 2))
    following = x + a + noise * generator.normal(size=(count, 2))
    return transitions(x, a, -np.linalg.norm(following, axis=1), following)


def walked(data, **changes):
    box = spaces.Box(-1.0, 1.0, (2,), np.float32)
    model = GPModel(spaces.Box(-np.inf, np.inf, (2,), np.float32), box, dtype="float64", iterations=40, **changes)
    model.fit(data)
    return model


@pytest.mark.parametrize("limit", [0, 500])
def test_a_kinked_reward_is_learned_better_as_a_function_of_the_next_observation(limit):
    data, test = walk(200), walk(500, seed=1)
    settings = {"kernel": "matern52", "exact_limit": limit, "inducing": 100}
    errors = []
    for inputs in ("current", "next"):
        model = walked(data, reward_inputs=inputs, **settings)
        prediction = model.step(model.start(at(test)[0], 1), at(test)[1])
        errors.append(np.abs(prediction.reward[0].numpy() - test.reward).mean())
        assert_close(prediction.reward[0], model.outcome(*at(test)).mean[0, :, 2])
    assert errors[1] < 0.5 * errors[0]


def test_the_reward_of_the_next_observation_looks_at_nothing_else():
    """Its lengthscales say so; those of the dynamics cover observation and action only."""
    model = walked(walk(200), reward_inputs="next")
    assert model.lengthscale[2, :4].min() > 10 * model.lengthscale[2, 4:].max()
    moved = model.target_mean[2] + model.target_scale[2] * model._reward(torch.zeros(1, 4), torch.ones(1, 2), False)[0]
    assert moved.item() == pytest.approx(-(2**0.5), abs=0.05)


def test_what_is_not_known_of_the_next_observation_widens_the_rewards_deviation():
    """The reward has no noise of its own: far from the kink it is as uncertain as the distance that is left."""
    noise = 0.2
    model = walked(walk(400, noise=noise), reward_inputs="next")
    outcome = model.outcome(torch.tensor([[1.5, 0.0]]).double(), torch.tensor([[0.3, 0.0]]).double())
    assert outcome.deviation[0, 0, 2].item() == pytest.approx(noise, rel=0.2)
    assert outcome.mean[0, 0, 2].item() == pytest.approx(-1.8, abs=0.1)


def test_a_step_pays_for_the_observation_that_its_noise_led_to():
    model = walked(walk(400, noise=0.2), reward_inputs="next")
    observation, action = at(walk(50, seed=1))
    noise = draw(torch.Generator().manual_seed(0), (4, 50), model.noise_sizes)
    prediction = model.step(model.start(observation, 4), action, noise)
    error = prediction.reward + prediction.observation.norm(dim=-1)
    assert error.abs().mean() < 0.03
    assert prediction.reward.std(0).mean() > 0.1


def test_the_slope_of_the_reward_is_that_of_finite_differences():
    model = walked(walk(100), reward_inputs="next")
    inputs, following = torch.rand(5, 4).double(), torch.rand(5, 2).double()
    for j in range(2):
        step = 1e-5 * torch.eye(2).double()[j]
        ahead, behind = (model._reward(inputs, following + sign * step, False)[0] for sign in (1, -1))
        assert_close(model._reward_slope(inputs, following)[:, j], (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-7)


def test_given_dynamics_lead_the_learned_reward():
    model = walked(walk(200), reward_inputs="next", dynamics_fn=lambda x, a: x + a - 1.0)
    prediction = model.step(model.start(torch.ones(1, 2)), torch.full((1, 2), 0.5))
    assert_close(prediction.observation[0], torch.full((1, 2), 0.5).double())
    assert prediction.reward.item() == pytest.approx(-(0.5**0.5), abs=0.05)


def test_rewards_far_from_all_data_are_their_mean_or_their_least():
    data = wave(60)
    for prior, expected in (("mean", data.reward.mean()), ("least", data.reward.min())):
        model, _ = fitted(data, reward_prior=prior)
        far = model.step(model.start(torch.full((1, 1), 1e6).double()), torch.zeros(1, 1))
        assert far.reward.item() == pytest.approx(expected, abs=1e-6)


# Awkward data, sizes, files ---------------------------------------------------------------------------------------


@given(
    count=st.integers(2, 25),
    copies=st.integers(1, 3),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    constant=st.booleans(),
    limit=st.sampled_from([0, 100]),
)
@settings(max_examples=10, deadline=None)
def test_noise_free_repeated_and_constant_data_are_learned(count, copies, scale, constant, limit):
    """No Cholesky factorisation fails, and nothing warns; the data are reproduced."""
    x = scale * np.linspace(-1, 1, count).repeat(copies)[:, None]
    data = transitions(x, np.zeros_like(x), np.full(len(x), 3.0) if constant else x[:, 0] / scale, x + 0.1 * x)
    model, _ = fitted(data, exact_limit=limit, inducing=10, iterations=10)
    prediction = model.step(model.start(torch.as_tensor(data.observation), 1), torch.zeros(len(x), 1))
    assert_allclose(prediction.reward[0], data.reward, atol=0.1)
    assert_allclose(prediction.observation[0], data.next_observation, atol=0.02 * scale)
    assert torch.isfinite(model.uncertainty(*at(data))).all()


def test_thousands_of_noise_free_rows_under_the_stiffest_kernel_are_factorised():
    """The bounds of the hyperparameters leave float64 enough digits."""
    inputs = torch.linspace(-1, 1, 1000, dtype=torch.float64)[:, None]
    low, high = 1e-6, 1e4
    hyper = Hyperparameters(*(torch.tensor(value, dtype=torch.float64) for value in ([1.0], high, low)))
    target = torch.sin(3 * inputs[:, 0])
    weights = condition("rbf", hyper, inputs, target).weights
    mean, variance = predict(hyper, inputs, weights, None, inputs + 1e-3)
    assert_close(mean, torch.sin(3 * (inputs[:, 0] + 1e-3)), rtol=0, atol=1e-4)
    assert (variance > 0).all()
    assert variance.max() < 1e-3


@pytest.mark.parametrize("limit", [0, 500])
def test_rows_are_taken_in_pieces_that_change_nothing(limit, monkeypatch):
    model, _ = fitted(wave(40), exact_limit=limit, inducing=20, iterations=5)
    test = at(wave(50, seed=1))
    whole = model.outcome(*test)
    monkeypatch.setattr(gp_posterior, "ELEMENTS", {"cpu": 7 * 40, "else": 1})
    for one, other in zip(whole, model.outcome(*test), strict=True):
        assert_close(one, other)
    assert model.outcome(*(part[:0] for part in test)).mean.shape == (1, 0, 2)


@pytest.mark.parametrize("limits", [(0, 500), (500, 0)])
def test_a_state_dict_fits_any_model_of_the_same_spaces(limits):
    """Also one that was fitted to other data, with other sizes of everything."""
    first, second = (
        fitted(wave(count), exact_limit=limit, inducing=count // 3, iterations=5)[0]
        for count, limit in zip((40, 70), limits, strict=True)
    )
    fresh = GPModel(LINE, UNIT, dtype="float64")
    test = at(wave(10, seed=2))
    for other in (second, fresh):
        other.load_state_dict(first.state_dict())
        for one, two in zip(first.outcome(*test), other.outcome(*test), strict=True):
            assert torch.equal(one, two)
        assert torch.equal(first.uncertainty(*test), other.uncertainty(*test))


def test_an_exact_models_file_holds_no_matrix_of_all_pairs(tmp_path):
    model, _ = fitted(wave(200), iterations=2)
    model.uncertainty(*at(wave(5)))
    model.save(tmp_path / "gp.zip")
    assert (tmp_path / "gp.zip").stat().st_size < 100_000  # 200 x 200 numbers for two targets are 640,000 bytes


@pytest.mark.parametrize(
    ("name", "wrong", "allowed"),
    [
        ("kernel", "cubic", "rbf, matern52"),
        ("reward_inputs", "both", "current or next"),
        ("reward_prior", "most", "mean or least"),
        ("exact_limit", -1, "at least 0"),
        ("inducing", 0, "at least 1"),
        ("likelihood_rows", 1, "at least 2"),
        ("iterations", 0, "at least 1"),
        ("learning_rate", 0.0, "greater than 0"),
        ("dtype", "float16", "float32"),
    ],
)
def test_settings_out_of_their_range_are_refused(name, wrong, allowed):
    with pytest.raises(InvalidSettingError, match=f"{name}.*{allowed}.*{wrong}"):
        GPModel(PLANE, CHOICES, **{name: wrong})


def test_an_unfitted_model_does_not_predict():
    model = GPModel(LINE, UNIT)
    for ask in (model.uncertainty, model.outcome, lambda o, a: model.step(model.start(o), a)):
        with pytest.raises(InvalidSettingError, match="call fit"):
            ask(torch.zeros(2, 1), torch.zeros(2, 1))


# GPyTorch is optional ---------------------------------------------------------------------------------------------


def test_without_gpytorch_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpytorch", None)
    monkeypatch.delitem(sys.modules, "mbrl_gym.models.gp_training", raising=False)
    with pytest.raises(MissingPackageError, match=r'pip install "mbrl-gym\[gp\]"'):
        GPModel(LINE, UNIT)


def test_gpytorch_is_loaded_by_the_first_model_and_not_before():
    code = (
        "import json, sys, warnings\nimport numpy as np\nfrom gymnasium import spaces\nimport mbrl_gym.models\n"
        "warnings.simplefilter('error')\nbefore = 'gpytorch' in sys.modules\n"
        "box = spaces.Box(-1.0, 1.0, (1,))\nmbrl_gym.models.GPModel(box, box)\n"
        "print(json.dumps([before, 'gpytorch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout.splitlines()[-1]) == [False, True]
