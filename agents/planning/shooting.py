"""Trajectory optimisers that sample action sequences: random shooting, CEM and iCEM."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.models.base import WorldModel
from mbrl_gym.noise import Noise

from .base import Plan, Planner, check

__all__ = ["CEM", "ICEM", "RandomShooting", "coloured_noise", "refit"]


class _Search(NamedTuple):
    """The search distribution and the best candidates so far, in [-1, 1]."""

    mean: Tensor  # [N, H, A]
    deviation: Tensor  # [N, H, A]
    elites: Tensor  # [N, M, H, A] best first
    value: Tensor  # [N] return of the best elite


class ShootingPlanner(Planner):
    """Samples candidates, evaluates them, refits the distribution to the best, and repeats.

    Args:
        action_space: The environment's action space.
        population: Candidates K per iteration.
        iterations: Rounds of sampling.
        **settings: Settings of `Planner`.
    """

    kept = 1  # elites M that a plan carries to the next decision

    def __init__(self, action_space: spaces.Space[Any], *, population: int, iterations: int, **settings: Any) -> None:
        super().__init__(action_space, **settings)
        check(population >= 2, "population", population, "at least 2")
        check(iterations >= 1, "iterations", iterations, "at least 1")
        self.population, self.iterations = population, iterations

    @torch.inference_mode()
    def plan(self, model: WorldModel, observation: Tensor, previous: Plan | None, generator: torch.Generator) -> Plan:
        """Plan for the observations `[N, O]`; see `Planner.plan`."""
        noise = self.draw_noise(model, generator, observation.device)
        search, warm = self._start(observation, previous)
        for iteration in range(self.iterations):
            candidates = self._candidates(search, warm, iteration, generator)
            returns = self.evaluate(model, observation, candidates, noise)
            search = self._update(search, candidates, returns, first=iteration == 0)
        chosen = self._chosen(search)
        return Plan(
            actions=self.to_environment(chosen),
            value=self._value(search, model, observation, noise),
            mean=search.mean,
            elites=search.elites,
            warm=torch.ones_like(warm),
        )

    @abstractmethod
    def _candidates(self, search: _Search, warm: Tensor, iteration: int, generator: torch.Generator) -> Tensor:
        """Return candidates `[N, K, H, A]` in [-1, 1]."""

    @abstractmethod
    def _update(self, search: _Search, candidates: Tensor, returns: Tensor, *, first: bool) -> _Search:
        """Return the distribution refitted to the evaluated candidates."""

    def _value(self, search: _Search, model: WorldModel, observation: Tensor, noise: Sequence[Noise] | None) -> Tensor:
        """Return the predicted returns `[N]` of the chosen plans."""
        return search.value

    @abstractmethod
    def _chosen(self, search: _Search) -> Tensor:
        """Return the plan to execute `[N, H, A]` in [-1, 1]."""

    def _start(self, observation: Tensor, previous: Plan | None) -> tuple[_Search, Tensor]:
        """Shift the last plans by one step, and start from the centre where there are none."""
        rows, device = observation.shape[0], observation.device
        shape = (rows, self.horizon, self.action_size)
        if previous is None:
            previous = self.empty_plan(rows, device)
        expected = (rows, self.kept, self.horizon, self.action_size)
        check(
            tuple(previous.elites.shape) == expected,
            "the previous plan's elites",
            tuple(previous.elites.shape),
            f"of shape {expected}: a plan serves the same number of states and the same planner settings",
        )
        warm = previous.warm.to(device=device, dtype=torch.bool)
        mean = torch.where(warm[:, None, None], shift(previous.mean.to(device)), 0.0)
        elites = torch.where(warm[:, None, None, None], shift(previous.elites.to(device)), 0.0)
        deviation = torch.ones(shape, device=device)
        value = torch.full((rows,), -torch.inf, device=device)
        return _Search(mean, deviation, elites, value), warm

    def empty_plan(self, rows: int, device: torch.device | str = "cpu") -> Plan:
        """Return the plan of rows that have none."""
        zeros = torch.zeros(rows, self.horizon, self.action_size, device=device)
        return Plan(
            actions=zeros,
            value=torch.zeros(rows, device=device),
            mean=zeros,
            elites=zeros[:, None].expand(-1, self.kept, -1, -1),
            warm=torch.zeros(rows, dtype=torch.bool, device=device),
        )


class RandomShooting(ShootingPlanner):
    """The best of uniformly random action sequences, and of the last decision's plan.

    Args:
        action_space: The environment's action space.
        population: Candidates K.
        **settings: Settings of `Planner`.
    """

    def __init__(self, action_space: spaces.Space[Any], *, population: int = 1000, **settings: Any) -> None:
        super().__init__(action_space, population=population, iterations=1, **settings)

    def _candidates(self, search: _Search, warm: Tensor, iteration: int, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(
            (1, self.population, self.horizon, self.action_size), generator=generator, device=generator.device
        ).to(search.mean.device)
        candidates = (2 * uniform - 1).repeat(search.mean.shape[0], 1, 1, 1)
        candidates[:, 0] = torch.where(warm[:, None, None], search.elites[:, 0], candidates[:, 0])
        return candidates

    def _update(self, search: _Search, candidates: Tensor, returns: Tensor, *, first: bool) -> _Search:
        value, best = returns.max(1)
        chosen = take(candidates, best[:, None])
        return _Search(chosen[:, 0], search.deviation, chosen, value)

    def _chosen(self, search: _Search) -> Tensor:
        return search.elites[:, 0]


class CEM(ShootingPlanner):
    """The cross-entropy method (Botev et al. 2013; as in PETS, Chua et al. 2018, section 5).

    Candidates are drawn around a mean that is refitted to the elites; the mean is executed.

    Args:
        action_space: The environment's action space.
        population: Candidates K per iteration.
        iterations: Rounds of sampling.
        elites: Candidates to which the distribution is refitted.
        momentum: Share of the old mean and deviation that a refit keeps.
        deviation: Standard deviation of the first round, relative to half the action range.
        min_deviation: Bound below which the deviation does not shrink.
        **settings: Settings of `Planner`.
    """

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
        **settings: Any,
    ) -> None:
        super().__init__(action_space, population=population, iterations=iterations, **settings)
        check(1 <= elites < population, "elites", elites, f"at least 1 and below the population ({population})")
        check(0 <= momentum < 1, "momentum", momentum, "in [0, 1)")
        check(deviation > 0, "deviation", deviation, "greater than 0")
        check(min_deviation >= 0, "min_deviation", min_deviation, "at least 0")
        self.elites, self.momentum = elites, momentum
        self.deviation, self.min_deviation = deviation, min_deviation

    def _candidates(self, search: _Search, warm: Tensor, iteration: int, generator: torch.Generator) -> Tensor:
        noise = self._noise(self.population, generator).to(search.mean.device)
        return around(search, noise)

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Return standard normal noise `[1, K, H, A]`, common to all rows."""
        return torch.randn((1, count, self.horizon, self.action_size), generator=generator, device=generator.device)

    def _start(self, observation: Tensor, previous: Plan | None) -> tuple[_Search, Tensor]:
        search, warm = super()._start(observation, previous)
        return search._replace(deviation=torch.full_like(search.deviation, self.deviation)), warm

    def _update(self, search: _Search, candidates: Tensor, returns: Tensor, *, first: bool) -> _Search:
        mean, deviation = refit(candidates, returns, self.elites, search.mean, search.deviation)
        keep = self.momentum
        value, order = returns.topk(self.kept, dim=1)
        return _Search(
            mean=keep * search.mean + (1 - keep) * mean,
            deviation=(keep * search.deviation + (1 - keep) * deviation).clamp_min(self.min_deviation),
            elites=take(candidates, order),
            value=value[:, 0],
        )

    def _chosen(self, search: _Search) -> Tensor:
        return search.mean

    def _value(self, search: _Search, model: WorldModel, observation: Tensor, noise: Sequence[Noise] | None) -> Tensor:
        return self.evaluate(model, observation, search.mean[:, None], noise)[:, 0]


