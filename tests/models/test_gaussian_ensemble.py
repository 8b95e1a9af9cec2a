"""The ensemble's parts: prediction, loss, particles, bootstrap, hold-out, early stopping, awkward data."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import CHOICES, LINE, ODD, PLANE, SMALL, UNIT, linear, transitions, wild
from numpy.testing import assert_allclose
from scipy.special import expit
from torch.testing import assert_close

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import GaussianEnsemble, draw
from mbrl_gym.models.gaussian import bound_log_variance, gaussian_loss
from mbrl_gym.noise import Noise


def fitted(space, data, **changes):
    """Return an ensemble after a short fit, and its report."""
    observation_space = LINE if data.observation.shape[1] == 1 else PLANE
    model = GaussianEnsemble(observation_space, space, **{**SMALL, **changes})
    return model, model.fit(data)


def encoded_by_hand(space, action):
    if space is CHOICES:
        return np.eye(4)[action - 2]
    low, high = np.float64(space.low), np.float64(space.high)
    return 2 * (np.float64(action) - low) / (high - low) - 1


def softplus(x):
    return np.logaddexp(0.0, x)


def forward_by_hand(model, member, observation, action):
    """Return mean and standard deviation of one member: float64, normalising instead of folding."""

    def value(parameter):
        return parameter.detach().double().numpy()

    inputs = np.concatenate([np.float64(observation), encoded_by_hand(model.action_space, action)], 1)
    inputs = (inputs - value(model.input_mean)) / value(model.input_scale)
    hidden, last = inputs, len(model.weights) - 1
    for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
        hidden = hidden @ value(weight)[member] + value(bias)[member]
        if layer < last:
            hidden = hidden * expit(hidden)  # SiLU
    size = model.outputs
    mean = hidden[:, :size] + inputs @ value(model.linear)[member]
    # A bound is one for all members [D], or one a member [E, 1, D].
    low, high = (
        value(b)[member].reshape(-1) if b.dim() == 3 else value(b)
        for b in (model.min_log_variance, model.max_log_variance)
    )
    log_variance = high - softplus(high - hidden[:, size : 2 * size])
    log_variance = low + softplus(log_variance - low)
    scale = value(model.target_scale)
    return mean * scale + value(model.target_mean), np.exp(log_variance / 2) * scale


def termination_by_hand(model, following):
    """Return the logit of termination at next observations, in float64."""
    network = model.termination
    hidden = (following - network.mean.double().numpy()) / network.scale.double().numpy()
    for layer in network.layers:
        weight, bias = (part.detach().double().numpy() for part in (layer.weight, layer.bias))
        hidden = hidden @ weight.T + bias
        if layer is not network.layers[-1]:
            hidden = hidden * expit(hidden)
    return hidden[:, 0]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("space", [UNIT, ODD, CHOICES], ids=["UNIT", "ODD", "CHOICES"])
def test_folded_prediction_is_the_plain_forward_pass(space, terminal):
    model, report = fitted(space, wild(space, 150, terminal=terminal), elites=2)
    data = wild(space, 50, seed=1)
    observation, action = torch.as_tensor(data.observation), torch.as_tensor(data.action)
    mean, deviation, probability = (part.numpy() for part in model.outcome(observation, action))
    plain = model.step(model.start(observation, 2), action)
    noise = draw(torch.Generator().manual_seed(0), (2, 50), model.noise_sizes)
    noisy = model.step(model.start(observation, 2), action, noise)
    scale = model.target_scale.numpy()
    for elite, member in enumerate(report.elites):
        mean_0, deviation_0 = forward_by_hand(model, member, data.observation, data.action)
        logit_0 = termination_by_hand(model, data.observation + mean_0[:, :2])
        log_odds = float(model.termination.log_odds)
        assert_allclose(probability[elite], terminal * expit(logit_0 + log_odds), atol=2e-3)
        bonus, end = float(model.end_bonus), probability[elite]
        assert bool(bonus) == terminal
        mean_0[:, 2] += bonus * end
        deviation_0[:, 2] = np.hypot(deviation_0[:, 2], bonus * np.sqrt(end * (1 - end)))
        assert_allclose(mean[elite] / scale, mean_0 / scale, atol=2e-4)
        assert_allclose(deviation[elite], deviation_0, rtol=5e-4)
        change = (plain.observation[elite] - observation).numpy()
        assert_allclose(change / scale[:2], mean_0[:, :2] / scale[:2], atol=2e-4)
        assert_allclose(plain.reward[elite], mean_0[:, 2], atol=2e-4 * scale[2])
        change = (noisy.observation[elite] - plain.observation[elite]).numpy()
        assert_allclose(change / scale[:2], noise.normal[elite].numpy() * deviation_0[:, :2] / scale[:2], atol=5e-4)
        noisy_end = terminal * expit(termination_by_hand(model, noisy.observation[elite].double().numpy()) + log_odds)
        expected = mean_0[:, 2] + bonus * (noisy_end - end)
        assert_allclose(noisy.reward[elite], expected, atol=2e-4 * scale[2] + 2e-3 * abs(bonus))
        sure = np.abs(logit_0) > 1e-2
        assert_allclose(plain.terminated[elite].numpy()[sure], terminal & (logit_0 > 0)[sure])


def test_loading_weights_changes_the_prediction():
    data = wild(ODD, 40)
    first, second = (fitted(ODD, data, seed=seed)[0] for seed in (0, 1))
    at = torch.as_tensor(data.observation), torch.as_tensor(data.action)
    before = second.outcome(*at)[0]
    second.load_state_dict(first.state_dict())
    assert not torch.equal(before, first.outcome(*at)[0])
    assert torch.equal(second.outcome(*at)[0], first.outcome(*at)[0])


def test_loss_is_the_gaussian_likelihood_up_to_its_constant():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance, target = torch.randn((3, 4, 5, 2), generator=generator, dtype=torch.float64)
    likelihood = torch.distributions.Normal(mean, torch.exp(log_variance / 2)).log_prob(target)
    assert_close(gaussian_loss(mean, log_variance, target), -2 * likelihood - math.log(2 * math.pi))


def test_gradient_of_the_loss_by_finite_differences():
    generator = torch.Generator().manual_seed(1)
    mean, log_variance, target = torch.randn((3, 6), generator=generator, dtype=torch.float64)
    arguments = mean.requires_grad_(), log_variance.requires_grad_()
    gradients = torch.autograd.grad(gaussian_loss(*arguments, target).sum(), arguments)
    step = 1e-5
    for which, gradient in enumerate(gradients):
        moved = [[a.detach().clone() for a in arguments] for _ in range(2)]
        moved[0][which] += step
        moved[1][which] -= step
        difference = (gaussian_loss(*moved[0], target) - gaussian_loss(*moved[1], target)) / (2 * step)
        assert_close(gradient, difference, rtol=1e-7, atol=1e-7)
    assert torch.autograd.gradcheck(lambda m, v: bound_log_variance(m, v, v + 3), arguments)


def test_loss_is_least_at_the_true_mean_and_variance():
    target = torch.tensor([-1.0, 3.0])  # mean 1, variance 4
    losses = {
        (m, v): gaussian_loss(torch.tensor(m), torch.tensor(v).log(), target).mean().item()
        for m in (0.9, 1.0, 1.1)
        for v in (3.6, 4.0, 4.4)
    }
    assert min(losses, key=losses.get) == (1.0, 4.0)


@settings(deadline=None, max_examples=100)
@given(
    raw=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20),
    low=st.floats(-15.0, 5.0),
    width=st.floats(0.5, 20.0),
)
def test_bounded_log_variance_stays_within_its_bounds_and_is_monotone(raw, low, width):
    raw = torch.tensor(sorted(raw), dtype=torch.float64)
    low, high = torch.tensor(low, dtype=torch.float64), torch.tensor(low + width, dtype=torch.float64)
    bounded = bound_log_variance(raw, low, high)
    assert (bounded >= low - 1e-12).all()
    assert (bounded <= high + math.log1p(math.exp(-width)) + 1e-12).all()  # soft from below: 2e-6 at a width of 13
    assert (bounded.diff() >= -1e-12).all()


def test_bounded_log_variance_leaves_the_middle_alone():
    raw = torch.tensor([-40.0, -5.0, 0.0, 5.0, 40.0])
    bounded = bound_log_variance(raw, torch.tensor(-20.0), torch.tensor(20.0))
    assert_close(bounded, torch.tensor([-20.0, -5.0, 0.0, 5.0, 20.0]), rtol=0, atol=1e-5)
    inner = bound_log_variance(torch.linspace(-12.0, 1.0, 50), torch.tensor(-12.0), torch.tensor(1.0))
    assert (inner.diff() > 0).all()


@pytest.mark.parametrize("per_member", [1, 4])
def test_particles_keep_their_member(per_member):
    data = wild(ODD, 60)
    model, _ = fitted(ODD, data, members=5, elites=3)
    start = torch.as_tensor(data.observation[:4])
    plans = torch.as_tensor(data.action[10:30]).view(5, 4, 3)
    # Each elite alone, by its own means, from the start to the end.
    alone = start.expand(3, -1, -1).clone()
    state = model.start(start, 3 * per_member)
    for action in plans:
        means = torch.stack([model.outcome(alone[elite], action)[0][elite] for elite in range(3)])
        alone = alone + means[..., :2]
        prediction = model.step(state, action)
        state = prediction.state
        for particle in range(3 * per_member):
            assert_close(prediction.observation[particle], alone[particle // per_member], rtol=1e-5, atol=1e-4)
            assert_close(prediction.reward[particle], means[particle // per_member, :, 2], rtol=1e-5, atol=1e-4)
    apart = [(alone[i] - alone[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) > 0.01  # a mixed-up member would show


def test_noise_stays_with_its_particle():
    data = wild(ODD, 60)
    model, _ = fitted(ODD, data, members=2)
    at, action = torch.as_tensor(data.observation[:4]), torch.as_tensor(data.action[:4])
    normal = torch.zeros(6, 4, 2)
    normal[4, 2, 1] = 3.0
    plain = model.step(model.start(at, 6), action, Noise(torch.zeros(6, 4, 2), torch.zeros(6, 4, 0)))
    noisy = model.step(model.start(at, 6), action, Noise(normal, torch.zeros(6, 4, 0)))
    moved = (noisy.observation != plain.observation).nonzero().tolist()
    assert moved == [[4, 2, 1]]
    deviation = model.outcome(at, action)[1][1, 2, 1]
    assert_close(noisy.observation[4, 2, 1] - plain.observation[4, 2, 1], 3 * deviation, rtol=1e-2, atol=1e-5)


def numbered(count):
    """Return transitions that carry their row number in the reward."""
    return wild(UNIT, count)._replace(reward=np.arange(count, dtype=np.float32))


def training_rows(count, monkeypatch, **changes):
    """Return the row numbers of the training data and of the held-out data `[E, *]` of one fit."""
    caught = {}
    train = GaussianEnsemble._train

    def spy(model, data, check):
        for name, part in (("train", data), ("check", check)):
            number = part.targets[..., -1] * model.target_scale[-1] + model.target_mean[-1]
            assert (number - number.round()).abs().max() < 0.01
            caught[name] = number.round().int().numpy()
        return train(model, data, check)

    with monkeypatch.context() as patch:
        patch.setattr(GaussianEnsemble, "_train", spy)
        fitted(UNIT, numbered(count), max_epochs=1, **changes)
    return caught["train"], caught["check"]


def test_members_train_on_bootstrap_samples_of_the_rows_that_are_not_held_out(monkeypatch):
    train, check = training_rows(400, monkeypatch, members=3, holdout=0.2)
    held_out = set(check[0].tolist())
    assert all(set(rows.tolist()) == held_out for rows in check)
    assert 50 <= len(held_out) == check.shape[1] <= 110
    assert train.shape == (3, 400 - len(held_out))
    for rows in train:
        assert not held_out & set(rows.tolist())
        # Drawn with replacement, a sample holds 1 - 1/e = 63 % of the rows.
        assert 0.56 < len(set(rows.tolist())) / len(rows) < 0.70
    assert len({tuple(sorted(rows.tolist())) for rows in train}) == 3


def test_a_single_member_trains_on_every_row_that_is_not_held_out_once(monkeypatch):
    train, check = training_rows(50, monkeypatch, members=1)
    assert sorted([*train[0].tolist(), *check[0].tolist()]) == list(range(50))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_row_that_was_held_out_once_is_never_trained_on(monkeypatch, seed):
    counts = [60, 61, 100, 250]
    held = [set(training_rows(n, monkeypatch, members=1, seed=seed)[1][0].tolist()) for n in counts]
    for (small, first), (_, second) in pairwise(zip(counts, held, strict=True)):
        assert {row for row in second if row < small} == first


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_row_that_was_held_out_once_is_never_trained_on_in_tiny_data_either(monkeypatch, seed):
    counts = [2, 3, 5, 8, 12, 30]
    held = [set(training_rows(n, monkeypatch, members=1, seed=seed)[1][0].tolist()) for n in counts]
    for first, second in pairwise(held):
        assert first <= second


def holdout_loss_by_hand(model, data, rows, member):
    """Return one member's mean loss on some rows, from its public prediction in raw units."""
    mean, deviation = forward_by_hand(model, member, data.observation[rows], data.action[rows])
    target = np.concatenate([data.next_observation - data.observation, data.reward[:, None]], 1)[rows]
    scale = model.target_scale.double().numpy()
    return (((target - mean) / deviation) ** 2 + 2 * np.log(deviation / scale)).mean()


