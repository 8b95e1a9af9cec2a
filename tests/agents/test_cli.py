"""The command line: what it prints and writes, and one line for every mistake."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from PIL import Image
from stable_baselines3 import PPO
from typer.testing import CliRunner

import mbrl_gym
from mbrl_gym.agents import BanditPolicy, benchmark, cli
from mbrl_gym.agents.benchmark import film
from mbrl_gym.errors import InvalidSettingError

DRIFT = "mbrl/Drift-v0"
TINY = ["--evaluations", "2", "--episodes", "3"]


def call(*arguments: Any, width: int = 100) -> Any:
    """Run the command in this process."""
    return CliRunner(env={"COLUMNS": str(width)}).invoke(cli.app, [str(argument) for argument in arguments])


def compare(out: Path, *options: Any) -> Any:
    return call("compare", DRIFT, "--agents", "mpc,sac", "--seeds", 2, *TINY, "--out", out, *options)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a finished comparison and what the command printed."""
    out = tmp_path_factory.mktemp("compare") / "new" / "results"
    return out, compare(out, "--steps", "mpc=30,sac=20", "--gif")


def final_returns(out: Path, agent: str) -> list[float]:
    files = sorted(out.glob(f"runs/{agent}-*/curve.csv"))
    return [float(list(csv.DictReader(file.read_text().splitlines()))[-1]["mean_return"]) for file in files]


# compare --------------------------------------------------------------------------------------------------------


def test_compare_writes_everything(results: tuple[Path, Any]) -> None:
    out, done = results
    assert done.exit_code == 0, done.stderr
    names = {path.name for path in out.iterdir()}
    assert names == {"results.csv", "curves.csv", "learning_curves.png", "mpc.gif", "runs"}
    assert {path.name for path in (out / "runs").iterdir()} == {"mpc-0", "mpc-1", "sac-0", "sac-1"}
    rows = {row["agent"]: row for row in csv.DictReader((out / "results.csv").read_text().splitlines())}
    assert list(rows) == ["mpc", "sac", "optimum", "random"]
    for agent in ("mpc", "sac"):
        low, high = sorted(final_returns(out, agent))
        assert float(rows[agent]["return_min"]) == low
        assert float(rows[agent]["return_max"]) == high
        assert float(rows[agent]["return_median"]) == pytest.approx((low + high) / 2)
    assert float(rows["sac"]["steps_median"]) == 20
    assert len((out / "curves.csv").read_text().splitlines()) == 1 + 4 * 3
    with Image.open(out / "mpc.gif") as film, Image.open(out / "learning_curves.png") as picture:
        assert film.n_frames == 101
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50


def test_compare_and_watch_take_choices(tmp_path: Path) -> None:
    options = ("--steps", 101, "--seeds", 1, "--evaluations", 1, "--episodes", 1)
    done = call("compare", "FrozenLake-v1", "--agents", "mpc", *options, "--out", tmp_path)
    assert done.exit_code == 0, done.stderr
    rows = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert [row["agent"] for row in rows] == ["mpc", "random"]
    agent = tmp_path / "runs" / "mpc-0" / "agent.zip"
    done = call("watch", "FrozenLake-v1", "--agent", agent, "--gif", tmp_path / "a.gif")
    assert done.exit_code == 0, done.stderr


def test_compare_prints_the_table_and_where_the_files_are(results: tuple[Path, Any]) -> None:
    out, done = results
    assert re.search(r"mbrl/Drift-v0 \(2 seeds, 3 evaluation episodes\)", done.stdout)
    for agent, steps in (("mpc", 50), ("sac", 20)):
        median = sum(final_returns(out, agent)) / 2
        assert re.search(rf"{agent} +−{-median:,.2f} .* {steps} ", done.stdout)
    assert re.search(r"optimum +−\d", done.stdout)
    assert re.search(r"random +−\d", done.stdout)
    assert done.stdout.rstrip().endswith("runs/ holds the agents")
    for agent in ("mpc", "sac"):
        for seed in (0, 1):
            assert re.search(rf"{agent}, seed {seed}: return -[\d.,]+ after \d+ steps in [\d.]+ s", done.stderr)


