"""What a decision takes over from the tree of the last one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...compiled import compiled_in_place
from .arrays import NONE, Tree, copy

__all__ = ["copy_subtree", "find_outcome"]

Array = np.ndarray[Any, Any]


@compiled_in_place
def find_outcome(tree: Tree, slot: int, state: Array, tolerance: float) -> int:
    """Return the outcome of a root's edge that is the given state `[S]`, up to rounding; NONE if none is."""
    child = tree.edges[0, slot].first
    while child != NONE:
        same = not tree.nodes[child].terminal and not np.isnan(tree.nodes[child].raw)
        for column in range(len(state)):
            difference = abs(tree.states[child, column] - state[column])
            same = same and difference <= tolerance * (1.0 + abs(state[column]))
        if same:
            return child
        child = tree.nodes[child].sibling
    return NONE


@compiled_in_place
def copy_subtree(old: Tree, new: Tree, start: int, keep: int, order: Array) -> int:
    """Copy the tree below a node, at most `keep` nodes of it, those near its root first, and return how many.

    Their old numbers go to `order` `[keep]`. Edges keep their statistics where their outcomes are dropped.
    """
    order[0], used, done = start, 1, 0
    while done < used:
        node = order[done]
        sibling = new.nodes[done].sibling if done > 0 else NONE
        _copy_node(old, new, node, done)
        new.nodes[done].sibling = sibling
        for slot in range(old.nodes[node].width):
            child = old.edges[node, slot].first
            while child != NONE and used < keep:
                order[used] = child
                new.nodes[used].sibling = new.edges[done, slot].first
                new.edges[done, slot].first = used
                new.edges[done, slot].outcomes += 1
                used += 1
                child = old.nodes[child].sibling
        done += 1
    new.size[0] = used
    return used


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
