"""What decides how an algorithm of Stable-Baselines3 trains on, beside its policy, as plain data for files."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from .optimizers import optimizer_state, restore_optimizer

__all__ = ["noise_state", "restore_noise", "restore_training", "training_state"]


def training_state(algorithm: OffPolicyAlgorithm, attributes: Sequence[str] = ()) -> dict[str, Any]:
    """Return the state of optimisers, of tensors outside of the policy, and some numbers.

    Args:
        algorithm: Names its optimisers and tensors as for Stable-Baselines3's own files.
        attributes: The numbers.
    """
    modules, variables = algorithm._get_torch_save_params()
    return {
        "optimisers": {name: optimizer_state(attrgetter(name)(algorithm)) for name in modules if name != "policy"},
        "variables": {name: attrgetter(name)(algorithm) for name in variables},
        "attributes": {name: getattr(algorithm, name) for name in attributes},
    }


def restore_training(algorithm: OffPolicyAlgorithm, state: dict[str, Any]) -> None:
    """Restore what `training_state` returned, and a file may have held in between."""
    for name, values in state["optimisers"].items():
        restore_optimizer(attrgetter(name)(algorithm), values)
    with torch.no_grad():
        for name, value in state["variables"].items():
            attrgetter(name)(algorithm).copy_(value)
    for name, value in state["attributes"].items():
        setattr(algorithm, name, value)


def noise_state(algorithm: OffPolicyAlgorithm) -> list[Any]:
    """Return what the action noise of each environment remembers: an Ornstein-Uhlenbeck process its last value."""
    return [getattr(noise, "noise_prev", None) for noise in _noises(algorithm.action_noise)]


def restore_noise(algorithm: OffPolicyAlgorithm, state: list[Any]) -> None:
    """Restore what `noise_state` returned, for the same number of environments."""
    for noise, before in zip(_noises(algorithm.action_noise), state, strict=True):
        if before is not None:
            noise.noise_prev = before  # type: ignore[attr-defined]


def _noises(noise: ActionNoise | None) -> list[ActionNoise]:
    """Return the noise of each environment."""
    if isinstance(noise, VectorizedActionNoise):
        return list(noise.noises)
    return [] if noise is None else [noise]
