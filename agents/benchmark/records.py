"""Finished runs and their files."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from mbrl_gym.errors import DamagedFileError

__all__ = ["Run", "digest", "load_run", "read_run", "replacing", "save_run"]

COLUMNS = ("steps", "seconds", "mean_return", "std_return")
AGENT, CURVE, RUN = "agent.zip", "curve.csv", "run.json"


@dataclass(frozen=True, eq=False)
class Run:
    """One agent's training in one environment from one seed, with M evaluations."""

    agent: str  # its name
    seed: int
    folder: Path  # holds agent.zip, curve.csv and run.json
    steps: np.ndarray[Any, Any]  # [M] environment steps; the first is 0, the last the end of training
    seconds: np.ndarray[Any, Any]  # [M] training time, without evaluations [s]
    mean: np.ndarray[Any, Any]  # [M] mean return of the evaluation episodes
    std: np.ndarray[Any, Any]  # [M] standard deviation of their returns
    decision_ms: float  # median time of a decision [ms]

    @classmethod
    def of(cls, agent: str, seed: int, folder: Path, rows: Sequence[Sequence[float]], decision_ms: float) -> Run:
        """Make a run of the rows of an `EvaluationCallback`."""
        steps, seconds, mean, std = np.array(rows).T
        return cls(agent, seed, folder, steps.astype(np.int64), seconds, mean, std, decision_ms)

    @property
    def file(self) -> Path:
        """The trained agent."""
        return self.folder / AGENT


def save_run(
    run: Run,
    agent: BaseAlgorithm,
    settings: dict[str, Any],
    versions: dict[str, Any],
    files: Sequence[str] = (),
    **facts: Any,
) -> None:
    """Write a run's files, each under a temporary name first; run.json comes last and makes the run a finished one.

    Args:
        run: The run.
        agent: The trained agent.
        settings: All that decides the result.
        versions: What else may matter.
        files: Names of further files of the run that are there already; run.json holds the digests of all files.
        **facts: What else run.json holds, as JSON values.
    """
    with replacing(run.folder / AGENT) as path:
        agent.save(path)
    with replacing(run.folder / CURVE) as path, open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(zip(*(column.tolist() for column in (run.steps, run.seconds, run.mean, run.std)), strict=True))
    with replacing(run.folder / RUN) as path:
        digests = {name: digest(run.folder / name) for name in (AGENT, CURVE, *files)}
        content = {"settings": settings, "decision_ms": run.decision_ms, "versions": versions, "files": digests}
        path.write_text(json.dumps({**content, **facts, "finished": time.time()}, indent=2))


def load_run(folder: Path, settings: dict[str, Any]) -> Run | None:
    """Return the finished run of these settings in a folder, or None if there is no (complete) one.

    Versions and the machine are recorded, but not compared.
    """
    try:
        run, content = read_run(folder)
    except (OSError, DamagedFileError):
        return None
    return run if content["settings"] == settings else None


def read_run(folder: Path) -> tuple[Run, dict[str, Any]]:
    """Return the finished run in a folder, and all that its run.json holds.

    Raises:
        FileNotFoundError: There is no finished run.
        DamagedFileError: A file of it is missing, or not as it was written; names it.
    """
    text = (folder / RUN).read_bytes()
    name = RUN
    try:
        content = json.loads(text)
        for name, expected in content.get("files", {AGENT: None}).items():
            found = digest(folder / name)
            if expected not in (None, found):
                raise DamagedFileError(f"{folder / name} is not as it was written")
        name = CURVE
        with open(folder / CURVE, newline="") as file:
            rows = [[float(row[column]) for column in COLUMNS] for row in csv.DictReader(file)]
        name, settings = RUN, content["settings"]
        return Run.of(settings["agent"], settings["seed"], folder, rows, float(content["decision_ms"])), content
    except FileNotFoundError as error:
        raise DamagedFileError(f"{folder / name} is missing") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DamagedFileError):
            raise
        raise DamagedFileError(f"{folder / name} is damaged ({type(error).__name__}: {error})") from error


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def discard_run(folder: Path) -> None:
    """Remove the files of a run that is to be repeated."""
    for name in (RUN, CURVE, AGENT):
        (folder / name).unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, which becomes `path` if all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
