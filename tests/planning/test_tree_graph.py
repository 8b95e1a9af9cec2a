"""Searches in which states that were met before share a node, and in which values are backed up by maximum."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tree_toys import RandomMDP, TreeProblem, steps

from mbrl_gym.agents.planning.tree import TreeSearch, principal_variation, table_model
from mbrl_gym.agents.planning.tree.arrays import empty_tree
from mbrl_gym.agents.planning.tree.results import outcomes
from mbrl_gym.agents.planning.tree.reuse import copy_subtree
from mbrl_gym.models import AnalyticModel

GRAPH = {"transpositions": True, "backup": "max"}


def table(following, reward, ends=None):
    """Return a model without chance from `[S, K]` next states and rewards."""
    following, reward = np.asarray(following)[..., None], np.asarray(reward, float)[..., None]
    ends = np.zeros(reward.shape, bool) if ends is None else np.asarray(ends)[..., None]
    return table_model(spaces.Discrete(reward.shape[1]), np.ones(reward.shape), following, reward, ends)


def diamond():
    """Return a model of two paths from 0, by 1 or 2, that meet in 3, whose actions end with rewards 1 and 2."""
    following = [[1, 2], [3, 3], [3, 3], [0, 0]]
    return table(following, [[0, 1], [0, 0], [0, 0], [1, 2]], [[False] * 2] * 3 + [[True] * 2])


def weighed(tree, node, slot, discount):
    """Return the value of an edge from those of its outcomes, in plain Python."""
    drawn = tree.outcomes[outcomes(tree, node, slot)]
    values = drawn["reward"] + discount * tree.nodes["value"][drawn["node"]]
    return (drawn["count"] * values).sum() / drawn["count"].sum()


def counted_values(tree, discount):
    """Return the values `[K]` of the root's actions by value iteration, for outcomes as often as they were counted."""
    nodes, actions = tree.size[0], tree.edges.shape[1]
    chains = [[tree.outcomes[outcomes(tree, node, slot)] for slot in range(actions)] for node in range(nodes)]
    value = np.zeros(nodes)
    for _ in range(200):
        q = [
            [
                np.average(drawn["reward"] + discount * value[drawn["node"]], weights=drawn["count"])
                if len(drawn)
                else -np.inf
                for drawn in chain
            ]
            for chain in chains
        ]
        value = np.where(tree.nodes["terminal"][:nodes], 0.0, np.max(q, 1))
    return q[0]


def test_paths_that_meet_share_a_node():
    options = {"simulations": 200, "discount": 1.0, "horizon": 5, "rollout": "none"}
    found = TreeSearch(spaces.Discrete(2), transpositions=True, **options).search(diamond(), [0]).tree.one(0)
    met = np.flatnonzero((found.states[: found.size[0], 0] == 3) & ~found.nodes["terminal"][: found.size[0]])
    assert len(met) == 1
    below = [outcomes(found, found.outcomes[outcomes(found, 0, slot)[0]]["node"], 0)[0] for slot in range(2)]
    assert_array_equal(found.outcomes["node"][below], [met[0]] * 2)
    assert found.nodes["visits"][met[0]] == found.edges["visits"][met[0]].sum() > 150
    assert found.size[0] == 5  # 0 to 3, and the end
    apart = TreeSearch(spaces.Discrete(2), **options).search(diamond(), [0]).tree.one(0)
    assert (apart.states[: apart.size[0], 0] == 3).sum() == 4
    assert apart.size[0] == 15  # all of three levels


def test_the_best_edge_counts_in_place_of_the_mean():
    """By hand: 0 then 2, 1 then 2; the mean return is drawn down by what was tried besides."""
    options = {"simulations": 100, "discount": 0.5, "horizon": 5, "rollout": "none"}
    for transpositions in (True, False):
        best = TreeSearch(spaces.Discrete(2), transpositions=transpositions, backup="max", **options)
        assert_array_equal(best.search(diamond(), [0]).decisions.values, [[0.5, 1.5]])
        mean = TreeSearch(spaces.Discrete(2), transpositions=transpositions, **options).search(diamond(), [0])
        assert (mean.decisions.values < [0.5, 1.5]).all()


