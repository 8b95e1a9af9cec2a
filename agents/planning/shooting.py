"""Trajectory optimisers that sample action sequences, and the simplest of them, random shooting."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.models.base import WorldModel

from .base import LEAST_ROWS, Plan, Planner, Stopwatch, next_age
from .evaluation import Draws, Returns, check, check_whole

__all__ = ["RandomShooting", "Search", "ShootingPlanner", "shift", "take"]


class Search(NamedTuple):
    """The search distribution and the best candidates so far, as search vectors."""

    mean: Tensor  # [N, H, U]
    deviation: Tensor  # [N, H, U]
    elites: Tensor  # [N, M, H, U] best first
    value: Tensor  # [N] of the best elite
    feasible: Tensor  # [N] of the best elite
    agreed: Tensor  # [N] whether the elites agree on the first action


class ShootingPlanner(Planner):
    """Samples candidates, evaluates them, refits the distribution to the best, and repeats.

    Args:
        action_space: The environment's action space.
        population: Candidates K per iteration.
        iterations: Rounds of sampling.
        agreement: A row's search ends early where the standard deviation of the elites' first action (of each
            component of its search vector) is at most this; 0 never ends early.
        shift_elites: Whether the next decision starts from the plan shifted by one step, its last step repeated; if
            not, from the plan as it was.
        **settings: Settings of `Planner`.
    """

    kept = 1  # elites M that a plan carries to the next decision
    closing = 0.25  # what comes after the search, relative to the evaluation of a part of a population

    def __init__(
        self,
        action_space: spaces.Space[Any],
        *,
        population: int,
        iterations: int,
        agreement: float = 0.0,
        shift_elites: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(action_space, **settings)
        check_whole("population", population, 2)
        check_whole("iterations", iterations, 1)
        check(agreement >= 0, "agreement", agreement, "at least 0")
        self.population, self.iterations = population, iterations
        self.agreement, self.shift_elites = agreement, shift_elites

    @torch.inference_mode()
    def plan(self, model: WorldModel, observation: Tensor, previous: Plan | None, generator: torch.Generator) -> Plan:
        """Plan for the observations `[N, O]`; see `Planner.plan`."""
        stopwatch = Stopwatch(self.time_budget_ms)
        draws = self.objective.draw(model, self.horizon, generator, observation.device)
        search, warm, last = self._start(observation, previous)
        started = search
        for iteration in range(self.iterations):
            if iteration and not stopwatch.allows_another(1.0 + self.closing):
                break
            candidates = self._candidates(search, warm, iteration, generator)
            candidates, returns = self._evaluate_in_time(model, observation, candidates, draws, last, stopwatch)
            updated = self._update(search, candidates, returns)
            search = updated if iteration == 0 else _where(search.agreed, search, updated)
            if self.agreement and bool(search.agreed.all()):
                break
        search = self._refine(search, started, model, observation, draws, last, stopwatch)
        return Plan(
            actions=self.to_environment(self._chosen(search)),
            value=search.value,
            mean=search.mean,
            elites=search.elites,
            warm=torch.ones_like(warm),
            feasible=search.feasible,
            age=torch.zeros_like(warm, dtype=torch.int64) if previous is None else next_age(previous, warm),
        )

    @abstractmethod
    def _candidates(self, search: Search, warm: Tensor, iteration: int, generator: torch.Generator) -> Tensor:
        """Return candidates `[N, K, H, U]`, those that must not be missed first."""

    @abstractmethod
    def _update(self, search: Search, candidates: Tensor, returns: Returns) -> Search:
        """Return the distribution refitted to the evaluated candidates."""

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
        """Improve on what was sampled, given also where the search started."""
        return search

    def mean_or_best(
        self, search: Search, model: WorldModel, observation: Tensor, draws: Draws, last: Tensor | None
    ) -> Search:
        """Evaluate the mean, and put the best candidate in its place where it is infeasible or not finite.

        The mean of two ways round an obstacle may lead into it.
        """
        pair = torch.stack((self.code.nearest(search.mean), search.elites[:, 0]), 1)
        returns = self.evaluate(model, observation, pair, draws, last)
        rank = returns.rank
        better = (rank[:, 1] > rank[:, 0]) & ~(returns.feasible[:, 0] & returns.value[:, 0].isfinite())
        index = better[:, None].long()
        return search._replace(
            mean=torch.where(better[:, None, None], pair[:, 1], search.mean),
            value=returns.value.gather(1, index)[:, 0],
            feasible=returns.feasible.gather(1, index)[:, 0],
        )

    @abstractmethod
    def _chosen(self, search: Search) -> Tensor:
        """Return the plan to execute `[N, H, U]`."""

    def _evaluate_in_time(
        self,
        model: WorldModel,
        observation: Tensor,
        candidates: Tensor,
        draws: Draws,
        last: Tensor | None,
        stopwatch: Stopwatch,
    ) -> tuple[Tensor, Returns]:
        """Evaluate the first candidates of `[N, K, H, U]`, as many as there is time for, and return them."""
        if not stopwatch.limited:
            return candidates, self.evaluate(model, observation, candidates, draws, last)
        rows = len(candidates)
        size = max(2, self.kept, -(-LEAST_ROWS // (rows * self.objective.particles_of(model))))
        parts: list[Returns] = []
        for some in candidates.split(size, 1):
            if parts and not stopwatch.allows_another(1.0 + self.closing):
                break
            parts.append(self.evaluate(model, observation, some, draws, last, strict=False))
            stopwatch.lap()
        value = torch.cat([part.value for part in parts], 1)
        evaluated = candidates[:, : value.shape[1]]
        if not bool(value.isfinite().any(1).all()):
            self.evaluate(model, observation, evaluated, draws, last)  # raises
        if parts[0].excess is None:
            return evaluated, Returns(value)
        return evaluated, Returns(value, torch.cat([part.excess for part in parts if part.excess is not None], 1))

    def _start(self, observation: Tensor, previous: Plan | None) -> tuple[Search, Tensor, Tensor | None]:
        """Shift the last plans by one step, and start from the centre where there are none.

        Returns:
            Search, which rows are warm `[N]`, and the vectors of the last actions `[N, U]`, NaN where there are none.
        """
        rows, device = observation.shape[0], observation.device
        if previous is None:
            previous = self.empty_plan(rows, device)
        expected = (rows, self.kept, self.horizon, self.code.size)
        check(
            tuple(previous.elites.shape) == expected,
            "the previous plan's elites",
            tuple(previous.elites.shape),
            f"of shape {expected}: a plan serves the same number of states and the same planner settings",
        )
        warm = previous.warm.to(device=device, dtype=torch.bool)
        mean, elites = previous.mean.to(device), previous.elites.to(device)
        if self.shift_elites:
            mean, elites = shift(mean), shift(elites)
        centre = self.code.centre().to(device)
        mean = torch.where(warm[:, None, None], mean, centre)
        elites = torch.where(warm[:, None, None, None], elites, centre)
        deviation = torch.ones_like(mean)
        value = torch.full((rows,), -torch.inf, device=device)
        last = None
        if self.smoothness:
            before = self.code.encode(previous.actions[warm.to(previous.actions.device), 0].to(device))
            last = torch.full_like(mean[:, 0], torch.nan).masked_scatter(warm[:, None], before)
        never = torch.zeros_like(warm)
        return Search(mean, deviation, elites, value, never, never), warm, last

    def empty_plan(self, rows: int, device: torch.device | str = "cpu") -> Plan:
        """Return the plan of rows that have none."""
        centre = self.code.centre().to(device).expand(rows, self.horizon, -1)
        return Plan(
            actions=self.to_environment(centre),
            value=torch.zeros(rows, device=device),
            mean=centre,
            elites=centre[:, None].expand(-1, self.kept, -1, -1),
            warm=torch.zeros(rows, dtype=torch.bool, device=device),
            feasible=torch.ones(rows, dtype=torch.bool, device=device),
            age=torch.zeros(rows, dtype=torch.int64, device=device),
        )


class RandomShooting(ShootingPlanner):
    """The best of uniformly random action sequences, and of the last decision's plan.

    Args:
        action_space: The environment's action space.
        population: Candidates K.
        **settings: Settings of `ShootingPlanner` and `Planner`.
    """

    def __init__(self, action_space: spaces.Space[Any], *, population: int = 1000, **settings: Any) -> None:
        super().__init__(action_space, population=population, iterations=1, **settings)

    def _candidates(self, search: Search, warm: Tensor, iteration: int, generator: torch.Generator) -> Tensor:
        uniform = self.code.uniform(self.population, self.horizon, generator).to(search.mean.device)
        candidates = uniform.repeat(search.mean.shape[0], 1, 1, 1)
        candidates[:, 0] = torch.where(warm[:, None, None], search.elites[:, 0], candidates[:, 0])
        return candidates

    def _update(self, search: Search, candidates: Tensor, returns: Returns) -> Search:
        best = returns.rank.argmax(1, keepdim=True)
        chosen = take(candidates, best)
        return search._replace(
            mean=chosen[:, 0],
            elites=chosen,
            value=returns.value.gather(1, best)[:, 0],
            feasible=returns.feasible.gather(1, best)[:, 0],
        )

    def _chosen(self, search: Search) -> Tensor:
        return search.elites[:, 0]


def shift(plans: Tensor) -> Tensor:
    """Drop the first step of plans `[..., H, U]` and repeat the last."""
    return torch.cat((plans[..., 1:, :], plans[..., -1:, :]), -2)


def take(candidates: Tensor, index: Tensor) -> Tensor:
    """Return the candidates `[N, M, H, U]` at the indices `[N, M]`."""
    return candidates.gather(1, index[:, :, None, None].expand(-1, -1, *candidates.shape[2:]))


def _where(rows: Tensor, first: Search, second: Search) -> Search:
    """Return the first search in the given rows `[N]`, the second elsewhere."""
    parts = zip(first, second, strict=True)
    return Search(*(torch.where(rows.view(-1, *[1] * (one.dim() - 1)), one, other) for one, other in parts))
