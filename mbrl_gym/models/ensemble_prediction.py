"""The fast form of a Gaussian ensemble for prediction."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mbrl_gym.models.threads import in_threads

if TYPE_CHECKING:
    from mbrl_gym.models.ensemble import GaussianEnsemble

__all__ = ["FoldedEnsemble", "padded", "perceptrons"]

BLOCK = 3 * 2**15  # numbers in a hidden layer of a block of rows: two such layers stay in a core's cache
MOST_KEPT = 64  # kinds of blocks whose layers stay in memory
LEAST_VARIANCE = 1e-30  # in raw units: float32 still holds it, and the slope of its square root


def padded(columns: int) -> int:
    """Round a number of columns up to a multiple of 16, with which matrix products are faster."""
    return -(-columns // 16) * 16


def perceptrons(inputs: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Evaluate E multilayer perceptrons with SiLU activations and no bias in the last layer.

    Args:
        inputs: `[E, N, I]`.
        weights: `[E, rows, columns]` of each layer, in whose dtype the layer is computed.
        biases: `[E, 1, columns]` of each layer but the last, likewise.

    Returns:
        Outputs `[E, N, columns]`, which have a gradient if the inputs have one.
    """
    if _worth_blocks(inputs.shape[0] * inputs.shape[1], weights, inputs):
        return _in_blocks(_with_ones(inputs.movedim(-1, 0)), _lying(weights, biases)).movedim(0, -1)
    hidden = inputs
    for weight, bias in zip(weights[:-1], biases, strict=True):
        above = torch.bmm(hidden.to(weight.dtype), weight).add_(bias)
        hidden = functional.silu(above, inplace=True)
    return torch.bmm(hidden.to(weights[-1].dtype), weights[-1])


def _worth_blocks(rows: int, weights: Sequence[Tensor], *inputs: Tensor) -> bool:
    """Return whether so many rows in all should go through perceptrons in blocks."""
    width = max((weight.shape[-1] for weight in weights[:-1]), default=0)
    differentiated = torch.is_grad_enabled() and any(each.requires_grad for each in (*inputs, *weights))
    return rows * width > 2 * BLOCK and inputs[0].device.type == "cpu" and not differentiated


def _with_ones(*columns: Tensor) -> Tensor:
    """Join columns `[*, ...]` and one of ones in memory where each of them lies in one piece."""
    return torch.cat((*columns, columns[0].new_ones(1, *columns[0].shape[1:])))


