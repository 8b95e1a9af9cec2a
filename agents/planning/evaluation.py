"""What a plan is worth: the one loop that rolls candidate plans through a model, and what counts on the way."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError, PlanningError
from mbrl_gym.models.base import Prediction, RewardFn, WorldModel, draw
from mbrl_gym.noise import Noise

__all__ = ["CostFn", "Draws", "NoveltyFn", "Objective", "Returns", "ValueFn", "check", "evaluate", "imagine"]

ROWS_PER_CHUNK = 2560  # particles of candidates that go through a model at once
REWARDS_AT_ONCE = 65536  # particles of candidates, over successive steps, whose rewards are computed at once
PROPAGATIONS = ("TSinf", "TS1")

CostFn = Callable[[Tensor], Tensor]
"""next observation [..., O] -> cost of having got there [...]."""

NoveltyFn = Callable[[Tensor], Tensor]
"""observations along paths [P, R, H, O], where each step leads -> bonus of each step [P, R, H]."""

ValueFn = Callable[[Tensor], Tensor]
"""observation [..., O] -> return that is expected from there on [...]."""


def check(condition: bool, name: str, given: Any, allowed: str) -> None:
    """Refuse a setting out of its range."""
    if not condition:
        raise InvalidSettingError(f"{name} must be {allowed}, but {given} was given")


def check_whole(name: str, given: Any, least: int) -> None:
    """Refuse a setting that is not a whole number, or too small."""
    whole = isinstance(given, numbers.Integral)
    check(whole and given >= least, name, given, f"{'' if whole else 'a whole number of '}at least {least}")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a planner maximises.

    Args:
        particles: Trajectories P per candidate; the model's `particle_unit` by default.
        noise: Whether particles sample the model's noise (give several particles a member then: a plan fits itself to a
            single sample); by default they follow its members' means.
        propagation: "TSinf" lets a particle stay with its member of an ensemble; "TS1" gives it another one at every
            step, at random (Chua et al. 2018, section 4). Models without members do not care.
        discount: Weight of a reward relative to the one a step earlier.
        risk: Multiple of the returns' standard deviation over particles that is subtracted from their mean; negative
            values seek risk.
        worst_case: Take the worst particle in place of the mean.
        disagreement: Penalty a step, times the model's `uncertainty`; negative values explore.
        information: Bonus a step, times the model's `information_gain`.
        novelty: Bonus of steps as a function of the whole path, so that what a plan comes across twice need not count
            twice. Bonuses are discounted, and end with the episode, as rewards do.
        particle: Number of the only particle whose return counts, from 0; None for all. The limit binds all.
        cost: Safety cost of a next observation. A plan is feasible if no particle exceeds the limit on its way (the
            last step of an episode included). Infeasible candidates rank behind all feasible ones, by how far they
            exceed it.
        cost_limit: The limit.
        value: Return to expect beyond the horizon, for particles that did not terminate.

    Raises:
        InvalidSettingError: A setting out of its range.
    """

    particles: int | None = None
    noise: bool = False
    propagation: str = "TSinf"
    discount: float = 1.0
    risk: float = 0.0
    worst_case: bool = False
    disagreement: float = 0.0
    information: float = 0.0
    novelty: NoveltyFn | None = None
    particle: int | None = None
    cost: CostFn | None = None
    cost_limit: float = 0.0
    value: ValueFn | None = None

    def __post_init__(self) -> None:
        if self.particles is not None:
            check_whole("particles", self.particles, 1)
        if self.particle is not None:
            check_whole("particle", self.particle, 0)
        for name in ("risk", "disagreement", "information", "cost_limit"):
            check(math.isfinite(getattr(self, name)), name, getattr(self, name), "a finite number")
        check(self.propagation in PROPAGATIONS, "propagation", self.propagation, " or ".join(PROPAGATIONS))
        check(0 < self.discount <= 1, "discount", self.discount, "in (0, 1]")
        check(self.value is None or callable(self.value), "value", repr(self.value), "a function or None")
        check(not (self.risk and self.worst_case), "risk", self.risk, "0 where worst_case is chosen")

    def expected_return(self) -> Objective:
        """Return this objective without penalties, bonuses, limits, and value beyond the horizon."""
        plain = replace(self, risk=0.0, worst_case=False, disagreement=0.0, information=0.0, particle=None)
        return replace(plain, novelty=None, cost=None, value=None)

    def particles_of(self, model: WorldModel) -> int:
        """Return the number P of particles."""
        return model.particle_unit if self.particles is None else self.particles

    def draw(self, model: WorldModel, horizon: int, generator: torch.Generator, device: Any) -> Draws:
        """Draw the random numbers of one decision, which all candidates and rows share."""
        particles = self.particles_of(model)
        noise = order = None
        if self.noise and any(model.noise_sizes):
            whole = draw(generator, (horizon, particles, 1), model.noise_sizes, device)
            noise = [Noise(whole.normal[t], whole.uniform[t]) for t in range(horizon)]
        if self.propagation == "TS1" and model.particle_unit > 1:
            uniform = torch.rand((horizon, particles), generator=generator, device=generator.device)
            order = list(uniform.argsort(1).to(device).unbind(0))
        return Draws(noise, order)


