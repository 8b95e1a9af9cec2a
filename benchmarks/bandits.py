"""Bandit algorithms beside the book and beside the law: `python benchmarks/bandits.py --out runs/bandits`.

Repeats the experiments of Sutton and Barto (2018), chapter 2, on the 10-armed testbed, compares the slope of the regret
at a horizon of 100,000 with the Lai-Robbins bound, lets arms drift, and times all algorithms. Writes
docs/results/bandits.md and the figures beside it. Finished parts are kept under --out and not repeated: give a fresh
--out after a change of the package.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from bandits_figures import draw_regret, draw_study, draw_testbed
from bandits_long import play_long

import mbrl_gym  # noqa: F401  registers the bandits
from mbrl_gym.agents import BANDITS, BanditRun, run_bandit
from mbrl_gym.agents.benchmark.records import replacing

RESULTS = Path(__file__).parents[1] / "docs" / "results"
Record = dict[str, Any]

LAST = 100  # pulls over which the testbed's figures are means
WITHIN = (0.03, 3.0)  # of the published reward, and points of the share of optimal pulls

# The algorithm, its settings, the mean of the arms' means, and the published reward and share of optimal pulls [%].
TESTBED: dict[str, tuple[str, Record, float, float, float]] = {
    "greedy": ("epsilon-greedy", {"epsilon": 0.0}, 0.0, 1.04, 36),
    "epsilon-greedy 0.1": ("epsilon-greedy", {"epsilon": 0.1}, 0.0, 1.37, 80),
    "epsilon-greedy 0.01": ("epsilon-greedy", {"epsilon": 0.01}, 0.0, 1.31, 59),
    "UCB1, c = 2": ("UCB1", {"coefficient": 2.0}, 0.0, 1.49, 86),
    "gradient 0.1, baseline, means around 4": ("gradient", {"step_size": 0.1}, 4.0, 1.50, 85),
    "gradient 0.1, no baseline, means around 4": ("gradient", {"step_size": 0.1, "baseline": False}, 4.0, 1.21, 49),
}
SPIKE = {10: 0.03, 11: 1.09, 12: 0.92}  # mean reward of UCB1's pulls

# The algorithm, the setting that varies, other settings, the exponents of two, and the published peak.
STUDY: dict[str, tuple[str, str, Record, tuple[int, int], float]] = {
    "epsilon-greedy": ("epsilon-greedy", "epsilon", {}, (-7, -2), 1.31),
    "gradient bandit": ("gradient", "step_size", {}, (-5, 2), 1.40),
    "UCB": ("UCB1", "coefficient", {}, (-4, 2), 1.50),
    "optimistic greedy, step 0.1": (
        "epsilon-greedy",
        "initial_value",
        {"epsilon": 0.0, "step_size": 0.1},
        (-2, 2),
        1.45,
    ),
}
STUDY_WITHIN = 0.03

LAW = {
    "far apart": (0.8, 0.05),
    "close": (0.9, 0.8),  # Garivier and Cappe (2011), figure 1
}
LAW_ALGORITHMS = ("KL-UCB", "Thompson", "UCB1")
LAWFUL = ("KL-UCB", "Thompson")  # whose slope must be near
HORIZON, LAW_WITHIN = 100_000, 0.15
LONG = 1_000_000  # pulls of close arms, for the slope of the decade beyond

DRIFTING: dict[str, tuple[str, Record]] = {
    "epsilon-greedy, sample means": ("epsilon-greedy", {}),
    "epsilon-greedy, step 0.1": ("epsilon-greedy", {"step_size": 0.1}),
    "UCB1, c = 2": ("UCB1", {"coefficient": 2.0}),
    "discounted-UCB 0.999": ("discounted-UCB", {"discount": 0.999, "xi": 0.15}),
    "sliding-window-UCB 1000": ("sliding-window-UCB", {"window": 1000, "xi": 0.6}),
    "Thompson": ("Thompson", {}),
}

SECONDS = 3.0  # for 2,000 problems of 1,000 pulls


def curves(run: BanditRun) -> Record:
    """Return a run's curves and figures as JSON."""
    last = slice(-LAST, None)
    return {
        "reward": run.reward.tolist(),
        "optimal": run.optimal.tolist(),
        "last_reward": float(run.reward[last].mean()),
        "last_optimal": float(run.optimal[last].mean()),
        "regret": float(run.regret[-1]),
        "regret_error": float(run.regret_error[-1]),
    }


