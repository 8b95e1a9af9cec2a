"""Values learned inside a model: against closed forms, exact value iteration, and plans that cannot see the goal."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_toys import TINY, environment, frozen_lake
from gymnasium import spaces
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from mbrl_gym.agents import MPC, FittedValue
from mbrl_gym.errors import InvalidSettingError
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
    value = FittedValue(model, DISCOUNT, seeded(), hidden=(64, 64), passes=300, states=512, actions=16)
    observed = states()
    observed = observed if action_space is BOX else observed.round()
    value.fit(model, observed, model.reward_fn(None, None, observed))
    k = torch.arange(10.0)
    expected = -(DISCOUNT**k * (x.abs() - 1 - k).clamp_min(0)).sum(1)
    assert expected.min() < -8
    assert_close(value(x), expected, rtol=0, atol=0.5)


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
    value = FittedValue(model, DISCOUNT, seeded(), hidden=(64,), passes=400, states=128, batch_size=64, averaging=0.05)
    value.fit(model, alive, torch.ones(1))
    assert_close(value(alive), exact[alive], rtol=0, atol=0.05)


def test_a_backup_by_hand():
    """One step from the end at x <= 0, which pays nothing for where it leads, and one from nowhere near it."""
    model = line(CHOICES, termination_fn=lambda x: x[..., 0] <= 0)
    value = FittedValue(model, DISCOUNT, seeded())
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
    value = FittedValue(model, DISCOUNT, seeded())
    value.averaged[-1].bias.data.fill_(2.0)
    assert model.particle_unit > 1
    step = model.step(model.start(x, model.particle_unit), torch.full((60,), 2))
    expected = (step.reward + DISCOUNT * 2.0).mean(0)
    assert_close(value.backup(model, x, torch.tensor([2])).target, expected)


def test_a_larger_reward_does_not_move_the_values():
    """What the network counts in follows the largest reward; the values stay."""
    model, x = line(), states()
    value = FittedValue(model, DISCOUNT, seeded(), passes=40)
    value.fit(model, x, torch.ones(1))
    before = value(x)
    still = FittedValue(model, DISCOUNT, seeded(), passes=1, learning_rate=1e-12, averaging=1e-9)
    still.load_state_dict(value.state_dict())
    still.fit(model, x, torch.full((1,), -250.0))
    assert before.std() > 0.1
    assert still.unit == 250
    assert_close(still(x), before, rtol=1e-4, atol=1e-4)


def test_predictions_that_are_not_finite_are_left_out():
    model = line(dynamics_fn=lambda x, a: torch.where(x > 2, torch.nan, 0.5 * x + 0 * a))
    value = FittedValue(model, DISCOUNT, seeded(), passes=20)
    fit = value.fit(model, states(), torch.ones(1))
    assert value(states()).isfinite().all()
    assert np.isfinite(fit.error)


def test_shapes_and_dtypes():
    model = line()
    value = FittedValue(model, DISCOUNT, seeded(), passes=5)
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
        value = FittedValue(line(), DISCOUNT, seeded(seed), passes=3)
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
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"hidden": (8, 0)}, "hidden must be"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0"),
        ({"averaging": 1.5}, "averaging must be in"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(InvalidSettingError, match=words):
        FittedValue(line(), settings.pop("discount", DISCOUNT), seeded(), **settings)


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
    "learning_starts": 200,
    "train_freq": 200,
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
    for learned in ({}, {"value": "learned", "value_kwargs": {"passes": 300, "states": 256, "batch_size": 32}}):
        agent = MPC("iCEM", Corridor(), seed=0, **CORRIDOR, **learned)
        took.append(steps_to_the_goal(agent.learn(210)))
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


def test_a_value_needs_a_discount():
    with pytest.raises(InvalidSettingError, match="discount must be in"):
        MPC("iCEM", "mbrl/Drift-v0", value="learned")


def test_settings_of_a_value_that_is_not_learned_are_refused():
    with pytest.raises(InvalidSettingError, match="value_kwargs are for"):
        MPC("iCEM", "mbrl/Drift-v0", value_kwargs={"passes": 3})
    with pytest.raises(InvalidSettingError, match="'pases', but FittedValue takes actions"):
        MPC("iCEM", "mbrl/Drift-v0", value="learned", value_kwargs={"pases": 3})
    with pytest.raises(InvalidSettingError, match='value must be "learned"'):
        MPC("iCEM", "mbrl/Drift-v0", value="guessed")