def test_outcomes_weigh_as_often_as_they_were_drawn():
    """A coin: heads pays 1, tails nothing; the value is the share of heads among the draws."""
    shape = (1, 1, 2)
    coin = table_model(
        spaces.Discrete(1), np.full(shape, 0.5), np.zeros(shape), np.array([[[1.0, 0.0]]]), np.ones(shape, bool)
    )
    found = TreeSearch(spaces.Discrete(1), simulations=101, horizon=1, **GRAPH).search(coin, [0])
    drawn = found.tree.outcomes[0][:2]
    assert drawn["count"].sum() == 101
    assert found.tree.size[0, 0] == 2  # both end in the same state
    assert found.decisions.value[0] == pytest.approx(drawn["count"][drawn["reward"] == 1][0] / 101)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_in_a_tree_every_value_is_that_of_the_best_edge(seed, leaves):
    problem = RandomMDP(seed)
    found = TreeSearch(spaces.Discrete(3), simulations=60, discount=0.9, horizon=5, leaves=leaves, backup="max")
    tree = found.search(problem.model, [0], seed=seed).tree.one(0)
    for node in range(tree.size[0]):
        visited = np.flatnonzero(tree.edges["visits"][node])
        if len(visited):
            exact = [weighed(tree, node, slot, 0.9) for slot in visited]
            edges = tree.edges[node, visited]
            assert_allclose(edges["total"] / edges["visits"], exact, atol=1e-12)
            assert tree.nodes["value"][node] == pytest.approx(max(exact))
        else:
            assert tree.nodes["value"][node] == tree.nodes["raw"][node]


@pytest.mark.parametrize("rule", ["UCT", "PUCT"])
def test_values_of_a_graph_are_those_of_value_iteration(rule):
    """Of the root's actions; a tree of as many simulations is far from it.

    What is left is due to the draws: they agree much better with value iteration for the outcomes as often as counted.
    """
    errors = {"graph": [], "tree": []}
    for seed in range(6):
        problem = RandomMDP(seed, states=12)
        exact = problem.values(0.9, 300)[0]
        for name, changes in (("graph", GRAPH), ("tree", {})):
            options = {"simulations": 4000, "discount": 0.9, "horizon": 30, "rollout": "none", **changes}
            found = TreeSearch(spaces.Discrete(3), rule, **options).search(problem.model, [0], seed=seed)
            errors[name].append(np.abs(found.decisions.values[0] - exact).max())
            if name == "graph":
                assert exact[found.decisions.slot[0]] > exact.max() - 0.1
                assert_allclose(found.decisions.values[0], counted_values(found.tree.one(0), 0.9), atol=0.01)
    assert np.median(errors["graph"]) < 0.1  # rewards have a standard deviation of 1
    assert np.mean(errors["graph"]) < 0.1 * np.mean(errors["tree"])


def test_cycles_end_at_the_horizon():
    """A ring of three states, of which one step pays; the other action stays where it is."""
    ring = table([[0, 1], [1, 2], [2, 0]], [[0, 0], [0, 0], [0, 1]])
    for backup, leaves in (("max", 1), ("max", 3), ("mean", 1), ("mean", 3)):
        found = TreeSearch(
            spaces.Discrete(2), simulations=300, discount=0.5, horizon=40, rollout="none", leaves=leaves,
            transpositions=True, backup=backup,
        ).search(ring, [0])  # fmt: skip
        tree = found.tree.one(0)
        assert_array_equal(tree.size, [3, 6])
        assert (tree.nodes["pending"] == 0).all()
        assert (tree.edges["pending"] == 0).all()
        assert_array_equal(found.decisions.slot, [1])
        assert_array_equal(tree.states[principal_variation(tree)], [[1.0], [2.0]])  # and then the root again
        if backup == "max":
            value = 0.25 / (1 - 0.125)
            assert_allclose(found.decisions.values[0], [0.5 * value, value], atol=1e-4)


