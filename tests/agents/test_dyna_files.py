"""Files of Dyna agents: what is saved, resumed exactly, refused."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_toys import environment
from dyna_toys import CLASSES, Corridor, dyna, small, weights
from numpy.testing import assert_array_equal
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from torch import nn

from mbrl_gym.agents import MBPO, DynaDQN, DynaTD3, ResumableCheckpointCallback
from mbrl_gym.agents.replay import transitions
from mbrl_gym.agents.streams import RandomStreams
from mbrl_gym.errors import DamagedFileError, InvalidSettingError
from mbrl_gym.models import AnalyticModel

KINDS = [("dummy", 1), ("dummy", 3), ("native", 3)]
AGENTS = pytest.mark.parametrize("agent_kind", CLASSES, ids=lambda kind: kind.__name__)


def everything(agent):
    """Return all arrays that a run leaves behind."""
    modules, variables = agent._get_torch_save_params()
    learned = {name: value.numpy() for name, value in weights(agent).items()}
    learned |= {name: getattr(agent, name).detach().numpy() for name in variables}
    imagined = dict(enumerate(agent.replay_buffer.imagined.state()["rows"]))
    real = transitions(agent.replay_buffer, agent.policy)._asdict()
    assert "policy" in modules
    return {**learned, **imagined, **real}


def assert_same(first, second):
    mine, other = everything(first), everything(second)
    assert mine.keys() == other.keys()
    for name in mine:
        assert_array_equal(mine[name], other[name], err_msg=name)
    assert [e["r"] for e in first.ep_info_buffer] == [e["r"] for e in second.ep_info_buffer]
    assert first.num_timesteps == second.num_timesteps


def ornstein(kind):
    """Return settings with noise that remembers, where the algorithm takes noise."""
    if kind is not DynaTD3:
        return {}
    return {"action_noise": OrnsteinUhlenbeckActionNoise(np.zeros(2), np.full(2, 0.3))}


@AGENTS
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, kind, agent_kind):
    env_id, count = CLASSES[agent_kind], kind[1]
    whole = dyna(agent_kind, environment(kind, env_id), **ornstein(agent_kind)).learn(95 * count)
    half = dyna(agent_kind, environment(kind, env_id), **ornstein(agent_kind)).learn(60 * count)
    half.predict(half._last_obs, deterministic=False)
    half.save(tmp_path / "half.zip", include=["replay_buffer"])
    half.learn(5 * count, reset_num_timesteps=False)  # what the first run did later does not matter
    torch.rand(3)
    resumed = agent_kind.load(tmp_path / "half.zip", environment(kind, env_id), **ornstein(agent_kind))
    assert resumed._last_obs is not None
    resumed.learn(35 * count, reset_num_timesteps=False)
    assert_same(whole, resumed)
    observations = environment(kind, env_id).reset()
    whole.predict(observations, deterministic=False)  # as the other one did before
    assert_array_equal(*(agent.predict(observations, deterministic=False)[0] for agent in (whole, resumed)))


@AGENTS
def test_a_run_resumed_from_its_checkpoint_equals_an_uninterrupted_one(tmp_path, agent_kind):
    path, env_id = tmp_path / "checkpoint.zip", CLASSES[agent_kind]
    whole = dyna(agent_kind).learn(90, callback=ResumableCheckpointCallback(path, every=30))
    resumed = agent_kind.load(path, gym.make(env_id))
    assert resumed.num_timesteps in range(60, 90)
    resumed.learn(90 - resumed.num_timesteps, reset_num_timesteps=False)
    assert_same(whole, resumed)


@AGENTS
def test_a_loaded_agent_predicts_the_same_and_learns_on(tmp_path, agent_kind):
    agent = dyna(agent_kind).learn(60)
    agent.save(tmp_path / "agent")
    observations = environment(("native", 4), CLASSES[agent_kind]).reset()
    loaded = agent_kind.load(tmp_path / "agent")
    assert_array_equal(*(each.predict(observations, deterministic=True)[0] for each in (agent, loaded)))
    assert weights(loaded).keys() == weights(agent).keys()
    for name, value in weights(agent).items():
        assert_array_equal(weights(loaded)[name], value, err_msg=name)
    loaded = agent_kind.load(tmp_path / "agent", gym.make(CLASSES[agent_kind]))
    fits = []
    loaded.world_model.fit = fits.append
    loaded.learn(20, reset_num_timesteps=False)
    assert fits == []  # a few new transitions must not replace what the model knows
    assert len(loaded.replay_buffer.imagined) > 0
    assert loaded.num_timesteps == 80


def test_optimisers_and_the_entropy_coefficient_are_saved(tmp_path):
    agent = dyna(MBPO, ent_coef="auto_0.3").learn(60)
    agent.save(tmp_path / "agent.zip")
    loaded = MBPO.load(tmp_path / "agent.zip")
    assert torch.equal(loaded.log_ent_coef, agent.log_ent_coef)
    assert loaded.log_ent_coef.requires_grad
    for name in ("actor.optimizer", "critic.optimizer", "ent_coef_optimizer"):
        mine, other = agent, loaded
        for part in name.split("."):
            mine, other = getattr(mine, part), getattr(other, part)
        mine, other = mine.state_dict(), other.state_dict()
        assert mine["param_groups"] == other["param_groups"]
        for parameter, values in mine["state"].items():
            for key, value in values.items():
                assert torch.equal(value, other["state"][parameter][key])


def test_without_a_model_files_hold_none(tmp_path):
    agent = MBPO("MlpPolicy", "mbrl/Drift-v0", model=None, real_ratio=1, seed=0, **small()).learn(45)
    agent.save(tmp_path / "agent.zip", include=["replay_buffer"])
    loaded = MBPO.load(tmp_path / "agent.zip", gym.make("mbrl/Drift-v0"))
    assert loaded.world_model is None
    agent.learn(10, reset_num_timesteps=False)
    loaded.learn(10, reset_num_timesteps=False)
    assert_same(agent, loaded)


def test_functions_classes_and_models_have_to_be_passed_again(tmp_path):
    def reward(observation, action, following):
        return -following[..., 0].abs()

    model = AnalyticModel(
        Corridor.observation_space,
        Corridor.action_space,
        dynamics_fn=lambda x, a: x,
        reward_fn=lambda x, a, after: after[..., 0],
    )
    network = {"policy_kwargs": {"net_arch": [8], "activation_fn": nn.Tanh}}
    given = {"reward": reward, "learning_rate": lambda remaining: 1e-3 * remaining, **network}
    agent = dyna(MBPO, **given).learn(45)
    agent.save(tmp_path / "agent.zip")
    with pytest.raises(InvalidSettingError, match="pass reward, policy_kwargs, learning_rate to load"):
        MBPO.load(tmp_path / "agent.zip")
    loaded = MBPO.load(tmp_path / "agent.zip", **given)
    observation = np.ones(1, np.float32)
    assert_array_equal(*(each.predict(observation, deterministic=True)[0] for each in (agent, loaded)))
    dyna(DynaDQN, Corridor(), model=model, model_kwargs=None).save(tmp_path / "other.zip")
    with pytest.raises(InvalidSettingError, match="model"):
        DynaDQN.load(tmp_path / "other.zip")
    assert DynaDQN.load(tmp_path / "other.zip", model=model).world_model is model


def test_the_exact_reward_survives_with_the_constants_of_the_task(tmp_path):
    dyna(MBPO, gym.make("mbrl/Arm-v0", link_1=0.5), reward="exact").save(tmp_path / "agent.zip")
    assert MBPO.load(tmp_path / "agent.zip").world_model.reward_fn.__self__.params.link_1 == 0.5


def test_damaged_and_foreign_files_are_refused(tmp_path):
    dyna(MBPO).save(tmp_path / "agent.zip", include=["replay_buffer"])
    with pytest.raises(DamagedFileError, match=r"holds a MBPO, not a DynaTD3: use MBPO\.load"):
        DynaTD3.load(tmp_path / "agent.zip")
    (tmp_path / "broken.zip").write_bytes((tmp_path / "agent.zip").read_bytes()[:2000])
    with pytest.raises(DamagedFileError, match=r"broken\.zip is not a complete"):
        MBPO.load(tmp_path / "broken.zip")


def test_streams_go_on_where_they_stopped_whatever_others_draw():
    def draw():
        return np.random.normal(), torch.rand(1).item(), space.sample()

    space = gym.spaces.Discrete(10**6, seed=0)
    streams, twin = RandomStreams(5, space=space), RandomStreams(5, space=space)
    np.random.seed(0), torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state(), space.np_random.bit_generator.state
    with streams:
        first = [draw() for _ in range(3)]
        with streams:  # counts as the same block
            first.append(draw())
        first.append(draw())
    assert not streams.active
    assert_array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert space.np_random.bit_generator.state == before[2]
    second = []
    for _ in range(5):
        draw()
        with twin:
            second.append(draw())
    assert first == second
    np.random.seed(5)
    assert np.random.normal() == first[0][0]
    stored = streams.state()
    with streams:
        expected = draw()
    twin.restore(stored)
    with twin:
        assert draw() == expected


def test_streams_are_taken_out_when_something_goes_wrong():
    before, streams = torch.get_rng_state(), RandomStreams(5)

    def fail():
        with streams:
            torch.rand(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(torch.get_rng_state(), before)
    assert not streams.active
