"""An environment whose pictures show what an agent has learned about every observation and action."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import gymnasium as gym

from mbrl_gym.errors import InvalidSettingError

__all__ = ["ShowValues", "TabularAgent"]


@runtime_checkable
class TabularAgent(Protocol):
    """An agent that tells what it expects of every action at every observation."""

    @property
    def q_values(self) -> Any:
        """Action values `[observations, actions]`, an array or tensor."""
        ...


class ShowValues(gym.Wrapper[Any, Any, Any, Any]):
    """Draws over every picture the values that an agent has learned so far, and the actions that it takes for best.

    The mazes draw a cell's value as its colour and its best actions as arrows. An agent is asked anew for every
    picture, so that its learning can be watched; an array stays as it is:

        env = gym.make("mbrl/DynaMaze-v0", render_mode="rgb_array")
        picture = ShowValues(env, env.unwrapped.task.action_values(0.95))

    Args:
        env: An environment of this package with Discrete observations and actions, in mode "human" or "rgb_array".
        agent_or_values: Any object with an attribute `q_values`, or such values: `[observations, actions]`.

    Raises:
        InvalidSettingError: Values of another shape, or an environment that cannot draw them.
    """

    def __init__(self, env: gym.Env[Any, Any], agent_or_values: TabularAgent | Any) -> None:
        if not hasattr(env.unwrapped, "show_values"):
            raise InvalidSettingError(f"{env.unwrapped} has no method `show_values` that draws them")
        super().__init__(env)
        self.source = agent_or_values
        self._show()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._show()
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advance by one step."""
        self._show()
        return self.env.step(action)

    def render(self) -> Any:
        """Draw the present state with what is known now."""
        self._show()
        return self.env.render()

    def _show(self) -> None:
        values = self.source.q_values if isinstance(self.source, TabularAgent) else self.source
        self.env.unwrapped.show_values(values)  # type: ignore[attr-defined]
