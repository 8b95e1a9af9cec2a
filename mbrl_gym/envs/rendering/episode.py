"""What a scene draws: one running episode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.task import Array, Task
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.vector import to_numpy

__all__ = ["Episode", "Imagined", "checked_values"]


class Imagined(NamedTuple):
    """What an agent expects of its plans, from the present state on."""

    plans: Array  # [K, H, O] observations, or [K, H] Discrete ones; best plan first
    particles: Array | None = (
        None  # [P, H, O], or [P, H]: what each of P particles, or members, expects of the best plan
    )

    def rest(self) -> Imagined | None:
        """Return what is left after a step, or None."""
        if self.plans.shape[1] < 2:
            return None
        return Imagined(self.plans[:, 1:], None if self.particles is None else self.particles[:, 1:])


@dataclass
class Episode:
    """The running episode, oldest first: T steps so far."""

    task: Task
    states: list[Array]  # T + 1 arrays [S]; the last one is now
    actions: list[Any]  # T actions, [A] or an integer
    rewards: list[float]  # T rewards
    imagined: Imagined | None = None  # of the last decision that was shown
    values: np.ndarray[Any, Any] | None = None  # [observations, actions] what an agent knows of a Discrete task
    drawn: bool = False  # whether somebody asked for a picture of the present state

    def add(self, action: Any, reward: float, state: Array) -> None:
        """Append a step; what remains of the imagined steps stays."""
        self.actions.append(action)
        self.rewards.append(reward)
        self.states.append(state)
        self.imagined = None if self.imagined is None else self.imagined.rest()
        self.drawn = False

    def imagine(self, plans: Array | None, particles: Array | None = None) -> None:
        """Take what an agent imagines from the present state on (see `Imagined`), or None.

        Raises:
            InvalidSettingError: Other shapes.
        """
        own = self.task.observation_space.shape or ()
        for name, array in (("plans", plans), ("particles", particles)):
            shape = (1, 1, *own) if array is None else np.shape(array)
            if shape[2:] != own or len(shape) < 2 or 0 in shape:
                wanted = ", ".join(["number", "steps", *map(str, own)])
                raise InvalidSettingError(f"imagined {name} must have shape ({wanted}), but {shape} was given")
        self.imagined = None if plans is None else Imagined(plans, particles)

    def past(self, steps: int) -> np.ndarray[Any, Any]:
        """Return the states `[T, S]` (float64) of the last steps, at most, up to now."""
        return np.array(self.states[-steps - 1 :], np.float64)

    @property
    def constants(self) -> Any:
        """The constants of this episode by name, as numbers."""
        return self.task.constants(np.asarray(self.states[-1], np.float64))


def checked_values(task: Task, values: Any) -> np.ndarray[Any, Any]:
    """Return a copy of the action values `[observations, actions]` (float64) of a task, or refuse them.

    Raises:
        InvalidSettingError: Another shape, values that are not finite, or a task whose observations or actions are not
            Discrete.
    """
    observations, actions = task.observation_space, task.action_space
    if not isinstance(observations, spaces.Discrete) or not isinstance(actions, spaces.Discrete):
        raise InvalidSettingError(
            f"values are shown of Discrete observations and actions, but {type(task).__name__} has {observations} and "
            f"{actions}"
        )
    table, shape = to_numpy(values), (int(observations.n), int(actions.n))
    if table.shape != shape or table.dtype.kind not in "iuf" or not np.isfinite(table).all():
        raise InvalidSettingError(
            f"values must be finite numbers of shape {shape}, but {table.dtype} of shape {table.shape} was given"
        )
    return table.astype(np.float64)
