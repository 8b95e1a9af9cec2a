"""Benchmarks: runs against hand-made evaluations, tables against hand-made numbers, pictures for what they show."""

from __future__ import annotations

import csv
import importlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image, ImageSequence
from rich.console import Console
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv

from mbrl_gym.agents import MPC
from mbrl_gym.agents.benchmark import (
    AGENTS,
    Evaluation,
    RandomPolicy,
    Reference,
    Run,
    check_agent,
    compare,
    evaluation,
    film,
    load_agent,
    load_run,
    make_agent,
    make_jobs,
    play,
    plot_learning_curves,
    records,
    reference,
    render,
    run_jobs,
    summarize,
    write_curves,
    write_gif,
    write_results,
)
from mbrl_gym.agents.benchmark import run as run_agent
from mbrl_gym.agents.benchmark.evaluation import EVALUATION_SEED, EvaluationCallback
from mbrl_gym.errors import DamagedFileError, InvalidSettingError, PlanningError, UnsupportedSpaceError
from mbrl_gym.models.saved import read_archive
from mbrl_gym.wrappers import ShowPlans

DRIFT, ARM = "mbrl/Drift-v0", "mbrl/Arm-v0"
SMALL: dict[str, Any] = {"evaluations": 2, "episodes": 4}


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of a planning agent."""
    return run_agent(DRIFT, "mpc", 3, 50, **SMALL, folder=tmp_path_factory.mktemp("runs") / "mpc")


@pytest.fixture
def refuse_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every training raise."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("trained")

    module = importlib.import_module("mbrl_gym.agents.benchmark.run")  # the package exports its function by that name
    monkeypatch.setattr(module, "make_agent", refuse)


class Clock:
    """Stands in for `time` in the module under test."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(evaluation, "time", clock)
    return clock


def made_run(agent: str, seed: int, final: float, **changes: Any) -> Run:
    """Make a run by hand: steps 0, 10, 20 in 0, 1, 4 seconds."""
    values: dict[str, Any] = {
        "steps": np.array([0, 10, 20]),
        "seconds": np.array([0.0, 1.0, 4.0]),
        "mean": np.array([-100.0, -50.0, final]),
        "std": np.array([3.0, 2.0, 1.0]),
        "decision_ms": 2.5,
        **changes,
    }
    return Run(agent=agent, seed=seed, folder=Path("nowhere"), **values)


def mean_return(env_id: str, episodes: int, act: Callable[[Any], Any]) -> float:
    """Play the evaluation episodes of a task of this package without Stable-Baselines3."""
    envs = gym.make_vec(env_id, num_envs=episodes)
    observation, _ = envs.reset(seed=EVALUATION_SEED)
    total, ended = np.zeros(episodes), np.zeros(episodes, bool)
    while not ended.all():
        observation, reward, terminated, truncated, _ = envs.step(act(observation))
        total += np.where(ended, 0.0, reward)
        ended |= terminated | truncated
    return float(total.mean())


# Runs -----------------------------------------------------------------------------------------------------------


def test_a_run_evaluates_at_even_steps_and_times_the_training(planned: Run) -> None:
    assert planned.steps.tolist() == [0, 25, 50]
    assert planned.seconds[0] == 0
    assert (np.diff(planned.seconds) > 0).all()
    assert planned.decision_ms > 0
    assert (planned.agent, planned.seed) == ("mpc", 3)


def test_a_planning_agent_is_random_until_it_has_a_model(planned: Run) -> None:
    space = gym.make(DRIFT).action_space
    space.seed(EVALUATION_SEED)
    expected = mean_return(DRIFT, 4, lambda x: np.array([space.sample() for _ in range(len(x))]))
    assert planned.mean[:2] == pytest.approx(expected, rel=1e-6)  # the model is fitted after step 25
    assert planned.mean[2] > expected / 10


