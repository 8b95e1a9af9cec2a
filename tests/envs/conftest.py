"""Shared fixtures of the environment tests: every registered id, actions for any space, and fixed noise."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from vector_cases import NAMES, VectorCase, vector_case

import mbrl_gym
from mbrl_gym.envs import arrays, gym_env
from mbrl_gym.envs.task import Noise, NoiseSizes, Task


@pytest.fixture(scope="session", params=mbrl_gym.env_ids())
def env_id(request: pytest.FixtureRequest) -> str:
    """Every id that the package registers; a new one joins by itself."""
    return request.param


@pytest.fixture(scope="session", params=NAMES)
def case(request: pytest.FixtureRequest) -> VectorCase:
    """Every native vector environment: those of all tasks, and those that models imagine."""
    return vector_case(request.param)


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    """Make the task behind an id."""

    def make(env_id: str, **settings: Any) -> Task:
        return gym.make(env_id, **settings).unwrapped.task

    return make


@pytest.fixture(scope="session")
def some_actions() -> Callable[..., Any]:
    """Draw actions of any (batched) space; those of a Box also lie beyond its bounds."""

    def draw_actions(space: spaces.Space, steps: int, seed: int = 0) -> Any:
        generator = np.random.default_rng(seed)
        if isinstance(space, spaces.Box):
            return generator.uniform(1.5 * space.low, 1.5 * space.high, (steps, *space.shape)).astype(np.float32)
        if isinstance(space, spaces.MultiDiscrete):
            return generator.integers(space.nvec, size=(steps, *space.shape))
        return generator.integers(space.n, size=steps)

    return draw_actions


@pytest.fixture(scope="session")
def action_arrays() -> Callable[..., st.SearchStrategy]:
    """Hypothesis strategy of action sequences at, within and far beyond the bounds of any (batched) space."""

    def strategy(space: spaces.Space, steps: int) -> st.SearchStrategy:
        shape = (steps, *space.shape)
        if isinstance(space, spaces.Box):
            corners = st.sampled_from([-1e30, -1.0, -0.5, 0.0, 0.5, 1.0, 1e30])
            elements = corners | st.floats(-1.5, 1.5, width=32)
            return numpy_strategies.arrays(np.float32, shape, elements=elements)
        choices = int(np.min(space.nvec if isinstance(space, spaces.MultiDiscrete) else space.n))
        return numpy_strategies.arrays(np.int64, shape, elements=st.integers(0, choices - 1))

    return strategy


@pytest.fixture
def fixed_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every start and every step of the environments the same noise: they are then deterministic."""

    def fixed(generator: Any, batch: tuple[int, ...], sizes: NoiseSizes, dtype: Any) -> Noise:
        normal, uniform = (np.linspace(0.3, 0.7, size, dtype=dtype) for size in sizes)
        return Noise(*(np.broadcast_to(row, (*batch, row.size)).copy() for row in (normal, uniform)))

    for module in (gym_env, arrays):
        monkeypatch.setattr(module, "draw", fixed)
