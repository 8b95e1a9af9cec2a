"""What Dyna agents take: settings of their own and of their algorithms, and spaces."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from gymnasium import spaces

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import LEARNED_MODELS
from mbrl_gym.models.base import check, check_action_space

from .world_models import check_function, check_model

__all__ = ["check_arguments", "check_spaces", "own_settings"]

Space = spaces.Space[Any]

REFUSED: dict[str, tuple[Any, str]] = {
    "replay_buffer_class": (None, "real and imagined transitions are mixed by a buffer of its own"),
    "optimize_memory_usage": (False, "its buffer keeps next observations apart"),
    "n_steps": (1, "imagined transitions are single steps"),
    "use_sde": (False, "state-dependent exploration draws noise where the agent's own random streams do not reach"),
    "use_sde_at_warmup": (False, "it has no state-dependent exploration"),
    "sde_sample_freq": (-1, "it has no state-dependent exploration"),
}
"""Settings of Stable-Baselines3's algorithms that a Dyna agent takes at their defaults only, and why."""


def own_settings(agent: type, algorithm: type, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that go to the algorithm.

    Args:
        agent: The Dyna form.
        algorithm: That of Stable-Baselines3.
        settings: Those that are no arguments of the Dyna form.

    Raises:
        InvalidSettingError: A setting that the algorithm does not have, or that its Dyna form does not take.
    """
    own = ("self", "policy", "env", "seed", "settings", "_init_setup_model", *REFUSED)
    allowed = [name for name in inspect.signature(algorithm).parameters if name not in own]
    for name, value in settings.items():
        default, why = REFUSED.get(name, (value, ""))
        if value != default:
            raise InvalidSettingError(f"{agent.__name__} does not take {name}={value!r}: {why}")
        if name not in allowed and name not in REFUSED:
            mine = [name for name in inspect.signature(agent).parameters if name not in own]
            names = ", ".join(sorted([*allowed, *mine]))
            raise InvalidSettingError(f"there is no setting {name!r}: {agent.__name__} takes {names}")
    return {name: value for name, value in settings.items() if name not in REFUSED}


def check_arguments(
    *,
    model: Any,
    real_ratio: float,
    rollout_batch: int,
    rollout_freq: int | None,
    rollout_noise: float | None,
    model_train_freq: int,
    model_retain: int,
    max_disagreement: float | None,
    disagreement_penalty: float,
    **others: Any,
) -> None:
    """Refuse arguments of a Dyna agent that are out of their range."""
    if model is not None:
        check_model(model, LEARNED_MODELS)
    elif real_ratio != 1:
        raise InvalidSettingError(f"without a model real_ratio must be 1, but {real_ratio} was given")
    for name in ("dynamics", "reward", "termination"):
        check_function(name, others[name])
    check(0 <= real_ratio <= 1, "real_ratio", real_ratio, "in [0, 1]")
    check(rollout_batch >= 1, "rollout_batch", rollout_batch, "at least 1")
    check(rollout_freq is None or rollout_freq >= 1, "rollout_freq", rollout_freq, "at least 1, or None")
    check(rollout_noise is None or rollout_noise >= 0, "rollout_noise", rollout_noise, "at least 0, or None")
    check(model_train_freq >= 1, "model_train_freq", model_train_freq, "at least 1")
    check(model_retain >= 1, "model_retain", model_retain, "at least 1")
    positive = max_disagreement is None or max_disagreement > 0
    check(positive, "max_disagreement", max_disagreement, "greater than 0, or None")
    check(disagreement_penalty >= 0, "disagreement_penalty", disagreement_penalty, "at least 0")


def check_spaces(agent: str, action_kind: type[Space], observation_space: Space, action_space: Space) -> None:
    """Refuse an environment's spaces by name.

    Args:
        agent: Name of the agent.
        action_kind: The kind of actions that its algorithm takes.
        observation_space: The environment's.
        action_space: Likewise.

    Raises:
        UnsupportedSpaceError: Observations that are no flat Box of floats, or actions of another kind; names what would
            work.
    """
    flat = isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 1
    if not flat or not np.issubdtype(observation_space.dtype, np.floating):
        raise UnsupportedSpaceError(
            f"{agent} takes flat Boxes of floats as observations, but the observation space is {observation_space}: "
            "gymnasium.wrappers.FlattenObservation makes a flat Box of Dict, Tuple and higher Box spaces, and MPC "
            "takes choices and Dict observations as they are"
        )
    if not isinstance(action_space, action_kind):
        raise UnsupportedSpaceError(
            f"{agent} takes {action_kind.__name__} actions, but the action space is {action_space}: MBPO and DynaTD3 "
            "take Box, DynaDQN takes Discrete ones"
        )
    check_action_space(action_space)
    if isinstance(action_space, spaces.Discrete) and action_space.start != 0:
        raise UnsupportedSpaceError(f"Stable-Baselines3 counts actions from 0, but the action space is {action_space}")
