"""What counts in a plan, computed by hand: risk, disagreement, members, limits and the value beyond the horizon."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from fake_models import FakeModel
from gymnasium import spaces
from torch.testing import assert_close

from mbrl_gym.agents.planning import ICEM, PLANNERS, Draws, Objective, evaluate
from mbrl_gym.agents.planning.evaluation import imagine
from mbrl_gym.errors import InvalidSettingError, PlanningError, UnsupportedSpaceError
from mbrl_gym.models import ExactModel
from mbrl_gym.noise import Noise

LINE = spaces.Box(-9.0, 9.0, (1,))
NAN, INF = float("nan"), float("inf")
START = torch.zeros(1, 1)
SWAP, STAY = torch.tensor([1, 0]), torch.tensor([0, 1])  # of two particles


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def candidates(*plans):
    """Return `[1, K, H, 1]`."""
    return torch.tensor(plans)[None, :, :, None]


def nothing(x, a, after, step):
    return torch.zeros(after.shape[:2])


class Members(FakeModel):
    """Two members: the first adds the action, the second adds it ten times; the reward is where they get.

    Args:
        reward: As in `FakeModel`.
        **functions: Settings of `FakeModel`.
    """

    factors = 1.0, 10.0

    def __init__(self, reward=lambda x, a, after, step: after[..., 0], **functions):
        super().__init__(LINE, move=self.by_members, reward=reward, unit=2, **functions)

    def by_members(self, x, a, eps):
        """Return the next observations `[P, N, 1]`."""
        factor = torch.tensor(self.factors).repeat_interleave(x.shape[0] // 2)
        return x + factor[:, None, None] * a + eps

    def uncertainty(self, observation, action):
        """Return |x| + 2 |a|."""
        return (observation.abs() + 2 * action.abs())[:, 0]


def worth(model, plans, draws=None, start=START, **objective):
    return evaluate(model, start, plans, Objective(**objective), draws)


def values(model, plans, draws=None, **objective):
    returns = worth(model, plans, draws, **objective)
    assert torch.equal(returns.value, returns.rank)
    assert returns.feasible.all()
    return returns.value[0].tolist()


# Risk ---------------------------------------------------------------------------------------------------------------


def test_risk_subtracts_a_multiple_of_the_spread_over_particles():
    # The plan (1, 1) returns 1 + 2 by the first member, 10 + 20 by the second: mean 16.5, deviation 13.5.
    plans = candidates([1.0, 1.0], [0.0, 0.0])
    assert values(Members(), plans) == [16.5, 0.0]
    assert values(Members(), plans, risk=2.0) == [16.5 - 27.0, 0.0]
    assert values(Members(), plans, risk=-1.0) == [30.0, 0.0]
    assert values(Members(), plans, risk=1.0, particles=6) == [3.0, 0.0]


def test_the_worst_case_is_the_worst_particle():
    plans = candidates([1.0, 1.0], [-1.0, -1.0])
    assert values(Members(), plans, worst_case=True) == [3.0, -30.0]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("settings", [{"worst_case": True}, {"risk": 0.5}, {"risk": -0.5}, {}], ids=str)
def test_a_particle_that_is_not_finite_spoils_its_candidate(settings, bad):
    model = Members(reward=lambda x, a, after, step: torch.where(after[..., 0] > 25, bad, after[..., 0]))
    assert values(model, candidates([1.0, 2.0], [0.0, 0.0]), **settings) == [-INF, 0.0]
    with pytest.raises(PlanningError, match=r"Members predicts no finite return .* first at step 2 of 2"):
        values(model, candidates([1.0, 2.0]), **settings)


def test_risk_and_worst_case_exclude_each_other():
    with pytest.raises(InvalidSettingError, match="risk must be 0 where worst_case"):
        Objective(risk=1.0, worst_case=True)


# Disagreement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.5, -0.5])
def test_disagreement_is_penalised_along_the_path(weight):
    # Mean observations before the steps: 0, then 5.5; uncertainties 0 + 2 and 5.5 + 4.
    plain, weighed = (values(Members(), candidates([1.0, -2.0]), disagreement=w)[0] for w in (0.0, weight))
    assert weighed - plain == pytest.approx(-weight * (2.0 + 9.5))


def test_disagreement_is_discounted_as_rewards_are_and_ends_with_the_episode():
    plan = candidates([1.0, -2.0, 0.0])
    plain, weighed = (values(Members(), plan, disagreement=w, discount=0.5)[0] for w in (0.0, 1.0))
    assert weighed - plain == pytest.approx(-(2.0 + 0.5 * 9.5 + 0.25 * 5.5))  # mean observation 5.5 - 11 at last
    # The second member, at 10, is out after the first step: half of the particles go on, from 1.
    ends = Members(ends=lambda after: after[..., 0] >= 10)
    plain, weighed = (values(ends, candidates([1.0, -2.0]), disagreement=w)[0] for w in (0.0, 1.0))
    assert weighed - plain == pytest.approx(-(2.0 + (1.0 + 4.0) / 2))


def test_disagreement_does_not_look_at_particles_whose_episode_ended():
    """What a model predicts after an end means nothing, and may not even be finite."""
    model = Members(ends=lambda after: after[..., 0] >= 10)
    plain = model.move
    model.move = lambda x, a, eps: torch.where(x >= 10, NAN, plain(x, a, eps))
    # The first member goes 1, 0, 0; uncertainties 2 (both), then 1 + 2 and 0 (the first alone, thus by half).
    weighed = values(model, candidates([1.0, -1.0, 0.0]), disagreement=1.0)[0]
    assert weighed == pytest.approx((1.0 + 0.0 + 0.0 + 10.0) / 2 - (2.0 + (3.0 + 0.0) / 2))


# Curiosity ----------------------------------------------------------------------------------------------------------


class Telling(Members):
    """Members whose steps tell x + 3 |a|."""

    def information_gain(self, observation, action):
        return (observation.abs() + 3 * action.abs())[:, 0]


def test_information_is_a_bonus_along_the_path():
    # Mean observations before the steps: 0, then 5.5; information 0 + 3 and 5.5 + 6.
    plain, weighed = (values(Telling(), candidates([1.0, -2.0]), information=w)[0] for w in (0.0, 0.5))
    assert weighed - plain == pytest.approx(0.5 * (3.0 + 11.5))
    halved, with_bonus = (
        values(Telling(), candidates([1.0, -2.0]), information=w, discount=0.5)[0] for w in (0.0, 1.0)
    )
    assert with_bonus - halved == pytest.approx(3.0 + 0.5 * 11.5)


def along(path):
    """Return (t + 1) * x_t * x_0 for the t-th step."""
    return path[..., 0] * path[..., :1, 0] * (1.0 + torch.arange(path.shape[2]))


def test_novelty_is_a_bonus_of_steps_that_depends_on_the_whole_path():
    # Paths 1, 2 and 10, 20: bonuses 1 and 4, 100 and 400.
    plans = candidates([1.0, 1.0], [0.0, 0.0])
    assert values(Members(), plans, novelty=along) == [16.5 + 252.5, 0.0]
    assert values(Members(), plans, novelty=along, discount=0.5) == [11.0 + 0.5 * (1.0 + 2.0 + 100.0 + 200.0), 0.0]
    assert values(Members(), plans, novelty=along, particle=0) == [3.0 + 5.0, 0.0]


def test_novelty_ends_with_the_episode_and_stays_with_its_particle():
    plan, swapped = candidates([1.0, 1.0]), Draws(order=[STAY, SWAP])
    ends = Members(reward=nothing, ends=lambda after: after[..., 0] >= 10)
    assert values(ends, plan, novelty=along) == [(1.0 + 4.0 + 100.0) / 2]
    # Swapped at the second step: 10, 11 and 1, 11.
    assert values(Members(reward=nothing), plan, swapped, novelty=along) == [(100.0 + 220.0 + 1.0 + 22.0) / 2]
    assert values(ends, plan, swapped, novelty=along) == [(100.0 + 1.0 + 22.0) / 2]


def test_novelty_of_choices_sees_integers():
    model = Members(reward=nothing)
    model.move = lambda x, a, eps: x + torch.tensor([[[3]], [[4]]])
    start = torch.zeros(1, 1, dtype=torch.int64)
    returns = evaluate(model, start, candidates([0.0, 0.0]), Objective(novelty=lambda path: path[..., 0] % 4)).value
    assert returns.item() == (3.0 + 2.0 + 0.0 + 0.0) / 2


def test_a_novelty_of_another_shape_is_refused():
    with pytest.raises(InvalidSettingError, match=r"novelty must return .* \(2, 1, 3\), but \(2, 1\) came"):
        values(Members(), candidates([1.0, 1.0, 1.0]), novelty=lambda path: path[..., 0].sum(-1))


def test_one_particle_alone_may_count():
    plans = candidates([1.0, 1.0], [-1.0, -1.0])
    assert values(Members(), plans, particle=0) == [3.0, -3.0]
    assert values(Members(), plans, particle=1) == [30.0, -30.0]
    assert values(Members(), plans, particle=3, particles=6) == [30.0, -30.0]
    with pytest.raises(InvalidSettingError, match="particle must be at least 0, but -1 was given"):
        Objective(particle=-1)
    with pytest.raises(InvalidSettingError, match="information must be a finite number, but nan was given"):
        Objective(information=NAN)


def test_returns_that_are_expected_are_free_of_curiosity():
    curious = Objective(information=2.0, novelty=along, particle=1, discount=0.5)
    assert curious.expected_return() == Objective(discount=0.5)


# Members ------------------------------------------------------------------------------------------------------------


def test_ts1_gives_particles_other_members():
    plan = candidates([1.0, 1.0, 1.0])
    # TS-infinity: (1, 2, 3) and (10, 20, 30). Swapped at the second step: (1, 11, 12 or 21) and (10, 11, 21 or 12).
    assert values(Members(), plan, risk=-1.0) == [60.0]
    order = [STAY, SWAP, STAY]
    totals = [10.0 + 11.0 + 12.0, 1.0 + 11.0 + 21.0]
    assert values(Members(), plan, Draws(order=order), worst_case=True) == [min(totals)]
    assert values(Members(), plan, Draws(order=order)) == [sum(totals) / 2]
    assert values(Members(), plan, Draws(order=[STAY, SWAP, SWAP]), worst_case=True) == [1.0 + 11.0 + 12.0]


def test_under_ts1_the_end_and_the_cost_stay_with_their_particle():
    plan = candidates([1.0, 1.0, 1.0])
    model = Members(ends=lambda after: after[..., 0] >= 10)
    # The second member's particle ends at 10; the other one goes 1, 11 (by the second member) and ends.
    assert values(model, plan, Draws(order=[STAY, SWAP, SWAP])) == [(10.0 + 1.0 + 11.0) / 2]
    assert values(model, plan, Draws(order=[STAY, STAY, SWAP])) == [(10.0 + 1.0 + 2.0 + 12.0) / 2]
    returns = worth(model, plan, Draws(order=[STAY, STAY, SWAP]), cost=lambda after: after[..., 0], cost_limit=9.0)
    assert returns.excess.tolist() == [[(1.0 + 3.0) / 2]]  # 10 and 12


def test_under_ts1_the_value_beyond_and_the_disagreement_stay_with_their_particle():
    model = Members(ends=lambda after: after[..., 0] >= 10)
    draws = Draws(order=[STAY, SWAP])
    # Alone on its way is the first particle: 1, then 11, where it ends too; without that end its value counts.
    assert values(model, candidates([1.0, 1.0]), draws, value=lambda x: 100 + x[..., 0]) == [(10.0 + 1.0 + 11.0) / 2]
    assert values(model, candidates([1.0, 0.5]), draws, value=lambda x: 100 + x[..., 0]) == [
        (10.0 + 1.0 + 6.0 + 106.0) / 2
    ]
    assert values(model, candidates([1.0, 0.5]), draws, disagreement=1.0) == [(10.0 + 1.0 + 6.0 - 2 * 2.0 - 2.0) / 2]


def test_the_order_is_drawn_once_for_all_candidates_and_rows():
    planner = ICEM(LINE, propagation="TS1", particles=8, risk=1.0, horizon=4, population=12, iterations=3)
    draws = planner.objective.draw(Members(), 4, seeded(), "cpu")
    assert len(draws.order) == 4
    assert all(sorted(order.tolist()) == list(range(8)) for order in draws.order)
    assert len({tuple(order.tolist()) for order in draws.order}) > 1
    # What the search found, in whichever round and row, is worth the same among others and under the same order.
    plan = planner.plan(Members(), torch.zeros(3, 1), None, seeded())
    plans = torch.cat((torch.zeros(3, 1, 4, 1), plan.actions[:, None]), 1)
    assert (plan.value == evaluate(Members(), torch.zeros(3, 1), plans, planner.objective, draws).value[:, 1]).all()
    assert (plan.value == plan.value[0]).all()
    others = planner.objective.draw(Members(), 4, seeded(1), "cpu")
    for other in (others, Draws()):
        assert (plan.value != evaluate(Members(), torch.zeros(3, 1), plans, planner.objective, other).value[:, 1]).all()


def test_ts1_narrows_the_spread_of_returns():
    """Particles that change members average over them; those that stay carry a member's bias to the end."""
    objective = Objective(propagation="TS1", particles=200, risk=1.0)
    draws = objective.draw(Members(), 20, seeded(), "cpu")
    plan = torch.ones(1, 1, 20, 1)
    mixed, apart = (evaluate(Members(), START, plan, objective, each).value for each in (draws, Draws()))
    mean = 5.5 * 20 * 21 / 2
    assert apart.item() == pytest.approx(mean - 4.5 * 20 * 21 / 2, rel=1e-5)
    # Step t's factor (variance 4.5^2) counts 21 - t times: deviation 4.5 sqrt(1 + 4 + ... + 400).
    assert mixed.item() == pytest.approx(mean - 4.5 * 2870**0.5, rel=0.1)


