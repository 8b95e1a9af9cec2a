"""Evaluation of every plan."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.base import WorldModel

from .actions import ChoiceCode, choice_code
from .evaluation import Draws, Returns, check
from .shooting import Search, ShootingPlanner, take

__all__ = ["Exhaustive"]

LONGEST = 15  # horizon by default, where the plans are few enough
PARTICLES_AT_ONCE = 1 << 16  # of plans and rows, which bounds the memory


class Exhaustive(ShootingPlanner):
    """Evaluates every action sequence and takes the best: exact, for few choices and short horizons.

    Where several are best, the last decision's plan goes on if it is one of them. Nothing is random but the model.

    Args:
        action_space: Discrete or flat MultiDiscrete.
        horizon: Steps H that a plan looks ahead; by default as many as `max_plans` allows, at most 15.
        max_plans: Bound on the number of plans.
        shift_elites: As in `ShootingPlanner`.
        **settings: Settings of `Planner`.

    Raises:
        UnsupportedSpaceError: Other action spaces.
        InvalidSettingError: More plans than allowed.
    """

    code: ChoiceCode

    def __init__(
        self,
        action_space: spaces.Space[Any],
        *,
        horizon: int | None = None,
        max_plans: int = 20_000,
        shift_elites: bool = True,
        **settings: Any,
    ) -> None:
        code = choice_code(action_space)
        if code is None:
            raise UnsupportedSpaceError(
                f"{type(self).__name__} plans over Discrete and flat MultiDiscrete actions, but the action space is "
                f"{action_space}; RandomShooting, CEM, iCEM and MPPI plan over flat Box actions"
            )
        check(max_plans >= 1, "max_plans", max_plans, "at least 1")
        choices = code.choices
        horizon = _affordable(horizon, choices, max_plans)
        super().__init__(
            action_space,
            horizon=horizon,
            population=max(2, choices**horizon),
            iterations=1,
            shift_elites=shift_elites,
            **settings,
        )
        self.max_plans = max_plans
        # A plan's number has the choice at step t as digit t: any first few of them take every first action.
        number = torch.arange(choices**horizon)
        digits = torch.stack([number // choices**t % choices for t in range(horizon)], -1)
        self._plans = self._every_choice()[digits]  # [K, H, U]

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
        """Return what the candidates `[N, K, H, U]` are worth; see `Planner.evaluate`. Large batches go in parts."""
        at_once = max(1, PARTICLES_AT_ONCE // self.objective.particles_of(model))
        rows = max(1, at_once // vectors.shape[1])
        worth = []
        for first in range(0, len(observation), rows):
            some = slice(first, first + rows)
            before = None if last is None else last[some]
            parts = [
                super(Exhaustive, self).evaluate(model, observation[some], part, draws, before, strict=False)
                for part in vectors[some].split(at_once, 1)
            ]
            worth.append(_joined(parts, 1))
        returns = _joined(worth, 0)
        hopeless = ~returns.value.isfinite().any(1)
        if strict and bool(hopeless.any()):
            row = int(hopeless.to(torch.uint8).argmax())
            super().evaluate(model, observation[row : row + 1], vectors[row : row + 1, :at_once], draws)  # raises
        return returns

    def _candidates(self, search: Search, warm: Tensor, iteration: int, generator: torch.Generator) -> Tensor:
        return self._plans.to(search.mean.device).expand(len(warm), -1, -1, -1)

    def _update(self, search: Search, candidates: Tensor, returns: Returns) -> Search:
        rank = returns.rank
        again = self._number(search.elites[:, 0])
        most = rank.shape[1] - 1  # fewer than all plans, where a time budget ran out
        goes_on = (again <= most) & (rank.gather(1, again.clamp_max(most)) == rank.amax(1, keepdim=True))
        best = torch.where(goes_on, again, rank.argmax(1, keepdim=True))
        chosen = take(candidates, best)
        return search._replace(
            mean=chosen[:, 0],
            elites=chosen,
            value=returns.value.gather(1, best)[:, 0],
            feasible=returns.feasible.gather(1, best)[:, 0],
        )

    def _chosen(self, search: Search) -> Tensor:
        return search.elites[:, 0]

    def _every_choice(self) -> Tensor:
        """Return the vectors of all actions of a step."""
        return self.code.encode(self.code.every_action())

    def _number(self, plan: Tensor) -> Tensor:
        """Return the number `[N, 1]` of plans `[N, H, U]`."""
        choice = (self.code.nearest(plan) @ self._every_choice().to(plan.device).mT).argmax(-1)
        return (choice * self.code.choices ** torch.arange(self.horizon, device=plan.device)).sum(1, keepdim=True)


def _affordable(horizon: int | None, choices: int, max_plans: int) -> int:
    """Return the horizon; refuse one with more plans than allowed."""
    longest = 0
    while longest < (LONGEST if horizon is None else horizon) and choices ** (longest + 1) <= max_plans:
        longest += 1
    if longest == 0 and (horizon is None or horizon >= 1):
        raise InvalidSettingError(
            f"max_plans must be at least the {choices} choices of a step, but {max_plans} was given"
        )
    if horizon is None:
        return longest
    check(
        horizon <= longest or horizon < 1,
        "horizon",
        horizon,
        f"at most {longest} where max_plans is {max_plans} ({choices} choices a step make {choices}^{horizon} = "
        f"{choices ** max(horizon, 0)} plans)",
    )
    check(horizon >= 1, "horizon", horizon, "at least 1")
    return horizon


def _joined(parts: list[Returns], axis: int) -> Returns:
    """Return several candidates' or rows' returns as one."""
    excess = [part.excess for part in parts if part.excess is not None]
    return Returns(torch.cat([part.value for part in parts], axis), torch.cat(excess, axis) if excess else None)
