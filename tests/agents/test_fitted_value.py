"""Values learned inside a model: against closed forms, exact value iteration, and plans that cannot see the goal."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_toys import TINY, Counter, Offset, environment, frozen_lake
from gymnasium import spaces
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from mbrl_gym.agents import ICEM, MPC, FittedValue
from mbrl_gym.errors import InvalidSettingError, PlanningError
from mbrl_gym.models import AnalyticModel, GaussianEnsemble, Transitions

DISCOUNT = 0.9
WIDE = spaces.Box(-50.0, 50.0, (1,), np.float32)
BOX, CHOICES = spaces.Box(-1.0, 1.0, (1,)), spaces.Discrete(3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def line(action_space=BOX, **functions):
    """x' = x + a (choices are -1, 0, 1), which costs |x'|."""
    shift = 0 if action_space is BOX else 1
    defaults = {
        "dynamics_fn": lambda x, a: x + (a if action_space is BOX else a[..., None].float() - shift),
        "reward_fn": lambda x, a, after: -after[..., 0].abs(),
    }
    return AnalyticModel(WIDE, action_space, **{**defaults, **functions})


def states(count=400, reach=5.0):
    return (2 * torch.rand(count, 1, generator=seeded()) - 1) * reach


@pytest.mark.parametrize("action_space", [BOX, CHOICES], ids=["Box", "Discrete"])
def test_walking_home_is_worth_what_the_closed_form_says(action_space):
    """From |x| the best is to come one unit nearer in every step: -sum of 0.9^k (|x| - 1 - k) over positive terms."""
    model, x = line(action_space), torch.arange(-5.0, 6.0)[:, None]
    value = FittedValue(model, model.action_space, DISCOUNT, seeded(), passes=300, actions=16, averaging=0.01)
    observed = states()
    observed = observed if action_space is BOX else observed.round()
    value.fit(model, observed, model.reward_fn(None, None, observed))
    k = torch.arange(10.0)
    expected = -(DISCOUNT**k * (x.abs() - 1 - k).clamp_min(0)).sum(1)
    assert expected.min() < -8
    assert_close(value(x), expected, rtol=0, atol=0.75)  # the network rounds the corners


def test_values_of_choices_are_those_of_value_iteration():
    """FrozenLake without slipping, whose goal is six steps away; of ends nothing is learned."""
    model, everything = frozen_lake(), torch.arange(16)
    exact = torch.zeros(16)
    state, action = everything.repeat_interleave(4), torch.arange(4).repeat(16)
    step = model.step(model.start(state), action)
    for _ in range(50):
        after = torch.where(step.terminated[0], 0.0, exact[step.observation[0]])
        exact = (step.reward[0] + DISCOUNT * after).view(16, 4).max(1).values
    assert_close(exact[0], torch.tensor(DISCOUNT**5))
    alive = everything[~model.termination_fn(everything)]
    value = FittedValue(
        model,
        model.action_space,
        DISCOUNT,
        seeded(),
        hidden=(64,),
        passes=400,
        states=128,
        batch_size=64,
        averaging=0.05,
    )
    value.fit(model, alive, torch.ones(1))
    assert_close(value(alive), exact[alive], rtol=0, atol=0.05)


def test_a_backup_by_hand():
    """One step from the end at x <= 0, which pays nothing for where it leads, and one from nowhere near it."""
    model = line(CHOICES, termination_fn=lambda x: x[..., 0] <= 0)
    value = FittedValue(model, model.action_space, DISCOUNT, seeded())
    value.averaged[-1].bias.data.fill_(-7.0)
    backup = value.backup(model, torch.tensor([[1.0], [3.0]]), torch.arange(3))
    assert_close(backup.target, torch.tensor([0.0, -2.0 + DISCOUNT * -7.0]))
    assert backup.best.tolist() == [0, 0]
    assert_close(backup.following[:, :, 0], torch.tensor([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]]))
    assert backup.terminated.tolist() == [[True, False], [False, False], [False, False]]


def test_members_are_averaged():
    model = GaussianEnsemble(WIDE, CHOICES, members=2, hidden=[8], max_epochs=2, seed=0)
    x = states(60)
    rows = x.numpy(), np.arange(60) % 3, -np.abs(x[:, 0].numpy()), (0.9 * x).numpy()
    model.fit(Transitions(*rows, *np.zeros((2, 60), np.bool_), np.arange(60)))
    value = FittedValue(model, model.action_space, DISCOUNT, seeded())
    torch.nn.init.normal_(value.averaged[-1].weight, generator=seeded())
    step = model.step(model.start(x, model.particle_unit), torch.full((60,), 2))
    each = step.reward + DISCOUNT * value(step.observation)
    assert (each[0] - each[1]).abs().min() > 1e-4
    assert_close(value.backup(model, x, torch.tensor([2])).target, each.mean(0))


def test_a_larger_reward_does_not_move_the_values():
    """What the network counts in follows the largest reward; the values stay."""
    model, x = line(), states()
    value = FittedValue(model, model.action_space, DISCOUNT, seeded(), passes=40)
    value.fit(model, x, torch.ones(1))
    before = value(x)
    still = FittedValue(model, model.action_space, DISCOUNT, seeded(), passes=1, learning_rate=1e-12, averaging=1e-9)
    still.load_state_dict(value.state_dict())
    still.fit(model, x, torch.full((1,), -250.0))
    assert before.std() > 0.1
    assert still.unit == 250
    assert_close(still(x), before, rtol=1e-4, atol=1e-4)
    learning = [each.unit * each._network(each.layers, x) for each in (still, value)]
    assert_close(*learning, rtol=1e-4, atol=1e-4)


def test_predictions_that_are_not_finite_are_left_out():
    model = line(dynamics_fn=lambda x, a: torch.where(x > 2, torch.nan, 0.5 * x + 0 * a))
    value = FittedValue(model, model.action_space, DISCOUNT, seeded(), passes=20)
    fit = value.fit(model, states(), torch.ones(1))
    assert value(states()).isfinite().all()
    assert np.isfinite(fit).all()
    assert fit.mean < 0


def test_an_action_whose_outcome_is_not_finite_is_never_the_best():
    model = line(CHOICES, reward_fn=lambda x, a, after: torch.tensor([1.0, torch.nan, torch.inf])[a].expand(len(x), -1))
    backup = FittedValue(model, CHOICES, DISCOUNT, seeded()).backup(model, states(5), torch.arange(3))
    assert backup.target.tolist() == [1.0] * 5
    assert backup.best.tolist() == [0] * 5


def test_a_model_that_predicts_nothing_finite_is_named():
    model = line(dynamics_fn=lambda x, a: x * torch.nan)
    with pytest.raises(PlanningError, match="AnalyticModel predicts nothing finite for any of 512 states"):
        FittedValue(model, BOX, DISCOUNT, seeded()).fit(model, states(), torch.ones(1))


def test_walks_stay_near_the_data():
    """x' = 2 x + a runs away, where the network knows nothing; every step costs 1, so that no value is below -10."""
    model = line(dynamics_fn=lambda x, a: 2 * x + a, reward_fn=lambda x, a, after: -torch.ones_like(after[..., 0]))
    model.encode_observation = type(model.encode_observation)(spaces.Box(-np.inf, np.inf, (1,), np.float32))
    value = FittedValue(model, BOX, DISCOUNT, seeded(), hidden=(32,), passes=200, states=128, batch_size=32)
    for _ in range(3):
        fit = value.fit(model, states(), torch.ones(1))
    assert fit.error < 1
    assert_close(value(states(50)), torch.full((50,), -10.0), rtol=0, atol=2.0)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (Counter, {"model": "mlp", "value_kwargs": {"actions": 5}}),  # Dict with choices and float64; 12 actions
        (Offset, {"model": "tabular"}),
        (Offset, {"model": "mlp"}),
        (lambda: gym.make("mbrl/Arm-v0", dtype="float64"), {"model": "linear"}),
        (lambda: gym.make("mbrl/Arm-v0"), {"model": "gp"}),
        (lambda: gym.make("mbrl/Arm-v0"), {"model": "linear", "model_kwargs": {"dtype": "float64"}}),
        (lambda: gym.make("mbrl/Arm-v0"), {"model": "exact"}),
    ],
    ids=["Dict", "table", "choices", "float64", "gp", "float64 model", "exact"],
)
def test_any_model_and_spaces(make, settings):
    small = {"passes": 2, "states": 16, **settings.get("value_kwargs", {})}
    planner = {"horizon": 2, "population": 8, "iterations": 1, "discount": 0.9}
    settings = {**settings, "value_kwargs": small, "planner_kwargs": planner}
    agent = MPC("iCEM", make(), value="learned", learning_starts=12, train_freq=12, seed=0, **settings)
    agent.learn(30)
    assert agent.planner.objective.value.fitted


