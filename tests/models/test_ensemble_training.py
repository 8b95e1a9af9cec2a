"""The written-out gradient steps of ensembles, against autograd, torch.optim and finite differences."""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.testing import assert_close

from mbrl_gym.models.ensemble_training import BOUND_PENALTY, EnsembleTraining, Networks, Samples
from mbrl_gym.models.gaussian import bound_log_variance, gaussian_loss, slopes_of_bound, slopes_of_gaussian_loss


def random_networks(members, inputs, hidden, outputs, seed=0, heads=None):
    """Draw networks in float64, the outputs with some padding."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    sizes = [inputs, *hidden, heads or 2 * outputs + 3]
    low = -3.0 + normal(members, 1, outputs)
    return Networks(
        weights=[normal(members, a, b) / a**0.5 for a, b in pairwise(sizes)],
        biases=[normal(members, 1, b) for b in sizes[1:]],
        linear=normal(members, inputs, outputs),
        min_log_variance=low,
        max_log_variance=low + 2.0 + normal(members, 1, outputs).abs(),
    )


def random_samples(members, rows, inputs, outputs, seed=0):
    generator = torch.Generator().manual_seed(1000 + seed)
    return Samples(
        *(torch.randn(members, rows, n, generator=generator, dtype=torch.float64) for n in (inputs, outputs))
    )


def trainable(networks):
    """Return a copy whose tensors are leaves of autograd."""
    networks = copy.deepcopy(networks)
    for part in networks.parts():
        part.requires_grad_()
    return networks


def plain_losses(networks, samples):
    """Return the members' losses, and what training minimises, as one would write them with autograd."""
    hidden = samples.inputs
    for weight, bias in zip(networks.weights[:-1], networks.biases[:-1], strict=True):
        hidden = functional.silu(hidden @ weight + bias)
    output = hidden @ networks.weights[-1] + networks.biases[-1]
    size = samples.targets.shape[-1]
    mean = output[..., :size] + samples.inputs @ networks.linear
    low, high = networks.min_log_variance, networks.max_log_variance
    log_variance = bound_log_variance(output[..., size : 2 * size], low, high)
    losses = gaussian_loss(mean, log_variance, samples.targets).mean((1, 2))
    return losses, losses.sum() + BOUND_PENALTY * (high - low).sum()


def assert_same(first, second, **tolerance):
    for one, two in zip(first.parts(), second.parts(), strict=True):
        assert_close(one, two, **tolerance)


