"""Tree search against brute force, value iteration and counts by hand."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tree_toys import RandomMDP, TreeProblem, steps, walk

from mbrl_gym.agents.planning.tree import CompiledModel, TreeSearch, principal_variation, table_model
from mbrl_gym.agents.planning.tree.halving import halving_schedule
from mbrl_gym.agents.planning.tree.results import outcomes
from mbrl_gym.errors import InvalidSettingError, PlanningError, UnsupportedSpaceError

RULES = ("UCT", "PUCT", "Gumbel")


def arms(rewards):
    """Return a model of one decision between arms whose rewards are fixed."""
    reward = np.asarray(rewards, float)[None, :, None]
    return table_model(
        spaces.Discrete(len(rewards)), np.ones_like(reward), np.zeros(reward.shape), reward, np.ones(reward.shape, bool)
    )


def search(problem, rule="UCT", **changes):
    changes = {"discount": 1.0, "horizon": 10, **changes}
    return TreeSearch(problem.action_space, rule, **changes)


def test_visits_of_two_arms_are_those_of_ucb1_by_hand():
    """UCB1 with c = sqrt 2 over arms that pay 1 and 0: replayed with pen and paper's formula."""
    visits, total = [0, 0], [0.0, 0.0]
    for simulation in range(20):
        if 0 in visits:
            arm = visits.index(0)
        else:
            bonus = [math.sqrt(2 * math.log(simulation) / n) for n in visits]
            # The spread of the returns, once both arms were seen, is 1.
            arm = int(np.argmax([t / n + b for t, n, b in zip(total, visits, bonus, strict=True)]))
        visits[arm] += 1
        total[arm] += [1.0, 0.0][arm]
        found = (
            search(arms([1, 0]), simulations=simulation + 1).search(arms([1, 0]), [0])
            if simulation
            in (
                1,
                4,
                19,
            )
            else None
        )
        if found is not None:
            assert_array_equal(found.decisions.visits, [visits])
    assert visits == [17, 3]


@pytest.mark.parametrize("rule", ["UCT", "PUCT"])
def test_more_simulations_find_the_best_action_of_random_trees(rule):
    """Brute force knows the best; PUCT, whose exploration ends sooner, is given more of it."""
    problems = [TreeProblem(4, 3, seed) for seed in range(12)]
    regret = {}
    for simulations in (20, 3000):
        losses = []
        for problem in problems:
            found = TreeSearch(
                spaces.Discrete(3), rule, simulations=simulations, discount=1.0, horizon=4, exploration=2.0
            ).search(problem.model, [0])
            values = problem.values()
            losses.append(values.max() - values[found.decisions.slot[0]])
        regret[simulations] = np.array(losses)
    assert regret[3000].max() == 0
    assert regret[20].sum() > 0


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_the_value_approaches_that_of_brute_force(discount):
    problem = TreeProblem(3, 2, 5)
    errors = []
    for simulations in (30, 300, 10_000):
        found = TreeSearch(spaces.Discrete(2), simulations=simulations, discount=discount, horizon=3).search(
            problem.model, [0]
        )
        errors.append(abs(found.decisions.value[0] - problem.values(discount).max()))
    assert errors[2] < 0.02
    assert errors[2] < errors[0]


def test_gumbel_with_17_simulations_and_two_valid_actions_visits_0_9_8_0():
    """The example of Danihelka et al.'s own implementation: sequential halving splits 16, the better gets the last."""
    model = arms([1.0, 0.9, 0.1, 0.5])
    found = search(model, "Gumbel", simulations=17, gumbel_scale=0.0).search(
        model, [0], valid=[[False, True, True, False]]
    )
    assert_array_equal(found.decisions.visits, [[0, 9, 8, 0]])
    assert_array_equal(found.decisions.action, [1])
    assert_array_equal(found.decisions.policy[0, [0, 3]], 0)


