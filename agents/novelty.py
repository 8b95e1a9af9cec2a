"""What a plan is worth for the new places to which it leads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.models.spaces import event_shape
from mbrl_gym.wrappers.visits import Visits

__all__ = ["NewPlaces"]

Array = np.ndarray[Any, Any]


class NewPlaces:
    """Bonuses for the cells of the observation space to which the steps of a plan lead: 1 / sqrt(n) for an n-th visit.

    Earlier steps of the same plan count as visits. Otherwise a plan that stays in a new place would be worth as much as
    one that goes through many (Bellemare et al. 2016 and Tang et al. 2017 reward steps that were taken, whose visits
    are counted one by one).

    Args:
        space: The observation space.
        cells: Parts of a bounded column; see `Visits`.

    Raises:
        InvalidSettingError: Not a whole number of at least 1.
    """

    def __init__(self, space: spaces.Space[Any], cells: int) -> None:
        self.visits = Visits(space, cells)
        self._event = event_shape(space)

    def saw(self, rows: Array) -> None:
        """Count the places to which steps led, `[n, O]`, or integers `[n]` or `[n, K]`."""
        self.visits(rows)

    def bonus(self, path: Tensor) -> Tensor:
        """Return the bonuses `[P, R, H]` of the steps of plans that lead to the observations `[P, R, H, O]`."""
        shape = path.shape[: path.dim() - len(self._event)]
        codes = self.visits.cells(path.detach().cpu().numpy().reshape(-1, *self._event))
        visits = self.visits.of_cells(codes).reshape(shape)
        codes = codes.reshape(shape)
        for step in range(1, shape[-1]):
            visits[..., step] += (codes[..., :step] == codes[..., step : step + 1]).sum(-1)
        bonus = torch.as_tensor((visits + 1.0) ** -0.5, device=path.device)
        return bonus.to(path.dtype) if path.is_floating_point() else bonus.float()
