"""The MPC agent behaves like an algorithm of Stable-Baselines3, and like MPC."""

import csv
import itertools
import time

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_toys import TINY, native
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from mbrl_gym.agents import CEM, MPC, PETS
from mbrl_gym.agents.planning import PLANNERS, Plan
from mbrl_gym.agents.replay import transitions
from mbrl_gym.agents.values import value_of
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import LEARNED_MODELS, ExactModel, GaussianEnsemble


def weights(agent):
    return agent.policy.state_dict()


def same_weights(first, second):
    mine, other = weights(first), weights(second)
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize("planner", PLANNERS)
def test_every_planner_learns_and_predicts(planner):
    settings = {**TINY, "planner_kwargs": {"horizon": 3, "population": 50}}
    if planner == "Exhaustive":  # counts sequences of choices
        pytest.skip("needs choices: see test_mpc_spaces.py")
    agent = MPC(planner, "mbrl/Arm-v0", seed=0, **settings).learn(60)
    observation, _ = gym.make("mbrl/Arm-v0").reset(seed=0)
    action, state = agent.predict(observation, deterministic=True)
    assert agent.num_timesteps == 60
    assert action.shape == (2,)
    assert agent.action_space.contains(action)
    assert isinstance(state, Plan)


def test_a_learned_model_plans_better_than_chance():
    environment = native("mbrl/Drift-v0", 20)
    agent = MPC(
        "iCEM",
        "mbrl/Drift-v0",
        reward="exact",
        learning_starts=25,
        train_freq=25,
        planner_kwargs={"horizon": 3},
        seed=0,
    )
    environment.seed(7)
    agent.learn(75)
    learned = evaluate_policy(agent, environment, 20, warn=False)[0]
    environment.seed(7)
    environment.action_space.seed(0)
    chance = 0.0
    environment.reset()
    for _ in range(100):
        _, reward, _, _ = environment.step(np.array([environment.action_space.sample() for _ in range(20)]))
        chance += reward.mean()
    assert learned > 0.1 * chance


def test_learned_reward_and_callables_are_used():
    calls = []

    def reward(observation, action, following):
        calls.append(following.shape)
        return -following[..., 0].abs()

    learned = MPC("iCEM", "mbrl/Drift-v0", seed=0, **{**TINY, "reward": "learned"}).learn(40)
    assert learned.world_model.reward_fn is None
    given = MPC("iCEM", "mbrl/Drift-v0", seed=0, **{**TINY, "reward": reward}).learn(40)
    assert given.world_model.reward_fn is reward
    assert len(calls) > 0


def test_exact_model_and_own_model_are_taken():
    exact = MPC("iCEM", "mbrl/Arm-v0", model="exact", planner_kwargs=TINY["planner_kwargs"], learning_starts=2)
    assert isinstance(exact.world_model, ExactModel)
    exact.learn(10)
    space = gym.make("Pendulum-v1")
    own = GaussianEnsemble(space.observation_space, space.action_space, hidden=[8], max_epochs=1, seed=1)
    agent = MPC("CEM", "Pendulum-v1", model=own, learning_starts=20, planner_kwargs={"population": 50}).learn(25)
    assert agent.world_model is own


def test_any_gymnasium_environment_with_box_actions(tiny_agent):
    agent = tiny_agent("Pendulum-v1", reward="learned").learn(60)
    mean, _ = evaluate_policy(agent, Monitor(gym.make("Pendulum-v1")), 1)
    assert -2000 < mean < 0


def test_predict_takes_one_state_or_many_and_carries_the_plan(tiny_agent):
    agent = tiny_agent().learn(50)
    many = native("mbrl/Arm-v0", 5).reset()
    actions, state = agent.predict(many, deterministic=True)
    assert actions.shape == (5, 2)
    single = [agent.predict(row, deterministic=True)[0] for row in many]
    assert_allclose(actions, single, atol=1e-5)
    again, carried = agent.predict(many, state, np.zeros(5, bool), deterministic=True)
    restarted, _ = agent.predict(many, state, np.ones(5, bool), deterministic=True)
    assert_array_equal(restarted, actions)  # cleared rows plan as if nothing had been before
    assert not np.array_equal(again, actions)
    mixed, _ = agent.predict(many, state, np.array([True, False, True, False, False]), deterministic=True)
    assert_allclose(mixed[[1, 3, 4]], again[[1, 3, 4]], atol=1e-5)
    assert not np.isclose(mixed[[0, 2]], again[[0, 2]], atol=1e-5).all(1).any()
    assert carried.warm.all()


