"""Random streams of an agent's own, for code that draws from the global generators of NumPy and torch."""

from __future__ import annotations

import random
from types import TracebackType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

__all__ = ["RandomStreams"]


class RandomStreams:
    """States of the global generators of NumPy and torch that belong to one owner.

    `with streams:` puts them in the place of the global ones, and takes them out again at the end: what is drawn (or
    seeded) inside goes on where the last block stopped, whatever others draw in between, and leaves the global
    generators as they were. That of Python, which Stable-Baselines3 seeds but never uses, is only kept. Nested blocks
    of the same streams count as one.

    Args:
        seed: Where the streams start, as `np.random.seed` and `torch.manual_seed` would start them.
        device: The device whose torch generator is exchanged beside the processor's.
        space: A space whose generator belongs to the streams, too.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu", space: spaces.Space[Any] | None = None) -> None:
        self._device, self._space = torch.device(device), space
        self._own: dict[str, Any] = {
            "numpy": np.random.RandomState(seed).get_state(legacy=False),
            "torch": torch.Generator().manual_seed(seed).get_state(),
        }
        if self._device.type == "cuda":
            self._own["device"] = torch.Generator(self._device).manual_seed(seed).get_state()
        if space is not None:
            self._own["space"] = np.random.default_rng(seed).bit_generator.state
        self._outside: dict[str, Any] = {}
        self._depth = 0

    @property
    def active(self) -> bool:
        """Whether these streams are in the place of the global ones."""
        return self._depth > 0

    def state(self) -> dict[str, Any]:
        """Return where the streams are, as nested dicts of numbers, arrays and tensors."""
        return dict(self._own)

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken, on a device of the same kind."""
        self._own.update({name: state[name] for name in self._own})

    def __enter__(self) -> RandomStreams:
        if not self._depth:
            self._outside = {**self._current(), "python": random.getstate()}
            self._install(self._own)
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._own = self._current()
            self._install(self._outside)
            random.setstate(self._outside["python"])

    def _current(self) -> dict[str, Any]:
        numpy = np.random.get_state(legacy=False)  # noqa: NPY002
        state: dict[str, Any] = {"numpy": numpy, "torch": torch.get_rng_state()}
        if self._device.type == "cuda":
            state["device"] = torch.cuda.get_rng_state(self._device)
        if self._space is not None:
            state["space"] = self._space.np_random.bit_generator.state
        return state

    def _install(self, state: dict[str, Any]) -> None:
        np.random.set_state(state["numpy"])  # noqa: NPY002
        torch.set_rng_state(state["torch"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state["device"], self._device)
        if self._space is not None:
            self._space.np_random.bit_generator.state = state["space"]
