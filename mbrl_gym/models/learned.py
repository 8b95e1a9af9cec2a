"""What learned one-step models share: features and targets, the three heads, and which of them is exact."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models.base import (
    DynamicsFn,
    Outcome,
    Prediction,
    RewardFn,
    TerminationFn,
    Transitions,
    WorldModel,
    as_tensor,
)
from mbrl_gym.models.spaces import ActionEncoder, event_shape
from mbrl_gym.models.termination import TerminationNetwork
from mbrl_gym.noise import Noise, NoiseSizes

__all__ = ["Examples", "LearnedModel"]


class Examples(NamedTuple):
    """Transitions as numbers to learn from."""

    inputs: Tensor  # [T, F + G] float64: features of observations and actions
    targets: Tensor  # [T, F + 1] float64: see `Outcome`


class LearnedModel(WorldModel):
    """A model that maps features of (observation, action) to a distribution over its targets.

    The state of a particle is its observation. A subclass fits and predicts targets; this class turns them into
    observations, rewards and terminations. Termination is learned by a `TerminationNetwork` of the next observation:
    `step` ends episodes where an end is more likely than among the steps of the data at large, since ends are rare,
    while `outcome` states the probability. Predictions stay within the bounds of the observation space, before exact
    functions see them.

    A subclass may learn rewards less `end_bonus`, by which the reward of a step that ends the episode is larger on
    average (`_without_end_bonus`): a reward for reaching a goal is a jump, which a regression over all steps blurs away
    while there are only few of them. Predictions add it times the probability of an end.

    Args:
        observation_space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` or `Tuple` of these.
        action_space: `Discrete`, `MultiDiscrete`, or flat, bounded `Box`.
        dynamics_fn: Exact next observation, in place of the learned one.
        reward_fn: Exact reward, in place of the learned one.
        termination_fn: Exact termination, in place of the learned one.
        dtype: "float32" or "float64", of everything but the termination.
        seed: Seeds all that is random in fitting.

    Raises:
        UnsupportedSpaceError: A space that models cannot handle.
        InvalidSettingError: A setting out of its range.
    """

    generator: torch.Generator
    end_bonus: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        dynamics_fn: DynamicsFn | None = None,
        reward_fn: RewardFn | None = None,
        termination_fn: TerminationFn | None = None,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        if dtype not in ("float32", "float64"):
            raise InvalidSettingError(f'dtype must be "float32" or "float64", but {dtype!r} was given')
        self.dtype = torch.float64 if dtype == "float64" else torch.float32
        super().__init__(
            observation_space, action_space, reward_fn=reward_fn, termination_fn=termination_fn, dtype=self.dtype
        )
        self.dynamics_fn = dynamics_fn
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.encode_action = ActionEncoder(self.action_space, self.dtype)
        self.inputs = self.observation_size + self.encode_action.size
        self.outputs = self.observation_size + 1
        encoder = self.encode_observation
        self.noise_sizes = NoiseSizes(
            normal=0 if encoder.chooses else self.observation_size, uniform=len(encoder.groups)
        )
        self.termination = TerminationNetwork(self.observation_size, self.generator)
        self.is_fitted: Tensor
        self.register_buffer("is_fitted", torch.tensor(False))
        self.register_buffer("end_bonus", torch.tensor(0.0, dtype=self.dtype))
        self._known: tuple[bool, bool] | None = None  # see `_flags`

    @property
    def terminates(self) -> bool:
        """Whether a termination function was given, the data of the last fit held a termination, or it is cautious."""
        return self.termination_fn is not None or self._flags()[1]

    @property
    def fitted(self) -> bool:
        """Whether `fit` has run."""
        return self._flags()[0]

    def be_cautious(self) -> None:
        """Let imagined episodes also end where a feature is out of the range of the data: nobody knows what is there.

        For tasks in which it is good to stay alive, and states beyond those that were seen are not needed. It has no
        effect where a termination function was given.
        """
        self.termination.be_cautious()
        self._forget()

    def start(self, observation: Tensor, particles: int | None = None) -> Tensor:
        """Return the observations of the particles `[P, N, O]`; P is `particle_unit` by default."""
        particles = self.particle_unit if particles is None else particles
        self.check_particles(particles)
        if not self.encode_observation.chooses:
            observation = observation.to(self.dtype)
        if observation.ndim == 2 + len(self.encode_observation.event_shape):
            return observation
        return observation.expand(particles, *observation.shape)

    def step(self, state: Tensor, action: Tensor, noise: Noise | None = None) -> Prediction:
        """Predict one step of particles that are at the observations `[P, N, O]`."""
        self._check_fitted()
        action = self.over_particles(action, state.shape[0])
        if noise is not None and self.encode_observation.groups and not self.encode_observation.chooses:
            noise = noise._replace(normal=noise.normal * self.encode_observation.continuous)
        predicted: Any = None
        if self.dynamics_fn is None or self.reward_fn is None:
            predicted = self._predict(self.encode_observation(state), action, noise)
        following = self._following(state, action, predicted, noise)
        ends, logits = self._ends(following)
        if self.reward_fn is not None:
            reward = self.reward_fn(state, action, following)
        else:
            reward = predicted[..., self.observation_size]
            if self.terminates:
                reward = reward + self.end_bonus * (ends if logits is None else self.termination.probability_of(logits))
        return Prediction(following, following, reward, ends)

    def outcome(self, observation: Tensor, action: Tensor) -> Outcome:
        """Return the distribution of one step at observations `[N, O]` and actions `[N, A]` or `[N]`.

        A function that replaces dynamics, reward or termination is certain of them.
        """
        self._check_fitted()
        if not self.encode_observation.chooses:
            observation = observation.to(self.dtype)
        mean, deviation = self._distribution(self.encode_observation(observation), action)
        size, encode = self.observation_size, self.encode_observation
        if self.dynamics_fn is None:
            expected = encode.decode(encode(observation), mean[..., :size])
        else:
            expected = self.dynamics_fn(observation, action).expand(len(mean), *observation.shape)
            mean[..., :size], deviation[..., :size] = encode.targets(encode(observation), encode(expected)), 0
        rows = (len(mean), *(-1 for _ in observation.shape))
        if self.reward_fn is not None:
            many = self.over_particles(action, len(mean))
            mean[..., size], deviation[..., size] = self.reward_fn(observation.expand(rows), many, expected), 0
        if self.termination_fn is not None:
            ends = self.termination_fn(expected).to(self.dtype)
        elif self.terminates:
            ends = self.termination.probability(encode(expected)).to(self.dtype)
        else:
            ends = torch.zeros_like(mean[..., 0])
        if self.reward_fn is None:
            mean[..., size] += self.end_bonus * ends
            deviation[..., size] = torch.hypot(deviation[..., size], self.end_bonus * (ends * (1 - ends)).sqrt())
        return Outcome(mean, deviation, ends)

    @abstractmethod
    def _predict(self, features: Tensor, action: Tensor, noise: Noise | None) -> Tensor:
        """Return targets `[P, N, >= F + 1]` for features `[P, N, F]` and actions `[P, N, ...]`.

        The reward, which is the last of the F + 1, may be missing if an exact function gives it.

        With noise, continuous observation columns are drawn from the predictive distribution by `noise.normal`
        `[P, N, F]` (or broadcastable to it); everything else is the mean. What is returned may be written into.
        """

    @abstractmethod
    def _distribution(self, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and deviations `[M, N, F + 1]` of the targets for features `[N, F]` and actions `[N, ...]`.

        What is returned may be written into.
        """

    def _following(self, state: Tensor, action: Tensor, predicted: Any, noise: Noise | None) -> Tensor:
        if self.dynamics_fn is not None:
            return self.dynamics_fn(state, action)
        encode = self.encode_observation
        uniform = None if noise is None else noise.uniform
        return encode.decode(encode(state), predicted[..., : self.observation_size], uniform)

    def _ends(self, following: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return whether steps to observations `[P, N, O]` end the episode, and the logits of a learned termination."""
        if self.termination_fn is not None:
            return self.termination_fn(following), None
        if self.terminates:
            logits = self.termination.logits(self.encode_observation(following))
            return logits > 0, logits
        rows = following.shape[:2]
        return torch.zeros((), dtype=torch.bool, device=following.device).expand(rows), None

    def _examples(self, transitions: Transitions, least: int = 2) -> Examples:
        """Return all transitions as numbers.

        Raises:
            InvalidSettingError: Fewer than `least` transitions, rows of other spaces, or values that are not finite.
        """
        self._check_shapes(transitions)
        targets = self.targets(transitions)
        action = as_tensor(transitions.action, targets.device)
        before = self._features(transitions.observation, targets.device)
        inputs = torch.cat((before, self.encode_action(action).double()), -1)
        if len(inputs) < least:
            raise InvalidSettingError(f"fit needs at least {least} transitions, but {len(inputs)} were given")
        if not (torch.isfinite(inputs).all() and torch.isfinite(targets).all()):
            raise InvalidSettingError("fit needs finite transitions, but some values are NaN or infinite")
        return Examples(inputs, targets)

    def _without_end_bonus(self, examples: Examples, transitions: Transitions) -> Examples:
        """Measure `end_bonus`, and return the examples with rewards less it where the episode ends."""
        ends = as_tensor(transitions.terminated, examples.targets.device).bool()
        self.end_bonus.zero_()
        if self.reward_fn is not None or not ends.any() or ends.all():
            return examples
        targets = examples.targets.clone()
        rewards = targets[:, self.observation_size]
        bonus = rewards[ends].mean() - rewards[~ends].mean()
        self.end_bonus.copy_(bonus)
        rewards[ends] -= bonus
        return examples._replace(targets=targets)

    def _check_shapes(self, transitions: Transitions) -> None:
        for name, space in (
            ("observation", self.observation_space),
            ("action", self.action_space),
            ("next_observation", self.observation_space),
        ):
            given, allowed = np.shape(getattr(transitions, name)), (len(transitions.reward), *event_shape(space))
            if given != allowed:
                raise InvalidSettingError(
                    f"the transitions' {name} must have shape {allowed} for {space}, but {given} was given"
                )

    def _fit_termination(self, transitions: Transitions) -> None:
        if self.termination_fn is not None:
            return
        device = self.is_fitted.device
        following = self._features(transitions.next_observation, device).float()
        terminated = as_tensor(transitions.terminated, device)
        self.termination.fit(following, terminated, self.generator)

    def _flags(self) -> tuple[bool, bool]:
        """Return whether the model is fitted, and may end episodes; asks the device only once after a change."""
        if self._known is None:
            known = self.termination.known
            self._known = bool(self.is_fitted), known.seen or known.cautious
        return self._known

    def _mark_fitted(self) -> None:
        """End a fit."""
        self.is_fitted.fill_(True)
        self._forget()

    def _forget(self) -> None:
        """Drop what was computed from parameters and buffers, since they changed."""
        self._known = None

    def _apply(self, fn: Any, recurse: bool = True) -> LearnedModel:
        self._forget()  # parameters move to another device
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        super()._load_from_state_dict(*args, **kwargs)

    def _check_fitted(self) -> None:
        if not self.fitted:
            raise InvalidSettingError("the model was not fitted yet: call fit(transitions) first")
