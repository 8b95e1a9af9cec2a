"""How planners write actions: as vectors in which means, spreads and elites make sense for any action space."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from mbrl_gym.errors import UnsupportedSpaceError

__all__ = ["ActionCode", "BoxCode", "ChoiceCode", "action_code", "choice_code", "coloured_noise"]

Generator = torch.Generator


class ActionCode(ABC):
    """Writes actions as search vectors `[..., U]`, over which planners keep a mean and a spread."""

    size: int  # U

    @abstractmethod
    def centre(self) -> Tensor:
        """Return the mean `[U]` that knows nothing."""

    @abstractmethod
    def noise(self, count: int, horizon: int, colour: float, generator: Generator) -> Tensor:
        """Draw noise `[1, K, H, U]` for `sample`, temporally correlated by `colour`; see `coloured_noise`."""

    def mirrored_noise(self, count: int, horizon: int, colour: float, generator: Generator) -> Tensor:
        """Draw noise as `noise` does, of which the first is 0; where it is symmetric, half of the rest mirrors it.

        That is half the random numbers, and the mean of the noise is 0 exactly (antithetic variates).
        """
        noise = self.noise(count, horizon, colour, generator)
        noise[:, 0] = 0.0
        return noise

    @abstractmethod
    def sample(self, mean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
        """Return candidates `[N, K, H, U]` around means `[N, 1, H, U]`; the noise may be overwritten."""

    @abstractmethod
    def uniform(self, count: int, horizon: int, generator: Generator) -> Tensor:
        """Draw vectors `[1, K, H, U]` of uniformly distributed actions."""

    @abstractmethod
    def blur(self, mean: Tensor, deviation: float) -> Tensor:
        """Return means `[..., U]` around which `sample` spreads at least by `deviation`."""

    @abstractmethod
    def nearest(self, vector: Tensor) -> Tensor:
        """Return the vectors `[..., U]` of the actions that are nearest to means `[..., U]`."""

    @abstractmethod
    def decode(self, vector: Tensor) -> Tensor:
        """Return the actions for vectors `[..., U]`: `[..., A]` floats, or integers `[...]` or `[..., C]`."""

    @abstractmethod
    def encode(self, action: Tensor) -> Tensor:
        """Return the vectors `[..., U]` of actions."""


class BoxCode(ActionCode):
    """Box actions, each component scaled to [-1, 1]."""

    def __init__(self, space: spaces.Box) -> None:
        self.size = space.shape[0]
        low, high = (torch.as_tensor(bound, dtype=torch.float64) for bound in (space.low, space.high))
        # Rounded inwards: no action leaves float64 bounds.
        inf = torch.tensor(torch.inf)
        least = torch.where(low.float().double() < low, torch.nextafter(low.float(), inf), low.float())
        most = torch.where(high.float().double() > high, torch.nextafter(high.float(), -inf), high.float())
        self._center = ((high + low) / 2).float().clamp(least, most)
        half_range = torch.minimum(most - self._center, self._center - least).clamp_min(0.0)
        # Rounding is monotonic: nothing between -1 and 1 leaves bounds that these do not leave.
        for _ in range(2):
            leaves = (self._center - half_range < least) | (self._center + half_range > most)
            half_range = torch.where(leaves, torch.nextafter(half_range, torch.zeros(())), half_range)
        self._half_range = half_range

    def centre(self) -> Tensor:
        """Return zeros."""
        return torch.zeros(self.size)

    def noise(self, count: int, horizon: int, colour: float, generator: Generator) -> Tensor:
        """Draw standard normal noise."""
        return coloured_noise((count, self.size), horizon, colour, generator).mT[None]

    def mirrored_noise(self, count: int, horizon: int, colour: float, generator: Generator) -> Tensor:
        """Draw standard normal noise that is symmetric about the first, 0."""
        half = coloured_noise((count // 2, self.size), horizon, colour, generator).movedim(-1, 0)
        noise = half.new_empty((horizon, count, self.size))
        first = count - len(half[0])
        noise[:, 0] = 0.0
        noise[:, first:] = half
        torch.neg(half[:, : first - 1], out=noise[:, 1:first])
        return noise.movedim(0, 1)[None]

    def sample(self, mean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
        """Return `mean + deviation * noise` within [-1, 1]."""
        scaled = noise.mul_(deviation) if len(mean) == 1 else noise * deviation
        return scaled.add_(mean).clamp_(-1.0, 1.0)

    def uniform(self, count: int, horizon: int, generator: Generator) -> Tensor:
        """Draw components uniform in [-1, 1]."""
        shape = (1, count, horizon, self.size)
        return 2 * torch.rand(shape, generator=generator, device=generator.device) - 1

    def blur(self, mean: Tensor, deviation: float) -> Tensor:
        """Return the mean: the spread is kept beside it."""
        return mean

    def nearest(self, vector: Tensor) -> Tensor:
        """Return the vectors themselves, within [-1, 1]."""
        return vector.clamp(-1.0, 1.0)

    def decode(self, vector: Tensor) -> Tensor:
        """Scale from [-1, 1] to the space's bounds."""
        return (self._half_range.to(vector.device) * vector).add_(self._center.to(vector.device))

    def encode(self, action: Tensor) -> Tensor:
        """Scale from the space's bounds to [-1, 1]."""
        width = torch.where(self._half_range > 0, self._half_range, 1.0).to(action.device)
        return (action - self._center.to(action.device)) / width