@pytest.mark.parametrize("reward_noise", [0.5, 0.0])
def test_early_stopping_restores_each_members_best_weights(monkeypatch, reward_noise):
    generator = np.random.default_rng(0)
    x, a = generator.uniform(-2, 2, (200, 1)), generator.uniform(-1, 1, (200, 1))
    noise = generator.normal(size=(200, 2))
    change = np.sin(2 * x) + (0.02 + 0.2 * np.abs(x)) * noise[:, 1:]
    data = transitions(x, a, x[:, 0] + reward_noise * noise[:, 0], x + change)
    held_out = {}
    train = GaussianEnsemble._train

    def spy(model, sample, check):
        x = check.inputs[0, :, 0] * model.input_scale[0] + model.input_mean[0]
        held_out["rows"] = [int(np.abs(data.observation[:, 0] - value.item()).argmin()) for value in x]
        return train(model, sample, check)

    monkeypatch.setattr(GaussianEnsemble, "_train", spy)
    # A large network on 200 noisy rows overfits soon.
    settings = {"members": 3, "hidden": (64, 64), "max_epochs": 200, "patience": 10, "learning_rate": 0.005}
    model, report = fitted(UNIT, data, **settings)
    assert report.epochs < 200
    for member in range(3):
        by_hand = holdout_loss_by_hand(model, data, held_out["rows"], member)
        assert_allclose(by_hand, report.holdout_loss[member], rtol=0, atol=2e-3)


