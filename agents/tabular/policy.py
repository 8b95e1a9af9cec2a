"""The policy of tabular agents, as Stable-Baselines3 knows policies."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor

from .model import OutcomeModel
from .numbers import Choices
from .updates import epsilon_greedy, ucb

__all__ = ["EXPLORATIONS", "TablePolicy"]

Array = np.ndarray[Any, Any]

EXPLORATIONS = ("epsilon-greedy", "UCB")


class TablePolicy(BasePolicy):
    """A table of action values, and a way to explore with it.

    Args:
        observation_space: `Discrete` or flat `MultiDiscrete`; S values.
        action_space: `Discrete` or flat `MultiDiscrete`; A values.
        lr_schedule: Not used; part of Stable-Baselines3's signature.
        exploration: One of `EXPLORATIONS`.
        exploration_rate: Epsilon of "epsilon-greedy".
        ucb_coefficient: Coefficient c of "UCB".
        initial_value: All action values at first.
        seed: Seeds exploration and the choice among equally good actions.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        exploration: str,
        exploration_rate: float,
        ucb_coefficient: float,
        initial_value: float,
        seed: int,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.exploration = exploration
        self.exploration_rate, self.ucb_coefficient = exploration_rate, ucb_coefficient
        self.states, self.actions = Choices(observation_space), Choices(action_space)
        self.action_rows = self.actions.all_values()
        self.model = OutcomeModel(self.states.count, self.actions.count)
        self.generator = np.random.default_rng(seed)
        self.q: Tensor
        shape = (self.states.count, self.actions.count)
        self.register_buffer("q", torch.full(shape, initial_value, dtype=torch.float64))

    @property
    def values(self) -> Array:
        """The action values `[S, A]`; writing to them changes the policy."""
        return self._buffers["q"].numpy()  # type: ignore[union-attr]  # a module's attributes are slow

    def choose(self, states: Array, deterministic: bool = False) -> Array:
        """Return the numbers of actions `[N]` in states `[N]`.

        Args:
            states: Their numbers.
            deterministic: Take the first of the best actions. Otherwise explore, with this policy's generator.
        """
        if deterministic:
            return self.values[states].argmax(1)
        if self.exploration == "UCB":
            return ucb(self.values, self.model.visits, states, self.ucb_coefficient, self.generator)
        return epsilon_greedy(self.values, states, self.exploration_rate, self.generator)

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Return actions, and the state as it was given: tables have none.

        Args:
            observation: One observation, or a batch of N, as the environment gives them.
            state: Not used.
            episode_start: Not used.
            deterministic: See `choose`.

        Raises:
            InvalidSettingError: An observation that is not in the observation space.
        """
        batch = np.asarray(observation)
        several = batch.ndim > self.states.rank
        numbers = self.states.number(batch if several else batch[None])
        actions = self.action_rows[self.choose(numbers, deterministic)]
        return (actions if several else actions[0]), state

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        return torch.as_tensor(self.predict(observation.cpu().numpy(), deterministic=deterministic)[0])
