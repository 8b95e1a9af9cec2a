"""Model predictive path integral control."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.models.base import WorldModel

from .base import Stopwatch
from .evaluation import Draws, Returns, check
from .shooting import Search, ShootingPlanner, take

__all__ = ["MPPI"]


class MPPI(ShootingPlanner):
    """Model predictive path integral control (Williams et al. 2017, "Information theoretic MPC", algorithm 2).

    Candidates are drawn around a mean with a constant deviation, and the mean becomes their average, weighted by
    exp(return / temperature); it is executed. Discrete choices are drawn by their probabilities, which become the
    weighted shares of the choices; the most probable ones are executed. The mean itself is always a candidate. The
    paper's price of control, temperature * mean^T covariance^-1 noise, is left out: what actions cost is the reward's.

    A plan's `value` is the weighted mean of the candidates' values, which takes no further roll-out. Under a cost
    limit, candidates that exceed it get no weight where others keep it. The mean of two ways round an obstacle may lead
    through it: the plan is rolled out then, and the best candidate takes its place where only that one keeps the limit.

    Args:
        action_space: The environment's action space.
        population: Candidates K per iteration.
        iterations: Rounds of sampling.
        temperature: Difference of return by which a candidate weighs e times more than another; the smaller, the
            greedier.
        normalise: Whether the temperature counts in standard deviations of the candidates' returns, so that it does not
            depend on the scale of rewards, or in units of reward.
        deviation: Standard deviation of the noise, relative to half the action range; for discrete actions the share of
            uniform choices that is mixed into the probabilities, at most 1.
        colour: Exponent beta of the noise's power spectrum 1 / f^beta: 0 is white, larger is slower.
        **settings: Settings of `ShootingPlanner` and `Planner`.
    """

    def __init__(
        self,
        action_space: spaces.Space[Any],
        *,
        population: int = 1000,
        iterations: int = 1,
        temperature: float = 0.05,
        normalise: bool = True,
        deviation: float = 0.7,
        colour: float = 2.0,
        **settings: Any,
    ) -> None:
        super().__init__(action_space, population=population, iterations=iterations, **settings)
        check(temperature > 0, "temperature", temperature, "greater than 0")
        check(deviation > 0, "deviation", deviation, "greater than 0")
        check(colour >= 0, "colour", colour, "at least 0")
        self.temperature, self.normalise = temperature, normalise
        self.deviation, self.colour = deviation, colour
        if self.objective.cost is not None:
            self.closing = 1.0  # the mean is evaluated in the end

    def _candidates(self, search: Search, warm: Tensor, iteration: int, generator: torch.Generator) -> Tensor:
        noise = self.code.mirrored_noise(self.population, self.horizon, self.colour, generator).to(search.mean.device)
        mean = self.code.blur(search.mean, self.deviation)
        return self.code.sample(mean[:, None], torch.full_like(mean, self.deviation)[:, None], noise)

    def _update(self, search: Search, candidates: Tensor, returns: Returns) -> Search:
        weight = self._weights(returns)
        mean = torch.where(_flat(returns.rank)[:, None, None], search.mean, _average(candidates, weight))
        best = returns.rank.argmax(1, keepdim=True)
        agreed = search.agreed
        if self.agreement:
            spread = _average((candidates[:, :, :1] - mean[:, None, :1]).square(), weight).sqrt()
            agreed = spread[:, 0].amax(1) <= self.agreement
        return search._replace(
            mean=mean,
            elites=take(candidates, best),
            value=(weight * torch.where(weight > 0, returns.value, 0.0)).sum(1),
            feasible=returns.feasible.gather(1, best)[:, 0],
            agreed=agreed,
        )

    def _weights(self, returns: Returns) -> Tensor:
        """Return the weights `[N, K]`, which add up to 1 in each row."""
        rank = returns.rank
        if self.objective.cost is not None:
            feasible = returns.feasible | ~returns.feasible.any(1, keepdim=True)
            rank = torch.where(feasible, rank, -torch.inf)
        excess = rank - rank.amax(1, keepdim=True)
        return torch.softmax(excess / (self.temperature * self._unit(excess)), 1)

    def _unit(self, excess: Tensor) -> Tensor | float:
        """Return the unit of the temperature `[N, 1]`, given returns `[N, K]` relative to the best."""
        if not self.normalise:
            return 1.0
        ranked = excess > -torch.inf
        count = ranked.sum(1, keepdim=True)
        finite = torch.where(ranked, excess, 0.0)
        mean = finite.sum(1, keepdim=True) / count
        spread = (torch.where(ranked, excess - mean, 0.0).square().sum(1, keepdim=True) / count).sqrt()
        return spread.clamp_min(torch.finfo(spread.dtype).tiny)

    def _chosen(self, search: Search) -> Tensor:
        return self.code.nearest(search.mean)

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
        # What an extra roll-out of the mean takes is felt at small populations.
        if self.objective.cost is None:
            return search
        return self.mean_or_best(search, model, observation, draws, last)


def _average(candidates: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean `[N, H, U]` of candidates `[N, K, H, U]`."""
    return (weight.to(candidates.dtype)[:, :, None, None] * candidates).sum(1)


def _flat(rank: Tensor) -> Tensor:
    """Return in which rows `[N]` all candidates rank the same."""
    return rank.amax(1) == rank.amin(1)
