"""What all vector environments of this package share: rows in one array, their episodes, and autoreset.

Shared by tasks and imagined environments, like `mbrl_gym.noise`; imports Gymnasium and NumPy only.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from mbrl_gym.errors import InvalidSettingError

__all__ = ["BatchedVectorEnv", "NumpyRows", "Rows", "check_options", "row_of", "to_numpy"]

Array = Any  # NumPy array or tensor


class Rows(Protocol):
    """The operations on rows `[N, ...]` that differ between NumPy and a device."""

    checks: bool  # whether the values of masks and actions can be looked at without waiting for a device

    def full(self, rows: int, value: bool | int) -> Array:
        """Return `[rows]` booleans or whole numbers."""

    def mask(self, given: np.ndarray[Any, Any]) -> Array:
        """Bring booleans to where the other arrays are."""

    def any(self, mask: Array) -> bool:
        """Return whether a row of the mask may be set."""

    def put(self, array: Array, mask: Array, rows: Array) -> Array:
        """Return the array with the rows of the mask replaced; NumPy writes in place."""

    def with_masks(self, info: dict[str, Array], mask: Array) -> dict[str, Any]:
        """Pair every entry with the mask of the rows that have it, as Gymnasium's vector environments do."""


class NumpyRows:
    """NumPy arrays."""

    checks = True

    def full(self, rows: int, value: bool | int) -> Array:
        """Return `[rows]` booleans or whole numbers."""
        return np.full(rows, value)

    def mask(self, given: np.ndarray[Any, Any]) -> Array:
        """Return the mask."""
        return given

    def any(self, mask: Array) -> bool:
        """Return whether a row of the mask is set."""
        return bool(mask.any())

    def put(self, array: Array, mask: Array, rows: Array) -> Array:
        """Write the rows of the mask."""
        array[mask] = rows
        return array

    def with_masks(self, info: dict[str, Array], mask: Array) -> dict[str, Any]:
        """Pair every entry with the mask of the rows that have it; the others are zero."""
        paired: dict[str, Any] = {}
        for name, values in info.items():
            paired[name] = np.where(mask, values, np.zeros_like(values))
            paired[f"_{name}"] = mask.copy()
        return paired