def test_deterministic_predictions_neither_disturb_training_nor_depend_on_order(tiny_agent):
    agent, twin = tiny_agent(), tiny_agent()
    observation = np.zeros((1, 8), np.float32)
    observation[:, [0, 2]] = 1.0
    for _ in range(3):
        agent.learn(40, reset_num_timesteps=False)
        twin.learn(40, reset_num_timesteps=False)
        first, _ = agent.predict(observation, deterministic=True)
        second, _ = agent.predict(observation, deterministic=True)
        assert_array_equal(first, second)
    assert same_weights(agent, twin)


def test_same_seed_same_weights_whatever_the_global_generators_do(tiny_agent):
    class Disturb(BaseCallback):
        def _on_step(self):
            np.random.random(3)
            torch.rand(2)
            return True

    torch.manual_seed(0)
    first = tiny_agent(exploration=0.3).learn(80)
    torch.manual_seed(1)
    np.random.seed(5)
    second = tiny_agent(exploration=0.3).learn(80, callback=Disturb())
    assert same_weights(first, second)
    assert not same_weights(first, tiny_agent(seed=4, exploration=0.3).learn(80))


def test_the_global_generators_are_left_alone(tiny_agent):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    tiny_agent(exploration=0.1).learn(60)
    assert torch.equal(before[0], torch.get_rng_state())
    assert_array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_second_decision_starts_from_the_plan_of_the_first(tiny_agent, num_envs):
    agent = tiny_agent(make_vec_env("mbrl/Arm-v0", num_envs))
    given = []
    plan = agent.planner.plan

    def spy(model, observation, previous, generator):
        result = plan(model, observation, previous, generator)
        given.append((previous, result))
        return result

    agent.planner.plan = spy
    agent.learn(60 * num_envs)
    assert len(given) == 60 - 30 // num_envs
    for (_, earlier), (previous, _) in itertools.pairwise(given):
        assert torch.equal(previous.actions, earlier.actions)
    # An episode of the arm has 50 steps: rows are cold at its start only.
    first = 30 // num_envs
    for decision, (previous, _) in enumerate(given[1:], start=first + 1):
        assert bool(previous.warm.all()) == (decision != 50)
        assert bool(previous.warm.any()) == (decision != 50)


def test_the_model_sees_actions_in_the_units_of_the_environment(tiny_agent):
    agent = tiny_agent("Pendulum-v1", reward="learned").learn(60)  # torques within [-2, 2]
    data = transitions(agent.replay_buffer, agent.policy)
    assert 1.5 < np.abs(data.action).max() <= 2.0
    torque = np.clip(data.action[:, 0], -2, 2)
    angle = np.arctan2(data.observation[:, 1], data.observation[:, 0])
    speed = data.observation[:, 2] + (15 * np.sin(angle) + 3 * torque) * 0.05
    assert_allclose(data.next_observation[:, 2], np.clip(speed, -8, 8), atol=1e-4)


def test_a_cautious_agent_imagines_ends_where_nobody_has_been(tiny_agent, tmp_path):
    """Also after it was loaded."""
    agent = tiny_agent("mbrl/Drift-v0", termination="cautious").learn(40)
    agent.save(tmp_path / "agent.zip")
    for each in (agent, MPC.load(tmp_path / "agent.zip")):
        model = each.world_model
        start = torch.tensor([[0.0], [50.0]])
        assert model.terminates
        assert model.step(model.start(start), torch.zeros(2, 1)).terminated.tolist() == [[False, True]] * 5
    assert not tiny_agent("mbrl/Drift-v0").learn(40).world_model.terminates


def test_transitions_tell_termination_from_truncation_and_where_episodes_start(tiny_agent):
    data = transitions(tiny_agent(learning_starts=120).learn(120).replay_buffer, tiny_agent().policy)
    assert_array_equal(np.flatnonzero(data.truncated), [49, 99])
    assert not data.terminated.any()
    assert_array_equal(np.flatnonzero(np.diff(data.episode, prepend=-1)), [0, 50, 100])
    # The last observation of an episode is the episode's own, not the next one's first.
    inside = ~data.truncated[:-1]
    assert_array_equal(data.next_observation[:-1][inside], data.observation[1:][inside])
    assert np.abs(data.next_observation[49] - data.observation[50]).max() > 0.01