def _lying(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """Return weights and biases as `_in_blocks` wants them: `[E, columns, rows + 1 or more]`."""
    joined = []
    for weight, bias in zip(weights, [*biases, torch.zeros_like(weights[-1][:, :1])], strict=True):
        members, rows, columns = weight.shape
        whole = weight.new_zeros(members, columns, _rows_below(rows, weight.dtype))
        whole[..., :rows], whole[..., rows] = weight.mT, bias[:, 0]
        joined.append(whole)
    return joined


def _rows_below(columns: int, dtype: torch.dtype) -> int:
    """Return how many rows the weights above a layer have: its columns, ones, and in bfloat16 zeros up to 32 more.

    Products in bfloat16 go in pairs of rows, and would copy their factors if the number were odd.
    """
    return columns + 1 if dtype == torch.float32 else -(-(columns + 1) // 32) * 32


def _in_blocks(inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Evaluate E perceptrons for many rows on the CPU, one member and one block of rows at a time.

    Layers are `[columns, rows]`, with a row of ones below that makes the bias one more column of the weights: so
    products in float32 run along the rows, whatever the number of columns, and between two products a layer is touched
    just once, for its activation. Layers of all rows would not fit into the cache, and new memory for each of them
    would cost as much as many a product: blocks go to and fro between layers that every thread keeps. Threads share
    the blocks among them, so that they meet once a call and not after every product.

    Args:
        inputs: `[I + 1, E, N]`, the last of them ones.
        weights: From `_lying`; a layer is computed in the dtype of its weights.

    Returns:
        Outputs `[columns, E, N]` in the dtype of the inputs, without gradient.
    """
    members, rows = inputs.shape[1:]
    width = max(weight.shape[1] for weight in weights[:-1])
    most = padded(max(1, BLOCK // width))
    size = min(most, padded(-(-rows // -(-rows // most))))  # blocks of one size, as far as that goes
    output = inputs.new_empty(weights[-1].shape[1], members, rows)
    parts = [slice(first, min(first + size, rows)) for first in range(0, rows, size)]
    blocks = [(member, part) for member in range(members) for part in parts]

    def evaluate(blocks: Sequence[tuple[int, slice]]) -> None:
        for member, part in blocks:
            hidden = inputs[:, member, part]
            layers = _kept.layers(weights, part.stop - part.start)
            for weight, layer in zip(weights[:-1], layers, strict=True):
                hidden = layer.fill(weight[member], hidden)
            if output.dtype == hidden.dtype:
                torch.mm(weights[-1][member], hidden, out=output[:, member, part])
            else:
                output[:, member, part] = torch.mm(weights[-1][member], hidden)

    in_threads(evaluate, blocks)
    return output


class _Layer(NamedTuple):
    """Memory of a hidden layer."""

    computed: Tensor  # [columns, rows], in the dtype of its weights
    passed: Tensor  # [columns, rows], in the dtype of the weights above; the same memory if that is the same
    whole: Tensor  # [columns + 1 or more, rows]: what is passed on, and the ones (and zeros) below

    def fill(self, weight: Tensor, below: Tensor) -> Tensor:
        """Compute the layer, and return it with the ones."""
        torch.mm(weight, below, out=self.computed)
        functional.silu(self.computed, inplace=True)
        if self.passed.dtype != self.computed.dtype:
            self.passed.copy_(self.computed)
        return self.whole


class _Kept(threading.local):
    """The hidden layers of recent calls' blocks, for the next call; every thread has its own."""

    def __init__(self) -> None:
        self.memory: dict[Any, list[_Layer]] = {}

    def layers(self, weights: Sequence[Tensor], rows: int) -> list[_Layer]:
        """Return the memory of each hidden layer for a number of rows."""
        key = rows, *((*weight.shape[1:], weight.dtype) for weight in weights)
        if key not in self.memory:
            if len(self.memory) >= MOST_KEPT:
                self.memory.clear()
            with torch.inference_mode(False):  # memory made in inference mode could not be written to outside of it
                self.memory[key] = _new_layers(weights, rows)
        return self.memory[key]


_kept = _Kept()


def _new_layers(weights: Sequence[Tensor], rows: int) -> list[_Layer]:
    layers: list[_Layer] = []
    for weight, above in pairwise(weights):
        columns = weight.shape[1]
        twin = layers[-2] if len(layers) > 1 else None
        if twin and (len(twin.computed), twin.computed.dtype, twin.whole.dtype) == (columns, weight.dtype, above.dtype):
            layers.append(twin)
            continue
        if above.dtype == torch.float32:
            whole = above.new_zeros(above.shape[2], rows)
        else:  # products in bfloat16 want the rows one after the other
            whole = above.new_zeros(rows, above.shape[2]).t()
        whole[columns] = 1.0
        passed = whole[:columns]
        computed = passed if weight.dtype == above.dtype else torch.empty_like(passed, dtype=weight.dtype)
        layers.append(_Layer(computed, passed, whole))
    return layers


class _Head(NamedTuple):
    """Last layer and linear map for the targets that somebody wants."""

    weight: Tensor  # [E, rows, columns], the columns padded
    direct: Tensor  # [E, I, columns]
    bias: Tensor  # [E, 1, columns]
    lying: Tensor  # as `_in_blocks` wants it
    lying_direct: Tensor  # [E, columns, I + 1], the last of them the bias


class FoldedEnsemble:
    """The elite members' weights with all scaling folded in, for predictions in raw units.

    With bfloat16, the products of hidden layers and their outputs have eight bits. The first layer and the linear map,
    which are small, stay in float32: raw inputs may be far from zero, and (nearly) linear dynamics are exact.

    Args:
        model: An ensemble.
        dtype: Of all layers but the first.
    """

    @torch.no_grad()
    def __init__(self, model: GaussianEnsemble, dtype: torch.dtype = torch.float32) -> None:
        chosen, size = model.elite_members, model.outputs
        weights = [weight[chosen].double() for weight in model.weights]
        biases = [bias[chosen].double() for bias in model.biases]
        linear = model.linear[chosen].double()
        center, half_range = model.encode_action.affine()
        mean, scale = model.input_mean.double(), model.input_scale.double()
        # A network input is ((x - center) / half_range - mean) / scale = x / divisor - offset.
        divisor = torch.cat((torch.ones_like(mean[: -len(center)]), half_range)) * scale
        offset = torch.cat((torch.zeros_like(mean[: -len(center)]), center)) / divisor + mean / scale
        target_scale = model.target_scale.double()
        biases[0] = biases[0] - (offset @ weights[0])[:, None]
        weights[0] = weights[0] / divisor[:, None]
        biases[-1][..., :size] -= (offset @ linear)[:, None]
        biases[-1][..., :size] = biases[-1][..., :size] * target_scale + model.target_mean
        weights[-1][..., :size] *= target_scale
        high = model.max_log_variance.detach()[chosen].double()
        biases[-1][..., size : 2 * size] -= high
        direct = torch.zeros(*linear.shape[:-1], weights[-1].shape[-1], dtype=linear.dtype, device=linear.device)
        direct[..., :size] = linear / divisor[:, None] * target_scale
        dtypes = [torch.float32, *(dtype for _ in weights[1:])]
        weights = [weight.to(kind).contiguous() for weight, kind in zip(weights, dtypes, strict=True)]
        self.hidden = weights[:-1]
        self.hidden_biases = [bias.to(kind) for bias, kind in zip(biases[:-1], dtypes[:-1], strict=True)]
        self._lying_hidden = _lying([*self.hidden, weights[-1]], self.hidden_biases)[:-1]
        self._last = weights[-1], direct.float(), biases[-1].float()
        self._heads: dict[tuple[int, int], _Head] = {}
        # exp(low + softplus(high - softplus(high - raw) - low)) = exp(low) + exp(high) sigmoid(raw - high)
        variance_scale = target_scale.square()
        low = model.min_log_variance.detach()[chosen].double()
        self.least_variance = (torch.exp(low) * variance_scale).clamp_min(LEAST_VARIANCE).float()
        self.range_of_variance = (torch.exp(high) * variance_scale).float()
        self.members, self.inputs, self.outputs = len(chosen), len(mean), size

    def __call__(self, parts: Sequence[Tensor], means: int, variances: int = 0) -> Tensor:
        """Map raw inputs to the means and log variances of some targets.

        Args:
            parts: Columns `[P, N, *]` of the inputs, I in all; each particle goes through its own member.
            means: Number of targets whose raw mean is wanted, from the first on.
            variances: Number of targets whose variance is wanted, likewise.

        Returns:
            `[P, N, >= means + variances]`: raw means, and behind them what `standard_deviation` takes.
        """
        particles, rows, _ = parts[0].shape
        head = self._head(means, variances)
        if _worth_blocks(particles * rows, [*self.hidden, head.weight], *parts):
            columns = _with_ones(*(part.movedim(-1, 0) for part in parts)).view(self.inputs + 1, self.members, -1)
            output = _in_blocks(columns, [*self._lying_hidden, head.lying])
            output.movedim(1, 0).baddbmm_(head.lying_direct, columns.movedim(1, 0))
            return output.view(-1, particles, rows).movedim(0, -1)
        inputs = torch.cat(tuple(parts), -1).view(self.members, -1, self.inputs)
        output = perceptrons(inputs, [*self.hidden, head.weight], self.hidden_biases).float()
        return output.baddbmm_(inputs, head.direct).add_(head.bias).view(particles, rows, -1)

    def standard_deviation(self, output: Tensor, first: int, count: int) -> Tensor:
        """Return the standard deviation `[P, N, count]` of the first `count` targets, in raw units.

        Args:
            output: What a call returned, `[P, N, *]`.
            first: Number of means in it.
            count: At most the number of variances in it.
        """
        level = torch.sigmoid(output.view(self.members, -1, output.shape[-1])[..., first : first + count])
        # The level comes first, so that what follows lies in memory as it does.
        variance = (level * self.range_of_variance[..., :count]).add_(self.least_variance[..., :count])
        return variance.sqrt_().view(*output.shape[:2], count)

    def _head(self, means: int, variances: int) -> _Head:
        if (means, variances) not in self._heads:
            with torch.inference_mode(False), torch.no_grad():
                self._heads[means, variances] = self._new_head(means, variances)
        return self._heads[means, variances]

    def _new_head(self, means: int, variances: int) -> _Head:
        chosen = [*range(means), *range(self.outputs, self.outputs + variances)]
        weight, direct, bias = (part[..., chosen] for part in self._last)
        lying = _lying([weight], [])[0]
        lying_direct = torch.cat((direct, bias), 1).mT.contiguous()
        padding = 0, padded(len(chosen)) - len(chosen)
        weight, direct, bias = (functional.pad(part, padding) for part in (weight, direct, bias))
        return _Head(weight, direct, bias, lying, lying_direct)
