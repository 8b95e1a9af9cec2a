"""Which action a simulation takes at a node: UCB1, PUCT, Gumbel, and new Box actions; all of it compiled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...compiled import compiled_in_place
from .arrays import GUMBEL, NONE, PUCT, Root, Rules, Tree, clear_edge, uniform

__all__ = ["choose", "follow", "node_value", "spread", "transform_values"]

Array = np.ndarray[Any, Any]

PUCT_BASE = 19652.0  # visits at which exploration begins to grow (Schrittwieser et al. 2020, appendix B)


@compiled_in_place
def choose(tree: Tree, root: Root, rules: Rules, node: int) -> int:
    """Return the edge that a simulation takes from a node."""
    if rules.box and _may_widen(tree, rules, node):
        return _add_action(tree, rules, node)
    if rules.kind == GUMBEL:
        if node == 0:
            return _gumbel_at_root(tree, root, rules)
        return _gumbel(tree, root, rules, node)
    if rules.kind == PUCT:
        return _puct(tree, root, rules, node)
    return _ucb1(tree, root, rules, node)


@compiled_in_place
def spread(tree: Tree) -> float:
    """Return the difference of the highest and the lowest return of a tree, 1 if there is none.

    It is the unit of exploration: scaling rewards changes nothing, and a constant that is added to all returns neither.
    """
    difference = tree.nodes[0].high - tree.nodes[0].low
    return difference if 0.0 < difference < np.inf else 1.0


@compiled_in_place
def node_value(tree: Tree, rules: Rules, node: int) -> float:
    """Return the value of a node: that of its best edge, or the mean return, its first estimate included."""
    if rules.maximum and not math.isnan(tree.nodes[node].value):
        return tree.nodes[node].value
    total, visits = tree.nodes[node].raw, 1
    if math.isnan(total):
        total, visits = 0.0, 0
    for slot in range(tree.nodes[node].width):
        total += tree.edges[node, slot].total
        visits += tree.edges[node, slot].visits
    return total / max(visits, 1)


@compiled_in_place
def edge_value(tree: Tree, rules: Rules, node: int, slot: int, unknown: float) -> float:
    """Return the mean return of an edge; those in flight count as if they would return less (virtual loss).

    With `virtual_loss` 0 they count as its mean (Liu et al. 2020), with 1 as the lowest return seen from the node.
    """
    visits, pending = tree.edges[node, slot].visits, tree.edges[node, slot].pending
    mean = tree.edges[node, slot].total / visits if visits > 0 else unknown
    low = tree.nodes[node].low
    if pending == 0 or low == np.inf:
        return mean
    feared = mean + rules.virtual_loss * (min(low, mean) - mean)
    return (visits * mean + pending * feared) / (visits + pending)


@compiled_in_place
def _ucb1(tree: Tree, root: Root, rules: Rules, node: int) -> int:
    """Kocsis and Szepesvari (2006): the highest Q + c sqrt(ln N / n) in units of the returns' spread."""
    best, highest, unit = 0, -np.inf, spread(tree)
    logarithm = math.log(max(1, tree.nodes[node].visits + tree.nodes[node].pending))
    for slot in range(tree.nodes[node].width):
        if node == 0 and not root.valid[slot]:
            continue
        visits = tree.edges[node, slot].visits + tree.edges[node, slot].pending
        if visits == 0:
            return slot
        unknown = 0.0
        if tree.edges[node, slot].visits == 0:
            unknown = node_value(tree, rules, node)
        value = edge_value(tree, rules, node, slot, unknown) / unit
        score = value + rules.exploration * math.sqrt(logarithm / visits)
        if score > highest:
            best, highest = slot, score
    return best


@compiled_in_place
def _puct(tree: Tree, root: Root, rules: Rules, node: int) -> int:
    """Schrittwieser et al. (2020), equation 2 of appendix B; an action that was never taken has the node's value."""
    best, highest, unit = 0, -np.inf, spread(tree)
    total = tree.nodes[node].visits + tree.nodes[node].pending + 1  # the visit that made the node counts
    unknown = node_value(tree, rules, node)
    growth = rules.exploration + math.log((total + PUCT_BASE + 1.0) / PUCT_BASE)
    for slot in range(tree.nodes[node].width):
        if node == 0 and not root.valid[slot]:
            continue
        visits = tree.edges[node, slot].visits + tree.edges[node, slot].pending
        share = tree.prior[node, slot] if not rules.box else 1.0 / tree.nodes[node].width
        value = edge_value(tree, rules, node, slot, unknown) / unit
        score = value + share * growth * math.sqrt(total) / (1.0 + visits)
        if score > highest:
            best, highest = slot, score
    return best


