"""Monte Carlo tree search over arrays."""

from .arrays import Tree, uniform
from .compiled_model import CompiledModel, table_model
from .results import Decisions, principal_variation, root_table
from .search import Searched, TreeSearch
from .settings import SELECTIONS, SearchSettings

__all__ = [
    "SELECTIONS",
    "CompiledModel",
    "Decisions",
    "SearchSettings",
    "Searched",
    "Tree",
    "TreeSearch",
    "principal_variation",
    "root_table",
    "table_model",
    "uniform",
]
