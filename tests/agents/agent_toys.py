"""Small agents and environments for the tests of this folder."""

import gymnasium as gym
from stable_baselines3.common.env_util import make_vec_env

from mbrl_gym.agents import as_sb3_vec_env

TINY = {
    "learning_starts": 30,
    "train_freq": 20,
    "reward": "exact",
    "model_kwargs": {"hidden": [16], "max_epochs": 4},
    "planner_kwargs": {"horizon": 4, "population": 12, "iterations": 2},
}


def native(env_id, num_envs, **kwargs):
    return as_sb3_vec_env(gym.make_vec(env_id, num_envs=num_envs, autoreset_mode="SameStep", **kwargs))


def environment(kind, env_id="mbrl/Arm-v0"):
    """Return a fresh environment of a kind: how it is vectorised, and how many copies."""
    layout, count = kind
    return make_vec_env(env_id, count) if layout == "dummy" else native(env_id, count)
