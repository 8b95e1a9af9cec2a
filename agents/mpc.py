"""Model-predictive control with a learned world model, and PETS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import LEARNED_MODELS, ExactModel, WorldModel, exact_dynamics
from mbrl_gym.models.base import DynamicsFn, RewardFn, TerminationFn, check_action_space, check_observation_space
from mbrl_gym.wrappers import Decision

from .base import ModelBasedAgent, derived_seed
from .planning import PLANNERS, Plan, Planner
from .planning.evaluation import imagine
from .replay import transitions

EXPLORATION_MEMORY = 0.85  # coefficient of the exploration noise

__all__ = ["MPC", "PETS", "PlannerPolicy"]


class PlannerPolicy(BasePolicy):
    """A policy that plans with a world model; its recurrent state is the last `Plan`.

    Args:
        observation_space: Flat `Box`.
        action_space: What the planner takes.
        lr_schedule: Not used; part of Stable-Baselines3's signature.
        world_model: Predicts the consequences of actions.
        planner: Searches for the best plan.
        seed: Seeds the planner's random numbers.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        world_model: WorldModel,
        planner: Planner,
        seed: int,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.world_model, self.planner = world_model, planner
        self.seed_planning(seed)

    def seed_planning(self, seed: int) -> None:
        """Seed the planner's random numbers."""
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)

    def plan(self, observation: Tensor, previous: Plan | None = None, deterministic: bool = False) -> Plan:
        """Plan for the observations `[N, O]`.

        Args:
            observation: Where to start.
            previous: The last plans for the same rows.
            deterministic: Draw from a fresh generator, so that the call neither disturbs training nor depends on
                earlier calls; otherwise from this policy's own one.
        """
        generator = torch.Generator().manual_seed(self.seed) if deterministic else self.generator
        return self.planner.plan(self.world_model, observation, previous, generator)

    def predict(
        self,
        observation: np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]],
        state: tuple[np.ndarray[Any, Any], ...] | None = None,
        episode_start: np.ndarray[Any, Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray[Any, Any], tuple[np.ndarray[Any, Any], ...] | None]:
        """Return the first actions of new plans, and the plans.

        Args:
            observation: `[N, O]` or `[O]`.
            state: The plans that the last call returned, or None.
            episode_start: `[N]` bool; plans of rows where an episode starts are dropped.
            deterministic: See `plan`.
        """
        self.set_training_mode(False)
        tensor, vectorized = self.obs_to_tensor(observation)
        previous = None if state is None else Plan(*(torch.as_tensor(part, device=self.device) for part in state))
        if previous is not None and episode_start is not None:
            started = torch.as_tensor(np.asarray(episode_start, np.bool_), device=self.device)
            previous = previous._replace(warm=previous.warm & ~started)
        plan = self.plan(tensor, previous, deterministic)  # type: ignore[arg-type]
        arrays = Plan(*(part.cpu().numpy() for part in plan))
        action = arrays.actions[:, 0].astype(self.action_space.dtype)
        return (action if vectorized else action[0]), arrays

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return self.plan(observation, None, deterministic).actions[:, 0]  # type: ignore[arg-type]


