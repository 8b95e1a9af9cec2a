"""A learned termination: whether an episode ends, as a function of the observation that a step leads to."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TerminationNetwork"]

HIDDEN = (64, 64)
LEARNING_RATE = 3e-3
STEPS = 400  # gradient steps a fit
BATCH = 128  # half of it terminations, half not


class TerminationNetwork(nn.Module):
    """A classifier of next observations, trained on as many terminations as other steps.

    Terminations are rare (one step in an episode), so that a likelihood over all steps would be content to predict
    none; balanced batches weigh a missed end like a false alarm. Until `fit` has seen one, nothing terminates.

    Args:
        size: Number O of observation columns.
        generator: Source of initial weights and batches.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = (size, *HIDDEN, 1)
        self.layers = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1], device="meta") for i in range(len(sizes) - 1))
        self.layers.to_empty(device="cpu")
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            deviation = 1 / math.sqrt(layer.in_features)
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator)
            nn.init.zeros_(layer.bias)
        self.mean: Tensor
        self.scale: Tensor
        self.seen: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("seen", torch.tensor(False))

    def forward(self, observation: Tensor) -> Tensor:
        """Return the logits of termination `[...]` at next observations `[..., O]`."""
        hidden = (observation.to(self.mean.dtype) - self.mean) / self.scale
        for layer in self.layers[:-1]:
            hidden = functional.silu(layer(hidden))
        return self.layers[-1](hidden)[..., 0]

    @torch.no_grad()
    def logits(self, observation: Tensor) -> Tensor:
        """Return `forward` without gradients."""
        return self(observation)

    def fit(self, observation: Tensor, terminated: Tensor, generator: torch.Generator) -> None:
        """Train on next observations `[T, O]` and whether each ended its episode `[T]`, from the present weights on."""
        ends, others = terminated.nonzero()[:, 0], (~terminated).nonzero()[:, 0]
        self.seen.fill_(len(ends) > 0)
        if not len(ends) or not len(others):
            return
        deviation = observation.std(0, unbiased=False)
        self.mean.copy_(observation.mean(0))
        self.scale.copy_(torch.where(deviation > 1e-6 * (1 + self.mean.abs()), deviation, 1.0))
        optimiser = torch.optim.Adam(self.parameters(), lr=LEARNING_RATE, fused=True)
        half = BATCH // 2
        target = torch.cat((torch.ones(half), torch.zeros(half))).to(observation.device)
        for _ in range(STEPS):
            rows = [
                group[torch.randint(len(group), (half,), generator=generator).to(group.device)]
                for group in (ends, others)
            ]
            loss = functional.binary_cross_entropy_with_logits(self(observation[torch.cat(rows)]), target)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
