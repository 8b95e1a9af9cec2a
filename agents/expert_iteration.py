"""Priors and values that a tree search learns from its own decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from mbrl_gym.models.spaces import ObservationEncoder

from .optimizers import optimizer_state, restore_optimizer

__all__ = ["PolicyValueNet", "SearchTargets", "learning_state", "restore_learning", "train_network"]

Array = np.ndarray[Any, Any]

BATCH = 64  # targets of a gradient step
HIDDEN = 64


class PolicyValueNet(nn.Module):
    """Logits of K actions and the value of an observation, from one trunk.

    Args:
        observation_space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` of these.
        actions: K.
        seed: Of the weights; the global generator is left as it is.
    """

    def __init__(self, observation_space: spaces.Space[Any], actions: int, seed: int) -> None:
        super().__init__()
        self.encode = ObservationEncoder(observation_space)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = (nn.Linear(self.encode.size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
            self.trunk, self.heads = nn.Sequential(*layers), nn.Linear(HIDDEN, actions + 1)
        nn.init.zeros_(self.heads.weight)  # at first all actions are equally good, and all observations
        nn.init.zeros_(self.heads.bias)
        self.observation_mean: Tensor
        self.observation_scale: Tensor
        self.value_mean: Tensor
        self.value_scale: Tensor
        for name, size in (("observation", (self.encode.size,)), ("value", ())):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[n, K]` and standardised values `[n]` of observations `[n, O]`, or integers."""
        features = (self.encode(observation).float() - self.observation_mean) / self.observation_scale
        outputs = self.heads(self.trunk(features))
        return outputs[:, :-1], outputs[:, -1]

    def prior(self, observation: Tensor) -> Tensor:
        """Return logits `[n, K]`."""
        return self(observation)[0]

    def value(self, observation: Tensor) -> Tensor:
        """Return values `[n]`."""
        return self(observation)[1] * self.value_scale + self.value_mean

    def standardise(self, observation: Tensor, value: Tensor) -> None:
        """Let inputs and values be counted in standard deviations from the mean of observations and values `[n]`."""
        features = self.encode(observation).float()
        for name, given in (("observation", features), ("value", value)):
            deviation, mean = torch.std_mean(given, 0, correction=0)
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_scale").copy_(torch.where(deviation > 1e-6, deviation, 1.0))


class SearchTargets:
    """The latest decisions of searches: observations, improved policies and values.

    Args:
        capacity: Decisions that are remembered.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._added: list[tuple[Array, ...]] = []  # joined when they are asked for, not at every decision

    def add(self, observation: Array, policy: Array, value: Array) -> None:
        """Add N decisions."""
        self._added.append((observation, policy.astype(np.float32), value.astype(np.float32)))

    @property
    def parts(self) -> list[Array]:
        """Observations `[n, O]`, policies `[n, K]` and values `[n]`, the oldest first; empty if there are none."""
        if not self._added:
            return []
        joined = tuple(np.concatenate(part)[-self.capacity :] for part in zip(*self._added, strict=True))
        self._added = [joined]
        return list(joined)

    @parts.setter
    def parts(self, parts: list[Array]) -> None:
        self._added = [tuple(parts)] if parts else []

    def __len__(self) -> int:
        return len(self.parts[2]) if self._added else 0

    def tensors(self, device: torch.device) -> list[Tensor]:
        """Return all observations, policies and values."""
        return [torch.as_tensor(part, device=device) for part in self.parts]


def train_network(
    network: PolicyValueNet,
    optimizer: torch.optim.Optimizer,
    targets: SearchTargets,
    steps: int,
    generator: torch.Generator,
) -> float:
    """Fit a network to the targets; return the mean loss.

    The loss is the cross-entropy of the policy and the squared error of the value, which is that of the search's root
    (Silver et al. 2017, equation 1, with the search's value in place of the game's outcome).
    """
    device = network.value_mean.device
    observation, policy, value = targets.tensors(device)
    network.standardise(observation, value)
    value = (value - network.value_mean) / network.value_scale
    total = 0.0
    for _ in range(steps):
        chosen = torch.randint(len(value), (BATCH,), generator=generator).to(device)
        logits, estimate = network(observation[chosen])
        surprise = -(policy[chosen] * logits.log_softmax(-1)).sum(-1)
        loss = (surprise + (estimate - value[chosen]).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += float(loss.detach())
    return total / max(steps, 1)


def learning_state(optimizer: torch.optim.Optimizer, targets: SearchTargets) -> dict[str, Any]:
    """Return what decides how learning goes on."""
    return {"optimizer": optimizer_state(optimizer), "targets": targets.parts}


def restore_learning(optimizer: torch.optim.Optimizer, targets: SearchTargets, state: dict[str, Any]) -> None:
    """Restore `learning_state`."""
    restore_optimizer(optimizer, state["optimizer"])
    targets.parts = state["targets"]
