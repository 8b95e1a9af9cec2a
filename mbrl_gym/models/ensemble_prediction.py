"""The fast form of a Gaussian ensemble for prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from mbrl_gym.models.gaussian import bound_log_variance

if TYPE_CHECKING:
    from mbrl_gym.models.ensemble import GaussianEnsemble

__all__ = ["FoldedEnsemble", "padded", "perceptrons"]

BLOCK = 2**18  # numbers a thread in a hidden layer of a block of rows: two such layers stay in a core's cache


def padded(columns: int) -> int:
    """Round a number of columns up to a multiple of 16, with which matrix products are faster."""
    return -(-columns // 16) * 16


def perceptrons(inputs: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Evaluate E multilayer perceptrons with SiLU activations and no bias in the last layer.

    On the CPU, many rows go through all layers in blocks, between two buffers: hidden layers of all rows would not fit
    into the cache, and new memory for each of them would cost as much as its matrix product.

    Args:
        inputs: `[E, N, I]`.
        weights: `[E, rows, columns]` of each layer, in whose dtype the layer is computed.
        biases: `[E, 1, columns]` of each layer but the last, likewise.

    Returns:
        Outputs `[E, N, columns]`, which have a gradient if the inputs have one.
    """
    members, rows, _ = inputs.shape
    width = max((weight.shape[-1] for weight in weights[:-1]), default=1)
    block = max(1, BLOCK * torch.get_num_threads() // (members * width))
    if rows <= block or inputs.device.type != "cpu" or (inputs.requires_grad and torch.is_grad_enabled()):
        return _layers(inputs, weights, biases)
    buffers = [inputs.new_empty(members * block * width) for _ in range(2)]
    return torch.cat([_layers(part, weights, biases, buffers) for part in inputs.split(block, 1)], 1)


def _layers(
    inputs: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], buffers: Sequence[Tensor] = ()
) -> Tensor:
    hidden = inputs
    for layer, (weight, bias) in enumerate(zip(weights[:-1], biases, strict=True)):
        above = None
        if buffers:
            shape = (*hidden.shape[:2], weight.shape[-1])
            above = buffers[layer % 2].view(weight.dtype)[: math.prod(shape)].view(shape)
        above = torch.bmm(hidden.to(weight.dtype), weight, out=above).add_(bias)
        hidden = functional.silu(above, inplace=True)
    return torch.bmm(hidden.to(weights[-1].dtype), weights[-1])


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
        direct = torch.zeros(*linear.shape[:-1], weights[-1].shape[-1], dtype=linear.dtype, device=linear.device)
        direct[..., :size] = linear / divisor[:, None] * target_scale
        dtypes = [torch.float32, *(dtype for _ in weights[1:])]
        weights = [weight.to(kind).contiguous() for weight, kind in zip(weights, dtypes, strict=True)]
        self.hidden = weights[:-1]
        self.hidden_biases = [bias.to(kind) for bias, kind in zip(biases[:-1], dtypes[:-1], strict=True)]
        # Without log variances, the columns behind the means are left out.
        last = weights[-1], biases[-1].float(), direct.float()
        self.last = {True: last, False: tuple(part[..., : padded(size)].contiguous() for part in last)}
        self.log_scale = torch.log(target_scale).float()
        self.min_log_variance = model.min_log_variance.detach()[chosen]
        self.max_log_variance = model.max_log_variance.detach()[chosen]
        self.outputs = size

    def __call__(self, inputs: Tensor, log_variance: bool = False) -> Tensor:
        """Map raw inputs `[E, B, I]` to D raw means and, if asked for, D raw log variances.

        The last axis of the result `[E, B, *]` is padded.
        """
        weight, bias, linear = self.last[log_variance]
        output = perceptrons(inputs, [*self.hidden, weight], self.hidden_biases).float()
        return output.baddbmm_(inputs, linear).add_(bias)

    def standard_deviation(self, output: Tensor, count: int) -> Tensor:
        """Return the standard deviation `[..., count]` of the first `count` targets, in raw units."""
        first = self.outputs
        log_variance = bound_log_variance(
            output[..., first : first + count], self.min_log_variance[..., :count], self.max_log_variance[..., :count]
        )
        return torch.exp(0.5 * log_variance + self.log_scale[:count])
