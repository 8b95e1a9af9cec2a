"""Probabilistic ensembles with trajectory sampling (Chua et al. 2018, "PETS")."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from mbrl_gym.models.base import DynamicsFn, FitReport, RewardFn, TerminationFn, Transitions, check
from mbrl_gym.models.ensemble_prediction import FoldedEnsemble, padded
from mbrl_gym.models.ensemble_training import EnsembleTraining, Networks, Samples, TrainingResult
from mbrl_gym.models.learned import LearnedModel
from mbrl_gym.noise import Noise

__all__ = ["GaussianEnsemble"]

LOG_VARIANCE_RANGE = (-12.0, 1.0)  # of the normalised targets, where training starts; the bounds are learned
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}
RIDGE = 1e-6  # of the linear part's closed-form start, on normalised data


class GaussianEnsemble(LearnedModel):
    """E networks that each predict a Gaussian over the next step, trained on bootstrap samples.

    A member maps (observation, action) to mean and log variance of (observation difference, reward), as the sum of a
    linear map and a multilayer perceptron; the linear map starts at the ridge regression of the data, so that (nearly)
    linear dynamics are learned from a handful of steps. Inputs and targets are normalised inside. Members are trained
    by batched matrix products with early stopping on held-out transitions; each keeps the weights of its best epoch,
    and the best `elites` members predict. Termination is learned by a `TerminationNetwork` of the predicted next
    observation.

    Particles follow TS-infinity (Chua et al. 2018, section 4): particle p of P runs through member
    `p // (P / elites)` from `start` to the end.

    Args:
        observation_space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` or `Tuple` of these.
        action_space: `Discrete`, `MultiDiscrete`, or flat, bounded `Box`.
        dynamics_fn: Exact next observation, in place of the learned one.
        reward_fn: Exact reward, in place of the learned one.
        termination_fn: Exact termination, in place of the learned one.
        members: Number E of networks.
        elites: How many members predict; all by default.
        hidden: Sizes of the hidden layers (SiLU activations).
        learning_rate: Of Adam.
        weight_decay: Decoupled weight decay of weights and biases.
        batch_size: Largest minibatch; smaller data sets are cut into at least eight.
        max_epochs: Bound on a fit's passes over the data.
        patience: Epochs without better holdout loss (of any member) after which a fit stops.
        holdout: Share of the transitions that is held out for early stopping.
        precision: "float32" or "bf16", which runs the hidden layers' products of predictions in bfloat16: faster where
            the processor has instructions for it, at the loss of about 0.5% of the spread of the targets. Training,
            first layer and linear map are float32 in any case.
        seed: Seeds initial weights, bootstrap samples and minibatches.

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
        members: int = 5,
        elites: int | None = None,
        hidden: Sequence[int] = (64, 64),
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-5,
        batch_size: int = 128,
        max_epochs: int = 150,
        patience: int = 15,
        holdout: float = 0.1,
        precision: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            dynamics_fn=dynamics_fn,
            reward_fn=reward_fn,
            termination_fn=termination_fn,
            seed=seed,
        )
        self.arguments = {
            "dynamics_fn": dynamics_fn,
            "reward_fn": reward_fn,
            "termination_fn": termination_fn,
            "members": members,
            "elites": elites,
            "hidden": list(hidden),
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "batch_size": batch_size,
            "max_epochs": max_epochs,
            "patience": patience,
            "holdout": holdout,
            "precision": precision,
            "seed": seed,
        }
        elites = members if elites is None else elites
        check(members >= 1, "members", members, "at least 1")
        check(1 <= elites <= members, "elites", elites, f"between 1 and members ({members})")
        check(all(size >= 1 for size in hidden), "hidden", hidden, "a sequence of layer sizes of at least 1")
        check(learning_rate > 0, "learning_rate", learning_rate, "greater than 0")
        check(weight_decay >= 0, "weight_decay", weight_decay, "at least 0")
        check(batch_size >= 1, "batch_size", batch_size, "at least 1")
        check(max_epochs >= 1, "max_epochs", max_epochs, "at least 1")
        check(patience >= 1, "patience", patience, "at least 1")
        check(0 < holdout < 1, "holdout", holdout, "between 0 and 1")
        check(precision in PRECISIONS, "precision", precision, " or ".join(f'"{name}"' for name in PRECISIONS))
        self.members, self.elites, self.precision = members, elites, precision
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.batch_size, self.max_epochs, self.patience = batch_size, max_epochs, patience
        self.holdout = holdout
        # Columns of a member's output: D means, D log variances, and padding: products with a multiple of 16 columns
        # take a quarter of the time of those with a few less.
        heads = padded(2 * self.outputs)
        sizes = [self.inputs, *hidden, heads]
        self.weights = nn.ParameterList(
            nn.Parameter(self._initial_weight(sizes[i], sizes[i + 1], last=i == len(hidden)))
            for i in range(len(sizes) - 1)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(members, 1, size)) for size in sizes[1:])
        self.linear = nn.Parameter(torch.zeros(members, self.inputs, self.outputs))
        self.min_log_variance = nn.Parameter(torch.full((members, 1, self.outputs), LOG_VARIANCE_RANGE[0]))
        self.max_log_variance = nn.Parameter(torch.full((members, 1, self.outputs), LOG_VARIANCE_RANGE[1]))
        self.input_mean: Tensor
        self.input_scale: Tensor
        self.target_mean: Tensor
        self.target_scale: Tensor
        self.elite_members: Tensor
        self.register_buffer("input_mean", torch.zeros(self.inputs))
        self.register_buffer("input_scale", torch.ones(self.inputs))
        self.register_buffer("target_mean", torch.zeros(self.outputs))
        self.register_buffer("target_scale", torch.ones(self.outputs))
        self.register_buffer("elite_members", torch.arange(elites))
        self._folded: FoldedEnsemble | None = None

    @property
    def particle_unit(self) -> int:
        """Particles come in multiples of the elite members."""
        return self.elites

    def subset(self, members: Sequence[int]) -> GaussianEnsemble:
        """Return an ensemble that predicts by some of the members alone, whose weights it shares.

        It is a view of this one until the next `fit`: ask again then.

        Args:
            members: Numbers between 0 and `members - 1`, each at most once.

        Raises:
            InvalidSettingError: No members, the same one twice, or numbers of no member.
        """
        valid = len(members) > 0 and len(set(members)) == len(members) and set(members) <= set(range(self.members))
        check(valid, "members", members, f"different numbers from 0 to {self.members - 1}, at least one")
        chosen = copy.copy(self)  # a module's copy shares the dict of its buffers
        chosen._buffers = {**self._buffers, "elite_members": self.elite_members.new_tensor(members)}
        chosen.elites = len(members)
        chosen._forget()
        return chosen

    def _predict(self, features: Tensor, action: Tensor, noise: Noise | None) -> Tensor:
        """Return predicted targets `[P, N, *]`; each particle goes through its own member.

        The reward is not among them where an exact function gives it.
        """
        folded, size = self._predictor(), features.shape[-1]
        means = self.outputs if self.reward_fn is None else size
        noisy = size if noise is not None and not self.encode_observation.chooses else 0
        output = folded((features, self.encode_action.for_folded(action)), means, noisy)
        if noise is not None and noisy:
            output[..., :size].addcmul_(folded.standard_deviation(output, means, size), noise.normal)
        return output

    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the members' disagreement `[N]`: the spread of their mean predictions over that of the targets.

        The root mean square, over observation differences and reward, of the standard deviation over the elite
        members, in units of the targets' standard deviation in the data.
        """
        output = self._by_every_member(self.encode_observation(observation), action)[..., : self.outputs]
        spread = output.std(0, unbiased=False) / self.target_scale
        return spread.square().mean(-1).sqrt()

    def _distribution(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return each elite member's means and deviations `[E, N, D]`."""
        size = self.outputs
        output = self._by_every_member(features, action, variances=size)
        return output[..., :size], self._predictor().standard_deviation(output, size, size)

    def _by_every_member(self, features: Tensor, action: Tensor, variances: int = 0) -> Tensor:
        """Return each elite member's output `[E, N, *]` for all targets."""
        parts = [part.expand(self.elites, -1, -1) for part in (features, self.encode_action.for_folded(action))]
        return self._predictor()(parts, self.outputs, variances)

    def fit(self, transitions: Transitions) -> FitReport:
        """Train on all transitions, from the present weights on.

        Raises:
            InvalidSettingError: Fewer than two transitions, or values that are not finite.
        """
        begin = time.perf_counter()
        examples = self._without_end_bonus(self._examples(transitions), transitions)
        inputs, targets = (part.float() for part in examples)
        self._fit_termination(transitions)
        held_out = self._held_out(len(inputs))
        self._normalise(inputs[~held_out], targets[~held_out])
        inputs = (inputs - self.input_mean) / self.input_scale
        targets = (targets - self.target_mean) / self.target_scale
        train = self._bootstrap(inputs[~held_out], targets[~held_out])
        self._fit_linear(train)
        check_on = Samples(*(x[held_out].expand(self.members, *x[held_out].shape) for x in (inputs, targets)))
        result = self._train(train, check_on)
        order = torch.argsort(result.best, stable=True)[: self.elites]
        self.elite_members.copy_(order.sort().values)
        self._mark_fitted()
        return FitReport(
            transitions=len(held_out),
            epochs=result.epochs,
            gradient_steps=result.steps,
            loss=result.loss,
            holdout_loss=tuple(result.best.tolist()),
            elites=tuple(self.elite_members.tolist()),
            seconds=time.perf_counter() - begin,
        )

    def _initial_weight(self, rows: int, columns: int, *, last: bool) -> Tensor:
        """Truncated normal of standard deviation 1 / sqrt(rows); a tenth of it in the last layer."""
        weight = torch.empty(self.members, rows, columns)
        deviation = (0.1 if last else 1.0) / math.sqrt(rows)
        return nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation, generator=self.generator)

    def _held_out(self, count: int) -> Tensor:
        """Choose the held-out rows by their position alone, so that no later fit trains on them."""
        chosen = np.random.default_rng(self.seed).random(count) < self.holdout
        chosen[:2] = False, True  # whatever the share, something to train on and something to check with
        return torch.as_tensor(chosen, device=self.input_mean.device)

    def _normalise(self, inputs: Tensor, targets: Tensor) -> None:
        # A constant target is predicted as constant; a constant input has no scale of its own.
        for values, mean, scale, if_constant in (
            (inputs, self.input_mean, self.input_scale, 1.0),
            (targets, self.target_mean, self.target_scale, 1e-6),
        ):
            deviation, magnitude = values.std(0, unbiased=False), 1.0 + values.mean(0).abs()
            mean.copy_(values.mean(0))
            scale.copy_(torch.where(deviation > 1e-6 * magnitude, deviation, if_constant * magnitude))

    def _bootstrap(self, inputs: Tensor, targets: Tensor) -> Samples:
        """Draw each member's sample with replacement (a single member gets the data as they are)."""
        count = len(inputs)
        if self.members == 1:
            rows = torch.arange(count)[None]
        else:
            rows = torch.randint(count, (self.members, count), generator=self.generator)
        rows = rows.to(inputs.device)
        return Samples(inputs[rows], targets[rows])

    @torch.no_grad()
    def _fit_linear(self, data: Samples) -> None:
        """Move the linear part (and the means' bias) by the ridge regression of what the members get wrong."""
        mean, _ = self._networks()(data.inputs)
        ones = torch.ones_like(data.inputs[..., :1])
        design = torch.cat((data.inputs, ones), -1).double()
        gram = design.mT @ design
        gram.diagonal(dim1=-2, dim2=-1).add_(RIDGE * design.shape[1])
        update = torch.linalg.solve(gram, design.mT @ (data.targets - mean).double()).float()
        self.linear.add_(update[:, :-1])
        self.biases[-1][:, :, : self.outputs] += update[:, -1:]
        if not self.fitted:
            error = (data.targets - self._networks()(data.inputs)[0]).square().mean(1, keepdim=True)
            low, high = LOG_VARIANCE_RANGE
            bias = self.biases[-1][:, :, self.outputs : 2 * self.outputs]
            bias.copy_(torch.log(error + 1e-12).clamp(low + 2.0, high - 1.0))

    def _train(self, data: Samples, held_out: Samples) -> TrainingResult:
        networks = self._networks()
        training = EnsembleTraining(networks, learning_rate=self.learning_rate, weight_decay=self.weight_decay)
        result = training.run(
            data,
            held_out,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            generator=self.generator,
        )
        networks.copy_(training.networks)
        return result

    def _networks(self) -> Networks:
        bounds = self.min_log_variance, self.max_log_variance
        return Networks(tuple(self.weights), tuple(self.biases), self.linear, *bounds)

    def _predictor(self) -> FoldedEnsemble:
        if self._folded is None:
            self._check_fitted()
            with torch.inference_mode(False):  # planners that take gradients use it too
                self._folded = FoldedEnsemble(self, PRECISIONS[self.precision])
        return self._folded

    def _forget(self) -> None:
        super()._forget()
        self._folded = None
