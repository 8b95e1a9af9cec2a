"""An environment that rewards what a model does not know yet."""

from __future__ import annotations

from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import RecordConstructorArgs

from mbrl_gym.models.base import Transitions, WorldModel, check, check_same_spaces
from mbrl_gym.wrappers.arguments import record_arguments
from mbrl_gym.wrappers.distillation import Distillation
from mbrl_gym.wrappers.one_step import OneStepError, as_tensors
from mbrl_gym.wrappers.steps import StepReader
from mbrl_gym.wrappers.visits import Visits

__all__ = ["Curiosity", "CuriosityReward", "Kind"]

Array = np.ndarray[Any, Any]
Kind = Literal["disagreement", "error", "counts", "distillation"]
OF_PLACES = ("counts", "distillation")  # the kinds that need no model
DISCOUNT = 0.99  # of the intrinsic returns that normalisation is by (Burda et al. 2018, appendix)


class Curiosity:
    """The bonus of N environments side by side.

    Args:
        model: The model; None for "counts" and "distillation".
        space: The observation space of one environment.
        num_envs: Number N of environments.
        kind: "disagreement", "error", "counts" or "distillation".
        normalise: Whether to divide by the size of the discounted sums of bonuses.
        seed: Of "distillation".

    Raises:
        InvalidSettingError: Another kind, no model where one is needed, or a seed that is none.
    """

    def __init__(
        self, model: WorldModel | None, space: gym.Space[Any], num_envs: int, kind: Kind, normalise: bool, seed: int
    ) -> None:
        kinds = get_args(Kind)
        check(kind in kinds, "kind", kind, ", ".join(f'"{each}"' for each in kinds[:-1]) + f' or "{kinds[-1]}"')
        check(model is not None or kind in OF_PLACES, "model", model, f'a world model for kind="{kind}"')
        self.model, self.kind, self.normalise = model, kind, normalise
        self._error = None if model is None else OneStepError(model)
        self._visits = Visits(space)
        self._distillation = Distillation(space, seed) if kind == "distillation" else None
        self._returns = np.zeros(num_envs)
        self._squares, self._count = 0.0, 0  # of the returns

    def expect(self, observation: Array, action: Array) -> Array | None:
        """Ask the model about rows of observations and actions, before the step: afterwards it may have learned it.

        Returns:
            Disagreement `[N]` or expected targets `[N, D]`; None before the model is fitted, and for kinds without one.
        """
        if self.kind in OF_PLACES or self.model is None or not self.model.fitted:
            return None
        if self.kind == "error":
            assert self._error is not None
            return self._error.expect(observation, action)
        with torch.no_grad():
            return self.model.uncertainty(*as_tensors(self.model, observation, action)).double().cpu().numpy()

    def bonus(self, expected: Array | None, transitions: Transitions, rows: Array) -> Array:
        """Return the bonuses `[n]` of n transitions.

        Args:
            expected: From `expect`.
            transitions: What happened, n steps.
            rows: Which of the N environments took a step, `[N]` bool.
        """
        if not rows.any():
            return np.zeros(0)
        known = None if expected is None else expected[rows]
        if self.kind == "counts":
            known = self._visits(transitions.next_observation) ** -0.5
        elif self.kind == "distillation":
            assert self._distillation is not None
            known = self._distillation(transitions.next_observation)
        elif self.kind == "error":
            assert self._error is not None
            errors = self._error(known, transitions)
            known = None if errors is None else errors[:, 0]
        if known is None:
            return np.zeros(len(transitions.reward))
        return self._normalised(known, rows) if self.normalise else known

    def _normalised(self, bonus: Array, rows: Array) -> Array:
        returns = self._returns[rows] = DISCOUNT * self._returns[rows] + bonus
        self._squares += float(np.sum(returns * returns))
        self._count += len(returns)
        return bonus / np.sqrt(self._squares / self._count) if self._squares else bonus


class CuriosityReward(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds a bonus for what a model does not know yet, or for new places: reward + scale * bonus.

    This wrapper's model learns elsewhere, in a `LearnModel` inside of this wrapper for example, which then learns the
    environment's own reward:

        env = CuriosityReward(LearnModel(gym.make("MountainCar-v0"), model), model)

    The `info` of every step holds `extrinsic_reward`, the environment's, and `curiosity`, the bonus without the scale;
    it is 0 until the model is fitted. New places need no model:

        env = CuriosityReward(gym.make("MountainCar-v0"), None, kind="distillation", normalise=True)

    Args:
        env: An environment with the spaces of the model.
        model: The model; None for `kind="counts"` and `kind="distillation"`, which need none.
        scale: Weight of the bonus.
        kind: "disagreement" is the model's `uncertainty` before the step, for ensembles that of their members (Pathak
            et al. 2019, "Self-Supervised Exploration via Disagreement"). "error" is what `LearnModel` calls
            `model/error`, the error of the prediction of the next observation (Stadie et al. 2015); it also seeks
            noise, which nobody can predict. "counts" is 1 / sqrt(n) where a step leads to a part of the observation
            space for the n-th time (Bellemare et al. 2016; Tang et al. 2017): bounded columns are cut into 10 parts,
            those without bounds into parts of width 0.5. "distillation" is how far a small network is from the outputs
            of a random one where a step leads, before it learns them (Burda et al. 2018, "Exploration by Random Network
            Distillation"): it falls with the visits of such places, and noise in the steps does not keep it up.
        normalise: Whether to divide the bonus by the root mean square of the discounted sums of all bonuses so far, as
            Burda et al. (2018, section 2.4) do with their standard deviation, which nobody knows at the first step.
        seed: Seeds the networks of "distillation".

    Raises:
        InvalidSettingError: A setting out of its range, or a model of other spaces.
        UnsupportedSpaceError: Spaces that models do not take.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        model: WorldModel | None,
        scale: float = 1.0,
        kind: Kind = "disagreement",
        normalise: bool = False,
        seed: int = 0,
    ) -> None:
        if model is not None:
            check_same_spaces(env, model.observation_space, model.action_space)
        self.model, self.scale = model, scale
        record_arguments(self, model=model, scale=scale, kind=kind, normalise=normalise, seed=seed)
        super().__init__(env)
        self._reader = StepReader(env.observation_space, env.action_space)
        self._curiosity = Curiosity(model, env.observation_space, 1, kind, normalise, seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._reader.start(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one step, and add the bonus to its reward."""
        expected = self._curiosity.expect(self._reader.observation, self._reader.actions(action))
        observation, reward, terminated, truncated, info = self.env.step(action)
        transition, rows = self._reader.step(action, observation, reward, terminated, truncated, info)
        bonus = float(self._curiosity.bonus(expected, transition, rows).sum())  # none in a step that only reset
        info = {**info, "extrinsic_reward": float(reward), "curiosity": bonus}
        return observation, float(reward) + self.scale * bonus, terminated, truncated, info
