"""Search for better settings of an agent with Optuna."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_gym.errors import InvalidSettingError, MissingPackageError

from .records import Run
from .search import Space, merged
from .suite import Entry, Suite, describe_entry
from .trial import Trial, run_trial

__all__ = ["OBJECTIVES", "Tried", "Tuning", "best", "finished", "opened", "optuna", "tune"]

EVALUATION_SEED = 2_000_000  # the published episodes, and the seeds of published runs, are not tuned for
TRAINING_SEED = 1_000
OBJECTIVES: dict[str, Callable[[list[float]], Any]] = {"final": lambda values: values[-1], "average": np.mean}
"""What is maximised: the last evaluation of a run, or the mean of all of them, for agents that shall learn fast."""

Study = Any  # optuna.Study


@dataclass(frozen=True)
class Tuning:
    """A search for settings."""

    suite: Suite
    entry: Entry  # whose `search` says where to search
    folder: Path  # holds the study and the runs
    seeds: int = 1  # runs with the same settings
    objective: str = "final"  # one of `OBJECTIVES`
    seed: int = 0  # of the search
    checkpoint_seconds: float = 60.0  # between checkpoints of runs, at least [s]

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """All that must not change in the course of a search, as JSON values."""
        return {
            **describe_entry(self.suite, self.entry, TRAINING_SEED),
            "search": self.entry.search,
            "seeds": self.seeds,
            "objective": self.objective,
            "evaluation_seed": EVALUATION_SEED,
        }

    def trials(self, found: dict[str, Any]) -> list[Trial]:
        """Return the runs with the settings that were found; equal settings have the same folders."""
        entry = replace(self.entry, settings=merged(self.entry.settings, found))
        name = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
        return [
            Trial(
                self.suite,
                entry,
                seed,
                self.folder / name / str(seed),
                self.checkpoint_seconds,
                evaluation_seed=EVALUATION_SEED,
            )
            for seed in range(TRAINING_SEED, TRAINING_SEED + self.seeds)
        ]

    def score(self, mean_return: float) -> float:
        """Return the score of a mean return, or the return where no score is known."""
        ends = self.suite.reference
        return (mean_return - ends["random"]) / (ends["optimal"] - ends["random"]) if ends else mean_return


@dataclass(frozen=True)
class Tried:
    """Settings that were tried."""

    number: int
    settings: dict[str, Any]  # those that were searched
    value: float | None  # score; of pruned trials that of their last evaluation
    pruned: bool = False  # whether it was broken off, since others were better after as many steps
    error: str = ""  # why it failed


def tune(tuning: Tuning, study: Study, trials: int) -> Iterator[Tried]:
    """Try settings until so many trials are finished, those of earlier calls included; yield each when it is.

    Args:
        tuning: What is searched.
        study: Its study, which `opened` gives.
        trials: How many trials, in all.

    Raises:
        InvalidSettingError: The first trial failed, as all do if a setting is misspelt.
    """
    _retake(study)
    while len(finished(study)) < trials:
        trial = study.ask()
        tried = _try(tuning, trial)
        if tried.error:
            trial.set_user_attr("error", tried.error)
        state = "PRUNED" if tried.pruned else "FAIL" if tried.error else "COMPLETE"
        value = tried.value if state == "COMPLETE" else None
        study.tell(trial, value, state=optuna().trial.TrialState[state])
        if all(each.state.name == "FAIL" for each in finished(study)):
            raise InvalidSettingError(f"trial {tried.number} failed with {json.dumps(tried.settings)}: {tried.error}")
        yield tried


def optuna() -> Any:
    """Return the package.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise MissingPackageError('tuning needs optuna: pip install "mbrl-gym[tune]"') from error


def finished(study: Study) -> list[Any]:
    """Return the trials that came to their end; those that were interrupted did not."""
    states = ("COMPLETE", "PRUNED")
    return [each for each in study.trials if each.state.name in states or "error" in each.user_attrs]


def best(tuning: Tuning, study: Study) -> tuple[Entry, Any] | None:
    """Return the agent with the best settings, and the trial that found them; None if none was completed."""
    complete = [each for each in study.trials if each.state.name == "COMPLETE"]
    if not complete:
        return None
    found = Space.parse(tuning.entry.search).suggest(optuna().trial.FixedTrial(study.best_trial.params))
    entry = replace(tuning.entry, settings=merged(tuning.entry.settings, found), search={})
    return entry, study.best_trial


@contextmanager
def opened(tuning: Tuning) -> Iterator[Study]:
    """Open the study in the folder, or make one.

    Raises:
        InvalidSettingError: The folder holds a search of other settings.
        MissingPackageError: Optuna is not installed.
    """
    package = optuna()
    package.logging.set_verbosity(package.logging.ERROR)
    tuning.folder.mkdir(parents=True, exist_ok=True)
    storage = package.storages.RDBStorage(f"sqlite:///{tuning.folder / 'study.db'}")
    name = f"{tuning.suite.env_id}, {tuning.entry.name}"
    try:
        study = package.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        known = study.user_attrs.get("settings")
        if known not in (None, tuning.description):
            if any(each.state.name != "FAIL" for each in study.trials):
                raise InvalidSettingError(f"{tuning.folder} holds a search of other settings: give another --out")
            package.delete_study(study_name=name, storage=storage)  # all of it failed
            study = package.create_study(storage=storage, study_name=name, direction="maximize")
        study.set_user_attr("settings", tuning.description)
        study.sampler = package.samplers.TPESampler(seed=tuning.seed + len(study.trials))
        study.pruner = package.pruners.MedianPruner(n_startup_trials=5)
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _retake(study: Study) -> None:
    """Have trials that a killed process left behind done again, before others."""
    for trial in study.trials:
        if trial.state.name == "RUNNING":
            study.tell(trial.number, state=optuna().trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)


def _try(tuning: Tuning, trial: Any) -> Tried:
    """Do the runs of a trial."""
    found = Space.parse(tuning.entry.search).suggest(trial)
    package, values = optuna(), []
    runs = tuning.trials(found)
    try:
        for i, run in enumerate(runs):
            values.append(_value(tuning, run, trial, i * run.entry.evaluations))
    except package.TrialPruned as pruned:
        shutil.rmtree(runs[0].folder.parent)
        return Tried(trial.number, found, float(str(pruned)), pruned=True)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        return Tried(trial.number, found, None, error=f"{type(error).__name__}: {lines[0]}")
    return Tried(trial.number, found, float(np.mean(values)))


def _value(tuning: Tuning, run: Trial, trial: Any, before: int) -> float:
    """Do a run, report its evaluations, and return its value; or break it off."""
    reported = 0

    def report(means: list[float]) -> None:
        nonlocal reported
        for i, mean in enumerate(means[1:]):  # the first evaluation is before training
            if i >= reported:
                trial.report(tuning.score(mean), before + i)
                reported = i + 1
        if reported and trial.should_prune():
            raise optuna().TrialPruned(str(tuning.score(means[-1])))

    done: Run = run_trial(run, lambda rows: report([row[2] for row in rows]))
    report(done.mean.tolist())  # if the run was finished before
    return float(OBJECTIVES[tuning.objective]([tuning.score(mean) for mean in done.mean[1:]]))
