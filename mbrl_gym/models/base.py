"""The contract of world models: batched, in torch, with a leading particle axis."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from mbrl_gym.errors import DamagedFileError, InvalidSettingError
from mbrl_gym.models.saved import (
    FilePath,
    Saved,
    load_tensors,
    read_archive,
    space_from_json,
    space_to_json,
    storable,
)
from mbrl_gym.models.spaces import ObservationEncoder, check_action_space, check_observation_space, event_shape, leaves
from mbrl_gym.noise import Noise, NoiseSizes

__all__ = [
    "DynamicsFn",
    "FitReport",
    "Outcome",
    "Prediction",
    "RewardFn",
    "TerminationFn",
    "Transitions",
    "WorldModel",
    "as_tensor",
    "check",
    "check_action_space",
    "check_observation_space",
    "check_same_spaces",
    "draw",
]

DynamicsFn = Callable[[Tensor, Tensor], Tensor]
"""(observation [..., O], action [..., A] or [...]) -> next observation [..., O]."""

RewardFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(observation [..., O], action [..., A] or [...], next observation [..., O]) -> reward [...]."""

TerminationFn = Callable[[Tensor], Tensor]
"""next observation [..., O] -> whether the episode ends [...], bool."""

LEAST_VARIANCE = 1e-12  # of a target, where components are sure of it
MOMENT_SAMPLES = 256  # from which models without a closed form estimate the moments of an outcome


class Transitions(NamedTuple):
    """T environment steps; autoreset steps are not among them.

    Observations and actions are rows as `mbrl_gym.models.spaces` describes: `Dict` observations are flattened,
    `Discrete` ones integers. The rows of an episode are in the order of its steps, of which some may be missing; those
    of episodes that ran side by side may alternate.
    """

    observation: np.ndarray[Any, Any]  # [T, O], or [T] or [T, K] integers
    action: np.ndarray[Any, Any]  # [T, A] in the environment's units, or [T] or [T, K] integers
    reward: np.ndarray[Any, Any]  # [T]
    next_observation: np.ndarray[Any, Any]  # like observation
    terminated: np.ndarray[Any, Any]  # [T] bool
    truncated: np.ndarray[Any, Any]  # [T] bool
    episode: np.ndarray[Any, Any]  # [T] integers, the same for all rows of an episode and for no others

    def rows(self, chosen: Any) -> Transitions:
        """Return the rows that an index, slice or mask chooses."""
        return Transitions(*(part[chosen] for part in self))


class Prediction(NamedTuple):
    """One predicted step of N rows under P particles."""

    state: Any  # what the next `step` wants; planners never look inside
    observation: Tensor  # [P, N, O], or [P, N] or [P, N, K] integers
    reward: Tensor  # [P, N]
    terminated: Tensor  # [P, N] bool


class Outcome(NamedTuple):
    """What a model expects of one step, as an equally weighted mixture of M Gaussian components.

    The D = F + 1 columns are the model's targets (`WorldModel.targets`): the change of every continuous observation
    column, the probability of every choice of discrete ones, and last the reward.
    """

    mean: Tensor  # [M, N, D]
    deviation: Tensor  # [M, N, D], standard deviations; 0 where the step is deterministic
    terminated: Tensor  # [M, N], probability that the step ends the episode


@dataclass(frozen=True)
class FitReport:
    """What a call of `fit` did."""

    transitions: int
    epochs: int
    gradient_steps: int
    loss: float  # mean training loss of the last epoch
    holdout_loss: tuple[float, ...]  # best holdout loss of each of the E members
    elites: tuple[int, ...]  # the members that predict
    seconds: float


def draw(
    generator: torch.Generator, batch: tuple[int, ...], sizes: NoiseSizes, device: torch.device | str = "cpu"
) -> Noise:
    """Draw the noise `[*batch, ...]` of a batch of steps from a torch generator."""
    kwargs: dict[str, Any] = {"generator": generator, "device": generator.device}
    return Noise(
        torch.randn((*batch, sizes.normal), **kwargs).to(device),
        torch.rand((*batch, sizes.uniform), **kwargs).to(device),
    )


def as_tensor(array: np.ndarray[Any, Any] | Tensor, device: torch.device) -> Tensor:
    """Return an array of any strides, writable or not, as a tensor."""
    if not isinstance(array, Tensor):
        array = np.require(array, requirements=["C", "W"])
    return torch.as_tensor(array, device=device)


def check(condition: bool, name: str, given: Any, allowed: str) -> None:
    """Refuse a setting out of its range."""
    if not condition:
        raise InvalidSettingError(f"{name} must be {allowed}, but {given!r} was given")


