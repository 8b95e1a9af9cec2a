"""Model-based reinforcement learning on Gymnasium and Stable-Baselines3.

Importing this package registers its tasks with Gymnasium and nothing more: neither torch nor pygame is loaded.
"""

import gymnasium as gym

from mbrl_gym.errors import MbrlGymError
from mbrl_gym.scores import Reference, reference, score

__all__ = ["MbrlGymError", "Reference", "__version__", "env_ids", "reference", "score"]

__version__ = "0.1.0"

_FAMILIES = {
    # id: (module, class prefix, steps an episode)
    "mbrl/Drift-v0": ("drift", "Drift", 100),
    "mbrl/Arm-v0": ("arm", "Arm", 50),
    "mbrl/ArmSparse-v0": ("arm_sparse", "ArmSparse", 50),
    "mbrl/ArmPickPlace-v0": ("arm_pick_place", "ArmPickPlace", 50),
    "mbrl/ArmTorque-v0": ("arm_torque", "ArmTorque", 100),
    "mbrl/Drone-v0": ("drone", "Drone", 100),
    "mbrl/DroneObstacles-v0": ("drone_obstacles", "DroneObstacles", 100),
    "mbrl/DroneQuad-v0": ("drone_quad", "DroneQuad", 250),
    "mbrl/CartPoleContinuous-v0": ("cartpole", "CartPoleContinuous", 200),
    "mbrl/DynaMaze-v0": ("maze", "DynaMaze", 10000),
    "mbrl/BlockingMaze-v0": ("maze_changing", "BlockingMaze", 10000),
    "mbrl/ShortcutMaze-v0": ("maze_changing", "ShortcutMaze", 10000),
    "mbrl/Bandit-v0": ("bandit", "Bandit", 1000),
    "mbrl/BanditBernoulli-v0": ("bandit_bernoulli", "BanditBernoulli", 1000),
    "mbrl/BanditDrifting-v0": ("bandit_drifting", "BanditDrifting", 10000),
}


def env_ids() -> tuple[str, ...]:
    """Return the ids of the tasks that this package registers with Gymnasium.

    Beside them there is "mbrl/Imagined-v0", which imagines whatever its argument `model` predicts.
    """
    return tuple(_FAMILIES)


for _id, (_module, _prefix, _steps) in _FAMILIES.items():
    gym.register(
        _id,
        entry_point=f"mbrl_gym.envs.{_module}:{_prefix}Env",
        vector_entry_point=f"mbrl_gym.envs.{_module}:{_prefix}VectorEnv",
        max_episode_steps=_steps,
    )

gym.register(
    "mbrl/Imagined-v0",
    entry_point="mbrl_gym.wrappers.imagined:ImaginedEnv",
    vector_entry_point="mbrl_gym.wrappers.imagined:ImaginedVectorEnv",
)
