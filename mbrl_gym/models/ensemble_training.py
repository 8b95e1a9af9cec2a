"""Training of E networks at once: gradient steps in memory that is allocated once, and early stopping."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mbrl_gym.models.ensemble_prediction import perceptrons
from mbrl_gym.models.gaussian import bound_log_variance, gaussian_loss, slopes_of_bound, slopes_of_gaussian_loss

__all__ = ["EnsembleTraining", "Networks", "Samples", "TrainingResult"]

BOUND_PENALTY = 0.01  # weight of the spread of the bounds in the loss (Chua et al. 2018, appendix A.1)


class Samples(NamedTuple):
    """Normalised training data of each member."""

    inputs: Tensor  # [E, T, I]
    targets: Tensor  # [E, T, D]


@dataclass(frozen=True)
class Networks:
    """The parameters of E networks, or their gradients."""

    weights: Sequence[Tensor]  # [E, rows, columns]; the last one's first 2 D columns are means and log variances
    biases: Sequence[Tensor]  # [E, 1, columns]
    linear: Tensor  # [E, I, D], added to the means
    min_log_variance: Tensor  # [E, 1, D]
    max_log_variance: Tensor  # [E, 1, D]

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised inputs `[E, N, I]` to means and log variances `[E, N, D]`."""
        size = self.linear.shape[-1]
        output = perceptrons(inputs, self.weights, self.biases[:-1]).add_(self.biases[-1])
        mean = torch.baddbmm(output[..., :size], inputs, self.linear)
        raw = output[..., size : 2 * size]
        return mean, bound_log_variance(raw, self.min_log_variance, self.max_log_variance)

    def losses(self, samples: Samples) -> Tensor:
        """Return each member's Gaussian negative log likelihood `[E]`."""
        return gaussian_loss(*self(samples.inputs), samples.targets).mean((1, 2))

    def parts(self) -> list[Tensor]:
        """Return all tensors."""
        return [*self.weights, *self.biases, self.linear, self.min_log_variance, self.max_log_variance]

    @torch.no_grad()
    def copy_(self, other: Networks, members: Tensor | slice = slice(None)) -> None:
        """Take over the parameters of some members."""
        for part, value in zip(self.parts(), other.parts(), strict=True):
            part[members] = value[members]


class TrainingResult(NamedTuple):
    """What `EnsembleTraining.run` did."""

    epochs: int
    steps: int
    loss: float  # mean training loss of the last epoch
    best: Tensor  # [E], each member's best loss on the held-out data


