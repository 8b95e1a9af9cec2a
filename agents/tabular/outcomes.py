"""Observed outcomes in chained arrays, and the targets of updates from them; all of it compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..compiled import compiled

__all__ = ["Outcomes", "add", "best", "empty", "expected_target", "record", "room", "sampled_target"]

Array = np.ndarray[Any, Any]

OUTCOMES, VISITED, STEPS = 0, 1, 2  # places in `sizes`
END = -1  # of a chain


class Outcomes(NamedTuple):
    """What was observed of S states and A actions, in C different outcomes.

    An outcome is a (state, action, next state, terminated); its reward is the mean of those observed. Outcomes are
    numbered in the order in which they were first seen. Two kinds of chains run through them, newest first: those of
    each (state, action), and those that enter each state.
    """

    sizes: Array  # [3]: outcomes C, visited states V, steps recorded
    visited: Array  # [S]: the first V are the states in which an action was tried, in the order of the first try
    tried: Array  # [S, A]: actions tried in each state, in the order of the first try
    tried_count: Array  # [S]: how many of them
    visits: Array  # [S, A]: how often each was tried
    last_tried: Array  # [S, A]: the step at which each was last tried, counted from 1; 0 if never
    weight: Array  # [S, A]: sum of the counts of its outcomes
    newest: Array  # [S, A]: start of the chain of the pair's outcomes
    entering: Array  # [S]: start of the chain of the outcomes that lead here
    # Of every outcome, [C] and room for more:
    state: Array
    action: Array
    following: Array
    terminated: Array
    counts: Array
    reward: Array
    older: Array  # next in the chain of the pair
    older_entering: Array  # next in the chain of `following`


def empty(states: int, actions: int, capacity: int = 64) -> Outcomes:
    """Return arrays that hold no outcome, with room for `capacity`."""

    def whole(*shape: int, value: int = 0) -> Array:
        return np.full(shape, value, np.int64)

    pairs = (states, actions)
    of_states = (whole(3), whole(states), whole(*pairs), whole(states), whole(*pairs), whole(*pairs), whole(*pairs))
    chains = (whole(*pairs, value=END), whole(states, value=END))
    return Outcomes(*of_states, *chains, *_of_outcomes(capacity))


def _of_outcomes(capacity: int) -> tuple[Array, ...]:
    kinds = (np.int64, np.int64, np.int64, np.bool_, np.int64, np.float64, np.int64, np.int64)
    return tuple(np.zeros(capacity, kind) for kind in kinds)


def room(outcomes: Outcomes, more: int) -> Outcomes:
    """Return the outcomes with room for `more` of them; the arrays of states and pairs are shared."""
    used, capacity = int(outcomes.sizes[OUTCOMES]), len(outcomes.state)
    if used + more <= capacity:
        return outcomes
    first = Outcomes._fields.index("state")
    wider = _of_outcomes(max(2 * capacity, used + more))
    for new, old in zip(wider, outcomes[first:], strict=True):
        new[:used] = old[:used]
    return Outcomes(*outcomes[:first], *wider)


@compiled
def best(values: Array, state: int) -> float:
    """Return the highest of a state's action values `[S, A]`."""
    highest = values[state, 0]
    for action in range(1, values.shape[1]):
        highest = max(highest, values[state, action])
    return highest


@compiled
def add(outcomes: Outcomes, state: int, action: int, following: int, terminated: bool) -> int:
    """Chain a new outcome, without an observation of it, and return its number; there must be room for it."""
    if outcomes.newest[state, action] == END:
        if outcomes.tried_count[state] == 0:
            outcomes.visited[outcomes.sizes[VISITED]] = state
            outcomes.sizes[VISITED] += 1
        outcomes.tried[state, outcomes.tried_count[state]] = action
        outcomes.tried_count[state] += 1
    number = outcomes.sizes[OUTCOMES]
    outcomes.sizes[OUTCOMES] += 1
    outcomes.state[number], outcomes.action[number] = state, action
    outcomes.following[number], outcomes.terminated[number] = following, terminated
    outcomes.counts[number], outcomes.reward[number] = 0, 0.0
    outcomes.older[number] = outcomes.newest[state, action]
    outcomes.newest[state, action] = number
    outcomes.older_entering[number] = outcomes.entering[following]
    outcomes.entering[following] = number
    return number


@compiled
def record(
    outcomes: Outcomes, state: int, action: int, reward: float, following: int, terminated: bool, latest: bool
) -> None:
    """Count one observed step; with `latest`, all other outcomes of the pair are forgotten."""
    number = outcomes.newest[state, action]
    if latest:
        outcomes.weight[state, action] = 0
        while number != END:
            outcomes.counts[number] = 0
            number = outcomes.older[number]
        number = outcomes.newest[state, action]
    while number != END and not (outcomes.following[number] == following and outcomes.terminated[number] == terminated):
        number = outcomes.older[number]
    if number == END:
        number = add(outcomes, state, action, following, terminated)
    outcomes.counts[number] += 1
    outcomes.reward[number] += (reward - outcomes.reward[number]) / outcomes.counts[number]
    outcomes.weight[state, action] += 1
    outcomes.sizes[STEPS] += 1
    outcomes.visits[state, action] += 1
    outcomes.last_tried[state, action] = outcomes.sizes[STEPS]


@compiled
def outcome_target(outcomes: Outcomes, values: Array, number: int, gamma: float) -> float:
    """Return r + gamma max_a Q(s', a) of one outcome; after a termination nothing follows."""
    if outcomes.terminated[number]:
        return outcomes.reward[number]
    return outcomes.reward[number] + gamma * best(values, outcomes.following[number])


@compiled
def expected_target(outcomes: Outcomes, values: Array, state: int, action: int, gamma: float) -> float:
    """Return the mean target of a tried pair's outcomes, weighted by their counts."""
    total, number = 0.0, outcomes.newest[state, action]
    while number != END:
        if outcomes.counts[number] > 0:
            total += outcomes.counts[number] * outcome_target(outcomes, values, number, gamma)
        number = outcomes.older[number]
    return total / outcomes.weight[state, action]


@compiled
def sampled_target(
    outcomes: Outcomes, values: Array, state: int, action: int, gamma: float, generator: np.random.Generator
) -> float:
    """Return the target of one of a tried pair's outcomes, drawn in proportion to their counts."""
    number = outcomes.newest[state, action]
    left = int(generator.random() * outcomes.weight[state, action])
    while left >= outcomes.counts[number]:
        left -= outcomes.counts[number]
        number = outcomes.older[number]
    return outcome_target(outcomes, values, number, gamma)
