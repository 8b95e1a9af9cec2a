"""Agents with a world model: how it is asked for, built, and fitted to the replay buffer."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import (
    LEARNED_MODELS,
    FitReport,
    LearnedModel,
    TabularModel,
    Transitions,
    WorldModel,
)
from mbrl_gym.models.base import check_action_space, check_observation_space
from mbrl_gym.models.spaces import leaves

from .base import ModelBasedAgent
from .replay import transitions
from .world_models import check_function, check_model, model_of

__all__ = ["MODELS", "WorldModelAgent", "check_choice"]

MODELS: dict[str, type[LearnedModel | TabularModel]] = {**LEARNED_MODELS, "tabular": TabularModel}
"""Models that learn, by the names that agents know them by."""


class WorldModelAgent(ModelBasedAgent):
    """An agent whose `arguments` hold `model`, `model_kwargs`, `dynamics`, `reward` and `termination`, as MPC's do.

    Subclasses call `check_model_arguments` on what they were given, and `_make_model` when they set up.
    """

    @property
    @abstractmethod
    def world_model(self) -> WorldModel:
        """The world model."""

    @staticmethod
    def check_model_arguments(model: Any, **functions: Any) -> None:
        """Refuse a model, or functions in place of its learned parts, that are none.

        Raises:
            InvalidSettingError: Names what was given and what there is.
        """
        check_model(model, MODELS)
        for name, given in functions.items():
            check_function(name, given)

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Wrap an environment, or refuse its spaces by name before Stable-Baselines3 does."""
        space = check_observation_space(env.observation_space)
        nested = isinstance(space, spaces.Dict) and any(len(path) > 1 for path, _ in leaves(space))
        if isinstance(space, spaces.Tuple) or nested:
            raise UnsupportedSpaceError(
                "Stable-Baselines3 takes neither Tuple observations nor Dict ones in others, but the observation space "
                f"is {space}: gymnasium.wrappers.FlattenObservation makes a flat Box of it"
            )
        check_action_space(env.action_space)
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _refuse_normalisation(self) -> None:
        if self._vec_normalize_env is not None or isinstance(self.env, VecNormalize):
            raise InvalidSettingError("world models normalise inside: leave out VecNormalize")

    def recorded(self) -> Transitions:
        """Return the transitions in the replay buffer, oldest first."""
        assert self.replay_buffer is not None
        return transitions(self.replay_buffer, self.policy)

    def fit_model(self, data: Transitions) -> FitReport:
        """Fit the world model, and log how well that went."""
        report = self.world_model.fit(data)
        self.logger.record("model/transitions", report.transitions)
        self.logger.record("model/epochs", report.epochs)
        self.logger.record("model/loss", report.loss)
        if report.holdout_loss:
            self.logger.record("model/holdout_loss", float(np.mean(report.holdout_loss)))
        self.logger.record("time/fit_seconds", report.seconds)
        return report

    def _make_model(self) -> WorldModel:
        return model_of(self, MODELS)


def check_choice(name: str, given: Any, names: Any, kind: type, words: str) -> None:
    """Refuse what is neither one of the names nor an object of a kind."""
    if not isinstance(given, kind) and (not isinstance(given, str) or given not in names):
        raise InvalidSettingError(f"{name} must be one of {', '.join(names)}, or {words}, but {given!r} was given")
