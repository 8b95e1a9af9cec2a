"""Settings of benchmarks: one TOML file an environment, with a table an agent."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm

import mbrl_gym
from mbrl_gym.errors import InvalidSettingError, MbrlGymError, MissingPackageError
from mbrl_gym.scores import EVALUATION_SEEDS

from .algorithms import algorithm_of, arguments_of, policy_of, training_env
from .search import Space
from .settings import check_env, full_id

__all__ = ["Entry", "Suite", "check_agents", "describe_entry", "load_suites", "make_entry", "parse_suite", "suite_ids"]

FOLDER = "suites"  # of the files that are part of this package


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An agent in an environment."""

    name: str
    algorithm: str  # the name of its class
    steps: int  # environment steps of training
    policy: str = ""  # first argument of the algorithm; "" is its usual one
    settings: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the algorithm; see `arguments_of`
    evaluations: int = 20  # during training at even distances, the last one at its end
    n_envs: int = 1  # copies of the environment in training
    normalize: bool = False  # whether to train with `VecNormalize`
    env: dict[str, Any] = field(default_factory=dict)  # arguments of `gym.make` in training only
    source: str = ""  # where the settings are from
    search: dict[str, Any] = field(default_factory=dict)  # ranges of settings for `mbrl-gym tune`; see `Space`


@dataclass(frozen=True, kw_only=True)
class Suite:
    """An environment and the agents that are compared in it."""

    env_id: str
    agents: tuple[Entry, ...]
    episodes: int = len(EVALUATION_SEEDS)  # of an evaluation: the first ones of `mbrl_gym.score`
    env: dict[str, Any] = field(default_factory=dict)  # arguments of `gym.make`, in training and evaluation
    # What scores of 0 and 1 mean: {"random", "optimal"} [return], {"kind", "method"} text; empty where not known.
    reference: dict[str, Any] = field(default_factory=dict)


def suite_ids() -> list[str]:
    """Return the environments of which this package holds settings."""
    return [tomllib.loads(file.read_text())["env_id"] for file in _files()]


def load_suites(names: Sequence[str], overrides: Iterable[str] = ()) -> list[Suite]:
    """Load settings.

    Args:
        names: Environments of `suite_ids`, or paths of TOML files; all of this package's if there are none.
        overrides: Lines of TOML, each of which replaces a value, as in "agents.sac.steps=5000". They hold for every
            file that has such an agent.

    Raises:
        InvalidSettingError: No such file or environment; a file that is no TOML; or a wrong setting, which is named.
    """
    known = {tomllib.loads(file.read_text())["env_id"]: file for file in _files()}
    documents: dict[str, dict[str, Any]] = {}
    for name in names or known:
        if name in known:
            documents[name] = tomllib.loads(known[name].read_text())
        elif name.endswith(".toml"):
            documents[name] = _read(Path(name))
        else:
            raise InvalidSettingError(
                f"there are no benchmark settings for {name!r}: give a .toml file, or one of {', '.join(known)}"
            )
    for override in overrides:
        apply_overrides(documents, override)
    suites = [parse_suite(document, name) for name, document in documents.items()]
    twice = {suite.env_id for suite in suites if sum(other.env_id == suite.env_id for other in suites) > 1}
    if twice:
        raise InvalidSettingError(f"two files of settings are for {', '.join(sorted(twice))}: give one of them")
    return suites


def apply_overrides(documents: Mapping[str, dict[str, Any]], override: str) -> None:
    """Replace a value in all documents that have the agent that it is about.

    Raises:
        InvalidSettingError: No line of TOML, or no document has the agent.
    """
    try:
        given = tomllib.loads(override)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettingError(
            f"--set takes a line of TOML such as agents.sac.steps=5000, but {override!r} was given ({error})"
        ) from error
    agents = given.get("agents", {})
    fitting = [each for each in documents.values() if set(agents) <= set(each.get("agents", {}))]
    if not fitting:
        there = sorted({name for each in documents.values() for name in each.get("agents", {})})
        raise InvalidSettingError(f"{override!r} names an agent that no file has: the agents are {', '.join(there)}")
    for document in fitting:
        _merge(document, given)