def test_ts1_does_not_concern_models_without_members():
    model = FakeModel(LINE, reward=lambda x, a, after, step: a[..., 0], noisy=True)
    first, second = (Objective(propagation=kind, particles=4, noise=True) for kind in ("TS1", "TSinf"))
    draws = [objective.draw(model, 5, seeded(), "cpu") for objective in (first, second)]
    assert draws[0].order is draws[1].order is None
    assert all(torch.equal(one.normal, two.normal) for one, two in zip(draws[0].noise, draws[1].noise, strict=True))


def test_an_unknown_propagation_is_refused():
    with pytest.raises(InvalidSettingError, match="propagation must be TSinf or TS1, but TS2 was given"):
        Objective(propagation="TS2")


# Limits -------------------------------------------------------------------------------------------------------------


def walk(**functions):
    """Return the model x' = x + a, with reward x'."""
    move = {"move": lambda x, a, eps: x + a, "reward": lambda x, a, after, step: after[..., 0]}
    return FakeModel(LINE, **{**move, **functions})


def test_infeasible_candidates_rank_behind_all_feasible_ones_by_their_excess():
    # Paths (1, 2), (1e6, 0), (5, 0), (-1e6, 0), (3, 0); the limit is 2.
    plans = candidates([1.0, 1.0], [1e6, -1e6], [5.0, -5.0], [-1e6, 1e6], [3.0, -3.0])
    returns = worth(walk(), plans, cost=lambda after: after[..., 0], cost_limit=2.0)
    assert returns.value.tolist() == [[3.0, 1e6, 5.0, -1e6, 3.0]]
    assert returns.feasible.tolist() == [[True, False, False, True, False]]
    assert returns.excess.tolist() == [[0.0, 1e6 - 2, 3.0, 0.0, 1.0]]
    assert returns.rank[0].argsort(descending=True).tolist() == [0, 3, 4, 2, 1]


