"""Critics as terminal values: known weights by hand, and plans that see beyond their horizon."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.testing import assert_close

from mbrl_gym.agents import PLANNERS, value_of
from mbrl_gym.agents.planning import Gradient
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import AnalyticModel


class Line(gym.Env):
    """x' = x + a; the reward is x'."""

    def __init__(self, action_space):
        self.observation_space = spaces.Box(-9.0, 9.0, (2,), np.float32)
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=2).astype(np.float32)
        return self.x.copy(), {}

    def step(self, action):
        self.x = np.clip(self.x + np.float32(np.mean(action)), -9, 9)
        return self.x.copy(), float(self.x[0]), False, bool(self.np_random.random() < 0.1), {}


BOX, CHOICES = spaces.Box(-2.0, 2.0, (1,)), spaces.Discrete(3)


def small(kind, env, **settings):
    return kind("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, seed=0, device="cpu", **settings)


ALGORITHMS = {
    "PPO": lambda: small(PPO, Line(BOX), n_steps=32, batch_size=32),
    "PPO, Discrete": lambda: small(PPO, Line(CHOICES), n_steps=32, batch_size=32),
    "A2C": lambda: small(A2C, Line(BOX)),
    "SAC": lambda: small(SAC, Line(BOX), learning_starts=16),
    "SAC, gSDE": lambda: small(SAC, Line(BOX), learning_starts=16, use_sde=True),
    "TD3": lambda: small(TD3, Line(BOX), learning_starts=16),
    "DDPG": lambda: small(DDPG, Line(BOX), learning_starts=16),
    "DQN": lambda: small(DQN, Line(CHOICES), learning_starts=16),
}
OBSERVATIONS = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))


def of_stable_baselines(algorithm, observation):
    """Return the values by the algorithms' own functions, `[N]`."""
    policy = algorithm.policy
    with torch.no_grad():
        if isinstance(algorithm, PPO | A2C):
            return policy.predict_values(observation)[:, 0]
        if isinstance(algorithm, DQN):
            return policy.q_net(observation).max(1).values
        action, _ = policy.predict(observation.numpy(), deterministic=True)
        scaled = torch.as_tensor(policy.scale_action(action))
        return torch.cat(policy.critic(observation, scaled), 1).min(1).values


@pytest.fixture(scope="module", params=ALGORITHMS)
def algorithm(request):
    """Every algorithm, after a few steps of learning."""
    made = ALGORITHMS[request.param]()
    made.learn(48)
    return made


def test_values_are_those_of_the_algorithm(algorithm):
    value = value_of(algorithm)(OBSERVATIONS)
    assert value.shape == (7,)
    assert value.std() > 0
    assert_close(value, of_stable_baselines(algorithm, OBSERVATIONS), rtol=1e-5, atol=1e-6)


def test_any_leading_axes_and_dtypes(algorithm):
    value = value_of(algorithm)
    block = OBSERVATIONS[:6].view(3, 2, 2)
    assert_close(value(block), value(OBSERVATIONS[:6]).view(3, 2))
    double = value(OBSERVATIONS.double())
    assert double.dtype == torch.float64
    assert_close(double.float(), value(OBSERVATIONS))
    assert value(OBSERVATIONS[0]).shape == ()
    assert not value(torch.full((2, 2), torch.nan)).isfinite().any()  # rather than an error: such plans rank last


def test_gradients_reach_observations_but_not_the_weights(algorithm):
    value = value_of(algorithm)
    assert not value(OBSERVATIONS).requires_grad
    for weight in algorithm.policy.parameters():
        weight.grad = None
    inputs = OBSERVATIONS.double().requires_grad_()
    value(inputs).sum().backward()
    width = 1e-2
    for column in range(2):
        step = width * torch.eye(2)[column]
        slope = (value(OBSERVATIONS + step) - value(OBSERVATIONS - step)) / (2 * width)
        assert_close(inputs.grad[:, column].float(), slope, rtol=0.1, atol=2e-2)
    assert all(weight.grad is None for weight in algorithm.policy.parameters())
    assert all(weight.requires_grad for name, weight in algorithm.policy.named_parameters() if "target" not in name)


def test_values_follow_the_algorithm_as_it_learns_on():
    algorithm = ALGORITHMS["PPO"]()
    value = value_of(algorithm)
    before = value(OBSERVATIONS)
    algorithm.learn(32)
    after = value(OBSERVATIONS)
    assert (before != after).all()
    assert_close(after, of_stable_baselines(algorithm, OBSERVATIONS))


