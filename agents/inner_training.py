"""Training PPO in a world model for as long as judges see it improve."""

from __future__ import annotations

import collections
import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy

__all__ = ["InnerTraining", "Judge", "train_while_improving"]

Array = np.ndarray[Any, Any]

Judge = Callable[[ActorCriticPolicy], Array]
"""A policy -> what it earns by the word of each of E judges, [E]."""


class InnerTraining(NamedTuple):
    """What a round of training did."""

    before: Array  # [E], returns of the policy at the start
    after: Array  # [E], returns of the policy that came out
    improved: float  # share of the judges that saw an improvement in the last check
    updates: int  # of PPO, those whose policy did not pass included
    imagine_seconds: float
    update_seconds: float
    check_seconds: float


def train_while_improving(
    ppo: PPO, judge: Judge, *, updates: int, check_freq: int, improved_share: float, patience: int
) -> InnerTraining:
    """Train PPO in its environment until judges see it improve no more (Kurutach et al. 2018, algorithm 2, inner loop).

    A check compares with the last policy that passed one (in the paper, with that of five updates ago). In the end the
    policy goes back to that one, or to where it began, and its optimiser with it.

    Args:
        ppo: The algorithm; its environment starts anew.
        judge: Tells returns.
        updates: How many there are at most.
        check_freq: Updates between checks; the last one is always checked.
        improved_share: Least share of the judges that must see a policy earn more than the last one that passed.
        patience: Checks in a row that must fail to end the training.
    """
    clock = _Clock()
    _, callback = ppo._setup_learn(updates * ppo.n_steps * ppo.n_envs)
    with clock("check"):
        before = best = judge(ppo.policy)
    kept, failed, improved, update = _snapshot(ppo.policy), 0, 0.0, 0
    while update < updates and failed < patience:
        update += 1
        _update(ppo, callback, clock)
        if update % check_freq and update < updates:
            continue
        with clock("check"):
            returns = judge(ppo.policy)
        improved = float((returns > best).mean())
        if improved >= improved_share:
            best, kept, failed = returns, _snapshot(ppo.policy), 0
        else:
            failed += 1
    _restore(ppo.policy, kept)
    return InnerTraining(
        before, best, improved, update, *(clock.seconds[name] for name in ("imagine", "update", "check"))
    )


def _update(ppo: PPO, callback: BaseCallback, clock: _Clock) -> None:
    assert ppo.env is not None
    with clock("imagine"):
        ppo.collect_rollouts(ppo.env, callback, ppo.rollout_buffer, ppo.n_steps)
    with clock("update"):
        ppo.train()


def _snapshot(policy: ActorCriticPolicy) -> tuple[dict[str, Any], dict[str, Any]]:
    return copy.deepcopy(policy.state_dict()), copy.deepcopy(policy.optimizer.state_dict())


def _restore(policy: ActorCriticPolicy, kept: tuple[dict[str, Any], dict[str, Any]]) -> None:
    policy.load_state_dict(kept[0])
    policy.optimizer.load_state_dict(kept[1])


class _Clock:
    """Adds up how long the parts of a training take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begin
