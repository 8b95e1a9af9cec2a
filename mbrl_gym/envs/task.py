"""The functional core: a task is a set of pure functions over arrays, written once for NumPy and torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from gymnasium import spaces

from mbrl_gym.errors import InvalidActionError, InvalidSettingError
from mbrl_gym.noise import Noise, NoiseSizes

__all__ = [
    "Noise",
    "NoiseSizes",
    "Optimum",
    "Params",
    "Task",
    "as_number",
    "cast",
    "clip",
    "column",
    "copied",
    "draw",
    "namespace",
    "norm",
    "stack_columns",
    "unstack_columns",
]

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


def copied(array: Array) -> Array:
    """Return a copy that keeps the columns contiguous; a single NumPy number cannot change and needs none."""
    if isinstance(array, np.generic):
        return array
    return array.copy(order="K") if isinstance(array, np.ndarray) else array.clone()


def stack_columns(*columns: Array) -> Array:
    """Join S arrays `[...]` of one dtype into one `[..., S]` whose columns are each contiguous in memory."""
    if isinstance(columns[0], np.generic):  # a single state, where np.stack would cost ten times as much
        return np.array(columns)
    xp = namespace(columns[0])
    return xp.moveaxis(xp.stack(columns), 0, -1)


def unstack_columns(array: Array) -> list[Array]:
    """Split one `[..., S]` into its S columns `[...]`; those of a single state are NumPy numbers, which are fast."""
    return list(array if array.ndim == 1 else namespace(array).moveaxis(array, -1, 0))


def column(array: Array, i: int) -> Array:
    """Return column i `[...]` of `[..., S]`; that of a single state is a NumPy number, which is fast."""
    return array[i] if array.ndim == 1 else array[..., i]


def clip(values: Array, low: float, high: float) -> Array:
    """Clip `[...]`; a single NumPy number ten times as fast as NumPy does."""
    if isinstance(values, np.floating):
        kind = type(values)
        return kind(low) if values < low else kind(high) if values > high else values
    return values.clip(low, high)


def as_number(flag: Array, like: Array) -> Array:
    """Return booleans `[...]` as zeros and ones of the kind of `like`."""
    return type(like)(flag) if isinstance(like, np.generic) else namespace(like).astype(flag, like.dtype)


def cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return numbers or booleans `[...]` in a dtype, which NumPy and torch call by the same name."""
    if isinstance(values, np.generic | int):
        return dtype.type(values)
    xp = namespace(values)
    return xp.astype(values, getattr(xp, dtype.name))


def norm(*components: Array) -> Array:
    """Euclidean norm over the components; its gradient is zero, not NaN, where all of them are zero."""
    total = components[0] * components[0]
    for component in components[1:]:
        total = total + component * component
    # Below 1e-15 the norm rounds up to 1e-15: the square root is never taken (nor differentiated) at zero.
    return namespace(total).sqrt(clip(total, 1e-30, math.inf))


@dataclass(frozen=True, kw_only=True)
class Params:
    """Constants of a task. Every field is a keyword of `gym.make`.

    `positive` names those that must be > 0, `non_negative` those that must be >= 0, and `fixed` those that cannot be
    randomised, because shapes or the reward (a function of observations) depend on them; whole numbers never can.
    """

    positive: ClassVar[tuple[str, ...]] = ()
    non_negative: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[tuple[str, ...]] = ()

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


class Optimum(NamedTuple):
    """How the best possible return of a task is known."""

    kind: Literal["exact", "best known", "unknown"]
    method: str
    quick: bool = True  # whether a state takes less than about a second


