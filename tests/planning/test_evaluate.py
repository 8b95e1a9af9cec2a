"""The one loop that rolls plans through models, against loops written by hand."""

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from fake_models import FakeModel
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from mbrl_gym.agents.planning import Draws, Objective, evaluation
from mbrl_gym.errors import PlanningError
from mbrl_gym.models import AnalyticModel, ExactModel, GaussianEnsemble, Transitions, draw
from mbrl_gym.noise import Noise, NoiseSizes

PAIR = spaces.Box(-2.0, 2.0, (2,))
LINE = spaces.Box(-9.0, 9.0, (1,))
NAN, INF = float("nan"), float("inf")


def evaluate(model, start, plans, noise=None, **objective):
    """Return the candidates' values `[N, K]`, which are their ranks where there is no cost limit."""
    returns = evaluation.evaluate(model, start, plans, Objective(**objective), Draws(noise))
    assert torch.equal(returns.value, returns.rank)
    assert returns.feasible.all()
    return returns.value


def walk(**changes):
    """Return the model x' = x + a + eps with reward x'."""
    functions = {
        "move": lambda x, a, eps: x + a + eps,
        "reward": lambda x, a, after, step: after[..., 0],
        "noisy": True,
    }
    return FakeModel(LINE, **{**functions, **changes})


def candidates(*plans):
    """Return `[1, K, H, 1]`."""
    return torch.tensor(plans)[None, :, :, None]


def common_noise(model, steps, particles, seed=0):
    whole = draw(torch.Generator().manual_seed(seed), (steps, particles, 1), model.noise_sizes)
    return [Noise(whole.normal[t].double(), whole.uniform[t].double()) for t in range(steps)]


def loop_by_hand(start, plans, noise, particles, discount):
    """Evaluate the model of the test below with Python numbers."""
    returns = np.zeros(plans.shape[:2])
    for row in range(plans.shape[0]):
        for plan in range(plans.shape[1]):
            total = 0.0
            for particle in range(particles):
                x, weight = float(start[row, 0]), 1.0
                for step in range(plans.shape[2]):
                    first, second = (float(a) for a in plans[row, plan, step])
                    eps = 0.0 if noise is None else float(noise[step].normal[particle, 0, 0])
                    after = 0.9 * x + first - 0.5 * second + 0.3 * eps
                    total += weight * (after - 0.1 * first * first + 0.01 * x)
                    weight *= discount
                    if abs(after) > 2:
                        break
                    x = after
            returns[row, plan] = total / particles
    return returns


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 4),
    count=st.integers(1, 6),
    horizon=st.integers(1, 6),
    particles=st.integers(1, 3),
    discount=st.sampled_from([1.0, 0.9, 0.5]),
    noisy=st.booleans(),
    chunk=st.sampled_from([1, 7, 2560]),
    seed=st.integers(0, 1000),
)
def test_returns_are_those_of_a_loop_written_by_hand(rows, count, horizon, particles, discount, noisy, chunk, seed):
    model = FakeModel(
        PAIR,
        move=lambda x, a, eps: 0.9 * x + a[..., :1] - 0.5 * a[..., 1:] + 0.3 * eps,
        reward=lambda x, a, after, step: after[..., 0] - 0.1 * a[..., 0] ** 2 + 0.01 * x[..., 0],
        ends=lambda after: after[..., 0].abs() > 2,
        noisy=True,
    )
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    plans = 4 * torch.rand(rows, count, horizon, 2, generator=generator, dtype=torch.float64) - 2
    noise = common_noise(model, horizon, particles, seed) if noisy else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "ROWS_PER_CHUNK", chunk)
        returns = evaluate(model, start, plans, noise, particles=particles, discount=discount)
    expected = torch.as_tensor(loop_by_hand(start, plans, noise, particles, discount))
    assert_close(returns, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("at_once", [1, 25, 60, 10**6])
@pytest.mark.parametrize("objective", [{}, {"discount": 0.7, "particles": 2, "disagreement": 0.5}])
def test_rewards_of_many_steps_at_once_are_those_of_single_steps(monkeypatch, at_once, objective):
    def ends(after):
        return after[..., 0].abs() > 2

    functions = {
        "dynamics_fn": lambda x, a: 0.9 * x + a[..., :1] - 0.5 * a[..., 1:],
        "reward_fn": lambda x, a, after: after[..., 0] - 0.1 * a[..., 0].square() + 0.01 * x[..., 0],
    }
    single = FakeModel(
        PAIR,
        move=lambda x, a, eps: functions["dynamics_fn"](x, a),
        reward=lambda x, a, after, step: functions["reward_fn"](x, a, after),
        ends=ends,
    )
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 1, generator=generator)
    plans = 4 * torch.rand(3, 4, 7, 2, generator=generator) - 2
    monkeypatch.setattr(evaluation, "REWARDS_AT_ONCE", at_once)
    for termination in (ends, None):
        single.ends = termination
        model = AnalyticModel(single.observation_space, PAIR, **functions, termination_fn=termination)
        expected = evaluate(single, start, plans, **objective)
        assert_close(evaluate(model, start, plans, **objective), expected, rtol=0, atol=1e-6)
        imagined = [evaluation.imagine(m, start[0], plans[0], Objective(**objective), Draws()) for m in (model, single)]
        assert_close(*imagined, rtol=0, atol=1e-6, equal_nan=True)


