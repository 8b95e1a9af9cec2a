"""The commands `mbrl-gym bench` and `mbrl-gym report`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mbrl_gym.errors import InvalidSettingError

if TYPE_CHECKING:
    from .benchmark.bench import Plan
    from .benchmark.cluster import Cluster
    from .benchmark.records import Run
    from .benchmark.trial import Failure, Trial

# torch and Stable-Baselines3 take seconds to import: only the commands that need them do so.

__all__ = ["bench", "check_writable", "count", "report"]


def bench(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ENV_ID|FILE.toml]...",
            help="Environments of which this package has settings, or files of settings.",
            show_default="all environments of which it has settings",
        ),
    ] = None,
    agents: Annotated[str, typer.Option(help="Agents by the names of the files: mpc,sac,ppo. All by default.")] = "",
    seeds: Annotated[int, typer.Option(help="Runs of each agent, from seeds 0, 1, 2, ...")] = 5,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Runs at the same time; more than the cores distort their times.",
            show_default="1; with ray and dask, the cores of the cluster",
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="loky (processes of this machine), or ray or dask, whose workers do the same runs.")
    ] = "loky",
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of a cluster of ray or dask whose machines share the folder --out.",
            show_default="one is started on this machine",
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another value of a setting, as a line of TOML: agents.sac.steps=5000. Repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path("results/bench"),
    checkpoint_seconds: Annotated[
        float, typer.Option(help="Time between checkpoints of this package's agents, at least [s].")
    ] = 60.0,
    pictures: Annotated[
        bool, typer.Option(help="Film the agents of seed 0, and draw how good their world models are.")
    ] = True,
) -> None:
    """Run agents x environments x seeds, and report with statistics what they reach and what it takes.

    The same command goes on after an interruption: finished runs are kept, this package's agents resume from their last
    checkpoint, and others start again from their seed. A run that fails is reported, and the others go on.
    """
    from .benchmark.bench import make_plan, reserved
    from .benchmark.cluster import check_backend, connect
    from .benchmark.suite import load_suites

    if jobs is not None and jobs < 1:
        raise InvalidSettingError(f"--jobs must be at least 1, but {jobs} was given")
    check_backend(backend, cluster)
    suites = load_suites(settings or [], change or [])
    names = [name.strip() for name in agents.split(",") if name.strip()]
    plan = make_plan(suites, names, seeds, out, checkpoint_seconds, pictures)
    check_writable(out, "--out")
    with reserved(out):
        with connect(backend, cluster, jobs) if plan.left else connect("loky") as workers:
            failures = _run(plan, jobs or 1, out, workers)
        _write_report(out)
    if failures:
        raise typer.Exit(1)


def report(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER|FILE.csv...",
            help="The folder that `mbrl-gym bench` was given as --out, or files that --csv wrote.",
        ),
    ],
    csv: Annotated[
        Path | None, typer.Option(help="Also write all evaluations of a folder to this file, a row each.")
    ] = None,
) -> None:
    """Write the report of a benchmark again, from the folders of its runs alone; of CSV files, print its tables."""
    if len(sources) == 1 and sources[0].is_dir():
        check_writable(sources[0], "folder")
        if csv is not None:
            check_writable(csv.absolute().parent, "--csv")
        _write_report(sources[0], csv)
        return
    missing = [str(path) for path in sources if not path.exists()]
    if missing:
        raise InvalidSettingError(f"there is no folder or file {', '.join(missing)}")
    if any(path.is_dir() for path in sources) or csv is not None:
        raise InvalidSettingError("report takes one folder, with --csv or without it, or any number of CSV files")
    from .benchmark.published import markdown_of_csv, read_csv

    typer.echo(markdown_of_csv(read_csv(sources)))


def check_writable(folder: Path, option: str) -> None:
    """Make a folder, or refuse it.

    Raises:
        InvalidSettingError: Nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidSettingError(f"cannot write to {folder} ({error.strerror}): give another {option}") from error


def count(number: int, what: str) -> str:
    """Write a number of things."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _run(plan: Plan, jobs: int, out: Path, workers: Cluster | None) -> list[Failure]:
    """Do what is left, show how it goes, and return the runs that failed."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from .benchmark.bench import run_trials
    from .benchmark.trial import Failure, state_of

    total, done, failures = len(plan.trials), len(plan.trials) - len(plan.left), []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    pace = Pace([trial.seconds for trial in plan.left])
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("runs", total=total, completed=done)
        for note in plan.notes:
            progress.print(note)
        if done:
            progress.print(f"{count(done, 'run')} of {total} found in {out}")
        try:
            for trial, outcome in run_trials(plan.left, jobs, workers):
                pace.advance(trial.seconds)
                if isinstance(outcome, Failure):
                    failures.append(outcome)
                progress.print(describe_outcome(trial, outcome), highlight=False)
                progress.update(task, advance=1, description=f"runs, {pace}")
        except KeyboardInterrupt:
            finished = sum(state_of(trial)[0] is not None for trial in plan.trials)
            raise KeyboardInterrupt(
                f"{count(finished, 'run')} of {total} finished: the same command goes on with the others"
            ) from None
    if plan.left:
        typer.echo(f"{count(len(plan.left) - len(failures), 'run')} finished, {pace.rate}", err=True)
    return failures


class Pace:
    """How fast runs are done, and what time is left.

    Args:
        seconds: Rough estimates of what the runs take [s]; only their ratios count.
    """

    def __init__(self, seconds: Sequence[float]) -> None:
        self.total, self.done, self.runs = sum(seconds), 0.0, 0
        self._begin = time.monotonic()

    def advance(self, seconds: float) -> None:
        """Count a run that was estimated to take so long [s]."""
        self.done += seconds
        self.runs += 1

    @property
    def rate(self) -> str:
        """Runs an hour, or a minute."""
        minutes = max(time.monotonic() - self._begin, 1e-9) / 60
        rate = self.runs / minutes
        return f"{rate:.1f} runs a minute" if rate >= 1 else f"{60 * rate:.1f} runs an hour"

    @property
    def left(self) -> float:
        """Rough time until all are done [s]."""
        return (time.monotonic() - self._begin) * (self.total - self.done) / max(self.done, 1e-9)

    def __str__(self) -> str:
        minutes = self.left / 60
        left = f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.0f} min"
        return f"{self.rate}, some {left} left"


def describe_outcome(trial: Trial, outcome: Run | Failure) -> str:
    """Write a line, or a traceback, of a run that has come to its end."""
    from .benchmark.trial import FAILURE, Failure

    if isinstance(outcome, Failure):
        return f"{outcome.traceback.rstrip()}\n{trial.name}: failed: {outcome.error} (see {trial.folder / FAILURE})"
    reached = f"return {outcome.mean[-1]:,.2f} after {outcome.steps[-1]:,} steps in {outcome.seconds[-1]:,.1f} s"
    return f"{trial.name}: {reached}"


def _write_report(folder: Path, csv: Path | None = None) -> None:
    from .benchmark.report import write_report

    with Console(stderr=True).status("writing the report"):
        files, text = write_report(folder, csv)
    typer.echo(text)
    typer.echo(f"{folder}{os.sep}: {', '.join(path.name for path in files)}")
