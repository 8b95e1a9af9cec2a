"""An environment whose pictures show what an agent imagines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np

from mbrl_gym.errors import InvalidSettingError

__all__ = ["Decision", "PlanningAgent", "ShowPlans"]


class Decision(NamedTuple):
    """What an agent does next, and what it expects of that."""

    action: Any  # [A], or an integer
    state: Any  # the agent's recurrent state for its next decision, as `predict` returns it
    plans: np.ndarray[Any, Any]  # [K, H, O] observations that it expects of K plans, best first
    particles: np.ndarray[Any, Any] | None = None  # [P, H, O] what P particles or members expect of the best plan


@runtime_checkable
class PlanningAgent(Protocol):
    """An agent that tells what it imagines."""

    def decide(self, observation: Any, state: Any = None, episode_start: Any = None) -> Decision:
        """Return the action that `predict(..., deterministic=True)` returns, and what the agent expects of it.

        Args:
            observation: One observation `[O]`.
            state: The state of the last decision, or None.
            episode_start: `[1]` bool, whether an episode starts here.
        """
        ...


class ShowPlans(gym.Wrapper[Any, Any, Any, Any]):
    """Draws over every picture what an agent would do next, with the uncertainty of its model.

    The agent decides anew for every picture, from a chain of decisions of its own: the plan shown is the one that
    `predict(observation, state, episode_start, deterministic=True)` makes. Loops that take their actions from `decide`
    plan once a step; others, `evaluate_policy` for example, may go on with `predict`:

        env = RecordVideo(ShowPlans(gym.make("mbrl/Arm-v0", render_mode="rgb_array"), agent), "videos")

    Args:
        env: An environment of this package, in mode "human" or "rgb_array", with the observations that the agent takes.
        agent: Any object with a method `decide`, e.g. an `MPC`.

    Raises:
        InvalidSettingError: An agent that does not tell what it imagines, or an environment that cannot draw it.
    """

    def __init__(self, env: gym.Env[Any, Any], agent: PlanningAgent) -> None:
        if not isinstance(agent, PlanningAgent):
            raise InvalidSettingError(f"{type(agent).__name__} has no method `decide` that tells what it imagines")
        if not hasattr(env.unwrapped, "imagine"):
            raise InvalidSettingError(f"{env.unwrapped} has no method `imagine` that draws plans")
        super().__init__(env)
        self.agent = agent
        self._observation: Any = None
        self._state: Any = None  # the agent's, of the last decision
        self._start = np.ones(1, np.bool_)
        self._decision: Decision | None = None  # for the present observation
        self._ended = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        with self._without_window():
            observation, info = self.env.reset(seed=seed, options=options)
        self._state, self._decision, self._start = None, None, np.ones(1, np.bool_)
        self._observation, self._ended = observation, False
        self._show()
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advance by one step."""
        if not self._ended:
            self._state = self._decide().state
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._decision, self._start = None, np.zeros(1, np.bool_)
        self._observation, self._ended = observation, terminated or truncated
        self._show()
        return observation, reward, terminated, truncated, info

    def render(self) -> Any:
        """Draw the present state with the plan for it."""
        self._draw_plan()
        return self.env.render()

    def decide(self) -> Any:
        """Return the agent's action for the present observation.

        Raises:
            gymnasium.error.ResetNeeded: The environment was never reset.
        """
        if self._observation is None:
            raise gym.error.ResetNeeded("call reset() before decide()")
        return self._decide().action

    def move_target(self, point: Any) -> Any:
        """Move the target of the running episode (see `TaskEnv.move_target`); the agent decides anew."""
        moved = self.env.unwrapped.move_target(point)  # type: ignore[attr-defined]
        self._observation, self._decision = moved, None
        return moved

    def _decide(self) -> Decision:
        if self._decision is None:
            self._decision = self.agent.decide(self._observation, self._state, self._start)
        return self._decision

    @contextlib.contextmanager
    def _without_window(self) -> Iterator[None]:
        """Keep the environment from showing a start, whose plan is not known yet: one picture a state is enough."""
        env: Any = self.env.unwrapped
        mode = env.render_mode
        if mode == "human":
            env.render_mode = "rgb_array"  # draws when asked
        try:
            yield
        finally:
            env.render_mode = mode

    def _show(self) -> None:
        if self.render_mode == "human":  # where nobody need call `render`
            self.render()

    def _draw_plan(self) -> None:
        env: Any = self.env.unwrapped
        if self._ended:
            env.imagine(None)
        else:
            decision = self._decide()
            env.imagine(decision.plans, decision.particles)