class EnsembleTraining:
    """Training of E networks at once with AdamW (Loshchilov and Hutter 2019).

    Forward and backward pass are written out: autograd would allocate all layers anew in each step, whose page faults
    cost as much as many of the matrix products. A layer `[E, columns, B]` has a column for each row of the minibatch,
    and a row of ones below its own: so a bias is one more column of its weights, and neither the bias nor its gradient
    takes another pass over the layer.

    Args:
        start: Where to start; stays as it is.
        learning_rate: Of Adam.
        weight_decay: Decoupled weight decay of weights and biases.
    """

    @torch.no_grad()
    def __init__(self, start: Networks, *, learning_rate: float, weight_decay: float) -> None:
        self.adam = [_Parameters(start) for _ in range(4)]  # parameters, gradient, moments
        self.parameters, self.gradient, *_ = self.adam
        self.parameters.networks.copy_(start)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.penalty = start.linear.new_tensor([-BOUND_PENALTY, BOUND_PENALTY]).view(2, 1, 1, 1)
        self.count = torch.zeros((), device=start.linear.device)
        self.batches: dict[int, _Batch] = {}

    @property
    def networks(self) -> Networks:
        """The networks in their present state."""
        return self.parameters.networks

    def run(
        self,
        data: Samples,
        held_out: Samples,
        *,
        batch_size: int,
        max_epochs: int,
        patience: int,
        generator: torch.Generator,
    ) -> TrainingResult:
        """Run epochs until no member improves on the held-out data; end with each member's best parameters.

        Args:
            data: To train on.
            held_out: To check on.
            batch_size: Largest minibatch; smaller data sets are cut into at least eight.
            max_epochs: Bound on the passes over the data.
            patience: Epochs without an improvement of any member by at least a hundredth, after which to stop.
            generator: Shuffles the data.
        """
        count = data.inputs.shape[1]
        rows = max(min(batch_size, count // 8), min(count, 16))
        best, kept = self.networks.losses(held_out), copy.deepcopy(self.networks)
        epoch = steps = waited = 0
        loss = 0.0
        while epoch < max_epochs and waited < patience:
            losses = [self.step(batch) for batch in _minibatches(data, rows, generator)]
            epoch, steps = epoch + 1, steps + len(losses)
            loss = float(torch.stack(losses).mean()) / len(best)
            waited = waited + 1 if not self._keep_best(held_out, best, kept) else 0
        self.networks.copy_(kept)
        return TrainingResult(epoch, steps, loss, best)

    @torch.no_grad()
    def step(self, samples: Samples) -> Tensor:
        """Take one gradient step on a minibatch `[E, B, *]`; return its loss, summed over the members."""
        rows = samples.inputs.shape[1]
        if rows not in self.batches:
            self.batches[rows] = _Batch(self.networks, rows)
        batch = self.batches[rows]
        batch.inputs.copy_(samples.inputs.mT)
        self._forward(batch)
        loss = self._loss(batch, samples.targets.mT)
        self._backward_and_update(batch)
        return loss

    def _forward(self, batch: _Batch) -> None:
        layers = self.parameters.layers
        for layer, below, before, after in zip(layers[:-1], batch.below[:-1], batch.before, batch.after, strict=True):
            torch.bmm(layer, below, out=before)
            torch.ops.aten.silu.out(before, out=after)
        torch.bmm(layers[-1], batch.below[-1], out=batch.output)

    def _loss(self, batch: _Batch, targets: Tensor) -> Tensor:
        """Return the loss; leave its derivatives by the output and by the bounds."""
        low, high = self.parameters.bounds
        mean = torch.baddbmm(batch.mean, self.parameters.linear, batch.inputs)
        bound = slopes_of_bound(batch.raw, low, high)
        loss = slopes_of_gaussian_loss(mean, bound.value, targets, batch.share)
        batch.by_mean.copy_(loss.by_mean)
        by_bounded = loss.by_log_variance * bound.outer
        by_raw = torch.mul(by_bounded, bound.inner, out=batch.by_raw)
        parts = torch.stack((loss.value, loss.by_log_variance - by_bounded, by_bounded - by_raw))
        sums = parts.sum(-1, keepdim=True)
        torch.add(sums[1:], self.penalty, out=self.gradient.bounds)
        return sums[0].sum()

    def _backward_and_update(self, batch: _Batch) -> None:
        """Take a step in each layer as soon as its gradient is known, while both are in the cache."""
        networks, gradient, slope = self.networks, self.gradient, batch.slope
        self.count += 1
        for index in reversed(range(len(gradient.layers))):
            torch.bmm(slope, batch.below[index].mT, out=gradient.layers[index])
            if index:  # the slope by a layer before its activation takes the place of that layer
                by_after, before = batch.by_after[index - 1], batch.before[index - 1]
                torch.bmm(networks.weights[index], slope, out=by_after)
                slope = torch.ops.aten.silu_backward.grad_input(by_after, before, grad_input=before)
            self._update([each.layers[index] for each in self.adam], self.weight_decay)
        torch.bmm(batch.by_mean, batch.inputs.mT, out=gradient.linear)
        self._update([each.linear for each in self.adam], self.weight_decay)
        self._update([each.bounds for each in self.adam], 0.0)

    def _update(self, tensors: Sequence[Tensor], weight_decay: float) -> None:
        parameters, gradient, mean, square = tensors
        # What torch.optim.AdamW(fused=True) calls in the end; the way there takes longer than a small step.
        torch._fused_adamw_(
            [parameters],
            [gradient],
            [mean],
            [square],
            [],
            [self.count],
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def _keep_best(self, held_out: Samples, best: Tensor, kept: Networks) -> bool:
        """Keep the parameters of the members that improved by at least a hundredth; return whether any did."""
        losses = self.networks.losses(held_out)
        better = losses < best - 0.01 * best.abs()
        if not bool(better.any()):
            return False
        best[better] = losses[better]
        kept.copy_(self.networks, better)
        return True


def _minibatches(data: Samples, rows: int, generator: torch.Generator) -> Iterator[Samples]:
    """Go once through the data of each member, in an order of its own."""
    members, count, _ = data.inputs.shape
    shuffled = torch.rand(members, count, generator=generator).argsort(-1)
    numbers = (shuffled + count * torch.arange(members)[:, None]).to(data.inputs.device)
    flat = [part.flatten(0, 1) for part in data]
    for chosen in numbers.split(rows, 1):
        yield Samples(*(part.index_select(0, chosen.flatten()).unflatten(0, chosen.shape) for part in flat))


class _Parameters:
    """The parameters of E networks, or what is like them, in the layout of training."""

    def __init__(self, like: Networks) -> None:
        rows = [weight.shape[1] for weight in like.weights]
        shapes = [(len(weight), weight.shape[2], _with_ones(weight.shape[1])) for weight in like.weights]
        self.layers = [like.linear.new_zeros(shape) for shape in shapes]
        self.linear = like.linear.new_zeros(like.linear.mT.shape)
        self.bounds = like.linear.new_zeros(2, *like.min_log_variance.mT.shape)
        self.networks = Networks(
            [layer[..., :count].mT for layer, count in zip(self.layers, rows, strict=True)],
            [layer[..., count : count + 1].mT for layer, count in zip(self.layers, rows, strict=True)],
            self.linear.mT,
            *self.bounds.mT,
        )


class _Batch:
    """The layers of E networks for minibatches of one size."""

    def __init__(self, networks: Networks, rows: int) -> None:
        last, size = networks.weights[-1], networks.linear.shape[-1]
        members, widths = len(last), [weight.shape[1] for weight in networks.weights]
        self.below = [last.new_zeros(members, _with_ones(width), rows) for width in widths]  # the weights of a layer
        for layer, width in zip(self.below, widths, strict=True):
            layer[:, width] = 1.0
        self.inputs, *self.after = (layer[:, :width] for layer, width in zip(self.below, widths, strict=True))
        self.before = [last.new_empty(after.shape) for after in self.after]  # the activation function
        spare = last.new_empty(members * max(widths) * rows)
        self.by_after = [spare[: after.numel()].view(after.shape) for after in self.after]
        self.output = last.new_empty(members, last.shape[-1], rows)
        self.slope = torch.zeros_like(self.output)  # of the loss by the output; stays zero where that is padding
        self.mean, self.raw = self.output[:, :size], self.output[:, size : 2 * size]
        self.by_mean, self.by_raw = self.slope[:, :size], self.slope[:, size : 2 * size]
        self.share = last.new_full((), 1.0 / (size * rows))


def _with_ones(rows: int) -> int:
    """Return the size of a layer with the row of ones, padded to a multiple of 8 to keep its rows aligned."""
    return -(-(rows + 1) // 8) * 8
