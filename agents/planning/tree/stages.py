"""The stages of a simulation: selection, expansion and backup; all of it compiled.

Simulation, the fourth stage, is the model's: `compiled_search` runs all four in one loop, `model_search` evaluates
the leaves of all trees in one batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...compiled import compiled_in_place
from .arrays import COLLIDED, ENDED, EVALUATES, EXPANDS, IDLE, NONE, SELECTS, Flight, Root, Rules, Tree, add_node
from .selection import choose, follow

__all__ = ["backup", "expand", "select"]

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
    while not tree.nodes[node].terminal and depth < rules.horizon:
        if depth > 0 and np.isnan(tree.nodes[node].raw):
            flight.depth[leaf], flight.status[leaf] = depth, EVALUATES
            return
        slot = choose(tree, root, rules, node)
        flight.slots[leaf, depth] = slot
        tree.nodes[node].pending += 1
        tree.edges[node, slot].pending += 1
        child = follow(tree, rules, node, slot)
        if child == NONE:
            collided = not rules.chance and tree.edges[node, slot].pending > 1
            flight.depth[leaf], flight.status[leaf] = depth, COLLIDED if collided else EXPANDS
            return
        depth += 1
        node = child
        flight.nodes[leaf, depth] = node
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

    A simulation goes on through an outcome that was drawn before.
    """
    depth = flight.depth[leaf]
    node, slot = flight.nodes[leaf, depth], flight.slots[leaf, depth]
    child = _recurring(tree, rules, tree.edges[node, slot].first, state, reward, terminal)
    if child == NONE:
        child = add_node(tree, rules, leaf, state, reward, terminal)
        if child < rules.capacity:
            tree.nodes[child].sibling = tree.edges[node, slot].first
            tree.edges[node, slot].first = child
            tree.edges[node, slot].outcomes += 1
        if terminal:
            tree.nodes[child].raw = 0.0
        flight.status[leaf] = ENDED if terminal else EVALUATES
    else:
        tree.nodes[child].count += 1
        flight.status[leaf] = SELECTS
    flight.depth[leaf] = depth + 1
    flight.nodes[leaf, depth + 1] = child
    return child


@compiled_in_place
def _recurring(tree: Tree, rules: Rules, child: int, state: Array, reward: float, terminal: bool) -> int:
    """Return the outcome of a chain that is the same, or NONE; where nothing is random it is the only one."""
    while child != NONE and rules.chance:
        same = tree.nodes[child].reward == reward and tree.nodes[child].terminal == terminal
        for column in range(len(state)):
            same = same and tree.states[child, column] == state[column]
        if same:
            return child
        child = tree.nodes[child].sibling
    return child


@compiled_in_place
def backup(tree: Tree, rules: Rules, flight: Flight, leaf: int, value: float) -> None:
    """Count the return of a simulation, whose last node is worth `value`, at all nodes and edges of its path."""
    depth, total = flight.depth[leaf], value
    node = tree.nodes[flight.nodes[leaf, depth]]
    node.low, node.high = min(node.low, total), max(node.high, total)
    while depth > 0:
        total = node.reward + rules.discount * total
        depth -= 1
        number = flight.nodes[leaf, depth]
        node, edge = tree.nodes[number], tree.edges[number, flight.slots[leaf, depth]]
        node.visits, node.pending = node.visits + 1, node.pending - 1
        node.low, node.high = min(node.low, total), max(node.high, total)
        edge.visits, edge.pending, edge.total = edge.visits + 1, edge.pending - 1, edge.total + total
    flight.status[leaf] = IDLE
