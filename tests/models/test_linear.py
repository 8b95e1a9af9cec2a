"""Bayesian linear regression against least squares, scikit-learn and textbook formulas."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import CHOICES, LINE, ODD, PLANE, UNIT, some_actions, transitions, wild
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.linear_model import BayesianRidge, Ridge
from torch.testing import assert_close

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import LinearModel, Transitions, draw
from mbrl_gym.noise import Noise


def never(observation):
    return torch.zeros(observation.shape[:-1], dtype=torch.bool)


def fitted(data, space=ODD, observation_space=PLANE, **changes):
    """Return a float64 model without a learned termination, which is no part of the regression."""
    model = LinearModel(
        observation_space, space, **{"dtype": "float64", "ridge": 1e-10, "termination_fn": never, **changes}
    )
    model.fit(data)
    return model


def raw(data):
    """Return inputs [T, I] and targets [T, D] in raw units, in float64."""
    before, after = np.float64(data.observation), np.float64(data.next_observation)
    action = np.eye(4)[data.action - 2] if data.action.ndim == 1 else np.float64(data.action)
    return np.concatenate([before, action], 1), np.concatenate([after - before, np.float64(data.reward)[:, None]], 1)


def standardised(data):
    inputs, targets = raw(data)
    return (inputs - inputs.mean(0)) / inputs.std(0), targets


def expected_of(model, data):
    return model.outcome(torch.as_tensor(data.observation), torch.as_tensor(data.action))


def gaussian(count, seed=0, noise=1.0):
    """Draw transitions of a linear law with noise; inputs are independent."""
    generator = np.random.default_rng(seed)
    x, a = generator.normal(size=(count, 2)), generator.uniform(-1, 1, (count, 1))
    inputs = np.concatenate([x, a], 1)
    targets = inputs @ np.array([[0.1, -0.2, 1.0], [0.3, 0.0, -1.0], [1.0, 2.0, 0.5]]) + [1.0, 0.0, 3.0]
    targets += noise * generator.normal(size=targets.shape)
    data = transitions(x, a, targets[:, 2], x)
    return data._replace(
        observation=x, action=a, reward=targets[:, 2], next_observation=x + targets[:, :2]
    )  # in float64


# The required figure ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_drift_is_exact_after_ten_transitions(seed):
    env = gym.make("mbrl/Drift-v0", noise_std=0, dtype="float64")
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    rows = []
    for _ in range(60):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, reward, following, terminated, truncated, 0))
        observation = following
    data = Transitions(*(np.array(column) for column in zip(*rows, strict=True)))
    model = LinearModel(env.observation_space, env.action_space, dtype="float64")
    model.fit(data.rows(slice(10)))
    later = data.rows(slice(10, None))
    state = model.start(torch.as_tensor(later.observation))
    assert_allclose(
        model.step(state, torch.as_tensor(later.action)).observation[0], later.next_observation, atol=1e-6, rtol=0
    )
    noise = draw(torch.Generator().manual_seed(0), state.shape[:2], model.noise_sizes)
    noisy = model.step(state, torch.as_tensor(later.action), noise)  # what it takes for noise is as small
    assert_allclose(noisy.observation[0], later.next_observation, atol=2e-6, rtol=0)


# Least squares and ridge regression --------------------------------------------------------------------------------


def test_without_a_ridge_it_is_least_squares():
    data = wild(ODD, 60)
    inputs, targets = raw(data)
    design = np.concatenate([inputs, np.ones((60, 1))], 1)
    solution, squares, rank, _ = np.linalg.lstsq(design, targets, rcond=None)
    model = fitted(data)
    assert rank == 6
    assert_allclose(model.weights, solution[:-1], rtol=1e-6)
    assert_allclose(model.intercept, solution[-1], rtol=1e-6)
    assert_allclose(model.residual_deviation, np.sqrt(squares / (60 - rank)), rtol=1e-6)


def test_columns_that_depend_on_each_other_predict_like_the_shortest_least_squares_solution():
    data = wild(CHOICES, 60)  # the four choices and the intercept
    inputs, targets = raw(data)
    design = np.concatenate([inputs, np.ones((60, 1))], 1)
    solution, _, rank, _ = np.linalg.lstsq(design, targets, rcond=None)
    outcome = expected_of(fitted(data, CHOICES), data)
    assert rank == 6
    assert_allclose(outcome.mean[0], design @ solution, rtol=1e-6, atol=1e-8)
    residual = design @ solution - targets
    assert_allclose(
        fitted(data, CHOICES).residual_deviation, np.sqrt(np.square(residual).sum(0) / (60 - rank)), rtol=1e-6
    )


@pytest.mark.parametrize("ridge", [0.01, 3.0, 500.0])
def test_it_is_ridge_regression_on_standardised_inputs(ridge):
    data = wild(ODD, 60)
    inputs, targets = standardised(data)
    outcome = expected_of(fitted(data, ridge=ridge), data)
    assert_allclose(outcome.mean[0], Ridge(alpha=ridge).fit(inputs, targets).predict(inputs), rtol=1e-5)


@pytest.mark.parametrize("ridge", [0.01, 3.0, 500.0])
def test_the_predictive_variance_is_the_textbook_formula(ridge):
    """sigma^2 (1 + 1/n + x^T (X^T X + ridge I)^-1 x), with sigma^2 = RSS / (n - 1 - trace of the hat matrix)."""
    data = wild(ODD, 60)
    inputs, targets = standardised(data)
    inverse = np.linalg.inv(inputs.T @ inputs + ridge * np.eye(5))
    hat = inputs @ inverse @ inputs.T
    centred = targets - targets.mean(0)
    sigma = np.sqrt(np.square(centred - hat @ centred).sum(0) / (59 - np.trace(hat)))
    leverage = 1 / 60 + np.diagonal(hat)
    model = fitted(data, ridge=ridge)
    assert_allclose(model.residual_deviation, sigma, rtol=1e-5)
    assert_allclose(expected_of(model, data).deviation[0], np.sqrt(1 + leverage)[:, None] * sigma, rtol=1e-5)
    relative = sigma / targets.std(0)
    assert_allclose(
        model.uncertainty(torch.as_tensor(data.observation), torch.as_tensor(data.action)),
        np.sqrt(leverage * np.square(relative).mean()),
        rtol=1e-5,
    )


def test_it_agrees_with_scikit_learns_bayesian_ridge():
    data = gaussian(40)
    inputs, targets = standardised(data)
    for target in range(3):
        theirs = BayesianRidge(tol=1e-12, max_iter=1000).fit(inputs, targets[:, target])
        model = fitted(data, UNIT, ridge=theirs.lambda_ / theirs.alpha_)
        inputs_scale = raw(data)[0].std(0)
        assert_allclose(model.weights[:, target].numpy() * inputs_scale, theirs.coef_, rtol=1e-6)
        freedom = 40 - np.trace(theirs.alpha_ * theirs.sigma_ @ inputs.T @ inputs)  # they leave out the intercept's
        variance = freedom / (freedom - 1) / theirs.alpha_
        assert_allclose(model.residual_deviation[target] ** 2, variance, rtol=1e-3)
        leverage = np.einsum("ti,ij,tj->t", inputs, theirs.alpha_ * theirs.sigma_, inputs) + 1 / 40
        deviation = expected_of(model, data).deviation[0, :, target]
        assert_allclose((deviation / model.residual_deviation[target]) ** 2 - 1, leverage, rtol=1e-6)


def test_the_default_ridge_of_each_target_is_its_own_residual_variance():
    data = gaussian(40, noise=0.3)
    default = fitted(data, UNIT, ridge=None)
    relative = default.residual_deviation.numpy() / raw(data)[1].std(0)
    assert len({round(r, 3) for r in relative}) == 3
    for target in range(3):
        given_ridge = fitted(data, UNIT, ridge=float(relative[target] ** 2))
        assert_close(default.weights[:, target], given_ridge.weights[:, target])
        assert_close(default.residual_deviation[target], given_ridge.residual_deviation[target])


def test_intervals_cover_as_often_as_they_say_even_after_few_rows():
    """Without a ridge, (y - mean) / deviation follows Student's t with n - 4 degrees of freedom."""
    scores = []
    for seed in range(200):
        data = gaussian(7, seed)
        new = gaussian(1, 10_000 + seed)
        outcome = expected_of(fitted(data, UNIT), new)
        scores.append((raw(new)[1] - outcome.mean[0].numpy()) / outcome.deviation[0].numpy())
    sizes = np.abs(np.concatenate(scores).ravel())
    assert abs((sizes < stats.t(7 - 4).ppf(0.9)).mean() - 0.8) < 0.05  # three standard errors
    assert (sizes < stats.norm.ppf(0.9)).mean() < 0.75  # the law of known variances would be too narrow


