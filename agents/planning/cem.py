"""The cross-entropy method, and its sample-efficient form."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.models.base import WorldModel

from .base import Plan, Stopwatch
from .evaluation import Draws, Returns, check
from .shooting import Search, ShootingPlanner, take

__all__ = ["CEM", "ICEM", "refit"]


class CEM(ShootingPlanner):
    """The cross-entropy method (Botev et al. 2013; as in PETS, Chua et al. 2018, section 5).

    Candidates are drawn around a mean that is refitted to the elites; the mean is executed. Discrete choices are drawn
    by their probabilities, which are refitted to the shares of the choices among the elites; the most probable ones
    are executed.

    Args:
        action_space: The environment's action space.
        population: Candidates K per iteration.
        iterations: Rounds of sampling.
        elites: Candidates to which the distribution is refitted.
        momentum: Share of the old mean and deviation that a refit keeps.
        deviation: Standard deviation of the first round, relative to half the action range; for discrete actions the
            share of uniform choices that is mixed into the last decision's probabilities, at most 1.
        min_deviation: Bound below which the deviation (or that share) does not shrink.
        colour: Exponent beta of the noise's power spectrum 1 / f^beta: 0 is white, larger is slower.
        **settings: Settings of `ShootingPlanner` and `Planner`.
    """

    closing = 1.0  # the mean is evaluated in the end

    def __init__(
        self,
        action_space: spaces.Space[Any],
        *,
        population: int = 400,
        iterations: int = 5,
        elites: int = 40,
        momentum: float = 0.1,
        deviation: float = 0.5,
        min_deviation: float = 0.0,
        colour: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(action_space, population=population, iterations=iterations, **settings)
        check(1 <= elites < population, "elites", elites, f"at least 1 and below the population ({population})")
        check(0 <= momentum < 1, "momentum", momentum, "in [0, 1)")
        check(deviation > 0, "deviation", deviation, "greater than 0")
        check(min_deviation >= 0, "min_deviation", min_deviation, "at least 0")
        check(colour >= 0, "colour", colour, "at least 0")
        self.elites, self.momentum = elites, momentum
        self.deviation, self.min_deviation, self.colour = deviation, min_deviation, colour

    def _candidates(self, search: Search, warm: Tensor, iteration: int, generator: torch.Generator) -> Tensor:
        return self._around(search, self.population, generator)

    def _around(self, search: Search, count: int, generator: torch.Generator) -> Tensor:
        """Draw candidates `[N, count, H, U]` from the search distribution, with noise that is common to all rows."""
        noise = self.code.noise(count, self.horizon, self.colour, generator).to(search.mean.device)
        return self.code.sample(search.mean[:, None], search.deviation[:, None], noise)

    def _start(self, observation: Tensor, previous: Plan | None) -> tuple[Search, Tensor, Tensor | None]:
        search, warm, last = super()._start(observation, previous)
        deviation = torch.full_like(search.deviation, self.deviation)
        return search._replace(mean=self.code.blur(search.mean, self.deviation), deviation=deviation), warm, last

    def _update(self, search: Search, candidates: Tensor, returns: Returns) -> Search:
        rank = returns.rank
        mean, deviation = refit(candidates, rank, self.elites, search.mean, search.deviation)
        keep = self.momentum
        order = rank.topk(self.kept, dim=1).indices
        best = order[:, :1]
        return Search(
            mean=self.code.blur(keep * search.mean + (1 - keep) * mean, self.min_deviation),
            deviation=(keep * search.deviation + (1 - keep) * deviation).clamp_min(self.min_deviation),
            elites=take(candidates, order),
            value=returns.value.gather(1, best)[:, 0],
            feasible=returns.feasible.gather(1, best)[:, 0],
            agreed=deviation[:, 0].amax(1) <= self.agreement if self.agreement else search.agreed,
        )

    def _refine(
        self,
        search: Search,
        started: Search,
        model: WorldModel,
        observation: Tensor,
        draws: Draws,
        last: Tensor | None,
        stopwatch: Stopwatch,
    ) -> Search:
        return self.mean_or_best(search, model, observation, draws, last)

    def _chosen(self, search: Search) -> Tensor:
        return self.code.nearest(search.mean)


class ICEM(CEM):
    """Sample-efficient CEM for real-time planning (Pinneri et al. 2020, algorithm 1).

    Over CEM: temporally correlated noise, elites kept within and between decisions, a population that shrinks from
    iteration to iteration, the mean as a candidate of the last one, and the best candidate executed.

    Args:
        action_space: The environment's action space.
        population: Candidates of the first iteration, besides the kept elites; at least twice the elites.
        iterations: Rounds of sampling.
        elites: Candidates to which the distribution is refitted.
        kept: Elites that live on in the next iteration and in the next decision.
        keep_elites: Whether they do so in the next iteration.
        decay: Factor by which the population shrinks per iteration.
        colour: As in `CEM`.
        **settings: Settings of `CEM`, `ShootingPlanner` and `Planner`.
    """

    closing = 0.25

    def __init__(
        self,
        action_space: spaces.Space[Any],
        *,
        population: int = 24,
        iterations: int = 5,
        elites: int = 5,
        kept: int = 2,
        keep_elites: bool = True,
        decay: float = 1.25,
        colour: float = 2.0,
        **settings: Any,
    ) -> None:
        super().__init__(
            action_space, population=population, iterations=iterations, elites=elites, colour=colour, **settings
        )
        check(1 <= kept <= elites, "kept", kept, f"between 1 and elites ({elites})")
        check(decay >= 1, "decay", decay, "at least 1")
        self.kept, self.keep_elites, self.decay = kept, keep_elites, decay

    def _candidates(self, search: Search, warm: Tensor, iteration: int, generator: torch.Generator) -> Tensor:
        count = max(int(self.population * self.decay**-iteration), 2 * self.elites)
        candidates = self._around(search, self.kept + count, generator)
        # Cold rows have no elites to keep in the first iteration: fresh candidates stand in their place.
        if iteration == 0 or self.keep_elites:
            has_elites = (warm | (iteration > 0))[:, None, None, None]
            candidates[:, : self.kept] = torch.where(has_elites, search.elites, candidates[:, : self.kept])
        if iteration == self.iterations - 1:
            candidates[:, self.kept] = self.code.nearest(search.mean)
        return candidates

    def _refine(
        self,
        search: Search,
        started: Search,
        model: WorldModel,
        observation: Tensor,
        draws: Draws,
        last: Tensor | None,
        stopwatch: Stopwatch,
    ) -> Search:
        return search

    def _chosen(self, search: Search) -> Tensor:
        return search.elites[:, 0]


def refit(candidates: Tensor, returns: Tensor, elites: int, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Fit mean and standard deviation `[N, H, A]` to the best candidates.

    Ties are no evidence: candidates that tie with the best of the rejected ones do not count as elites, unless all
    elites tie at the top (then everything at the top counts); where all returns are equal, the distribution stays.
    """
    cut = returns.topk(min(elites + 1, returns.shape[1]), dim=1).values
    # Fewer candidates than elites, where a time budget ran out, are all of them elites.
    threshold, top = cut[:, -1:] if returns.shape[1] > elites else -torch.inf, cut[:, :1]
    strict = threshold < top
    weight = torch.where(strict, returns > threshold, returns >= top).to(candidates.dtype)
    flat = weight.sum(1) == returns.shape[1]
    weight = (weight / weight.sum(1, keepdim=True))[:, :, None, None]
    fitted = (weight * candidates).sum(1)
    spread = (weight * (candidates - fitted[:, None]).square()).sum(1).sqrt()
    keep = flat[:, None, None]
    return torch.where(keep, mean, fitted), torch.where(keep, deviation, spread)
