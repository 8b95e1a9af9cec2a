"""Dyna agents are Stable-Baselines3's algorithms, and learn from what they imagine."""

import csv
import random

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_toys import native
from dyna_toys import CLASSES, Corridor, dyna, small, weights
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from mbrl_gym.agents import MBPO, DynaAgent, DynaDQN, DynaTD3, EvaluateModelCallback
from mbrl_gym.agents.dyna_figures import real_rewards
from mbrl_gym.agents.replay import transitions
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import LEARNED_MODELS, AnalyticModel, ExactModel, GaussianEnsemble

KINDS = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


class DynaDDPG(DynaAgent, DDPG):
    """Needs nothing but its bases."""


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Disturb(BaseCallback):
    """Draws from the global generators, and from the policy."""

    def _on_step(self):
        random.random()
        np.random.random(3)
        torch.rand(2)
        self.model.predict(self.locals["new_obs"], deterministic=False)
        return True


@pytest.mark.parametrize(
    ("kind", "algorithm", "env_id"),
    [
        (MBPO, SAC, "Pendulum-v1"),
        (DynaTD3, TD3, "Pendulum-v1"),
        (DynaDDPG, DDPG, "Pendulum-v1"),
        (DynaDQN, DQN, "CartPole-v1"),
    ],
)
def test_without_a_model_it_is_the_algorithm_itself_bit_for_bit(kind, algorithm, env_id):
    theirs = algorithm("MlpPolicy", env_id, seed=3, **small()).learn(240)
    torch.manual_seed(8)
    mine = kind("MlpPolicy", env_id, model=None, real_ratio=1, seed=3, **small()).learn(240, callback=Disturb())
    assert same(theirs.policy.state_dict(), mine.policy.state_dict())
    assert_array_equal(theirs.replay_buffer.actions, mine.replay_buffer.actions)
    assert mine.world_model is None


def test_a_model_from_which_nothing_is_imagined_changes_nothing():
    noise = {"action_noise": NormalActionNoise(np.zeros(1), np.full(1, 0.1))}
    theirs = SAC("MlpPolicy", "mbrl/Drift-v0", seed=3, gradient_steps=2, **small(), **noise).learn(110)
    mine = dyna(MBPO, real_ratio=1, **noise).learn(110)
    assert mine.world_model.fitted
    assert len(mine.replay_buffer.imagined) == 0
    assert same(theirs.policy.state_dict(), mine.policy.state_dict())


@KINDS
def test_the_global_generators_neither_matter_nor_change(kind):
    random.seed(0), torch.manual_seed(0), np.random.seed(0)
    before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()
    first = dyna(kind).learn(100)
    first.predict(first.env.reset(), deterministic=False)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert_array_equal(np.random.get_state()[1], before[2])
    torch.manual_seed(1), np.random.seed(5)
    assert same(weights(first), weights(dyna(kind).learn(100, callback=Disturb())))
    assert not same(weights(first), weights(dyna(kind, seed=4).learn(100)))


@KINDS
def test_unseeded_agents_differ_and_leave_the_global_generators_alone(kind):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = dyna(kind, seed=None), dyna(kind, seed=None)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(first.policy.state_dict(), second.policy.state_dict())


def test_random_predictions_have_a_stream_of_their_own():
    first, second = dyna(MBPO), dyna(MBPO)
    observation = np.ones((1, 1), np.float32)
    drawn = [first.predict(observation, deterministic=False)[0].item() for _ in range(5)]
    assert len(set(drawn)) == 5
    torch.manual_seed(0)
    assert [second.predict(observation, deterministic=False)[0].item() for _ in range(5)] == drawn


@KINDS
@pytest.mark.parametrize("num_envs", [1, 3])
def test_it_learns_in_several_environments(kind, num_envs):
    agent = dyna(kind, make_vec_env(CLASSES[kind], num_envs)).learn(60 * num_envs)
    assert agent.num_timesteps == 60 * num_envs
    assert len(agent.replay_buffer.imagined) > 0
    observations = native(CLASSES[kind], 4).reset()
    actions, state = agent.predict(observations, deterministic=True)
    assert len(actions) == 4
    assert state is None
    assert all(agent.action_space.contains(action) for action in actions)


