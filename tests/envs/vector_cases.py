"""The cases of the contract of vector environments: every registered task, and models turned into environments."""

import functools
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from env_toys import is_random
from gymnasium import spaces

import mbrl_gym
from mbrl_gym.models import ExactModel, GaussianEnsemble, Transitions, WorldModel
from mbrl_gym.models.spaces import to_rows

HORIZON = 30  # of imagined episodes


@dataclass(frozen=True)
class VectorCase:
    """A native vector environment of any size and settings, and how to see and set its rows."""

    env_id: str
    limit: int  # steps an episode
    option: str  # of reset, that sets starts exactly
    starts_differ: bool
    random: bool = True  # whether anything is drawn
    arguments: dict[str, Any] = field(default_factory=dict)

    def make(self, **settings: Any) -> Any:
        return gym.make_vec(self.env_id, **self.arguments, **settings)

    def make_single(self, **settings: Any) -> gym.Env:
        return gym.make(self.env_id, **self.arguments, **settings)

    def rows(self, vec: Any) -> Any:
        """Return what decides the rows' future, as the option takes it: states `[N, S]` or observations `[N, ...]`."""
        return vec.get_state()[self.option]

    def observed(self, vec: Any) -> Any:
        """Return what the rows show now, flat."""
        rows = self.rows(vec)
        return vec.task.observation(rows) if self.option == "state" else rows


def of_task(env_id: str) -> VectorCase:
    task = gym.make(env_id).unwrapped.task
    starts_differ = sum(task.initial_noise) > 0
    return VectorCase(env_id, gym.spec(env_id).max_episode_steps, "state", starts_differ, is_random(task))


def of_model(model: WorldModel, start_states: Any, *, starts_differ: bool = True) -> VectorCase:
    arguments = {"model": model, "start_states": start_states, "horizon": HORIZON}
    return VectorCase("mbrl/Imagined-v0", HORIZON, "observation", starts_differ, arguments=arguments)


def exact() -> VectorCase:
    """Drift, whose steps are noisy, under its own equations."""
    model = ExactModel(gym.make("mbrl/Drift-v0").unwrapped.task)
    return of_model(model, np.linspace(-5, 5, 1000, dtype=np.float32)[:, None])


def random_steps(observation_space: spaces.Space, action_space: spaces.Space, count: int = 300) -> Transitions:
    """Draw a random walk whose reward is its first column, as transitions that belong to one endless episode."""
    generator = np.random.default_rng(0)
    observation_space.seed(0)
    action_space.seed(0)
    observed = [observation_space.sample() for _ in range(count + 1)]
    if isinstance(observation_space, spaces.Dict):
        batch = {name: np.stack([one[name] for one in observed]) for name in observation_space}
    else:
        batch = np.stack(observed)
    rows = to_rows(observation_space, batch)
    action = np.stack([action_space.sample() for _ in range(count)])
    never = np.zeros(count, bool)
    reward = generator.normal(size=count).astype(np.float32)
    return Transitions(rows[:-1], action, reward, rows[1:], never, never, np.zeros(count, int))


def learned(observation_space: spaces.Space, action_space: spaces.Space, **case: Any) -> VectorCase:
    data = random_steps(observation_space, action_space)
    model = GaussianEnsemble(observation_space, action_space, members=3, hidden=(8,), max_epochs=2)
    model.fit(data)
    return of_model(model, data, **case)


def of_choices() -> VectorCase:
    return learned(spaces.Discrete(60, start=-3), spaces.Discrete(3), starts_differ=False)


def of_parts() -> VectorCase:
    parts = {"place": spaces.Box(-1.0, 1.0, (2,), np.float32), "goal": spaces.Box(0.0, 3.0, (1,), np.float32)}
    return learned(spaces.Dict(parts), spaces.Box(-1.0, 1.0, (2,), np.float32))


MODELS = {
    "imagined by the exact model": exact,
    "imagined by an ensemble, Discrete": of_choices,
    "imagined by an ensemble, Dict": of_parts,
}
NAMES = (*mbrl_gym.env_ids(), *MODELS)


@functools.cache
def vector_case(name: str) -> VectorCase:
    """Return the case of a name; models are fitted once."""
    return MODELS[name]() if name in MODELS else of_task(name)
