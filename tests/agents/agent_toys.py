"""Small agents and environments for the tests of this folder."""

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from mbrl_gym.agents import as_sb3_vec_env
from mbrl_gym.models import AnalyticModel

TINY = {
    "learning_starts": 30,
    "train_freq": 20,
    "reward": "exact",
    "model_kwargs": {"hidden": [16], "max_epochs": 4},
    "planner_kwargs": {"horizon": 4, "population": 12, "iterations": 2},
}
FROZEN = {"is_slippery": False}  # of FrozenLake-v1


def native(env_id, num_envs, **kwargs):
    return as_sb3_vec_env(gym.make_vec(env_id, num_envs=num_envs, autoreset_mode="SameStep", **kwargs))


def environment(kind, env_id="mbrl/Arm-v0"):
    """Return a fresh environment of a kind: how it is vectorised, and how many copies."""
    layout, count = kind
    return make_vec_env(env_id, count) if layout == "dummy" else native(env_id, count)


def frozen_lake():
    """Return the equations of FrozenLake-v1 without slipping: the goal is six steps away."""
    env = gym.make("FrozenLake-v1", **FROZEN)
    table = env.unwrapped.P
    following = torch.tensor([[table[s][a][0][1] for a in range(4)] for s in range(16)])
    ends = torch.as_tensor((env.unwrapped.desc == b"H") | (env.unwrapped.desc == b"G")).flatten()
    return AnalyticModel(
        env.observation_space,
        env.action_space,
        dynamics_fn=lambda state, action: following[state, action],
        reward_fn=lambda state, action, after: ((after == 15) & (state != 15)).float(),
        termination_fn=lambda state: ends[state],
    )


class Counter(gym.Env):
    """Observes the steps so far, as a choice and as a number, and the last action; ends after eight steps."""

    observation_space = spaces.Dict(
        {
            "count": spaces.Discrete(10, start=1),
            "last": spaces.MultiDiscrete([3, 4]),
            "position": spaces.Box(-10.0, 10.0, (2,), np.float64),
        }
    )
    action_space = spaces.MultiDiscrete([3, 4], start=[0, 5])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.last = 1, np.array([0, 0])
        return self._observation(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action)), action
        self.count, self.last = self.count + 1, np.asarray(action) - [0, 5]
        return self._observation(), float(self.last.sum()), self.count == 9, False, {}

    def _observation(self):
        return {"count": self.count, "last": self.last, "position": np.array([self.count / 2, -self.count])}


class Offset(gym.Env):
    """Pays for the highest of the actions -1, 0, 1; observes one of the values 7, 8, 9."""

    observation_space = spaces.Discrete(3, start=7)
    action_space = spaces.Discrete(3, start=-1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 7, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        return 8 + int(action), float(action), False, False, {}
