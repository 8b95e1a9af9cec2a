"""Planners find known optima: convex and multimodal models, and linear-quadratic control."""

import numpy as np
import pytest
import torch
from fake_models import FakeModel
from gymnasium import spaces
from scipy.linalg import solve_discrete_are

from mbrl_gym.agents.planning import CEM, ICEM, MPPI, PLANNERS

BOXES = {
    "symmetric": spaces.Box(-2.0, 2.0, (2,)),
    "asymmetric": spaces.Box(-3.0, 1.0, (1,)),
    "positive": spaces.Box(5.0, 9.0, (1,)),
    "different": spaces.Box(np.float32([-3.0, 5.0, -0.001]), np.float32([1.0, 9.0, 0.002])),
}
THOROUGH = {
    "RandomShooting": {"population": 20_000, "horizon": 1},
    "CEM": {"population": 300, "iterations": 12, "elites": 30, "momentum": 0.1, "deviation": 0.7, "horizon": 4},
    "iCEM": {
        "population": 300,
        "iterations": 12,
        "elites": 20,
        "momentum": 0.1,
        "colour": 0.5,
        "deviation": 0.7,
        "decay": 1.05,
        "horizon": 3,
    },
    "Gradient": {"population": 100, "gradient_steps": 40},
    "MPPI": {"population": 2000, "iterations": 15, "deviation": 0.3, "colour": 0.5, "horizon": 3},
}
TOLERANCE = {"RandomShooting": 0.1, "CEM": 0.02, "iCEM": 0.03, "Gradient": 2e-3}  # relative to half the range


BOX_PLANNERS = [name for name in PLANNERS if name != "Exhaustive"]  # see test_choices.py for the others


def solve(name, model, **changes):
    planner = PLANNERS[name](model.action_space, **{**THOROUGH.get(name, {}), **changes})
    plan = planner.plan(model, torch.zeros(1, 1), None, torch.Generator().manual_seed(0))
    return to_unit(plan.actions, model.action_space)


def to_unit(actions, space):
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
    return (2 * actions - low - high) / (high - low)


def targets(steps, size):
    """Return a target in [-0.8, 0.8] for every step and component, all different."""
    return 0.8 * torch.sin(1.0 + 1.7 * torch.arange(float(steps * size))).view(steps, size)


@pytest.mark.parametrize("name", BOX_PLANNERS)
@pytest.mark.parametrize("box", BOXES)
def test_the_minimum_of_a_convex_quadratic(name, box):
    space = BOXES[box]
    size = space.shape[0]
    goal = targets(16, size)
    model = FakeModel(space, reward=lambda x, a, after, step: -(to_unit(a, space) - goal[step]).square().sum(-1) + 3.0)
    unit = solve(name, model)[0]
    assert (unit - goal[: len(unit)]).abs().max() < TOLERANCE.get(name, 0.05)


@pytest.mark.parametrize("name", BOX_PLANNERS)
@pytest.mark.parametrize("corner", [-1.0, 1.0])
def test_a_minimum_beyond_the_bounds_is_taken_at_the_bound(name, corner):
    space = BOXES["asymmetric"]
    model = FakeModel(space, reward=lambda x, a, after, step: -(to_unit(a, space)[..., 0] - 2 * corner).square())
    assert (solve(name, model) - corner).abs().max() < 0.05


@pytest.mark.parametrize("name", BOX_PLANNERS)
@pytest.mark.parametrize("box", BOXES)
def test_the_higher_and_narrower_of_two_modes(name, box):
    space = BOXES[box]

    def reward(x, a, after, step):
        unit = to_unit(a, space)
        wide, narrow = 0.6 * torch.exp(-4 * (unit + 0.5).square()), torch.exp(-12 * (unit - 0.5).square())
        return torch.maximum(wide, narrow).sum(-1)

    unit = solve(name, FakeModel(space, reward=reward), horizon=1)
    assert (unit - 0.5).abs().max() < 0.25  # the other mode is at -0.5


@pytest.mark.parametrize("name", BOX_PLANNERS)
def test_rows_have_their_own_optimum(name):
    space = BOXES["asymmetric"]
    model = FakeModel(space, reward=lambda x, a, after, step: -(to_unit(a, space)[..., 0] - x[..., 0]).square())
    planner = PLANNERS[name](space, **THOROUGH.get(name, {}))
    goal = torch.tensor([[-0.7], [0.0], [0.4]])
    plan = planner.plan(model, goal, None, torch.Generator().manual_seed(0))
    assert (to_unit(plan.actions, space)[..., 0] - goal).abs().max() < TOLERANCE.get(name, 0.05)