def test_training_longer_never_makes_the_holdout_loss_worse():
    data = wild(ODD, 60)
    losses = [fitted(ODD, data, max_epochs=n, patience=n)[1].holdout_loss for n in (1, 5, 25)]
    for shorter, longer in pairwise(losses):
        assert all(b <= a + 1e-6 for a, b in zip(shorter, longer, strict=True))
    assert losses[0] != losses[-1]


def test_patience_bounds_the_epochs_without_progress():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(4, 80))  # nothing to learn
    data = transitions(noise[0][:, None], np.tanh(noise[1])[:, None], noise[2], (noise[0] + noise[3])[:, None])
    epochs = [fitted(UNIT, data, max_epochs=200, patience=n)[1].epochs for n in (3, 12)]
    assert 3 <= epochs[0] < epochs[1] < 200
    assert epochs[1] >= 12
    assert fitted(UNIT, data, max_epochs=4, patience=50)[1].epochs == 4


def test_the_members_with_the_least_holdout_loss_predict():
    for seed in range(4):
        model, report = fitted(ODD, wild(ODD, 80), members=5, elites=2, seed=seed)
        assert len(report.holdout_loss) == 5
        assert report.elites == tuple(sorted(np.argsort(report.holdout_loss)[:2].tolist()))
        assert model.particle_unit == 2


