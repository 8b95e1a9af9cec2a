"""Wrappers for vector environments."""

from mbrl_gym.wrappers.vector.curiosity import CuriosityReward
from mbrl_gym.wrappers.vector.learn import LearnModel
from mbrl_gym.wrappers.vector.record import RecordTransitions

__all__ = ["CuriosityReward", "LearnModel", "RecordTransitions"]