# Updates ------------------------------------------------------------------------------------------------------------


@given(cuts=st.lists(st.integers(2, 79), max_size=5), shift=st.sampled_from([0.0, 1e4]))
@settings(max_examples=25, deadline=None)
def test_updates_equal_one_fit(cuts, shift):
    data = wild(ODD, 80)
    data = data._replace(
        observation=data.observation.astype(float) + shift, next_observation=data.next_observation.astype(float) + shift
    )
    model = LinearModel(PLANE, ODD, dtype="float64", termination_fn=never)
    for part in np.split(np.arange(80), sorted(cuts)):
        if len(part):
            model.update(data.rows(part))
    whole = fitted(data, ridge=None)
    assert int(model.moments.count) == 80
    for name in ("weights", "intercept", "residual_deviation"):
        assert_close(getattr(model, name), getattr(whole, name), rtol=1e-7, atol=1e-9)
    observation, action = torch.as_tensor(data.observation), torch.as_tensor(data.action)
    assert_close(model.uncertainty(observation, action), whole.uncertainty(observation, action), rtol=1e-7, atol=0)


def test_a_fit_forgets_what_came_before():
    model = fitted(wild(ODD, 50, seed=1))
    model.fit(wild(ODD, 60))
    assert torch.equal(model.weights, fitted(wild(ODD, 60)).weights)


