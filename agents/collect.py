"""Transitions of random actions."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models.base import Transitions
from mbrl_gym.wrappers import RecordTransitions

__all__ = ["random_transitions"]


def random_transitions(env: gym.Env[Any, Any] | str, steps: int, seed: int) -> Transitions:
    """Act at random, and return the steps.

    Args:
        env: An environment (which is reset) or an id.
        steps: How many.
        seed: Seeds the actions and the environment's first reset; the environment's own action space is left alone.

    Raises:
        InvalidSettingError: Less than one step.
        UnsupportedSpaceError: A space that transitions cannot hold.
    """
    if steps < 1:
        raise InvalidSettingError(f"steps must be at least 1, but {steps} was given")
    recorded = RecordTransitions(gym.make(env) if isinstance(env, str) else env)
    space = copy.deepcopy(recorded.action_space)
    space.seed(seed)
    recorded.reset(seed=seed)
    for _ in range(steps):
        _, _, terminated, truncated, _ = recorded.step(space.sample())
        if terminated or truncated:
            recorded.reset()
    if isinstance(env, str):
        recorded.close()
    return recorded.transitions()
