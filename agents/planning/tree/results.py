"""What a search decides, and the statistics of its roots."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...compiled import compiled_in_place
from .arrays import NONE, Root, Rules, Tree, tree_of
from .selection import transform_values

__all__ = ["Decisions", "decide", "principal_variation", "root_table"]

Array = np.ndarray[Any, Any]


class Decisions(NamedTuple):
    """What N searches decided, and the statistics of their roots; K actions."""

    slot: Array  # [N] which of the root's actions
    action: Array  # [N] or [N, ...] in the environment's units
    value: Array  # [N] mean return of the chosen action
    visits: Array  # [N, K]
    values: Array  # [N, K] mean returns; NaN where there was no visit
    prior: Array  # [N, K]
    policy: Array  # [N, K] what the search would have a policy learn
    actions: Array  # [N, K, A] Box actions; [N, K] or [N, K, C] choices
    simulated: Array  # [N] returns counted at the root, those of earlier searches included


def decide(search: Any, tree: Tree, root: Root, rules: Rules) -> Decisions:
    """Return the decisions of a search: the action with most visits, of several the one of the highest value.

    Where values are backed up by maximum it is the action of the highest value, whatever its visits: they tell where
    the search looked, not what it found. Gumbel takes the best of those with most visits (Danihelka et al. 2022,
    algorithm 2), and its improved policy (equation 11) in place of the visits' distribution.
    """
    visits, total = tree.edges["visits"][:, 0], tree.edges["total"][:, 0]
    values = np.where(visits > 0, total / np.maximum(visits, 1), np.nan)
    most = (visits == visits.max(1, keepdims=True)) & root.valid
    if rules.maximum and search.selection != "Gumbel":
        most = (visits > 0) & root.valid
    score = np.where(np.isnan(values), -np.inf, values)
    policy = visits / np.maximum(visits.sum(1, keepdims=True), 1)
    if search.selection == "Gumbel":
        transformed = np.zeros_like(tree.prior[:, 0])
        write_root_scores(tree, rules, transformed)
        score = root.gumbel + transformed
        logits = np.where(root.valid, np.log(np.maximum(tree.prior[:, 0], 1e-300)) + transformed, -np.inf)
        policy = np.exp(logits - logits.max(1, keepdims=True))
        policy /= policy.sum(1, keepdims=True)
    slot = np.where(most, score, -np.inf).argmax(1)
    rows = np.arange(len(slot))
    if search.choices is None:
        actions = tree.actions[:, 0].astype(search.action_space.dtype)
        chosen = actions[rows, slot]
    else:
        actions = np.broadcast_to(search.choices, (len(slot), *search.choices.shape))
        chosen = search.choices[slot].astype(search.action_space.dtype)
    return Decisions(
        slot, chosen, values[rows, slot], visits, values, tree.prior[:, 0].copy(), policy, actions, visits.sum(1)
    )


@compiled_in_place
def write_root_scores(trees: Tree, rules: Rules, scores: Array) -> None:
    """Write sigma(q) `[T, K]` of all roots."""
    for t in range(len(trees.size)):
        transform_values(tree_of(trees, t), rules, 0, scores[t])


def principal_variation(tree: Tree, slot: int | None = None) -> list[int]:
    """Return the nodes of the path of most visits in one tree, below the root; it goes nowhere twice.

    Args:
        tree: The tree.
        slot: The root's edge with which it begins; by default that of most visits.
    """
    path: list[int] = []
    node = 0
    while True:
        edges = tree.edges[node, : tree.nodes[node]["width"]]
        if path or slot is None:
            if not edges["visits"].any():
                return path
            slot = int(edges["visits"].argmax())
        drawn = tree.outcomes[outcomes(tree, node, slot)]
        new = drawn[~np.isin(drawn["node"], [0, *path])]
        if not len(new):
            return path
        node = int(new["node"][new["count"].argmax()])
        path.append(node)


def outcomes(tree: Tree, node: int, slot: int) -> list[int]:
    """Return the outcomes of an edge of one tree, by their numbers."""
    found, outcome = [], int(tree.edges[node, slot]["first"])
    while outcome != NONE:
        found.append(outcome)
        outcome = int(tree.outcomes[outcome]["next"])
    return found


def root_table(decisions: Decisions, row: int = 0) -> str:
    """Return the statistics of a root's actions as a table, most visited first."""
    lines = [f"{'action':>20} {'visits':>7} {'value':>10} {'prior':>7}"]
    for slot in np.argsort(-decisions.visits[row], kind="stable"):
        visits = decisions.visits[row, slot]
        if not visits and decisions.actions.ndim > 2:
            continue
        action = np.array2string(np.asarray(decisions.actions[row, slot]), precision=3)
        value, prior = decisions.values[row, slot], decisions.prior[row, slot]
        lines.append(f"{action:>20} {visits:>7} {value:>10.4g} {prior:>7.3f}")
    return "\n".join(lines)
