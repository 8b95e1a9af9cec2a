"""The `mbrl-gym` command: compare agents, watch them, list environments."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gymnasium as gym
import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

import mbrl_gym
from mbrl_gym.errors import InvalidSettingError, MbrlGymError

from . import cli_bench, cli_tune
from .cli_bench import check_writable, count

if TYPE_CHECKING:
    from rich.progress import Progress

    from .benchmark import Job, Player, Run

# torch and Stable-Baselines3 take seconds to import: only the commands that need them do so.

__all__ = ["app", "main"]


class _OneLineErrors(TyperGroup):
    """Turns the errors that users can mend into one line and exit code 2, and Ctrl-C into one line and 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            message, code = f"interrupted. {error}", 130
        except BrokenPipeError:
            raise
        except (MbrlGymError, gym.error.Error, OSError) as error:
            message, code = str(error), 2
        typer.echo(f"mbrl-gym: {' '.join(message.split())}", err=True)
        raise typer.Exit(code)


app = typer.Typer(
    cls=_OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Model-based reinforcement learning on Gymnasium and Stable-Baselines3.",
)


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def compare(
    env_id: Annotated[str, typer.Argument(metavar="ENV_ID", help="Any id that Gymnasium knows, e.g. mbrl/Arm-v0.")],
    agents: Annotated[
        str, typer.Option(help="Planning agents: mpc, pets. Of Stable-Baselines3: ppo, sac, td3, dqn.")
    ] = "mpc,ppo,sac",
    steps: Annotated[
        str, typer.Option(help="Training steps, for all agents or for each: mpc=500,ppo=20000,sac=5000.")
    ] = "2000",
    seeds: Annotated[int, typer.Option(help="Trainings of each agent, from seeds 0, 1, 2, ...")] = 3,
    jobs: Annotated[int, typer.Option(help="Trainings at the same time; more than the cores distort their times.")] = 1,
    evaluations: Annotated[int, typer.Option(help="Evaluations during a training, evenly spaced.")] = 10,
    episodes: Annotated[int, typer.Option(help="Episodes of an evaluation, the same for all agents.")] = 50,
    out: Annotated[Path | None, typer.Option(help="Folder for all results.", show_default="results/ENV_ID")] = None,
    gif: Annotated[bool, typer.Option("--gif", help="Also write an episode of the best planning agent.")] = False,
) -> None:
    """Train agents in an environment and compare what they reach, and what it takes.

    Finished trainings are kept: after an interruption or with changed settings, the command does what is missing.
    """
    from . import benchmark

    folder = out or Path("results") / env_id.replace("/", "-").replace(":", "-")
    budgets = parse_steps(steps, agents)
    todo = benchmark.make_jobs(
        env_id, budgets, seeds, evaluations=evaluations, episodes=episodes, folder=folder / "runs"
    )
    env_id = todo[0].env_id
    if jobs < 1:
        raise InvalidSettingError(f"--jobs must be at least 1, but {jobs} was given")
    if gif:
        benchmark.check_drawable(env_id, "rgb_array")
    check_writable(folder, "--out")
    runs = _run_all(todo, jobs)
    files = _write_results(env_id, runs, folder, seeds, episodes)
    if gif:
        with Console(stderr=True).status("writing the GIF"):
            files.append(benchmark.write_best_gif(env_id, runs, folder).name)
    typer.echo(f"{folder}{os.sep}: {', '.join(files)}; runs{os.sep} holds the agents")


