"""World models in torch."""

from mbrl_gym.models.analytic import AnalyticModel
from mbrl_gym.models.base import FitReport, Outcome, Prediction, Transitions, WorldModel, draw
from mbrl_gym.models.biased import BiasedModel
from mbrl_gym.models.ensemble import GaussianEnsemble
from mbrl_gym.models.evaluation import evaluate_model
from mbrl_gym.models.exact import ExactModel, exact_dynamics
from mbrl_gym.models.gp import GPModel
from mbrl_gym.models.learned import LearnedModel
from mbrl_gym.models.linear import LinearModel
from mbrl_gym.models.mlp import MLPModel
from mbrl_gym.models.report import ModelReport
from mbrl_gym.models.tabular import TabularModel

__all__ = [
    "LEARNED_MODELS",
    "AnalyticModel",
    "BiasedModel",
    "ExactModel",
    "FitReport",
    "GPModel",
    "GaussianEnsemble",
    "LinearModel",
    "MLPModel",
    "ModelReport",
    "Outcome",
    "Prediction",
    "TabularModel",
    "Transitions",
    "WorldModel",
    "draw",
    "evaluate_model",
    "exact_dynamics",
]

LEARNED_MODELS: dict[str, type[LearnedModel]] = {
    "ensemble": GaussianEnsemble,
    "mlp": MLPModel,
    "linear": LinearModel,
    "gp": GPModel,
}
"""Models of continuous observations by the names that agents know them by."""
