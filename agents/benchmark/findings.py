"""What the folders of a benchmark hold, and what follows from it."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbrl_gym.errors import DamagedFileError

from .algorithms import OURS
from .records import Run, read_run
from .statistics import (
    Interval,
    Reached,
    Time,
    first_reached,
    interquartile_mean,
    median_time,
    probability_of_improvement,
    ratio_of_times,
)
from .trial import FAILURE

__all__ = [
    "TARGET",
    "Collection",
    "Group",
    "Standing",
    "collect",
    "efficiency",
    "fewest_steps",
    "improvements",
    "standings",
]

Array = np.ndarray[Any, Any]

TARGET = 0.9  # the score whose time counts: nine tenths of the way from random actions to the optimum


@dataclass(frozen=True, eq=False)
class Group:
    """The finished runs of one agent in one environment, with S seeds and M evaluations each."""

    env_id: str
    agent: str
    runs: list[Run]  # S
    contents: list[dict[str, Any]]  # S, of their run.json

    @property
    def settings(self) -> dict[str, Any]:
        """What they have in common."""
        return {name: value for name, value in self.contents[0]["settings"].items() if name != "seed"}

    @property
    def ours(self) -> bool:
        """Whether the algorithm is one of this package's."""
        return self.settings["algorithm"] in OURS

    @property
    def steps(self) -> Array:
        """Environment steps of the evaluations `[M]`."""
        return self.runs[0].steps

    @property
    def seconds(self) -> Array:
        """Training time of the evaluations `[M]`, the median over seeds [s]."""
        return np.median([run.seconds for run in self.runs], axis=0)

    @property
    def returns(self) -> Array:
        """Mean returns of the evaluation episodes `[M, S]`."""
        return np.stack([run.mean for run in self.runs], axis=-1)

    @property
    def scores(self) -> Array | None:
        """Normalised returns `[M, S]`, where it is known what random actions and the best ones earn."""
        reference = self.settings["reference"]
        if not reference:
            return None
        return (self.returns - reference["random"]) / (reference["optimal"] - reference["random"])

    def reached(self, column: str, target: float = TARGET) -> list[Reached]:
        """Return when each run reached a score, in "steps" or in "seconds"."""
        scores = self.scores
        assert scores is not None
        return [first_reached(getattr(run, column), own, target) for run, own in zip(self.runs, scores.T, strict=True)]

    def split(self) -> dict[str, float]:
        """Return the mean share of the training time that each part of it took."""
        seconds = [content.get("seconds", {}) for content in self.contents]
        totals = [max(sum(each.values()), 1e-9) for each in seconds]
        parts = seconds[0]
        return {
            part: float(np.mean([each[part] / total for each, total in zip(seconds, totals, strict=True)]))
            for part in parts
        }


@dataclass
class Collection:
    """All that lies in the folders of a benchmark."""

    groups: list[Group] = field(default_factory=list)  # by environment, then by agent
    failures: list[tuple[str, str]] = field(default_factory=list)  # places and tracebacks of runs that failed
    damaged: list[str] = field(default_factory=list)  # what is wrong with which file
    unfinished: list[str] = field(default_factory=list)  # places of runs that were broken off
    left_out: list[str] = field(default_factory=list)  # places of runs of other settings than their like

    @property
    def env_ids(self) -> list[str]:
        """The environments that have finished runs."""
        return list(dict.fromkeys(group.env_id for group in self.groups))

    def of(self, env_id: str) -> list[Group]:
        """Return the groups of an environment."""
        return [group for group in self.groups if group.env_id == env_id]

    @property
    def agents(self) -> list[str]:
        """The agents, this package's own first."""
        ours = dict.fromkeys(group.agent for group in self.groups if group.ours)
        return list(ours | dict.fromkeys(group.agent for group in self.groups))

    def final_scores(self, agent: str) -> dict[str, Array]:
        """Return an agent's scores `[S]` at the end of training, by environment."""
        own = [group for group in self.groups if group.agent == agent]
        return {group.env_id: group.scores[-1] for group in own if group.scores is not None}

    def all_final_scores(self) -> dict[str, dict[str, Array]]:
        """Return `final_scores` of the agents that have some."""
        scores = {agent: self.final_scores(agent) for agent in self.agents}
        return {agent: found for agent, found in scores.items() if found}


