"""Checkpoints of benchmark runs: the agent, and all that a run has measured so far."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter, Logger, filter_excluded_keys

from mbrl_gym.errors import DamagedFileError

from ..callbacks import ResumableCheckpointCallback
from ..resume import snapshot_env
from .evaluation import EvaluationCallback
from .records import digest
from .stopwatch import Stopwatch

__all__ = ["Checkpoint", "CheckpointCallback", "Measurements", "ProgressFile", "Tell", "clean", "latest_checkpoint"]

Array = np.ndarray[Any, Any]
Row = tuple[int, float, float, float]  # steps, training time [s], mean and std of the returns
Tell = Callable[[list[Row]], None]

PREFIX = "checkpoint-"
AGENT, ARRAYS, PROGRESS, STATE = "agent.zip", "evaluations.npz", "progress.csv", "state.json"


class ProgressFile(KVWriter):
    """Stable-Baselines3's `progress.csv`, which can be gone on with; new columns come in the order of their names.

    Args:
        path: The file.
        content: What it holds at first.
    """

    def __init__(self, path: Path, content: str = "") -> None:
        self.path = path
        lines = content.splitlines()
        self.keys = lines[0].split(",") if lines else []
        self.rows = lines[1:]
        path.write_text(content)

    @property
    def content(self) -> str:
        """All of it."""
        return "\n".join([",".join(self.keys), *self.rows, ""]) if self.keys else ""

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Add a row."""
        values = filter_excluded_keys(key_values, key_excluded, "csv")
        new = sorted(values.keys() - set(self.keys))
        row = ",".join(_cell(values.get(key)) for key in [*self.keys, *new])
        self.rows = [line + "," * len(new) for line in self.rows] + [row]
        if new:
            self.keys += new
            self.path.write_text(self.content)
        else:
            with open(self.path, "a") as file:
                file.write(row + "\n")

    def close(self) -> None:
        """Do nothing: the file is closed between rows."""


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None else str(value.item() if isinstance(value, np.generic) else value)


