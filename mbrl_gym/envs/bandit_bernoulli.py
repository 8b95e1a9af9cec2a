"""`mbrl/BanditBernoulli-v0`: the k-armed bandit whose arms pay 1 or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import special

from mbrl_gym.envs.bandit import ArmsParams, Bandit
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.task import Array, Noise, NoiseSizes, as_number, column
from mbrl_gym.errors import InvalidSettingError

__all__ = ["BanditBernoulli", "BanditBernoulliEnv", "BanditBernoulliParams", "BanditBernoulliVectorEnv"]


@dataclass(frozen=True, kw_only=True)
class BanditBernoulliParams(ArmsParams):
    """Constants of the Bernoulli bandit."""

    prob_low: float = 0.0  # the arms' success probabilities are uniform in [prob_low, prob_high]
    prob_high: float = 1.0

    non_negative: ClassVar[tuple[str, ...]] = ("prob_low", "prob_high")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prob_low", "prob_high"):
            if getattr(self, name) > 1:
                raise InvalidSettingError(f"{name} must be at most 1, but {getattr(self, name)} was given")


class BanditBernoulli(Bandit):
    """k arms whose hidden success probabilities are drawn at reset; the reward is 1 (success) or 0.

    State: the k probabilities, the last action one-hot (all zeros before the first pull), the last reward.
    """

    params_class = BanditBernoulliParams
    transition_noise = NoiseSizes(uniform=1)
    reward_bounds = (0.0, 1.0)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if self.highest("prob_low") > self.lowest("prob_high"):
            raise InvalidSettingError(
                f"prob_low must be at most prob_high, but {self.highest('prob_low')} and "
                f"{self.lowest('prob_high')} were given"
            )

    def start_noise(self) -> NoiseSizes:
        """Return one uniform number for each arm."""
        return NoiseSizes(uniform=int(self.params.arms))

    def draw_mean(self, constants: Any, noise: Noise, arm: int) -> Array:
        """Return the success probability of an arm `[...]`."""
        return constants.prob_low + (constants.prob_high - constants.prob_low) * noise.uniform[..., arm]

    def allows(self, state: Array) -> bool:
        """Return whether all probabilities are within [0, 1]."""
        means = self.means(state)
        return bool(np.all((means >= 0) & (means <= 1))) and super().allows(state)

    def pay(self, constants: Any, mean: Array, noise: Noise) -> Array:
        """Return 1 with probability `mean`, 0 otherwise."""
        return as_number(column(noise.uniform, 0) < mean, mean)

    def divergence(self, constants: Any, mean: Array, best: Array) -> Array:
        """Return the Kullback-Leibler divergence `[...]` of the best arm's rewards from an arm's, KL(arm || best)."""
        divergence = special.rel_entr(mean, best) + special.rel_entr(1.0 - mean, 1.0 - best)
        gap = best - mean
        return np.maximum(divergence, 2.0 * gap * gap)  # Pinsker's inequality: what cancellation may break


class BanditBernoulliEnv(TaskEnv):
    """k slot machines that pay 1 or nothing.

    ## Description
    At every reset each arm gets a hidden probability of success, uniform in [0, 1]. Pulling an arm pays 1 with its
    probability and 0 otherwise.

    ## Action Space
    `Discrete(10)`: the arm.

    ## Observation Space
    `Box(0, 1, (11,), float32)`: columns 0 to 9 the last action one-hot (zeros before the first pull); column 10 the
    last reward.

    ## Reward
    0 or 1. `info["regret"]` is the best probability minus the pulled arm's, `info["optimal"]` whether the best arm was
    pulled.

    ## Starting State
    New probabilities; `reset(options={"state": [probabilities, zeros(k), 0]})` sets them.

    ## Episode End
    Truncated after 1,000 pulls; never terminated.

    ## Arguments
    `arms=10`, `prob_low=0.0`, `prob_high=1.0`, `dtype="float32"`; `randomize={name: (low, high)}` draws constants at
    every reset.

    ## Optimum
    Clairvoyant: the best arm at every pull (about 909 on average over the starts). What a learner must lose against
    it is bounded from below by `task.lai_robbins(state) * ln(pulls)`.

    ## Version History
    v0: initial version.
    """

    task_class = BanditBernoulli


class BanditBernoulliVectorEnv(TaskVectorEnv):
    """Many copies of `BanditBernoulliEnv` in one array."""

    task_class = BanditBernoulli