def test_the_excess_is_summed_over_steps_and_averaged_over_particles():
    returns = worth(Members(), candidates([1.0, 1.0]), cost=lambda after: after[..., 0], cost_limit=1.5)
    assert returns.excess.tolist() == [[(0.0 + 0.5 + 8.5 + 18.5) / 2]]


def test_one_particle_beyond_the_limit_is_enough():
    returns = worth(Members(), candidates([1.0], [0.9]), cost=lambda after: after[..., 0], cost_limit=9.5)
    assert returns.feasible.tolist() == [[False, True]]


def test_the_last_step_of_an_episode_costs_and_those_after_do_not():
    model = walk(ends=lambda after: after[..., 0] >= 2)
    cost = {"cost": lambda after: after[..., 0], "cost_limit": 1.5}
    returns = worth(model, candidates([1.0, 1.0, 5.0], [1.0, 0.0, 0.0]), **cost)
    assert returns.excess.tolist() == [[0.5, 0.0]]


def test_a_cost_that_is_not_a_number_is_beyond_any_limit():
    cost = {"cost": lambda after: torch.where(after[..., 0] > 1, NAN, after[..., 0]), "cost_limit": 1e30}
    returns = worth(walk(), candidates([2.0], [0.5]), **cost)
    assert returns.feasible.tolist() == [[False, True]]
    assert returns.rank.argmax() == 1


