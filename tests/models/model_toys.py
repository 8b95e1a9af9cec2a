"""Small data sets with known laws, and the cases of the model contract."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

import mbrl_gym
from mbrl_gym.envs import Task
from mbrl_gym.envs.task import draw as draw_numpy
from mbrl_gym.models import (
    AnalyticModel,
    BiasedModel,
    ExactModel,
    GaussianEnsemble,
    GPModel,
    LinearModel,
    MLPModel,
    TabularModel,
    Transitions,
    WorldModel,
)
from mbrl_gym.models.spaces import to_rows
from mbrl_gym.wrappers import SimulatorModel

LINE = spaces.Box(-np.inf, np.inf, (1,), np.float32)
PLANE = spaces.Box(-np.inf, np.inf, (2,), np.float32)
UNIT = spaces.Box(-1.0, 1.0, (1,), np.float32)
ODD = spaces.Box(np.float32([-3.0, 5.0, 0.001]), np.float32([1.0, 9.0, 0.002]))
CHOICES = spaces.Discrete(4, start=2)
PAIRS = spaces.MultiDiscrete([3, 2], start=[1, 0])
MIXED = spaces.Dict({"gear": spaces.Discrete(3), "place": PLANE})
SMALL: dict[str, Any] = {"members": 4, "hidden": (16, 16), "max_epochs": 5, "learning_rate": 0.01}
ALONE: dict[str, Any] = {name: value for name, value in SMALL.items() if name != "members"}
FEW: dict[str, Any] = {"likelihood_rows": 40, "iterations": 5}


def transitions(observation: Any, action: Any, reward: Any, next_observation: Any, terminated: Any = None):
    """Make transitions; reals become float32, as environments give them."""
    count = len(reward)
    never = np.zeros(count, bool)
    action = np.asarray(action)
    return Transitions(
        np.asarray(observation, np.float32),
        action if action.dtype.kind == "i" else action.astype(np.float32),
        np.asarray(reward, np.float32),
        np.asarray(next_observation, np.float32),
        never if terminated is None else np.asarray(terminated, bool),
        never,
        np.zeros(count, int),
    )


def some_actions(space: spaces.Space, count: int, seed: int = 0) -> Any:
    """Draw actions within the space's bounds."""
    generator = np.random.default_rng(seed)
    if isinstance(space, spaces.Discrete):
        return space.start + generator.integers(space.n, size=count)
    if isinstance(space, spaces.MultiDiscrete):
        return space.start + generator.integers(space.nvec, size=(count, len(space.nvec)))
    return generator.uniform(space.low, space.high, (count, *space.shape)).astype(np.float32)


def wild(
    space: spaces.Space, count: int, *, terminal: bool = False, seed: int = 0, observation_space: spaces.Space = PLANE
) -> Transitions:
    """Draw non-linear transitions of any (observation space, action space).

    Continuous columns are far from zero mean and unit scale. Choices move on by the sum of the action's numbers, and
    stay where they are in a fifth of the steps.
    """
    generator = np.random.default_rng(seed)
    action = some_actions(space, count, seed)
    push = action[:, 0] if action.ndim == 2 else action
    place = generator.normal([100.0, -0.03], [4.0, 0.01], (count, 2))
    change = np.stack([np.sin(place[:, 0]) + push, 0.01 * np.cos(push)], 1)
    change += generator.normal(0.0, [0.5, 0.002], (count, 2))
    if observation_space == PLANE:
        reward = 7.0 + change[:, 0] * place[:, 1]
        return transitions(place, action, reward, place + change, (change[:, 0] > 1.5) if terminal else None)
    choices = observation_space["gear"] if isinstance(observation_space, spaces.Dict) else observation_space
    size = choices.n if isinstance(choices, spaces.Discrete) else choices.nvec
    gear = some_actions(choices, count, seed + 1)
    step = np.rint(push).astype(int) if gear.ndim == 1 else np.rint(push).astype(int)[:, None]
    moved = choices.start + (gear - choices.start + step) % size
    stays = generator.random(gear.shape[:1]) < 0.2
    after = np.where(stays if gear.ndim == 1 else stays[:, None], gear, moved)
    reward = 7.0 + (after.sum(-1) if after.ndim == 2 else after) + generator.normal(size=count)
    terminated = reward > np.median(reward) if terminal else None
    if isinstance(observation_space, spaces.Dict):
        gear, after = (
            to_rows(observation_space, {"gear": one, "place": two})
            for one, two in ((gear, place), (after, place + change))
        )
    data = transitions(np.zeros(count), action, reward, np.zeros(count), terminated)
    return data._replace(observation=gear, next_observation=after)


