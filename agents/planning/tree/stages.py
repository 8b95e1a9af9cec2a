"""The first stages of a simulation: selection and expansion; all of it compiled.

Simulation, the third stage, is the model's, and `backup` has the last one: `compiled_search` runs all four in one loop,
`model_search` evaluates the leaves of all trees in one batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...compiled import compiled_in_place
from .arrays import (
    COLLIDED,
    ENDED,
    EVALUATES,
    EXPANDS,
    IDLE,
    NONE,
    SELECTS,
    Flight,
    Root,
    Rules,
    Tree,
    add_node,
    add_outcome,
    place_of,
)
from .selection import choose, follow

__all__ = ["expand", "select"]

Array = np.ndarray[Any, Any]


@compiled_in_place
def select(tree: Tree, root: Root, rules: Rules, flight: Flight, simulations: int) -> None:
    """Let simulations of a tree descend until each of them needs the model, or has come to an end.

    As many start as are idle, up to `simulations` in all. Where nothing is random, one that arrives where another one
    is about to make a node turns back; until all have started it counts as in flight, so that the next ones go
    elsewhere.
    """
    for leaf in range(len(flight.status)):
        if flight.status[leaf] == SELECTS:
            _descend(tree, root, rules, flight, leaf)
        elif flight.status[leaf] == IDLE and root.started[0] < simulations:
            flight.depth[leaf], flight.nodes[leaf, 0] = 0, 0
            _descend(tree, root, rules, flight, leaf)
            if flight.status[leaf] != COLLIDED:
                root.started[0] += 1
    for leaf in range(len(flight.status)):
        if flight.status[leaf] == COLLIDED:
            _turn_back(tree, flight, leaf)


@compiled_in_place
def _descend(tree: Tree, root: Root, rules: Rules, flight: Flight, leaf: int) -> None:
    """Take edges until there is no next node."""
    depth = flight.depth[leaf]
    node = flight.nodes[leaf, depth]
    while not tree.nodes[node].terminal:
        if depth > 0 and np.isnan(tree.nodes[node].raw):
            flight.depth[leaf], flight.status[leaf] = depth, EVALUATES
            return
        if depth == rules.horizon:
            break
        slot = choose(tree, root, rules, node)
        flight.slots[leaf, depth] = slot
        tree.nodes[node].pending += 1
        tree.edges[node, slot].pending += 1
        outcome = follow(tree, rules, node, slot)
        if outcome == NONE:
            collided = not rules.chance and tree.edges[node, slot].pending > 1
            flight.depth[leaf], flight.status[leaf] = depth, COLLIDED if collided else EXPANDS
            return
        depth += 1
        node = tree.outcomes[outcome].node
        flight.nodes[leaf, depth], flight.rewards[leaf, depth] = node, tree.outcomes[outcome].reward
    flight.depth[leaf], flight.status[leaf] = depth, ENDED


@compiled_in_place
def _turn_back(tree: Tree, flight: Flight, leaf: int) -> None:
    for depth in range(flight.depth[leaf] + 1):
        node, slot = flight.nodes[leaf, depth], flight.slots[leaf, depth]
        tree.nodes[node].pending -= 1
        tree.edges[node, slot].pending -= 1
    flight.status[leaf] = IDLE


@compiled_in_place
def expand(tree: Tree, rules: Rules, flight: Flight, leaf: int, state: Array, reward: float, terminal: bool) -> int:
    """Add what the model returned as an outcome of the edge that a simulation took last; return its node.

    A simulation goes on through an outcome that was drawn before, and through a state that has a node already.
    """
    depth = flight.depth[leaf]
    node, slot = flight.nodes[leaf, depth], flight.slots[leaf, depth]
    outcome = _recurring(tree, rules, tree.edges[node, slot].first, state, reward, terminal)
    flight.status[leaf] = SELECTS
    if outcome != NONE:
        tree.outcomes[outcome].count += 1
        child = tree.outcomes[outcome].node
    else:
        child = tree.table[place_of(tree, state, terminal)] if rules.graph else NONE
        if child == NONE:
            child = add_node(tree, rules, leaf, state, terminal)
            flight.status[leaf] = ENDED if terminal else EVALUATES
        added = add_outcome(tree, rules, node, slot, child, reward)
        if added == NONE and flight.status[leaf] == SELECTS:
            flight.status[leaf] = ENDED  # so that no path takes an edge twice that leads nowhere yet
    flight.depth[leaf] = depth + 1
    flight.nodes[leaf, depth + 1], flight.rewards[leaf, depth + 1] = child, reward
    return child


@compiled_in_place
def _recurring(tree: Tree, rules: Rules, outcome: int, state: Array, reward: float, terminal: bool) -> int:
    """Return the outcome of a chain that is the same, or NONE; where nothing is random it is the only one."""
    while outcome != NONE and rules.chance:
        child = tree.outcomes[outcome].node
        same = tree.outcomes[outcome].reward == reward and tree.nodes[child].terminal == terminal
        for column in range(len(state)):
            same = same and tree.states[child, column] == state[column]
        if same:
            return outcome
        outcome = tree.outcomes[outcome].next
    return outcome
