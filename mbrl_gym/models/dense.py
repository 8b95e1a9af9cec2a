"""Layers of small networks, whose first weights come from a generator of the caller's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["dense_layers"]


def dense_layers(sizes: Sequence[int], generator: torch.Generator) -> nn.ModuleList:
    """Return linear layers from each size to the next one.

    Weights are normal with standard deviation 1 / sqrt(inputs), truncated at two of them; biases are 0. Torch's own
    initialisation draws from the global generator.
    """
    layers = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1], device="meta") for i in range(len(sizes) - 1))
    layers.to_empty(device="cpu")
    for layer in layers:
        assert isinstance(layer, nn.Linear)
        deviation = 1 / math.sqrt(layer.in_features)
        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator)
        nn.init.zeros_(layer.bias)
    return layers
