"""What a scene draws: one running episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbrl_gym.envs.task import Array, Task

__all__ = ["Episode"]


@dataclass
class Episode:
    """The running episode, oldest first: T steps so far."""

    task: Task
    states: list[Array]  # T + 1 arrays [S]; the last one is now
    actions: list[Any]  # T actions, [A] or an integer
    rewards: list[float]  # T rewards
    imagined: Array | None = None  # [K, H, O] observations that an agent imagines from now on, best plan first

    def add(self, action: Any, reward: float, state: Array) -> None:
        """Append a step."""
        self.actions.append(action)
        self.rewards.append(reward)
        self.states.append(state)
        self.imagined = None
