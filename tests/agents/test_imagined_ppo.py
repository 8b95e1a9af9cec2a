"""ImaginedPPO behaves like an algorithm of Stable-Baselines3, and learns inside of its world model."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_toys import Offset, environment, native
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from mbrl_gym.agents import MPC, EvaluateModelCallback, ImaginedPPO, ResumableCheckpointCallback
from mbrl_gym.agents.imagined_ppo import first_observations
from mbrl_gym.errors import DamagedFileError, InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import GaussianEnsemble
from mbrl_gym.wrappers import ImaginedVectorEnv

TINY = {
    "learning_starts": 30,
    "train_freq": 20,
    "model_kwargs": {"hidden": [8], "max_epochs": 3},
    "ppo_kwargs": {"n_steps": 8, "batch_size": 16, "n_epochs": 2},
    "imagined_envs": 4,
    "horizon": 10,
    "updates": 2,
    "check_freq": 1,
    "check_episodes": 2,
}
KINDS = [("dummy", 1), ("dummy", 3), ("native", 3)]


def tiny(env="mbrl/Arm-v0", seed=3, policy="MlpPolicy", **settings):
    return ImaginedPPO(policy, env, seed=seed, device="cpu", **{**TINY, **settings})


def state(agent):
    """Return all arrays that decide what an agent does next."""
    weights = {**agent.policy.state_dict(), **{f"model.{k}": v for k, v in agent.world_model.state_dict().items()}}
    arrays = {name: value.numpy() for name, value in weights.items()}
    for number, each in agent.policy.optimizer.state_dict()["state"].items():
        arrays |= {f"optimiser.{number}.{name}": value.numpy() for name, value in each.items()}
    return arrays | agent.recorded()._asdict()


def assert_same(first, second):
    mine, other = state(first), state(second)
    assert mine.keys() == other.keys()
    for name in mine:
        assert_array_equal(mine[name], other[name], err_msg=name)


def same_weights(first, second):
    mine, other = first.policy.state_dict(), second.policy.state_dict()
    return all(torch.equal(mine[name], other[name]) for name in mine)


class Rounds(Logger):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__(None, [])
        self.dumped = []

    def dump(self, step=0):
        self.dumped.append((step, dict(self.name_to_value)))
        super().dump(step)


class Steps(BaseCallback):
    """Keeps the numbers of steps at which it is called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        self.seen.append(self.num_timesteps)
        np.random.random(3), torch.rand(2)  # which must not matter
        return True


# Learning ---------------------------------------------------------------------------------------------------------


def test_a_dream_of_few_steps_teaches_more_than_the_steps_themselves():
    real, model = Monitor(gym.make("CartPole-v1")), {"members": 3, "hidden": [32, 32], "max_epochs": 40}
    settings = {
        "learning_starts": 300,
        "train_freq": 300,
        "horizon": 100,
        "updates": 6,
        "check_freq": 3,
        "check_episodes": 10,
    }
    dreamer = ImaginedPPO("MlpPolicy", "CartPole-v1", model_kwargs=model, seed=0, device="cpu", **settings).learn(300)
    plain = PPO("MlpPolicy", "CartPole-v1", n_steps=64, learning_rate=1e-3, seed=0, device="cpu").learn(300)
    returns = []
    for agent in (dreamer, plain):
        real.reset(seed=0)
        returns.append(evaluate_policy(agent, real, 10)[0])
    assert returns[0] > 2 * returns[1]
    assert returns[0] > 100


def test_rounds_begin_with_the_random_steps_and_come_every_so_many_steps():
    agent, logger = tiny(), Rounds()
    agent.set_logger(logger)
    agent.learn(80)
    assert [step for step, _ in logger.dumped] == [40, 60, 80]  # 30 random steps are over at 40
    assert [values["model/transitions"] for _, values in logger.dumped] == [40, 60, 80]
    assert agent.rounds == 3


def test_the_first_round_comes_with_the_last_random_step():
    agent = tiny(learning_starts=20).learn(20)
    assert agent.rounds == 1
    twin = tiny(learning_starts=20)
    expected = np.array([twin.action_space.sample() for _ in range(20)])
    assert_allclose(agent.recorded().action, expected, atol=1e-6)


