"""Tabular Dyna beside the book and beside Q-learning: `python benchmarks/dyna_q.py --out runs/dyna_q`.

Repeats the experiments of Sutton and Barto (2018), chapter 8, on their mazes, counts the steps after which Dyna-Q is
as good as Q-learning ends on Gymnasium's toy texts, and times planning updates. Writes docs/results/dyna_q.md and the
figures beside it. Finished parts are kept under --out and not repeated: give a fresh --out after a change of the
package.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from dyna_q_figures import draw_lengths, draw_rewards
from dyna_q_texts import HORIZON, TEXTS, first_at, text_curve, text_id
from joblib import Parallel, delayed
from stable_baselines3.common.callbacks import BaseCallback

import mbrl_gym  # noqa: F401  registers the mazes
from mbrl_gym.agents import DynaQ, DynaQPlus, PrioritizedSweeping
from mbrl_gym.agents.benchmark.records import replacing

RESULTS = Path(__file__).parents[1] / "docs" / "results"
Array = np.ndarray[Any, Any]
Record = dict[str, Any]

EPISODES = 50  # of the Dyna maze
ENOUGH = 20  # steps of an episode
FIRST_EPISODE = {0: 28, 5: 7, 50: 3}  # whose mean length is at most ENOUGH, by planning steps
BOOK = {"model": "latest", "gamma": 0.95, "exploration_final_eps": 0.1}
CHANGING: dict[str, Record] = {
    "BlockingMaze": {
        "steps": 3_000,
        "change_at": 1_000,
        "planning_steps": 10,
        "kappa": 1e-4,
        # Cumulative reward at the end, and how far from it the mean may be
        "DynaQPlus": (135, 15),
        "DynaQ": (82, 50),
    },
    "ShortcutMaze": {
        "steps": 6_000,
        "change_at": 3_000,
        "planning_steps": 50,
        "kappa": 1e-3,
        "DynaQPlus": (367, None),
        "DynaQ": (282, None),
    },
}
FEWER = 5  # times
PLANNING_STEPS = 50  # of Dyna-Q on the texts
UPDATES_PER_SECOND = 200_000


# Mazes ----------------------------------------------------------------------------------------------------------------


class Lengths(BaseCallback):
    """Keeps the lengths of episodes, and stops after so many."""

    def __init__(self, episodes: int) -> None:
        super().__init__()
        self.episodes = episodes
        self.lengths: list[int] = []

    def _on_step(self) -> bool:
        self.lengths += [info["episode"]["l"] for info in self.locals["infos"] if "episode" in info]
        return len(self.lengths) < self.episodes


class Rewards(BaseCallback):
    """Keeps the reward of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards: list[float] = []

    def _on_step(self) -> bool:
        self.rewards.append(float(self.locals["rewards"][0]))
        return True


def maze(name: str) -> gym.Env[Any, Any]:
    """Make a maze whose episodes have no limit, as in the book."""
    return gym.make(f"mbrl/{name}-v0", max_episode_steps=-1, disable_env_checker=True)


def episode_lengths(planning_steps: int, seed: int) -> list[int]:
    """Return the lengths of the episodes of one run in the Dyna maze."""
    callback = Lengths(EPISODES)
    agent = DynaQ(
        "epsilon-greedy", maze("DynaMaze"), planning_steps=planning_steps, learning_rate=0.1, seed=seed, **BOOK
    )
    agent.learn(10**7, callback=callback, log_interval=None)  # type: ignore[arg-type]
    return callback.lengths


def cumulative_reward(name: str, kappa: float | None, seed: int) -> list[float]:
    """Return the reward gathered until each step of one run in a maze that changes; kappa None is Dyna-Q."""
    callback, given = Rewards(), CHANGING[name]
    settings = {"planning_steps": given["planning_steps"], "learning_rate": 1.0, "seed": seed, **BOOK}
    if kappa is None:
        agent = DynaQ("epsilon-greedy", maze(name), **settings)
    else:
        agent = DynaQPlus("epsilon-greedy", maze(name), kappa=kappa, **settings)
    agent.learn(given["steps"], callback=callback, log_interval=None)  # type: ignore[arg-type]
    return np.cumsum(callback.rewards).tolist()


def run_dyna_maze(planning_steps: int, given: argparse.Namespace) -> Record:
    """Return the mean lengths of episodes in the Dyna maze and their standard errors."""
    lengths = np.array(given.pool(delayed(episode_lengths)(planning_steps, seed) for seed in range(given.repetitions)))
    error = lengths.std(0, ddof=1) / np.sqrt(len(lengths))
    return {"mean": lengths.mean(0).tolist(), "error": error.tolist(), "runs": len(lengths)}


def run_changing(name: str, given: argparse.Namespace) -> Record:
    """Return the mean cumulative rewards of both agents and their standard deviations over runs."""
    record: Record = {"runs": given.runs}
    for agent, kappa in (("DynaQ", None), ("DynaQPlus", CHANGING[name]["kappa"])):
        rewards = np.array(given.pool(delayed(cumulative_reward)(name, kappa, seed) for seed in range(given.runs)))
        record[agent] = {"mean": rewards.mean(0).tolist(), "deviation": rewards.std(0, ddof=1).tolist()}
    return record


