"""What every planner promises; all of `PLANNERS` take part, new ones with their defaults."""

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from fake_models import FakeModel, flat
from gymnasium import spaces
from torch.testing import assert_close

from mbrl_gym.agents.planning import CEM, MPPI, PLANNERS, Objective, Plan, evaluate
from mbrl_gym.envs.task import draw as draw_numpy
from mbrl_gym.errors import InvalidSettingError, PlanningError, UnsupportedSpaceError
from mbrl_gym.models import ExactModel, GaussianEnsemble, Transitions

H = 5
SMALL = {
    "RandomShooting": {"population": 40, "horizon": H},
    "CEM": {"population": 40, "iterations": 3, "elites": 6, "momentum": 0.2, "horizon": H},
    "iCEM": {"population": 24, "iterations": 3, "elites": 6, "kept": 2, "colour": 1.0, "horizon": H},
    "Gradient": {"population": 16, "iterations": 1, "elites": 4, "kept": 2, "gradient_steps": 3, "horizon": H},
    "MPPI": {"population": 40, "iterations": 2, "horizon": H},
}
BOXES = {
    "symmetric": spaces.Box(-2.0, 2.0, (2,)),
    "asymmetric": spaces.Box(-3.0, 1.0, (1,)),
    "positive": spaces.Box(5.0, 9.0, (1,)),
    "different": spaces.Box(np.float32([-3.0, 5.0, -0.001]), np.float32([1.0, 9.0, 0.002])),
    "float64": spaces.Box(-0.3, 0.1, (2,), np.float64),
}


SPACES = {
    **BOXES,
    "discrete": spaces.Discrete(3, start=2),
    "multi": spaces.MultiDiscrete([3, 2], start=[1, -1]),
}


def make(name, space, **changes):
    return PLANNERS[name](space, **{**SMALL.get(name, {"horizon": H}), **changes})


def pairs(kinds):
    """Return each planner with each of the spaces that it supports, as parameters."""

    def supported(name, kind):
        try:
            make(name, SPACES[kind])
        except UnsupportedSpaceError:
            return False
        return True

    both = [(name, kind) for kind in kinds for name in PLANNERS]
    return [pytest.param(*pair, id="-".join(pair)) for pair in both if supported(*pair)]


KINDS = ("symmetric", "discrete", "multi")
BOX_PLANNERS = [pair.values[0] for pair in pairs(["symmetric"])]


@pytest.fixture(params=[pytest.param(pair.values, id=pair.id) for pair in pairs(KINDS)])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Every planner that agents can name, with each kind of action space that it supports."""
    return request.param


@pytest.fixture
def name(pair: tuple[str, str]) -> str:
    """The planner."""
    return pair[0]


@pytest.fixture
def space(pair: tuple[str, str]) -> spaces.Space:
    """The action space."""
    return SPACES[pair[1]]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def columns(space, action):
    """Return actions of whatever space as floats `[P, N, A]`."""
    return action[..., None].float() if isinstance(space, spaces.Discrete) else action.float()


def climb(space):
    """Return a model that likes large components, and small changes of the first."""
    return FakeModel(
        space,
        move=lambda x, a, eps: columns(space, a)[..., :1],
        reward=lambda x, a, after, step: columns(space, a).sum(-1) - 0.1 * (after[..., 0] - x[..., 0]).square(),
    )


def scene(space):
    """Return a model and observations `[7, O]` whose best plans differ."""
    if isinstance(space, spaces.Box):
        return drone()
    middle = 3.0 if isinstance(space, spaces.Discrete) else 1.5
    model = FakeModel(
        space,
        move=lambda x, a, eps: 0.9 * x + columns(space, a).sum(-1, keepdim=True) - middle,
        reward=lambda x, a, after, step: -after[..., 0].square() + 0.3 * torch.sin(7 * after[..., 0]),
    )
    return model, 4 * torch.randn(7, 1, generator=seeded())


def drone():
    """Return the drone's exact model and some observations `[7, O]`."""
    task = gym.make("mbrl/Drone-v0").unwrapped.task
    state = task.initial(draw_numpy(np.random.default_rng(0), (7,), task.initial_noise, task.dtype))
    return ExactModel(task), torch.as_tensor(task.observation(state))