@compiled_in_place
def complete_values(tree: Tree, rules: Rules, node: int, values: Array) -> None:
    """Write the values `[K]` of a node's actions, in units of the spread.

    Those never taken have the mixed value of Danihelka et al. (2022), equation 33.
    """
    edges, unit = tree.nodes[node].width, spread(tree)
    weight, mean, visits = 0.0, 0.0, 0
    for slot in range(edges):
        edge = tree.edges[node, slot]
        if edge.visits > 0:
            share = max(tree.prior[node, slot], 1e-12)
            weight += share
            mean += share * edge.total / edge.visits
            visits += edge.visits
    mixed = 0.0 if math.isnan(tree.nodes[node].raw) else tree.nodes[node].raw
    if visits > 0:
        mixed = (mixed + visits * mean / weight) / (1.0 + visits)
    for slot in range(edges):
        values[slot] = edge_value(tree, rules, node, slot, mixed) / unit


@compiled_in_place
def transform_values(tree: Tree, rules: Rules, node: int, scores: Array) -> None:
    """Write sigma(q) `[K]` of Danihelka et al. (2022), equation 8, for values in units of the spread."""
    most = 0
    for slot in range(tree.nodes[node].width):
        most = max(most, tree.edges[node, slot].visits + tree.edges[node, slot].pending)
    complete_values(tree, rules, node, scores)
    for slot in range(len(scores)):
        scores[slot] *= (rules.visit_offset + most) * rules.value_scale


@compiled_in_place
def _gumbel(tree: Tree, root: Root, rules: Rules, node: int) -> int:
    """Danihelka et al. (2022), equation 14: follow the improved policy as closely as visit counts can."""
    scores, highest, norm = root.scratch, -np.inf, 0.0
    transform_values(tree, rules, node, scores)
    for slot in range(len(scores)):
        scores[slot] += math.log(max(tree.prior[node, slot], 1e-300))
        highest = max(highest, scores[slot])
    for slot in range(len(scores)):
        scores[slot] = math.exp(scores[slot] - highest)
        norm += scores[slot]
    total = tree.nodes[node].visits + tree.nodes[node].pending
    best, highest = 0, -np.inf
    for slot in range(len(scores)):
        visits = tree.edges[node, slot].visits + tree.edges[node, slot].pending
        score = scores[slot] / norm - visits / (1.0 + total)
        if score > highest:
            best, highest = slot, score
    return best


@compiled_in_place
def _gumbel_at_root(tree: Tree, root: Root, rules: Rules) -> int:
    """Danihelka et al. (2022), algorithm 2: the best of the actions that sequential halving looks at."""
    considered = root.schedule[min(root.started[0], len(root.schedule) - 1)]
    scores = root.scratch
    transform_values(tree, rules, 0, scores)
    best, highest = NONE, -np.inf
    for slot in range(len(scores)):
        visits = tree.edges[0, slot].visits + tree.edges[0, slot].pending
        score = root.gumbel[slot] + scores[slot]
        if root.valid[slot] and visits == considered and score > highest:
            best, highest = slot, score
    if best != NONE:
        return best
    return _least_visited(tree, root)  # simulations in flight may have run ahead of the schedule


@compiled_in_place
def _least_visited(tree: Tree, root: Root) -> int:
    best, fewest = 0, -1
    for slot in range(tree.nodes[0].width):
        visits = tree.edges[0, slot].visits + tree.edges[0, slot].pending
        if root.valid[slot] and (fewest < 0 or visits < fewest):
            best, fewest = slot, visits
    return best


@compiled_in_place
def _may_widen(tree: Tree, rules: Rules, node: int) -> bool:
    """Couetoux et al. (2011): a node that was visited n times may have k n^alpha actions."""
    width, visits = tree.nodes[node].width, tree.nodes[node].visits + tree.nodes[node].pending
    allowed = rules.widening * float(visits) ** rules.widening_exponent
    return width < tree.edges.shape[1] and (width == 0 or width < allowed)


@compiled_in_place
def _add_action(tree: Tree, rules: Rules, node: int) -> int:
    """Draw an action from a box that is larger by `stretch`, and move it to the edge where it lies outside."""
    slot = tree.nodes[node].width
    tree.nodes[node].width += 1
    clear_edge(tree, node, slot, 1.0)
    for part in range(tree.actions.shape[2]):
        low, high = tree.bounds[0, part], tree.bounds[1, part]
        drawn = 0.5 + rules.stretch * (uniform(tree.random) - 0.5)
        tree.actions[node, slot, part] = min(max(low + drawn * (high - low), low), high)
    return slot


@compiled_in_place
def follow(tree: Tree, rules: Rules, node: int, slot: int) -> int:
    """Return the outcome to which an edge leads, NONE if the model is to draw one.

    Couetoux et al. (2011): an edge that was taken n times may have k n^alpha outcomes; then they recur as often as they
    were drawn.
    """
    outcome = tree.edges[node, slot].first
    if outcome == NONE or not rules.chance:
        return outcome
    visits = tree.edges[node, slot].visits + tree.edges[node, slot].pending
    if tree.edges[node, slot].outcomes < rules.outcome_widening * float(visits) ** rules.outcome_exponent:
        return NONE
    total, following = 0, outcome
    while following != NONE:
        total += tree.outcomes[following].count
        following = tree.outcomes[following].next
    left = int(uniform(tree.random) * total)
    while left >= tree.outcomes[outcome].count:
        left -= tree.outcomes[outcome].count
        outcome = tree.outcomes[outcome].next
    return outcome
