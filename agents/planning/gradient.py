"""Gradient ascent through the model."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.base import WorldModel
from mbrl_gym.noise import Noise

from .actions import BoxCode
from .base import Stopwatch
from .cem import ICEM
from .evaluation import Draws, Returns, check
from .shooting import Search, take

__all__ = ["Gradient"]

MEMORY = 0.5, 0.9  # Adam's decay rates of gradients and their squares: short, since a search has few steps
LEAST = 1e-12  # slope below which Adam's steps shrink; float32 still holds its square
SLICES_A_STEP = 4.0  # first guess of a gradient's time, in parts of a population


class Gradient(ICEM):
    """Gradient ascent through the model, from several starts that a short search with iCEM found.

    Adam (Kingma and Ba 2015) climbs from iCEM's kept elites and from the last decision's plan (the centre of the action
    range where there is none), all at once, on actions scaled to [-1, 1]; every step is projected onto that range, and
    steps shrink linearly to zero. Each start keeps the best of its iterates, so that no plan is worse than iCEM's.
    Where a plan exceeds the cost limit, the steps follow the cost's slope rather than the value's.

    It needs few predictions, but one after the other, and a gradient takes several times as long as a roll-out. Where a
    thousand candidates are as quick as ten, iCEM with a large population is the better use of time.

    The model, its reward, and cost and value where given, must be differentiable with respect to the actions. Where
    the value has no slope (a reward that counts steps, until a termination), this is iCEM.

    Args:
        action_space: Flat Box.
        gradient_steps: Steps of Adam.
        learning_rate: Size of the first step in every component, relative to half the action range.
        max_norm: Length to which the gradient of a plan is cut; None leaves it. Adam's steps do not depend on the
            scale of the gradients: this helps where a few of them are much steeper than the others.
        population: As in `ICEM`.
        iterations: As in `ICEM`.
        kept: As in `ICEM`, and the number of starts besides the last plan.
        **settings: Settings of `ICEM`, `CEM`, `ShootingPlanner` and `Planner`.

    Raises:
        UnsupportedSpaceError: Anything but flat, bounded Box actions.
        InvalidSettingError: A setting out of its range.
    """

    def __init__(
        self,
        action_space: spaces.Space[Any],
        *,
        gradient_steps: int = 25,
        learning_rate: float = 0.2,
        max_norm: float | None = None,
        population: int = 24,
        iterations: int = 3,
        kept: int = 3,
        **settings: Any,
    ) -> None:
        super().__init__(action_space, population=population, iterations=iterations, kept=kept, **settings)
        if not isinstance(self.code, BoxCode):
            raise UnsupportedSpaceError(
                f"{type(self).__name__} differentiates by the actions, which takes flat Box actions, but the action "
                f"space is {action_space}; RandomShooting, CEM, iCEM and MPPI plan over choices"
            )
        check(gradient_steps >= 1, "gradient_steps", gradient_steps, "at least 1")
        check(learning_rate > 0, "learning_rate", learning_rate, "greater than 0")
        check(max_norm is None or max_norm > 0, "max_norm", max_norm, "None or greater than 0")
        self.gradient_steps, self.learning_rate, self.max_norm = gradient_steps, learning_rate, max_norm

    def gradient(
        self, model: WorldModel, observation: Tensor, vectors: Tensor, draws: Draws, last: Tensor | None = None
    ) -> tuple[Returns, Tensor]:
        """Return what candidates `[N, K, H, U]` are worth, and the direction `[N, K, H, U]` in which they get better.

        That is the gradient of the value; beyond the cost limit, that of the excess cost, downhill. Directions are zero
        where they are not finite. Parameters of the model collect no gradients.

        Args:
            model: The world model.
            observation: Where to start, `[N, O]`.
            vectors: The candidates.
            draws: The decision's random numbers.
            last: The vectors `[N, U]` of the actions before, NaN where there are none; None if nowhere.

        Raises:
            InvalidSettingError: The model, or a function of the objective, cannot be differentiated.
        """
        with torch.enable_grad():
            vectors = vectors.detach().requires_grad_()
            try:
                returns = self.evaluate(model, observation, vectors, draws, last, strict=False)
                uphill = _slope(returns.value, vectors)
                if returns.excess is not None:
                    uphill = _within_limit(uphill, _slope(returns.excess, vectors), returns.excess.detach())
            except RuntimeError as error:
                raise InvalidSettingError(
                    f"{type(self).__name__} needs a model that can be differentiated with respect to the actions, but "
                    f"{type(model).__name__} (or a function of the objective) cannot be: {error}. "
                    "RandomShooting, CEM, iCEM and MPPI need no gradient"
                ) from error
        excess = None if returns.excess is None else returns.excess.detach()
        return Returns(returns.value.detach(), excess), uphill

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
        # Tensors made in inference mode cannot take part in gradients: everything is copied.
        with torch.inference_mode(False), torch.no_grad():
            problem = model, observation.clone(), _copied(draws), None if last is None else last.clone()
            starts = torch.cat((search.elites, started.elites[:, :1]), 1)
            best, returns = self._climb(starts, problem, stopwatch)
        if returns is None:
            return search
        order = returns.rank.sort(dim=1, descending=True, stable=True).indices[:, : self.kept]
        elites, first = take(best, order), order[:, :1]
        value, feasible = returns.value.gather(1, first)[:, 0], returns.feasible.gather(1, first)[:, 0]
        moved = (elites[:, 0] != search.elites[:, 0]).flatten(1).any(1)
        mean = torch.where(moved[:, None, None], elites[:, 0], search.mean)
        return search._replace(mean=mean, elites=elites, value=value, feasible=feasible)

    def _climb(
        self, vectors: Tensor, problem: tuple[WorldModel, Tensor, Draws, Tensor | None], stopwatch: Stopwatch
    ) -> tuple[Tensor, Returns | None]:
        """Return the best iterates `[N, K, H, U]` from the given starts, and what they are worth.

        The latter is None if there was no time to evaluate the starts.
        """
        model, observation, draws, last = problem
        best, worth = vectors, None
        adam = _Adam(vectors)
        for step in range(self.gradient_steps + 1):
            if not stopwatch.allows_another(1.0 if step else SLICES_A_STEP):
                break
            if step < self.gradient_steps:
                returns, uphill = self.gradient(model, observation, vectors, draws, last)
            else:
                returns = self.evaluate(model, observation, vectors, draws, last, strict=False)
            best, worth = _better(best, worth, vectors, returns)
            if step < self.gradient_steps:
                size = self.learning_rate * (1.0 - step / self.gradient_steps)
                vectors = (vectors + size * adam.direction(self._cut(uphill))).clamp(-1.0, 1.0)
            stopwatch.lap()
        return best, worth

    def _cut(self, gradient: Tensor) -> Tensor:
        """Cut each plan's gradient to the greatest length."""
        if self.max_norm is None:
            return gradient
        return gradient * (self.max_norm / _length(gradient).clamp_min(LEAST)).clamp_max(1.0)


