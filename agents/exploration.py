"""Disturbances that make a learning agent try other actions than its plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from mbrl_gym.errors import InvalidSettingError

__all__ = ["Exploration"]

MEMORY = 0.85  # coefficient of the noise on Box actions; probability that a choice goes on for another step

Array = np.ndarray[Any, Any]


class Exploration:
    """Disturbs actions, in a way that lasts: slow disturbances reach more states than those that average out.

    Box actions get noise from a first-order autoregressive process with coefficient 0.85. Discrete and MultiDiscrete
    ones are replaced in a share of the steps by a choice drawn at random, which is repeated for 1 / (1 - 0.85) steps on
    average (temporally extended epsilon-greedy; Dabney et al. 2021).

    Args:
        space: The action space.
        amount: Standard deviation of the noise, relative to half the action range; or the share of steps, in [0, 1].

    Raises:
        InvalidSettingError: An amount out of its range.
    """

    def __init__(self, space: spaces.Space[Any], amount: float) -> None:
        if not amount >= 0:
            raise InvalidSettingError(f"exploration must be at least 0, but {amount} was given")
        if isinstance(space, spaces.Discrete):
            self.counts, self.starts = np.array([space.n]), np.array([space.start])
        elif isinstance(space, spaces.MultiDiscrete):
            self.counts, self.starts = np.asarray(space.nvec), np.asarray(space.start)
        if not isinstance(space, spaces.Box) and amount > 1:
            raise InvalidSettingError(
                f"exploration is a share of steps for the action space {space}: it must be in [0, 1], but {amount} was "
                "given"
            )
        self.space, self.amount = space, amount
        self.state: Array | None = None  # noise [N, A]; or whether a choice is replaced, and by what [N, 1 + C]

    def __call__(self, action: Array, generator: torch.Generator) -> Array:
        """Return the disturbed actions.

        Args:
            action: Box actions scaled to [-1, 1], `[N, A]`; or choices `[N]` or `[N, C]`.
            generator: Source of the disturbance.
        """
        if not self.amount:
            return action
        if isinstance(self.space, spaces.Box):
            return np.clip(action + self._noise(action.shape, generator), -1, 1)
        return self._replaced(action, generator)

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Array:
        """Advance the noise and return it `[N, A]`."""
        white = torch.randn(shape, generator=generator).numpy()
        before = white if self.state is None else self.state
        self.state = MEMORY * before + (1 - MEMORY**2) ** 0.5 * white
        return self.amount * self.state

    def _replaced(self, action: Array, generator: torch.Generator) -> Array:
        rows = len(action)
        uniform = torch.rand((rows, 2 + len(self.counts)), generator=generator, dtype=torch.float64).numpy()
        drawn = self.starts + (uniform[:, 2:] * self.counts).astype(np.int64)
        fresh = np.concatenate([uniform[:, 1:2] < self.amount, drawn], axis=1, dtype=np.int64)
        renewed = uniform[:, :1] >= MEMORY
        self.state = fresh if self.state is None else np.where(renewed, fresh, self.state)
        replaced, choice = self.state[:, :1] == 1, self.state[:, 1:]
        return np.where(replaced, choice, action.reshape(rows, -1)).reshape(action.shape).astype(action.dtype)