def test_candidates_that_are_not_finite_rank_behind_infeasible_ones():
    model = walk(reward=lambda x, a, after, step: torch.where(after[..., 0] < 0, NAN, after[..., 0]))
    returns = worth(model, candidates([-1.0], [3.0], [9.0]), cost=lambda after: after[..., 0], cost_limit=2.0)
    assert returns.rank[0].argsort(descending=True).tolist() == [1, 2, 0]
    assert returns.value[0, 0] == -INF


POINT = spaces.Box(-0.5, 0.5, (2,))
THOROUGH = {
    "RandomShooting": {"population": 8000},
    "CEM": {"population": 200, "elites": 20, "iterations": 6},
    "iCEM": {"population": 200, "elites": 20, "iterations": 6, "colour": 1.0},
    "Gradient": {"population": 200, "elites": 20},
}


def point():
    """Return a point in the plane that wants to be at (2, 0), and steps at most 0.5 along each axis."""
    goal = torch.tensor([2.0, 0.0])
    return FakeModel(
        POINT,
        size=2,
        move=lambda x, a, eps: x + a,
        reward=lambda x, a, after, step: -(after - goal).square().sum(-1),
    )


def depth(after):
    """Return how deep in the disc of radius 0.6 around (1, 0) a step ends; negative outside."""
    return 0.6 - (after - torch.tensor([1.0, 0.0])).square().sum(-1).sqrt()


