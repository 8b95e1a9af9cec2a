"""Tasks as pure functions, and the Gymnasium environments over them."""

from mbrl_gym.envs.arm import Arm, ArmEnv, ArmParams, ArmVectorEnv
from mbrl_gym.envs.bandit import Bandit, BanditEnv, BanditParams, BanditVectorEnv
from mbrl_gym.envs.drift import Drift, DriftEnv, DriftParams, DriftVectorEnv
from mbrl_gym.envs.drone import Drone, DroneEnv, DroneParams, DroneVectorEnv
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.task import Noise, NoiseSizes, Optimum, Params, Task, draw

__all__ = [
    "Arm",
    "ArmEnv",
    "ArmParams",
    "ArmVectorEnv",
    "Bandit",
    "BanditEnv",
    "BanditParams",
    "BanditVectorEnv",
    "Drift",
    "DriftEnv",
    "DriftParams",
    "DriftVectorEnv",
    "Drone",
    "DroneEnv",
    "DroneParams",
    "DroneVectorEnv",
    "Noise",
    "NoiseSizes",
    "Optimum",
    "Params",
    "Task",
    "TaskEnv",
    "TaskVectorEnv",
    "draw",
]
