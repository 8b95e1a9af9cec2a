"""World models in torch."""

from mbrl_gym.models.base import FitReport, Outcome, Prediction, Transitions, WorldModel, draw
from mbrl_gym.models.ensemble import GaussianEnsemble
from mbrl_gym.models.exact import ExactModel

__all__ = [
    "ExactModel",
    "FitReport",
    "GaussianEnsemble",
    "Outcome",
    "Prediction",
    "Transitions",
    "WorldModel",
    "draw",
]
