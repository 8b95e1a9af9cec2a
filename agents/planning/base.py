"""The planners' contract."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.models.base import WorldModel

from .actions import action_code
from .evaluation import Draws, Objective, Returns, check, check_whole, evaluate

__all__ = ["Plan", "Planner"]

LEAST_ROWS = 512  # particles of candidates between two looks at the clock: fewer take hardly less time


class Plan(NamedTuple):
    """Plans for N states: what to do, and what the next decision starts from.

    It is a plain tuple of arrays: the recurrent state of Stable-Baselines3's `predict` (NumPy there, torch here).
    Search vectors `[..., U]` are Box actions scaled to [-1, 1], or choices one-hot (their means are probabilities).
    """

    actions: Any  # [N, H, A], or integers [N, H] or [N, H, C]: the plan; its first action is the one to take
    value: Any  # [N] what the planner maximised: the predicted return of the plan, less penalties
    mean: Any  # [N, H, U] the mean of the search distribution
    elites: Any  # [N, M, H, U] the kept elites, best first
    warm: Any  # [N] bool, whether the row carries a plan: False where an episode starts
    feasible: Any  # [N] bool, whether the plan is expected to keep the cost limit; True where there is none
    age: Any  # [N] integers, decisions of the row's episode before this one


class Planner(ABC):
    """Searches for the action sequence with the best predicted return.

    Args:
        action_space: The environment's action space: flat Box, Discrete or flat MultiDiscrete.
        horizon: Steps H that a plan looks ahead.
        smoothness: Penalty on changes of action: times the squared difference of successive search vectors (Box actions
            scaled to [-1, 1]), the last decision's action included. A change of a discrete choice counts 2.
        time_budget_ms: Time for a decision [ms]. The search ends when no further part of it would end in time, and the
            best plan so far is returned; the first part of the first population (some 512 particles of candidates, at
            least two candidates a row) is evaluated in any case. Plans then depend on the machine.
        **objective: Settings of `Objective`: particles, noise, propagation, discount, risk, worst_case, disagreement,
            information, novelty, particle, cost, cost_limit, value.

    Raises:
        UnsupportedSpaceError: An action space that the planner cannot search.
        InvalidSettingError: A setting out of its range.
    """

    def __init__(
        self,
        action_space: spaces.Space[Any],
        *,
        horizon: int = 15,
        smoothness: float = 0.0,
        time_budget_ms: float | None = None,
        **objective: Any,
    ) -> None:
        self.code = action_code(action_space, type(self).__name__)
        check_whole("horizon", horizon, 1)
        check(smoothness >= 0, "smoothness", smoothness, "at least 0")
        check(time_budget_ms is None or time_budget_ms > 0, "time_budget_ms", time_budget_ms, "None or greater than 0")
        self.action_space = action_space
        self.horizon, self.smoothness, self.time_budget_ms = horizon, smoothness, time_budget_ms
        self.objective = Objective(**objective)

    @abstractmethod
    def plan(self, model: WorldModel, observation: Tensor, previous: Plan | None, generator: torch.Generator) -> Plan:
        """Plan for the observations `[N, O]`.

        Args:
            model: Predicts the consequences.
            observation: Where to start, `[N, O]`.
            previous: The last decision's plans for the same rows, or None.
            generator: Source of all randomness. Random numbers are shared by the rows, so that planning for a batch
                equals planning for its rows one by one.

        Raises:
            PlanningError: The model predicts no finite return for any candidate of some row.
        """

    def to_environment(self, vector: Tensor) -> Tensor:
        """Return the environment's actions for search vectors `[..., U]`."""
        return self.code.decode(vector)

    def evaluate(
        self,
        model: WorldModel,
        observation: Tensor,
        vectors: Tensor,
        draws: Draws,
        last: Tensor | None = None,
        *,
        strict: bool = True,
    ) -> Returns:
        """Return what the candidates `[N, K, H, U]` are worth; see `evaluate`.

        Args:
            model: The world model.
            observation: Where to start, `[N, O]`.
            vectors: The candidates.
            draws: The decision's random numbers.
            last: The vectors `[N, U]` of the actions before, NaN where there are none; None if nowhere.
            strict: Whether to raise if no candidate of some row has a finite value.
        """
        penalty = self._changes(vectors, last) if self.smoothness else None
        return evaluate(model, observation, self.to_environment(vectors), self.objective, draws, penalty, strict=strict)

    def _changes(self, vectors: Tensor, last: Tensor | None) -> Tensor:
        """Return the penalty `[N, K]` on changes of action."""
        changes = vectors.diff(dim=2).square().sum((2, 3))
        if last is not None:
            before = torch.where(last.isnan()[:, None], vectors[:, :, 0].detach(), last[:, None])
            changes = changes + (vectors[:, :, 0] - before).square().sum(2)
        return self.smoothness * changes


def next_age(plan: Plan, warm: Tensor) -> Tensor:
    """Return the ages `[N]` of the plans that follow, given which rows go on `[N]`."""
    return torch.where(warm, plan.age.to(warm.device) + 1, 0)


class Stopwatch:
    """Tells whether another part of a search, as long as the longest so far, would end within a budget.

    Args:
        budget_ms: Time from now on [ms]; None for no limit.
    """

    def __init__(self, budget_ms: float | None) -> None:
        self.limited = budget_ms is not None
        self._last = time.perf_counter()
        self._end = self._last + (budget_ms or 0.0) / 1000
        self._longest = 0.0

    def lap(self) -> None:
        """Take the time since the last call, or since the start, as that of a part."""
        now = time.perf_counter()
        self._longest, self._last = max(self._longest, now - self._last), now

    def allows_another(self, parts: float = 1.0) -> bool:
        """Return whether there is time for another part, or for some."""
        return not self.limited or time.perf_counter() + parts * self._longest <= self._end
