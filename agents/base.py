"""The seam to Stable-Baselines3: seeding, files and exact resume for agents that learn a world model."""

from __future__ import annotations

import collections
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Self

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv

import mbrl_gym
from mbrl_gym.errors import DamagedFileError, InvalidSettingError
from mbrl_gym.models.saved import (
    FilePath,
    Saved,
    load_tensors,
    read_archive,
    space_from_json,
    space_to_json,
    storable,
    write_archive,
)

from .replay import buffer_state, restore_buffer
from .resume import restore_env, snapshot_env

__all__ = ["ModelBasedAgent", "published_task"]

COUNTERS = ("num_timesteps", "_episode_num", "_n_updates")


class ModelBasedAgent(Saved, OffPolicyAlgorithm):
    """An off-policy algorithm of Stable-Baselines3 that never touches the global random generators.

    Subclasses name their constructor's keyword arguments in `self.arguments`: the JSON values among them are stored
    in files; callables and models are marked there and have to be passed again at `load`.
    """

    arguments: dict[str, Any]
    _stored_task: dict[str, Any] | None = None  # where `load` finds the task of an environment that is not given

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed this agent's action space and its environment (the latter only if the seed is not None)."""
        self.action_space.seed(derived_seed(seed, "actions"))
        if seed is not None and self.env is not None:
            self.env.seed(seed)

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray[Any, Any],
        new_obs: Any,
        reward: np.ndarray[Any, Any],
        dones: np.ndarray[Any, Any],
        infos: list[dict[str, Any]],
    ) -> None:
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        self._last_episode_starts = dones.copy()  # Stable-Baselines3 keeps this up to date on-policy only

    # Files ------------------------------------------------------------------------------------------------------

    def save(  # type: ignore[override]
        self, path: FilePath, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """Save the agent.

        Args:
            path: File (".zip" is added if it has no suffix) or binary stream.
            exclude: For compatibility with Stable-Baselines3; nothing can be left out.
            include: `["replay_buffer"]` also stores the buffer, the generators and the environment's state, so that
                `load` followed by `learn(..., reset_num_timesteps=False)` equals an uninterrupted run, bit for bit on
                CPU. Environments without `get_state` start a new episode instead.

        Raises:
            InvalidSettingError: Something else to include or exclude.
        """
        unknown = [*(exclude or []), *(name for name in include or [] if name != "replay_buffer")]
        if unknown:
            raise InvalidSettingError(f'save can include "replay_buffer" and exclude nothing, not {unknown}')
        self._write(path, self._saved_state(resume=bool(list(include or []))))

    @classmethod
    def load(  # type: ignore[override]
        cls,
        path: FilePath,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        *,
        force_reset: bool = False,
        custom_objects: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load an agent; no code in the file is run.

        Args:
            path: File or binary stream that `save` wrote.
            env: Environment to go on in; not needed for `predict`.
            device: Where to compute.
            force_reset: Start a new episode even if the file holds the environment's state.
            custom_objects: As with Stable-Baselines3: replace arguments by their names; names of none are ignored.
            **kwargs: Constructor arguments that replace the stored ones. Callables and model objects are not stored
                and have to be passed again.

        Raises:
            DamagedFileError: Truncated, corrupted, or not an agent of this class.
            InvalidSettingError: An argument that was not stored and is missing; names it.
        """
        arguments, state = cls._read(path)
        try:
            observation_space = space_from_json(state["observation_space"])
            action_space = space_from_json(state["action_space"])
            not_stored = state["not_stored"]
            known = {*arguments, *not_stored}
            kwargs = {**{name: value for name, value in (custom_objects or {}).items() if name in known}, **kwargs}
            missing = [name for name in not_stored if name not in kwargs]
            stored_task = state["task"]
        except (KeyError, TypeError) as error:
            raise DamagedFileError(f"the file is not complete: {error} is missing") from error
        if missing:
            raise InvalidSettingError(
                f"files hold no callables or model objects: pass {', '.join(missing)} to load again"
            )
        arguments = {**arguments, **kwargs, "device": device}
        policy = arguments.pop("policy")
        agent = cls(policy, None, _init_setup_model=False, **arguments)  # type: ignore[arg-type, call-arg]
        agent.observation_space, agent.action_space, agent.n_envs = observation_space, action_space, state["n_envs"]
        agent._stored_task = stored_task
        if env is not None:
            wrapped = cls._wrap_env(env, agent.verbose)
            check_for_correct_spaces(wrapped, observation_space, action_space)
            agent.env, agent.n_envs = wrapped, wrapped.num_envs
        agent._setup_model()
        agent._restore(state, force_reset)
        return agent

    def save_replay_buffer(self, path: Any) -> None:
        """Save the replay buffer's rows, without pickle."""
        assert self.replay_buffer is not None
        write_archive(path, "ReplayBuffer", buffer_state(self.replay_buffer))

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Load rows that `save_replay_buffer` stored, for the same number of environments.

        Raises:
            DamagedFileError: Truncated, corrupted, or not a replay buffer.
        """
        kind, state = read_archive(path)
        if kind != "ReplayBuffer":
            raise DamagedFileError(f"the file holds a {kind}, not a ReplayBuffer")
        assert self.replay_buffer is not None
        restore_buffer(self.replay_buffer, state)

    def _saved_arguments(self) -> dict[str, Any]:
        return {name: value for name, value in self.arguments.items() if storable(value)}

    def _saved_state(self, resume: bool = False) -> dict[str, Any]:
        state: dict[str, Any] = {
            "not_stored": [name for name, value in self.arguments.items() if not storable(value)],
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "n_envs": self.n_envs,
            "task": self._stored_task or _describe_task(self.env),
            "policy": self.policy.state_dict(),
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "extra": self._extra_state(),
        }
        if resume:
            state["resume"] = {
                "replay_buffer": self._buffer_state(),
                "action_generator": self.action_space.np_random.bit_generator.state,
                "env": None if self.env is None else snapshot_env(self.env),
                "last_obs": self._last_obs,
                "last_episode_starts": self._last_episode_starts,
                "episode_infos": list(self.ep_info_buffer or []),
                "successes": list(self.ep_success_buffer or []),
                "extra": self._extra_resume_state(),
            }
        return state

    def _restore(self, state: dict[str, Any], force_reset: bool) -> None:
        try:
            load_tensors(self.policy, state["policy"])
            for name, value in state["counters"].items():
                setattr(self, name, value)
            self._restore_extra(state["extra"])
            resume = state.get("resume")
            if resume is None:
                return
            if self.n_envs != state["n_envs"]:
                raise InvalidSettingError(
                    f"the file's buffer was filled by {state['n_envs']} environments, but {self.n_envs} were given"
                )
            self._restore_buffer(resume["replay_buffer"])
            self.action_space.np_random.bit_generator.state = resume["action_generator"]
            self.ep_info_buffer = collections.deque(resume["episode_infos"], maxlen=self._stats_window_size)
            self.ep_success_buffer = collections.deque(resume["successes"], maxlen=self._stats_window_size)
            self._restore_extra_resume(resume["extra"])
            snapshot = resume["env"]
            if not force_reset and self.env is not None and snapshot is not None and restore_env(self.env, snapshot):
                self._last_obs = resume["last_obs"]
                self._last_episode_starts = resume["last_episode_starts"]
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedFileError(f"the file is not complete: {error}") from error

    def _buffer_state(self) -> dict[str, Any]:
        """Return the replay buffer's rows; agents without one return something empty."""
        assert self.replay_buffer is not None
        return buffer_state(self.replay_buffer)

    def _restore_buffer(self, state: dict[str, Any]) -> None:
        """Restore `_buffer_state`."""
        assert self.replay_buffer is not None
        restore_buffer(self.replay_buffer, state)

    @abstractmethod
    def _extra_state(self) -> dict[str, Any]:
        """Return what a subclass stores in every file."""

    @abstractmethod
    def _restore_extra(self, state: dict[str, Any]) -> None:
        """Restore `_extra_state`."""

    @abstractmethod
    def _extra_resume_state(self) -> dict[str, Any]:
        """Return what a subclass stores for exact resume."""

    @abstractmethod
    def _restore_extra_resume(self, state: dict[str, Any]) -> None:
        """Restore `_extra_resume_state`."""

    # The environment's published task ---------------------------------------------------------------------------

    def _task(self, wanted_for: str) -> Any:
        """Return the task that the environment publishes."""
        task = published_task(self.env) if self.env is not None else _rebuild_task(self._stored_task)
        if task is None:
            raise InvalidSettingError(
                f"{wanted_for} needs an environment that publishes its task, as this package's own do "
                f"({', '.join(mbrl_gym.env_ids())}): give a callable, or learn it"
            )
        return task


def derived_seed(seed: int | None, purpose: str) -> int:
    """Return a seed for one of an agent's generators; fresh entropy if `seed` is None."""
    entropy = None if seed is None else [seed, *purpose.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def published_task(env: VecEnv) -> Any | None:
    """Return the task behind an environment of this package, or None."""
    try:
        return env.get_attr("task")[0]
    except AttributeError:
        return None


def _describe_task(env: VecEnv | None) -> dict[str, Any] | None:
    """Return the id and the constants of the environment's task, if it is one of this package's."""
    if env is None or published_task(env) is None:
        return None
    spec = env.get_attr("spec")[0]
    if spec is None or spec.id not in mbrl_gym.env_ids():
        return None
    ignored = ("render_mode", "width", "height", "num_envs", "vectorization_mode", "autoreset_mode")
    kwargs = {k: v for k, v in spec.kwargs.items() if k not in (*ignored, "max_episode_steps")}
    return {"id": spec.id, "kwargs": kwargs} if storable(kwargs) else None


def _rebuild_task(description: dict[str, Any] | None) -> Any | None:
    if description is None or description["id"] not in mbrl_gym.env_ids():
        return None
    return gym.make(description["id"], **description["kwargs"]).unwrapped.task  # type: ignore[attr-defined]