class _Adam:
    """Adam's running means over the gradients of some plans `[N, K, H, U]`, each component for itself."""

    def __init__(self, vectors: Tensor) -> None:
        self._mean, self._square = torch.zeros_like(vectors), torch.zeros_like(vectors)
        self._steps = 0

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the step for a learning rate of 1."""
        self._steps += 1
        slow, slower = MEMORY
        self._mean = slow * self._mean + (1 - slow) * gradient
        self._square = slower * self._square + (1 - slower) * gradient.square()
        mean = self._mean / (1 - slow**self._steps)
        return mean / ((self._square / (1 - slower**self._steps)).sqrt() + LEAST)


def _slope(values: Tensor, vectors: Tensor) -> Tensor:
    """Return the gradients `[N, K, H, U]` of values `[N, K]`, zero where they are not finite."""
    if not values.requires_grad:
        return torch.zeros_like(vectors)
    (gradient,) = torch.autograd.grad(values.sum(), vectors, retain_graph=True)
    return torch.where(gradient.isfinite(), gradient, 0.0)


def _length(gradient: Tensor) -> Tensor:
    """Return the length `[N, K, 1, 1]` of each plan's gradient."""
    return gradient.square().sum((2, 3), keepdim=True).sqrt()


def _within_limit(uphill: Tensor, away: Tensor, excess: Tensor) -> Tensor:
    """Turn directions `[N, K, H, U]` back to the cost limit where plans exceed it, and keep their lengths for Adam.

    That is the method of switching gradients (Polyak 1967).

    Args:
        uphill: Gradient of the value.
        away: Gradient of the excess cost.
        excess: Excess cost `[N, K]`.
    """
    steep, danger = _length(uphill), _length(away)
    back = -torch.where(steep > 0, steep / danger.clamp_min(LEAST), 1.0) * away
    return torch.where((excess > 0)[:, :, None, None], back, uphill)


def _better(best: Tensor, worth: Returns | None, vectors: Tensor, returns: Returns) -> tuple[Tensor, Returns]:
    """Return the better ones of two sets of candidates `[N, K, H, U]`, and what they are worth; the first if equal."""
    if worth is None:
        return vectors, returns
    both = Returns(*(_pairs(one, other) for one, other in zip(worth, returns, strict=True)))
    rank = both.rank
    wins = (rank[:, 1] > rank[:, 0]).long()
    value, excess = (None if part is None else part.gather(1, wins[:, None]) for part in both)
    assert value is not None
    chosen = torch.where(wins.view(*returns.value.shape, 1, 1) > 0, vectors, best)
    return chosen, Returns(value.view_as(returns.value), None if excess is None else excess.view_as(returns.value))


def _pairs(one: Tensor | None, other: Tensor | None) -> Any:
    """Return the numbers of two sets of candidates `[N, K]` side by side, `[N * K, 2]`."""
    return None if one is None or other is None else torch.stack((one, other), -1).flatten(0, 1)


def _copied(draws: Draws) -> Draws:
    noise = None if draws.noise is None else [Noise(*(part.clone() for part in each)) for each in draws.noise]
    order = None if draws.order is None else [each.clone() for each in draws.order]
    return Draws(noise, order)
