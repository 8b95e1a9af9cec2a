"""Benchmark runs: resumed bit for bit, never repeated, never silently dropped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from bench_toys import SMALL_MPC, document, results, small_suite, write_toml
from gymnasium import spaces
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import VecNormalize
from test_cli import call

import mbrl_gym
from mbrl_gym.agents.benchmark import bench, checkpoints, stopwatch, trial
from mbrl_gym.agents.benchmark.algorithms import ALGORITHMS, OURS, algorithm_of
from mbrl_gym.agents.benchmark.bench import make_plan, run_trials
from mbrl_gym.agents.benchmark.evaluation import Evaluation, Normalised, RandomPolicy
from mbrl_gym.agents.benchmark.findings import collect
from mbrl_gym.agents.benchmark.markdown import markdown
from mbrl_gym.agents.benchmark.records import Run
from mbrl_gym.agents.benchmark.report import write_report
from mbrl_gym.agents.benchmark.stopwatch import Stopwatch
from mbrl_gym.agents.benchmark.suite import check_agents, load_suites, make_entry, parse_suite, suite_ids
from mbrl_gym.agents.benchmark.trial import Failure, Trial, attempt, make_trials, state_of
from mbrl_gym.errors import InvalidSettingError, MissingPackageError
from mbrl_gym.scores import EVALUATION_SEEDS, evaluation_states

DRIFT = "mbrl/Drift-v0"
FAST = {"learning_starts": 20, "policy_kwargs": {"net_arch": [8]}}
BRANCHES = {"model": "linear", "rollout_batch": 20, "model_train_freq": 20, "gradient_steps": 1, "train_freq": 5}
DREAMS = {
    "learning_starts": 20,
    "train_freq": 20,
    "model": "linear",
    "updates": 2,
    "check_freq": 1,
    "check_episodes": 2,
    "imagined_envs": 4,
    "ppo_kwargs": {"n_steps": 8, "batch_size": 32},
}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    # One environment and small settings for each of this package's algorithms.
    "MPC": (DRIFT, SMALL_MPC),
    "PETS": ("Pendulum-v1", {**SMALL_MPC, "planner_kwargs": {"horizon": 2, "population": 20, "elites": 4}}),
    "MCTS": (DRIFT, {"model": "linear", "learning_starts": 20, "train_freq": 20, "simulations": 4}),
    "MBPO": ("Pendulum-v1", {**FAST, **BRANCHES}),
    "DynaTD3": (DRIFT, {**FAST, **BRANCHES, "action_noise": {"kind": "ornstein-uhlenbeck", "std": 0.1}}),
    "DynaDQN": ("CartPole-v1", {**FAST, **BRANCHES, "learning_rate": "linear 0.001"}),
    "ImaginedPPO": (DRIFT, DREAMS),
    "DynaQ": ("mbrl/DynaMaze-v0", {}),
    "DynaQPlus": ("mbrl/BlockingMaze-v0", {}),
    "PrioritizedSweeping": ("mbrl/DynaMaze-v0", {}),
}


def one_trial(folder: Path, algorithm: str = "MPC", steps: int = 60, seconds: float = 1e9, **changes: Any) -> Trial:
    """Return a small run of an algorithm."""
    env_id, settings = SMALL.get(algorithm, (DRIFT, {}))
    entry = {"algorithm": algorithm, "steps": steps, "evaluations": 3, "settings": settings, **changes}
    short = {"env": {"max_episode_steps": 25}, "episodes": 2}
    (found,) = make_trials([small_suite(env_id, agents={"a": entry}, **short)], 1, folder, seconds)
    return found


class Killed(BaseException):
    """Stands in for the end of a process."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch):
    """Do a run that ends when the first checkpoint after so many steps is written; return what is left."""

    def run(to_do: Trial, steps: int) -> None:
        write = checkpoints.CheckpointCallback.write

        def write_and_die(self: Any, path: str) -> None:
            write(self, path)
            if self.model.num_timesteps >= steps:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints.CheckpointCallback, "write", write_and_die)
            with pytest.raises(Killed):
                attempt(to_do)

    return run


# Runs -----------------------------------------------------------------------------------------------------------------


