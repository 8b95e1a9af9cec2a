"""An environment from whose steps a model learns while any agent acts."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch

from mbrl_gym.models.base import FitReport, Transitions, WorldModel, check, check_same_spaces
from mbrl_gym.wrappers.arguments import record_arguments
from mbrl_gym.wrappers.one_step import OneStepError, as_tensors
from mbrl_gym.wrappers.record import RecordTransitions
from mbrl_gym.wrappers.transition_buffer import TransitionBuffer

__all__ = ["LearnModel", "OnlineLearner"]


class OnlineLearner:
    """Fits a model again and again to a buffer that fills, and judges it by every step before learning from it.

    Args:
        model: The model.
        buffer: Where the transitions go.
        every: New transitions between two fits.
        start: Transitions before the first fit.

    Raises:
        InvalidSettingError: A setting out of its range.
    """

    def __init__(self, model: WorldModel, buffer: TransitionBuffer, every: int, start: int) -> None:
        check(every >= 1, "every", every, "at least 1")
        check(start >= 2, "start", start, "at least 2")
        check(buffer.capacity is None or buffer.capacity >= 2, "capacity", buffer.capacity, "at least 2, or None")
        self.model, self.buffer, self.every = model, buffer, every
        self.report: FitReport | None = None  # of the last fit
        self._error = OneStepError(model)
        self._due = start  # transitions until the next fit

    def take(self, transitions: Transitions) -> dict[str, np.ndarray[Any, Any]]:
        """Learn from n steps; return what the model made of each, `[n]` each, by the keys of `info`."""
        told = self._judge(transitions)
        self.buffer.add(transitions)
        self._due -= len(transitions.reward)
        if self._due <= 0:
            with torch.inference_mode(False), torch.enable_grad():  # whatever the agent's loop has switched off
                self.report = self.model.fit(self.buffer.transitions())
            self._due = self.every
            told["model/fit_seconds"] = np.full(len(transitions.reward), self.report.seconds)
        return told

    def _judge(self, transitions: Transitions) -> dict[str, np.ndarray[Any, Any]]:
        where = transitions.observation, transitions.action
        errors = self._error(self._error.expect(*where) if self.model.fitted else None, transitions)
        if errors is None:
            return {}
        with torch.no_grad():
            uncertainty = self.model.uncertainty(*as_tensors(self.model, *where)).double().cpu().numpy()
        return {"model/error": errors[:, 0], "model/reward_error": errors[:, 1], "model/uncertainty": uncertainty}


class LearnModel(RecordTransitions):
    """Fits a model to the steps of whatever agent acts, and tells in `info` how good it is:

        env = LearnModel(gym.make("CartPole-v1"), model)
        PPO("MlpPolicy", env).learn(5_000)

    The environment stays as it is. Once the model is fitted, the `info` of every step holds:

    - `model/error`: how wrong the model's mean prediction of this very step was, before it learns from it: the root
      mean square over the observation columns, in units of the standard deviations of their changes (of their
      probabilities, for discrete columns) over all steps so far;
    - `model/reward_error`: the absolute error of the reward, in units of its standard deviation so far;
    - `model/uncertainty`: the model's `uncertainty` at this step's observation and action;
    - `model/fit_seconds`: how long the fit took, after the steps that end with one.

    What never varied so far is in its own units.

    Args:
        env: An environment with the spaces of the model.
        model: The model; it may be fitted already, and others may use it at the same time.
        every: Steps between two fits.
        start: Steps before the first fit.
        capacity: Number of transitions that are kept and fitted to, the latest; None keeps all.

    Raises:
        InvalidSettingError: A setting out of its range, or a model of other spaces.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        model: WorldModel,
        every: int = 250,
        start: int = 100,
        capacity: int | None = None,
    ) -> None:
        check_same_spaces(env, model.observation_space, model.action_space)
        self.model = model
        record_arguments(self, model=model, every=every, start=start, capacity=capacity)
        super().__init__(env, capacity)
        self._learner = OnlineLearner(model, self._buffer, every, start)

    @property
    def report(self) -> FitReport | None:
        """What the last fit did; None before the first."""
        return self._learner.report

    def _take(self, transition: Transitions) -> dict[str, Any]:
        return self._learner.take(transition)
