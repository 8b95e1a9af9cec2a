"""World models turned back into environments, in which any agent can train."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError, MbrlGymError
from mbrl_gym.models.base import Transitions, WorldModel, check, draw
from mbrl_gym.models.spaces import event_shape, from_rows
from mbrl_gym.vector import BatchedVectorEnv, NumpyRows, check_limit, check_options, row_of
from mbrl_gym.wrappers.rows import bounds_of, check_action, check_rows, start_rows

__all__ = ["ImaginedEnv", "ImaginedVectorEnv", "StartStates"]

Array = np.ndarray[Any, Any]

StartStates = Transitions | Any | Callable[[np.random.Generator, int], Any]
"""Transitions, whose observations are starts; observations `[M, O]`; or (generator, n) -> observations `[n, O]`."""


class ImaginedVectorEnv(BatchedVectorEnv):
    """N episodes that a world model imagines, as a Gymnasium vector environment with NumPy in and out.

    Every row follows one particle of the model for its whole episode (TS-infinity, Chua et al. 2018, section 4): rows
    are spread over the members of an ensemble, and dealt out anew as episodes end, so that N rows cost the model N
    steps (rounded up to a multiple of `model.particle_unit`). Episodes start at observations drawn from `start_states`,
    end where the model terminates, and are truncated after `horizon` steps.

    Observations are those of the model's observation space; what a model predicts beyond the bounds of a Box is clipped
    to them when it is returned, while the model goes on from its own prediction. Box actions beyond their bounds are
    clipped. The environment refers to the model: after another `fit`, call `reset`.

    `reset(options={"observation": ...})` starts all rows at one observation, or each at its own `[N, O]`; with
    `"reset_mask"`, bool `[N]`, the chosen rows only.

    Args:
        model: Any world model.
        start_states: `Transitions`, all of whose observations are starts (Kurutach et al. 2018, Janner et al. 2019);
            an array of observations `[M, O]`, or a dict of such for Dict spaces; or a function of (NumPy generator, n)
            that returns n observations.
        num_envs: Number N of rows.
        horizon: Steps after which an episode is truncated.
        noise: Whether to draw from the model's predictive distribution (from `reset(seed=...)`) or take its mean.
        autoreset_mode: When rows that ended start anew: "NextStep" (default), "SameStep" (the step returns the new
            episode's observation; the last one is in `info["final_obs"]`), or "Disabled" (by the caller, with
            `reset(options={"reset_mask": ...})`); a string or an `AutoresetMode`.
        max_episode_steps: A shorter horizon, as `gym.make_vec` passes it; None or -1 for none.
        render_mode: None; there is nothing to see in a dream.

    Raises:
        InvalidSettingError: A setting out of its range, or start states that are no observations of the model.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }
    start_option = "observation"

    def __init__(
        self,
        model: WorldModel,
        start_states: StartStates,
        num_envs: int,
        horizon: int,
        *,
        noise: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: None = None,
    ) -> None:
        check(isinstance(model, WorldModel), "model", model, "a world model")
        check(
            isinstance(horizon, int | np.integer) and horizon >= 1, "horizon", horizon, "a whole number of at least 1"
        )
        check(render_mode is None, "render_mode", render_mode, "None")
        limit = check_limit(max_episode_steps)
        limit = int(horizon) if limit == -1 else min(int(horizon), limit)
        space = model.observation_space
        self._set_up_rows((space, model.action_space), num_envs, limit, autoreset_mode, NumpyRows())
        self.model, self.horizon, self.noise = model, limit, bool(noise)
        self._bounds = bounds_of(space)
        self._starts = start_states if callable(start_states) else start_rows(space, start_states)
        self._particles = model.particle_unit
        self._columns = -(-self.num_envs // self._particles)
        self._slots = np.arange(self.num_envs)  # of the P times C places that the model has, the one of each row
        self._generator = torch.Generator()
        self._seeded = False
        self._state: Any = None  # the model's
        self._observation: Array  # [N, ...] rows, as the model predicted them

    def get_state(self) -> dict[str, Any]:
        """Return everything but the model that decides the future: `set_state` on a clone replays identically."""
        self._seed_noise(False)
        return {
            "state": self._state,
            "observation": self._observation.copy() if self._started else None,
            "slots": self._slots.copy(),
            "steps": self._steps.copy(),
            "ended": self._ended.copy(),
            "noise": self._generator.get_state(),
            "generator": self.np_random.bit_generator.state,
        }

    def set_state(self, snapshot: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        self._seeded = True
        self._generator.set_state(snapshot["noise"])
        self.np_random.bit_generator.state = snapshot["generator"]
        self._slots, self._steps, self._ended = (snapshot[name].copy() for name in ("slots", "steps", "ended"))
        self._state, self._started = snapshot["state"], snapshot["observation"] is not None
        if self._started:
            self._observation = snapshot["observation"].copy()

    # What happens to rows ------------------------------------------------------------------------------------------

    def _check_start(self, given: Any) -> Array:
        space, count = self.single_observation_space, self.num_envs
        rows = check_rows(space, given, 'options["observation"]', (count,), ())
        return np.broadcast_to(rows, (count, *event_shape(space)))

    def _seed_noise(self, anew: bool) -> None:
        if anew or not self._seeded:
            self._generator.manual_seed(int(self.np_random.integers(2**63)))
            self._seeded = True

    def _begin(self, mask: Array, starts: Array | None, *, everywhere: bool = False, anew: bool = False) -> None:
        if not self.model.fitted:
            raise InvalidSettingError(f"{type(self.model).__name__} was not fitted yet: call fit(transitions) first")
        rows = self._draw_starts(int(mask.sum())) if starts is None else starts[mask]
        self._deal(mask)
        with torch.no_grad():
            state = self.model.start(self._to_model(rows, self._slots[mask]), self._particles)
        if everywhere:
            self._state, self._observation = state, rows.copy()
            return
        fresh = np.zeros(self._particles * self._columns, np.bool_)
        fresh[self._slots[mask]] = True
        chosen = torch.as_tensor(fresh.reshape(self._particles, self._columns), device=self._device)
        self._state = _mixed(chosen, state, self._state)
        self._observation[mask] = rows

    def _check_actions(self, actions: Any) -> Array:
        return check_action(self.single_action_space, actions, (self.num_envs,))

    def _advance(self, actions: Array) -> tuple[Array, Array, dict[str, Array]]:
        model, noise = self.model, None
        if self.noise and any(model.noise_sizes):
            noise = draw(self._generator, (self._particles, self._columns), model.noise_sizes, self._device)
        with torch.no_grad():
            prediction = model.step(self._state, self._to_model(actions, self._slots), noise)
        observation, reward, terminated = (self._from_model(part) for part in prediction[1:])
        self._check_finite(observation, reward)
        self._state, self._observation = prediction.state, observation
        return reward, terminated, {}

    def _publish(self) -> Any:
        rows = self._observation
        if self._bounds is not None:
            rows = np.clip(rows, *self._bounds)
        return from_rows(self.single_observation_space, rows)

    def _final_observations(self, ended: Array) -> Any:
        """Return an object array, None where the row goes on."""
        final, observation = np.full(self.num_envs, None, dtype=object), self._publish()
        for row in np.flatnonzero(ended).tolist():
            final[row] = row_of(observation, row)
        return final

    @property
    def _device(self) -> torch.device:
        return self.model.encode_observation.continuous.device

    # Between rows and the model's particles ------------------------------------------------------------------------

    def _draw_starts(self, count: int) -> Array:
        if not callable(self._starts):
            return self._starts[self.np_random.integers(len(self._starts), size=count)]
        given, name = self._starts(self.np_random, count), f"start_states(generator, {count})"
        return check_rows(self.single_observation_space, given, name, (count,))

    def _deal(self, mask: Array) -> None:
        """Give the chosen rows places at random, among theirs and the spare ones: other members, where there are some.

        Without this, a single row would follow the first member for ever.
        """
        if self._particles > 1:
            places = np.ones(self._particles * self._columns, np.bool_)
            places[self._slots[~mask]] = False
            self._slots[mask] = self.np_random.permutation(np.flatnonzero(places))[: mask.sum()]

    def _to_model(self, rows: Array, slots: Array) -> Tensor:
        """Return `[P, C, ...]` with rows `[n, ...]` at their places; the first fills the others."""
        places = np.empty((self._particles * self._columns, *rows.shape[1:]), rows.dtype)
        places[:] = rows[0]
        places[slots] = rows
        tensor = torch.as_tensor(places, device=self._device)
        return tensor.unflatten(0, (self._particles, self._columns))

    def _from_model(self, predicted: Tensor) -> Array:
        """Return the rows `[N, ...]` of `[P, C, ...]`."""
        return predicted.flatten(0, 1).cpu().numpy()[self._slots]

    def _check_finite(self, observation: Array, reward: Array) -> None:
        finite = np.isfinite(reward) & np.isfinite(observation).reshape(self.num_envs, -1).all(-1)
        wrong = np.flatnonzero(~finite & ~self._ended)
        if wrong.size:
            raise MbrlGymError(
                f"{type(self.model).__name__} predicts values that are not finite in rows {wrong.tolist()}, "
                f"{self._steps[wrong].max() + 1} steps from their starts: fit it to more data, or shorten the horizon"
            )


class ImaginedEnv(gym.Env[Any, Any]):
    """One episode at a time that a world model imagines: `ImaginedVectorEnv` with a single row.

    Every episode follows one particle of the model, drawn anew. `reset(options={"observation": [...]})` sets the start.

    Args:
        model: Any world model.
        start_states: See `ImaginedVectorEnv`.
        horizon: Steps after which an episode is truncated.
        noise: Whether to draw from the model's predictive distribution or take its mean.
        render_mode: None; there is nothing to see in a dream.

    Raises:
        InvalidSettingError: A setting out of its range, or start states that are no observations of the model.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        model: WorldModel,
        start_states: StartStates,
        horizon: int,
        *,
        noise: bool = True,
        render_mode: None = None,
    ) -> None:
        self._one = ImaginedVectorEnv(
            model, start_states, 1, horizon, noise=noise, autoreset_mode=AutoresetMode.DISABLED, render_mode=render_mode
        )
        self.model, self.horizon = model, horizon
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space
        self._over = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Raises:
            InvalidSettingError: Unknown option, or a start that is no observation of the model.
        """
        observation, info = self._one.reset(seed=seed, options=check_options(options, ("observation",)))
        self._np_random, self._np_random_seed = self._one.np_random, self._one.np_random_seed
        self._over = False
        return row_of(observation, 0), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one step.

        Raises:
            InvalidActionError: Wrong shape, not finite, or no such choice; nothing has changed.
            gymnasium.error.ResetNeeded: Never reset, or the episode has ended.
        """
        if self._over:
            raise gym.error.ResetNeeded("the episode has ended: call reset()")
        action = check_action(self.action_space, action, ())
        observation, reward, terminated, truncated, info = self._one.step(np.asarray(action)[None])
        self._over = bool(terminated[0] or truncated[0])
        return row_of(observation, 0), float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def get_state(self) -> dict[str, Any]:
        """Return everything but the model that decides the future: `set_state` on a clone replays identically."""
        return self._one.get_state()

    def set_state(self, snapshot: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        self._one.set_state(snapshot)
        self._np_random = self._one.np_random
        self._over = bool(snapshot["ended"][0])


def _mixed(chosen: Tensor, new: Any, old: Any) -> Any:
    """Return the model state with the chosen places `[P, C]` from `new` and the others from `old`."""
    if isinstance(new, tuple):
        parts = (_mixed(chosen, *pair) for pair in zip(new, old, strict=True))
        return type(new)(*parts) if hasattr(new, "_fields") else tuple(parts)
    return torch.where(chosen.view(*chosen.shape, *(1,) * (new.ndim - 2)), new, old)
