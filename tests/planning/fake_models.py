"""World models made of plain functions, which remember what planners asked them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.models.base import FitReport, Prediction, Transitions, WorldModel
from mbrl_gym.noise import Noise, NoiseSizes


class FakeModel(WorldModel):
    """x' = move(x, a, eps); reward(x, a, x', step); the episode ends where ends(x').

    Args:
        action_space: The action space.
        size: Number O of observation columns.
        reward: Of observation `[P, N, O]`, action `[P, N, A]`, next observation and number of the step.
        move: Of observation, action and normal noise `[P, N or 1, 1]` (0.0 without noise); stands still by default.
        ends: Of the next observation; never by default.
        noisy: Whether a step takes one normal number.
        unit: The particle unit.
    """

    def __init__(
        self,
        action_space: spaces.Space,
        *,
        reward: Callable[[Tensor, Tensor, Tensor, int], Tensor],
        move: Callable[[Tensor, Tensor, Any], Tensor] | None = None,
        ends: Callable[[Tensor], Tensor] | None = None,
        size: int = 1,
        noisy: bool = False,
        unit: int = 1,
    ) -> None:
        super().__init__(spaces.Box(-np.inf, np.inf, (size,), np.float32), action_space)
        self.reward, self.move, self.ends, self.unit = reward, move, ends, unit
        self.noise_sizes = NoiseSizes(normal=int(noisy))
        self.plans: list[list[Tensor]] = []  # a roll-out's actions `[N * K, A]`, step by step
        self.noises: list[list[Noise | None]] = []
        self.particles: list[int] = []

    @property
    def particle_unit(self) -> int:
        """As given."""
        return self.unit

    def start(self, observation: Tensor, particles: int = 1) -> tuple[int, Tensor]:
        """Return the number of the step and the observations."""
        self.check_particles(particles)
        self.particles.append(particles)
        self.plans.append([])
        self.noises.append([])
        return 0, observation.expand(particles, -1, -1)

    def step(self, state: tuple[int, Tensor], action: Tensor, noise: Noise | None = None) -> Prediction:
        """Apply the functions."""
        step, before = state
        self.plans[-1].append(action.clone())
        self.noises[-1].append(noise)
        action = action.expand(before.shape[0], *action.shape)
        after = before if self.move is None else self.move(before, action, 0.0 if noise is None else noise.normal)
        ended = torch.zeros(after.shape[:2], dtype=torch.bool) if self.ends is None else self.ends(after)
        return Prediction((step + 1, after), after, self.reward(before, action, after, step), ended)

    def fit(self, transitions: Transitions) -> FitReport:
        """Learn nothing."""
        return FitReport(0, 0, 0, 0.0, (), (), 0.0)

    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Know everything."""
        return torch.zeros(len(observation))

    def asked(self, search: int) -> Tensor:
        """Return the plans `[N * K, H, A]` of a round of search; roll-outs of single plans are not counted."""
        searches = [actions for actions in self.plans if len(actions[0]) > 3]
        return torch.stack(searches[search], 1)


def flat(action_space: spaces.Space) -> FakeModel:
    """Return a model to which every plan is worth the same."""
    return FakeModel(action_space, reward=lambda before, action, after, step: torch.zeros(before.shape[:2]))
