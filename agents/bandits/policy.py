"""Bandit algorithms as recurrent policies with the API of Stable-Baselines3."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Self

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from mbrl_gym.errors import DamagedFileError, InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.saved import FilePath, Saved, space_from_json, space_to_json

from ..base import derived_seed
from .registry import BANDITS, make_algorithm
from .statistics import BanditAlgorithm

__all__ = ["BanditPolicy"]

Array = np.ndarray[Any, Any]
BanditEnv = gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any] | VecEnv | str


class BanditPolicy(Saved):
    """A bandit algorithm behind the `predict` of Stable-Baselines3's recurrent policies.

    What it knows of an episode's arms is the recurrent state, so that one policy plays any number of bandits side by
    side, and forgets them where an episode starts. There is nothing to learn from one episode for the next, and
    therefore no `learn`.

    Args:
        policy: A name in `BANDITS` ("UCB1", "Thompson", ...), or an algorithm.
        env: A bandit, its id, a vector environment, or a `VecEnv`: actions are `Discrete(k)`; an observation is a `Box`
            of k + 1 columns, which hold the last action one-hot (zeros before the first pull) and the last reward.
        seed: Seeds what is drawn; None takes fresh entropy.
        **settings: Settings of the algorithm.

    Raises:
        InvalidSettingError: No such algorithm, or a setting that it does not have or out of its range.
        UnsupportedSpaceError: Not a bandit.
    """

    def __init__(
        self, policy: str | BanditAlgorithm, env: BanditEnv, *, seed: int | None = None, **settings: Any
    ) -> None:
        made = gym.make(env) if isinstance(env, str) else env
        self._set_up(policy, *_spaces_of(made), seed, settings)
        if isinstance(env, str):
            made.close()

    def _set_up(
        self,
        policy: str | BanditAlgorithm,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        seed: int | None,
        settings: dict[str, Any],
    ) -> None:
        low, high = _reward_bounds(observation_space, action_space)
        assert isinstance(action_space, spaces.Discrete)
        self.observation_space, self.action_space = observation_space, action_space
        self.arms, self._first = int(action_space.n), int(action_space.start)
        self.algorithm = make_algorithm(policy, **settings).suited_to(low, high)
        self.set_random_seed(seed)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed what is drawn from now on."""
        self.seed = seed
        self.generator = np.random.default_rng(derived_seed(seed, "bandit"))

    def predict(
        self,
        observation: Array,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return arms to pull, and what is known of the arms after the last pull, which the observation tells.

        Args:
            observation: One observation `[k + 1]`, or a batch `[N, k + 1]`.
            state: What the last call returned, which stays as it is; None knows nothing.
            episode_start: `[N]` bool; rows where an episode starts know nothing.
            deterministic: Plays no role: an algorithm that must draw is no worse for being evaluated.

        Raises:
            InvalidSettingError: An observation of another shape or with a reward that is not finite, or a state for
                another number of rows.
        """
        given = np.asarray(observation)
        if given.ndim not in (1, 2) or given.shape[-1] != self.arms + 1:
            raise InvalidSettingError(
                f"observations must have shape {(self.arms + 1,)} or (N, {self.arms + 1}), but {given.shape} was given"
            )
        known = self._after(given.reshape(-1, self.arms + 1), state, episode_start)
        action = self.algorithm.choose(known, self.generator) + self._first
        return (action if given.ndim == 2 else action[0]), known

    def _after(self, rows: Array, state: tuple[Array, ...] | None, episode_start: Array | None) -> Any:
        """Return what is known after the last pulls, told by observations `[N, k + 1]`."""
        known = fresh = self.algorithm.start(len(rows), self.arms)
        if state is not None:
            known = type(fresh)(*state)
            if len(known[0]) != len(rows):
                raise InvalidSettingError(f"the state is of {len(known[0])} bandits, but {len(rows)} were observed")
            if episode_start is not None and np.any(episode_start):
                known = _where(np.array(episode_start, np.bool_), fresh, known)
        pulled: Array = rows[:, :-1].max(1) > 0
        reward = rows[:, -1].astype(np.float64)
        if not np.isfinite(reward).all():
            raise InvalidSettingError(f"rewards must be finite, but the environment gave {reward}")
        if not pulled.any():
            return known
        learned = self.algorithm.learn(known, rows[:, :-1].argmax(1), reward)
        return learned if pulled.all() else _where(pulled, learned, known)

    def __repr__(self) -> str:
        return f"BanditPolicy({self.algorithm!r})"

    # Files ------------------------------------------------------------------------------------------------------

    def save(self, path: FilePath) -> None:
        """Save the algorithm, its settings, the spaces, and the state of the generator.

        Raises:
            InvalidSettingError: An algorithm that is not one of `BANDITS`.
        """
        self._write(path, {"generator": self.generator.bit_generator.state})

    def _saved_arguments(self) -> dict[str, Any]:
        names = {kind: name for name, kind in BANDITS.items()}
        if type(self.algorithm) not in names:
            raise InvalidSettingError(f"files hold the algorithms of BANDITS, not {type(self.algorithm).__name__}")
        return {
            "policy": names[type(self.algorithm)],
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "seed": self.seed,
            "settings": asdict(self.algorithm),
        }

    @classmethod
    def load(cls, path: FilePath) -> Self:
        """Load a policy that `save` wrote; no code in the file is run.

        Raises:
            DamagedFileError: Truncated, corrupted, or something else.
        """
        arguments, state = cls._read(path)
        try:
            observation_space, action_space = (
                space_from_json(arguments[f"{n}_space"]) for n in ("observation", "action")
            )
            loaded = cls.__new__(cls)
            loaded._set_up(
                arguments["policy"], observation_space, action_space, arguments["seed"], arguments["settings"]
            )
            loaded.generator.bit_generator.state = state["generator"]
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"the file is not complete: {error}") from error
        return loaded


def _spaces_of(env: Any) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """Return the spaces of one environment."""
    if isinstance(env, gym.vector.VectorEnv):
        return env.single_observation_space, env.single_action_space
    return env.observation_space, env.action_space


def _reward_bounds(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> tuple[float, float]:
    """Return the bounds of a bandit's rewards, or refuse what is none."""
    arms = int(action_space.n) if isinstance(action_space, spaces.Discrete) else 0
    if not arms or not isinstance(observation_space, spaces.Box) or observation_space.shape != (arms + 1,):
        raise UnsupportedSpaceError(
            "bandit algorithms take Discrete(k) actions and a Box of k + 1 columns (the last action one-hot, the last "
            f"reward), as mbrl/Bandit-v0 has them, but the spaces are {action_space} and {observation_space}"
        )
    return float(observation_space.low[-1]), float(observation_space.high[-1])


def _where(mask: Array, chosen: Any, other: Any) -> Any:
    """Return the rows `[N]` of one state where the mask says so, else of another."""
    if isinstance(other, np.ndarray):
        return np.where(mask.reshape(-1, *[1] * (other.ndim - 1)), chosen, other)
    parts = [_where(mask, a, b) for a, b in zip(chosen, other, strict=True)]
    return type(other)(*parts) if hasattr(other, "_fields") else tuple(parts)