class Measurements(EvaluationCallback):
    """The evaluations of a run, with the returns of all N episodes.

    Args:
        evaluation: The episodes.
        marks: See `EvaluationCallback`.
        watch: Times them.
        tell: Called with all rows (see `EvaluationCallback`) after each evaluation.
    """

    def __init__(self, evaluation: Any, marks: Any, watch: Stopwatch, tell: Tell | None = None) -> None:
        super().__init__(evaluation, marks)
        self.watch, self.tell = watch, tell
        self.returns: list[Array] = []  # [N] an evaluation
        self.lengths: list[Array] = []  # [N] an evaluation

    def _evaluate(self) -> None:
        with self.watch.timing("evaluate"):
            super()._evaluate()
        if self.tell is not None:
            self.tell(self.rows)

    def note(self, returns: Array) -> None:
        """Keep the returns and the lengths of the episodes."""
        self.returns.append(returns)
        self.lengths.append(self.evaluation.lengths.copy())

    def arrays(self) -> dict[str, Any]:
        """Return what `EvalCallback` of Stable-Baselines3 writes to `evaluations.npz`."""
        timesteps = np.array([row[0] for row in self.rows], np.int64)
        return {"timesteps": timesteps, "results": np.array(self.returns), "ep_lengths": np.array(self.lengths)}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint was written."""
        self.returns, self.lengths = list(checkpoint.returns), list(checkpoint.lengths)
        self.resume(checkpoint.rows, checkpoint.seconds)


@dataclass(frozen=True)
class Checkpoint:
    """Where a run that was broken off goes on."""

    agent: Path  # file of the agent with its buffer
    rows: list[Row]  # of the `EvaluationCallback`
    returns: Array  # [M, N]
    lengths: Array  # [M, N]
    seconds: float  # of training so far [s]
    split: dict[str, float]  # of the stopwatch [s]
    resumed: int  # how often the run was broken off before
    progress: str  # content of progress.csv
    pending: dict[str, Any] = field(default_factory=dict)  # what the logger has not written yet


class CheckpointCallback(ResumableCheckpointCallback):
    """Writes a folder `checkpoint-STEPS` between rollouts and removes the one before.

    Does nothing where a run could not go on exactly: agents of other packages, environments whose state cannot be had.

    Args:
        folder: Where the folders go.
        seconds: Time between checkpoints, at least [s].
        measurements: What has been measured.
        progress: The log.
        resumed: How often the run was broken off before.
    """

    def __init__(
        self, folder: Path, seconds: float, measurements: Measurements, progress: ProgressFile, resumed: int
    ) -> None:
        super().__init__(folder / f"{PREFIX}{{steps}}", every=1)
        self.folder, self.seconds, self.resumed = folder, seconds, resumed
        self.measurements, self.progress = measurements, progress
        self._possible = False
        self._last = 0.0

    def _on_training_start(self) -> None:
        super()._on_training_start()
        assert self.model.env is not None
        self._possible, self._last = snapshot_env(self.model.env) is not None, time.monotonic()

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self._possible and super().due() and time.monotonic() - self._last >= self.seconds

    def write(self, path: str) -> None:
        """Write a checkpoint under a temporary name, and then under its own."""
        with self.measurements.paused(), self.measurements.watch.timing("save"):
            temporary, final = self.folder / f".{PREFIX}{os.getpid()}", Path(path)
            _remove(temporary)
            temporary.mkdir()
            self.model.save(temporary / AGENT, include=["replay_buffer"])
            np.savez(temporary / ARRAYS, **self.measurements.arrays())
            (temporary / PROGRESS).write_text(self.progress.content)
            digests = {name: digest(temporary / name) for name in (AGENT, ARRAYS, PROGRESS)}
            state = {**self._state(), "files": digests}
            (temporary / STATE).write_text(json.dumps(state))
            before = _checkpoints(self.folder)
            if final.exists():
                _remove(final)
            os.replace(temporary, final)
            for old in before:
                if old != final:
                    _remove(old)
        self._last = time.monotonic()

    def _state(self) -> dict[str, Any]:
        logger: Logger = self.logger
        plain = {name: _plain(value) for name, value in logger.name_to_value.items()}
        return {
            "rows": self.measurements.rows,
            "seconds": self.measurements.seconds,
            "split": self.measurements.watch.seconds,
            "resumed": self.resumed,
            "pending": {
                "name_to_value": plain,
                "name_to_count": dict(logger.name_to_count),
                "name_to_excluded": dict(logger.name_to_excluded),
            },
        }


def latest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint in a folder that is whole, if there is any, and what is wrong with newer ones."""
    problems: list[str] = []
    for path in _checkpoints(folder):
        try:
            return _read(path), problems
        except DamagedFileError as error:
            problems.append(str(error))
    return None, problems


def _read(path: Path) -> Checkpoint:
    name = STATE
    try:
        state = json.loads((path / STATE).read_text())
        for name, expected in state["files"].items():
            if digest(path / name) != expected:
                raise DamagedFileError(f"{path / name} is not as it was written")
        with np.load(path / ARRAYS) as arrays:
            returns, lengths = arrays["results"], arrays["ep_lengths"]
        rows = [(int(row[0]), *map(float, row[1:])) for row in state["rows"]]
        progress = (path / PROGRESS).read_text()
        return Checkpoint(
            path / AGENT,
            rows,  # type: ignore[arg-type]
            returns,
            lengths,
            state["seconds"],
            state["split"],
            state["resumed"],
            progress,
            state["pending"],
        )
    except DamagedFileError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFileError(f"{path / name} is damaged ({type(error).__name__}: {error})") from error


def restore_logger(logger: Logger, pending: dict[str, Any]) -> None:
    """Restore what had not been written yet."""
    logger.name_to_value.update(pending["name_to_value"])
    logger.name_to_count.update(pending["name_to_count"])
    logger.name_to_excluded.update({name: tuple(where) for name, where in pending["name_to_excluded"].items()})


def clean(folder: Path, checkpoints: bool) -> None:
    """Remove what writers that were killed left behind, and the checkpoints if asked to."""
    for path in folder.glob(".*"):
        _remove(path)
    for path in _checkpoints(folder) if checkpoints else []:
        _remove(path)


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest first."""
    found = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=lambda path: -int(path.name.removeprefix(PREFIX)))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