class Task(ABC):
    """Pure, batched, stateless description of a Markov decision process.

    All methods take and return arrays with any leading batch axes (`[..., S]` states, `[..., A]` Box actions or
    `[...]` Discrete ones, `[..., O]` Box observations or `[...]` Discrete ones (int64), `[...]` rewards and flags),
    from NumPy or torch alike. Reward and termination are functions of observations, so that they also serve any
    learned model.

    Randomised constants are the last columns of the state: each row has its own, drawn at the start and never
    observed. The equations take their constants from `constants(state)`, whether they vary or not.

    An episode starts from nothing but noise, except for the state columns named in `carried`: environments take these
    over from the end of the episode before, unless they are reset with a seed.

    Args:
        dtype: Floating dtype of states and observations, "float32" or "float64".
        randomize: Ranges of the constants that are drawn uniformly at every start, e.g. `{"payload": (0.0, 1.0)}`.
        **params: Fields of the task's `Params`.

    Raises:
        InvalidSettingError: An unknown parameter or one out of its range; the message lists the valid ones.
    """

    params_class: ClassVar[type[Params]]
    state_columns: tuple[str, ...]  # names of the S state columns, with units
    carried: ClassVar[tuple[str, ...]] = ()  # names of those that outlive an episode
    fully_observed: bool = True
    parts: Mapping[str, slice] = {}
    optimum: ClassVar[Optimum] = Optimum("unknown", "unknown")
    nominal_steps: ClassVar[int]  # length of the episodes that are scored: of the registered ones, or shorter
    scene: ClassVar[str]  # module of `mbrl_gym.envs.rendering` that draws the task
    render_fps: ClassVar[int] = 20
    initial_noise: NoiseSizes
    transition_noise: NoiseSizes
    observation_space: spaces.Box | spaces.Discrete
    action_space: spaces.Box | spaces.Discrete

    def __init__(
        self,
        *,
        dtype: str | np.dtype[Any] = "float32",
        randomize: Mapping[str, tuple[float, float]] | None = None,
        **params: Any,
    ) -> None:
        if str(getattr(dtype, "__name__", dtype)) not in ("float32", "float64"):
            raise InvalidSettingError(f'dtype must be "float32" or "float64", but {dtype!r} was given')
        allowed = [field.name for field in fields(self.params_class)]
        for name in params:
            if name not in allowed:
                raise InvalidSettingError(
                    f"{type(self).__name__} has no parameter {name!r}; it has: {', '.join(allowed) or 'none'}"
                )
        self.dtype = np.dtype(dtype)
        self.params: Any = self.params_class(**params)
        self.randomize = _check_ranges(self.params, {} if randomize is None else randomize)
        self.state_columns = (*self.own_columns(), *(f"constant {name}" for name in self.randomize))
        start = self.start_noise()
        self.initial_noise = start._replace(uniform=start.uniform + len(self.randomize))
        if self.randomize:
            self.fully_observed = False

    def own_columns(self) -> tuple[str, ...]:
        """Return the names of the state columns but for the randomised constants."""
        return type(self).state_columns

    def start_noise(self) -> NoiseSizes:
        """Return the random numbers of a start, but for those of the randomised constants."""
        return type(self).initial_noise

    def constants(self, state: Array) -> Any:
        """Return the constants by name: numbers, or columns `[...]` where they are randomised."""
        if not self.randomize:
            return self.params
        first = self.state_size - len(self.randomize)
        columns = {name: column(state, first + i) for i, name in enumerate(self.randomize)}
        return SimpleNamespace(**{**asdict(self.params), **columns})

    def draw_constants(self, noise: Noise) -> Any:
        """Return the constants of new episodes, which the last columns of the uniform noise of a start select."""
        if not self.randomize:
            return self.params
        first = self.initial_noise.uniform - len(self.randomize)
        clip = namespace(noise.uniform).clip  # against rounding
        columns = {
            name: clip(low + (high - low) * noise.uniform[..., first + i], low, high)
            for i, (name, (low, high)) in enumerate(self.randomize.items())
        }
        return SimpleNamespace(**{**asdict(self.params), **columns})

    def constant_columns(self, constants: Any) -> list[Array]:
        """Return the randomised ones of the constants, which end every state, as columns `[...]`."""
        return [getattr(constants, name) for name in self.randomize]

    def lowest(self, name: str) -> float:
        """Return the smallest value that a constant can have."""
        return float(self.randomize[name][0] if name in self.randomize else getattr(self.params, name))

    def highest(self, name: str) -> float:
        """Return the largest value that a constant can have."""
        return float(self.randomize[name][1] if name in self.randomize else getattr(self.params, name))

    @property
    def state_size(self) -> int:
        """Number S of state columns."""
        return len(self.state_columns)

    @abstractmethod
    def initial(self, noise: Noise) -> Array:
        """Return the start states `[..., S]` that the noise `[..., *]` selects."""

    def carry_over(self, before: Array, start: Array) -> Array:
        """Return start states `[..., S]` whose `carried` columns are those of the states `[..., S]` before."""
        columns = zip(self.state_columns, unstack_columns(before), unstack_columns(start), strict=True)
        return stack_columns(*(old if name in self.carried else new for name, old, new in columns))

    def allows(self, state: Array) -> bool:
        """Return whether the task can be in these (finite) states; they must lead to valid observations."""
        constants = self.constants(state)
        for name, (low, high) in self.randomize.items():
            value = getattr(constants, name)
            if np.any((value < low - 1e-6 * abs(low)) | (value > high + 1e-6 * abs(high))):
                return False
        observation, space = self.observation(state), self.observation_space
        if isinstance(space, spaces.Discrete):
            return bool(np.all((observation >= space.start) & (observation < space.start + space.n)))
        return bool(np.all(observation >= space.low) and np.all(observation <= space.high))

    @abstractmethod
    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Return the next states `[..., S]`."""

    @abstractmethod
    def observation(self, state: Array) -> Array:
        """Return the observations `[..., O]` of the states, or `[...]` (int64) where they are Discrete."""

    @abstractmethod
    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return the rewards `[...]` of the steps."""

    def terminal(self, next_observation: Array) -> Array:
        """Return whether the episode ends `[...]`; by default it never does."""
        discrete = isinstance(self.observation_space, spaces.Discrete)
        first = next_observation if discrete else column(next_observation, 0)
        if isinstance(first, np.generic):
            return np.False_
        xp = namespace(first)
        return xp.zeros_like(first, dtype=xp.bool)

    def state(self, observation: Array) -> Array:
        """Return the states `[..., S]` behind the observations, where the task is fully observed.

        Raises:
            InvalidSettingError: The task hides a part of its state.
        """
        self.check_observed()
        raise NotImplementedError(f"{type(self).__name__} does not say how its state is read from an observation")

    def check_observed(self) -> None:
        """Raise InvalidSettingError if the task hides a part of its state."""
        if not self.fully_observed:
            raise InvalidSettingError(
                f"{type(self).__name__} is not fully observed: its state cannot be read from an observation"
            )

    def optimal_return(self, state: Array, steps: int | None = None) -> Array:
        """Return the best expected return `[...]` (float64) that any controller could reach within `steps` steps.

        `optimum` says how it is found, and whether it is exact. A controller is taken to know randomised constants.

        Args:
            state: Start states `[..., S]`.
            steps: Length of the episode; the registered length by default.

        Raises:
            NotImplementedError: The task has no known optimum.
            ImportError: The method needs a package of the extra `optimum`.
        """
        return self._by_constants("best_return", state, steps)

    def return_bound(self, state: Array, steps: int | None = None) -> Array:
        """Return upper bounds `[...]` (float64) of `optimal_return`: equal to it where that is exact.

        Raises:
            NotImplementedError: No bound is known.
        """
        return self._by_constants("best_return_bound", state, steps)

    def _by_constants(self, method: str, state: Array, steps: int | None) -> Array:
        """Call `best_return` or its like with rows of float64, each under its own constants."""
        steps = self.nominal_steps if steps is None else steps
        state = np.asarray(state, np.float64)
        if steps < 0 or state.ndim < 1 or state.shape[-1] != self.state_size:
            raise InvalidSettingError(
                f"states of {type(self).__name__} have {self.state_size} columns ({', '.join(self.state_columns)}), "
                f"and steps is at least 0, but states of shape {state.shape} and steps={steps} were given"
            )
        rows = state.reshape(-1, self.state_size)
        if not self.randomize:
            return np.asarray(getattr(self, method)(rows, steps), np.float64).reshape(state.shape[:-1])
        own = self.state_size - len(self.randomize)
        best = [getattr(self.with_constants_of(row), method)(row[None, :own], steps)[0] for row in rows]
        return np.reshape(np.array(best, np.float64), state.shape[:-1])

    def best_return(self, state: Array, steps: int) -> Array:
        """Return `optimal_return` `[N]` of states `[N, S]` (float64) under constants that are not randomised."""
        raise NotImplementedError(f"the optimum of {type(self).__name__} is not known")

    def best_return_bound(self, state: Array, steps: int) -> Array:
        """Return `return_bound` `[N]` of states `[N, S]` (float64) under constants that are not randomised."""
        if self.optimum.kind != "exact":
            raise NotImplementedError(f"no upper bound of the returns of {type(self).__name__} is known")
        return self.best_return(state, steps)

    def with_constants_of(self, state: Array) -> Task:
        """Return this task with the constants of one state `[S]` as its own, randomised no more."""
        constants = vars(self.constants(state)) if self.randomize else asdict(self.params)
        kept = {
            name: value.item() if isinstance(value, np.ndarray | np.generic) else value
            for name, value in constants.items()
        }
        return type(self)(dtype=self.dtype, **kept)

    def published_space(self) -> spaces.Space[Any]:
        """Return the space of what environments return: the task's own, or a Dict of the `parts` of its flat Box."""
        box = self.observation_space
        if not self.parts or isinstance(box, spaces.Discrete):
            return box
        dtype: Any = box.dtype
        return spaces.Dict(
            {name: spaces.Box(box.low[part], box.high[part], dtype=dtype) for name, part in self.parts.items()}
        )

    def publish(self, observation: Array) -> Any:
        """Return the observations `[..., O]`, or `[...]` Discrete ones, as environments return them, in new memory."""
        if not self.parts:
            return copied(observation)
        return {name: copied(observation[..., part]) for name, part in self.parts.items()}

    def drawn_constants(self, state: Array) -> dict[str, Array]:
        """Return the randomised constants `[...]` of the states by name."""
        return {name: getattr(self.constants(state), name) for name in self.randomize}

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
        try:
            values = np.asarray(action)
        except ValueError as error:
            raise InvalidActionError(f"the action must be one array, but {action!r} was given") from error
        if isinstance(space, spaces.Discrete):
            if values.shape != batch or values.dtype.kind not in "iu":
                raise InvalidActionError(f"the action must be integers of shape {batch}, but {action!r} was given")
            outside = not 0 <= values < space.n if batch == () else np.any((values < 0) | (values >= space.n))
            if outside:
                raise InvalidActionError(f"the action must be one of 0 to {space.n - 1}, but {action!r} was given")
            return values
        if values.dtype.kind not in "fiu":
            raise InvalidActionError(f"the action must be numbers, but {action!r} was given")
        if values.shape != batch + space.shape:
            raise InvalidActionError(f"the action must have shape {batch + space.shape}, but {values.shape} was given")
        finite = all(map(math.isfinite, values.tolist())) if values.size < 10 and values.ndim == 1 else None
        if not (np.isfinite(values).all() if finite is None else finite):
            raise InvalidActionError(f"the action must be finite, but {action!r} was given")
        if values.dtype != self.dtype:
            values = values.clip(-1.0, 1.0).astype(self.dtype)  # a large one might overflow
        return values

    def __repr__(self) -> str:
        randomize = f", randomize={dict(self.randomize)}" if self.randomize else ""
        return f"{type(self).__name__}({self.params}{randomize})"


def _check_ranges(params: Params, randomize: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the ranges of the randomised constants as floats, or refuse them."""
    floats = [field.name for field in fields(params) if field.type in ("float", float)]
    allowed = [name for name in floats if name not in params.fixed]
    if not isinstance(randomize, Mapping):
        raise InvalidSettingError(f"randomize must be a dict of (low, high), but {randomize!r} was given")
    ranges = {}
    for name, given in randomize.items():
        if name not in allowed:
            raise InvalidSettingError(f"randomize cannot vary {name!r}; it can: {', '.join(allowed) or 'nothing'}")
        try:
            low, high = given
        except (TypeError, ValueError) as error:
            raise InvalidSettingError(f"randomize needs (low, high) for {name}, but {given!r} was given") from error
        low, high = (getattr(replace(params, **{name: end}), name) for end in (low, high))  # checks each end
        if low > high:
            raise InvalidSettingError(f"randomize needs low <= high for {name}, but {given!r} was given")
        ranges[name] = (float(low), float(high))
    return ranges
