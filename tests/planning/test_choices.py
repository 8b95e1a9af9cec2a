"""Planning over choices: their code, and planners against a loop over all plans."""

import itertools
import re

import numpy as np
import pytest
import torch
from fake_models import FakeModel, flat
from gymnasium import spaces
from torch.testing import assert_close

from mbrl_gym.agents.planning import CEM, ICEM, PLANNERS, Exhaustive, evaluate, exhaustive
from mbrl_gym.agents.planning.actions import BoxCode, ChoiceCode
from mbrl_gym.errors import InvalidSettingError

ODD = spaces.Box(np.float32([-3.0, 5.0, -0.001]), np.float32([1.0, 9.0, 0.002]))
THREE = spaces.Discrete(3, start=2)
PAIR = spaces.MultiDiscrete([3, 2], start=[1, -1])
START = torch.zeros(1, 1)
CHOOSERS = [name for name in PLANNERS if name != "Gradient"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_choices_are_one_hot():
    assert ChoiceCode(THREE).encode(torch.tensor([2, 4])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert ChoiceCode(PAIR).encode(torch.tensor([[1, 0], [3, -1]])).tolist() == [[1, 0, 0, 0, 1], [0, 0, 1, 1, 0]]


@pytest.mark.parametrize("space", [THREE, PAIR, spaces.MultiDiscrete([4]), ODD])
def test_decoding_undoes_encoding(space):
    code = BoxCode(space) if isinstance(space, spaces.Box) else ChoiceCode(space)
    space.seed(0)
    actions = torch.as_tensor(np.stack([space.sample() for _ in range(40)]))
    vectors = code.encode(actions)
    assert vectors.shape == (40, code.size)
    assert_close(code.decode(vectors), actions, rtol=1e-6, atol=1e-7)
    assert_close(code.encode(code.decode(vectors)), vectors, rtol=0, atol=1e-6)
    assert_close(code.nearest(vectors), vectors)


def test_box_vectors_reach_the_bounds_and_never_leave_them():
    generator = np.random.default_rng(0)
    unit = torch.cat((torch.tensor([[-1.0], [1.0]]), 2 * torch.rand(30, 1, generator=seeded()) - 1)).expand(-1, 3)
    for _ in range(200):
        middle, half = generator.normal(size=3) * 10 ** generator.uniform(-4, 4, 3), 10 ** generator.uniform(-4, 4, 3)
        space = spaces.Box(middle - half, middle + half, dtype=np.float64)
        actions = BoxCode(space).decode(unit).double().numpy()
        ulp = np.spacing(np.maximum(abs(space.low), abs(space.high)).astype(np.float32))
        assert (actions >= space.low).all()
        assert (actions <= space.high).all()
        assert (actions[0] <= space.low + 2.5 * ulp).all()
        assert (actions[1] >= space.high - 2.5 * ulp).all()


@pytest.mark.parametrize("colour", [0.0, 2.0])
def test_choices_are_drawn_by_their_probabilities(colour):
    code = ChoiceCode(PAIR)
    probabilities = torch.tensor([0.2, 0.5, 0.3, 0.9, 0.1])
    drawn = code.sample(probabilities.expand(1, 1, 4, -1), torch.ones(()), code.noise(20_000, 4, colour, seeded()))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert_close(drawn.mean((0, 1)), probabilities.expand(4, -1), rtol=0, atol=0.015)


def test_a_choice_without_probability_is_never_drawn():
    code = ChoiceCode(THREE)
    drawn = code.sample(torch.tensor([0.0, 1.0, 0.0]), torch.ones(()), code.noise(5000, 3, 0.0, seeded()))
    assert drawn.mean((0, 1, 2)).tolist() == [0.0, 1.0, 0.0]


def test_colour_makes_choices_persist():
    code, probabilities = ChoiceCode(THREE), torch.tensor([0.2, 0.5, 0.3])
    same = []
    for colour in (0.0, 1.0, 3.0):
        drawn = code.sample(probabilities.expand(1, 1, 8, -1), torch.ones(()), code.noise(8000, 8, colour, seeded()))
        same.append((drawn[:, :, 1:] * drawn[:, :, :-1]).sum(-1).mean().item())
    assert same[0] == pytest.approx(0.04 + 0.25 + 0.09, abs=0.01)
    assert same[0] + 0.05 < same[1] < same[2] - 0.05


def test_uniform_draws_are_uniform():
    drawn = ChoiceCode(PAIR).uniform(20_000, 2, seeded()).mean((0, 1))
    assert_close(drawn, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.5, 0.5]).expand(2, -1), rtol=0, atol=0.015)


