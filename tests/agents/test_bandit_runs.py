"""Runs of many bandits: their figures by hand, their files, and the command."""

from __future__ import annotations

import csv
import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from typer.testing import CliRunner

from mbrl_gym.agents import cli, run_bandit
from mbrl_gym.agents.bandits import UCB1, BanditRun, parse_algorithms, parse_settings
from mbrl_gym.agents.bandits.report import figures
from mbrl_gym.errors import InvalidSettingError

BERNOULLI = "mbrl/BanditBernoulli-v0"


@dataclass(frozen=True, kw_only=True)
class Always(UCB1):
    """Pulls one arm for ever."""

    arm: int = 0

    def choose(self, state, generator):
        return np.full(len(state.pulls), self.arm)


def test_a_run_that_is_known_beforehand():
    run = run_bandit(Always(arm=1), BERNOULLI, problems=400, pulls=50, means=[0.75, 0.5, 0.0])
    assert_allclose(run.regret, 0.25 * np.arange(1, 51))
    assert_allclose(run.final_regret, np.full(400, 12.5))
    assert_allclose(run.regret_error, 0)
    assert_array_equal(run.optimal, 0)
    assert_array_equal(run.optimal_error, 0)
    assert abs(run.reward.mean() - 0.5) < 4 * 0.5 / math.sqrt(400 * 50)
    assert run.reward_error.mean() == pytest.approx(0.5 / math.sqrt(400), rel=0.1)  # blocks of one pull
    divergence = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    constant = 0.25 / divergence + 0.75 / math.log(4.0)
    assert_allclose(run.lai_robbins, constant, rtol=1e-6)
    assert run.law_ratio == pytest.approx(12.5 / (constant * math.log(50)), rel=1e-6)
    assert run.law_slope(49) == pytest.approx(0.25 / (constant * math.log(50 / 49)), rel=1e-6)


def test_the_slope_is_that_of_a_line_through_the_regret_against_the_logarithm():
    run = run_bandit(Always(), BERNOULLI, problems=2, pulls=1_000, means=[0.75, 0.5])
    steps = 0.4 * (np.arange(1_000) % 2)  # regret that grows by steps; a line through two pulls could be anything
    known = dataclasses.replace(run, regret=5.0 + 3.0 * np.log(np.arange(1, 1_001)) + steps)
    assert known.law_slope(10) == pytest.approx(3.0 / run.lai_robbins[0], rel=0.05)
    smooth = dataclasses.replace(run, regret=5.0 + 3.0 * np.log(np.arange(1, 1_001)))
    for since in (1, 10, 998):
        assert smooth.law_slope(since) == pytest.approx(3.0 / run.lai_robbins[0], rel=1e-6)


def test_errors_are_those_of_means_over_the_problems():
    """Pulls of one problem are not independent: their means over a block spread more than pulls in a row would."""
    run = run_bandit(Always(), problems=500, pulls=400, env_kwargs={"mean_std": 2.0})
    assert run.block == 4
    assert run.reward_error.shape == run.optimal_error.shape == (100,)
    assert run.reward_error.mean() == pytest.approx(math.sqrt(4.0 + 1.0 / 4) / math.sqrt(500), rel=0.1)
    assert run.optimal_error[0] == pytest.approx(math.sqrt(0.1 * 0.9 / 500), rel=0.2)


def test_all_algorithms_meet_the_same_problems_and_a_seed_repeats_them():
    first, second = (run_bandit(name, problems=20, pulls=30, seed=3) for name in ("UCB1", "Thompson"))
    assert_array_equal(first.lai_robbins, second.lai_robbins)
    again, other = (run_bandit("UCB1", problems=20, pulls=30, seed=seed) for seed in (3, 4))
    assert_array_equal(first.final_regret, again.final_regret)
    assert not np.array_equal(first.lai_robbins, other.lai_robbins)


def test_runs_are_called_by_their_algorithm_and_what_is_not_the_default():
    assert run_bandit("kl-ucb", problems=2, pulls=2).label == "KLUCB"
    assert run_bandit("UCB1", problems=2, pulls=2, coefficient=2.0).label == "UCB1(coefficient=2.0)"
    assert run_bandit(Always(arm=1), problems=2, pulls=2).label == "Always(arm=1)"
    assert run_bandit("UCB1", problems=2, pulls=2, label="mine").label == "mine"


def test_arms_that_drift_have_no_law():
    run = run_bandit("discounted-UCB", "mbrl/BanditDrifting-v0", problems=5, pulls=20)
    assert run.lai_robbins is None
    assert run.law_ratio is None
    assert run.law_slope(2) is None
    assert figures(run)["law_ratio"] is None