class ChoiceCode(ActionCode):
    """Discrete and MultiDiscrete actions, one-hot; a mean of them holds the probabilities of the choices.

    Refitting a mean to one-hot elites is then the maximum-likelihood fit of a categorical distribution, as in the
    cross-entropy method for discrete optimisation (Rubinstein 1999). Candidates are drawn by the Gumbel-max trick from
    temporally correlated noise.
    """

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        self.single = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self.counts, self.starts = [int(space.n)], [int(space.start)]
        else:
            self.counts, self.starts = [int(n) for n in space.nvec], [int(start) for start in space.start]
        self.size = sum(self.counts)
        self.choices = math.prod(self.counts)

    def centre(self) -> Tensor:
        """Return uniform probabilities."""
        return torch.cat([torch.full((count,), 1.0 / count) for count in self.counts])

    def noise(self, count: int, horizon: int, colour: float, generator: Generator) -> Tensor:
        """Draw standard Gumbel noise."""
        normal = coloured_noise((count, self.size), horizon, colour, generator).mT[None]
        level = torch.special.ndtr(normal.double()).clamp(1e-12, 1 - 1e-12)
        return -torch.log(-torch.log(level)).float()

    def sample(self, mean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
        """Draw one-hot choices by their probabilities."""
        return self.nearest(torch.log(mean.clamp_min(0.0)) + noise)

    def uniform(self, count: int, horizon: int, generator: Generator) -> Tensor:
        """Draw uniform choices."""
        return self.nearest(self.noise(count, horizon, 0.0, generator))

    def blur(self, mean: Tensor, deviation: float) -> Tensor:
        """Give each choice at least the share `deviation` of its uniform probability."""
        share = min(deviation, 1.0)
        return (1.0 - share) * mean + share * self.centre().to(mean.device)

    def nearest(self, vector: Tensor) -> Tensor:
        """Return one-hot vectors of the largest component of each choice."""
        groups = vector.split(self.counts, -1)
        hot = [functional.one_hot(group.argmax(-1), count) for group, count in zip(groups, self.counts, strict=True)]
        return torch.cat(hot, -1).to(vector.dtype)

    def decode(self, vector: Tensor) -> Tensor:
        """Return the number of the largest component of each choice."""
        groups = vector.split(self.counts, -1)
        chosen = [group.argmax(-1) + start for group, start in zip(groups, self.starts, strict=True)]
        return chosen[0] if self.single else torch.stack(chosen, -1)

    def encode(self, action: Tensor) -> Tensor:
        """Return one-hot vectors."""
        columns = [action] if self.single else list(action.unbind(-1))
        choices = zip(columns, self.starts, self.counts, strict=True)
        hot = [functional.one_hot(column.long() - start, count) for column, start, count in choices]
        return torch.cat(hot, -1).float()

    def every_action(self) -> Tensor:
        """Return all actions `[choices]` or `[choices, C]`."""
        ranges = [torch.arange(start, start + count) for start, count in zip(self.starts, self.counts, strict=True)]
        actions = torch.cartesian_prod(*ranges)
        return actions if self.single or len(ranges) > 1 else actions[:, None]


def choice_code(space: spaces.Space[Any]) -> ChoiceCode | None:
    """Return the code of a Discrete or flat MultiDiscrete space, None for any other."""
    if isinstance(space, spaces.Discrete) or (isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1):
        return ChoiceCode(space)
    return None


def action_code(space: spaces.Space[Any], planner: str) -> ActionCode:
    """Return the code of an action space.

    Args:
        space: The action space.
        planner: Who asks; named in errors.

    Raises:
        UnsupportedSpaceError: Anything but flat, bounded Box of floating point numbers, Discrete or flat MultiDiscrete.
    """
    choices = choice_code(space)
    if choices is not None:
        return choices
    floating = isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)
    if not isinstance(space, spaces.Box) or not floating or len(space.shape) != 1:
        raise UnsupportedSpaceError(
            f"{planner} plans over Discrete, flat MultiDiscrete, and flat Box actions of floating point numbers, "
            f"but the action space is {space}"
        )
    if not space.is_bounded():
        raise UnsupportedSpaceError(
            f"{planner} needs finite action bounds, but the action space is {space}; "
            "gymnasium.wrappers.RescaleAction or ClipAction give them"
        )
    return BoxCode(space)


def coloured_noise(shape: tuple[int, ...], length: int, colour: float, generator: torch.Generator) -> Tensor:
    """Draw noise `[*shape, length]` with power spectrum 1 / f^colour and unit variance (Timmer and Koenig 1995).

    The numbers of a step lie together in memory, as roll-outs take them.
    """
    white = torch.randn((length, *shape), generator=generator, device=generator.device)
    if colour != 0 and length > 1:
        white = (_colouring(length, colour).to(white.device) @ white.flatten(1)).view_as(white)
    return white.movedim(0, -1)


@lru_cache(maxsize=16)
def _colouring(length: int, colour: float) -> Tensor:
    """Return the matrix `[H, H]` that colours white noise, the root of a circulant covariance of unit variance."""
    frequency = np.fft.rfftfreq(length)
    frequency[0] = frequency[1]
    response = np.fft.irfft(frequency ** (-colour / 2), length)
    response /= np.linalg.norm(response)
    steps = np.arange(length)
    with torch.inference_mode(False):
        return torch.from_numpy(response[(steps[:, None] - steps) % length]).float()
