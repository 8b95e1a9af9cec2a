"""The policy of planning agents, as Stable-Baselines3 knows policies."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.utils import is_vectorized_observation
from torch import Tensor

from mbrl_gym.models import WorldModel
from mbrl_gym.models.spaces import leaves, to_rows

from .base import derived_seed
from .planning import Plan, Planner
from .planning.base import next_age

__all__ = ["STREAMS", "ObservingPolicy", "PlannerPolicy"]

Array = np.ndarray[Any, Any]

STREAMS = 16  # seeds that deterministic decisions take turns with


class ObservingPolicy(BasePolicy):
    """A policy that turns observations into the rows of a world model."""

    def rows(self, observation: Any) -> tuple[Tensor, bool]:
        """Return one observation or a batch as the model's rows `[N, ...]`, and whether it is a batch."""
        space = self.observation_space
        if not isinstance(space, spaces.Dict):
            batch = np.asarray(observation)
            several = is_vectorized_observation(batch, space)
            rows = to_rows(space, batch.reshape(-1, *(space.shape or ())))
        else:
            parts = {name: np.asarray(observation[name]) for (name,), _ in leaves(space)}
            several = is_vectorized_observation(parts, space)  # type: ignore[arg-type]
            batches = {name: part.reshape(-1, *(space[name].shape or ())) for name, part in parts.items()}
            rows = to_rows(space, batches)
        return torch.as_tensor(rows, device=self.device), several

    def tensor_rows(self, observation: PyTorchObs) -> Tensor:
        """Return the rows of a batch of observations as Stable-Baselines3 hands it to `_predict`, in tensors."""
        if isinstance(observation, dict):
            return self.rows({name: part.cpu().numpy() for name, part in observation.items()})[0]
        return self.rows(observation.cpu().numpy())[0]

    def scale_action(self, action: Array) -> Array:
        """Scale Box actions to [-1, 1]; components that cannot vary become -1."""
        low, high = self._bounds()
        return 2.0 * ((action - low) / np.where(high > low, high - low, 1.0)) - 1.0

    def unscale_action(self, scaled_action: Array) -> Array:
        """Scale from [-1, 1] to the action space's bounds."""
        low, high = self._bounds()
        return np.clip(low + (0.5 * (scaled_action + 1.0) * (high - low)), low, high)

    def _bounds(self) -> tuple[Array, Array]:
        assert isinstance(self.action_space, spaces.Box)
        return self.action_space.low, self.action_space.high


class PlannerPolicy(ObservingPolicy):
    """A policy that plans with a world model; its recurrent state is the last `Plan`.

    Args:
        observation_space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` of these.
        action_space: What the planner takes.
        lr_schedule: Not used; part of Stable-Baselines3's signature.
        world_model: Predicts the consequences of actions.
        planner: Searches for the best plan.
        seed: Seeds the planner's random numbers.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        world_model: WorldModel,
        planner: Planner,
        seed: int,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.world_model, self.planner = world_model, planner
        self.seed_planning(seed)

    def seed_planning(self, seed: int) -> None:
        """Seed the planner's random numbers."""
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)

    def plan(self, observation: Tensor, previous: Plan | None = None, deterministic: bool = False) -> Plan:
        """Plan for rows `[N, O]` (or integers `[N]` or `[N, K]`), as `rows` returns them.

        Args:
            observation: Where to start.
            previous: The last plans for the same rows.
            deterministic: Draw from a fresh generator, so that the call neither disturbs training nor depends on
                earlier calls; otherwise from this policy's own one. Successive decisions take turns with 16 seeds, by
                the age of the batch's oldest plan: where many plans are equally good, the same candidates again and
                again would lead astray.
        """
        generator = self.generator
        if deterministic:
            generator = self.generator_of(0 if previous is None else int(next_age(previous, previous.warm).max()))
        return self.planner.plan(self.world_model, observation, previous, generator)

    def generator_of(self, decision: int) -> torch.Generator:
        """Return a fresh generator for an episode's deterministic decision, counted from 0."""
        return torch.Generator().manual_seed(derived_seed(self.seed, f"stream {decision % STREAMS}"))

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Return the first actions of new plans, and the plans.

        Args:
            observation: One observation, or a batch of N, as the environment gives them.
            state: The plans that the last call returned, or None.
            episode_start: `[N]` bool; plans of rows where an episode starts are dropped.
            deterministic: See `plan`.
        """
        self.set_training_mode(False)
        rows, several = self.rows(observation)
        previous = None if state is None else Plan(*(torch.as_tensor(part, device=self.device) for part in state))
        if previous is not None and episode_start is not None:
            started = torch.as_tensor(np.asarray(episode_start, np.bool_), device=self.device)
            previous = previous._replace(warm=previous.warm & ~started)
        plan = self.plan(rows, previous, deterministic)
        arrays = Plan(*(part.cpu().numpy() for part in plan))
        action = arrays.actions[:, 0].astype(self.action_space.dtype)
        return (action if several else action[0]), arrays

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self.plan(self.tensor_rows(observation), None, deterministic).actions[:, 0]
