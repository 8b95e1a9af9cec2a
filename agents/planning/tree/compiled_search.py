"""The whole search over a compiled model in one loop, with no Python in between."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from ...compiled import compiled_in_place
from .arrays import (
    EVALUATES,
    EXPANDS,
    IDLE,
    SELECTS,
    Flight,
    Root,
    Rules,
    Tree,
    copy,
    flight_of,
    root_of,
    tree_of,
    uniform,
)
from .backup import backup
from .stages import expand, select

__all__ = ["Machine", "evaluate_roots", "run"]

Array = np.ndarray[Any, Any]


class Machine(NamedTuple):
    """A compiled model, and room to work in."""

    step: Any
    evaluate: Any
    parameters: Array
    action: Array  # [A]
    states: Array  # [2, S]
    prior: Array  # [K]


def direct(function: Any) -> Any:
    """Return a compiled function whose arguments are always of the same types: numba takes 0.1 ms to find them out."""
    entries: list[Any] = []

    def call(*arguments: Any) -> None:
        if not entries:
            signature = tuple(numba.typeof(argument) for argument in arguments)
            function.compile(signature)
            entries.append(function.get_overload(signature))
        entries[0](*arguments)

    return call


@direct
@compiled_in_place
def evaluate_roots(trees: Tree, fresh: Array, machine: Machine) -> None:
    """Judge the roots of the trees `[n]`, and note their priors."""
    for t in fresh:
        tree = tree_of(trees, t)
        tree.nodes[0].raw = machine.evaluate(machine.parameters, tree.states[0], tree.prior[0], tree.random)


@direct
@compiled_in_place
def run(trees: Tree, roots: Root, rules: Rules, flights: Flight, simulations: int, machine: Machine) -> None:
    """Run all simulations of all trees."""
    for t in range(len(trees.size)):
        tree, root, flight = tree_of(trees, t), root_of(roots, t), flight_of(flights, t)
        active = True
        while active:
            select(tree, root, rules, flight, simulations)
            while _expand_all(tree, rules, flight, machine):
                select(tree, root, rules, flight, 0)
            active = False
            for leaf in range(len(flight.status)):
                if flight.status[leaf] != IDLE:
                    active = True
                    if flight.status[leaf] == EVALUATES:
                        _evaluate(tree, rules, flight, leaf, machine)
                    backup(tree, rules, flight, leaf)


@compiled_in_place
def _expand_all(tree: Tree, rules: Rules, flight: Flight, machine: Machine) -> bool:
    """Draw an outcome for every simulation that waits for one, and return whether some go on from it."""
    goes_on = False
    for leaf in range(len(flight.status)):
        if flight.status[leaf] == EXPANDS:
            depth = flight.depth[leaf]
            node, slot = flight.nodes[leaf, depth], flight.slots[leaf, depth]
            if rules.box:
                copy(tree.actions[node, slot], machine.action)
            else:
                machine.action[0] = slot
            following = machine.states[0]
            reward, terminal = machine.step(
                machine.parameters, tree.states[node], machine.action, following, tree.random
            )
            expand(tree, rules, flight, leaf, following, reward, terminal)
            goes_on = goes_on or flight.status[leaf] == SELECTS
    return goes_on


@compiled_in_place
def _evaluate(tree: Tree, rules: Rules, flight: Flight, leaf: int, machine: Machine) -> None:
    """Judge the last node of a simulation, and note its prior: the stage called simulation."""
    node = flight.nodes[leaf, flight.depth[leaf]]
    value = rules.leaf_value
    if rules.evaluates:
        value = machine.evaluate(machine.parameters, tree.states[node], tree.prior[node], tree.random)
    steps = rules.horizon - flight.depth[leaf]
    if rules.rollouts and steps > 0:
        value = 0.0
        for _ in range(rules.rollouts):
            value += _roll_out(tree, rules, node, steps, machine) / rules.rollouts
    tree.nodes[node].raw = value


@compiled_in_place
def _roll_out(tree: Tree, rules: Rules, node: int, steps: int, machine: Machine) -> float:
    """Return the discounted return of random actions, and the value of where they end."""
    total, weight, now = 0.0, 1.0, 0
    copy(tree.states[node], machine.states[0])
    for _ in range(steps):
        for part in range(len(machine.action)):
            drawn = uniform(tree.random)
            if rules.box:
                low, high = tree.bounds[0, part], tree.bounds[1, part]
                machine.action[part] = low + drawn * (high - low)
            else:
                machine.action[part] = int(drawn * tree.prior.shape[1])
        before, after = machine.states[now], machine.states[1 - now]
        reward, terminal = machine.step(machine.parameters, before, machine.action, after, tree.random)
        total += weight * reward
        weight *= rules.discount
        now = 1 - now
        if terminal:
            return total
    return total + weight * machine.evaluate(machine.parameters, machine.states[now], machine.prior, tree.random)
