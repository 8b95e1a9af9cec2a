"""Monte Carlo tree search: many trees at once, over a compiled model or a `WorldModel`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.base import WorldModel

from ..actions import action_code
from ..evaluation import ValueFn, check, check_whole
from . import compiled_search
from .arrays import GUMBEL, NONE, PUCT, UCB1, Root, Rules, Tree, add_roots, empty_flight, empty_tree
from .compiled_model import CompiledModel
from .compiled_search import Machine
from .halving import halving_schedule
from .model_search import Evaluation, ModelSearch, Store
from .results import Decisions, decide
from .reuse import copy_subtree, find_outcome

__all__ = ["SELECTIONS", "PolicyFn", "PriorFn", "SearchSettings", "Searched", "TreeSearch"]

Array = np.ndarray[Any, Any]

PriorFn = Callable[[Tensor], Tensor]
"""observation [n, O] -> logits of the actions [n, K]."""

PolicyFn = Callable[[Tensor], Any]
"""observation [n, O] -> actions [n, ...] in the environment's units."""

SELECTIONS = {"UCT": UCB1, "PUCT": PUCT, "Gumbel": GUMBEL}
"""Rules of selection by name."""

EXPLORATION = {"UCT": math.sqrt(2.0), "PUCT": 1.25, "Gumbel": 0.0}
MOST_ACTIONS = 4096  # of a node
SAME = 1e-5  # relative difference of states up to which an outcome is what was observed


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """How a tree search works, whatever it searches.

    Args:
        simulations: Simulations a decision.
        discount: Weight of a reward relative to the one a step earlier.
        horizon: Steps from the root at which simulations end, roll-outs included.
        exploration: Constant c of UCB1 (sqrt 2 by default) or PUCT (1.25), in units of the difference between the
            highest and the lowest return of the tree, so that it does not depend on the scale of rewards.
        rollout: How leaves are judged: "random" (by a roll-out with random actions, the default without a value), a
            function of observations `[n, O]` that returns actions, or "none". After its steps comes the value, if any.
        rollouts: Roll-outs of each leaf, of which the mean counts.
        value: Return to expect from an observation on: a function of tensors, observation `[n, O]` -> `[n]`. Leaves
            are judged by it alone unless `rollout` is given, too.
        prior: Logits of the actions: observation `[n, O]` -> `[n, K]`, for PUCT and Gumbel; uniform by default.
        leaves: Simulations of a tree that are in flight together, so that a `WorldModel` predicts them in one batch.
            By default 8 over a `WorldModel`, 1 over a compiled one.
        virtual_loss: How simulations in flight count: 0 as visits without effect on the mean return (Liu et al. 2020,
            "Watch the unobserved"), 1 as if they had returned the lowest return seen.
        max_nodes: Nodes of a tree; simulations that find no room are counted but not remembered. By default twice the
            simulations.
        reuse: Whether a decision goes on from the subtree of the last one if the model had predicted the observation
            (up to rounding). By default yes, except for Gumbel, whose schedule needs a new root.
        widening: k and alpha of progressive widening (Couetoux et al. 2011): a node that was visited n times has up to
            k n^alpha Box actions.
        max_actions: Most Box actions of a node.
        stretch: Box actions are drawn uniformly from a box that is larger by this factor, and moved to the action
            space's edge where they lie outside: the edge itself is drawn often.
        outcome_widening: k and alpha of the number of different outcomes of an action, where outcomes are random. By
            default there is no limit for states that are choices, and (1, 0.25) for others.
        noise: Whether a `WorldModel` samples its noise; by default if its observations are choices. With one particle,
            an edge has several outcomes then.
        particles: Trajectories P that a node holds and averages over; the model's `particle_unit` by default.
        considered: Most actions m that Gumbel looks at at the root.
        gumbel_scale: Scale of the Gumbel noise at the root; 0 for none.
        value_scale: c_scale of Danihelka et al. (2022), equation 8.
        visit_offset: c_visit of the same.

    Raises:
        InvalidSettingError: A setting out of its range.
    """

    simulations: int = 64
    discount: float = 0.99
    horizon: int = 25
    exploration: float | None = None
    rollout: str | PolicyFn | None = None
    rollouts: int = 1
    value: ValueFn | None = None
    prior: PriorFn | None = None
    leaves: int | None = None
    virtual_loss: float = 0.0
    max_nodes: int | None = None
    reuse: bool | None = None
    widening: tuple[float, float] = (1.0, 0.5)
    max_actions: int = 64
    stretch: float = 1.2
    outcome_widening: tuple[float, float] | None = None
    noise: bool | None = None
    particles: int | None = None
    considered: int = 16
    gumbel_scale: float = 1.0
    value_scale: float = 0.1
    visit_offset: float = 50.0

    def __post_init__(self) -> None:
        for name in ("simulations", "horizon", "rollouts", "max_actions", "considered"):
            check_whole(name, getattr(self, name), 1)
        for name in ("leaves", "particles"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1)
        if self.max_nodes is not None:
            check_whole("max_nodes", self.max_nodes, 2)
        check(0 < self.discount <= 1, "discount", self.discount, "in (0, 1]")
        check(0 <= self.virtual_loss <= 1, "virtual_loss", self.virtual_loss, "in [0, 1]")
        check(1 <= self.stretch < math.inf, "stretch", self.stretch, "at least 1 and finite")
        for name in ("gumbel_scale", "value_scale", "visit_offset"):
            check(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "at least 0 and finite")
        explores = self.exploration is None or 0 <= self.exploration < math.inf
        check(explores, "exploration", self.exploration, "at least 0 and finite")
        known = self.rollout in (None, "random", "none") or callable(self.rollout)
        check(known, "rollout", self.rollout, '"random", "none", None or a function')
        for name in ("widening", "outcome_widening"):
            _check_widening(name, getattr(self, name))


