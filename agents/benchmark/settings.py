"""The agents that benchmarks know by name: what they take, their settings, and their files."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

import mbrl_gym
from mbrl_gym.errors import DamagedFileError, InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.saved import read_archive
from mbrl_gym.models.spaces import check_action_space, check_observation_space, leaves

from ..mpc import MPC, PETS

__all__ = [
    "AGENTS",
    "SETTINGS",
    "AgentKind",
    "brief",
    "check_agent",
    "check_env",
    "full_id",
    "load_agent",
    "make_agent",
    "settings_of",
]

Space = spaces.Space[Any]
Env = gym.Env[Any, Any]


@dataclass(frozen=True)
class AgentKind:
    """An agent by its name."""

    algorithm: type[BaseAlgorithm]
    policy: str  # the algorithm's first argument
    actions: tuple[type[Space], ...]  # kinds of action space that it can handle
    step_seconds: float  # rough cost of a training step on one core, to start the longest runs first [s]

    @property
    def plans(self) -> bool:
        """Whether it is one of this package's planning agents."""
        return issubclass(self.algorithm, MPC)


AGENTS = {
    "mpc": AgentKind(MPC, "iCEM", (spaces.Box, spaces.Discrete, spaces.MultiDiscrete), 0.03),
    "pets": AgentKind(PETS, "CEM", (spaces.Box, spaces.Discrete, spaces.MultiDiscrete), 0.3),
    "ppo": AgentKind(PPO, "MlpPolicy", (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary), 0.001),
    "sac": AgentKind(SAC, "MlpPolicy", (spaces.Box,), 0.015),
    "td3": AgentKind(TD3, "MlpPolicy", (spaces.Box,), 0.01),
    "dqn": AgentKind(DQN, "MlpPolicy", (spaces.Discrete,), 0.001),
}
"""The agents by name. Those of Stable-Baselines3 run with its default settings."""

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "mpc": {
        "mbrl/Drift-v0": {"learning_starts": 25, "train_freq": 25, "planner_kwargs": {"horizon": 3}},
        "mbrl/Arm-v0": {"exploration": 0.9, "model_kwargs": {"max_epochs": 300, "patience": 25}},
        "mbrl/Drone-v0": {"learning_starts": 50, "planner_kwargs": {"horizon": 20}},
        "CartPole-v1": {"learning_starts": 50},
    },
    "pets": {
        "mbrl/Drift-v0": {"learning_starts": 25, "train_freq": 25, "planner_kwargs": {"horizon": 3}},
        "mbrl/Arm-v0": {"learning_starts": 50, "train_freq": 50, "planner_kwargs": {"horizon": 15}},
        "mbrl/Drone-v0": {"learning_starts": 50, "train_freq": 50, "planner_kwargs": {"horizon": 25}},
    },
}
"""Keyword arguments of the planning agents, by agent and environment; elsewhere they run with their defaults."""

OBSERVATIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)  # that "MlpPolicy" takes


def settings_of(name: str, env_id: str) -> dict[str, Any]:
    """Return the keyword arguments of an agent in an environment, all of them JSON values.

    Planning agents take the reward of this package's tasks as given and learn it elsewhere. All agents run on the
    processor: their networks are too small to gain from a GPU, and their times are comparable.
    """
    kwargs: dict[str, Any] = {"policy": AGENTS[name].policy, "device": "cpu"}
    if AGENTS[name].plans:
        kwargs["reward"] = "exact" if env_id in mbrl_gym.env_ids() else "learned"
    return {**kwargs, **SETTINGS.get(name, {}).get(env_id, {})}


def make_agent(name: str, env: Env, env_id: str, seed: int, **overrides: Any) -> BaseAlgorithm:
    """Make an agent that trains in `env`.

    Args:
        name: One of `AGENTS`.
        env: Where to train; Stable-Baselines3 wraps it in a `Monitor`.
        env_id: The environment's id, by which its settings are found.
        seed: Seeds the agent and its environment.
        **overrides: Keyword arguments that replace those of `settings_of`.

    Raises:
        InvalidSettingError: No such agent, or a setting out of its range.
        UnsupportedSpaceError: A space that the agent cannot handle; names the agents that can.
    """
    check_agent(name, env, env_id)
    return AGENTS[name].algorithm(env=env, seed=seed, **{**settings_of(name, env_id), **overrides})


def check_env(env_id: str, **kwargs: Any) -> Env:
    """Make an environment.

    Raises:
        InvalidSettingError: There is none of this id, or it cannot be made.
    """
    try:
        return gym.make(env_id, **kwargs)
    except (gym.error.Error, ImportError) as error:
        hint = "`mbrl-gym envs` lists this package's ids, and any other id that Gymnasium knows will do"
        raise InvalidSettingError(f"cannot make {env_id!r}: {str(error).rstrip('. ')}; {hint}") from error