# Texts ----------------------------------------------------------------------------------------------------------------


def run_text(name: str, given: argparse.Namespace) -> Record:
    """Return when Q-learning and Dyna-Q first reach the return with which Q-learning ends, the mean over seeds."""
    plain = given.pool(delayed(text_curve)(name, 0, np.inf, seed) for seed in range(given.seeds))
    target = float(np.mean([returns[-1] for _, returns in plain]))
    dyna = given.pool(delayed(text_curve)(name, PLANNING_STEPS, target, seed) for seed in range(given.seeds))
    return {
        "id": text_id(TEXTS[name]["id"]),
        "seeds": given.seeds,
        "steps": TEXTS[name]["steps"],
        "learns": [list(each) for each in TEXTS[name]["learns"]],
        "target": target,
        "q_learning": [first_at(*curve, target) for curve in plain],
        "dyna_q": [first_at(*curve, target) for curve in dyna],
    }


# Speed ----------------------------------------------------------------------------------------------------------------


def run_speed(given: argparse.Namespace) -> Record:
    """Return planning updates a second of each agent on Taxi."""
    return {
        "DynaQ": updates_per_second(DynaQ),
        "DynaQ, expected_updates=True": updates_per_second(partial(DynaQ, expected_updates=True)),
        "DynaQPlus": updates_per_second(DynaQPlus),
        "PrioritizedSweeping": updates_per_second(PrioritizedSweeping),
    }


def updates_per_second(make: Callable[..., DynaQ], repetitions: int = 20) -> list[float]:
    """Return how many planning updates an agent makes in a second, after 1,000 steps of acting without any.

    Two medians: planning for one real step, as `learn` does, and for 100 real steps in one call.
    """
    rates: dict[int, list[float]] = {1: [], 100: []}
    for seed in range(repetitions):
        agent = make("epsilon-greedy", text_id("Taxi"), planning_steps=0, seed=seed).learn(1_000)
        agent.planning_steps = PLANNING_STEPS  # the queue of prioritised sweeping is full by now
        for steps, measured in rates.items():
            before, begin = agent._n_updates, time.perf_counter()
            agent.train(steps)
            measured.append((agent._n_updates - before) / (time.perf_counter() - begin))
    return [float(np.median(measured)) for measured in rates.values()]


# All of it ------------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[argparse.Namespace], Record]] = {
    **{f"DynaMaze-{n}": partial(run_dyna_maze, n) for n in FIRST_EPISODE},
    **{name: partial(run_changing, name) for name in CHANGING},
    **{name: partial(run_text, name) for name in TEXTS},
    "speed": run_speed,
}


def main() -> None:
    """Run what is missing, draw, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/dyna_q"), help="folder for finished parts")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the page and the figures")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=PARTS, default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--repetitions", type=int, default=300, help="of the Dyna maze")
    parser.add_argument("--runs", type=int, default=20, help="of the mazes that change")
    parser.add_argument("--seeds", type=int, default=5, help="of the toy texts")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args()
    if min(given.repetitions, given.runs, given.seeds) < 2 or given.jobs < 1:
        parser.error("--repetitions, --runs and --seeds must be at least 2, and --jobs at least 1")
    given.pool = Parallel(given.jobs)
    for name in given.only:
        if load(given.out, name) is None:
            begin = time.perf_counter()
            keep(given.out, name, PARTS[name](given))
            print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
    lines = page(given)
    print("\n".join(lines))
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "dyna_q.md").write_text("\n".join(lines) + "\n")


def load(out: Path, name: str) -> Record | None:
    """Return a finished part."""
    path = out / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def keep(out: Path, name: str, record: Record) -> None:
    """Store a finished part."""
    with replacing(out / f"{name}.json") as path:
        path.write_text(json.dumps(record))


# The page -------------------------------------------------------------------------------------------------------------


def page(given: argparse.Namespace) -> list[str]:
    """Draw the figures, and return the page of all parts that are finished."""
    parts = {name: record for name in PARTS if (record := load(given.out, name)) is not None}
    return [
        "# Tabular Dyna",
        "",
        f"Made by `python benchmarks/dyna_q.py` on {machine()}.",
        *dyna_maze_lines({n: parts[f"DynaMaze-{n}"] for n in FIRST_EPISODE if f"DynaMaze-{n}" in parts}, given.results),
        *changing_lines({name: parts[name] for name in CHANGING if name in parts}, given.results),
        *text_lines([parts[name] for name in TEXTS if name in parts]),
        *speed_lines(parts.get("speed", {})),
    ]


def machine() -> str:
    """Describe the machine."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name} ({os.cpu_count()} cores)"


