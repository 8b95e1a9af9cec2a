"""The algorithms of this package in RL Baselines3 Zoo: importing this module registers them.

    python -m mbrl_gym.agents.zoo train --algo mpc --env mbrl/Arm-v0 -conf mpc.yml

is `python -m rl_zoo3.train` that knows them; `enjoy` likewise.
"""

from __future__ import annotations

import importlib
import sys

from stable_baselines3.common.base_class import BaseAlgorithm

import mbrl_gym  # noqa: F401  # registers the environments
from mbrl_gym.errors import MissingPackageError

from .dyna_q import DynaQ, DynaQPlus
from .imagined_ppo import ImaginedPPO
from .mbpo import MBPO, DynaDQN, DynaTD3
from .mcts import MCTS
from .mpc import MPC, PETS
from .prioritized_sweeping import PrioritizedSweeping

__all__ = ["ZOO", "main", "register"]

ZOO: dict[str, type[BaseAlgorithm]] = {
    "mpc": MPC,
    "pets": PETS,
    "mcts": MCTS,
    "mbpo": MBPO,
    "dyna_td3": DynaTD3,
    "dyna_dqn": DynaDQN,
    "imagined_ppo": ImaginedPPO,
    "dyna_q": DynaQ,
    "dyna_q_plus": DynaQPlus,
    "prioritized_sweeping": PrioritizedSweeping,
}
"""The algorithms, by the names that `--algo` takes."""


COMMANDS = ("train", "enjoy")


def register() -> None:
    """Add the algorithms to `rl_zoo3.ALGOS`.

    Raises:
        MissingPackageError: RL Baselines3 Zoo is not installed.
    """
    try:
        from rl_zoo3 import ALGOS
    except ImportError as error:
        raise MissingPackageError(f'this needs rl_zoo3: pip install "mbrl-gym[zoo]" ({error})') from error
    ALGOS.update(ZOO)


def main() -> None:
    """Run `train` or `enjoy` of RL Baselines3 Zoo."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command not in COMMANDS:
        sys.exit(f"usage: python -m mbrl_gym.agents.zoo {{{','.join(COMMANDS)}}} ... (--help tells more)")
    del sys.argv[1]
    getattr(importlib.import_module(f"rl_zoo3.{command}"), command)()


register()

if __name__ == "__main__":
    main()
