"""Trajectory optimisers: a model in, a plan out."""

from .base import Plan, Planner
from .evaluation import Draws, Objective, Returns, evaluate
from .shooting import CEM, ICEM, RandomShooting

__all__ = ["CEM", "ICEM", "PLANNERS", "Draws", "Objective", "Plan", "Planner", "RandomShooting", "Returns", "evaluate"]

PLANNERS: dict[str, type[Planner]] = {"RandomShooting": RandomShooting, "CEM": CEM, "iCEM": ICEM}
"""The planners by the names that agents take."""
