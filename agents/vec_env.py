"""Gymnasium vector environments as Stable-Baselines3 `VecEnv`s, array in, array out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from mbrl_gym.errors import InvalidSettingError

__all__ = ["VectorEnvAdapter", "as_sb3_vec_env"]


def as_sb3_vec_env(vector_env: VectorEnv[Any, Any, Any]) -> VectorEnvAdapter:
    """Turn a vector environment into a Stable-Baselines3 `VecEnv`.

    Args:
        vector_env: Made with `autoreset_mode="SameStep"`, e.g.
            `gym.make_vec("mbrl/Arm-v0", num_envs=50, autoreset_mode="SameStep")`.

    Raises:
        InvalidSettingError: Another autoreset mode.
    """
    return VectorEnvAdapter(vector_env)


def _contiguous(observation: Any) -> VecEnvObs:
    """Return observations, or the parts of a Dict, row by row in memory."""
    if isinstance(observation, dict):
        return {name: np.ascontiguousarray(part) for name, part in observation.items()}
    return np.ascontiguousarray(observation)


class VectorEnvAdapter(VecEnv):
    """See `as_sb3_vec_env`. `seed(s)` seeds the one generator of the vector environment at the next reset."""

    def __init__(self, vector_env: VectorEnv[Any, Any, Any]) -> None:
        mode = vector_env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise InvalidSettingError(
                "Stable-Baselines3 expects the observation of the new episode in the step that ends the old one: "
                f'make the vector environment with autoreset_mode="SameStep" (its mode is {mode})'
            )
        self.vector_env = vector_env
        self._actions: Any = None
        super().__init__(vector_env.num_envs, vector_env.single_observation_space, vector_env.single_action_space)

    @property
    def unwrapped(self) -> VecEnv:
        """The adapter itself: it is the innermost `VecEnv`."""
        return self

    def reset(self) -> VecEnvObs:
        """Reset all rows, with the seed and options that were set since the last reset."""
        seed = self._seeds[0]
        options = self._options[0] or None
        observation, info = self.vector_env.reset(seed=seed, options=options)
        self.reset_infos = self._info_rows(info)
        self._reset_seeds()
        self._reset_options()
        return _contiguous(observation)

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all rows."""
        observation, reward, terminated, truncated, info = self.vector_env.step(self._actions)
        done = terminated | truncated
        final_obs, final_info = info.get("final_obs", []), info.get("final_info", {})
        infos = self._info_rows(
            {k: v for k, v in info.items() if k.removeprefix("_") not in ("final_obs", "final_info")}
        )
        for row in range(self.num_envs):
            infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
        if done.any():
            final_rows = self._info_rows(final_info)
            for row in np.flatnonzero(done).tolist():
                infos[row].update(final_rows[row])
                infos[row]["terminal_observation"] = final_obs[row]
        return _contiguous(observation), reward.astype(np.float32), done, infos

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seed of the next reset."""
        self._seeds = [seed] * self.num_envs
        return self._seeds

    def close(self) -> None:
        """Close the vector environment."""
        self.vector_env.close()

    def get_images(self) -> Sequence[np.ndarray[Any, Any] | None]:
        """Return a picture of each row."""
        pictures: Any = self.vector_env.render()
        return [None] * self.num_envs if pictures is None else list(pictures)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return the vector environment's attribute, once a row."""
        value = self._attribute(attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the vector environment's attribute, which all rows share."""
        setattr(self.vector_env.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call the vector environment's method once, for all rows."""
        result = self._attribute(method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return False a row: single-environment wrappers do not apply."""
        return [False for _ in self._get_indices(indices)]

    def _attribute(self, name: str) -> Any:
        if hasattr(self.vector_env, name):
            return getattr(self.vector_env, name)
        return getattr(self.vector_env.unwrapped, name)

    def _info_rows(self, info: dict[str, Any]) -> list[dict[str, Any]]:
        """Split Gymnasium's dict of arrays (with masks under `_name`) into a dict a row."""
        rows: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for name, values in info.items():
            if name.startswith("_"):
                continue
            present = info.get(f"_{name}", np.ones(self.num_envs, np.bool_))
            items: Any = self._info_rows(values) if isinstance(values, dict) else values
            for row in np.flatnonzero(present):
                rows[row][name] = items[row].item() if isinstance(items[row], np.generic) else items[row]
        return rows