def test_the_last_evaluation_is_of_the_saved_agent(planned: Run) -> None:
    agent = MPC.load(planned.file)
    plans: list[Any] = [None]

    def act(observation: np.ndarray) -> np.ndarray:
        action, plan = agent.predict(observation, plans[-1], np.full(4, plans[-1] is None), deterministic=True)
        plans.append(plan)
        return action

    assert planned.mean[-1] == pytest.approx(mean_return(DRIFT, 4, act), rel=1e-5)


def test_the_files_of_a_run_say_all_of_it(planned: Run) -> None:
    assert sorted(path.name for path in planned.folder.iterdir()) == ["agent.zip", "curve.csv", "run.json"]
    content = json.loads((planned.folder / "run.json").read_text())
    assert content["settings"]["env_id"] == DRIFT
    assert content["settings"]["agent_settings"]["planner_kwargs"] == {"horizon": 3}
    assert {"python", "mbrl-gym", "torch", "stable-baselines3"} <= set(content["versions"])
    loaded = load_run(planned.folder, content["settings"])
    assert loaded is not None
    for name in ("steps", "seconds", "mean", "std", "decision_ms"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(planned, name))


@pytest.mark.usefixtures("refuse_training")
def test_a_finished_run_is_not_repeated_but_a_changed_one_is(planned: Run) -> None:
    again = run_agent("mbrl_gym:" + DRIFT, "mpc", 3, 50, **SMALL, folder=planned.folder)
    np.testing.assert_array_equal(again.mean, planned.mean)
    saved = {path: path.read_bytes() for path in planned.folder.iterdir()}
    for changes in ({"seed": 4}, {"steps": 51}, {"evaluations": 1}, {"episodes": 5}, {"agent": "sac"}):
        settings = {"agent": "mpc", "seed": 3, "steps": 50, **SMALL, **changes}
        with pytest.raises(AssertionError, match="trained"):
            run_agent(DRIFT, **settings, folder=planned.folder)
        assert not any(planned.folder.iterdir())  # no stale files beside new ones
        for path, content in saved.items():
            path.write_bytes(content)


@pytest.mark.usefixtures("refuse_training")
@pytest.mark.parametrize(("name", "kept"), [("agent.zip", 0), ("curve.csv", 0), ("curve.csv", 40), ("run.json", 40)])
def test_an_incomplete_run_is_repeated(planned: Run, tmp_path: Path, name: str, kept: int) -> None:
    for path in planned.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).unlink()
    if kept:
        (tmp_path / name).write_bytes((planned.folder / name).read_bytes()[:kept])
    with pytest.raises(AssertionError, match="trained"):
        run_agent(DRIFT, "mpc", 3, 50, **SMALL, folder=tmp_path)


