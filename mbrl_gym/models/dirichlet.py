"""The Dirichlet posterior over numbered next states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mbrl_gym.models.counts import Tables, find

__all__ = ["DirichletPosterior", "StepMoments", "draw_dirichlet"]

StepMoments = tuple[Tensor, Tensor, Tensor]
"""Mean reward, mean squared reward, and probability of ending the episode, each `[...]` float64."""


class DirichletPosterior:
    """What counts and a symmetric prior over M of the S states say of the step from a pair to its next state.

    Args:
        table: The counts, or a posterior draw.
        states: Number S of states.
        prior: Weight of the prior of each pair [visits].
        over_seen: Whether the M states of the prior are those in the data, not all.
    """

    def __init__(self, table: Tables, states: int, prior: float, *, over_seen: bool) -> None:
        self.table, self.states, self.over_seen = table, states, over_seen
        self.support = len(table.seen) if over_seen else states  # M
        self.prior = 0.0 if table.is_draw else prior  # a draw leaves nothing open
        self.each = self.prior / self.support

    def total(self, place: Tensor) -> Tensor:
        """Return visits and prior of pairs at their places in the table."""
        return self.table.sums.visits[place] + self.prior

    def probability(self, pair: Tensor, following: Tensor) -> Tensor:
        """Return the predictive probability `[...]` of next states (of the prior's support) `[...]`."""
        table = self.table
        counts = torch.cat((table.counts, table.counts.new_zeros(1)))
        triple = find(table.codes, pair * self.states + following)
        return (counts[triple] + self.each) / self.total(find(table.pairs, pair))

    def most_probable(self, pair: Tensor, before: Tensor) -> Tensor:
        """Return the most frequent next state `[...]`; the present one for pairs that never occurred."""
        place = find(self.table.pairs, pair)
        return torch.where(place == len(self.table.pairs), before, self.table.mode[place])

    def sample(self, pair: Tensor, uniform: Tensor) -> Tensor:
        """Return next states `[...]` by inverting the distribution function at `uniform` `[...]`.

        The counts come first in the distribution function, in order of next states, and then the prior.
        """
        table = self.table
        place = find(table.pairs, pair)
        visits = table.sums.visits[place]
        level = uniform.double() * (visits + self.prior)
        first, last = table.first[place], table.last[place]
        triple = torch.searchsorted(table.cumulative, table.cumulative[first] + level, right=True) - 1
        counted = table.following[torch.minimum(torch.maximum(triple, first), last - 1)]
        if not self.prior:
            return counted
        drawn = ((level - visits) / self.each).long().clamp(0, self.support - 1)
        return torch.where(level < visits, counted, table.seen[drawn] if self.over_seen else drawn)

    def step(self, pair: Tensor, following: Tensor) -> StepMoments:
        """Return the moments of steps from pairs `[...]` to states `[...]`."""
        table = self.table
        triple, place = find(table.codes, pair * self.states + following), find(table.pairs, pair)
        never = triple == len(table.codes)
        return (
            torch.where(never, table.pair_reward[place], table.reward[triple]),
            torch.where(never, table.pair_square[place], table.square[triple]),
            torch.where(never, table.entered_end[find(table.entered, following)], table.end[triple]),
        )

    def moments(self, pair: Tensor) -> StepMoments:
        """Return the moments of steps from pairs `[N]` under the predictive distribution of next states."""
        table, sums, each = self.table, self.table.sums, self.each
        place = find(table.pairs, pair)
        never = self.prior - each * sums.nexts[place]  # weight of the next states that never followed
        reward = sums.reward[place] + each * sums.mean_reward[place] + never * table.pair_reward[place]
        square = sums.square[place] + each * sums.mean_square[place] + never * table.pair_square[place]
        entering = table.entered_end.sum() - sums.entered_end[place]
        end = sums.ends[place] + each * (sums.end[place] + entering)
        total = self.total(place)
        return reward / total, square / total, end / total

    def marginal(self, pair: Tensor, choice: Callable[[Tensor], Tensor], size: int) -> Tensor:
        """Return the predictive probabilities `[N, size]` of a choice that the next state comprises.

        Args:
            pair: `[N]`.
            choice: Returns the choices, integers below `size`, of states by number.
            size: Number of choices.
        """
        table = self.table
        place = find(table.pairs, pair)
        first = table.first[place]
        length = table.last[place] - first
        row = torch.repeat_interleave(length)
        triple = torch.arange(len(row), device=pair.device) + (first - (length.cumsum(0) - length))[row]
        prior = table.counts.new_full((size,), self.prior / size)
        if self.over_seen:
            prior = self.each * torch.bincount(choice(table.seen), minlength=size).double()
        mass = prior.repeat(len(pair), 1)
        mass.index_put_((row, choice(table.following[triple])), table.counts[triple], accumulate=True)
        return mass / self.total(place)[:, None]

    def deviation(self, pair: Tensor) -> Tensor:
        """Return the root of the trace of the Dirichlet distribution's covariance `[N]`."""
        place, sums = find(self.table.pairs, pair), self.table.sums
        total = self.total(place)
        squares = sums.squared_counts[place] + self.each * (2 * sums.visits[place] + self.prior)
        return ((1 - squares / total**2) / (total + 1)).clamp(min=0).sqrt()

    def draw(self, pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the distributions of the pairs 0 to `pairs` - 1.

        Returns:
            Pair, next state and probability, each `[K]` and in order; those of probability 0 are left out.
        """
        support = self.table.seen if self.over_seen else torch.arange(self.states, device=self.table.seen.device)
        pair = torch.arange(pairs, device=support.device)[:, None].expand(pairs, len(support))
        following = support.expand_as(pair)
        total = self.total(find(self.table.pairs, pair))
        probability = draw_dirichlet(self.probability(pair, following) * total, generator)
        possible = probability > 0
        return pair[possible], following[possible], probability[possible]


def draw_dirichlet(concentration: Tensor, generator: torch.Generator) -> Tensor:
    """Draw probabilities `[..., M]` from Dirichlet distributions of concentrations `[..., M]` (float64).

    Gamma variables are drawn as logarithms, log G(a) = log G(a + 1) + log(U) / a, since those of small concentrations
    are too small for a number.
    """
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    numbers = np.random.default_rng(int(seed))
    shape = concentration.cpu().numpy()
    logarithm = np.log(numbers.standard_gamma(shape + 1)) + np.log1p(-numbers.random(shape.shape)) / shape
    return torch.as_tensor(logarithm, device=concentration.device).softmax(-1)
