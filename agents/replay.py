"""Between Stable-Baselines3's replay buffer and the models' transitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy

from mbrl_gym.models.base import Transitions

__all__ = ["buffer_state", "restore_buffer", "transitions"]

ROWS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def transitions(buffer: ReplayBuffer, policy: BasePolicy) -> Transitions:
    """Return the buffer's content, oldest first; the steps of parallel environments stand side by side."""
    if buffer.full:
        order = np.roll(np.arange(buffer.buffer_size), -buffer.pos)
    else:
        order = np.arange(buffer.pos)

    def rows(stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return stored[order].reshape(len(order) * buffer.n_envs, *stored.shape[2:])

    action = rows(buffer.actions)
    if isinstance(policy.action_space, spaces.Box):
        action = policy.unscale_action(action)  # stored in [-1, 1]
    else:
        action = action.reshape(-1)
    done, timeout = rows(buffer.dones).astype(bool), rows(buffer.timeouts).astype(bool)
    starts = _starts(buffer, order)
    episode = np.cumsum(starts, axis=0) * buffer.n_envs + np.arange(buffer.n_envs)
    return Transitions(
        observation=rows(buffer.observations),
        action=action,
        reward=rows(buffer.rewards),
        next_observation=rows(buffer.next_observations),
        terminated=done & ~timeout,
        truncated=timeout,
        episode=episode.reshape(-1),
    )


def _starts(buffer: ReplayBuffer, order: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return whether each step `[steps, envs]` is an episode's first; a reset in the middle of one counts, too."""
    before, after = buffer.observations[order], buffer.next_observations[order]
    jumps = (before[1:] != after[:-1]).reshape(len(order) - 1, buffer.n_envs, -1).any(-1)
    ended = buffer.dones[order].astype(bool)
    return np.concatenate([np.ones_like(ended[:1]), ended[:-1] | jumps])


def buffer_state(buffer: ReplayBuffer) -> dict[str, Any]:
    """Return the filled rows and the position, as arrays."""
    count = buffer.buffer_size if buffer.full else buffer.pos
    arrays = {name: getattr(buffer, name)[:count].copy() for name in ROWS}
    return {"pos": buffer.pos, "full": buffer.full, **arrays}


def restore_buffer(buffer: ReplayBuffer, state: dict[str, Any]) -> None:
    """Put rows that `buffer_state` returned into an equal buffer."""
    count = len(state["rewards"])
    for name in ROWS:
        getattr(buffer, name)[:count] = state[name]
    buffer.pos, buffer.full = state["pos"], state["full"]
