"""Building planners and models from settings that users give by name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from mbrl_gym.errors import InvalidSettingError, MbrlGymError

from .planning import Objective, Planner

__all__ = ["build"]

T = TypeVar("T")


def build(kind: Callable[..., T], argument: str, *spaces: Any, settings: dict[str, Any]) -> T:
    """Build a planner or a model.

    Args:
        kind: The class.
        argument: The argument by which the user gave the settings; named in errors.
        *spaces: Positional arguments.
        settings: Keyword arguments.

    Raises:
        InvalidSettingError: A setting that the class does not have, or not of this kind; names those that it has.
    """
    allowed = _settings(kind)
    unknown = sorted(settings.keys() - allowed)
    name = getattr(kind, "__name__", repr(kind))
    if unknown:
        raise InvalidSettingError(
            f"{argument} holds {', '.join(map(repr, unknown))}, but {name} takes {', '.join(sorted(allowed))}"
        )
    try:
        return kind(*spaces, **settings)
    except MbrlGymError:
        raise
    except TypeError as error:
        raise InvalidSettingError(f"{name} cannot be built with {argument}={settings}: {error}") from error


def _settings(kind: Any) -> set[str]:
    """Return the keyword arguments of a class; those of the classes that it derives from count where it passes them."""
    names: set[str] = set()
    for part in inspect.getmro(kind):
        own = vars(part).get("__init__")
        parameters = () if own is None else inspect.signature(own).parameters.values()
        names |= {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
        if parameters and not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    if issubclass(kind, Planner):
        names |= {field.name for field in dataclasses.fields(Objective)}
    return names
