"""Callbacks for Stable-Baselines3's `learn`."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import ModelReport, Transitions, WorldModel, evaluate_model

from .base import ModelBasedAgent
from .collect import random_transitions

__all__ = ["EvaluateModelCallback", "ResumableCheckpointCallback", "WorldModelCallback"]


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
        if self.due():
            self._saved_at = self.model.num_timesteps
            path = self.path.replace("{steps}", str(self._saved_at))
            self.write(path)
            if self.verbose:
                print(f"Saved a checkpoint at {self._saved_at} steps to {path}")

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.model.num_timesteps - self._saved_at >= self.every

    def write(self, path: str) -> None:
        """Write a checkpoint."""
        self.model.save(path, include=["replay_buffer"])

    def _on_step(self) -> bool:
        return True


class WorldModelCallback(BaseCallback):
    """Judges a world model between rollouts: from its first fit on, every so many steps, and when training ends.

    Args:
        every: Environment steps between judgements, at least.
        model: The world model; that of the agent (`agent.world_model`) by default.
        verbose: 1 prints each judgement.

    Raises:
        InvalidSettingError: `every` is less than 1; or, when training starts, the agent has no world model.
    """

    def __init__(self, every: int, model: WorldModel | None = None, verbose: int = 0) -> None:
        super().__init__(verbose)
        if every < 1:
            raise InvalidSettingError(f"every must be at least 1 step, but {every} was given")
        self.every = every
        self._given = model
        self._judged_at = 0

    @property
    def world_model(self) -> WorldModel:
        """The model that is judged."""
        return self.model.world_model if self._given is None else self._given  # type: ignore[attr-defined]

    @abstractmethod
    def judge(self) -> dict[str, float]:
        """Return figures by the names under which they are logged."""

    def _on_training_start(self) -> None:
        if self._given is None and not isinstance(getattr(self.model, "world_model", None), WorldModel):
            raise InvalidSettingError(
                f"{type(self.model).__name__} has no world model: pass model= to {type(self).__name__}"
            )
        self._judged_at = self.num_timesteps

    def _on_rollout_start(self) -> None:
        self._judge_if_due()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self._judge_if_due(at_least=1)

    def _judge_if_due(self, at_least: int | None = None) -> None:
        steps = self.model.num_timesteps
        if steps - self._judged_at < (at_least or self.every) or not self.world_model.fitted:
            return
        self._judged_at = steps
        for name, value in self.judge().items():
            self.logger.record(name, value)
        self.logger.record("time/total_timesteps", steps, exclude="tensorboard")
        self.logger.dump(steps)


class EvaluateModelCallback(WorldModelCallback):
    """Logs how good the world model is while an agent trains: the figures of a `ModelReport` under "model_eval/".

    Training goes on as it would without: no random number of the agent or its environment is used. `reports` keeps
    all reports with their steps.

    Args:
        every: Environment steps between evaluations, at least.
        held_out: Transitions to compare with, or an environment (one of its own, or an id) that gives them by random
            actions.
        steps: Random steps to take in `held_out`, if it is an environment.
        model: The world model; that of the agent (`agent.world_model`) by default.
        seed: Seeds the random steps and the choice of windows.
        verbose: 1 prints each report.
        **settings: Of `evaluate_model`: `horizons`, `starts`, `particles`, `levels`.

    Raises:
        InvalidSettingError: A setting out of its range; or, when training starts, the agent has no world model.
        UnsupportedSpaceError: A space of the environment that models do not take.
    """

    def __init__(
        self,
        every: int,
        held_out: Transitions | gym.Env[Any, Any] | str,
        *,
        steps: int = 1000,
        model: WorldModel | None = None,
        seed: int = 0,
        verbose: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(every, model, verbose)
        self.transitions = held_out if isinstance(held_out, Transitions) else random_transitions(held_out, steps, seed)
        self.settings = {**settings, "seed": seed}
        self.reports: list[tuple[int, ModelReport]] = []

    def judge(self) -> dict[str, float]:
        """Evaluate the model."""
        report = evaluate_model(self.world_model, self.transitions, **self.settings)
        self.reports.append((self.model.num_timesteps, report))
        if self.verbose:
            print(f"The world model after {self.model.num_timesteps} steps:\n{report.table()}")
        return {f"model_eval/{name}": value for name, value in report.as_dict().items()}
