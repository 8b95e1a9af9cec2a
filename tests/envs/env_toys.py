"""Observations of any space as one array."""

from typing import Any

import numpy as np


def flat(observation: Any) -> Any:
    """Return an observation, or the parts of a Dict joined in their order, as an array `[..., O]`."""
    return np.concatenate(list(observation.values()), axis=-1) if isinstance(observation, dict) else observation


def arrays(observation: Any) -> list[Any]:
    """Return the arrays that an observation consists of."""
    return list(observation.values()) if isinstance(observation, dict) else [observation]
