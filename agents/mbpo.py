"""The Dyna forms of Stable-Baselines3's SAC, TD3 and DQN."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from stable_baselines3 import DQN, SAC, TD3

from .dyna import DynaAgent

__all__ = ["MBPO", "DynaDQN", "DynaTD3"]


class MBPO(DynaAgent, SAC):
    """Model-based policy optimisation (Janner et al. 2019): SAC that learns from branched roll-outs of a world model.

    See `DynaAgent` for its settings; all others are those of `stable_baselines3.SAC`. With `max_disagreement` its
    branches stop where the model does not know better (Pan et al. 2020, "M2AC"), with `disagreement_penalty` it keeps
    away from there (Yu et al. 2020, "MOPO"). Imagined actions are drawn from the policy.
    """

    def _setup_model(self) -> None:
        if self.target_entropy == "auto":  # SAC asks its environment, which a loaded agent may not have
            self.target_entropy = -float(np.prod(self.action_space.shape or ()))
        super()._setup_model()


class DynaTD3(DynaAgent, TD3):
    """TD3 that learns from branched roll-outs of a world model.

    See `DynaAgent` for its settings; all others are those of `stable_baselines3.TD3`. As the policy is deterministic,
    imagined actions get Gaussian noise of standard deviation 0.1 (`rollout_noise`), relative to half the action range;
    real ones that of `action_noise`.
    """

    def _rollout_noise(self) -> float:
        given = self.arguments["rollout_noise"]
        return 0.1 if given is None else given


class DynaDQN(DynaAgent, DQN):
    """DQN that learns from branched roll-outs of a world model.

    See `DynaAgent` for its settings; all others are those of `stable_baselines3.DQN`, of whose defaults those differ
    that are meant for millions of steps (`DynaDQN.defaults`). Imagined actions are random as often as real ones are at
    that time, unless `rollout_noise` tells another share.
    """

    action_kind = spaces.Discrete
    defaults: ClassVar[dict[str, Any]] = {
        "gradient_steps": 10,
        "train_freq": 1,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "target_update_interval": 100,
    }
    attributes = ("_n_calls", "exploration_rate")

    def _rollout_noise(self) -> float:
        given = self.arguments["rollout_noise"]
        return self.exploration_rate if given is None else given
