"""Tasks as pure functions, and the Gymnasium environments over them."""

from mbrl_gym.envs.arm import Arm, ArmEnv, ArmParams, ArmVectorEnv
from mbrl_gym.envs.arm_pick_place import ArmPickPlace, ArmPickPlaceEnv, ArmPickPlaceParams, ArmPickPlaceVectorEnv
from mbrl_gym.envs.arm_sparse import ArmSparse, ArmSparseEnv, ArmSparseParams, ArmSparseVectorEnv
from mbrl_gym.envs.arm_torque import ArmTorque, ArmTorqueEnv, ArmTorqueParams, ArmTorqueVectorEnv
from mbrl_gym.envs.bandit import Bandit, BanditEnv, BanditParams, BanditVectorEnv
from mbrl_gym.envs.bandit_bernoulli import (
    BanditBernoulli,
    BanditBernoulliEnv,
    BanditBernoulliParams,
    BanditBernoulliVectorEnv,
)
from mbrl_gym.envs.bandit_drifting import (
    BanditDrifting,
    BanditDriftingEnv,
    BanditDriftingParams,
    BanditDriftingVectorEnv,
)
from mbrl_gym.envs.cartpole import (
    CartPoleContinuous,
    CartPoleContinuousEnv,
    CartPoleContinuousParams,
    CartPoleContinuousVectorEnv,
)
from mbrl_gym.envs.drift import Drift, DriftEnv, DriftParams, DriftVectorEnv
from mbrl_gym.envs.drone import Drone, DroneEnv, DroneParams, DroneVectorEnv
from mbrl_gym.envs.drone_obstacles import (
    DroneObstacles,
    DroneObstaclesEnv,
    DroneObstaclesParams,
    DroneObstaclesVectorEnv,
)
from mbrl_gym.envs.drone_quad import DroneQuad, DroneQuadEnv, DroneQuadParams, DroneQuadVectorEnv
from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.maze import DynaMaze, DynaMazeEnv, DynaMazeVectorEnv, Maze, MazeParams
from mbrl_gym.envs.maze_changing import (
    BlockingMaze,
    BlockingMazeEnv,
    BlockingMazeParams,
    BlockingMazeVectorEnv,
    ChangingMaze,
    ShortcutMaze,
    ShortcutMazeEnv,
    ShortcutMazeParams,
    ShortcutMazeVectorEnv,
)
from mbrl_gym.envs.task import Noise, NoiseSizes, Optimum, Params, Task, draw

__all__ = [
    "Arm",
    "ArmEnv",
    "ArmParams",
    "ArmPickPlace",
    "ArmPickPlaceEnv",
    "ArmPickPlaceParams",
    "ArmPickPlaceVectorEnv",
    "ArmSparse",
    "ArmSparseEnv",
    "ArmSparseParams",
    "ArmSparseVectorEnv",
    "ArmTorque",
    "ArmTorqueEnv",
    "ArmTorqueParams",
    "ArmTorqueVectorEnv",
    "ArmVectorEnv",
    "Bandit",
    "BanditBernoulli",
    "BanditBernoulliEnv",
    "BanditBernoulliParams",
    "BanditBernoulliVectorEnv",
    "BanditDrifting",
    "BanditDriftingEnv",
    "BanditDriftingParams",
    "BanditDriftingVectorEnv",
    "BanditEnv",
    "BanditParams",
    "BanditVectorEnv",
    "BlockingMaze",
    "BlockingMazeEnv",
    "BlockingMazeParams",
    "BlockingMazeVectorEnv",
    "CartPoleContinuous",
    "CartPoleContinuousEnv",
    "CartPoleContinuousParams",
    "CartPoleContinuousVectorEnv",
    "ChangingMaze",
    "Drift",
    "DriftEnv",
    "DriftParams",
    "DriftVectorEnv",
    "Drone",
    "DroneEnv",
    "DroneObstacles",
    "DroneObstaclesEnv",
    "DroneObstaclesParams",
    "DroneObstaclesVectorEnv",
    "DroneParams",
    "DroneQuad",
    "DroneQuadEnv",
    "DroneQuadParams",
    "DroneQuadVectorEnv",
    "DroneVectorEnv",
    "DynaMaze",
    "DynaMazeEnv",
    "DynaMazeVectorEnv",
    "Maze",
    "MazeParams",
    "Noise",
    "NoiseSizes",
    "Optimum",
    "Params",
    "ShortcutMaze",
    "ShortcutMazeEnv",
    "ShortcutMazeParams",
    "ShortcutMazeVectorEnv",
    "Task",
    "TaskEnv",
    "TaskVectorEnv",
    "draw",
]
