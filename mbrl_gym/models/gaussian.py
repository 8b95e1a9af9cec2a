"""The Gaussian likelihood that ensembles maximise, the bounds of its variance, and the slopes of both."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "GaussianSlopes",
    "SoftBounds",
    "bound_log_variance",
    "gaussian_loss",
    "slopes_of_bound",
    "slopes_of_gaussian_loss",
]


def bound_log_variance(raw: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Bound log variances softly from both sides (Chua et al. 2018, appendix A.1)."""
    bounded = high - functional.softplus(high - raw)
    return low + functional.softplus(bounded - low)


class SoftBounds(NamedTuple):
    """What `bound_log_variance` returns, and the slopes of its two steps, elementwise.

    The derivative by `raw` is `inner * outer`, by `low` `1 - outer`, and by `high` `outer * (1 - inner)`.
    """

    value: Tensor
    inner: Tensor  # of the upper bound's step
    outer: Tensor  # of the lower bound's step, which follows


def slopes_of_bound(raw: Tensor, low: Tensor, high: Tensor) -> SoftBounds:
    """Return `bound_log_variance` with its slopes."""
    room = high - raw
    above = (high - low) - functional.softplus(room)
    return SoftBounds(low + functional.softplus(above), torch.sigmoid(room), torch.sigmoid(above))


def gaussian_loss(mean: Tensor, log_variance: Tensor, target: Tensor) -> Tensor:
    """Return twice the Gaussian negative log likelihood less its constant, elementwise."""
    return (target - mean).square() * torch.exp(-log_variance) + log_variance


class GaussianSlopes(NamedTuple):
    """What `gaussian_loss` returns, and its derivatives, elementwise and times a share."""

    value: Tensor
    by_mean: Tensor
    by_log_variance: Tensor


def slopes_of_gaussian_loss(mean: Tensor, log_variance: Tensor, target: Tensor, share: Tensor) -> GaussianSlopes:
    """Return `gaussian_loss` with its derivatives by mean and log variance, all times a share `[]`.

    Few and like operations: on small tensors, the first use of another kind costs more than the numbers.
    """
    error = mean - target
    weighted = error * torch.exp(torch.log(share) - log_variance)
    distance = error * weighted
    return GaussianSlopes(distance + share * log_variance, weighted + weighted, share - distance)
