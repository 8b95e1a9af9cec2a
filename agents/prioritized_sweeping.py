"""Prioritised sweeping: tabular planning where values change most (Sutton and Barto 2018, section 8.4)."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from mbrl_gym.errors import DamagedFileError, InvalidSettingError

from .dyna_q import DynaQ
from .tabular.queue import Queue, empty_queue, put
from .tabular.updates import observe, sweep

__all__ = ["PrioritizedSweeping"]

Array = np.ndarray[Any, Any]


class PrioritizedSweeping(DynaQ):
    """Prioritised sweeping (Moore and Atkeson 1993; Sutton and Barto 2018, section 8.4): plans where it matters most.

    Pairs (s, a) whose update would change Q(s, a) by more than `theta` wait in a queue. After each real step up to
    `planning_steps` of them are updated, the most urgent first, and pairs that lead to a state whose value changed then
    join the queue. Updates use the mean of all remembered outcomes. Once the queue is empty, no pair that was tried has
    an error above `theta`: | sum of p(s', r | s, a) (r + gamma max_a' Q(s', a')) - Q(s, a) | <= theta, with the
    frequencies p of what was observed.

    Args:
        policy: As for `DynaQ`.
        env: As for `DynaQ`.
        theta: Smallest change of an action value that is worth an update, at least 0, in units of reward.
        planning_steps: Most updates after each real step.
        learning_rate: As for `DynaQ`. With 1, updates set values to the mean target, which is right in stochastic
            environments, too.
        **settings: The other settings of `DynaQ`, but for `expected_updates`: they always are.

    Raises:
        InvalidSettingError: A setting out of its range.
        UnsupportedSpaceError: A space that is not Discrete or MultiDiscrete, or too large.
    """

    def __init__(
        self,
        policy: str,
        env: GymEnv | str | None,
        *,
        theta: float = 1e-4,
        planning_steps: int = 10,
        learning_rate: float | Schedule = 1.0,
        **settings: Any,
    ) -> None:
        if not 0 <= theta < float("inf"):
            raise InvalidSettingError(f"theta must be at least 0 and finite, but {theta} was given")
        if not settings.setdefault("expected_updates", True):
            raise InvalidSettingError("prioritised sweeping makes expected updates: leave out expected_updates=False")
        self.theta = theta
        super().__init__(policy, env, planning_steps=planning_steps, learning_rate=learning_rate, **settings)
        self.arguments["theta"] = theta

    @property
    def queue_length(self) -> int:
        """How many pairs wait for an update."""
        return int(self._queue.size[0])

    def _setup_model(self) -> None:
        super()._setup_model()
        self._queue: Queue = empty_queue(self.policy.values.size)

    def _learn(self, steps: tuple[Array, Array, Array, Array, Array]) -> None:
        outcomes = self.policy.model.with_room(len(steps[0]))
        observe(outcomes, self.policy.values, self._queue, steps, self.gamma, self.theta, self._latest)

    def _plan(self, updates: int, kappa: float = 0.0, untried: bool = False) -> None:
        outcomes, values = self.policy.model.outcomes, self.policy.values
        self._n_updates += sweep(outcomes, values, self._queue, updates, self._alpha, self.gamma, self.theta)

    def dump_logs(self) -> None:
        """Write the log."""
        self.logger.record("train/queue_length", self.queue_length)
        super().dump_logs()

    def _extra_state(self) -> dict[str, Any]:
        waiting = self._queue.heap[: self.queue_length].copy()
        return {**super()._extra_state(), "waiting": waiting, "priority": self._queue.priority[waiting]}

    def _restore_extra(self, state: dict[str, Any]) -> None:
        super()._restore_extra(state)
        waiting, priority = state["waiting"], state["priority"]
        tried = np.flatnonzero(self.policy.model.visits)
        if waiting.shape != priority.shape or waiting.dtype != np.int64 or not np.isin(waiting, tried).all():
            raise DamagedFileError("the file's queue holds something else than pairs that were tried")
        if not np.isfinite(priority).all():
            raise DamagedFileError("the file's queue holds priorities that are not finite")
        self._queue = empty_queue(self.policy.values.size)
        for pair, urgency in zip(waiting, priority, strict=True):  # a heap's own order builds the same heap again
            put(self._queue, pair, urgency)
