"""Snapshots of Stable-Baselines3 environments, so that a resumed run continues in the middle of its episodes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import wrappers
from gymnasium.envs import classic_control
from gymnasium.wrappers.common import OrderEnforcing, PassiveEnvChecker
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from .vec_env import VectorEnvAdapter

__all__ = ["restore_env", "snapshot_env"]

WRAPPER_STATE: dict[type, tuple[str, ...]] = {
    # Attributes that decide how a wrapper goes on; wrappers that have none are listed, too.
    OrderEnforcing: ("_has_reset",),
    PassiveEnvChecker: (),
    wrappers.TimeLimit: ("_elapsed_steps",),
    wrappers.ClipAction: (),
    wrappers.RescaleAction: (),
    wrappers.FlattenObservation: (),
    wrappers.RescaleObservation: (),
    wrappers.DtypeObservation: (),
    wrappers.FilterObservation: (),
    wrappers.DiscretizeObservation: (),
    wrappers.DiscretizeAction: (),
    Monitor: (
        "rewards",
        "needs_reset",
        "episode_returns",
        "episode_lengths",
        "episode_times",
        "total_steps",
    ),
}
INNERMOST_STATE: dict[type, tuple[str, ...]] = {
    # Those of Gymnasium's environments that have no `get_state`, but whose future a few attributes decide.
    classic_control.AcrobotEnv: ("state",),
    classic_control.CartPoleEnv: ("state", "steps_beyond_terminated"),
    classic_control.Continuous_MountainCarEnv: ("state",),
    classic_control.MountainCarEnv: ("state",),
    classic_control.PendulumEnv: ("state", "last_u"),
}
VEC_MONITOR_STATE = ("episode_count", "episode_returns", "episode_lengths")


def snapshot_env(env: VecEnv) -> dict[str, Any] | None:
    """Return everything that decides an environment's future, or None if it cannot be had.

    It can be had where the innermost environment has `get_state` (all of this package's have) or is one of
    Gymnasium's classic control tasks, and every wrapper around it is known.
    """
    if isinstance(env, VecMonitor):
        inner = snapshot_env(env.venv)
        return None if inner is None else {"inner": inner, **_attributes(env, VEC_MONITOR_STATE)}
    if isinstance(env, VectorEnvAdapter):
        get_state = getattr(env.vector_env, "get_state", None)
        return None if get_state is None else {"rows": get_state()}
    if type(env) is not DummyVecEnv:
        return None
    states = [_snapshot_single(single) for single in env.envs]
    return None if None in states else {"envs": states}


def restore_env(env: VecEnv, snapshot: dict[str, Any]) -> bool:
    """Restore a snapshot; return False (and change nothing) if the environment is built differently."""
    if not _same_structure(snapshot_env(env), snapshot):
        return False
    if isinstance(env, VecMonitor):
        restore_env(env.venv, snapshot["inner"])
        _set_attributes(env, snapshot)
    elif isinstance(env, VectorEnvAdapter):
        env.env_method("set_state", snapshot["rows"], indices=0)
    elif isinstance(env, DummyVecEnv):
        for single, state in zip(env.envs, snapshot["envs"], strict=True):
            _restore_single(single, state)
    return True


def _chain(env: gym.Env[Any, Any]) -> list[gym.Env[Any, Any]]:
    layers = [env]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    return layers


def _snapshot_single(env: gym.Env[Any, Any]) -> dict[str, Any] | None:
    *layers, innermost = _chain(env)
    known = hasattr(innermost, "get_state") or type(innermost) in INNERMOST_STATE
    if not known or any(type(layer) not in WRAPPER_STATE for layer in layers):
        return None
    return {
        "names": [type(layer).__name__ for layer in layers],
        "layers": [_attributes(layer, WRAPPER_STATE[type(layer)]) for layer in layers],
        "innermost": _innermost_state(innermost),
    }


def _restore_single(env: gym.Env[Any, Any], state: dict[str, Any]) -> None:
    *layers, innermost = _chain(env)
    for layer, attributes in zip(layers, state["layers"], strict=True):
        _set_attributes(layer, attributes)
        if isinstance(layer, PassiveEnvChecker):  # it would compare the next step with a reset that it has not seen
            layer.checked_reset = layer.checked_step = layer.checked_data_reuse = True
    if type(innermost) in INNERMOST_STATE:
        _set_attributes(innermost, state["innermost"]["attributes"])
        innermost.np_random.bit_generator.state = state["innermost"]["generator"]
    else:
        innermost.set_state(state["innermost"])  # type: ignore[attr-defined]


def _innermost_state(env: gym.Env[Any, Any]) -> Any:
    if type(env) not in INNERMOST_STATE:
        return env.get_state()  # type: ignore[attr-defined]
    return {
        "attributes": {name: getattr(env, name, None) for name in INNERMOST_STATE[type(env)]},
        "generator": env.np_random.bit_generator.state,
    }


def _same_structure(mine: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    if mine is None or mine.keys() != other.keys():
        return False
    if "inner" in mine:
        return _same_structure(mine["inner"], other["inner"])
    if "rows" in mine:
        return len(mine["rows"]["steps"]) == len(other["rows"]["steps"])
    return [state["names"] for state in mine["envs"]] == [state["names"] for state in other["envs"]]


def _attributes(layer: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in names}


def _set_attributes(layer: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name != "inner":
            setattr(layer, name, value)