def _merge(into: dict[str, Any], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def parse_suite(document: Mapping[str, Any], place: str) -> Suite:
    """Check a document and make a suite of it; agents of packages that are not installed stay in it.

    Raises:
        InvalidSettingError: Says what is wrong, and where.
    """
    given = dict(document)
    agents = given.pop("agents", None)
    if not isinstance(agents, dict) or not agents:
        raise InvalidSettingError(f"{place}: there must be agents, as tables [agents.NAME]")
    entries = []
    for name, table in agents.items():
        if not isinstance(table, dict):
            raise InvalidSettingError(f"{place}: agents.{name} must be a table, but is {table!r}")
        entries.append(_record(Entry, {"name": name, **table}, f"{place}: agents.{name}"))
    suite: Suite = _record(Suite, {"agents": tuple(entries), **given}, place)
    _check(suite, place)
    with closing(check_env(suite.env_id, **suite.env)) as env:
        env_id = full_id(env, suite.env_id)
        scored = not suite.reference and _is_scored(env, env_id, suite.env)
    return replace(suite, env_id=env_id, reference=_stored(env_id, suite.episodes) if scored else suite.reference)


def _is_scored(env: gym.Env[Any, Any], env_id: str, settings: Mapping[str, Any]) -> bool:
    """Whether the stored reference values hold for an environment: it has the scored length, and nothing is changed."""
    if env_id not in mbrl_gym.env_ids() or not set(settings) <= {"max_episode_steps"} or env.spec is None:
        return False
    return env.spec.max_episode_steps == env.unwrapped.task.nominal_steps  # type: ignore[attr-defined]


def _stored(env_id: str, episodes: int) -> dict[str, Any]:
    ends = mbrl_gym.reference(env_id)
    optimal = sum(ends.optimal_returns[:episodes]) / episodes
    return {"random": ends.random, "optimal": optimal, "kind": ends.kind, "method": ends.method}


def make_entry(suite: Suite, entry: Entry, seed: int) -> BaseAlgorithm:
    """Make an agent and the environment in which it trains.

    Raises:
        InvalidSettingError: Its settings do not fit the algorithm or the environment.
        MissingPackageError: Its algorithm is of a package that is not installed.
    """
    algorithm = algorithm_of(entry.algorithm)
    gamma = entry.settings.get("gamma", 0.99)
    env = training_env(suite.env_id, {**suite.env, **entry.env}, entry.n_envs, entry.normalize, gamma)
    arguments = {"device": "cpu", **arguments_of(entry.settings, env.action_space)}
    try:
        return algorithm(entry.policy or policy_of(entry.algorithm), env, seed=seed, **arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise InvalidSettingError(
            f"{suite.env_id}: agents.{entry.name}: {entry.algorithm} cannot be made with {json.dumps(entry.settings)}: "
            f"{error}"
        ) from error


def check_agents(suite: Suite) -> dict[str, str]:
    """Make every agent once, and return the names of those that cannot be, and which package is missing.

    Raises:
        InvalidSettingError: Names the agent whose settings are wrong.
    """
    missing = {}
    for entry in suite.agents:
        try:
            make_entry(suite, entry, 0).get_env().close()  # type: ignore[union-attr]
        except MissingPackageError as error:
            missing[entry.name] = str(error)
    return missing


def _check(suite: Suite, place: str) -> None:
    if not 1 <= suite.episodes <= len(EVALUATION_SEEDS):
        raise InvalidSettingError(
            f"{place}: episodes must be from 1 to {len(EVALUATION_SEEDS)}, but {suite.episodes} was given"
        )
    if suite.reference and not {"random", "optimal"} <= suite.reference.keys():
        raise InvalidSettingError(f"{place}: reference must have random and optimal, but has {list(suite.reference)}")
    if suite.reference and suite.reference["random"] == suite.reference["optimal"]:
        raise InvalidSettingError(f"{place}: random and optimal returns of the reference must differ")
    for entry in suite.agents:
        try:
            algorithm_of(entry.algorithm)
        except MissingPackageError:
            pass
        except MbrlGymError as error:
            raise InvalidSettingError(f"{place}: agents.{entry.name}: {error}") from error
        for name in ("steps", "evaluations", "n_envs"):
            if getattr(entry, name) < 1:
                raise InvalidSettingError(
                    f"{place}: agents.{entry.name}: {name} must be at least 1, but {getattr(entry, name)} was given"
                )
        try:
            Space.parse(entry.search)
        except InvalidSettingError as error:
            raise InvalidSettingError(f"{place}: agents.{entry.name}.search: {error}") from error
        if entry.evaluations > entry.steps:
            raise InvalidSettingError(
                f"{place}: agents.{entry.name}: evaluations must be at most the steps ({entry.steps}), but "
                f"{entry.evaluations} was given"
            )


def _record(kind: Any, given: Mapping[str, Any], place: str) -> Any:
    """Make a dataclass of a table, whose values must have the types of the fields."""
    known = {each.name: each for each in fields(kind)}
    unknown = [name for name in given if name not in known]
    if unknown:
        names = ", ".join(name for name in known if name != "name")
        raise InvalidSettingError(f"{place}: there is no setting {', '.join(unknown)}; there are {names}")
    required = [each.name for each in known.values() if each.default is MISSING and each.default_factory is MISSING]
    missing = [name for name in required if name not in given]
    if missing:
        raise InvalidSettingError(f"{place}: {', '.join(missing)} is missing")
    kinds = {"str": str, "int": int, "bool": bool, "dict[str, Any]": dict}
    for name, value in given.items():
        expected = kinds.get(str(known[name].type))
        if expected is not None and (type(value) is not expected):
            raise InvalidSettingError(f"{place}: {name} must be {known[name].type}, but {value!r} was given")
    return kind(**given)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise InvalidSettingError(f"there is no file {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettingError(f"{path} is no TOML: {error}") from error


def _files() -> list[Any]:
    folder = resources.files(__package__).joinpath(FOLDER)
    return sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)


def describe_entry(suite: Suite, entry: Entry, seed: int) -> dict[str, Any]:
    """Return all that decides a run's result, as JSON values."""
    described = {
        "env_id": suite.env_id,
        "agent": entry.name,
        **{name: value for name, value in asdict(entry).items() if name not in ("name", "search")},
        "seed": seed,
        "episodes": suite.episodes,
        "evaluation_seed": EVALUATION_SEEDS[0],
        "shared_env": suite.env,
        "reference": suite.reference,
    }
    return json.loads(json.dumps(described))
