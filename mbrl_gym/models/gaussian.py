"""The Gaussian ensemble's loss, and its fast form for prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from mbrl_gym.models.ensemble import GaussianEnsemble

__all__ = ["FoldedEnsemble", "bound_log_variance", "gaussian_loss", "padded"]


def padded(columns: int) -> int:
    """Round a number of columns up to a multiple of 16, with which matrix products are much faster."""
    return -(-columns // 16) * 16


def bound_log_variance(raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Bound log variances softly from both sides (Chua et al. 2018, appendix A.1)."""
    bounded = high - functional.softplus(high - raw)
    return low + functional.softplus(bounded - low)


def gaussian_loss(mean: Tensor, log_variance: Tensor, target: Tensor) -> Tensor:
    """Return twice the Gaussian negative log likelihood less its constant, elementwise."""
    return (target - mean).square() * torch.exp(-log_variance) + log_variance


class FoldedEnsemble:
    """The elite members' weights with all scaling folded in, for fast prediction in raw units without gradients."""

    @torch.no_grad()
    def __init__(self, model: GaussianEnsemble) -> None:
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
        self.hidden = [(w.float().contiguous(), b.float().contiguous()) for w, b in zip(weights, biases, strict=True)]
        self.linear = direct.float()
        # Without log variances, the columns behind the means are left out.
        columns = padded(size)
        weight, bias = self.hidden.pop()
        self.last = {
            True: (weight, bias, self.linear),
            False: tuple(part[..., :columns].contiguous() for part in (weight, bias, self.linear)),
        }
        self.log_scale = torch.log(target_scale).float()
        self.min_log_variance = model.min_log_variance.detach()[chosen]
        self.max_log_variance = model.max_log_variance.detach()[chosen]
        self.outputs = size

    def __call__(self, inputs: Tensor, log_variance: bool = False) -> Tensor:
        """Map raw inputs `[E, B, I]` to D raw means and, if asked for, D raw log variances.

        The last axis of the result `[E, B, *]` is padded.
        """
        hidden = inputs
        for weight, bias in self.hidden:
            hidden = functional.silu(torch.baddbmm(bias, hidden, weight), inplace=True)
        weight, bias, linear = self.last[log_variance]
        output = torch.baddbmm(bias, hidden, weight)
        return output.baddbmm_(inputs, linear)

    def standard_deviation(self, output: Tensor, count: int) -> Tensor:
        """Return the standard deviation `[..., count]` of the first `count` targets, in raw units."""
        first = self.outputs
        log_variance = bound_log_variance(
            output[..., first : first + count], self.min_log_variance[..., :count], self.max_log_variance[..., :count]
        )
        return torch.exp(0.5 * log_variance + self.log_scale[:count])
