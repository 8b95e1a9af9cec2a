"""Callbacks for Stable-Baselines3's `learn`."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback

from mbrl_gym.errors import InvalidSettingError

from .base import ModelBasedAgent

__all__ = ["ResumableCheckpointCallback"]


class ResumableCheckpointCallback(BaseCallback):
    """Saves the agent with its buffer, so that a killed run can be resumed exactly where the file was written.

    It saves between rollouts (Stable-Baselines3's own `CheckpointCallback` saves within a step, before the step's
    transition is stored). Each file is written under a temporary name first: a crash leaves the last one intact.
    Resume with `agent = MPC.load(path, env)` and `agent.learn(remaining_steps, reset_num_timesteps=False)`.

    Args:
        path: The file; each checkpoint replaces the one before. With `{steps}` in it, every checkpoint gets its own.
        every: Environment steps between checkpoints, at least.
        verbose: 1 prints each save.
    """

    def __init__(self, path: str | Path, every: int = 1000, verbose: int = 0) -> None:
        super().__init__(verbose)
        if every < 1:
            raise InvalidSettingError(f"every must be at least 1 step, but {every} was given")
        self.path, self.every = str(path), every
        self._saved_at = 0

    def _on_training_start(self) -> None:
        if not isinstance(self.model, ModelBasedAgent):
            raise InvalidSettingError(
                f"{type(self).__name__} saves agents of this package, not {type(self.model).__name__}: "
                "use stable_baselines3.common.callbacks.CheckpointCallback"
            )
        self._saved_at = self.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps - self._saved_at >= self.every:
            self._saved_at = self.model.num_timesteps
            path = self.path.replace("{steps}", str(self._saved_at))
            self.model.save(path, include=["replay_buffer"])
            if self.verbose:
                print(f"Saved a checkpoint at {self._saved_at} steps to {path}")

    def _on_step(self) -> bool:
        return True