class Spy(BaseCallback):
    """Notes the steps of fits and refreshes, and the lengths of branches."""

    def _on_training_start(self):
        self.fits, self.refreshes = [], []
        agent, fit, imagine = self.model, self.model.world_model.fit, self.model._imagination

        def spy_fit(data):
            self.fits.append((agent.num_timesteps, len(data.reward)))
            return fit(data)

        def spy_imagine(model, observation, length, keep, generator):
            self.refreshes.append((agent.num_timesteps, length, len(observation)))
            return imagine(model, observation, length, keep, generator)

        agent.world_model.fit, agent._imagination = spy_fit, spy_imagine

    def _on_step(self):
        if self.num_timesteps <= 41:
            assert len(self.model.replay_buffer.imagined) == 0
        return True


def test_models_are_fitted_and_branches_imagined_when_asked():
    spy = Spy()
    agent = dyna(MBPO).learn(150, callback=spy)
    assert spy.fits == [(41, 41), (91, 91), (141, 141)]  # learning starts after step 40
    # Branches of 1 step before step 40, of 3 from step 100 on.
    assert spy.refreshes == [(41, 1, 60), (66, 1, 60), (91, 2, 60), (116, 3, 60), (141, 3, 60)]
    assert agent.replay_buffer.imagined.counts == [180, 180]
    agent.learn(60)  # counts from 0 again
    assert spy.fits[3:] == [(41, 191)]


def test_imagined_actions_come_from_the_policy_in_the_units_of_the_environment():
    agent = dyna(MBPO, "Pendulum-v1", rollout_length=1).learn(60)  # torques within [-2, 2]
    rows = agent.replay_buffer.imagined.sample(500)
    assert 0.5 < rows.action.abs().max() <= 1.0
    assert_allclose(agent._to_model(rows.action), 2 * rows.action, atol=1e-6)
    seen = transitions(agent.replay_buffer, agent.policy).observation
    assert {tuple(row) for row in rows.observation.numpy()} <= {tuple(row) for row in seen}


def test_a_deterministic_policy_is_disturbed_in_imagination():
    observation = torch.zeros(2000, 8)
    for noise, deviation in ((None, 0.1), (0.0, 0.0), (0.02, 0.02)):
        agent = dyna(DynaTD3, rollout_noise=noise)
        with torch.no_grad():
            difference = agent._imagined_action(observation) - agent.actor(observation)
        assert float(difference.std()) == pytest.approx(deviation, rel=0.1)


def test_imagined_choices_are_random_as_often_as_real_ones():
    observation = torch.zeros(6000, 11)
    for noise, rate in ((None, 0.4), (0.1, 0.1), (0.0, 0.0)):
        agent = dyna(DynaDQN, rollout_noise=noise)
        agent.exploration_rate = 0.4
        with torch.no_grad():
            action, best = agent._imagined_action(observation)[:, 0], agent.q_net(observation[:1]).argmax()
        assert float((action != best).float().mean()) == pytest.approx(0.9 * rate, abs=0.03)  # of ten arms


def corridor():
    """Return the equations of `Corridor`."""
    return AnalyticModel(
        Corridor.observation_space,
        Corridor.action_space,
        dynamics_fn=lambda x, a: (x + 2 * a[..., None] - 1).clamp(min=0),
        reward_fn=lambda x, a, after: (after[..., 0] > 3.5).float(),
        termination_fn=lambda after: after[..., 0] > 3.5,
    )


@pytest.mark.parametrize("real_ratio", [0.0, 0.5])
def test_values_count_on_where_branches_or_episodes_are_cut_and_end_with_episodes(real_ratio):
    env = gym.wrappers.TimeLimit(Corridor(), 6)  # which cuts real episodes
    agent = DynaDQN(
        "MlpPolicy",
        env,
        model=corridor(),
        real_ratio=real_ratio,
        rollout_batch=200,
        rollout_noise=1.0,
        learning_starts=200,
        model_train_freq=20,
        gradient_steps=20,
        gamma=0.9,
        learning_rate=3e-3,
        target_update_interval=2,
        exploration_initial_eps=1.0,
        exploration_final_eps=1.0,
        batch_size=64,
        policy_kwargs={"net_arch": [32]},
        seed=0,
        device="cpu",
    ).learn(300)
    expected = np.zeros((4, 2))  # by value iteration
    for _ in range(100):
        best = expected.max(1)
        expected = np.array([[0.9 * best[max(x - 1, 0)], 1.0 if x == 3 else 0.9 * best[x + 1]] for x in range(4)])
    actual = agent.q_net(torch.arange(4.0)[:, None]).detach()
    assert expected[0, 1] == pytest.approx(0.9**3)
    assert_allclose(actual, expected, atol=0.06)