def drone_ensemble():
    """Return an ensemble that has seen the drone for a moment."""
    task, generator = drone()[0].task, np.random.default_rng(0)
    observation, change = generator.normal(size=(2, 80, 9)).astype(np.float32)
    never = np.zeros(80, bool)
    action = generator.uniform(-1, 1, (80, 3)).astype(np.float32)
    data = Transitions(observation, action, -abs(change[:, 0]), observation + 0.1 * change, never, never, never)
    model = GaussianEnsemble(task.observation_space, task.action_space, members=3, hidden=(16, 16), max_epochs=3)
    model.fit(data)
    return model


def assert_equal_plans(first: Plan, second: Plan) -> None:
    for part in Plan._fields:
        assert torch.equal(getattr(first, part), getattr(second, part)), part


def rows_of(plan: Plan, rows) -> Plan:
    return Plan(*(part[rows] for part in plan))


@pytest.mark.parametrize(("name", "box"), pairs(BOXES))
@pytest.mark.parametrize("rows", [1, 3])
def test_a_plan_has_the_declared_shapes_and_stays_in_the_bounds(name, box, rows):
    space = BOXES[box]
    planner, size = make(name, space), space.shape[0]
    middle, half = (torch.as_tensor(space.high + sign * space.low, dtype=torch.float32) / 2 for sign in (1, -1))
    for sign in (1, -1):  # pulled to the upper bounds, then to the lower ones
        model = FakeModel(space, reward=lambda x, a, after, step, sign=sign: sign * ((a - middle) / half).sum(-1))
        plan = None
        for _ in range(2):
            plan = planner.plan(model, torch.zeros(rows, 1), plan, seeded())
            assert plan.actions.shape == plan.mean.shape == (rows, H, size)
            assert plan.elites.shape[0] == rows
            assert plan.elites.shape[2:] == (H, size)
            assert plan.value.shape == plan.warm.shape == (rows,)
            assert plan.warm.all()
            assert plan.actions.dtype == torch.float32
            assert (plan.mean.abs() <= 1).all()
            assert (plan.elites.abs() <= 1).all()
        actions = torch.cat((plan.actions.reshape(-1, size), *(model.asked(i).reshape(-1, size) for i in range(2))))
        assert (actions.double() >= torch.as_tensor(space.low).double()).all()
        assert (actions.double() <= torch.as_tensor(space.high).double()).all()
        assert all(space.contains(action.numpy().astype(space.dtype)) for action in plan.actions.reshape(-1, size))
        assert (sign * (plan.actions - middle) / half).mean() > 0.1  # it did go that way


