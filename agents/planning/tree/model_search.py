"""The search over a `WorldModel`: the leaves of all trees that are in flight go through it in one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError, PlanningError
from mbrl_gym.models.base import WorldModel, draw
from mbrl_gym.noise import Noise

from ...compiled import compiled_in_place
from .arrays import (
    ENDED,
    EVALUATES,
    EXPANDS,
    IDLE,
    NONE,
    SELECTS,
    Flight,
    Root,
    Rules,
    Tree,
    flight_of,
    root_of,
    tree_of,
)
from .backup import backup
from .stages import expand, select

__all__ = ["Evaluation", "ModelSearch", "Store"]

Array = np.ndarray[Any, Any]


class Evaluation(NamedTuple):
    """How leaves are judged, by functions of observations `[n, O]`."""

    value: Callable[[Tensor], Tensor] | None  # -> [n]
    prior: Callable[[Tensor], Tensor] | None  # -> logits [n, K]
    policy: Callable[[Tensor], Any] | None  # -> actions [n, ...] of roll-outs; None for random ones
    rollouts: int  # of each leaf; 0 for none


class Store:
    """The model's states of all rows of T trees, flat `[P, T * R, ...]`, and what is known of their particles.

    Args:
        state: A model's state of one row a tree, `[P, T, ...]`: a tensor or a nested tuple of such.
        observation: `[P, T, O]` or integers `[P, T, ...]`.
        rows: R.
    """

    def __init__(self, state: Any, observation: Tensor, rows: int) -> None:
        self.rows, self.trees = rows, observation.shape[1]
        self._like = state
        alive = torch.ones(observation.shape[:2], dtype=torch.bool, device=observation.device)
        self.parts = [self._wide(part) for part in (alive, observation, *leaves(state))]
        self.put(np.arange(self.trees) * rows, state, observation, alive)

    def _wide(self, part: Tensor) -> Tensor:
        return part.new_zeros((part.shape[0], self.trees * self.rows, *part.shape[2:]))

    @property
    def alive(self) -> Tensor:
        """Whether each particle's episode goes on, `[P, T * R]`."""
        return self.parts[0]

    @property
    def observation(self) -> Tensor:
        """Observations `[P, T * R, ...]`."""
        return self.parts[1]

    def put(self, rows: Array, state: Any, observation: Tensor, alive: Tensor) -> None:
        """Set the rows `[n]`."""
        index = torch.as_tensor(rows, device=alive.device)
        for part, given in zip(self.parts, (alive, observation, *leaves(state)), strict=True):
            part[:, index] = given

    def state(self, rows: Array) -> Any:
        """Return the model's states of the rows."""
        index = torch.as_tensor(rows, device=self.alive.device)
        return rebuilt(self._like, iter([part[:, index] for part in self.parts[2:]]))

    def arrays(self) -> tuple[Array, ...]:
        """Return everything as arrays `[T, R, P, ...]`."""
        return tuple(
            part.unflatten(1, (self.trees, self.rows)).permute(1, 2, 0, *range(3, part.ndim + 1)).cpu().numpy()
            for part in self.parts
        )

    def take_over(self, t: int, arrays: tuple[Array, ...], order: Array) -> None:
        """Copy rows `order` of an earlier search's tree t to the first rows of the same tree."""
        for part, old in zip(self.parts, arrays, strict=True):
            moved = torch.as_tensor(old[t][order], device=part.device).movedim(1, 0)
            part[:, t * self.rows : t * self.rows + len(order)] = moved.to(part.dtype)


def leaves(state: Any) -> list[Tensor]:
    """Return the tensors of a nested tuple."""
    return [state] if isinstance(state, Tensor) else [leaf for part in state for leaf in leaves(part)]


def rebuilt(like: Any, parts: Any) -> Any:
    """Return tensors as a nested tuple like another."""
    if isinstance(like, Tensor):
        return next(parts)
    built = [rebuilt(part, parts) for part in like]
    return type(like)(*built) if hasattr(like, "_fields") else tuple(built)


