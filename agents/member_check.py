"""How well a policy does in each member of a world model."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from mbrl_gym.models import GaussianEnsemble, WorldModel
from mbrl_gym.wrappers import ImaginedVectorEnv
from mbrl_gym.wrappers.imagined import StartStates

from .streams import RandomStreams

__all__ = ["MemberCheck", "held_out_by_default", "split_members"]

Array = np.ndarray[Any, Any]


class MemberCheck:
    """Returns of policies in every member of a model apart, which ME-TRPO stops by (Kurutach et al. 2018, algorithm 2).

    All policies meet the same starts, the same noise of the model and the same random numbers for their actions, so
    that two of them differ by what they do.

    Args:
        model: An ensemble, or any other model, which counts as one member.
        start_states: Where episodes start; see `ImaginedVectorEnv`.
        horizon: Steps after which they are truncated.
        episodes: How many each member imagines.
        seed: Seeds all that is random.
    """

    def __init__(self, model: WorldModel, start_states: StartStates, horizon: int, episodes: int, seed: int) -> None:
        self._env = ImaginedVectorEnv(model, start_states, model.particle_unit * episodes, horizon)
        self._episodes, self._seed = episodes, seed

    def __call__(self, policy: BasePolicy) -> Array:
        """Return the policy's mean return `[E]` in each member, with the actions that it draws."""
        observation, _ = self._env.reset(seed=self._seed)
        member = self._env.get_state()["slots"] // self._episodes  # there are no spare places
        total, running = np.zeros(len(member)), np.ones(len(member), np.bool_)
        with RandomStreams(self._seed, policy.device):
            while running.any():
                action, _ = policy.predict(observation)
                observation, reward, terminated, truncated, _ = self._env.step(action)
                total += np.where(running, reward, 0.0)
                running &= ~(terminated | truncated)
        return np.bincount(member, total) / self._episodes


def split_members(model: WorldModel, held_out: int) -> tuple[WorldModel, WorldModel]:
    """Return the members in which a policy may train, and the last `held_out` ones, which judge it.

    If none are held out, both are the whole model.
    """
    if not held_out:
        return model, model
    assert isinstance(model, GaussianEnsemble)
    members = model.elite_members.tolist()
    return model.subset(members[:-held_out]), model.subset(members[-held_out:])


def held_out_by_default(model: WorldModel) -> int:
    """Return how many members to hold out: two of five, none where there is only one."""
    return 2 * model.elites // 5 if isinstance(model, GaussianEnsemble) else 0
