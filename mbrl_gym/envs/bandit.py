"""`mbrl/Bandit-v0`: the k-armed Gaussian testbed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.task import (
    Array,
    Noise,
    NoiseSizes,
    Optimum,
    Params,
    Task,
    as_number,
    column,
    namespace,
    stack_columns,
    unstack_columns,
)
from mbrl_gym.errors import InvalidSettingError

__all__ = ["ArmsParams", "Bandit", "BanditEnv", "BanditParams", "BanditVectorEnv"]


@dataclass(frozen=True, kw_only=True)
class ArmsParams(Params):
    """Constants of every bandit."""

    arms: int = 10  # number of arms k

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.arms, int) or self.arms < 2:
            raise InvalidSettingError(f"arms must be a whole number of at least 2, but {self.arms} was given")


@dataclass(frozen=True, kw_only=True)
class BanditParams(ArmsParams):
    """Constants of the Gaussian bandit."""

    mean_loc: float = 0.0  # the arms' means are drawn from N(mean_loc, mean_std)
    mean_std: float = 1.0
    reward_std: float = 1.0  # standard deviation of an arm's rewards

    non_negative: ClassVar[tuple[str, ...]] = ("mean_std", "reward_std")


class Bandit(Task):
    """k arms whose hidden means are drawn at reset; the reward is the pulled arm's mean plus noise.

    State: the k means, the last action one-hot (all zeros before the first pull), the last reward. Other bandits
    replace what an arm pays (`pay`), how its mean is drawn (`draw_mean`) or goes on (`next_mean`), and the divergence
    of two arms.
    """

    params_class: ClassVar[type[Params]] = BanditParams
    fully_observed = False
    scene = "bandit"
    render_fps = 10
    nominal_steps = 1000
    reward_bounds: ClassVar[tuple[float, float]] = (-np.inf, np.inf)
    transition_noise = NoiseSizes(normal=1)
    optimum = Optimum("exact", "closed form: a clairvoyant pulls the best arm at every step")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        k = int(self.params.arms)
        self.arms = k
        low = np.array([0.0] * k + [self.reward_bounds[0]], self.dtype)
        high = np.array([1.0] * k + [self.reward_bounds[1]], self.dtype)
        self.observation_space = spaces.Box(low, high, dtype=self.dtype.type)
        self.action_space = spaces.Discrete(k)

    def own_columns(self) -> tuple[str, ...]:
        """Return the names of the state columns."""
        arms = range(int(self.params.arms))
        return (*(f"mean of arm {i}" for i in arms), *(f"arm {i} was last" for i in arms), "last reward")

    def start_noise(self) -> NoiseSizes:
        """Return one normal number for each arm, or none where all means start alike."""
        return NoiseSizes(normal=int(self.params.arms) if self.highest("mean_std") else 0)

    def allows(self, state: Array) -> bool:
        """Return whether at most one arm was last."""
        last = state[..., self.arms : 2 * self.arms]
        single = np.all((last == 0) | (last == 1)) and np.all(last.sum(-1) <= 1)
        return bool(single) and super().allows(state)

    def means(self, state: Array) -> Array:
        """Return the hidden mean reward of every arm `[..., k]`."""
        return +state[..., : self.arms]

    def draw_mean(self, constants: Any, noise: Noise, arm: int) -> Array:
        """Return the mean reward of an arm `[...]` at the start."""
        if not self.initial_noise.normal:
            return noise.normal.sum(-1) + constants.mean_loc  # the sum of no numbers: zeros `[...]`
        return constants.mean_loc + constants.mean_std * noise.normal[..., arm]

    def pay(self, constants: Any, mean: Array, noise: Noise) -> Array:
        """Return the reward `[...]` of pulling an arm with this mean."""
        return mean + constants.reward_std * column(noise.normal, 0)

    def next_mean(self, constants: Any, mean: Array, noise: Noise, arm: int) -> Array:
        """Return the mean reward of an arm `[...]` after the pull."""
        return mean

    def initial(self, noise: Noise) -> Array:
        """Draw the means."""
        constants = self.draw_constants(noise)
        means = [self.draw_mean(constants, noise, arm) for arm in range(self.arms)]
        zero = 0.0 * means[0]
        return stack_columns(*means, *[zero] * (self.arms + 1), *self.constant_columns(constants))

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Pull an arm; it pays by its mean before the step."""
        constants = self.constants(state)
        means = unstack_columns(state)[: self.arms]
        pulled = [as_number(action == arm, means[0]) for arm in range(self.arms)]
        mean = pulled[0] * means[0]
        for chosen, other in zip(pulled[1:], means[1:], strict=True):
            mean = mean + chosen * other
        reward = self.pay(constants, mean, noise)
        means = [self.next_mean(constants, mean, noise, arm) for arm, mean in enumerate(means)]
        return stack_columns(*means, *pulled, reward, *self.constant_columns(constants))

    def observation(self, state: Array) -> Array:
        """Return the last action one-hot and the last reward."""
        return +state[..., self.arms : 2 * self.arms + 1]

    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return the pulled arm's reward."""
        return +next_observation[..., -1]

    def info(self, state: Array, action: Array, next_state: Array) -> dict[str, Array]:
        """Return the pull's regret (best mean minus pulled mean) and whether the best arm was pulled."""
        means = state[..., : self.arms]
        best = namespace(state).max(means, axis=-1)
        regret = best - (means * next_state[..., self.arms : 2 * self.arms]).sum(-1)
        return {"regret": regret, "optimal": regret == 0}

    def best_return(self, state: Array, steps: int) -> Array:
        """Return the expected return of a clairvoyant, who pulls the best arm from the first step on."""
        return state[:, : self.arms].max(-1) * steps

    def lai_robbins(self, state: Array) -> Array:
        """Return the constant c `[...]` (float64) of the Lai-Robbins lower bound on the regret.

        For any learner that does well on every bandit of the family, the expected regret of n pulls is at least
        `c * ln(n)` as n grows: c is the sum over the suboptimal arms of their gap over their divergence from the best
        arm (Lai and Robbins 1985, equation 1.11). It is zero where a few pulls tell the arms apart, and says nothing
        about small n.

        Args:
            state: States `[..., S]`.
        """
        state = np.asarray(state, np.float64)
        means = self.means(state)
        best = means.max(-1)
        constants, total = self.constants(state), np.zeros(best.shape)
        for arm in range(self.arms):
            gap = best - means[..., arm]
            with np.errstate(divide="ignore", invalid="ignore"):
                total += np.where(gap > 0, gap / self.divergence(constants, means[..., arm], best), 0.0)
        return total

    def divergence(self, constants: Any, mean: Array, best: Array) -> Array:
        """Return the Kullback-Leibler divergence `[...]` of the best arm's rewards from an arm's, KL(arm || best)."""
        ratio = (best - mean) / constants.reward_std
        return 0.5 * ratio * ratio


