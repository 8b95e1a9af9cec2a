"""What tabular agents are made of: spaces as numbers, a model of observed outcomes, and compiled updates."""

from .model import OutcomeModel
from .policy import TablePolicy

__all__ = ["OutcomeModel", "TablePolicy"]
