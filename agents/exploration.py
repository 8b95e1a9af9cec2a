"""What makes a learning agent try other actions than those that look best: curious plans, and disturbances."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import WorldModel
from mbrl_gym.wrappers.visits import CELLS

from .novelty import NewPlaces
from .planning import Objective
from .planning.evaluation import NoveltyFn

__all__ = ["EXPLORE", "CuriousPlans", "Exploration"]

MEMORY = 0.85  # coefficient of the noise on Box actions; probability that a choice goes on for another step

EXPLORE = ("ucb", "thompson", "information", "counts")
OF_PLACES = ("counts",)  # those that ask no members

Array = np.ndarray[Any, Any]


class CuriousPlans:
    """What a planner maximises while its agent learns: what the members of an ensemble disagree about, or new places.

    - "ucb" adds `weight` standard deviations of the return over the particles to its mean: upper confidence bounds.
    - "thompson" believes one member for an episode: posterior sampling (Strens 2000; Osband, Russo and Van Roy 2013).
    - "information" adds `weight` times the expected information gain of every step [nats] to the rewards.
    - "counts" adds `weight` / sqrt(n) where a step leads to a cell of the observation space for the n-th time.

    Args:
        explore: One of `EXPLORE`, or None for plain plans.
        weight: See above; "thompson" has none.
        model: Predicts; without members there is nothing to disagree about, but for "counts".
        cells: Parts into which "counts" cuts a bounded column.

    Raises:
        InvalidSettingError: A setting out of its range, or a model without members.
    """

    def __init__(self, explore: str | None, weight: float, model: WorldModel, cells: int = CELLS) -> None:
        if explore is not None and explore not in EXPLORE:
            raise InvalidSettingError(f"explore must be None or one of {', '.join(EXPLORE)}, but {explore!r} was given")
        if not 0 < weight < float("inf"):
            raise InvalidSettingError(f"explore_weight must be greater than 0 and finite, but {weight} was given")
        if explore is not None and explore not in OF_PLACES and model.particle_unit < 2:
            raise InvalidSettingError(
                f'explore="{explore}" asks members that may disagree, but {type(model).__name__} has none: take '
                'model="ensemble"'
            )
        self.explore, self.weight, self.model = explore, weight, model
        self.places = NewPlaces(model.observation_space, cells)
        self.particle: int | None = None  # that is believed at present

    def objective(self, plain: Objective, starts: Array, generator: torch.Generator) -> Objective:
        """Return the objective of the next decision.

        Args:
            plain: The objective without curiosity.
            starts: Whether an episode starts in each of the environments `[N]`, of which all believe the same member.
            generator: Draws the member.
        """
        if self.explore == "ucb":
            return replace(plain, risk=plain.risk - self.weight)
        if self.explore == "information":
            return replace(plain, information=plain.information + self.weight)
        if self.explore == "counts":
            return replace(plain, novelty=partial(self._novelty, plain.novelty))
        if self.explore == "thompson":
            count = plain.particles_of(self.model)
            if self.particle is None or starts.any():
                self.particle = int(torch.randint(count, (1,), generator=generator))
            return replace(plain, particle=self.particle)
        return plain

    def saw(self, rows: Array) -> None:
        """Take note of where steps led, `[n, O]`."""
        if self.explore in OF_PLACES:
            self.places.saw(rows)

    def _novelty(self, plain: NoveltyFn | None, path: Tensor) -> Tensor:
        bonus = self.weight * self.places.bonus(path)
        return bonus if plain is None else bonus + plain(path)

    def state(self) -> dict[str, Any]:
        """Return what decides about the next objectives."""
        return {"particle": self.particle, "cells": self.places.visits.codes, "visits": self.places.visits.counts}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        self.particle = state["particle"]
        self.places.visits.codes, self.places.visits.counts = state["cells"], state["visits"]


class Exploration:
    """Disturbs actions, in a way that lasts: slow disturbances reach more states than those that average out.

    Box actions get noise from a first-order autoregressive process with coefficient 0.85. Discrete and MultiDiscrete
    ones are replaced in a share of the steps by a choice drawn at random, which is repeated for 1 / (1 - 0.85) steps on
    average (temporally extended epsilon-greedy; Dabney et al. 2021).

    Args:
        space: The action space.
        amount: Standard deviation of the noise, relative to half the action range; or the share of steps, in [0, 1].

    Raises:
        InvalidSettingError: An amount out of its range.
    """

    def __init__(self, space: spaces.Space[Any], amount: float) -> None:
        if not amount >= 0:
            raise InvalidSettingError(f"exploration must be at least 0, but {amount} was given")
        if isinstance(space, spaces.Discrete):
            self.counts, self.starts = np.array([space.n]), np.array([space.start])
        elif isinstance(space, spaces.MultiDiscrete):
            self.counts, self.starts = np.asarray(space.nvec), np.asarray(space.start)
        if not isinstance(space, spaces.Box) and amount > 1:
            raise InvalidSettingError(
                f"exploration is a share of steps for the action space {space}: it must be in [0, 1], but {amount} was "
                "given"
            )
        self.space, self.amount = space, amount
        self.state: Array | None = None  # noise [N, A]; or whether a choice is replaced, and by what [N, 1 + C]

    def __call__(self, action: Array, generator: torch.Generator) -> Array:
        """Return the disturbed actions.

        Args:
            action: Box actions scaled to [-1, 1], `[N, A]`; or choices `[N]` or `[N, C]`.
            generator: Source of the disturbance.
        """
        if not self.amount:
            return action
        if isinstance(self.space, spaces.Box):
            return np.clip(action + self._noise(action.shape, generator), -1, 1)
        return self._replaced(action, generator)

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Array:
        """Advance the noise and return it `[N, A]`."""
        white = torch.randn(shape, generator=generator).numpy()
        before = white if self.state is None else self.state
        self.state = MEMORY * before + (1 - MEMORY**2) ** 0.5 * white
        return self.amount * self.state

    def _replaced(self, action: Array, generator: torch.Generator) -> Array:
        rows = len(action)
        uniform = torch.rand((rows, 2 + len(self.counts)), generator=generator, dtype=torch.float64).numpy()
        drawn = self.starts + (uniform[:, 2:] * self.counts).astype(np.int64)
        fresh = np.concatenate([uniform[:, 1:2] < self.amount, drawn], axis=1, dtype=np.int64)
        renewed = uniform[:, :1] >= MEMORY
        self.state = fresh if self.state is None else np.where(renewed, fresh, self.state)
        replaced, choice = self.state[:, :1] == 1, self.state[:, 1:]
        return np.where(replaced, choice, action.reshape(rows, -1)).reshape(action.shape).astype(action.dtype)
