"""PPO that learns inside of a world model."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import Transitions, WorldModel
from mbrl_gym.models.base import DynamicsFn, RewardFn, TerminationFn
from mbrl_gym.models.saved import load_tensors
from mbrl_gym.wrappers import ImaginedVectorEnv

from .base import derived_seed
from .imagined_settings import PPO_DEFAULTS, check_actions, check_held_out, check_policy, check_settings
from .inner_training import InnerTraining, train_while_improving
from .learned_model import WorldModelAgent
from .member_check import MemberCheck, held_out_by_default, split_members
from .optimizers import optimizer_state, restore_optimizer
from .streams import RandomStreams
from .vec_env import as_sb3_vec_env

__all__ = ["ImaginedPPO"]

Array = np.ndarray[Any, Any]

MOMENTS = ("mean", "var", "count")  # of returns


class ImaginedPPO(WorldModelAgent):
    """PPO in episodes that a world model imagines: ME-TRPO (Kurutach et al. 2018, algorithm 2) with PPO as optimiser.

    The first `learning_starts` steps are random. From then on, every `train_freq` steps, a round begins: the model is
    fitted to all real transitions, and Stable-Baselines3's PPO trains inside of it, from all recorded observations.
    After every `check_freq` updates, each of the held-out members of the ensemble, in which the policy never trains,
    says whether the policy earns more in it than before (in episodes from the first observations of real ones). Where
    fewer than `improved_share` of them say so, `patience` times in a row, the round ends: what the policy learns from
    there on is no longer about the environment. The last policy that passed acts until the next round.

    Steps, callbacks and schedules count real steps. After each round the log tells, beside Stable-Baselines3's own
    figures, the model's losses (`model/`), the return that the held-out members expect of the policy before and after
    the round (`imagined/return_before`, `imagined/return`; `rollout/ep_rew_mean` is the real one), the share of them
    that saw an improvement in the last check, updates and imagined steps, and the seconds that fitting, imagining,
    updates and checks took (`time/`).

    Args:
        policy: "MlpPolicy", "MultiInputPolicy" (for Dict observations), or a class derived from `ActorCriticPolicy`.
        env: Environment, its id, or a `VecEnv`.
        model: "ensemble", "mlp", "linear", "gp" or "tabular" (learned; the last for choices only), "exact" (the task's
            own equations), or a `WorldModel`. One that is no ensemble checks the policy that trains in it.
        model_kwargs: Settings of the learned model.
        ppo_kwargs: Settings of Stable-Baselines3's `PPO`; `n_steps` is 64, `batch_size` 256, `learning_rate` 1e-3 and
            `gae_lambda` 0.9 by default.
        policy_kwargs: Settings of the policy.
        dynamics: "learned", "exact" (the task's own, without its noise), or a function of tensors; see `MPC`.
        reward: "learned", "exact" (the task's published reward), or a function of tensors; see `MPC`.
        termination: "learned", "cautious", "exact", or a function of tensors; see `MPC`.
        learning_starts: Random steps before the first round.
        train_freq: Steps of each environment between rounds.
        buffer_size: Real transitions that are remembered.
        normalize_reward: Whether PPO sees imagined rewards in units of the returns' standard deviation, as
            Stable-Baselines3's `VecNormalize` scales them.
        imagined_envs: Episodes that are imagined side by side.
        horizon: Steps after which an imagined episode is truncated; by default the environment's own time limit.
        updates: Most updates of PPO a round, each of them after `n_steps` imagined steps a row.
        check_freq: Updates between checks.
        check_episodes: Episodes that each member imagines in a check.
        improved_share: Least share of the held-out members in which a policy must have improved.
        patience: Checks in a row that must fail until a round ends.
        held_out: Members of the ensemble that check the policy and in which it never trains; two of five by default.
            With 0, those in which it trains check it, as in the paper.
        stats_window_size: Episodes over which the logger averages.
        tensorboard_log: Folder for TensorBoard.
        monitor_wrapper: Whether to wrap the environment in a `Monitor`.
        verbose: 0 is silent, 1 prints the log.
        seed: Seeds everything that is random; the global generators are neither used nor changed.
        device: "auto", "cpu", "cuda", ...

    Raises:
        InvalidSettingError: A setting out of its range.
        UnsupportedSpaceError: A space that the model or Stable-Baselines3's policies cannot handle.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = PPO.policy_aliases
    policy: ActorCriticPolicy

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str | None,
        *,
        model: str | WorldModel = "ensemble",
        model_kwargs: dict[str, Any] | None = None,
        ppo_kwargs: dict[str, Any] | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        dynamics: str | DynamicsFn = "learned",
        reward: str | RewardFn = "learned",
        termination: str | TerminationFn = "learned",
        learning_starts: int = 500,
        train_freq: int = 500,
        buffer_size: int = 100_000,
        normalize_reward: bool = True,
        imagined_envs: int = 32,
        horizon: int | None = None,
        updates: int = 50,
        check_freq: int = 5,
        check_episodes: int = 50,
        improved_share: float = 0.7,
        patience: int = 3,
        held_out: int | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        monitor_wrapper: bool = True,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self.check_model_arguments(model, dynamics=dynamics, reward=reward, termination=termination)
        check_policy(policy)
        self.arguments = {
            "policy": policy,
            "model": model,
            "model_kwargs": model_kwargs,
            "ppo_kwargs": ppo_kwargs,
            "policy_kwargs": policy_kwargs,
            "dynamics": dynamics,
            "reward": reward,
            "termination": termination,
            "learning_starts": learning_starts,
            "train_freq": train_freq,
            "buffer_size": buffer_size,
            "normalize_reward": normalize_reward,
            "imagined_envs": imagined_envs,
            "horizon": horizon,
            "updates": updates,
            "check_freq": check_freq,
            "check_episodes": check_episodes,
            "improved_share": improved_share,
            "patience": patience,
            "held_out": held_out,
            "stats_window_size": stats_window_size,
            "tensorboard_log": tensorboard_log,
            "monitor_wrapper": monitor_wrapper,
            "verbose": verbose,
            "seed": seed,
        }
        check_settings(self.arguments)
        self.ppo_settings = {**PPO_DEFAULTS, **(ppo_kwargs or {})}
        self.imagined_timesteps = self.rounds = 0
        self._imagined_returns = RunningMeanStd(shape=())
        self._log_interval: int | None = 1
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]  # None is for load, as in Stable-Baselines3's own algorithms
            learning_rate=self.ppo_settings["learning_rate"],
            buffer_size=buffer_size,
            learning_starts=learning_starts - 1,  # Stable-Baselines3 trains after more steps than that
            gamma=self.ppo_settings["gamma"],
            train_freq=train_freq,
            policy_kwargs=copy.copy(policy_kwargs),
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
        return self._world_model

    def _setup_model(self) -> None:
        check_actions(self.action_space)
        self._world_model = self._make_model().to(self.device)
        held_out = self.arguments["held_out"]
        self.held_out = held_out_by_default(self.world_model) if held_out is None else held_out
        check_held_out(self.world_model, self.held_out)
        if self.env is not None:
            self._horizon()
        self.streams = RandomStreams(derived_seed(self.seed, "streams"), self.device)
        with self.streams:
            super()._setup_model()
            self.ppo = self._make_ppo()

    def _make_ppo(self) -> PPO:
        """Return the optimiser of this agent's policy; its environment changes with every round."""
        ppo = PPO(
            self.policy_class,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            policy_kwargs=copy.copy(self.arguments["policy_kwargs"]),
            device=self.device,
            _init_setup_model=False,
            **self.ppo_settings,
        )
        ppo.observation_space, ppo.action_space = self.observation_space, self.action_space
        ppo.n_envs = self.arguments["imagined_envs"]
        ppo._setup_model()
        ppo.policy = self.policy
        return ppo

    def _horizon(self) -> int:
        if self.arguments["horizon"] is not None:
            return self.arguments["horizon"]
        spec = None if self.env is None else self.env.get_attr("spec")[0]
        limit = None if spec is None else spec.max_episode_steps
        if limit is None:
            raise InvalidSettingError("the environment has no time limit that it tells of: give horizon")
        return limit

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Return the policy's actions for one observation or a batch, and the state that it was given.

        If not deterministic, they are drawn from this agent's own stream.
        """
        with self.streams:
            return super().predict(observation, state, episode_start, deterministic)

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 1,
        tb_log_name: str = "ImaginedPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn.

        Args:
            total_timesteps: Real steps, of all environments together.
            callback: Called at every real step.
            log_interval: Rounds between logs; None for none.
            tb_log_name: Name of the run for TensorBoard.
            reset_num_timesteps: Whether the steps are counted from 0 on.
            progress_bar: Whether to show one.
        """
        self._log_interval = log_interval
        return super().learn(total_timesteps, callback, None, tb_log_name, reset_num_timesteps, progress_bar)  # type: ignore[arg-type]

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        if self.num_timesteps < self.arguments["learning_starts"]:
            action = np.array([self.action_space.sample() for _ in range(n_envs)])
        else:
            assert self._last_obs is not None
            action, _ = self.predict(self._last_obs)
        if not isinstance(self.action_space, spaces.Box):
            return action, action
        low, high = self.action_space.low, self.action_space.high
        return action, 2.0 * (action - low) / np.where(high > low, high - low, 1.0) - 1.0

    def train(self, gradient_steps: int = 1, batch_size: int = 0) -> None:
        """Do a round: fit the model, and train the policy inside (the arguments are Stable-Baselines3's and unused)."""
        data = self.recorded()
        self.fit_model(data)
        with self.streams:
            self._improve_policy(data)
        self.rounds += 1
        if self._log_interval is not None and self.rounds % self._log_interval == 0:
            self.dump_logs()

    def _improve_policy(self, data: Transitions) -> None:
        """Train the policy until the members that judge it say that it no longer improves."""
        training, judging = split_members(self.world_model, self.held_out)
        seeds = np.random.randint(2**31, size=2)  # noqa: NPY002  # this agent's own stream
        arguments, horizon = self.arguments, self._horizon()
        judge = MemberCheck(judging, first_observations(data), horizon, arguments["check_episodes"], int(seeds[0]))
        dream = ImaginedVectorEnv(training, data, arguments["imagined_envs"], horizon, autoreset_mode="SameStep")
        self.ppo.env = self._scaled(as_sb3_vec_env(dream))
        self.ppo.env.seed(int(seeds[1]))
        self.ppo.set_logger(self.logger)
        self.ppo._current_progress_remaining, self.ppo._n_updates = self._current_progress_remaining, self._n_updates
        settings = {name: arguments[name] for name in ("updates", "check_freq", "improved_share", "patience")}
        done = train_while_improving(self.ppo, judge, **settings)
        self._n_updates = self.ppo._n_updates
        self.imagined_timesteps += self.ppo.num_timesteps
        self._log_round(done)

    def _scaled(self, env: VecEnv) -> VecEnv:
        """Return an environment whose rewards are divided by the deviation of all returns imagined so far."""
        if not self.arguments["normalize_reward"]:
            return env
        scaled = VecNormalize(env, norm_obs=False, gamma=self.gamma)
        scaled.ret_rms = self._imagined_returns
        return scaled

    def _log_round(self, done: InnerTraining) -> None:
        self.logger.record("imagined/return_before", float(done.before.mean()))
        self.logger.record("imagined/return", float(done.after.mean()))
        self.logger.record("imagined/improved_share", done.improved)
        self.logger.record("imagined/updates", done.updates)
        self.logger.record("imagined/timesteps", self.imagined_timesteps)
        self.logger.record("time/imagine_seconds", done.imagine_seconds)
        self.logger.record("time/update_seconds", done.update_seconds)
        self.logger.record("time/check_seconds", done.check_seconds)

    def _extra_state(self) -> dict[str, Any]:
        return {
            "world_model": self.world_model.state_dict(),
            "optimizer": optimizer_state(self.policy.optimizer),
            "imagined_timesteps": self.imagined_timesteps,
            "imagined_returns": {name: float(getattr(self._imagined_returns, name)) for name in MOMENTS},
            "rounds": self.rounds,
        }

    def _restore_extra(self, state: dict[str, Any]) -> None:
        load_tensors(self.world_model, state["world_model"])
        restore_optimizer(self.policy.optimizer, state["optimizer"])
        for name in MOMENTS:
            setattr(self._imagined_returns, name, np.float64(state["imagined_returns"][name]))
        self.imagined_timesteps, self.rounds = state["imagined_timesteps"], state["rounds"]

    def _extra_resume_state(self) -> dict[str, Any]:
        generator = self.world_model.generator
        return {
            "streams": self.streams.state(),
            "model_generator": None if generator is None else generator.get_state(),
        }

    def _restore_extra_resume(self, state: dict[str, Any]) -> None:
        self.streams.restore(state["streams"])
        if self.world_model.generator is not None:
            self.world_model.generator.set_state(state["model_generator"])


def first_observations(data: Transitions) -> Array:
    """Return the first recorded observation of each episode, `[M, O]`."""
    return data.observation[np.unique(data.episode, return_index=True)[1]]