def test_a_run_that_breaks_off_leaves_nothing_that_looks_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(records.csv, "writer", stop)
    with pytest.raises(KeyboardInterrupt):
        run_agent(DRIFT, "sac", 0, 5, evaluations=1, episodes=2, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["agent.zip"]


def test_evaluation_does_not_change_training(planned: Run, tmp_path: Path) -> None:
    other = run_agent(DRIFT, "mpc", 3, 50, evaluations=5, episodes=3, folder=tmp_path)
    (_, first), (_, second) = read_archive(planned.file), read_archive(other.file)
    assert first["state"]["policy"].keys() == second["state"]["policy"].keys()
    for name, tensor in first["state"]["policy"].items():
        assert torch.equal(tensor, second["state"]["policy"][name]), name


def test_ppo_runs_in_rollouts_on_any_environment(tmp_path: Path) -> None:
    done = run_agent("CartPole-v1", "ppo", 0, 30, **SMALL, folder=tmp_path)
    assert done.steps.tolist() == [0, 15, 2048]
    assert done.mean[0] == done.mean[1]  # PPO learns after a rollout
    assert isinstance(load_agent(done.file, "ppo"), PPO)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": "mpc", "steps": 25}, "takes 25 random steps .* at least 26, but 25"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"evaluations": 0}, "evaluations must be at least 1"),
        ({"evaluations": 6}, r"at most the steps \(5\), but 6"),
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"agent": "a2c"}, "choose from mpc, pets, ppo, sac, td3, dqn"),
        ({"env_id": "mbrl/Nothing-v0"}, "`mbrl-gym envs` lists"),
    ],
)
@pytest.mark.usefixtures("refuse_training")
def test_bad_settings_are_refused_before_training(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = {"env_id": DRIFT, "agent": "sac", "seed": 0, "steps": 5, **SMALL, **changes}
    with pytest.raises(InvalidSettingError, match=message):
        run_agent(**settings, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Evaluation -----------------------------------------------------------------------------------------------------


class Still:
    """Acts with zeros and remembers what it saw."""

    def __init__(self, action_space: spaces.Space[Any]) -> None:
        self.zero, self.seen = 0 * action_space.sample(), []

    def predict(self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False):
        assert deterministic
        self.seen.append(np.array(observation))
        return np.array([self.zero] * len(observation)), None


@pytest.mark.parametrize("env_id", [DRIFT, "Pendulum-v1"])
def test_all_agents_meet_the_same_episodes(env_id: str) -> None:
    policies, returns = [], []
    for _ in range(2):
        evaluate = Evaluation(env_id, 3)
        for _ in range(2):
            policies.append(Still(evaluate.env.action_space))
            returns.append(evaluate(policies[-1]))
            evaluate(RandomPolicy(evaluate.env.action_space, seed=7))  # something else in between
        np.testing.assert_array_equal(evaluate.starts(), policies[0].seen[0])
        evaluate.close()
    for policy, result in zip(policies, returns, strict=True):
        np.testing.assert_array_equal(policy.seen, policies[0].seen)
        np.testing.assert_array_equal(result, returns[0])
    assert len(np.unique(policies[0].seen[0], axis=0)) == 3


def test_returns_are_those_of_the_episodes() -> None:
    evaluate = Evaluation("Pendulum-v1", 2)
    expected = []
    for row in range(2):
        env = gym.make("Pendulum-v1")
        env.reset(seed=EVALUATION_SEED + row)
        total, ended = 0.0, False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
            total, ended = total + float(reward), terminated or truncated
        expected.append(total)
    np.testing.assert_allclose(evaluate(Still(evaluate.env.action_space)), expected, rtol=1e-5)
    assert mean_return(DRIFT, 5, lambda x: np.zeros_like(x)) == pytest.approx(
        Evaluation(DRIFT, 5)(Still(gym.make(DRIFT).action_space)).mean(), rel=1e-5
    )


def test_references() -> None:
    task = gym.make(DRIFT).unwrapped.task
    starts, _ = gym.make_vec(DRIFT, num_envs=6).reset(seed=EVALUATION_SEED)
    found = reference(DRIFT, 6)
    assert found.optimum == pytest.approx(task.optimal_return(starts).mean())
    assert found.random < 5 * found.optimum
    assert reference("Pendulum-v1", 2).optimum is None


class Ticking(gym.Env):
    """A step takes a second."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1, (1,))

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def reset(self, *, seed: int | None = None, options: Any = None):
        return np.zeros(1, np.float32), {}

    def step(self, action: Any):
        self.clock.now += 1
        return np.zeros(1, np.float32), 0.0, False, False, {}


def test_training_time_leaves_evaluations_out(clock: Clock) -> None:
    def evaluate(policy: Any) -> np.ndarray:
        clock.now += 100
        return np.array([1.0, 3.0])

    callback = EvaluationCallback(evaluate, [2, 4])
    SAC("MlpPolicy", Ticking(clock)).learn(6, callback=callback)
    assert callback.rows == [(steps, float(steps), 2.0, 1.0) for steps in (0, 2, 4, 6)]


def test_a_mark_within_a_rollout_of_several_environments_is_evaluated_once(clock: Clock) -> None:
    callback = EvaluationCallback(lambda policy: np.zeros(1), [1, 2, 5])
    SAC("MlpPolicy", DummyVecEnv([lambda: Ticking(clock)] * 3)).learn(6, callback=callback)
    assert [row[0] for row in callback.rows] == [0, 3, 6, 6]


def test_decision_time_is_a_median_with_the_state_passed_on(clock: Clock) -> None:
    class Slow:
        calls = 0

        def predict(self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False):
            assert observation.shape == (1,)
            assert state == (None if self.calls == 0 else self.calls)
            assert episode_start.tolist() == [self.calls == 0]
            self.calls += 1
            clock.now += 5.0 if self.calls == 1 else 0.001 * self.calls
            return np.zeros(1), self.calls

    slow = Slow()
    assert Evaluation(DRIFT, 2).decision_ms(slow, decisions=21) == pytest.approx(12.0)  # of 5000, 2, 3, ..., 21
    assert slow.calls == 21


# Agents ---------------------------------------------------------------------------------------------------------

BOX, TALL = spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (2, 2))
FREE = spaces.Box(-np.inf, np.inf, (2,))


class Spaces(gym.Env):
    """Only its spaces count."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions


@pytest.mark.parametrize(
    ("observations", "actions", "fitting"),
    [
        (FREE, BOX, "mpc pets ppo sac td3"),
        (FREE, spaces.Discrete(3), "mpc pets ppo dqn"),
        (FREE, spaces.Discrete(3, start=1), "mpc pets"),
        (FREE, spaces.MultiDiscrete([2, 3]), "mpc pets ppo"),
        (FREE, spaces.MultiBinary(3), "ppo"),
        (FREE, FREE, ""),
        (FREE, TALL, "ppo sac td3"),
        (TALL, BOX, "ppo sac td3"),
        (spaces.Discrete(4), BOX, "mpc pets ppo sac td3"),
        (spaces.MultiBinary(4), BOX, "ppo sac td3"),
        (spaces.Dict({"a": BOX}), BOX, "mpc pets"),
        (spaces.Dict({"a": spaces.Dict({"b": BOX})}), BOX, ""),
        (spaces.Tuple([BOX]), BOX, ""),
    ],
)
def test_agents_are_refused_where_they_cannot_work(observations: Any, actions: Any, fitting: str) -> None:
    env = Spaces(observations, actions)
    for name in AGENTS:
        if name in fitting.split():
            check_agent(name, env, "Some-v0")
            continue
        with pytest.raises(UnsupportedSpaceError) as caught:
            check_agent(name, env, "Some-v0")
        advice = f"agents that can are {', '.join(fitting.split())}" if fitting else "no agent here can"
        assert str(caught.value).startswith(f"{name} cannot handle Some-v0")
        assert advice in str(caught.value)


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_can_be_made(name: str) -> None:
    env_id = "CartPole-v1" if name == "dqn" else ARM
    agent = make_agent(name, gym.make(env_id), env_id, 5, verbose=1)
    assert type(agent) is AGENTS[name].algorithm
    assert (agent.seed, agent.verbose, agent.device.type) == (5, 1, "cpu")
    if AGENTS[name].plans:
        assert agent.world_model.reward_fn is not None
        assert agent.planner.horizon == 15
        assert make_agent(name, gym.make("Pendulum-v1"), "Pendulum-v1", 0).world_model.reward_fn is None


def test_files_that_are_no_agents_are_refused(planned: Run, tmp_path: Path) -> None:
    assert isinstance(load_agent(planned.file), MPC)
    SAC("MlpPolicy", gym.make(DRIFT)).save(tmp_path / "sac.zip")
    MPC("iCEM", gym.make(DRIFT)).save_replay_buffer(tmp_path / "buffer.zip")
    (tmp_path / "cut.zip").write_bytes(planned.file.read_bytes()[:1000])
    cases = [
        (tmp_path / "none.zip", None, InvalidSettingError, "no file"),
        (tmp_path / "sac.zip", None, InvalidSettingError, "pickled code.*--algo ppo|sac|td3|dqn"),
        (tmp_path / "sac.zip", "ppo", DamagedFileError, "another algorithm"),
        (tmp_path / "sac.zip", "mpc", InvalidSettingError, "choose from ppo, sac, td3, dqn"),
        (tmp_path / "cut.zip", None, DamagedFileError, "not a complete"),
        (tmp_path / "cut.zip", "sac", DamagedFileError, "damaged"),
        (tmp_path / "buffer.zip", None, DamagedFileError, "holds a ReplayBuffer, not an agent"),
        (planned.file, "sac", InvalidSettingError, "file of this package"),
    ]
    for path, algorithm, error, message in cases:
        with pytest.raises(error, match=message):
            load_agent(path, algorithm)


# Many runs ------------------------------------------------------------------------------------------------------


def test_jobs_run_the_longest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(env_id: str, agent: str, seed: int, steps: int, **settings: Any) -> Run:
        assert settings == {**SMALL, "folder": tmp_path / f"{agent}-{seed}"}
        return made_run(agent, seed, steps)

    monkeypatch.setattr(compare, "run", note)
    jobs = make_jobs("mbrl_gym:" + DRIFT, {"ppo": 9000, "mpc": 400, "sac": 10}, 2, **SMALL, folder=tmp_path)
    assert {job.env_id for job in jobs} == {DRIFT}
    done = [(run.agent, run.seed) for run in run_jobs(jobs, 1)]
    assert done == [("mpc", 0), ("mpc", 1), ("ppo", 0), ("ppo", 1), ("sac", 0), ("sac", 1)]


def test_a_failing_job_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PlanningError("no finite return")

    monkeypatch.setattr(compare, "run", fail)
    with pytest.raises(PlanningError, match="mpc, seed 0: no finite return"):
        list(run_jobs(make_jobs(DRIFT, {"mpc": 50}, 1, **SMALL, folder=tmp_path), 1))


# Tables and pictures --------------------------------------------------------------------------------------------

RUNS = [
    made_run("sac", 0, -30.0),
    made_run("mpc", 1, -12.0, decision_ms=3.5),
    made_run("mpc", 0, -10.0, decision_ms=2.0),
    made_run("mpc", 2, -15.0, seconds=np.array([0.0, 2.0, 7.0])),
]


def test_summaries_are_medians_and_extremes() -> None:
    best, other = summarize(RUNS)
    assert (best.agent, best.seeds, other.agent, other.seeds) == ("mpc", 3, "sac", 1)
    assert (best.final_return.median, best.final_return.low, best.final_return.high) == (-12, -15, -10)
    assert (best.seconds.median, best.seconds.low, best.seconds.high) == (4, 4, 7)
    assert (best.decision_ms.median, best.decision_ms.low, best.decision_ms.high) == (2.5, 2.0, 3.5)
    assert best.steps.median == 20


def test_the_table_shows_the_numbers() -> None:
    console = Console(width=90, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(summarize(RUNS), Reference(-100.0, -9.5), title="Title", caption="Caption"))
    console.file.close()
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()]
    assert ["mpc", "−12.00", "−15.00", "…", "−10.00", "20", "4.00", "s", "2.50", "ms"] in lines
    assert ["sac", "−30.00", "−30.00", "…", "−30.00", "20", "4.00", "s", "2.50", "ms"] in lines
    assert ["optimum", "−9.50"] in lines
    assert ["random", "−100.00"] in lines
    assert lines[0] == ["Title"]


def test_csv_files(tmp_path: Path) -> None:
    write_results(summarize(RUNS), Reference(-100.0, None), tmp_path / "results.csv")
    write_curves(RUNS, tmp_path / "curves.csv")
    results = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [row["agent"] for row in results] == ["mpc", "sac", "random"]
    assert [float(results[0][f"return_{part}"]) for part in ("median", "min", "max")] == [-12, -15, -10]
    assert float(results[0]["training_seconds_max"]) == 7
    assert (results[2]["return_median"], results[2]["seeds"]) == ("-100.0", "")
    curves = (tmp_path / "curves.csv").read_text().splitlines()
    assert curves[0] == "agent,seed,steps,seconds,mean_return,std_return"
    assert curves[1:4] == ["mpc,0,0,0.0,-100.0,3.0", "mpc,0,10,1.0,-50.0,2.0", "mpc,0,20,4.0,-10.0,1.0"]
    assert len(curves) == 1 + 3 * len(RUNS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.csv", "results.csv"]


def color_share(picture: np.ndarray, color: tuple[int, int, int]) -> float:
    return float((np.abs(picture.astype(int) - color).max(-1) < 12).mean())


def test_the_picture_shows_every_agent_and_cuts_nothing_off(tmp_path: Path) -> None:
    blue, green, purple = (0, 114, 178), (0, 158, 115), (204, 121, 167)
    for optimum in (None, -9.5):
        plot_learning_curves(RUNS, Reference(-100.0, optimum), tmp_path / "a.png", title="mbrl/Drift-v0")
        picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
        assert picture.shape == (735, 1500, 3)
        for color in (blue, green):
            for half in (picture[:650, :750], picture[:650, 750:]):  # both panels, without the legend
                assert color_share(half, color) > 1e-3
        assert color_share(picture, purple) == 0
        for edge in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]):
            assert (edge == 255).all()


