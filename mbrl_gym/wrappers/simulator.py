"""A Gymnasium environment as the world model of its own future."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import wrappers
from gymnasium.envs.classic_control import (
    AcrobotEnv,
    CartPoleEnv,
    Continuous_MountainCarEnv,
    MountainCarEnv,
    PendulumEnv,
)
from gymnasium.wrappers.common import OrderEnforcing, PassiveEnvChecker
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models.base import FitReport, Prediction, Transitions, WorldModel
from mbrl_gym.models.spaces import from_rows, to_rows
from mbrl_gym.noise import Noise, NoiseSizes

__all__ = ["OutcomeTable", "SimulatorModel", "TrackState"]

Array = np.ndarray[Any, Any]
Env = gym.Env[Any, Any]

SetState = Callable[[Env, Any], None]
"""(environment, observation): put the environment in the state of that observation."""

STATELESS = (OrderEnforcing, PassiveEnvChecker, wrappers.TimeLimit, wrappers.ClipAction, wrappers.RescaleAction)
STEPS_OF_CHECK = 10


class OutcomeTable(NamedTuple):
    """All outcomes of S states and K actions, at most C of each."""

    probability: Array  # [S, K, C]; 0 where there are fewer
    following: Array  # [S, K, C] states
    reward: Array  # [S, K, C]
    ends: Array  # [S, K, C] bool


class TrackState(gym.Wrapper[Any, Any, Any, Any]):
    """Remembers the last observation, so that a `SimulatorModel` knows that this environment is where it stands.

    Where the observation does not tell the state (hidden positions, wrappers with a memory), wrap the environment in
    which the agent acts, and give the model this very object:

        env = TrackState(gym.make("Blackjack-v1"))
        agent = MCTS("UCT", env, model=SimulatorModel(env))
        evaluate_policy(agent, env)
    """

    observation: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self.observation, info = self.env.reset(seed=seed, options=options)
        return self.observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advance by one step."""
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        return self.observation, reward, terminated, truncated, info


