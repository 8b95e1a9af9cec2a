"""World models in torch."""

from mbrl_gym.models.base import FitReport, Outcome, Prediction, Transitions, WorldModel, draw
from mbrl_gym.models.ensemble import GaussianEnsemble
from mbrl_gym.models.exact import ExactModel, exact_dynamics
from mbrl_gym.models.learned import LearnedModel

__all__ = [
    "LEARNED_MODELS",
    "ExactModel",
    "FitReport",
    "GaussianEnsemble",
    "Outcome",
    "Prediction",
    "Transitions",
    "WorldModel",
    "draw",
    "exact_dynamics",
]

LEARNED_MODELS: dict[str, type[LearnedModel]] = {"ensemble": GaussianEnsemble}
"""Models of continuous observations by the names that agents know them by."""