class ModelSearch:
    """Runs simulations of T trees over a model.

    Args:
        model: The model.
        store: Its states.
        evaluation: How leaves are judged.
        rules: The rules.
        actions: Actions `[K, ...]` of a choice; None for Box ones.
        noise: Whether steps are disturbed by the model's noise.
        seed: Of the model's noise and of roll-outs.
    """

    def __init__(
        self,
        model: WorldModel,
        store: Store,
        evaluation: Evaluation,
        rules: Rules,
        *,
        actions: Tensor | None,
        bounds: Tensor | None,
        noise: bool,
        seed: int,
    ) -> None:
        self.model, self.store, self.evaluation, self.rules = model, store, evaluation, rules
        self.actions, self.bounds, self.noise, self.seed = actions, bounds, noise, seed
        self._round = 0

    def run(self, tree: Tree, root: Root, flight: Flight, simulations: int) -> None:
        """Run all simulations of all trees."""
        while True:
            select_all(tree, root, self.rules, flight, simulations)
            if not (flight.status != IDLE).any():
                return
            turn = 0
            while (flight.status == EXPANDS).any():
                self._expand(tree, flight, turn)
                select_all(tree, root, self.rules, flight, 0)
                turn += 1
            self._evaluate(tree, flight)
            backup_all(tree, self.rules, flight)
            self._round += 1

    def evaluate_roots(self, tree: Tree, fresh: Array) -> None:
        """Judge the roots of the trees `[n]` that have no estimate yet."""
        if not len(fresh):
            return
        nodes = np.zeros_like(fresh)
        if self.evaluation.value is not None:
            tree.nodes["raw"][fresh, 0] = self._values(fresh * self.store.rows)
        self._note_prior(tree, fresh, nodes)

    def _generator(self, purpose: int, turn: int) -> torch.Generator:
        """Return a generator whose numbers do not depend on which other trees there are."""
        place = (self._round << 20) + (turn << 1) + purpose
        return torch.Generator().manual_seed((self.seed ^ (place * 0x9E3779B97F4A7C15)) % 2**63)

    def _noise(self, generator: torch.Generator, lanes: int, chosen: Array) -> Noise | None:
        """Draw noise for all lanes, so that those of other trees do not matter, and return that of some."""
        if not self.noise or not any(self.model.noise_sizes):
            return None
        batch = (self.store.alive.shape[0], lanes)
        whole = draw(generator, batch, self.model.noise_sizes, self.store.alive.device)
        return Noise(whole.normal[:, chosen], whole.uniform[:, chosen])

    def _expand(self, tree: Tree, flight: Flight, turn: int) -> None:
        """Let the model step wherever a simulation waits for it, and add the outcomes."""
        trees, flying = np.nonzero(flight.status == EXPANDS)
        depth = flight.depth[trees, flying]
        nodes, slots = flight.nodes[trees, flying, depth], flight.slots[trees, flying, depth]
        rows = trees * self.store.rows + nodes
        noise = self._noise(self._generator(0, turn), flight.status.shape[1], flying)
        prediction = self.model.step(self.store.state(rows), self._actions(tree, trees, nodes, slots), noise)
        alive = self.store.alive[:, torch.as_tensor(rows, device=self.store.alive.device)]
        reward = self._mean(prediction.reward, alive)
        following = alive & ~prediction.terminated
        outcomes = np.column_stack([self.key(prediction.observation, following), reward])
        children = np.empty(len(trees), np.int64)
        ends = ~following.any(0).cpu().numpy()
        expand_all(tree, self.rules, flight, trees, flying, outcomes, ends, children)
        new = children >= 0
        index = torch.as_tensor(np.flatnonzero(new), device=alive.device)
        state = rebuilt(prediction.state, iter([part[:, index] for part in leaves(prediction.state)]))
        places = trees[new] * self.store.rows + children[new]
        self.store.put(places, state, prediction.observation[:, index], following[:, index])

    def _actions(self, tree: Tree, trees: Array, nodes: Array, slots: Array) -> Tensor:
        if self.actions is not None:
            return self.actions[torch.as_tensor(slots, device=self.actions.device)]
        assert self.bounds is not None
        return torch.as_tensor(tree.actions[trees, nodes, slots], dtype=torch.float32, device=self.bounds.device)

    def _mean(self, values: Tensor, alive: Tensor) -> Array:
        """Return means `[n]` over particles, of which those whose episode has ended get nothing more."""
        mean = torch.where(alive, values, 0.0).double().mean(0)
        if not bool(torch.isfinite(mean).all()):
            raise PlanningError(f"{type(self.model).__name__} predicts returns that are not finite")
        return mean.cpu().numpy()

    def key(self, observation: Tensor, alive: Tensor) -> Array:
        """Return what outcomes are told apart by, `[n, S]`: the mean over particles of the observation."""
        flat = observation.reshape(*observation.shape[:2], -1).double()
        if len(flat) == 1:
            return flat[0].cpu().numpy()
        counted = torch.where(alive[..., None], flat, 0.0).sum(0) / alive.sum(0).clamp_min(1)[:, None]
        return counted.cpu().numpy()

    def _evaluate(self, tree: Tree, flight: Flight) -> None:
        trees, flying = np.nonzero(flight.status == EVALUATES)
        if not len(trees):
            return
        depth = flight.depth[trees, flying]
        nodes = flight.nodes[trees, flying, depth]
        rows = trees * self.store.rows + nodes
        if self.evaluation.rollouts:
            values = self._roll_out(rows, flying, self.rules.horizon - depth, flight.status.shape[1])
        elif self.evaluation.value is not None:
            values = self._values(rows)
        else:
            values = np.full(len(rows), self.rules.leaf_value)
        tree.nodes["raw"][trees, nodes] = values
        self._note_prior(tree, trees, nodes)

    def _values(self, rows: Array) -> Array:
        index = torch.as_tensor(rows, device=self.store.alive.device)
        return self._worth(self.store.observation[:, index], self.store.alive[:, index])

    def _worth(self, observation: Tensor, alive: Tensor) -> Array:
        assert self.evaluation.value is not None
        values = self.evaluation.value(observation.flatten(0, 1))
        if values.shape != (alive.numel(),):
            raise InvalidSettingError(
                f"value must return a number for each observation, {(alive.numel(),)}, but {tuple(values.shape)} came"
            )
        return self._mean(values.view(alive.shape), alive)

    def _note_prior(self, tree: Tree, trees: Array, nodes: Array) -> None:
        if self.evaluation.prior is None:
            return
        index = torch.as_tensor(trees * self.store.rows + nodes, device=self.store.alive.device)
        logits = self.evaluation.prior(self.store.observation[0, index])
        expected = (len(trees), tree.prior.shape[2])
        if logits.shape != expected:
            raise InvalidSettingError(f"prior must return logits {expected}, but {tuple(logits.shape)} came")
        tree.prior[trees, nodes] = logits.double().softmax(-1).cpu().numpy()

    def _roll_out(self, rows: Array, flying: Array, steps: Array, leaves_in_flight: int) -> Array:
        """Return the mean discounted return `[n]` of roll-outs for `steps` `[n]` steps, and what follows them."""
        count = self.evaluation.rollouts
        lane = np.repeat(flying * count, count) + np.tile(np.arange(count), len(flying))
        rows, device = np.repeat(rows, count), self.store.alive.device
        index, left = torch.as_tensor(rows, device=device), torch.as_tensor(np.repeat(steps, count), device=device)
        state, observation, alive = self.store.state(rows), self.store.observation[:, index], self.store.alive[:, index]
        total, weight, generator = (
            torch.zeros(len(rows), dtype=torch.float64, device=device),
            1.0,
            self._generator(1, 0),
        )
        for done in range(int(steps.max(initial=0))):
            action = self._rollout_action(observation, lane, leaves_in_flight * count, generator)
            noise = self._noise(generator, leaves_in_flight * count, lane)
            state, observation, reward, terminated = self.model.step(state, action, noise)
            running = alive & (left > done)
            total += weight * torch.where(running, reward, 0.0).double().mean(0)
            weight *= self.rules.discount
            alive = alive & ~terminated
            if self.evaluation.value is not None and bool((ends := left == done + 1).any()):
                total += weight * torch.as_tensor(self._worth(observation, alive & ends), device=device)
            if self.model.terminates and not bool((alive & (left > done + 1)).any()):
                break
        mean = total.view(-1, count).mean(1)
        if not bool(torch.isfinite(mean).all()):
            raise PlanningError(f"{type(self.model).__name__} predicts returns that are not finite")
        return mean.cpu().numpy()

    def _rollout_action(self, observation: Tensor, lane: Array, lanes: int, generator: torch.Generator) -> Tensor:
        device = observation.device
        if self.evaluation.policy is not None:
            return torch.as_tensor(self.evaluation.policy(observation[0]), device=device)
        if self.actions is not None:
            return self.actions[torch.randint(len(self.actions), (lanes,), generator=generator)[lane].to(device)]
        assert self.bounds is not None
        low, high = self.bounds
        return low + (high - low) * torch.rand((lanes, len(low)), generator=generator)[lane].to(device)