def linear(count: int, seed: int = 0) -> Transitions:
    """Draw transitions of x' = x + 0.5 a, reward 2 x - a."""
    generator = np.random.default_rng(seed)
    x, a = generator.normal(size=(count, 1)), generator.uniform(-1.0, 1.0, (count, 1))
    return transitions(x, a, (2 * x - a)[:, 0], x + 0.5 * a)


def fully_observed_tasks() -> dict[str, Task]:
    """Return the tasks behind all registered ids whose state can be read from an observation."""
    tasks = {env_id: gym.make(env_id).unwrapped.task for env_id in mbrl_gym.env_ids()}
    return {env_id: task for env_id, task in tasks.items() if task.fully_observed}


def task_states(task: Task, rows: int, seed: int = 0) -> Any:
    """Return states `[rows, S]` three steps after the start, where nothing is zero any more."""
    generator = np.random.default_rng(seed)
    state = task.initial(draw_numpy(generator, (rows,), task.initial_noise, task.dtype))
    for step in range(3):
        noise = draw_numpy(generator, (rows,), task.transition_noise, task.dtype)
        state = task.transition(state, some_actions(task.action_space, rows, seed + step), noise)
    return state


@dataclass(frozen=True)
class Case:
    """A model that can predict, and where to try it."""

    make: Callable[..., WorldModel]  # takes reward_fn and termination_fn
    model: WorldModel
    observation: Tensor  # [N, O]
    action: Tensor  # [N, A] or [N]


def exact_case(task: Task, model_class: type[ExactModel] = ExactModel, **settings: Any) -> Case:
    """Return the exact model of a task, or a biased one."""

    def make(**replaced: Any) -> WorldModel:
        return model_class(task, **settings, **replaced)

    observation = torch.as_tensor(task.observation(task_states(task, 6)))
    return Case(make, make(), observation, torch.as_tensor(some_actions(task.action_space, 6)))


def learned_case(
    model_class: type[WorldModel],
    space: spaces.Space,
    observation_space: spaces.Space = PLANE,
    *,
    terminal: bool = False,
    **settings: Any,
) -> Case:
    """Return a model that was fitted for a moment."""
    data = wild(space, 80, terminal=terminal, observation_space=observation_space)

    def make(**replaced: Any) -> WorldModel:
        model = model_class(observation_space, space, **settings, **replaced)
        model.fit(data)
        return model

    return Case(make, make(), torch.as_tensor(data.observation[:6]), torch.as_tensor(data.action[:6]))


def ensemble_case(space: spaces.Space, observation_space: spaces.Space = PLANE, **settings: Any) -> Case:
    """Return a small ensemble that was fitted for a moment."""
    return learned_case(GaussianEnsemble, space, observation_space, **{**SMALL, **settings})


def analytic_case(space: spaces.Space, *, terminal: bool = False) -> Case:
    """Return a model of functions written here, in which the action pushes by its component or number."""
    data = wild(space, 6)

    def push(action: Tensor) -> Tensor:
        action = action.float()
        return action[..., 0] if isinstance(space, spaces.Box) else action

    def dynamics_fn(observation: Tensor, action: Tensor) -> Tensor:
        change = torch.sin(observation[..., 0]) + push(action)
        return observation + torch.stack((change, 0.01 * torch.cos(change)), -1)

    functions: dict[str, Any] = {
        "dynamics_fn": dynamics_fn,
        "reward_fn": lambda before, action, after: 7.0 + after[..., 1] * push(action),
        "termination_fn": (lambda after: after[..., 0] > 100.0) if terminal else None,
    }

    def make(**replaced: Any) -> WorldModel:
        return AnalyticModel(PLANE, space, **{**functions, **replaced})

    return Case(make, make(), torch.as_tensor(data.observation), torch.as_tensor(data.action))