def run_testbed(given: argparse.Namespace) -> Record:
    """Return the curves of the testbed's algorithms."""
    found: Record = {"problems": given.problems}
    for label, (name, settings, loc, _, _) in TESTBED.items():
        kwargs = {"mean_loc": loc} if loc else {}
        found[label] = curves(run_bandit(name, problems=given.problems, env_kwargs=kwargs, **settings))
        found[label]["reward"] = (np.array(found[label]["reward"]) - loc).tolist()
        found[label]["last_reward"] -= loc
        print(f"  {label}: {found[label]['last_reward']:.3f}", flush=True)
    return found


def run_study(given: argparse.Namespace) -> Record:
    """Return the mean reward of the first 1,000 pulls by algorithm and setting."""
    found: Record = {"problems": given.study_problems}
    for label, (name, varied, settings, (low, high), _) in STUDY.items():
        values = [2.0**exponent for exponent in range(low, high + 1)]
        runs = [run_bandit(name, problems=given.study_problems, **settings, **{varied: value}) for value in values]
        found[label] = {"values": values, "rewards": [float(run.reward.mean()) for run in runs]}
        print(f"  {label}: {max(found[label]['rewards']):.3f}", flush=True)
    return found


def run_law(case: str, name: str, given: argparse.Namespace) -> Record:
    """Return the regret of an algorithm on Bernoulli arms against the pulls, and its slope in the last decade."""
    run = run_bandit(name, "mbrl/BanditBernoulli-v0", problems=given.law_problems, pulls=HORIZON, means=LAW[case])
    at = np.unique(np.geomspace(1, HORIZON, 200).round().astype(int))
    assert run.lai_robbins is not None
    return {
        "problems": run.problems,
        "pulls": at.tolist(),
        "regret": run.regret[at - 1].tolist(),
        "error": run.regret_error[at - 1].tolist(),
        "constant": float(run.lai_robbins[0]),
        "slope": run.law_slope(HORIZON // 10),
        "ratio": run.law_ratio,
        "seconds": run.seconds,
    }


def run_long(name: str, given: argparse.Namespace) -> Record:
    """Return the slopes of the regret on close arms against ln t in the last decades of many pulls, over c."""
    best, other = LAW["close"]
    divergence = other * np.log(other / best) + (1 - other) * np.log((1 - other) / (1 - best))
    marks = [LONG // 1000, LONG // 100, LONG // 10, LONG]
    at = np.unique([*np.geomspace(marks[0], LONG, 150).round().astype(np.int64), *marks])
    regret = play_long(name, np.array(LAW["close"]), given.long_problems, at)
    slopes = []
    for begin, end in pairwise(marks):
        decade = (at >= begin) & (at <= end)
        each = np.polyfit(np.log(at[decade]), regret[:, decade].T, 1)[0] / ((best - other) / divergence)
        slopes.append([float(each.mean()), float(each.std() / len(each) ** 0.5)])
    final = regret[:, -1]
    error = float(final.std() / len(final) ** 0.5)
    return {"problems": len(regret), "marks": marks, "regret": float(final.mean()), "error": error, "slopes": slopes}


def run_drifting(given: argparse.Namespace) -> Record:
    """Return the figures of algorithms whose arms drift, over 10,000 pulls."""
    found = {}
    for label, (name, settings) in DRIFTING.items():
        run = run_bandit(name, "mbrl/BanditDrifting-v0", problems=given.drifting_problems, pulls=10_000, **settings)
        found[label] = {name: value for name, value in curves(run).items() if name not in ("reward", "optimal")}
        print(f"  {label}: regret {found[label]['regret']:.0f}", flush=True)
    return found


def run_speed(given: argparse.Namespace) -> Record:
    """Return the seconds of 2,000 problems of 1,000 pulls by algorithm and bandit, the shortest of two runs."""
    found: Record = {}
    for env_id in ("mbrl/Bandit-v0", "mbrl/BanditBernoulli-v0"):
        for name in BANDITS:
            run_bandit(name, env_id, problems=2, pulls=30)  # compiled code is loaded
            seconds = [run_bandit(name, env_id, problems=2000, pulls=1000).seconds for _ in range(2)]
            found.setdefault(name, {})[env_id] = min(seconds)
        print(f"  {env_id}: at most {max(times[env_id] for times in found.values()):.2f} s", flush=True)
    return found


PARTS: dict[str, Callable[[argparse.Namespace], Record]] = {
    "testbed": run_testbed,
    "study": run_study,
    **{f"law {case} {name}": partial(run_law, case, name) for case in LAW for name in LAW_ALGORITHMS},
    **{f"long {name}": partial(run_long, name) for name in LAWFUL},
    "drifting": run_drifting,
    "speed": run_speed,
}


def main() -> None:
    """Run what is missing, draw, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bandits"), help="folder for finished parts")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the page and the figures")
    parser.add_argument("--only", nargs="+", metavar="PART", choices=PARTS, default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--problems", type=int, default=10_000, help="of the testbed")
    parser.add_argument("--study-problems", type=int, default=10_000, help="of the parameter study")
    parser.add_argument("--drifting-problems", type=int, default=500, help="of the arms that drift")
    parser.add_argument("--law-problems", type=int, default=2000, help="of the runs beside the law")
    parser.add_argument("--long-problems", type=int, default=400, help="of the long runs beside the law")
    given = parser.parse_args()
    if min(value for name, value in vars(given).items() if name.endswith("problems")) < 2:
        parser.error("there must be at least 2 problems")
    for name in given.only:
        if load(given.out, name) is None:
            begin = time.perf_counter()
            keep(given.out, name, PARTS[name](given))
            print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
    given.results.mkdir(parents=True, exist_ok=True)
    lines = page({name: record for name in PARTS if (record := load(given.out, name)) is not None}, given.results)
    print("\n".join(lines))
    (given.results / "bandits.md").write_text("\n".join(lines) + "\n")


def load(out: Path, name: str) -> Record | None:
    """Return a finished part."""
    path = out / f"{name.replace(' ', '-')}.json"
    return json.loads(path.read_text()) if path.exists() else None


def keep(out: Path, name: str, record: Record) -> None:
    """Store a finished part."""
    with replacing(out / f"{name.replace(' ', '-')}.json") as path:
        path.write_text(json.dumps(record))


# The page -------------------------------------------------------------------------------------------------------------


def page(parts: dict[str, Record], results: Path) -> list[str]:
    """Draw the figures, and return the page of all parts that are finished."""
    law = {case: {n: parts[f"law {case} {n}"] for n in LAW_ALGORITHMS if f"law {case} {n}" in parts} for case in LAW}
    return [
        "# Bandits",
        "",
        f"Made by `python benchmarks/bandits.py --out runs/bandits` ({platform.machine()}, one core).",
        *testbed_lines(parts.get("testbed"), results),
        *study_lines(parts.get("study"), results),
        *law_lines({case: found for case, found in law.items() if found}, results),
        *long_lines({name: parts[f"long {name}"] for name in LAWFUL if f"long {name}" in parts}),
        *drifting_lines(parts.get("drifting")),
        *speed_lines(parts.get("speed")),
    ]


def testbed_lines(record: Record | None, results: Path) -> list[str]:
    """Return the section on the 10-armed testbed."""
    if not record:
        return []
    draw_testbed({label: record[label] for label in TESTBED}, results / "bandits_testbed.png")
    rows = []
    for label, (_, _, _, reward, optimal) in TESTBED.items():
        found = record[label]
        shares = 100 * found["last_optimal"]
        near = abs(found["last_reward"] - reward) <= WITHIN[0] and abs(shares - optimal) <= WITHIN[1]
        figures = f"{found['last_reward']:.2f} | {reward:.2f} | {shares:.0f} % | {optimal} %"
        rows.append(f"| {label} | {figures} | {_told(near)} |")
    spike = record["UCB1, c = 2"]["reward"]
    told = ", ".join(f"{spike[pull - 1]:.2f} in pull {pull} ({known:.2f})" for pull, known in SPIKE.items())
    near = all(abs(spike[pull - 1] - known) <= 0.1 for pull, known in SPIKE.items())
    return [
        "",
        "## The 10-armed testbed",
        "",
        f"Sutton and Barto (2018), figures 2.2, 2.4 and 2.5: 1,000 pulls of each of {record['problems']:,} problems. "
        f"Means of the last {LAST} pulls, to be within {WITHIN[0]} and {WITHIN[1]:.0f} points of the known ones, whose "
        "2,000 problems leave a standard error of 0.02. Where the true means are around 4, 4 is taken off the rewards.",
        "",
        "| algorithm | reward | known | optimal pulls | known | required |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"UCB's spike, the mean reward (known, to be within 0.1): {told}: {_told(near)}.",
        "",
        "![Testbed](bandits_testbed.png)",
    ]


def study_lines(record: Record | None, results: Path) -> list[str]:
    """Return the section on the parameter study."""
    if not record:
        return []
    draw_study({label: record[label] for label in STUDY}, results / "bandits_study.png")
    rows = []
    for label, (_, varied, _, _, known) in STUDY.items():
        best = int(np.argmax(record[label]["rewards"]))
        peak, value = record[label]["rewards"][best], record[label]["values"][best]
        rows.append(
            f"| {label} | {varied} {value:g} | {peak:.2f} | {known:.2f} | {_told(abs(peak - known) <= STUDY_WITHIN)} |"
        )
    return [
        "",
        "## The parameter study",
        "",
        "Sutton and Barto (2018), figure 2.6: mean reward of the first 1,000 pulls by powers of two, over "
        f"{record['problems']:,} problems; the peaks, to be within {STUDY_WITHIN} of the known ones.",
        "",
        "| algorithm | best setting | peak | known | required |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "![Parameter study](bandits_study.png)",
    ]


def law_lines(record: dict[str, dict[str, Record]], results: Path) -> list[str]:
    """Return the section on the Lai-Robbins bound."""
    if not record:
        return []
    draw_regret(record, results / "bandits_regret.png")
    rows = []
    for case, runs in record.items():
        for name, found in runs.items():
            required = _told(abs(found["slope"] - 1) <= LAW_WITHIN) if name in LAWFUL else ""
            regret = f"{found['regret'][-1]:.1f} ± {1.96 * found['error'][-1]:.1f}"
            law = f"{found['constant']:.2f} | {found['slope']:.2f}"
            rows.append(f"| {case} | {name} | {found['problems']:,} | {regret} | {law} | {required} |")
    return [
        "",
        "## The Lai-Robbins bound",
        "",
        f"Bernoulli arms, {HORIZON:,} pulls. "
        + " ".join(f"{case.capitalize()}: {', '.join(f'{mean:g}' for mean in means)}." for case, means in LAW.items())
        + " The slope is that of a line through the regret against ln t from pull "
        f"{HORIZON // 10:,} on, over the constant c of the bound; required of {' and '.join(LAWFUL)}: within "
        f"{LAW_WITHIN:.0%} of 1. Close arms are not there yet at this horizon: the best arm's own bound is above its "
        "mean by an amount that counts beside the gap, spares the other arm pulls, and shrinks, so that KL-UCB catches "
        "up with a slope above 1 while its regret is still below c ln t.",
        "",
        "| arms | algorithm | runs | regret (95 %) | c | slope / c | required |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "![Regret beside the law](bandits_regret.png)",
    ]


def long_lines(runs: dict[str, Record]) -> list[str]:
    """Return what becomes of the slope beyond the horizon."""
    if not runs:
        return []
    rows = []
    for name, found in runs.items():
        slopes = " | ".join(f"{slope:.2f} ± {1.96 * error:.2f}" for slope, error in found["slopes"])
        rows.append(
            f"| {name} | {found['problems']:,} | {found['regret']:.1f} ± {1.96 * found['error']:.1f} | {slopes} |"
        )
    decades = " | ".join(f"{begin:,} to {end:,}" for begin, end in pairwise(next(iter(runs.values()))["marks"]))
    return [
        "",
        f"Does the law hold later? Close arms for {LONG:,} pulls, in a compiled loop of the same algorithms: the slope "
        "over c by decades (95 %).",
        "",
        f"| algorithm | runs | regret | {decades} |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def drifting_lines(record: Record | None) -> list[str]:
    """Return the section on arms that drift."""
    if not record:
        return []
    rows = []
    for label, found in sorted(record.items(), key=lambda item: item[1]["regret"]):
        regret = f"{found['regret']:,.0f} ± {1.96 * found['regret_error']:.0f}"
        rows.append(f"| {label} | {regret} | {100 * found['last_optimal']:.0f} % |")
    return [
        "",
        "## Arms that drift",
        "",
        "`mbrl/BanditDrifting-v0`, 10,000 pulls: every mean takes a normal step of 0.01 after every pull.",
        "",
        f"| algorithm | regret (95 %) | optimal pulls, last {LAST} |",
        "|---|---|---|",
        *rows,
    ]


def speed_lines(record: Record | None) -> list[str]:
    """Return the section on seconds."""
    if not record:
        return []
    rows = [
        f"| {name} | {' | '.join(f'{seconds:.2f}' for seconds in times.values())} | "
        f"{_told(max(times.values()) < SECONDS)} |"
        for name, times in record.items()
    ]
    return [
        "",
        "## Seconds",
        "",
        f"For 2,000 problems of 1,000 pulls, the environment included; required: under {SECONDS:g}.",
        "",
        "| algorithm | Gaussian arms | Bernoulli arms | required |",
        "|---|---|---|---|",
        *rows,
    ]


def _told(reached: bool) -> str:
    return "reached" if reached else "missed"


if __name__ == "__main__":
    main()