def test_a_full_buffer_keeps_the_newest_transitions_in_order(tiny_agent):
    agent = tiny_agent(buffer_size=35, learning_starts=60)
    agent.learn(60)
    data = transitions(agent.replay_buffer, agent.policy)
    assert len(data.reward) == 35
    inside = ~data.truncated[:-1]
    assert_array_equal(data.next_observation[:-1][inside], data.observation[1:][inside])
    assert_array_equal(data.next_observation[-1], agent._last_obs[0])


@pytest.mark.filterwarnings("ignore:rich is experimental")  # of the progress bar
def test_callbacks_logger_monitor_and_progress_bar(tiny_agent, tmp_path):
    agent = tiny_agent(tensorboard_log=None)
    evaluation = EvalCallback(
        Monitor(gym.make("mbrl/Arm-v0")),
        eval_freq=50,
        n_eval_episodes=1,
        log_path=tmp_path,
        best_model_save_path=tmp_path,
    )
    agent.learn(100, callback=evaluation, progress_bar=True)
    assert np.load(tmp_path / "evaluations.npz")["results"].shape == (2, 1)
    assert MPC.load(tmp_path / "best_model.zip").predict(np.zeros(8, np.float32))[0].shape == (2,)
    assert len(agent.ep_info_buffer) == 2
    assert agent.logger.name_to_value["model/transitions"] >= 80


def test_exploration_noise_is_in_training_only(tiny_agent):
    calm, noisy = tiny_agent(exploration=0.0), tiny_agent(exploration=1.0)
    for agent in (calm, noisy):
        agent.learn(80)
    first, second = (transitions(agent.replay_buffer, agent.policy).action for agent in (calm, noisy))
    assert_array_equal(first[:30], second[:30])  # the random steps are the same
    assert not np.array_equal(first[30:], second[30:])
    observation = np.zeros((1, 8), np.float32)
    assert_array_equal(*(noisy.predict(observation, deterministic=True)[0] for _ in range(2)))
    assert np.abs(second).max() <= 1.0


def test_the_planner_may_be_an_object():
    planner = CEM(gym.make("mbrl/Arm-v0").action_space, horizon=3, population=60)
    agent = PETS(planner, "mbrl/Arm-v0", model="exact", seed=0)
    assert agent.planner is planner
    assert agent.predict(np.ones(8, np.float32), deterministic=True)[1].actions.shape == (1, 3, 2)
    with pytest.raises(InvalidSettingError, match="a Planner has its settings: give it horizon, time_budget_ms"):
        MPC(planner, "mbrl/Arm-v0", model="exact", planner_kwargs={"horizon": 3}, time_budget_ms=3)
    with pytest.raises(InvalidSettingError, match="planner was made for actions Box"):
        MPC(planner, "mbrl/Drone-v0", model="exact")


def drift(**settings):
    """Return an agent that knows a walk without noise, on which a step earns minus the distance from 0."""
    env = gym.make("mbrl/Drift-v0", noise_std=0.0, drift=0.0)
    planner = {"horizon": 4, "population": 200}
    return MPC("iCEM", env, model="exact", seed=0, planner_kwargs=planner, **settings)


def test_plans_keep_the_limit_of_a_cost():
    def too_far_left(following):
        return -following[..., 0]

    start = np.array([3.0], np.float32)
    free, kept = (drift(**settings).predict(start)[1] for settings in ({}, {"cost": too_far_left, "cost_limit": -1.5}))
    assert_allclose(3 + free.actions[0, :, 0].cumsum(), [2, 1, 0, 0], atol=0.5)
    path = 3 + kept.actions[0, :, 0].cumsum()
    assert path.min() >= 1.5
    assert_allclose(path, [2, 1.5, 1.5, 1.5], atol=0.5)
    assert (kept.feasible, free.feasible) == ([True], [True])


