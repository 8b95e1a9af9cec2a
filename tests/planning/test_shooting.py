"""The shooting planners' parts: refit, coloured noise, warm starts, iCEM's population."""

import numpy as np
import pytest
import torch
from fake_models import FakeModel, flat
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.testing import assert_close

from mbrl_gym.agents.planning import CEM, ICEM, RandomShooting
from mbrl_gym.agents.planning.actions import coloured_noise
from mbrl_gym.agents.planning.cem import refit

INF = float("inf")
UNIT = spaces.Box(-1.0, 1.0, (1,))
OLD_MEAN, OLD_DEVIATION = torch.full((1, 1, 1), 9.0), torch.full((1, 1, 1), 7.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def refit_numbers(values, returns, elites):
    """Refit one row of one-step, one-component candidates; return mean and deviation as numbers."""
    candidates = torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
    scores = torch.tensor(returns, dtype=torch.float64).view(1, -1)
    mean, deviation = refit(candidates, scores, elites, OLD_MEAN.double(), OLD_DEVIATION.double())
    return mean.item(), deviation.item()


@pytest.mark.parametrize(
    ("values", "returns", "elites", "chosen"),
    [
        ([0, 1, 2, 3], [1, 4, 3, 2], 2, [1, 2]),
        ([5, 6, 7, 8], [0, 0, 0, 1], 1, [8]),
        ([0, 1, 2, 3], [5, 4, 4, 1], 2, [0]),  # a tie at the cut is no evidence
        ([0, 1, 2, 3], [5, 5, 5, 1], 2, [0, 1, 2]),  # a tie at the top counts as a whole
        ([0, 1, 2, 3], [3, 3, 1, 1], 2, [0, 1]),
        ([0, 1, 2, 3], [3, 2, 2, 2], 3, [0]),
        ([0, 1, 2, 3], [7, -INF, -INF, -INF], 2, [0]),
        ([0, 1, 2, 3], [7, 6, -INF, -INF], 2, [0, 1]),
    ],
)
def test_refit_by_hand(values, returns, elites, chosen):
    mean, deviation = refit_numbers(values, returns, elites)
    assert mean == pytest.approx(np.mean(chosen))
    assert deviation == pytest.approx(np.std(chosen))


def test_refit_keeps_the_distribution_where_all_returns_are_equal():
    assert refit_numbers([0, 1, 2], [4, 4, 4], 2) == (9.0, 7.0)
    assert refit_numbers([0, 1], [4, 4], 1) == (9.0, 7.0)


def test_rows_and_components_are_refitted_apart():
    candidates = torch.arange(24.0).view(2, 3, 2, 2)
    returns = torch.tensor([[3.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    mean, deviation = refit(candidates, returns, 2, torch.full((2, 2, 2), -1.0), torch.full((2, 2, 2), -2.0))
    assert mean[0].tolist() == [[2.0, 3.0], [4.0, 5.0]]
    assert (deviation[0] == 2).all()
    assert (mean[1] == -1).all()
    assert (deviation[1] == -2).all()


@settings(deadline=None, max_examples=200)
@given(returns=st.lists(st.sampled_from([-INF, 0, 1, 2, 3]), min_size=3, max_size=9), data=st.data())
def test_refit_by_brute_force(returns, data):
    elites = data.draw(st.integers(1, len(returns) - 1))
    values = [float(i * i) for i in range(len(returns))]
    ranked = sorted(returns, reverse=True)
    best_rejected, top = ranked[elites], ranked[0]
    chosen = [v for v, r in zip(values, returns, strict=True) if r > best_rejected]
    if not chosen:
        chosen = [v for v, r in zip(values, returns, strict=True) if r == top]
    expected = (9.0, 7.0) if len(set(returns)) == 1 else (np.mean(chosen), np.std(chosen))
    assert_allclose(refit_numbers(values, returns, elites), expected, atol=1e-9)


def test_momentum_keeps_a_share_of_mean_and_deviation():
    # Only candidates above 0 pay, and the more the higher: a hand-made refit from what the model was asked.
    model = FakeModel(UNIT, reward=lambda x, a, after, step: a[..., 0])
    planner = CEM(UNIT, population=30, iterations=1, elites=5, momentum=0.3, deviation=0.4, horizon=1)
    plan = planner.plan(model, torch.zeros(1, 1), None, seeded())
    best = model.asked(0).flatten().sort(descending=True).values[:5]
    assert_close(plan.mean.item(), 0.7 * best.mean().item())
    second = planner.plan(model, torch.zeros(1, 1), plan, seeded(1))
    best = model.asked(1).flatten().sort(descending=True).values[:5]
    assert_close(second.mean.item(), 0.3 * plan.mean.item() + 0.7 * best.mean().item())


@pytest.mark.parametrize("planner_class", [CEM, ICEM])
def test_the_first_round_has_the_given_deviation_around_the_warm_mean(planner_class):
    model = flat(UNIT)
    planner = planner_class(UNIT, population=4000, iterations=1, elites=5, deviation=0.2, horizon=6)
    first = planner.plan(
        FakeModel(UNIT, reward=lambda x, a, after, step: -(a[..., 0] - 0.3).square()), torch.zeros(1, 1), None, seeded()
    )
    planner.plan(model, torch.zeros(1, 1), first, seeded(1))
    asked = model.asked(0)[..., 0]
    shifted = torch.cat((first.mean[0, 1:, 0], first.mean[0, -1:, 0]))
    assert_allclose(asked.mean(0), shifted, atol=0.02)
    assert_allclose(asked.std(0), 0.2, atol=0.02)


def test_cem_does_not_shrink_below_its_least_deviation():
    model = FakeModel(UNIT, reward=lambda x, a, after, step: -a[..., 0].square())
    spreads = []
    for least in (0.0, 0.1):
        CEM(UNIT, population=300, iterations=8, elites=5, momentum=0.0, min_deviation=least, horizon=1).plan(
            model, torch.zeros(1, 1), None, seeded()
        )
        spreads.append(model.asked(-1).std().item())
    assert spreads[0] < 0.01
    assert 0.09 < spreads[1] < 0.11


def test_cem_executes_its_mean_and_icem_its_best_candidate():
    def reward(x, a, after, step):
        return -(a[..., 0] - 0.3).abs()

    for planner_class in (CEM, ICEM):
        model = FakeModel(UNIT, reward=reward)
        planner = planner_class(UNIT, population=20, iterations=2, elites=4, horizon=2)
        plan = planner.plan(model, torch.zeros(1, 1), None, seeded())
        if planner_class is CEM:
            assert_close(plan.actions, plan.mean)
        else:
            best = -(model.asked(1)[..., 0] - 0.3).abs().sum(1)
            assert_close(plan.actions[0], model.asked(1)[best.argmax()])
            assert_close(plan.value.item(), best.max().item())


def test_random_shooting_takes_the_best_candidate_and_keeps_the_last_plan_among_them():
    model = FakeModel(UNIT, reward=lambda x, a, after, step: -(a[..., 0] - 0.1 * step).abs())
    planner = RandomShooting(UNIT, population=50, horizon=3)
    plan = planner.plan(model, torch.zeros(1, 1), None, seeded())
    asked = model.asked(0)
    assert asked.shape == (50, 3, 1)
    returns = -(asked[..., 0] - torch.tensor([0.0, 0.1, 0.2])).abs().sum(1)
    assert_close(plan.actions[0], asked[returns.argmax()])
    second = planner.plan(model, torch.zeros(1, 1), plan, seeded(1))
    shifted = torch.cat((plan.actions[0, 1:], plan.actions[0, -1:]))
    assert (model.asked(1) == shifted).all((1, 2)).sum() == 1
    assert second.value >= -(shifted[:, 0] - torch.tensor([0.0, 0.1, 0.2])).abs().sum()


def test_random_shooting_is_uniform():
    model = flat(spaces.Box(-3.0, 1.0, (1,)))
    RandomShooting(model.action_space, population=20_000, horizon=2).plan(model, torch.zeros(1, 1), None, seeded())
    asked = model.asked(0)[:, :, 0]
    counts = torch.histc(asked, bins=8, min=-3.0, max=1.0)
    assert_allclose(counts / counts.sum(), 1 / 8, atol=0.01)
    assert abs(np.corrcoef(asked.T.numpy())[0, 1]) < 0.03


def icem(**changes):
    arguments = {"population": 60, "iterations": 5, "elites": 6, "kept": 3, "decay": 1.5, "horizon": 4}
    return ICEM(UNIT, **{**arguments, **changes})


def quadratic():
    return FakeModel(UNIT, reward=lambda x, a, after, step: -(a[..., 0] - 0.2 * step).square())


def test_icem_shrinks_its_population():
    model = quadratic()
    icem().plan(model, torch.zeros(1, 1), None, seeded())
    counts = [len(model.asked(i)) for i in range(5)]
    # 60 / 1.5^i rounded down, but at least twice the elites; the kept elites come on top.
    assert counts == [60 + 3, 40 + 3, 26 + 3, 17 + 3, 12 + 3]
    model = quadratic()
    icem(decay=1.0).plan(model, torch.zeros(1, 1), None, seeded())
    assert [len(model.asked(i)) for i in range(5)] == [63] * 5


def times_asked(model, rollout, plan):
    """Count how often a plan `[H, A]` is among the candidates of a roll-out."""
    return int((model.asked(rollout) - plan).abs().amax((1, 2)).le(1e-7).sum())


def test_icem_tries_the_mean_in_the_last_iteration_only():
    model = quadratic()
    planner = icem(momentum=0.0)
    planner.plan(model, torch.zeros(1, 1), None, seeded())
    for rollout in range(1, 5):
        asked = model.asked(rollout - 1)
        returns = -(asked[..., 0] - 0.2 * torch.arange(4)).square().sum(1)
        mean = asked[returns.topk(6).indices].mean(0)
        assert times_asked(model, rollout, mean) == (rollout == 4)


def test_icem_keeps_its_best_candidates_within_a_decision():
    model = quadratic()
    icem().plan(model, torch.zeros(1, 1), None, seeded())
    for rollout in range(1, 5):
        asked = model.asked(rollout - 1)
        returns = -(asked[..., 0] - 0.2 * torch.arange(4)).square().sum(1)
        for best in returns.topk(3).indices:
            assert times_asked(model, rollout, asked[best]) >= 1


def test_icem_hands_shifted_elites_to_the_next_decision_and_none_to_a_cold_row():
    planner = icem()
    plan = planner.plan(quadratic(), torch.zeros(2, 1), None, seeded())
    assert plan.elites.shape == (2, 3, 4, 1)
    model = quadratic()
    planner.plan(model, torch.zeros(2, 1), plan._replace(warm=torch.tensor([True, False])), seeded(1))
    warm, cold = model.asked(0).view(2, -1, 4, 1)
    for elite in plan.elites[0]:
        shifted = torch.cat((elite[1:], elite[-1:]))
        assert ((warm - shifted).abs().amax((1, 2)) < 1e-6).sum() == 1
        assert ((cold - shifted).abs().amax((1, 2)) < 1e-6).sum() == 0
    assert not (cold == 0).all((1, 2)).any()  # nor a plan of zeros in their place


def test_icem_elites_come_best_first():
    plan = icem().plan(quadratic(), torch.zeros(1, 1), None, seeded())
    returns = -(plan.elites[0, ..., 0] - 0.2 * torch.arange(4)).square().sum(1)
    assert (returns.diff() <= 0).all()
    assert_close(plan.actions[0], plan.elites[0, 0])


@pytest.mark.parametrize("length", [1, 2, 3, 8, 15, 30])
@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0, 3.5])
def test_coloured_noise_has_zero_mean_and_unit_variance_at_every_step(length, colour):
    noise = coloured_noise((20_000, 1), length, colour, seeded())
    assert noise.shape == (20_000, 1, length)
    assert_allclose(noise.mean(0), 0.0, atol=0.04)
    assert_allclose(noise.var(0), 1.0, atol=0.06)


@pytest.mark.parametrize("length", [8, 15])
def test_the_redder_the_noise_the_more_its_steps_agree(length):
    correlations = []
    for colour in (0.0, 0.5, 1.0, 2.0, 4.0):
        noise = coloured_noise((20_000,), length, colour, seeded())
        correlations.append((noise[:, :-1] * noise[:, 1:]).mean().item())
    assert abs(correlations[0]) < 0.02
    assert (np.diff(correlations) > 0.03).all()


@pytest.mark.parametrize("length", [255, 256])
@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
def test_the_spectrum_falls_with_the_given_slope(length, colour):
    noise = coloured_noise((2000,), length, colour, seeded()).numpy()
    power = (np.abs(np.fft.rfft(noise)) ** 2).mean(0)[1 : length // 2]
    frequency = np.fft.rfftfreq(length)[1 : length // 2]
    slope = np.polyfit(np.log(frequency), np.log(power), 1)[0]
    assert slope == pytest.approx(-colour, abs=0.05)


def test_candidates_and_components_of_coloured_noise_are_independent():
    noise = coloured_noise((5000, 2), 6, 2.0, seeded())
    assert abs((noise[:, 0] * noise[:, 1]).mean()) < 0.05
    assert abs((noise[:-1] * noise[1:]).mean()) < 0.05
    model = flat(spaces.Box(-1.0, 1.0, (2,)))
    ICEM(model.action_space, population=3000, iterations=1, elites=5, colour=3.0, deviation=0.2, horizon=8).plan(
        model, torch.zeros(1, 1), None, seeded()
    )
    asked = model.asked(0) / 0.2
    along_time = (asked[:, :-1] * asked[:, 1:]).mean()
    assert along_time == pytest.approx(0.7025, abs=0.03)  # the colour runs along the horizon (closed form),
    assert abs((asked[..., 0] * asked[..., 1]).mean()) < 0.05  # not across components
    assert abs((asked[:-1] * asked[1:]).mean()) < 0.05  # or candidates
