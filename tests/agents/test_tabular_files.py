"""Files of tabular agents: what is saved, resumed exactly, refused."""

import io

import gymnasium as gym
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from tabular_toys import Corridor, Switches, random_table

from mbrl_gym.agents import DynaQ, DynaQPlus, PrioritizedSweeping, ResumableCheckpointCallback
from mbrl_gym.errors import DamagedFileError, InvalidSettingError
from mbrl_gym.models.saved import read_archive, write_archive

AGENTS = [DynaQ, DynaQPlus, PrioritizedSweeping]


def everything(agent):
    """Return all arrays that a run leaves behind, with the chains of outcomes."""
    outcomes, used = agent.outcome_model.outcomes, int(agent.outcome_model.outcomes.sizes[0])
    arrays = {name: array if array.ndim == 2 else array[:used] for name, array in outcomes._asdict().items()}
    arrays |= {"q": agent.q_values, "visited": outcomes.visited, "sizes": outcomes.sizes, "entering": outcomes.entering}
    if isinstance(agent, PrioritizedSweeping):
        arrays |= {"heap": agent._queue.heap[: agent.queue_length], "place": agent._queue.place}
    return arrays


def assert_same(first, second):
    mine, other = everything(first), everything(second)
    assert mine.keys() == other.keys()
    for name in mine:
        assert_array_equal(mine[name], other[name], err_msg=name)


def environment(count=1):
    """Return environments in which episodes end and are cut off, and which can be resumed."""
    return DummyVecEnv([lambda: Monitor(gym.wrappers.TimeLimit(random_table(4, 30, 3), 20))] * count)


