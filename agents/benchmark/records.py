"""Finished runs and their files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

__all__ = ["Run", "load_run", "replacing", "save_run"]

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

    @property
    def file(self) -> Path:
        """The trained agent."""
        return self.folder / AGENT


def save_run(run: Run, agent: BaseAlgorithm, settings: dict[str, Any], versions: dict[str, Any]) -> None:
    """Write a run's files, each under a temporary name first; run.json comes last and makes the run a finished one."""
    with replacing(run.folder / AGENT) as path:
        agent.save(path)
    with replacing(run.folder / CURVE) as path, open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(zip(*(column.tolist() for column in (run.steps, run.seconds, run.mean, run.std)), strict=True))
    with replacing(run.folder / RUN) as path:
        content = {"settings": settings, "decision_ms": run.decision_ms, "versions": versions}
        path.write_text(json.dumps(content, indent=2))


def load_run(folder: Path, settings: dict[str, Any]) -> Run | None:
    """Return the finished run of these settings in a folder, or None if there is no (complete) one.

    Versions and the machine are recorded, but not compared.
    """
    try:
        content = json.loads((folder / RUN).read_text())
        if content["settings"] != settings or not (folder / AGENT).exists():
            return None
        with open(folder / CURVE, newline="") as file:
            rows = [[float(row[name]) for name in COLUMNS] for row in csv.DictReader(file)]
        steps, seconds, mean, std = np.array(rows).T
        decision_ms = float(content["decision_ms"])
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return Run(settings["agent"], settings["seed"], folder, steps.astype(np.int64), seconds, mean, std, decision_ms)


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
