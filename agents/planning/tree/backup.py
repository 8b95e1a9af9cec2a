"""The last stage of a simulation: what its end is worth is counted along its path; all of it compiled."""

from __future__ import annotations

import math

import numpy as np

from ...compiled import compiled_in_place
from .arrays import IDLE, NONE, Flight, Rules, Tree
from .selection import node_value

__all__ = ["backup"]


@compiled_in_place
def backup(tree: Tree, rules: Rules, flight: Flight, leaf: int) -> None:
    """Count what the last node of a simulation is worth at all nodes and edges of its path."""
    last = flight.nodes[leaf, flight.depth[leaf]]
    node = tree.nodes[last]
    if rules.maximum and node.visits == 0:
        node.value = node.raw
    value = node_value(tree, rules, last) if rules.graph else node.raw
    node.low, node.high = min(node.low, value), max(node.high, value)
    if rules.maximum:
        _by_maximum(tree, rules, flight, leaf, value)
    else:
        _by_mean(tree, rules, flight, leaf, value)
    flight.status[leaf] = IDLE


@compiled_in_place
def _by_mean(tree: Tree, rules: Rules, flight: Flight, leaf: int, total: float) -> None:
    """Add the return of the simulation to the edges' totals (Kocsis and Szepesvari 2006)."""
    for depth in range(flight.depth[leaf] - 1, -1, -1):
        total = flight.rewards[leaf, depth + 1] + rules.discount * total
        number = flight.nodes[leaf, depth]
        node, edge = tree.nodes[number], tree.edges[number, flight.slots[leaf, depth]]
        node.visits, node.pending = node.visits + 1, node.pending - 1
        node.low, node.high = min(node.low, total), max(node.high, total)
        edge.visits, edge.pending, edge.total = edge.visits + 1, edge.pending - 1, edge.total + total


@compiled_in_place
def _by_maximum(tree: Tree, rules: Rules, flight: Flight, leaf: int, value: float) -> None:
    """Give every node of the path the value of its best edge (Keller and Helmert 2013: DP-UCT).

    An edge's value is the mean over its outcomes, weighed by how often they were drawn, of what follows them.
    """
    for depth in range(flight.depth[leaf] - 1, -1, -1):
        number, taken = flight.nodes[leaf, depth], flight.slots[leaf, depth]
        node, edge = tree.nodes[number], tree.edges[number, taken]
        node.visits, node.pending = node.visits + 1, node.pending - 1
        edge.visits, edge.pending = edge.visits + 1, edge.pending - 1
        total = flight.rewards[leaf, depth + 1] + rules.discount * value
        value = -np.inf
        for slot in range(node.width):
            if rules.graph or slot == taken:  # in a tree nothing else has changed
                _weigh_outcomes(tree, rules, number, slot, total if slot == taken else np.nan)
            if tree.edges[number, slot].visits > 0:
                value = max(value, tree.edges[number, slot].total / tree.edges[number, slot].visits)
        node.value = value
        mean = edge.total / edge.visits
        node.low, node.high = min(node.low, mean), max(node.high, mean)


@compiled_in_place
def _weigh_outcomes(tree: Tree, rules: Rules, node: int, slot: int, total: float) -> None:
    """Set the value of an edge from those of its outcomes; one that has none counts the returns `total`."""
    edge = tree.edges[node, slot]
    following, weight, drawn = 0.0, 0, edge.first
    while drawn != NONE:
        outcome = tree.outcomes[drawn]
        value = tree.nodes[outcome.node].value
        if not math.isnan(value):  # others are still in flight
            following += outcome.count * (outcome.reward + rules.discount * value)
            weight += outcome.count
        drawn = outcome.next
    if weight > 0:
        edge.total = edge.visits * following / weight
    elif not math.isnan(total):
        edge.total += total