@app.command()
def watch(
    env_id: Annotated[str, typer.Argument(metavar="ENV_ID", help="The environment in which the agent was trained.")],
    agent: Annotated[Path | None, typer.Option(help="The file that the agent's save wrote.")] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(help="In place of a file, a bandit algorithm with its settings: Thompson, or UCB1:coefficient=2."),
    ] = None,
    algo: Annotated[
        str | None,
        typer.Option(
            help="ppo, sac, td3 or dqn, for a file of Stable-Baselines3. Such files hold pickled code, which is run: "
            "open only those that you trust. Files of this package run nothing and need no --algo."
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to show.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode.")] = 0,
    gif: Annotated[Path | None, typer.Option(help="Write one episode to this file instead of a window.")] = None,
) -> None:
    """Watch a saved agent in a window, with the plan that it imagines, or write an episode as GIF.

    Bandit algorithms have nothing to save: name one with --algorithm.
    """
    from . import benchmark

    benchmark.check_env(env_id).close()
    player = _player(env_id, agent, algorithm, algo, seed)
    if gif is not None:
        check_writable(gif.absolute().parent, "--gif")
        total = benchmark.write_gif(env_id, player, gif, seed=seed)
        typer.echo(f"{gif}: return {total:.2f}")
        return
    with (
        _window_errors("write a file with --gif FILE"),
        contextlib.closing(benchmark.make_film_env(env_id, player, "human")) as env,
    ):
        for episode in range(episodes):
            for reached in benchmark.play(env, player, seed + episode):
                total = reached
                if getattr(env.unwrapped, "dismissed", False):
                    return
            typer.echo(f"episode {episode + 1}: return {total:.2f}")


@app.command()
def play(
    env_id: Annotated[str, typer.Argument(metavar="ENV_ID", help="An environment with a picture, e.g. mbrl/Arm-v0.")],
    agent: Annotated[Path | None, typer.Option(help="A saved agent, which plays where no key is held.")] = None,
    algo: Annotated[
        str | None,
        typer.Option(help="ppo, sac, td3 or dqn, for a file of Stable-Baselines3 (it runs pickled code: see watch)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first episode.")] = 0,
    endless: Annotated[bool, typer.Option("--endless", help="Episodes have no limit of steps.")] = False,
) -> None:
    """Play yourself: keys steer, the mouse drags the target, and an agent, if given, follows it.

    Box actions: arrow keys left and right for the first component, down and up for the second, then S W, A D, Q E and
    F G. Discrete actions: digits (of two, also the arrows left and right). Without an agent they wait for a key.
    Space pauses, R restarts, Esc quits.
    """
    from . import benchmark

    player = None if agent is None else benchmark.load_agent(agent, algo)
    limit = {"max_episode_steps": -1} if endless else {}
    env = benchmark.make_film_env(env_id, player, "rgb_array", size=(800, 600), **limit)
    with contextlib.closing(env), _window_errors("the game needs a screen"):
        from .play import Game

        game = Game(env, player, seed=seed, report=typer.echo)
        typer.echo("\n".join(game.help))
        with contextlib.closing(game):
            game.run()


app.command()(cli_bench.bench)
app.command()(cli_bench.report)
app.command()(cli_tune.tune)


@app.command()
def bandits(
    env_id: Annotated[str, typer.Argument(metavar="[ENV_ID]", help="A bandit of this package.")] = "mbrl/Bandit-v0",
    algorithms: Annotated[
        str,
        typer.Option(
            help="Names, with settings after colons: UCB1:coefficient=2,epsilon-greedy:epsilon=0:initial_value=5. "
            '"all" is one of each kind.'
        ),
    ] = "epsilon-greedy,UCB1,KL-UCB,Thompson",
    problems: Annotated[int, typer.Option(min=1, help="Bandits side by side, each with means of its own.")] = 2000,
    pulls: Annotated[int, typer.Option(min=1, help="Pulls of each.")] = 1000,
    means: Annotated[str | None, typer.Option(help="Means of the arms in all problems: 0.9,0.8,0.5.")] = None,
    settings: Annotated[str, typer.Option(help="Constants of the environment: arms=20,reward_std=0.5.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the problems, the rewards and the algorithms.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for all results.", show_default="results/bandits-ENV_ID")
    ] = None,
) -> None:
    """Let bandit algorithms play thousands of problems at once: regret, optimal pulls, and the Lai-Robbins bound.

    All algorithms meet the same problems. Prints a table and writes it, the curves, and their picture.
    """
    from .bandits import BANDITS, BanditPolicy, parse_algorithms, parse_settings, run_bandit
    from .bandits.report import plot_runs, render_runs, write_run_curves, write_runs

    folder = out or Path("results") / f"bandits-{env_id.replace('/', '-').replace(':', '-')}"
    todo = parse_algorithms(",".join(BANDITS) if algorithms.strip().lower() == "all" else algorithms)
    given: dict[str, Any] = {"env_kwargs": parse_settings(settings, ","), "means": _parse_means(means)}
    for algorithm in todo.values():  # before anything is run
        BanditPolicy(algorithm, env_id)
    check_writable(folder, "--out")
    runs = []
    with _progress() as progress:
        for label, algorithm in todo.items():
            task = progress.add_task(label, total=pulls)
            step = max(1, pulls // 100)

            def tell(pull: int, task: Any = task, step: int = step) -> None:
                if pull % step == 0 or pull == pulls:
                    progress.update(task, completed=pull)

            common = {"problems": problems, "pulls": pulls, "seed": seed, **given}
            runs.append(run_bandit(algorithm, env_id, label=label, progress=tell, **common))
    title = f"{env_id} ({count(problems, 'problem')}, {count(pulls, 'pull')})"
    Console().print(render_runs(runs, title=title))
    write_runs(runs, folder / "results.csv")
    write_run_curves(runs, folder / "curves.csv")
    plot_runs(runs, folder / "curves.png", title=title)
    typer.echo(f"{folder}{os.sep}: results.csv, curves.csv, curves.png")


@app.command()
def envs() -> None:
    """List this package's environments; agents run in any other environment of Gymnasium, too."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("environment", style="bold", no_wrap=True)
    table.add_column("observations, actions, task")
    table.add_column("steps", justify="right")
    for env_id in mbrl_gym.env_ids():
        with contextlib.closing(gym.make(env_id)) as env:
            text = inspect.getdoc(type(env.unwrapped)) or ""
            lines = [f"{_describe(env.observation_space)}, {_describe(env.action_space)}", text.split("\n", 1)[0]]
            length = env.spec.max_episode_steps if env.spec else None
        known = mbrl_gym.reference(env_id)
        lines.append(f"Mean return: random {known.random:,.2f}, optimum {known.optimal:,.2f} ({known.kind})")
        steps = "unlimited" if length is None else f"{length:,}"
        table.add_row(env_id, Text("\n".join(lines)), steps, end_section=True)
    Console().print(table)


def parse_steps(steps: str, agents: str) -> dict[str, int]:
    """Return the steps by agent.

    Args:
        steps: "500", or "mpc=500,ppo=20000".
        agents: "mpc,ppo".

    Raises:
        InvalidSettingError: Not of this form, or not for these agents.
    """
    names = list(dict.fromkeys(name.strip() for name in agents.split(",") if name.strip()))
    if not names:
        raise InvalidSettingError(f"--agents must be names such as mpc,ppo, but {agents!r} was given")
    form = f"--steps must be a number such as 500, or one for each agent such as {'=500,'.join(names)}=500"
    pairs = [pair.strip().rpartition("=") for pair in steps.split(",")]
    if any(not re.fullmatch(r"[1-9][0-9]{0,11}", number.strip(), re.ASCII) for _, _, number in pairs):
        raise InvalidSettingError(f"{form}, but {steps!r} was given")
    if len(pairs) == 1 and not pairs[0][1]:
        return dict.fromkeys(names, int(pairs[0][2]))
    given = [name.strip() for name, _, _ in pairs]
    if sorted(given) != sorted(names):
        raise InvalidSettingError(f"{form} (--agents are {', '.join(names)}), but {steps!r} was given")
    budgets = {name: int(number) for name, (_, _, number) in zip(given, pairs, strict=True)}
    return {name: budgets[name] for name in names}


def _run_all(jobs: Sequence[Job], processes: int) -> list[Run]:
    """Do the jobs that were not done before, and show how it goes."""
    from .benchmark import run_jobs

    found = [(job, job.finished()) for job in jobs]
    runs = [run for _, run in found if run is not None]
    left = [job for job, run in found if run is None]
    with _progress() as progress:
        task = progress.add_task("runs", total=len(jobs), completed=len(runs))
        if runs:
            progress.print(f"{count(len(runs), 'run')} of {len(jobs)} found in {jobs[0].folder.parent}")
        try:
            for run in run_jobs(left, processes):
                runs.append(run)
                progress.print(_describe_run(run))
                progress.advance(task)
        except KeyboardInterrupt:
            done = sum(job.finished() is not None for job in jobs)
            raise KeyboardInterrupt(
                f"{count(done, 'run')} of {len(jobs)} finished: the same command goes on with the others"
            ) from None
    return runs


def _progress() -> Progress:
    """Return bars on the error stream, which vanish when all is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _player(env_id: str, agent: Path | None, algorithm: str | None, algo: str | None, seed: int) -> Player:
    """Return the agent of a file, or a bandit algorithm."""
    if (agent is None) == (algorithm is None):
        raise InvalidSettingError("give the file of an agent (--agent FILE), or a bandit algorithm (--algorithm UCB1)")
    if agent is not None:
        from .benchmark import load_agent

        return load_agent(agent, algo)
    from .bandits import BanditPolicy, parse_algorithms

    assert algorithm is not None
    first, *more = parse_algorithms(algorithm).values()
    if algo is not None or more:
        raise InvalidSettingError(f"--algorithm takes one bandit algorithm and no --algo, not {algorithm!r}")
    return BanditPolicy(first, env_id, seed=seed)


def _parse_means(text: str | None) -> list[float] | None:
    """Return the numbers of "0.9,0.8"."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidSettingError(f"--means must be numbers such as 0.9,0.8,0.5, but {text!r} was given") from error


def _write_results(env_id: str, runs: Sequence[Run], folder: Path, seeds: int, episodes: int) -> list[str]:
    """Print the table, write it, the curves and their picture, and return the files' names."""
    from . import benchmark

    reference = benchmark.reference(env_id, episodes)
    summaries = benchmark.summarize(runs)
    title = f"{env_id} ({count(seeds, 'seed')}, {count(episodes, 'evaluation episode')})"
    caption = "return: median over seeds; times: one core"
    Console().print(benchmark.render(summaries, reference, title=title, caption=caption))
    benchmark.write_results(summaries, reference, folder / "results.csv")
    benchmark.write_curves(runs, folder / "curves.csv")
    benchmark.plot_learning_curves(runs, reference, folder / "learning_curves.png", title=title)
    return ["results.csv", "curves.csv", "learning_curves.png"]


def _describe_run(run: Run) -> str:
    return (
        f"{run.agent}, seed {run.seed}: return {run.mean[-1]:,.2f} after {run.steps[-1]:,} steps "
        f"in {run.seconds[-1]:,.1f} s"
    )


@contextlib.contextmanager
def _window_errors(way_out: str) -> Iterator[None]:
    """Turn pygame's errors into one that names the way out."""
    import pygame

    try:
        yield
    except pygame.error as error:
        raise InvalidSettingError(f"cannot open a window ({error}): {way_out}") from error


def _describe(space: gym.Space[Any]) -> str:
    """Write a space without the bounds of its columns, unless they are all the same."""
    if isinstance(space, gym.spaces.Dict):
        return f"Dict({', '.join(f'{name}: {_describe(part)}' for name, part in space.items())})"
    if not isinstance(space, gym.spaces.Box):
        return str(space)
    low, high = space.low.ravel(), space.high.ravel()
    shape = ", ".join(str(size) for size in space.shape)
    same = np.isfinite([low[0], high[0]]).all() and (low == low[0]).all() and (high == high[0]).all()
    return f"Box({low[0]:g}, {high[0]:g}, ({shape},))" if same else f"Box(({shape},))"
