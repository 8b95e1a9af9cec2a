"""An environment whose `info` holds what an agent's search found about the actions that can be taken now."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np

from mbrl_gym.errors import InvalidSettingError

__all__ = ["SearchInfo", "SearchingAgent"]

Array = np.ndarray[Any, Any]

STATISTICS = ("actions", "visits", "values", "prior")


@runtime_checkable
class SearchingAgent(Protocol):
    """An agent whose recurrent state tells the statistics of its search's roots, as `decisions`."""

    @property
    def search(self) -> Any:
        """The search."""
        ...

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Return an action and the agent's recurrent state."""
        ...


class SearchInfo(gym.Wrapper[Any, Any, Any, Any]):
    """Puts the statistics of a search's root into `info["search"]`, for the observation that comes with it.

    They are arrays with a row for each of the root's actions that was visited or can be named: `actions`, `visits`,
    `values` (NaN without a visit) and `prior`; and of the decision `action` and `value`. The agent searches at every
    step, from a chain of decisions of its own, as `predict(..., deterministic=True)` does: take the action from
    `decide`, and each step is searched once. No search follows the end of an episode.

        env = SearchInfo(gym.make("Taxi-v4"), agent)
        observation, info = env.reset(seed=0)
        print(info["search"]["visits"])
        env.step(env.decide())

    Args:
        env: An environment with the observations that the agent takes.
        agent: An `MCTS`.

    Raises:
        InvalidSettingError: An agent that does not search.
    """

    def __init__(self, env: gym.Env[Any, Any], agent: SearchingAgent) -> None:
        if not isinstance(agent, SearchingAgent):
            raise InvalidSettingError(f"{type(agent).__name__} has no search whose statistics could be told")
        super().__init__(env)
        self.agent = agent
        self._state: Any = None  # the agent's, of the last decision
        self._action: Any = None  # for the present observation

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._state = None
        return observation, {**info, "search": self._search(observation, start=True)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advance by one step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            self._action = None
        else:
            info = {**info, "search": self._search(observation, start=False)}
        return observation, reward, terminated, truncated, info

    def decide(self) -> Any:
        """Return the agent's action for the present observation.

        Raises:
            gymnasium.error.ResetNeeded: No episode is running.
        """
        if self._action is None:
            raise gym.error.ResetNeeded("call reset() before decide()")
        return self._action

    def _search(self, observation: Any, *, start: bool) -> dict[str, Array]:
        """Search from an observation; return the root's statistics."""
        starts = np.full(1, start)
        self._action, self._state = self.agent.predict(observation, self._state, starts, deterministic=True)
        found = self._state.decisions
        sampled = found.actions.ndim > 2 and found.actions.dtype.kind == "f"  # Box actions have no names of their own
        rows = found.visits[0] > 0 if sampled else slice(None)
        table = {name: getattr(found, name)[0][rows].copy() for name in STATISTICS}
        return {**table, "action": found.action[0], "value": found.value[0]}