class Searched(NamedTuple):
    """What a search of N trees found: a plain tuple of arrays, from which the next search goes on."""

    decisions: Decisions
    tree: Tree
    states: tuple[Array, ...]  # [N, R, P, ...] the model's, of all nodes
    warm: Array  # [N] bool, whether the row may be gone on from: False where an episode starts
    age: Array  # [N] decisions of the row's episode before this one


class TreeSearch:
    """Monte Carlo tree search (Coulom 2006; Kocsis and Szepesvari 2006), for many states at once.

    Every simulation descends from the root by a rule of selection, adds the node at which it leaves the tree, judges it
    by a roll-out or a value function, and counts the return along its path. Actions are those of a Discrete or
    MultiDiscrete space, or progressively more samples of a flat, bounded Box.

    Args:
        action_space: The environment's action space.
        selection: "UCT" (UCB1, Kocsis and Szepesvari 2006), "PUCT" (Silver et al. 2017, with priors), or "Gumbel"
            (sequential halving at the root, Danihelka et al. 2022).
        **settings: Those of `SearchSettings`.

    Raises:
        UnsupportedSpaceError: An action space that cannot be searched.
        InvalidSettingError: A setting out of its range.
    """

    def __init__(self, action_space: spaces.Space[Any], selection: str = "UCT", **settings: Any) -> None:
        if selection not in SELECTIONS:
            raise InvalidSettingError(f"selection must be one of {', '.join(SELECTIONS)}, but {selection!r} was given")
        self.action_space, self.selection = action_space, selection
        known = [field.name for field in fields(SearchSettings)]
        if unknown := sorted(settings.keys() - set(known)):
            raise InvalidSettingError(
                f"TreeSearch has no setting {', '.join(map(repr, unknown))}, but {', '.join(sorted(known))}"
            )
        self.settings = SearchSettings(**settings)
        action_code(action_space, "TreeSearch")  # refuses what cannot be searched
        self.box = isinstance(action_space, spaces.Box)
        if self.box and selection == "Gumbel":
            raise UnsupportedSpaceError(
                f"Gumbel searches Discrete and MultiDiscrete actions, but the action space is {action_space}: take UCT "
                "or PUCT"
            )
        self.choices: Array | None = None if self.box else _choices(action_space)
        if self.choices is not None and len(self.choices) > MOST_ACTIONS:
            raise UnsupportedSpaceError(
                f"TreeSearch takes at most {MOST_ACTIONS} actions, but {action_space} has {len(self.choices)}"
            )

    @classmethod
    def with_settings(cls, other: TreeSearch, settings: SearchSettings) -> TreeSearch:
        """Return a search like another one with other settings."""
        return cls(
            other.action_space,
            other.selection,
            **{each.name: getattr(settings, each.name) for each in fields(settings)},
        )

    @property
    def reuses(self) -> bool:
        """Whether decisions go on from the last one's subtree."""
        given = self.settings.reuse
        return self.selection != "Gumbel" if given is None else given

    @property
    def edges(self) -> int:
        """Most actions K of a node."""
        return self.settings.max_actions if self.choices is None else len(self.choices)

    def search(
        self,
        model: WorldModel | CompiledModel,
        observation: Any,
        previous: Searched | None = None,
        *,
        seed: int = 0,
        valid: Array | None = None,
        root_noise: tuple[float, float] = (0.0, 1.0),
    ) -> Searched:
        """Search from the observations of N rows.

        Args:
            model: Predicts the consequences.
            observation: `[N, O]` or integers, as the model takes them.
            previous: What the last search found for the same rows; actions were those that it chose.
            seed: Of all random numbers. All rows have the same, so that a batch equals its rows one by one.
            valid: `[N, K]` bool, actions that may be taken at the root; all by default.
            root_noise: Fraction and concentration of Dirichlet noise in the root's prior (Silver et al. 2017).

        Raises:
            InvalidSettingError: A row without a valid action.
            PlanningError: The model predicts returns that are not finite.
        """
        compiled = isinstance(model, CompiledModel)
        start = _Compiled(self, model) if isinstance(model, CompiledModel) else _Modelled(self, model, seed)
        states = start.states(observation)
        trees = len(states)
        leaves = self.settings.leaves or (1 if compiled else 8)
        rules = self.rules(chance=start.chance, choices=start.choices, rollout=self._rolls_out(start.evaluates))
        tree = empty_tree(trees, rules.capacity + leaves, self.edges, states.shape[1], self._box_size, _mixed(seed))
        if self.box:
            assert isinstance(self.action_space, spaces.Box)
            tree.bounds[:] = np.stack([self.action_space.low, self.action_space.high]).astype(np.float64)
        start.prepare(tree, rules, observation, leaves)
        kept = self._take_over(tree, rules, states, previous, start)
        fresh = np.flatnonzero(~kept)
        add_roots(tree, rules, fresh, states)
        start.evaluate_roots(tree, fresh)
        root = self._root(tree, valid, seed, root_noise)
        flight = empty_flight(trees, leaves, rules.horizon)
        start.run(tree, root, flight, self.settings.simulations)
        age = np.zeros(trees, np.int64) if previous is None else np.where(previous.warm, previous.age + 1, 0)
        return Searched(decide(self, tree, root, rules), tree, start.store(), np.ones(trees, np.bool_), age)

    def rules(self, *, chance: bool, choices: bool, rollout: bool) -> Rules:
        """Return the rules for a model with random outcomes, or without; and whether its states are choices."""
        given = self.settings
        outcome = given.outcome_widening or ((math.inf, 1.0) if choices else (1.0, 0.25))
        explore = EXPLORATION[self.selection] if given.exploration is None else given.exploration
        return Rules(
            kind=SELECTIONS[self.selection],
            exploration=float(explore),
            discount=float(given.discount),
            horizon=int(given.horizon),
            capacity=int(given.max_nodes or 2 * given.simulations),
            virtual_loss=float(given.virtual_loss),
            box=self.box,
            widening=float(given.widening[0]),
            widening_exponent=float(given.widening[1]),
            stretch=float(given.stretch),
            chance=chance,
            outcome_widening=float(outcome[0]),
            outcome_exponent=float(outcome[1]),
            value_scale=float(given.value_scale),
            visit_offset=float(given.visit_offset),
            rollout=rollout,
        )

    @property
    def _box_size(self) -> int:
        return int(self.action_space.shape[0]) if self.box and self.action_space.shape else 0

    def _rolls_out(self, judged: bool) -> bool:
        """Whether leaves are judged by roll-outs."""
        given = self.settings.rollout
        return not judged if given is None else given != "none"

    def _take_over(self, tree: Tree, rules: Rules, states: Array, previous: Searched | None, start: Any) -> Array:
        """Copy subtrees of the last search; return whose `[N]`."""
        kept = np.zeros(len(states), np.bool_)
        if (
            previous is None
            or not self.reuses
            or not start.keeps_states
            or previous.tree.states.shape[2] != states.shape[1]
        ):
            return kept
        most = max(1, rules.capacity - self.settings.simulations)
        order = np.empty(most, np.int64)
        for t in np.flatnonzero(previous.warm).tolist():
            node = find_outcome(previous.tree.one(t), previous.decisions.slot[t], states[t], SAME)
            if node != NONE:
                copied = copy_subtree(previous.tree.one(t), tree.one(t), node, most, order)
                start.take_over(t, previous.states, order[:copied])
                kept[t] = True
        return kept

    def _root(self, tree: Tree, valid: Array | None, seed: int, noise: tuple[float, float]) -> Root:
        trees, edges = len(tree.size), self.edges
        valid = np.ones((trees, edges), np.bool_) if valid is None else np.asarray(valid, np.bool_)
        if valid.shape != (trees, edges) or not valid.any(1).all():
            raise InvalidSettingError(
                f"valid must hold {(trees, edges)} truth values and allow an action in every row, but {valid} was given"
            )
        fraction, concentration = noise
        if fraction > 0 and not self.box:
            generator = np.random.default_rng([seed, 1])
            drawn = generator.dirichlet(np.full(edges, concentration))
            tree.prior[:, 0] = (1 - fraction) * tree.prior[:, 0] + fraction * drawn
        if not valid.all():
            tree.prior[:, 0] = np.where(valid, tree.prior[:, 0], 0.0)
            tree.prior[:, 0] /= np.maximum(tree.prior[:, 0].sum(1, keepdims=True), 1e-300)
        gumbel = np.zeros((trees, edges))
        schedule = np.zeros((trees, 1), np.int64)
        if self.selection == "Gumbel":
            scale, generator = self.settings.gumbel_scale, np.random.default_rng([seed, 2])
            gumbel = np.log(np.maximum(tree.prior[:, 0], 1e-300)) + scale * generator.gumbel(size=edges)
            most = np.minimum(valid.sum(1), self.settings.considered)
            schedule = np.stack([halving_schedule(int(m), self.settings.simulations) for m in most])
        return Root(valid, gumbel, schedule, np.zeros((trees, 1), np.int64), np.empty((trees, edges)))


