"""Dyna-Q and Dyna-Q+: tabular Q-learning from real and from remembered steps (Sutton and Barto 2018, chapter 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from mbrl_gym.errors import InvalidSettingError

from .base import ModelBasedAgent, derived_seed
from .tabular.model import OutcomeModel
from .tabular.numbers import check_choices, check_table
from .tabular.policy import EXPLORATIONS, TablePolicy
from .tabular.updates import learn, plan

__all__ = ["DynaQ", "DynaQPlus"]

Array = np.ndarray[Any, Any]

MODELS = ("counts", "latest")


class DynaQ(ModelBasedAgent):
    """Dyna-Q (Sutton 1990; Sutton and Barto 2018, section 8.2): Q-learning from real and from remembered steps.

    Every real step updates Q(s, a), is remembered, and is followed by `planning_steps` updates from remembered
    outcomes: of a state drawn from those visited, and one of the actions tried there. With `planning_steps=0` it is
    Q-learning. Steps that are cut off (truncated) go on in what is learned; those that terminate do not.

    Observations and actions may be Discrete or MultiDiscrete. Gymnasium's `DiscretizeObservation` and
    `DiscretizeAction` make such of bounded Box ones; how much is lost depends on the bins.

    Args:
        policy: How to explore while learning: "epsilon-greedy", or "UCB" (Sutton and Barto, equation 2.10, in every
            state). Equally good actions are drawn at random.
        env: Environment, its id, or a `VecEnv`. Of several environments all learn the same table.
        planning_steps: Updates from remembered outcomes after each real step.
        learning_rate: Step size alpha of all updates, in (0, 1], or a function of the remaining progress (1 to 0).
        gamma: Discount, in [0, 1].
        model: What is remembered of each (state, action). "counts": all outcomes, drawn in proportion to how often
            they were seen, for stochastic environments. "latest": the last outcome only, as in the book, for
            environments that change. Where nothing is random and nothing changes both are the same.
        expected_updates: Whether planning updates use the mean of all remembered outcomes rather than one drawn.
        exploration_final_eps: Probability of a random action.
        exploration_initial_eps: Probability of a random action at first; the same as `exploration_final_eps` if None.
        exploration_fraction: Fraction of the training in which the probability falls from the initial to the final one.
        ucb_coefficient: Coefficient c of "UCB".
        initial_value: All action values at first; high ones make the agent try everything.
        stats_window_size: Episodes over which the logger averages.
        tensorboard_log: Folder for TensorBoard.
        monitor_wrapper: Whether to wrap the environment in a `Monitor`.
        verbose: 0 is silent, 1 prints the log.
        seed: Seeds everything that is random; the global generators are neither used nor changed.
        device: For compatibility; tables are on the processor.

    Raises:
        InvalidSettingError: A setting out of its range.
        UnsupportedSpaceError: A space that is not Discrete or MultiDiscrete, or too large.
    """

    policy: TablePolicy

    def __init__(
        self,
        policy: str,
        env: GymEnv | str | None,
        *,
        planning_steps: int = 10,
        learning_rate: float | Schedule = 0.1,
        gamma: float = 0.99,
        model: str = "counts",
        expected_updates: bool = False,
        exploration_final_eps: float = 0.1,
        exploration_initial_eps: float | None = None,
        exploration_fraction: float = 0.1,
        ucb_coefficient: float = 1.0,
        initial_value: float = 0.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        monitor_wrapper: bool = True,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self.arguments = {
            "policy": policy,
            "planning_steps": planning_steps,
            "learning_rate": learning_rate,
            "gamma": gamma,
            "model": model,
            "expected_updates": expected_updates,
            "exploration_final_eps": exploration_final_eps,
            "exploration_initial_eps": exploration_initial_eps,
            "exploration_fraction": exploration_fraction,
            "ucb_coefficient": ucb_coefficient,
            "initial_value": initial_value,
            "stats_window_size": stats_window_size,
            "tensorboard_log": tensorboard_log,
            "monitor_wrapper": monitor_wrapper,
            "verbose": verbose,
            "seed": seed,
        }
        _check(self.arguments)
        initial = exploration_final_eps if exploration_initial_eps is None else exploration_initial_eps
        self.exploration_schedule = LinearSchedule(initial, exploration_final_eps, exploration_fraction)
        self.planning_steps, self.expected_updates = planning_steps, expected_updates
        self._latest = model == "latest"
        super().__init__(
            TablePolicy,
            env,  # type: ignore[arg-type]  # None is for load, as in Stable-Baselines3's own algorithms
            learning_rate=learning_rate,
            buffer_size=0,  # there is none: the model remembers
            learning_starts=0,
            gamma=gamma,
            train_freq=1,
            gradient_steps=-1,  # as many as steps were made
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device="cpu",
            support_multi_env=True,
            monitor_wrapper=monitor_wrapper,
            seed=seed,
            sde_support=False,
        )
        if self._vec_normalize_env is not None or isinstance(self.env, VecNormalize):
            raise InvalidSettingError("tables need nothing normalised: leave out VecNormalize")
        if _init_setup_model:
            self._setup_model()

    @property
    def q_values(self) -> Array:
        """The action values Q(s, a), `[S, A]`, of observations and actions in the order of their numbers; read-only.

        The values of MultiDiscrete spaces are numbered with the last choice running fastest.
        """
        values = self.policy.values.view()
        values.flags.writeable = False
        return values

    @property
    def outcome_model(self) -> OutcomeModel:
        """What is remembered of the environment."""
        return self.policy.model

    @property
    def exploration_rate(self) -> float:
        """Probability of a random action at present."""
        return self.policy.exploration_rate

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Wrap an environment, or refuse its spaces by name before Stable-Baselines3 does."""
        check_choices("observation", env.observation_space)
        check_choices("action", env.action_space)
        check_table(env.observation_space, env.action_space)
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.policy = TablePolicy(
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            exploration=self.arguments["policy"],
            exploration_rate=self.exploration_schedule(1.0),
            ucb_coefficient=self.arguments["ucb_coefficient"],
            initial_value=self.arguments["initial_value"],
            seed=derived_seed(self.seed, "exploration"),
        )
        self._generator = np.random.default_rng(derived_seed(self.seed, "planning"))
        self._convert_train_freq()

    def _setup_learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Any:
        if total_timesteps < 1:
            raise InvalidSettingError(f"total_timesteps must be at least 1, but {total_timesteps} was given")
        result = super()._setup_learn(total_timesteps, *args, **kwargs)
        # Schedules go on where a resumed run is; Stable-Baselines3 tells them after the first step only.
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        self._on_step()
        return result

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        """Return actions for the environments, and their numbers."""
        numbers = self.policy.choose(self.policy.states.number(self._last_obs))
        return self.policy.action_rows[numbers], numbers

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: Array,
        new_obs: Any,
        reward: Array,
        dones: Array,
        infos: list[dict[str, Any]],
    ) -> None:
        """Learn from the steps of all environments; there is no buffer."""
        if not np.isfinite(reward).all():
            raise InvalidSettingError(f"rewards must be finite, but the environment gave {reward}")
        numbers = self.policy.states.number
        following, terminated = np.array(new_obs), dones.astype(np.bool_)
        for row in np.flatnonzero(dones):  # whose new observation is the next episode's first
            following[row] = infos[row]["terminal_observation"]
            terminated[row] = not infos[row].get("TimeLimit.truncated", False)
        steps = (numbers(self._last_obs), buffer_action, reward.astype(np.float64), numbers(following), terminated)
        self._learn(steps)
        self._last_obs = new_obs
        self._last_episode_starts = dones.copy()

    def _on_step(self) -> None:
        self.policy.exploration_rate = self.exploration_schedule(self._current_progress_remaining)

    @property
    def _alpha(self) -> float:
        return self.lr_schedule(self._current_progress_remaining)

    def _learn(self, steps: tuple[Array, Array, Array, Array, Array]) -> None:
        """Learn from N states, actions, rewards, next states, and whether the episode terminated."""
        outcomes = self.policy.model.with_room(len(steps[0]))
        learn(outcomes, self.policy.values, steps, self._alpha, self.gamma, self._latest)

    def train(self, gradient_steps: int, batch_size: int = 0) -> None:
        """Plan: `planning_steps` updates for each of `gradient_steps` real steps (`batch_size` plays no role)."""
        if self.planning_steps:
            self._plan(gradient_steps * self.planning_steps)

    def _plan(self, updates: int, kappa: float = 0.0, untried: bool = False) -> None:
        plan(
            self.policy.model.outcomes,
            self.policy.values,
            updates,
            self._alpha,
            self.gamma,
            self.expected_updates,
            kappa,
            untried,
            self._generator,
        )
        self._n_updates += updates

    def dump_logs(self) -> None:
        """Write the log."""
        if self.arguments["policy"] == "epsilon-greedy":
            self.logger.record("rollout/exploration_rate", self.exploration_rate)
        self.logger.record("train/learning_rate", self._alpha)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        sizes = self.policy.model.sizes
        for name in ("states", "pairs", "outcomes"):
            self.logger.record(f"model/{name}", sizes[name])
        super().dump_logs()

    # Files ------------------------------------------------------------------------------------------------------

    def _buffer_state(self) -> dict[str, Any]:
        return {}

    def _restore_buffer(self, state: dict[str, Any]) -> None:
        pass

    def save_replay_buffer(self, path: Any) -> None:
        """Refuse: there is no replay buffer, and `save` stores the model.

        Raises:
            InvalidSettingError: Always.
        """
        raise InvalidSettingError(f"{type(self).__name__} has no replay buffer: save stores what it remembers")

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Refuse: there is no replay buffer, and `load` brings the model.

        Raises:
            InvalidSettingError: Always.
        """
        raise InvalidSettingError(f"{type(self).__name__} has no replay buffer: load brings what it remembers")

    def _extra_state(self) -> dict[str, Any]:
        return {"model": self.policy.model.state()}

    def _restore_extra(self, state: dict[str, Any]) -> None:
        self.policy.model.restore(state["model"])

    def _extra_resume_state(self) -> dict[str, Any]:
        return {
            "exploration_generator": self.policy.generator.bit_generator.state,
            "planning_generator": self._generator.bit_generator.state,
        }

    def _restore_extra_resume(self, state: dict[str, Any]) -> None:
        self.policy.generator.bit_generator.state = state["exploration_generator"]
        self._generator.bit_generator.state = state["planning_generator"]


class DynaQPlus(DynaQ):
    """Dyna-Q+ (Sutton 1990; Sutton and Barto 2018, section 8.3): Dyna-Q that looks again where it was long ago.

    Planning updates add kappa sqrt(tau) to the reward of an action that was not tried for tau steps (of all
    environments together), and consider all actions of visited states: those never tried lead back to the state with
    reward 0, and tau counts from the beginning.

    Args:
        policy: As for `DynaQ`.
        env: As for `DynaQ`.
        kappa: Weight of the bonus, at least 0, in units of reward.
        model: As for `DynaQ`; "latest" by default, since this agent is for environments that change.
        **settings: The other settings of `DynaQ`.

    Raises:
        InvalidSettingError: A setting out of its range.
        UnsupportedSpaceError: A space that is not Discrete or MultiDiscrete, or too large.
    """

    def __init__(
        self, policy: str, env: GymEnv | str | None, *, kappa: float = 1e-3, model: str = "latest", **settings: Any
    ) -> None:
        if not 0 <= kappa < float("inf"):
            raise InvalidSettingError(f"kappa must be at least 0 and finite, but {kappa} was given")
        self.kappa = kappa
        super().__init__(policy, env, model=model, **settings)
        self.arguments["kappa"] = kappa

    def _plan(self, updates: int, kappa: float = 0.0, untried: bool = False) -> None:
        super()._plan(updates, self.kappa, untried=True)


def _check(given: dict[str, Any]) -> None:
    """Refuse settings out of their ranges."""
    rate, initial = given["learning_rate"], given["exploration_initial_eps"]
    ranges: Sequence[tuple[str, bool, str]] = (
        ("policy", given["policy"] in EXPLORATIONS, f"one of {', '.join(EXPLORATIONS)}"),
        ("model", given["model"] in MODELS, f"one of {', '.join(MODELS)}"),
        ("planning_steps", given["planning_steps"] >= 0, "at least 0"),
        ("learning_rate", callable(rate) or 0 < rate <= 1, "in (0, 1], or a function"),
        ("gamma", 0 <= given["gamma"] <= 1, "in [0, 1]"),
        ("exploration_final_eps", 0 <= given["exploration_final_eps"] <= 1, "in [0, 1]"),
        ("exploration_initial_eps", initial is None or 0 <= initial <= 1, "in [0, 1], or None"),
        ("exploration_fraction", 0 < given["exploration_fraction"] <= 1, "in (0, 1]"),
        ("ucb_coefficient", 0 <= given["ucb_coefficient"] < float("inf"), "at least 0 and finite"),
        ("initial_value", abs(given["initial_value"]) < float("inf"), "finite"),
    )
    for name, right, allowed in ranges:
        if not right:
            raise InvalidSettingError(f"{name} must be {allowed}, but {given[name]!r} was given")
