"""Models that numba compiles, for searches without Python between two simulations."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from gymnasium import spaces
from numba import types

from mbrl_gym.errors import InvalidSettingError

from .arrays import uniform

__all__ = ["CompiledModel", "table_model"]

Array = np.ndarray[Any, Any]

_REALS, _RANDOM = types.float64[::1], types.uint64[::1]
STEP = types.Tuple((types.float64, types.boolean))(_REALS, _REALS, _REALS, _REALS, _RANDOM)
EVALUATE = types.float64(_REALS, _REALS, _REALS, _RANDOM)


class CompiledModel:
    """A model of functions that numba can compile; they may call others that are.

    Args:
        action_space: Discrete, or flat, bounded Box.
        step: (parameters, state `[S]`, action `[A]`, next state `[S]` to be written, random) -> (reward, whether the
            episode ends). All arrays are float64; a Discrete action is `[1]`, counted from 0. `uniform(random)` draws
            from [0, 1).
        state_size: S.
        evaluate: (parameters, state `[S]`, prior `[K]` to be written, random) -> value of the state. The prior holds
            the probabilities of Discrete actions; it is uniform at first. None for 0.
        parameters: What the functions know, float64.
        state_of: Observations `[N, ...]` as the environment gives them -> states `[N, S]`; as they are by default.
        stochastic: Whether a step may lead to different outcomes.

    Raises:
        InvalidSettingError: Functions that cannot be compiled.
    """

    def __init__(
        self,
        action_space: spaces.Space[Any],
        step: Callable[..., Any],
        *,
        state_size: int,
        evaluate: Callable[..., Any] | None = None,
        parameters: Any = (),
        state_of: Callable[[Any], Array] | None = None,
        stochastic: bool = False,
    ) -> None:
        self.action_space, self.state_size, self.stochastic = action_space, state_size, stochastic
        self.parameters = np.ascontiguousarray(parameters, np.float64).ravel()
        self.evaluates = evaluate is not None
        self.step = _compile(STEP, "step", step)
        self.evaluate = _NOTHING if evaluate is None else _compile(EVALUATE, "evaluate", evaluate)
        self._state_of = state_of

    def states(self, observation: Any) -> Array:
        """Return the states `[N, S]` of observations."""
        given = np.asarray(observation) if self._state_of is None else self._state_of(observation)
        return np.ascontiguousarray(given, np.float64).reshape(-1, self.state_size)


def table_model(
    action_space: spaces.Discrete, probability: Array, following: Array, reward: Array, ends: Array, *, start: int = 0
) -> CompiledModel:
    """Return a model of S numbered states from the outcomes of every action.

    Args:
        action_space: K actions.
        probability: `[S, K, C]` of each of at most C outcomes; they sum to 1.
        following: `[S, K, C]` states, counted from 0.
        reward: `[S, K, C]`.
        ends: `[S, K, C]` bool, whether the episode ends there.
        start: The first observation.
    """
    cumulative = np.cumsum(probability, -1)
    cumulative[..., -1] = np.inf  # whatever rounding left over
    table = np.stack([cumulative, following, reward, ends], -1).astype(np.float64)
    sizes = np.array([table.shape[1], table.shape[2]], np.float64)
    return CompiledModel(
        action_space,
        _table_step,
        state_size=1,
        parameters=np.concatenate([sizes, table.ravel()]),
        state_of=lambda observation: np.asarray(observation) - start,
        stochastic=bool(((probability > 0).sum(-1) > 1).any()),
    )


def _table_step(parameters: Array, state: Array, action: Array, following: Array, random: Array) -> tuple[float, bool]:
    """Draw an outcome; a table is K, C, and then (cumulative probability, next state, reward, end) of each."""
    actions, outcomes = int(parameters[0]), int(parameters[1])
    place = 2 + 4 * outcomes * (int(state[0]) * actions + int(action[0]))
    if outcomes > 1:
        drawn = uniform(random)
        while parameters[place] <= drawn:
            place += 4
    following[0] = parameters[place + 1]
    return parameters[place + 2], parameters[place + 3] != 0.0


def _nothing(parameters: Array, state: Array, prior: Array, random: Array) -> float:
    return 0.0


@lru_cache(maxsize=64)
def _compile(signature: Any, name: str, function: Callable[..., Any]) -> Any:
    source = getattr(function, "py_func", function)
    try:
        return numba.cfunc(signature)(source)
    except (numba.core.errors.NumbaError, TypeError) as error:
        raise InvalidSettingError(f"{name} cannot be compiled: {error}") from error


_NOTHING = _compile(EVALUATE, "evaluate", _nothing)
