"""A vector environment whose steps are kept as transitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from mbrl_gym.models.base import Transitions
from mbrl_gym.wrappers.steps import StepReader
from mbrl_gym.wrappers.transition_buffer import TransitionBuffer

__all__ = ["RecordTransitions"]


class RecordTransitions(VectorWrapper[Any, Any, Any, Any, Any]):
    """Records every step of all copies of an environment, for models to learn from.

    The transitions of one step stand side by side, in the order of the copies; each copy's episodes have numbers of
    their own. Steps that only reset a copy (mode NEXT_STEP) are not recorded. Where a copy's episode ends in mode
    SAME_STEP, its next observation is the one in `info["final_obs"]`; in mode DISABLED,
    `reset(options={"reset_mask": mask})` starts new episodes in the masked copies only. See
    `mbrl_gym.wrappers.RecordTransitions`.

    Args:
        env: A vector environment of NumPy arrays, with spaces that models take; Box actions need no bounds.
        capacity: Number of transitions that are kept, the latest; None keeps all.

    Raises:
        UnsupportedSpaceError: A space that transitions cannot hold; names what would work.
        InvalidSettingError: A capacity of less than 1.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], capacity: int | None = None) -> None:
        super().__init__(env)
        self._reader = reader_of(env)
        self._buffer = TransitionBuffer(env.single_observation_space, env.single_action_space, capacity)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all copies, or in those of `options["reset_mask"]`."""
        mask = (options or {}).get("reset_mask")  # which environments remove from the options
        observations, infos = self.env.reset(seed=seed, options=options)
        self._reader.start(observations, mask)
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advance all copies by one step, and record it."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        transitions, rows = self._reader.step(actions, observations, rewards, terminations, truncations, infos)
        if len(transitions.reward):
            told = self._take(transitions)
            if told:
                infos = with_told(infos, told, rows, terminations | truncations)
        return observations, rewards, terminations, truncations, infos

    def transitions(self) -> Transitions:
        """Return copies of the recorded transitions, oldest first."""
        return self._buffer.transitions()

    def clear(self) -> None:
        """Forget the recorded transitions; running episodes go on under their numbers."""
        self._buffer.clear()

    def __len__(self) -> int:
        """Return the number of recorded transitions."""
        return len(self._buffer)

    def __bool__(self) -> bool:
        """Return True: whoever asks whether there is an environment does not ask whether it has recorded anything."""
        return True

    def _take(self, transitions: Transitions) -> dict[str, Any]:
        """Make use of the n steps of one moment; return what to tell of them in `info`, each value `[n]`."""
        self._buffer.add(transitions)
        return {}


def reader_of(env: VectorEnv[Any, Any, Any]) -> StepReader:
    """Return a reader of a vector environment's steps; one that states no mode is in NEXT_STEP, as Gymnasium has it."""
    mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
    return StepReader(env.single_observation_space, env.single_action_space, env.num_envs, mode)


def with_told(
    infos: dict[str, Any],
    told: dict[str, np.ndarray[Any, Any]],
    rows: np.ndarray[Any, Any],
    ended: np.ndarray[Any, Any],
) -> dict[str, Any]:
    """Return infos with values `[n]` of the n of N copies that took a step.

    Of those that ended where the next episode begins in the same step, they are in `final_info`, too.
    """
    told_of_all = with_masks(told, rows)
    infos = {**infos, **told_of_all}
    if "_final_obs" in infos:
        final = dict(infos.get("final_info", {}))
        for name in told:
            final |= {name: told_of_all[name].copy(), f"_{name}": rows & ended}
        infos |= {"final_info": final, "_final_info": ended.copy()}
    return infos


def with_masks(values: dict[str, np.ndarray[Any, Any]], rows: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Spread values `[n]` over the n of N copies that the mask chooses, and pair each with it, as Gymnasium does."""
    spread: dict[str, Any] = {}
    for name, chosen in values.items():
        spread[name] = np.zeros(len(rows), chosen.dtype)
        spread[name][rows] = chosen
        spread[f"_{name}"] = rows.copy()
    return spread