class Draws(NamedTuple):
    """The random numbers of a decision's roll-outs (common random numbers)."""

    noise: Sequence[Noise] | None = None  # `[P, 1, ...]` for each step; None for noise-free predictions
    order: Sequence[Tensor] | None = None  # `[P]`, the particle that goes on in each one's place; None keeps them


class Returns(NamedTuple):
    """What the K candidates of N rows are worth."""

    value: Tensor  # [N, K] objective: the predicted return, less penalties; -inf where it is not finite
    excess: Tensor | None = None  # [N, K] how far the cost limit is exceeded; 0 if it is kept; None if there is none

    @property
    def feasible(self) -> Tensor:
        """Which candidates keep the cost limit, `[N, K]`."""
        return torch.ones_like(self.value, dtype=torch.bool) if self.excess is None else self.excess <= 0

    @property
    def rank(self) -> Tensor:
        """What to maximise, `[N, K]`: the value; of infeasible candidates something below all values of the row."""
        if self.excess is None:
            return self.value
        finite = self.value.isfinite()
        floor = torch.where(finite, self.value, torch.inf).amin(1, keepdim=True)
        behind = floor - (1.0 + floor.abs()) * (1.0 + self.excess)
        return torch.where(self.feasible, self.value, torch.where(finite, behind, -torch.inf))


class Rollout(NamedTuple):
    """R candidates rolled out with P particles."""

    total: Tensor  # [P, R] discounted return
    excess: Tensor | None  # [P, R] how far the cost limit is exceeded, summed over steps
    observations: Tensor | None  # [P, R, H, O] where a step leads; NaN after the end of the episode


