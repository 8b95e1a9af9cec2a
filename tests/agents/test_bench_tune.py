"""Searching settings: where, by what episodes, and that a search goes on where it was broken off."""

from __future__ import annotations

import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_toys import document, small_suite, write_toml
from test_cli import call

from mbrl_gym.agents.benchmark import tune as tuning_module
from mbrl_gym.agents.benchmark.evaluation import Evaluation
from mbrl_gym.agents.benchmark.records import Run
from mbrl_gym.agents.benchmark.search import Choice, Range, Space, merged
from mbrl_gym.agents.benchmark.suite import describe_entry, load_suites, parse_suite, suite_ids
from mbrl_gym.agents.benchmark.toml import toml_of
from mbrl_gym.agents.benchmark.tune import EVALUATION_SEED, Tuning, best, finished, opened, tune
from mbrl_gym.errors import InvalidSettingError, MissingPackageError
from mbrl_gym.scores import EVALUATION_SEEDS

SEARCH = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "n_epochs": {"low": 1, "high": 4},
    "policy_kwargs": {"net_arch": [[8], [8, 8]]},
}


def tuned_suite(**changes: Any) -> Any:
    agents = document()["agents"]
    agents["ppo"] |= {"search": SEARCH, **changes}
    return small_suite(agents=agents)


# Where to search ------------------------------------------------------------------------------------------------------