@pytest.mark.parametrize("members", [[0, 2], [3], [3, 1, 0]])
def test_some_members_alone_predict_what_they_do_among_all(members):
    model, _ = fitted(UNIT, wild(UNIT, 60))
    alone, data = model.subset(members), wild(UNIT, 20)
    observation, action = torch.as_tensor(data.observation), torch.as_tensor(data.action)
    noise = draw(torch.Generator().manual_seed(0), (4, 20), model.noise_sizes)
    expected = model.step(model.start(observation, 4), action, noise)
    chosen = Noise(noise.normal[members], noise.uniform[members])
    assert alone.particle_unit == len(members)
    actual = alone.step(alone.start(observation), action, chosen)
    for mine, wanted in zip(actual, expected, strict=True):
        assert_close(mine, wanted[members])
    assert model.particle_unit == 4  # the whole stays as it is
    again = model.step(model.start(observation, 4), action, noise)
    assert_close(again.observation, expected.observation, rtol=0, atol=0)


def test_members_asked_for_after_another_fit_know_it():
    model, _ = fitted(UNIT, linear(40))
    before = model.subset([1])
    model.fit(linear(80, seed=1))
    after, observation, action = model.subset([1]), torch.ones(3, 1), torch.ones(3, 1)
    whole = model.step(model.start(observation, 4), action).observation[1]
    assert_close(after.step(after.start(observation), action).observation[0], whole)
    assert before.weights is after.weights  # they share the memory