def test_means_that_are_equal_lose_nothing():
    run = run_bandit("UCB1", BERNOULLI, problems=5, pulls=20, means=[0.5, 0.5])
    assert_array_equal(run.final_regret, 0)
    assert run.law_ratio is None
    assert run.law_slope(2) is None


def test_kl_ucb_follows_the_law_on_easy_arms():
    """Far from the horizon of the published figure, and with a wider margin: the first tenth is the start's."""
    run = run_bandit("KL-UCB", BERNOULLI, problems=200, pulls=2_000, means=[0.9, 0.5])
    reference = run_bandit("UCB1", BERNOULLI, problems=200, pulls=2_000, means=[0.9, 0.5])
    assert 0.6 < run.law_slope(200) < 1.4
    assert reference.law_slope(200) > 1.5 * run.law_slope(200)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problems": 0}, "problems must be at least 1, but 0 was given"),
        ({"pulls": -1}, "pulls must be at least 1, but -1 was given"),
        ({"env_kwargs": {"weight": 1.0}}, "has no parameter 'weight'; it has: arms"),
        ({"coefficient": -1.0}, "coefficient of UCB1 must be at least 0"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(InvalidSettingError, match=message):
        run_bandit("UCB1", **{"problems": 2, "pulls": 3, **settings})


def test_the_slope_needs_a_pull_before_the_last():
    run = run_bandit("UCB1", problems=2, pulls=5)
    with pytest.raises(InvalidSettingError, match="since must be a pull from 1 to 4, but 5 was given"):
        run.law_slope(5)


# What the command takes --------------------------------------------------------------------------------------------


def test_algorithms_and_settings_are_read_as_written():
    found = parse_algorithms("UCB1:coefficient=2, gradient:baseline=false:step_size=0.4,ucb1")
    assert list(found) == ["UCB1:coefficient=2", "gradient:baseline=false:step_size=0.4", "ucb1"]
    assert found["UCB1:coefficient=2"].coefficient == 2
    assert not found["gradient:baseline=false:step_size=0.4"].baseline
    assert parse_settings("a=1, b=0.5,c=none,d=word,e=True", ",") == {
        "a": 1,
        "b": 0.5,
        "c": None,
        "d": "word",
        "e": True,
    }
    assert parse_settings("", ",") == {}


@pytest.mark.parametrize("text", ["", " , ", "UCB1:2", "UCB1:coefficient", "UCB1:=2"])
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(InvalidSettingError):
        parse_algorithms(text)


def call(*arguments):
    return CliRunner(env={"COLUMNS": "120"}).invoke(cli.app, ["bandits", *map(str, arguments)])


def test_the_command_writes_everything(tmp_path):
    algorithms = "UCB1:coefficient=0.5,explore-then-commit"
    options = ("--problems", 30, "--pulls", 200, "--means", "0.9,0.2,0.1", "--out", tmp_path / "new")
    done = call(BERNOULLI, "--algorithms", algorithms, *options)
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"results.csv", "curves.csv", "curves.png"}
    with open(tmp_path / "new" / "results.csv", newline="") as file:
        rows = {row["algorithm"]: row for row in csv.DictReader(file)}
    run = run_bandit("UCB1", BERNOULLI, problems=30, pulls=200, means=[0.9, 0.2, 0.1], coefficient=0.5)
    row = rows["UCB1:coefficient=0.5"]
    assert float(row["regret"]) == pytest.approx(run.regret[-1])
    assert float(row["optimal"]) == pytest.approx(run.optimal[-20:].mean())
    assert float(row["law_ratio"]) == pytest.approx(run.law_ratio)
    assert "mbrl/BanditBernoulli-v0 (30 problems, 200 pulls)" in done.stdout
    assert f"{run.regret[-1]:.1f} ±" in done.stdout
    with open(tmp_path / "new" / "curves.csv", newline="") as file:
        curves = [each for each in csv.DictReader(file) if each["algorithm"] == "explore-then-commit"]
    assert (curves[0]["pull"], curves[-1]["pull"]) == ("1", "200")
    with Image.open(tmp_path / "new" / "curves.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mbrl/Arm-v0",), "bandit algorithms take Discrete(k) actions"),
        (("--algorithms", "UCB9"), "the algorithm must be one of"),
        (("--means", "0.9,high"), "--means must be numbers such as 0.9,0.8,0.5, but '0.9,high' was given"),
        (("--settings", "arms"), "settings must be of the form name=value, but 'arms' was given"),
        (("no/such-v0",), "no"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path):
    done = call(*arguments, "--problems", 2, "--pulls", 3, "--out", tmp_path)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_of_one_pull_is_written_too(tmp_path):
    done = call("--algorithms", "UCB1", "--problems", 3, "--pulls", 1, "--out", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert isinstance(run_bandit("UCB1", problems=1, pulls=1), BanditRun)
