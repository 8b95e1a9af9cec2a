"""Is a benchmark that was killed the same as one that was not, and what does running many runs cost?

    python benchmarks/bench_robustness.py

Kills all processes of a `mbrl-gym bench` of two jobs (SIGKILL), three times at random moments, and compares what the
same command ends with to an undisturbed one: evaluations, agents and logs, bit by bit. Then times 200 tiny runs on two
cores: what is neither spent within a run nor waiting for the last one is lost to orchestration. Writes
docs/results/bench.md. Takes some ten minutes on two cores that do nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.save_util import load_from_zip_file

from mbrl_gym.agents.benchmark.records import replacing
from mbrl_gym.models.saved import read_archive

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "bench.md"
KILLED = """
env_id = "mbrl/Drift-v0"
episodes = 5

[agents.mpc]
algorithm = "MPC"
steps = 1_000
evaluations = 5
settings = { model = "linear", train_freq = 50, planner_kwargs = { horizon = 3, population = 16 } }

[agents.mbpo]
algorithm = "MBPO"
steps = 300
evaluations = 3
settings = { model = "linear", learning_starts = 100, rollout_batch = 200, gradient_steps = 1 }

[agents.ppo]
algorithm = "PPO"
steps = 4_096
evaluations = 4
"""
TINY = """
env_id = "mbrl/Drift-v0"
episodes = 20

[agents.ppo]
algorithm = "PPO"
steps = 2_048
evaluations = 4
"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_robustness"), help="folder for the runs")
    parser.add_argument("--kills", type=int, default=3, help="0 keeps what was found before")
    parser.add_argument("--runs", type=int, default=200, help="0 keeps what was found before")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.kills:
        found = compare_killed(given.out, given.kills, random.Random(given.seed))
        (given.out / "killed.txt").write_text(found)
    if given.runs:
        (given.out / "tiny.txt").write_text(time_tiny(given.out, given.runs))
    parts = [path.read_text() for name in ("killed", "tiny") if (path := given.out / f"{name}.txt").exists()]
    lines = ["Made by `python benchmarks/bench_robustness.py`:", "", *(f"- {part}" for part in parts)]
    print("\n".join(lines))
    with replacing(RESULTS) as path:
        path.write_text("\n".join(lines) + "\n")


def command(out: Path, text: str, name: str, seeds: int) -> list[str]:
    """Return a benchmark's command, after writing its settings and removing its runs."""
    shutil.rmtree(out / name, ignore_errors=True)
    file = out / f"{name.partition('-')[0]}.toml"
    file.write_text(text)
    options = ["--seeds", str(seeds), "--jobs", "2", "--checkpoint-seconds", "0.5", "--no-pictures"]
    return [sys.executable, "-m", "mbrl_gym", "bench", str(file), *options, "--out", str(out / name)]


def call(arguments: list[str]) -> float:
    """Run a command to its end and return how long it took [s]."""
    begin = time.perf_counter()
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - begin


def environment() -> dict[str, str]:
    """Return the variables of a command."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def compare_killed(out: Path, kills: int, moments: random.Random) -> str:
    """Kill, go on, compare, and return a sentence."""
    seconds = call(command(out, KILLED, "killed-not", 2))
    killed = command(out, KILLED, "killed-often", 2)
    at = []
    for _ in range(kills):
        process = subprocess.Popen(
            killed, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        at.append(moments.uniform(0.2, 0.6) * seconds)
        time.sleep(at[-1])
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    call(killed)
    folders = sorted(path.parent for path in (out / "killed-not").glob("*/*/run.json"))
    again = [out / "killed-often" / path.relative_to(out / "killed-not") for path in folders]
    different = [path.name for path, other in zip(folders, again, strict=True) if results(path) != results(other)]
    resumed = sum(json.loads((path / "run.json").read_text())["resumed"] > 0 for path in again)
    verdict = "all bit-identical" if not different else f"**different: {', '.join(different)}**"
    told = ", ".join(f"{moment:.1f}" for moment in at)
    return (
        f"{len(folders)} runs of MPC, MBPO and PPO ({seconds:.0f} s undisturbed, two jobs), all processes killed "
        f"{kills} times, {told} s after their start: {verdict}; {resumed} of the runs went on from a checkpoint."
    )


def results(folder: Path) -> dict[str, Any]:
    """Return what a run found, without times."""
    with np.load(folder / "evaluations.npz") as arrays:
        found: dict[str, Any] = {name: array.tolist() for name, array in arrays.items()}
    rows = [line.split(",") for line in (folder / "progress.csv").read_text().splitlines()]
    kept = [i for i, name in enumerate(rows[0]) if not name.startswith("time/")]
    found["progress"] = [[row[i] for i in kept] for row in rows]
    try:
        policy = read_archive(folder / "agent.zip")[1]["state"]["policy"]
    except ValueError:
        policy = load_from_zip_file(folder / "agent.zip", device="cpu")[1]["policy"]
    found["policy"] = {name: tensor.tolist() for name, tensor in policy.items()}
    return found


def time_tiny(out: Path, runs: int) -> str:
    """Time tiny runs and return a sentence."""
    seconds = call(command(out, TINY, "tiny", runs))
    contents = [json.loads(path.read_text()) for path in (out / "tiny").glob("*/*/run.json")]
    ends = sorted(content["finished"] for content in contents)
    waiting = ends[-1] - ends[-2]  # of one core for the last run of the other
    within = sum(content["finished"] - content["started"] for content in contents)
    lost = 1 - (within + waiting) / (2 * seconds)
    return (
        f"{len(contents)} tiny runs (PPO, 2,048 steps) on two cores: {seconds:.0f} s, of which "
        f"{within / len(contents):.2f} s of one core within each run; {100 * lost:.1f}% of two cores lost to "
        f"orchestration (asked: less than 10%){'' if lost < 0.1 else ' **missed**'}."
    )


if __name__ == "__main__":
    main()