@pytest.mark.parametrize("members", [[], [1, 1], [4], [-1]])
def test_members_that_do_not_exist_are_refused(members):
    model, _ = fitted(UNIT, linear(40))
    with pytest.raises(InvalidSettingError, match="members must be different numbers from 0 to 3"):
        model.subset(members)


@pytest.mark.parametrize("space", [ODD, CHOICES], ids=["ODD", "CHOICES"])
@pytest.mark.parametrize("count", [2, 3, 17])
def test_tiny_data_sets_work(space, count):
    model, report = fitted(space, wild(space, count, terminal=True))
    assert report.transitions == count
    data = wild(space, 30, seed=5)
    at = torch.as_tensor(data.observation), torch.as_tensor(data.action)
    noise = draw(torch.Generator().manual_seed(0), (4, 30), model.noise_sizes)
    prediction = model.step(model.start(at[0]), at[1], noise)
    assert prediction.observation.isfinite().all()
    assert prediction.reward.isfinite().all()
    assert model.uncertainty(*at).isfinite().all()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_transitions_are_refused(count):
    model = GaussianEnsemble(LINE, UNIT, **SMALL)
    with pytest.raises(InvalidSettingError, match=f"at least 2 transitions, but {count} were given"):
        model.fit(linear(count))


@pytest.mark.parametrize("constant", [0.0, 3.7, 1e4])
def test_constant_columns_stay_constant_and_do_not_disturb_the_others(constant):
    data = linear(100)
    with_constant = data._replace(
        observation=np.insert(data.observation, 0, constant, axis=1),
        next_observation=np.insert(data.next_observation, 0, constant, axis=1),
    )
    model, _ = fitted(UNIT, with_constant)
    test = linear(40, seed=1)
    observation = torch.as_tensor(np.insert(test.observation, 0, constant, axis=1))
    prediction = model.step(model.start(observation), torch.as_tensor(test.action))
    assert_allclose(prediction.observation[..., 0], constant, rtol=1e-6, atol=0.05)
    error = prediction.observation[..., 1].mean(0).numpy() - test.next_observation[:, 0]
    assert np.sqrt(np.mean(error**2)) < 0.05 * np.std(test.next_observation - test.observation)


def test_an_action_that_never_varied_or_cannot_vary_is_only_a_constant_column():
    data = linear(100)
    never = data._replace(action=np.insert(data.action, 1, 0.25, axis=1))
    boxes = {
        "never varied": (np.float32([-1, -1]), np.float32([1, 1])),
        "cannot vary": (np.float32([-1, 0.25]), np.float32([1, 0.25])),
    }
    for why, (low, high) in boxes.items():
        model = GaussianEnsemble(LINE, type(UNIT)(low, high), **SMALL)
        model.fit(never)
        mean = model.outcome(torch.as_tensor(never.observation), torch.as_tensor(never.action))[0].mean(0)
        error = mean[:, 0].numpy() - (never.next_observation - never.observation)[:, 0]
        assert np.sqrt(np.mean(error**2)) < 0.02, why


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["observation", "action", "reward", "next_observation"])
def test_data_that_are_not_finite_are_refused_and_leave_no_trace(field, value):
    data = linear(30)
    bad = data._replace(**{field: getattr(data, field).copy()})
    getattr(bad, field)[7] = value
    model = GaussianEnsemble(LINE, UNIT, **SMALL)
    model.fit(data)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = model.generator.get_state()
    with pytest.raises(InvalidSettingError, match="finite"):
        model.fit(bad)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(generator, model.generator.get_state())


def test_prediction_before_the_first_fit_is_refused():
    model = GaussianEnsemble(LINE, UNIT, **SMALL)
    assert not model.fitted
    with pytest.raises(InvalidSettingError, match="call fit"):
        model.step(model.start(torch.zeros(1, 1)), torch.zeros(1, 1))
    with pytest.raises(InvalidSettingError, match="call fit"):
        model.uncertainty(torch.zeros(1, 1), torch.zeros(1, 1))
    model.fit(linear(10))
    assert model.fitted