def dyna_maze_lines(records: dict[int, Record], results: Path) -> list[str]:
    """Return the section on the Dyna maze."""
    if not records:
        return []
    draw_lengths(records, ENOUGH, results / "dyna_maze.png")
    rows = []
    for n, record in records.items():
        book, first = FIRST_EPISODE[n], first_at(range(1, EPISODES + 1), [-mean for mean in record["mean"]], -ENOUGH)
        reached = abs(first - book) <= max(1, 0.15 * book)
        rows.append(f"| {n} | {record['runs']} | {first:g} | {book} | {record['mean'][0]:.0f} | {_told(reached)} |")
    return [
        "",
        f"## Dyna maze: the first episode whose mean length is at most {ENOUGH} steps",
        "",
        "Sutton and Barto (2018), example 8.1: learning rate 0.1, epsilon 0.1, gamma 0.95. Required: within 15% of the "
        "known episode, or 1.",
        "",
        "| planning steps | repetitions | episode | known | steps of the first episode | required |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "![Steps per episode](dyna_maze.png)",
    ]


def changing_lines(records: dict[str, Record], results: Path) -> list[str]:
    """Return the section on the mazes that change."""
    if not records:
        return []
    rows = []
    for name, record in records.items():
        draw_rewards(name, record, CHANGING[name]["change_at"], results / f"{_file(name)}.png")
        for agent in ("DynaQPlus", "DynaQ"):
            mean, deviation = record[agent]["mean"][-1], record[agent]["deviation"][-1]
            known, within = CHANGING[name][agent]
            asked, told = f"{known}", ""
            if within is not None:
                asked, told = f"{known} within {within}", _told(abs(mean - known) <= within)
            rows.append(f"| {name} | {agent} | {record['runs']} | {mean:.0f} | {deviation:.0f} | {asked} | {told} |")
    return [
        "",
        "## Mazes that change: the reward gathered in all steps",
        "",
        "Examples 8.2 and 8.3: learning rate 1, epsilon 0.1, gamma 0.95; "
        + "; ".join(
            f"{name}: {given['planning_steps']} planning steps, kappa {given['kappa']:g}, {given['steps']:,} steps"
            for name, given in CHANGING.items()
        )
        + ".",
        "",
        "| maze | agent | runs | mean | standard deviation | known | required |",
        "|---|---|---|---|---|---|---|",
        *rows,
        *(line for name in records for line in ("", f"![{name}]({_file(name)}.png)")),
    ]


def text_lines(records: list[Record]) -> list[str]:
    """Return the section on Gymnasium's toy texts."""
    if not records:
        return []
    rows = []
    for record in records:
        plain, dyna = float(np.median(record["q_learning"])), float(np.median(record["dyna_q"]))
        cells = (
            record["id"],
            *(f"{exploration}, {rate:g}" for exploration, rate in record["learns"]),
            f"{record['target']:.3f} ({record['steps']:,} steps)",
            _steps(record["q_learning"]),
            _steps(record["dyna_q"]),
            f"{plain / dyna:.1f}",
            _told(plain >= FEWER * dyna) if record["learns"][0] == record["learns"][1] else "",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return [
        "",
        "## Toy texts: steps until the return with which Q-learning ends",
        "",
        "Q-learning is `DynaQ` with `planning_steps=0`; its mean final return over all seeds is the target. The "
        f"expected return of the greedy policy in {HORIZON} steps follows from the environment's probabilities. Both "
        f"learn with epsilon 0.1 or UCB's coefficient 1, and gamma 0.99, Dyna-Q with {PLANNING_STEPS} planning steps. "
        f"Medians over {records[0]['seeds']} seeds (smallest to largest) of the first evaluation that reaches the "
        f"target; required: {FEWER} times fewer steps with the same exploration and learning rate. Below that, where "
        "nothing is random, Q-learning has the best of the learning rates 0.1, 0.5 and 1, and Dyna-Q its own.",
        "",
        "| environment | Q-learning | Dyna-Q | target | steps, Q-learning | steps, Dyna-Q | times fewer | required |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def speed_lines(rates: Record) -> list[str]:
    """Return the section on planning updates a second."""
    if not rates:
        return []
    return [
        "",
        "## Planning updates a second",
        "",
        f"On {text_id('Taxi')} (500 states, 6 actions) after 1,000 real steps, one core: in calls of "
        f"{PLANNING_STEPS} updates, as `learn` makes them with that many planning steps, and of "
        f"{100 * PLANNING_STEPS:,}. Required: {UPDATES_PER_SECOND:,}.",
        "",
        f"| agent | calls of {PLANNING_STEPS} | calls of {100 * PLANNING_STEPS:,} | required |",
        "|---|---|---|---|",
        *(
            f"| {name} | {few:,.0f} | {many:,.0f} | {_told(min(few, many) >= UPDATES_PER_SECOND)} |"
            for name, (few, many) in rates.items()
        ),
    ]


def _told(reached: bool) -> str:
    return "reached" if reached else "missed"


def _steps(firsts: list[float]) -> str:
    median, least, most = (f"{value:,.0f}" for value in (np.median(firsts), min(firsts), max(firsts)))
    return f"{median} ({least} to {most})"


def _file(name: str) -> str:
    return name.replace("Maze", "_maze").lower()


if __name__ == "__main__":
    main()
