"""How far a model's prediction of a step is from what happens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.wrappers.utils import RunningMeanStd
from torch import Tensor

from mbrl_gym.models.base import Transitions, WorldModel

__all__ = ["OneStepError", "as_tensors", "units"]

Array = np.ndarray[Any, Any]


def as_tensors(model: WorldModel, *arrays: Array) -> tuple[Tensor, ...]:
    """Bring arrays to where the model computes."""
    device = model.encode_observation.continuous.device
    return tuple(torch.as_tensor(array, device=device) for array in arrays)


def units(seen: RunningMeanStd) -> Array:
    """Return the standard deviations of columns; 1 for those that never varied."""
    deviation = np.sqrt(seen.var)
    return np.where(deviation > 1e-9 * (1 + np.abs(seen.mean)), deviation, 1.0)


class OneStepError:
    """Compares a model's mean prediction with what happens, in units of the spread of what has happened so far.

    Compared are the model's targets (see `Outcome`): the changes of continuous observation columns, the probabilities
    of discrete ones, and the reward. A column's unit is its standard deviation over all earlier steps; columns that
    never varied are in their own units.

    Args:
        model: Any model.
    """

    def __init__(self, model: WorldModel) -> None:
        self.model = model
        self._seen = RunningMeanStd(epsilon=0, shape=(model.observation_size + 1,))

    # Not in inference mode: tensors that a model keeps for later would stay without gradients for good.
    @torch.no_grad()
    def expect(self, observation: Array, action: Array) -> Array:
        """Return the mean prediction `[N, D]` at rows of observations and actions."""
        return self.model.outcome(*as_tensors(self.model, observation, action)).mean.mean(0).cpu().numpy()

    def __call__(self, expected: Array | None, transitions: Transitions) -> Array | None:
        """Return the errors `[n, 2]` of a prediction `[n, D]`, and take the steps into account from now on.

        The first column is the root mean square over the observation columns, the second the reward's absolute error.
        """
        targets = self.model.targets(transitions).cpu().numpy()
        errors = None
        if expected is not None:
            scaled = (expected - targets) / units(self._seen)
            errors = np.stack((np.sqrt(np.mean(scaled[:, :-1] ** 2, axis=1)), np.abs(scaled[:, -1])), axis=1)
        self._seen.update(targets)
        return errors
