"""Containers of the random numbers that one start or one step consumes; shared by tasks and world models."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Noise", "NoiseSizes"]


class NoiseSizes(NamedTuple):
    """How many random numbers one start or one step consumes."""

    normal: int = 0
    uniform: int = 0


class Noise(NamedTuple):
    """Random numbers for a batch of starts or steps, NumPy or torch."""

    normal: Any  # [..., NoiseSizes.normal], standard normal
    uniform: Any  # [..., NoiseSizes.uniform], in [0, 1)
