"""Fast prediction of ensembles: blocks of rows, gradients by the inputs, bfloat16."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import ODD, PLANE, SMALL, wild
from torch.nn import functional
from torch.testing import assert_close

from mbrl_gym.models import GaussianEnsemble, WorldModel, draw, ensemble_prediction
from mbrl_gym.models.ensemble_prediction import perceptrons


def random_layers(sizes, members=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = list(pairwise(sizes))
    weights = [torch.randn(members, a, b, generator=generator) / a**0.5 for a, b in shapes]
    return weights, [torch.randn(members, 1, b, generator=generator) for _, b in shapes[:-1]]


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 40),
    hidden=st.lists(st.integers(1, 12), max_size=4),
    block=st.sampled_from([1, 50, 200, 10**6]),
)
def test_blocks_of_rows_change_nothing(rows, hidden, block):
    weights, biases = random_layers([5, *hidden, 4])
    inputs = torch.randn(3, rows, 5, generator=torch.Generator().manual_seed(rows))
    before = inputs.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble_prediction, "BLOCK", block)
        found = perceptrons(inputs, weights, biases)
    expected = inputs
    for weight, bias in zip(weights[:-1], biases, strict=True):
        expected = functional.silu(expected @ weight + bias)
    assert_close(found, expected @ weights[-1], rtol=1e-5, atol=1e-5)
    assert torch.equal(inputs, before)


@pytest.fixture(scope="module")
def model():
    model = GaussianEnsemble(PLANE, ODD, **{**SMALL, "hidden": (32, 32), "max_epochs": 40, "elites": 3})
    model.fit(wild(ODD, 400))
    return model


def in_bf16(model):
    """Return a twin that predicts with bfloat16."""
    twin = GaussianEnsemble(PLANE, ODD, **{**model.arguments, "precision": "bf16"})
    twin.load_state_dict(model.state_dict())
    return twin


def rows(count=300, seed=1):
    data = wild(ODD, count, seed=seed)
    return torch.as_tensor(data.observation), torch.as_tensor(data.action)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_predictions_of_many_rows_are_fresh_memory(model, monkeypatch, precision):
    """Blocks share buffers, predictions do not."""
    monkeypatch.setattr(ensemble_prediction, "BLOCK", 32 * 3 * 50)
    model = model if precision == "float32" else in_bf16(model)
    observation, action = rows()
    noise = draw(torch.Generator().manual_seed(0), (3, 300), model.noise_sizes)
    first = model.step(model.start(observation), action, noise)
    kept = [first.observation.clone(), first.reward.clone()]
    model.step(first.state, action.flip(0), noise)
    model.uncertainty(observation, action.flip(0))
    assert torch.equal(first.observation, kept[0])
    assert torch.equal(first.reward, kept[1])
    alone = model.step(model.start(observation[70:71]), action[70:71])
    plain = model.step(model.start(observation), action)
    # In bfloat16, bias and product are rounded together in blocks, and one after the other elsewhere.
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if precision == "float32" else {"rtol": 0.0, "atol": 0.02}
    assert_close(plain.observation[:, 70:71], alone.observation, **tolerance)


def in_few_numbers(monkeypatch):
    """Send everything but a handful of rows through the layers in blocks."""
    monkeypatch.setattr(ensemble_prediction, "BLOCK", 32 * 50)


def test_many_particles_of_a_member_go_through_blocks_as_one_by_one(model, monkeypatch):
    """Two steps with noise: the second starts at what the first one left in memory."""
    observation, action = rows(110)
    noise = draw(torch.Generator().manual_seed(0), (6, 1), model.noise_sizes)

    def two_steps(chosen):
        state = model.step(model.start(observation[chosen], 6), action[chosen], noise).state
        return model.step(state, action[chosen], noise)

    alone = [two_steps(slice(row, row + 1)) for row in range(0, 110, 11)]
    in_few_numbers(monkeypatch)
    together = two_steps(slice(None))
    for index, one in enumerate(alone):
        row = slice(11 * index, 11 * index + 1)
        assert_close(together.observation[:, row], one.observation, rtol=1e-4, atol=1e-5)
        assert_close(together.reward[:, row], one.reward, rtol=1e-4, atol=1e-5)
    spread = together.observation.std(0).amax()
    assert spread > 1e-3  # of the particles, or else the noise did nothing


def zero_reward(observation, action, following):
    return torch.zeros_like(following[..., 0])


@pytest.mark.parametrize("block", [50, 10**6])
def test_an_exact_reward_changes_no_observation(model, monkeypatch, block):
    """Where the reward is known, its column of the network is left out."""
    monkeypatch.setattr(ensemble_prediction, "BLOCK", 32 * block)
    exact = GaussianEnsemble(PLANE, ODD, **{**model.arguments, "reward_fn": zero_reward})
    exact.load_state_dict(model.state_dict())
    observation, action = rows(120)
    noise = draw(torch.Generator().manual_seed(0), (3, 1), model.noise_sizes)
    learned, known = (each.step(each.start(observation), action, noise) for each in (model, exact))
    assert_close(known.observation, learned.observation, rtol=1e-5, atol=1e-6)
    assert not known.reward.any()
    assert learned.reward.any()
    assert_close(exact.uncertainty(observation, action), model.uncertainty(observation, action), rtol=1e-4, atol=1e-6)


def test_modes_of_autograd_alternate(model, monkeypatch):
    """Memory that is kept must not remember the mode in which it was made."""
    in_few_numbers(monkeypatch)
    fresh = copy.deepcopy(model)
    fresh._forget()
    observation, action = rows()
    with torch.inference_mode():
        first = fresh.step(fresh.start(observation), action).observation.clone()
    with torch.no_grad():
        second = fresh.step(fresh.start(observation), action).observation
    third = fresh.step(fresh.start(observation), action).observation
    leaf = action.clone().requires_grad_()
    fourth = fresh.step(fresh.start(observation), leaf).observation
    fourth.sum().backward()
    with torch.inference_mode():
        fifth = fresh.step(fresh.start(observation), action).observation.clone()
    assert leaf.grad.abs().amax() > 0
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert torch.equal(first, fifth)
    assert_close(fourth.detach(), first, rtol=1e-4, atol=1e-5)


def test_threads_do_not_share_memory(model, monkeypatch):
    """Two threads that meet between every product and its activation."""
    in_few_numbers(monkeypatch)
    observation, action = rows()
    plans = [action, action.flip(0)]

    def predict(plan):
        return model.step(model.start(observation), plan).observation

    expected = [predict(plan) for plan in plans]
    meeting, silu = Barrier(2, timeout=30), functional.silu

    def silu_together(hidden, inplace):
        meeting.wait()
        return silu(hidden, inplace=inplace)

    monkeypatch.setattr(functional, "silu", silu_together)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(predict, plans))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_copies_of_a_model_that_predicted(model, monkeypatch):
    in_few_numbers(monkeypatch)
    at = rows()
    expected = model.outcome(*at).mean
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.outcome(*at).mean, expected)


@pytest.mark.parametrize("noisy", [False, True])
def test_predictions_have_gradients_by_the_observation(model, noisy):
    """By finite differences of one step; with noise, the deviation has a slope as well."""
    observation, action = rows(5)
    noise = draw(torch.Generator().manual_seed(3), (3, 5), model.noise_sizes) if noisy else None

    def total(at):
        prediction = model.step(model.start(at), action, noise)
        return prediction.reward.double().sum() + (prediction.observation.double() * weights).sum()

    weights = torch.tensor([1.0, -2.0], dtype=torch.float64)
    leaf = observation.clone().requires_grad_()
    total(leaf).backward()
    for row, column in ((0, 0), (2, 1), (4, 0)):
        step = 0.01 * observation[:, column].std()
        moved = [observation.clone() for _ in range(2)]
        moved[0][row, column] += step
        moved[1][row, column] -= step
        difference = (total(moved[0]) - total(moved[1])) / (2 * step)
        assert_close(leaf.grad[row, column].double(), difference, rtol=0.02, atol=5e-3)


def test_returns_have_gradients_by_the_actions(model):
    """Three steps ahead, against finite differences."""
    observation, action = rows(4)
    plan = action.repeat(3, 1, 1)

    def total(plan):
        state, rewards = model.start(observation), 0.0
        for step in range(3):
            prediction = model.step(state, plan[step])
            state, rewards = prediction.state, rewards + prediction.reward.double().sum()
        return rewards

    leaf = plan.clone().requires_grad_()
    total(leaf).backward()
    unit = torch.as_tensor(ODD.high - ODD.low)
    for step, row, column in ((0, 0, 0), (0, 2, 1), (1, 3, 0), (2, 1, 2)):
        moved = [plan.clone() for _ in range(2)]
        moved[0][step, row, column] += 0.02 * unit[column]
        moved[1][step, row, column] -= 0.02 * unit[column]
        difference = (total(moved[0]) - total(moved[1])) / 0.04
        assert_close(leaf.grad[step, row, column].double() * unit[column], difference, rtol=0.03, atol=2e-3)


def test_bf16_is_close_to_float32(model):
    """Means differ by less than 1% of the targets' spread, and of their error; deviations by less than 3%."""
    twin, at = in_bf16(model), rows()
    exact, rounded = model.outcome(*at), twin.outcome(*at)
    difference = ((rounded.mean - exact.mean) / model.target_scale).square().mean((0, 1)).sqrt()
    assert (difference < 0.01).all()
    assert (difference > 1e-5).any()  # or else it was not bfloat16
    truth = model.targets(wild(ODD, 300, seed=1)).float()
    errors = [((outcome.mean.mean(0) - truth) / model.target_scale).square().mean(0) for outcome in (exact, rounded)]
    assert (errors[1] < 1.01 * errors[0] + 1e-4).all()
    assert (rounded.deviation / exact.deviation - 1).abs().mean() < 0.03
    ratio = twin.uncertainty(*at) / model.uncertainty(*at)
    assert 0.97 < ratio.median() < 1.03