DT = 0.3
FREE = np.eye(4) + DT * np.eye(4, k=2)  # state: position x, y; velocity x, y
FORCE = np.vstack([0.5 * DT * DT * np.eye(2), DT * np.eye(2)])
STATE_COST, ACTION_COST = np.diag([1.0, 2.0, 0.3, 0.1]), np.diag([1.0, 0.5])


def double_integrator(riccati):
    """Return the model; a potential of the value function makes any horizon an infinite one.

    The rewards -(x'Qx + u'Ru) + V(x) - V(x'), with V = x'Px, add up to V(x_0) - V(x_H) minus the stage costs: the
    best plan of any length is the infinite-horizon one, and its return is zero.
    """
    free, force, q, r, p = (
        torch.as_tensor(m, dtype=torch.float32) for m in (FREE, FORCE, STATE_COST, ACTION_COST, riccati)
    )

    def form(matrix, x):
        return ((x @ matrix) * x).sum(-1)

    return FakeModel(
        spaces.Box(np.float32([-4.0, -3.0]), np.float32([3.0, 4.0])),
        size=4,
        move=lambda x, u, eps: x @ free.T + u @ force.T,
        reward=lambda x, u, after, step: form(p, x) - form(p, after) - form(q, x) - form(r, u),
    )


LQR_SETTINGS = {
    CEM: {"population": 300, "iterations": 15, "elites": 20, "momentum": 0.3, "deviation": 0.3},
    ICEM: {
        "population": 300,
        "iterations": 15,
        "elites": 20,
        "momentum": 0.3,
        "deviation": 0.25,
        "colour": 0.5,
        "decay": 1.05,
    },
    MPPI: {"population": 500, "iterations": 8, "deviation": 0.1, "colour": 0.5},
}


@pytest.mark.parametrize("planner_class", LQR_SETTINGS)
def test_closed_loop_cost_is_within_a_hundredth_of_the_riccati_solution(planner_class):
    riccati = solve_discrete_are(FREE, FORCE, STATE_COST, ACTION_COST)
    gain = np.linalg.solve(ACTION_COST + FORCE.T @ riccati @ FORCE, FORCE.T @ riccati @ FREE)
    model = double_integrator(riccati)
    planner = planner_class(model.action_space, horizon=5, **LQR_SETTINGS[planner_class])
    starts = np.array([[2.0, -1.0, 0.0, 0.5], [-1.5, 1.0, 1.0, 0.0], [0.5, 2.0, -0.5, -1.0]])
    optimal = np.einsum("ni,ij,nj->n", starts, riccati, starts)
    state, cost, plan, largest = starts, np.zeros(3), None, 0.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(25):
        plan = planner.plan(model, torch.as_tensor(state, dtype=torch.float32), plan, generator)
        action = plan.actions[:, 0].double().numpy()
        largest = max(largest, np.abs(state @ gain.T).max())
        cost += np.einsum("ni,ij,nj->n", state, STATE_COST, state) + np.einsum(
            "ni,ij,nj->n", action, ACTION_COST, action
        )
        state = state @ FREE.T + action @ FORCE.T
    cost += np.einsum("ni,ij,nj->n", state, riccati, state)  # the best that the future can bring
    assert largest < 2.5  # the bounds do not bind, so that the Riccati solution is the optimum
    assert (cost >= optimal * (1 - 1e-9)).all()
    assert (cost <= 1.01 * optimal).all()


@pytest.mark.parametrize("planner_class", LQR_SETTINGS)
def test_one_plan_reaches_the_finite_horizon_riccati_cost(planner_class):
    horizon = 6
    model = double_integrator(np.zeros((4, 4)))  # the stage costs alone
    value = np.zeros((4, 4))
    for _ in range(horizon):
        gain = np.linalg.solve(ACTION_COST + FORCE.T @ value @ FORCE, FORCE.T @ value @ FREE)
        value = STATE_COST + FREE.T @ value @ (FREE - FORCE @ gain)
    start = np.array([1.5, -1.0, 0.0, 0.5])
    optimal = start @ value @ start
    planner = planner_class(model.action_space, horizon=horizon, **LQR_SETTINGS[planner_class])
    plan = planner.plan(
        model, torch.as_tensor(start, dtype=torch.float32)[None], None, torch.Generator().manual_seed(0)
    )
    assert optimal * (1 - 1e-5) <= -plan.value.item() <= 1.01 * optimal
