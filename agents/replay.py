"""Between Stable-Baselines3's replay buffer and the models' transitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy

from mbrl_gym.models.base import Transitions
from mbrl_gym.models.spaces import to_rows

__all__ = ["arrivals", "buffer_state", "restore_buffer", "transitions"]

Array = np.ndarray[Any, Any]
ROWS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def transitions(buffer: ReplayBuffer, policy: BasePolicy) -> Transitions:
    """Return the buffer's content, oldest first; the steps of parallel environments stand side by side."""
    if buffer.full:
        order = np.roll(np.arange(buffer.buffer_size), -buffer.pos)
    else:
        order = np.arange(buffer.pos)

    def rows(stored: Array, space: spaces.Space[Any] | None = None) -> Array:
        shape = stored.shape[2:] if space is None else space.shape or ()  # Discrete values are stored as [1]
        return stored[order].reshape(len(order) * buffer.n_envs, *shape)

    def observations(stored: Array | dict[str, Array]) -> Array:
        space = policy.observation_space
        if isinstance(space, spaces.Dict):
            return to_rows(space, {name: rows(stored[name], part) for name, part in space.items()})
        return to_rows(space, rows(stored, space))  # type: ignore[arg-type]

    before, after = observations(buffer.observations), observations(buffer.next_observations)
    action = rows(buffer.actions, policy.action_space)
    if isinstance(policy.action_space, spaces.Box):
        action = policy.unscale_action(action)  # stored in [-1, 1]
    done, timeout = rows(buffer.dones).astype(bool), rows(buffer.timeouts).astype(bool)
    starts = _starts(before, after, done, buffer.n_envs)
    episode = np.cumsum(starts, axis=0) * buffer.n_envs + np.arange(buffer.n_envs)
    return Transitions(
        observation=before,
        action=action,
        reward=rows(buffer.rewards),
        next_observation=after,
        terminated=done & ~timeout,
        truncated=timeout,
        episode=episode.reshape(-1),
    )


def arrivals(buffer: ReplayBuffer, space: spaces.Space[Any]) -> Array:
    """Return where the steps that were stored last led, rows `[n_envs, ...]`."""
    stored: Any = buffer.next_observations
    if isinstance(space, spaces.Dict):
        shapes = {name: part.shape or () for name, part in space.items()}
        latest = {name: stored[name][buffer.pos - 1].reshape(-1, *shape) for name, shape in shapes.items()}
        return to_rows(space, latest)
    return to_rows(space, stored[buffer.pos - 1].reshape(-1, *(space.shape or ())))


def _starts(before: Array, after: Array, done: Array, n_envs: int) -> Array:
    """Return whether each step `[steps, envs]` is an episode's first; a reset in the middle of one counts, too."""
    jumps = (before[n_envs:] != after[:-n_envs]).reshape(-1, n_envs, int(np.prod(before.shape[1:]))).any(-1)
    ended = done.reshape(-1, n_envs)
    return np.concatenate([np.ones_like(ended[:1]), ended[:-1] | jumps])


def buffer_state(buffer: ReplayBuffer) -> dict[str, Any]:
    """Return the filled rows and the position, as arrays (or dicts of such)."""
    count = buffer.buffer_size if buffer.full else buffer.pos
    arrays: dict[str, Any] = {}
    for name in ROWS:
        stored: Any = getattr(buffer, name)
        if isinstance(stored, dict):
            arrays[name] = {part: array[:count].copy() for part, array in stored.items()}
        else:
            arrays[name] = stored[:count].copy()
    return {"pos": buffer.pos, "full": buffer.full, **arrays}


def restore_buffer(buffer: ReplayBuffer, state: dict[str, Any]) -> None:
    """Put rows that `buffer_state` returned into an equal buffer."""
    count = len(state["rewards"])
    for name in ROWS:
        stored: Any = getattr(buffer, name)
        if isinstance(stored, dict):
            for part, array in stored.items():
                array[:count] = state[name][part]
        else:
            stored[:count] = state[name]
    buffer.pos, buffer.full = state["pos"], state["full"]