class ICEM(CEM):
    """Sample-efficient CEM for real-time planning (Pinneri et al. 2020, algorithm 1).

    Over CEM: temporally correlated noise, elites kept within and between decisions, a population that shrinks from
    iteration to iteration, the mean as a candidate of the last one, and the best candidate executed.

    Args:
        action_space: The environment's action space.
        population: Candidates of the first iteration, besides the kept elites; at least twice the elites.
        iterations: Rounds of sampling.
        elites: Candidates to which the distribution is refitted.
        momentum: Share of the old mean and deviation that a refit keeps.
        deviation: Standard deviation of the first round, relative to half the action range.
        colour: Exponent beta of the noise's power spectrum 1 / f^beta: 0 is white, larger is slower.
        kept: Elites that live on in the next iteration and, shifted, in the next decision.
        decay: Factor by which the population shrinks per iteration.
        **settings: Settings of `Planner`.
    """

    def __init__(
        self,
        action_space: spaces.Space[Any],
        *,
        population: int = 24,
        iterations: int = 5,
        elites: int = 5,
        momentum: float = 0.1,
        deviation: float = 0.5,
        colour: float = 2.0,
        kept: int = 2,
        decay: float = 1.25,
        **settings: Any,
    ) -> None:
        super().__init__(
            action_space,
            population=population,
            iterations=iterations,
            elites=elites,
            momentum=momentum,
            deviation=deviation,
            **settings,
        )
        check(colour >= 0, "colour", colour, "at least 0")
        check(1 <= kept <= elites, "kept", kept, f"between 1 and elites ({elites})")
        check(decay >= 1, "decay", decay, "at least 1")
        self.colour, self.kept, self.decay = colour, kept, decay

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        return coloured_noise((count, self.action_size), self.horizon, self.colour, generator).mT[None]

    def _candidates(self, search: _Search, warm: Tensor, iteration: int, generator: torch.Generator) -> Tensor:
        count = max(int(self.population * self.decay**-iteration), 2 * self.elites)
        noise = self._noise(count + self.kept, generator).to(search.mean.device)
        candidates = around(search, noise)
        # Cold rows have no elites to keep in the first iteration: fresh candidates stand in their place.
        has_elites = warm | (iteration > 0)
        candidates[:, count:] = torch.where(has_elites[:, None, None, None], search.elites, candidates[:, count:])
        if iteration == self.iterations - 1:
            candidates[:, 0] = search.mean
        return candidates

    def _value(self, search: _Search, model: WorldModel, observation: Tensor, noise: Sequence[Noise] | None) -> Tensor:
        return search.value

    def _chosen(self, search: _Search) -> Tensor:
        return search.elites[:, 0]


