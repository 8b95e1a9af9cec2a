"""Many benchmark runs at once: none that is finished is repeated, and none that fails stops the others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import filelock
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from mbrl_gym.errors import InvalidSettingError

from .checkpoints import latest_checkpoint
from .cluster import Cluster
from .compare import in_parallel, one_thread
from .records import Run, replacing
from .suite import Suite, check_agents
from .trial import FAILURE, Failure, Trial, attempt, make_trials, state_of

__all__ = ["Plan", "make_plan", "reserved", "run_trials"]

LOCK = ".lock"


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what was done before."""

    trials: list[Trial]  # all of them
    left: list[Trial]  # those that are not finished
    notes: list[str]  # what the user should know: damaged folders, runs that go on, agents that are left out


def make_plan(
    suites: Sequence[Suite],
    agents: Sequence[str],
    seeds: int,
    folder: Path,
    seconds: float = 60.0,
    pictures: bool = False,
) -> Plan:
    """Check everything and look at what the folder holds.

    Args:
        suites: The environments and their agents.
        agents: Names of those that are to run; none for all.
        seeds: Number of seeds, which are 0, 1, 2, ...
        folder: Holds, or will hold, the folders of the runs.
        seconds: Time between checkpoints, at least [s].
        pictures: Whether to film the agents of seed 0, and to draw how good their models are.

    Raises:
        InvalidSettingError: A setting out of its range, or an agent that no environment has.
    """
    if seeds < 1:
        raise InvalidSettingError(f"seeds must be at least 1, but {seeds} was given")
    if seconds < 0:
        raise InvalidSettingError(f"checkpoint seconds must be at least 0, but {seconds} was given")
    chosen, notes = [], []
    for suite in choose(suites, agents):
        missing = check_agents(suite)
        notes += [f"{suite.env_id}: {name} is left out: {error}" for name, error in missing.items()]
        chosen.append(replace(suite, agents=tuple(entry for entry in suite.agents if entry.name not in missing)))
    trials, left = make_trials(chosen, seeds, folder, seconds, pictures), []
    for trial in trials:
        finished, problem = state_of(trial)
        if finished is not None:
            continue
        left.append(trial)
        checkpoint, damages = latest_checkpoint(trial.folder)
        if problem:
            notes.append(f"{trial.name}: {problem}: it is repeated")
        notes += [f"{trial.name}: {damage}: it is not used" for damage in damages]
        if checkpoint is not None:
            notes.append(f"{trial.name}: goes on after {checkpoint.rows[-1][0]:,} steps or more")
    return Plan(trials, left, notes)


@contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder. However the process ends, the system lifts the lock.

    Raises:
        InvalidSettingError: Another process works in the folder.
    """
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise InvalidSettingError(
            f"another command is at work in {folder}: wait until it ends, or give another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()


def choose(suites: Sequence[Suite], agents: Sequence[str]) -> list[Suite]:
    """Return the suites with these agents only, without those that have none of them.

    Raises:
        InvalidSettingError: No suite has one of the agents.
    """
    known = list(dict.fromkeys(entry.name for suite in suites for entry in suite.agents))
    unknown = [name for name in agents if name not in known]
    if unknown:
        raise InvalidSettingError(f"there is no agent {', '.join(unknown)}: choose from {', '.join(known)}")
    kept = [
        replace(suite, agents=tuple(entry for entry in suite.agents if not agents or entry.name in agents))
        for suite in suites
    ]
    return [suite for suite in kept if suite.agents]


def run_trials(
    trials: Sequence[Trial], processes: int, cluster: Cluster | None = None
) -> Iterator[tuple[Trial, Run | Failure]]:
    """Do runs in parallel, the longest first, with one torch thread each; yield each when it is done or has failed.

    Args:
        trials: The runs.
        processes: How many at the same time, on this machine.
        cluster: Does them instead, as many at the same time as it was told.

    A process that dies (killed, or out of memory) takes the others of its pool along. Those go on in a new pool, each
    with a pool of its own, so that the one that dies again is known; it counts as failed.

    Raises:
        InvalidSettingError: Less than one process.
    """
    if processes < 1:
        raise InvalidSettingError(f"jobs must be at least 1, but {processes} was given")
    left = {trial.folder: trial for trial in sorted(trials, key=lambda trial: -trial.seconds)}
    if cluster is not None:
        yield from _on_cluster(list(left.values()), cluster)
        return
    try:
        for trial, outcome in in_parallel(_work, list(left.values()), processes, batch_size=1):
            del left[trial.folder]
            yield trial, outcome
    except (BrokenProcessPool, TerminatedWorkerError):
        begun = [trial for trial in left.values() if trial.folder.exists()]
        for trial in begun:
            del left[trial.folder]
            yield trial, _alone(trial)
        yield from run_trials(list(left.values()), processes)


def _work(trial: Trial) -> tuple[Trial, Run | Failure]:
    return trial, attempt(trial)


def _on_cluster(trials: Sequence[Trial], cluster: Cluster) -> Iterator[tuple[Trial, Run | Failure]]:
    """Do runs on a cluster, whose machines must see the folders of the runs under the same names."""
    here = {trial.folder.absolute(): trial for trial in trials}
    placed = [replace(trial, folder=folder) for folder, trial in here.items()]
    for there, outcome in cluster.unordered(attempt, placed):
        trial = here[there.folder]
        if isinstance(outcome, Exception):
            yield trial, _died(trial, outcome)
        elif isinstance(outcome, Run) and state_of(trial)[0] is None:
            yield trial, _lost(trial, f"The run is finished, but not found in {there.folder}: --out must be shared")
        else:
            yield trial, outcome


def _alone(trial: Trial) -> Run | Failure:
    """Do a run in a process of its own."""
    try:
        return get_reusable_executor(max_workers=1).submit(one_thread, attempt, trial, os.getpid()).result()
    except (BrokenProcessPool, TerminatedWorkerError) as error:
        return _died(trial, error)


def _died(trial: Trial, error: Exception) -> Failure:
    told = str(error).strip().splitlines() or [type(error).__name__]
    return _lost(trial, f"The process died, as it does when memory runs out ({told[0]})")


def _lost(trial: Trial, text: str) -> Failure:
    with replacing(trial.folder / FAILURE) as path:
        path.write_text(text + "\n")
    return Failure(trial, text, text)
