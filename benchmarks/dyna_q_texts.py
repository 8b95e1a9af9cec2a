"""Learning curves of Dyna-Q and Q-learning on Gymnasium's toy texts, evaluated exactly; for `benchmarks/dyna_q.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from mbrl_gym.agents import DynaQ

Array = np.ndarray[Any, Any]

GREEDY, SURE = ("epsilon-greedy", 0.1), ("UCB", 0.1)
TEXTS: dict[str, dict[str, Any]] = {
    # Q-learning's steps, steps between evaluations, and both agents' exploration and learning rate. Taxi has pairs of
    # state and action that random actions hardly ever meet, and whose values its last hundredths take: UCB tries all.
    "FrozenLake8x8-v1": {"id": "FrozenLake8x8-v1", "steps": 200_000, "every": 500, "learns": (GREEDY, GREEDY)},
    "Taxi": {"id": "Taxi", "steps": 300_000, "every": 250, "learns": (SURE, SURE)},
    "CliffWalking-v1": {"id": "CliffWalking-v1", "steps": 20_000, "every": 50, "learns": (GREEDY, GREEDY)},
    # Nothing is random in these two, so that Q-learning does best with large learning rates.
    "Taxi-fast": {"id": "Taxi", "steps": 100_000, "every": 250, "learns": (("epsilon-greedy", 0.5), SURE)},
    "CliffWalking-v1-fast": {
        "id": "CliffWalking-v1",
        "steps": 20_000,
        "every": 50,
        "learns": (("epsilon-greedy", 1.0), ("epsilon-greedy", 0.5)),
    },
}
HORIZON = 200  # steps of an evaluated episode, the limit of FrozenLake8x8 and Taxi


class GreedyReturn:
    """The exact expected return of a policy in a toy text, from its table of probabilities, in HORIZON steps."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        table: Any = env.unwrapped.P  # type: ignore[attr-defined]
        self.start: Array = np.asarray(env.unwrapped.initial_state_distrib)  # type: ignore[attr-defined]
        states, actions = len(table), len(table[0])
        self.goes_on, self.reward = np.zeros((states, actions, states)), np.zeros((states, actions))
        for state, action in np.ndindex(states, actions):
            for probability, following, reward, terminated in table[state][action]:
                self.reward[state, action] += probability * reward
                self.goes_on[state, action, following] += probability * (not terminated)

    def __call__(self, actions: Array) -> float:
        """Return the expected return of always taking these actions `[S]`."""
        rows = np.arange(len(actions))
        goes_on, reward = self.goes_on[rows, actions], self.reward[rows, actions]
        values = np.zeros(len(actions))
        for _ in range(HORIZON):
            values = reward + goes_on @ values
        return float(self.start @ values)


class Curve(BaseCallback):
    """Evaluates the greedy policy every so many steps, and stops where it reaches a target."""

    def __init__(self, evaluate: GreedyReturn, every: int, target: float) -> None:
        super().__init__()
        self.evaluate, self.every, self.target = evaluate, every, target
        self.steps: list[int] = []
        self.returns: list[float] = []

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps % self.every == 0 and self.model.num_timesteps:
            self._keep()

    def _on_training_end(self) -> None:
        if not self.steps or self.steps[-1] != self.model.num_timesteps:
            self._keep()

    def _keep(self) -> None:
        self.steps.append(self.model.num_timesteps)
        self.returns.append(self.evaluate(self.model.q_values.argmax(1)))  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        return not self.returns or self.returns[-1] < self.target - 1e-9


def text_id(name: str) -> str:
    """Return the id of a toy text in the version that this Gymnasium has."""
    if "-v" in name:
        return name
    versions = [spec.version or 0 for spec in gym.registry.values() if spec.name == name and not spec.namespace]
    return f"{name}-v{max(versions)}"


def text_curve(name: str, planning_steps: int, target: float, seed: int) -> tuple[list[int], list[float]]:
    """Return steps and returns of one run's evaluations, of Q-learning where there are no planning steps."""
    given = TEXTS[name]
    env = gym.make(text_id(given["id"]), disable_env_checker=True)
    curve = Curve(GreedyReturn(env), given["every"], target)
    exploration, rate = given["learns"][planning_steps > 0]
    agent = DynaQ(exploration, env, planning_steps=planning_steps, learning_rate=rate, seed=seed)
    agent.learn(given["steps"], callback=curve, log_interval=None)  # type: ignore[arg-type]
    return curve.steps, curve.returns


def first_at(steps: Sequence[int], returns: Sequence[float], target: float) -> float:
    """Return the steps of the first evaluation that reaches a target; inf if none does."""
    return next((step for step, value in zip(steps, returns, strict=True) if value >= target - 1e-9), np.inf)
