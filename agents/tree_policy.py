"""The policy of agents that search trees, as Stable-Baselines3 knows policies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor

from mbrl_gym.models import WorldModel

from .base import derived_seed
from .expert_iteration import PolicyValueNet
from .planner_policy import STREAMS, ObservingPolicy
from .planning.tree import CompiledModel, Decisions, Searched, Tree, TreeSearch, table_model

__all__ = ["TreePolicy", "searched_from_arrays", "searched_to_arrays"]

Array = np.ndarray[Any, Any]

NOISE = 0.25  # fraction of Dirichlet noise in the root's prior while learning (Silver et al. 2017)
CONCENTRATION = 10.0  # of that noise, over the number of actions


class TreePolicy(ObservingPolicy):
    """A policy that searches a tree for every decision; its recurrent state is what the last search found.

    Args:
        observation_space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` of these.
        action_space: What the search takes.
        lr_schedule: Not used; part of Stable-Baselines3's signature.
        world_model: Predicts the consequences of actions.
        search: Searches the tree.
        seed: Seeds the search's random numbers.
        network: Learns the search's prior and value.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        world_model: WorldModel | CompiledModel,
        search: TreeSearch,
        seed: int,
        network: PolicyValueNet | None = None,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.world_model, self.search, self.network = world_model, search, network
        if network is not None:
            settings = replace(search.settings, value=network.value, prior=network.prior)
            self.search = TreeSearch.with_settings(search, settings)
        self._compiled: CompiledModel | None = None
        self.seed_planning(seed)

    def seed_planning(self, seed: int) -> None:
        """Seed the search's random numbers."""
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def plan(self, observation: Tensor, previous: Searched | None = None, deterministic: bool = False) -> Searched:
        """Search from rows `[N, O]` (or integers `[N]` or `[N, K]`), as `rows` returns them.

        Args:
            observation: Where to start.
            previous: What the last search found for the same rows.
            deterministic: Draw from a fresh generator, which depends on the age of the batch's oldest row only, so that
                the call neither disturbs training nor depends on earlier ones; otherwise from this policy's own one.
        """
        if deterministic:
            age = 0 if previous is None or not previous.warm.any() else int(previous.age[previous.warm].max()) + 1
            seed = derived_seed(self.seed, f"stream {age % STREAMS}")
        else:
            seed = int(torch.randint(2**31, (1,), generator=self.generator))
        model = self.compiled_model or self.world_model
        given = observation.cpu().numpy() if isinstance(model, CompiledModel) else observation
        if self.network is None or deterministic:
            return self.search.search(model, given, previous, seed=seed)
        noise = (NOISE, CONCENTRATION / self.search.edges)
        found = self.search.search(model, given, previous, seed=seed, root_noise=noise)
        return self._drawn(found)

    def _drawn(self, found: Searched) -> Searched:
        """Return what was found with actions drawn from the improved policies."""
        policy, choices = torch.as_tensor(found.decisions.policy), self.search.choices
        assert choices is not None
        slot = torch.multinomial(policy, 1, generator=self.generator)[:, 0].numpy()
        rows = np.arange(len(slot))
        action, value = choices[slot].astype(self.action_space.dtype), found.decisions.values[rows, slot]
        return found._replace(decisions=found.decisions._replace(slot=slot, action=action, value=value))

    @property
    def compiled_model(self) -> CompiledModel | None:
        """The world model as numba runs it, where all of its outcomes are in a table and nothing else is wanted."""
        if self._compiled is None and not isinstance(self.world_model, CompiledModel):
            table, wanted = getattr(self.world_model, "outcome_table", None), self.search.settings
            functions = any(map(callable, (wanted.value, wanted.prior, wanted.rollout)))
            if table is not None and not functions and isinstance(self.action_space, spaces.Discrete):
                start = int(getattr(self.observation_space, "start", 0))
                self._compiled = table_model(self.action_space, *table, start=start)
        return self._compiled

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Return the actions that new searches choose, and what they found.

        Args:
            observation: One observation, or a batch of N, as the environment gives them.
            state: What the last call found, or None.
            episode_start: `[N]` bool; rows where an episode starts begin anew.
            deterministic: See `plan`.
        """
        self.set_training_mode(False)
        rows, several = self.rows(observation)
        previous = state if isinstance(state, Searched) else None
        if previous is not None and episode_start is not None:
            previous = previous._replace(warm=previous.warm & ~np.asarray(episode_start, np.bool_))
        searched = self.plan(rows, previous, deterministic)
        action = searched.decisions.action
        return (action if several else action[0]), searched  # type: ignore[return-value]  # nested tuples of arrays

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return torch.as_tensor(self.plan(self.tensor_rows(observation), None, deterministic).decisions.action)


def searched_to_arrays(searched: Searched) -> dict[str, Any]:
    """Return what a search found as dicts and lists of arrays, for files."""
    return {
        "decisions": dict(searched.decisions._asdict()),
        "tree": dict(searched.tree._asdict()),
        "states": list(searched.states),
        "warm": searched.warm,
        "age": searched.age,
    }


def searched_from_arrays(arrays: dict[str, Any]) -> Searched:
    """Return what `searched_to_arrays` stored."""
    return Searched(
        Decisions(**arrays["decisions"]),
        Tree(**arrays["tree"]),
        tuple(arrays["states"]),
        arrays["warm"],
        arrays["age"],
    )
