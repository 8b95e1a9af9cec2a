"""Small Dyna agents for the tests of this folder."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from mbrl_gym.agents import MBPO, DynaDQN, DynaTD3


def small():
    """Return settings of a small algorithm; Stable-Baselines3 writes into those that are dicts."""
    return {
        "policy_kwargs": {"net_arch": [16, 16]},
        "learning_starts": 40,
        "buffer_size": 3000,
        "batch_size": 16,
        "device": "cpu",
    }


TINY_DYNA = {
    "gradient_steps": 2,
    "train_freq": 1,
    "model_kwargs": {"hidden": [16], "max_epochs": 4},
    "model_train_freq": 50,
    "rollout_freq": 25,
    "rollout_batch": 60,
    "rollout_length": [1, 3, 40, 100],
    "model_retain": 2,
}
CLASSES = {MBPO: "mbrl/Drift-v0", DynaTD3: "mbrl/Arm-v0", DynaDQN: "mbrl/Bandit-v0"}
"""An environment for each class."""


def dyna(kind, env=None, seed=3, **settings):
    """Return a small agent."""
    return kind("MlpPolicy", CLASSES[kind] if env is None else env, seed=seed, **{**small(), **TINY_DYNA, **settings})


def weights(agent):
    """Return all that an agent has learned, by name."""
    model = {} if agent.world_model is None else agent.world_model.state_dict()
    return {**agent.policy.state_dict(), **{f"model.{name}": value for name, value in model.items()}}


class Corridor(gym.Env):
    """Position 0 to 3 as a float; right (1) or left (0). Stepping beyond 3 pays 1 and ends the episode."""

    observation_space = spaces.Box(-1.0, 4.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0.0
        return self._observation(), {}

    def step(self, action):
        self.place = max(self.place + (1.0 if action == 1 else -1.0), 0.0)
        ends = self.place > 3.5
        return self._observation(), float(ends), ends, False, {}

    def _observation(self):
        return np.array([self.place], np.float32)
