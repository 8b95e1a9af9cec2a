"""The Gymnasium faces over a task: one environment, and many in one array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from mbrl_gym.envs.task import Array, Task, draw
from mbrl_gym.errors import InvalidSettingError

if TYPE_CHECKING:
    from mbrl_gym.envs.rendering import Episode, Renderer

__all__ = ["TaskEnv", "TaskVectorEnv"]


class _TaskFace:
    """What the single and the vector environment share: the task, its settings, and rendering."""

    task_class: ClassVar[type[Task]]
    metadata: dict[str, Any]
    render_mode: str | None

    def _set_up(self, render_mode: str | None, width: int, height: int, params: dict[str, Any]) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise InvalidSettingError(
                f"render_mode must be None or one of {self.metadata['render_modes']}, but {render_mode!r} was given"
            )
        for name, value in (("width", width), ("height", height)):
            if not 16 <= value <= 8192:
                raise InvalidSettingError(f"{name} must be between 16 and 8192 pixels, but {value} was given")
        self.task = self.task_class(**params)
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self.task.render_fps}
        self._size = (int(width), int(height))
        self._renderer: Renderer | None = None
        self._state: Array | None = None
        self._observation: Array | None = None

    def _new_episode(self, state: Array) -> Episode:
        from mbrl_gym.envs.rendering import Episode

        return Episode(self.task, [np.array(state)], [], [])

    def _draw_frame(self, episode: Episode) -> np.ndarray[Any, Any] | None:
        from mbrl_gym.envs.rendering import Renderer

        if self._renderer is None:
            assert self.render_mode is not None
            self._renderer = Renderer(self.render_mode, self._size, self.metadata["render_fps"])
        return self._renderer.draw(episode)

    def _warn_of_no_render_mode(self) -> None:
        gym.logger.warn(
            "render() was called without a render mode: give one when making the environment, "
            'e.g. gym.make("mbrl/Arm-v0", render_mode="rgb_array")'
        )

    def _start_state(self, given: Any, batch: tuple[int, ...]) -> Array:
        """Return `options["state"]` as a batch of states, or refuse it."""
        task = self.task
        try:
            with np.errstate(over="ignore"):
                state = np.asarray(given).astype(task.dtype)
        except (TypeError, ValueError) as error:
            raise InvalidSettingError(f'options["state"] must be numbers, but {given!r} was given') from error
        if state.shape not in ((*batch, task.state_size), (task.state_size,)):
            raise InvalidSettingError(
                f'options["state"] must have shape {(*batch, task.state_size)} '
                f"(columns: {', '.join(task.state_columns)}), but {state.shape} was given"
            )
        state = np.broadcast_to(state, (*batch, task.state_size)).copy()
        if not (np.isfinite(state).all() and task.allows(state)):
            raise InvalidSettingError(
                f'options["state"] must be finite and lead to an observation within {task.observation_space}, '
                f"with all constants in their ranges, but {given!r} was given"
            )
        return state

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_renderer": None}  # a window belongs to its process


def _check_options(options: dict[str, Any] | None, allowed: tuple[str, ...]) -> dict[str, Any]:
    options = options or {}
    for name in options:
        if name not in allowed:
            raise InvalidSettingError(f"reset has no option {name!r}; it has: {', '.join(allowed)}")
    return options


class TaskEnv(_TaskFace, gym.Env[Any, Any]):
    """One environment over `task_class`.

    Args:
        render_mode: None, "human" (a window) or "rgb_array".
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        **params: Parameters of the task, and `dtype`.

    Raises:
        InvalidSettingError: An unknown parameter or one out of its range.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, *, render_mode: str | None = None, width: int = 640, height: int = 480, **params: Any) -> None:
        self._set_up(render_mode, width, height, params)
        self.observation_space = self.task.published_space()
        self.action_space = self.task.action_space
        self._episode: Episode | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; `options={"state": [...]}` sets the state exactly. `info` holds randomised constants.

        Raises:
            InvalidSettingError: Unknown option, or a state that the task cannot be in.
        """
        options = _check_options(options, ("state",))
        given = options.get("state")
        state = None if given is None else self._start_state(given, ())
        super().reset(seed=seed)
        if state is None:
            state = self.task.initial(draw(self.np_random, (), self.task.initial_noise, self.task.dtype))
        self._state = state
        self._observation = self.task.observation(state)
        if self.render_mode is not None:
            self._episode = self._new_episode(state)
            if self.render_mode == "human":
                self.render()
        return self.task.publish(self._observation), _plain(self.task.drawn_constants(state))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one step.

        Raises:
            InvalidActionError: Wrong shape, not finite, or no such choice; the state stays as it was.
            gymnasium.error.ResetNeeded: The environment was never reset.
        """
        task, before = self.task, self._state
        if before is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        action = task.check_action(action, ())
        state = task.transition(before, action, draw(self.np_random, (), task.transition_noise, task.dtype))
        observation = task.observation(state)
        reward = float(task.reward(self._observation, action, observation))
        terminated = bool(task.terminal(observation))
        info = _plain({**task.info(before, action, state), **task.drawn_constants(state)})
        self._state, self._observation = state, observation
        if self._episode is not None:
            imagined = self._episode.imagined is not None
            self._episode.add(action, reward, state)
            if self.render_mode == "human" and not imagined:
                self.render()
        return task.publish(observation), reward, terminated, False, info

    def render(self) -> np.ndarray[Any, Any] | None:
        """Return the picture `[height, width, 3]` (uint8) in mode "rgb_array"; show it in mode "human"."""
        if self.render_mode is None:
            self._warn_of_no_render_mode()
            return None
        if self._episode is None:
            raise gym.error.ResetNeeded("call reset() before render()")
        return self._draw_frame(self._episode)

    def close(self) -> None:
        """Close the window, if there is one."""
        self._close_renderer()

    def imagine(self, observations: Array | None) -> None:
        """Draw these observations `[K, H, O]` over the next pictures, best plan first, until the next step.

        In mode "human", whoever calls this also calls `render`, since a step cannot draw the plan that follows it.
        """
        if self._episode is not None:
            self._episode.imagined = observations

    def get_state(self) -> dict[str, Any]:
        """Return everything that decides the future: `set_state` on a clone replays identically."""
        return {
            "state": None if self._state is None else self._state.copy(),
            "generator": self.np_random.bit_generator.state,
        }

    def set_state(self, snapshot: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        state = snapshot["state"]
        self._state = None if state is None else np.array(state, self.task.dtype)
        self._observation = None if self._state is None else self.task.observation(self._state)
        self.np_random.bit_generator.state = snapshot["generator"]
        self._episode = None
        if self.render_mode is not None and self._state is not None:
            self._episode = self._new_episode(self._state)


class TaskVectorEnv(_TaskFace, VectorEnv[Any, Any, Any]):
    """`num_envs` copies of a task in one array, stepped by the task's own batched functions.

    Args:
        num_envs: Number N of copies.
        max_episode_steps: Length at which episodes are truncated; -1 for never.
        autoreset_mode: When rows that ended start anew: "NextStep" (default), "SameStep" (the step returns the new
            episode's observation; the last one is in `info["final_obs"]`), or "Disabled" (by the caller, with
            `reset(options={"reset_mask": ...})`); a string or an `AutoresetMode`.
        render_mode: None, "human" (shows the first copy) or "rgb_array" (a tuple of N pictures).
        width: Width of a picture in pixels.
        height: Height of a picture in pixels.
        **params: Parameters of the task, and `dtype`.

    Raises:
        InvalidSettingError: An unknown parameter or one out of its range.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["human", "rgb_array"],
        "render_fps": 20,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int = -1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
        **params: Any,
    ) -> None:
        if num_envs < 1:
            raise InvalidSettingError(f"num_envs must be at least 1, but {num_envs} was given")
        if max_episode_steps != -1 and max_episode_steps < 1:
            raise InvalidSettingError(
                f"max_episode_steps must be at least 1, or -1 for no limit, but {max_episode_steps} was given"
            )
        self._set_up(render_mode, width, height, params)
        self.num_envs = num_envs
        self.max_episode_steps = max_episode_steps
        self._autoreset = _autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self._autoreset}
        self.single_observation_space = self.task.published_space()
        self.single_action_space = self.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._steps = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)  # rows whose episode ended in the last step
        self._episodes: list[Episode] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start new episodes. `info` holds randomised constants `[N]`.

        Args:
            seed: Seed of the one generator that serves all rows.
            options: `"state"`, `[N, S]` or `[S]`, sets the states exactly; `"reset_mask"`, bool `[N]`, resets the
                chosen rows only.

        Raises:
            InvalidSettingError: Unknown option, a seed per row, or a state that the task cannot be in.
        """
        options = _check_options(options, ("state", "reset_mask"))
        if seed is not None and not isinstance(seed, int | np.integer):
            raise InvalidSettingError(f"one generator serves all rows: seed must be a number, not {seed!r}")
        given = options.get("state")
        chosen = None if given is None else self._start_state(given, (self.num_envs,))
        mask = self._reset_mask(options.get("reset_mask"))
        super().reset(seed=None if seed is None else int(seed))
        if mask.all():
            self._state = self._initial(self.num_envs) if chosen is None else chosen
            self._observation = self.task.observation(self._state)
        else:
            self._restart(mask, None if chosen is None else chosen[mask])
        self._steps[mask] = 0
        self._ended[mask] = False
        if self.render_mode is not None:
            self._log_starts(mask)
        return self.task.publish(self._observation), self._constants_info()

    def step(
        self, actions: Any
    ) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]:
        """Advance all rows by one step.

        Raises:
            InvalidActionError: Wrong shape, not finite, or no such choice; the states stay as they were.
            gymnasium.error.ResetNeeded: Never reset, or (autoreset disabled) a row has ended.
        """
        task, before, ended = self.task, self._state, self._ended
        if before is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        any_ended = bool(ended.any())
        if any_ended and self._autoreset is AutoresetMode.DISABLED:
            raise gym.error.ResetNeeded(
                f"rows {np.flatnonzero(ended).tolist()} have ended: reset them with "
                'reset(options={"reset_mask": mask})'
            )
        actions = task.check_action(actions, (self.num_envs,))
        noise = draw(self.np_random, (self.num_envs,), task.transition_noise, task.dtype)
        state = task.transition(before, actions, noise)
        observation = task.observation(state)
        reward = task.reward(self._observation, actions, observation)
        terminated = task.terminal(observation)
        self._steps += 1
        if self.max_episode_steps > 0:
            truncated = self._steps >= self.max_episode_steps
        else:
            truncated = np.zeros(self.num_envs, np.bool_)
        info = _with_masks(task.info(before, actions, state), ~ended)
        self._state, self._observation = state, observation
        if self._episodes:
            self._log_steps(actions, reward, ~ended)

        if any_ended:  # NEXT_STEP: this step was the reset of these rows, and their action is ignored
            self._restart(ended)
            reward[ended] = 0.0
            terminated[ended] = truncated[ended] = False
            if self._episodes:
                self._log_starts(ended)
        info |= self._constants_info()
        ended = terminated | truncated
        if self._autoreset is not AutoresetMode.SAME_STEP:
            self._ended = ended
        elif ended.any():
            info = _final_info(task, observation, info, ended)
            self._restart(ended)
            info |= self._constants_info()
            if self._episodes:
                self._log_starts(ended)
        if self._episodes and self.render_mode == "human":
            self.render()
        return task.publish(observation), reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray[Any, Any], ...] | None:
        """Return N pictures `[height, width, 3]` (uint8) in mode "rgb_array"; show the first in mode "human"."""
        if self.render_mode is None:
            self._warn_of_no_render_mode()
            return None
        if not self._episodes:
            raise gym.error.ResetNeeded("call reset() before render()")
        if self.render_mode == "human":
            self._draw_frame(self._episodes[0])
            return None
        return tuple(picture for e in self._episodes if (picture := self._draw_frame(e)) is not None)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window, if there is one."""
        self._close_renderer()

    def get_state(self) -> dict[str, Any]:
        """Return everything that decides the future: `set_state` on a clone replays identically."""
        return {
            "state": None if self._state is None else self._state.copy(),
            "steps": self._steps.copy(),
            "ended": self._ended.copy(),
            "generator": self.np_random.bit_generator.state,
        }

    def set_state(self, snapshot: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        self.np_random.bit_generator.state = snapshot["generator"]
        self._steps = np.array(snapshot["steps"], np.int64)
        self._ended = np.array(snapshot["ended"], np.bool_)
        state = snapshot["state"]
        self._state = None if state is None else np.array(state, self.task.dtype)
        self._observation = None if self._state is None else self.task.observation(self._state)
        self._episodes = []
        if self.render_mode is not None and self._state is not None:
            self._log_starts(np.ones(self.num_envs, np.bool_))

    def _constants_info(self) -> dict[str, Any]:
        """Return the randomised constants of the running episodes."""
        return _with_masks(self.task.drawn_constants(self._state), np.ones(self.num_envs, np.bool_))

    def _initial(self, rows: int) -> Array:
        return self.task.initial(draw(self.np_random, (rows,), self.task.initial_noise, self.task.dtype))

    def _restart(self, mask: Array, state: Array | None = None) -> None:
        """Put the rows of `mask` at a start, within the arrays of the running step."""
        assert self._state is not None
        assert self._observation is not None
        state = self._initial(int(mask.sum())) if state is None else state
        self._state[mask] = state
        self._observation[mask] = self.task.observation(state)
        self._steps[mask] = 0

    def _reset_mask(self, given: Any) -> Array:
        if given is None:
            return np.ones(self.num_envs, np.bool_)
        mask = np.asarray(given)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise InvalidSettingError(
                f'options["reset_mask"] must be {self.num_envs} booleans, at least one of them True, '
                f"but {given!r} was given"
            )
        if self._state is None and not mask.all():
            raise InvalidSettingError("the first reset must reset all rows")
        return mask

    def _log_starts(self, mask: Array) -> None:
        assert self._state is not None
        if not self._episodes:
            self._episodes = [self._new_episode(row) for row in self._state]
        for row in np.flatnonzero(mask):
            self._episodes[row] = self._new_episode(self._state[row])

    def _log_steps(self, actions: Array, reward: Array, mask: Array) -> None:
        assert self._state is not None
        for row in np.flatnonzero(mask):
            self._episodes[row].add(actions[row], float(reward[row]), np.array(self._state[row]))


def _autoreset_mode(given: AutoresetMode | str) -> AutoresetMode:
    for mode in AutoresetMode:
        if given in (mode, mode.value, mode.name):
            return mode
    raise InvalidSettingError(
        f"autoreset_mode must be one of {[mode.value for mode in AutoresetMode]}, but {given!r} was given"
    )


def _with_masks(info: dict[str, Array], mask: Array) -> dict[str, Any]:
    """Pair every entry with the mask of the rows that have it, as Gymnasium's vector environments do."""
    paired: dict[str, Any] = {}
    for name, values in info.items():
        paired[name] = np.where(mask, values, np.zeros_like(values))
        paired[f"_{name}"] = mask.copy()
    return paired


def _plain(info: dict[str, Array]) -> dict[str, Any]:
    """Return the values of one row as Python numbers."""
    return {name: value.item() for name, value in info.items()}


def _final_info(task: Task, observation: Array, info: dict[str, Any], ended: Array) -> dict[str, Any]:
    """Move what belongs to the episodes that ended to `final_obs` and `final_info`."""
    final_obs = np.full(len(ended), None, dtype=object)
    for row in np.flatnonzero(ended):
        final_obs[row] = task.publish(observation[row])
    names = [name for name in info if not name.startswith("_")]
    values = {name: info[name] for name in names}
    return {
        "final_obs": final_obs,
        "_final_obs": ended.copy(),
        "final_info": _with_masks(values, ended),
        "_final_info": ended.copy(),
        **_with_masks(values, ~ended),
    }
