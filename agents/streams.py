"""Random streams of an agent's own, where Stable-Baselines3 draws from the global generators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["Streams", "own_streams"]


class Streams:
    """States of NumPy's and torch's global generators that belong to one agent; see `own_streams`.

    Args:
        seed: Seeds all of them.
        device: Where the agent computes; if that is a GPU, its generator is one of them.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._numpy: Any = np.random.RandomState(seed).get_state()
        self._torch = [torch.Generator(each.device).manual_seed(seed).get_state() for each in self._generators()]
        self._installed = False

    @property
    def state(self) -> dict[str, Any]:
        """The states, as files hold them."""
        return {"numpy": self._numpy, "torch": self._torch}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._numpy, self._torch = tuple(state["numpy"]), list(state["torch"])

    def _generators(self) -> list[torch.Generator]:
        if self._device.type != "cuda":
            return [torch.default_generator]
        torch.cuda.init()
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        return [torch.default_generator, torch.cuda.default_generators[index]]

    def _swap(self) -> None:
        """Exchange the states kept here with those of the global generators."""
        generators = self._generators()
        kept, self._torch = self._torch, [each.get_state() for each in generators]
        for generator, state in zip(generators, kept, strict=True):
            generator.set_state(state)
        kept, self._numpy = self._numpy, np.random.get_state()  # noqa: NPY002  # Stable-Baselines3 draws from it
        np.random.set_state(kept)  # noqa: NPY002


@contextmanager
def own_streams(streams: Streams) -> Iterator[None]:
    """Let the global generators go on from an agent's streams, and put them back afterwards.

    What is drawn inside neither depends on the global generators nor changes them. Inside of itself, it does nothing.
    """
    if streams._installed:
        yield
        return
    streams._swap()
    streams._installed = True
    try:
        yield
    finally:
        streams._installed = False
        streams._swap()