@given(st.integers(1, 40), st.integers(1, 200))
def test_sequential_halving_fills_the_budget_and_leaves_the_best_two(considered, simulations):
    schedule = halving_schedule(considered, simulations)
    assert len(schedule) == simulations
    visits = np.zeros(considered, int)
    for before in schedule:  # whichever arm is taken, one with so many visits exists
        arm = np.flatnonzero(visits == before)[0]
        visits[arm] += 1
    assert visits.sum() == simulations


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.25, 4.0, 1024.0]), st.sampled_from([-16.0, 0.0, 128.0]))
@pytest.mark.parametrize(("rule", "backup"), [("UCT", "mean"), ("PUCT", "mean"), ("Gumbel", "mean"), ("UCT", "max")])
def test_scale_and_shift_of_rewards_change_no_decision(rule, backup, seed, scale, shift):
    """All returns have as many rewards, eighths of powers of two: the arithmetic is exact."""
    options = {"simulations": 40, "discount": 1.0, "horizon": 3, "leaves": 1, "backup": backup}
    plain, other = (
        TreeSearch(spaces.Discrete(3), rule, **options).search(problem.model, [0], seed=seed).decisions
        for problem in (TreeProblem(3, 3, seed), TreeProblem(3, 3, seed, scale=scale, shift=shift))
    )
    assert_array_equal(plain.action, other.action)
    if rule == "UCT":  # the others' formulas round
        assert_array_equal(plain.visits, other.visits)


@pytest.mark.parametrize("seed", range(3))
def test_values_of_random_mdps_are_those_of_value_iteration(seed):
    """With random outcomes counted in chance nodes; rewards have a standard deviation of 1."""
    problem = RandomMDP(seed)
    exact = problem.values(0.9, 5)
    found = TreeSearch(
        spaces.Discrete(3), simulations=60_000, max_nodes=50_000, discount=0.9, horizon=5, exploration=0.3
    ).search(problem.model, np.arange(2))
    for state in range(2):
        assert_allclose(found.decisions.value[state], exact[state].max(), atol=0.2)
        assert exact[state, found.decisions.slot[state]] > exact[state].max() - 0.1
    root, slot = found.tree.one(0), int(found.decisions.slot[0])
    drawn = root.outcomes[outcomes(root, 0, slot)]
    counts = np.array(
        [drawn["count"][root.states[drawn["node"], 0] == state].sum() for state in problem.following[0, slot]]
    )
    assert_allclose(counts / counts.sum(), problem.probability[0, slot], atol=5 / math.sqrt(counts.sum()))


@pytest.mark.parametrize("rule", RULES)
def test_a_batch_equals_one_by_one(rule):
    problem = RandomMDP(3)
    options = {"simulations": 50, "leaves": 3}
    together = TreeSearch(spaces.Discrete(3), rule, **options).search(problem.model, np.arange(4), seed=7).decisions
    for state in range(4):
        alone = TreeSearch(spaces.Discrete(3), rule, **options).search(problem.model, [state], seed=7).decisions
        for one, all_of_them in zip(alone, together, strict=True):
            assert_array_equal(one[0], all_of_them[state])


@pytest.mark.parametrize("model", [walk, steps])
def test_a_batch_equals_one_by_one_over_a_world_model(model):
    model = model()
    observation = torch.tensor([[3.0], [-1.0], [7.0]])
    finder = TreeSearch(model.action_space, simulations=40, horizon=6)
    together = finder.search(model, observation, seed=3)
    again = finder.search(model, observation, together, seed=4)
    for row in range(3):
        alone = finder.search(model, observation[row : row + 1], seed=3)
        for one, all_of_them in zip(alone.decisions, together.decisions, strict=True):
            assert_array_equal(one[0], all_of_them[row])
        continued = finder.search(model, observation[row : row + 1], alone, seed=4)
        assert_array_equal(continued.decisions.visits[0], again.decisions.visits[row])


def test_the_compiled_path_and_the_model_path_count_the_same():
    """With values in place of roll-outs nothing is random: visits must be equal, with any number in flight."""

    def step(parameters, state, action, following, random):
        following[0] = state[0] + action[0] - 1.0
        if following[0] == 0.0:
            return 9.0, True
        return -1.0, False

    def evaluate(parameters, state, prior, random):
        return -abs(state[0])

    compiled = CompiledModel(spaces.Discrete(3), step, state_size=1, evaluate=evaluate)
    graph, best = {"transpositions": True}, {"backup": "max"}
    variants = [("UCT", {}), ("PUCT", {}), ("Gumbel", {}), ("UCT", graph), ("UCT", best), ("PUCT", graph | best)]
    for rule, variant in variants:
        for leaves in (1, 4):
            options = {"simulations": 60, "horizon": 8, "leaves": leaves, **variant}
            mine = TreeSearch(spaces.Discrete(3, start=-1), rule, **options)
            first = mine.search(compiled, [[2.0], [-4.0]]).decisions
            judged = TreeSearch(
                spaces.Discrete(3, start=-1), rule, value=lambda observation: -observation[:, 0].abs(), **options
            )
            second = judged.search(steps(), torch.tensor([[2.0], [-4.0]])).decisions
            assert_array_equal(first.visits, second.visits)
            assert_allclose(first.values, second.values)
            assert_array_equal(first.action, second.action)