def test_the_cost_of_a_task_is_taken_from_it():
    agent = MPC("iCEM", "mbrl/DroneObstacles-v0", cost="exact", cost_limit=-0.1, **TINY)
    assert agent.planner.objective.cost_limit == -0.1
    observation = torch.as_tensor(gym.make_vec("mbrl/DroneObstacles-v0", num_envs=2).reset(seed=0)[0])
    # The drone rests at its start, with the clearance of the observation.
    assert_allclose(agent.planner.objective.cost(observation), -observation[:, 12], atol=1e-5)


def test_what_lies_beyond_the_horizon_counts():
    def far_right(observation):
        return 100 * observation[..., 0]

    assert drift(value=far_right).predict(np.zeros(1, np.float32))[1].actions.mean() > 0.9
    assert abs(drift().predict(np.zeros(1, np.float32))[1].actions.mean()) < 0.2


def test_a_critic_of_stable_baselines3_values_the_end_of_plans():
    critic = SAC("MlpPolicy", "mbrl/Drift-v0", seed=0)
    agent = drift(value=critic)
    observation = torch.tensor([[0.5], [-2.0]])
    expected = value_of(critic)(observation)
    assert_allclose(agent.planner.objective.value(observation), expected)


def test_a_decision_keeps_its_time_budget():
    agent = drift(time_budget_ms=1.0)
    agent.planner.iterations = 10**6
    observation = np.zeros(1, np.float32)
    agent.predict(observation)
    begin = time.perf_counter()
    agent.predict(observation)
    assert time.perf_counter() - begin < 1.0  # for a million iterations
    assert agent.planner.time_budget_ms == 1.0


def test_the_time_of_decisions_is_logged(tiny_agent, tmp_path):
    agent = tiny_agent("mbrl/Drift-v0")
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    agent.learn(100, log_interval=1)
    agent.logger.close()
    (row,) = csv.DictReader((tmp_path / "progress.csv").read_text().splitlines())
    assert len(agent.decision_times_ms) == 70  # 30 steps were random
    p50, p99 = (float(row[f"time/decision_ms_p{percentile}"]) for percentile in (50, 99))
    assert 0 < p50 <= p99
    assert_allclose((p50, p99), np.percentile(agent.decision_times_ms, (50, 99)))


def test_deterministic_decisions_take_turns_with_seeds_but_repeat():
    """Where all plans are equally good, an agent must not always prefer the same action."""

    def indifferent(observation, action, following):
        return 0 * following[..., 0]

    planner = {"population": 20, "horizon": 2}
    agent = MPC("RandomShooting", "mbrl/Arm-v0", model="exact", reward=indifferent, planner_kwargs=planner, seed=0)

    def decide(rows, ages):
        _, state = agent.predict(rows, deterministic=True)
        state = state._replace(age=ages - 1, warm=ages > 0)
        state.elites[:] = np.nan  # no plan to go on with
        return agent.predict(rows, state, np.zeros(len(rows), bool), deterministic=True)

    rows = np.ones((3, 8), np.float32)
    agent.planner._candidates = lambda search, warm, iteration, generator: agent.planner.code.uniform(
        20, 2, generator
    ).repeat(len(warm), 1, 1, 1)
    decisions = []
    for oldest in (*range(18), 5):
        ages = np.minimum([oldest, 0, 3], oldest)
        action, state = decide(rows, ages)
        assert_array_equal(state.age, ages)
        decisions.append(action)
    first = np.stack(decisions)[:, 0]
    assert len(np.unique(first[:16], axis=0)) == 16
    assert_array_equal(first[16:], first[[0, 1, 5]])


