"""A deliberately wrong model, for studying what model bias costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Protocol

import numpy as np

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models.base import RewardFn, TerminationFn
from mbrl_gym.models.exact import ExactModel, PureTask

__all__ = ["BiasedModel"]


class ParametrisedTask(PureTask, Protocol):
    """A task that can be made anew with other constants."""

    params: Any  # a dataclass of numbers, with the names of some in `fixed`
    randomize: Mapping[str, tuple[float, float]]
    dtype: Any


class BiasedModel(ExactModel):
    """A task's equations with wrong constants: `value * (1 + relative) + absolute` in place of `value`.

    The dynamics are those of the wrong constants; reward and termination stay the task's own, as functions of
    observations. So a planner is told a wrong world and the right aims, and its loss of return is the price of the
    bias alone. Nothing tells that the model is wrong: `uncertainty` is 0.

    Predictions live in the wrong world. `start` reads the state from an observation, which the wrong constants do
    not enter for any task of this package; each predicted observation is computed from the state with the wrong
    constants. Columns that are functions of the state and a biased constant, such as the arm's vector from target to
    tip with wrong link lengths, are therefore wrong from the first predicted observation on, by the constant's own
    error and not only by what accumulates.

    Args:
        task: A fully observed task without randomised constants, e.g. `gym.make("mbrl/Arm-v0").unwrapped.task`.
        relative: By what part each constant is too large, e.g. `{"mass_1": 0.2}` for 20%.
        absolute: By how much each constant is too large, in its own unit, e.g. `{"drift": 0.05}`.
        reward_fn: Replaces the task's reward.
        termination_fn: Replaces the task's termination.

    Raises:
        UnsupportedSpaceError: The task hides a part of its state.
        InvalidSettingError: No such constant, one that cannot be biased or would leave its range, or a task whose
            constants are randomised.
    """

    def __init__(
        self,
        task: ParametrisedTask,
        *,
        relative: Mapping[str, float] | None = None,
        absolute: Mapping[str, float] | None = None,
        reward_fn: RewardFn | None = None,
        termination_fn: TerminationFn | None = None,
    ) -> None:
        if task.randomize:
            raise InvalidSettingError(
                f"BiasedModel needs constants that stay the same, but {type(task).__name__} randomises "
                f"{', '.join(task.randomize)}"
            )
        super().__init__(task, reward_fn=reward_fn, termination_fn=termination_fn)
        relative, absolute = dict(relative or {}), dict(absolute or {})
        self.arguments |= {"relative": relative, "absolute": absolute}
        self.task = _with_bias(task, relative, absolute)  # the true one's reward and termination are bound already


def _with_bias(task: Any, relative: dict[str, float], absolute: dict[str, float]) -> Any:
    """Return the task with wrong constants."""
    constants = asdict(task.params)
    # Whole numbers set shapes; the fixed ones set the reward or the bounds of observations.
    allowed = [
        field.name
        for field in fields(task.params)
        if field.type in ("float", float) and field.name not in task.params.fixed
    ]
    for kind, bias in (("relative", relative), ("absolute", absolute)):
        for name, amount in bias.items():
            _check_bias(task, kind, name, amount, allowed)
    if ineffective := [name for name, amount in relative.items() if amount and not constants[name]]:
        raise InvalidSettingError(
            f"a relative bias leaves {', '.join(ineffective)} as it is, since it is 0: use absolute instead"
        )
    for name in {*relative, *absolute}:
        constants[name] = constants[name] * (1 + relative.get(name, 0.0)) + absolute.get(name, 0.0)
    try:
        return type(task)(dtype=task.dtype, **constants)
    except InvalidSettingError as error:
        given = f"relative={relative}, absolute={absolute}"
        raise InvalidSettingError(f"the bias {given} makes a constant invalid: {error}") from error


def _check_bias(task: Any, kind: str, name: str, amount: Any, allowed: list[str]) -> None:
    if name not in allowed:
        raise InvalidSettingError(
            f"{kind} biases constants of {type(task).__name__} that can be wrong, {', '.join(allowed)}, but {name!r} "
            "was given"
        )
    number = isinstance(amount, int | float | np.number) and not isinstance(amount, bool)
    if not number or not math.isfinite(amount):
        raise InvalidSettingError(f"the {kind} bias of {name} must be a finite number, but {amount!r} was given")
