"""Bayesian linear regression: a model in closed form, with an exact posterior and exact recursive updates."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.models.base import DynamicsFn, FitReport, RewardFn, TerminationFn, Transitions, as_tensor, check
from mbrl_gym.models.learned import Examples, LearnedModel
from mbrl_gym.models.regression import Moments, regress
from mbrl_gym.models.saved import make_room
from mbrl_gym.noise import Noise

__all__ = ["LinearModel"]

KEPT = 2000  # rows of each kind that the termination learns from after an update


class _Solution(NamedTuple):
    """The posterior in raw units and the model's dtype; I columns of observation and action features, D targets."""

    centre: Tensor  # [I]
    weights: Tensor  # [I, D]
    target_mean: Tensor  # [D], at the centre
    basis: Tensor  # [I, I]
    spread: Tensor  # [I, D]; the leverage of x is 1 / count + ((x - centre) @ basis)^2 @ spread
    one_row: Tensor  # 1 / count
    deviation: Tensor  # [D] residual standard deviation
    relative: Tensor  # [D] in units of the targets' standard deviations
    noise_root: Tensor  # [F, F] root of the residuals' covariance; 0 for choices
    unexplained: Tensor  # mean squared residual of the data in units of the targets' variances, mean over targets


class LinearModel(LearnedModel):
    """Bayesian linear regression of (observation difference, reward) on (observation, action, 1).

    With inputs x and targets centred and scaled to unit variance over the data, the weights of each target have the
    prior N(0, sigma^2 / ridge) and the intercept a flat one: the posterior mean is ridge regression, and the
    predictive variance sigma^2 (1 + 1/n + x^T (X^T X + ridge I)^-1 x) (Bishop 2006, "Pattern Recognition and Machine
    Learning", section 3.3). Scaling makes the prior mean the same whatever the units. By default it says that weights
    are of the order of 1, and ridge is each target's sigma^2: without residuals, next to nothing.

    The residual variance sigma^2 of each target is RSS / (n - 1 - gamma), with gamma the effective number of weights
    (Bishop 2006, equations 3.91 and 3.95). Where less than one degree of freedom is left, as with fewer rows than
    columns, the target's own variance fills it up: then nothing shows how well the model fits. Columns that do not
    vary in the data, and directions that rounding only fills, get no weight; their prior stays.

    With noise, continuous columns are drawn together, from the residuals' covariance times the same factors. Choices
    are drawn from their linear probabilities. Termination is learned by a `TerminationNetwork` of the next
    observation, unless a function is given.

    The sums behind all this are kept in float64, so that `update` costs the same whatever came before.

    Args:
        observation_space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` or `Tuple` of these.
        action_space: `Discrete`, `MultiDiscrete`, or flat, bounded `Box`.
        dynamics_fn: Exact next observation, in place of the learned one.
        reward_fn: Exact reward, in place of the learned one.
        termination_fn: Exact termination, in place of the learned one.
        ridge: Prior precision of the weights in units of the residual precision, of all targets; None takes each
            target's residual variance in units of its own.
        dtype: "float32" or "float64", of predictions.
        seed: Seeds the termination's network.

    Raises:
        UnsupportedSpaceError: A space that models cannot handle.
        InvalidSettingError: A setting out of its range.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        dynamics_fn: DynamicsFn | None = None,
        reward_fn: RewardFn | None = None,
        termination_fn: TerminationFn | None = None,
        ridge: float | None = None,
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
            "ridge": ridge,
            "dtype": dtype,
            "seed": seed,
        }
        check(ridge is None or 0 < ridge < float("inf"), "ridge", ridge, "None, or greater than 0 and finite")
        self.ridge = ridge
        self.moments = Moments(self.inputs + self.outputs)
        self.ends: Tensor
        self.others: Tensor
        for name in ("ends", "others"):  # next observations that ended an episode, and that did not [0 to KEPT, F]
            self.register_buffer(name, torch.zeros((0, self.observation_size)))
        self._solution: _Solution | None = None

    @property
    def weights(self) -> Tensor:
        """Posterior mean of the weights `[I, D]` of raw observation and action features on the raw targets."""
        return self._solved().weights

    @property
    def intercept(self) -> Tensor:
        """Posterior mean of the intercepts `[D]`."""
        solution = self._solved()
        return solution.target_mean - solution.centre @ solution.weights

    @property
    def residual_deviation(self) -> Tensor:
        """Residual standard deviation `[D]` of each target."""
        return self._solved().deviation

    def fit(self, transitions: Transitions) -> FitReport:
        """Forget all sums and learn from all transitions; a learned termination goes on from where it is.

        The loss of the report is the share of the targets' variances that stays unexplained, on average.

        Raises:
            InvalidSettingError: Fewer than two transitions, or values that are not finite.
        """
        begin = time.perf_counter()
        examples = self._examples(transitions)  # refused transitions leave everything as it was
        self.moments.clear()
        self.ends, self.others = self.ends[:0], self.others[:0]
        return self._learn(transitions, examples, begin)

    def update(self, transitions: Transitions) -> FitReport:
        """Learn from further transitions: the same as `fit` to the earlier ones and these, up to rounding.

        The cost does not depend on how many came before. A learned termination goes on from where it is: it is
        trained when the transitions hold an end, on the last 2,000 ends and 2,000 other steps.

        Raises:
            InvalidSettingError: Values that are not finite, or fewer than two transitions in all.
        """
        begin = time.perf_counter()
        examples = self._examples(transitions, least=1 if self.fitted else 2)
        return self._learn(transitions, examples, begin)

    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the deviation `[N]` of the posterior mean: what more data would remove.

        The root mean square over observation differences and reward, in units of the targets' standard deviation in
        the data.
        """
        self._check_fitted()
        solution = self._solved()
        leverage = self._leverage(self._centred(self.encode_observation(observation), action))
        return (leverage * solution.relative.square()).mean(-1).sqrt()

    def _predict(self, features: Tensor, action: Tensor, noise: Noise | None) -> Tensor:
        solution = self._solved()
        centred = self._centred(features, action)
        output = centred @ solution.weights + solution.target_mean
        if noise is not None and not self.encode_observation.chooses:
            drawn = noise.normal.to(self.dtype) @ solution.noise_root
            size = self.observation_size
            output[..., :size] += (1 + self._leverage(centred)[..., :size]).sqrt() * drawn
        return output

    def _distribution(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        solution = self._solved()
        centred = self._centred(features, action)
        mean = centred @ solution.weights + solution.target_mean
        return mean[None], ((1 + self._leverage(centred)).sqrt() * solution.deviation)[None]

    def _centred(self, features: Tensor, action: Tensor) -> Tensor:
        """Return inputs `[..., I]` relative to their mean, which loses no digits far from zero."""
        return torch.cat((features, self.encode_action.for_folded(action)), -1) - self._solved().centre

    def _leverage(self, centred: Tensor) -> Tensor:
        """Return the posterior variance of the mean `[..., D]`, in units of the residual variances."""
        solution = self._solved()
        return solution.one_row + (centred @ solution.basis).square() @ solution.spread

    def _learn(self, transitions: Transitions, examples: Examples, begin: float) -> FitReport:
        first = not int(self.moments.count)
        self.moments.add(torch.cat(examples, -1))
        if self.termination_fn is None:
            self._learn_termination(transitions, anew=first)
        self._mark_fitted()
        return FitReport(
            transitions=len(examples.inputs),
            epochs=1,
            gradient_steps=0,
            loss=float(self._solved().unexplained),
            holdout_loss=(),
            elites=(0,),
            seconds=time.perf_counter() - begin,
        )

    def _learn_termination(self, transitions: Transitions, *, anew: bool) -> None:
        following = self._features(transitions.next_observation, self.ends.device).float()
        terminated = as_tensor(transitions.terminated, self.ends.device)
        complete = len(self.ends) > 0 and len(self.others) > 0
        self.ends = torch.cat((self.ends, following[terminated]))[-KEPT:]
        self.others = torch.cat((self.others, following[~terminated]))[-KEPT:]
        if anew:
            self._fit_termination(transitions)
        elif terminated.any() or not complete:
            kept = torch.cat((self.ends, self.others))
            self.termination.fit(kept, torch.arange(len(kept), device=kept.device) < len(self.ends), self.generator)

    def _solved(self) -> _Solution:
        if self._solution is None:
            self._check_fitted()
            with torch.inference_mode(False), torch.no_grad():
                self._solution = self._solve()
        return self._solution

    def _solve(self) -> _Solution:
        size = self.inputs
        posterior = regress(self.moments, size, self.ridge)
        scale, _ = self.moments.normalised()
        unit, centre = torch.where(scale > 0, scale, 1.0)[:size], self.moments.mean[:size].clone()
        actions = slice(self.observation_size, None)
        center, half_range = self.encode_action.affine()  # the moments are those of scaled actions
        unit[actions] *= half_range
        centre[actions] = center + half_range * centre[actions]
        relative = posterior.covariance.diagonal().sqrt()
        weights = posterior.weights * scale[size:] / unit[:, None]
        rounded = centre.to(self.dtype).double()
        solution = _Solution(
            centre=rounded,
            weights=weights,
            target_mean=self.moments.mean[size:] + (rounded - centre) @ weights,
            basis=posterior.basis / unit[:, None],
            spread=posterior.variance,
            one_row=1 / self.moments.count.double(),
            deviation=relative * scale[size:],
            relative=relative,
            noise_root=self._root(posterior.covariance) * scale[size:-1],
            unexplained=posterior.unexplained.mean(),
        )
        return _Solution(*(part.to(self.dtype) for part in solution))

    def _root(self, covariance: Tensor) -> Tensor:
        """Return the root `[F, F]` of the part of the covariance that belongs to continuous columns."""
        continuous = self.encode_observation.continuous
        values, vectors = torch.linalg.eigh(covariance[:-1, :-1] * continuous * continuous[:, None])
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT

    def _forget(self) -> None:
        super()._forget()
        self._solution = None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        make_room(self, ("ends", "others"), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