def test_what_is_kept_does_not_grow_with_the_rows():
    model = fitted(wild(ODD, 60))
    before = {name: value.shape for name, value in model.state_dict().items()}
    model.update(wild(ODD, 4000, seed=1))
    assert {name: value.shape for name, value in model.state_dict().items()} == before


def test_one_row_updates_a_fitted_model_but_makes_none():
    with pytest.raises(InvalidSettingError, match="at least 2 transitions, but 1"):
        LinearModel(PLANE, ODD).update(wild(ODD, 1))
    model = fitted(wild(ODD, 2))
    report = model.update(wild(ODD, 1, seed=1))
    assert report.transitions == 1
    assert int(model.moments.count) == 3


def test_refused_transitions_leave_the_model_as_it_was():
    data = wild(ODD, 20)
    model = fitted(data)
    before = model.weights
    bad = data._replace(reward=np.full(20, np.nan))
    for learn in (model.fit, model.update):
        with pytest.raises(InvalidSettingError, match="finite"):
            learn(bad)
    assert torch.equal(model.weights, before)


# Awkward data -------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-6, 6), min_size=3, max_size=3), st.floats(-1e5, 1e5))
@settings(max_examples=25, deadline=None)
def test_units_and_origin_of_observations_do_not_matter(exponents, origin):
    x_unit, y_unit, reward_unit = (10.0**exponent for exponent in exponents)
    units, offset = np.array([x_unit, y_unit]), np.array([origin, 0.0])
    data = gaussian(30)
    changed = data._replace(
        observation=(data.observation + offset) * units,
        next_observation=(data.next_observation + offset) * units,
        reward=data.reward * reward_unit,
    )
    plain, other = (
        expected_of(fitted(data, UNIT, ridge=0.5), data),
        expected_of(fitted(changed, UNIT, ridge=0.5), changed),
    )
    columns = np.array([x_unit, y_unit, reward_unit])
    assert_allclose(other.mean[0].numpy() / columns, plain.mean[0], atol=1e-6)
    assert_allclose(other.deviation[0].numpy() / columns, plain.deviation[0], rtol=1e-6)


def test_float32_predicts_small_changes_of_large_observations():
    generator = np.random.default_rng(0)
    x, a = 1e4 + generator.normal(size=(200, 1)), generator.uniform(-1, 1, (200, 1))
    data = Transitions(x, a, x[:, 0], x + 0.5 * a, *[np.zeros(200, bool)] * 2, np.zeros(200, int))
    model = fitted(data, UNIT, LINE, dtype="float32", ridge=None)
    outcome = expected_of(model, data)
    assert outcome.mean.dtype == torch.float32
    assert_allclose(outcome.mean[0, :, 0], 0.5 * a[:, 0], atol=1e-3)  # an input has a resolution of 1e-3


