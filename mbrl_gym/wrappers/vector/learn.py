"""A vector environment from whose steps a model learns while any agent acts."""

from __future__ import annotations

from typing import Any

from gymnasium.vector import VectorEnv

from mbrl_gym.models.base import FitReport, Transitions, WorldModel, check_same_spaces
from mbrl_gym.wrappers.learn import OnlineLearner
from mbrl_gym.wrappers.vector.record import RecordTransitions

__all__ = ["LearnModel"]


class LearnModel(RecordTransitions):
    """Fits a model to the steps of whatever agent acts, and tells in `info` how good it is.

    See `mbrl_gym.wrappers.LearnModel`: the same keys hold arrays `[N]`, each with the mask (`_model/error`) of the
    copies that took a step. In mode SAME_STEP they tell of the step, also where it ended an episode.

    Args:
        env: A vector environment of NumPy arrays, with the single spaces of the model.
        model: The model; it may be fitted already, and others may use it at the same time.
        every: Transitions between two fits, of all copies together.
        start: Transitions before the first fit, of all copies together.
        capacity: Number of transitions that are kept and fitted to, the latest; None keeps all.

    Raises:
        InvalidSettingError: A setting out of its range, or a model of other spaces.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        model: WorldModel,
        every: int = 250,
        start: int = 100,
        capacity: int | None = None,
    ) -> None:
        check_same_spaces(env, model.observation_space, model.action_space)
        super().__init__(env, capacity)
        self.model = model
        self._learner = OnlineLearner(model, self._buffer, every, start)

    @property
    def report(self) -> FitReport | None:
        """What the last fit did; None before the first."""
        return self._learner.report

    def _take(self, transitions: Transitions) -> dict[str, Any]:
        return self._learner.take(transitions)
