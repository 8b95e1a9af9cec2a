"""The Gymnasium faces over a task: one environment, and many in one array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from mbrl_gym.envs.arrays import Arrays, make_arrays
from mbrl_gym.envs.task import Array, Task, copied, draw
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.vector import BatchedVectorEnv, check_options, to_numpy

if TYPE_CHECKING:
    from mbrl_gym.envs.rendering import Episode, Renderer

__all__ = ["TaskEnv", "TaskVectorEnv"]


class _TaskFace:
    """What the single and the vector environment share: the task, its settings, and rendering."""

    task_class: ClassVar[type[Task]]
    metadata: dict[str, Any]
    render_mode: str | None

    def _set_up(self, task: Task, render_mode: str | None, width: int, height: int) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise InvalidSettingError(
                f"render_mode must be None or one of {self.metadata['render_modes']}, but {render_mode!r} was given"
            )
        for name, value in (("width", width), ("height", height)):
            if not isinstance(value, int | np.integer) or not 16 <= value <= 8192:
                raise InvalidSettingError(f"{name} must be between 16 and 8192 pixels, but {value!r} was given")
        self.task = task
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self.task.render_fps}
        self._size = (int(width), int(height))
        self._renderer: Renderer | None = None
        self._state: Array | None = None
        self._observation: Array | None = None
        self._values: np.ndarray[Any, Any] | None = None  # that pictures show

    def _new_episode(self, state: Array) -> Episode:
        from mbrl_gym.envs.rendering import Episode

        return Episode(self.task, [np.array(state)], [], [], values=self._values)

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
                state = to_numpy(given).astype(task.dtype)
        except (TypeError, ValueError) as error:
            raise InvalidSettingError(f'options["state"] must be numbers, but {given!r} was given') from error
        if state.shape not in ((*batch, task.state_size), (task.state_size,)):
            or_one_for_all = f" or {(task.state_size,)}" if batch else ""
            raise InvalidSettingError(
                f'options["state"] must have shape {(*batch, task.state_size)}{or_one_for_all} '
                f"(columns: {', '.join(task.state_columns)}), but {state.shape} was given"
            )
        state = np.broadcast_to(state, (*batch, task.state_size)).copy()
        if not (np.isfinite(state).all() and task.allows(state)):
            raise InvalidSettingError(
                f'options["state"] must be finite and lead to an observation within {task.observation_space}, with all '
                f"constants in their ranges, in a state that {type(task).__name__} allows, but {given!r} was given"
            )
        return state

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_renderer": None}  # a window belongs to its process


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
        self._set_up(self.task_class(**params), render_mode, width, height)
        self.observation_space = self.task.published_space()
        self.action_space = self.task.action_space
        self._episode: Episode | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; `options={"state": [...]}` sets the state exactly. `info` holds randomised constants.

        The state columns that a task names in `carried` outlive the episode, unless a seed is given.

        Raises:
            InvalidSettingError: Unknown option, or a state that the task cannot be in.
        """
        options = check_options(options, ("state",))
        given = options.get("state")
        state = None if given is None else self._start_state(given, ())
        super().reset(seed=seed)
        if state is None:
            state = self.task.initial(draw(self.np_random, (), self.task.initial_noise, self.task.dtype))
            if self.task.carried and seed is None and self._state is not None:
                state = self.task.carry_over(self._state, state)
        self._state = state
        self._observation = self.task.observation(state)
        if self.render_mode is not None:
            self._episode = self._new_episode(state)
            if self.render_mode == "human":
                self._draw_frame(self._episode)
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
            drawn = self._episode.drawn  # by a caller who sees to the pictures: one picture a step is enough
            self._episode.add(action, reward, state)
            if self.render_mode == "human" and not drawn:
                self._draw_frame(self._episode)
        return task.publish(observation), reward, terminated, False, info

    def render(self) -> np.ndarray[Any, Any] | None:
        """Return the picture `[height, width, 3]` (uint8) in mode "rgb_array"; show it in mode "human"."""
        if self.render_mode is None:
            self._warn_of_no_render_mode()
            return None
        if self._episode is None:
            raise gym.error.ResetNeeded("call reset() before render()")
        self._episode.drawn = True
        return self._draw_frame(self._episode)

    def close(self) -> None:
        """Close the window, if there is one."""
        self._close_renderer()

    @property
    def dismissed(self) -> bool:
        """Whether the user closed the window."""
        return self._renderer is not None and self._renderer.dismissed

    def imagine(self, plans: Array | None, particles: Array | None = None) -> None:
        """Draw what an agent imagines over the next pictures: steps use it up, and the next call replaces it.

        In mode "human" a step shows what is left of the plan that led to it, unless `render` has been called since the
        last step: that picture shows the plan to come, and stands for the step.

        Args:
            plans: Observations `[K, H, O]` of the next H steps under K plans, best first; None draws nothing.
            particles: Observations `[P, H, O]` that P model particles, or members of an ensemble, expect of the best
                plan; their spread is drawn as its uncertainty.

        Raises:
            InvalidSettingError: Other shapes.
        """
        if self._episode is not None:
            self._episode.imagine(plans, particles)

    def show_values(self, values: Array | None) -> None:
        """Draw an agent's action values over all pictures from now on, until the next call.

        Args:
            values: `[observations, actions]`, the return that the agent expects of each action at each observation, in
                the order of their numbers; None draws nothing.

        Raises:
            InvalidSettingError: Another shape, values that are not finite, or a task whose observations or actions
                are not Discrete.
        """
        from mbrl_gym.envs.rendering.episode import checked_values

        self._values = None if values is None else checked_values(self.task, values)
        if self._episode is not None:
            self._episode.values = self._values

    def locate(self, x: float, y: float) -> np.ndarray[Any, Any] | None:
        """Return where in the world a point of the last picture [px] is, in the coordinates of the target.

        None where there is no target to move, or no picture yet.
        """
        return None if self._renderer is None else self._renderer.locate(x, y)

    def move_target(self, point: Array) -> Any:
        """Move the target of the running episode towards a point, as far as the task allows; return the observation.

        Args:
            point: As many finite numbers as the target has coordinates (2 or 3).

        Raises:
            InvalidSettingError: Something else, or a task without a target.
            gymnasium.error.ResetNeeded: The environment was never reset.
        """
        columns = [i for i, name in enumerate(self.task.state_columns) if name.startswith(("target", "goal"))]
        if self._state is None:
            raise gym.error.ResetNeeded("call reset() before move_target()")
        try:
            given = to_numpy(point)
            with np.errstate(over="ignore"):
                goal = given.astype(self.task.dtype) if given.dtype.kind in "iuf" else np.array(np.nan)
        except (TypeError, ValueError):  # ragged
            goal = np.array(np.nan)
        if not columns or goal.shape != (len(columns),) or not np.isfinite(goal).all():
            allowed = f"a point of {len(columns)} finite numbers ({self.task.dtype})" if columns else "none to move"
            raise InvalidSettingError(
                f"{type(self.task).__name__} has a target of {len(columns)} coordinates: {allowed}, "
                f"but {point!r} was given"
            )
        self._state = _moved_towards(self.task, self._state, columns, goal)
        self._observation = self.task.observation(self._state)
        if self._episode is not None:
            self._episode.states[-1] = self._state
        return self.task.publish(self._observation)

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


