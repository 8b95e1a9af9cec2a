"""Evaluation on the same episodes for every agent, and what they are worth at best and at random."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.type_aliases import PolicyPredictor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

import mbrl_gym
from mbrl_gym.scores import EVALUATION_SEEDS, evaluation_states

from ..mcts import MCTS
from ..mpc import MPC
from ..vec_env import as_sb3_vec_env

__all__ = [
    "EVALUATION_SEED",
    "Evaluation",
    "EvaluationCallback",
    "Normalised",
    "RandomPolicy",
    "Reference",
    "evaluated",
    "reference",
]

EVALUATION_SEED = EVALUATION_SEEDS[0]


class RandomPolicy:
    """Actions drawn uniformly from the action space, for observations of any kind."""

    def __init__(self, action_space: spaces.Space[Any], seed: int = EVALUATION_SEED) -> None:
        self.action_space = copy.deepcopy(action_space)
        self.action_space.seed(seed)

    def predict(
        self,
        observation: np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]],
        state: tuple[np.ndarray[Any, Any], ...] | None = None,
        episode_start: np.ndarray[Any, Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray[Any, Any], None]:
        """Return actions `[N, A]` (or `[N]`) for the observations `[N, ...]`."""
        rows = len(next(iter(observation.values())) if isinstance(observation, dict) else observation)
        return np.array([self.action_space.sample() for _ in range(rows)]), None


class Normalised:
    """An agent that sees normalised observations, for episodes in which they are not."""

    def __init__(self, agent: BaseAlgorithm, normalisation: VecNormalize) -> None:
        self.agent, self.normalisation = agent, normalisation
        self.observation_space, self.action_space = agent.observation_space, agent.action_space

    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict as the agent does."""
        return self.agent.predict(self.normalisation.normalize_obs(observation), *args, **kwargs)


class Evaluation:
    """A fixed set of episodes of one environment.

    The episodes start in the same states at every call, whatever the agent; tasks of this package also draw the same
    noise in them. One row of a vector environment plays each episode.

    Args:
        env_id: The environment.
        episodes: Number N of episodes.
        scored: Whether they start as those of `mbrl_gym.score`, of which there are 100. Other packages' environments
            do so anyway.
        seed: Seeds the episodes where they are not those of `mbrl_gym.score`.
        **settings: Arguments of `gym.make`.
    """

    def __init__(
        self, env_id: str, episodes: int, *, scored: bool = False, seed: int = EVALUATION_SEED, **settings: Any
    ) -> None:
        self.episodes, self.seed = episodes, seed
        with gym.make(env_id, **settings) as single:
            spec = single.spec
        assert spec is not None
        self.steps = spec.max_episode_steps  # length of an episode
        self.lengths = np.zeros(episodes, np.int64)  # [N] of the episodes played last
        self.env: VecEnv
        self._options: dict[str, Any] = {}
        if str(spec.vector_entry_point).startswith("mbrl_gym."):
            vector_env = gym.make_vec(env_id, num_envs=episodes, autoreset_mode="SameStep", **settings)
            self.env = as_sb3_vec_env(vector_env)
            if scored and env_id in mbrl_gym.env_ids():
                self._options = {"state": evaluation_states(env_id)[:episodes]}
        else:
            self.env = DummyVecEnv([lambda: gym.make(env_id, **settings)] * episodes)

    def __call__(self, policy: PolicyPredictor) -> np.ndarray[Any, Any]:
        """Return the N returns of a policy that acts deterministically, in the order of their starts."""
        self._prepare()
        ended: list[int] = []  # rows in the order in which their episodes end
        returns, lengths = evaluate_policy(
            policy,
            self.env,
            self.episodes,
            deterministic=True,
            return_episode_rewards=True,
            warn=False,
            callback=lambda inner, _: ended.append(inner["i"]) if inner["done"] else None,
        )
        order = np.argsort(ended)
        self.lengths = np.array(lengths, np.int64)[order]
        return np.array(returns, np.float64)[order]

    def starts(self) -> Any:
        """Return the observations `[N, ...]` in which the episodes start."""
        self._prepare()
        return self.env.reset()

    def _prepare(self) -> None:
        """Make the next reset start the episodes."""
        self.env.seed(self.seed)
        if self._options:
            self.env.set_options(self._options)

    def optimum(self) -> float | None:
        """Return the mean of the best returns that are possible in the N episodes.

        None where the task does not know them, or only by a search of minutes or a package that is not installed.
        """
        self.starts()
        try:
            task, snapshot = self.env.get_attr("task")[0], self.env.env_method("get_state")[0]
            if not task.optimum.quick:
                return None
            return float(np.mean(task.optimal_return(snapshot["state"], self.steps)))
        except (AttributeError, ImportError, NotImplementedError):
            return None

    def decision_ms(self, agent: PolicyPredictor, decisions: int = 25) -> float:
        """Return the median time of a decision for one observation [ms]; recurrent states are passed on."""
        starts = self.starts()
        observation = {k: v[0] for k, v in starts.items()} if isinstance(starts, dict) else np.asarray(starts[0])
        state, start, times = None, np.ones(1, np.bool_), []
        for _ in range(decisions):
            begin = time.perf_counter()
            _, state = agent.predict(observation, state, start, deterministic=True)
            times.append(1000 * (time.perf_counter() - begin))
            start = np.zeros(1, np.bool_)
        return statistics.median(times)

    def close(self) -> None:
        """Close the environments."""
        self.env.close()