def full_id(env: Env, env_id: str) -> str:
    """Return the id by which `env` was made, with its version; `module:` stays in front of other packages' ids."""
    assert env.spec is not None
    module, colon, _ = env_id.rpartition(":")
    return env.spec.id if env.spec.id in mbrl_gym.env_ids() else f"{module}{colon}{env.spec.id}"


def check_agent(name: str, env: Env, env_id: str) -> None:
    """Refuse an agent that does not exist or cannot handle an environment's spaces."""
    if name not in AGENTS:
        raise InvalidSettingError(f"there is no agent {name!r}: choose from {', '.join(AGENTS)}")
    observations, actions = env.observation_space, env.action_space
    if _fits(name, observations, actions):
        return
    fitting = [other for other in AGENTS if _fits(other, observations, actions)]
    if fitting:
        advice = f"agents that can are {', '.join(fitting)}"
    elif not isinstance(observations, OBSERVATIONS):
        advice = "no agent here can; gymnasium.wrappers.FlattenObservation makes flat observations"
    else:
        advice = "no agent here can; finite bounds come from gymnasium.wrappers.RescaleAction or ClipAction"
    raise UnsupportedSpaceError(
        f"{name} cannot handle {env_id} (observations {brief(observations)}, actions {brief(actions)}): {advice}"
    )


def brief(space: Space) -> str:
    """Write a space without the bounds of its columns."""
    if isinstance(space, spaces.Dict):
        return f"Dict({', '.join(f'{name}: {brief(part)}' for name, part in space.items())})"
    return f"Box{space.shape}" if isinstance(space, spaces.Box) else str(space)


def _fits(name: str, observations: Space, actions: Space) -> bool:
    kind = AGENTS[name]
    if kind.plans:
        return _can_be_planned(observations, actions)
    if not isinstance(actions, kind.actions) or not isinstance(observations, OBSERVATIONS):
        return False
    if isinstance(actions, spaces.Box) and not actions.is_bounded():
        return False
    return not isinstance(actions, spaces.Discrete) or actions.start == 0  # Stable-Baselines3 counts from 0


def _can_be_planned(observations: Space, actions: Space) -> bool:
    try:
        check_observation_space(observations)
        check_action_space(actions)
    except UnsupportedSpaceError:
        return False
    nested = isinstance(observations, spaces.Dict) and any(len(path) > 1 for path, _ in leaves(observations))
    return not (isinstance(observations, spaces.Tuple) or nested)  # which Stable-Baselines3 does not take


def load_agent(path: str | Path, algorithm: str | None = None) -> BaseAlgorithm:
    """Load an agent of this package, or with `algorithm` one of Stable-Baselines3.

    Files of this package name their class, and nothing in them is run. Those of Stable-Baselines3 do not, and hold
    pickled code: give their algorithm, and load only files that you trust.

    Args:
        path: The file.
        algorithm: "ppo", "sac", "td3" or "dqn" for a file of Stable-Baselines3.

    Raises:
        InvalidSettingError: There is no such file or algorithm.
        DamagedFileError: The file is damaged or holds something else.
    """
    path = Path(path)
    others = [name for name, kind in AGENTS.items() if not kind.plans]
    if algorithm is not None and algorithm not in others:
        raise InvalidSettingError(f"there is no algorithm {algorithm!r}: choose from {', '.join(others)}")
    if not path.exists():
        raise InvalidSettingError(f"there is no file {path}")
    if algorithm is None:
        return _load_ours(path, others)
    if _holds(path, "content.json"):
        raise InvalidSettingError(f"{path} is a file of this package: load it without naming an algorithm")
    try:
        return AGENTS[algorithm].algorithm.load(path, device="cpu")
    except Exception as error:  # unpickling can raise anything
        raise DamagedFileError(
            f"{path} is damaged or of another algorithm: Stable-Baselines3's {algorithm} cannot load it ({error})"
        ) from error


def _load_ours(path: Path, others: list[str]) -> BaseAlgorithm:
    if _holds(path, "_stable_baselines3_version"):
        raise InvalidSettingError(
            f"{path} is a file of Stable-Baselines3, which holds pickled code: if you trust it, name its algorithm "
            f"(--algo {'|'.join(others)})"
        )
    name, _ = read_archive(path)
    classes = {kind.algorithm.__name__: kind.algorithm for kind in AGENTS.values() if kind.plans}
    if name not in classes:
        raise DamagedFileError(f"{path} holds a {name}, not an agent: {' or '.join(classes)}")
    return classes[name].load(path, device="cpu")


def _holds(path: Path, member: str) -> bool:
    """Whether the file is a zip archive with such a member."""
    try:
        with zipfile.ZipFile(path) as archive:
            return member in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
