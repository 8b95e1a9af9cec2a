"""Monte Carlo tree search: many trees at once, over a compiled model or a `WorldModel`."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.base import WorldModel

from ..actions import action_code
from .arrays import NONE, Root, Rules, Tree, add_roots, empty_flight, empty_tree
from .compiled_model import CompiledModel
from .halving import halving_schedule
from .results import Decisions, decide
from .reuse import copy_subtree, find_outcome
from .settings import EXPLORATION, SELECTIONS, SearchSettings
from .sides import CompiledSide, ModelSide

__all__ = ["Searched", "TreeSearch"]

Array = np.ndarray[Any, Any]

MOST_ACTIONS = 4096  # of a node
SAME = 1e-5  # relative difference of states up to which an outcome is what was observed


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
        if self.settings.transpositions and selection == "Gumbel":
            raise InvalidSettingError(
                "Gumbel counts the visits of the root's actions, which paths that return to the root would disturb: "
                "transpositions are for UCT and PUCT"
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
        start: CompiledSide | ModelSide
        if isinstance(model, CompiledModel):
            start = CompiledSide(self.settings, model)
        else:
            start = ModelSide(self.settings, model, self.choices, seed)
        states = start.states(observation)
        trees = len(states)
        leaves = self.settings.leaves or (1 if compiled else 8)
        rules = self.rules(chance=start.chance, choices=start.choices, evaluates=start.evaluates)
        tree = empty_tree(trees, rules, leaves, self.edges, states.shape[1], self._box_size, _mixed(seed))
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

    def rules(self, *, chance: bool, choices: bool, evaluates: bool) -> Rules:
        """Return the rules for a model.

        Args:
            chance: Whether its outcomes are random.
            choices: Whether its states are choices.
            evaluates: Whether a value function judges them.
        """
        given = self.settings
        capacity = int(given.max_nodes or 2 * given.simulations)
        outcome = given.outcome_widening or ((math.inf, 1.0) if choices else (1.0, 0.25))
        explore = EXPLORATION[self.selection] if given.exploration is None else given.exploration
        return Rules(
            kind=SELECTIONS[self.selection],
            exploration=float(explore),
            discount=float(given.discount),
            horizon=int(given.horizon),
            capacity=capacity,
            most_outcomes=capacity * (min(max(self.edges, 8), 64) if given.transpositions else 1),
            graph=bool(given.transpositions),
            maximum=given.backup == "max",
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
            rollouts=int(given.rollouts) if self._rolls_out(evaluates) else 0,
            evaluates=evaluates,
            leaf_value=float(given.leaf_value),
        )

    def root_values(self, decisions: Decisions) -> Array:
        """Return what the roots are worth, `[N]`: the best value of their actions or the mean return, as backed up."""
        visits, values = decisions.visits, decisions.values
        if self.settings.backup == "max":
            return np.asarray(np.nanmax(values, 1))
        return np.asarray((visits * np.nan_to_num(values)).sum(1) / visits.sum(1))

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
        order = np.empty(max(1, rules.capacity - self.settings.simulations), np.int64)
        places = np.empty(previous.tree.nodes.shape[1], np.int64)
        for t in np.flatnonzero(previous.warm).tolist():
            old = previous.tree.one(t)
            node = find_outcome(old, rules, previous.decisions.slot[t], states[t], SAME)
            if node != NONE:
                copied = copy_subtree(old, tree.one(t), rules, node, order, places)
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