def test_blur_mixes_in_uniform_choices():
    mean = torch.tensor([1.0, 0.0, 0.0, 0.5, 0.5])
    assert_close(ChoiceCode(PAIR).blur(mean, 0.3), torch.tensor([0.8, 0.1, 0.1, 0.5, 0.5]))
    assert_close(ChoiceCode(PAIR).blur(mean, 7.0), torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.5, 0.5]))
    assert_close(BoxCode(ODD).blur(mean, 0.3), mean)


def test_nearest_takes_the_most_probable_of_each_choice():
    assert ChoiceCode(PAIR).nearest(torch.tensor([0.2, 0.5, 0.3, 0.4, 0.6])).tolist() == [0, 1, 0, 0, 1]
    assert BoxCode(ODD).nearest(torch.tensor([-1.5, 0.2, 3.0])).tolist() == pytest.approx([-1.0, 0.2, 1.0])


def number(space, action):
    """Return the number of an action among those of a step."""
    if isinstance(space, spaces.Discrete):
        return action - int(space.start)
    first, second = action.unbind(-1)
    return (first - 1) * 2 + (second + 1)


def chain(space, seed, states=6):
    """Return a random Markov decision process with certain transitions, and its tables."""
    generator, choices = seeded(seed), 3 if isinstance(space, spaces.Discrete) else 6
    following = torch.randint(states, (states, choices), generator=generator)
    rewards = torch.rand((states, choices), generator=generator)
    model = FakeModel(
        space,
        move=lambda x, a, eps: following[x[..., 0].long(), number(space, a)][..., None].float(),
        reward=lambda x, a, after, step: rewards[x[..., 0].long(), number(space, a)],
    )
    return model, following.tolist(), rewards.tolist()


def best_by_brute_force(following, rewards, state, horizon, discount=1.0):
    """Return the best return and the plans (numbers of actions) that reach it."""
    returns = {}
    for plan in itertools.product(range(len(rewards[0])), repeat=horizon):
        at, total = state, 0.0
        for step, choice in enumerate(plan):
            total += discount**step * rewards[at][choice]
            at = following[at][choice]
        returns[plan] = total
    best = max(returns.values())
    return best, {plan for plan, total in returns.items() if total > best - 1e-6}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("space", "horizon"), [(THREE, 6), (PAIR, 3), (THREE, 1)])
@pytest.mark.parametrize("discount", [1.0, 0.6])
def test_exhaustive_search_equals_brute_force(space, horizon, discount, seed):
    model, following, rewards = chain(space, seed)
    start = torch.arange(6.0)[:, None]
    plan = Exhaustive(space, horizon=horizon, discount=discount).plan(model, start, None, seeded())
    for row in range(6):
        best, plans = best_by_brute_force(following, rewards, row, horizon, discount)
        assert plan.value[row].item() == pytest.approx(best, rel=1e-5)
        assert tuple(number(space, plan.actions[row]).tolist()) in plans


SENSIBLE = {
    "RandomShooting": {"population": 3000},
    "CEM": {"population": 400, "elites": 30, "momentum": 0.3},
    "iCEM": {"population": 300, "elites": 20, "kept": 5, "colour": 0.5, "decay": 1.0},
    "MPPI": {"population": 500, "iterations": 6, "temperature": 0.02, "deviation": 0.3, "colour": 0.0},
}


@pytest.mark.parametrize("name", SENSIBLE)
@pytest.mark.parametrize(("space", "horizon"), [(THREE, 6), (PAIR, 3)])
def test_sampling_planners_find_the_optimum_of_brute_force_for_most_seeds(name, space, horizon):
    found, shortfall = 0, 0.0
    for seed in range(20):
        model, following, rewards = chain(space, seed)
        best, _ = best_by_brute_force(following, rewards, 0, horizon)
        planner = PLANNERS[name](space, horizon=horizon, **SENSIBLE[name])
        plan = planner.plan(model, START, None, seeded(seed))
        reached = evaluate(model, START, plan.actions[:, None]).value.item()
        assert reached <= best + 1e-5
        found += reached > best - 1e-5
        shortfall += (best - reached) / 20
    assert found >= 15
    assert shortfall < 0.03


@pytest.mark.parametrize("name", CHOOSERS)
@pytest.mark.parametrize("space", [THREE, PAIR])
def test_elites_are_actions(name, space):
    planner = PLANNERS[name](space, horizon=4)
    model, _, _ = chain(space, 0)
    plan = planner.plan(model, START, None, seeded())
    plan = planner.plan(model, START, plan, seeded(1))
    assert set(plan.elites.unique().tolist()) == {0.0, 1.0}
    assert (plan.elites.sum(-1) == len(planner.code.counts)).all()
    assert_close(plan.mean.sum(-1), torch.full((1, 4), float(len(planner.code.counts))))
    for action in planner.to_environment(plan.elites)[0, 0]:
        assert space.contains(action.numpy())
    assert_close(planner.to_environment(planner.code.nearest(plan.mean)), planner.to_environment(plan.mean))