class _Compiled:
    """The side of a search that knows a compiled model."""

    def __init__(self, search: TreeSearch, model: CompiledModel) -> None:
        given = search.settings
        functions = {"value": given.value, "prior": given.prior, "rollout": given.rollout}
        wrong = [name for name, function in functions.items() if callable(function)]
        if wrong:
            raise InvalidSettingError(
                f"a compiled model judges its states itself (evaluate): leave out {', '.join(wrong)}"
            )
        self.model, self.evaluates, self.keeps_states = model, model.evaluates, True
        self.chance, self.choices = model.stochastic, model.state_size == 1

    def states(self, observation: Any) -> Array:
        return self.model.states(observation)

    def prepare(self, tree: Tree, rules: Rules, observation: Any, leaves: int) -> None:
        self.rules = rules

    def evaluate_roots(self, tree: Tree, fresh: Array) -> None:
        if self.evaluates:
            compiled_search.evaluate_roots(tree, fresh, self._machine(tree))

    def run(self, tree: Tree, root: Root, flight: Any, simulations: int) -> None:
        compiled_search.run(tree, root, self.rules, flight, simulations, self._machine(tree))

    def _machine(self, tree: Tree) -> Machine:
        model, box = self.model, tree.actions.shape[3]
        states = np.empty((2, model.state_size))
        return Machine(
            model.step, model.evaluate, model.parameters, np.empty(box), states, np.empty(tree.prior.shape[2])
        )

    def take_over(self, t: int, states: tuple[Array, ...], order: Array) -> None:
        pass

    def store(self) -> tuple[Array, ...]:
        return ()


