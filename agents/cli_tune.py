"""The command `mbrl-gym tune`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mbrl_gym.errors import InvalidSettingError

from .cli_bench import check_writable, count

if TYPE_CHECKING:
    from .benchmark.suite import Entry, Suite
    from .benchmark.tune import Tried, Tuning

__all__ = ["tune"]


def tune(
    settings: Annotated[
        str,
        typer.Argument(
            metavar="ENV_ID|FILE.toml", help="An environment of which this package has settings, or a file of settings."
        ),
    ],
    agent: Annotated[str, typer.Option(help="The agent by the name of the file.")],
    trials: Annotated[int, typer.Option(help="Trials in all, those of earlier calls included.")] = 50,
    search: Annotated[
        list[str] | None,
        typer.Option(
            help="Where to search, as lines of TOML: learning_rate={low=1e-4,high=1e-2,log=true} or "
            "gamma=[0.9,0.99]. Repeatable. They come on top of [agents.NAME.search] of the file."
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another value of a setting, as with bench: agents.sac.steps=5000. Repeatable."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each trial, over which its value is the mean.")] = 1,
    objective: Annotated[
        str, typer.Option(help="What is maximised: the final evaluation, or the average of all.")
    ] = "final",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the study, the runs and the best settings.")] = Path(
        "results/tune"
    ),
) -> None:
    """Search the settings of an agent with Optuna, and print the best ones as TOML, to be benchmarked.

    Trials are judged by other episodes than those that are published, and are broken off where others were better after
    as many steps. The same command goes on after an interruption.
    """
    from .benchmark.bench import reserved
    from .benchmark.trial import place_of
    from .benchmark.tune import Tuning, optuna

    optuna()
    suite, entry = _agent(settings, agent, search or [], change or [])
    _check(trials, seeds, objective)
    folder = out / f"{place_of(suite.env_id)}-{entry.name}"
    check_writable(folder, "--out")
    with reserved(folder):
        _run(Tuning(suite, entry, folder, seeds, objective, seed), trials)


def _check(trials: int, seeds: int, objective: str) -> None:
    from .benchmark.tune import OBJECTIVES

    for name, value in (("--trials", trials), ("--seeds", seeds)):
        if value < 1:
            raise InvalidSettingError(f"{name} must be at least 1, but {value} was given")
    if objective not in OBJECTIVES:
        raise InvalidSettingError(f"--objective must be {' or '.join(OBJECTIVES)}, but {objective!r} was given")


def _agent(settings: str, agent: str, search: list[str], change: list[str]) -> tuple[Suite, Entry]:
    """Return the environment and the agent, with where to search."""
    from .benchmark.bench import choose
    from .benchmark.suite import load_suites

    lines = [f"agents.{agent}.search.{line.strip()}" for line in search]
    choose(load_suites([settings], change), [agent])
    (suite,) = choose(load_suites([settings], [*change, *lines]), [agent])
    (entry,) = suite.agents
    if not entry.search:
        raise InvalidSettingError(
            f"it is not said where to search: give [agents.{agent}.search] in the file of settings, or "
            "--search 'learning_rate={low=1e-4,high=1e-2,log=true}'"
        )
    return suite, entry


def _run(tuning: Tuning, trials: int) -> None:
    """Do what is left, show how it goes, and print the best settings."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from .benchmark.toml import toml_of
    from .benchmark.tune import best, finished, opened, tune

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with opened(tuning) as study, Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("trials", total=trials, completed=len(finished(study)))
        if finished(study):
            progress.print(f"{count(len(finished(study)), 'trial')} of {trials} found in {tuning.folder}")
        try:
            for tried in tune(tuning, study, trials):
                progress.print(_describe(tried), highlight=False, markup=False)
                progress.advance(task)
        except KeyboardInterrupt:
            done = f"{count(len(finished(study)), 'trial')} of {trials} finished"
            raise KeyboardInterrupt(f"{done}: the same command goes on with the others") from None
        found = best(tuning, study)
    if found is None:
        raise InvalidSettingError("no trial was completed: more --trials may be")
    entry, trial = found
    value = f"{'score' if tuning.suite.reference else 'return'} {trial.value:,.4g}"
    source = f"mbrl-gym tune: trial {trial.number} of {count(trials, 'trial')}, {value} in episodes of its own"
    text = toml_of(tuning.suite, replace(entry, source=source))
    (tuning.folder / "best.toml").write_text(text)
    typer.echo(text.rstrip())
    typer.echo(f"mbrl-gym bench {tuning.folder / 'best.toml'} compares it", err=True)


def _describe(tried: Tried) -> str:
    told = f"trial {tried.number} {json.dumps(tried.settings)}"
    if tried.error:
        return f"{told}: failed: {tried.error}"
    return f"{told}: {tried.value:,.4g}{', broken off' if tried.pruned else ''}"
