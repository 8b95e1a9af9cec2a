"""Trajectory optimisers: a model in, a plan out."""

from .base import Plan, Planner
from .cem import CEM, ICEM
from .evaluation import Draws, Objective, Returns, evaluate
from .exhaustive import Exhaustive
from .gradient import Gradient
from .mppi import MPPI
from .shooting import RandomShooting

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "PLANNERS",
    "Draws",
    "Exhaustive",
    "Gradient",
    "Objective",
    "Plan",
    "Planner",
    "RandomShooting",
    "Returns",
    "evaluate",
]

PLANNERS: dict[str, type[Planner]] = {
    "RandomShooting": RandomShooting,
    "CEM": CEM,
    "iCEM": ICEM,
    "MPPI": MPPI,
    "Gradient": Gradient,
    "Exhaustive": Exhaustive,
}
"""The planners by the names that agents take."""