def evaluate(
    model: WorldModel,
    observation: Tensor,
    actions: Tensor,
    objective: Objective | None = None,
    draws: Draws | None = None,
    penalty: Tensor | None = None,
    *,
    strict: bool = True,
) -> Returns:
    """Roll candidate action sequences through a model and return what they are worth.

    All candidates see the same members and the same noise (common random numbers), so that their differences come from
    their actions. Rewards stop where a particle terminates.

    Args:
        model: The world model.
        observation: Start observations `[N, O]`.
        actions: Candidates `[N, K, H, A]` (or `[N, K, H]` if discrete), in the environment's units.
        objective: What counts; by default the return.
        draws: The decision's random numbers; by default there are none.
        penalty: What to subtract from each candidate's value, `[N, K]`.
        strict: Whether to raise if no candidate of some row has a finite value.

    Raises:
        PlanningError: No candidate of some row has a finite value; names the model and the first bad step.
    """
    objective = Objective() if objective is None else objective
    draws = Draws() if draws is None else draws
    count = actions.shape[1]
    # Small chunks of states stay in the processor's cache.
    states = max(1, ROWS_PER_CHUNK // (count * objective.particles_of(model)))
    chunks = zip(observation.split(states), actions.split(states), strict=True)
    parts = [_worth(_roll_out(model, some, plans, objective, draws), objective, count) for some, plans in chunks]
    value = torch.cat([part[0] for part in parts])
    excess = None if objective.cost is None else torch.cat([part[1] for part in parts])
    if penalty is not None:
        value = value - penalty
    finite = torch.isfinite(value)
    if strict and not bool(finite.any(1).all()):
        _raise_hopeless(model, observation, actions, objective, draws)
    return Returns(torch.where(finite, value, -torch.inf), excess)


def imagine(model: WorldModel, observation: Tensor, actions: Tensor, objective: Objective, draws: Draws) -> Tensor:
    """Return the observations `[P, K, H, O]` that the particles expect of K plans `[K, H, ...]` at `[O]`.

    Observations after a predicted termination are NaN.
    """
    rollout = _roll_out(model, observation[None], actions[None], objective, draws, record=True)
    assert rollout.observations is not None
    return rollout.observations


def _roll_out(
    model: WorldModel, observation: Tensor, actions: Tensor, objective: Objective, draws: Draws, *, record: bool = False
) -> Rollout:
    """Roll the candidates `[N, K, H, ...]` out from `[N, O]`."""
    count, horizon = actions.shape[1:3]
    particles = objective.particles_of(model)
    # Step by step, so that each step's actions lie together.
    actions = actions.movedim(2, 0).reshape(horizon, -1, *actions.shape[3:]).contiguous()
    start = observation[:, None].expand(-1, count, *observation.shape[1:]).flatten(0, 1)
    before = start.expand(particles, *start.shape)
    tally, path = _Tally(objective, model.terminates), _Path()
    predict = _steps_rewarded_in_blocks if model.reward_apart and draws.order is None else _steps
    for t, prediction in enumerate(predict(model, model.start(start, particles), before, actions, draws)):
        if draws.order is not None:
            before = before[draws.order[t]]
            path.reorder(draws.order[t])
            tally.reorder(draws.order[t])
        reward = prediction.reward
        if objective.disagreement:
            reward = reward - objective.disagreement * model.uncertainty(tally.typical(before), actions[t])
        if objective.information:
            reward = reward + objective.information * model.information_gain(tally.typical(before), actions[t])
        if record or objective.novelty is not None:
            path.add(prediction.observation, tally.alive)
        tally.add(reward, prediction.observation, prediction.terminated)
        before = prediction.observation
    tally.bootstrap(before)
    assert tally.total is not None
    if objective.novelty is not None:
        tally.total = tally.total + path.bonus(objective.novelty, objective.discount, tally.total)
    return Rollout(tally.total, tally.excess, path.observations() if record else None)


def _steps(model: WorldModel, state: Any, before: Tensor, actions: Tensor, draws: Draws) -> Iterator[Prediction]:
    """Predict a step for each action `[R, ...]` of `[H, R, ...]`: the only multi-step loop over a model."""
    for t, action in enumerate(actions.unbind(0)):
        if draws.order is not None:
            state = _reorder(state, draws.order[t])
        prediction = model.step(state, action, None if draws.noise is None else draws.noise[t])
        yield prediction
        state = prediction.state


def _steps_rewarded_in_blocks(
    model: WorldModel, state: Any, before: Tensor, actions: Tensor, draws: Draws
) -> Iterator[Prediction]:
    """Predict as `_steps` does, but the rewards of several steps at once: a small batch costs as much as a large one.

    Args:
        model: A model whose reward is apart from its steps.
        state: Its state.
        before: Observations `[P, R, O]`.
        actions: `[H, R, ...]`.
        draws: Random numbers.
    """
    assert model.reward_fn is not None
    particles, rows = before.shape[:2]
    never = torch.zeros((), dtype=torch.bool, device=before.device).expand(particles, rows)
    for first in range(0, len(actions), size := max(1, REWARDS_AT_ONCE // (particles * rows))):
        block = actions[first : first + size]
        steps, path = [], [before]
        for t, action in enumerate(block.unbind(0), first):
            state, before, terminated = model.advance(state, action, None if draws.noise is None else draws.noise[t])
            steps.append((state, before, never if terminated is None else terminated))
            path.append(before)
        rewards = _rewards(model.reward_fn, path, model.over_particles(block.flatten(0, 1), particles))
        del path  # whatever is not alive leaves its place in the cache to the next step
        for (following, observation, terminated), reward in zip(steps, rewards.split(rows, 1), strict=True):
            yield Prediction(following, observation, reward, terminated)
        del steps, rewards, reward, following, observation, terminated


def _rewards(reward_fn: RewardFn, path: list[Tensor], action: Tensor) -> Tensor:
    """Return the rewards `[P, T * R]` of actions `[P, T * R, ...]` along observations `[P, R, O]` of T + 1 steps."""
    if len(path) == 2:
        return reward_fn(path[0], action, path[1])
    rows, observations = path[0].shape[1], torch.cat(path, 1)
    return reward_fn(observations[:, :-rows], action, observations[:, rows:])


class _Path:
    """Where the steps of a roll-out lead, for as long as its episodes go on."""

    def __init__(self) -> None:
        self._observations: list[Tensor] = []  # [P, R, O] of each step
        self._alive: list[Tensor] = []  # [P, R] whether the episode goes on before it; empty if all go on for ever

    def add(self, observation: Tensor, alive: Tensor | None) -> None:
        """Add a step."""
        self._observations.append(observation)
        if alive is not None:
            self._alive.append(alive)

    def reorder(self, order: Tensor) -> None:
        """Let other particles go on in each one's place."""
        self._observations, self._alive = ([each[order] for each in part] for part in (self._observations, self._alive))

    def observations(self) -> Tensor:
        """Return the observations `[P, R, H, O]`; NaN after the end of an episode."""
        path, alive = torch.stack(self._observations, 2), self._mask()
        return (
            path if alive is None else torch.where(alive.view(*alive.shape, *[1] * (path.dim() - 3)), path, torch.nan)
        )

    def bonus(self, novelty: NoveltyFn, discount: float, like: Tensor) -> Tensor:
        """Return the discounted sum of the bonuses of all steps `[P, R]`."""
        path, alive = torch.stack(self._observations, 2), self._mask()
        bonus = _numbers("novelty", novelty(path), like[..., None].expand(path.shape[:3]))
        bonus = bonus if alive is None else torch.where(alive, bonus, 0.0)
        return (bonus * discount ** torch.arange(path.shape[2], device=bonus.device)).sum(-1).to(like.dtype)

    def _mask(self) -> Tensor | None:
        """Return whether the episode goes on before each step `[P, R, H]`; None for always."""
        if not self._alive:
            return None
        always = [torch.ones_like(self._alive[0])] * (len(self._observations) - len(self._alive))
        return torch.stack(always + self._alive, 2)


class _Tally:
    """The running sums of a roll-out."""

    def __init__(self, objective: Objective, terminates: bool) -> None:
        self.objective, self.terminates = objective, terminates
        self.total: Tensor | None = None  # [P, R]
        self.excess: Tensor | None = None  # [P, R]
        self.alive: Tensor | None = None  # [P, R] bool
        self._weight = 1.0

    def add(self, reward: Tensor, following: Tensor, terminated: Tensor) -> None:
        """Count a step: reward `[P, R]`, next observation `[P, R, O]` and whether it ends the episode `[P, R]`."""
        if not reward.is_floating_point():
            reward = reward.float()
        gained = self.while_alive(reward if self._weight == 1.0 else self._weight * reward)
        self.total = gained if self.total is None else self.total + gained
        if self.objective.cost is not None:
            cost = _numbers("cost", self.objective.cost(following), reward)
            over = (cost - self.objective.cost_limit).clamp_min(0.0)
            over = self.while_alive(torch.where(over.isnan(), torch.inf, over))
            self.excess = over if self.excess is None else self.excess + over
        if self.terminates:
            self.alive = ~terminated if self.alive is None else self.alive & ~terminated
        self._weight *= self.objective.discount

    def bootstrap(self, observation: Tensor) -> None:
        """Count what lies beyond the last observation `[P, R, O]`."""
        if self.objective.value is not None:
            assert self.total is not None
            value = _numbers("value", self.objective.value(observation), self.total)
            self.total = self.total + self.while_alive(self._weight * value)

    def while_alive(self, values: Tensor, otherwise: float = 0.0) -> Tensor:
        """Return values `[P, R, ...]` with another in place of those after the episode's end."""
        if self.alive is None:
            return values
        alive = self.alive.view(*self.alive.shape, *[1] * (values.dim() - 2))
        return torch.where(alive, values, otherwise)

    def typical(self, observation: Tensor) -> Tensor:
        """Return one observation `[R, O]` for those `[P, R, O]` of the particles whose episode goes on."""
        if not observation.is_floating_point():
            rows = torch.arange(observation.shape[1], device=observation.device)
            return observation[0 if self.alive is None else self.alive.int().argmax(0), rows]
        if self.alive is None:
            return observation.mean(0)
        # What is predicted after an end means nothing, and may not be finite.
        return self.while_alive(observation).sum(0) / self.alive.sum(0).clamp_min(1)[:, None]

    def reorder(self, order: Tensor) -> None:
        """Let other particles go on in each one's place."""
        self.total, self.excess, self.alive = (
            None if part is None else part[order] for part in (self.total, self.excess, self.alive)
        )


def _numbers(name: str, values: Tensor, like: Tensor) -> Tensor:
    """Return what a function gave as floating point numbers, and refuse another shape than `[P, R]`."""
    if values.shape != like.shape:
        raise InvalidSettingError(
            f"{name} must return a number for each observation, {tuple(like.shape)}, but {tuple(values.shape)} came"
        )
    return values if values.is_floating_point() else values.to(like.dtype)


def _reorder(state: Any, order: Tensor) -> Any:
    """Let other particles `[P]` go on in each one's place, in a model's state."""
    if isinstance(state, Tensor):
        return state[order]
    parts = [_reorder(part, order) if isinstance(part, Tensor | tuple) else part for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def _worth(rollout: Rollout, objective: Objective, count: int) -> tuple[Tensor, Tensor]:
    """Return values and excess costs `[N, K]` over the particles."""
    total = rollout.total
    if objective.particle is not None:
        value = total[objective.particle]
    elif objective.worst_case:
        # `amin` propagates NaN, and -inf is the worst anyway; +inf must not hide behind other particles.
        value = torch.where(total.isposinf().any(0), torch.nan, total.amin(0))
    elif objective.risk:
        spread, value = torch.std_mean(total, 0, correction=0)
        value = value - objective.risk * spread
    else:
        value = total.mean(0)
    excess = torch.zeros_like(value) if rollout.excess is None else rollout.excess.mean(0)
    return value.view(-1, count), excess.view(-1, count)


def _raise_hopeless(
    model: WorldModel, observation: Tensor, actions: Tensor, objective: Objective, draws: Draws
) -> None:
    count = actions.shape[1]
    objective = replace(objective, value=None)  # if it is at fault, the last step is named
    for steps in range(1, actions.shape[2] + 1):
        part, _ = _worth(_roll_out(model, observation, actions[:, :, :steps], objective, draws), objective, count)
        if not bool(torch.isfinite(part).any(1).all()):
            break
    raise PlanningError(
        f"{type(model).__name__} predicts no finite return for any of {count} candidates; "
        f"first at step {steps} of {actions.shape[2]}"
    )