class _Modelled:
    """The side of a search that knows a `WorldModel`."""

    def __init__(self, search: TreeSearch, model: WorldModel, seed: int) -> None:
        given = search.settings
        self.owner, self.model, self.seed = search, model, seed
        self.keeps_states = getattr(model, "keeps_states", True)
        self.evaluates = given.value is not None
        self.choices = model.encode_observation.chooses
        self.noise = self.choices if given.noise is None else given.noise
        self.particles = model.particle_unit if given.particles is None else given.particles
        self.chance = self.noise and self.particles == 1 and any(model.noise_sizes)

    def states(self, observation: Any) -> Array:
        flat = torch.as_tensor(observation).double().cpu().numpy()
        return np.ascontiguousarray(flat.reshape(len(flat), -1))

    def prepare(self, tree: Tree, rules: Rules, observation: Any, leaves: int) -> None:
        observation = torch.as_tensor(observation)
        device = observation.device
        if not self.choices:
            observation = observation.to(self.model.encode_observation.dtype)
        state = self.model.start(observation, self.particles)
        store = Store(state, observation.expand(self.particles, *observation.shape), rules.capacity + leaves)
        given = self.owner.settings
        policy = given.rollout if callable(given.rollout) else None
        rollouts = given.rollouts if rules.rollout else 0
        choices = self.owner.choices
        self.search = ModelSearch(
            self.model,
            store,
            Evaluation(given.value, given.prior, policy, rollouts),
            rules,
            actions=None if choices is None else torch.as_tensor(choices, device=device),
            bounds=torch.as_tensor(tree.bounds[0], dtype=torch.float32, device=device) if self.owner.box else None,
            noise=self.noise,
            seed=self.seed,
        )

    def evaluate_roots(self, tree: Tree, fresh: Array) -> None:
        self.search.evaluate_roots(tree, fresh)

    def run(self, tree: Tree, root: Root, flight: Any, simulations: int) -> None:
        self.search.run(tree, root, flight, simulations)

    def take_over(self, t: int, states: tuple[Array, ...], order: Array) -> None:
        self.search.store.take_over(t, states, order)

    def store(self) -> tuple[Array, ...]:
        return self.search.store.arrays()


def _choices(space: spaces.Space[Any]) -> Array:
    """Return all actions `[K]` or `[K, C]` of a space of choices, the last choice running fastest."""
    if isinstance(space, spaces.Discrete):
        return np.arange(space.start, space.start + space.n)
    assert isinstance(space, spaces.MultiDiscrete)
    count = math.prod(space.nvec.tolist())
    if count > MOST_ACTIONS:
        return np.empty(count, np.bool_)
    return np.stack(np.unravel_index(np.arange(count), space.nvec), -1) + space.start


def _mixed(seed: int) -> int:
    """Return a seed of 64 bits that differs in all of them from those of neighbouring numbers."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])


def _check_widening(name: str, given: Any) -> None:
    if given is None:
        return
    pair = isinstance(given, tuple | list) and len(given) == 2
    right = pair and given[0] > 0 and 0 <= given[1] <= 1
    check(right, name, given, "two numbers, the first greater than 0, the second in [0, 1]")
