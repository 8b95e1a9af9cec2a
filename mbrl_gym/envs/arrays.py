"""Where a vector environment keeps its arrays: in NumPy, or as tensors on one device."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.task import Array, Task, copied, draw, namespace
from mbrl_gym.errors import InvalidActionError, InvalidSettingError
from mbrl_gym.noise import Noise, NoiseSizes
from mbrl_gym.vector import NumpyRows, Rows

__all__ = ["Arrays", "NumpyArrays", "TensorArrays", "make_arrays"]


class Arrays(Rows, Protocol):
    """The operations of a task's vector environment that differ between NumPy and a device."""

    def seed(self, generator: np.random.Generator, anew: bool) -> None:
        """Take all random numbers from this generator, or from one that it seeds if the caller gave a new seed."""

    def draw(self, rows: int, sizes: NoiseSizes) -> Noise:
        """Draw the noise of a batch of starts or steps."""

    def state(self, given: Any) -> Array:
        """Bring a copy of states to where the other arrays are."""

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Bring an array to the CPU, for pictures."""

    def check_action(self, action: Any, rows: int) -> Array:
        """Return the actions as an array of the task's dtype, or raise InvalidActionError."""

    def fresh_starts(self, mask: Array) -> Array:
        """Return start states for `put`."""

    def chosen(self, mask: Array, states: Array) -> Array:
        """Return given states `[N, S]`, of which the mask chooses, for `put`."""

    def final_observations(self, observation: Array, ended: Array) -> Any:
        """Return the last observations of the rows that ended, for `info["final_obs"]`."""

    def get_generator(self) -> Any:
        """Return the generator's state."""

    def set_generator(self, state: Any) -> None:
        """Restore the generator's state."""


def make_arrays(task: Task, xp: Any, device: Any) -> Arrays:
    """Return the arrays that the namespace `xp` (NumPy's or torch's module, or its name) works on."""
    if isinstance(xp, str) and xp in ("numpy", "torch"):
        xp = importlib.import_module(xp)
    if xp is np:
        if device not in (None, "cpu"):
            raise InvalidSettingError(f'NumPy arrays live on device "cpu", but {device!r} was given: give xp=torch')
        return NumpyArrays(task)
    if getattr(xp, "__name__", "") != "torch":
        raise InvalidSettingError(f"xp must be the module numpy or torch, but {xp!r} was given")
    return TensorArrays(task, xp, device)


class NumpyArrays(NumpyRows):
    """NumPy arrays."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._generator: np.random.Generator

    def seed(self, generator: np.random.Generator, anew: bool) -> None:
        """Take all random numbers from this generator."""
        self._generator = generator

    def draw(self, rows: int, sizes: NoiseSizes) -> Noise:
        """Draw the noise of a batch of starts or steps."""
        return draw(self._generator, (rows,), sizes, self._task.dtype)

    def state(self, given: Any) -> Array:
        """Return a copy in the task's dtype."""
        return np.array(given, self._task.dtype)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Return the array."""
        return np.asarray(array)

    def check_action(self, action: Any, rows: int) -> Array:
        """Return the actions as an array of the task's dtype."""
        return self._task.check_action(action, (rows,))

    def fresh_starts(self, mask: Array) -> Array:
        """Return start states of the rows in the mask."""
        return self._task.initial(self.draw(int(mask.sum()), self._task.initial_noise))

    def chosen(self, mask: Array, states: Array) -> Array:
        """Return the states that the mask chooses."""
        return states[mask]

    def final_observations(self, observation: Array, ended: Array) -> Any:
        """Return an object array, None where the row goes on."""
        final = np.full(len(ended), None, dtype=object)
        for row in np.flatnonzero(ended):
            final[row] = self._task.publish(observation[row])
        return final

    def get_generator(self) -> Any:
        """Return the generator's state."""
        return self._generator.bit_generator.state

    def set_generator(self, state: Any) -> None:
        """Restore the generator's state."""
        self._generator.bit_generator.state = state