CASES: dict[str, Callable[[], Case]] = {
    **{f"exact {env_id}": lambda task=task: exact_case(task) for env_id, task in fully_observed_tasks().items()},
    "ensemble, Box": lambda: ensemble_case(ODD, members=3),
    "ensemble, Discrete": lambda: ensemble_case(CHOICES, members=3),
    "ensemble, elites": lambda: ensemble_case(ODD, members=4, elites=2),
    "ensemble, terminal": lambda: ensemble_case(CHOICES, terminal=True, members=2),
    "ensemble, Discrete observations": lambda: ensemble_case(CHOICES, CHOICES, terminal=True, members=3),
    "ensemble, MultiDiscrete": lambda: ensemble_case(PAIRS, PAIRS, members=3),
    "ensemble, Dict observations": lambda: ensemble_case(ODD, MIXED, members=3),
    "ensemble, bf16": lambda: ensemble_case(ODD, members=3, precision="bf16"),
    "mlp, Box": lambda: learned_case(MLPModel, ODD, **ALONE),
    "mlp, Discrete": lambda: learned_case(MLPModel, CHOICES, **ALONE),
    "mlp, terminal": lambda: learned_case(MLPModel, CHOICES, terminal=True, **ALONE),
    "mlp, Discrete observations": lambda: learned_case(MLPModel, CHOICES, CHOICES, terminal=True, **ALONE),
    "mlp, Dict observations": lambda: learned_case(MLPModel, ODD, MIXED, **ALONE),
    "linear, Box": lambda: learned_case(LinearModel, ODD),
    "linear, Discrete": lambda: learned_case(LinearModel, CHOICES),
    "linear, terminal": lambda: learned_case(LinearModel, CHOICES, terminal=True),
    "linear, float64": lambda: learned_case(LinearModel, ODD, dtype="float64", ridge=0.1),
    "linear, Discrete observations": lambda: learned_case(LinearModel, CHOICES, CHOICES, terminal=True),
    "linear, MultiDiscrete": lambda: learned_case(LinearModel, PAIRS, PAIRS),
    "linear, Dict observations": lambda: learned_case(LinearModel, ODD, MIXED),
    "gp, Box": lambda: learned_case(GPModel, ODD, **FEW),
    "gp, Discrete": lambda: learned_case(GPModel, CHOICES, kernel="matern52", **FEW),
    "gp, terminal": lambda: learned_case(GPModel, CHOICES, terminal=True, dtype="float64", **FEW),
    "gp, Discrete observations": lambda: learned_case(GPModel, CHOICES, CHOICES, terminal=True, **FEW),
    "gp, Dict observations": lambda: learned_case(GPModel, ODD, MIXED, **FEW),
    "gp, reward of the next observation": lambda: learned_case(GPModel, ODD, reward_inputs="next", **FEW),
    "gp, reward of the next Dict": lambda: learned_case(GPModel, ODD, MIXED, reward_inputs="next", **FEW),
    "gp, reward of the next choice": lambda: learned_case(
        GPModel, CHOICES, CHOICES, terminal=True, reward_inputs="next", **FEW
    ),
    "gp, reward of the next, sparse": lambda: learned_case(
        GPModel, ODD, reward_inputs="next", reward_prior="least", exact_limit=50, inducing=20, **FEW
    ),
    "gp, sparse": lambda: learned_case(GPModel, ODD, exact_limit=50, inducing=20, **FEW),
    "tabular, Discrete": lambda: learned_case(TabularModel, CHOICES, CHOICES, terminal=True, prior=9.0),
    "tabular, MultiDiscrete": lambda: learned_case(TabularModel, PAIRS, PAIRS, prior_over="seen"),
    "analytic, Box": lambda: analytic_case(ODD),
    "analytic, Discrete": lambda: analytic_case(CHOICES, terminal=True),
    "biased": lambda: exact_case(gym.make("mbrl/ArmTorque-v0").unwrapped.task, BiasedModel, relative={"mass_1": 0.2}),
}


def simulator_case(env_id: str) -> Case:
    """Return a simulator, tried where random actions lead in six episodes."""
    env = gym.make(env_id)
    env.action_space.seed(0)
    rows = []
    for seed in range(6):
        env.reset(seed=seed)
        rows.append(env.step(env.action_space.sample())[0])
    actions = np.array([env.action_space.sample() for _ in rows])
    make = functools.partial(SimulatorModel, env)
    return Case(make, make(), torch.as_tensor(np.array(rows)), torch.as_tensor(actions))


SIMULATORS: dict[str, Callable[[], Case]] = {
    f"simulator of {env_id}": functools.partial(simulator_case, env_id)
    for env_id in ("CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "mbrl/Arm-v0")
}