@pytest.mark.parametrize("planner_class", [CEM, ICEM])
def test_warm_probabilities_are_the_last_ones_shifted_with_a_share_of_uniform_choices(planner_class):
    planner = planner_class(THREE, horizon=4, population=6000, iterations=1, elites=5, deviation=0.3, colour=0.0)
    warm = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0], [0.2, 0.3, 0.5]])
    previous = planner.empty_plan(1)._replace(mean=warm[None], warm=torch.tensor([True]))
    model = flat(THREE)
    planner.plan(model, START, previous, seeded())
    drawn = torch.stack([(model.asked(0) == 2 + choice).float().mean(0) for choice in range(3)], -1)
    shifted = torch.cat((warm[1:], warm[-1:]))
    assert_close(drawn, 0.7 * shifted + 0.3 / 3, rtol=0, atol=0.025)


def test_a_least_deviation_keeps_all_choices_possible():
    model = FakeModel(THREE, reward=lambda x, a, after, step: (a == 3).float())
    least = {}
    for share in (0.0, 0.3):
        planner = CEM(THREE, horizon=2, population=200, iterations=8, elites=10, momentum=0.0, min_deviation=share)
        plan = planner.plan(model, START, None, seeded())
        least[share] = plan.mean.amin().item()
        assert plan.actions.tolist() == [[3, 3]]
    assert least == {0.0: 0.0, 0.3: pytest.approx(0.1)}


def test_of_equally_good_plans_the_last_one_goes_on():
    planner, model = Exhaustive(PAIR, horizon=3), flat(PAIR)
    last = torch.tensor([[[1, -1], [3, 0], [2, -1]], [[2, 0], [1, 0], [3, 0]]])
    previous = planner.empty_plan(2)._replace(
        elites=planner.code.encode(last)[:, None], warm=torch.tensor([True, False])
    )
    plan = planner.plan(model, torch.zeros(2, 1), previous, seeded())
    assert plan.actions[0].tolist() == [[3, 0], [2, -1], [2, -1]]
    assert plan.actions[1].tolist() == [[1, -1]] * 3
    keen = FakeModel(PAIR, reward=lambda x, a, after, step: a[..., 0].float())
    assert planner.plan(keen, torch.zeros(2, 1), previous, seeded()).actions[0, :, 0].tolist() == [3, 3, 3]


@pytest.mark.parametrize("at_once", [1, 10, 100, 10**6])
def test_the_size_of_parts_changes_nothing(monkeypatch, at_once):
    model, _, _ = chain(PAIR, 1)
    start = torch.arange(5.0)[:, None]
    limit = {"cost": lambda after: after[..., 0], "cost_limit": 3.0, "smoothness": 0.1}
    planner = Exhaustive(PAIR, horizon=2, **limit)
    first = planner.plan(model, start, None, seeded())
    expected = planner.plan(model, start, first, seeded())
    monkeypatch.setattr(exhaustive, "PARTICLES_AT_ONCE", at_once)
    sizes = len(model.plans)
    for one, other in zip(expected, planner.plan(model, start, first, seeded()), strict=True):
        assert torch.equal(one, other)
    assert max(len(actions[0]) for actions in model.plans[sizes:]) <= max(at_once, 1)


def test_more_plans_than_allowed_are_refused_with_what_fits():
    message = "horizon must be at most 9 where max_plans is 20000 (3 choices a step make 3^10 = 59049 plans), but 10"
    with pytest.raises(InvalidSettingError, match=f"^{re.escape(message)} was given$"):
        Exhaustive(THREE, horizon=10)
    assert Exhaustive(THREE, horizon=10, max_plans=3**10).horizon == 10
    with pytest.raises(InvalidSettingError, match="max_plans must be at least the 6 choices of a step, but 5"):
        Exhaustive(PAIR, max_plans=5)
    with pytest.raises(InvalidSettingError, match=r"^horizon must be at least 1, but 0 was given$"):
        Exhaustive(THREE, horizon=0)


@pytest.mark.parametrize(("count", "horizon"), [(1, 15), (2, 14), (3, 9), (141, 2), (142, 1)])
def test_by_default_it_looks_as_far_ahead_as_it_can(count, horizon):
    planner = Exhaustive(spaces.Discrete(count))
    assert planner.horizon == horizon
    if count == 1:
        assert planner.plan(flat(planner.action_space), START, None, seeded()).actions.tolist() == [[0] * 15]
