"""Gymnasium wrappers around agents and world models."""

from mbrl_gym.wrappers.curiosity import CuriosityReward
from mbrl_gym.wrappers.imagined import ImaginedEnv, ImaginedVectorEnv
from mbrl_gym.wrappers.learn import LearnModel
from mbrl_gym.wrappers.minari_datasets import from_minari, to_minari
from mbrl_gym.wrappers.record import RecordTransitions
from mbrl_gym.wrappers.search_info import SearchInfo, SearchingAgent
from mbrl_gym.wrappers.show_plans import Decision, PlanningAgent, ShowPlans
from mbrl_gym.wrappers.show_values import ShowValues, TabularAgent
from mbrl_gym.wrappers.simulator import SimulatorModel, TrackState

__all__ = [
    "CuriosityReward",
    "Decision",
    "ImaginedEnv",
    "ImaginedVectorEnv",
    "LearnModel",
    "PlanningAgent",
    "RecordTransitions",
    "SearchInfo",
    "SearchingAgent",
    "ShowPlans",
    "ShowValues",
    "SimulatorModel",
    "TabularAgent",
    "TrackState",
    "from_minari",
    "to_minari",
]
