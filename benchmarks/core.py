"""The core's figures: MPC with a learned model beside Stable-Baselines3's PPO and SAC, and the time of a decision.

    python benchmarks/core.py --out runs

Trains every agent from five seeds on mbrl/Arm-v0, mbrl/Drone-v0 and mbrl/Drift-v0 (about 40 minutes on two cores),
evaluates all on the same 50 episodes, and writes docs/results/core.md and core.csv. Runs that --out holds already are
not repeated.
"""

import argparse
import csv
import statistics
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

import mbrl_gym  # noqa: F401  # registers the ids
from mbrl_gym.agents import MPC
from mbrl_gym.agents.benchmark import Run, make_jobs, reference, run_jobs

PLAN = {
    # environment: {agent: (steps, evaluations)}
    "mbrl/Arm-v0": {"mpc": (500, 1), "sac": (10_000, 5), "ppo": (100_000, 5)},
    "mbrl/Drone-v0": {"mpc": (300, 1), "sac": (10_000, 5), "ppo": (100_000, 5)},
    "mbrl/Drift-v0": {"mpc": (100, 1), "sac": (1_000, 20), "ppo": (40_000, 20)},
}
EPISODES = 50


def train(env_id: str, out: Path, seeds: int, processes: int) -> list[Run]:
    """Train all agents in one environment, or load their runs."""
    folder = out / env_id.removeprefix("mbrl/").removesuffix("-v0") / "runs"
    jobs = []
    for agent, (steps, evaluations) in PLAN[env_id].items():
        jobs += make_jobs(env_id, {agent: steps}, seeds, evaluations=evaluations, episodes=EPISODES, folder=folder)
    runs = []
    for done in run_jobs(jobs, processes):
        runs.append(done)
        print(f"  {env_id} {done.agent} seed {done.seed}: {done.mean[-1]:.1f} in {done.seconds[-1]:.1f} s", flush=True)
    return sorted(runs, key=lambda run: (list(PLAN[env_id]).index(run.agent), run.seed))


def time_to(runs: list[Run], target: float) -> str:
    """Return median training steps and seconds until runs reach a mean return; runs that do not count as longer."""
    steps, seconds = [], []
    for one in runs:
        reached = np.flatnonzero(one.mean >= target)
        steps.append(float(one.steps[reached[0]]) if len(reached) else np.inf)
        seconds.append(float(one.seconds[reached[0]]) if len(reached) else np.inf)
    if np.isinf(statistics.median(seconds)):
        longest = statistics.median(float(one.seconds[-1]) for one in runs)
        return f"not within {runs[0].steps[-1]:,} steps, {longest:.0f} s"
    return f"{statistics.median(steps):,.0f} steps, {statistics.median(seconds):.1f} s"


def table(env_id: str, runs: list[Run]) -> list[str]:
    """Return the Markdown rows of one environment."""
    ours = [run for run in runs if run.agent == "mpc"]
    target = statistics.median(run.mean[-1] for run in ours)
    rows = []
    for agent in PLAN[env_id]:
        own = [run for run in runs if run.agent == agent]
        final = [float(run.mean[-1]) for run in own]
        rows.append(
            f"| {env_id} | {agent} | {own[0].steps[-1]:,} | {statistics.median(final):.1f} "
            f"({min(final):.1f} to {max(final):.1f}) | {statistics.median(run.seconds[-1] for run in own):.1f} | "
            f"{time_to(own, target)} |"
        )
    bounds = reference(env_id, EPISODES)
    optimum = "unknown" if bounds.optimum is None else f"{bounds.optimum:.1f}"
    rows.append(f"| {env_id} | random policy; optimum | | {bounds.random:.1f}; {optimum} | | |")
    return rows


def decision_times(agent_file: Path) -> tuple[float, float]:
    """Return the median milliseconds of a decision for one state and for 64 in one batch."""
    agent = MPC.load(agent_file, device="cpu")
    observations, _ = gym.make_vec("mbrl/Arm-v0", num_envs=64).reset(seed=0)
    medians = []
    for rows, repetitions in ((1, 100), (64, 20)):
        state, times = None, []
        for _ in range(repetitions):
            begin = time.perf_counter()
            _, state = agent.predict(observations[:rows], state, deterministic=True)
            times.append(1000 * (time.perf_counter() - begin))
        medians.append(statistics.median(times))
    return medians[0], medians[1]


def main() -> None:
    """Run everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    lines = [
        "| environment | agent | steps | mean return, median of 5 seeds (min to max) | training time [s] "
        "| to the median return of mpc |",
        "|---|---|---|---|---|---|",
    ]
    curves = []
    for env_id in PLAN:
        runs = train(env_id, arguments.out, arguments.seeds, arguments.jobs)
        lines += table(env_id, runs)
        for run in runs:
            for row in zip(run.steps, run.seconds, run.mean, run.std, strict=True):
                curves.append([env_id, run.agent, run.seed, *(round(float(value), 3) for value in row)])
    torch.set_num_threads(1)
    one, many = decision_times(arguments.out / "Arm" / "runs" / "mpc-0" / "agent.zip")
    results = Path("docs/results")
    results.mkdir(parents=True, exist_ok=True)
    (results / "core.md").write_text("\n".join(lines) + "\n")
    with open(results / "core.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["environment", "agent", "seed", "steps", "seconds", "mean_return", "std_return"])
        writer.writerows(curves)
    print("\n".join(lines))
    print(f"a decision on mbrl/Arm-v0: {one:.1f} ms for one state, {many:.1f} ms for 64 ({many / one:.1f} times)")


if __name__ == "__main__":
    main()
