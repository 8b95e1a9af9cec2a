"""Planning agents with Stable-Baselines3's API."""

from .callbacks import ResumableCheckpointCallback
from .mpc import MPC, PETS
from .planning import CEM, ICEM, PLANNERS, Plan, Planner, RandomShooting
from .vec_env import as_sb3_vec_env

__all__ = [
    "CEM",
    "ICEM",
    "MPC",
    "PETS",
    "PLANNERS",
    "Plan",
    "Planner",
    "RandomShooting",
    "ResumableCheckpointCallback",
    "as_sb3_vec_env",
]
