"""Gradient ascent: its gradient by finite differences, its optimum, and that it never loses what iCEM found."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from fake_models import FakeModel
from gymnasium import spaces
from scipy.linalg import solve_discrete_are
from torch.testing import assert_close

from mbrl_gym.agents.planning import ICEM, Draws, Gradient, base, evaluate
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import AnalyticModel, ExactModel, GaussianEnsemble, GPModel, LinearModel, MLPModel, Transitions

UNIT = spaces.Box(-1.0, 1.0, (2,))
ODD = spaces.Box(np.float32([-3.0, 5.0]), np.float32([1.0, 9.0]))
PLANE = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pendulum(space=ODD, **functions):
    """Return a non-linear model in two columns."""

    def dynamics(x, a):
        speed = x[..., 1] + 0.3 * torch.sin(x[..., 0]) + 0.1 * a[..., 0] - 0.02 * a[..., 1] * x[..., 1]
        return torch.stack((x[..., 0] + 0.3 * speed, speed), -1)

    def reward(x, a, after):
        return torch.cos(after[..., 0]) - 0.1 * after[..., 1].square() - 0.01 * a.square().sum(-1)

    return AnalyticModel(PLANE, space, **{"dynamics_fn": dynamics, "reward_fn": reward, **functions})


def differences(worth, vectors, width):
    """Return the gradient of a function of `[1, 1, H, U]` by central differences."""
    slopes = torch.zeros_like(vectors)
    for index in np.ndindex(*vectors.shape):
        step = torch.zeros_like(vectors)
        step[index] = width
        slopes[index] = (worth(vectors + step) - worth(vectors - step)).item() / (2 * width)
    return slopes


def check_gradient(planner, model, observation, *, draws=None, last=None, width=1e-5, rtol=1e-6, dtype=torch.float64):
    draws = Draws() if draws is None else draws
    vectors = (1.6 * torch.rand(1, 1, planner.horizon, planner.code.size, generator=seeded(3)) - 0.8).to(dtype)
    returns, gradient = planner.gradient(model, observation, vectors, draws, last)
    expected = differences(lambda v: planner.evaluate(model, observation, v, draws, last).value, vectors, width)
    assert_close(returns.value, planner.evaluate(model, observation, vectors, draws, last).value)
    assert expected.abs().max() > 1e-3
    assert_close(gradient, expected, rtol=rtol, atol=rtol * expected.abs().max().item())


OBJECTIVES = {
    "return": {},
    "discount": {"discount": 0.8},
    "smoothness": {"smoothness": 0.3},
    "value": {"value": lambda x: -x.square().sum(-1), "discount": 0.9},
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradient_by_finite_differences(objective):
    planner = Gradient(ODD, horizon=5, **OBJECTIVES[objective])
    last = torch.tensor([[0.2, -0.4]], dtype=torch.float64)
    check_gradient(planner, pendulum(), torch.tensor([[2.0, 0.3]], dtype=torch.float64), last=last)


def test_gradient_stops_where_an_episode_ends():
    model = pendulum(termination_fn=lambda after: after[..., 0] > 2.5)
    planner, observation = Gradient(ODD, horizon=5), torch.tensor([[2.0, 0.3]], dtype=torch.float64)
    vectors = torch.zeros(1, 1, 5, 2, dtype=torch.float64)
    _, gradient = planner.gradient(model, observation, vectors, Draws())
    state, steps = model.start(observation), 0
    while not (prediction := model.step(state, planner.to_environment(vectors[0, :, steps]))).terminated.all():
        state, steps = prediction.state, steps + 1
    assert 0 < steps < 4
    assert (gradient[0, 0, : steps + 1] != 0).any(1).all()
    assert (gradient[0, 0, steps + 1 :] == 0).all()


@pytest.mark.parametrize("settings", [{}, {"risk": 0.7}, {"worst_case": True}], ids=str)
@pytest.mark.parametrize("env_id", ["mbrl/Drone-v0", "mbrl/ArmTorque-v0", "mbrl/Drift-v0"])
def test_gradient_through_exact_models_with_noise(env_id, settings):
    task = gym.make(env_id, dtype="float64").unwrapped.task
    model, env = ExactModel(task), gym.make(env_id, dtype="float64")
    observation = torch.as_tensor(env.reset(seed=0)[0], dtype=torch.float64)[None]
    planner = Gradient(task.action_space, horizon=4, particles=3, noise=True, **settings)
    draws = planner.objective.draw(model, 4, seeded(), "cpu")
    draws = Draws([type(noise)(*(part.double() for part in noise)) for noise in draws.noise or []] or None)
    check_gradient(planner, model, observation, draws=draws, rtol=1e-5)


def wavy(count=200):
    generator = np.random.default_rng(0)
    x, a = generator.normal(size=(count, 2)), generator.uniform(ODD.low, ODD.high, (count, 2))
    change = np.stack([np.sin(x[:, 0]) + 0.3 * a[:, 0], 0.2 * x[:, 1] * a[:, 1] / 9 - 0.1 * a[:, 0]], 1)
    reward, never = x.sum(1) - 0.1 * a[:, 0] ** 2, np.zeros(count, bool)
    rows = [part.astype(np.float32) for part in (x, a, reward, x + 0.3 * change)]
    return Transitions(*rows, never, never, np.zeros(count, int))


def learned(model_class, **settings):
    model = model_class(PLANE, ODD, **settings)
    model.fit(wavy())
    return model


LEARNED = {
    "ensemble": lambda: learned(GaussianEnsemble, members=3, hidden=(16, 16), max_epochs=20),
    "mlp": lambda: learned(MLPModel, hidden=(16,), max_epochs=20),
    "linear": lambda: learned(LinearModel),
    "gp": lambda: learned(GPModel, iterations=5, likelihood_rows=40),
}


@pytest.mark.parametrize("settings", [{}, {"noise": True, "risk": 0.5}, {"disagreement": 0.3}], ids=str)
@pytest.mark.parametrize("kind", LEARNED)
def test_gradient_flows_through_learned_models(kind, settings):
    model = LEARNED[kind]()
    observation = torch.tensor([[0.4, -0.3]])
    if "noise" in settings:
        settings = {**settings, "particles": 2 * model.particle_unit}
    planner = Gradient(ODD, horizon=3, population=10, gradient_steps=2, **settings)
    with torch.inference_mode():  # whatever the model prepares while sampling must serve the gradient
        planner.plan(model, observation, None, seeded())
        draws = planner.objective.draw(model, 3, seeded(), "cpu")
    draws = Draws(draws.noise and [type(noise)(*(part.clone() for part in noise)) for noise in draws.noise])
    check_gradient(planner, model, observation, draws=draws, width=2e-2, rtol=2e-2, dtype=torch.float32)
    assert all(part.grad is None for part in model.parameters())


def test_ts1_passes_gradients_through_the_members_in_their_order():
    model = LEARNED["ensemble"]()
    planner = Gradient(ODD, horizon=3, propagation="TS1")
    draws = planner.objective.draw(model, 3, seeded(), "cpu")
    check_gradient(planner, model, torch.tensor([[0.4, -0.3]]), draws=draws, width=2e-2, rtol=2e-2, dtype=torch.float32)


def test_the_maximum_of_a_concave_function_to_a_thousandth():
    goal = 0.9 * torch.sin(torch.arange(30.0)).view(15, 2)
    goal[3], goal[4] = 1.7, -1.7  # beyond the bounds
    model = FakeModel(UNIT, reward=lambda x, a, after, step: -(a - goal[step]).square() @ torch.tensor([1.0, 30.0]))
    plan = Gradient(UNIT, horizon=15, gradient_steps=40).plan(model, torch.zeros(1, 1), None, seeded())
    assert (plan.actions - goal.clamp(-1, 1)).abs().max() < 1e-3


@pytest.mark.parametrize("model", [pendulum(UNIT), pendulum(UNIT, termination_fn=lambda x: x[..., 0] > 2.4)])
def test_a_plan_is_never_worse_than_what_icem_found(model):
    observation = torch.randn(20, 2, generator=seeded())
    settings = {"population": 12, "iterations": 2, "kept": 3, "horizon": 6, "smoothness": 0.01}
    found = ICEM(UNIT, **settings).plan(model, observation, None, seeded(1))
    for rate in (1e-3, 0.2, 3.0):  # the last one jumps from bound to bound
        climbed = Gradient(UNIT, **settings, learning_rate=rate).plan(model, observation, None, seeded(1))
        assert (climbed.value >= found.value).all()
        assert (climbed.value > found.value).any()
        returns = evaluate(model, observation, climbed.actions[:, None])
        assert (returns.value[:, 0] >= climbed.value - 1e-5).all()  # which is less the penalty


def test_elites_are_the_best_of_every_start_and_the_mean_follows():
    model = pendulum(UNIT)
    plan = Gradient(UNIT, population=12, kept=3, horizon=6).plan(model, torch.tensor([[2.0, 0.0]]), None, seeded())
    value = evaluate(model, torch.tensor([[2.0, 0.0]]), plan.elites).value[0]
    assert plan.elites.shape == (1, 3, 6, 2)
    assert (value.diff() <= 1e-6).all()
    assert_close(value[0], plan.value[0])
    assert torch.equal(plan.actions[0], plan.elites[0, 0])
    assert torch.equal(plan.mean[0], plan.elites[0, 0])


def test_the_last_plan_is_a_start():
    """On the foot of a narrow peak it is worth less than what iCEM samples on a wide, lower one."""

    def reward(x, a, after, step):
        wide, narrow = (a + 0.2).square().sum(-1), (a - 0.77).square().sum(-1)
        return torch.maximum(0.6 * torch.exp(-2 * wide), torch.exp(-400 * narrow))

    model = FakeModel(UNIT, reward=reward)
    settings = {"population": 40, "kept": 1, "horizon": 2}
    planner = Gradient(UNIT, learning_rate=0.02, **settings)
    cold = planner.plan(model, torch.zeros(1, 1), None, seeded())
    assert 0.9 < cold.value < 1.2 + 1e-6
    warm = cold._replace(elites=torch.full((1, 1, 2, 2), 0.72), mean=torch.zeros(1, 2, 2))
    sampled = ICEM(UNIT, iterations=3, **settings).plan(model, torch.zeros(1, 1), warm, seeded(1))
    assert sampled.value < 1.2 + 1e-6
    assert planner.plan(model, torch.zeros(1, 1), warm, seeded(1)).value > 1.999


def test_rows_climb_alone_bit_for_bit():
    model, observation = pendulum(UNIT), torch.randn(5, 2, generator=seeded())
    planner = Gradient(UNIT, horizon=6, max_norm=0.5)
    together = planner.plan(model, observation, None, seeded(1))
    for row in range(5):
        alone = planner.plan(model, observation[row : row + 1], None, seeded(1))
        assert torch.equal(alone.actions[0], together.actions[row])
        assert torch.equal(alone.value[0], together.value[row])


def test_a_steep_row_leaves_the_others_their_slopes():
    """A row of NaN gradients, or of huge ones, next to an ordinary one."""
    model = FakeModel(UNIT, reward=lambda x, a, after, step: -x[..., 0] * (a - 0.3).square().sum(-1))
    planner = Gradient(UNIT, horizon=3)
    alone = planner.plan(model, torch.tensor([[1.0]]), None, seeded())
    with_steep = planner.plan(model, torch.tensor([[1.0], [1e12]]), None, seeded())
    assert torch.equal(alone.actions[0], with_steep.actions[0])
    assert_close(with_steep.actions[1], torch.full((3, 2), 0.3), rtol=0, atol=1e-2)


def test_max_norm_cuts_each_plans_gradient():
    planner = Gradient(UNIT, horizon=1, max_norm=2.0)
    gradient = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]).view(1, 3, 1, 2)
    assert_close(planner._cut(gradient), torch.tensor([[1.2, 1.6], [0.3, 0.4], [0.0, 0.0]]).view(1, 3, 1, 2))


def corridor(space=UNIT):
    """Return a model that walks towards x = 2; the cost is the height above 0.5 of where it gets."""
    return AnalyticModel(
        spaces.Box(-np.inf, np.inf, (1,), np.float32),
        space,
        dynamics_fn=lambda x, a: x + 0.5 * a[..., :1],
        reward_fn=lambda x, a, after: -(after[..., 0] - 2.0).square(),
    )


def test_the_limit_of_a_cost_is_approached_but_not_passed():
    planner = Gradient(UNIT, horizon=4, cost=lambda after: after[..., 0], cost_limit=0.5)
    plan = planner.plan(corridor(), torch.zeros(1, 1), None, seeded())
    path = 0.5 * plan.actions[0, :, 0].cumsum(0)
    assert plan.feasible.all()
    assert (path <= 0.5 + 1e-6).all()
    # The optimum stands at 0.5 from the first step on, and is worth -4 * 1.5^2.
    assert -9.3 < plan.value.item() <= -9.0
    plain = ICEM(UNIT, horizon=4, cost=lambda after: after[..., 0], cost_limit=0.5, iterations=3, kept=3)
    assert plan.value > plain.plan(corridor(), torch.zeros(1, 1), None, seeded()).value


def test_an_impossible_limit_is_exceeded_as_little_as_can_be():
    planner = Gradient(UNIT, horizon=3, cost=lambda after: after[..., 0], cost_limit=0.5)
    plan = planner.plan(corridor(), torch.full((1, 1), 3.0), None, seeded())
    assert not plan.feasible.any()
    assert_close(plan.actions[0, :, 0], -torch.ones(3), rtol=0, atol=1e-2)


def test_a_cost_without_a_slope_counts_by_rank():
    planner = Gradient(UNIT, horizon=4, cost=lambda after: (after[..., 0] > 0.5).float())
    plan = planner.plan(corridor(), torch.zeros(1, 1), None, seeded())
    assert plan.feasible.all()
    assert (0.5 * plan.actions[0, :, 0].cumsum(0) <= 0.5).all()


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3])], ids=str)
def test_choices_are_refused_with_the_planners_that_take_them(space):
    with pytest.raises(UnsupportedSpaceError, match=r"Gradient.*flat Box.*CEM, iCEM and MPPI"):
        Gradient(space)


def test_a_model_without_gradient_is_refused_by_name():
    def dynamics(x, a):
        return torch.as_tensor(x.numpy() + a.numpy()[..., :1])

    model = AnalyticModel(
        spaces.Box(-np.inf, np.inf, (1,), np.float32),
        UNIT,
        dynamics_fn=dynamics,
        reward_fn=lambda x, a, after: -after[..., 0].square(),
    )
    with pytest.raises(InvalidSettingError, match=r"Gradient needs.*AnalyticModel.*need no gradient"):
        Gradient(UNIT, horizon=2).plan(model, torch.zeros(1, 1), None, seeded())


def test_where_the_value_has_no_slope_it_is_icem():
    model = FakeModel(
        UNIT,
        move=lambda x, a, eps: x + a[..., :1],
        reward=lambda x, a, after, step: torch.ones(x.shape[:2]),
        ends=lambda after: after[..., 0] > 0.5,
    )
    settings = {"horizon": 4, "population": 20, "iterations": 2, "kept": 2}
    plain = ICEM(UNIT, **settings).plan(model, torch.zeros(1, 1), None, seeded())
    assert torch.equal(plain.value, Gradient(UNIT, **settings).plan(model, torch.zeros(1, 1), None, seeded()).value)


@pytest.mark.parametrize("inference", [False, True])
def test_plans_are_the_same_in_inference_mode(inference):
    model, observation = pendulum(UNIT), torch.tensor([[2.0, 0.0], [-1.0, 0.5]])
    planner = Gradient(UNIT, horizon=5, smoothness=0.1)
    with torch.inference_mode(inference):
        start = observation + 0.0
        plan = planner.plan(model, start, planner.plan(model, start, None, seeded()), seeded(1))
    expected = planner.plan(model, observation, planner.plan(model, observation, None, seeded()), seeded(1))
    assert torch.equal(plan.actions, expected.actions)
    assert not plan.actions.requires_grad
    assert not plan.value.requires_grad


def test_a_time_budget_ends_the_climb(monkeypatch):
    """By a clock that only the model's steps move, 2 ms each."""
    clock = [0.0]

    def dynamics(x, a):
        clock[0] += 0.002
        return x + a

    monkeypatch.setattr(base, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    model = pendulum(UNIT, dynamics_fn=dynamics, reward_fn=lambda x, a, after: -(a - 0.3).square().sum(-1))
    settings = {"horizon": 3, "gradient_steps": 10_000, "population": 16, "iterations": 1}
    plain = ICEM(UNIT, horizon=3, population=16, iterations=1, kept=3).plan(model, torch.zeros(1, 2), None, seeded())
    spent, gained = [], []
    for budget in (0.001, 20.0, 100.0, 200.0):
        clock[0] = 0.0
        plan = Gradient(UNIT, time_budget_ms=budget, **settings).plan(model, torch.zeros(1, 2), None, seeded())
        spent.append(1000 * clock[0])
        gained.append(plan.value.item() - plain.value.item())
    assert spent[0] == pytest.approx(6)  # the first of the first population in any case, and no climb
    assert spent[1] <= 20  # a first gradient is taken to cost four roll-outs: there is no time for one
    assert 94 <= spent[2] <= 100
    assert 194 <= spent[3] <= 200
    assert gained[0] <= gained[1] <= 0.0 < gained[2] < gained[3]


DT = 0.3
FREE = np.eye(4) + DT * np.eye(4, k=2)  # state: position x, y; velocity x, y
FORCE = np.vstack([0.5 * DT * DT * np.eye(2), DT * np.eye(2)])
STATE_COST, ACTION_COST = np.diag([1.0, 2.0, 0.3, 0.1]), np.diag([1.0, 0.5])


def test_one_plan_reaches_the_infinite_horizon_riccati_cost_with_its_value_beyond():
    riccati = solve_discrete_are(FREE, FORCE, STATE_COST, ACTION_COST)
    free, force, q, r, p = (torch.as_tensor(m).float() for m in (FREE, FORCE, STATE_COST, ACTION_COST, riccati))
    model = AnalyticModel(
        spaces.Box(-np.inf, np.inf, (4,), np.float32),
        spaces.Box(np.float32([-4.0, -3.0]), np.float32([3.0, 4.0])),
        dynamics_fn=lambda x, u: x @ free.T + u @ force.T,
        reward_fn=lambda x, u, after: -((x @ q) * x).sum(-1) - ((u @ r) * u).sum(-1),
    )
    planner = Gradient(model.action_space, horizon=6, value=lambda x: -((x @ p) * x).sum(-1))
    starts = torch.tensor([[2.0, -1.0, 0.0, 0.5], [-1.5, 1.0, 1.0, 0.0], [0.5, 2.0, -0.5, -1.0]])
    optimal = ((starts @ p) * starts).sum(-1)
    plan = planner.plan(model, starts, None, seeded())
    assert (-plan.value >= optimal * (1 - 1e-5)).all()
    assert (-plan.value <= optimal * 1.001).all()
    gain = np.linalg.solve(ACTION_COST + FORCE.T @ riccati @ FORCE, FORCE.T @ riccati @ FREE)
    assert_close(plan.actions[:, 0], -starts @ torch.as_tensor(gain).float().T, rtol=0, atol=0.06)


def test_smoothness_leaves_a_cold_rows_first_action_its_gradient():
    space = spaces.Box(-1.0, 1.0, (1,))
    model = FakeModel(space, reward=lambda x, a, after, step: -(a[..., 0] - 0.7).square())
    planner = Gradient(space, horizon=3, smoothness=1e-6, gradient_steps=40)
    plan = planner.plan(model, torch.zeros(1, 1), None, torch.Generator().manual_seed(0))
    assert (plan.actions[0, :, 0] - 0.7).abs().max() < 1e-2
