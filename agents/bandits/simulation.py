"""Many bandits at once: what an algorithm earns, and what it loses against the law."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from mbrl_gym.errors import InvalidSettingError

from .policy import BanditPolicy
from .registry import make_algorithm
from .statistics import BanditAlgorithm

__all__ = ["BanditRun", "run_bandit"]

Array = np.ndarray[Any, Any]

SLOPE_POINTS = 50  # through which a line is laid


@dataclass(frozen=True, eq=False)
class BanditRun:
    """An algorithm's play of P problems (bandits with means of their own), T pulls each."""

    label: str
    reward: Array  # [T] mean reward of a pull over the problems
    optimal: Array  # [T] share of the problems in which the pull was optimal
    regret: Array  # [T] mean regret of the pulls so far
    reward_error: Array  # [B] standard error of the mean reward in each block of `block` pulls
    optimal_error: Array  # [B] of the share of optimal pulls in it
    regret_error: Array  # [T] of the regret
    final_regret: Array  # [P] regret of all pulls
    lai_robbins: Array | None  # [P] constants of the Lai-Robbins bound; None where there is none
    seconds: float  # the run's, of which the environment takes a part [s]

    @property
    def pulls(self) -> int:
        """Number T of pulls."""
        return len(self.reward)

    @property
    def problems(self) -> int:
        """Number P of problems."""
        return len(self.final_regret)

    @property
    def block(self) -> int:
        """Pulls of a block; what is left over at the end belongs to none."""
        return block_size(self.pulls)

    @property
    def law_ratio(self) -> float | None:
        """Mean over the problems of the regret over c ln T, the asymptotic lower bound; None where there is none.

        Problems whose bound is 0 are left out.
        """
        if self.lai_robbins is None or self.pulls < 2:
            return None
        bound = self.lai_robbins * np.log(self.pulls)
        some = bound > 0
        return float(np.mean(self.final_regret[some] / bound[some])) if some.any() else None

    def law_slope(self, since: int) -> float | None:
        """Return the slope of the mean regret against ln t, from a pull to the last, over the mean constant c.

        It tends to 1 for algorithms that are asymptotically optimal: their regret is c ln t plus something smaller.
        By least squares over pulls at equal distances of ln t, since regret may grow by steps.

        Args:
            since: The pull, counted from 1, from which on.

        Raises:
            InvalidSettingError: No pull before the last.
        """
        if not 1 <= since < self.pulls:
            raise InvalidSettingError(f"since must be a pull from 1 to {self.pulls - 1}, but {since} was given")
        if self.lai_robbins is None or not self.lai_robbins.any():
            return None
        pulls = np.unique(np.geomspace(since, self.pulls, SLOPE_POINTS).round().astype(np.int64))
        slope = np.polyfit(np.log(pulls), self.regret[pulls - 1], 1)[0]
        return float(slope / self.lai_robbins.mean())


def run_bandit(
    policy: str | BanditAlgorithm,
    env_id: str = "mbrl/Bandit-v0",
    *,
    problems: int = 2000,
    pulls: int = 1000,
    seed: int = 0,
    means: Sequence[float] | None = None,
    env_kwargs: dict[str, Any] | None = None,
    label: str | None = None,
    progress: Callable[[int], Any] | None = None,
    **settings: Any,
) -> BanditRun:
    """Let an algorithm play many bandits side by side.

    The problems, and the noise of the k-th pulls, depend on the seed alone: all algorithms meet the same.

    Args:
        policy: A name in `BANDITS`, or an algorithm.
        env_id: A bandit whose `info` holds "regret" and "optimal" of every pull, as those of this package do.
        problems: Number P of bandits.
        pulls: Number T of pulls of each.
        seed: Seeds the problems, the rewards and the algorithm.
        means: Means of the arms in all problems, in place of random ones.
        env_kwargs: Keywords of the environment.
        label: Name of the run; by default that of the algorithm with the settings that are not the defaults.
        progress: Called after every pull with its number, counted from 1.
        **settings: Settings of the algorithm.

    Raises:
        InvalidSettingError: A setting out of its range, or an environment that does not tell the regret.
        UnsupportedSpaceError: Not a bandit.
    """
    for name, given in (("problems", problems), ("pulls", pulls)):
        if given < 1:
            raise InvalidSettingError(f"{name} must be at least 1, but {given} was given")
    env, observation = _start(env_id, problems, pulls, seed, means, env_kwargs or {})
    algorithm = make_algorithm(policy, **settings)
    player = BanditPolicy(algorithm, env, seed=seed)
    constants = _lai_robbins(env)
    record, state = _Record(problems, pulls), None
    begin = time.perf_counter()
    for pull in range(pulls):
        action, state = player.predict(observation, state)
        observation, reward, _, _, info = env.step(action)
        if pull == 0 and not {"regret", "optimal"} <= info.keys():
            raise InvalidSettingError(f'{env_id} does not tell "regret" and "optimal" in its info')
        record.add(pull, reward.astype(np.float64), info["optimal"], info["regret"])
        if progress is not None:
            progress(pull + 1)
    seconds = time.perf_counter() - begin
    env.close()
    return record.run(label or algorithm.label, constants, seconds)


class _Record:
    """The curves of a run as they grow."""

    def __init__(self, problems: int, pulls: int) -> None:
        self.regret = np.zeros(problems)
        self.curves = np.empty((4, pulls))  # reward, optimal, regret and its standard deviation
        self.block = block_size(pulls)
        self._sums = np.zeros((2, problems))  # of rewards and optimal pulls in a block
        self.spreads: list[Array] = []

    def add(self, pull: int, reward: Array, optimal: Array, regret: Array) -> None:
        """Count the pulls of all problems `[P]`."""
        self.regret += regret
        self._sums += reward, optimal
        self.curves[:, pull] = reward.mean(), optimal.mean(), self.regret.mean(), self.regret.std()
        if (pull + 1) % self.block == 0:
            self.spreads.append(self._sums.std(1) / self.block)
            self._sums[:] = 0.0

    def run(self, label: str, constants: Array | None, seconds: float) -> BanditRun:
        """Return what was recorded."""
        reward, optimal, regret, spread = self.curves
        reward_error, optimal_error = np.array(self.spreads).T / np.sqrt(len(self.regret))
        return BanditRun(
            label=label,
            reward=reward,
            optimal=optimal,
            regret=regret,
            reward_error=reward_error,
            optimal_error=optimal_error,
            regret_error=spread / np.sqrt(len(self.regret)),
            final_regret=self.regret,
            lai_robbins=constants,
            seconds=seconds,
        )


def block_size(pulls: int) -> int:
    """Return the pulls of each of some hundred blocks."""
    return max(1, pulls // 100)


def _start(
    env_id: str, problems: int, pulls: int, seed: int, means: Sequence[float] | None, env_kwargs: dict[str, Any]
) -> tuple[Any, Array]:
    """Return the environments, and their first observations."""
    options = None
    if means is not None:
        env_kwargs = {**env_kwargs, "arms": len(means)}
        options = {"state": [*means, *[0.0] * (len(means) + 1)]}
    env = gym.make_vec(env_id, num_envs=problems, max_episode_steps=pulls, **env_kwargs)
    return env, env.reset(seed=seed, options=options)[0]


def _lai_robbins(env: Any) -> Array | None:
    """Return the constants `[P]` of the problems' bounds, if there is one."""
    try:
        return np.asarray(env.unwrapped.task.lai_robbins(env.unwrapped.get_state()["state"]))
    except (AttributeError, NotImplementedError):
        return None
