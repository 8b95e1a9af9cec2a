"""The contract of world models: batched, in torch, with a leading particle axis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.noise import Noise, NoiseSizes

__all__ = ["FitReport", "Prediction", "RewardFn", "TerminationFn", "Transitions", "WorldModel", "draw"]

RewardFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(observation [..., O], action [..., A] or [...], next observation [..., O]) -> reward [...]."""

TerminationFn = Callable[[Tensor], Tensor]
"""next observation [..., O] -> whether the episode ends [...], bool."""


class Transitions(NamedTuple):
    """T environment steps, in the order in which they were taken; autoreset steps are not among them."""

    observation: np.ndarray[Any, Any]  # [T, O]
    action: np.ndarray[Any, Any]  # [T, A] in the environment's units, or [T] integers
    reward: np.ndarray[Any, Any]  # [T]
    next_observation: np.ndarray[Any, Any]  # [T, O]
    terminated: np.ndarray[Any, Any]  # [T] bool
    truncated: np.ndarray[Any, Any]  # [T] bool
    episode_start: np.ndarray[Any, Any]  # [T] bool, whether the step was an episode's first


class Prediction(NamedTuple):
    """One predicted step of N rows under P particles."""

    state: Any  # what the next `step` wants; planners never look inside
    observation: Tensor  # [P, N, O]
    reward: Tensor  # [P, N]
    terminated: Tensor  # [P, N] bool


@dataclass(frozen=True)
class FitReport:
    """What a call of `fit` did."""

    transitions: int
    epochs: int
    gradient_steps: int
    loss: float  # mean training loss of the last epoch
    holdout_loss: tuple[float, ...]  # best holdout loss of each of the E members
    elites: tuple[int, ...]  # the members that predict
    seconds: float


def draw(
    generator: torch.Generator, batch: tuple[int, ...], sizes: NoiseSizes, device: torch.device | str = "cpu"
) -> Noise:
    """Draw the noise `[*batch, ...]` of a batch of steps from a torch generator."""
    kwargs: dict[str, Any] = {"generator": generator, "device": generator.device}
    return Noise(
        torch.randn((*batch, sizes.normal), **kwargs).to(device),
        torch.rand((*batch, sizes.uniform), **kwargs).to(device),
    )


class WorldModel(nn.Module, ABC):
    """A batched one-step model of an environment.

    Args:
        observation_space: Flat `Box`.
        action_space: `Box` or `Discrete`; actions are given in the environment's own units.
        reward_fn: Exact reward, in place of the learned one.
        termination_fn: Exact termination, in place of the learned one.

    Raises:
        UnsupportedSpaceError: A space that models cannot handle yet.
    """

    noise_sizes: NoiseSizes  # random numbers that one particle's step consumes
    generator: torch.Generator | None = None  # of the models that draw random numbers while fitting

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        reward_fn: RewardFn | None = None,
        termination_fn: TerminationFn | None = None,
    ) -> None:
        super().__init__()
        self.observation_space = check_observation_space(observation_space)
        self.action_space = check_action_space(action_space)
        self.observation_size = self.observation_space.shape[0]
        self.reward_fn = reward_fn
        self.termination_fn = termination_fn

    @property
    def particle_unit(self) -> int:
        """The number of particles must be a multiple of this."""
        return 1

    @property
    def terminates(self) -> bool:
        """Whether any prediction may terminate; if not, planners need not look."""
        return True

    @property
    def fitted(self) -> bool:
        """Whether the model can predict."""
        return True

    @abstractmethod
    def start(self, observation: Tensor, particles: int = 1) -> Any:
        """Return the model state of P particles at the observations `[N, O]`.

        Raises:
            InvalidSettingError: A number of particles that the model cannot spread over its members.
        """

    @abstractmethod
    def step(self, state: Any, action: Tensor, noise: Noise | None = None) -> Prediction:
        """Predict one step.

        Args:
            state: From `start` or the last `Prediction`.
            action: `[N, A]` or `[N]`.
            noise: `[P, N, ...]` or broadcastable to it (`[P, 1, ...]` gives all rows the same random numbers);
                None predicts without noise.
        """

    @abstractmethod
    def fit(self, transitions: Transitions) -> FitReport:
        """Learn from transitions."""

    @abstractmethod
    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the model's ignorance `[N]` at observations `[N, O]` and actions `[N, A]` or `[N]`."""

    def check_particles(self, particles: int) -> None:
        """Refuse a number of particles that the model cannot serve."""
        if particles < 1 or particles % self.particle_unit:
            raise InvalidSettingError(
                f"{type(self).__name__} takes a multiple of {self.particle_unit} particles, but {particles} was given"
            )


def check_observation_space(space: spaces.Space[Any]) -> spaces.Box:
    """Return the space if models can handle it."""
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space
    raise UnsupportedSpaceError(
        f"world models take flat Box observations, but the observation space is {space}; "
        "gymnasium.wrappers.FlattenObservation turns Dict, Tuple and Discrete observations into one"
    )


def check_action_space(space: spaces.Space[Any]) -> spaces.Box | spaces.Discrete:
    """Return the space if models can handle it."""
    if isinstance(space, spaces.Discrete):
        return space
    if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.is_bounded():
        return space
    raise UnsupportedSpaceError(
        f"world models take Discrete actions or flat, bounded Box ones, but the action space is {space}"
    )


class ActionEncoder(nn.Module):
    """Turns actions into network inputs: Box scaled to [-1, 1], Discrete one-hot."""

    def __init__(self, space: spaces.Box | spaces.Discrete) -> None:
        super().__init__()
        self.discrete = isinstance(space, spaces.Discrete)
        self.center: Tensor
        self.half_range: Tensor
        if isinstance(space, spaces.Discrete):
            self.size, self.start = int(space.n), int(space.start)
            low, high = np.full(self.size, -1.0), np.full(self.size, 1.0)
        else:
            self.size = space.shape[0]
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        self.register_buffer("center", torch.tensor((high + low) / 2, dtype=torch.float32))
        self.register_buffer(
            "half_range", torch.tensor(np.where(high > low, (high - low) / 2, 1.0), dtype=torch.float32)
        )

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return centre and half range `[size]` (float64) by which `forward` scales what `for_folded` returns."""
        return self.center.double(), self.half_range.double()

    def for_folded(self, action: Tensor) -> Tensor:
        """Encode `[..., A]` or `[...]` as `[..., size]` without scaling, for weights that have it folded in."""
        return self.forward(action) if self.discrete else action.to(torch.float32)

    def forward(self, action: Tensor) -> Tensor:
        """Encode `[..., A]` or `[...]` as `[..., size]`."""
        if self.discrete:
            return nn.functional.one_hot(action.long() - self.start, self.size).to(torch.float32)
        return (action.to(torch.float32) - self.center) / self.half_range
