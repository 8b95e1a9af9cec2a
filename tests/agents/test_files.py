"""Files: what is saved, resumed exactly, refused."""

import io
import json
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_toys import TINY, environment, native
from numpy.testing import assert_array_equal
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from mbrl_gym.agents import CEM, MPC, PETS, ResumableCheckpointCallback
from mbrl_gym.agents.replay import transitions
from mbrl_gym.agents.resume import restore_env, snapshot_env
from mbrl_gym.errors import DamagedFileError, InvalidSettingError, MbrlGymError
from mbrl_gym.models import saved

KINDS = [("dummy", 1), ("dummy", 3), ("native", 3)]


def everything(agent):
    """Return all arrays that a run leaves behind."""
    buffer, count = agent.replay_buffer, agent.replay_buffer.pos
    rows = {name: getattr(buffer, name)[:count] for name in ("actions", "rewards", "dones")}
    rows["observations"] = transitions(buffer, agent.policy).observation
    return {**{name: value.numpy() for name, value in agent.policy.state_dict().items()}, **rows}


def assert_same(first, second):
    mine, other = everything(first), everything(second)
    assert mine.keys() == other.keys()
    for name in mine:
        assert_array_equal(mine[name], other[name], err_msg=name)


def test_a_loaded_agent_predicts_the_same(tiny_agent, tmp_path):
    agent = tiny_agent(seed=None).learn(60)
    observations = native("mbrl/Arm-v0", 4).reset()
    agent.save(tmp_path / "agent")
    for loaded in (MPC.load(tmp_path / "agent"), MPC.load(tmp_path / "agent.zip", gym.make("mbrl/Arm-v0"))):
        expected, state = agent.predict(observations, deterministic=True)
        actual, loaded_state = loaded.predict(observations, deterministic=True)
        assert_array_equal(actual, expected)
        for mine, other in zip(state, loaded_state, strict=True):
            assert_array_equal(mine, other)
        assert loaded.num_timesteps == 60


def test_a_stream_will_do(tiny_agent):
    agent, stream = tiny_agent().learn(40), io.BytesIO()
    agent.save(stream)
    loaded = MPC.load(io.BytesIO(stream.getvalue()))
    observation = np.zeros(8, np.float32)
    assert_array_equal(*(a.predict(observation, deterministic=True)[0] for a in (agent, loaded)))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_agent, tmp_path, kind):
    count = kind[1]
    settings = {"exploration": 0.3, "learning_starts": 30 * count}
    whole = tiny_agent(environment(kind), **settings).learn(140 * count)
    half = tiny_agent(environment(kind), **settings).learn(60 * count)  # in the middle of an episode
    half.save(tmp_path / "half.zip", include=["replay_buffer"])
    half.learn(20 * count, reset_num_timesteps=False)  # what the first run did later does not matter
    np.random.random(3)
    torch.rand(3)
    resumed = MPC.load(tmp_path / "half.zip", environment(kind))
    resumed.learn(80 * count, reset_num_timesteps=False)
    assert_same(whole, resumed)
    assert resumed.num_timesteps == whole.num_timesteps == 140 * count
    assert [e["r"] for e in resumed.ep_info_buffer] == [e["r"] for e in whole.ep_info_buffer]


@pytest.mark.parametrize("env_id", ["mbrl/Bandit-v0", "mbrl/ArmPickPlace-v0"])
@pytest.mark.parametrize("kind", KINDS[1:], ids=str)
def test_runs_with_choices_or_parts_are_resumed_exactly(tiny_agent, tmp_path, kind, env_id):
    count = kind[1]
    settings = {"exploration": 0.3, "reward": "learned"}
    whole = tiny_agent(environment(kind, env_id), **settings).learn(45 * count)
    tiny_agent(environment(kind, env_id), **settings).learn(20 * count).save(
        tmp_path / "half.zip", include=["replay_buffer"]
    )
    resumed = MPC.load(tmp_path / "half.zip", environment(kind, env_id))
    assert resumed._last_obs is not None
    resumed.learn(25 * count, reset_num_timesteps=False)
    assert_same(whole, resumed)
    assert resumed.num_timesteps == whole.num_timesteps
    observations = environment(kind, env_id).reset()
    assert_array_equal(*(agent.predict(observations, deterministic=True)[0] for agent in (whole, resumed)))