class SimulatorModel(WorldModel):
    """An environment's own code as a world model: exact, but one row after the other.

    States are set or copied: those of toy-text environments (`s`) and of classic control (`state`) are numbers; of
    all others, with unknown wrappers or a state of their own, whole copies are kept (`copy.deepcopy`), and searches
    do not reuse subtrees. Time limits play no role: imagined episodes that are cut off go on.

    Where a search starts is found from the observation: for toy-text and classic control, and for this package's fully
    observed tasks, without further ado; otherwise by `set_state`, or by `TrackState` around the environment in which
    the agent acts.

    Args:
        env: The environment; the model works on a copy. A `TrackState`, or several, tell where they stand.
        set_state: A function of (environment, observation) that puts the environment in the state of the observation.
        stochastic: Whether steps are random, so that searches sample their outcomes. By default as toy-text's tables
            say, and False for others.

    Raises:
        InvalidSettingError: The environment cannot be copied, a copy does not replay identically, or there is no way
            from an observation to the state.
        UnsupportedSpaceError: A space that models cannot handle.
    """

    def __init__(
        self, env: Env | Sequence[TrackState], *, set_state: SetState | None = None, stochastic: bool | None = None
    ) -> None:
        several = list(env) if isinstance(env, Sequence) else [env]
        self.tracked = [each for each in several if isinstance(each, TrackState)]
        first = several[0]
        super().__init__(first.observation_space, first.action_space)
        self.arguments = {"env": env, "set_state": set_state, "stochastic": stochastic}
        self.env = _copy(first.env if isinstance(first, TrackState) else first)
        self.env.reset(seed=0)
        self._set_state = set_state
        self.states = _states_of(self.env)
        if not self.tracked and set_state is None and self.states.find is None and _exact_task(self.env) is None:
            raise InvalidSettingError(
                f"nothing tells the state of {self.env} from its observation: give set_state, a function of "
                "(environment, observation), or wrap the environment in which the agent acts in TrackState"
            )
        table = self.outcome_table
        if stochastic is None:
            stochastic = table is not None and bool(((table.probability > 0).sum(-1) > 1).any())
        self.noise_sizes = NoiseSizes(uniform=1 if stochastic else 0)
        self._check_replay()

    @property
    def keeps_states(self) -> bool:
        """Whether states outlive a decision; copies do not."""
        return not isinstance(self.states, _Copies)

    @property
    def outcome_table(self) -> OutcomeTable | None:
        """All outcomes, of a toy-text environment without further wrappers; None of others."""
        inner: Any = self.env.unwrapped
        fickle = getattr(inner, "fickle_passenger", False)
        if not isinstance(self.states, _Numbers) or not hasattr(inner, "P") or fickle:
            return None
        return _table(inner.P)

    def start(self, observation: Tensor, particles: int = 1) -> Tensor:
        """Return the states `[P, N, S]`.

        Raises:
            InvalidSettingError: A `TrackState` stands elsewhere.
        """
        self.check_particles(particles)
        if not self.keeps_states:
            self.states.clear()
        leading = observation.ndim - len(self.encode_observation.event_shape)  # [N] or [P, N]
        flat = observation.flatten(0, leading - 1)
        rows = from_rows(self.observation_space, flat.cpu().numpy())
        found = torch.as_tensor(np.stack([self._find(_row(rows, index)) for index in range(len(flat))]))
        return found.to(observation.device).unflatten(0, observation.shape[:leading]).expand(particles, -1, -1)

    def step(self, state: Tensor, action: Tensor, noise: Noise | None = None) -> Prediction:
        """Let the environment step from every state; noise, or 0.5 without it, seeds the generator of a random one."""
        particles, rows = state.shape[:2]
        actions = self.over_particles(action, particles).flatten(0, 1).cpu().numpy().astype(self.action_space.dtype)
        seeds = None
        if self.noise_sizes.uniform:
            central = torch.full((1, 1, 1), 0.5)
            uniform = central if noise is None else noise.uniform
            seeds = uniform.expand(particles, rows, 1).flatten().double().cpu().numpy()
        before = state.flatten(0, 1).cpu().numpy()
        steps = [self._step(before[i], actions[i], None if seeds is None else seeds[i]) for i in range(len(before))]
        after, observations, reward, terminated = zip(*steps, strict=True)
        observed = torch.as_tensor(self._rows(observations), device=state.device)
        dtype = self.encode_observation.dtype
        observed = observed.long() if self.encode_observation.chooses else observed.to(dtype)
        shape = (particles, rows)
        return Prediction(
            torch.as_tensor(np.stack(after), device=state.device).view(*shape, -1),
            observed.view(*shape, *observed.shape[1:]),
            torch.as_tensor(reward, dtype=dtype, device=state.device).view(shape),
            torch.as_tensor(terminated, dtype=torch.bool, device=state.device).view(shape),
        )

    def fit(self, transitions: Transitions) -> FitReport:
        """Learn nothing: the model is exact."""
        return FitReport(len(transitions.reward), 0, 0, 0.0, (), (0,), 0.0)

    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return zeros `[N]`."""
        return torch.zeros(len(observation), device=observation.device)

    def save(self, path: Any) -> None:
        """Refuse: an environment is code, which files do not hold.

        Raises:
            InvalidSettingError: Always.
        """
        raise InvalidSettingError("a SimulatorModel is made from its environment: files hold no code")

    def _step(self, state: Array, action: Any, seed: float | None) -> tuple[Array, Any, float, bool]:
        env = self.states.load(self.env, state)
        if seed is not None:
            env.unwrapped.np_random = np.random.Generator(np.random.PCG64(int(seed * 2**53)))
        observation, reward, terminated, _, _ = env.step(action)
        return self.states.save(env), observation, float(reward), bool(terminated)

    def _rows(self, observations: Sequence[Any]) -> Array:
        space = self.observation_space
        batch: Any = gym.vector.utils.create_empty_array(space, len(observations))
        return to_rows(space, gym.vector.utils.concatenate(space, observations, batch))

    def _find(self, observation: Any) -> Array:
        """Return the state of an observation."""
        if self.tracked:
            return self._of_tracked(observation)
        if self._set_state is not None:
            env = self.states.load(self.env, self.states.save(self.env))
            self._set_state(env, observation)
            return self.states.save(env)
        if self.states.find is not None:
            return self.states.find(observation)
        env = self.states.load(self.env, self.states.save(self.env))
        env.unwrapped.reset(options={"state": _exact_task(env).state(np.asarray(observation))})
        return self.states.save(env)

    def _of_tracked(self, observation: Any) -> Array:
        for env in self.tracked:
            if _equal(env.observation, observation):
                return self.states.save(env.env)
        raise InvalidSettingError(
            f"no tracked environment stands at the observation {observation!r}: give SimulatorModel the TrackState of "
            "the environment in which the agent acts"
        )

    def _check_replay(self) -> None:
        """Refuse an environment of which a copy, or a restored state, goes on in another way."""
        space = copy.deepcopy(self.action_space)
        space.seed(0)
        state, seed = self.states.save(self.env), 0.5 if self.noise_sizes.uniform else None
        for _ in range(STEPS_OF_CHECK):
            action = space.sample()
            first, second = self._step(state, action, seed), self._step(state, action, seed)
            same = _equal(first[1], second[1]) and first[2:] == second[2:]
            if not same:
                raise InvalidSettingError(
                    f"{self.env} does not replay: from the same state, the same action led to {first[1:]} and to "
                    f"{second[1:]}. If it is random say stochastic=True; if it has a state that neither copy.deepcopy "
                    "nor set_state catches it cannot be a SimulatorModel"
                )
            if first[3]:
                break
            state = first[0]
        if not self.keeps_states:
            self.states.clear()


class _Numbers:
    """States that are numbers `[S]` (float64) of the innermost environment."""

    def __init__(
        self,
        read: Callable[[Any], Array],
        write: Callable[[Any, Array], None],
        find: Callable[[Any], Array] | None = None,
    ) -> None:
        self._read, self._write, self.find = read, write, find

    def save(self, env: Env) -> Array:
        return np.asarray(self._read(env.unwrapped), np.float64).reshape(-1)

    def load(self, env: Env, state: Array) -> Env:
        layer = env
        while isinstance(layer, gym.Wrapper):
            if isinstance(layer, wrappers.TimeLimit):
                layer._elapsed_steps = 0  # type: ignore[assignment]
            layer = layer.env
        self._write(layer, state)
        return env

    def clear(self) -> None:
        pass


class _Copies:
    """States that are whole copies of the environment, by their numbers."""

    find = None

    def __init__(self) -> None:
        self._kept: list[Env] = []

    def save(self, env: Env) -> Array:
        self._kept.append(_copy(env))
        return np.array([len(self._kept) - 1], np.float64)

    def load(self, env: Env, state: Array) -> Env:
        return _copy(self._kept[int(state[0])])

    def clear(self) -> None:
        self._kept.clear()


def _states_of(env: Env) -> _Numbers | _Copies:
    """Return how the states of an environment are kept."""
    layer = env
    while isinstance(layer, gym.Wrapper):
        if type(layer) not in STATELESS:
            return _Copies()
        layer = layer.env
    if isinstance(layer, CartPoleEnv | MountainCarEnv | Continuous_MountainCarEnv):
        return _Numbers(
            lambda inner: inner.state, _write_state, lambda observation: np.asarray(observation, np.float64)
        )
    if isinstance(layer, AcrobotEnv):
        return _Numbers(lambda inner: inner.state, _write_state, _acrobot_state)
    if isinstance(layer, PendulumEnv):
        return _Numbers(lambda inner: inner.state, _write_state, _pendulum_state)
    if hasattr(layer, "P") and hasattr(layer, "s") and not getattr(layer, "fickle_passenger", False):
        return _Numbers(lambda inner: inner.s, _write_number, lambda observation: np.array([observation], np.float64))
    return _Copies()


def _write_state(inner: Any, state: Array) -> None:
    inner.state = state.copy()
    inner.steps_beyond_terminated = None


def _write_number(inner: Any, state: Array) -> None:
    inner.s = int(state[0])


def _acrobot_state(observation: Any) -> Array:
    cos1, sin1, cos2, sin2, speed1, speed2 = np.asarray(observation, np.float64)
    return np.array([np.arctan2(sin1, cos1), np.arctan2(sin2, cos2), speed1, speed2])


def _pendulum_state(observation: Any) -> Array:
    cos, sin, speed = np.asarray(observation, np.float64)
    return np.array([np.arctan2(sin, cos), speed])


def _exact_task(env: Env) -> Any:
    """Return the published task of an environment of this package, if its observations tell the state."""
    task = getattr(env.unwrapped, "task", None)
    return task if getattr(task, "fully_observed", False) else None


def _table(outcomes: dict[int, dict[int, list[tuple[float, int, float, bool]]]]) -> OutcomeTable:
    """Return toy-text's lists of (probability, next state, reward, end) as arrays."""
    states, actions = len(outcomes), len(outcomes[0])
    most = max(len(outcomes[s][a]) for s in range(states) for a in range(actions))
    table = np.zeros((4, states, actions, most))
    for s in range(states):
        for a in range(actions):
            for c, outcome in enumerate(outcomes[s][a]):
                table[:, s, a, c] = outcome
    return OutcomeTable(table[0], table[1].astype(np.int64), table[2], table[3] > 0)


def _copy(env: Env) -> Env:
    try:
        return copy.deepcopy(env)
    except Exception as error:
        raise InvalidSettingError(f"{env} cannot be copied (copy.deepcopy): {error}") from error


def _row(values: Any, index: int) -> Any:
    """Return one observation of a batch."""
    if isinstance(values, dict):
        return {name: _row(part, index) for name, part in values.items()}
    return tuple(_row(part, index) for part in values) if isinstance(values, tuple) else values[index]


def _equal(first: Any, second: Any) -> bool:
    """Whether two observations are the same."""
    if isinstance(first, dict):
        return isinstance(second, dict) and all(_equal(first[name], second.get(name)) for name in first)
    if isinstance(first, tuple):
        return all(_equal(one, other) for one, other in zip(first, second, strict=True))
    return np.array_equal(np.asarray(first), np.asarray(second))
