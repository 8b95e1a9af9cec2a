"""The planners' contract, and the evaluation of candidate plans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError, PlanningError, UnsupportedSpaceError
from mbrl_gym.models.base import WorldModel, draw
from mbrl_gym.noise import Noise

ROWS_PER_CHUNK = 2560  # particles of candidates that go through a model at once

__all__ = ["Plan", "Planner", "evaluate"]


class Plan(NamedTuple):
    """Plans for N states: what to do, and what the next decision starts from.

    It is a plain tuple of arrays: the recurrent state of Stable-Baselines3's `predict` (NumPy there, torch here).
    """

    actions: Any  # [N, H, A] the plan, in the environment's units; its first action is the one to take
    value: Any  # [N] the predicted return of the plan
    mean: Any  # [N, H, A] the mean of the search distribution, in [-1, 1]
    elites: Any  # [N, M, H, A] the kept elites, best first, in [-1, 1]
    warm: Any  # [N] bool, whether the row carries a plan: False where an episode starts


class Planner(ABC):
    """Searches for the action sequence with the best predicted return.

    Args:
        action_space: The environment's action space.
        horizon: Steps H that a plan looks ahead.
        particles: Trajectories P per candidate; the model's `particle_unit` by default.
        discount: Weight of a reward relative to the one a step earlier.
        noise: Whether particles sample the model's noise (give several particles a member then: a plan fits itself to a
            single sample); by default they follow its members' means.

    Raises:
        UnsupportedSpaceError: An action space that the planner cannot search.
        InvalidSettingError: A setting out of its range.
    """

    def __init__(
        self,
        action_space: spaces.Space[Any],
        *,
        horizon: int = 15,
        particles: int | None = None,
        discount: float = 1.0,
        noise: bool = False,
    ) -> None:
        floating = isinstance(action_space, spaces.Box) and np.issubdtype(action_space.dtype, np.floating)
        if not isinstance(action_space, spaces.Box) or not floating or len(action_space.shape) != 1:
            raise UnsupportedSpaceError(
                f"{type(self).__name__} plans over flat Box actions of floating point numbers, "
                f"but the action space is {action_space}"
            )
        if not action_space.is_bounded():
            raise UnsupportedSpaceError(
                f"{type(self).__name__} needs finite action bounds, but the action space is {action_space}; "
                "gymnasium.wrappers.RescaleAction or ClipAction give them"
            )
        check(horizon >= 1, "horizon", horizon, "at least 1")
        check(particles is None or particles >= 1, "particles", particles, "None or at least 1")
        check(0 < discount <= 1, "discount", discount, "in (0, 1]")
        self.action_space = action_space
        self.horizon, self.particles = horizon, particles
        self.discount, self.noise = discount, noise
        low, high = (torch.as_tensor(bound, dtype=torch.float64) for bound in (action_space.low, action_space.high))
        self._center = ((high + low) / 2).float()
        self._half_range = ((high - low) / 2).float()
        # Rounded inwards, so that no action leaves float64 bounds.
        self._low, self._high = low.float(), high.float()
        inf = torch.tensor(torch.inf)
        self._low = torch.where(self._low.double() < low, torch.nextafter(self._low, inf), self._low)
        self._high = torch.where(self._high.double() > high, torch.nextafter(self._high, -inf), self._high)

    @property
    def action_size(self) -> int:
        """Number A of action components."""
        return self.action_space.shape[0]

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

    def to_environment(self, unit: Tensor) -> Tensor:
        """Scale actions `[..., A]` from [-1, 1] to the environment's bounds."""
        device = unit.device
        scaled = self._center.to(device) + self._half_range.to(device) * unit
        return torch.clamp(scaled, self._low.to(device), self._high.to(device))

    def evaluate(self, model: WorldModel, observation: Tensor, unit: Tensor, noise: Sequence[Noise] | None) -> Tensor:
        """Return the returns `[N, K]` of the candidates `[N, K, H, A]` in [-1, 1]; see `evaluate`."""
        particles = model.particle_unit if self.particles is None else self.particles
        return evaluate(
            model, observation, self.to_environment(unit), noise, particles=particles, discount=self.discount
        )

    def draw_noise(self, model: WorldModel, generator: torch.Generator, device: Any) -> list[Noise] | None:
        """Draw the model noise of one decision: one `[P, 1, ...]` a step, common to all candidates and rows."""
        if not self.noise or not any(model.noise_sizes):
            return None
        particles = model.particle_unit if self.particles is None else self.particles
        whole = draw(generator, (self.horizon, particles, 1), model.noise_sizes, device)
        return [Noise(whole.normal[t], whole.uniform[t]) for t in range(self.horizon)]