class EvaluationCallback(BaseCallback):
    """Evaluates the agent before, during and after training, and times the training in between.

    A planning agent acts at random until its model is fitted for the first time, and is evaluated so. Agents that see
    normalised observations (`VecNormalize`) are given such.

    Args:
        evaluation: The episodes.
        marks: Environment steps; each evaluation takes place at the first step that reaches its mark. The one after
            training is not among them.
    """

    def __init__(self, evaluation: Evaluation, marks: Sequence[int]) -> None:
        super().__init__()
        self.evaluation = evaluation
        self.rows: list[tuple[int, float, float, float]] = []  # steps, training time [s], mean and std of the returns
        self._marks = list(marks)
        self._started: float | None = None  # the clock when training started [s]
        self._paused = 0.0  # time of evaluations since then [s]
        self._before: float | None = None  # training time of a run that is resumed [s]

    @property
    def seconds(self) -> float:
        """Training time so far [s]."""
        return 0.0 if self._started is None else time.perf_counter() - self._started - self._paused

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock."""
        begin = time.perf_counter()
        yield
        self._paused += time.perf_counter() - begin

    def resume(self, rows: Sequence[tuple[int, float, float, float]], seconds: float) -> None:
        """Go on after a training that was broken off: these evaluations were made in so many seconds."""
        self.rows, self._before = list(rows), seconds
        self._marks = [mark for mark in self._marks if mark > rows[-1][0]]

    def _on_training_start(self) -> None:
        if self._before is None:
            self._evaluate()
        self._started, self._paused = time.perf_counter() - (self._before or 0.0), 0.0

    def _on_step(self) -> bool:
        if self._marks and self.num_timesteps >= self._marks[0]:
            self._marks = [mark for mark in self._marks if mark > self.num_timesteps]
            self._evaluate()
        return True

    def _on_training_end(self) -> None:
        self._evaluate()

    def _evaluate(self) -> None:
        seconds = self.seconds
        with self.paused():
            returns = self.evaluation(evaluated(self.model))
            self.note(returns)
            self.rows.append((self.model.num_timesteps, seconds, float(returns.mean()), float(returns.std())))

    def note(self, returns: np.ndarray[Any, Any]) -> None:
        """Look at the returns `[N]` of an evaluation."""


def evaluated(agent: BaseAlgorithm) -> PolicyPredictor:
    """Return what is evaluated of an agent that learns."""
    if isinstance(agent, MPC | MCTS) and not agent.world_model.fitted:
        return RandomPolicy(agent.action_space)
    normalisation = agent.get_vec_normalize_env()
    return agent if normalisation is None else Normalised(agent, normalisation)


@dataclass(frozen=True)
class Reference:
    """What the evaluation episodes are worth, on average."""

    random: float  # return of random actions
    optimum: float | None  # best possible return, where the task knows it


def reference(env_id: str, episodes: int) -> Reference:
    """Return the reference values of the evaluation episodes."""
    evaluation = Evaluation(env_id, episodes)
    try:
        random = evaluation(RandomPolicy(evaluation.env.action_space))
        return Reference(float(random.mean()), evaluation.optimum())
    finally:
        evaluation.close()
