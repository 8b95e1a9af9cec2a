"""Sequential halving: which of the root's actions a Gumbel search looks at, simulation by simulation."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["halving_schedule"]


@lru_cache(maxsize=256)
def halving_schedule(considered: int, simulations: int) -> np.ndarray[Any, Any]:
    """Return how many visits the action of each simulation `[simulations]` has before it.

    Danihelka et al. (2022), algorithm 2, after Karnin, Koren and Somekh (2013): the simulations are split evenly over
    the rounds; in each, the actions that are left get equally many, and the better half of them goes on.

    Args:
        considered: Actions m of the first round.
        simulations: n.
    """
    if considered <= 1:
        return np.arange(simulations)
    rounds = math.ceil(math.log2(considered))
    left, visits = considered, [0] * considered
    schedule: list[int] = []
    while len(schedule) < simulations:
        for _ in range(max(1, simulations // (rounds * left))):
            schedule += visits[:left]
            visits[:left] = [count + 1 for count in visits[:left]]
        left = max(2, left // 2)
    return np.array(schedule[:simulations])
