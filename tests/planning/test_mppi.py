"""MPPI: its weights by hand, what its temperature means, and what it does at a cost limit."""

import numpy as np
import pytest
import torch
from fake_models import FakeModel, flat
from gymnasium import spaces
from torch.testing import assert_close

from mbrl_gym.agents.planning import MPPI
from mbrl_gym.models import AnalyticModel

UNIT = spaces.Box(-1.0, 1.0, (1,))
ODD = spaces.Box(np.float32([-3.0, 5.0]), np.float32([1.0, 9.0]))
START = torch.zeros(1, 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def uphill(scale=1.0, space=UNIT):
    """Return a model with reward -scale * (a - 0.3)^2 - x^2 at every step."""
    return FakeModel(
        space, reward=lambda x, a, after, step: -scale * (a[..., 0] - 0.3).square() - scale * x[..., 0].square()
    )


def asked_and_returns(model):
    asked = model.asked(0).double()
    return asked, -(asked[..., 0] - 0.3).square().sum(1)


@pytest.mark.parametrize("normalise", [True, False])
def test_mean_and_value_are_weighted_by_the_exponential_of_returns(normalise):
    model = uphill()
    planner = MPPI(UNIT, population=30, horizon=3, temperature=0.2, normalise=normalise, deviation=0.4)
    plan = planner.plan(model, START, None, seeded())
    asked, returns = asked_and_returns(model)
    unit = returns.std(correction=0) if normalise else 1.0
    weight = torch.exp(returns / (0.2 * unit))
    weight = weight / weight.sum()
    assert_close(plan.mean[0].double(), (weight[:, None, None] * asked).sum(0), rtol=0, atol=1e-5)
    assert_close(plan.actions, plan.mean)
    assert_close(plan.value.item(), (weight * returns).sum().item(), rtol=1e-4, atol=1e-5)
    assert_close(plan.elites[0, 0].double(), asked[returns.argmax()])


def test_a_normalised_temperature_does_not_depend_on_the_scale_of_rewards():
    plans = {
        (normalise, scale): MPPI(UNIT, population=100, horizon=3, normalise=normalise)
        .plan(uphill(scale), START, None, seeded())
        .mean
        for normalise in (True, False)
        for scale in (1.0, 1024.0)
    }
    assert_close(plans[True, 1.0], plans[True, 1024.0], rtol=0, atol=1e-5)
    assert (plans[False, 1.0] - plans[False, 1024.0]).abs().max() > 0.01


def test_a_low_temperature_takes_the_best_candidate_and_a_high_one_the_mean_of_all():
    for temperature, expected in ((1e-4, "best"), (1e4, "mean")):
        model = uphill()
        plan = MPPI(UNIT, population=50, horizon=2, temperature=temperature).plan(model, START, None, seeded())
        asked, returns = asked_and_returns(model)
        target = asked[returns.argmax()] if expected == "best" else asked.mean(0)
        assert_close(plan.mean[0].double(), target, rtol=0, atol=1e-3)


def test_candidates_spread_as_told_around_the_mean_which_is_one_of_them():
    planner = MPPI(UNIT, population=4000, horizon=6, deviation=0.2, colour=0.0)
    first = planner.plan(uphill(), START, None, seeded())
    model = flat(UNIT)
    planner.plan(model, START, first, seeded(1))
    asked, shifted = model.asked(0), torch.cat((first.mean[0, 1:], first.mean[0, -1:]))
    assert_close(asked[0], shifted)
    assert_close(asked.mean(0), shifted, rtol=0, atol=0.02)
    assert_close(asked.std(0), torch.full((6, 1), 0.2), rtol=0, atol=0.02)


@pytest.mark.parametrize("count", [4, 9, 10])
def test_candidates_are_mirrored_at_the_mean(count):
    model = flat(UNIT)
    MPPI(UNIT, population=count, horizon=4, deviation=0.1).plan(model, START, None, seeded())
    still, *asked = model.asked(0)
    half = count // 2
    assert (still == 0).all()
    assert len(asked) == count - 1
    assert_close(torch.stack(asked)[: count - 1 - half], -torch.stack(asked)[-half:][: count - 1 - half])
    assert len({round(candidate[0].item(), 6) for candidate in asked}) == count - 1


@pytest.mark.parametrize(("colour", "correlation"), [(0.0, 0.0), (3.0, 0.7025)])
def test_the_noise_has_its_colour(colour, correlation):
    model = flat(UNIT)
    MPPI(UNIT, population=6000, horizon=8, deviation=0.1, colour=colour).plan(model, START, None, seeded())
    steps = model.asked(0)[..., 0] / 0.1
    assert (steps[:, 1:] * steps[:, :-1]).mean().item() == pytest.approx(correlation, abs=0.04)


def test_iterations_go_on_from_the_weighted_mean():
    model = uphill()
    MPPI(UNIT, population=50, horizon=2, iterations=2).plan(model, START, None, seeded())
    asked, returns = asked_and_returns(model)
    weight = torch.softmax(returns / (0.05 * returns.std(correction=0)), 0)
    assert_close(model.asked(1)[0].double(), (weight[:, None, None] * asked).sum(0), rtol=0, atol=1e-5)


def test_infeasible_candidates_have_no_weight_where_any_is_feasible():
    # The further to the right the better, but it is forbidden beyond 0.2.
    model = FakeModel(UNIT, move=lambda x, a, eps: a, reward=lambda x, a, after, step: a[..., 0])
    limit = {"cost": lambda after: after[..., 0], "cost_limit": 0.2}
    planner = MPPI(UNIT, population=200, horizon=1, temperature=0.3, deviation=0.5, **limit)
    plan = planner.plan(model, START, None, seeded())
    asked = model.asked(0)[:, 0, 0]
    allowed = asked[asked <= 0.2]
    assert len(allowed) < 150
    weight = torch.softmax(allowed / (0.3 * allowed.std(correction=0)), 0)
    assert_close(plan.mean.item(), (weight * allowed).sum().item(), rtol=0, atol=1e-5)
    assert plan.feasible.all()
    assert_close(plan.value, plan.actions[:, 0, 0])  # rolled out


def test_the_best_candidate_stands_in_for_a_mean_that_leads_through_an_obstacle():
    model = FakeModel(UNIT, move=lambda x, a, eps: a, reward=lambda x, a, after, step: -0.01 * a[..., 0].square())
    planner = MPPI(UNIT, population=400, horizon=1, cost=lambda after: 0.3 - after[..., 0].abs())
    plan = planner.plan(model, START, None, seeded())
    asked = model.asked(0)[:, 0, 0]
    allowed = asked[asked.abs() >= 0.3]
    assert abs(plan.actions.item()) == pytest.approx(allowed.abs().min().item())
    assert plan.feasible.all()
    assert_close(plan.value, -0.01 * plan.actions[:, 0, 0].square())
    assert_close(plan.mean, plan.actions)


def test_where_none_is_feasible_the_least_excess_weighs_most_and_the_plan_says_so():
    model = FakeModel(UNIT, move=lambda x, a, eps: a, reward=lambda x, a, after, step: a[..., 0])
    planner = MPPI(UNIT, population=200, horizon=1, cost=lambda after: after[..., 0], cost_limit=-5.0)
    plan = planner.plan(model, START, None, seeded())
    assert plan.actions.item() < -0.6
    assert not plan.feasible.any()


def test_choices_become_the_weighted_shares_and_the_most_probable_is_executed():
    space = spaces.Discrete(3, start=5)
    model = FakeModel(space, reward=lambda x, a, after, step: torch.tensor([0.0, 1.0, 0.5])[a - 5])
    plan = MPPI(space, population=300, horizon=2, temperature=0.8).plan(model, START, None, seeded())
    asked = model.asked(0) - 5
    returns = torch.tensor([0.0, 1.0, 0.5])[asked].sum(1).double()
    weight = torch.softmax(returns / (0.8 * returns.std(correction=0)), 0)
    shares = torch.stack([(weight[:, None] * (asked == choice)).sum(0) for choice in range(3)], -1)
    assert_close(plan.mean[0].double(), shares, rtol=0, atol=1e-5)
    assert plan.actions.tolist() == [[6, 6]]


def test_elites_agree_early():
    def rounds(agreement):
        model = uphill()
        MPPI(UNIT, population=50, horizon=2, iterations=6, deviation=0.1, agreement=agreement).plan(
            model, START, None, seeded()
        )
        return len(model.plans)

    assert rounds(0.0) == 6
    assert rounds(0.2) == 1
    assert rounds(1e-6) == 6


def pendulum():
    """Return a model of functions, whose rewards are computed for many steps at once."""

    def dynamics(x, a):
        speed = x[..., 1] + 0.3 * torch.sin(x[..., 0]) + 0.1 * a[..., 0] - 0.02 * a[..., 1] * x[..., 1]
        return torch.stack((x[..., 0] + 0.3 * speed, speed), -1)

    return AnalyticModel(
        spaces.Box(-np.inf, np.inf, (2,), np.float32),
        ODD,
        dynamics_fn=dynamics,
        reward_fn=lambda x, a, after: torch.cos(after[..., 0]) - 0.1 * x[..., 1].square() - 0.01 * a.square().sum(-1),
    )


@pytest.mark.parametrize("count", [7, 33])
def test_rows_of_an_analytic_model_are_planned_one_by_one_bit_for_bit(count):
    planner = MPPI(ODD, population=2011, horizon=9)  # a block of rewards holds fewer steps, the more rows there are
    start = torch.randn(count, 2, generator=seeded(3))
    together = planner.plan(pendulum(), start, None, seeded())
    for row in range(count):
        alone = planner.plan(pendulum(), start[row : row + 1], None, seeded())
        for one, all_rows in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_rows[row])
