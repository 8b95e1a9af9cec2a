"""The side of a search that knows its model: a compiled one, or a `WorldModel`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models.base import WorldModel

from . import compiled_search
from .arrays import Flight, Root, Rules, Tree
from .compiled_model import CompiledModel
from .compiled_search import Machine
from .model_search import Evaluation, ModelSearch, Store
from .settings import SearchSettings

__all__ = ["CompiledSide", "ModelSide"]

Array = np.ndarray[Any, Any]


class CompiledSide:
    """The side of a search that knows a compiled model."""

    def __init__(self, given: SearchSettings, model: CompiledModel) -> None:
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

    def run(self, tree: Tree, root: Root, flight: Flight, simulations: int) -> None:
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


class ModelSide:
    """The side of a search that knows a `WorldModel`."""

    def __init__(self, given: SearchSettings, model: WorldModel, choices: Array | None, seed: int) -> None:
        self.settings, self.model, self.actions, self.seed = given, model, choices, seed
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
        given = self.settings
        policy = given.rollout if callable(given.rollout) else None
        self.search = ModelSearch(
            self.model,
            store,
            Evaluation(given.value, given.prior, policy, rules.rollouts),
            rules,
            actions=None if self.actions is None else torch.as_tensor(self.actions, device=device),
            bounds=torch.as_tensor(tree.bounds[0], dtype=torch.float32, device=device) if rules.box else None,
            noise=self.noise,
            seed=self.seed,
        )

    def evaluate_roots(self, tree: Tree, fresh: Array) -> None:
        self.search.evaluate_roots(tree, fresh)

    def run(self, tree: Tree, root: Root, flight: Flight, simulations: int) -> None:
        self.search.run(tree, root, flight, simulations)

    def take_over(self, t: int, states: tuple[Array, ...], order: Array) -> None:
        self.search.store.take_over(t, states, order)

    def store(self) -> tuple[Array, ...]:
        return self.search.store.arrays()