def evaluate(
    model: WorldModel,
    observation: Tensor,
    actions: Tensor,
    noise: Sequence[Noise] | None = None,
    *,
    particles: int = 1,
    discount: float = 1.0,
) -> Tensor:
    """Roll candidate action sequences through a model and return their returns, averaged over particles.

    The only multi-step loop over a model. All candidates see the same members and the same noise (common random
    numbers), so that their differences come from their actions. Rewards stop where a particle terminates.

    Args:
        model: The world model.
        observation: Start observations `[N, O]`.
        actions: Candidates `[N, K, H, A]` (or `[N, K, H]` if discrete), in the environment's units.
        noise: One `Noise` `[P, 1, ...]` a step; None for noise-free predictions.
        particles: Number P of trajectories per candidate.
        discount: Weight of a reward relative to the one a step earlier.

    Returns:
        Returns `[N, K]`; -inf where a return is not finite, so that such candidates rank last.

    Raises:
        PlanningError: No candidate of some row has a finite return; names the model and the first bad step.
    """
    # Small chunks of states stay in the processor's cache.
    states = max(1, ROWS_PER_CHUNK // (actions.shape[1] * particles))
    returns = torch.cat(
        [
            _roll_out(model, some, plans, noise, particles, discount)
            for some, plans in zip(observation.split(states), actions.split(states), strict=True)
        ]
    )
    finite = torch.isfinite(returns)
    if not bool(finite.any(1).all()):
        for steps in range(1, actions.shape[2] + 1):
            partial = _roll_out(model, observation, actions[:, :, :steps], noise, particles, discount)
            if not bool(torch.isfinite(partial).any(1).all()):
                break
        raise PlanningError(
            f"{type(model).__name__} predicts no finite return for any of {actions.shape[1]} candidates; "
            f"first at step {steps} of {actions.shape[2]}"
        )
    return torch.where(finite, returns, -torch.inf)


def _roll_out(
    model: WorldModel,
    observation: Tensor,
    actions: Tensor,
    noise: Sequence[Noise] | None,
    particles: int,
    discount: float,
) -> Tensor:
    """Return the returns `[N, K]`, finite or not."""
    rows, count = actions.shape[:2]
    state = model.start(observation.repeat_interleave(count, 0), particles)
    total: Tensor | None = None
    alive: Tensor | None = None
    weight = 1.0
    terminates = model.terminates
    for t, action in enumerate(actions.reshape(rows * count, *actions.shape[2:]).unbind(1)):
        prediction = model.step(state, action, None if noise is None else noise[t])
        state = prediction.state
        gained = prediction.reward if weight == 1.0 else weight * prediction.reward
        if alive is not None:
            gained = torch.where(alive, gained, 0.0)
        total = gained if total is None else total + gained
        if terminates and prediction.terminated.any():
            alive = ~prediction.terminated if alive is None else alive & ~prediction.terminated
        weight *= discount
    assert total is not None
    return total.mean(0).view(rows, count)


def check(condition: bool, name: str, given: Any, allowed: str) -> None:
    """Refuse a setting out of its range."""
    if not condition:
        raise InvalidSettingError(f"{name} must be {allowed}, but {given} was given")