def test_rewards_stop_after_the_step_that_ends_the_episode():
    model = walk(ends=lambda after: after[..., 0] >= 2)
    plans = candidates([1.0, 1.0, 5.0], [0.5, 0.5, 0.5], [1.0, -1.0, 3.0])
    assert evaluate(model, torch.zeros(1, 1), plans).tolist() == [[3.0, 3.0, 1.0 + 0.0 + 3.0]]
    halved = evaluate(model, torch.zeros(1, 1), plans, discount=0.5)
    assert halved.tolist() == [[2.0, 0.5 + 0.5 + 0.375, 1.0 + 0.0 + 0.75]]


def test_an_end_that_the_model_rules_out_is_not_looked_at():
    class Endless(FakeModel):
        terminates = False

    model = Endless(LINE, move=lambda x, a, eps: x + a, reward=lambda x, a, after, step: after[..., 0])
    model.ends = lambda after: after[..., 0] > -INF
    assert evaluate(model, torch.zeros(1, 1), candidates([1.0, 1.0])).tolist() == [[3.0]]


def test_a_return_is_the_mean_over_particles_each_with_its_own_noise_and_end():
    model = walk(ends=lambda after: after[..., 0] >= 2)
    noise = [Noise(torch.tensor([1.0, -1.0])[:, None, None], torch.zeros(2, 1, 0))] * 2
    # Particle 0: 0 + 1 + 1 = 2 and ends; particle 1: 0, then 0.
    assert evaluate(model, torch.zeros(1, 1), candidates([1.0, 1.0]), noise, particles=2).tolist() == [[1.0]]


def test_every_row_starts_from_its_own_observation():
    start = torch.tensor([[0.0], [10.0], [-5.0]])
    plans = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])[:, :, None, None]
    expected = [[1.0, 2.0], [13.0, 14.0], [0.0, 1.0]]
    assert evaluate(walk(), start, plans).tolist() == expected


def test_discrete_plans_need_no_trailing_axis():
    space = spaces.Discrete(3)
    model = FakeModel(space, reward=lambda x, a, after, step: a * 10.0**step)
    plans = torch.tensor([[[0, 1, 2], [2, 2, 0]]])
    assert evaluate(model, torch.zeros(1, 1), plans).tolist() == [[210.0, 22.0]]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_returns_that_are_not_finite_rank_last(bad):
    model = walk(reward=lambda x, a, after, step: torch.where(a[..., 0] > 5, bad, a[..., 0]))
    returns = evaluate(model, torch.zeros(1, 1), candidates([1.0, -7.0], [2.0, 6.0], [6.0, 2.0], [-8.0, -9.0]))
    assert returns.tolist() == [[-6.0, -INF, -INF, -17.0]]
    assert returns.argmax() == 0


def test_one_bad_particle_spoils_its_candidate_only():
    model = walk(reward=lambda x, a, after, step: torch.where(after[..., 0] > 2, NAN, after[..., 0]))
    noise = [Noise(torch.tensor([0.0, 1.0])[:, None, None], torch.zeros(2, 1, 0))]
    returns = evaluate(model, torch.zeros(1, 1), candidates([1.0], [1.5]), noise, particles=2)
    assert returns.tolist() == [[1.5, -INF]]