def test_a_run_resumed_from_its_checkpoint_equals_an_uninterrupted_one(tiny_agent, tmp_path):
    path = tmp_path / "checkpoint.zip"
    whole = tiny_agent("mbrl/Drift-v0").learn(130, callback=ResumableCheckpointCallback(path, every=50))
    resumed = MPC.load(path, gym.make("mbrl/Drift-v0"))
    assert resumed.num_timesteps in range(100, 130)
    resumed.learn(130 - resumed.num_timesteps, reset_num_timesteps=False)
    assert_same(whole, resumed)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.zip"]  # no temporary files


def test_checkpoints_can_keep_every_step(tiny_agent, tmp_path):
    tiny_agent().learn(80, callback=ResumableCheckpointCallback(tmp_path / "at_{steps}.zip", every=20))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["at_20.zip", "at_40.zip", "at_60.zip"]


def test_the_checkpoint_callback_refuses_other_agents(tmp_path):
    with pytest.raises(InvalidSettingError, match="CheckpointCallback"):
        PPO("MlpPolicy", "mbrl/Arm-v0", n_steps=8, batch_size=8).learn(8, ResumableCheckpointCallback(tmp_path / "x"))


def test_stable_baselines_own_checkpoint_callback_works(tiny_agent, tmp_path):
    agent = tiny_agent().learn(40, callback=CheckpointCallback(20, tmp_path, save_replay_buffer=True))
    loaded = MPC.load(tmp_path / "rl_model_40_steps")
    loaded.load_replay_buffer(tmp_path / "rl_model_replay_buffer_40_steps.pkl")
    assert_array_equal(loaded.replay_buffer.rewards[:39], agent.replay_buffer.rewards[:39])


@pytest.mark.parametrize("force_reset", [False, True])
def test_without_the_state_of_the_environment_a_new_episode_starts(tiny_agent, tmp_path, force_reset):
    def make():
        pendulum = gym.make("Pendulum-v1")
        return pendulum if force_reset else gym.wrappers.TransformReward(pendulum, float)  # may hold anything

    agent = tiny_agent(make(), reward="learned").learn(60)
    agent.save(tmp_path / "agent.zip", include=["replay_buffer"])
    resumed = MPC.load(tmp_path / "agent.zip", make(), force_reset=force_reset)
    assert resumed._last_obs is None
    resumed.learn(40, reset_num_timesteps=False)
    assert resumed.replay_buffer.pos == 100


def test_an_environment_in_other_wrappers_starts_a_new_episode(tiny_agent, tmp_path):
    agent = tiny_agent(environment(("dummy", 1))).learn(60)
    agent.save(tmp_path / "agent.zip", include=["replay_buffer"])
    assert MPC.load(tmp_path / "agent.zip", environment(("native", 1)))._last_obs is None


def test_snapshots_cover_the_episode_statistics():
    monitored = VecMonitor(native("mbrl/Drift-v0", 2))
    monitored.seed(0)
    monitored.reset()
    actions = np.zeros((2, 1), np.float32)
    for _ in range(10):
        monitored.step(actions)
    snapshot = snapshot_env(monitored)
    expected = [monitored.step(actions)[:3] for _ in range(95)]
    other = VecMonitor(native("mbrl/Drift-v0", 2))
    assert restore_env(other, snapshot)
    actual = [other.step(actions)[:3] for _ in range(95)]
    for mine, theirs in zip(actual, expected, strict=True):
        for array, wanted in zip(mine, theirs, strict=True):
            assert_array_equal(array, wanted)
    assert other.episode_count == monitored.episode_count == 2
    assert_array_equal(other.episode_returns, monitored.episode_returns)


def test_callables_have_to_be_passed_again(tmp_path):
    def reward(observation, action, following):
        return -following[..., 0].abs()

    agent = MPC("iCEM", "mbrl/Drift-v0", seed=0, **{**TINY, "reward": reward}).learn(40)
    agent.save(tmp_path / "agent.zip")
    with pytest.raises(InvalidSettingError, match="reward"):
        MPC.load(tmp_path / "agent.zip")
    others = {"reward": reward, "learning_starts": 7, "lr_schedule": lambda _: 0.0}  # no agent of ours has the last one
    for given in ({"reward": reward}, {"custom_objects": others}):
        loaded = MPC.load(tmp_path / "agent.zip", **given)
        observation = np.ones(1, np.float32)
        assert_array_equal(*(a.predict(observation, deterministic=True)[0] for a in (agent, loaded)))
    assert loaded.learning_starts == 7