def box_planner(name, **settings):
    """Return a planner over Box actions; skip those that take none."""
    try:
        return PLANNERS[name](POINT, horizon=7, **{**THOROUGH.get(name, {}), **settings})
    except UnsupportedSpaceError:
        pytest.skip("plans over choices only")


@pytest.mark.parametrize("name", PLANNERS)
def test_planners_go_round_what_is_forbidden(name):
    start = torch.tensor([[0.0, 0.1]])
    plain = box_planner(name).plan(point(), start, None, seeded())
    assert (depth(start[:, None] + plain.actions.cumsum(1)) > 0).any()  # the best way leads through
    planner, plan = box_planner(name, cost=depth), None
    for seed in range(3):
        plan = planner.plan(point(), start, None if plan is None else plan, seeded(seed))
    path = start[:, None] + plan.actions.cumsum(1)
    assert plan.feasible.all()
    assert (depth(path) <= 1e-6).all()
    if name not in ("RandomShooting", "MPPI"):  # which search too coarsely to turn a corner
        assert path[0, -1, 0] > 1.0
    assert plan.value > -7 * 4.01  # better than to stay


@pytest.mark.parametrize("name", PLANNERS)
def test_without_a_feasible_plan_the_least_excess_is_taken(name):
    planner = box_planner(name, cost=lambda after: after[..., 0], cost_limit=-10.0)
    plan = planner.plan(point(), torch.zeros(2, 2), None, seeded())
    assert not plan.feasible.any()
    assert plan.actions[..., 0].mean() < -0.15  # away from the goal
    assert plan.actions[:, 0, 0].max() < -0.1


@pytest.mark.parametrize("name", PLANNERS)
def test_a_plan_tells_whether_it_is_feasible(name):
    start = torch.tensor([[0.0, 0.1], [1.0, 0.0], [0.7, 0.2], [5.0, 5.0], [-1.0, 0.0], [1.3, 0.4]])
    planner = box_planner(name, cost=depth, cost_limit=0.05, smoothness=0.01)
    feasible = []
    for limit in (0.05, -4.0, -1.2):
        planner = box_planner(name, cost=depth, cost_limit=limit)
        plan = planner.plan(point(), start, None, seeded())
        expected = evaluate(point(), start, plan.actions[:, None], planner.objective)
        assert torch.equal(plan.feasible, expected.feasible[:, 0])
        feasible.append(plan.feasible)
    assert torch.stack(feasible).any()
    assert not torch.stack(feasible).all()
    free = box_planner(name).plan(point(), start, None, seeded())
    assert free.feasible.all()