def test_the_same_command_goes_on(results: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    out, first = results
    asked: list[list[tuple[str, int, int]]] = []
    run_jobs = benchmark.run_jobs

    def note(jobs: Any, processes: int) -> Any:
        asked.append([(job.agent, job.seed, job.steps) for job in jobs])
        return run_jobs(jobs, processes)

    monkeypatch.setattr(benchmark, "run_jobs", note)
    again = compare(out, "--steps", "mpc=30,sac=20")
    (out / "runs" / "sac-1" / "run.json").unlink()
    compare(out, "--steps", "mpc=30,sac=20")
    compare(out, "--steps", "mpc=30,sac=21")
    assert asked == [[], [("sac", 1, 20)], [("sac", 0, 21), ("sac", 1, 21)]]
    assert again.stdout == first.stdout.replace("mpc.gif, ", "").replace(", mpc.gif", "")
    assert "4 runs of 4 found" in again.stderr


def test_ctrl_c_is_one_line_and_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_and_stop(jobs: Any, processes: int) -> Any:
        (first, *_) = jobs
        yield benchmark.run(DRIFT, first.agent, first.seed, 20, evaluations=2, episodes=3, folder=first.folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "run_jobs", one_and_stop)
    done = call("compare", DRIFT, "--agents", "sac", "--steps", 20, "--seeds", 3, *TINY, "--out", tmp_path)
    assert done.exit_code == 130
    last = done.stderr.strip().splitlines()[-1]
    assert last == "mbrl-gym: interrupted. 1 run of 3 finished: the same command goes on with the others"


def alive(group: int) -> bool:
    """Whether a process group has any process left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="needs process groups")
def test_ctrl_c_in_a_terminal_keeps_finished_runs_and_leaves_no_process(tmp_path: Path) -> None:
    options = ["--agents", "sac,td3", "--steps", "sac=100000,td3=5", "--seeds", "1", "--jobs", "2", *TINY]
    process = subprocess.Popen(
        [sys.executable, "-m", "mbrl_gym", "compare", DRIFT, *options, "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, which gets the signal as a whole, as from a terminal
        # Also where these tests run in the background, whose processes ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    finished, deadline = tmp_path / "runs" / "td3-0" / "run.json", time.monotonic() + 100
    while not finished.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted. 1 run of 2 finished" in errors
    assert "Traceback" not in errors
    assert finished.exists()
    deadline = time.monotonic() + 10
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process.pid)


# Mistakes -------------------------------------------------------------------------------------------------------

MISTAKES = {
    "unknown environment": ([DRIFT.replace("Drift", "Drft")], "Did you mean: `Drift`.*`mbrl-gym envs` lists"),
    "unknown version": (["mbrl/Drift-v7"], "versioned environments: .*v0"),
    "unknown namespace": (["nowhere/Drift-v0"], "Namespace nowhere not found"),
    "unknown module": (["no_such_module:Drift-v0"], "No module named 'no_such_module'"),
    "malformed id": (["Drift v0"], "Malformed"),
    "unknown agent": ([DRIFT, "--agents", "mpc,a2c"], "no agent 'a2c': choose from mpc, pets, ppo, sac, td3, dqn"),
    "no agent": ([DRIFT, "--agents", ","], "--agents must be names"),
    "dqn on Box": ([DRIFT, "--agents", "dqn"], "dqn cannot .*agents that can are mpc, pets, ppo, sac, td3"),
    "sac on Discrete": (["mbrl/Bandit-v0", "--agents", "sac"], "sac cannot .*agents that can are mpc, pets, ppo, dqn"),
    "mpc on Tuple": (["Blackjack-v1", "--agents", "mpc"], "mpc cannot .*Tuple.*no agent here can.*FlattenObservation"),
    "steps": ([DRIFT, "--steps", "many"], "--steps must be a number .*'many' was given"),
    "steps of too few": ([DRIFT, "--agents", "mpc,ppo", "--steps", "mpc=50"], "--agents are mpc, ppo"),
    "steps too few": ([DRIFT, "--agents", "mpc", "--steps", "20"], "at least 26, but 20"),
    "seeds": ([DRIFT, "--seeds", "0"], "seeds must be at least 1"),
    "jobs": ([DRIFT, "--jobs", "0"], "jobs must be at least 1"),
    "episodes": ([DRIFT, "--episodes", "0"], "episodes must be at least 1"),
    "evaluations": ([DRIFT, "--evaluations", "0"], "evaluations must be at least 1"),
}


def assert_one_line(done: Any, message: str) -> None:
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.match(rf"mbrl-gym: .*{message}", line), line


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_compare_are_one_line(mistake: str, tmp_path: Path) -> None:
    arguments, message = MISTAKES[mistake]
    assert_one_line(call("compare", *arguments, "--out", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = call("compare", DRIFT, "--agents", "sac", "--steps", 20, "--out", tmp_path / "file" / "out")
    assert_one_line(done, "cannot write to .*give another --out")


def test_a_gif_of_what_cannot_be_drawn_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mbrl_gym.envs.gym_env.TaskEnv, "metadata", {"render_modes": [], "render_fps": 10})
    done = call("compare", DRIFT, "--agents", "sac", "--out", tmp_path / "out", "--gif")
    assert_one_line(done, "cannot draw in mode 'rgb_array'")


@pytest.mark.parametrize(
    ("steps", "agents", "expected"),
    [
        ("500", "mpc,ppo", {"mpc": 500, "ppo": 500}),
        ("ppo=7,mpc=5", "mpc, ppo", {"mpc": 5, "ppo": 7}),
        (" mpc = 5 ", "mpc,mpc", {"mpc": 5}),
        ("", "mpc", None),
        ("0", "mpc", None),
        ("-5", "mpc", None),
        ("1e3", "mpc", None),
        ("٣", "mpc", None),
        ("500,600", "mpc,ppo", None),
        ("mpc=5,mpc=6", "mpc", None),
        ("mpc=5,ppo=6", "mpc", None),
        ("500,ppo=6", "mpc,ppo", None),
        ("mpc=", "mpc", None),
    ],
)
def test_steps(steps: str, agents: str, expected: dict[str, int] | None) -> None:
    if expected is None:
        with pytest.raises(InvalidSettingError, match="--steps must be"):
            cli.parse_steps(steps, agents)
        return
    parsed = cli.parse_steps(steps, agents)
    assert parsed == expected
    assert list(parsed) == list(expected)


# watch ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.mark.usefixtures("no_screen")
def test_watch_shows_the_plan_in_a_window(results: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from mbrl_gym.envs.rendering import Renderer

    shown: list[bool] = []
    monkeypatch.setattr(Renderer, "draw", lambda self, episode: shown.append(episode.imagined is not None))
    done = call("watch", DRIFT, "--agent", results[0] / "runs" / "mpc-0" / "agent.zip", "--episodes", 1, "--seed", 4)
    assert done.exit_code == 0, done.stderr
    assert sum(shown) == 100  # a plan before each step
    agent = benchmark.load_agent(results[0] / "runs" / "mpc-0" / "agent.zip")
    *_, expected = benchmark.play(gym.make(DRIFT), agent, seed=4)
    assert done.stdout == f"episode 1: return {expected:.2f}\n"


@pytest.mark.usefixtures("no_screen")
def test_watch_shows_agents_of_stable_baselines3(tmp_path: Path) -> None:
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "agent.zip")
    done = call("watch", "CartPole-v1", "--agent", tmp_path / "agent.zip", "--algo", "ppo", "--episodes", 1)
    assert done.exit_code == 0, done.stderr
    assert re.fullmatch(r"episode 1: return \d+\.00\n", done.stdout)


def test_watch_writes_a_gif(results: tuple[Path, Any], tmp_path: Path) -> None:
    agent = results[0] / "runs" / "sac-0" / "agent.zip"
    done = call("watch", DRIFT, "--agent", agent, "--algo", "sac", "--gif", tmp_path / "a.gif")
    assert done.exit_code == 0, done.stderr
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.n_frames, film.size) == (101, (480, 360))


def test_mistakes_in_watch_are_one_line(results: tuple[Path, Any], tmp_path: Path) -> None:
    planned, other = (results[0] / "runs" / f"{agent}-0" / "agent.zip" for agent in ("mpc", "sac"))
    (tmp_path / "cut.zip").write_bytes(planned.read_bytes()[:2000])
    cases = [
        (DRIFT, tmp_path / "none.zip", [], "there is no file"),
        (DRIFT, tmp_path / "cut.zip", [], "not a complete"),
        (DRIFT, tmp_path / "cut.zip", ["--algo", "sac"], "damaged or of another algorithm"),
        (DRIFT, tmp_path, [], "not a complete"),
        (DRIFT, other, [], r"holds pickled code: if you trust it.*--algo ppo\|sac\|td3\|dqn"),
        (DRIFT, other, ["--algo", "ppo"], "damaged or of another algorithm"),
        (DRIFT, other, ["--algo", "a2c"], "choose from ppo, sac, td3, dqn"),
        (DRIFT, planned, ["--algo", "sac"], "file of this package"),
        (DRIFT, planned, ["--gif", tmp_path / "cut.zip" / "a.gif"], "give another --gif"),
        ("mbrl/Arm-v0", planned, [], r"trained in another environment: .*Box\(8,\).*Box\(1,\)"),
        ("mbrl/Nothing-v0", planned, [], "doesn't exist"),
    ]
    for env_id, agent, options, message in cases:
        assert_one_line(call("watch", env_id, "--agent", agent, *options), message)


def test_watch_takes_a_bandit_algorithm_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "MAX_FRAMES", 25)  # of 1,000 pulls
    bandit, name = "mbrl/BanditBernoulli-v0", "UCB1:coefficient=0"
    done = call("watch", bandit, "--algorithm", name, "--gif", tmp_path / "a.gif", "--seed", 3)
    assert done.exit_code == 0, done.stderr
    *_, expected = benchmark.play(gym.make(bandit), BanditPolicy("UCB1", bandit, coefficient=0.0, seed=3), seed=3)
    assert done.stdout == f"{tmp_path / 'a.gif'}: return {expected:.2f}\n"
    *_, other = benchmark.play(gym.make(bandit), BanditPolicy("UCB1", bandit, seed=3), seed=3)
    assert other != expected
    with Image.open(tmp_path / "a.gif") as shown:
        assert (shown.n_frames, shown.size) == (26, (480, 360))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], r"--agent FILE.*--algorithm UCB1"),
        (["--agent", "a.zip", "--algorithm", "UCB1"], r"--agent FILE.*--algorithm UCB1"),
        (["--algorithm", "UCB9"], "must be one of epsilon-greedy, UCB1"),
        (["--algorithm", "UCB1,Thompson"], "one bandit algorithm and no --algo, not 'UCB1,Thompson'"),
        (["--algorithm", "UCB1", "--algo", "ppo"], "one bandit algorithm and no --algo"),
        (["--algorithm", "UCB1:speed=2"], "no setting 'speed'"),
    ],
)
def test_mistakes_with_bandits_in_watch_are_one_line(options: list[str], message: str) -> None:
    assert_one_line(call("watch", "mbrl/Bandit-v0", *options), message)
    assert_one_line(call("watch", DRIFT, "--algorithm", "UCB1"), "bandit algorithms take")


def test_help_warns_of_pickled_code() -> None:
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", call("watch", "--help").stdout).split())
    assert "open only those that you trust" in text


# envs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 140])
def test_envs_lists_every_environment(width: int) -> None:
    done = call("envs", width=width)
    assert done.exit_code == 0
    for env_id in mbrl_gym.env_ids():
        steps = f"{gym.spec(env_id).max_episode_steps:,}"
        assert re.search(rf"^ *{env_id} +(Box|Dict|Discrete).* {steps} *$", done.stdout, re.MULTILINE)
    text = " ".join(done.stdout.split())
    assert "A two-link arm in the plane reaches for a target." in text
    assert f"random {mbrl_gym.reference('mbrl/Drift-v0').random:,.2f}, optimum" in text
    assert max(len(line) for line in done.stdout.splitlines()) <= width


def test_the_module_loads_neither_torch_nor_pygame() -> None:
    script = """
import sys
from mbrl_gym.agents import cli
sys.argv = ["mbrl-gym", "envs"]
try:
    cli.main()
finally:
    heavy = {"torch", "stable_baselines3", "pygame", "matplotlib"} & set(sys.modules)
    assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert DRIFT in done.stdout