class TaskVectorEnv(_TaskFace, BatchedVectorEnv):
    """`num_envs` copies of a task in one array, stepped by the task's own batched functions.

    With `xp=torch` everything is a tensor on `device`, and no step leaves it: `TaskVectorEnv(task, 4096, xp=torch,
    device="cuda")`. What would have to wait for the device is then left out: `info["final_obs"]` holds the observations
    of all rows (`info["_final_obs"]` says which ended), and elsewhere than on the CPU neither actions that are not
    finite nor steps of rows that ended are refused. Gradients flow from rewards to actions that ask for them.

    `reset(options={"state": ...})`, `[N, S]` or `[S]`, sets the states exactly; with `"reset_mask"`, bool `[N]`, those
    of the chosen rows only. `info` holds the randomised constants `[N]`. The state columns that a task names in
    `carried` outlive a row's episode, unless `reset` is given a seed.

    Args:
        task: The task; by default the class's own, with `params`.
        num_envs: Number N of copies.
        xp: The module numpy or torch, or its name (which `gym.make_vec` wants, for a spec that can be written).
        device: Device of the tensors.
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
    start_option = "state"

    def __init__(
        self,
        task: Task | None = None,
        num_envs: int = 1,
        *,
        xp: Any = np,
        device: Any = None,
        max_episode_steps: int | None = -1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
        **params: Any,
    ) -> None:
        self._set_up(self._given_or_own(task, params), render_mode, width, height)
        self._arrays: Arrays = make_arrays(self.task, xp, device)
        spaces = self.task.published_space(), self.task.action_space
        self._set_up_rows(spaces, num_envs, max_episode_steps, autoreset_mode, self._arrays)
        self._episodes: list[Episode] = []

    def _given_or_own(self, task: Task | None, params: dict[str, Any]) -> Task:
        if task is None and hasattr(self, "task_class"):
            return self.task_class(**params)
        if not isinstance(task, Task):
            raise InvalidSettingError(f"TaskVectorEnv needs a task, but {task!r} was given")
        if params:
            raise InvalidSettingError(f"{', '.join(params)}: these belong to the task that was given with them")
        return task

    def step(
        self, actions: Any
    ) -> tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]:
        """Advance all rows by one step.

        Raises:
            InvalidActionError: Wrong shape, not finite, or no such choice; the states stay as they were.
            gymnasium.error.ResetNeeded: Never reset, or (autoreset disabled) a row has ended.
        """
        result = super().step(actions)
        if self._episodes and self.render_mode == "human":
            self.render()
        return result

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
        self._arrays.seed(self.np_random, False)
        return {
            "state": None if self._state is None else copied(self._state),
            "steps": copied(self._steps),
            "ended": copied(self._ended),
            "generator": self._arrays.get_generator(),
        }

    def set_state(self, snapshot: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        self._arrays.seed(self.np_random, False)
        self._arrays.set_generator(snapshot["generator"])
        self._steps = copied(snapshot["steps"])
        self._ended = copied(snapshot["ended"])
        state = snapshot["state"]
        self._state = None if state is None else self._arrays.state(state)
        self._started = self._state is not None
        self._observation = None if self._state is None else self.task.observation(self._state)
        self._episodes = []
        if self.render_mode is not None and self._state is not None:
            self._log_starts(self._arrays.full(self.num_envs, True))

    def _check_start(self, given: Any) -> Array:
        return self._start_state(given, (self.num_envs,))

    def _seed_noise(self, anew: bool) -> None:
        self._arrays.seed(self.np_random, anew)

    def _begin(self, mask: Array, starts: Array | None, *, everywhere: bool = False, anew: bool = False) -> None:
        """Put rows at starts; NumPy writes into the arrays of the running step."""
        arrays, before = self._arrays, self._state
        if starts is not None:
            starts = arrays.chosen(mask, starts)
        else:
            starts = arrays.fresh_starts(mask)
            if self.task.carried and before is not None and not anew:
                starts = self.task.carry_over(arrays.chosen(mask, before), starts)
        observation = self.task.observation(starts)
        if everywhere:
            self._state, self._observation = starts, observation
        else:
            self._state = arrays.put(self._state, mask, starts)
            self._observation = arrays.put(self._observation, mask, observation)
        if self.render_mode is not None:
            self._log_starts(mask)

    def _check_actions(self, actions: Any) -> Array:
        return self._arrays.check_action(actions, self.num_envs)

    def _advance(self, actions: Array) -> tuple[Array, Array, dict[str, Array]]:
        task, before = self.task, self._state
        state = task.transition(before, actions, self._arrays.draw(self.num_envs, task.transition_noise))
        if task.carried:  # rows that ended wait for their reset as they are
            state = self._arrays.put(state, self._ended, self._arrays.chosen(self._ended, before))
        observation = task.observation(state)
        reward = task.reward(self._observation, actions, observation)
        self._state, self._observation = state, observation
        if self._episodes:
            self._log_steps(actions, reward, ~self._ended)
        return reward, task.terminal(observation), task.info(before, actions, state)

    def _publish(self) -> Any:
        return self.task.publish(self._observation)

    def _final_observations(self, ended: Array) -> Any:
        return self._arrays.final_observations(self._observation, ended)

    def _episode_info(self) -> dict[str, Any]:
        """Return the randomised constants of the running episodes."""
        if not self.task.randomize:
            return {}
        return self._arrays.with_masks(self.task.drawn_constants(self._state), self._arrays.full(self.num_envs, True))

    def _log_starts(self, mask: Array) -> None:
        states = self._arrays.to_numpy(self._state)
        if not self._episodes:
            self._episodes = [self._new_episode(state) for state in states]
        for row in np.flatnonzero(self._arrays.to_numpy(mask)):
            self._episodes[row] = self._new_episode(states[row])

    def _log_steps(self, actions: Array, reward: Array, mask: Array) -> None:
        to_numpy = self._arrays.to_numpy
        states, actions, reward = to_numpy(self._state), to_numpy(actions), to_numpy(reward)
        for row in np.flatnonzero(to_numpy(mask)):
            self._episodes[row].add(actions[row], float(reward[row]), np.array(states[row]))


def _moved_towards(task: Task, state: Array, columns: list[int], point: Array) -> Array:
    """Return the state with columns as close to `point` as the task allows on a straight way, by bisection."""
    start, reached, share, step = state[columns], state, 0.0, 1.0
    while share < 1.0 and step > 1e-9:
        moved = state.copy()
        moved[columns] = start + (share + step) * (point - start)
        if np.isfinite(moved).all() and task.allows(moved):
            reached, share = moved, share + step
        step /= 2
    return reached


def _plain(info: dict[str, Array]) -> dict[str, Any]:
    """Return the values of one row as Python numbers."""
    return {name: value.item() for name, value in info.items()}