def test_drones_keep_clear_of_obstacles_by_the_tasks_cost():
    """An obstacle right on the way; the reward knows nothing of it, and a collision would not end the episode."""
    task = gym.make("mbrl/DroneObstacles-v0", obstacles=1, wind_std=0.0).unwrapped.task
    state = np.zeros((1, len(task.own_columns())), np.float32)
    state[0, 3], state[0, 6], state[0, 12], state[0, 13:] = 1.0, 3.5, 1.0, (1.6, 0.05, 0.0, 0.4)
    row, plan, generator = torch.as_tensor(task.observation(state)), None, seeded()
    model = ExactModel(
        task,
        reward_fn=lambda before, action, after: -after[..., :3].square().sum(-1).sqrt(),
        termination_fn=lambda after: torch.zeros(after.shape[:-1], dtype=torch.bool),
    )
    settings = {"horizon": 15, "population": 40, "iterations": 3, "elites": 6}
    free = ICEM(task.action_space, **settings).plan(model, row, None, seeded())
    assert not evaluate(model, row, free.actions[:, None], Objective(cost=task.cost)).feasible.any()
    planner, feasible = ICEM(task.action_space, cost=task.cost, cost_limit=-0.05, **settings), 0
    for _ in range(20):
        plan = planner.plan(model, row, plan, generator)
        row = model.step(model.start(row), plan.actions[:, 0]).observation[0]
        feasible += int(plan.feasible)
        assert row[0, 12] >= 0 or not plan.feasible
    assert feasible > 17
    assert row[0, 0] < 1.6  # it got past


# Value --------------------------------------------------------------------------------------------------------------


def test_the_value_beyond_the_horizon_is_discounted_and_for_the_living():
    plans = candidates([1.0, 1.0], [2.0, 1.0], [1.0, -1.0])
    settings = {"value": lambda x: 8.0 + x[..., 0], "discount": 0.5}
    assert values(walk(), plans, **settings) == [
        1 + 0.5 * 2 + 0.25 * (8 + 2),
        2 + 0.5 * 3 + 0.25 * (8 + 3),
        1 + 0 + 0.25 * 8,
    ]
    ends = walk(ends=lambda after: after[..., 0] == 2)  # at the last step, or at the first
    assert values(ends, plans, **settings) == [1 + 0.5 * 2, 2.0, 1 + 0 + 0.25 * 8]


def test_a_value_at_the_end_of_an_episode_is_not_looked_at():
    ends = walk(ends=lambda after: after[..., 0] >= 2)
    assert values(ends, candidates([2.0], [1.0]), value=lambda x: torch.where(x[..., 0] >= 2, NAN, 0.0)) == [2.0, 1.0]


def test_a_value_that_is_never_finite_is_named_at_the_last_step():
    with pytest.raises(PlanningError, match="first at step 3 of 3"):
        values(walk(), candidates([1.0, 1.0, 1.0]), value=lambda x: NAN * x[..., 0])


def test_the_value_takes_part_in_the_spread_over_particles():
    # Observations 1 and 10, which are also the returns: with the value 3 x, returns 4 and 40.
    plan, value = candidates([1.0]), {"value": lambda x: 3 * x[..., 0]}
    assert values(Members(), plan, **value) == [22.0]
    assert values(Members(), plan, risk=1.0, **value) == [22.0 - 18.0]
    assert values(Members(), plan, worst_case=True, **value) == [4.0]


# Together -----------------------------------------------------------------------------------------------------------


def by_hand(plan, order, eps, discount, weight, limit):
    """Return risk-averse value and excess of a plan for two particles of `Members` that end at 12."""
    x, total, excess, alive = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [True, True]
    scale = 1.0
    for step, a in enumerate(plan):
        x, total, excess, alive = ([part[i] for i in order[step]] for part in (x, total, excess, alive))
        living = [here for here, on in zip(x, alive, strict=True) if on] or [0.0]
        doubt = abs(sum(living) / len(living)) + 2 * abs(a)
        for p in range(2):
            after = x[p] + Members.factors[p] * a + eps[step][p]
            if alive[p]:
                total[p] += scale * (after - weight * doubt)
                excess[p] += max(after - limit, 0.0)
                alive[p] = after < 12
            x[p] = after
        scale *= discount
    total = [t + (scale * 0.5 * x[p] if alive[p] else 0.0) for p, t in enumerate(total)]
    mean = sum(total) / 2
    return mean - 0.7 * abs(total[0] - total[1]) / 2, sum(excess) / 2


