"""MPC with choices for actions, and with observations that are no flat Box."""

import io

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_toys import FROZEN, TINY, Counter, Offset, frozen_lake
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from mbrl_gym.agents import MPC, PETS, measure_exploitation
from mbrl_gym.agents.planning import PLANNERS, Plan
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import ExactModel, TabularModel

QUICK = {**TINY, "reward": "learned", "learning_starts": 20}
ACTIONS = {"Gradient": spaces.Box, "Exhaustive": (spaces.Discrete, spaces.MultiDiscrete)}
ENV_IDS = ["CartPole-v1", "FrozenLake-v1", "Pendulum-v1", "mbrl/ArmPickPlace-v0"]


def one_of(observations):
    """Return the first observation of a batch."""
    if isinstance(observations, dict):
        return {name: part[0] for name, part in observations.items()}
    return observations[0]


@pytest.mark.parametrize("env_id", ENV_IDS)
@pytest.mark.parametrize("planner", PLANNERS)
def test_every_planner_runs_in_every_kind_of_environment(planner, env_id):
    settings = {**QUICK, "planner_kwargs": {"horizon": 3}}
    env = make_vec_env(env_id, 2, seed=0)
    if not isinstance(env.action_space, ACTIONS.get(planner, spaces.Space)):
        with pytest.raises(UnsupportedSpaceError, match=rf"^{planner} .*iCEM"):  # what would work
            MPC(planner, env, seed=0, **settings)
        return
    agent = MPC(planner, env, seed=0, **settings).learn(24)
    observations = env.reset()
    actions, plans = agent.predict(observations, deterministic=True)
    space = agent.action_space
    assert isinstance(plans, Plan)
    assert actions.dtype == space.dtype
    assert actions.shape == (2, *space.shape)
    assert plans.actions.shape == (2, 3, *space.shape)
    assert all(space.contains(action) for action in actions)
    single, plan = agent.predict(one_of(observations), deterministic=True)
    assert space.contains(single)
    single, _ = agent.predict(one_of(observations), plan, np.zeros(1, bool), deterministic=True)
    assert space.contains(single)
    decision = agent.decide(one_of(observations), plan, np.zeros(1, bool))
    assert_array_equal(decision.action, single)
    assert decision.plans.shape[1] == 3


@pytest.mark.parametrize("planner", [name for name in PLANNERS if name != "Gradient"])
def test_planners_find_the_way_over_the_ice(planner):
    env = Monitor(gym.make("FrozenLake-v1", **FROZEN))
    options = {"horizon": 7, "discount": 0.9}
    if planner != "Exhaustive":
        options |= {"population": 3000}
    agent = MPC(planner, env, model=frozen_lake(), planner_kwargs=options, seed=0)
    assert evaluate_policy(agent, env, 1) == (1.0, 0.0)
    if planner == "Exhaustive":
        assert env.get_episode_lengths() == [6]


def test_the_exact_model_of_a_lake_has_no_gap():
    agent = MPC("iCEM", gym.make("FrozenLake-v1", **FROZEN), model=frozen_lake(), planner_kwargs={"horizon": 6}, seed=0)
    env = gym.make("FrozenLake-v1", **FROZEN)
    measured = measure_exploitation(agent, env, plans=4, random_plans=10)
    assert_array_equal(measured.planned_gaps, 0)
    assert_array_equal(measured.random_gaps, 0)


def test_counting_learns_the_lake():
    """Rewards are rare at random: optimism where little was tried leads to the goal."""
    agent = MPC(
        "RandomShooting",
        gym.make("FrozenLake-v1", **FROZEN),
        model="tabular",
        planner_kwargs={"horizon": 8, "population": 300, "disagreement": -1.0, "discount": 0.95},
        learning_starts=20,
        train_freq=10,
        seed=0,
    ).learn(150)
    assert isinstance(agent.world_model, TabularModel)
    assert sum(episode["r"] for episode in agent.ep_info_buffer) > 0
    agent.planner.objective = agent.planner.objective.expected_return()
    assert evaluate_policy(agent, Monitor(gym.make("FrozenLake-v1", **FROZEN)), 1)[0] == 1.0


def test_actions_and_observations_may_start_anywhere():
    env = DummyVecEnv([Offset] * 2)
    agent = MPC("CEM", env, model="linear", planner_kwargs={"horizon": 3, "population": 50}, seed=0, learning_starts=20)
    agent.learn(40)
    actions, plans = agent.predict(np.array([7, 9]), deterministic=True)
    assert_array_equal(actions, [1, 1])
    assert_array_equal(plans.actions, np.ones((2, 3)))
    assert agent.predict(7, deterministic=True)[0] == 1


