"""Many runs in parallel processes."""

from __future__ import annotations

import functools
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor

from mbrl_gym.errors import InvalidSettingError, MbrlGymError

from .records import Run, load_run
from .run import describe, run, warm_up
from .settings import AGENTS, check_env, full_id

__all__ = ["Job", "in_parallel", "make_jobs", "one_thread", "run_jobs"]

J = TypeVar("J")
R = TypeVar("R")

WATCH_SECONDS = 0.2  # between looks at whether the caller still lives


@dataclass(frozen=True)
class Job:
    """A run to be done."""

    env_id: str
    agent: str
    seed: int
    steps: int
    evaluations: int
    episodes: int
    folder: Path
    settings: dict[str, Any]  # all that decides the result

    def finished(self) -> Run | None:
        """Return the run if it was done before."""
        return load_run(self.folder, self.settings)

    @property
    def seconds(self) -> float:
        """A rough estimate of its training time [s]."""
        return self.steps * AGENTS[self.agent].step_seconds


def make_jobs(
    env_id: str, steps: Mapping[str, int], seeds: int, *, evaluations: int, episodes: int, folder: Path
) -> list[Job]:
    """Check all settings and return a job for every agent and seed.

    Args:
        env_id: The environment.
        steps: Training steps by agent.
        seeds: Number of seeds, which are 0, 1, 2, ...
        evaluations: See `run`.
        episodes: See `run`.
        folder: Each run gets a folder of its own in it.

    Raises:
        InvalidSettingError: A setting out of its range.
        UnsupportedSpaceError: A space that an agent cannot handle; names the agents that can.
    """
    if seeds < 1:
        raise InvalidSettingError(f"seeds must be at least 1, but {seeds} was given")
    jobs = []
    with closing(check_env(env_id)) as env:
        env_id = full_id(env, env_id)
        for agent, count in steps.items():
            for seed in range(seeds):
                settings = describe(env, env_id, agent, seed, count, evaluations=evaluations, episodes=episodes)
                place = folder / f"{agent}-{seed}"
                jobs.append(Job(env_id, agent, seed, count, evaluations, episodes, place, settings))
    return jobs


def run_jobs(jobs: Sequence[Job], processes: int) -> Iterator[Run]:
    """Run jobs in parallel, the longest first, with one torch thread each; yield each run when it is done.

    Raises:
        MbrlGymError: A run failed; names it.
    """
    if processes < 1:
        raise InvalidSettingError(f"jobs must be at least 1, but {processes} was given")
    return in_parallel(_work, sorted(jobs, key=lambda job: -job.seconds), processes)


def in_parallel(
    work: Callable[[J], R], jobs: Sequence[J], processes: int, batch_size: int | str = "auto"
) -> Iterator[R]:
    """Call `work` with each job in other processes, with one torch thread each; yield results as they come."""
    caller = os.getpid()
    complete = False
    try:
        with parallel_config(backend="loky", inner_max_num_threads=1):
            parallel = Parallel(
                n_jobs=min(processes, max(len(jobs), 1)), return_as="generator_unordered", batch_size=batch_size
            )
            yield from parallel(delayed(one_thread)(work, job, caller) for job in jobs)
        complete = True
    finally:
        if not complete and processes > 1:
            get_reusable_executor().shutdown(wait=True, kill_workers=True)


def one_thread(work: Callable[[J], R], job: J, caller: int | None) -> R:
    """Call `work` with a job in one torch thread, where it is not the process of the caller (None) for good."""
    if os.getpid() != caller:
        _settle(caller)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work(job)
    finally:
        torch.set_num_threads(threads)


@functools.cache
def _settle(caller: int | None) -> None:
    """Prepare this process, once, for the work of others."""
    if os.getppid() == caller:
        threading.Thread(target=_end_with, args=(caller,), daemon=True).start()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's affair
    warm_up()
    gc.freeze()  # loky collects garbage after every job: what was imported need not be looked through each time


def _end_with(parent: int) -> None:
    """End this process when its parent is no more, which may have been killed before it could say so.

    It would work on for nobody, and write where the same command, given again, writes.
    """
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def _work(job: Job) -> Run:
    try:
        return run(
            job.env_id,
            job.agent,
            job.seed,
            job.steps,
            evaluations=job.evaluations,
            episodes=job.episodes,
            folder=job.folder,
        )
    except MbrlGymError as error:
        raise type(error)(f"{job.agent}, seed {job.seed}: {error}") from error