def test_several_leaves_in_flight_decide_the_same():
    same = []
    for seed in range(40):
        problem = TreeProblem(4, 3, seed)
        values = problem.values()
        one, many = (
            TreeSearch(spaces.Discrete(3), simulations=256, leaves=leaves, discount=1.0, horizon=4)
            .search(problem.model, [0], seed=seed)
            .decisions.slot[0]
            for leaves in (1, 8)
        )
        same.append(one == many or values[one] == values[many])
    assert np.mean(same) >= 0.95


def test_trees_keep_to_their_nodes():
    problem = TreeProblem(6, 3, 0)
    for leaves in (1, 4):
        found = TreeSearch(
            spaces.Discrete(3), simulations=400, max_nodes=50, discount=1.0, horizon=6, leaves=leaves
        ).search(problem.model, [0])
        assert found.tree.size[0, 0] == 50
        assert found.decisions.visits.sum() == 400
        nodes = found.tree.nodes[0]
        assert (nodes["pending"] == 0).all()
        assert found.tree.size[0, 1] == 49  # all but the root are an outcome
        assert (found.tree.outcomes["node"][0, :49] < 50).all()


def test_a_search_goes_on_from_its_subtree():
    problem = TreeProblem(5, 3, 1)
    finder = TreeSearch(spaces.Discrete(3), simulations=300, max_nodes=500, discount=1.0, horizon=5)
    first = finder.search(problem.model, [0])
    slot, child = first.decisions.slot[0], problem.following[0, first.decisions.slot[0]]
    below = first.tree.edges[0, 0, slot]["visits"]
    second = finder.search(problem.model, [child], first)
    assert second.decisions.visits.sum() == 300 + below - 1  # the simulation that made the node went no further
    assert second.age[0] == 1
    assert finder.search(problem.model, [child + 1], first).decisions.visits.sum() == 300  # nobody foresaw that
    ended = first._replace(warm=np.zeros(1, bool))
    assert finder.search(problem.model, [child], ended).decisions.visits.sum() == 300


def test_what_is_kept_leaves_room_for_the_simulations():
    problem = TreeProblem(6, 2, 1)
    finder = TreeSearch(spaces.Discrete(2), simulations=100, max_nodes=120, discount=1.0, horizon=6)
    found, state = None, 0
    for _ in range(4):
        found = finder.search(problem.model, [state], found)
        assert found.tree.size[0, 0] <= 120
        nodes, edges = found.tree.nodes[0][:120], found.tree.edges[0][:120]
        assert (edges["first"] < found.tree.size[0, 1]).all()
        assert (found.tree.outcomes["node"] < found.tree.size[0, 0]).all()
        assert_array_equal(nodes["visits"], edges["visits"].sum(1))
        state = problem.following[state, found.decisions.slot[0]]


def test_reuse_equals_no_reuse_in_expectation():
    """The root's mean value after two decisions, over seeds, with and without the first one's subtree."""
    problem = RandomMDP(8, end=0.0)
    means = []
    for reuse in (True, False):
        values = []
        for seed in range(30):
            finder = TreeSearch(
                spaces.Discrete(3), simulations=2000, max_nodes=4000, discount=0.8, horizon=4, reuse=reuse
            )
            first = finder.search(problem.model, [0], seed=seed)
            state = problem.following[0, first.decisions.slot[0], 0]
            second = finder.search(problem.model, [state], first, seed=1000 + seed)
            assert (second.decisions.simulated[0] > 2000) == reuse
            values.append(second.decisions.value[0])
        means.append((np.mean(values), np.std(values) / math.sqrt(len(values))))
    (with_reuse, first_error), (without, second_error) = means
    # The kept returns have one step less to go; discounted by 0.8^4 it is worth at most a few hundredths.
    assert abs(with_reuse - without) < 4 * math.hypot(first_error, second_error) + 0.1


def test_box_actions_widen_with_visits():
    found = TreeSearch(walk().action_space, simulations=100, horizon=5, widening=(1.0, 0.5), max_actions=64).search(
        walk(), torch.tensor([[4.0], [0.3]])
    )
    assert_array_equal(found.tree.nodes["width"][:, 0], [10, 10])  # the square root of 100
    assert found.decisions.action[0, 0] < -0.8
    assert abs(found.decisions.action[1, 0] + 0.3) < 0.35
    assert found.decisions.action.dtype == np.float32
    few = TreeSearch(walk().action_space, simulations=100, horizon=5, max_actions=3).search(
        walk(), torch.tensor([[4.0]])
    )
    assert few.tree.nodes["width"][0, 0] == 3