def collect(folder: Path) -> Collection:
    """Read the runs in a folder: its folders ENVIRONMENT/AGENT-SEED."""
    found = Collection()
    runs: dict[tuple[str, str], list[tuple[Run, dict[str, Any]]]] = defaultdict(list)
    for place in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        name = f"{place.parent.name}/{place.name}"
        try:
            run, content = read_run(place)
            runs[content["settings"]["env_id"], run.agent].append((run, content))
        except FileNotFoundError:
            if (place / FAILURE).exists():
                found.failures.append((name, (place / FAILURE).read_text(errors="replace")))
            elif any(place.iterdir()):
                found.unfinished.append(name)
        except (DamagedFileError, OSError) as error:
            found.damaged.append(f"{name}: {error}")
    for (env_id, agent), members in runs.items():
        members.sort(key=lambda member: member[0].seed)
        alike = [member for member in members if _same(member[1], members[0][1])]
        found.left_out += [
            f"{run.folder.parent.name}/{run.folder.name}"
            for run, content in members
            if not _same(content, members[0][1])
        ]
        found.groups.append(Group(env_id, agent, [run for run, _ in alike], [content for _, content in alike]))
    return found


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return {**one["settings"], "seed": 0} == {**other["settings"], "seed": 0}


@dataclass(frozen=True)
class Standing:
    """How good one agent is in one environment."""

    group: Group
    final_return: Interval
    score: Interval | None
    steps: Time | None  # environment steps to `TARGET`
    seconds: Time | None  # training time to `TARGET` [s]


def standings(groups: list[Group]) -> list[Standing]:
    """Return the standings of the agents of one environment, best first."""
    found = []
    for group in groups:
        scores = group.scores
        known = scores is not None
        found.append(
            Standing(
                group,
                interquartile_mean({group.env_id: group.returns[-1]}),
                interquartile_mean({group.env_id: scores[-1]}) if scores is not None else None,
                median_time(group.reached("steps")) if known else None,
                median_time(group.reached("seconds")) if known else None,
            )
        )
    return sorted(found, key=lambda standing: -standing.final_return.value)


@dataclass(frozen=True)
class Efficiency:
    """How many times as much another agent takes to `TARGET` as the best of this package's."""

    ours: Group
    other: Group
    steps: Interval
    steps_bound: bool  # whether the ratio of steps is a lower bound, since the other did not reach it
    seconds: Interval
    seconds_bound: bool


def efficiency(groups: list[Group]) -> list[Efficiency]:
    """Compare the agents of one environment with that of this package's that takes the fewest steps to `TARGET`."""
    best = fewest_steps([group for group in groups if group.ours and group.scores is not None])
    if best is None:
        return []
    found = []
    for other in groups:
        if other is not best:
            steps, steps_bound = ratio_of_times(other.reached("steps"), best.reached("steps"))
            seconds, seconds_bound = ratio_of_times(other.reached("seconds"), best.reached("seconds"))
            found.append(Efficiency(best, other, steps, steps_bound, seconds, seconds_bound))
    return found


def fewest_steps(groups: list[Group]) -> Group | None:
    """Return the agent that takes the fewest steps to `TARGET`, or else the one that returns most in the end."""
    if not groups:
        return None
    return min(
        groups, key=lambda group: (median_time(group.reached("steps"), resamples=0).median, -group.returns[-1].mean())
    )


def improvements(collection: Collection) -> list[tuple[str, str, int, Interval]]:
    """Return for each pair of agents: both, their common tasks, and the probability that the first one scores more."""
    found = []
    scores = collection.all_final_scores()
    for i, one in enumerate(scores):
        for other in list(scores)[i + 1 :]:
            common = len(scores[one].keys() & scores[other].keys())
            if common:
                found.append((one, other, common, probability_of_improvement(scores[one], scores[other])))
    return found


def facts(collection: Collection) -> list[str]:
    """Return under what the runs were made, each fact once."""
    told: dict[str, set[str]] = defaultdict(set)
    for group in collection.groups:
        for content in group.contents:
            for name, value in content["versions"].items():
                told[name].add(json.dumps(value) if not isinstance(value, str) else value)
    return [f"{name} {', '.join(sorted(values))}" for name, values in told.items()]