@pytest.mark.parametrize("seed", range(5))
def test_everything_at_once_equals_a_loop_written_by_hand(seed):
    generator = seeded(seed)
    plans = torch.randn(1, 6, 5, 1, generator=generator, dtype=torch.float64)
    eps = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    order = [torch.randperm(2, generator=generator) for _ in range(5)]
    draws = Draws([Noise(each[:, None, None], torch.zeros(2, 1, 0)) for each in eps], order)
    model = Members(noisy=True, ends=lambda after: after[..., 0] >= 12)
    objective = Objective(
        noise=True,
        propagation="TS1",
        discount=0.9,
        risk=0.7,
        disagreement=0.3,
        cost=lambda after: after[..., 0],
        cost_limit=4.0,
        value=lambda x: 0.5 * x[..., 0],
    )
    penalty = torch.arange(6.0, dtype=torch.float64)[None]
    returns = evaluate(model, START.double(), plans, objective, draws, penalty)
    expected = [
        by_hand(plan.flatten().tolist(), [o.tolist() for o in order], eps.tolist(), 0.9, 0.3, 4.0) for plan in plans[0]
    ]
    value, excess = (torch.tensor(part, dtype=torch.float64) for part in zip(*expected, strict=True))
    assert_close(returns.value[0], value - penalty[0])
    assert_close(returns.excess[0], excess)


def test_disagreement_over_choices_is_that_of_a_particle_whose_episode_goes_on():
    """Observations that are numbers have no mean."""

    class Counter(Members):
        def uncertainty(self, observation, action):
            assert not observation.is_floating_point()
            return observation[:, 0].float()

    model = Counter(ends=lambda after: after[..., 0] == 3)
    model.move = lambda x, a, eps: x + torch.tensor([[[3]], [[4]]])
    # The first particle goes 0, 3 and ends; the second one 0, 4, 8.
    start = torch.zeros(1, 1, dtype=torch.int64)
    returns = evaluate(model, start, candidates([0.0, 0.0, 0.0]), Objective(disagreement=1.0)).value
    assert returns.item() == pytest.approx((3.0 + 4 + 8 + 12) / 2 - (4.0 + 8.0) / 2)


def test_a_mean_between_two_ways_is_not_executed_where_it_breaks_the_limit():
    model = walk(move=lambda x, a, eps: x + a, reward=lambda x, a, after, step: -after[..., 0].square(), noisy=False)
    for name in ("CEM", "MPPI"):
        planner = PLANNERS[name](
            LINE, population=400, iterations=1, deviation=0.05, horizon=1, cost=lambda x: 0.3 - x[..., 0].abs()
        )
        plan = planner.plan(model, torch.zeros(2, 1), None, seeded())
        assert plan.feasible.all()
        assert (plan.actions.abs() >= 0.3).all()


def test_tracks_of_particles_stay_those_of_a_particle_when_members_change():
    draws = Objective(propagation="TS1", particles=8).draw(Members(), 6, seeded(), "cpu")
    objective = Objective(propagation="TS1", particles=8)
    path = imagine(Members(), torch.zeros(1), torch.ones(1, 6, 1), objective, draws)[:, 0, :, 0]
    steps = path.diff(dim=1)
    possible = torch.unique(imagine(Members(), torch.zeros(1), torch.ones(1, 1, 1), Objective(particles=8), Draws()))
    assert torch.isclose(steps[..., None], possible).any(-1).all()


@pytest.mark.parametrize("name", ["value", "cost"])
def test_functions_that_return_another_shape_are_refused_by_name(name):
    message = rf"{name} must return a number for each observation, \(1, 2\), but \(1, 2, 1\) came"
    with pytest.raises(InvalidSettingError, match=message):
        values(walk(), candidates([1.0], [2.0]), **{name: lambda x: x})


def test_booleans_count_as_numbers():
    plans = candidates([1.0, 1.0], [3.0, 1.0])
    returns = evaluate(walk(), START, plans, Objective(cost=lambda x: x[..., 0] > 2))
    assert returns.feasible.tolist() == [[True, False]]
    assert returns.excess.tolist() == [[0.0, 2.0]]