@settings(deadline=None, max_examples=30)
@given(
    members=st.integers(1, 3),
    rows=st.integers(1, 9),
    inputs=st.integers(1, 9),
    hidden=st.lists(st.integers(1, 17), max_size=3),
    outputs=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_gradients_are_those_of_autograd(members, rows, inputs, hidden, outputs, seed):
    start = random_networks(members, inputs, hidden, outputs, seed)
    samples = random_samples(members, rows, inputs, outputs, seed)
    training = EnsembleTraining(start, learning_rate=0.01, weight_decay=0.1)
    loss = training.step(samples)
    peer = trainable(start)
    losses, objective = plain_losses(peer, samples)
    objective.backward()
    assert_close(loss, losses.sum().detach())
    for gradient, part in zip(training.gradient.networks.parts(), peer.parts(), strict=True):
        expected = torch.zeros_like(part) if part.grad is None else part.grad
        assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_gradients_by_finite_differences():
    start = random_networks(2, 3, [4, 5], 2)
    samples = random_samples(2, 6, 3, 2)
    training = EnsembleTraining(start, learning_rate=0.01, weight_decay=0.0)
    training.step(samples)
    step = 1e-6
    for part, gradient in zip(start.parts(), training.gradient.networks.parts(), strict=True):
        place = tuple(size // 2 for size in part.shape)
        values = []
        for sign in (1, -1):
            part[place] += sign * step
            values.append(plain_losses(start, samples)[1])
            part[place] -= sign * step
        assert_close(gradient[place], (values[0] - values[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_steps_are_those_of_adamw():
    """Minibatches of two sizes in turn; weights and biases decay, the bounds do not."""
    start = random_networks(3, 4, [8, 6], 3)
    training = EnsembleTraining(start, learning_rate=0.02, weight_decay=0.5)
    peer = trainable(start)
    *decaying, low, high = peer.parts()
    groups = [{"params": decaying, "weight_decay": 0.5}, {"params": [low, high], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=0.02)
    for step, rows in enumerate((7, 5, 7, 7, 5)):
        samples = random_samples(3, rows, 4, 3, step)
        training.step(samples)
        optimiser.zero_grad()
        plain_losses(peer, samples)[1].backward()
        optimiser.step()
    assert_same(training.networks, peer, rtol=1e-9, atol=1e-10)
    assert all((now - then).abs().max() > 0.01 for now, then in zip(peer.parts(), start.parts(), strict=True))


def test_training_starts_from_a_copy():
    start = random_networks(2, 3, [4], 2)
    before = copy.deepcopy(start)
    training = EnsembleTraining(start, learning_rate=0.1, weight_decay=0.1)
    assert_same(training.networks, start, rtol=0, atol=0)
    training.step(random_samples(2, 6, 3, 2))
    assert_same(start, before, rtol=0, atol=0)


def test_networks_predict_what_training_sees():
    start, samples = random_networks(3, 4, [5, 7], 2), random_samples(3, 11, 4, 2)
    assert_close(start.losses(samples), plain_losses(start, samples)[0])
    assert_close(
        EnsembleTraining(start, learning_rate=0.1, weight_decay=0.0).step(samples), start.losses(samples).sum()
    )


def test_a_run_ends_with_each_members_best_networks():
    samples, held_out = random_samples(3, 200, 2, 1), random_samples(3, 40, 2, 1, seed=1)  # nothing to learn
    training = EnsembleTraining(random_networks(3, 2, [16], 1), learning_rate=0.02, weight_decay=0.0)
    first = training.networks.losses(held_out)
    schedule = {"batch_size": 32, "max_epochs": 400, "patience": 5, "generator": torch.Generator().manual_seed(0)}
    result = training.run(samples, held_out, **schedule)
    assert_close(training.networks.losses(held_out), result.best)
    assert (result.best <= first).all()
    assert 5 <= result.epochs < 400
    assert result.steps == result.epochs * 8  # 200 rows in at least eight minibatches


def test_copies_are_member_by_member():
    first, second = random_networks(3, 2, [4], 1, seed=0), random_networks(3, 2, [4], 1, seed=1)
    mixed = copy.deepcopy(first)
    mixed.copy_(second, torch.tensor([False, True, False]))
    for part, old, new in zip(mixed.parts(), first.parts(), second.parts(), strict=True):
        assert torch.equal(part[[0, 2]], old[[0, 2]])
        assert torch.equal(part[1], new[1])


@pytest.mark.parametrize("shift", [-30.0, -1.0, 0.0, 1.0, 30.0])
def test_slopes_by_finite_differences(shift):
    generator = torch.Generator().manual_seed(0)
    mean, raw, target = torch.randn((3, 8), generator=generator, dtype=torch.float64)
    raw = raw + shift
    low, high = torch.full_like(raw, -2.0), torch.full_like(raw, 1.5)
    step = 1e-6

    def difference(function, arguments, which):
        moved = [[a + sign * step * (i == which) for i, a in enumerate(arguments)] for sign in (1, -1)]
        return (function(*moved[0]) - function(*moved[1])) / (2 * step)

    bound = slopes_of_bound(raw, low, high)
    assert_close(bound.value, bound_log_variance(raw, low, high))
    slopes = bound.inner * bound.outer, 1 - bound.outer, bound.outer * (1 - bound.inner)
    for which, slope in enumerate(slopes):
        assert_close(slope, difference(bound_log_variance, (raw, low, high), which), rtol=1e-6, atol=1e-8)
    loss = slopes_of_gaussian_loss(mean, bound.value, target, torch.tensor(0.3, dtype=torch.float64))
    assert_close(loss.value, 0.3 * gaussian_loss(mean, bound.value, target))
    for which, slope in enumerate((loss.by_mean, loss.by_log_variance)):
        expected = 0.3 * difference(gaussian_loss, (mean, bound.value, target), which)
        assert_close(slope, expected, rtol=1e-6, atol=1e-7)
