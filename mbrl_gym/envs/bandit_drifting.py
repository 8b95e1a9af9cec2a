"""`mbrl/BanditDrifting-v0`: the k-armed Gaussian bandit whose means walk at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import special

from mbrl_gym.envs.bandit import Bandit, BanditParams
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.task import Array, Noise, NoiseSizes, Optimum, column

__all__ = ["BanditDrifting", "BanditDriftingEnv", "BanditDriftingParams", "BanditDriftingVectorEnv"]


@dataclass(frozen=True, kw_only=True)
class BanditDriftingParams(BanditParams):
    """Constants of the drifting bandit."""

    mean_std: float = 0.0
    walk_std: float = 0.01  # standard deviation of an arm's step after every pull

    non_negative: ClassVar[tuple[str, ...]] = (*BanditParams.non_negative, "walk_std")


class BanditDrifting(Bandit):
    """k arms whose hidden means take a normal step each after every pull, whichever arm was pulled.

    The reward, and the regret in `info`, belong to the means before the step. State: the k current means, the last
    action one-hot (all zeros before the first pull), the last reward.
    """

    params_class = BanditDriftingParams
    nominal_steps = 10_000
    optimum = Optimum("exact", "quadrature: a clairvoyant pulls the currently best arm (relative error below 1e-7)")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.transition_noise = NoiseSizes(normal=1 + self.arms)

    def next_mean(self, constants: Any, mean: Array, noise: Noise, arm: int) -> Array:
        """Return the mean reward of an arm `[...]` after its step."""
        return mean + constants.walk_std * column(noise.normal, 1 + arm)

    def best_return(self, state: Array, steps: int) -> Array:
        """Return the expected return of a clairvoyant, who knows the current means and pulls the best arm.

        After t pulls the means are independent normals around those of the start, with standard deviation
        `walk_std * sqrt(t)`; the return is the sum over t of the expectation of their maximum.
        """
        spread = self.params.walk_std * np.sqrt(np.arange(steps))
        return np.array([_expected_maximum(row[: self.arms], spread).sum() for row in state])

    def lai_robbins(self, state: Array) -> Array:
        """Refuse: the bound is about arms that stay as they are."""
        raise NotImplementedError(
            "BanditDrifting has no Lai-Robbins bound, which is about arms that stay as they are: its regret grows "
            "linearly with the pulls"
        )


def _expected_maximum(means: Array, spread: Array) -> Array:
    """Return E max over i of N(means[i], spread[t]) `[T]` of means `[k]` and standard deviations `[T]`.

    With x the largest mean plus `spread` times y, it is that mean plus `spread` times the integral over y of
    Phi(y) - prod_i Phi(y + gap_i / spread): the expectation of one normal is zero. The integrand is smooth and falls
    off like a normal density, so that the trapezoidal rule converges geometrically: at this spacing the error is
    1e-12 times the spread for 10 arms, and 1e-7 times for 1,000.
    """
    y, spacing = np.linspace(-9.0, 9.0, 73, retstep=True)
    best = means.argmax()
    gaps = np.delete(means[best] - means, best)
    some = spread > 0
    scale = spread[some] if gaps.any() else spread[some][:1]  # of equal means, all spreads have the same excess
    one = special.ndtr(y)
    product = np.tile(one, (len(scale), 1))
    for gap in gaps:
        product *= special.ndtr(y + (gap / scale)[:, None])
    excess = np.zeros_like(spread)
    excess[some] = spacing * (one - product).sum(-1)
    return means[best] + spread * excess


class BanditDriftingEnv(TaskEnv):
    """The nonstationary testbed of Sutton and Barto (2018), exercise 2.5.

    ## Description
    All arms start with the same hidden mean reward. Pulling an arm pays its mean plus standard normal noise; then the
    means of all arms take a step of their own, normal with standard deviation 0.01. What was learned grows stale, and
    a learner that weighs all rewards alike falls behind.

    ## Action Space
    `Discrete(10)`: the arm.

    ## Observation Space
    `Box((11,), float32)`: columns 0 to 9 the last action one-hot (zeros before the first pull); column 10 the last
    reward (unbounded, as the noise is).

    ## Reward
    The pulled arm's reward. `info["regret"]` is the currently best mean minus the pulled arm's mean,
    `info["optimal"]` whether a currently best arm was pulled.

    ## Starting State
    All means 0 (drawn from N(mean_loc, mean_std), if `mean_std` is greater than 0);
    `reset(options={"state": [means, zeros(k), 0]})` sets them.

    ## Episode End
    Truncated after 10,000 pulls; never terminated.

    ## Arguments
    `arms=10`, `mean_loc=0.0`, `mean_std=0.0`, `reward_std=1.0`, `walk_std=0.01`, `dtype="float32"`;
    `randomize={name: (low, high)}` draws constants at every reset.

    ## Optimum
    Clairvoyant: the currently best arm at every pull, about 10,257 from equal means. No learner can know the means
    that well: quote the regret, or compare learners with each other. There is no Lai-Robbins bound, which is about
    arms that stay as they are.

    ## Version History
    v0: initial version.
    """

    task_class = BanditDrifting


class BanditDriftingVectorEnv(TaskVectorEnv):
    """Many copies of `BanditDriftingEnv` in one array."""

    task_class = BanditDrifting
