"""A vector environment that rewards what a model does not know yet."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from mbrl_gym.models.base import WorldModel, check_same_spaces
from mbrl_gym.wrappers.curiosity import Curiosity, Kind
from mbrl_gym.wrappers.vector.record import reader_of, with_told

__all__ = ["CuriosityReward"]


class CuriosityReward(VectorWrapper[Any, Any, Any, Any, Any]):
    """Adds a bonus for what a model does not know yet, or for new places: reward + scale * bonus.

    See `mbrl_gym.wrappers.CuriosityReward`: the same keys of `info` hold arrays `[N]`, each with the mask
    (`_curiosity`) of the copies that took a step.

    Args:
        env: A vector environment of NumPy arrays, with the single spaces of the model.
        model: The model; None for `kind="counts"` and `kind="distillation"`, which need none.
        scale: Weight of the bonus.
        kind: "disagreement", "error", "counts" or "distillation"; the copies visit places together.
        normalise: Whether to divide the bonus by the root mean square of the discounted sums of all bonuses so far.
        seed: Seeds the networks of "distillation".

    Raises:
        InvalidSettingError: A setting out of its range, or a model of other spaces.
        UnsupportedSpaceError: Spaces that models do not take.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        model: WorldModel | None,
        scale: float = 1.0,
        kind: Kind = "disagreement",
        normalise: bool = False,
        seed: int = 0,
    ) -> None:
        if model is not None:
            check_same_spaces(env, model.observation_space, model.action_space)
        super().__init__(env)
        self.model, self.scale = model, scale
        self._reader = reader_of(env)
        self._curiosity = Curiosity(model, env.single_observation_space, env.num_envs, kind, normalise, seed)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all copies, or in those of `options["reset_mask"]`."""
        mask = (options or {}).get("reset_mask")  # which environments remove from the options
        observations, infos = self.env.reset(seed=seed, options=options)
        self._reader.start(observations, mask)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advance all copies by one step, and add the bonuses to their rewards."""
        expected = self._curiosity.expect(self._reader.observation, self._reader.actions(actions))
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        transitions, rows = self._reader.step(actions, observations, rewards, terminations, truncations, infos)
        told = {"extrinsic_reward": rewards[rows], "curiosity": self._curiosity.bonus(expected, transitions, rows)}
        infos = with_told(infos, told, rows, terminations | truncations)
        dtype = np.result_type(rewards, np.float32)
        rewards = (rewards + self.scale * infos["curiosity"]).astype(dtype)
        return observations, rewards, terminations, truncations, infos
