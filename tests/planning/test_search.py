"""Settings that all sampling planners share: agreement, what decisions hand on, smoothness and time budgets."""

import pytest
import torch
from fake_models import FakeModel, flat
from gymnasium import spaces
from torch.testing import assert_close

from mbrl_gym.agents.planning import CEM, ICEM, PLANNERS, Draws, base, shooting
from mbrl_gym.errors import InvalidSettingError

UNIT = spaces.Box(-1.0, 1.0, (1,))
PLANE = spaces.Box(-3.0, 1.0, (2,))
THREE = spaces.Discrete(3, start=2)
PAIR = spaces.MultiDiscrete([3, 2], start=[1, -1])
START = torch.zeros(1, 1)
SMALL = {
    "RandomShooting": {"population": 80},
    "CEM": {"population": 80, "elites": 8, "iterations": 3},
    "iCEM": {"population": 78, "kept": 2, "elites": 8, "iterations": 3, "decay": 1.0},
    "MPPI": {"population": 80, "iterations": 3},
    "Exhaustive": {},
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(name, space, **changes):
    return PLANNERS[name](space, **{"horizon": 3, **SMALL[name], **changes})


def supported():
    return [
        pytest.param(name, space, id=f"{name}-{type(space).__name__}")
        for name in SMALL
        for space in (UNIT, THREE)
        if name != "Exhaustive" or space is THREE
    ]


def hill(space=UNIT, **changes):
    """Return a model whose rows `[N, 1]` have their own best action; rows near 0.9 are flat."""
    middle = 3.0 if isinstance(space, spaces.Discrete) else 0.0

    def reward(x, a, after, step):
        return -(1.0 - x[..., 0]).clamp_min(0.1) * (a - middle if a.dim() == 2 else a[..., 0] - x[..., 0]).square()

    return FakeModel(space, reward=reward, **changes)


def assert_equal_plans(first, second):
    for part, one, other in zip(first._fields, first, second, strict=True):
        assert torch.equal(one, other), part


@pytest.mark.parametrize("planner_class", [CEM, ICEM])
def test_a_search_stops_where_the_elites_agree_on_the_first_action(planner_class):
    rounds = {}
    for agreement in (0.0, 0.01, 0.05, 10.0):
        model = hill()
        planner = planner_class(UNIT, horizon=2, population=100, elites=10, iterations=12, agreement=agreement)
        planner.plan(model, START, None, seeded())
        rounds[agreement] = sum(len(actions[0]) > 3 for actions in model.plans)
        if 0 < agreement < 1:
            spreads = []
            for round_ in range(rounds[agreement]):
                asked = model.asked(round_)[..., 0]
                elites = asked[(-asked.square().sum(1)).topk(10).indices]
                spreads.append(elites[:, 0].std(correction=0).item())
            assert spreads[-1] <= agreement < min([*spreads[:-1], 1.0])
    assert rounds[0.0] == 12
    assert 12 > rounds[0.01] > rounds[0.05] > rounds[10.0] == 1


@pytest.mark.parametrize("name", ["CEM", "iCEM", "MPPI"])
@pytest.mark.parametrize("space", [UNIT, THREE], ids=["Box", "Discrete"])
def test_rows_that_agreed_stay_while_others_go_on(name, space):
    planner = make(name, space, iterations=9, agreement=0.13)
    start = torch.tensor([[0.0], [0.9], [-3.0], [0.5]])
    together = planner.plan(hill(space), start, None, seeded())
    rounds = set()
    for row in range(4):
        model = hill(space)
        alone = planner.plan(model, start[row : row + 1], None, seeded())
        rounds.add(sum(len(actions[0]) > 3 for actions in model.plans))
        assert_equal_plans(alone, type(alone)(*(part[row : row + 1] for part in together)))
    if space is UNIT and name != "MPPI":
        assert len(rounds) > 1  # else nothing was tested


@pytest.mark.parametrize(("name", "space"), supported())
def test_plans_may_be_handed_on_as_they_are(name, space):
    planner = make(name, space, shift_elites=False, **({"deviation": 1e-30} if name in ("CEM", "iCEM") else {}))
    rise = FakeModel(space, reward=lambda x, a, after, step: (a if a.dim() == 2 else a[..., 0]) * (-1.0) ** step)
    first = planner.plan(rise, START, None, seeded())
    assert (first.actions[:, 0] != first.actions[:, 1]).all()
    second = planner.plan(flat(space), START, first, seeded(1))
    assert_close(second.mean, first.mean)


def test_icem_may_keep_its_elites_between_decisions_only():
    model = hill()
    planner = make("iCEM", UNIT, keep_elites=False)
    first = planner.plan(model, START, None, seeded())
    for round_ in (1, 2):
        asked = model.asked(round_ - 1)
        for best in (-asked[..., 0].square().sum(1)).topk(2).indices:
            assert not (model.asked(round_) == asked[best]).all((1, 2)).any()
    planner.plan(model, START, first, seeded(1))
    shifted = torch.cat((first.elites[0, :, 1:], first.elites[0, :, -1:]), 1)
    assert_close(model.asked(3)[:2], shifted)


def draws():
    return Draws()


def test_smoothness_by_hand():
    planner = make("CEM", PLANE, smoothness=2.0)
    vectors = torch.tensor([[0.0, 0.5], [0.5, 0.5], [0.5, -0.5]])[None, None]
    model, nan = flat(PLANE), float("nan")
    changes = 0.5**2 + 1.0**2
    assert planner.evaluate(model, START, vectors, draws()).value.item() == pytest.approx(-2 * changes)
    last = torch.tensor([[1.0, 0.0]])
    assert planner.evaluate(model, START, vectors, draws(), last).value.item() == pytest.approx(
        -2 * (changes + 1.0**2 + 0.5**2)
    )
    mixed = planner.evaluate(
        model, torch.zeros(2, 1), vectors.expand(2, -1, -1, -1), draws(), torch.tensor([[1.0, 0.0], [nan, nan]])
    )
    assert mixed.value[:, 0].tolist() == pytest.approx([-2 * (changes + 1.25), -2 * changes])


def test_a_changed_choice_counts_two():
    planner = make("CEM", PAIR, smoothness=0.5)
    actions = torch.tensor([[1, -1], [3, -1], [2, 0]])
    vectors = planner.code.encode(actions)[None, None]
    last = planner.code.encode(torch.tensor([[1, 0]]))
    value = planner.evaluate(flat(PAIR), START, vectors, draws(), last).value.item()
    assert value == pytest.approx(-0.5 * 2 * (1 + 1 + 2))


@pytest.mark.parametrize("space", [UNIT, THREE], ids=["Box", "Discrete"])
def test_smoothness_counts_the_last_decisions_action_where_there_is_one(space):
    planner = make("RandomShooting", space, smoothness=1.0)

    def penalty(asked, last):
        plans = asked.float().reshape(len(asked), 3)
        if last is not None:
            plans = torch.cat((last.expand(len(asked), 1), plans), 1)
        changes = plans.diff(dim=1)
        return changes.square().sum(1) if space is UNIT else 2.0 * (changes != 0).sum(1)

    model = flat(space)
    first = planner.plan(model, torch.zeros(2, 1), None, seeded())
    first = first._replace(warm=torch.tensor([True, False]))
    second = planner.plan(model, torch.zeros(2, 1), first, seeded(1))
    for row in range(2):
        cold = penalty(model.asked(0).view(2, -1, 3)[row], None)
        assert first.value[row].item() == pytest.approx(-cold.min().item())
        last = first.actions[row, 0].float().reshape(1, 1) if row == 0 else None
        then = penalty(model.asked(1).view(2, -1, 3)[row], last)
        assert second.value[row].item() == pytest.approx(-then.min().item())


class Clock:
    """A clock that a model's steps advance."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class SlowModel(FakeModel):
    """Takes 2 ms a step, so that a part of a population takes 6 ms."""

    clock: Clock

    def step(self, state, action, noise=None):
        self.clock.now += 0.002
        return super().step(state, action, noise)


@pytest.fixture
def clock(monkeypatch):
    """Time as planners see it."""
    clock = Clock()
    monkeypatch.setattr(base, "time", clock)
    monkeypatch.setattr(shooting, "LEAST_ROWS", 1)
    return clock


def slow(space, clock):
    model = SlowModel(space, reward=lambda x, a, after, step: -((a if a.dim() == 2 else a[..., 0]) - 0.3).square())
    model.clock = clock
    return model


def value_of(asked):
    return -(asked.float().reshape(len(asked), 3) - 0.3).square().sum(1)


@pytest.mark.parametrize(("name", "space"), supported())
@pytest.mark.parametrize("budget", [1, 12, 20, 33, 70])
def test_a_decision_ends_within_its_budget_and_leaves_less_than_a_part_of_it(clock, name, space, budget):
    model = slow(space, clock)
    plan = make(name, space, time_budget_ms=budget).plan(model, START, None, seeded())
    spent = 1000 * clock.now
    least = 12 if name == "CEM" else 6  # the first part, and the roll-out of a mean
    assert spent <= max(budget, least) + 1e-6
    assert spent > min(budget, 48) - 6 - 1e-6  # 48 ms are a population: nothing is given away
    assert plan.value.isfinite().all()
    if name not in ("CEM", "MPPI"):  # these execute their mean
        asked = torch.cat([torch.stack(actions, 1) for actions in model.plans])
        assert plan.value.item() == pytest.approx(value_of(asked).max().item(), abs=1e-6)
        assert plan.value >= value_of(torch.stack(model.plans[0], 1)).max() - 1e-6
    else:
        assert space.contains(plan.actions[0, 0].numpy())


@pytest.mark.parametrize("budget", [12, 20, 33])
def test_time_for_the_roll_out_of_mppis_mean_under_a_cost_limit_is_kept(clock, budget):
    model = slow(UNIT, clock)
    make("MPPI", UNIT, time_budget_ms=budget, cost=lambda after: after[..., 0]).plan(model, START, None, seeded())
    assert budget - 6 < 1000 * clock.now + 1e-6 <= budget + 2e-6


@pytest.mark.parametrize(("name", "space"), supported())
def test_with_time_enough_a_budget_changes_nothing(name, space):
    start = torch.tensor([[0.0], [0.5], [-0.7]])
    plans = {}
    for budget in (None, 1e9):
        planner = make(name, space, time_budget_ms=budget)
        first = planner.plan(hill(space), start, None, seeded())
        plans[budget] = planner.plan(hill(space), start, first, seeded(1))
    assert_equal_plans(plans[None], plans[1e9])


@pytest.mark.parametrize(
    ("setting", "value"), [("time_budget_ms", 0), ("smoothness", -1.0), ("agreement", -0.1), ("iterations", 0)]
)
def test_shared_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(InvalidSettingError, match=f"^{setting} must be .*, but {value} was given"):
        make("CEM", UNIT, **{setting: value})