class TensorArrays:
    """Tensors on one device, which no step leaves: nothing in a step waits for the device.

    Args:
        task: The task.
        xp: The module torch.
        device: Device of all tensors; torch's default device by default.
    """

    def __init__(self, task: Task, xp: Any, device: Any = None) -> None:
        self._task = task
        self._device = xp.zeros(0, device=device).device
        self._dtype = {"float32": xp.float32, "float64": xp.float64}[task.dtype.name]
        self._generator = xp.Generator(device=self._device)
        self._seeded = False
        self.checks = self._device.type == "cpu"
        # A module cannot be pickled or copied: it is found again by the tensors.
        self._like = xp.zeros(0, dtype=self._dtype, device=self._device)

    def seed(self, generator: np.random.Generator, anew: bool) -> None:
        """Seed the device's generator from this one, if it has a new seed."""
        if anew or not self._seeded:
            self._generator.manual_seed(int(generator.integers(2**63)))
            self._seeded = True

    def draw(self, rows: int, sizes: NoiseSizes) -> Noise:
        """Draw the noise of a batch of starts or steps, on the device."""
        empty = self._like.new_empty
        return Noise(
            empty((rows, sizes.normal)).normal_(generator=self._generator),
            empty((rows, sizes.uniform)).uniform_(generator=self._generator),
        )

    def full(self, rows: int, value: bool | int) -> Array:
        """Return `[rows]` booleans or whole numbers."""
        xp = namespace(self._like)
        return xp.full((rows,), value, device=self._device)

    def mask(self, given: np.ndarray[Any, Any]) -> Array:
        """Bring booleans to the device."""
        return self._bring(given)

    def state(self, given: Any) -> Array:
        """Bring a copy of states to the device."""
        return copied(self._bring(given).to(self._dtype))

    def _bring(self, given: Any) -> Array:
        """Return a tensor on the device; asarray would warn of tensors that ask for gradients."""
        if hasattr(given, "new_empty"):
            return given.to(self._device)
        return namespace(self._like).asarray(given, device=self._device)

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Bring a tensor to the CPU."""
        return np.asarray(array.detach().cpu())

    def check_action(self, action: Any, rows: int) -> Array:
        """Return the actions as a tensor on the device; on the CPU their values are checked, too."""
        task, xp, space = self._task, namespace(self._like), self._task.action_space
        if not hasattr(action, "new_empty"):
            action = task.check_action(action, (rows,))
        values = self._bring(action)
        shape = (rows, *(space.shape or ()))
        if tuple(values.shape) != shape:
            raise InvalidActionError(f"the action must have shape {shape}, but {tuple(values.shape)} was given")
        discrete = isinstance(space, spaces.Discrete)
        if discrete == xp.is_floating_point(values) or values.dtype == xp.bool:
            kind = "integers" if discrete else "floating-point numbers"
            raise InvalidActionError(f"the action must be {kind}, but {values.dtype} was given")
        if self.checks:
            task.check_action(values.detach().numpy(), (rows,))
        return values if discrete else values.to(self._dtype)

    def any(self, mask: Array) -> bool:
        """Return whether a row of the mask is set; True where to look would mean to wait for the device."""
        return bool(mask.any()) if self.checks else True

    def fresh_starts(self, mask: Array) -> Array:
        """Return start states of all rows."""
        return self._task.initial(self.draw(len(mask), self._task.initial_noise))

    def chosen(self, mask: Array, states: Array) -> Array:
        """Return all states."""
        return self.state(states)

    def put(self, array: Array, mask: Array, rows: Array) -> Array:
        """Return a tensor with the rows of the mask taken from `rows`, which are all rows or one for all."""
        xp = namespace(array)
        return xp.where(mask if array.ndim == 1 else mask[:, None], rows, array)

    def with_masks(self, info: dict[str, Array], mask: Array) -> dict[str, Any]:
        """Pair every entry with the mask of the rows that have it; the others are zero."""
        paired: dict[str, Any] = {}
        for name, values in info.items():
            xp = namespace(values)
            paired[name] = xp.where(mask, values, xp.zeros_like(values))
            paired[f"_{name}"] = mask.clone()
        return paired

    def final_observations(self, observation: Array, ended: Array) -> Any:
        """Return the observations of all rows; `info["_final_obs"]` says which have ended."""
        return self._task.publish(observation)

    def get_generator(self) -> Any:
        """Return the generator's state."""
        return self._generator.get_state()

    def set_generator(self, state: Any) -> None:
        """Restore the generator's state."""
        self._generator.set_state(state)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_generator": self._generator.get_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._generator = namespace(self._like).Generator(device=self._device)
        self._generator.set_state(state["_generator"])