@pytest.mark.parametrize("policy", ["epsilon-greedy", "UCB"])
@pytest.mark.parametrize("make", AGENTS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(make, policy, count, tmp_path):
    settings = {"seed": 3, "planning_steps": 2}
    whole = make(policy, environment(count), **settings).learn(150 * count)
    half = make(policy, environment(count), **settings).learn(60 * count)
    half.save(tmp_path / "half.zip", include=["replay_buffer"])
    half.learn(20 * count, reset_num_timesteps=False)  # what the first run did later does not matter
    resumed = make.load(tmp_path / "half.zip", environment(count))
    assert resumed._last_obs is not None
    if make is PrioritizedSweeping:
        assert resumed.queue_length > 1
    resumed.learn(90 * count, reset_num_timesteps=False)
    assert_same(whole, resumed)
    assert resumed.num_timesteps == whole.num_timesteps == 150 * count
    assert [e["r"] for e in resumed.ep_info_buffer] == [e["r"] for e in whole.ep_info_buffer]


@pytest.mark.parametrize("make", AGENTS)
def test_a_run_resumed_from_its_checkpoint_equals_an_uninterrupted_one(make, tmp_path):
    """Its schedules go on where they were, too."""
    path = tmp_path / "checkpoint.zip"
    settings = {"exploration_initial_eps": 1.0, "exploration_fraction": 0.8, "seed": 1}
    whole = make("epsilon-greedy", environment(), **settings).learn(130, ResumableCheckpointCallback(path, every=50))
    resumed = make.load(path, environment())
    assert resumed.num_timesteps in range(100, 130)
    resumed.learn(130 - resumed.num_timesteps, reset_num_timesteps=False)
    assert_same(whole, resumed)
    assert resumed.exploration_rate == whole.exploration_rate


def test_a_loaded_agent_predicts_and_goes_on(tmp_path):
    agent = DynaQPlus("UCB", DummyVecEnv([Switches]), kappa=0.02, ucb_coefficient=0.3, seed=None).learn(200)
    agent.save(tmp_path / "agent")
    for loaded in (DynaQPlus.load(tmp_path / "agent"), DynaQPlus.load(tmp_path / "agent.zip", Switches())):
        assert_same(agent, loaded)
        values = agent.policy.states.all_values()
        assert_array_equal(*(each.predict(values, deterministic=True)[0] for each in (agent, loaded)))
        assert (loaded.kappa, loaded.policy.ucb_coefficient, loaded.num_timesteps) == (0.02, 0.3, 200)
    loaded.learn(20, reset_num_timesteps=False)
    assert loaded.outcome_model.sizes["steps"] == 220
    assert DynaQPlus.load(tmp_path / "agent", kappa=0.5).kappa == 0.5


def test_schedules_have_to_be_passed_again(tmp_path):
    DynaQ("epsilon-greedy", Corridor(), learning_rate=lambda left: 0.1, seed=0).learn(5).save(tmp_path / "agent.zip")
    with pytest.raises(InvalidSettingError, match="learning_rate"):
        DynaQ.load(tmp_path / "agent.zip")
    assert DynaQ.load(tmp_path / "agent.zip", learning_rate=0.3).lr_schedule(1.0) == 0.3


def test_environments_that_do_not_fit_are_refused(tmp_path):
    agent = DynaQ("epsilon-greedy", environment(2), seed=0).learn(10)
    agent.save(tmp_path / "agent.zip", include=["replay_buffer"])
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        DynaQ.load(tmp_path / "agent.zip", Corridor())
    with pytest.raises(InvalidSettingError, match="filled by 2 environments, but 3"):
        DynaQ.load(tmp_path / "agent.zip", environment(3))


def test_an_environment_without_state_starts_a_new_episode(tmp_path):
    agent = DynaQ("epsilon-greedy", "FrozenLake-v1", seed=0).learn(50)
    agent.save(tmp_path / "agent.zip", include=["replay_buffer"])
    resumed = DynaQ.load(tmp_path / "agent.zip", gym.make("FrozenLake-v1"))
    assert resumed._last_obs is None
    assert resumed.learn(20, reset_num_timesteps=False).outcome_model.sizes["steps"] == 70


def test_discretised_tasks_are_resumed_exactly(tmp_path):
    def make_env():
        env = gym.wrappers.DiscretizeAction(gym.make("mbrl/CartPoleContinuous-v0"), 3)
        return gym.wrappers.DiscretizeObservation(env, (1, 5, 9, 9))

    whole = DynaQ("epsilon-greedy", make_env(), seed=0).learn(80)
    DynaQ("epsilon-greedy", make_env(), seed=0).learn(30).save(tmp_path / "half.zip", include=["replay_buffer"])
    resumed = DynaQ.load(tmp_path / "half.zip", make_env())
    assert resumed._last_obs is not None
    assert_same(whole, resumed.learn(50, reset_num_timesteps=False))


def test_there_is_no_replay_buffer(tmp_path):
    agent = DynaQ("epsilon-greedy", Corridor(), seed=0)
    agent.learn(40, callback=CheckpointCallback(20, tmp_path, save_replay_buffer=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rl_model_20_steps.zip", "rl_model_40_steps.zip"]
    with pytest.raises(InvalidSettingError, match="no replay buffer"):
        agent.save_replay_buffer(tmp_path / "x")
    with pytest.raises(InvalidSettingError, match="no replay buffer"):
        agent.load_replay_buffer(tmp_path / "x")


def file_with(change, make=PrioritizedSweeping):
    """Return an agent's file whose content was changed."""
    agent, stream = make("epsilon-greedy", environment(), planning_steps=1, seed=0).learn(50), io.BytesIO()
    agent.save(stream, include=["replay_buffer"])
    kind, content = read_archive(io.BytesIO(stream.getvalue()))
    change(content["state"]["extra"])
    damaged = io.BytesIO()
    write_archive(damaged, kind, content)
    return io.BytesIO(damaged.getvalue())


WHOLE = ("state", "action", "following", "counts", "pairs", "visits", "last_tried")


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, -1) for name in WHOLE] + [(name, 10**6) for name in WHOLE if name not in ("counts", "visits")],
)
def test_numbers_that_would_lead_out_of_the_tables_are_refused(name, value):
    def change(extra):
        extra["model"][name][0] = value

    with pytest.raises(DamagedFileError, match="do not fit a model of 30 states and 3 actions"):
        PrioritizedSweeping.load(file_with(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda extra: extra["model"].update(counts=extra["model"]["counts"][:-1]),
        lambda extra: extra["model"].update(counts=0 * extra["model"]["counts"]),
        lambda extra: extra["model"].update(state=extra["model"]["state"].astype(float)),
        lambda extra: extra["model"].update(state=extra["model"]["state"][:, None]),
        lambda extra: extra["model"].update(steps="many"),
        lambda extra: extra["model"].update(reward=extra["model"]["reward"] * np.nan),
        lambda extra: extra["model"].pop("terminated"),
        lambda extra: extra.update(waiting=extra["waiting"] + 10**6),
        lambda extra: extra.update(waiting=extra["waiting"][:-1]),
        lambda extra: extra.update(waiting=extra["waiting"] * 1.0),
        lambda extra: extra.update(priority=extra["priority"] * np.nan),
        lambda extra: extra.pop("waiting"),
    ],
)
def test_incomplete_or_foreign_content_is_refused(change):
    with pytest.raises(DamagedFileError):
        PrioritizedSweeping.load(file_with(change))


def test_files_of_other_agents_are_refused(tmp_path):
    DynaQ("epsilon-greedy", Corridor(), seed=0).save(tmp_path / "agent.zip")
    with pytest.raises(DamagedFileError, match=r"holds a DynaQ, not a DynaQPlus: use DynaQ\.load"):
        DynaQPlus.load(tmp_path / "agent.zip")