@compiled_in_place
def select_all(trees: Tree, roots: Root, rules: Rules, flights: Flight, simulations: int) -> None:
    """Let simulations of all trees descend."""
    for t in range(len(trees.size)):
        select(tree_of(trees, t), root_of(roots, t), rules, flight_of(flights, t), simulations)


@compiled_in_place
def expand_all(
    trees: Tree, rules: Rules, flights: Flight, which: Array, flying: Array, outcomes: Array, ends: Array, made: Array
) -> None:
    """Add n outcomes, rows of state and reward `[n, S + 1]`; their nodes go to `made` `[n]`, NONE if drawn before."""
    for row in range(len(which)):
        tree, flight, leaf = tree_of(trees, which[row]), flight_of(flights, which[row]), flying[row]
        child = expand(tree, rules, flight, leaf, outcomes[row, :-1], outcomes[row, -1], ends[row])
        made[row] = NONE if flight.status[leaf] == SELECTS else child


@compiled_in_place
def backup_all(trees: Tree, rules: Rules, flights: Flight) -> None:
    """Count the returns of all simulations in flight; their leaves have been evaluated."""
    for t in range(len(trees.size)):
        tree, flight = tree_of(trees, t), flight_of(flights, t)
        for leaf in range(len(flight.status)):
            if flight.status[leaf] == EVALUATES or flight.status[leaf] == ENDED:
                backup(tree, rules, flight, leaf)
