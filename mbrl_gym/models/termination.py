"""A learned termination: whether an episode ends, as a function of the observation that a step leads to."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TerminationNetwork"]

HIDDEN = (32, 32)
ITERATIONS = 50  # of L-BFGS a fit; a small first-order budget leaves the boundary blurred
DECAY = 1e-4  # weight of the squared parameters
MOST_OTHERS = 10_000  # steps without termination from which a fit learns


class TerminationNetwork(nn.Module):
    """A classifier of next observations, for which terminations weigh as much as all other steps together.

    Terminations are rare (one step in an episode), so that a likelihood over all steps would be content to predict
    none; with these weights a missed end costs as much as a false alarm. A positive logit says that an end is more
    likely here than among the steps of the data at large; `probability` takes back the weights. Until `fit` has seen
    an end, nothing terminates.

    Args:
        size: Number O of observation columns.
        generator: Source of the initial weights.
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
        self.log_odds: Tensor
        self.seen: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("log_odds", torch.tensor(0.0))  # of an end, among the steps of the data
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

    def probability(self, observation: Tensor) -> Tensor:
        """Return the probability `[...]` that a step to next observations `[..., O]` ends the episode."""
        return (self.logits(observation) + self.log_odds).sigmoid()

    @torch.no_grad()
    def _always(self) -> None:
        """Expect every step to end the episode."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        last.weight.zero_()
        last.bias.fill_(10.0)
        self.log_odds.zero_()

    def fit(self, observation: Tensor, terminated: Tensor, generator: torch.Generator) -> None:
        """Train on next observations `[T, O]` and whether each ended its episode `[T]`, from the present weights on."""
        ends, others = terminated.nonzero()[:, 0], (~terminated).nonzero()[:, 0]
        self.seen.fill_(len(ends) > 0)
        if not len(ends):
            return
        if not len(others):
            self._always()
            return
        self.log_odds.fill_(math.log(len(ends) / len(others)))
        deviation = observation.std(0, unbiased=False)
        self.mean.copy_(observation.mean(0))
        self.scale.copy_(torch.where(deviation > 1e-6 * (1 + self.mean.abs()), deviation, 1.0))
        if len(others) > MOST_OTHERS:
            chosen = torch.randperm(len(others), generator=generator)[:MOST_OTHERS]
            others = others[chosen.to(others.device)]
        rows = observation[torch.cat((ends, others))]
        target = torch.zeros(len(rows), device=rows.device)
        target[: len(ends)] = 1.0
        weight = torch.where(target > 0, len(rows) / (2 * len(ends)), len(rows) / (2 * len(others)))
        parameters = list(self.parameters())
        optimiser = torch.optim.LBFGS(
            parameters, max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-7
        )

        def loss() -> Tensor:
            optimiser.zero_grad(set_to_none=True)
            value = functional.binary_cross_entropy_with_logits(self(rows), target, weight)
            value = value + DECAY * torch.stack([parameter.square().sum() for parameter in parameters]).sum()
            value.backward()
            return value

        optimiser.step(loss)