def test_the_log_tells_of_model_dream_and_time():
    agent, logger = tiny("CartPole-v1"), Rounds()
    agent.set_logger(logger)
    agent.learn(80)
    _, values = logger.dumped[-1]
    for name in ("model/loss", "model/holdout_loss", "rollout/ep_rew_mean", "train/value_loss"):
        assert np.isfinite(values[name]), name
    assert 0 < values["imagined/return_before"] <= values["imagined/return"] <= 10  # a reward of 1 for at most 10 steps
    assert values["imagined/improved_share"] in (0, 0.5, 1)  # two members judge
    assert values["imagined/updates"] in (1, 2)
    assert values["imagined/timesteps"] == agent.imagined_timesteps > 0
    assert agent.imagined_timesteps % (8 * 4) == 0
    assert all(values[f"time/{part}_seconds"] > 0 for part in ("fit", "imagine", "update", "check"))


def test_logs_can_be_rarer():
    agent, logger = tiny(), Rounds()
    agent.set_logger(logger)
    agent.learn(80, log_interval=2)
    assert [step for step, _ in logger.dumped] == [60]


def test_imagined_steps_are_not_counted_as_real(monkeypatch):
    env, steps, dreamed = environment(("dummy", 3)), [], []
    step, advance = env.step_async, ImaginedVectorEnv.step
    monkeypatch.setattr(env, "step_async", lambda actions: (steps.append(len(actions)), step(actions)))
    monkeypatch.setattr(ImaginedVectorEnv, "step", lambda self, actions: (dreamed.append(1), advance(self, actions))[1])
    callback = Steps()
    agent = tiny(env).learn(120, callback)
    assert agent.num_timesteps == sum(steps) == 120
    assert callback.seen == list(range(3, 121, 3))
    assert len(dreamed) > len(steps)
    assert len(agent.recorded().reward) == 120


def test_the_policy_trains_in_the_members_that_do_not_judge_it(monkeypatch):
    used = []
    begin = ImaginedVectorEnv.__init__

    def spy(self, model, start_states, *args, **kwargs):
        used.append((model.elite_members.tolist(), start_states))
        begin(self, model, start_states, *args, **kwargs)

    monkeypatch.setattr(ImaginedVectorEnv, "__init__", spy)
    agent = tiny("CartPole-v1").learn(40)
    (judges, firsts), (training, starts) = used
    assert (judges, training) == ([3, 4], [0, 1, 2])
    assert len(starts.reward) == 40
    episodes = len(set(agent.recorded().episode))
    assert len(firsts) == episodes > 1
    assert np.abs(firsts).max() <= 0.05  # CartPole starts there
    used.clear()
    tiny("CartPole-v1", held_out=0, model="mlp").learn(40)
    assert [members for members, _ in used] == [[0], [0]]


def test_first_observations_of_episodes_side_by_side():
    agent = tiny(environment(("dummy", 3), "CartPole-v1")).learn(90)
    data = agent.recorded()
    expected = [data.observation[np.flatnonzero(data.episode == each)[0]] for each in sorted(set(data.episode))]
    assert len(expected) > 3
    assert_array_equal(first_observations(data), expected)


def test_rewards_are_scaled_by_the_spread_of_imagined_returns():
    agent = tiny("Pendulum-v1").learn(40)
    env = agent.ppo.env
    assert isinstance(env, VecNormalize)
    assert env.gamma == agent.ppo.gamma == 0.99
    assert env.ret_rms.count == pytest.approx(agent.imagined_timesteps, abs=0.01)
    assert env.ret_rms.var > 10
    assert not isinstance(tiny(normalize_reward=False).learn(40).ppo.env, VecNormalize)


def test_schedules_follow_real_steps():
    agent, logger = tiny(ppo_kwargs={**TINY["ppo_kwargs"], "learning_rate": lambda left: left}), Rounds()
    agent.set_logger(logger)
    agent.learn(100)
    rates = [values["train/learning_rate"] for _, values in logger.dumped]
    assert_allclose(rates, [0.6, 0.4, 0.2, 0.0], atol=1e-9)