def test_an_agent_learns_more_from_the_same_steps_than_its_model_free_twin():
    settings = {
        "policy_kwargs": {"net_arch": [32, 32]},
        "learning_starts": 50,
        "learning_rate": 2e-3,
        "batch_size": 64,
        "gamma": 0.9,
        "seed": 0,
        "device": "cpu",
    }
    env = native("mbrl/Drift-v0", 20)

    def play(agent):
        env.seed(7)
        return evaluate_policy(agent, env, 20, warn=False)[0]

    free = play(SAC("MlpPolicy", "mbrl/Drift-v0", **settings).learn(110))
    model_based = MBPO(
        "MlpPolicy", "mbrl/Drift-v0", model="linear", reward="exact", rollout_batch=500, model_train_freq=20, **settings
    )
    assert play(model_based.learn(110)) > 0.2 * free  # returns are negative


@KINDS
def test_figures_are_logged(kind, tmp_path):
    agent = dyna(kind, rollout_length=2, max_disagreement=0.5)
    agent.set_logger(configure(str(tmp_path), ["csv"]))
    agent.learn(100)
    agent.dump_logs()
    agent.logger.close()
    *_, row = csv.DictReader((tmp_path / "progress.csv").read_text().splitlines())
    figures = {name: float(value) for name, value in row.items() if value}
    assert figures["model/transitions"] == agent.figures["model/transitions"] == 91
    assert figures["model/new_step_error"] > 0
    assert figures["imagined/rollout_length"] == 2
    assert figures["imagined/transitions"] == len(agent.replay_buffer.imagined)
    assert figures["imagined/disagreement"] > 0
    assert 0 <= figures["imagined/stopped_share"] <= 1
    assert {"model/loss", "model/holdout_loss", "real/reward_mean", "real/return_mean"} <= figures.keys()
    shares = [figures[f"time/{part}_share"] for part in ("fit", "imagine", "train")]
    assert min(shares) > 0
    assert sum(shares) == pytest.approx(1)


def test_real_returns_end_with_their_episodes():
    agent = dyna(MBPO, model=None, real_ratio=1, buffer_size=6)
    buffer = agent.replay_buffer
    zero = np.zeros((1, 1), np.float32)
    for reward, done in ((9, 0), (9, 0), (1, 0), (2, 0), (4, 1), (8, 0), (16, 0), (32, 0)):  # two are overwritten
        buffer.add(zero, zero, zero, np.array([reward]), np.array([done]), [{}])
    assert real_rewards(buffer, 1) == (63 / 6, 63 / 6)
    assert real_rewards(buffer, 3) == (63 / 6, (7 + 6 + 4 + 56) / 4)
    assert np.isnan(real_rewards(buffer, 7)[1])


@pytest.mark.filterwarnings("ignore:rich is experimental")  # of the progress bar
@KINDS
def test_callbacks_monitor_and_progress_bar(kind, tmp_path):
    env_id = CLASSES[kind]
    evaluation = EvalCallback(
        Monitor(gym.make(env_id)), eval_freq=50, n_eval_episodes=1, log_path=tmp_path, best_model_save_path=tmp_path
    )
    model_evaluation = EvaluateModelCallback(50, env_id, steps=60, horizons=(1, 2))
    agent = dyna(kind).learn(105, callback=[evaluation, model_evaluation], progress_bar=True)
    assert np.load(tmp_path / "evaluations.npz")["results"].shape == (2, 1)
    loaded = kind.load(tmp_path / "best_model.zip")
    observation = agent.env.reset()
    assert loaded.action_space.contains(loaded.predict(observation[0], deterministic=True)[0])
    assert [steps for steps, _ in model_evaluation.reports][-1] == 105
    assert same(weights(agent), weights(dyna(kind).learn(105)))  # they change nothing
    assert len(agent.ep_info_buffer) == 105 // gym.spec(env_id).max_episode_steps


@pytest.mark.parametrize("model", LEARNED_MODELS)
def test_every_learned_model_has_a_name(model):
    agent = dyna(MBPO, model=model, model_kwargs={}, model_train_freq=30).learn(75)
    assert type(agent.world_model) is LEARNED_MODELS[model]
    assert len(agent.replay_buffer.imagined) > 0