@pytest.mark.parametrize("backup", ["mean", "max"])
@pytest.mark.parametrize("leaves", [1, 4])
def test_graphs_keep_to_their_nodes(backup, leaves):
    for problem in (RandomMDP(0, states=40), TreeProblem(6, 3, 0)):
        found = TreeSearch(
            spaces.Discrete(3), simulations=400, max_nodes=20, discount=0.9, horizon=12, leaves=leaves,
            transpositions=True, backup=backup,
        ).search(problem.model, [0])  # fmt: skip
        tree = found.tree.one(0)
        assert tree.size[0] == 20
        assert found.decisions.visits.sum() >= 400
        assert (tree.nodes["pending"] == 0).all()
        assert (tree.edges["pending"] == 0).all()
        assert tree.outcomes["node"][: tree.size[1]].max() < 20
        rows = np.column_stack([tree.states[:20], tree.nodes["terminal"][:20]])
        assert len(np.unique(rows, axis=0)) == 20
        assert sorted(tree.table[tree.table >= 0]) == list(range(20))


@pytest.mark.parametrize("backup", ["mean", "max"])
def test_a_batch_of_graphs_equals_one_by_one(backup):
    problem = RandomMDP(3)
    finder = TreeSearch(spaces.Discrete(3), simulations=50, leaves=3, transpositions=True, backup=backup)
    together = finder.search(problem.model, np.arange(4), seed=7)
    again = finder.search(problem.model, np.arange(4), together, seed=8)
    for state in range(4):
        alone = finder.search(problem.model, [state], seed=7)
        for one, all_of_them in zip(alone.decisions, together.decisions, strict=True):
            assert_array_equal(one[0], all_of_them[state])
        continued = finder.search(problem.model, [state], alone, seed=8)
        assert_array_equal(continued.decisions.values[0], again.decisions.values[state])


def test_a_batch_of_graphs_equals_one_by_one_over_a_world_model():
    model, observation = steps(), torch.tensor([[3.0], [-1.0], [7.0]])
    finder = TreeSearch(model.action_space, simulations=200, horizon=9, rollout="none", **GRAPH)
    together = finder.search(model, observation, seed=3)
    again = finder.search(model, observation, together, seed=4)  # the root's own action 0 leads back to it
    for row in range(3):
        alone = finder.search(model, observation[row : row + 1], seed=3)
        continued = finder.search(model, observation[row : row + 1], alone, seed=4)
        for one, all_of_them in ((alone, together), (continued, again)):
            assert_array_equal(one.decisions.values[0], all_of_them.decisions.values[row])
    assert_allclose(together.decisions.value[:2], [-1 - 0.99 + 0.99**2 * 9, 9.0], rtol=1e-6)
    assert_array_equal(together.decisions.action[:2], [-1, 1])
    assert len(np.unique(again.tree.states[0, : again.tree.size[0, 0]])) == again.tree.size[0, 0]


def test_knowledge_grows_from_decision_to_decision():
    """All states can be reached from each other: nothing is forgotten, and values are better than of new searches."""
    errors = {True: [], False: []}
    for seed, reuse in itertools.product(range(4), errors):
        problem = RandomMDP(seed, states=8, end=0.0)
        exact = problem.values(0.9, 300)
        finder = TreeSearch(
            spaces.Discrete(3), simulations=150, discount=0.9, horizon=20, rollout="none", reuse=reuse, **GRAPH
        )
        found, state, before = None, 0, 0
        for step in range(12):
            found = finder.search(problem.model, [state], found, seed=step)
            tree = found.tree.one(0)
            assert tree.states[0, 0] == state
            assert tree.size[0] <= 8
            assert_array_equal(tree.nodes["visits"], tree.edges["visits"].sum(1))
            if reuse:
                assert tree.nodes["visits"].sum() > before
            before = tree.nodes["visits"].sum()
            if step > 3:
                errors[reuse].append(np.abs(found.decisions.values[0] - exact[state]).max())
            state = problem.following[state, found.decisions.slot[0], step % 3]
    assert np.mean(errors[True]) < 0.8 * np.mean(errors[False])
    assert np.mean(errors[True]) < 0.2


