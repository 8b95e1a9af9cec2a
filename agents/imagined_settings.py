"""What `ImaginedPPO` may be asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import GaussianEnsemble, WorldModel
from mbrl_gym.models.base import check

__all__ = ["PPO_DEFAULTS", "check_actions", "check_held_out", "check_policy", "check_settings"]

PPO_DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "n_steps": 64,
    "batch_size": 256,
    "gamma": 0.99,
    "gae_lambda": 0.9,
}
PPO_SETTINGS = (
    *PPO_DEFAULTS,
    "n_epochs",
    "clip_range",
    "clip_range_vf",
    "normalize_advantage",
    "ent_coef",
    "vf_coef",
    "max_grad_norm",
    "target_kl",
)
LEAST = {
    "learning_starts": 2,
    "train_freq": 1,
    "imagined_envs": 1,
    "updates": 1,
    "check_freq": 1,
    "check_episodes": 1,
    "patience": 1,
}


def check_policy(given: Any) -> None:
    """Refuse what is no actor-critic policy of Stable-Baselines3."""
    if given not in PPO.policy_aliases and not (isinstance(given, type) and issubclass(given, ActorCriticPolicy)):
        names = ", ".join(PPO.policy_aliases)
        raise InvalidSettingError(
            f"policy must be one of {names}, or a class derived from ActorCriticPolicy, but {given!r} was given"
        )


def check_settings(given: dict[str, Any]) -> None:
    """Refuse arguments of `ImaginedPPO` that are out of their range."""
    for name, least in LEAST.items():
        check(given[name] >= least, name, given[name], f"at least {least}")
    horizon, share = given["horizon"], given["improved_share"]
    check(horizon is None or horizon >= 1, "horizon", horizon, "at least 1, or None for the environment's own limit")
    check(0 < share <= 1, "improved_share", share, "above 0 and at most 1")
    unknown = sorted((given["ppo_kwargs"] or {}).keys() - set(PPO_SETTINGS))
    if unknown:
        raise InvalidSettingError(
            f"ppo_kwargs holds {', '.join(map(repr, unknown))}, but ImaginedPPO takes {', '.join(sorted(PPO_SETTINGS))}"
        )


def check_held_out(model: WorldModel, held_out: int) -> None:
    """Refuse to hold out more members than leave one to train in."""
    most = model.elites - 1 if isinstance(model, GaussianEnsemble) else 0
    check(0 <= held_out <= most, "held_out", held_out, f"between 0 and {most}, so that a member is left to train in")


def check_actions(space: spaces.Space[Any]) -> None:
    """Refuse choices that do not count from 0."""
    starts = getattr(space, "start", 0)
    if np.any(starts):
        raise UnsupportedSpaceError(
            f"Stable-Baselines3's policies count choices from 0, but the action space is {space}"
        )
