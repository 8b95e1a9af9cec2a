"""How little a place is known: what a network has not yet learned of another one there."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.wrappers.utils import RunningMeanStd
from torch import Tensor, nn
from torch.nn import functional

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models.base import as_tensor, check, check_observation_space
from mbrl_gym.models.spaces import ObservationEncoder
from mbrl_gym.wrappers.one_step import units

__all__ = ["Distillation"]

Array = np.ndarray[Any, Any]

HIDDEN = (64, 64)  # of the fixed network; the one that learns has one layer more, so that it can follow
OUTPUTS = 32
LIMIT = 5.0  # of normalised observations, in standard deviations (Burda et al. 2018, section 2.4)
LEARNING_RATE = 1e-3
BATCH = 8  # transitions from which a gradient step is made


class Distillation:
    """Random network distillation (Burda et al. 2018, "Exploration by Random Network Distillation", sections 2.2, 2.4).

    A network learns the outputs of another one, whose random weights stay as they are. Both see the features of an
    observation (`ObservationEncoder`) less their mean, in units of their standard deviation over all observations so
    far, clipped to [-5, 5]. The error is large at observations that are unlike those it has learned from; since the
    target is a function of the observation alone, it falls with the visits even where steps are noisy.

    The paper gathers mean and deviation with random actions before it learns; here both run from the first observation
    on. Features that never varied are in their own units.

    Args:
        space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` or `Tuple` of these.
        seed: Seeds the weights of both networks, and nothing else is random.

    Raises:
        UnsupportedSpaceError: Another space.
        InvalidSettingError: A seed that is none.
    """

    @torch.inference_mode(False)  # whatever the agent's loop has switched on
    def __init__(self, space: spaces.Space[Any], seed: int = 0) -> None:
        whole = isinstance(seed, int | np.integer) and 0 <= seed < 2**64
        check(whole, "seed", seed, "a whole number from 0 to 2**64 - 1")
        generator = torch.Generator().manual_seed(int(seed))
        self.encode = ObservationEncoder(check_observation_space(space), torch.float64)
        self.target = _perceptron((self.encode.size, *HIDDEN, OUTPUTS), generator).requires_grad_(False)
        self.predictor = _perceptron((self.encode.size, *HIDDEN, HIDDEN[-1], OUTPUTS), generator)
        self._adam = torch.optim.Adam(self.predictor.parameters(), LEARNING_RATE)
        self._seen = RunningMeanStd(epsilon=0, shape=(self.encode.size,))
        self._waiting: list[Tensor] = []  # what no gradient step was made from yet, [n, F] each

    @torch.inference_mode(False)
    def __call__(self, rows: Array) -> Array:
        """Return the errors `[n]` at observations `[n, O]`, `[n, K]` or `[n]`, and learn from them.

        An error is the mean square over the outputs before this call. A gradient step is made once at least 8
        observations wait for one, from all of them: so one a call with many copies of an environment.

        Raises:
            InvalidSettingError: Observations that are not finite, from which nothing could be learned ever after.
        """
        features = self._normalised(rows)
        with torch.no_grad():
            errors = self._errors(features).double().numpy()
        self._waiting.append(features)
        if sum(map(len, self._waiting)) >= BATCH:
            self._learn(torch.cat(self._waiting))
            self._waiting.clear()
        return errors

    def _normalised(self, rows: Array) -> Tensor:
        """Return the features `[n, F]` of observations, and take these into account."""
        features = self.encode(as_tensor(rows, torch.device("cpu"))).numpy()
        if not np.isfinite(features).all():
            raise InvalidSettingError(f"random network distillation needs finite observations, but {rows!r} was given")
        self._seen.update(features)
        scaled = (features - self._seen.mean) / units(self._seen)
        return torch.as_tensor(scaled.clip(-LIMIT, LIMIT), dtype=torch.float32)

    def _errors(self, features: Tensor) -> Tensor:
        return functional.mse_loss(self.predictor(features), self.target(features), reduction="none").mean(-1)

    def _learn(self, features: Tensor) -> None:
        self._adam.zero_grad()
        with torch.enable_grad():
            self._errors(features).mean().backward()
        self._adam.step()


def _perceptron(sizes: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    """Return a network of weights that keep the size of signals (He et al. 2015).

    The biases of the first layer spread kinks over inputs of unit size. Others would add to the outputs what is the
    same everywhere: it is learned at once, and new places would seem less new than the first ones did.
    """
    layers: list[nn.Module] = []
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")  # draws nothing
        last = index == len(sizes) - 2
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if last else "relu", generator=generator)
        nn.init.normal_(layer.bias, std=0.0 if index else 1.0, generator=generator)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