def test_exact_models_parts_and_own_models_are_taken():
    exact = dyna(MBPO, "mbrl/Drone-v0", model="exact", model_kwargs=None).learn(45)
    assert isinstance(exact.world_model, ExactModel)
    agent = dyna(MBPO, "mbrl/Drone-v0", reward="exact", termination="exact", dynamics="exact")
    assert agent.world_model.reward_fn.__self__ is agent.env.get_attr("task")[0]
    env = gym.make("Pendulum-v1")
    own = GaussianEnsemble(env.observation_space, env.action_space, hidden=[8], max_epochs=1, seed=1)
    agent = dyna(MBPO, env, model=own, termination=lambda after: after[..., 0] > 2).learn(45)
    assert agent.world_model is own
    assert own.termination_fn is not None


def test_settings_are_those_of_the_algorithm_and_some_defaults_differ():
    assert MBPO("MlpPolicy", "mbrl/Drift-v0").gradient_steps == 10
    assert MBPO("MlpPolicy", "mbrl/Drift-v0", model=None, real_ratio=1).gradient_steps == 1
    assert MBPO("MlpPolicy", "mbrl/Drift-v0", gradient_steps=3).gradient_steps == 3
    agent = DynaDQN("MlpPolicy", "mbrl/Bandit-v0", learning_rate=0.5)
    assert (agent.target_update_interval, agent.learning_rate) == (100, 0.5)
    given = {"net_arch": [8]}
    MBPO("MlpPolicy", "mbrl/Drift-v0", policy_kwargs=given)
    assert given == {"net_arch": [8]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "transformer"}, "model must be one of ensemble"),
        ({"model": None}, "without a model real_ratio must be 1, but 0.05"),
        ({"real_ratio": 1.5}, r"real_ratio must be in \[0, 1\], but 1.5"),
        ({"real_ratio": float("nan")}, "real_ratio must be in"),
        ({"rollout_length": 0}, "rollout_length must be a whole number of at least 1"),
        ({"rollout_batch": 0}, "rollout_batch must be at least 1"),
        ({"rollout_freq": 0}, "rollout_freq must be at least 1, or None"),
        ({"rollout_noise": -0.1}, "rollout_noise must be at least 0"),
        ({"model_train_freq": 0}, "model_train_freq must be at least 1"),
        ({"model_retain": 0}, "model_retain must be at least 1"),
        ({"max_disagreement": 0.0}, "max_disagreement must be greater than 0"),
        ({"disagreement_penalty": -1.0}, "disagreement_penalty must be at least 0"),
        ({"reward": "known"}, '"learned", "exact" or a function'),
        ({"model": "exact", "dynamics": "exact"}, "dynamics"),
        ({"model_kwargs": {"layers": 3}}, "'layers', but GaussianEnsemble takes"),
        ({"learning_rte": 0.1}, "no setting 'learning_rte': MBPO takes .*ent_coef.*learning_rate.*rollout_length"),
        ({"target_policy_noise": 0.1}, "no setting 'target_policy_noise': MBPO takes"),
        ({"n_steps": 3}, "MBPO does not take n_steps=3: imagined transitions are single steps"),
        ({"use_sde": True}, "state-dependent exploration"),
        ({"optimize_memory_usage": True}, "next observations"),
        ({"env": "Pendulum-v1", "reward": "exact"}, "publishes its task"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InvalidSettingError, match=message):
        MBPO(**{"policy": "MlpPolicy", "env": "mbrl/Drift-v0", **settings})


def test_defaults_of_refused_settings_are_taken():
    MBPO("MlpPolicy", "mbrl/Drift-v0", n_steps=1, use_sde=False, replay_buffer_class=None, sde_sample_freq=-1)


class Odd(Corridor):
    action_space = spaces.Discrete(2, start=1)


@pytest.mark.parametrize(
    ("kind", "env", "message"),
    [
        (MBPO, "mbrl/ArmPickPlace-v0", "(?s)flat Boxes of floats .*Dict.*FlattenObservation"),
        (DynaDQN, "FrozenLake-v1", "flat Boxes of floats .*Discrete"),
        (MBPO, "CartPole-v1", "MBPO takes Box actions.*DynaDQN"),
        (DynaTD3, "mbrl/Bandit-v0", "DynaTD3 takes Box actions"),
        (DynaDQN, "Pendulum-v1", "DynaDQN takes Discrete actions"),
        (DynaDQN, Odd(), "counts actions from 0"),
    ],
)
def test_spaces_that_it_cannot_handle_are_refused(kind, env, message):
    with pytest.raises(UnsupportedSpaceError, match=message):
        kind("MlpPolicy", env)


def test_vec_normalize_is_refused():
    with pytest.raises(InvalidSettingError, match="VecNormalize"):
        MBPO("MlpPolicy", VecNormalize(DummyVecEnv([lambda: gym.make("mbrl/Drift-v0")])))