def test_a_later_fit_replaces_the_prediction():
    model = GaussianEnsemble(LINE, UNIT, **SMALL)
    data = linear(100)
    model.fit(data)
    at = torch.as_tensor(data.observation), torch.as_tensor(data.action)
    other = data._replace(next_observation=data.observation - 3 * data.action, reward=-data.reward)
    model.outcome(*at)
    model.fit(other)
    mean = model.outcome(*at)[0].mean(0)
    assert_allclose(mean[:, 0], -3 * data.action[:, 0], atol=0.1)
    assert_allclose(mean[:, 1], -data.reward, atol=0.1)


def test_uncertainty_is_the_members_spread_in_units_of_the_targets():
    data = wild(ODD, 60)
    model, _ = fitted(ODD, data, members=4, elites=3)
    at = torch.as_tensor(data.observation[:5]), torch.as_tensor(data.action[:5])
    means = model.outcome(*at)[0].double().numpy()
    held_in_scale = model.target_scale.double().numpy()
    expected = np.sqrt(np.mean((means.std(0) / held_in_scale) ** 2, axis=1))
    assert_allclose(model.uncertainty(*at), expected, rtol=1e-3)
    spread = np.concatenate([data.next_observation - data.observation, data.reward[:, None]], 1).std(0)
    assert_allclose(held_in_scale, spread, rtol=0.25)  # but for the held-out rows


def scrambled(model_seed, data, global_seed):
    """Fit twice while the global generators are disturbed."""
    torch.manual_seed(global_seed)
    np.random.seed(global_seed)
    model = GaussianEnsemble(PLANE, ODD, **{**SMALL, "seed": model_seed})
    torch.rand(global_seed)
    model.fit(data)
    np.random.rand(global_seed + 1)
    model.fit(data)
    return model.state_dict()


def test_seed_and_data_decide_every_bit():
    data = wild(ODD, 70)
    first, second, other = scrambled(3, data, 11), scrambled(3, data, 222), scrambled(4, data, 11)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("members", 0),
        ("elites", 0),
        ("elites", 5),
        ("hidden", (8, 0)),
        ("learning_rate", 0.0),
        ("weight_decay", -0.1),
        ("batch_size", 0),
        ("max_epochs", 0),
        ("patience", 0),
        ("holdout", 0.0),
        ("holdout", 1.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting, value):
    with pytest.raises(InvalidSettingError) as caught:
        GaussianEnsemble(LINE, UNIT, **{**SMALL, setting: value})
    assert str(caught.value).startswith(f"{setting} must be ")
    assert str(value) in str(caught.value)


def test_networks_without_hidden_layers_are_linear_maps():
    data = linear(200)
    model, _ = fitted(UNIT, data, hidden=())
    at = torch.as_tensor(data.observation), torch.as_tensor(data.action)
    assert_allclose(model.outcome(*at)[0].mean(0)[:, 0], 0.5 * data.action[:, 0], atol=2e-3)


# Information --------------------------------------------------------------------------------------------------------


def test_information_gain_is_what_total_variance_exceeds_noise_by():
    data = linear(80)
    model, _ = fitted(UNIT, data)
    observation, action = torch.as_tensor(data.observation[:5]), torch.as_tensor(data.action[:5])
    outcome = model.outcome(observation, action)
    mean, deviation = (part.detach().double().numpy() for part in (outcome.mean, outcome.deviation))
    expected = [
        sum(
            0.5 * math.log(1 + np.var(mean[:, row, column]) / np.mean(deviation[:, row, column] ** 2))
            for column in range(mean.shape[2])
        )
        for row in range(5)
    ]
    gain = model.information_gain(observation, action).detach()
    assert_allclose(gain, expected, rtol=1e-4)
    far = model.information_gain(observation + 100.0, action).detach()
    assert (far > gain).all()


def test_one_member_and_given_rewards_tell_nothing():
    data = linear(80)
    rows = torch.as_tensor(data.observation[:5]), torch.as_tensor(data.action[:5])
    model, _ = fitted(UNIT, data)
    assert_allclose(model.subset([0]).information_gain(*rows).detach(), 0.0)
    known, _ = fitted(UNIT, data, reward_fn=lambda x, a, after: 1e6 * after[..., 0])
    outcome = known.outcome(*rows)
    of_observations = outcome.mean[..., :-1].var(0, correction=0) / outcome.deviation[..., :-1].square().mean(0)
    assert_allclose(known.information_gain(*rows).detach(), 0.5 * of_observations.log1p().sum(-1).detach(), rtol=1e-4)