def test_pets_is_mpc_with_the_settings_of_the_paper():
    agent = PETS(
        "CEM", "mbrl/Arm-v0", reward="exact", planner_kwargs={"population": 60, "horizon": 3}, learning_starts=20
    )
    assert (agent.planner.objective.particles, agent.planner.objective.noise) == (20, True)
    agent.learn(22)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "CMA"}, "iCEM"),
        ({"model": "transformer"}, "ensemble"),
        ({"reward": "known"}, "learned"),
        ({"termination": 3}, "learned"),
        ({"dynamics": 3}, "learned"),
        ({"model": "exact", "dynamics": "exact"}, "dynamics"),
        ({"model": "exact", "termination": "cautious"}, "cautious.* takes one of .*ensemble"),
        ({"learning_starts": 0}, "at least 2"),
        ({"exploration": -1.0}, "at least 0"),
        ({"planner_kwargs": {"horizon": 0}}, "at least 1"),
        ({"planner_kwargs": {"horizn": 5}}, "'horizn', but ICEM takes .*discount, .*horizon, .*kept, .*population"),
        ({"policy": "RandomShooting", "planner_kwargs": {"iterations": 5}}, "RandomShooting.*iterations"),
        ({"planner_kwargs": {"horizon": "long"}}, "horizon must be a whole number of at least 1, but long was given"),
        ({"planner_kwargs": {"horizon": 3.5}}, "horizon must be a whole number of at least 1, but 3.5 was given"),
        ({"planner_kwargs": {"particles": 2.0}}, "particles must be a whole number of at least 1, but 2.0 was given"),
        ({"planner_kwargs": {"risk": float("nan")}}, "risk must be a finite number, but nan was given"),
        ({"exploration": float("nan")}, "exploration must be at least 0, but nan was given"),
        ({"model_kwargs": {"layers": 3}}, "'layers', but GaussianEnsemble takes .*hidden, .*members"),
        ({"policy": 3}, "one of .*iCEM.*a Planner, but 3"),
        ({"cost": "known"}, '"exact", a function or None'),
        ({"cost": "exact"}, "mbrl/DroneObstacles-v0, but Arm has none"),
        ({"env": "Pendulum-v1", "cost": "exact"}, 'cost="exact" needs an environment that publishes its task'),
        ({"cost_limit": 1.0}, "cost_limit=1.0 limits nothing: give cost"),
        ({"value": "critic"}, 'value must be "learned", a function, an algorithm'),
        ({"time_budget_ms": 0}, "greater than 0"),
        ({"time_budget_ms": 5, "planner_kwargs": {"time_budget_ms": 6}}, "repeats the arguments time_budget_ms"),
        ({"model_kwargs": {"members": 0}}, "at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    arguments = {"policy": "iCEM", "env": "mbrl/Arm-v0", **settings}
    with pytest.raises(InvalidSettingError, match=message):
        MPC(**arguments)


@pytest.mark.parametrize("model", LEARNED_MODELS)
def test_every_learned_model_has_a_name(model):
    agent = MPC("iCEM", "mbrl/Drift-v0", model=model, learning_starts=20, planner_kwargs={"horizon": 3}, seed=0)
    agent.learn(30)
    assert type(agent.world_model) is LEARNED_MODELS[model]
    assert agent.world_model.fitted


def test_any_part_of_a_learned_model_can_be_exact(tiny_agent):
    agent = tiny_agent("mbrl/Drone-v0", dynamics="exact", reward="learned", termination="exact").learn(40)
    observation = torch.as_tensor(gym.make("mbrl/Drone-v0").reset(seed=0)[0])[None]
    action = torch.tensor([[0.3, -0.2, 1.0]])
    task = agent.env.get_attr("task")[0]
    exact, learned = ExactModel(task), agent.world_model
    expected = exact.step(exact.start(observation), action)
    predicted = learned.step(learned.start(observation), action)
    assert_allclose(predicted.observation[0], expected.observation[0], rtol=1e-6)
    assert not torch.allclose(predicted.reward[0], expected.reward[0], atol=1e-6)


def test_exact_reward_needs_a_published_task():
    with pytest.raises(InvalidSettingError, match="mbrl/Arm-v0"):
        MPC("iCEM", "Pendulum-v1", reward="exact")


def test_spaces_that_cannot_be_planned_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="flat Box, Discrete"):
        MPC(
            "iCEM",
            gym.wrappers.AddRenderObservation(gym.make("mbrl/Arm-v0", render_mode="rgb_array", width=64, height=64)),
        )
    with pytest.raises(InvalidSettingError, match="VecNormalize"):
        MPC("iCEM", VecNormalize(DummyVecEnv([lambda: gym.make("mbrl/Arm-v0")])))


def test_interrupted_learning_goes_on_where_it_stopped(tiny_agent):
    class Stop(BaseCallback):
        def _on_step(self):
            return self.num_timesteps < 45

    agent = tiny_agent().learn(100, callback=Stop())
    assert agent.num_timesteps == 45
    agent.learn(55, reset_num_timesteps=False)
    assert agent.num_timesteps >= 100
