"""A learned termination: whether an episode ends, as a function of the observation that a step leads to."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mbrl_gym.models.dense import dense_layers

__all__ = ["TerminationNetwork", "bounding_box"]

HIDDEN = (32, 32)
ITERATIONS = 50  # of L-BFGS a fit; a small first-order budget leaves the boundary blurred
DECAY = 1e-4  # weight of the squared parameters
MOST_OTHERS = 10_000  # steps without termination from which a fit learns
CERTAIN = 10.0  # logit of what a box says


class _Known(NamedTuple):
    """What decides how ends are predicted."""

    seen: bool  # whether the data held an end
    boxed: bool  # whether ends are outside of a box
    cautious: bool


class TerminationNetwork(nn.Module):
    """A classifier of next observations, for which terminations weigh as much as all other steps together.

    Terminations are rare (one step in an episode), so that a likelihood over all steps would be content to predict
    none; with these weights a missed end costs as much as a false alarm. A positive logit says that an end is more
    likely here than among the steps of the data at large; `probability` takes back the weights. Until `fit` has seen
    an end, nothing terminates.

    Many tasks end where a column leaves its range. Where the data allow it, that is what is learned (`bounding_box`) in
    place of the network, which needs many ends until it no longer takes other columns for a part of the reason.

    A cautious one also ends episodes out of the range of the data, since nobody knows what is there: the HALT state
    of Kidambi et al. (2020, "MOReL"), with a box in place of their disagreement.

    Args:
        size: Number O of observation columns.
        generator: Source of the initial weights.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = dense_layers((size, *HIDDEN, 1), generator)
        self.mean: Tensor
        self.scale: Tensor
        self.log_odds: Tensor
        self.seen: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("log_odds", torch.tensor(0.0))  # of an end, among the steps of the data
        self.register_buffer("seen", torch.tensor(False))
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.full((size,), -torch.inf))  # of the box
        self.register_buffer("high", torch.full((size,), torch.inf))
        self.least: Tensor
        self.most: Tensor
        self.cautious: Tensor
        self.register_buffer("least", torch.full((size,), -torch.inf))  # of the data
        self.register_buffer("most", torch.full((size,), torch.inf))
        self.register_buffer("cautious", torch.tensor(False))
        self._known: _Known | None = None  # None asks the device once

    def forward(self, observation: Tensor) -> Tensor:
        """Return the logits of termination `[...]` at next observations `[..., O]`."""
        logits = self._learned(observation)
        if not self.known.cautious:
            return logits
        return torch.where(_outside(observation, self.least, self.most), CERTAIN, logits)

    @property
    def known(self) -> _Known:
        """What decides how ends are predicted."""
        if self._known is None:
            boxed = bool((self.low.isfinite() | self.high.isfinite()).any())
            self._known = _Known(bool(self.seen), boxed, bool(self.cautious))
        return self._known

    def be_cautious(self) -> None:
        """End episodes where a column is out of the range of the data."""
        self.cautious.fill_(True)
        self._known = None

    def _learned(self, observation: Tensor) -> Tensor:
        if self.known.boxed:
            return torch.where(_outside(observation, self.low, self.high), CERTAIN, -CERTAIN)
        if not self.known.seen:
            return torch.full_like(observation[..., 0], -CERTAIN)
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
        return self.probability_of(self.logits(observation))

    def probability_of(self, logits: Tensor) -> Tensor:
        """Return the probability `[...]` of an end that `logits` `[...]` mean."""
        return (logits + self.log_odds).sigmoid()

    def _bound(self, low: Tensor, high: Tensor) -> None:
        self.low.copy_(low)
        self.high.copy_(high)
        self._known = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._known = None
        super()._load_from_state_dict(*args, **kwargs)

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
        self.least.copy_(observation.amin(0))
        self.most.copy_(observation.amax(0))
        self._bound(torch.full_like(self.low, -torch.inf), torch.full_like(self.high, torch.inf))
        if not len(ends):
            return
        if not len(others):
            self._always()
            return
        self.log_odds.fill_(math.log(len(ends) / len(others)))
        box = bounding_box(observation[ends], observation[others])
        if box is not None:
            self._bound(*box)
            return
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


def _outside(observation: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return whether any column of observations `[..., O]` is out of bounds, `[...]`."""
    return ((observation < low) | (observation > high)).any(-1)


def bounding_box(ends: Tensor, others: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return bounds of few columns that all ends violate and no other observation does, or None if there are none.

    Bounds are added greedily, the one that explains most of the remaining ends first (of several such the one farthest
    from what is usual, in standard deviations), and lie midway between the observations that they part. There must
    be more ends than bounds: some column or other is extreme at a single end by chance.

    Args:
        ends: Observations `[M, O]` that ended an episode.
        others: Observations `[L, O]` that did not.

    Returns:
        Least and largest values `[O]`, infinite where a column is not bounded.
    """
    mean, deviation = others.mean(0), others.std(0, unbiased=False).clamp_min(1e-12)
    least, most = others.amin(0), others.amax(0)
    outside = torch.cat((ends < least, ends > most), -1)  # [M, 2 O], low sides first
    unusual = torch.cat(((mean - least) / deviation, (most - mean) / deviation))
    unusual = unusual / (1 + unusual.max())  # less than 1: it decides between equals only
    chosen: list[int] = []
    remaining = torch.ones(len(ends), dtype=torch.bool, device=ends.device)
    while bool(remaining.any()) and len(chosen) + 1 < len(ends):
        explained = outside[remaining].sum(0)
        best = int((explained + unusual).argmax())
        if not explained[best]:
            return None
        chosen.append(best)
        remaining &= ~outside[:, best]
    if bool(remaining.any()):
        return None
    low, high = torch.full_like(least, -torch.inf), torch.full_like(most, torch.inf)
    for side in chosen:
        column, beyond = side % len(least), ends[outside[:, side], side % len(least)]
        if side < len(least):
            low[column] = (least[column] + beyond.amax()) / 2
        else:
            high[column] = (most[column] + beyond.amin()) / 2
    return low, high
