"""The world model of an agent, from the settings by which users ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gymnasium import spaces

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import ExactModel, LearnedModel, WorldModel, exact_dynamics
from mbrl_gym.models.spaces import event_shape

from .base import ModelBasedAgent, derived_seed
from .construction import build

__all__ = ["check_function", "check_model", "make_world_model", "model_of"]

Space = spaces.Space[Any]

PARTS: dict[str, Callable[[Any], Any]] = {
    "dynamics": exact_dynamics,
    "reward": lambda task: task.reward,
    "termination": lambda task: task.terminal,
}
"""The parts of a model that can be given, and those of a task."""


def check_model(model: Any, kinds: Mapping[str, Any]) -> None:
    """Refuse anything but a kind of learned model by its name, "exact", or a `WorldModel`."""
    names = (*kinds, "exact")
    if not isinstance(model, WorldModel) and (not isinstance(model, str) or model not in names):
        raise InvalidSettingError(f"model must be one of {', '.join(names)}, or a WorldModel, but {model!r} was given")


def check_function(name: str, given: Any) -> None:
    """Refuse anything but "learned", "exact" and functions for a part of a model; a termination can be "cautious"."""
    names = ("learned", "cautious", "exact") if name == "termination" else ("learned", "exact")
    if not callable(given) and given not in names:
        listed = ", ".join(f'"{each}"' for each in names)
        raise InvalidSettingError(f"{name} must be {listed} or a function, but {given!r} was given")


def make_world_model(
    model: str | WorldModel,
    kinds: Mapping[str, type[WorldModel]],
    observation_space: Space,
    action_space: Space,
    *,
    settings: dict[str, Any] | None,
    parts: dict[str, Any],
    task: Callable[[str], Any],
    seed: int,
) -> WorldModel:
    """Make the world model that an agent's arguments describe.

    Args:
        model: A name among `kinds`, "exact", or a `WorldModel`.
        kinds: Learned models by name.
        observation_space: The environment's.
        action_space: Likewise.
        settings: Keyword arguments of a learned model.
        parts: "dynamics", "reward" and "termination", each "learned", "exact" or a function; the termination of a
            learned model can be "cautious".
        task: Returns the environment's published task, or refuses, saying what it was wanted for.
        seed: Of a learned model whose settings have none.

    Raises:
        InvalidSettingError: Settings that do not fit each other or the environment.
    """
    functions = {f"{name}_fn": _function(name, given, task) for name, given in parts.items()}
    functions = {name: function for name, function in functions.items() if function is not None}
    if (model == "exact" or isinstance(model, ExactModel)) and "dynamics_fn" in functions:
        raise InvalidSettingError('dynamics replaces those of a learned model, but model="exact" was given')
    made: WorldModel
    if isinstance(model, WorldModel):
        _check_shapes(model, observation_space, action_space)
        made = model
        for name, function in functions.items():
            setattr(made, name, function)
    elif model == "exact":
        made = ExactModel(task('model="exact"'), **functions)
    else:
        kind = kinds[model]
        own = {"seed": seed} if issubclass(kind, LearnedModel) else {}
        settings = {**own, **(settings or {}), **functions}
        made = build(kind, "model_kwargs", observation_space, action_space, settings=settings)
    if parts["termination"] == "cautious":
        if not isinstance(made, LearnedModel):
            names = ", ".join(name for name, kind in kinds.items() if issubclass(kind, LearnedModel))
            raise InvalidSettingError(f'termination="cautious" takes one of {names}, but {model!r} was given')
        made.be_cautious()
    return made


def model_of(agent: ModelBasedAgent, kinds: Mapping[str, type[WorldModel]]) -> WorldModel:
    """Make the world model that an agent's `arguments` describe, by the names of `make_world_model`."""
    given = agent.arguments
    return make_world_model(
        given["model"],
        kinds,
        agent.observation_space,
        agent.action_space,
        settings=given["model_kwargs"],
        parts={name: given[name] for name in PARTS},
        task=agent._task,
        seed=derived_seed(agent.seed, "model"),
    )


def _function(name: str, given: Any, task: Callable[[str], Any]) -> Any:
    """Return the function that replaces a learned part of the model, or None."""
    if given == "exact":
        return PARTS[name](task(f'{name}="exact"'))
    return given if callable(given) else None


def _check_shapes(model: WorldModel, observation_space: Space, action_space: Space) -> None:
    """Refuse a model of other rows than the environment's (their bounds do not matter)."""
    for name, mine in (("observation_space", observation_space), ("action_space", action_space)):
        its = getattr(model, name)
        if event_shape(mine) != event_shape(its):
            raise InvalidSettingError(f"the environment's {name} is {mine}, but the model's is {its}")