@pytest.mark.parametrize("compiled", [True, False])
def test_the_mean_of_several_rollouts_counts(compiled):
    """The deviation of a leaf's value falls with the root of their number."""
    model, observation, valid = TreeProblem(6, 2, 0).model, np.zeros(1, int), np.array([[False, True]])
    if not compiled:
        model, observation, valid = steps(), np.full((1, 1), 5.0, np.float32), np.array([[False, False, True]])

    def spread(rollouts):
        tree = search(model, simulations=1, rollouts=rollouts)
        trees = [tree.search(model, observation, seed=seed, valid=valid).tree for seed in range(200)]
        return np.std([each.nodes["raw"][0, 1] for each in trees])

    assert spread(1) > 0.1
    assert spread(16) / spread(1) == pytest.approx(1 / 4, rel=0.3)


def test_the_principal_variation_walks_to_the_goal():
    finder = TreeSearch(steps().action_space, simulations=400, horizon=6)
    found = finder.search(steps(), torch.tensor([[2.0]]))
    tree = found.tree.one(0)
    path = principal_variation(tree)
    assert_array_equal(tree.states[path], [[1.0], [0.0]])
    assert_array_equal(tree.nodes["terminal"][path], [False, True])
    assert_array_equal(tree.states[principal_variation(tree, 2)][0], [3.0])
    assert 6 < found.decisions.value[0] < -1 + 0.99 * 9


def test_priors_and_values_guide_the_search():
    def prior(observation):
        return torch.tensor([0.0, 0.0, 9.0]).expand(len(observation), 3)

    blind = {"value": lambda observation: torch.zeros(len(observation)), "simulations": 30, "horizon": 20}
    found = TreeSearch(steps().action_space, "PUCT", prior=prior, **blind).search(steps(), torch.tensor([[50.0]]))
    assert found.decisions.action[0] == 1
    assert found.decisions.visits[0, 2] > 15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"simulations": 0}, "simulations must be"),
        ({"horizon": 1.5}, "horizon must be a whole number"),
        ({"discount": 0.0}, r"discount must be in \(0, 1\]"),
        ({"virtual_loss": 2}, r"virtual_loss must be in \[0, 1\]"),
        ({"rollout": "greedy"}, "rollout must be"),
        ({"widening": (0, 0.5)}, "widening must be two numbers"),
        ({"exploration": math.nan}, "exploration must be"),
        ({"leaf_value": math.inf}, "leaf_value must be finite"),
        ({"backup": "median"}, 'backup must be "mean" or "max"'),
        ({"simulation": 3}, "no setting 'simulation', but backup, considered, discount"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(InvalidSettingError, match=message):
        TreeSearch(spaces.Discrete(2), **changes)


def test_wrong_searches_are_refused():
    with pytest.raises(InvalidSettingError, match="UCT, PUCT, Gumbel"):
        TreeSearch(spaces.Discrete(2), "UCB")
    with pytest.raises(UnsupportedSpaceError, match="Gumbel searches Discrete"):
        TreeSearch(spaces.Box(-1, 1, (1,)), "Gumbel")
    with pytest.raises(InvalidSettingError, match="transpositions are for UCT and PUCT"):
        TreeSearch(spaces.Discrete(2), "Gumbel", transpositions=True)
    with pytest.raises(UnsupportedSpaceError, match="at most 4096"):
        TreeSearch(spaces.MultiDiscrete([100, 100]))
    with pytest.raises(InvalidSettingError, match="allow an action in every row"):
        search(arms([1, 0])).search(arms([1, 0]), [0], valid=[[False, False]])
    with pytest.raises(InvalidSettingError, match="leave out value"):
        search(arms([1, 0]), value=lambda observation: observation).search(arms([1, 0]), [0])
    with pytest.raises(InvalidSettingError, match="cannot be compiled"):
        CompiledModel(spaces.Discrete(2), lambda parameters, state: undefined, state_size=1)  # noqa: F821
    bad = walk()
    bad.reward_fn = lambda observation, action, following: following[..., 0] * torch.nan
    with pytest.raises(PlanningError, match="not finite"):
        TreeSearch(bad.action_space, simulations=4).search(bad, torch.zeros(1, 1))
