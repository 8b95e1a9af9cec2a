"""World models made of functions that the user wrote."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.models.base import (
    DynamicsFn,
    FitReport,
    Prediction,
    RewardFn,
    TerminationFn,
    Transitions,
    WorldModel,
    check,
)
from mbrl_gym.noise import Noise, NoiseSizes

__all__ = ["AnalyticModel"]


class AnalyticModel(WorldModel):
    """Known equations as a deterministic world model: nothing to learn.

    Args:
        observation_space: What the functions take as observations.
        action_space: `Discrete`, `MultiDiscrete`, or flat, bounded `Box`.
        dynamics_fn: Function of tensors (observation `[..., O]`, action `[..., A]` or `[...]`) -> next observation
            `[..., O]`.
        reward_fn: (observation, action, next observation) -> reward `[...]`.
        termination_fn: Next observation -> whether the episode ends `[...]`, bool; never by default.

    Raises:
        UnsupportedSpaceError: A space that models cannot handle.
        InvalidSettingError: Something that is not a function.
    """

    noise_sizes = NoiseSizes()

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        dynamics_fn: DynamicsFn,
        reward_fn: RewardFn,
        termination_fn: TerminationFn | None = None,
    ) -> None:
        super().__init__(observation_space, action_space, reward_fn=reward_fn, termination_fn=termination_fn)
        check(callable(dynamics_fn), "dynamics_fn", dynamics_fn, "a function")
        check(callable(reward_fn), "reward_fn", reward_fn, "a function")
        known = termination_fn is None or callable(termination_fn)
        check(known, "termination_fn", termination_fn, "None or a function")
        self.dynamics_fn = dynamics_fn
        self.arguments = {"dynamics_fn": dynamics_fn, "reward_fn": reward_fn, "termination_fn": termination_fn}

    @property
    def terminates(self) -> bool:
        """Whether a termination function was given."""
        return self.termination_fn is not None

    def start(self, observation: Tensor, particles: int = 1) -> Tensor:
        """Return the observations of the particles `[P, N, O]`."""
        self.check_particles(particles)
        if observation.ndim == 2 + len(self.encode_observation.event_shape):
            return observation
        return observation.expand(particles, *observation.shape)

    @property
    def reward_apart(self) -> bool:
        """Always."""
        return True

    def step(self, state: Tensor, action: Tensor, noise: Noise | None = None) -> Prediction:
        """Apply the functions; there is no noise."""
        assert self.reward_fn is not None
        following, _, terminated = self.advance(state, action)
        reward = self.reward_fn(state, self.over_particles(action, state.shape[0]), following)
        if terminated is None:
            terminated = torch.zeros((), dtype=torch.bool, device=following.device).expand(reward.shape)
        return Prediction(following, following, reward, terminated)

    def advance(
        self, state: Tensor, action: Tensor, noise: Noise | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Apply the dynamics and the termination function; there is no noise."""
        following = self.dynamics_fn(state, self.over_particles(action, state.shape[0]))
        return following, following, None if self.termination_fn is None else self.termination_fn(following)

    def fit(self, transitions: Transitions) -> FitReport:
        """Learn nothing: the equations are known."""
        return FitReport(len(transitions.reward), 0, 0, 0.0, (), (0,), 0.0)

    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return zeros `[N]`."""
        return torch.zeros(observation.shape[0], device=observation.device)
