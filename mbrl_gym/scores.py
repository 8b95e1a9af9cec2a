"""Scores: 0 is what random actions earn, 1 is the best that is possible."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from mbrl_gym.errors import InvalidSettingError

__all__ = ["EVALUATION_SEEDS", "Reference", "evaluation_states", "reference", "score"]

EVALUATION_SEEDS = range(1_000_000, 1_000_100)  # far from the seeds of training
"""The fixed evaluation episodes start at `env.reset(seed=s)` for these s."""


class Reference(NamedTuple):
    """What the evaluation episodes of an environment are worth, at its default constants."""

    random: float  # mean return of uniformly random actions
    optimal: float  # mean of the best possible returns
    kind: str  # "exact" or "best known"
    method: str  # how the optimal returns were found
    gap: float | None  # by how much the mean of the best possible returns may exceed `optimal`; None: not known
    optimal_returns: tuple[float, ...]  # of each evaluation seed
    command: str  # recomputes these numbers


def evaluation_states(env_id: str) -> np.ndarray[Any, Any]:
    """Return the start states `[100, S]` of the fixed evaluation episodes."""
    env: Any = gym.make(env_id).unwrapped
    states = []
    for seed in EVALUATION_SEEDS:
        env.reset(seed=seed)
        states.append(env.get_state()["state"])
    env.close()
    return np.stack(states)


def reference(env_id: str) -> Reference:
    """Return the stored reference values of an environment of this package.

    Raises:
        InvalidSettingError: No values are stored for this id.
    """
    stored = _stored()
    if env_id not in stored:
        raise InvalidSettingError(f"no scores are known of {env_id!r}; they are of: {', '.join(stored)}")
    return stored[env_id]


def score(env_id: str, returns: Any) -> Any:
    """Return `(R - R_random) / (R_optimal - R_random)` of returns `[...]`, as an array `[...]` or a number.

    The two ends are means over the 100 evaluation seeds, so that the mean score of a controller on these episodes is
    at most 1: in expectation where there is noise, and up to the gap where the optimum is a best-known value. Episodes
    from other seeds may be easier or harder than these on average, and then score above 1 or below what they deserve.
    Episodes have the registered length, but for those of mazes, which are scored over 100 steps (their
    `task.nominal_steps`): make these with `max_episode_steps=100`.

    Raises:
        InvalidSettingError: No reference values are stored for this id.
    """
    ends = reference(env_id)
    scores = (np.asarray(returns, np.float64) - ends.random) / (ends.optimal - ends.random)
    return float(scores) if scores.ndim == 0 else scores


@lru_cache(maxsize=1)
def _stored() -> dict[str, Reference]:
    text = resources.files("mbrl_gym").joinpath("reference.json").read_text()
    return {
        env_id: Reference(**{**entry, "optimal_returns": tuple(entry["optimal_returns"])})
        for env_id, entry in json.loads(text).items()
    }
