"""Runs on clusters: Ray's or Dask's, on this machine or elsewhere."""

from __future__ import annotations

import importlib
import itertools
import logging
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from mbrl_gym.errors import InvalidSettingError, MissingPackageError

from .compare import one_thread

__all__ = ["BACKENDS", "CLUSTERS", "Cluster", "check_backend", "connect"]

J = TypeVar("J")
R = TypeVar("R")

SECONDS = 30  # until a cluster has to answer


class Cluster(ABC):
    """Processes that do jobs, each in one thread.

    Futures of Ray and Dask are used as they are, rather than through joblib: joblib does a single job at a time in the
    caller's process instead of the cluster, and one process that dies ends all jobs.

    Args:
        address: Of a cluster that there is; None starts one on this machine, which ends with this object.
        jobs: How many are done at the same time; None for as many as the cluster has cores.

    Raises:
        InvalidSettingError: There is no cluster at the address, or none of its kind.
    """

    package: ClassVar[str]

    def __init__(self, address: str | None, jobs: int | None) -> None:
        self._start(address, jobs)
        self.jobs = jobs or self._cores()

    def unordered(self, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | Exception]]:
        """Call `work` with each job; yield jobs and results as they come, or what their process died of."""
        left, running = iter(jobs), dict[Any, J]()
        while True:
            for job in itertools.islice(left, self.jobs - len(running)):
                running[self._submit(work, job)] = job
            if not running:
                return
            done = self._first(list(running))
            job = running.pop(done)
            try:
                outcome = self._result(done)
            except Exception as error:  # not raised by `work` alone: whatever the cluster tells of lost processes
                outcome = error
            yield job, outcome

    @abstractmethod
    def _start(self, address: str | None, jobs: int | None) -> None:
        """Connect, or start processes."""

    @abstractmethod
    def _cores(self) -> int:
        """Return the number of cores."""

    @abstractmethod
    def _submit(self, work: Callable[[Any], Any], job: Any) -> Any:
        """Hand a job to the cluster and return its future."""

    @abstractmethod
    def _first(self, futures: list[Any]) -> Any:
        """Wait for one of them."""

    @abstractmethod
    def _result(self, future: Any) -> Any:
        """Return the result, or raise."""

    @abstractmethod
    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""


class RayCluster(Cluster):
    """Processes of Ray."""

    package = "ray"

    def _start(self, address: str | None, jobs: int | None) -> None:
        self._ray = importlib.import_module("ray")
        if address:
            _check_reachable(address)
        size = {} if address else {"num_cpus": jobs, "include_dashboard": False}
        self._ray.init(address or "local", **size, log_to_driver=False, logging_level=logging.ERROR)
        self._call = self._ray.remote(num_cpus=1, max_retries=0)(_do)

    def _cores(self) -> int:
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def _submit(self, work: Callable[[Any], Any], job: Any) -> Any:
        return self._call.remote(work, job, sys.path)

    def _first(self, futures: list[Any]) -> Any:
        (done,), _ = self._ray.wait(futures, num_returns=1)
        return done

    def _result(self, future: Any) -> Any:
        return self._ray.get(future)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._ray.shutdown()


class DaskCluster(Cluster):
    """Processes of Dask, with one thread each."""

    package = "distributed"

    def _start(self, address: str | None, jobs: int | None) -> None:
        self._dask = importlib.import_module("distributed")
        self._own: Any = None
        if address is None:
            self._own = self._dask.LocalCluster(
                n_workers=jobs,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
        self._client = self._dask.Client(address or self._own, timeout=SECONDS)
        threads = self._threads()
        if max(threads, default=1) > 1:  # agents share the global generators of their process
            self.close()
            raise InvalidSettingError(
                f"Dask's workers must have one thread each (dask worker --nthreads 1), but these have {threads}"
            )

    def _threads(self) -> list[int]:
        return [worker["nthreads"] for worker in self._client.scheduler_info(n_workers=-1)["workers"].values()]

    def _cores(self) -> int:
        return max(1, len(self._threads()))

    def _submit(self, work: Callable[[Any], Any], job: Any) -> Any:
        return self._client.submit(_do, work, job, sys.path, pure=False)

    def _first(self, futures: list[Any]) -> Any:
        return self._dask.wait(futures, return_when="FIRST_COMPLETED").done.pop()

    def _result(self, future: Any) -> Any:
        return future.result()

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._client.close()
        if self._own is not None:
            self._own.close()


def _check_reachable(address: str) -> None:
    """Try to connect, since Ray itself goes on trying for minutes.

    Raises:
        OSError: Nobody answers.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), SECONDS).close()


def _do(work: Callable[[J], R], job: J, path: Sequence[str]) -> R:
    """Do a job where modules are that the caller can import: an environment may be of one of them."""
    sys.path += [place for place in path if place not in sys.path]
    return one_thread(work, job, None)


CLUSTERS: dict[str, type[Cluster]] = {"ray": RayCluster, "dask": DaskCluster}
BACKENDS = ("loky", *CLUSTERS)
"""Where runs can be done: "loky" is processes of this machine, without a cluster."""


def check_backend(backend: str, address: str | None = None) -> None:
    """Refuse a backend that there is not.

    Raises:
        InvalidSettingError: No such backend, or an address for loky.
        MissingPackageError: The package of the backend is not installed.
    """
    if backend not in BACKENDS:
        raise InvalidSettingError(f"there is no backend {backend!r}: choose from {', '.join(BACKENDS)}")
    if backend == "loky":
        if address is not None:
            names = " or ".join(f"--backend {name}" for name in CLUSTERS)
            raise InvalidSettingError(f"--cluster needs {names}, but loky, which runs on this machine, was given")
        return
    try:
        importlib.import_module(CLUSTERS[backend].package)
    except ImportError as error:
        package = CLUSTERS[backend].package
        raise MissingPackageError(f'--backend {backend} needs {package}: pip install "mbrl-gym[cluster]"') from error


@contextmanager
def connect(backend: str, address: str | None = None, jobs: int | None = None) -> Iterator[Cluster | None]:
    """Connect to a cluster, or start one, for as long as it is needed; "loky" has none.

    Args:
        backend: One of `BACKENDS`.
        address: Of a cluster that there is; None starts one on this machine.
        jobs: How many runs are done at the same time; None for as many as the cluster has cores.

    Raises:
        InvalidSettingError: No such backend; an address for loky; or no cluster at the address.
        MissingPackageError: The package of the backend is not installed.
    """
    check_backend(backend, address)
    if backend == "loky":
        yield None
        return
    try:
        cluster = CLUSTERS[backend](address, jobs)
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, InvalidSettingError):
            raise
        raise InvalidSettingError(f"there is no {backend} cluster at {address}: {error}") from error
    try:
        yield cluster
    finally:
        cluster.close()
