"""Algorithms that benchmarks know by the names of their classes, and how settings of a file become arguments."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from mbrl_gym.errors import InvalidSettingError, MissingPackageError

from ..base import ModelBasedAgent

__all__ = ["ALGORITHMS", "algorithm_of", "arguments_of", "is_ours", "policy_of", "step_seconds", "training_env"]

OURS = {
    # name: (module, first argument, rough cost of a training step on one core [s])
    "MPC": ("mpc", "iCEM", 0.05),
    "PETS": ("mpc", "CEM", 0.3),
    "MCTS": ("mcts", "UCT", 0.05),
    "MBPO": ("mbpo", "MlpPolicy", 0.15),
    "DynaTD3": ("mbpo", "MlpPolicy", 0.1),
    "DynaDQN": ("mbpo", "MlpPolicy", 0.05),
    "ImaginedPPO": ("imagined_ppo", "MlpPolicy", 0.15),
    "DynaQ": ("dyna_q", "epsilon-greedy", 0.0003),
    "DynaQPlus": ("dyna_q", "epsilon-greedy", 0.0003),
    "PrioritizedSweeping": ("prioritized_sweeping", "epsilon-greedy", 0.0003),
}
BASELINES = {"A2C": 0.0005, "DQN": 0.001, "PPO": 0.001, "SAC": 0.015, "TD3": 0.01}  # cost of a step [s]
CONTRIB = {"CrossQ": 0.02, "TQC": 0.02}  # of sb3-contrib

ALGORITHMS = (*OURS, *BASELINES, *CONTRIB)
"""The names."""

SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf")
NOISES: dict[str, type[Any]] = {"normal": NormalActionNoise, "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise}


def algorithm_of(name: str) -> type[BaseAlgorithm]:
    """Return an algorithm by the name of its class.

    Raises:
        InvalidSettingError: There is none of this name.
        MissingPackageError: It is of a package that is not installed.
    """
    if name in OURS:
        return getattr(importlib.import_module(f"..{OURS[name][0]}", __package__), name)
    if name in BASELINES:
        return getattr(stable_baselines3, name)
    if name not in CONTRIB:
        raise InvalidSettingError(f"there is no algorithm {name!r}: choose from {', '.join(ALGORITHMS)}")
    try:
        return getattr(importlib.import_module("sb3_contrib"), name)
    except ImportError as error:
        raise MissingPackageError(f'{name} needs sb3-contrib: pip install "mbrl-gym[contrib]"') from error


def is_ours(name: str) -> bool:
    """Whether an algorithm is one of this package's, whose runs can be resumed."""
    return name in OURS and issubclass(algorithm_of(name), ModelBasedAgent)


def policy_of(name: str) -> str:
    """Return the usual first argument of an algorithm."""
    return OURS[name][1] if name in OURS else "MlpPolicy"


def step_seconds(name: str) -> float:
    """Return the rough cost of a training step on one core [s], by which the longest runs start first."""
    return OURS[name][2] if name in OURS else {**BASELINES, **CONTRIB}[name]


def training_env(env_id: str, kwargs: Mapping[str, Any], copies: int, normalize: bool, gamma: float) -> Any:
    """Return what an agent trains in.

    Args:
        env_id: The environment.
        kwargs: Arguments of `gym.make`.
        copies: How many run side by side.
        normalize: Whether observations and rewards are normalised by their running moments (`VecNormalize`).
        gamma: Discount of the returns by which rewards are normalised.
    """
    if copies == 1 and not normalize:
        return gym.make(env_id, **kwargs)
    env: VecEnv = DummyVecEnv([lambda: Monitor(gym.make(env_id, **kwargs))] * copies)
    return VecNormalize(env, gamma=gamma) if normalize else env


def arguments_of(settings: Mapping[str, Any], action_space: gym.Space[Any]) -> dict[str, Any]:
    """Return keyword arguments from the settings of a file, which are JSON values.

    `learning_rate` and `clip_range` may be "linear X", which falls from X to 0 in the course of the training;
    `action_noise` is `{kind = "normal" or "ornstein-uhlenbeck", std = X}`, in units of half the action range;
    `train_freq` may be `[4, "episode"]`, `replay_buffer_class` "HerReplayBuffer".

    Raises:
        InvalidSettingError: Another form of these.
    """
    arguments = dict(settings)
    for name in SCHEDULED:
        if isinstance(arguments.get(name), str):
            arguments[name] = _schedule(name, arguments[name])
    if isinstance(arguments.get("train_freq"), list):
        arguments["train_freq"] = tuple(arguments["train_freq"])
    if "replay_buffer_class" in arguments:
        if arguments["replay_buffer_class"] != "HerReplayBuffer":
            given = arguments["replay_buffer_class"]
            raise InvalidSettingError(f'replay_buffer_class must be "HerReplayBuffer", but {given!r} was given')
        arguments["replay_buffer_class"] = HerReplayBuffer
    if "action_noise" in arguments:
        arguments["action_noise"] = _noise(arguments["action_noise"], action_space)
    return arguments


def _schedule(name: str, text: str) -> LinearSchedule:
    kind, _, start = text.partition(" ")
    try:
        if kind == "linear":
            return LinearSchedule(float(start), 0.0, 1.0)
    except ValueError:
        pass
    raise InvalidSettingError(f'{name} must be a number or "linear 0.001", but {text!r} was given')


def _noise(given: Any, action_space: gym.Space[Any]) -> ActionNoise:
    if not isinstance(given, dict) or given.keys() != {"kind", "std"} or given["kind"] not in NOISES:
        kinds = " or ".join(f'"{kind}"' for kind in NOISES)
        raise InvalidSettingError(f"action_noise must be {{kind = {kinds}, std = 0.1}}, but {given!r} was given")
    zeros = np.zeros(action_space.shape or (), np.float32)
    return NOISES[given["kind"]](zeros, zeros + given["std"])
