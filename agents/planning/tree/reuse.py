"""What a decision takes over from the tree of the last one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...compiled import compiled_in_place
from .arrays import NONE, Rules, Tree, add_outcome, copy, place_of

__all__ = ["copy_subtree", "find_outcome"]

Array = np.ndarray[Any, Any]


@compiled_in_place
def find_outcome(tree: Tree, rules: Rules, slot: int, state: Array, tolerance: float) -> int:
    """Return the node to which a root's edge leads that is the given state `[S]`, up to rounding; NONE if none is.

    In a graph any node of exactly this state will do.
    """
    outcome = tree.edges[0, slot].first
    while outcome != NONE:
        child = tree.outcomes[outcome].node
        same = not tree.nodes[child].terminal and not np.isnan(tree.nodes[child].raw)
        for column in range(len(state)):
            difference = abs(tree.states[child, column] - state[column])
            same = same and difference <= tolerance * (1.0 + abs(state[column]))
        if same:
            return child
        outcome = tree.outcomes[outcome].next
    return tree.table[place_of(tree, state, False)] if rules.graph else NONE


@compiled_in_place
def copy_subtree(old: Tree, new: Tree, rules: Rules, start: int, order: Array, places: Array) -> int:
    """Copy what is below a node, the nodes near it first, as far as there is room; return how many nodes.

    An edge keeps all of its outcomes or, where they find no room, none; then its statistics remain.

    Args:
        old: The tree of the last decision.
        new: An empty one.
        rules: The rules.
        start: The node that becomes the root.
        order: `[keep]` room for the old numbers of the nodes that are copied; there will not be more.
        places: `[R]` room for the new numbers of the old nodes.
    """
    places[:] = NONE
    order[0], places[start], new.size[0], done = start, 0, 1, 0
    while done < new.size[0]:
        node = order[done]
        _copy_node(old, new, node, done)
        if rules.graph:
            new.table[place_of(new, new.states[done], new.nodes[done].terminal)] = done
        for slot in range(old.nodes[node].width):
            if _make_room(old, new, rules, old.edges[node, slot].first, order, places):
                outcome = old.edges[node, slot].first
                while outcome != NONE:
                    kept = old.outcomes[outcome]
                    added = add_outcome(new, rules, done, slot, places[kept.node], kept.reward)
                    new.outcomes[added].count = kept.count
                    outcome = kept.next
        done += 1
    return new.size[0]


@compiled_in_place
def _make_room(old: Tree, new: Tree, rules: Rules, first: int, order: Array, places: Array) -> bool:
    """Number the nodes of a chain of outcomes anew, and return whether there is room for all of them."""
    outcomes, nodes, outcome = 0, 0, first
    while outcome != NONE:
        outcomes += 1
        nodes += places[old.outcomes[outcome].node] == NONE
        outcome = old.outcomes[outcome].next
    if new.size[0] + nodes > len(order) or new.size[1] + outcomes > rules.most_outcomes:
        return False
    outcome = first
    while outcome != NONE:
        node = old.outcomes[outcome].node
        if places[node] == NONE:
            order[new.size[0]], places[node] = node, new.size[0]
            new.size[0] += 1
        outcome = old.outcomes[outcome].next
    return True


@compiled_in_place
def _copy_node(old: Tree, new: Tree, node: int, place: int) -> None:
    """Copy a node and its edges without their outcomes."""
    copy(old.states[node], new.states[place])
    copy(old.prior[node], new.prior[place])
    new.nodes[place] = old.nodes[node]
    for slot in range(old.edges.shape[1]):
        new.edges[place, slot] = old.edges[node, slot]
        new.edges[place, slot].first, new.edges[place, slot].outcomes = NONE, 0
        if old.actions.shape[0] > 1:
            copy(old.actions[node, slot], new.actions[place, slot])