def test_every_algorithm_of_this_package_has_small_settings_here():
    assert set(SMALL) == set(OURS)


@pytest.mark.parametrize("algorithm", SMALL)
def test_a_run_that_was_broken_off_ends_as_one_that_was_not(algorithm: str, tmp_path: Path, killed_at: Any) -> None:
    whole, broken = one_trial(tmp_path / "whole", algorithm), one_trial(tmp_path / "broken", algorithm, seconds=0)
    attempt(whole)
    killed_at(broken, 30)
    assert state_of(broken) == (None, "")
    (left,) = broken.folder.glob("checkpoint-*")
    assert 30 <= int(left.name.rpartition("-")[2]) < 60
    attempt(broken)
    content = json.loads((broken.folder / "run.json").read_text())
    assert content["resumed"] == 1
    assert results(broken.folder) == results(whole.folder)
    assert not list(broken.folder.glob("checkpoint-*"))


def test_a_baseline_starts_again_from_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"settings": {"n_steps": 32, "batch_size": 32}, "steps": 64}
    whole = one_trial(tmp_path / "whole", "PPO", **changes)
    broken = one_trial(tmp_path / "broken", "PPO", **changes, seconds=0)
    attempt(whole)
    with monkeypatch.context() as patch:
        patch.setattr(trial, "_write_more", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            attempt(broken)
    assert not list(broken.folder.glob("checkpoint-*"))
    attempt(broken)
    assert results(broken.folder) == results(whole.folder)


@pytest.mark.parametrize("name", ["tqc", "crossq"])
def test_algorithms_of_sb3_contrib_run_with_their_settings(name: str, tmp_path: Path) -> None:
    pytest.importorskip("sb3_contrib")
    changes = [
        f"agents.{name}.steps=256",
        f"agents.{name}.evaluations=2",
        f"agents.{name}.settings.learning_starts=100",
    ]
    (suite,) = load_suites(["Pendulum-v1"], ["episodes=2", *changes])
    plan = make_plan([suite], [name], 1, tmp_path)
    (to_do,) = plan.left
    run = attempt(to_do)
    assert isinstance(run, Run), run
    assert run.steps.tolist() == [0, 128, 256]
    assert json.loads((to_do.folder / "run.json").read_text())["seconds"]["update"] > 0
    assert make_plan([suite], [name], 1, tmp_path).left == []
    _, text = write_report(tmp_path)
    assert name in text


class Unknown(gym.Env):
    """Its state cannot be had."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, {}

    def step(self, action: Any):
        self.x = np.clip(self.x + 0.1 * action, -1, 1).astype(np.float32)
        return self.x, -float(np.abs(self.x)[0]), False, False, {}


class Failing(Unknown):
    """Raises in its thirtieth step, unless it was repaired."""

    repaired = False
    steps = 0

    def step(self, action: Any):
        self.steps += 1
        if self.steps > 30 and not Failing.repaired:
            raise ValueError("the motor is too hot")
        return super().step(action)


gym.register("Unknown-v0", Unknown, max_episode_steps=10)
gym.register("Failing-v0", Failing, max_episode_steps=10)


def test_where_the_state_cannot_be_had_there_are_no_checkpoints(tmp_path: Path) -> None:
    suite = small_suite("Unknown-v0", agents={"mpc": document()["agents"]["mpc"]})
    (to_do,) = make_trials([suite], 1, tmp_path, 0)
    written: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.CheckpointCallback, "write", lambda self, path: written.append(path))
        attempt(to_do)
    assert not written
    assert state_of(to_do)[0] is not None


def test_the_files_of_a_run(tmp_path: Path) -> None:
    to_do = one_trial(tmp_path, "SAC", 250, evaluations=5, settings={"learning_starts": 240})
    run = attempt(to_do)
    assert not isinstance(run, Failure)
    names = {"agent.zip", "curve.csv", "evaluations.npz", "progress.csv", "run.json", "settings.json"}
    assert {path.name for path in to_do.folder.iterdir()} == names
    with np.load(to_do.folder / "evaluations.npz") as arrays:
        assert arrays["timesteps"].tolist() == [0, 50, 100, 150, 200, 250]
        assert arrays["results"].shape == arrays["ep_lengths"].shape == (6, 2)
        assert (arrays["ep_lengths"] == 25).all()
        np.testing.assert_array_equal(arrays["results"].mean(1), run.mean)
    content = json.loads((to_do.folder / "run.json").read_text())
    assert content["settings"] == to_do.settings
    assert {"python", "torch", "stable-baselines3", "git revision"} <= set(content["versions"])
    assert sum(content["seconds"].values()) == pytest.approx(run.seconds[-1])
    assert content["seconds"]["update"] > 0 < content["seconds"]["env"]
    header, *rows = (to_do.folder / "progress.csv").read_text().splitlines()
    assert {"rollout/ep_rew_mean", "time/total_timesteps"} <= set(header.split(","))
    assert len(rows) >= 10  # one an episode


def test_evaluations_are_what_evalcallback_writes(tmp_path: Path) -> None:
    """The names, the shapes and the kinds of the arrays."""
    callback = EvalCallback(
        gym.make(DRIFT), eval_freq=20, n_eval_episodes=4, log_path=str(tmp_path), verbose=0, warn=False
    )
    algorithm_of("PPO")("MlpPolicy", DRIFT, n_steps=32, batch_size=32, device="cpu").learn(64, callback=callback)
    attempt(one_trial(tmp_path / "runs", "PPO", 64, settings={"n_steps": 32, "batch_size": 32}))
    with np.load(tmp_path / "evaluations.npz") as theirs, np.load(next(tmp_path.rglob("a-0/*.npz"))) as ours:
        assert set(theirs) == set(ours)
        for name in theirs:
            assert theirs[name].ndim == ours[name].ndim
            assert theirs[name].dtype.kind == ours[name].dtype.kind


def test_episodes_start_where_scores_are_defined(tmp_path: Path) -> None:
    evaluation = Evaluation("mbrl/Drone-v0", 7, scored=True)
    env = gym.make("mbrl/Drone-v0")
    expected = [env.reset(seed=seed)[0] for seed in EVALUATION_SEEDS[:7]]
    np.testing.assert_array_equal(evaluation.starts(), expected)
    assert len(evaluation_states("mbrl/Drone-v0")) == 100
    random = Evaluation(DRIFT, 100, scored=True)
    returns = [random(RandomPolicy(random.env.action_space, seed)).mean() for seed in range(5)]
    assert mbrl_gym.score(DRIFT, np.mean(returns)) == pytest.approx(0, abs=0.1)


class Short(Unknown):
    """Episodes take 1 to 9 steps, each paying 1; the start says how many."""

    observation_space = spaces.Box(0, 10, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 10))
        return np.full(1, self.left, np.float32), {}

    def step(self, action: Any):
        self.left -= 1
        return np.full(1, self.left, np.float32), 1.0, self.left == 0, False, {}


gym.register("Short-v0", Short)


def test_returns_are_in_the_order_of_their_starts() -> None:
    evaluation = Evaluation("Short-v0", 12)
    returns = evaluation(RandomPolicy(evaluation.env.action_space))
    expected = evaluation.starts()[:, 0]
    assert len(set(expected)) > 3
    np.testing.assert_array_equal(returns, expected)
    np.testing.assert_array_equal(evaluation.lengths, expected)


def test_normalised_agents_are_evaluated_with_normalised_observations(tmp_path: Path) -> None:
    settings = {"n_steps": 16, "batch_size": 32}
    to_do = one_trial(tmp_path, "PPO", 64, n_envs=2, normalize=True, settings=settings)
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        predict = Normalised.predict
        patch.setattr(Normalised, "predict", lambda self, obs, *a, **k: seen.append(obs) or predict(self, obs, *a, **k))
        run = attempt(to_do)
    assert not isinstance(run, Failure)
    agent = make_entry(to_do.suite, to_do.entry, 0)
    assert isinstance(agent.env, VecNormalize)
    assert agent.env.num_envs == 2
    assert len(seen) > 100
    with np.load(to_do.folder / "normalization.npz") as moments:
        assert moments["mean"].shape == moments["var"].shape == (1,)
        assert moments["var"] != 1


# What is found in folders ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A finished benchmark of two agents and two seeds: its settings, its folder, and what the command printed."""
    folder = tmp_path_factory.mktemp("bench")
    file = write_toml(folder / "drift.toml", document())
    done = call("bench", file, "--seeds", 2, "--out", folder / "out", "--checkpoint-seconds", 0, "--no-pictures")
    return file, folder / "out", done


def test_bench_writes_all_runs_and_the_report(small_bench: tuple[Path, Path, Any]) -> None:
    _, out, done = small_bench
    assert done.exit_code == 0, done.stderr
    folders = {path.name for path in (out / "mbrl-Drift-v0").iterdir()}
    assert folders == {"mpc-0", "mpc-1", "ppo-0", "ppo-1"}
    assert {"report.md", "runs.csv"} <= {path.name for path in out.iterdir()}
    assert "4 runs finished" in done.stderr
    assert (out / "report.md").read_text() in done.stdout


def test_finished_runs_are_not_repeated(small_bench: tuple[Path, Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    file, out, first = small_bench

    def refuse(*_: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(bench, "attempt", refuse)
    again = call("bench", file, "--seeds", 2, "--out", out)
    assert again.exit_code == 0, again.output
    assert "4 runs of 4 found" in again.stderr
    assert again.stdout == first.stdout


def test_two_benchmarks_do_not_work_in_one_folder(small_bench: tuple[Path, Path, Any], tmp_path: Path) -> None:
    """Another process holds the folder until it is killed."""
    file, _, _ = small_bench
    code = f"""
import pathlib, time
from mbrl_gym.agents.benchmark.bench import reserved
with reserved(pathlib.Path({str(tmp_path)!r})):
    print("there", flush=True)
    time.sleep(100)
"""
    command = ("bench", file, "--seeds", 1, "--agents", "ppo", "--no-pictures", "--out", tmp_path)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        done = call(*command)
        other.kill()
    assert done.exit_code == 2
    assert "another command is at work in" in done.stderr
    assert not list(tmp_path.glob("*/*"))
    assert call(*command).exit_code == 0
    assert call(*command).exit_code == 0


@pytest.mark.parametrize("name", ["agent.zip", "curve.csv", "evaluations.npz", "progress.csv", "run.json"])
@pytest.mark.parametrize("how", ["a byte", "cut", "missing"])
def test_damaged_runs_are_reported_and_repeated(
    small_bench: tuple[Path, Path, Any], tmp_path: Path, name: str, how: str
) -> None:
    _, out, _ = small_bench
    suite = small_suite()
    trials = make_trials([suite], 1, tmp_path)
    for to_do in trials:
        to_do.folder.mkdir(parents=True)
        for path in (out / "mbrl-Drift-v0" / to_do.folder.name).iterdir():
            (to_do.folder / path.name).write_bytes(path.read_bytes())
    assert make_plan([suite], [], 1, tmp_path, 60).left == []
    damaged = trials[0].folder / name
    content = damaged.read_bytes()
    if how == "missing":
        damaged.unlink()
    else:
        middle = len(content) // 2
        damaged.write_bytes(content[:middle] + (b"" if how == "cut" else b"\xff" + content[middle + 1 :]))
    plan = make_plan([suite], [], 1, tmp_path, 60)
    assert [each.folder for each in plan.left] == [damaged.parent]
    if (name, how) != ("run.json", "missing"):  # without it, a run is one that was broken off
        (note,) = plan.notes
        assert "it is repeated" in note
        assert name in note
    assert damaged.parent.name in markdown(collect(tmp_path)).split("## Made with")[1]


def test_a_repeated_run_ends_as_the_first_one(small_bench: tuple[Path, Path, Any], tmp_path: Path) -> None:
    _, out, _ = small_bench
    first = make_trials([small_suite()], 1, tmp_path)[0]
    first.folder.mkdir(parents=True)
    for path in (out / "mbrl-Drift-v0" / "mpc-0").iterdir():
        (first.folder / path.name).write_bytes(path.read_bytes()[: 300 if path.name == "agent.zip" else None])
    attempt(first)
    assert results(first.folder) == results(out / "mbrl-Drift-v0" / "mpc-0")


def test_a_damaged_checkpoint_is_reported_and_not_used(tmp_path: Path, killed_at: Any) -> None:
    whole, broken = one_trial(tmp_path / "whole"), one_trial(tmp_path / "broken", seconds=0)
    attempt(whole)
    killed_at(broken, 30)
    (left,) = broken.folder.glob("checkpoint-*")
    file = left / "agent.zip"
    file.write_bytes(file.read_bytes()[:-20])
    plan = make_plan([broken.suite], [], 1, tmp_path / "broken", 0)
    (note,) = plan.notes
    assert "agent.zip is not as it was written: it is not used" in note
    attempt(broken)
    assert results(broken.folder) == results(whole.folder)


def test_a_checkpoint_of_other_settings_is_not_used(tmp_path: Path, killed_at: Any) -> None:
    killed_at(one_trial(tmp_path / "broken", seconds=0), 30)
    other, same = (one_trial(tmp_path / name, steps=70) for name in ("broken", "whole"))
    attempt(other)
    attempt(same)
    assert results(other.folder) == results(same.folder)
    assert json.loads((other.folder / "run.json").read_text())["resumed"] == 0


def test_what_a_killed_writer_leaves_is_removed(tmp_path: Path) -> None:
    to_do = one_trial(tmp_path)
    (to_do.folder / ".checkpoint-123").mkdir(parents=True)
    (to_do.folder / ".agent.123.zip").write_bytes(b"half")
    attempt(to_do)
    assert not list(to_do.folder.glob(".*"))


def test_runs_of_other_settings_are_done_again(tmp_path: Path) -> None:
    attempt(one_trial(tmp_path))
    other = one_trial(tmp_path, steps=61)
    plan = make_plan([other.suite], [], 1, tmp_path, 60)
    assert len(plan.left) == 1
    assert "holds a run of other settings: it is repeated" in plan.notes[0]


# Failures -------------------------------------------------------------------------------------------------------------


def test_a_failure_is_reported_with_its_traceback_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = {**document("Failing-v0"), "agents": {"mpc": document()["agents"]["mpc"]}}
    files = [write_toml(tmp_path / "failing.toml", failing), write_toml(tmp_path / "drift.toml", document())]
    arguments = ("bench", *files, "--agents", "mpc", "--seeds", 1, "--out", tmp_path / "out", "--no-pictures")
    done = call(*arguments)
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert "Failing-v0, mpc, seed 0: failed: ValueError: the motor is too hot" in " ".join(done.stderr.split())
    assert (tmp_path / "out" / "mbrl-Drift-v0" / "mpc-0" / "run.json").exists()
    text = (tmp_path / "out" / "Failing-v0" / "mpc-0" / "failure.txt").read_text()
    assert text.startswith("Traceback")
    assert text.strip() in done.stdout  # the report
    monkeypatch.setattr(Failing, "repaired", True)
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    assert "1 run of 2 found" in done.stderr
    assert not (tmp_path / "out" / "Failing-v0" / "mpc-0" / "failure.txt").exists()
    assert "Failed" not in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_process_that_dies_takes_no_other_run_along(tmp_path: Path) -> None:
    suite = small_suite("bench_toys:Deadly-v0", agents={"ppo": document()["agents"]["ppo"]})
    trials = make_trials([suite], 2, tmp_path)
    outcomes = {to_do.seed: outcome for to_do, outcome in run_trials(trials, 2)}
    assert {seed: type(outcome) for seed, outcome in outcomes.items()} == {0: Run, 1: Failure}
    assert "The process died" in outcomes[1].error
    assert (trials[1].folder / "failure.txt").exists()


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


@pytest.mark.skipif(os.name == "nt", reason="needs process groups")
def test_a_killed_tree_of_processes_goes_on_to_the_same_results(
    small_bench: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    file, whole, _ = small_bench
    command = [sys.executable, "-m", "mbrl_gym", "bench", str(file), "--seeds", "1", "--jobs", "2"]
    command += ["--checkpoint-seconds", "0", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, env=environment()
    )
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("*/mpc-*/checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "report.md").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=environment())
    assert done.returncode == 0, done.stderr
    for folder in (whole / "mbrl-Drift-v0").glob("*-0"):
        assert results(tmp_path / "mbrl-Drift-v0" / folder.name) == results(folder), folder.name


@pytest.mark.skipif(os.name == "nt", reason="orphans keep the number of their parent")
def test_processes_end_with_a_caller_that_was_killed(tmp_path: Path) -> None:
    """They would write where the same command, given again, writes."""
    code = f"""
import os, pathlib, time
from mbrl_gym.agents.benchmark.compare import in_parallel

def work(number):
    (pathlib.Path({str(tmp_path)!r}) / str(number)).write_text(str(os.getpid()))
    time.sleep(100)

list(in_parallel(work, [1, 2], 2))
"""

    def written() -> list[Path]:
        return [place for place in tmp_path.iterdir() if place.read_text()]

    def lives(number: int) -> bool:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return False
        return not Path(f"/proc/{number}/stat").exists() or ") Z" not in Path(f"/proc/{number}/stat").read_text()

    def wait(condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 100
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.05)
        return condition()

    with subprocess.Popen([sys.executable, "-c", code], env=environment()) as caller:
        assert wait(lambda: len(written()) == 2)
        workers = [int(place.read_text()) for place in written()]
        assert caller.pid not in workers
        assert all(lives(number) for number in workers)
        caller.kill()
    assert wait(lambda: not any(lives(number) for number in workers))


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", suite_ids())
def test_the_settings_of_this_package_fit_their_environments(env_id: str) -> None:
    (suite,) = load_suites([env_id])
    assert suite.env_id == env_id
    assert suite.reference["optimal"] > suite.reference["random"]
    check_agents(suite)
    for entry in suite.agents:
        assert entry.source
    assert any(entry.algorithm in OURS for entry in suite.agents)


def test_the_settings_of_the_readme_are_right() -> None:
    text, search = re.findall(r"```toml\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text(), re.DOTALL)
    suite = parse_suite(tomllib.loads(text + search), "README.md")
    assert suite.env_id == "Pendulum-v1"
    assert not check_agents(suite)
    assert suite.agents[1].search


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"env_id": "mbrl/Nothing-v0"}, "`mbrl-gym envs` lists"),
    ({"episodes": 0}, "episodes must be from 1 to 100, but 0"),
    ({"episodes": 101}, "episodes must be from 1 to 100, but 101"),
    ({"episodes": "4"}, "episodes must be int, but '4'"),
    ({"epsodes": 4}, "no setting epsodes; there are env_id, agents, episodes"),
    ({"agents": {}}, r"there must be agents, as tables \[agents.NAME\]"),
    ({"agents": {"a": 3}}, "agents.a must be a table"),
    ({"agents": {"a": {"algorithm": "PPO"}}}, "agents.a: steps is missing"),
    ({"agents": {"a": {"algorithm": "PPQ", "steps": 9}}}, "agents.a: .*no algorithm 'PPQ': choose from MPC"),
    ({"agents": {"a": {"algorithm": "PPO", "steps": 0}}}, "agents.a: steps must be at least 1, but 0"),
    ({"agents": {"a": {"algorithm": "PPO", "steps": 9}}}, r"evaluations must be at most the steps \(9\), but 20"),
    ({"agents": {"a": {"algorithm": "PPO", "steps": True}}}, "steps must be int, but True"),
    ({"agents": {"a": {"algorithm": "PPO", "steps": 99, "stps": 3}}}, "agents.a: there is no setting stps; there are"),
    ({"reference": {"random": 1.0}}, "reference must have random and optimal"),
    ({"reference": {"random": 1.0, "optimal": 1.0}}, "must differ"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_mistakes_in_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettingError, match=message):
        parse_suite(document() | changes, "file.toml")


@pytest.mark.parametrize(
    ("algorithm", "settings", "message"),
    [
        ("PPO", {"n_stps": 3}, "agents.a: PPO cannot be made with .*n_stps"),
        ("PPO", {"learning_rate": "cubic 3"}, "learning_rate must be a number or \"linear 0.001\", but 'cubic 3'"),
        ("TD3", {"action_noise": 0.1}, 'action_noise must be {kind = "normal" or "ornstein-uhlenbeck", std = 0.1}'),
        ("DQN", {}, "agents.a: DQN cannot be made"),
        ("MPC", {"planner_kwargs": {"horizn": 3}}, "horizn"),
    ],
)
def test_settings_that_do_not_fit_the_algorithm_are_named(algorithm: str, settings: Any, message: str) -> None:
    suite = small_suite(agents={"a": {"algorithm": algorithm, "steps": 50, "settings": settings}})
    with pytest.raises(InvalidSettingError, match=message):
        check_agents(suite)


def test_values_are_replaced_on_the_command_line(tmp_path: Path) -> None:
    files = [write_toml(tmp_path / "drift.toml", document())]
    files.append(
        write_toml(
            tmp_path / "arm.toml", {**document("mbrl/Arm-v0"), "agents": {"mpc": {"algorithm": "MPC", "steps": 200}}}
        )
    )
    names = [str(file) for file in files]
    drift, arm = load_suites(names, ["agents.ppo.settings.gamma = 0.5", "agents.mpc.steps = 70", "episodes=9"])
    assert drift.episodes == arm.episodes == 9
    assert {entry.name: entry.steps for entry in drift.agents} == {"mpc": 70, "ppo": 64}
    assert drift.agents[1].settings == {"n_steps": 32, "batch_size": 32, "gamma": 0.5}
    assert arm.agents[0].steps == 70
    assert len(arm.agents) == 1
    for override, message in (("agents.sac.steps = 3", "the agents are mpc, ppo"), ("steps", "a line of TOML")):
        with pytest.raises(InvalidSettingError, match=message):
            load_suites(names, [override])


def test_mistakes_in_bench_are_one_line(tmp_path: Path) -> None:
    file = write_toml(tmp_path / "drift.toml", document())
    (tmp_path / "bad.toml").write_text("env_id = ")
    cases = [
        (["mbrl/Nothing-v0"], "no benchmark settings for 'mbrl/Nothing-v0': give a .toml file, or one of"),
        ([tmp_path / "none.toml"], "there is no file"),
        ([tmp_path / "bad.toml"], "is no TOML"),
        ([file, "--agents", "sac"], "there is no agent sac: choose from mpc, ppo"),
        ([file, "--seeds", "0"], "seeds must be at least 1"),
        ([file, "--jobs", "0"], "jobs must be at least 1"),
        ([file, "--checkpoint-seconds", "-1"], "at least 0"),
    ]
    for arguments, message in cases:
        done = call("bench", *arguments, "--out", tmp_path / "out")
        assert done.exit_code == 2, done.output
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    done = call("report", tmp_path / "out")
    assert done.exit_code == 2
    assert "there is no folder" in done.stderr


def test_algorithms_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    for name in ALGORITHMS:
        if name in ("CrossQ", "TQC"):
            with pytest.raises(MissingPackageError, match=r"mbrl-gym\[contrib\]"):
                algorithm_of(name)
        else:
            assert algorithm_of(name).__name__ == name
    suite = small_suite(agents={"tqc": {"algorithm": "TQC", "steps": 50}, **document()["agents"]})
    plan = make_plan([suite], [], 1, Path("nowhere"), 60)
    assert {each.entry.name for each in plan.trials} == {"mpc", "ppo"}
    assert "tqc is left out" in plan.notes[0]


# Times ----------------------------------------------------------------------------------------------------------------


def test_inner_parts_do_not_count_for_outer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    watch = Stopwatch({"env": 100.0})
    clock.now = 5
    with watch.timing("update"):
        clock.now = 6
        with watch.timing("fit"):
            clock.now = 10
            watch.around("env", lambda: setattr(clock, "now", 17))()
        clock.now = 20
    clock.now = 99
    assert watch.seconds == {"env": 107, "fit": 4, "plan": 0, "update": 4}


def test_agents_keep_no_trace_of_the_stopwatch(tmp_path: Path) -> None:
    for algorithm in ("MPC", "PPO"):
        env_id, settings = SMALL.get(algorithm, (DRIFT, {"n_steps": 32, "batch_size": 32}))
        agent = algorithm_of(algorithm)("iCEM" if algorithm == "MPC" else "MlpPolicy", env_id, **settings)
        before = set(vars(agent)), set(vars(agent.env))
        with stopwatch.splitting(agent, Stopwatch()):
            assert set(vars(agent)) != before[0]
        assert (set(vars(agent)), set(vars(agent.env))) == before
