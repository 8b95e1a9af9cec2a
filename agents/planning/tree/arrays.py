"""Trees as arrays: nodes, edges and outcomes of many trees, side by side; nothing of them is a Python object."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ...compiled import compiled_in_place

__all__ = [
    "NONE",
    "Flight",
    "Root",
    "Rules",
    "Tree",
    "empty_flight",
    "empty_tree",
    "flight_of",
    "root_of",
    "tree_of",
    "uniform",
]

Array = np.ndarray[Any, Any]

NONE = -1  # no node
IDLE, SELECTS, EXPANDS, EVALUATES, ENDED, COLLIDED = range(6)  # what a simulation in flight does next
UCB1, PUCT, GUMBEL = range(3)


NODE = np.dtype(
    [
        ("raw", np.float64),  # first estimate of the value; NaN until there is one
        ("value", np.float64),  # of the best edge, where values are backed up by maximum; otherwise NaN
        ("low", np.float64),  # lowest return seen from here
        ("high", np.float64),  # highest
        ("visits", np.int64),  # simulations that went on from here
        ("pending", np.int64),  # those that are in flight
        ("width", np.int64),  # edges in use
        ("terminal", np.bool_),  # whether the episode ends here
    ],
    align=True,
)
EDGE = np.dtype(
    [
        ("total", np.float64),  # sum of returns; where values are backed up by maximum, its value times its visits
        ("visits", np.int64),  # simulations that took it and are not in flight
        ("pending", np.int64),  # those that are in flight
        ("first", np.int64),  # first outcome
        ("outcomes", np.int64),  # how many outcomes
    ],
    align=True,
)
OUTCOME = np.dtype(
    [
        ("reward", np.float64),  # of the step
        ("node", np.int64),  # where it leads
        ("count", np.int64),  # how often it was drawn
        ("next", np.int64),  # next outcome of the same edge
    ],
    align=True,
)


class Tree(NamedTuple):
    """A tree of at most M nodes; or T of them, each array with a leading axis T.

    There are R = M + L rows, of which the last L hold nodes that found no place any more. A node is a state of the
    model, node 0 the root. Its K edges are actions; an edge leads to a chain of outcomes: a single one where nothing is
    random. With transpositions the tree is a graph, which may have cycles: outcomes that are the same state lead to the
    same node. Returns are discounted to the node at which they are counted. `nodes["visits"]` is an array like any
    other; what a simulation reads and writes together lies together.
    """

    size: Array  # [2] nodes and outcomes in use
    random: Array  # [1] uint64, state of the generator
    bounds: Array  # [2, A] of Box actions
    states: Array  # [R, S] what outcomes are told apart by
    nodes: Array  # [R] of NODE
    edges: Array  # [R, K] of EDGE
    outcomes: Array  # [C] of OUTCOME
    table: Array  # [B] nodes by the hash of their states, a power of two with room to spare; [1] without transpositions
    prior: Array  # [R, K] probabilities
    actions: Array  # [R, K, A] Box actions, in their own units; [1, 1, 1] without meaning for choices

    def one(self, t: int) -> Tree:
        """Return one of T trees; it shares their memory."""
        return Tree(*(part[t] for part in self))


class Rules(NamedTuple):
    """The numbers that a search runs by; see `TreeSearch`."""

    kind: int  # UCB1, PUCT or GUMBEL
    exploration: float
    discount: float
    horizon: int
    capacity: int  # M
    most_outcomes: int  # C
    graph: bool  # whether outcomes that are the same state share a node
    maximum: bool  # whether a node's value is that of its best edge, in place of the mean return
    virtual_loss: float
    box: bool  # whether actions are Box ones, of which nodes hold ever more
    widening: float
    widening_exponent: float
    stretch: float
    chance: bool  # whether edges may have several outcomes
    outcome_widening: float
    outcome_exponent: float
    value_scale: float
    visit_offset: float
    rollouts: int  # of each leaf; 0 for none
    evaluates: bool  # whether a value function judges states
    leaf_value: float  # of leaves that nothing judges


class Root(NamedTuple):
    """What is special at a root; or at T of them."""

    valid: Array  # [K] bool, actions that may be taken
    gumbel: Array  # [K] logits of the prior plus Gumbel noise
    schedule: Array  # [simulations] visits of the actions that sequential halving looks at next
    started: Array  # [1] simulations so far
    scratch: Array  # [K] room to work in


class Flight(NamedTuple):
    """L simulations of a tree in flight, or of T of them; D = horizon + 1."""

    status: Array  # [L]
    depth: Array  # [L] steps from the root
    nodes: Array  # [L, D] the path
    slots: Array  # [L, D] edges taken from its nodes
    rewards: Array  # [L, D] of the steps that led to its nodes


def empty_tree(trees: int, rules: Rules, leaves: int, actions: int, state_size: int, box: int, seed: int) -> Tree:
    """Return trees without a node, all with the same random numbers, so that a batch equals its trees one by one.

    Args:
        trees: T.
        rules: The rules.
        leaves: L.
        actions: K.
        state_size: S.
        box: Components A of Box actions, 0 for choices.
        seed: Of the generators.
    """
    rows, buckets = rules.capacity + leaves, 1
    while rules.graph and buckets < 2 * rules.capacity:
        buckets *= 2
    return Tree(
        np.zeros((trees, 2), np.int64),
        np.full((trees, 1), seed, np.uint64),
        np.zeros((trees, 2, max(1, box))),
        np.empty((trees, rows, state_size)),
        np.zeros((trees, rows), NODE),
        np.zeros((trees, rows, actions), EDGE),
        np.zeros((trees, rules.most_outcomes), OUTCOME),
        np.full((trees, buckets), NONE),
        np.empty((trees, rows, actions)),
        np.zeros((trees, rows, actions, box) if box else (trees, 1, 1, 1)),
    )


def empty_flight(trees: int, leaves: int, horizon: int) -> Flight:
    """Return room for simulations, of which none is on its way."""
    paths = (trees, leaves, horizon + 1)
    return Flight(
        np.zeros((trees, leaves), np.int64),
        np.zeros((trees, leaves), np.int64),
        np.empty(paths, np.int64),
        np.empty(paths, np.int64),
        np.empty(paths),
    )


@compiled_in_place
def tree_of(trees: Tree, t: int) -> Tree:
    """Return one of T trees, as `Tree.one` does for Python."""
    return Tree(
        trees.size[t],
        trees.random[t],
        trees.bounds[t],
        trees.states[t],
        trees.nodes[t],
        trees.edges[t],
        trees.outcomes[t],
        trees.table[t],
        trees.prior[t],
        trees.actions[t],
    )


@compiled_in_place
def root_of(roots: Root, t: int) -> Root:
    """Return what is special at one of T roots."""
    return Root(roots.valid[t], roots.gumbel[t], roots.schedule[t], roots.started[t], roots.scratch[t])


@compiled_in_place
def flight_of(flights: Flight, t: int) -> Flight:
    """Return the simulations in flight in one of T trees."""
    return Flight(flights.status[t], flights.depth[t], flights.nodes[t], flights.slots[t], flights.rewards[t])


@compiled_in_place
def uniform(random: Array) -> float:
    """Advance a generator's state `[1]` and return a number in [0, 1) (SplitMix64; Steele, Lea and Flood 2014)."""
    random[0] += np.uint64(0x9E3779B97F4A7C15)
    mixed = random[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.float64((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@compiled_in_place
def copy(source: Array, target: Array) -> None:
    """Copy the numbers of one row to another one."""
    for column in range(len(source)):
        target[column] = source[column]


@compiled_in_place
def add_node(tree: Tree, rules: Rules, spare: int, state: Array, terminal: bool) -> int:
    """Add a node and return its number; in the spare row M + `spare` if the tree is full."""
    node = tree.size[0]
    if node < rules.capacity:
        tree.size[0] += 1
        if rules.graph:
            tree.table[place_of(tree, state, terminal)] = node
    else:
        node = rules.capacity + spare
    copy(state, tree.states[node])
    made = tree.nodes[node]
    made.raw = made.value = 0.0 if terminal else np.nan
    made.low, made.high = np.inf, -np.inf
    made.visits, made.pending, made.terminal = 0, 0, terminal
    edges = tree.edges.shape[1]
    made.width = 0 if rules.box else edges
    for slot in range(edges):
        clear_edge(tree, node, slot, 1.0 / edges)
    return node


@compiled_in_place
def add_outcome(tree: Tree, rules: Rules, node: int, slot: int, child: int, reward: float) -> int:
    """Add an outcome to an edge and return its number; NONE if there is no room for it."""
    outcome = tree.size[1]
    if child >= rules.capacity or outcome == rules.most_outcomes:
        return NONE
    tree.size[1] += 1
    edge, made = tree.edges[node, slot], tree.outcomes[outcome]
    made.reward, made.node, made.count, made.next = reward, child, 1, edge.first
    edge.first, edge.outcomes = outcome, edge.outcomes + 1
    return outcome


@compiled_in_place
def place_of(tree: Tree, state: Array, terminal: bool) -> int:
    """Return the place in the table of a state's node, or the free one where it belongs (linear probing)."""
    mask = np.uint64(len(tree.table) - 1)
    mixed = np.uint64(terminal)
    for column in range(len(state)):
        mantissa, exponent = math.frexp(state[column])
        mixed ^= np.uint64(np.int64(mantissa * 2.0**53)) + np.uint64(exponent)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    place = mixed & mask
    while tree.table[place] != NONE:
        node = tree.table[place]
        same = tree.nodes[node].terminal == terminal
        for column in range(len(state)):
            same = same and tree.states[node, column] == state[column]
        if same:
            break
        place = (place + np.uint64(1)) & mask
    return int(np.int64(place))


@compiled_in_place
def add_roots(trees: Tree, rules: Rules, fresh: Array, states: Array) -> None:
    """Add the roots of the trees `[n]`, whose states `[T, S]` are given."""
    for t in fresh:
        add_node(tree_of(trees, t), rules, 0, states[t], False)


@compiled_in_place
def clear_edge(tree: Tree, node: int, slot: int, prior: float) -> None:
    """Make an edge one that was never taken."""
    edge = tree.edges[node, slot]
    edge.total, edge.visits, edge.pending, edge.first, edge.outcomes = 0.0, 0, 0, NONE, 0
    tree.prior[node, slot] = prior
