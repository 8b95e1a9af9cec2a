"""Model-predictive control with a learned world model, and PETS."""

from __future__ import annotations

import collections
import time
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import GymEnv

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import WorldModel
from mbrl_gym.models.base import DynamicsFn, RewardFn, TerminationFn, as_tensor
from mbrl_gym.models.saved import load_tensors
from mbrl_gym.wrappers import Decision
from mbrl_gym.wrappers.visits import CELLS

from .base import derived_seed
from .construction import build
from .exploration import CuriousPlans, Exploration
from .fitted_value import FittedValue
from .learned_model import WorldModelAgent, check_choice
from .planner_policy import PlannerPolicy
from .planning import PLANNERS, Plan, Planner
from .planning.evaluation import CostFn, ValueFn, imagine
from .replay import arrivals
from .values import value_function

DECISIONS = 1000  # the latest ones, whose times are kept

__all__ = ["MPC", "PETS", "PlannerPolicy"]


class MPC(WorldModelAgent):
    """Model-predictive control: learn a world model, plan with it, act, and repeat.

    The first `learning_starts` steps are random; from then on every action is the first one of a new plan, and the
    model is fitted to all transitions every `train_freq` steps. Observations may be flat Box, Discrete, MultiDiscrete,
    or Dict of these; actions flat, bounded Box, Discrete or MultiDiscrete. While it learns, the agent logs the median
    and the 99th percentile of the time that a decision takes (`time/decision_ms_p50`, `time/decision_ms_p99`).

    Args:
        policy: The planner: a name in `PLANNERS` ("iCEM", "CEM", "RandomShooting", "MPPI", ...), or a `Planner`.
        env: Environment, its id, or a `VecEnv`.
        model: "ensemble", "mlp", "linear", "gp" or "tabular" (learned; the last for choices only), "exact" (the task's
            own equations), or a `WorldModel`.
        model_kwargs: Settings of the learned model.
        planner_kwargs: Settings of the planner and of its `Objective`: horizon, population, risk, discount, ...
        dynamics: "learned", "exact" (the task's own, without its noise), or a function of tensors
            (observation `[..., O]`, action `[..., A]`) -> next observation `[..., O]`. In this and the next functions
            Dict observations are joined to one row, in the order of `gymnasium.spaces.flatten`; choices are integers.
        reward: "learned", "exact" (the task's published reward), or a function of tensors
            (observation `[..., O]`, action `[..., A]`, next observation) -> reward `[...]`.
        termination: "learned", "cautious" (learned; imagined episodes also end out of the range of the data, which
            keeps an agent that must stay alive where it knows its way), "exact", or a function: next observation
            `[..., O]` -> bool `[...]`.
        cost: Safety cost that plans must keep at or below `cost_limit` in every step: a function of tensors,
            next observation `[..., O]` -> cost `[...]`, or "exact" (the task's published one, as
            `mbrl/DroneObstacles-v0` has it); None for no limit.
        cost_limit: The limit, in the cost's units.
        value: Return to expect beyond the horizon: "learned" (after each fit of the model, inside it; see
            `FittedValue`), a function of tensors, observation `[..., O]` -> return `[...]`, or an algorithm of
            Stable-Baselines3 with a critic. Its discount should be the planner's (`planner_kwargs={"discount": 0.99}`);
            a learned one takes it from there, and needs one below 1.
        value_kwargs: Settings of a learned value.
        time_budget_ms: Time for a decision [ms], in which the planner returns the best plan that it finds. Runs are
            then not repeatable.
        learning_starts: Random steps before the first fit.
        train_freq: Steps of each environment between fits.
        buffer_size: Transitions that are remembered.
        exploration: How much actions are disturbed while learning. Box: standard deviation of the noise added to them,
            relative to half the action range, from a first-order autoregressive process with coefficient 0.85, since
            slow noise reaches more states. Discrete and MultiDiscrete: share of steps, in [0, 1], in which a random
            action is taken, which is repeated for 6.7 steps on average. `predict` is free of it.
        explore: What plans look for besides the return while learning. With an ensemble: "ucb" (optimism: the mean over
            the members plus `explore_weight` standard deviations), "thompson" (posterior sampling: the plan that is
            best to one member, drawn where an episode starts), "information" (the mean plus `explore_weight` times the
            expected information gain of the steps [nats]). With any model: "counts" (the mean plus `explore_weight` /
            sqrt(n) for each step that leads to a cell of the observation space for the n-th time, earlier steps of the
            plan included). None for the return alone. `predict` is free of it.
        explore_weight: See `explore`.
        explore_cells: Parts into which "counts" cuts a bounded column of the observations; columns without bounds are
            cut into parts of width 0.5, and choices are cells of their own.
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
        policy: str | Planner,
        env: GymEnv | str | None,
        *,
        model: str | WorldModel = "ensemble",
        model_kwargs: dict[str, Any] | None = None,
        planner_kwargs: dict[str, Any] | None = None,
        dynamics: str | DynamicsFn = "learned",
        reward: str | RewardFn = "learned",
        termination: str | TerminationFn = "learned",
        cost: str | CostFn | None = None,
        cost_limit: float = 0.0,
        value: str | ValueFn | BaseAlgorithm | None = None,
        value_kwargs: dict[str, Any] | None = None,
        time_budget_ms: float | None = None,
        learning_starts: int = 100,
        train_freq: int = 50,
        buffer_size: int = 100_000,
        exploration: float = 0.0,
        explore: str | None = None,
        explore_weight: float = 1.0,
        explore_cells: int = CELLS,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        monitor_wrapper: bool = True,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_choice("the planner", policy, PLANNERS, Planner, "a Planner")
        self.check_model_arguments(model, dynamics=dynamics, reward=reward, termination=termination)
        if not callable(cost) and cost not in ("exact", None):
            raise InvalidSettingError(f'cost must be "exact", a function or None, but {cost!r} was given')
        if value != "learned" and not callable(value) and not isinstance(value, BaseAlgorithm | None):
            raise InvalidSettingError(
                f'value must be "learned", a function, an algorithm of Stable-Baselines3 or None, but {value!r} was '
                "given"
            )
        if value_kwargs and value != "learned":
            raise InvalidSettingError(f'value_kwargs are for value="learned", but value={value!r} was given')
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
            "cost": cost,
            "cost_limit": cost_limit,
            "value": value,
            "value_kwargs": value_kwargs,
            "time_budget_ms": time_budget_ms,
            "learning_starts": learning_starts,
            "train_freq": train_freq,
            "buffer_size": buffer_size,
            "exploration": exploration,
            "explore": explore,
            "explore_weight": explore_weight,
            "explore_cells": explore_cells,
            "stats_window_size": stats_window_size,
            "tensorboard_log": tensorboard_log,
            "monitor_wrapper": monitor_wrapper,
            "verbose": verbose,
            "seed": seed,
        }
        self.decision_times_ms: collections.deque[float] = collections.deque(maxlen=DECISIONS)
        self._plan: tuple[np.ndarray[Any, Any], ...] | None = None
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
        self._refuse_normalisation()
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
    def decide(self, observation: Any, state: Any = None, episode_start: Any = None) -> Decision:
        """Decide as `predict(..., deterministic=True)` does, and tell what the model expects of the plan.

        `plans` are means over particles (of integer observations, the first particle's): of the plan, then of the
        elites that the planner keeps for its next search. `particles` are those that the planner averages over: members
        of an ensemble, or samples. Observations after a predicted termination are NaN.

        Args:
            observation: One observation, as the environment gives it.
            state: The plan of the last decision.
            episode_start: `[1]` bool.
        """
        action, plan = self.predict(observation, state, episode_start, deterministic=True)
        assert isinstance(plan, Plan)
        elites = self.planner.to_environment(torch.as_tensor(plan.elites[0]))
        actions = torch.cat((torch.as_tensor(plan.actions), elites)).to(self.device)
        start, objective = self.policy.rows(observation)[0][0], self.planner.objective
        generator = self.policy.generator_of(int(plan.age[0]))
        draws = objective.draw(self.world_model, self.planner.horizon, generator, self.device)
        paths = imagine(self.world_model, start, actions, objective, draws).cpu().numpy()
        expected = paths[0] if self.world_model.encode_observation.chooses else paths.mean(0)
        return Decision(action, plan, expected, paths[:, 0] if len(paths) > 1 else None)

    def _setup_model(self) -> None:
        self._exploration = Exploration(self.action_space, self.arguments["exploration"])
        model = self._make_model()
        self._learned_value = self._make_value(model) if self.arguments["value"] == "learned" else None
        self.policy_kwargs = {
            "world_model": model,
            "planner": self._make_planner(),
            "seed": derived_seed(self.seed, "planning"),
        }
        given = self.arguments["explore"], self.arguments["explore_weight"]
        self._curious = CuriousPlans(*given, model, self.arguments["explore_cells"])
        super()._setup_model()

    def _make_value(self, model: WorldModel) -> FittedValue:
        planner, settings = self.arguments["policy"], self.arguments["planner_kwargs"] or {}
        if isinstance(planner, Planner):
            raise InvalidSettingError(f'value="learned" needs a planner by its name, but {planner!r} was given')
        if "discount" not in settings:
            raise InvalidSettingError(
                'value="learned" needs a discount below 1, as in planner_kwargs={"discount": 0.99}, but planner_kwargs '
                f"was {settings}"
            )
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "value"))
        given = model, self.action_space, settings["discount"], generator
        value = build(FittedValue, "value_kwargs", *given, settings=self.arguments["value_kwargs"] or {})
        return value.to(self.device)

    def _make_planner(self) -> Planner:
        planner, settings = self.arguments["policy"], dict(self.arguments["planner_kwargs"] or {})
        own = {
            "cost": self._cost(),
            "value": self._learned_value or value_function(self.arguments["value"], self.observation_space),
            "time_budget_ms": self.arguments["time_budget_ms"],
        }
        own = {name: given for name, given in own.items() if given is not None}
        if self.arguments["cost_limit"]:
            own["cost_limit"] = self.arguments["cost_limit"]
        twice = own.keys() & settings.keys()
        if twice:
            raise InvalidSettingError(
                f"planner_kwargs repeats the arguments {', '.join(sorted(twice))}: give them once"
            )
        settings |= own
        if "cost_limit" in settings and "cost" not in settings:
            raise InvalidSettingError(
                f'cost_limit={settings["cost_limit"]} limits nothing: give cost, a function or "exact"'
            )
        if not isinstance(planner, Planner):
            return build(PLANNERS[planner], "planner_kwargs", self.action_space, settings=settings)
        if settings:
            raise InvalidSettingError(f"a Planner has its settings: give it {', '.join(settings)}, not the agent")
        if planner.action_space != self.action_space:
            raise InvalidSettingError(
                f"the planner was made for actions {planner.action_space}, but the environment's are "
                f"{self.action_space}"
            )
        return planner

    def _cost(self) -> CostFn | None:
        given = self.arguments["cost"]
        if given != "exact":
            return given
        task = self._task('cost="exact"')
        if not hasattr(task, "cost"):
            raise InvalidSettingError(
                f'cost="exact" needs a task that publishes its safety cost, as that of mbrl/DroneObstacles-v0, but '
                f"{type(task).__name__} has none: give a function of next observations"
            )
        return task.cost

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        planned = self.num_timesteps >= learning_starts
        action = self._planned_action() if planned else np.array([self.action_space.sample() for _ in range(n_envs)])
        if not isinstance(self.action_space, spaces.Box):
            action = self._exploration(action, self.policy.generator) if planned else action
            return action, action
        scaled = self.policy.scale_action(action)
        if planned and self._exploration.amount:
            scaled = self._exploration(scaled, self.policy.generator)
            action = self.policy.unscale_action(scaled)
            assert isinstance(self._plan, Plan)
            self._plan.actions[:, 0] = action  # smoothness counts from the action that was taken
        return action, scaled

    def _planned_action(self) -> np.ndarray[Any, Any]:
        """Return the first actions `[N, ...]` of plans for the environments' present observations."""
        value = self._learned_value
        if not self.world_model.fitted or not (value is None or value.fitted):
            self.train()  # Stable-Baselines3 does after a rollout only
        assert self._last_obs is not None
        assert self._last_episode_starts is not None
        begin, plain = time.perf_counter(), self.planner.objective
        self.planner.objective = self._curious.objective(plain, self._last_episode_starts, self.policy.generator)
        try:
            action, self._plan = self.policy.predict(self._last_obs, self._plan, self._last_episode_starts)
        finally:
            self.planner.objective = plain
        self.decision_times_ms.append(1000 * (time.perf_counter() - begin))
        return action

    def _store_transition(self, replay_buffer: ReplayBuffer, *step: Any) -> None:
        super()._store_transition(replay_buffer, *step)
        self._curious.saw(arrivals(replay_buffer, self.observation_space))

    def dump_logs(self) -> None:
        """Write the log."""
        if self.decision_times_ms:
            for percentile in (50, 99):
                took = float(np.percentile(self.decision_times_ms, percentile))
                self.logger.record(f"time/decision_ms_p{percentile}", took)
        super().dump_logs()

    def train(self, gradient_steps: int = 1, batch_size: int = 0) -> None:
        """Fit the model to all transitions, and the value (the arguments are Stable-Baselines3's and play no role)."""
        data = self.recorded()
        self._n_updates += self.fit_model(data).gradient_steps
        if self._learned_value is not None:
            rows = (as_tensor(part, self.device) for part in (data.observation, data.reward))
            fit = self._learned_value.fit(self.world_model, *rows)
            self.logger.record("value/error", fit.error)
            self.logger.record("value/mean", fit.mean)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._setup_learn(*args, **kwargs)
        assert self._last_episode_starts is not None
        if self._last_episode_starts.all():
            self._plan = None
        return result

    def _extra_state(self) -> dict[str, Any]:
        value = None if self._learned_value is None else self._learned_value.state_dict()
        return {"planning_seed": self.policy.seed, "value": value}

    def _restore_extra(self, state: dict[str, Any]) -> None:
        self.policy.seed_planning(state["planning_seed"])
        if self._learned_value is not None and state.get("value") is not None:
            load_tensors(self._learned_value, state["value"])

    def _extra_resume_state(self) -> dict[str, Any]:
        generator = self.world_model.generator
        return {
            "planning_generator": self.policy.generator.get_state(),
            "model_generator": None if generator is None else generator.get_state(),
            "plan": self._plan,
            "noise": self._exploration.state,
            "curious": self._curious.state(),
            "value_generator": None if self._learned_value is None else self._learned_value.generator.get_state(),
        }

    def _restore_extra_resume(self, state: dict[str, Any]) -> None:
        self.policy.generator.set_state(state["planning_generator"])
        if self.world_model.generator is not None:
            self.world_model.generator.set_state(state["model_generator"])
        self._plan = None if state["plan"] is None else Plan(*state["plan"])
        self._exploration.state = state["noise"]
        self._curious.restore(state["curious"])
        if self._learned_value is not None and state.get("value_generator") is not None:
            self._learned_value.generator.set_state(state["value_generator"])


class PETS(MPC):
    """PETS (Chua et al. 2018): MPC with CEM over a probabilistic ensemble under trajectory sampling.

    The same as `MPC` with the paper's settings as defaults: 20 particles that sample the model's noise, 400
    candidates, 40 elites, 5 iterations, horizon 25, and a fit every `train_freq` steps. Particles stay with their
    member of the ensemble (TS-infinity); `planner_kwargs={"propagation": "TS1"}` gives them another one at every step.
    Discrete actions are searched by CEM over their probabilities.
    """

    def __init__(
        self,
        policy: str | Planner = "CEM",
        env: GymEnv | str | None = None,
        *,
        planner_kwargs: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        if not isinstance(policy, Planner):
            planner_kwargs = {"particles": 20, "noise": True, "horizon": 25, **(planner_kwargs or {})}
        super().__init__(policy, env, planner_kwargs=planner_kwargs, **settings)