class BanditEnv(TaskEnv):
    """The k-armed testbed of Sutton and Barto (2018), section 2.3.

    ## Description
    At every reset each arm gets a hidden mean reward, drawn from N(0, 1). Pulling an arm pays its mean plus
    standard normal noise.

    ## Action Space
    `Discrete(10)`: the arm.

    ## Observation Space
    `Box((11,), float32)`: columns 0 to 9 the last action one-hot (zeros before the first pull); column 10 the last
    reward (unbounded, as the noise is).

    ## Reward
    The pulled arm's reward. `info["regret"]` is the best mean minus the pulled arm's mean, `info["optimal"]` whether
    the best arm was pulled.

    ## Starting State
    New means; `reset(options={"state": [means, zeros(k), 0]})` sets them.

    ## Episode End
    Truncated after 1,000 pulls; never terminated.

    ## Arguments
    `arms=10`, `mean_loc=0.0`, `mean_std=1.0`, `reward_std=1.0`, `dtype="float32"`; `randomize={name: (low, high)}`
    draws constants at every reset.

    ## Optimum
    Clairvoyant: the best arm at every pull. What a learner must lose against it is bounded from below by
    `task.lai_robbins(state) * ln(pulls)`.

    ## Version History
    v0: initial version.
    """

    task_class = Bandit


class BanditVectorEnv(TaskVectorEnv):
    """Many copies of `BanditEnv` in one array."""

    task_class = Bandit