class WorldModel(Saved, nn.Module, ABC):
    """A batched one-step model of an environment.

    Observations and actions are rows as `mbrl_gym.models.spaces` describes: floats `[..., O]`, or integers for
    `Discrete` (`[...]`) and `MultiDiscrete` (`[..., K]`) spaces. Shapes are written for flat Box observations.

    Subclasses keep their constructor's keyword arguments in `self.arguments`, from which `load` builds them again.

    Args:
        observation_space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` or `Tuple` of these.
        action_space: `Discrete`, `MultiDiscrete`, or flat, bounded `Box`; actions are given in the environment's own
            units.
        reward_fn: Exact reward, in place of the learned one.
        termination_fn: Exact termination, in place of the learned one.

    Raises:
        UnsupportedSpaceError: A space that models cannot handle.
    """

    noise_sizes: NoiseSizes  # random numbers that one particle's step consumes
    generator: torch.Generator | None = None  # of the models that draw random numbers while fitting
    arguments: dict[str, Any]

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        reward_fn: RewardFn | None = None,
        termination_fn: TerminationFn | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.observation_space = check_observation_space(observation_space)
        self.action_space = check_action_space(action_space)
        self._action_dimensions = len(event_shape(action_space))
        self.encode_observation = ObservationEncoder(observation_space, dtype)
        self.observation_size = self.encode_observation.size
        self.reward_fn = reward_fn
        self.termination_fn = termination_fn

    @property
    def particle_unit(self) -> int:
        """The number of particles must be a multiple of this."""
        return 1

    @property
    def terminates(self) -> bool:
        """Whether any prediction may terminate; if not, planners need not look."""
        return True

    @property
    def fitted(self) -> bool:
        """Whether the model can predict."""
        return True

    @abstractmethod
    def start(self, observation: Tensor, particles: int = 1) -> Any:
        """Return the model state of P particles at the observations `[N, O]`, or `[P, N, O]` if they start apart.

        A state is a tensor `[P, N, ...]` or a nested tuple of such, so that rows of two states can be mixed.

        Raises:
            InvalidSettingError: A number of particles that the model cannot spread over its members.
        """

    @abstractmethod
    def step(self, state: Any, action: Tensor, noise: Noise | None = None) -> Prediction:
        """Predict one step.

        Args:
            state: From `start` or the last `Prediction`.
            action: `[N, A]` or `[N]`; with a leading axis P, an action for each particle.
            noise: `[P, N, ...]` or broadcastable to it (`[P, 1, ...]` gives all rows the same random numbers);
                None predicts without noise.
        """

    @property
    def reward_apart(self) -> bool:
        """Whether a step's reward is `reward_fn` and nothing else, so that it can be had for many steps at once."""
        return False

    def advance(self, state: Any, action: Tensor, noise: Noise | None = None) -> tuple[Any, Tensor, Tensor | None]:
        """Predict one step without its reward: state, observation and termination (None for never) as in `step`."""
        prediction = self.step(state, action, noise)
        return prediction.state, prediction.observation, prediction.terminated

    @abstractmethod
    def fit(self, transitions: Transitions) -> FitReport:
        """Learn from transitions."""

    @abstractmethod
    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the model's ignorance `[N]` at observations `[N, O]` and actions `[N, A]` or `[N]`."""

    def outcome(self, observation: Tensor, action: Tensor) -> Outcome:
        """Return the distribution of one step at observations `[N, O]` and actions `[N, A]` or `[N]`.

        Models without a closed form give the moments of samples, drawn from a generator of their own.
        """
        samples = self.particle_unit * (-(-MOMENT_SAMPLES // self.particle_unit) if any(self.noise_sizes) else 1)
        noise = None
        if any(self.noise_sizes):
            generator = torch.Generator().manual_seed(0)
            noise = draw(generator, (samples, len(observation)), self.noise_sizes, observation.device)
        prediction = self.step(self.start(observation, samples), action, noise)
        after = self.encode_observation(prediction.observation)
        targets = self.encode_observation.targets(self.encode_observation(observation), after)
        columns = torch.cat((targets, prediction.reward[..., None]), -1)
        deviation, mean = torch.std_mean(columns, 0, correction=0, keepdim=True)
        return Outcome(mean, deviation, prediction.terminated.to(mean.dtype).mean(0, keepdim=True))

    def information_gain(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return how much a step is expected to tell about which component of the model is right, `[N]` in nats.

        The mutual information of the step's outcome and the component that predicts it, with Gaussian moments: the sum
        over the targets of half the logarithm of total over expected variance (MacKay 1992; of ensembles, Shyam et al.
        2019, "Model-Based Active Exploration"). What is noise to all components tells nothing. A reward that is a given
        function does not count. 0 for models of one component.
        """
        outcome = self.outcome(observation, action)
        told = slice(None) if self.reward_fn is None else slice(-1)
        spread = outcome.mean[..., told].var(0, correction=0)
        noise = outcome.deviation[..., told].square().mean(0)
        return 0.5 * torch.log1p(spread / noise.clamp_min(LEAST_VARIANCE)).sum(-1)

    def targets(self, transitions: Transitions) -> Tensor:
        """Return what `outcome` predicts, as it happened, `[T, D]`."""
        device = self.encode_observation.continuous.device
        # Float32 would lose small changes of large observations.
        before, after = (
            self._features(part, device) for part in (transitions.observation, transitions.next_observation)
        )
        reward = as_tensor(transitions.reward, device).double()
        return torch.cat((self.encode_observation.targets(before, after), reward[:, None]), -1)

    def _features(self, observation: np.ndarray[Any, Any] | Tensor, device: torch.device) -> Tensor:
        """Return features `[T, F]` in float64."""
        tensor = as_tensor(observation, device)
        return self.encode_observation(tensor).double() if self.encode_observation.chooses else tensor.double()

    def over_particles(self, action: Tensor, particles: int) -> Tensor:
        """Return actions with a leading axis P, common to all particles or not."""
        if action.ndim == 1 + self._action_dimensions:
            return action.expand(particles, *action.shape)
        return action

    def check_particles(self, particles: int) -> None:
        """Refuse a number of particles that the model cannot serve."""
        if particles < 1 or particles % self.particle_unit:
            raise InvalidSettingError(
                f"{type(self).__name__} takes a multiple of {self.particle_unit} particles, but {particles} was given"
            )

    # Files ------------------------------------------------------------------------------------------------------

    def save(self, path: FilePath) -> None:
        """Save the model: spaces, settings, everything learned, and the state of its generator.

        Args:
            path: File (".zip" is added if it has no suffix) or binary stream.
        """
        self._write(path, self._saved_state())

    @classmethod
    def load(cls, path: FilePath, env: Any = None, *, device: torch.device | str = "cpu", **replaced: Any) -> Self:
        """Load a model; no code in the file is run. `WorldModel.load` takes a file of any model.

        Args:
            path: File or binary stream that `save` wrote.
            env: Environment, vector environment or `VecEnv` whose spaces the model must have.
            device: Where to compute.
            **replaced: Constructor arguments that replace the stored ones. Functions (and tasks) are not stored and
                have to be passed again.

        Raises:
            DamagedFileError: Truncated, corrupted, or not a model of this class.
            InvalidSettingError: The environment has other spaces, or an argument that was not stored is missing; names
                it.
        """
        kind, _ = read_archive(path)
        if hasattr(path, "seek"):
            path.seek(0)
        classes = {model.__name__: model for model in _concrete(cls)}
        if kind not in classes:
            raise DamagedFileError(f"the file holds a {kind}, not one of {', '.join(sorted(classes))}")
        return classes[kind]._load(path, env, torch.device(device), replaced)

    @classmethod
    def _load(cls, path: FilePath, env: Any, device: torch.device, replaced: dict[str, Any]) -> Any:
        arguments, state = cls._read(path)
        try:
            observation_space = space_from_json(state["observation_space"])
            action_space = space_from_json(state["action_space"])
            missing = [name for name in state["not_stored"] if name not in replaced]
            parameters, generator = state["parameters"], state["generator"]
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"the file is not complete: {error}") from error
        if missing:
            raise InvalidSettingError(f"files hold no functions: pass {', '.join(missing)} to load again")
        if env is not None:
            check_same_spaces(env, observation_space, action_space)
        model = cls._from_file(observation_space, action_space, {**arguments, **replaced}).to(device)
        load_tensors(model, parameters)
        if generator is not None and model.generator is not None:
            model.generator.set_state(generator)
        return model

    @classmethod
    def _from_file(
        cls, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], arguments: dict[str, Any]
    ) -> Self:
        return cls(observation_space, action_space, **arguments)

    def _saved_arguments(self) -> dict[str, Any]:
        return {name: value for name, value in self.arguments.items() if storable(value)}

    def _saved_state(self) -> dict[str, Any]:
        return {
            "not_stored": [name for name, value in self.arguments.items() if not storable(value)],
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "parameters": self.state_dict(),
            "generator": None if self.generator is None else self.generator.get_state(),
        }


def _concrete(model: type[WorldModel]) -> Iterator[type[WorldModel]]:
    """Yield the class and all that derive from it, but for abstract ones."""
    if not getattr(model, "__abstractmethods__", None):
        yield model
    for derived in model.__subclasses__():
        yield from _concrete(derived)


def check_same_spaces(env: Any, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
    """Refuse an environment (of any kind) with other spaces than a model."""
    for name, ours in (("observation", observation_space), ("action", action_space)):
        theirs = getattr(env, f"single_{name}_space", None) or getattr(env, f"{name}_space")
        if ours != theirs or [path for path, _ in leaves(ours)] != [path for path, _ in leaves(theirs)]:
            raise InvalidSettingError(
                f"the model was learned for {name} space {ours}, but the environment's {name} space is {theirs}"
                + (" (the order of its parts is that of the columns)" if ours == theirs else "")
            )
