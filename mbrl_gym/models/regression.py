"""Bayesian linear regression of many targets from sums over the data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Moments", "Posterior", "regress"]

CONSTANT = 1e-7  # columns whose deviation is a smaller part of their mean do not vary
NULL = 1e-12  # directions with a smaller part of a column's variance are rounding (of float32 data, squared)
RESOLUTION = 1e-14  # of a target's variance: what sums in float64 cannot tell from nothing
ITERATIONS = 10  # of residual variance and ridge, each of which follows from the other


class Moments(nn.Module):
    """Count, mean and centred second moments of rows, which can be merged exactly."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.scatter: Tensor
        self.register_buffer("count", torch.tensor(0, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros((size, size), dtype=torch.float64))

    def clear(self) -> None:
        """Forget all rows."""
        for part in (self.count, self.mean, self.scatter):
            part.zero_()

    def add(self, rows: Tensor) -> None:
        """Take in rows `[T, size]` (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance")."""
        mean = rows.mean(0)
        centred, apart = rows - mean, mean - self.mean
        total = self.count + len(rows)
        share = len(rows) / total.double()
        self.scatter += centred.mT @ centred + torch.outer(apart, apart) * (self.count * share)
        self.mean += apart * share
        self.count.copy_(total)

    def normalised(self) -> tuple[Tensor, Tensor]:
        """Return the standard deviations `[size]`, 0 of what does not vary, and the scatter in units of them."""
        deviation = (self.scatter.diagonal() / self.count).sqrt()
        scale = torch.where(deviation > CONSTANT * self.mean.abs(), deviation, 0.0)
        inverse = torch.where(scale > 0, 1 / scale, 0.0)
        return scale, self.scatter * inverse * inverse[:, None]


class Posterior(NamedTuple):
    """The weights' posterior for I inputs and D targets, centred and in units of their standard deviations.

    Inputs that do not vary have unit 1. The weights of target d have the mean `weights[:, d]` and the covariance
    `basis @ diag(variance[:, d]) @ basis.T` times its residual variance `covariance[d, d]`.
    """

    weights: Tensor  # [I, D]
    basis: Tensor  # [I, I] orthogonal
    variance: Tensor  # [I, D]
    covariance: Tensor  # [D, D] of the residuals
    unexplained: Tensor  # [D] mean squared residual over the data


def regress(moments: Moments, inputs: int, ridge: float | None) -> Posterior:
    """Regress the columns from `inputs` on, on those before and an intercept (Bishop 2006, section 3.3).

    Args:
        moments: Of rows of inputs and targets.
        inputs: Number I of inputs.
        ridge: Prior precision of the weights in units of the residual precision; None takes that of weights with a
            standard deviation of 1: the residual variance itself.
    """
    count = moments.count.double()
    _, scatter = moments.normalised()
    values, basis = _eigh(scatter[:inputs, :inputs])
    solid = values > NULL * count
    values = torch.where(solid, values, 0.0)
    target = scatter[inputs:, inputs:]
    rotated = torch.where(solid[:, None], basis.mT @ scatter[:inputs, inputs:], 0.0)

    def left_over(variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return residual scatter `[D, D]`, degrees of freedom `[D]` and residual covariance `[D, D]`."""
        weights = variance * rotated
        explained = rotated.mT @ weights
        residual = target - explained - explained.mT + weights.mT @ (values[:, None] * weights)
        freedom = count - 1 - (values[:, None] * variance).sum(0)
        share = freedom.clamp(min=1).rsqrt()
        filled = share * (1 - freedom).clamp(min=0).sqrt()
        covariance = residual * torch.outer(share, share) + target / count * torch.outer(filled, filled)
        return residual, freedom, covariance

    precision = torch.full_like(target[0], RESOLUTION if ridge is None else ridge)
    for _ in range(ITERATIONS if ridge is None else 0):
        _, _, covariance = left_over(1 / (values[:, None] + precision))
        precision = covariance.diagonal().clamp(min=RESOLUTION)
    variance = 1 / (values[:, None] + precision)
    residual, _, covariance = left_over(variance)
    covariance.diagonal().clamp_(min=0).add_(RESOLUTION)
    return Posterior(
        basis @ (variance * rotated), basis, variance, covariance, (residual.diagonal() / count).clamp(min=0)
    )


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors; torch's solver fails on some matrices with many equal eigenvalues."""
    try:
        return torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:
        values, basis = np.linalg.eigh(matrix.cpu().numpy())
        return torch.as_tensor(values, device=matrix.device), torch.as_tensor(basis, device=matrix.device)
