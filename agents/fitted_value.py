"""Learning, inside a world model, what return to expect from a state on."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from mbrl_gym.errors import PlanningError
from mbrl_gym.models import WorldModel
from mbrl_gym.models.dense import dense_layers

from .planning.actions import ChoiceCode, action_code
from .planning.evaluation import check, check_whole

__all__ = ["FittedValue", "ValueFit"]

WALK = 20  # steps of an imagined walk, on average
RANDOM = 0.3  # share of a walk's actions that are random
MARGIN = 0.5  # how far walks may leave the range of the data, in its widths


class ValueFit(NamedTuple):
    """What a call of `FittedValue.fit` did."""

    error: float  # root mean square of the values' Bellman residuals at the last pass's states, in units of rewards
    mean: float  # mean target of the last pass's states


class _Backup(NamedTuple):
    """One step of value iteration at S states and K actions."""

    target: Tensor  # [S]; -inf where no action leads to anything finite
    best: Tensor  # [S], number of the action that attains it
    following: Tensor  # [K, S, ...], where a particle of each state and action goes
    terminated: Tensor  # [K, S] bool, likewise


class FittedValue(nn.Module):
    """The discounted return of acting well, learned by fitted value iteration in a world model.

    A pass takes `states` states, sets each one's target to the best action's reward and discounted next value by the
    model's word (the mean over its particles, without noise), and fits the network to the targets once over (Munos and
    Szepesvari 2008, "Finite-Time Bounds for Fitted Value Iteration", with one sample of states a pass). Next values,
    and what the planner is told, come from a running average of the weights, without which errors grow from pass to
    pass. Half of the states were observed; the others are where walks in the model have come, which start at observed
    states, mostly take the best action, and start anew where they leave the range of the data by more than half of its
    width, so that values also learn of states that lie between here and there. A planner whose horizon ends with such a
    value plans online and learns offline (Lowrey et al. 2019, "POLO").

    What is far away is not learned in one fit: news travels some `passes * states / batch_size * averaging` steps, and
    later fits go on from there.

    Where choices are more than `actions`, and of Box actions, `actions` are drawn anew for every pass: choices and half
    of the Box actions uniformly, the other half at the corners, since force that is bounded is often best used in full.

    As a function it takes observations `[..., O]` and returns `[...]` in their dtype (float32 for integers), with
    gradients to observations but none to the weights. Until the first fit it is 0.

    Args:
        model: Tells the observations.
        action_space: Which actions there are.
        discount: Weight of a reward relative to the one a step earlier, less than 1.
        generator: Source of the initial weights, and of all that is drawn in `fit`.
        hidden: Units of the hidden layers.
        passes: Of a fit.
        states: In a pass.
        actions: The most that are tried in a state.
        batch_size: States in a gradient step.
        learning_rate: Of Adam.
        averaging: Share of the present weights in the averaged ones, a gradient step.

    Raises:
        InvalidSettingError: A setting out of its range.
        UnsupportedSpaceError: Actions that planners cannot handle.
    """

    def __init__(
        self,
        model: WorldModel,
        action_space: spaces.Space[Any],
        discount: float,
        generator: torch.Generator,
        *,
        hidden: Sequence[int] = (128, 128),
        passes: int = 100,
        states: int = 512,
        actions: int = 32,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        averaging: float = 0.03,
    ) -> None:
        super().__init__()
        check(0 < discount < 1, "discount", discount, "in (0, 1) where a value is learned")
        counts = {"passes": passes, "states": states, "actions": actions, "batch_size": batch_size}
        for name, given in (*counts.items(), *(("hidden", size) for size in hidden)):
            check_whole(name, given, 1)
        check(0 < learning_rate < math.inf, "learning_rate", learning_rate, "greater than 0 and finite")
        check(0 < averaging <= 1, "averaging", averaging, "in (0, 1]")
        self.discount, self.generator = discount, generator
        self.passes, self.states, self.actions = passes, states, actions
        self.batch_size, self.learning_rate, self.averaging = batch_size, learning_rate, averaging
        self.code = action_code(action_space, type(self).__name__)
        self.encode = model.encode_observation
        self.layers = dense_layers((self.encode.size, *hidden, 1), generator)
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        self.averaged = copy.deepcopy(self.layers).requires_grad_(False)
        self.mean: Tensor
        self.scale: Tensor
        self.unit: Tensor
        self.register_buffer("mean", torch.zeros(self.encode.size))  # of the features
        self.register_buffer("scale", torch.ones(self.encode.size))
        self.register_buffer("unit", torch.tensor(1.0))  # what the network counts in: the largest reward
        self.fitted: Tensor
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, observation: Tensor) -> Tensor:
        """Return the values `[...]` of observations `[..., O]`."""
        value = self.unit * self._network(self.averaged, observation)
        return value.to(observation.dtype) if observation.is_floating_point() else value

    def _network(self, layers: nn.ModuleList, observation: Tensor) -> Tensor:
        """Return the values of an observation in units of `unit`."""
        hidden = (self._features(observation) - self.mean) / self.scale
        for layer in layers[:-1]:
            hidden = functional.silu(layer(hidden))
        return layers[-1](hidden)[..., 0]

    def _features(self, observation: Tensor) -> Tensor:
        return self.encode(observation).to(self.mean.dtype)

    @torch.inference_mode(False)
    def fit(self, model: WorldModel, observation: Tensor, reward: Tensor) -> ValueFit:
        """Iterate from the present values on.

        Args:
            model: Predicts.
            observation: States that were observed `[T, O]`.
            reward: Rewards that were observed `[T]`.

        Raises:
            PlanningError: The model predicts nothing finite for any state of a pass.
        """
        self._normalise(observation, reward)
        optimiser = torch.optim.Adam(self.layers.parameters(), self.learning_rate)
        walking = self._drawn(observation, -(-self.states // 2))
        for _ in range(self.passes):
            states = torch.cat((walking, self._drawn(observation, self.states - len(walking))))
            backup = self.backup(model, states, self._some_actions().to(states.device))
            finite = backup.target.isfinite()
            if not bool(finite.any()):
                raise PlanningError(f"{type(model).__name__} predicts nothing finite for any of {len(states)} states")
            states, target = states[finite], backup.target[finite]
            self._regress(optimiser, states, target)
            walking = self._walked(backup, observation, len(walking))
        self.fitted.fill_(True)
        residual = self(states).detach() - target
        return ValueFit(float(residual.square().mean().sqrt()), float(target.mean()))

    @torch.no_grad()
    def backup(self, model: WorldModel, states: Tensor, actions: Tensor) -> _Backup:
        """Return what the best of K actions `[K, ...]` is worth at each of S states `[S, ...]`."""
        count, particles = len(states), model.particle_unit
        start = states.repeat(len(actions), *[1] * (states.dim() - 1))
        prediction = model.step(model.start(start, particles), actions.repeat_interleave(count, 0))
        # Nothing can be worth more than the largest reward for ever: networks that are asked far away know no bounds.
        largest = torch.maximum(self.unit, prediction.reward.abs().nan_to_num(0.0, posinf=0.0).max())
        bound = largest / (1 - self.discount)
        after = torch.where(prediction.terminated, 0.0, self(prediction.observation).clamp(-bound, bound))
        worth = (prediction.reward + self.discount * after).mean(0).view(-1, count)
        worth = torch.where(worth.isfinite(), worth, -torch.inf)
        target, best = worth.to(self.mean.dtype).max(0)
        following = prediction.observation[0].view(-1, *states.shape)
        return _Backup(target, best, following, prediction.terminated[0].view(-1, count))

    @torch.no_grad()
    def _normalise(self, observation: Tensor, reward: Tensor) -> None:
        """Centre and scale the features by the data; values stay the same but for that (van Hasselt et al. 2016)."""
        features = self._features(observation)
        low, high = features.amin(0), features.amax(0)
        self.centre, self.reach = (low + high) / 2, (0.5 + MARGIN) * (high - low)
        deviation = features.std(0, unbiased=False)
        self.mean.copy_(features.mean(0))
        self.scale.copy_(torch.where(deviation > 1e-6 * (1 + self.mean.abs()), deviation, 1.0))
        largest = reward.abs().max().to(self.unit.dtype)
        unit = torch.where(largest > 0, largest, 1.0)
        for parameter in (*self.layers[-1].parameters(), *self.averaged[-1].parameters()):
            parameter.mul_(self.unit / unit)
        self.unit.copy_(unit)

    def _regress(self, optimiser: torch.optim.Optimizer, states: Tensor, target: Tensor) -> None:
        """Go over the states once."""
        order = torch.randperm(len(states), generator=self.generator).to(states.device)
        mine, averages = tuple(self.layers.parameters()), tuple(self.averaged.parameters())
        for rows in order.split(self.batch_size):
            optimiser.zero_grad(set_to_none=True)
            functional.huber_loss(self._network(self.layers, states[rows]), target[rows] / self.unit).backward()
            optimiser.step()
            with torch.no_grad():
                torch._foreach_lerp_(averages, mine, self.averaging)

    @torch.no_grad()
    def _walked(self, backup: _Backup, observation: Tensor, count: int) -> Tensor:
        """Return where the first `count` states lead: mostly by the best action; some walks start anew."""
        draws = torch.rand((3, count), generator=self.generator).to(observation.device)
        other = (draws[0] * len(backup.following)).long()
        chosen = torch.where(draws[1] < RANDOM, other, backup.best[:count])
        row = torch.arange(count, device=observation.device)
        following = backup.following[chosen, row]
        over = backup.terminated[chosen, row] | (draws[2] < 1 / WALK)
        strays = (self._features(following) - self.centre).abs() > self.reach  # false for NaN
        over |= ~following.view(count, -1).isfinite().all(1) | strays.any(1)
        following[over] = self._drawn(observation, int(over.sum())).to(following.dtype)
        return following

    def _drawn(self, observation: Tensor, count: int) -> Tensor:
        chosen = torch.randint(len(observation), (count,), generator=self.generator)
        return observation[chosen.to(observation.device)]

    def _some_actions(self) -> Tensor:
        """Return the actions `[K, ...]` of a pass."""
        if isinstance(self.code, ChoiceCode) and self.code.choices <= self.actions:
            return self.code.every_action()
        vectors = self.code.uniform(self.actions, 1, self.generator)[0, :, 0]
        if not isinstance(self.code, ChoiceCode):
            vectors[: len(vectors) // 2].sign_()
        return self.code.decode(vectors)
