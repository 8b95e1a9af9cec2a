"""What the steps of environments are as transitions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import concatenate, create_empty_array

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models.base import Transitions
from mbrl_gym.models.spaces import check_action_space, check_observation_space, event_shape, row_dtype, to_rows

__all__ = ["StepReader", "check_recordable"]

Array = np.ndarray[Any, Any]
Space = spaces.Space[Any]


def check_recordable(observation_space: Space, action_space: Space) -> None:
    """Refuse spaces that `Transitions` cannot hold: all that models refuse, but for Box actions without bounds.

    Raises:
        UnsupportedSpaceError: One of the spaces; names what would work.
    """
    check_observation_space(observation_space)
    if not (isinstance(action_space, spaces.Box) and len(action_space.shape) == 1):
        check_action_space(action_space)


class StepReader:
    """Turns what `reset` and `step` of N environments side by side return into transitions.

    The first step after the end of an episode that nobody reset is the reset of `Autoreset` or of a vector environment
    in mode NEXT_STEP: it is no transition. A single environment is read as a batch of one.

    Args:
        observation_space: Of one environment.
        action_space: Of one environment.
        num_envs: Number N of environments.
        autoreset_mode: When environments start their next episode.

    Raises:
        UnsupportedSpaceError: See `check_recordable`.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    ) -> None:
        check_recordable(observation_space, action_space)
        self.observation_space, self.action_space = observation_space, action_space
        self.num_envs = num_envs
        self._dtypes = row_dtype(observation_space), row_dtype(action_space)
        self._shapes = (num_envs, *event_shape(observation_space)), (num_envs, *event_shape(action_space))
        self._same_step = autoreset_mode is AutoresetMode.SAME_STEP
        self._observation: Array | None = None
        self._ended = np.zeros(num_envs, np.bool_)
        self._episode = np.full(num_envs, -1)
        self._started = 0  # episodes so far

    @property
    def observation(self) -> Array:
        """The rows `[N, ...]` at which the next actions will be taken.

        Raises:
            gymnasium.error.ResetNeeded: Nothing was reset yet.
        """
        if self._observation is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        return self._observation

    def start(self, observation: Any, rows: Array | None = None) -> None:
        """Begin episodes.

        Args:
            observation: A batch of N observations.
            rows: `[N]` bool, the environments that were reset; None for all.
        """
        rows = np.ones(self.num_envs, np.bool_) if rows is None or self._observation is None else np.asarray(rows)
        self._observation = self._rows(observation)
        self._ended = self._ended & ~rows
        self._begin(rows)

    def step(
        self, action: Any, observation: Any, reward: Any, terminated: Any, truncated: Any, info: dict[str, Any]
    ) -> tuple[Transitions, Array]:
        """Read one step of all environments.

        Args:
            action: A batch of N actions; a single environment's as they are.
            observation: A batch of N observations, likewise.
            reward: `[N]`
            terminated: `[N]` bool
            truncated: `[N]` bool
            info: Holds the last observations of episodes that ended, in mode SAME_STEP.

        Returns:
            The transitions of the environments that took their actions, n of them, and which ones did, `[N]` bool.
        """
        before, following, taken = self.observation, self._rows(observation), ~self._ended
        rewards = np.asarray(reward, np.float64).reshape(self.num_envs)
        terminations = np.array(terminated, np.bool_).reshape(self.num_envs)
        truncations = np.array(truncated, np.bool_).reshape(self.num_envs)
        ended = terminations | truncations
        self._observation = following
        if self._same_step and ended.any():
            following = following.copy()
            following[ended] = self._final(info, ended)
        steps = Transitions(
            before, self.actions(action), rewards, following, terminations, truncations, self._episode.copy()
        )
        if not taken.all():
            steps = steps.rows(taken)
        self._begin(ended if self._same_step else self._ended)
        self._ended = np.zeros_like(ended) if self._same_step else ended
        return steps, taken

    def actions(self, action: Any) -> Array:
        """Return a batch of N actions as rows `[N, ...]`."""
        return np.asarray(action, self._dtypes[1]).reshape(self._shapes[1])

    def _rows(self, observation: Any) -> Array:
        """Return a copy, since environments may write into what they returned."""
        leaf = observation
        while isinstance(leaf, dict | tuple):
            leaf = next(iter(leaf.values() if isinstance(leaf, dict) else leaf))
        if hasattr(leaf, "detach"):
            raise InvalidSettingError(
                "transitions are NumPy arrays, but this environment gives tensors: wrap it in "
                "gymnasium.wrappers.vector.ArrayConversion first"
            )
        return np.array(to_rows(self.observation_space, observation), self._dtypes[0]).reshape(self._shapes[0])

    def _begin(self, rows: Array) -> None:
        count = int(np.count_nonzero(rows))
        if count:
            self._episode[rows] = np.arange(self._started, self._started + count)
            self._started += count

    def _final(self, info: dict[str, Any], ended: Array) -> Array:
        """Return the last observations of the episodes that ended as rows."""
        final = info["final_obs"]
        if isinstance(final, np.ndarray) and final.dtype == object:  # None where an episode goes on
            empty: Any = create_empty_array(self.observation_space, n=int(np.count_nonzero(ended)))
            return to_rows(self.observation_space, concatenate(self.observation_space, final[ended], empty))
        return to_rows(self.observation_space, final)[ended]