def test_cost_and_value_have_to_be_passed_again_but_the_exact_cost_has_not(tmp_path):
    def cost(following):
        return following[..., 0]

    def value(observation):
        return -observation[..., 0].abs()

    functions = {"cost": cost, "value": value}
    MPC("iCEM", "mbrl/Drift-v0", seed=0, cost_limit=2.0, time_budget_ms=1e4, **functions, **TINY).save(
        tmp_path / "agent.zip"
    )
    with pytest.raises(InvalidSettingError, match="cost, value"):
        MPC.load(tmp_path / "agent.zip")
    loaded = MPC.load(tmp_path / "agent.zip", **functions)
    objective = loaded.planner.objective
    assert (objective.cost, objective.value, objective.cost_limit) == (cost, value, 2.0)
    assert loaded.planner.time_budget_ms == 1e4
    MPC("iCEM", "mbrl/DroneObstacles-v0", seed=0, cost="exact", **TINY).save(tmp_path / "drone.zip")
    observation = torch.as_tensor(gym.make("mbrl/DroneObstacles-v0").reset(seed=0)[0])
    cost = MPC.load(tmp_path / "drone.zip").planner.objective.cost(observation)
    assert cost.item() == pytest.approx(-observation[12].item(), abs=1e-5)


def test_a_planner_object_has_to_be_passed_again(tmp_path):
    planner = CEM(gym.make("mbrl/Drift-v0").action_space, horizon=3)
    MPC(planner, "mbrl/Drift-v0", seed=0).save(tmp_path / "agent.zip")
    with pytest.raises(InvalidSettingError, match="policy"):
        MPC.load(tmp_path / "agent.zip")
    assert MPC.load(tmp_path / "agent.zip", policy=planner).planner is planner


def test_the_exact_reward_survives_with_the_constants_of_the_task(tiny_agent, tmp_path):
    agent = tiny_agent(gym.make("mbrl/Arm-v0", link_1=0.5)).learn(40)
    agent.save(tmp_path / "agent.zip")
    task = MPC.load(tmp_path / "agent.zip").world_model.reward_fn.__self__
    assert task.params.link_1 == 0.5


def content(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, parts):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("agent") / "agent.zip"
    MPC("iCEM", "mbrl/Drift-v0", seed=0, **TINY).learn(40).save(path, include=["replay_buffer"])
    return path


