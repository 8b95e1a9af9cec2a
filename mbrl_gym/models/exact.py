"""The exact model of a fully observed task."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.base import DynamicsFn, FitReport, Prediction, RewardFn, TerminationFn, Transitions, WorldModel
from mbrl_gym.noise import Noise, NoiseSizes

__all__ = ["ExactModel", "exact_dynamics"]


class PureTask(Protocol):
    """The part of a task that its exact model calls."""

    fully_observed: Any
    observation_space: spaces.Box | spaces.Discrete
    action_space: spaces.Box | spaces.Discrete
    transition_noise: NoiseSizes

    def transition(self, state: Any, action: Any, noise: Noise) -> Any: ...

    def observation(self, state: Any) -> Any: ...

    def reward(self, observation: Any, action: Any, next_observation: Any) -> Any: ...

    def terminal(self, next_observation: Any) -> Any: ...

    def state(self, observation: Any) -> Any: ...


class ExactModel(WorldModel):
    """A task's own equations as a world model: nothing to learn, no model error.

    Args:
        task: A fully observed task, e.g. `gym.make("mbrl/Arm-v0").unwrapped.task`.
        reward_fn: Replaces the task's reward.
        termination_fn: Replaces the task's termination.

    Raises:
        UnsupportedSpaceError: The task hides a part of its state.
    """

    def __init__(
        self, task: PureTask, *, reward_fn: RewardFn | None = None, termination_fn: TerminationFn | None = None
    ) -> None:
        _check_fully_observed(task)
        super().__init__(
            task.observation_space,
            task.action_space,
            reward_fn=task.reward if reward_fn is None else reward_fn,
            termination_fn=task.terminal if termination_fn is None else termination_fn,
        )
        self.arguments = {"task": task, "reward_fn": reward_fn, "termination_fn": termination_fn}
        self.task = task
        self.noise_sizes = task.transition_noise

    def start(self, observation: Tensor, particles: int = 1) -> tuple[Tensor, Tensor]:
        """Return the task's states `[P, N, S]` and their observations `[P, N, O]`."""
        self.check_particles(particles)
        states = self.task.state(observation)
        own = (-1,) * (1 + len(self.encode_observation.event_shape))
        return states.expand(particles, -1, -1), observation.expand(particles, *own)

    def step(self, state: tuple[Tensor, Tensor], action: Tensor, noise: Noise | None = None) -> Prediction:
        """Advance the task; without noise, its random numbers are 0 (normal) and 0.5 (uniform)."""
        current, before = state
        if noise is None:
            noise = _central_noise(current, self.noise_sizes)
        action = self.over_particles(action, current.shape[0])
        if action.is_floating_point():
            action = action.to(current.dtype)  # as environments do
        following = self.task.transition(current, action, noise)
        observation = self.task.observation(following)
        assert self.reward_fn is not None
        assert self.termination_fn is not None
        return Prediction(
            (following, observation),
            observation,
            self.reward_fn(before, action, observation),
            self.termination_fn(observation),
        )

    @classmethod
    def _from_file(
        cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], arguments: dict[str, Any]
    ) -> ExactModel:
        model = cls(**arguments)
        if model.observation_space != observation_space or model.action_space != action_space:
            raise InvalidSettingError(
                f"the model was saved for {observation_space} and {action_space}, but the task has "
                f"{model.observation_space} and {model.action_space}"
            )
        return model

    def fit(self, transitions: Transitions) -> FitReport:
        """Learn nothing: the model is exact."""
        return FitReport(len(transitions.reward), 0, 0, 0.0, (), (0,), 0.0)

    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return zeros `[N]`."""
        return torch.zeros(observation.shape[0], device=observation.device)


def exact_dynamics(task: PureTask) -> DynamicsFn:
    """Return a task's dynamics without its noise, as a function that a learned model takes for `dynamics_fn`.

    Raises:
        UnsupportedSpaceError: The task hides a part of its state.
    """
    _check_fully_observed(task)

    def dynamics(observation: Tensor, action: Tensor) -> Tensor:
        state = task.state(observation)
        return task.observation(task.transition(state, action, _central_noise(state, task.transition_noise)))

    return dynamics


def _central_noise(state: Tensor, sizes: NoiseSizes) -> Noise:
    """Return zeros for normal numbers and halves for uniform ones, for states `[..., S]`."""
    ones = (1,) * (state.ndim - 1)
    return Noise(state.new_zeros((*ones, sizes.normal)), state.new_full((*ones, sizes.uniform), 0.5))


def _check_fully_observed(task: PureTask) -> None:
    if not task.fully_observed:
        raise UnsupportedSpaceError(
            f"exact dynamics need a fully observed task, but {type(task).__name__} hides a part of its state: "
            "learn a model of it instead"
        )