@pytest.mark.parametrize("model", ["ensemble", "mlp", "linear", "gp"])
def test_models_learn_from_parts_of_all_kinds(model):
    agent = MPC(
        "iCEM",
        DummyVecEnv([Counter] * 2),
        model=model,
        planner_kwargs={"horizon": 2, "population": 40},
        learning_starts=60,
        exploration=0.5,
        seed=0,
    ).learn(70)
    actions, _ = agent.predict(agent.env.reset(), deterministic=True)
    assert_array_equal(actions, [[2, 8], [2, 8]])  # which pay most


def test_the_exact_model_of_a_task_with_parts():
    env = gym.make("mbrl/ArmPickPlace-v0")
    agent = MPC("iCEM", env, model="exact", planner_kwargs={"horizon": 3}, learning_starts=2, train_freq=1, seed=0)
    assert isinstance(agent.world_model, ExactModel)
    agent.learn(5)
    observation, _ = env.reset(seed=0)
    _, plan = agent.predict(observation, deterministic=True)
    expected = []
    for action in plan.actions[0]:
        following = env.step(action)[0]
        expected.append(np.concatenate([following[name] for name in ("achieved_goal", "desired_goal", "observation")]))
    assert_allclose(agent.decide(observation).plans[0], expected, atol=1e-5)


def test_pets_plans_choices_and_changes_members():
    settings = {**QUICK, "planner_kwargs": {"horizon": 3, "population": 50, "propagation": "TS1", "particles": 10}}
    agent = PETS("CEM", "CartPole-v1", seed=0, **settings).learn(40)
    assert agent.planner.objective.propagation == "TS1"
    action, _ = agent.predict(np.zeros(4, np.float32), deterministic=True)
    assert action in (0, 1)


def test_a_share_of_random_choices_is_taken_while_learning():
    def falls(observation):
        return torch.zeros_like(observation[..., 0], dtype=torch.bool)

    def likes_right(observation, action, following):
        return action.float()

    settings = {**QUICK, "reward": likes_right, "termination": falls, "model": "linear", "model_kwargs": {}}
    for share, low, high in ((0.0, 1.0, 1.0), (0.5, 0.55, 0.95)):
        agent = MPC("iCEM", "CartPole-v1", seed=0, exploration=share, **settings).learn(300)
        planned = agent.replay_buffer.actions[20 : agent.replay_buffer.pos]
        assert low <= planned.mean() <= high
        assert agent.predict(np.zeros(4, np.float32), deterministic=True)[0] == 1


def test_choices_repeat_with_the_seed_and_are_resumed_in_files():
    settings = {**QUICK, "exploration": 0.5}
    first, second = (MPC("iCEM", "CartPole-v1", seed=1, **settings).learn(60) for _ in range(2))
    assert_array_equal(first.replay_buffer.actions, second.replay_buffer.actions)
    stream = io.BytesIO()
    first.save(stream, include=["replay_buffer"])
    stream.seek(0)
    loaded = MPC.load(stream)
    assert_array_equal(loaded._exploration.state, first._exploration.state)
    observation = np.zeros((3, 4), np.float32)
    assert_array_equal(*(agent.predict(observation, deterministic=True)[0] for agent in (first, loaded)))


class Given(gym.Env):
    """Only its spaces count."""

    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions


BOX = spaces.Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (spaces.Tuple((BOX, spaces.Discrete(2))), BOX, "neither Tuple.*FlattenObservation"),
        (spaces.Dict(pose=spaces.Dict(tip=BOX)), BOX, "nor Dict ones in others.*FlattenObservation"),
        (spaces.MultiBinary(3), BOX, "MultiBinary.*FlattenObservation"),
        (spaces.Dict(image=spaces.Box(0, 255, (3, 8, 8), np.uint8), pose=BOX), BOX, "flat Box.*FlattenObservation"),
        (BOX, spaces.MultiBinary(3), "Discrete, flat MultiDiscrete.*TransformAction"),
        (BOX, spaces.Box(-np.inf, np.inf, (1,)), "bounded"),
    ],
    ids=["Tuple", "nested", "MultiBinary", "image in Dict", "binary actions", "unbounded actions"],
)
def test_other_spaces_are_refused(observations, actions, message):
    with pytest.raises(UnsupportedSpaceError, match=message):
        MPC("iCEM", Given(observations, actions))


def test_a_model_of_other_rows_is_refused():
    with pytest.raises(InvalidSettingError, match=r"observation_space is Box.*but the model's is Discrete"):
        MPC("iCEM", "CartPole-v1", model=frozen_lake())
    with pytest.raises(UnsupportedSpaceError, match="DiscretizeObservation"):
        MPC("iCEM", "CartPole-v1", model="tabular")
