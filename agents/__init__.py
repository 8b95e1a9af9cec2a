"""Model-based agents with Stable-Baselines3's API."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bandits import BANDITS, BanditPolicy, BanditRun, run_bandit
    from .callbacks import EvaluateModelCallback, ResumableCheckpointCallback
    from .collect import random_transitions
    from .dyna import DynaAgent
    from .dyna_q import DynaQ, DynaQPlus
    from .exploitation import Exploitation, ExploitationCallback, measure_exploitation
    from .fitted_value import FittedValue
    from .imagined_ppo import ImaginedPPO
    from .mbpo import MBPO, DynaDQN, DynaTD3
    from .mcts import MCTS
    from .mpc import MPC, PETS
    from .planning import CEM, ICEM, MPPI, PLANNERS, Exhaustive, Gradient, Plan, Planner, RandomShooting
    from .planning.tree import CompiledModel, TreeSearch, table_model
    from .prioritized_sweeping import PrioritizedSweeping
    from .tree_plots import plot_tree
    from .values import value_of
    from .vec_env import as_sb3_vec_env

__all__ = [
    "BANDITS",
    "CEM",
    "ICEM",
    "MBPO",
    "MCTS",
    "MPC",
    "MPPI",
    "PETS",
    "PLANNERS",
    "BanditPolicy",
    "BanditRun",
    "CompiledModel",
    "DynaAgent",
    "DynaDQN",
    "DynaQ",
    "DynaQPlus",
    "DynaTD3",
    "EvaluateModelCallback",
    "Exhaustive",
    "Exploitation",
    "ExploitationCallback",
    "FittedValue",
    "Gradient",
    "ImaginedPPO",
    "Plan",
    "Planner",
    "PrioritizedSweeping",
    "RandomShooting",
    "ResumableCheckpointCallback",
    "TreeSearch",
    "as_sb3_vec_env",
    "measure_exploitation",
    "plot_tree",
    "random_transitions",
    "run_bandit",
    "table_model",
    "value_of",
]

_MODULES = {
    "bandits": ("BANDITS", "BanditPolicy", "BanditRun", "run_bandit"),
    "callbacks": ("EvaluateModelCallback", "ResumableCheckpointCallback"),
    "collect": ("random_transitions",),
    "dyna": ("DynaAgent",),
    "dyna_q": ("DynaQ", "DynaQPlus"),
    "exploitation": ("Exploitation", "ExploitationCallback", "measure_exploitation"),
    "fitted_value": ("FittedValue",),
    "imagined_ppo": ("ImaginedPPO",),
    "mbpo": ("MBPO", "DynaDQN", "DynaTD3"),
    "mcts": ("MCTS",),
    "mpc": ("MPC", "PETS"),
    "planning": ("CEM", "ICEM", "MPPI", "PLANNERS", "Exhaustive", "Gradient", "Plan", "Planner", "RandomShooting"),
    "planning.tree": ("CompiledModel", "TreeSearch", "table_model"),
    "prioritized_sweeping": ("PrioritizedSweeping",),
    "tree_plots": ("plot_tree",),
    "values": ("value_of",),
    "vec_env": ("as_sb3_vec_env",),
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: the command line starts without torch and Stable-Baselines3."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
