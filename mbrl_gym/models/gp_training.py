"""Hyperparameters and inducing points of Gaussian processes, by GPyTorch.

The only module that imports GPyTorch, which is an extra: import it within functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mbrl_gym.models.gp_posterior import (
    BOUNDS,
    JITTER,
    Conditioned,
    Fitted,
    Hyperparameters,
    condition,
    condition_sparse,
)

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", DeprecationWarning)
    import gpytorch
    from linear_operator.utils.errors import NanError, NotPSDError
    from linear_operator.utils.warnings import NumericalWarning

__all__ = ["fit_target", "maximise_likelihood", "raise_noise", "refine_inducing"]

START_BOUNDS = {"lengthscale": (5e-2, 1e2), "outputscale": (1e-2, 2e3), "noise": (1e-5, 0.1)}
"""Where a fit may start: near the bounds the likelihood is flat, and a fit that starts there stays there."""

INNER_BOUNDS = {name: (2 * low, high / 2) for name, (low, high) in BOUNDS.items()}
NOISE_FACTOR = 3.0  # between the noise variances that are tried
BATCH = 512  # rows of a minibatch
NATURAL_STEP = 0.1  # length of a natural gradient step
LEAST_NOISE = 1e-3  # while refining: with less, the bound is too stiff to follow


def fit_target(
    kernel: str,
    starts: Sequence[Hyperparameters],
    inputs: Tensor,
    target: Tensor,
    chosen: Tensor,
    more: Tensor,
    inducing: Tensor | None,
    *,
    iterations: int,
    learning_rate: float,
    generator: torch.Generator,
) -> Fitted:
    """Learn one normalised target `[T]` from inputs `[T, I]`.

    Args:
        kernel: One of `KERNELS`.
        starts: Where hyperparameters may start.
        inputs: Normalised inputs.
        target: Normalised target.
        chosen: Rows whose marginal likelihood is maximised.
        more: Rows, all of them for exact inference, whose likelihood may raise the noise.
        inducing: Where inducing points start, `[M, I]`; None for exact inference.
        iterations: Bound on the steps of L-BFGS, and number of minibatches.
        learning_rate: Of Adam.
        generator: Draws the minibatches.
    """
    hyper, evaluations = maximise_likelihood(kernel, starts, inputs[chosen], target[chosen], iterations)
    if inducing is None or len(more) > len(chosen):
        hyper, exact = raise_noise(kernel, hyper, inputs[more], target[more])
    if inducing is None:
        return Fitted(hyper, inputs, exact.weights, None, exact.loss, evaluations)
    hyper, inducing = refine_inducing(
        kernel, hyper, inducing, inputs, target, steps=iterations, learning_rate=learning_rate, generator=generator
    )
    sparse = condition_sparse(kernel, hyper, inducing, inputs, target)
    return Fitted(hyper, inducing, sparse.weights, sparse.factor, sparse.loss, evaluations + iterations)


def raise_noise(
    kernel: str, hyper: Hyperparameters, inputs: Tensor, target: Tensor
) -> tuple[Hyperparameters, Conditioned]:
    """Raise the noise while that raises the likelihood of the data, and condition on them.

    A few rows may hide what the kernel cannot follow, as a kink, so that all rows would seem certain.
    """
    known = condition(kernel, hyper, inputs, target)
    while NOISE_FACTOR * hyper.noise < BOUNDS["noise"][1]:
        higher = hyper._replace(noise=NOISE_FACTOR * hyper.noise)
        other = condition(kernel, higher, inputs, target)
        if other.loss >= known.loss:
            break
        hyper, known = higher, other
    return hyper, known


def maximise_likelihood(
    kernel: str, starts: Sequence[Hyperparameters], inputs: Tensor, target: Tensor, iterations: int
) -> tuple[Hyperparameters, int]:
    """Maximise the marginal likelihood of the data `[T, I]` and `[T]` by L-BFGS, from the best of several starts.

    Returns:
        The hyperparameters, and how often the likelihood was evaluated.
    """
    inside = [_clamped(start, START_BOUNDS) for start in starts]
    begin = min(inside, key=lambda start: condition(kernel, start, inputs, target).loss)
    process = _ExactProcess(kernel, begin, inputs, target).train()
    likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(process.likelihood, process)
    optimiser = torch.optim.LBFGS(
        process.parameters(),
        max_iter=iterations,
        max_eval=2 * iterations,
        tolerance_grad=1e-5,
        tolerance_change=1e-4,
        line_search_fn="strong_wolfe",
    )
    evaluations = 0

    def loss() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        optimiser.zero_grad()
        value = -likelihood(process(inputs), target)
        value.backward()
        return value

    try:
        with _quietly(), torch.enable_grad(), gpytorch.settings.fast_computations(False, False, False):
            optimiser.step(loss)
    except (NanError, NotPSDError):
        return begin, evaluations
    return process.hyper(), evaluations


def refine_inducing(
    kernel: str,
    hyper: Hyperparameters,
    inducing: Tensor,
    inputs: Tensor,
    target: Tensor,
    *,
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
) -> tuple[Hyperparameters, Tensor]:
    """Follow the bound of Hensman et al. (2013), "Gaussian Processes for Big Data", by minibatches.

    Adam moves the kernel's hyperparameters and the inducing points `[M, I]`; natural gradients (their section 3.2) move
    the distribution of the inducing values, which starts at its optimum. The noise stays: the bound would take the
    approximation's error for noise (Bauer et al. 2016, "Understanding Probabilistic Sparse Gaussian Process
    Approximations").

    Returns:
        The hyperparameters and the inducing points.
    """
    begin = _clamped(hyper, INNER_BOUNDS)._replace(noise=hyper.noise.clamp(LEAST_NOISE, INNER_BOUNDS["noise"][1]))
    optimum = condition_sparse(kernel, begin, inducing, inputs, target)
    process = _SparseProcess(kernel, begin, inducing)
    process.start_at(optimum.natural_vector, optimum.precision)
    bound = gpytorch.mlls.VariationalELBO(process.likelihood, process.train(), len(inputs))
    process.likelihood.raw_noise.requires_grad_(False)
    adam = torch.optim.Adam([*process.kernel.parameters(), process.strategy.inducing_points], lr=learning_rate)
    natural = gpytorch.optim.NGD(process.variational_parameters(), num_data=len(inputs), lr=NATURAL_STEP)
    kept = begin, inducing
    with _quietly(), torch.enable_grad():
        for _ in range(steps):
            rows = torch.randint(len(inputs), (BATCH,), generator=generator).to(inputs.device)
            adam.zero_grad()
            natural.zero_grad()
            try:
                loss = -bound(process(inputs[rows]), target[rows])
                loss.backward()
            except (NanError, NotPSDError):
                break
            kept = process.hyper(), process.strategy.inducing_points.detach().clone()
            adam.step()
            natural.step()
    return kept[0]._replace(noise=hyper.noise), kept[1]


def _clamped(hyper: Hyperparameters, bounds: dict[str, tuple[float, float]]) -> Hyperparameters:
    return Hyperparameters(*(value.clamp(*bounds[name]) for name, value in hyper._asdict().items()))


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out GPyTorch's note that it made a matrix definite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumericalWarning)
        yield


def _kernel(name: str, hyper: Hyperparameters) -> Any:
    settings = {"ard_num_dims": len(hyper.lengthscale), "lengthscale_constraint": _interval("lengthscale")}
    if name == "rbf":
        base = gpytorch.kernels.RBFKernel(**settings)
    else:
        base = gpytorch.kernels.MaternKernel(nu=2.5, **settings)
    kernel = gpytorch.kernels.ScaleKernel(base, outputscale_constraint=_interval("outputscale"))
    kernel = kernel.to(hyper.lengthscale)
    base.lengthscale, kernel.outputscale = hyper.lengthscale, hyper.outputscale
    return kernel


def _likelihood(hyper: Hyperparameters) -> Any:
    likelihood = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=_interval("noise")).to(hyper.noise)
    likelihood.noise = hyper.noise
    return likelihood


def _interval(name: str) -> Any:
    low, high = BOUNDS[name]
    return gpytorch.constraints.Interval(torch.tensor(low), torch.tensor(high))


class _Process:
    """What both kinds of processes share: the prior."""

    kernel: Any
    likelihood: Any

    def forward(self, inputs: Tensor) -> Any:
        return gpytorch.distributions.MultivariateNormal(torch.zeros_like(inputs[..., 0]), self.kernel(inputs))

    def hyper(self) -> Hyperparameters:
        values = self.kernel.base_kernel.lengthscale[0], self.kernel.outputscale, self.likelihood.noise[0]
        return Hyperparameters(*(value.detach().clone() for value in values))


class _ExactProcess(_Process, gpytorch.models.ExactGP):
    def __init__(self, kernel: str, hyper: Hyperparameters, inputs: Tensor, target: Tensor) -> None:
        super().__init__(inputs, target, _likelihood(hyper))
        self.kernel = _kernel(kernel, hyper)


class _SparseProcess(_Process, gpytorch.models.ApproximateGP):
    def __init__(self, kernel: str, hyper: Hyperparameters, inducing: Tensor) -> None:
        variational = gpytorch.variational
        distribution = variational.NaturalVariationalDistribution(len(inducing)).to(inducing)
        jitter = float(JITTER * hyper.outputscale)
        strategy = variational.VariationalStrategy(self, inducing, distribution, jitter_val=jitter)
        super().__init__(strategy)
        self.strategy = strategy
        self.distribution = distribution
        self.likelihood, self.kernel = _likelihood(hyper), _kernel(kernel, hyper)

    def start_at(self, natural_vector: Tensor, precision: Tensor) -> None:
        """Set the distribution of the inducing values; GPyTorch would add global random numbers to one of its own."""
        with torch.no_grad():
            self.distribution.natural_vec.copy_(natural_vector)
            self.distribution.natural_mat.copy_(-0.5 * precision)
        self.strategy.variational_params_initialized.fill_(1)
