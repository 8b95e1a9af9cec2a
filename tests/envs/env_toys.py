"""Observations of any space as one array."""

from typing import Any

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.task import Task


def flat(observation: Any) -> Any:
    """Return an observation, or the parts of a Dict joined in their order, as an array `[..., O]`."""
    return np.concatenate(list(observation.values()), axis=-1) if isinstance(observation, dict) else observation


def arrays(observation: Any) -> list[Any]:
    """Return the arrays that an observation consists of; a single number is none."""
    parts = list(observation.values()) if isinstance(observation, dict) else [observation]
    return [part for part in parts if isinstance(part, np.ndarray)]


def observed_dtype(space: spaces.Space, dtype: Any) -> np.dtype:
    """Return the dtype of observations of a task with this dtype: choices are integers whatever it is."""
    return np.dtype(np.int64 if isinstance(space, spaces.Discrete) else dtype)


def is_random(task: Task) -> bool:
    """Return whether anything in a task is drawn."""
    return sum(task.initial_noise) + sum(task.transition_noise) > 0
