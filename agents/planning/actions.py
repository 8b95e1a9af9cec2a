"""How planners write actions: as vectors in which means, spreads and elites make sense for any action space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from mbrl_gym.errors import UnsupportedSpaceError

__all__ = ["ActionCode", "BoxCode", "ChoiceCode", "action_code", "coloured_noise"]

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

    @abstractmethod
    def sample(self, mean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
        """Return candidates `[N, K, H, U]` around means `[N, 1, H, U]`."""

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
        self._center = ((high + low) / 2).float()
        self._half_range = ((high - low) / 2).float()
        # Rounded inwards, so that no action leaves float64 bounds.
        self._low, self._high = low.float(), high.float()
        inf = torch.tensor(torch.inf)
        self._low = torch.where(self._low.double() < low, torch.nextafter(self._low, inf), self._low)
        self._high = torch.where(self._high.double() > high, torch.nextafter(self._high, -inf), self._high)

    def centre(self) -> Tensor:
        """Return zeros."""
        return torch.zeros(self.size)

    def noise(self, count: int, horizon: int, colour: float, generator: Generator) -> Tensor:
        """Draw standard normal noise."""
        if colour == 0:
            return torch.randn((1, count, horizon, self.size), generator=generator, device=generator.device)
        return coloured_noise((count, self.size), horizon, colour, generator).mT[None]

    def sample(self, mean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
        """Return `mean + deviation * noise` within [-1, 1]."""
        return torch.addcmul(mean, deviation, noise).clamp_(-1.0, 1.0)

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
        device = vector.device
        scaled = torch.addcmul(self._center.to(device), self._half_range.to(device), vector)
        return torch.clamp(scaled, self._low.to(device), self._high.to(device))

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
            self.counts, self.starts = space.nvec.tolist(), space.start.tolist()
        self.size = sum(self.counts)

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


def action_code(space: spaces.Space[Any], planner: str) -> ActionCode:
    """Return the code of an action space.

    Args:
        space: The action space.
        planner: Who asks; named in errors.

    Raises:
        UnsupportedSpaceError: Anything but flat, bounded Box of floating point numbers, Discrete or flat MultiDiscrete.
    """
    if isinstance(space, spaces.Discrete):
        return ChoiceCode(space)
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) == 1:
        return ChoiceCode(space)
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
    """Draw noise `[*shape, length]` with power spectrum 1 / f^colour and unit variance (Timmer and Koenig 1995)."""
    if colour == 0 or length == 1:
        return torch.randn((*shape, length), generator=generator, device=generator.device)
    frequency = torch.fft.rfftfreq(length, device=generator.device)
    frequency[0] = frequency[1]
    scale = frequency ** (-colour / 2)
    # The real parts at frequency 0 and (even lengths) at the Nyquist frequency carry the power of both parts.
    white = torch.randn((2, *shape, len(scale)), generator=generator, device=generator.device)
    real, imaginary = scale * white[0], scale * white[1]
    real[..., 0] *= 2**0.5
    imaginary[..., 0] = 0.0
    power = scale.square()
    doubled = 2 * power[1:].sum() + power[0]
    if length % 2 == 0:
        real[..., -1] *= 2**0.5
        imaginary[..., -1] = 0.0
        doubled = doubled - power[-1]
    series = torch.fft.irfft(torch.complex(real, imaginary), n=length)
    # irfft divides by `length`; the variance of one sample is 2 / length^2 times the two-sided power.
    return series * (length / (2.0 * doubled).sqrt())