class Highest:
    """Suggests the last choice and the highest number, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def suggest_categorical(self, name: str, values: Any) -> Any:
        self.asked[name] = values
        return values[-1]

    def suggest_int(self, name: str, low: int, high: int, step: int = 1, log: bool = False) -> int:
        self.asked[name] = (low, high, step, log)
        return high

    def suggest_float(self, name: str, low: float, high: float, step: float | None = None, log: bool = False) -> float:
        self.asked[name] = (low, high, step, log)
        return high


def test_ranges_and_choices_are_read_and_suggested() -> None:
    space = Space.parse(SEARCH)
    assert space.parts == {
        "learning_rate": Range(1e-4, 1e-2, log=True),
        "n_epochs": Range(1, 4),
        "policy_kwargs.net_arch": Choice(("[8]", "[8, 8]")),
    }
    asker = Highest()
    found = space.suggest(asker)
    assert found == {"learning_rate": 1e-2, "n_epochs": 4, "policy_kwargs": {"net_arch": [8, 8]}}
    assert asker.asked["learning_rate"] == (1e-4, 1e-2, None, True)
    assert asker.asked["n_epochs"] == (1, 4, 1, False)
    before = {"gamma": 0.9, "policy_kwargs": {"net_arch": [4], "log_std_init": -2}}
    assert merged(before, found) == {
        "gamma": 0.9,
        "learning_rate": 1e-2,
        "n_epochs": 4,
        "policy_kwargs": {"net_arch": [8, 8], "log_std_init": -2},
    }
    assert before["policy_kwargs"]["net_arch"] == [4]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "gamma must be a list, or a range"),
        ({"low": 1}, "gamma must be a list, or a range"),
        ({"low": 1, "high": 2, "lag": True}, "gamma must be a list, or a range"),
        ({"low": "1", "high": 2}, "gamma must be a list, or a range"),
        ({"low": 1, "high": 2, "log": 1}, "gamma must be a list, or a range"),
        ({"low": 2, "high": 2}, "low < high"),
        ({"low": 1, "high": 2, "step": 3}, "a step that fits"),
        ({"low": 0.0, "high": 2.0, "log": True}, "log needs low > 0"),
        ({"low": 1, "high": 3, "step": 0.5}, "must be whole"),
        ([0.9], "at least two different values"),
        ([0.9, 0.9, 1], "at least two different values"),
    ],
)
def test_mistakes_in_a_search_are_named(given: Any, message: str) -> None:
    with pytest.raises(InvalidSettingError, match=r"file.toml: agents.ppo.search: .*gamma.*") as caught:
        parse_suite(
            {**document(), "agents": {"ppo": {**document()["agents"]["ppo"], "search": {"gamma": given}}}}, "file.toml"
        )
    assert message in str(caught.value)


def test_where_to_search_does_not_decide_the_result_of_a_run() -> None:
    with_search, without = tuned_suite(), small_suite()
    described = [describe_entry(suite, suite.agents[1], 0) for suite in (with_search, without)]
    assert described[0] == described[1]


@pytest.mark.parametrize("env_id", suite_ids())
def test_settings_are_written_as_they_were_read(env_id: str) -> None:
    (suite,) = load_suites([env_id])
    for entry in suite.agents:
        again = parse_suite(tomllib.loads(toml_of(suite, entry)), "again")
        assert again == replace(suite, agents=(entry,))


@pytest.mark.parametrize("env_id", ["mbrl/Drift-v0", "Pendulum-v1"])
def test_other_episodes_are_tuned_for_than_published(env_id: str) -> None:
    published = Evaluation(env_id, 20, scored=True)
    own, again = (Evaluation(env_id, 20, seed=EVALUATION_SEED) for _ in range(2))
    assert EVALUATION_SEED not in EVALUATION_SEEDS
    np.testing.assert_array_equal(own.starts(), again.starts())
    rows = {tuple(row) for row in published.starts().tolist()}
    assert not rows & {tuple(row) for row in own.starts().tolist()}


def test_the_command_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_toml(tmp_path / "drift.toml", document())
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "optuna", None)
        with pytest.raises(MissingPackageError, match=r"mbrl-gym\[tune\]"):
            tuning_module.optuna()
        done = call("tune", file, "--agent", "ppo", "--out", tmp_path / "out")
        assert done.exit_code == 2
        assert "mbrl-gym[tune]" in done.stderr
    monkeypatch.setattr(tuning_module, "optuna", lambda: None)
    search = ("--search", "gamma=[0.9,0.99]")
    for arguments, message in (
        (["--agent", "sac"], "there is no agent sac: choose from mpc, ppo"),
        (["--agent", "ppo"], "[agents.ppo.search]"),
        (["--agent", "ppo", *search, "--trials", 0], "--trials must be at least 1"),
        (["--agent", "ppo", *search, "--objective", "best"], "--objective must be final or average"),
        (["--agent", "ppo", "--search", "gamma=0.9"], "gamma must be a list, or a range"),
    ):
        done = call("tune", file, *arguments, "--out", tmp_path / "out")
        assert done.exit_code == 2, done.output
        assert message in done.stderr
    assert not (tmp_path / "out").exists()


# Searching, with Optuna -----------------------------------------------------------------------------------------------


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace runs by what their learning rate makes of them: best at 1e-3. Returns the trials that were run."""
    done: list[Any] = []

    def run_trial(trial: Any, tell: Any) -> Run:
        done.append(trial)
        rate = trial.entry.settings["learning_rate"]
        if rate > 9e-3:
            raise ValueError("it diverged")
        trial.folder.mkdir(parents=True, exist_ok=True)
        final = -10 - 100 * abs(np.log10(rate) + 3)
        rows = [(0, 0.0, -500.0, 0.0), (32, 1.0, 2 * final, 0.0), (64, 2.0, final + trial.seed % 2, 0.0)]
        for i in range(1, 4):
            tell(rows[:i])
        return Run.of("ppo", trial.seed, trial.folder, rows, 1.0)

    monkeypatch.setattr(tuning_module, "run_trial", run_trial)
    return done


def search_of(folder: Path, **changes: Any) -> Tuning:
    suite = tuned_suite()
    return Tuning(suite, suite.agents[1], folder, **changes)


def test_a_search_finds_the_best_settings_and_breaks_off_others(tmp_path: Path, curves: list[Any]) -> None:
    pytest.importorskip("optuna")
    tuning = search_of(tmp_path, seeds=2)
    with opened(tuning) as study:
        tried = list(tune(tuning, study, 40))
        assert len(tried) == len(finished(study)) == 40
        found = best(tuning, study)
    assert found is not None
    entry, trial = found
    complete = [each for each in tried if each.value is not None and not each.pruned]
    assert trial.value == max(each.value for each in complete)
    assert np.log10(entry.settings["learning_rate"]) == pytest.approx(-3, abs=0.1)
    assert entry.settings["n_steps"] == 32
    assert entry.search == {}
    pruned = [each for each in tried if each.pruned]
    assert len(pruned) >= 5
    assert all(each.value < np.median([other.value for other in complete]) for each in pruned)
    assert trial.value == pytest.approx(score_of(tuning, entry), abs=1e-9)
    assert {each.evaluation_seed for each in curves} == {EVALUATION_SEED}
    assert {each.seed for each in curves} == {1000, 1001}


