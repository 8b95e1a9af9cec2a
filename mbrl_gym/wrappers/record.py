"""An environment whose steps are kept as transitions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from mbrl_gym.models.base import Transitions
from mbrl_gym.wrappers.steps import StepReader
from mbrl_gym.wrappers.transition_buffer import TransitionBuffer

__all__ = ["RecordTransitions"]


class RecordTransitions(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Records every step, for models to learn from:

        env = RecordTransitions(gym.make("CartPole-v1"))
        PPO("MlpPolicy", env).learn(5_000)
        model.fit(env.transitions())

    Observations are kept as models take them (`mbrl_gym.models.spaces.to_rows`: `Dict` and `Tuple` ones flattened),
    actions as this wrapper is given them. Every reset starts an episode with a number of its own. The steps in which
    `gymnasium.wrappers.Autoreset` resets are not recorded. `gymnasium.wrappers.TimeLimit` belongs inside of this
    wrapper (as `gym.make` puts it), so that `truncated` is seen.

    Args:
        env: An environment with spaces that models take; Box actions need no bounds.
        capacity: Number of transitions that are kept, the latest; None keeps all.

    Raises:
        UnsupportedSpaceError: A space that transitions cannot hold; names what would work.
        InvalidSettingError: A capacity of less than 1.
    """

    def __init__(self, env: gym.Env[Any, Any], capacity: int | None = None) -> None:
        RecordConstructorArgs.__init__(self, capacity=capacity)
        gym.Wrapper.__init__(self, env)
        self._reader = StepReader(env.observation_space, env.action_space)
        self._buffer = TransitionBuffer(env.observation_space, env.action_space, capacity)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._reader.start(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advance by one step, and record it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        transition, _ = self._reader.step(action, observation, reward, terminated, truncated, info)
        if len(transition.reward):
            told = self._take(transition)
            if told:
                info = {**info, **{name: float(values[0]) for name, values in told.items()}}
        return observation, reward, terminated, truncated, info

    def transitions(self) -> Transitions:
        """Return copies of the recorded transitions, oldest first."""
        return self._buffer.transitions()

    def clear(self) -> None:
        """Forget the recorded transitions; a running episode goes on under its number."""
        self._buffer.clear()

    def __len__(self) -> int:
        """Return the number of recorded transitions."""
        return len(self._buffer)

    def __bool__(self) -> bool:
        """Return True: whoever asks whether there is an environment does not ask whether it has recorded anything."""
        return True

    def _take(self, transition: Transitions) -> dict[str, Any]:
        """Make use of a step, `[1, ...]`; return what to tell of it in `info`, each value `[1]`."""
        self._buffer.add(transition)
        return {}