def test_bf16_does_not_meet_raw_offsets():
    """Eight bits of a position around 1000 tell steps of 4 apart, but it is the next digits that matter here."""
    data = wild(ODD, 400)
    place = 1000 + np.random.default_rng(0).normal(size=data.observation.shape)
    far = data._replace(
        observation=place.astype(np.float32), next_observation=(place + np.sin(2 * place)).astype(np.float32)
    )
    model = GaussianEnsemble(PLANE, ODD, **{**SMALL, "max_epochs": 30})
    model.fit(far)
    at = torch.as_tensor(far.observation), torch.as_tensor(far.action)
    difference = (in_bf16(model).outcome(*at).mean - model.outcome(*at).mean) / model.target_scale
    assert difference.square().mean((0, 1)).sqrt().max() < 0.01


def test_outputs_of_bf16_are_float32(model):
    twin, (observation, action) = in_bf16(model), rows(5)
    noise = draw(torch.Generator().manual_seed(0), (3, 5), model.noise_sizes)
    prediction = twin.step(twin.start(observation), action, noise)
    assert prediction.observation.dtype == prediction.reward.dtype == torch.float32
    assert twin.uncertainty(observation, action).dtype == torch.float32


def test_training_and_parameters_do_not_depend_on_the_precision():
    data = wild(ODD, 60)
    first, second = (GaussianEnsemble(PLANE, ODD, **SMALL, precision=name) for name in ("float32", "bf16"))
    assert first.fit(data).holdout_loss == second.fit(data).holdout_loss
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_files_keep_the_precision(model, tmp_path):
    twin, at = in_bf16(model), rows(20)
    twin.save(tmp_path / "model")
    loaded = WorldModel.load(tmp_path / "model")
    assert loaded.precision == "bf16"
    assert torch.equal(loaded.outcome(*at).mean, twin.outcome(*at).mean)
    again = WorldModel.load(tmp_path / "model", precision="float32")
    assert torch.equal(again.outcome(*at).mean, model.outcome(*at).mean)