def test_a_critic_with_known_weights():
    """Both critics are linear in (x0, x1, a), the action is tanh(0.5 x0)."""
    sac = SAC("MlpPolicy", Line(BOX), policy_kwargs={"net_arch": {"pi": [], "qf": []}}, device="cpu")
    with torch.no_grad():
        sac.policy.actor.mu.weight.copy_(torch.tensor([[0.5, 0.0]]))
        sac.policy.actor.mu.bias.zero_()
        for network, weights in zip(sac.policy.critic.q_networks, ([1.0, 2.0, 3.0], [-1.0, 0.0, 4.0]), strict=True):
            network[0].weight.copy_(torch.tensor([weights]))
            network[0].bias.fill_(0.25)
    observation = torch.tensor([[1.0, 1.0], [-2.0, 0.5]])
    action = torch.tanh(torch.tensor([0.5, -1.0]))
    expected = [min(1 + 2 + 3 * action[0], -1 + 4 * action[0]), min(-2 + 1 + 3 * action[1], 2 + 4 * action[1])]
    assert_close(value_of(sac)(observation), torch.tensor(expected) + 0.25)


@pytest.mark.parametrize("make", [lambda: object(), lambda: "PPO"])
def test_others_are_refused_by_name(make):
    with pytest.raises(InvalidSettingError, match=r"PPO, A2C, SAC, TD3, DDPG, DQN, but (object|str) was given"):
        value_of(make())


def test_observations_that_are_not_flat_are_refused():
    env = gym.make("mbrl/ArmPickPlace-v0")
    sac = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, buffer_size=10, device="cpu")
    with pytest.raises(UnsupportedSpaceError, match=r"flat Box.*Dict"):
        value_of(sac)


def test_normalising_environments_are_refused():
    ppo = PPO("MlpPolicy", VecNormalize(DummyVecEnv([lambda: Line(BOX)])), n_steps=8, batch_size=8, device="cpu")
    with pytest.raises(InvalidSettingError, match="PPO was trained with VecNormalize"):
        value_of(ppo)


def delayed():
    """Return a model whose way to the reward at x = 2 costs 0.05 a step: two steps see the cost alone."""
    return AnalyticModel(
        spaces.Box(-9.0, 9.0, (1,), np.float32),
        spaces.Box(-1.0, 1.0, (1,)),
        dynamics_fn=lambda x, a: x + 0.5 * a,
        reward_fn=lambda x, a, after: torch.exp(-20 * (after[..., 0] - 2.0).square()) - 0.05 * a[..., 0].square(),
    )


@pytest.mark.parametrize("name", [name for name in PLANNERS if name != "Exhaustive"])  # which takes no Box
def test_a_value_shows_what_lies_beyond_the_horizon(name):
    """The value is that of a hand-made critic: the steps that are left to the goal, less one."""

    class Critic(PPO):
        pass

    line = Line(spaces.Box(-1.0, 1.0, (1,)))
    line.observation_space = spaces.Box(-9.0, 9.0, (1,), np.float32)
    kwargs = {"net_arch": {"pi": [], "vf": [1]}, "activation_fn": torch.nn.ReLU}
    critic = Critic("MlpPolicy", line, n_steps=8, batch_size=8, policy_kwargs=kwargs, device="cpu")
    with torch.no_grad():  # -relu(2 - x)
        hidden, output = critic.policy.mlp_extractor.value_net[0], critic.policy.value_net
        hidden.weight.fill_(-1.0), hidden.bias.fill_(2.0), output.weight.fill_(-1.0), output.bias.zero_()
    model = delayed()
    reached = []
    for value in (None, value_of(critic)):
        planner = PLANNERS[name](model.action_space, horizon=2, value=value)
        x, plan, generator = torch.zeros(1, 1), None, torch.Generator().manual_seed(0)
        for _ in range(8):
            plan = planner.plan(model, x, plan, generator)
            x = model.dynamics_fn(x, plan.actions[:, 0])
        reached.append(x.item())
    blind, seeing = reached
    assert abs(blind) < 1.0
    assert abs(seeing - 2.0) < 0.3


def test_gradient_ascent_climbs_the_critic():
    sac = ALGORITHMS["SAC"]()
    sac.learn(48)
    model = AnalyticModel(
        Line(BOX).observation_space,
        BOX,
        dynamics_fn=lambda x, a: x + a,
        reward_fn=lambda x, a, after: torch.zeros_like(after[..., 0]),
    )
    planner = Gradient(BOX, horizon=1, value=value_of(sac), discount=0.99)
    plan = planner.plan(model, torch.zeros(1, 2), None, torch.Generator().manual_seed(0))
    grid = value_of(sac)(torch.linspace(-2, 2, 401)[:, None].expand(-1, 2))
    assert_close(plan.value.item(), 0.99 * grid.max().item(), rtol=1e-3, atol=1e-3)
    assert all(weight.grad is None for weight in model.parameters())
