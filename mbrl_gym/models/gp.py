"""Gaussian processes: exact for hundreds to a few thousand transitions, with inducing points for more."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.errors import MissingPackageError
from mbrl_gym.models.base import DynamicsFn, FitReport, RewardFn, TerminationFn, Transitions, check
from mbrl_gym.models.gp_posterior import KERNELS, Fitted, Hyperparameters, Posterior
from mbrl_gym.models.learned import LearnedModel
from mbrl_gym.models.saved import make_room
from mbrl_gym.noise import Noise

__all__ = ["GPModel"]

FIRST_NOISE = 1e-2  # where the first fit starts
LENGTHS = ("points", "weights", "factor")  # buffers whose length depends on the data


class GPModel(LearnedModel):
    """An independent Gaussian process for each target: every observation difference, and the reward.

    Each target has a kernel with a lengthscale per input, a noise of its own, and the data's average as prior mean.
    Lengthscales, prior variance and noise maximise the marginal likelihood (L-BFGS, by GPyTorch), at first from
    lengthscales of the size of the inputs, in later fits from where they are. Up to `exact_limit` transitions inference
    is exact. Beyond, `inducing` random transitions start as the inducing points of each target, refined by minibatches
    (Hensman, Fusi and Lawrence 2013, "Gaussian Processes for Big Data"); their values' distribution ends at its optimum
    for all of the data. The noise is raised where `exact_limit` transitions are less certain than `likelihood_rows`.
    Inputs and targets are normalised inside, where all computation is in float64. Targets that did not vary in the data
    are predicted as constant, with certainty.

    A prediction takes as many kernel values a target as there are transitions, or inducing points, and with noise or
    for `uncertainty` their square: noise-free planning is many times as fast.

    Args:
        observation_space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` or `Tuple` of these.
        action_space: `Discrete`, `MultiDiscrete`, or flat, bounded `Box`.
        dynamics_fn: Exact next observation, in place of the learned one.
        reward_fn: Exact reward, in place of the learned one.
        termination_fn: Exact termination, in place of the learned one.
        kernel: "rbf" for smooth dynamics, or "matern52" for rougher ones.
        exact_limit: Most transitions for exact inference.
        inducing: Number of inducing points beyond it.
        likelihood_rows: Most transitions, chosen at random, whose marginal likelihood is maximised; the cost grows with
            the cube.
        iterations: Bound on the steps of L-BFGS, and number of minibatches.
        learning_rate: Of Adam, which moves inducing points and kernel by minibatches.
        dtype: "float32" or "float64", of predictions.
        seed: Seeds the choice of transitions and minibatches, and the termination's network.

    Raises:
        UnsupportedSpaceError: A space that models cannot handle.
        InvalidSettingError: A setting out of its range.
        MissingPackageError: GPyTorch is not installed.
    """

    input_mean: Tensor
    input_scale: Tensor
    target_mean: Tensor
    target_scale: Tensor
    lengthscale: Tensor
    outputscale: Tensor
    noise: Tensor
    points: Tensor
    weights: Tensor
    factor: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        dynamics_fn: DynamicsFn | None = None,
        reward_fn: RewardFn | None = None,
        termination_fn: TerminationFn | None = None,
        kernel: str = "rbf",
        exact_limit: int = 2000,
        inducing: int = 256,
        likelihood_rows: int = 300,
        iterations: int = 100,
        learning_rate: float = 0.05,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            dynamics_fn=dynamics_fn,
            reward_fn=reward_fn,
            termination_fn=termination_fn,
            dtype=dtype,
            seed=seed,
        )
        self.arguments = {
            "dynamics_fn": dynamics_fn,
            "reward_fn": reward_fn,
            "termination_fn": termination_fn,
            "kernel": kernel,
            "exact_limit": exact_limit,
            "inducing": inducing,
            "likelihood_rows": likelihood_rows,
            "iterations": iterations,
            "learning_rate": learning_rate,
            "dtype": dtype,
            "seed": seed,
        }
        check(kernel in KERNELS, "kernel", kernel, f"one of {', '.join(KERNELS)}")
        check(exact_limit >= 0, "exact_limit", exact_limit, "at least 0")
        check(inducing >= 1, "inducing", inducing, "at least 1")
        check(likelihood_rows >= 2, "likelihood_rows", likelihood_rows, "at least 2")
        check(iterations >= 1, "iterations", iterations, "at least 1")
        check(learning_rate > 0, "learning_rate", learning_rate, "greater than 0")
        _check_installed()
        self.kernel, self.exact_limit, self.inducing = kernel, exact_limit, inducing
        self.likelihood_rows, self.iterations, self.learning_rate = likelihood_rows, iterations, learning_rate
        self._continuous = self.encode_observation.continuous.nonzero()[:, 0].tolist()
        self._register_buffers()
        self._posteriors: list[Posterior | None] | None = None

    def _register_buffers(self) -> None:
        first = self._first_hyper()
        values = {
            "input_mean": torch.zeros(self.inputs),
            "input_scale": torch.ones(self.inputs),
            "target_mean": torch.zeros(self.outputs),
            "target_scale": torch.zeros(self.outputs),  # 0 of targets that did not vary
            **first._asdict(),
            "points": torch.zeros(1, 0, self.inputs),  # [1, T, I] data, or [D, M, I] inducing points
            "weights": torch.zeros(self.outputs, 0),  # [D, T] or [D, M]
            "factor": torch.zeros(self.outputs, 0, 0),  # [D, M, M]; that of exact inference is not stored
        }
        for name, value in values.items():
            self.register_buffer(name, value.double())

    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the posterior standard deviation `[N]` of the noise-free targets.

        The root mean square over observation differences and reward, in units of the targets' standard deviation in
        the data.
        """
        features = self.encode_observation(observation)
        _, variance = self._moments(features, action, spread_of=range(self.outputs))
        return variance.mean(-1).sqrt().to(self.dtype)

    def _predict(self, features: Tensor, action: Tensor, noise: Noise | None) -> Tensor:
        noisy = noise is not None and not self.encode_observation.chooses
        mean, variance = self._moments(features, action, spread_of=self._continuous if noisy else ())
        output = self.target_mean + self.target_scale * mean
        if noise is not None and noisy:
            size = self.observation_size
            output[..., :size] += self._deviation(variance)[..., :size] * noise.normal
        return output.to(self.dtype)

    def _distribution(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self._moments(features, action, spread_of=range(self.outputs))
        mean = self.target_mean + self.target_scale * mean
        return mean[None].to(self.dtype), self._deviation(variance)[None].to(self.dtype)

    def _deviation(self, variance: Tensor) -> Tensor:
        """Return the predictive deviation in raw units, noise included."""
        return self.target_scale * (variance + self.noise).sqrt()

    def _moments(self, features: Tensor, action: Tensor, spread_of: Collection[int]) -> tuple[Tensor, Tensor]:
        """Return mean and variance `[..., D]` of the normalised noise-free targets; the variance of some targets."""
        inputs = torch.cat((features, self.encode_action(action)), -1).double()
        rows = ((inputs - self.input_mean) / self.input_scale).flatten(0, -2)
        means, variances = (rows.new_zeros((len(rows), self.outputs)) for _ in range(2))
        for target, posterior in enumerate(self._solved()):
            if posterior is not None:
                mean, variance = posterior.moments(rows, variance=target in spread_of)
                means[:, target] = mean
                if variance is not None:
                    variances[:, target] = variance
        shape = (*inputs.shape[:-1], self.outputs)
        return means.view(shape), variances.view(shape)

    def _solved(self) -> list[Posterior | None]:
        """Return the posterior of every target that varies."""
        if self._posteriors is None:
            self._check_fitted()
            hyper, stored = self._hyper(), self.factor.shape[-1] > 0
            points = self.points.expand(self.outputs, -1, -1)
            self._posteriors = [
                Posterior(self.kernel, hyper.of(d), points[d], self.weights[d], self.factor[d] if stored else None)
                if scale > 0
                else None
                for d, scale in enumerate(self.target_scale.tolist())
            ]
        return self._posteriors

    def _first_hyper(self) -> Hyperparameters:
        ones = torch.ones(self.outputs, dtype=torch.float64, device=self.is_fitted.device)
        return Hyperparameters(self.inputs**0.5 * ones[:, None].expand(-1, self.inputs), ones, FIRST_NOISE * ones)

    def _hyper(self) -> Hyperparameters:
        return Hyperparameters(self.lengthscale, self.outputscale, self.noise)

    def fit(self, transitions: Transitions) -> FitReport:
        """Learn from all transitions; hyperparameters start where they are.

        The loss of the report is the negative log marginal likelihood of the normalised targets, or minus its bound,
        per transition and target; a gradient step is one evaluation of it.

        Raises:
            InvalidSettingError: Fewer than two transitions, or values that are not finite.
        """
        from mbrl_gym.models.gp_training import fit_target

        begin = time.perf_counter()
        inputs, targets = self._normalised(*self._examples(transitions))
        if self.termination_fn is None:
            self._fit_termination(transitions)
        sparse = len(inputs) > self.exact_limit
        chosen = self._choose(inputs, self.likelihood_rows)
        more = self._choose(inputs, max(self.exact_limit, self.likelihood_rows))
        inducing = inputs[self._choose(inputs, self.inducing)] if sparse else None
        fits = {
            d: fit_target(
                self.kernel,
                (self._hyper().of(d), self._first_hyper().of(d)),
                inputs,
                targets[:, d],
                chosen,
                more,
                inducing,
                iterations=self.iterations,
                learning_rate=self.learning_rate,
                generator=self.generator,
            )
            for d in self.target_scale.nonzero()[:, 0].tolist()
        }
        self._store(fits, inputs if inducing is None else inducing, sparse)
        self._mark_fitted()
        evaluations = [fitted.evaluations for fitted in fits.values()]
        return FitReport(
            transitions=len(inputs),
            epochs=max(evaluations, default=0),
            gradient_steps=sum(evaluations),
            loss=sum(fitted.loss for fitted in fits.values()) / max(len(fits), 1),
            holdout_loss=(),
            elites=(0,),
            seconds=time.perf_counter() - begin,
        )

    def _normalised(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise inputs and targets, from now on like this."""
        for values, mean, scale in (
            (inputs, self.input_mean, self.input_scale),
            (targets, self.target_mean, self.target_scale),
        ):
            deviation, centre = torch.std_mean(values, 0, correction=0)
            mean.copy_(centre)
            scale.copy_(torch.where(deviation > 1e-9 * centre.abs(), deviation, 0.0))
        # An input that did not vary has no scale of its own.
        magnitude = torch.where(self.input_mean == 0, 1.0, self.input_mean.abs())
        self.input_scale.copy_(torch.where(self.input_scale > 0, self.input_scale, magnitude))
        divisor = torch.where(self.target_scale > 0, self.target_scale, 1.0)
        return (inputs - self.input_mean) / self.input_scale, (targets - self.target_mean) / divisor

    def _choose(self, inputs: Tensor, count: int) -> Tensor:
        """Choose rows at random, or take all if there are no more."""
        rows = torch.arange(len(inputs))
        if len(inputs) > count:
            rows = torch.randperm(len(inputs), generator=self.generator)[:count]
        return rows.to(inputs.device)

    def _store(self, fits: dict[int, Fitted], points: Tensor, sparse: bool) -> None:
        """Keep what was learned; targets that did not vary keep their hyperparameters, and need nothing else."""
        count = len(points)
        self.points = points.expand(self.outputs if sparse else 1, -1, -1).clone()
        self.weights = points.new_zeros((self.outputs, count))
        self.factor = points.new_zeros((self.outputs, *((count, count) if sparse else (0, 0))))
        for d, fitted in fits.items():
            self.lengthscale[d], self.outputscale[d], self.noise[d] = fitted.hyper
            self.weights[d] = fitted.weights
            if fitted.factor is not None:
                self.points[d], self.factor[d] = fitted.points, fitted.factor

    def _forget(self) -> None:
        super()._forget()
        self._posteriors = None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        make_room(self, LENGTHS, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _check_installed() -> None:
    try:
        import mbrl_gym.models.gp_training  # noqa: F401
    except ImportError as error:
        raise MissingPackageError('GPModel needs GPyTorch: pip install "mbrl-gym[gp]"') from error