# Films ----------------------------------------------------------------------------------------------------------


class Filmed(gym.Wrapper):
    """Notes the plans that are drawn."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.plans: list[Any] = []
        env.unwrapped.imagine = lambda plans, particles=None: self.plans.append(plans)


def test_an_episode_is_played_to_its_end_with_a_new_plan_for_each_picture(planned: Run) -> None:
    env = Filmed(gym.make(DRIFT, render_mode="rgb_array", width=64, height=64))
    agent = load_agent(planned.file)
    shown = ShowPlans(env, agent)
    returns = []
    for reached in play(shown, agent, seed=5):
        returns.append(reached)
        shown.render()
    assert len(returns) == len(env.plans) == 101
    assert env.plans[-1] is None
    assert all((one != other).any() for one, other in itertools.pairwise(env.plans[:-1]))
    assert returns[0] == 0
    assert all(later <= earlier for earlier, later in itertools.pairwise(returns))
    assert returns == list(play(gym.make(DRIFT), agent, seed=5))


def frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as picture:
        return [np.asarray(shot.convert("RGB")) for shot in ImageSequence.Iterator(picture)]


def test_a_gif_shows_the_episode_and_the_plan(planned: Run, tmp_path: Path) -> None:
    agent = load_agent(planned.file)
    total = write_gif(DRIFT, agent, tmp_path / "a.gif", seed=5)
    *_, expected = play(gym.make(DRIFT), agent, seed=5)
    assert total == pytest.approx(expected)
    shots = frames(tmp_path / "a.gif")
    assert len(shots) == 101
    assert shots[0].shape == (360, 480, 3)
    assert (tmp_path / "a.gif").stat().st_size < 3_000_000
    assert all((before != after).any() for before, after in itertools.pairwise(shots))
    env = gym.make(DRIFT, render_mode="rgb_array", width=480, height=360)
    env.reset(seed=5)
    plain = np.asarray(env.render()).astype(int)
    different = np.abs(shots[0] - plain).max(-1) > 60  # beyond the palette's rounding
    assert 40 < different.sum() < 8000


def test_gifs_of_other_environments_fit_the_frame(tmp_path: Path) -> None:
    agent = PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu")
    write_gif("CartPole-v1", agent, tmp_path / "a.gif")
    shots = frames(tmp_path / "a.gif")
    assert len(shots) > 5
    assert shots[0].shape == (320, 480, 3)
    with pytest.raises(InvalidSettingError, match="another environment"):
        write_gif(DRIFT, agent, tmp_path / "b.gif")
    assert not (tmp_path / "b.gif").exists()


def test_long_films_are_thinned_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "MAX_FRAMES", 30)
    agent = PPO("MlpPolicy", DRIFT, device="cpu")
    write_gif(DRIFT, agent, tmp_path / "a.gif")
    assert len(frames(tmp_path / "a.gif")) == 26  # every fourth of 100 steps, and the end
    monkeypatch.setattr(film, "MAX_BYTES", (tmp_path / "a.gif").stat().st_size // 2)
    write_gif(DRIFT, agent, tmp_path / "b.gif")
    assert len(frames(tmp_path / "b.gif")) < 16