def test_an_edge_keeps_all_of_its_outcomes_or_none():
    """Where only a few nodes find room, what is left of an edge's draws would be no fair sample."""
    problem = RandomMDP(5, states=30)
    finder = TreeSearch(spaces.Discrete(3), simulations=300, horizon=10, **GRAPH)
    old = finder.search(problem.model, [0]).tree.one(0)
    rules = finder.rules(chance=True, choices=True, evaluates=False)
    for keep in (1, 5, 12, 1000):
        new = empty_tree(1, rules, 1, 3, 1, 0, 0).one(0)
        order, places = np.empty(keep, np.int64), np.empty(len(old.nodes), np.int64)
        size = copy_subtree(old, new, rules, 0, order, places)
        assert size == new.size[0]
        assert min(keep, old.size[0]) - 2 <= size <= keep  # three at once may find no room
        for node, slot in itertools.product(range(size), range(3)):
            kept, before = (
                {(row["reward"], tree.states[row["node"], 0]): row["count"] for row in tree.outcomes[numbers]}
                for tree, numbers in (
                    (new, outcomes(new, node, slot)),
                    (old, outcomes(old, int(order[node]), slot)),
                )
            )
            assert kept in ({}, before)
            assert new.edges["total"][node, slot] == old.edges["total"][order[node], slot]
        assert sorted(new.table[new.table >= 0]) == list(range(size))


@pytest.mark.parametrize("leaves", [2, 8])
def test_outcomes_at_the_horizon_are_judged_before_they_count(leaves):
    """Several simulations draw the same new state at once: none may count it before one has judged it."""
    rng = np.random.default_rng(0)
    shape = (4, 2, 2)
    model = table_model(
        spaces.Discrete(2),
        np.full(shape, 0.5),
        rng.integers(0, 4, shape),
        rng.normal(size=shape),
        np.zeros(shape, bool),
    )
    for horizon, changes in itertools.product((1, 2), ({}, GRAPH)):
        found = TreeSearch(spaces.Discrete(2), simulations=40, horizon=horizon, leaves=leaves, **changes)
        assert np.isfinite(found.search(model, [0]).decisions.values).all()


@pytest.mark.parametrize("over", ["compiled", "world model"])
def test_optimistic_leaves_lead_to_far_goals(over):
    """One of three actions leads on, others back to the start; the goal is 12 steps off, as random as 3^-12."""
    length, discount = 12, 0.95
    options = {"simulations": 150, "horizon": 30, "discount": discount, "exploration": 0.1, "rollout": "none", **GRAPH}
    right = np.random.default_rng(0).integers(0, 3, length)
    if over == "compiled":
        following = np.zeros((length, 3), int)
        following[np.arange(length), right] = np.minimum(np.arange(length) + 1, length - 1)
        reward = np.zeros((length, 3))
        reward[-1, right[-1]] = 1.0
        model, start, space = table(following, reward, reward > 0), [0], spaces.Discrete(3)
    else:
        turns = torch.as_tensor(right)
        space = spaces.Discrete(3)
        model = AnalyticModel(
            spaces.Discrete(length + 1),
            space,
            dynamics_fn=lambda place, action: torch.where(turns[place.clamp(max=length - 1)] == action, place + 1, 0),
            reward_fn=lambda place, action, following: (following == length).float(),
            termination_fn=lambda following: following == length,
        )
        start = torch.zeros(1, dtype=torch.int64)
    values = {}
    for leaf_value in (0.0, 1.0):
        finder = TreeSearch(space, leaf_value=leaf_value, **options)
        found = finder.search(model, start).decisions
        values[leaf_value] = found.value[0]
    assert found.slot[0] == right[0]
    assert values[0.0] == 0.0
    assert values[1.0] == pytest.approx(discount ** (length - 1))