def test_values_after_the_end_are_ignored_even_if_not_finite():
    model = walk(
        ends=lambda after: after[..., 0] >= 2,
        reward=lambda x, a, after, step: torch.where(x[..., 0] >= 2, NAN, after[..., 0]),
    )
    assert evaluate(model, torch.zeros(1, 1), candidates([2.0, 1.0, 1.0])).tolist() == [[2.0]]


class Exploding(FakeModel):
    """Named in the error."""


@pytest.mark.parametrize("first_bad", [1, 3, 5])
def test_no_finite_candidate_names_the_model_and_the_first_bad_step(first_bad):
    model = Exploding(
        LINE,
        reward=lambda x, a, after, step: torch.full(x.shape[:2], NAN if step + 1 >= first_bad else 0.0),
    )
    message = f"Exploding predicts no finite return for any of 4 candidates; first at step {first_bad} of 5"
    with pytest.raises(PlanningError, match=re.escape(message)):
        evaluate(model, torch.zeros(2, 1), torch.zeros(2, 4, 5, 1))


@pytest.mark.parametrize("chunk", [1, 2560])
def test_one_hopeless_row_is_enough(monkeypatch, chunk):
    monkeypatch.setattr(evaluation, "ROWS_PER_CHUNK", chunk)
    model = Exploding(LINE, reward=lambda x, a, after, step: torch.where((x[..., 0] > 2) & (step == 1), INF, 0.0))
    with pytest.raises(PlanningError, match="first at step 2 of 3"):
        evaluate(model, torch.tensor([[0.0], [5.0], [1.0]]), torch.zeros(3, 4, 3, 1))
    evaluate(model, torch.tensor([[0.0], [2.0], [1.0]]), torch.zeros(3, 4, 3, 1))


def ensemble(task):
    generator = np.random.default_rng(0)
    size = task.observation_space.shape[0]
    observation, change = generator.normal(size=(2, 80, size)).astype(np.float32)
    action = generator.uniform(-1, 1, (80, *task.action_space.shape)).astype(np.float32)
    never = np.zeros(80, bool)
    data = Transitions(observation, action, change[:, 0], observation + 0.1 * change, never, never, never)
    model = GaussianEnsemble(task.observation_space, task.action_space, members=3, hidden=(16, 16), max_epochs=3)
    model.fit(data)
    return model


@pytest.mark.parametrize("kind", ["exact", "ensemble"])
@pytest.mark.parametrize("noisy", [False, True])
def test_the_same_candidate_twice_gets_the_same_return(kind, noisy):
    task = gym.make("mbrl/Drift-v0").unwrapped.task
    model = ExactModel(task) if kind == "exact" else ensemble(task)
    particles = 2 * model.particle_unit
    generator = torch.Generator().manual_seed(0)
    plans = 2 * torch.rand(2, 42, 6, 1, generator=generator) - 1
    plans = torch.cat((plans, plans.flip(1)), 1)
    noise = None
    if noisy:
        whole = draw(generator, (6, particles, 1), model.noise_sizes)
        noise = [Noise(whole.normal[t], whole.uniform[t]) for t in range(6)]
    returns = evaluate(model, torch.tensor([[0.3], [-2.0]]), plans, noise, particles=particles)
    # Bit for bit in the exact model; matrix products may round a row by its place in the batch.
    tolerance = {"rtol": 0.0, "atol": 0.0} if kind == "exact" else {"rtol": 1e-5, "atol": 1e-5}
    assert_close(returns[:, :42], returns[:, 42:].flip(1), **tolerance)
    assert returns.std(1).min() > 0.01
    if noisy:
        assert not torch.equal(returns, evaluate(model, torch.tensor([[0.3], [-2.0]]), plans, particles=particles))


def test_common_noise_cancels_in_differences_of_candidates():
    model = walk()
    noise = common_noise(model, 4, 3)
    plans = torch.tensor([[0.0] * 4, [0.5] * 4], dtype=torch.float64)[None, :, :, None]
    first, second = evaluate(model, torch.zeros(1, 1, dtype=torch.float64), plans, noise, particles=3)[0]
    assert_close(second - first, torch.tensor(0.5 * (1 + 2 + 3 + 4), dtype=torch.float64), rtol=1e-12, atol=1e-12)
    assert model.noise_sizes == NoiseSizes(normal=1)