def test_shapes_and_dtypes():
    model = line()
    value = FittedValue(model, model.action_space, DISCOUNT, seeded(), passes=5)
    assert not value(states()).any()  # until the first fit
    value.fit(model, states(), torch.ones(1))
    assert_close(value(states(12).view(3, 4, 1)), value(states(12)).view(3, 4))
    assert value(states().double()).dtype == torch.float64
    assert value(states(1)[0]).shape == ()
    x = states(3).requires_grad_()
    value(x).sum().backward()
    assert x.grad.any()
    assert all(weight.grad is None for weight in value.averaged.parameters())


def test_only_the_own_generator_is_used():
    def fitted(seed):
        value = FittedValue(line(), BOX, DISCOUNT, seeded(seed), passes=3)
        value.fit(line(), states(), torch.ones(1))
        return value(states(20))

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = fitted(0)
    assert_array_equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert_array_equal(first, fitted(0))
    assert not torch.equal(first, fitted(1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"discount": 1.0}, r"discount must be in \(0, 1\) where a value is learned, but 1.0"),
        ({"passes": 0}, "passes must be at least 1"),
        ({"passes": 2.5}, "passes must be a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"hidden": (8, 0)}, "hidden must be"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0"),
        ({"learning_rate": float("inf")}, "learning_rate must be greater than 0 and finite"),
        ({"averaging": 1.5}, "averaging must be in"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(InvalidSettingError, match=words):
        FittedValue(line(), BOX, generator=seeded(), **{"discount": DISCOUNT, **settings})


class Corridor(gym.Env):
    """A walk to the goal at 3 in steps of at most 0.25: -1 a step until it is reached, or 40 steps are over."""

    observation_space = spaces.Box(-4.0, 4.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.steps = self.np_random.uniform(-4, 3, 1).astype(np.float32), 0
        if options is not None:
            self.x[:] = options["x"]
        return self.x.copy(), {}

    def step(self, action):
        self.steps += 1
        self.x = np.clip(self.x + 0.25 * np.clip(action, -1, 1), -4, 4).astype(np.float32)
        reached = bool(self.x[0] >= 3)
        return self.x.copy(), -1.0, reached, not reached and self.steps == 40, {}


CORRIDOR = {
    "model": AnalyticModel(
        Corridor.observation_space,
        Corridor.action_space,
        dynamics_fn=lambda x, a: (x + 0.25 * a.clamp(-1, 1)).clamp(-4, 4),
        reward_fn=lambda x, a, after: -torch.ones_like(after[..., 0]),
        termination_fn=lambda x: x[..., 0] >= 3,
    ),
    "planner_kwargs": {"horizon": 3, "population": 16, "iterations": 2, "discount": 0.95},
    "train_freq": 400,
}


def steps_to_the_goal(agent):
    env, plan, steps, ended = Corridor(), None, 0, False
    observation, _ = env.reset(options={"x": 0.0})
    while not ended:
        action, plan = agent.predict(observation, plan, deterministic=True)
        observation, _, terminated, truncated, _ = env.step(action)
        steps, ended = steps + 1, terminated or truncated
    return steps


def test_plans_that_end_before_the_goal_find_it_by_the_learned_value():
    """The goal is 12 steps away, and plans see 3. Without a value one is as good as any other."""
    took = []
    for learned in ({}, {"value": "learned", "value_kwargs": {"passes": 150, "states": 256, "batch_size": 32}}):
        agent = MPC("iCEM", Corridor(), seed=0, learning_starts=399, **CORRIDOR, **learned)
        took.append(steps_to_the_goal(agent.learn(400)))
    blind, seeing = took
    assert blind == 40
    assert seeing <= 14


def test_the_value_is_saved_logged_and_resumed_exactly(tiny_agent, tmp_path):
    planner = {**TINY["planner_kwargs"], "discount": 0.95}
    settings = {"planner_kwargs": planner, "value": "learned", "value_kwargs": {"passes": 3, "states": 64}}
    kind = ("dummy", 1)
    whole = tiny_agent(environment(kind), **settings).learn(140)
    half = tiny_agent(environment(kind), **settings).learn(60)
    assert half.logger.name_to_value["value/mean"] < 0
    half.save(tmp_path / "half.zip", include=["replay_buffer"])
    resumed = MPC.load(tmp_path / "half.zip", environment(kind))
    values = [agent.planner.objective.value for agent in (whole, half, resumed)]
    observation = states(8).view(1, 8)
    assert values[2](observation) == values[1](observation) != 0
    resumed.learn(80, reset_num_timesteps=False)
    assert values[2](observation) != values[1](observation)
    for name, tensor in values[0].state_dict().items():
        assert_array_equal(values[2].state_dict()[name], tensor, err_msg=name)


def test_the_first_plans_have_a_value_though_the_model_needs_no_fit():
    value = {"value": "learned", "value_kwargs": {"passes": 2}}
    agent = MPC("iCEM", Corridor(), seed=0, learning_starts=400, **CORRIDOR, **value).learn(400)
    assert not agent.planner.objective.value.fitted
    agent._planned_action()
    assert agent.planner.objective.value.fitted


def test_a_file_without_a_value_can_be_loaded_to_learn_one(tiny_agent, tmp_path):
    planner = {**TINY["planner_kwargs"], "discount": 0.95}
    tiny_agent(planner_kwargs=planner).learn(40).save(tmp_path / "plain.zip", include=["replay_buffer"])
    value = {"value": "learned", "value_kwargs": {"passes": 2}}
    agent = MPC.load(tmp_path / "plain.zip", environment(("dummy", 1)), **value)
    agent.learn(25, reset_num_timesteps=False)
    assert agent.planner.objective.value.fitted


def test_a_value_needs_a_discount_and_a_planner_that_is_made_for_it():
    with pytest.raises(InvalidSettingError, match=r"needs a discount below 1.*planner_kwargs was {'horizon': 5}"):
        MPC("iCEM", "mbrl/Drift-v0", value="learned", planner_kwargs={"horizon": 5})
    with pytest.raises(InvalidSettingError, match=r"discount must be in \(0, 1\) where a value is learned, but 1 was"):
        MPC("iCEM", "mbrl/Drift-v0", value="learned", planner_kwargs={"discount": 1})
    with pytest.raises(InvalidSettingError, match="needs a planner by its name"):
        MPC(ICEM(gym.make("mbrl/Drift-v0").action_space, discount=0.9), "mbrl/Drift-v0", value="learned")


def test_settings_of_a_value_that_is_not_learned_are_refused():
    with pytest.raises(InvalidSettingError, match="value_kwargs are for"):
        MPC("iCEM", "mbrl/Drift-v0", value_kwargs={"passes": 3})
    with pytest.raises(InvalidSettingError, match="'pases', but FittedValue takes actions"):
        MPC("iCEM", "mbrl/Drift-v0", value="learned", value_kwargs={"pases": 3}, planner_kwargs={"discount": 0.9})
    with pytest.raises(InvalidSettingError, match='value must be "learned"'):
        MPC("iCEM", "mbrl/Drift-v0", value="guessed")
    with pytest.raises(InvalidSettingError, match="value must be a function or None, but 'learned'"):
        MPC("iCEM", "mbrl/Drift-v0", planner_kwargs={"value": "learned"})