class MPC(ModelBasedAgent):
    """Model-predictive control: learn a world model, plan with it, act, and repeat.

    The first `learning_starts` steps are random; from then on every action is the first one of a new plan, and the
    model is fitted to all transitions every `train_freq` steps.

    Args:
        policy: The planner: "iCEM", "CEM" or "RandomShooting".
        env: Environment, its id, or a `VecEnv`.
        model: "ensemble", "mlp", "linear" or "gp" (learned), "exact" (the task's own equations), or a `WorldModel`.
        model_kwargs: Settings of the learned model.
        planner_kwargs: Settings of the planner.
        dynamics: "learned", "exact" (the task's own, without its noise), or a function of tensors
            (observation `[..., O]`, action `[..., A]`) -> next observation `[..., O]`.
        reward: "learned", "exact" (the task's published reward), or a function of tensors
            (observation `[..., O]`, action `[..., A]`, next observation) -> reward `[...]`.
        termination: "learned", "exact", or a function: next observation `[..., O]` -> bool `[...]`.
        learning_starts: Random steps before the first fit.
        train_freq: Steps of each environment between fits.
        buffer_size: Transitions that are remembered.
        exploration: Standard deviation of the noise added to actions while learning, relative to half the action
            range. The noise is a first-order autoregressive process with coefficient 0.85, since slow noise reaches
            more states. `predict` is free of it.
        stats_window_size: Episodes over which the logger averages.
        tensorboard_log: Folder for TensorBoard.
        monitor_wrapper: Whether to wrap the environment in a `Monitor`.
        verbose: 0 is silent, 1 prints the log.
        seed: Seeds everything that is random; the global generators are neither used nor changed.
        device: "auto", "cpu", "cuda", ...

    Raises:
        InvalidSettingError: A setting out of its range.
        UnsupportedSpaceError: A space that the model or the planner cannot handle.
    """

    policy: PlannerPolicy

    def __init__(
        self,
        policy: str,
        env: GymEnv | str | None,
        *,
        model: str | WorldModel = "ensemble",
        model_kwargs: dict[str, Any] | None = None,
        planner_kwargs: dict[str, Any] | None = None,
        dynamics: str | DynamicsFn = "learned",
        reward: str | RewardFn = "learned",
        termination: str | TerminationFn = "learned",
        learning_starts: int = 100,
        train_freq: int = 50,
        buffer_size: int = 100_000,
        exploration: float = 0.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        monitor_wrapper: bool = True,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        if policy not in PLANNERS:
            raise InvalidSettingError(f"the planner must be one of {', '.join(PLANNERS)}, but {policy!r} was given")
        if not isinstance(model, WorldModel) and model not in (*LEARNED_MODELS, "exact"):
            raise InvalidSettingError(
                f"model must be one of {', '.join(LEARNED_MODELS)}, exact, or a WorldModel, but {model!r} was given"
            )
        for name, value in (("dynamics", dynamics), ("reward", reward), ("termination", termination)):
            if not callable(value) and value not in ("learned", "exact"):
                raise InvalidSettingError(f'{name} must be "learned", "exact" or a function, but {value!r} was given')
        if exploration < 0:
            raise InvalidSettingError(f"exploration must be at least 0, but {exploration} was given")
        if learning_starts < 2:
            raise InvalidSettingError(f"learning_starts must be at least 2, but {learning_starts} was given")
        self.arguments = {
            "policy": policy,
            "model": model,
            "model_kwargs": model_kwargs,
            "planner_kwargs": planner_kwargs,
            "dynamics": dynamics,
            "reward": reward,
            "termination": termination,
            "learning_starts": learning_starts,
            "train_freq": train_freq,
            "buffer_size": buffer_size,
            "exploration": exploration,
            "stats_window_size": stats_window_size,
            "tensorboard_log": tensorboard_log,
            "monitor_wrapper": monitor_wrapper,
            "verbose": verbose,
            "seed": seed,
        }
        self.exploration = exploration
        self._plan: tuple[np.ndarray[Any, Any], ...] | None = None
        self._noise: np.ndarray[Any, Any] | None = None  # [n_envs, A] state of the exploration noise
        super().__init__(
            PlannerPolicy,
            env,  # type: ignore[arg-type]  # None is for load, as in Stable-Baselines3's own algorithms
            learning_rate=0.0,  # the world model has its own
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            train_freq=train_freq,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            monitor_wrapper=monitor_wrapper,
            seed=seed,
            sde_support=False,
        )
        if self.env is not None:
            if not isinstance(check_observation_space(self.observation_space), spaces.Box):
                raise UnsupportedSpaceError(
                    f"planners take flat Box observations, but the observation space is {self.observation_space}; "
                    "gymnasium.wrappers.FlattenObservation turns Dict, Tuple and Discrete observations into one"
                )
            check_action_space(self.action_space)
            if self._vec_normalize_env is not None or isinstance(self.env, VecNormalize):
                raise InvalidSettingError("world models normalise inside: leave out VecNormalize")
        if _init_setup_model:
            self._setup_model()

    @property
    def world_model(self) -> WorldModel:
        """The world model."""
        return self.policy.world_model

    @property
    def planner(self) -> Planner:
        """The planner."""
        return self.policy.planner

    @torch.inference_mode()
    def decide(self, observation: np.ndarray[Any, Any], state: Any = None, episode_start: Any = None) -> Decision:
        """Decide as `predict(..., deterministic=True)` does, and tell what the model expects of the plan.

        `plans` are means over particles: of the plan, then of the elites that the planner keeps for its next search.
        `particles` are those that the planner averages over: members of an ensemble, or samples. Observations after a
        predicted termination are NaN.

        Args:
            observation: One observation `[O]`.
            state: The plan of the last decision.
            episode_start: `[1]` bool.
        """
        action, plan = self.predict(observation, state, episode_start, deterministic=True)
        assert isinstance(plan, Plan)
        elites = self.planner.to_environment(torch.as_tensor(plan.elites[0]))
        actions = torch.cat((torch.as_tensor(plan.actions), elites)).to(self.device)
        start, objective = torch.as_tensor(observation, device=self.device), self.planner.objective
        generator = torch.Generator().manual_seed(self.policy.seed)
        draws = objective.draw(self.world_model, self.planner.horizon, generator, self.device)
        paths = imagine(self.world_model, start, actions, objective, draws).cpu().numpy()
        return Decision(action, plan, paths.mean(0), paths[:, 0] if len(paths) > 1 else None)

    def _setup_model(self) -> None:
        planner = PLANNERS[self.arguments["policy"]]
        self.policy_kwargs = {
            "world_model": self._make_model(),
            "planner": planner(self.action_space, **(self.arguments["planner_kwargs"] or {})),
            "seed": derived_seed(self.seed, "planning"),
        }
        super()._setup_model()

    def _make_model(self) -> WorldModel:
        model = self.arguments["model"]
        functions = {
            "dynamics_fn": self._function("dynamics", exact_dynamics),
            "reward_fn": self._function("reward", lambda task: task.reward),
            "termination_fn": self._function("termination", lambda task: task.terminal),
        }
        given = {name: function for name, function in functions.items() if function is not None}
        if (model == "exact" or isinstance(model, ExactModel)) and "dynamics_fn" in given:
            raise InvalidSettingError('dynamics replaces those of a learned model, but model="exact" was given')
        if model == "exact":
            return ExactModel(self._task('model="exact"'), **given)
        if isinstance(model, WorldModel):
            for name, function in given.items():
                setattr(model, name, function)
            return model
        return LEARNED_MODELS[model](
            self.observation_space,
            self.action_space,
            **given,
            **{"seed": derived_seed(self.seed, "model"), **(self.arguments["model_kwargs"] or {})},
        )

    def _function(self, argument: str, of_task: Callable[[Any], Any]) -> Any:
        """Return the function that replaces a learned part of the model, or None."""
        given = self.arguments[argument]
        if given == "exact":
            return of_task(self._task(f'{argument}="exact"'))
        return given if callable(given) else None

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        if self.num_timesteps < learning_starts:
            action = np.array([self.action_space.sample() for _ in range(n_envs)])
        else:
            if not self.world_model.fitted:  # Stable-Baselines3 trains after a rollout only
                self.train()
            assert self._last_obs is not None
            action, self._plan = self.policy.predict(self._last_obs, self._plan, self._last_episode_starts)
        if not isinstance(self.action_space, spaces.Box):
            return action, action
        scaled = self.policy.scale_action(action)
        if self.exploration and self.num_timesteps >= learning_starts:
            scaled = np.clip(scaled + self._exploration_noise(n_envs), -1, 1)
            action = self.policy.unscale_action(scaled)
        return action, scaled

    def _exploration_noise(self, n_envs: int) -> np.ndarray[Any, Any]:
        """Advance the exploration noise `[n_envs, A]` of the scaled actions."""
        white = torch.randn((n_envs, *self.action_space.shape), generator=self.policy.generator).numpy()  # type: ignore[misc]
        before = white if self._noise is None else self._noise
        self._noise = EXPLORATION_MEMORY * before + (1 - EXPLORATION_MEMORY**2) ** 0.5 * white
        return self.exploration * self._noise

    def train(self, gradient_steps: int = 1, batch_size: int = 0) -> None:
        """Fit the model to all transitions (the arguments are Stable-Baselines3's and play no role)."""
        assert self.replay_buffer is not None
        report = self.world_model.fit(transitions(self.replay_buffer, self.policy))
        self._n_updates += report.gradient_steps
        self.logger.record("model/transitions", report.transitions)
        self.logger.record("model/epochs", report.epochs)
        self.logger.record("model/loss", report.loss)
        if report.holdout_loss:
            self.logger.record("model/holdout_loss", float(np.mean(report.holdout_loss)))
        self.logger.record("time/fit_seconds", report.seconds)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._setup_learn(*args, **kwargs)
        assert self._last_episode_starts is not None
        if self._last_episode_starts.all():
            self._plan = None
        return result

    def _extra_state(self) -> dict[str, Any]:
        return {"planning_seed": self.policy.seed}

    def _restore_extra(self, state: dict[str, Any]) -> None:
        self.policy.seed_planning(state["planning_seed"])

    def _extra_resume_state(self) -> dict[str, Any]:
        generator = self.world_model.generator
        return {
            "planning_generator": self.policy.generator.get_state(),
            "model_generator": None if generator is None else generator.get_state(),
            "plan": self._plan,
            "noise": self._noise,
        }

    def _restore_extra_resume(self, state: dict[str, Any]) -> None:
        self.policy.generator.set_state(state["planning_generator"])
        if self.world_model.generator is not None:
            self.world_model.generator.set_state(state["model_generator"])
        self._plan = None if state["plan"] is None else Plan(*state["plan"])
        self._noise = state["noise"]


class PETS(MPC):
    """PETS (Chua et al. 2018): MPC with CEM over a probabilistic ensemble under TS-infinity.

    The same as `MPC` with the paper's settings as defaults: 20 particles that sample the model's noise, 400
    candidates, 40 elites, 5 iterations, horizon 25, and a fit every `train_freq` steps.
    """

    def __init__(
        self,
        policy: str = "CEM",
        env: GymEnv | str | None = None,
        *,
        planner_kwargs: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        defaults = {"particles": 20, "noise": True, "horizon": 25}
        super().__init__(policy, env, planner_kwargs={**defaults, **(planner_kwargs or {})}, **settings)
