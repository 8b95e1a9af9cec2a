"""Benchmarks on clusters: the same numbers as on this machine, and lost processes are told of."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_toys import document, results, small_suite, write_toml
from test_cli import call

from mbrl_gym.agents.benchmark.bench import run_trials
from mbrl_gym.agents.benchmark.cluster import CLUSTERS, Cluster, check_backend, connect
from mbrl_gym.agents.benchmark.compare import one_thread
from mbrl_gym.agents.benchmark.records import Run
from mbrl_gym.agents.benchmark.trial import Failure, attempt, make_trials
from mbrl_gym.errors import InvalidSettingError, MissingPackageError


class Toy(Cluster):
    """Does jobs in this process, the last one of those that wait first; one machine never gives its results back."""

    def _start(self, address: str | None, jobs: int | None) -> None:
        self.most, self.asked = 0, []

    def _cores(self) -> int:
        return 3

    def _submit(self, work: Any, job: Any) -> Any:
        self.asked.append((work, job))
        return len(self.asked) - 1

    def _first(self, futures: list[Any]) -> Any:
        self.most = max(self.most, len(futures))
        return futures[-1]

    def _result(self, future: Any) -> Any:
        work, job = self.asked[future]
        return one_thread(work, job, os.getpid())

    def close(self) -> None:
        pass


def halve(job: int) -> int:
    if job == 4:
        raise OSError("the node is gone")
    return job // 2


@pytest.mark.parametrize(("jobs", "most"), [(2, 2), (None, 3), (10, 6)])
def test_every_job_is_done_once_and_never_too_many_at_a_time(jobs: int | None, most: int) -> None:
    toy = Toy(None, jobs)
    outcomes = dict(toy.unordered(halve, range(6)))
    assert toy.most == most
    assert str(outcomes.pop(4)) == "the node is gone"
    assert outcomes == {0: 0, 1: 0, 2: 1, 3: 1, 5: 2}
    assert list(toy.unordered(halve, [])) == []


def test_runs_of_a_cluster_are_found_where_they_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    suite = small_suite(agents={"ppo": document()["agents"]["ppo"]})
    trials = make_trials([suite], 2, Path("out"))
    seen: list[Path] = []

    class Elsewhere(Toy):
        """The machine of the second run has another disk."""

        def _result(self, future: Any) -> Any:
            _, trial = self.asked[future]
            seen.append(trial.folder)
            if trial.seed == 0:
                return attempt(trial)
            place = Path(str(trial.folder).replace("out", "elsewhere"))
            return attempt(make_trials([suite], 2, place.parents[1])[1])

    outcomes = {trial.seed: outcome for trial, outcome in run_trials(trials, 1, Elsewhere(None, 1))}
    assert all(folder.is_absolute() for folder in seen)
    assert isinstance(outcomes[0], Run)
    lost = outcomes[1]
    assert isinstance(lost, Failure)
    assert "--out must be shared" in lost.error
    assert "--out must be shared" in (trials[1].folder / "failure.txt").read_text()


def test_backends_that_are_not_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSettingError, match="no backend 'slurm': choose from loky, ray, dask"):
        check_backend("slurm")
    with pytest.raises(InvalidSettingError, match="--cluster needs --backend ray or --backend dask"):
        check_backend("loky", "10.0.0.1:6379")
    for name, kind in CLUSTERS.items():
        monkeypatch.setitem(sys.modules, kind.package, None)
        with pytest.raises(MissingPackageError, match=rf"--backend {name} needs {kind.package}: .*mbrl-gym\[cluster\]"):
            check_backend(name)
        done = call("bench", "mbrl/Drift-v0", "--backend", name, "--out", tmp_path / "out")
        assert done.exit_code == 2
        assert "mbrl-gym[cluster]" in done.stderr
    assert not (tmp_path / "out").exists()
    with connect("loky") as cluster:
        assert cluster is None


@pytest.mark.filterwarnings("default")
def test_clusters_that_cannot_be_used_are_refused() -> None:
    """None at the address, or one whose workers have several threads, which would share their random numbers."""
    pytest.importorskip("ray")
    with (
        pytest.raises(InvalidSettingError, match=r"no ray cluster at 127.0.0.1:1: .*refused"),
        connect("ray", "127.0.0.1:1"),
    ):
        pass
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, memory_limit=0
    ) as there:
        address = there.scheduler_address
        with pytest.raises(InvalidSettingError, match=r"one thread each .* \[2\]"), connect("dask", address):
            pass


@pytest.mark.parametrize("backend", CLUSTERS)
@pytest.mark.filterwarnings("default")  # of packages that are not ours
def test_clusters_give_the_numbers_of_this_machine(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(CLUSTERS[backend].package)
    file = write_toml(tmp_path / "drift.toml", document())
    common = ("bench", file, "--seeds", 1, "--jobs", 2, "--no-pictures", "--out")
    there = call(*common, tmp_path / "there", "--backend", backend)
    assert there.exit_code == 0, there.stderr
    assert "2 runs finished" in there.stderr
    here = call(*common, tmp_path / "here")
    assert here.exit_code == 0, here.stderr
    for name in ("mpc-0", "ppo-0"):
        assert results(tmp_path / "there/mbrl-Drift-v0" / name) == results(tmp_path / "here/mbrl-Drift-v0" / name)


@pytest.mark.parametrize("backend", CLUSTERS)
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_worker_that_dies_takes_no_other_run_along(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(CLUSTERS[backend].package)
    suite = small_suite("bench_toys:Deadly-v0", agents={"ppo": document()["agents"]["ppo"]})
    trials = make_trials([suite], 2, tmp_path)
    with connect(backend, None, 2) as cluster:
        outcomes = {trial.seed: outcome for trial, outcome in run_trials(trials, 2, cluster)}
    assert {seed: type(outcome) for seed, outcome in outcomes.items()} == {0: Run, 1: Failure}
    assert "The process died" in outcomes[1].error
    assert (trials[1].folder / "failure.txt").exists()
