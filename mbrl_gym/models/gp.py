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
REWARD_INPUTS = ("current", "next")
REWARD_PRIORS = ("mean", "least")
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

    The reward can be learned as a function of the step and of where it leads (`reward_inputs="next"`): the rewards of
    most tasks depend on little else, as a distance does, and few steps show it, also where dynamics and reward together
    are a function of many inputs with a kink. The next observation is the predicted one; what is not known of it widens
    the reward's deviation by the slope of the reward there.

    A prediction takes as many kernel values a target as there are transitions, or inducing points, and with noise or
    for `uncertainty` their square: noise-free planning is many times as fast.

    Args:
        observation_space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` or `Tuple` of these.
        action_space: `Discrete`, `MultiDiscrete`, or flat, bounded `Box`.
        dynamics_fn: Exact next observation, in place of the learned one.
        reward_fn: Exact reward, in place of the learned one.
        termination_fn: Exact termination, in place of the learned one.
        kernel: "rbf" for smooth dynamics, or "matern52" for rougher ones.
        reward_inputs: What the learned reward depends on: "current" for observation and action, or "next" for the next
            observation, too.
        reward_prior: What reward to expect where there are no data: their "mean", or the "least" of them, so that a
            planner is not drawn to where nobody has been.
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
        reward_inputs: str = "current",
        reward_prior: str = "mean",
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
            "reward_inputs": reward_inputs,
            "reward_prior": reward_prior,
            "exact_limit": exact_limit,
            "inducing": inducing,
            "likelihood_rows": likelihood_rows,
            "iterations": iterations,
            "learning_rate": learning_rate,
            "dtype": dtype,
            "seed": seed,
        }
        check(kernel in KERNELS, "kernel", kernel, f"one of {', '.join(KERNELS)}")
        check(reward_inputs in REWARD_INPUTS, "reward_inputs", reward_inputs, " or ".join(REWARD_INPUTS))
        check(reward_prior in REWARD_PRIORS, "reward_prior", reward_prior, " or ".join(REWARD_PRIORS))
        check(exact_limit >= 0, "exact_limit", exact_limit, "at least 0")
        check(inducing >= 1, "inducing", inducing, "at least 1")
        check(likelihood_rows >= 2, "likelihood_rows", likelihood_rows, "at least 2")
        check(iterations >= 1, "iterations", iterations, "at least 1")
        check(learning_rate > 0, "learning_rate", learning_rate, "greater than 0")
        _check_installed()
        self.kernel, self.exact_limit, self.inducing = kernel, exact_limit, inducing
        self.likelihood_rows, self.iterations, self.learning_rate = likelihood_rows, iterations, learning_rate
        self.reward_prior = reward_prior
        # Columns: features of observation, action and, if the reward depends on it, next observation.
        self.looks_ahead = reward_inputs == "next" and reward_fn is None
        self.columns = self.inputs + (self.observation_size if self.looks_ahead else 0)
        self._continuous = self.encode_observation.continuous.nonzero()[:, 0].tolist()
        self._register_buffers()
        self._posteriors: list[Posterior | None] | None = None

    def _register_buffers(self) -> None:
        first = self._first_hyper()
        values = {
            "input_mean": torch.zeros(self.columns),
            "input_scale": torch.ones(self.columns),
            "target_mean": torch.zeros(self.outputs),
            "target_scale": torch.zeros(self.outputs),  # 0 of targets that did not vary
            **first._asdict(),
            "points": torch.zeros(1, 0, self.columns),  # [1, T, C] data, or [D, M, C] inducing points
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
        features, none = self.encode_observation(observation), torch.zeros_like(self.noise)
        _, deviation = self._outcome(features, action, none)
        varied = torch.where(self.target_scale > 0, self.target_scale, 1.0)
        return (deviation / varied).square().mean(-1).sqrt().to(self.dtype)

    def _predict(self, features: Tensor, action: Tensor, noise: Noise | None) -> Tensor:
        noisy = noise is not None and not self.encode_observation.chooses
        inputs = self._inputs(features, action)
        mean, variance = self._moments(inputs, self._continuous if noisy else ())
        output = self.target_mean + self.target_scale * mean
        size = self.observation_size
        if noise is not None and noisy:
            output[..., :size] += self._deviation(variance)[..., :size] * noise.normal
        if self.looks_ahead and self.reward_fn is None:
            following = self._next_features(features, action, output, noise)
            mean_reward, _ = self._reward(inputs, following, spread=False)
            output[..., size] = self.target_mean[size] + self.target_scale[size] * mean_reward
        return output.to(self.dtype)

    def _distribution(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = self._outcome(features, action, self.noise)
        return mean[None].to(self.dtype), deviation[None].to(self.dtype)

    def _outcome(self, features: Tensor, action: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and deviations `[..., D]` of the targets in raw units, with noise variances `[D]`."""
        inputs, size = self._inputs(features, action), self.observation_size
        mean, variance = self._moments(inputs, range(self.outputs))
        mean = self.target_mean + self.target_scale * mean
        deviation = self.target_scale * (variance + noise).sqrt()
        if self.looks_ahead:
            following = self._next_features(features, action, mean)
            reward, unknown = self._reward(inputs, following, spread=True)
            assert unknown is not None
            # What is not known of the next observation counts to first order.
            passed_on = self._reward_slope(inputs, following) * deviation[..., :size]
            mean[..., size] = self.target_mean[size] + self.target_scale[size] * reward
            total = unknown + noise[size] + passed_on.square().sum(-1)
            deviation[..., size] = self.target_scale[size] * total.sqrt()
        return mean, deviation

    def _deviation(self, variance: Tensor) -> Tensor:
        """Return the predictive deviation in raw units, noise included."""
        return self.target_scale * (variance + self.noise).sqrt()

    def _inputs(self, features: Tensor, action: Tensor) -> Tensor:
        """Return the first I columns `[..., I]`."""
        return torch.cat((features, self.encode_action(action)), -1).double()

    def _next_features(self, features: Tensor, action: Tensor, output: Tensor, noise: Noise | None = None) -> Tensor:
        """Return the features `[..., F]` of the observation to which a step leads."""
        encode = self.encode_observation
        if self.dynamics_fn is not None:
            before = encode.decode(torch.zeros_like(features), features)
            return encode(self.dynamics_fn(before, action)).double()
        changes = output[..., : self.observation_size].to(self.dtype)
        return encode(encode.decode(features, changes, None if noise is None else noise.uniform)).double()

    def _moments(self, inputs: Tensor, spread_of: Collection[int]) -> tuple[Tensor, Tensor]:
        """Return mean and variance `[..., D]` of the normalised noise-free targets; the variance of some targets.

        The reward is left out if it depends on the next observation.
        """
        rows = self._normal(inputs).flatten(0, -2)
        means, variances = (rows.new_zeros((len(rows), self.outputs)) for _ in range(2))
        for target, posterior in enumerate(self._solved()[: self._count_of_first]):
            if posterior is not None:
                mean, variance = posterior.moments(rows, variance=target in spread_of)
                means[:, target] = mean
                if variance is not None:
                    variances[:, target] = variance
        shape = (*inputs.shape[:-1], self.outputs)
        return means.view(shape), variances.view(shape)

    def _reward(self, inputs: Tensor, following: Tensor, spread: bool) -> tuple[Tensor, Tensor | None]:
        """Return mean and, if asked for, variance `[...]` of the normalised reward, given where steps lead."""
        posterior = self._solved()[self.observation_size]
        if posterior is None:
            return torch.zeros_like(inputs[..., 0]), torch.zeros_like(inputs[..., 0])
        rows = self._normal(torch.cat((inputs, following), -1)).flatten(0, -2)
        mean, variance = posterior.moments(rows, variance=spread)
        shape = inputs.shape[:-1]
        return mean.view(shape), None if variance is None else variance.view(shape)

    def _reward_slope(self, inputs: Tensor, following: Tensor) -> Tensor:
        """Return the derivatives `[..., F]` of the normalised reward's mean by the features of the next observation."""
        if self._solved()[self.observation_size] is None:
            return torch.zeros_like(following)
        with torch.inference_mode(False), torch.enable_grad():
            at = following.detach().clone().requires_grad_()
            mean, _ = self._reward(inputs.detach().clone(), at, spread=False)
            return torch.autograd.grad(mean.sum(), at)[0]

    def _normal(self, columns: Tensor) -> Tensor:
        """Normalise the first columns `[..., <= C]`."""
        count = columns.shape[-1]
        return (columns - self.input_mean[:count]) / self.input_scale[:count]

    @property
    def _count_of_first(self) -> int:
        """The number of targets that depend on observation and action alone."""
        return self.observation_size if self.looks_ahead else self.outputs

    def _width(self, target: int) -> int:
        """Return how many columns a target depends on."""
        return self.inputs if target < self._count_of_first else self.columns

    def _solved(self) -> list[Posterior | None]:
        """Return the posterior of every target that varies."""
        if self._posteriors is None:
            self._check_fitted()
            self._posteriors = [
                self._posterior(d) if scale > 0 else None for d, scale in enumerate(self.target_scale.tolist())
            ]
        return self._posteriors

    def _posterior(self, target: int) -> Posterior:
        stored = self.factor.shape[-1] > 0
        points = self.points.expand(self.outputs, -1, -1)[target, :, : self._width(target)]
        factor = self.factor[target] if stored else None
        return Posterior(self.kernel, self._hyper_of(self._hyper(), target), points, self.weights[target], factor)

    def _hyper_of(self, hyper: Hyperparameters, target: int) -> Hyperparameters:
        """Return those of one target, with the lengthscales of the columns on which it depends."""
        own = hyper.of(target)
        return own._replace(lengthscale=own.lengthscale[: self._width(target)])

    def _first_hyper(self) -> Hyperparameters:
        ones = torch.ones(self.outputs, dtype=torch.float64, device=self.is_fitted.device)
        return Hyperparameters(self.inputs**0.5 * ones[:, None].expand(-1, self.columns), ones, FIRST_NOISE * ones)

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
        inputs, targets = self._without_end_bonus(self._examples(transitions), transitions)
        if self.looks_ahead:
            inputs = torch.cat((inputs, self._features(transitions.next_observation, inputs.device)), -1)
        inputs, targets = self._normalised(inputs, targets)
        if self.termination_fn is None:
            self._fit_termination(transitions)
        sparse = len(inputs) > self.exact_limit
        chosen = self._choose(inputs, self.likelihood_rows)
        more = self._choose(inputs, max(self.exact_limit, self.likelihood_rows))
        inducing = inputs[self._choose(inputs, self.inducing)] if sparse else None
        fits = {
            d: fit_target(
                self.kernel,
                [self._hyper_of(start, d) for start in (self._hyper(), self._first_hyper())],
                inputs[:, : self._width(d)],
                targets[:, d],
                chosen,
                more,
                None if inducing is None else inducing[:, : self._width(d)],
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
        if self.reward_prior == "least":
            self.target_mean[self.observation_size] = targets[:, self.observation_size].min()
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
            width = self._width(d)
            self.lengthscale[d, :width], self.outputscale[d], self.noise[d] = fitted.hyper
            self.weights[d] = fitted.weights
            if fitted.factor is not None:
                self.points[d, :, :width], self.factor[d] = fitted.points, fitted.factor

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
