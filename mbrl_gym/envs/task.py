"""The functional core: a task is a set of pure functions over arrays, written once for NumPy and torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from array_api_compat import array_namespace
from gymnasium import spaces

from mbrl_gym.errors import InvalidActionError, InvalidSettingError
from mbrl_gym.noise import Noise, NoiseSizes

__all__ = ["Noise", "NoiseSizes", "Params", "Task", "draw", "namespace", "norm", "stack_columns"]

Array = Any  # a NumPy array or a torch tensor


def draw(generator: np.random.Generator, batch: tuple[int, ...], sizes: NoiseSizes, dtype: np.dtype[Any]) -> Noise:
    """Draw the noise of a batch of starts or steps from a NumPy generator."""
    normal, uniform = (*batch, sizes.normal), (*batch, sizes.uniform)
    return Noise(
        generator.standard_normal(normal, dtype=dtype.type) if sizes.normal else np.empty(normal, dtype),
        generator.random(uniform, dtype=dtype.type) if sizes.uniform else np.empty(uniform, dtype),
    )


def namespace(array: Array) -> Any:
    """Return the array-API namespace of `array`; the NumPy case is fast, since tasks ask at every step."""
    return np if isinstance(array, np.ndarray | np.generic) else array_namespace(array)


def stack_columns(*columns: Array) -> Array:
    """Join S arrays `[...]` into one `[..., S]` whose columns are each contiguous in memory."""
    if isinstance(columns[0], np.generic):  # a single state, where np.stack would cost ten times as much
        return np.array(columns)
    xp = namespace(columns[0])
    return xp.moveaxis(xp.stack(columns), 0, -1)


def norm(*components: Array) -> Array:
    """Euclidean norm over the components; its gradient is zero, not NaN, where all of them are zero."""
    xp = namespace(components[0])
    total = components[0] * components[0]
    for component in components[1:]:
        total = total + component * component
    # Below 1e-15 the norm rounds up to 1e-15: the square root is never taken (nor differentiated) at zero.
    return xp.sqrt(xp.clip(total, 1e-30, None))


@dataclass(frozen=True, kw_only=True)
class Params:
    """Constants of a task. Every field is a keyword of `gym.make`; `positive` names those that must be > 0."""

    positive: ClassVar[tuple[str, ...]] = ()
    non_negative: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                raise InvalidSettingError(f"{field.name} must be a number, but {value!r} was given")
            if isinstance(value, np.generic):  # a NumPy scalar would force its dtype on the states
                value = value.item()
                object.__setattr__(self, field.name, value)
            if not math.isfinite(value):
                raise InvalidSettingError(f"{field.name} must be finite, but {value} was given")
            if field.name in self.positive and value <= 0:
                raise InvalidSettingError(f"{field.name} must be greater than 0, but {value} was given")
            if field.name in self.non_negative and value < 0:
                raise InvalidSettingError(f"{field.name} must be at least 0, but {value} was given")


class Task(ABC):
    """Pure, batched, stateless description of a Markov decision process.

    All methods take and return arrays with any leading batch axes (`[..., S]` states, `[..., A]` Box actions or
    `[...]` Discrete ones, `[..., O]` observations, `[...]` rewards and flags), from NumPy or torch alike.
    Reward and termination are functions of observations, so that they also serve any learned model.

    Args:
        dtype: Floating dtype of states and observations, "float32" or "float64".
        **params: Fields of the task's `Params`.

    Raises:
        InvalidSettingError: An unknown parameter or one out of its range; the message lists the valid ones.
    """

    params_class: ClassVar[type[Params]]
    state_columns: ClassVar[tuple[str, ...]]  # names of the S state columns, with units
    fully_observed: ClassVar[bool] = True
    nominal_steps: ClassVar[int]  # length of the registered episode
    scene: ClassVar[str]  # module of `mbrl_gym.envs.rendering` that draws the task
    render_fps: ClassVar[int] = 20
    initial_noise: NoiseSizes
    transition_noise: NoiseSizes
    observation_space: spaces.Box
    action_space: spaces.Box | spaces.Discrete

    def __init__(self, *, dtype: str | np.dtype[Any] = "float32", **params: Any) -> None:
        if str(getattr(dtype, "__name__", dtype)) not in ("float32", "float64"):
            raise InvalidSettingError(f'dtype must be "float32" or "float64", but {dtype!r} was given')
        allowed = [field.name for field in fields(self.params_class)]
        for name in params:
            if name not in allowed:
                raise InvalidSettingError(
                    f"{type(self).__name__} has no parameter {name!r}; it has: {', '.join(allowed)}"
                )
        self.dtype = np.dtype(dtype)
        self.params: Any = self.params_class(**params)

    @property
    def state_size(self) -> int:
        """Number S of state columns."""
        return len(self.state_columns)

    @abstractmethod
    def initial(self, noise: Noise) -> Array:
        """Return the start states `[..., S]` that the noise `[..., *]` selects."""

    def allows(self, state: Array) -> bool:
        """Return whether the task can be in these (finite) states; they must lead to valid observations."""
        observation = self.observation(state)
        return bool(
            np.all(observation >= self.observation_space.low) and np.all(observation <= self.observation_space.high)
        )

    @abstractmethod
    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Return the next states `[..., S]`."""

    @abstractmethod
    def observation(self, state: Array) -> Array:
        """Return the observations `[..., O]` of the states."""

    @abstractmethod
    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return the rewards `[...]` of the steps."""

    def terminal(self, next_observation: Array) -> Array:
        """Return whether the episode ends `[...]`; by default it never does."""
        first = next_observation[..., 0]
        xp = namespace(first)
        return xp.zeros_like(first, dtype=xp.bool)

    def state(self, observation: Array) -> Array:
        """Return the states `[..., S]` behind the observations, where the task is fully observed.

        Raises:
            InvalidSettingError: The task hides a part of its state.
        """
        raise InvalidSettingError(
            f"{type(self).__name__} is not fully observed: its state cannot be read from an observation"
        )

    def optimal_return(self, state: Array, steps: int | None = None) -> Array:
        """Return the best expected return `[...]` that any controller could reach within `steps` steps.

        Args:
            state: Start states `[..., S]`.
            steps: Length of the episode; the registered length by default.

        Raises:
            NotImplementedError: The task has no known optimum.
        """
        raise NotImplementedError(f"the optimum of {type(self).__name__} is not known in closed form")

    def info(self, state: Array, action: Array, next_state: Array) -> dict[str, Array]:
        """Return per-step diagnostics `[...]` that are no part of the observation."""
        return {}

    def check_action(self, action: Any, batch: tuple[int, ...]) -> Array:
        """Return the action as an array of the task's dtype, or refuse it.

        Box actions beyond their bounds are allowed (the dynamics clip them, as Gymnasium's own tasks do).

        Raises:
            InvalidActionError: Wrong shape, not finite, or not one of the choices.
        """
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            chosen = np.asarray(action)
            if chosen.shape != batch or chosen.dtype.kind not in "iu":
                raise InvalidActionError(f"the action must be integers of shape {batch}, but {action!r} was given")
            if np.any((chosen < 0) | (chosen >= space.n)):
                raise InvalidActionError(f"the action must be one of 0 to {space.n - 1}, but {action!r} was given")
            return chosen
        values = np.asarray(action)
        if values.dtype.kind not in "fiu":
            raise InvalidActionError(f"the action must be numbers, but {action!r} was given")
        if values.shape != batch + space.shape:
            raise InvalidActionError(f"the action must have shape {batch + space.shape}, but {values.shape} was given")
        if not np.isfinite(values).all():
            raise InvalidActionError(f"the action must be finite, but {action!r} was given")
        if values.dtype != self.dtype:
            values = values.clip(-1.0, 1.0).astype(self.dtype)  # a large one might overflow
        return values

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.params})"
