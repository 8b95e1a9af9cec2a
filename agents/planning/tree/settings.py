"""How a tree search works: its settings, and what it is guided by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..evaluation import ValueFn, check, check_whole
from .arrays import GUMBEL, PUCT, UCB1

__all__ = ["EXPLORATION", "SELECTIONS", "PolicyFn", "PriorFn", "SearchSettings"]

PriorFn = Callable[[Tensor], Tensor]
"""observation [n, O] -> logits of the actions [n, K]."""

PolicyFn = Callable[[Tensor], Any]
"""observation [n, O] -> actions [n, ...] in the environment's units."""

SELECTIONS = {"UCT": UCB1, "PUCT": PUCT, "Gumbel": GUMBEL}
"""Rules of selection by name."""

EXPLORATION = {"UCT": math.sqrt(2.0), "PUCT": 1.25, "Gumbel": 0.0}


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
        leaf_value: Value of leaves where there are neither roll-outs nor a value. The highest return there can be makes
            searches with transpositions and `backup="max"` go wherever better could still be found than what is known
            (Barto, Bradtke and Singh 1995): short paths to far goals are found with certainty.
        prior: Logits of the actions: observation `[n, O]` -> `[n, K]`, for PUCT and Gumbel; uniform by default.
        leaves: Simulations of a tree that are in flight together, so that a `WorldModel` predicts them in one batch.
            By default 8 over a `WorldModel`, 1 over a compiled one.
        virtual_loss: How simulations in flight count: 0 as visits without effect on the mean return (Liu et al. 2020,
            "Watch the unobserved"), 1 as if they had returned the lowest return seen.
        max_nodes: Nodes of a tree; simulations that find no room are counted but not remembered. By default twice the
            simulations.
        reuse: Whether a decision goes on from the subtree of the last one if the model had predicted the observation
            (up to rounding). By default yes, except for Gumbel, whose schedule needs a new root.
        transpositions: Whether states that were met before share a node (Childs, Brodeur and Kocsis 2008), so that the
            tree is a graph of states (Czech, Korus and Kersting 2021). States are the same if the model's state is, or
            if a `WorldModel`'s observation is: for models whose observation tells the state. Paths may return to where
            they were, and end at the horizon; values know no horizon, so that `discount` should be less than 1 where
            rewards are positive. For UCT and PUCT.
        backup: "mean", the mean return of simulations, or "max": a node is worth as much as its best edge, an edge as
            the mean over its outcomes as often as they were drawn (Keller and Helmert 2013), and the decision is the
            action of the highest value. With transpositions values approach value iteration's.
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
    leaf_value: float = 0.0
    prior: PriorFn | None = None
    leaves: int | None = None
    virtual_loss: float = 0.0
    max_nodes: int | None = None
    reuse: bool | None = None
    transpositions: bool = False
    backup: str = "mean"
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
        check(self.backup in ("mean", "max"), "backup", self.backup, '"mean" or "max"')
        check(math.isfinite(self.leaf_value), "leaf_value", self.leaf_value, "finite")
        known = self.rollout in (None, "random", "none") or callable(self.rollout)
        check(known, "rollout", self.rollout, '"random", "none", None or a function')
        for name in ("widening", "outcome_widening"):
            _check_widening(name, getattr(self, name))


def _check_widening(name: str, given: Any) -> None:
    if given is None:
        return
    pair = isinstance(given, tuple | list) and len(given) == 2
    right = pair and given[0] > 0 and 0 <= given[1] <= 1
    check(right, name, given, "two numbers, the first greater than 0, the second in [0, 1]")