def test_columns_that_never_vary_get_no_weight_and_make_the_model_say_so():
    data = gaussian(50, noise=0.1)
    still = data.observation.copy()
    still[:, 1] = 3.7
    model = fitted(
        data._replace(observation=still, next_observation=still + data.next_observation - data.observation), UNIT
    )
    assert model.weights[1].abs().max() < 1e-14  # how the mean of equal numbers is rounded depends on the processor
    place, action = torch.as_tensor(still[:1]), torch.as_tensor(data.action[:1])
    elsewhere = place + torch.tensor([0.0, 1.0])
    known, unknown = model.uncertainty(place, action), model.uncertainty(elsewhere, action)
    assert unknown > 1000 * known
    default = fitted(data._replace(observation=still), UNIT, ridge=None)
    # By default the weight's prior has a standard deviation of 1, and the column takes its unit as it is.
    assert 0.5 < default.uncertainty(elsewhere, action) < 2


def test_nothing_but_a_constant_world():
    count = 10
    data = transitions(np.full((count, 1), 2.0), np.zeros((count, 1)), np.ones(count), np.full((count, 1), 2.0))
    model = fitted(data, UNIT, LINE, ridge=None)
    place, action = torch.tensor([[2.0], [5.0]]), torch.tensor([[0.0], [1.0]])
    outcome = model.outcome(place, action)
    assert_allclose(outcome.mean[0], [[0.0, 1.0]] * 2)
    assert (outcome.deviation == 0).all()
    uncertainty = model.uncertainty(place, action)
    assert 0 < uncertainty[0] < uncertainty[1]


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_fewer_rows_than_columns_fill_up_the_residual_variance(rows):
    """With nothing to tell noise from law, at least half of each target's own variance counts as noise."""
    data = gaussian(60)
    few = data.rows(slice(rows))
    model = fitted(few, UNIT, ridge=None)
    spread = raw(few)[1].std(0)
    assert (model.residual_deviation.numpy() > 0.5 * spread).all()
    fixed = fitted(few, UNIT)
    assert_allclose(fixed.residual_deviation, spread, rtol=1e-3)
    new = data.rows(slice(30, 60))
    state = model.start(torch.as_tensor(new.observation), 3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):  # however far a roll-out goes, it stays finite
        prediction = model.step(state, torch.as_tensor(new.action), draw(generator, (3, 30), model.noise_sizes))
        state = prediction.state
    assert prediction.observation.isfinite().all()
    error = np.abs(expected_of(model, new).mean[0].numpy() - raw(new)[1])
    assert (error < 5 * expected_of(model, new).deviation[0].numpy()).mean() > 0.9


def test_ignorance_falls_with_the_root_of_the_rows_and_noise_does_not():
    observation, action = torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    few, many = fitted(gaussian(100), UNIT), fitted(gaussian(10_000), UNIT)
    assert_allclose(few.uncertainty(observation, action) / many.uncertainty(observation, action), 10, rtol=0.15)
    assert_allclose(many.residual_deviation, 1, rtol=0.05)
    assert_allclose(many.outcome(observation, action).deviation[0, 0], many.residual_deviation, rtol=1e-3)


# Noise and termination ----------------------------------------------------------------------------------------------


def test_noise_is_drawn_with_the_residuals_covariance():
    generator = np.random.default_rng(0)
    x, a = generator.normal(size=(400, 2)), generator.uniform(-1, 1, (400, 1))
    mix = np.array([[1.0, 2.0], [0.0, 0.1]])  # of the two columns' noise: nearly the same
    data = transitions(x, a, x[:, 0], x)._replace(
        observation=x, action=a, next_observation=x + a + generator.normal(size=(400, 2)) @ mix
    )
    model = fitted(data, UNIT)
    samples = 20_000
    normal = torch.randn((samples, 1, 2), generator=torch.Generator().manual_seed(0))
    state = model.start(torch.zeros(1, 2), samples)
    prediction = model.step(state, torch.zeros(1, 1), Noise(normal, normal[..., :0]))
    drawn = np.cov(prediction.observation[:, 0].numpy().T)
    assert_allclose(drawn, mix.T @ mix, rtol=0.2)
    assert_allclose(
        np.sqrt(np.diagonal(drawn)), model.outcome(torch.zeros(1, 2), torch.zeros(1, 1)).deviation[0, 0, :2], rtol=0.03
    )