def shift(plans: Tensor) -> Tensor:
    """Drop the first step of plans `[..., H, A]` and repeat the last."""
    return torch.cat((plans[..., 1:, :], plans[..., -1:, :]), -2)


def around(search: _Search, noise: Tensor) -> Tensor:
    """Return candidates `[N, K, H, A]` within [-1, 1] from noise `[1, K, H, A]`."""
    return (search.mean[:, None] + search.deviation[:, None] * noise).clamp_(-1.0, 1.0)


def take(candidates: Tensor, index: Tensor) -> Tensor:
    """Return the candidates `[N, M, H, A]` at the indices `[N, M]`."""
    return candidates.gather(1, index[:, :, None, None].expand(-1, -1, *candidates.shape[2:]))


def refit(candidates: Tensor, returns: Tensor, elites: int, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Fit mean and standard deviation `[N, H, A]` to the best candidates.

    Ties are no evidence: candidates that tie with the best of the rejected ones do not count as elites, unless all
    elites tie at the top (then everything at the top counts); where all returns are equal, the distribution stays.
    """
    cut = returns.topk(elites + 1, dim=1).values
    threshold, top = cut[:, -1:], cut[:, :1]
    strict = threshold < top
    weight = torch.where(strict, returns > threshold, returns >= top).to(candidates.dtype)
    flat = weight.sum(1) == returns.shape[1]
    weight = (weight / weight.sum(1, keepdim=True))[:, :, None, None]
    fitted = (weight * candidates).sum(1)
    spread = (weight * (candidates - fitted[:, None]).square()).sum(1).sqrt()
    keep = flat[:, None, None]
    return torch.where(keep, mean, fitted), torch.where(keep, deviation, spread)


def coloured_noise(shape: tuple[int, ...], length: int, colour: float, generator: torch.Generator) -> Tensor:
    """Draw noise `[*shape, length]` with power spectrum 1 / f^colour and unit variance (Timmer and Koenig 1995)."""
    if colour == 0 or length == 1:
        return torch.randn((*shape, length), generator=generator, device=generator.device)
    frequency = torch.fft.rfftfreq(length, device=generator.device)
    frequency[0] = frequency[1]
    scale = frequency ** (-colour / 2)
    # The real parts at frequency 0 and (even lengths) at the Nyquist frequency carry the power of both parts.
    white = torch.randn((2, *shape, len(scale)), generator=generator, device=generator.device)
    real, imaginary = scale * white[0], scale * white[1]
    real[..., 0] *= 2**0.5
    imaginary[..., 0] = 0.0
    power = scale.square()
    doubled = 2 * power[1:].sum() + power[0]
    if length % 2 == 0:
        real[..., -1] *= 2**0.5
        imaginary[..., -1] = 0.0
        doubled = doubled - power[-1]
    series = torch.fft.irfft(torch.complex(real, imaginary), n=length)
    # irfft divides by `length`; the variance of one sample is 2 / length^2 times the two-sided power.
    return series * (length / (2.0 * doubled).sqrt())
