"""Dyna: off-policy algorithms of Stable-Baselines3 learn from imagined transitions beside the real ones."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import LEARNED_MODELS, Transitions, WorldModel
from mbrl_gym.models.base import DynamicsFn, RewardFn, TerminationFn
from mbrl_gym.models.saved import load_tensors

from .base import ModelBasedAgent, derived_seed
from .dyna_figures import branch_figures, fit_figures, one_step_error
from .dyna_settings import check_arguments, check_spaces, own_settings
from .imagination import Imagination, RolloutSchedule
from .mixed_replay import MixedReplayBuffer
from .replay import transitions
from .streams import RandomStreams
from .training_state import noise_state, restore_noise, restore_training, training_state
from .world_models import model_of

__all__ = ["DynaAgent"]

Array = np.ndarray[Any, Any]


class DynaAgent(ModelBasedAgent):
    """Turns an off-policy algorithm of Stable-Baselines3 into its Dyna form, as in `class MBPO(DynaAgent, SAC)`.

    The algorithm acts and learns as it always does, but its minibatches mix real transitions with imagined ones. A
    world model is fitted to all real transitions as soon as learning starts, and every `model_train_freq` steps from
    then on. After each fit, branches of `rollout_length` steps are imagined from states of the replay buffer by the
    current policy (Janner et al. 2019, "MBPO", algorithm 2). Nothing is imagined before the first fit. Where a branch
    is cut off it does not terminate: the value of its last state counts.

    A policy is only as good as the starts it has seen. Where each episode has a goal of its own, train with short real
    episodes (`gym.make(..., max_episode_steps=...)`) and long branches, which go on where the real ones end.

    Without a model (`model=None, real_ratio=1`) it is the algorithm itself, and equals Stable-Baselines3's bit for bit
    from the same seed.

    Observations are flat Boxes of floats. Actions are flat, bounded Boxes, or Discrete: as the algorithm takes them.

    Args:
        policy: As the algorithm's: "MlpPolicy".
        env: Environment, its id, or a `VecEnv`.
        model: "ensemble", "mlp", "linear" or "gp" (learned), "exact" (the task's own equations), a `WorldModel`, or
            None.
        model_kwargs: Settings of the learned model.
        dynamics: "learned", "exact" (the task's own, without its noise), or a function of tensors
            (observation `[..., O]`, action `[..., A]`) -> next observation `[..., O]`.
        reward: "learned", "exact" (the task's published reward), or a function of tensors
            (observation `[..., O]`, action `[..., A]`, next observation) -> reward `[...]`.
        termination: "learned", "cautious" (see `MPC`), "exact", or a function: next observation `[..., O]` -> bool
            `[...]`.
        real_ratio: Share of real transitions in minibatches; their number is rounded to the nearest whole one.
        rollout_length: Steps of a branch: a number, or (shortest, longest, first step, last step), between whose two
            steps of training the length grows linearly.
        rollout_batch: Branches that are imagined at once.
        rollout_freq: Environment steps between refreshes of the imagined transitions; as fits by default.
        rollout_noise: How much imagined actions are disturbed, on top of what the policy draws. Box: standard deviation
            of Gaussian noise, relative to half the action range. Discrete: share of random actions. None is the
            default of the algorithm's Dyna form.
        model_train_freq: Environment steps between fits.
        model_noise: Whether imagined steps are drawn from the model's distribution, or are its mean; without it a "gp"
            imagines many times as fast.
        model_retain: Refreshes whose transitions are learned from; older ones are dropped. With few of them returns
            collapse now and then; the default is what Janner et al. keep, 1,000 steps long.
        max_disagreement: Branches stop where the members of the ensemble disagree by more
            (`WorldModel.uncertainty`, in standard deviations of what they predict); None for no limit.
        disagreement_penalty: What a unit of disagreement takes from an imagined reward.
        seed: Seeds everything that is random, the algorithm as in Stable-Baselines3. The global generators are neither
            used nor changed.
        **settings: Of the algorithm, by its own names and with its own defaults; but where there is a model, those
            in `defaults`: `learning_rate`, `learning_starts`, `train_freq`, `gradient_steps` (every `train_freq`
            steps), `policy_kwargs`, `device`, ...

    Raises:
        InvalidSettingError: A setting out of its range, or one that the algorithm does not have.
        UnsupportedSpaceError: A space that the model or the algorithm cannot handle.
    """

    action_kind: ClassVar[type[spaces.Space[Any]]] = spaces.Box
    """What the algorithm takes."""

    defaults: ClassVar[dict[str, Any]] = {"gradient_steps": 10}
    """Settings of the algorithm that differ from its own defaults where there is a model."""

    attributes: ClassVar[tuple[str, ...]] = ()
    """Numbers that decide how the algorithm goes on, beside those of all off-policy algorithms."""

    replay_buffer: MixedReplayBuffer
    world_model: WorldModel | None

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str | None,
        *,
        model: str | WorldModel | None = "ensemble",
        model_kwargs: dict[str, Any] | None = None,
        dynamics: str | DynamicsFn = "learned",
        reward: str | RewardFn = "learned",
        termination: str | TerminationFn = "learned",
        real_ratio: float = 0.05,
        rollout_length: int | Sequence[int] = 1,
        rollout_batch: int = 10_000,
        rollout_freq: int | None = None,
        rollout_noise: float | None = None,
        model_train_freq: int = 250,
        model_noise: bool = True,
        model_retain: int = 4,
        max_disagreement: float | None = None,
        disagreement_penalty: float = 0.0,
        seed: int | None = None,
        _init_setup_model: bool = True,
        **settings: Any,
    ) -> None:
        given = own_settings(type(self), self.algorithm(), settings)
        settings = {**(self.defaults if model is not None else {}), **given}
        self.arguments = {
            "policy": policy,
            "model": model,
            "model_kwargs": model_kwargs,
            "dynamics": dynamics,
            "reward": reward,
            "termination": termination,
            "real_ratio": real_ratio,
            "rollout_length": rollout_length,
            "rollout_batch": rollout_batch,
            "rollout_freq": rollout_freq,
            "rollout_noise": rollout_noise,
            "model_train_freq": model_train_freq,
            "model_noise": model_noise,
            "model_retain": model_retain,
            "max_disagreement": max_disagreement,
            "disagreement_penalty": disagreement_penalty,
            "seed": seed,
            **{name: value for name, value in settings.items() if name != "device"},  # `load` has its own
        }
        check_arguments(**self.arguments)
        self._schedule = RolloutSchedule.of(rollout_length)
        self.seconds = {"fit": 0.0, "imagine": 0.0, "train": 0.0}  # spent so far
        self.figures: dict[str, float] = {}  # of the last fit and refresh, by the names of the log
        self._fitted_at: int | None = None
        self._imagined_at: int | None = None
        self._noise_to_resume: list[Any] | None = None
        buffer = {
            **(settings.pop("replay_buffer_kwargs", None) or {}),
            "real_ratio": real_ratio,
            "capacity": rollout_batch * self._schedule.longest if real_ratio < 1 else 0,
            "retain": model_retain,
            "seed": derived_seed(seed, "imagined rows"),
        }
        own: dict[str, Any] = {
            "policy_kwargs": dict(settings.pop("policy_kwargs", None) or {}),  # Stable-Baselines3 writes into it
            "replay_buffer_class": MixedReplayBuffer,
            "replay_buffer_kwargs": buffer,
            "_init_setup_model": False,
        }
        super().__init__(policy, env, seed=seed, **settings, **own)  # type: ignore[arg-type]  # None is for load
        if self._vec_normalize_env is not None or isinstance(self.env, VecNormalize):
            raise InvalidSettingError("world models normalise inside: leave out VecNormalize")
        if _init_setup_model:
            self._setup_model()

    @classmethod
    def algorithm(cls) -> type[OffPolicyAlgorithm]:
        """Return the algorithm of Stable-Baselines3 whose Dyna form this is."""
        kinds = (kind for kind in cls.__mro__ if issubclass(kind, OffPolicyAlgorithm))
        return next(kind for kind in kinds if not issubclass(kind, ModelBasedAgent))

    @classmethod
    def _wrap_env(cls, env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Wrap an environment, or refuse its spaces by name before Stable-Baselines3 does."""
        check_spaces(cls.__name__, cls.action_kind, env.observation_space, env.action_space)
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    # Random streams ---------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        self._training = RandomStreams(derived_seed(self.seed, "training"), self.device)
        self._imagining = RandomStreams(derived_seed(self.seed, "imagined actions"), self.device)
        self._predicting = RandomStreams(derived_seed(self.seed, "predictions"), self.device, self.action_space)
        self._generator = torch.Generator().manual_seed(derived_seed(self.seed, "branches"))
        with self._training:
            super()._setup_model()
        self.world_model = None if self.arguments["model"] is None else model_of(self, LEARNED_MODELS).to(self.device)
        given = self.arguments
        self._imagination = Imagination(
            self._imagined_action,
            self._to_model,
            given["max_disagreement"],
            given["disagreement_penalty"],
            given["model_noise"],
        )

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed the algorithm as Stable-Baselines3 does, but its own random streams instead of the global ones."""
        with self._training:
            OffPolicyAlgorithm.set_random_seed(self, seed)

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Return actions as the algorithm does; what is drawn for them neither disturbs training nor the user."""
        if deterministic or self._training.active:  # nothing is drawn, or the agent itself learns
            return super().predict(observation, state, episode_start, deterministic)
        with self._predicting:
            return super().predict(observation, state, episode_start, deterministic)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        with self._training:
            return super()._sample_action(learning_starts, action_noise, n_envs)

    # Learning ---------------------------------------------------------------------------------------------------

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn as Stable-Baselines3's algorithms do; runs are logged under the name of the class by default."""
        name = type(self).__name__ if tb_log_name is None else tb_log_name
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)
        if self._noise_to_resume is not None and not reset_num_timesteps:  # Stable-Baselines3 has reset the noise
            restore_noise(self, self._noise_to_resume)
        self._noise_to_resume = None
        return result

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Fit the model and imagine, if it is time; and take gradient steps as the algorithm does."""
        if self.world_model is not None:
            fits = self._due(self._fitted_at, "model_train_freq") and self._enough_to_fit()
            if fits:
                self._fit(self.world_model)
            if self.replay_buffer.real_ratio < 1 and (fits or self._due(self._imagined_at, "rollout_freq")):
                self._imagine(self.world_model)
        with self._timed("train"), self._training:
            super().train(gradient_steps=gradient_steps, batch_size=batch_size)
        total = sum(self.seconds.values())
        for name, seconds in self.seconds.items():
            self.logger.record(f"time/{name}_share", seconds / total)

    def _due(self, last: int | None, setting: str) -> bool:
        """Whether as many steps as a setting says have passed since the last time, or training began anew."""
        every = self.arguments[setting] or self.arguments["model_train_freq"]
        return last is None or not 0 <= self.num_timesteps - last < every

    def _enough_to_fit(self) -> bool:
        """Whether the buffer holds what was collected before learning started; after a load it may be empty."""
        most = self.replay_buffer.buffer_size * self.n_envs
        return self._real_rows() >= min(max(2, self.learning_starts), most)

    def _real_rows(self) -> int:
        return self.replay_buffer.size() * self.n_envs

    def _fit(self, model: WorldModel) -> None:
        with self._timed("fit"):
            data = transitions(self.replay_buffer, self.policy)
            error = self._error_of_new_steps(model, data)
            report = model.fit(data)
        self._fitted_at = self.num_timesteps
        self._record({"model/new_step_error": error, **fit_figures(report)})

    def _error_of_new_steps(self, model: WorldModel, data: Transitions) -> float:
        """Return the error of the steps since the last fit; NaN if there are too few, or no fit was made."""
        count = 0 if self._fitted_at is None else self.num_timesteps - self._fitted_at
        if count < 2 or not model.fitted:
            return math.nan
        return one_step_error(model, data.rows(slice(-count, None)), self.device)

    def _imagine(self, model: WorldModel) -> None:
        """Refresh the imagined transitions."""
        if not model.fitted:
            return
        imagined = self.replay_buffer.imagined
        with self._timed("imagine"), self._imagining:
            self.policy.set_training_mode(False)
            imagined.refresh()
            length = self._schedule(self.num_timesteps)
            branches = self._imagination(model, self._starts(), length, imagined.add, self._generator)
        self._imagined_at = self.num_timesteps
        self._record(branch_figures(branches, self.replay_buffer))

    def _starts(self) -> Tensor:
        """Draw observations `[rollout_batch, O]` from the real transitions, with replacement."""
        chosen = torch.randint(self._real_rows(), (self.arguments["rollout_batch"],), generator=self._generator)
        row, env = np.divmod(chosen.numpy(), self.n_envs)
        return torch.as_tensor(self.replay_buffer.observations[row, env], dtype=torch.float32, device=self.device)

    def _imagined_action(self, observation: Tensor) -> Tensor:
        """Return the policy's disturbed actions for `[N, O]` as the replay buffer holds them: `[N, A]`, or `[N, 1]`."""
        action, noise = self.policy._predict(observation, deterministic=False), self._rollout_noise()
        if isinstance(self.action_space, spaces.Discrete):
            action = action.view(-1, 1)
            random = torch.rand(action.shape, generator=self._generator).to(self.device) < noise
            other = torch.randint(int(self.action_space.n), action.shape, generator=self._generator).to(self.device)
            return torch.where(random, other, action) if noise else action
        if not noise:
            return action
        drawn = torch.randn(action.shape, generator=self._generator).to(self.device)
        return (action + noise * drawn).clamp(-1.0, 1.0)

    def _rollout_noise(self) -> float:
        return self.arguments["rollout_noise"] or 0.0

    def _to_model(self, action: Tensor) -> Tensor:
        """Return actions `[N, A]` (or `[N, 1]`) of the replay buffer in the environment's units, `[N, A]` or `[N]`."""
        if not isinstance(self.action_space, spaces.Box):
            return action[:, 0].long()
        low, high = (
            torch.as_tensor(end, device=action.device) for end in (self.action_space.low, self.action_space.high)
        )
        return low + 0.5 * (action + 1.0) * (high - low)

    def _record(self, figures: dict[str, float]) -> None:
        self.figures.update(figures)
        for name, figure in figures.items():
            if not math.isnan(figure):
                self.logger.record(name, figure)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begin

    # Files ------------------------------------------------------------------------------------------------------

    def _extra_state(self) -> dict[str, Any]:
        return {
            "training": training_state(self, self.attributes),
            "world_model": None if self.world_model is None else self.world_model.state_dict(),
            "fitted_at": self._fitted_at,
        }

    def _restore_extra(self, state: dict[str, Any]) -> None:
        restore_training(self, state["training"])
        if self.world_model is not None:
            load_tensors(self.world_model, state["world_model"])
        self._fitted_at = state["fitted_at"]

    def _extra_resume_state(self) -> dict[str, Any]:
        model = self.world_model
        return {
            "imagined": self.replay_buffer.imagined.state(),
            "imagined_at": self._imagined_at,
            "streams": [each.state() for each in (self._training, self._imagining, self._predicting)],
            "generator": self._generator.get_state(),
            "noise": noise_state(self),
            "model_generator": None if model is None or model.generator is None else model.generator.get_state(),
        }

    def _restore_extra_resume(self, state: dict[str, Any]) -> None:
        self.replay_buffer.imagined.restore(state["imagined"])
        self._imagined_at, self._noise_to_resume = state["imagined_at"], state["noise"]
        for streams, stored in zip((self._training, self._imagining, self._predicting), state["streams"], strict=True):
            streams.restore(stored)
        self._generator.set_state(state["generator"])
        if self.world_model is not None and self.world_model.generator is not None:
            self.world_model.generator.set_state(state["model_generator"])
