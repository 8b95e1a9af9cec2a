"""Replay of real and imagined transitions in one minibatch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

__all__ = ["ImaginedBuffer", "ImaginedRows", "MixedReplayBuffer"]


class ImaginedRows(NamedTuple):
    """N imagined transitions."""

    observation: Tensor  # [N, O]
    action: Tensor  # [N, A] as replay buffers hold them: Box in [-1, 1]; [N, 1] for Discrete
    next_observation: Tensor  # [N, O]
    terminated: Tensor  # [N]; the last steps of branches are no terminations
    reward: Tensor  # [N]


class ImaginedBuffer:
    """Holds the transitions of the last few refreshes; each refresh drops the oldest one as a whole.

    Memory is allocated once, of which pages that are never written to cost nothing.

    Args:
        capacity: The most rows of a refresh.
        retain: How many refreshes are kept.
        observation_size: Number O of observation columns.
        action_size: Number A of action columns.
        device: Where the rows are.
        seed: Seeds what is sampled.
    """

    def __init__(
        self,
        capacity: int,
        retain: int,
        observation_size: int,
        action_size: int,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self.widths = (observation_size, action_size, observation_size, 1, 1)
        self.capacity, self.device = capacity, torch.device(device)
        self.rows = torch.empty(retain, capacity, sum(self.widths), device=self.device)
        self.counts = [0] * retain  # rows of each refresh
        self.current = retain - 1  # the newest refresh
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return sum(self.counts)

    def refresh(self) -> None:
        """Begin a new refresh."""
        self.current = (self.current + 1) % len(self.counts)
        self.counts[self.current] = 0

    def add(self, rows: ImaginedRows) -> None:
        """Add rows to the newest refresh."""
        first = self.counts[self.current]
        last = first + len(rows.reward)
        places = self.rows[self.current, first:last].split(self.widths, -1)
        for place, part in zip(places, rows, strict=True):
            place.copy_(part.view(place.shape))
        self.counts[self.current] = last

    def sample(self, count: int) -> ImaginedRows:
        """Draw rows uniformly from all that are held, with replacement; the last two parts are `[N, 1]`."""
        numbers = torch.randint(len(self), (count,), generator=self.generator)
        if len(self.counts) > 1:
            ends = torch.tensor(self.counts).cumsum(0)
            refresh = torch.bucketize(numbers, ends, right=True)
            before = ends - torch.tensor(self.counts)
            numbers += (refresh * self.capacity) - before[refresh]
        chosen = self.rows.view(-1, self.rows.shape[-1]).index_select(0, numbers.to(self.device))
        return ImaginedRows(*chosen.split(self.widths, -1))

    def state(self) -> dict[str, Any]:
        """Return the filled rows and what decides the future, as numbers and tensors."""
        return {
            "rows": [self.rows[refresh, :count] for refresh, count in enumerate(self.counts)],
            "current": self.current,
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore `state` of an equal buffer."""
        self.counts = [len(rows) for rows in state["rows"]]
        for place, rows in zip(self.rows, state["rows"], strict=True):
            place[: len(rows)] = rows
        self.current = state["current"]
        self.generator.set_state(state["generator"])


class MixedReplayBuffer(ReplayBuffer):
    """A replay buffer of Stable-Baselines3 whose minibatches also hold imagined transitions.

    It is the buffer of the real transitions; the imagined ones are in `imagined`. Of B rows of a minibatch,
    `real_ratio * B`, rounded to the nearest whole number (halves up), are real, and come first. As long as nothing
    was imagined, all are. Real rows are drawn as Stable-Baselines3 draws them, from NumPy's global generator.

    Args:
        buffer_size: Real transitions that are remembered.
        observation_space: A flat Box.
        action_space: A flat Box, or Discrete.
        device: Where minibatches go.
        n_envs: Number of parallel environments.
        optimize_memory_usage: See Stable-Baselines3.
        handle_timeout_termination: Likewise.
        real_ratio: Share of real rows in minibatches, in [0, 1].
        capacity: The most imagined rows of a refresh.
        retain: How many refreshes are kept.
        seed: Seeds the choice of imagined rows.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        real_ratio: float,
        capacity: int,
        retain: int,
        seed: int = 0,
    ) -> None:
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            optimize_memory_usage,
            handle_timeout_termination,
        )
        self.real_ratio = real_ratio
        self.imagined = ImaginedBuffer(
            capacity,
            retain,
            int(np.prod(observation_space.shape or ())),
            get_action_dim(action_space),
            device=self.device,
            seed=seed,
        )

    def real_rows(self, batch_size: int) -> int:
        """Return how many rows of a minibatch are real."""
        return math.floor(self.real_ratio * batch_size + 0.5) if len(self.imagined) else batch_size

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draw a minibatch of real and imagined rows."""
        real = self.real_rows(batch_size)
        if real == batch_size:
            return super().sample(batch_size, env)
        imagined = self.imagined.sample(batch_size - real)
        if not real:
            return ReplayBufferSamples(*imagined)
        drawn = super().sample(real, env)[: len(imagined)]  # the last part, discounts, is for n-step returns
        pairs: Any = zip(drawn, imagined, strict=True)
        return ReplayBufferSamples(*(torch.cat((mine, other.to(mine.dtype))) for mine, other in pairs))