# Spaces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "policy", "settings"),
    [
        ("mbrl/Arm-v0", "MlpPolicy", {}),
        ("Pendulum-v1", "MlpPolicy", {"model": "linear"}),
        ("CartPole-v1", "MlpPolicy", {"model": "mlp"}),
        ("mbrl/Drone-v0", "MlpPolicy", {"model": "exact"}),
        ("mbrl/Drone-v0", "MlpPolicy", {"reward": "exact", "termination": "exact"}),
        ("FrozenLake-v1", "MlpPolicy", {"model": "tabular"}),
        ("mbrl/ArmPickPlace-v0", "MultiInputPolicy", {}),
        ("mbrl/Bandit-v0", ActorCriticPolicy, {}),
    ],
)
def test_it_learns_and_predicts_with_all_spaces_and_models(env, policy, settings):
    if settings.get("model", "ensemble") not in ("ensemble", "mlp"):
        settings = {**settings, "model_kwargs": None}
    agent = tiny(env, policy=policy, **settings).learn(60)
    observation, _ = gym.make(env).reset(seed=0)
    action, _ = agent.predict(observation, deterministic=True)
    assert agent.action_space.contains(action)
    assert agent.rounds == 2
    assert agent.imagined_timesteps > 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_observation_or_many(kind):
    agent = tiny(environment(kind)).learn(60)
    many = native("mbrl/Arm-v0", 5).reset()
    actions, _ = agent.predict(many, deterministic=True)
    assert_allclose(actions, [agent.predict(row, deterministic=True)[0] for row in many], atol=1e-6)
    assert actions.shape == (5, 2)


def test_the_model_sees_actions_in_the_units_of_the_environment():
    data = tiny("Pendulum-v1").learn(60).recorded()  # torques within [-2, 2]
    assert 1.5 < np.abs(data.action).max() <= 2.0
    angle = np.arctan2(data.observation[:, 1], data.observation[:, 0])
    speed = data.observation[:, 2] + (15 * np.sin(angle) + 3 * data.action[:, 0]) * 0.05
    assert_allclose(data.next_observation[:, 2], np.clip(speed, -8, 8), atol=1e-4)


# Randomness -------------------------------------------------------------------------------------------------------


def test_same_seed_same_weights_whatever_the_global_generators_do():
    torch.manual_seed(0)
    first = tiny().learn(80)
    torch.manual_seed(1)
    np.random.seed(5)
    second = tiny().learn(80, Steps())
    assert_same(first, second)
    assert not same_weights(first, tiny(seed=4).learn(80))


def test_the_global_generators_are_left_alone():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    agent = tiny("CartPole-v1").learn(60)
    agent.predict(np.zeros((50, 4), np.float32))
    assert torch.equal(before[0], torch.get_rng_state())
    assert_array_equal(before[1], np.random.get_state()[1])


def test_deterministic_predictions_do_not_disturb_training_but_others_are_drawn():
    agent, twin = tiny(), tiny()
    observation = np.ones(8, np.float32)
    for _ in range(2):
        agent.learn(40, reset_num_timesteps=False)
        twin.learn(40, reset_num_timesteps=False)
        assert_array_equal(*(agent.predict(observation, deterministic=True)[0] for _ in range(2)))
    assert_same(agent, twin)
    assert not np.array_equal(*(agent.predict(observation)[0] for _ in range(2)))


# Callbacks and files ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:rich is experimental")  # of the progress bar
def test_callbacks_and_progress_bar(tmp_path):
    evaluation = EvalCallback(
        Monitor(gym.make("mbrl/Arm-v0")),
        eval_freq=50,
        n_eval_episodes=1,
        log_path=tmp_path,
        best_model_save_path=tmp_path,
    )
    model = EvaluateModelCallback(50, "mbrl/Arm-v0", steps=60, horizons=(1, 2), starts=5)
    agent = tiny().learn(100, [evaluation, model], progress_bar=True)
    assert evaluation.evaluations_timesteps == [50, 100]
    assert [step for step, _ in model.reports] == [60, 100]
    assert len(agent.ep_info_buffer) == 2
    assert ImaginedPPO.load(tmp_path / "best_model.zip").num_timesteps in (50, 100)


