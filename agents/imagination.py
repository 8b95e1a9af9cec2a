"""Branched roll-outs: short imagined trajectories that start where the real ones went (Janner et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import Prediction, WorldModel, draw

from .mixed_replay import ImaginedRows

__all__ = ["Branches", "Imagination", "RolloutSchedule"]


@dataclass(frozen=True)
class RolloutSchedule:
    """The length of branches, growing linearly between two steps of training (Janner et al. 2019, appendix C).

    Before `first` it is `shortest`, from `last` on `longest`, and between them rounded down.
    """

    shortest: int
    longest: int
    first: int = 0  # environment steps
    last: int = 1

    @classmethod
    def of(cls, given: int | Sequence[int]) -> RolloutSchedule:
        """Return the schedule of a constant length, or of (shortest, longest, first step, last step).

        Raises:
            InvalidSettingError: Lengths below 1, or a schedule that does not grow.
        """
        numbers = (given, given, 0, 1) if isinstance(given, int) else tuple(given)
        if len(numbers) == 4 and all(isinstance(each, int) for each in numbers):
            schedule = cls(*numbers)
            if 1 <= schedule.shortest <= schedule.longest and 0 <= schedule.first < schedule.last:
                return schedule
        raise InvalidSettingError(
            "rollout_length must be a whole number of at least 1, or (shortest, longest, first step, last step) with "
            f"1 <= shortest <= longest and 0 <= first step < last step, but {given!r} was given"
        )

    def __call__(self, step: int) -> int:
        """Return the length of branches that start after so many environment steps."""
        progress = (step - self.first) / (self.last - self.first)
        length = self.shortest + math.floor(progress * (self.longest - self.shortest))
        return min(max(length, self.shortest), self.longest)


class Branches(NamedTuple):
    """What a refresh imagined."""

    branches: int
    length: int  # the most steps of a branch
    rows: int  # transitions that were kept
    stopped: float  # share of the branches that were cut where the model was not to be trusted
    terminated: float  # share of the branches that ended in a termination
    reward: float  # mean of a transition, without the penalty; NaN without any transition
    total: float  # mean of a branch's undiscounted sum of rewards, likewise
    disagreement: float  # mean over all steps, trusted or not; NaN where it was not looked at


@dataclass(frozen=True)
class Imagination:
    """Imagines branches with a policy.

    Each step of a branch runs through a member of the ensemble that is drawn anew (Janner et al. 2019, algorithm 2):
    branches are shuffled before every step and dealt out to the members in equal shares. Members sample their noise,
    unless `noise` is False. A branch stops after its last step, which is no termination; where an episode ends; and
    where the model is not to be trusted, in which case the step that showed it is dropped: where a prediction is not
    finite, or members disagree by more than a threshold (Pan et al. 2020, "M2AC", mask such steps; Frauenknecht et al.
    2025, "Infoprop", stop there).

    Steps start from observations, so that models must be Markovian in them, as all of this package are.
    """

    act: Callable[[Tensor], Tensor]  # observations [N, O] -> actions [N, A] (or [N, 1]) as replay buffers hold them
    to_model: Callable[[Tensor], Tensor]  # those actions -> actions in the environment's units, [N, A] or [N]
    max_disagreement: float | None = None  # see `WorldModel.uncertainty`
    penalty: float = 0.0  # what a unit of disagreement takes from the reward (as in Yu et al. 2020, "MOPO")
    noise: bool = True  # whether predictions are drawn from the model's distribution, or its mean

    @torch.inference_mode()
    def __call__(
        self,
        model: WorldModel,
        observation: Tensor,
        length: int,
        keep: Callable[[ImaginedRows], None],
        generator: torch.Generator,
    ) -> Branches:
        """Imagine a branch from each observation.

        Args:
            model: Predicts the steps.
            observation: Where the branches start, `[N, O]`.
            length: The most steps of a branch.
            keep: Is given the transitions, once a step.
            generator: Source of the order of branches and of the model's noise.
        """
        count = len(observation)
        stopped = terminated = rows = 0
        total = disagreement = 0.0
        looked = 0
        for _ in range(length):
            order = torch.randperm(len(observation), generator=generator)
            step = self._step(model, observation[order.to(observation.device)], generator)
            disagreement, looked = disagreement + float(step.disagreement.sum()), looked + len(order)
            trusted = step.rows if bool(step.trusted.all()) else _chosen(step.rows, step.trusted)
            stopped += len(order) - len(trusted.reward)
            rows += len(trusted.reward)
            total += float(step.reward[step.trusted].sum())
            keep(trusted)
            ends = trusted.terminated
            terminated += int(ends.sum())
            observation = trusted.next_observation[~ends]
            if not len(observation):
                break
        return Branches(
            branches=count,
            length=length,
            rows=rows,
            stopped=stopped / count,
            terminated=terminated / count,
            reward=total / rows if rows else math.nan,
            total=total / count if rows else math.nan,
            disagreement=disagreement / looked,
        )

    def _step(self, model: WorldModel, observation: Tensor, generator: torch.Generator) -> _Step:
        action = self.act(observation)
        for_model = self.to_model(action)
        predicted = _predict(model, observation, for_model, generator, self.noise)
        trusted = torch.isfinite(predicted.observation).all(-1) & torch.isfinite(predicted.reward)
        reward, disagreement = predicted.reward, torch.full((len(action),), math.nan, device=action.device)
        if self.max_disagreement is not None or self.penalty:
            disagreement = model.uncertainty(observation, for_model)
            reward = reward - self.penalty * disagreement
        if self.max_disagreement is not None:
            trusted &= disagreement <= self.max_disagreement
        rows = ImaginedRows(observation, action, predicted.observation, predicted.terminated, reward)
        return _Step(rows, trusted, predicted.reward, disagreement)


class _Step(NamedTuple):
    """One step of N branches."""

    rows: ImaginedRows
    trusted: Tensor  # [N] bool
    reward: Tensor  # [N], without the penalty
    disagreement: Tensor  # [N]


def _predict(
    model: WorldModel, observation: Tensor, action: Tensor, generator: torch.Generator, noisy: bool
) -> Prediction:
    """Predict one step of N rows, an equal share of them (but for rounding) by each member; without particle axis."""
    count, particles = len(observation), model.particle_unit
    share = -(-count // particles)
    dealt = torch.arange(particles * share, device=observation.device) % count  # the last ones twice, and dropped
    observation, action = observation[dealt], action[dealt]
    noise = None
    if noisy and any(model.noise_sizes):
        noise = draw(generator, (particles, share), model.noise_sizes, observation.device)
    state = model.start(observation.unflatten(0, (particles, share)), particles)
    predicted = model.step(state, action.unflatten(0, (particles, share)), noise)
    parts = (predicted.observation, predicted.reward, predicted.terminated)
    return Prediction(None, *(part.flatten(0, 1)[:count] for part in parts))


def _chosen(rows: ImaginedRows, chosen: Tensor) -> ImaginedRows:
    return ImaginedRows(*(part[chosen] for part in rows))