@pytest.mark.parametrize(("name", "box"), pairs(BOXES))
def test_unit_actions_map_to_the_bounds_and_the_centre(name, box):
    space = BOXES[box]
    planner = make(name, space)
    ends = [planner.to_environment(torch.full(space.shape, unit)) for unit in (-1.0, 0.0, 1.0)]
    for given, expected in zip(ends, (space.low, (space.low + space.high) / 2, space.high), strict=True):
        assert_close(given, torch.as_tensor(expected, dtype=torch.float32), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("settings", [{}, {"cost": lambda after: after[..., 0], "cost_limit": 1e9}])
def test_value_is_the_predicted_return_of_the_plan(name, space, settings):
    planner = make(name, space, discount=0.9, **settings)
    model = climb(space)
    plan = planner.plan(model, torch.tensor([[0.0], [3.0]]), None, seeded())
    returns = evaluate(model, torch.tensor([[0.0], [3.0]]), plan.actions[:, None], Objective(discount=0.9))
    if name != "MPPI" or settings:  # its value is a mean over candidates: see test_mppi.py
        assert_close(plan.value, returns.value[:, 0])


def test_the_seed_decides_every_bit_and_the_global_generator_nothing(name, space):
    planner = make(name, space)
    torch.manual_seed(0)
    first = planner.plan(climb(space), torch.zeros(2, 1), None, seeded(1))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert_equal_plans(first, planner.plan(climb(space), torch.zeros(2, 1), None, seeded(1)))
    assert torch.equal(before, torch.get_rng_state())
    other = planner.plan(climb(space), torch.zeros(2, 1), None, seeded(2))
    if isinstance(space, spaces.Box):  # there are few choices, of which many seeds find the best
        assert not torch.equal(first.actions, other.actions)


def test_a_planner_remembers_nothing_between_calls(name, space):
    planner = make(name, space)
    first = planner.plan(climb(space), torch.zeros(1, 1), None, seeded())
    second = planner.plan(climb(space), torch.zeros(1, 1), first, seeded(1))
    planner.plan(climb(space), torch.full((3, 1), 5.0), None, seeded(7))
    fresh = make(name, space)
    assert_equal_plans(first, fresh.plan(climb(space), torch.zeros(1, 1), None, seeded()))
    assert_equal_plans(second, planner.plan(climb(space), torch.zeros(1, 1), first, seeded(1)))


def test_the_previous_plan_is_not_written_to(name, space):
    planner = make(name, space)
    first = planner.plan(climb(space), torch.zeros(2, 1), None, seeded())
    kept = Plan(*(part.clone() for part in first))
    planner.plan(climb(space), torch.zeros(2, 1), first, seeded(1))
    assert_equal_plans(first, kept)


def test_a_batch_is_planned_as_its_rows_one_by_one_bit_for_bit(name, space):
    model, observation = scene(space)
    planner = make(name, model.action_space)
    first = planner.plan(model, observation, None, seeded(1))
    warm = torch.tensor([True, False, True, True, False, True, True])
    first = first._replace(warm=warm)
    second = planner.plan(model, observation + 0.1, first, seeded(2))
    for row in range(7):
        alone = planner.plan(model, observation[row : row + 1], None, seeded(1))
        alone = alone._replace(warm=warm[row : row + 1])
        assert_equal_plans(alone, rows_of(first, slice(row, row + 1)))
        again = planner.plan(model, observation[row : row + 1] + 0.1, alone, seeded(2))
        assert_equal_plans(again, rows_of(second, slice(row, row + 1)))
    assert not torch.equal(first.actions[0], first.actions[1])


@pytest.mark.parametrize("name", BOX_PLANNERS)
def test_with_noise_too(name):
    model = ExactModel(gym.make("mbrl/Drift-v0", noise_std=1.0).unwrapped.task)
    planner = make(name, model.action_space, noise=True, particles=4)
    observation = torch.tensor([[2.0], [-0.1], [0.4]])
    together = planner.plan(model, observation, None, seeded())
    for row in range(3):
        alone = planner.plan(model, observation[row : row + 1], None, seeded())
        assert_equal_plans(alone, rows_of(together, slice(row, row + 1)))


@pytest.mark.parametrize("name", BOX_PLANNERS)
def test_an_ensemble_plans_for_a_batch_as_for_its_rows_up_to_rounding(name):
    model, observation = drone_ensemble(), drone()[1]
    planner = make(name, model.action_space)
    together = planner.plan(model, observation, None, seeded(1))
    for row in range(7):
        alone = planner.plan(model, observation[row : row + 1], None, seeded(1))
        assert_close(alone.actions[0], together.actions[row], rtol=0, atol=1e-4)
        assert_close(alone.value[0], together.value[row], rtol=1e-4, atol=1e-4)


def test_permuted_rows_give_permuted_plans(name, space):
    model, observation = scene(space)
    planner = make(name, model.action_space)
    order = torch.tensor([3, 6, 0, 1, 5, 2, 4])
    plan = planner.plan(model, observation, None, seeded())
    moved = planner.plan(model, observation[order], None, seeded())
    assert_equal_plans(moved, rows_of(plan, order))
    second = planner.plan(model, observation, plan, seeded(1))
    assert_equal_plans(planner.plan(model, observation[order], moved, seeded(1)), rows_of(second, order))


def test_the_second_decision_starts_from_the_first_ones_plan_shifted(name, space):
    # A share of uniform choices is mixed into warm probabilities, which `test_choices.py` looks at.
    mixed = not isinstance(space, spaces.Box) and name in ("CEM", "iCEM")
    planner = make(name, space, **({"deviation": 1e-30} if mixed else {}))
    first = planner.plan(climb(space), torch.zeros(2, 1), None, seeded())
    shifted = torch.cat((first.mean[:, 1:], first.mean[:, -1:]), 1)
    model = flat(space)  # nothing to learn: the mean stays where it starts
    second = planner.plan(model, torch.zeros(2, 1), first, seeded(1))
    assert_close(second.mean, shifted)
    assert (shifted.abs() > 0.05).any()
    third = planner.plan(model, torch.zeros(2, 1), second, seeded(2))
    assert_close(third.mean, torch.cat((shifted[:, 1:], shifted[:, -1:]), 1))


def test_rows_where_an_episode_starts_know_nothing_of_the_last_one(name, space):
    model, observation = scene(space)
    planner = make(name, model.action_space)
    # A good old plan, so that it would show.
    good = {} if name == "Exhaustive" else {"population": 4000}
    old = make(name, model.action_space, **good).plan(model, observation, None, seeded())
    warm = torch.tensor([True, False, False, True, True, False, True])
    junk = torch.where(warm, 0.0, float("nan"))  # whatever a cleared row still holds
    poisoned = Plan(*(part + junk.view(-1, *[1] * (part.dim() - 1)) for part in old[:4]), warm, old.feasible, old.age)
    mixed = planner.plan(model, observation, poisoned, seeded(1))
    cold = planner.plan(model, observation, None, seeded(1))
    kept = planner.plan(model, observation, old, seeded(1))
    assert_equal_plans(rows_of(mixed, ~warm), rows_of(cold, ~warm))
    assert_equal_plans(rows_of(mixed, warm), rows_of(kept, warm))
    if isinstance(space, spaces.Box):
        assert not torch.equal(kept.actions[~warm], cold.actions[~warm])


def test_a_first_decision_equals_one_with_an_empty_plan(name, space):
    model, observation = scene(space)
    planner = make(name, model.action_space)
    empty = planner.empty_plan(7)
    assert not empty.warm.any()
    expected = planner.plan(model, observation, None, seeded())
    assert_equal_plans(planner.plan(model, observation, empty, seeded()), expected)


def test_a_plan_for_other_rows_or_of_another_horizon_is_refused(name, space):
    planner, model = make(name, space), climb(space)
    plan = planner.plan(model, torch.zeros(3, 1), None, seeded())
    with pytest.raises(InvalidSettingError, match=r"previous plan.*same number of states.*\(3, .* was given"):
        planner.plan(model, torch.zeros(2, 1), plan, seeded())
    with pytest.raises(InvalidSettingError, match="previous plan"):
        make(name, space, horizon=H - 1).plan(model, torch.zeros(3, 1), plan, seeded())


@pytest.mark.parametrize(("name", "box"), pairs(BOXES))
def test_flat_returns_leave_the_mean_in_place(name, box):
    space = BOXES[box]
    planner, model = make(name, space), flat(space)
    cold = planner.plan(model, torch.zeros(2, 1), None, seeded())
    if issubclass(PLANNERS[name], CEM | MPPI):  # random shooting has no mean but its choice
        assert_close(cold.mean, torch.zeros(2, H, *space.shape))
    first = planner.plan(climb(space), torch.zeros(2, 1), None, seeded())
    for seed in range(3):
        shifted = torch.cat((first.mean[:, 1:], first.mean[:, -1:]), 1)
        first = planner.plan(model, torch.zeros(2, 1), first, seeded(seed))
        assert_close(first.mean, shifted)


@pytest.mark.parametrize(("name", "box"), pairs(["asymmetric", "positive", "different"]))
def test_asymmetric_bounds_do_not_bias_a_plan_without_evidence(name, box):
    space = BOXES[box]
    planner, model = make(name, space), flat(space)
    generator = seeded()
    actions = torch.stack([planner.plan(model, torch.zeros(1, 1), None, generator).actions[0] for _ in range(200)])
    centre, half = torch.as_tensor(space.high + space.low) / 2, torch.as_tensor(space.high - space.low) / 2
    unit = (actions - centre) / half
    # At most uniform, of standard deviation 0.58; the steps of a plan are correlated.
    assert unit.mean((0, 1)).abs().max() < 4 * 0.58 / 200**0.5


def test_noise_is_common_to_candidates_rows_and_iterations(name, space):
    model = FakeModel(
        space,
        move=lambda x, a, eps: x + columns(space, a)[..., :1] + eps,
        reward=lambda x, a, after, step: after[..., 0],
        noisy=True,
        unit=2,
    )
    planner = make(name, model.action_space, noise=True, particles=6)
    planner.plan(model, torch.zeros(3, 1), None, seeded())
    first = model.noises[0]
    assert set(model.particles) == {6}
    assert len(first) == H
    for noises in model.noises:
        for step, noise in enumerate(noises):
            assert noise.normal.shape == (6, 1, 1)
            assert torch.equal(noise.normal, first[step].normal)
    assert len({tuple(noise.normal.flatten().tolist()) for noise in first}) == H
    assert first[0].normal.unique().numel() == 6


def test_by_default_particles_follow_their_means_one_a_unit(name, space):
    model = FakeModel(space, reward=lambda x, a, after, step: columns(space, a)[..., 0], noisy=True, unit=3)
    make(name, model.action_space).plan(model, torch.zeros(1, 1), None, seeded())
    assert set(model.particles) == {3}
    assert all(noise is None for noises in model.noises for noise in noises)
    with pytest.raises(InvalidSettingError, match="multiple of 3"):
        make(name, model.action_space, particles=4).plan(model, torch.zeros(1, 1), None, seeded())


def test_the_discount_reaches_the_evaluation(name, space):
    model = FakeModel(space, reward=lambda x, a, after, step: torch.ones(x.shape[:2]))
    plan = make(name, model.action_space, discount=0.5).plan(model, torch.zeros(1, 1), None, seeded())
    assert plan.value.tolist() == pytest.approx([1 + 0.5 + 0.25 + 0.125 + 0.0625])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_candidates_without_a_finite_return_never_win(name, space, bad):
    limit = 0.5 if isinstance(space, spaces.Box) else make(name, space).code.starts[0] + 1

    def reward(x, a, after, step):
        first = columns(space, a)[..., 0]
        return torch.where((first > limit) & (step == 0), bad, first)

    plan = make(name, space).plan(FakeModel(space, reward=reward), torch.zeros(1, 1), None, seeded())
    assert plan.value.isfinite().all()
    assert plan.mean.isfinite().all()
    assert columns(space, plan.actions)[0, 0, 0] <= limit + 1e-6


def test_a_hopeless_model_is_named(name, space):
    model = FakeModel(space, reward=lambda x, a, after, step: float("nan") * columns(space, a)[..., 0])
    with pytest.raises(PlanningError, match=r"FakeModel predicts no finite return .* first at step 1 of 5"):
        make(name, model.action_space).plan(model, torch.zeros(1, 1), None, seeded())


@pytest.mark.parametrize(
    ("space", "remedy"),
    [
        (spaces.MultiDiscrete([[2, 2], [3, 3]]), "flat Box actions"),
        (spaces.MultiBinary(2), "flat MultiDiscrete"),
        (spaces.Dict({"a": spaces.Box(-1, 1, (1,))}), "flat Box actions"),
        (spaces.Box(-1.0, 1.0, (2, 2)), "flat Box actions"),
        (spaces.Box(-1.0, 1.0, ()), "flat Box actions"),
        (spaces.Box(-np.inf, np.inf, (2,)), "RescaleAction"),
        (spaces.Box(np.float32([-1, -1]), np.float32([1, np.inf])), "RescaleAction"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", BOX_PLANNERS)
def test_unsupported_action_spaces_are_refused_with_what_would_work(name, space, remedy):
    with pytest.raises(UnsupportedSpaceError) as caught:
        make(name, space)
    assert PLANNERS[name].__name__ in str(caught.value)
    assert str(space) in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("space", [BOXES["symmetric"], spaces.MultiBinary(2), spaces.MultiDiscrete([[2, 2], [3, 3]])])
def test_exhaustive_search_refuses_all_but_choices_with_what_works(space):
    message = f"Exhaustive plans over Discrete and flat MultiDiscrete actions, but the action space is {space}; "
    with pytest.raises(
        UnsupportedSpaceError, match=f"^{re.escape(message)}RandomShooting, CEM, iCEM and MPPI plan over"
    ):
        make("Exhaustive", space)


COMMON = [("horizon", 0), ("particles", 0), ("discount", 0.0), ("discount", 1.1), ("population", 1)]
REFITTED = [("iterations", 0), ("elites", 0), ("momentum", -0.1), ("momentum", 1.0), ("deviation", 0.0)]
OUT_OF_RANGE = {
    "RandomShooting": COMMON,
    "CEM": [*COMMON, *REFITTED, ("elites", 40), ("min_deviation", -0.1)],
    "iCEM": [*COMMON, *REFITTED, ("elites", 24), ("colour", -0.5), ("kept", 0), ("kept", 7), ("decay", 0.9)],
    "MPPI": [*COMMON, ("iterations", 0), ("temperature", 0.0), ("deviation", 0.0), ("colour", -0.5)],
    "Gradient": [*COMMON, *REFITTED, ("kept", 5), ("gradient_steps", 0), ("learning_rate", 0.0), ("max_norm", 0.0)],
}


@pytest.mark.parametrize(
    ("name", "setting", "value"), [(name, *pair) for name, pairs in OUT_OF_RANGE.items() for pair in pairs]
)
def test_settings_out_of_range_are_refused_by_name(name, setting, value):
    with pytest.raises(InvalidSettingError, match=rf"^{setting} must be .*, but {re.escape(str(value))} was given$"):
        make(name, BOXES["symmetric"], **{setting: value})
