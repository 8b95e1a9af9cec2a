"""Posteriors of one Gaussian process, exact and with inducing points, in plain torch.

Inputs and targets are normalised, the prior mean is zero, and everything is float64: the cancellations in noise-free
data leave nothing of float32.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "BOUNDS",
    "JITTER",
    "KERNELS",
    "Conditioned",
    "Fitted",
    "Hyperparameters",
    "Posterior",
    "SparseConditioned",
    "condition",
    "condition_sparse",
    "covariance",
]

KERNELS = ("rbf", "matern52")
JITTER = 1e-8  # on the diagonal of the inducing points' covariance, relative to the prior variance
ROWS = 2048  # of the data, that are brought together with the inducing points at a time
ELEMENTS = {"cpu": 2**17, "else": 2**25}  # of the largest covariance matrix while predicting; 2**17 stay in a cache


class Hyperparameters(NamedTuple):
    """Of the kernel and the noise of one target, or with a leading axis of several."""

    lengthscale: Tensor  # [I]
    outputscale: Tensor  # [], prior variance
    noise: Tensor  # [], variance

    def of(self, target: int) -> Hyperparameters:
        """Return those of one of several targets."""
        return Hyperparameters(*(value[target] for value in self))


BOUNDS = {"lengthscale": (1e-2, 1e4), "outputscale": (1e-4, 1e4), "noise": (1e-6, 2.0)}
"""Of the hyperparameters. Float64 factorises thousands of rows of the stiffest covariance that they allow."""


class Conditioned(NamedTuple):
    """A process given T observations, which are its points."""

    weights: Tensor  # [T], of the covariances with the points in the posterior mean
    loss: float  # negative log marginal likelihood, per observation


class SparseConditioned(NamedTuple):
    """A process with M inducing points given T observations."""

    weights: Tensor  # [M]
    factor: Tensor  # [M, M], F: covariances k with the points reduce the prior variance by |F k|^2
    loss: float  # negative evidence lower bound, per observation
    natural_vector: Tensor  # [M], S^-1 m of the inducing values N(m, S) in units of their whitened prior
    precision: Tensor  # [M, M], S^-1


class Fitted(NamedTuple):
    """All that was learned about one target."""

    hyper: Hyperparameters
    points: Tensor  # [T, I] data or [M, I] inducing points
    weights: Tensor  # [T] or [M]
    factor: Tensor | None  # [M, M]; None for exact inference
    loss: float
    evaluations: int  # of the likelihood or its bound


class Posterior:
    """What is known of one target.

    Args:
        kernel: One of `KERNELS`.
        hyper: Of this target.
        points: Data or inducing points `[T, I]`.
        weights: `Conditioned.weights`, `[T]`.
        factor: `SparseConditioned.factor`, `[T, T]`; None takes that of exact inference, computed when first needed.
    """

    def __init__(
        self, kernel: str, hyper: Hyperparameters, points: Tensor, weights: Tensor, factor: Tensor | None
    ) -> None:
        self.kernel, self.hyper = kernel, hyper
        self.points, self.weights, self.factor = points, weights, factor

    def moments(self, inputs: Tensor, variance: bool) -> tuple[Tensor, Tensor | None]:
        """Return mean and, if asked for, variance `[N]` of the noise-free process at inputs `[N, I]`."""
        if variance and self.factor is None:
            with torch.inference_mode(False), torch.no_grad():
                self.factor = _inverse(_cholesky(_data_covariance(self.kernel, self.hyper, self.points)))
        limit = ELEMENTS["cpu" if inputs.device.type == "cpu" else "else"]
        parts = []
        for rows in inputs.split(max(1, limit // max(len(self.points), 1))):
            with_points = covariance(self.kernel, self.hyper, rows, self.points)
            mean = with_points @ self.weights
            parts.append((mean, self._variance(with_points) if variance else mean))
        mean, spread = (torch.cat(part) for part in zip(*parts, strict=True))
        return mean, spread if variance else None

    def _variance(self, with_points: Tensor) -> Tensor:
        assert self.factor is not None
        prior = self.hyper.outputscale
        reduction = (with_points @ self.factor.mT).square().sum(-1)
        return torch.maximum(prior - reduction, torch.finfo(prior.dtype).eps * prior)


def covariance(kernel: str, hyper: Hyperparameters, one: Tensor, other: Tensor) -> Tensor:
    """Return prior covariances `[N, T]` of the process at inputs `[N, I]` and `[T, I]`."""
    one, other = one / hyper.lengthscale, other / hyper.lengthscale
    # Minus half the squared distance, by one matrix product.
    exponent = torch.addmm(-0.5 * other.square().sum(-1), one, other.mT)
    exponent = exponent.sub_(0.5 * one.square().sum(-1, keepdim=True))
    if kernel == "rbf":
        return exponent.exp_().mul(hyper.outputscale)
    scaled = (-10 * exponent).clamp(min=1e-30).sqrt()  # sqrt(5) times the distance; clipped for its gradient
    return hyper.outputscale * (1 + scaled + scaled.square() / 3) * torch.exp(-scaled)


def condition(kernel: str, hyper: Hyperparameters, inputs: Tensor, target: Tensor) -> Conditioned:
    """Condition on all of the data `[T, I]` and `[T]` (Rasmussen and Williams 2006, algorithm 2.1)."""
    lower = _cholesky(_data_covariance(kernel, hyper, inputs))
    weights = torch.cholesky_solve(target[:, None], lower)[:, 0]
    loss = 0.5 * (target @ weights) + lower.diagonal().log().sum()
    return Conditioned(weights, float(loss) / len(target) + 0.5 * math.log(2 * math.pi))


def condition_sparse(
    kernel: str, hyper: Hyperparameters, inducing: Tensor, inputs: Tensor, target: Tensor
) -> SparseConditioned:
    """Condition inducing values at `[M, I]` on the data `[T, I]` and `[T]`.

    The maximum of the bound of Hensman et al. (2013), equation 4, over the distribution of the inducing values, which
    for given hyperparameters has a closed form (Titsias 2009): one pass over the data, T M^2 operations.
    """
    prior = covariance(kernel, hyper, inducing, inducing)
    whiten = _inverse(_cholesky(_with_diagonal(prior, JITTER * hyper.outputscale)))
    precision = torch.eye(len(inducing), dtype=inputs.dtype, device=inputs.device)
    vector = torch.zeros_like(inducing[:, 0])
    explained = torch.zeros_like(hyper.noise)
    for rows, values in zip(inputs.split(ROWS), target.split(ROWS), strict=True):
        white = whiten @ covariance(kernel, hyper, inducing, rows)
        precision += white @ white.mT / hyper.noise
        vector += white @ values / hyper.noise
        explained += white.square().sum()
    lower = _cholesky(precision)
    mean = torch.cholesky_solve(vector[:, None], lower)[:, 0]
    count = len(target)
    loss = 0.5 * count * torch.log(2 * math.pi * hyper.noise) + lower.diagonal().log().sum() - 0.5 * vector @ mean
    loss += 0.5 * (target.square().sum() + count * hyper.outputscale - explained) / hyper.noise
    values, vectors = torch.linalg.eigh(precision)
    factor = ((1 - 1 / values.clamp(min=1)).sqrt() * vectors).mT @ whiten
    return SparseConditioned(mean @ whiten, factor, float(loss) / count, vector, precision)


def _data_covariance(kernel: str, hyper: Hyperparameters, inputs: Tensor) -> Tensor:
    return _with_diagonal(covariance(kernel, hyper, inputs, inputs), hyper.noise)


def _with_diagonal(matrix: Tensor, value: Tensor) -> Tensor:
    """Add a value to the diagonal, in place."""
    matrix.diagonal().add_(value)
    return matrix


def _inverse(lower: Tensor) -> Tensor:
    identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower, identity, upper=False)


def _cholesky(matrix: Tensor) -> Tensor:
    """Return the lower Cholesky factor, with more on the diagonal where rounding leaves a matrix indefinite."""
    size = matrix.diagonal().mean()
    lower, failed = torch.linalg.cholesky_ex(matrix)
    more = 1e-12
    while bool(failed) and more < 1e-2:
        lower, failed = torch.linalg.cholesky_ex(_with_diagonal(matrix.clone(), more * size))
        more *= 10
    return lower