def test_noise_grows_where_the_model_knows_little():
    model = fitted(gaussian(8), UNIT)
    place = torch.tensor([[0.0, 0.0], [30.0, -20.0]], dtype=torch.float64)
    action, normal = torch.zeros(2, 1), torch.randn((5000, 1, 2), generator=torch.Generator().manual_seed(0))
    drawn = model.step(model.start(place, 5000), action, Noise(normal, normal[..., :0])).observation.std(0)
    deviation = model.outcome(place, action).deviation[0, :, :2]
    assert_allclose(drawn, deviation, rtol=0.05)
    assert (deviation[1] > 5 * deviation[0]).all()


def test_equal_columns_stay_equal_under_noise():
    generator = np.random.default_rng(0)
    x, a = generator.normal(size=(40, 1)).repeat(2, 1), generator.uniform(-1, 1, (40, 1))
    following = x + a + generator.normal(size=(40, 1))
    model = fitted(transitions(x, a, x[:, 0], following), UNIT, ridge=None)
    state = model.start(torch.zeros(5, 2), 3)
    for step in range(20):
        noise = draw(torch.Generator().manual_seed(step), (3, 5), model.noise_sizes)
        state = model.step(state, torch.zeros(5, 1), noise).state
    assert (state - state[..., :1]).abs().max() < 1e-4
    assert 0.1 < state.std() < 100


def ending(count, seed=0, limit=1.0):
    """Draw a walk that ends beyond the limit."""
    generator = np.random.default_rng(seed)
    x, a = generator.uniform(-1, 1, (count, 1)), generator.uniform(-1, 1, (count, 1))
    following = x + 0.5 * a
    return transitions(x, a, x[:, 0], following, np.abs(following[:, 0]) > limit)


def test_an_update_learns_ends_and_later_ones_without_ends_do_not_unlearn_them():
    model = LinearModel(LINE, UNIT)
    model.fit(ending(100, limit=9.0))
    assert not model.terminates
    for seed in range(1, 4):
        model.update(ending(100, seed))
    assert model.terminates
    weights = [layer.weight.detach().clone() for layer in model.termination.layers]
    model.update(ending(50, 5, limit=9.0))
    model.update(ending(1, 6, limit=9.0))
    assert all(torch.equal(layer.weight, old) for layer, old in zip(model.termination.layers, weights, strict=True))
    place = torch.tensor([[0.0], [0.8], [1.4], [-1.4]])
    prediction = model.step(model.start(place), torch.zeros(4, 1))
    assert prediction.terminated.tolist() == [[False, False, True, True]]


def test_the_rows_kept_for_the_termination_are_bounded(monkeypatch):
    monkeypatch.setattr("mbrl_gym.models.linear.KEPT", 30)
    model = LinearModel(LINE, UNIT)
    model.fit(ending(100))
    model.update(ending(400, 1))
    assert len(model.ends) == len(model.others) == 30
    data = ending(400, 1)
    assert_allclose(model.ends, data.next_observation[data.terminated][-30:])


def test_probabilities_of_choices_sum_to_one():
    data = wild(CHOICES, 60, observation_space=CHOICES)
    model = LinearModel(CHOICES, CHOICES, ridge=0.1)
    model.fit(data)
    mean = expected_of(model, data).mean
    assert_close(mean[..., :4].sum(-1), torch.ones(1, 60))


def test_gradients_reach_the_actions():
    model = fitted(gaussian(50), UNIT).to("cpu")  # what moves computes its solution anew
    with torch.inference_mode():
        model.uncertainty(torch.zeros(1, 2), torch.zeros(1, 1))
    action = torch.zeros((1, 1), dtype=torch.float64, requires_grad=True)
    model.step(model.start(torch.zeros(1, 2)), action).observation.sum().backward()
    assert_close(action.grad[0], model.weights[2, :2].sum()[None])


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan"), float("inf")])
def test_a_ridge_out_of_range_is_refused(ridge):
    with pytest.raises(InvalidSettingError, match="ridge must be None, or greater than 0"):
        LinearModel(PLANE, ODD, ridge=ridge)


def test_it_does_not_predict_before_a_fit():
    model = LinearModel(PLANE, ODD)
    action = torch.as_tensor(some_actions(ODD, 1))
    for use in (lambda: model.uncertainty(torch.zeros(1, 2), action), lambda: model.weights):
        with pytest.raises(InvalidSettingError, match="not fitted yet"):
            use()