class BatchedVectorEnv(VectorEnv[Any, Any, Any]):
    """N rows that advance together: seeds, options, episode lengths and autoreset, written once.

    A subclass calls `_set_up_rows` when it is made, and says what happens to its rows: `_check_start`, `_seed_noise`,
    `_begin`, `_check_actions`, `_advance`, `_publish` and `_final_observations`.
    """

    start_option: ClassVar[str]  # the option of `reset` that sets starts exactly
    max_episode_steps: int  # at which episodes are truncated; -1 for never

    def _set_up_rows(
        self,
        spaces: tuple[gym.Space[Any], gym.Space[Any]],
        num_envs: int,
        max_episode_steps: int | None,
        autoreset_mode: AutoresetMode | str,
        rows: Rows,
    ) -> None:
        self.num_envs = check_num_envs(num_envs)
        self.max_episode_steps = check_limit(max_episode_steps)
        self._autoreset = _autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self._autoreset}
        self.single_observation_space, self.single_action_space = spaces
        self.observation_space, self.action_space = (batch_space(space, self.num_envs) for space in spaces)
        self._rows = rows
        self._started = False
        self._steps = rows.full(self.num_envs, 0)
        self._ended = rows.full(self.num_envs, False)  # rows whose episode ended in the last step

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: Seed of the one generator that serves all rows.
            options: A start for all rows, or one a row, under the name that the environment gives it; and
                `"reset_mask"`, bool `[N]`, which resets the chosen rows only.

        Raises:
            InvalidSettingError: Unknown option, a seed per row, or a start that the environment cannot be in.
        """
        options = check_options(options, (self.start_option, "reset_mask"))
        if seed is not None and not isinstance(seed, int | np.integer):
            raise InvalidSettingError(f"one generator serves all rows: seed must be a number, not {seed!r}")
        given = options.get(self.start_option)
        starts = None if given is None else self._check_start(given)
        mask = self._reset_mask(options.get("reset_mask"))
        super().reset(seed=None if seed is None else int(seed))
        self._seed_noise(seed is not None)
        rows = self._rows.mask(mask)
        self._begin(rows, starts, everywhere=bool(mask.all()), anew=seed is not None)
        self._started = True
        self._steps = self._rows.put(self._steps, rows, 0)
        self._ended = self._rows.put(self._ended, rows, False)
        return self._publish(), self._episode_info()

    def step(
        self, actions: Any
    ) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]:
        """Advance all rows by one step.

        Raises:
            InvalidActionError: Wrong shape, not finite, or no such choice; nothing has changed.
            gymnasium.error.ResetNeeded: Never reset, or (autoreset disabled) a row has ended.
        """
        rows, mode, ended = self._rows, self._autoreset, self._ended
        self._check_ready()
        reward, terminated, info = self._advance(self._check_actions(actions))
        self._steps += 1
        limit = self.max_episode_steps
        truncated = self._steps >= limit if limit > 0 else rows.full(self.num_envs, False)
        info = rows.with_masks(info, ~ended)
        if mode is AutoresetMode.NEXT_STEP and rows.any(ended):  # this step was these rows' reset, without an action
            self._restart(ended)
            reward = rows.put(reward, ended, 0.0)
            terminated, truncated = terminated & ~ended, truncated & ~ended
        info |= self._episode_info()
        ended = terminated | truncated
        if mode is not AutoresetMode.SAME_STEP:
            self._ended = ended
        elif rows.any(ended):
            info = self._final_info(info, ended)
            self._restart(ended)
            info |= self._episode_info()
        return self._publish(), reward, terminated, truncated, info

    # What subclasses say -----------------------------------------------------------------------------------------

    @abstractmethod
    def _check_start(self, given: Any) -> Any:
        """Return the given starts, one a row, or refuse them."""

    @abstractmethod
    def _seed_noise(self, anew: bool) -> None:
        """Let `np_random`, which has a new seed or not, decide all random numbers."""

    @abstractmethod
    def _begin(self, mask: Array, starts: Any, *, everywhere: bool = False, anew: bool = False) -> None:
        """Put the rows of the mask at their part of the starts, or at drawn ones; the first time, everywhere.

        With `anew`, nothing outlives the episodes before.
        """

    @abstractmethod
    def _check_actions(self, actions: Any) -> Array:
        """Return the actions as an array, or raise InvalidActionError."""

    @abstractmethod
    def _advance(self, actions: Array) -> tuple[Array, Array, dict[str, Array]]:
        """Move all rows; return reward `[N]`, terminated `[N]` and infos `[N]`, which may be written into."""

    @abstractmethod
    def _publish(self) -> Any:
        """Return the observations of all rows, which are the caller's own."""

    @abstractmethod
    def _final_observations(self, ended: Array) -> Any:
        """Return the present observations for `info["final_obs"]`."""

    def _episode_info(self) -> dict[str, Any]:
        """Return infos, with masks, that hold for the whole of the running episodes."""
        return {}

    # Rows ----------------------------------------------------------------------------------------------------------

    def _check_ready(self) -> None:
        if not self._started:
            raise gym.error.ResetNeeded("call reset() before step()")
        if self._autoreset is AutoresetMode.DISABLED and self._rows.checks and bool(self._ended.any()):
            raise gym.error.ResetNeeded(
                f"rows {np.flatnonzero(self._ended).tolist()} have ended: reset them with "
                'reset(options={"reset_mask": mask})'
            )

    def _restart(self, mask: Array) -> None:
        self._begin(mask, None)
        self._steps = self._rows.put(self._steps, mask, 0)

    def _final_info(self, info: dict[str, Any], ended: Array) -> dict[str, Any]:
        """Move what belongs to the episodes that ended to `final_obs` and `final_info`."""
        values = {name: value for name, value in info.items() if not name.startswith("_")}
        return {
            "final_obs": self._final_observations(ended),
            "_final_obs": ended & True,  # copies
            "final_info": self._rows.with_masks(values, ended),
            "_final_info": ended & True,
            **self._rows.with_masks(values, ~ended),
        }

    def _reset_mask(self, given: Any) -> np.ndarray[Any, Any]:
        if given is None:
            return np.ones(self.num_envs, np.bool_)
        mask = to_numpy(given)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise InvalidSettingError(
                f'options["reset_mask"] must be {self.num_envs} booleans, at least one of them True, '
                f"but {given!r} was given"
            )
        if not self._started and not mask.all():
            raise InvalidSettingError("the first reset must reset all rows")
        return mask


def check_options(options: dict[str, Any] | None, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of a reset, or refuse names that are not among the allowed ones."""
    options = options or {}
    for name in options:
        if name not in allowed:
            raise InvalidSettingError(f"reset has no option {name!r}; it has: {', '.join(allowed)}")
    return options


def check_num_envs(given: Any) -> int:
    """Return the number of rows, or refuse it."""
    if not isinstance(given, int | np.integer) or given < 1:
        raise InvalidSettingError(f"num_envs must be a whole number of at least 1, but {given!r} was given")
    return int(given)


def check_limit(given: Any) -> int:
    """Return a bound on the steps of an episode, -1 for none, or refuse it."""
    given = -1 if given is None else given
    if given != -1 and not (isinstance(given, int | np.integer) and given >= 1):
        raise InvalidSettingError(f"max_episode_steps must be at least 1, or -1 for no limit, but {given!r} was given")
    return int(given)


def row_of(batch: Any, row: int) -> Any:
    """Return a copy of one row of a batch of observations, which may be a Dict or Tuple of arrays."""
    if isinstance(batch, dict):
        return {name: row_of(part, row) for name, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(row_of(part, row) for part in batch)
    return batch[row].copy()


def to_numpy(given: Any) -> np.ndarray[Any, Any]:
    """Return what the caller gave, tensors included, as an array."""
    return np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)


def _autoreset_mode(given: AutoresetMode | str) -> AutoresetMode:
    for mode in AutoresetMode:
        if given in (mode, mode.value, mode.name):
            return mode
    raise InvalidSettingError(
        f"autoreset_mode must be one of {[mode.value for mode in AutoresetMode]}, but {given!r} was given"
    )
