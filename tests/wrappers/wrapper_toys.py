"""Environments and models that are simple enough to know what wrappers should make of them."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from mbrl_gym.models import FitReport, Prediction, Transitions, WorldModel
from mbrl_gym.noise import NoiseSizes

LADDER_SPACES: dict[str, spaces.Space] = {
    "Box": spaces.Box(-9.0, 9.0, (2,), np.float32),
    "Discrete": spaces.Discrete(7, start=-3),
    "MultiDiscrete": spaces.MultiDiscrete([7, 2], start=[-3, 0]),
    "Dict": spaces.Dict({"height": spaces.Box(-9.0, 9.0, (1,), np.float32), "odd": spaces.Discrete(2)}),
    "Tuple": spaces.Tuple((spaces.Discrete(7, start=-3), spaces.Box(-9.0, 9.0, (1,), np.float32))),
}


class Ladder(gym.Env):
    """Climbs up (1) or down (0) from a height in -1, 0, 1 until it is at 3 or -3; the reward is the height.

    Args:
        kind: One of `LADDER_SPACES`.
        reuse: Whether to write Box observations into one and the same array.
    """

    def __init__(self, kind: str = "Box", reuse: bool = False) -> None:
        self.observation_space = LADDER_SPACES[kind]
        self.action_space = spaces.Discrete(2)
        self.kind, self.reuse = kind, reuse
        self.height = self.steps = 0
        self.array = np.zeros(2, np.float32)

    def observe(self) -> Any:
        height, odd = self.height, self.steps % 2
        if self.kind == "Box":
            self.array[:] = height, odd
            return self.array if self.reuse else self.array.copy()
        return {
            "Discrete": height,
            "MultiDiscrete": np.array([height, odd]),
            "Dict": {"height": np.array([height], np.float32), "odd": odd},
            "Tuple": (height, np.array([odd], np.float32)),
        }[self.kind]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.height, self.steps = int(self.np_random.integers(-1, 2)), 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.height += 1 if action else -1
        self.steps += 1
        return self.observe(), float(self.height), abs(self.height) == 3, False, {}


def ladder(kind: str = "Box", limit: int = 8, reuse: bool = False) -> gym.Env:
    return gym.wrappers.TimeLimit(Ladder(kind, reuse), limit)


def assert_checker_is_silent(env: gym.Env) -> None:
    """Run Gymnasium's checker on a wrapped CartPole; it may note the wrapper, and CartPole's unbounded velocities."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
    notes = ("infinity", "different from the unwrapped version")
    assert [str(each.message) for each in said if not any(note in str(each.message) for note in notes)] == []


class Drift(WorldModel):
    """Expects the mean change and the mean reward of the data it was last fitted to.

    Keeps what it was fitted to in `seen`; its uncertainty is (1 + action) / number of fits.
    """

    noise_sizes = NoiseSizes()

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        super().__init__(observation_space, action_space)
        self.arguments = {}
        self.seen: list[Transitions] = []
        self.mean = torch.zeros(self.observation_size + 1)

    @property
    def fitted(self) -> bool:
        return bool(self.seen)

    def start(self, observation: torch.Tensor, particles: int = 1) -> Any:
        return observation.expand(particles, *observation.shape)

    def step(self, state: Any, action: torch.Tensor, noise: Any = None) -> Prediction:
        following = state + self.mean[:-1]
        reward = self.mean[-1].expand(state.shape[:2])
        return Prediction(following, following, reward, torch.zeros_like(reward, dtype=torch.bool))

    def fit(self, transitions: Transitions) -> FitReport:
        self.seen.append(transitions)
        self.mean = self.targets(transitions).mean(0).float()
        return FitReport(len(transitions.reward), 1, 1, 0.0, (0.0,), (0,), 0.5)

    def uncertainty(self, observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return (1 + action.float()) / len(self.seen)