def test_a_loaded_agent_predicts_the_same(tmp_path):
    agent = tiny(seed=None).learn(60)
    agent.save(tmp_path / "agent")
    observations = native("mbrl/Arm-v0", 4).reset()
    for env in (None, gym.make("mbrl/Arm-v0")):
        loaded = ImaginedPPO.load(tmp_path / "agent", env, device="cpu")
        assert_array_equal(*(each.predict(observations, deterministic=True)[0] for each in (agent, loaded)))
        assert (loaded.num_timesteps, loaded.rounds, loaded.imagined_timesteps) == (60, 2, agent.imagined_timesteps)
        for name, value in agent.world_model.state_dict().items():
            assert torch.equal(value, loaded.world_model.state_dict()[name])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("env_id", ["mbrl/Arm-v0", "mbrl/Bandit-v0"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, kind, env_id):
    count = kind[1]
    settings = {"learning_starts": 30 * count}
    whole = tiny(environment(kind, env_id), **settings).learn(100 * count)
    half = tiny(environment(kind, env_id), **settings).learn(60 * count)  # in the middle of an episode
    half.save(tmp_path / "half.zip", include=["replay_buffer"])
    half.learn(20 * count, reset_num_timesteps=False)  # what the first run did later does not matter
    resumed = ImaginedPPO.load(tmp_path / "half.zip", environment(kind, env_id), device="cpu")
    resumed.learn(40 * count, reset_num_timesteps=False)
    assert_same(whole, resumed)
    for name in ("num_timesteps", "rounds", "imagined_timesteps", "_n_updates"):
        assert getattr(whole, name) == getattr(resumed, name)


def test_a_run_resumed_from_its_checkpoint_equals_an_uninterrupted_one(tmp_path):
    path = tmp_path / "checkpoint.zip"
    whole = tiny("mbrl/Drift-v0").learn(120, ResumableCheckpointCallback(path, every=50))
    resumed = ImaginedPPO.load(path, gym.make("mbrl/Drift-v0"), device="cpu")
    assert resumed.num_timesteps == 60
    resumed.learn(60, reset_num_timesteps=False)
    assert_same(whole, resumed)


def test_what_files_cannot_hold_has_to_be_passed_again(tmp_path):
    def reward(observation, action, following):
        return -following[..., 0].abs()

    given = {"reward": reward, "ppo_kwargs": {**TINY["ppo_kwargs"], "clip_range": lambda left: 0.2 * left}}
    tiny("mbrl/Drift-v0", **given).learn(40).save(tmp_path / "agent.zip")
    with pytest.raises(InvalidSettingError, match="pass ppo_kwargs, reward to load"):
        ImaginedPPO.load(tmp_path / "agent.zip")
    assert ImaginedPPO.load(tmp_path / "agent.zip", **given).world_model.reward_fn is reward
    with pytest.raises(DamagedFileError, match=r"use ImaginedPPO\.load"):
        MPC.load(tmp_path / "agent.zip")


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "iCEM"}, "policy must be one of MlpPolicy, CnnPolicy, MultiInputPolicy"),
        ({"model": "crystal ball"}, "model must be one of ensemble"),
        ({"reward": 3}, "reward must be"),
        ({"ppo_kwargs": {"n_step": 3}}, "ppo_kwargs holds 'n_step', but ImaginedPPO takes batch_size"),
        ({"learning_starts": 1}, "learning_starts must be at least 2"),
        ({"updates": 0}, "updates must be at least 1"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"improved_share": 1.5}, "improved_share must be above 0 and at most 1"),
        ({"held_out": 5}, "held_out must be between 0 and 4"),
        ({"held_out": 1, "model": "linear", "model_kwargs": None}, "held_out must be between 0 and 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(InvalidSettingError, match=message):
        tiny(**settings)


def test_environments_that_cannot_be_imagined_are_refused():
    with pytest.raises(InvalidSettingError, match="give horizon"):
        tiny(Offset0(), horizon=None)
    with pytest.raises(UnsupportedSpaceError, match="count choices from 0"):
        tiny(Offset())
    with pytest.raises(InvalidSettingError, match="leave out VecNormalize"):
        tiny(VecNormalize(DummyVecEnv([lambda: gym.make("mbrl/Arm-v0")])))
    assert tiny("FrozenLake-v1", model="tabular", model_kwargs=None, horizon=None)._horizon() == 100


class Offset0(Offset):
    action_space = gym.spaces.Discrete(3)


def test_an_own_model_is_taken():
    space = gym.make("Pendulum-v1")
    own = GaussianEnsemble(space.observation_space, space.action_space, members=3, hidden=[8], max_epochs=1)
    agent = tiny("Pendulum-v1", model=own).learn(40)
    assert agent.world_model is own
    assert own.fitted
    assert agent.held_out == 1
