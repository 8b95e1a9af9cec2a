"""A model of observed outcomes: how often each (state, action) led where, and what it paid."""

from __future__ import annotations

from typing import Any

import numpy as np

from mbrl_gym.errors import DamagedFileError

from .outcomes import OUTCOMES, STEPS, VISITED, Outcomes, add, empty, room

__all__ = ["OutcomeModel"]

Array = np.ndarray[Any, Any]

OF_OUTCOMES = ("state", "action", "following", "terminated", "counts", "reward")


class OutcomeModel:
    """Remembers which outcomes each action had in each state; memory grows with different outcomes, not with steps.

    Args:
        states: Number S of states.
        actions: Number A of actions.
    """

    def __init__(self, states: int, actions: int) -> None:
        self.outcomes: Outcomes = empty(states, actions)

    @property
    def visits(self) -> Array:
        """How often each action was tried in each state, `[S, A]` integers."""
        return self.outcomes.visits

    @property
    def last_tried(self) -> Array:
        """The step at which each action was last tried in each state, counted from 1, `[S, A]`; 0 if never."""
        return self.outcomes.last_tried

    @property
    def sizes(self) -> dict[str, int]:
        """How many states were visited, pairs tried, different outcomes seen, and steps recorded."""
        sizes = self.outcomes.sizes
        pairs = int(self.outcomes.tried_count.sum())
        return {
            "states": int(sizes[VISITED]),
            "pairs": pairs,
            "outcomes": int(sizes[OUTCOMES]),
            "steps": int(sizes[STEPS]),
        }

    def with_room(self, steps: int) -> Outcomes:
        """Return the arrays, with room for what so many further steps may bring."""
        self.outcomes = room(self.outcomes, steps)
        return self.outcomes

    def expected(self) -> tuple[Array, Array]:
        """Return what the model expects, for tables small enough that `[S, A, S]` fits into memory.

        Returns:
            Probabilities `[S, A, S]` that the episode goes on in each next state, and mean rewards `[S, A]`. Both are 0
            for pairs that were never tried.
        """
        known = self.outcomes
        used = slice(int(known.sizes[OUTCOMES]))
        state, action, counts = known.state[used], known.action[used], known.counts[used]
        share = counts / known.weight[state, action]
        goes_on = np.zeros((*known.weight.shape, len(known.weight)))
        np.add.at(goes_on, (state, action, known.following[used]), share * ~known.terminated[used])
        reward = np.zeros(known.weight.shape)
        np.add.at(reward, (state, action), share * known.reward[used])
        return goes_on, reward

    def state(self) -> dict[str, Any]:
        """Return everything that was learned, as arrays and numbers."""
        known, pairs = self.outcomes, np.flatnonzero(self.outcomes.visits)
        used = slice(int(known.sizes[OUTCOMES]))
        return {
            **{name: getattr(known, name)[used].copy() for name in OF_OUTCOMES},
            "pairs": pairs,
            "visits": known.visits.ravel()[pairs],
            "last_tried": known.last_tried.ravel()[pairs],
            "steps": int(known.sizes[STEPS]),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; chains are built anew, so that no file can lead them astray.

        Raises:
            DamagedFileError: Numbers that no model of these states and actions can hold.
        """
        self._check(state)
        states, actions = self.outcomes.visits.shape
        known = room(empty(states, actions), len(state["state"]))
        for row in zip(*(state[name] for name in OF_OUTCOMES[:4]), strict=True):
            add(known, *row)
        used = slice(len(state["state"]))
        known.counts[used], known.reward[used] = state["counts"], state["reward"]
        np.add.at(known.weight, (state["state"], state["action"]), state["counts"])
        known.visits.ravel()[state["pairs"]] = state["visits"]
        known.last_tried.ravel()[state["pairs"]] = state["last_tried"]
        known.sizes[STEPS] = state["steps"]
        self.outcomes = known

    def _check(self, state: dict[str, Any]) -> None:
        states, actions = self.outcomes.visits.shape
        try:
            fits = self._has_columns(state) and self._is_consistent(state)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise DamagedFileError(f"the file's outcomes are not complete: {error}") from error
        if not fits:
            raise DamagedFileError(f"the file's outcomes do not fit a model of {states} states and {actions} actions")

    def _has_columns(self, state: dict[str, Any]) -> bool:
        """Whether the arrays are of the right kinds and lengths, and their numbers within the tables."""
        (states, actions), endless = self.outcomes.visits.shape, np.inf
        below = {"state": states, "action": actions, "following": states, "pairs": states * actions}
        below |= {"counts": endless, "visits": endless, "last_tried": state["steps"] + 1}
        return (
            all(
                state[name].dtype == np.int64 and np.all((state[name] >= 0) & (state[name] < below[name]))
                for name in below
            )
            and state["terminated"].dtype == np.bool_
            and bool(np.isfinite(state["reward"]).all())
            and len({state[name].shape for name in OF_OUTCOMES}) == 1
            and len({state[name].shape for name in ("pairs", "visits", "last_tried")}) == 1
            and state["state"].ndim == state["pairs"].ndim == 1
        )

    def _is_consistent(self, state: dict[str, Any]) -> bool:
        """Whether exactly the pairs that were visited have outcomes, and each of them one that counts."""
        actions = self.outcomes.visits.shape[1]
        pair, counts = state["state"] * actions + state["action"], state["counts"] > 0
        visited = state["pairs"][state["visits"] > 0]
        return np.array_equal(np.unique(pair), visited) and np.array_equal(np.unique(pair[counts]), visited)


def _within(numbers: Array, limit: float) -> bool:
    return numbers.dtype == np.int64 and bool(((numbers >= 0) & (numbers < limit)).all())