def test_truncated_files_give_one_clear_error(agent_file, tmp_path):
    data = agent_file.read_bytes()
    for length in (0, 1, 100, len(data) // 2, len(data) - 1):
        broken = tmp_path / "broken.zip"
        broken.write_bytes(data[:length])
        with pytest.raises(DamagedFileError, match=r"broken\.zip is not a complete mbrl-gym file"):
            MPC.load(broken)


def test_a_flipped_byte_is_noticed(agent_file, tmp_path):
    data = bytearray(agent_file.read_bytes())
    with zipfile.ZipFile(agent_file) as archive:
        info = archive.getinfo("tensors.safetensors")
    data[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 0xFF
    (tmp_path / "broken.zip").write_bytes(data)
    with pytest.raises(DamagedFileError):
        MPC.load(tmp_path / "broken.zip")


@pytest.mark.parametrize("part", ["content.json", "arrays.npz", "tensors.safetensors"])
def test_missing_or_foreign_parts_are_noticed(agent_file, tmp_path, part):
    parts = content(agent_file)
    write(tmp_path / "missing.zip", {name: data for name, data in parts.items() if name != part})
    write(tmp_path / "foreign.zip", {**parts, part: b"something else"})
    for name in ("missing.zip", "foreign.zip"):
        with pytest.raises(DamagedFileError, match=name):
            MPC.load(tmp_path / name)


@pytest.mark.parametrize("lost", ["arguments", "state"])
def test_incomplete_content_is_noticed(agent_file, tmp_path, lost):
    parts = content(agent_file)
    tree = json.loads(parts["content.json"])
    del tree["content"][lost]
    write(tmp_path / "lost.zip", {**parts, "content.json": json.dumps(tree)})
    with pytest.raises(DamagedFileError):
        MPC.load(tmp_path / "lost.zip")


def test_foreign_files_are_refused(agent_file, tmp_path):
    PPO("MlpPolicy", "mbrl/Arm-v0", n_steps=8, batch_size=8).save(tmp_path / "ppo.zip")
    with pytest.raises(DamagedFileError, match=r"ppo\.zip"):
        MPC.load(tmp_path / "ppo.zip")
    with pytest.raises(DamagedFileError, match=r"holds a MPC, not a PETS: use MPC\.load"):
        PETS.load(agent_file)
    with pytest.raises(FileNotFoundError):
        MPC.load(tmp_path / "nothing.zip")


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code from the file was run')",))


def test_a_file_cannot_run_code(agent_file, tmp_path):
    parts, bomb = content(agent_file), pickle.dumps(Bomb())
    array = io.BytesIO()
    np.savez(array, **{"/state/resume/last_obs": np.array([Bomb()], dtype=object)})
    stream = io.BytesIO()
    torch.save({"x": Bomb()}, stream)
    for part, data in (
        ("arrays.npz", array.getvalue()),
        ("arrays.npz", bomb),
        ("tensors.safetensors", stream.getvalue()),
        ("tensors.safetensors", bomb),
        ("content.json", bomb),
    ):
        write(tmp_path / "bomb.zip", {**parts, part: data})
        with pytest.raises(DamagedFileError):
            MPC.load(tmp_path / "bomb.zip")


def test_the_task_in_a_file_is_no_door_either(agent_file, tmp_path):
    parts = content(agent_file)
    tree = json.loads(parts["content.json"])
    tree["content"]["state"]["task"] = {"id": "this_module_does_not_exist:Evil-v0", "kwargs": {}}
    write(tmp_path / "evil.zip", {**parts, "content.json": json.dumps(tree)})
    with pytest.raises(InvalidSettingError, match="publishes its task"):  # and no import was tried
        MPC.load(tmp_path / "evil.zip")


def test_an_interrupted_save_leaves_the_old_file(agent_file, tmp_path, monkeypatch):
    path = tmp_path / "agent.zip"
    path.write_bytes(agent_file.read_bytes())

    def fail(*args):
        raise KeyboardInterrupt

    agent = MPC.load(path)
    monkeypatch.setattr(saved, "_write_zip", fail)
    with pytest.raises(KeyboardInterrupt):
        agent.save(path)
    assert path.read_bytes() == agent_file.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["agent.zip"]


def test_only_the_buffer_can_be_included(agent_file):
    with pytest.raises(InvalidSettingError, match="replay_buffer"):
        MPC.load(agent_file).save(io.BytesIO(), include=["env"])


def test_values_that_files_cannot_hold_are_named():
    with pytest.raises(MbrlGymError, match="settings/hook"):
        saved.write_archive(io.BytesIO(), "Thing", {"settings": {"hook": print}})


def test_archives_return_what_they_were_given():
    tree = {"a": [1, 2.5, None, True, "x"], "b": {"c": np.arange(3), "d": torch.ones(2, 2)}, "big": 2**100}
    stream = io.BytesIO()
    saved.write_archive(stream, "Thing", tree)
    kind, back = saved.read_archive(io.BytesIO(stream.getvalue()))
    assert kind == "Thing"
    assert back["a"] == tree["a"]
    assert back["big"] == 2**100
    assert_array_equal(back["b"]["c"], np.arange(3))
    assert torch.equal(back["b"]["d"], torch.ones(2, 2))


@pytest.mark.parametrize(
    "env_id", ["Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
)
def test_classic_control_goes_on_from_a_snapshot_as_if_nothing_had_been(env_id, tmp_path):
    """Through a file, since it turns tuples into lists and numbers of numpy into Python's."""
    first, second = (DummyVecEnv([lambda: Monitor(gym.make(env_id))]) for _ in range(2))
    first.seed(3)
    first.reset()
    second.seed(4)
    second.reset()
    space = first.action_space
    space.seed(5)
    actions = [np.array([space.sample()]) for _ in range(600)]
    for action in actions[:30]:
        first.step(action)
    saved.write_archive(tmp_path / "state.zip", "Snapshot", snapshot_env(first))
    assert restore_env(second, saved.read_archive(tmp_path / "state.zip")[1])
    for action in actions[30:]:  # over the ends of episodes, whose successors are drawn
        one, other = first.step(action), second.step(action)
        for mine, its in zip(one[:3], other[:3], strict=True):
            np.testing.assert_array_equal(mine, its)
