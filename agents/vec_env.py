"""Gymnasium vector environments as Stable-Baselines3 `VecEnv`s, array in, array out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from mbrl_gym.errors import InvalidSettingError, MbrlGymError, UnsupportedSpaceError
from mbrl_gym.vector import row_of

__all__ = ["VectorEnvAdapter", "as_sb3_vec_env"]


def as_sb3_vec_env(vector_env: VectorEnv[Any, Any, Any]) -> VectorEnvAdapter:
    """Turn any Gymnasium vector environment into a Stable-Baselines3 `VecEnv`.

    Works for native ones (`gym.make_vec("mbrl/Arm-v0", num_envs=256, autoreset_mode="SameStep")`), imagined ones, and
    `SyncVectorEnv` and `AsyncVectorEnv` (`gym.make_vec("CartPole-v1", num_envs=8, vectorization_mode="sync",
    vector_kwargs={"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP})`), wrapped or not. Gymnasium's vector
    `RecordEpisodeStatistics` counts right in mode "SameStep"; around a `SyncVectorEnv` in mode "Disabled" (Gymnasium
    1.4) every reset of a row sets back the counts of all.

    Args:
        vector_env: In autoreset mode "SameStep", or "Disabled": the adapter then resets rows that ended, with
            `reset(options={"reset_mask": ...})`.

    Raises:
        InvalidSettingError: Autoreset mode "NextStep", or none that is declared in `metadata`.
        UnsupportedSpaceError: Tuple observations.
    """
    return VectorEnvAdapter(vector_env)


class VectorEnvAdapter(VecEnv):
    """See `as_sb3_vec_env`. `seed(s)` passes the number s to the vector environment's next `reset`.

    Attributes and methods are those of the single environments where there are such, and else of the vector
    environment, which all rows share.
    """

    def __init__(self, vector_env: VectorEnv[Any, Any, Any]) -> None:
        self._mode = _checked_mode(vector_env)
        if isinstance(vector_env.single_observation_space, gym.spaces.Tuple):
            raise UnsupportedSpaceError(
                "Stable-Baselines3 has no Tuple observations: wrap the vector environment in "
                "gymnasium.wrappers.vector.FlattenObservation"
            )
        self.vector_env = vector_env
        self._actions: Any = None
        self._all_rows = np.arange(vector_env.num_envs)
        super().__init__(vector_env.num_envs, vector_env.single_observation_space, vector_env.single_action_space)
        self.metadata = {**vector_env.metadata, **self.metadata}

    @property
    def unwrapped(self) -> VecEnv:
        """The adapter itself: it is the innermost `VecEnv`."""
        return self

    def reset(self) -> VecEnvObs:
        """Reset all rows, with the seed and options that were set since the last reset."""
        seed = self._seeds[0]
        options = self._options[0] or None
        observation, info = self.vector_env.reset(seed=None if seed is None else int(seed), options=options)
        self.reset_infos = _info_rows(info, self._all_rows)
        self._reset_seeds()
        self._reset_options()
        if hasattr(observation, "detach"):
            raise InvalidSettingError(
                "Stable-Baselines3 takes NumPy arrays, but the vector environment returns tensors: wrap it in "
                "gymnasium.wrappers.vector.ArrayConversion, or make it with xp=numpy"
            )
        return _own(observation)

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all rows."""
        observation, reward, terminated, truncated, info = self.vector_env.step(self._actions)
        done = terminated | truncated
        # Copies, since a reset of the rows that ended may write into what the step returned.
        reward, cut_off = reward.astype(np.float32), truncated & ~terminated
        final_obs, final_info = info.pop("final_obs", None), info.pop("final_info", {})
        infos = _info_rows(info, self._all_rows, {"TimeLimit.truncated": False})
        if done.any():
            ended = np.flatnonzero(done)
            if self._mode is AutoresetMode.SAME_STEP:
                if final_obs is None:
                    raise MbrlGymError(f"rows {ended.tolist()} have ended, but info['final_obs'] is missing")
                last = _observation_rows(final_obs, ended)
                final = self._same_step_infos(final_info, info, ended)
            else:
                last = _observation_rows(observation, ended)
                final = [infos[row] for row in ended.tolist()]
                observation, info = self.vector_env.reset(options={"reset_mask": done.copy()})
                self._keep_reset_infos(ended, _info_rows(info, ended))
            cut = cut_off[ended].tolist()
            for row, row_info, row_last, row_cut in zip(ended.tolist(), final, last, cut, strict=True):
                infos[row] = row_info
                row_info.update({"TimeLimit.truncated": row_cut, "terminal_observation": row_last})
        return _own(observation), reward, done, infos

    def _same_step_infos(
        self, final_info: dict[str, Any], info: dict[str, Any], ended: np.ndarray[Any, Any]
    ) -> list[dict[str, Any]]:
        """Return the last infos of the rows that ended; what `info` says of them tells of the new episodes.

        Only the episode statistics, which `gymnasium.wrappers.vector.RecordEpisodeStatistics` puts there, tell of the
        old ones.
        """
        final, first = _info_rows(final_info, ended), _info_rows(info, ended)
        for each, following in zip(final, first, strict=True):
            if "episode" in following:
                each["episode"] = following.pop("episode")
        self._keep_reset_infos(ended, first)
        return final

    def _keep_reset_infos(self, ended: np.ndarray[Any, Any], infos: list[dict[str, Any]]) -> None:
        for row, info in zip(ended.tolist(), infos, strict=True):
            self.reset_infos[row] = info

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seed of the next reset."""
        self._seeds = [seed] * self.num_envs
        return self._seeds

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Set the options of the next reset.

        Raises:
            InvalidSettingError: Options a row: one reset serves all.
        """
        if not isinstance(options, dict | None):
            raise InvalidSettingError(f"one reset serves all rows: options must be one dict, but {options!r} was given")
        super().set_options(options)

    def close(self) -> None:
        """Close the vector environment."""
        self.vector_env.close()

    def get_images(self) -> Sequence[np.ndarray[Any, Any] | None]:
        """Return a picture of each row."""
        pictures: Any = self.vector_env.render()
        return [None] * self.num_envs if pictures is None else list(pictures)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of each row."""
        rows, base = list(self._get_indices(indices)), self._base
        if hasattr(base, "envs"):
            return [base.envs[row].get_wrapper_attr(attr_name) for row in rows]
        if hasattr(base, "get_attr"):
            values = base.get_attr(attr_name)
            return [values[row] for row in rows]
        return [self._shared(attr_name)] * len(rows)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of rows.

        Raises:
            InvalidSettingError: Some rows only, where they cannot be reached one by one.
        """
        rows, base = list(self._get_indices(indices)), self._base
        if hasattr(base, "envs"):
            for row in rows:
                base.envs[row].set_wrapper_attr(attr_name, value)
        elif hasattr(base, "set_attr"):
            self._check_all(rows)
            base.set_attr(attr_name, [value] * self.num_envs)
        else:
            setattr(base, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of each row; one of a native vector environment is called once, for all rows.

        Raises:
            InvalidSettingError: Some rows only, where they cannot be reached one by one.
        """
        rows, base = list(self._get_indices(indices)), self._base
        if hasattr(base, "envs"):
            return [base.envs[row].get_wrapper_attr(method_name)(*method_args, **method_kwargs) for row in rows]
        if hasattr(base, "call"):
            self._check_all(rows)
            return list(base.call(method_name, *method_args, **method_kwargs))
        return [self._shared(method_name)(*method_args, **method_kwargs)] * len(rows)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return whether the single environments, where they can be seen, are wrapped."""
        envs = getattr(self._base, "envs", None)
        return [envs is not None and is_wrapped(envs[row], wrapper_class) for row in self._get_indices(indices)]

    @property
    def _base(self) -> Any:
        return self.vector_env.unwrapped

    def _shared(self, name: str) -> Any:
        if hasattr(self.vector_env, name):
            return getattr(self.vector_env, name)
        return getattr(self._base, name)

    def _check_all(self, rows: list[int]) -> None:
        if sorted(rows) != self._all_rows.tolist():
            raise InvalidSettingError(
                f"{type(self._base).__name__} reaches its environments only all at once, but rows {rows} were given: "
                "leave out `indices`"
            )


def _checked_mode(vector_env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    mode = vector_env.metadata.get("autoreset_mode")
    if mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED):
        return mode
    how = (
        'make the vector environment with autoreset_mode="SameStep" or "Disabled" (Gymnasium\'s own with '
        "vector_kwargs={'autoreset_mode': gymnasium.vector.AutoresetMode.SAME_STEP})"
    )
    if mode is AutoresetMode.NEXT_STEP:
        raise InvalidSettingError(
            "Stable-Baselines3 expects the observation of the new episode in the step that ends the old one; in "
            f"autoreset mode NextStep it comes a step later, whose action does nothing and would be learned from: {how}"
        )
    raise InvalidSettingError(
        "the vector environment does not declare in metadata['autoreset_mode'] when rows that ended start anew "
        f"(it holds {mode!r}), so that the last observations of episodes cannot be told from first ones: {how}"
    )


def _own(observation: Any) -> VecEnvObs:
    """Return a copy of observations, or of the parts of a Dict, row by row in memory."""
    if isinstance(observation, dict):
        return {name: np.array(part, order="C") for name, part in observation.items()}
    return np.array(observation, order="C")


def _observation_rows(observation: Any, rows: np.ndarray[Any, Any]) -> list[Any]:
    """Return single observations of a batch, or of an object array of such."""
    if isinstance(observation, np.ndarray) and observation.dtype == object:
        return [observation[row] for row in rows.tolist()]
    return [row_of(observation, row) for row in rows.tolist()]


def _info_rows(
    info: dict[str, Any], rows: np.ndarray[Any, Any], each_has: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Split Gymnasium's dict of arrays (with masks under `_name`) into a dict for each of the rows."""
    split = list(map(dict.copy, [each_has or {}] * len(rows)))
    for name, values in info.items():
        if name.startswith("_"):
            continue
        chosen, present = split, rows
        mask = info.get(f"_{name}")
        if mask is not None and not mask[rows].all():
            present = rows[mask[rows]]
            chosen = [each for each, has in zip(split, mask[rows].tolist(), strict=True) if has]
        for each, value in zip(chosen, _info_values(values, present), strict=True):
            each[name] = value
    return split


def _info_values(values: Any, rows: np.ndarray[Any, Any]) -> list[Any]:
    if isinstance(values, dict):
        return _info_rows(values, rows)
    if isinstance(values, np.ndarray):
        part = values[rows]
        return part.tolist() if part.ndim == 1 else list(part)
    if not hasattr(values, "__getitem__"):  # one value for all rows
        return [values] * len(rows)
    return [values[row] for row in rows.tolist()]