def score_of(tuning: Tuning, entry: Any) -> float:
    """The score of the mean return of both seeds."""
    final = -10 - 100 * abs(np.log10(entry.settings["learning_rate"]) + 3) + 0.5
    ends = tuning.suite.reference
    return (final - ends["random"]) / (ends["optimal"] - ends["random"])


def test_an_interrupted_search_goes_on_with_the_trial_that_was_broken_off(
    tmp_path: Path, curves: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    tuning, run = search_of(tmp_path), tuning_module.run_trial

    def interrupted(trial: Any, tell: Any) -> Run:
        if len(curves) == 3:
            curves.append(trial)
            raise KeyboardInterrupt
        return run(trial, tell)

    with monkeypatch.context() as patch, opened(tuning) as study:
        patch.setattr(tuning_module, "run_trial", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(tune(tuning, study, 6))
    with opened(tuning) as study:
        assert len(finished(study)) == 3
        tried = list(tune(tuning, study, 6))
        assert len(finished(study)) == 6
    assert len(tried) == 3
    assert curves[4].entry == curves[3].entry
    assert curves[4].folder == curves[3].folder
    other = replace(tuning, seeds=2)
    with pytest.raises(InvalidSettingError, match="a search of other settings: give another --out"), opened(other):
        pass


def test_failures_are_told_and_a_search_in_which_nothing_succeeds_ends(tmp_path: Path, curves: list[Any]) -> None:
    pytest.importorskip("optuna")
    suite = tuned_suite(search={"learning_rate": [1e-3, 1.0]})
    tuning = Tuning(suite, suite.agents[1], tmp_path / "some")
    with opened(tuning) as study:
        study.enqueue_trial({"learning_rate": "0.001"})
        study.enqueue_trial({"learning_rate": "1.0"})
        good, bad = tune(tuning, study, 2)
        assert good.error == ""
        assert bad.error == "ValueError: it diverged"
        assert len(finished(study)) == 2
    suite = tuned_suite(search={"learning_rate": [2.0, 1.0]})
    tuning = Tuning(suite, suite.agents[1], tmp_path / "none")
    with opened(tuning) as study, pytest.raises(InvalidSettingError, match=r"trial 0 failed with .*it diverged"):
        list(tune(tuning, study, 2))
    suite = tuned_suite()  # what failed altogether does not stand in the way of other settings
    with opened(Tuning(suite, suite.agents[1], tmp_path / "none")) as study:
        assert not study.trials


def test_the_command_prints_settings_that_can_be_benchmarked(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    file = write_toml(tmp_path / "drift.toml", document())
    arguments = ("tune", file, "--agent", "ppo", "--search", "gamma=[0.5,0.9]", "--search", "n_epochs={low=1,high=3}")
    done = call(*arguments, "--trials", 2, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    again = call(*arguments, "--trials", 3, "--out", tmp_path / "out")
    assert again.exit_code == 0, again.output
    assert "2 trials of 3 found" in " ".join(again.stderr.split())
    assert again.stderr.count("trial 2 {") == 1
    assert "trial 0 {" not in again.stderr
    suite = parse_suite(tomllib.loads(again.stdout), "printed")
    (entry,) = suite.agents
    assert entry.settings["gamma"] in (0.5, 0.9)
    assert entry.settings["batch_size"] == 32
    assert "mbrl-gym tune: trial" in entry.source
    (best_file,) = tmp_path.glob("out/*/best.toml")
    assert tomllib.loads(best_file.read_text()) == tomllib.loads(again.stdout)
    run = json.loads(next(tmp_path.glob("out/*/*/1000/run.json")).read_text())
    assert run["settings"]["evaluation_seed"] == EVALUATION_SEED
