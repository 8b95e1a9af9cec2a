"""Monte Carlo tree search as an agent: with the exact task, a simulator, or a learned model."""

from __future__ import annotations

import collections
import time
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import GymEnv

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import WorldModel
from mbrl_gym.models.base import DynamicsFn, RewardFn, TerminationFn
from mbrl_gym.wrappers import Decision

from .base import derived_seed
from .expert_iteration import PolicyValueNet, SearchTargets, learning_state, restore_learning, train_network
from .exploration import Exploration
from .learned_model import WorldModelAgent, check_choice
from .planning.evaluation import ValueFn, check
from .planning.tree import SELECTIONS, CompiledModel, Searched, TreeSearch, principal_variation
from .tree_policy import TreePolicy, searched_from_arrays, searched_to_arrays
from .values import value_function

__all__ = ["MCTS"]

DECISIONS = 1000  # the latest ones, whose times are kept
SHOWN = 5  # plans of a picture

Array = np.ndarray[Any, Any]


class MCTS(WorldModelAgent):
    """Monte Carlo tree search: learn a world model, or be given one, and search a tree for every action.

    The first `learning_starts` steps are random; from then on every action is that of a search, and the model is fitted
    to all transitions every `train_freq` steps. A model that needs no learning makes `learn` unnecessary:

        agent = MCTS("UCT", "FrozenLake-v1", model=SimulatorModel(gym.make("FrozenLake-v1")), simulations=1_000)
        evaluate_policy(agent, gym.make("FrozenLake-v1"))

    Observations may be flat Box, Discrete, MultiDiscrete, or Dict of these; actions Discrete, MultiDiscrete or flat,
    bounded Box (by progressive widening). `predict` carries the tree as its recurrent state: where the model has
    foreseen the observation exactly, the next search goes on from its subtree.

    With `learn_policy` the agent learns a prior and a value from its own searches (expert iteration, Anthony et al.
    2017; for a single player AlphaZero, Silver et al. 2017): a network is trained on the visits and values of the
    decisions that were made while learning, and the next searches are led by it. Decisions are then drawn from the
    visits' distribution, under Dirichlet noise in the root's prior; `predict(..., deterministic=True)` takes the best.

    Args:
        policy: How simulations select actions: "UCT", "PUCT" or "Gumbel", or a `TreeSearch`.
        env: Environment, its id, or a `VecEnv`.
        model: As for `MPC`; or a `CompiledModel`.
        simulations: Simulations a decision.
        gamma: Discount.
        search_kwargs: Further settings of `SearchSettings`: horizon, exploration, rollout, leaves, widening, ...
        model_kwargs: Settings of the learned model.
        dynamics: As for `MPC`.
        reward: As for `MPC`.
        termination: As for `MPC`.
        value: Return to expect from a leaf on, in place of a roll-out: a function of tensors, observation `[n, O]` ->
            `[n]`, or an algorithm of Stable-Baselines3 with a critic; its discount should be `gamma`.
        learn_policy: Whether to learn prior and value, for PUCT and Gumbel over Discrete and MultiDiscrete actions.
        policy_learning_rate: Step size of the network's training, by Adam.
        learning_starts: Random steps before the first fit.
        train_freq: Steps of each environment between fits.
        buffer_size: Transitions that are remembered.
        exploration: How much actions are disturbed while learning; see `MPC`.
        stats_window_size: Episodes over which the logger averages.
        tensorboard_log: Folder for TensorBoard.
        monitor_wrapper: Whether to wrap the environment in a `Monitor`.
        verbose: 0 is silent, 1 prints the log.
        seed: Seeds everything that is random; the global generators are neither used nor changed.
        device: "auto", "cpu", "cuda", ... of the model; trees are on the processor.

    Raises:
        InvalidSettingError: A setting out of its range.
        UnsupportedSpaceError: A space that the model or the search cannot handle.
    """

    policy: TreePolicy

    def __init__(
        self,
        policy: str | TreeSearch,
        env: GymEnv | str | None,
        *,
        model: str | WorldModel | CompiledModel = "ensemble",
        simulations: int = 64,
        gamma: float = 0.99,
        search_kwargs: dict[str, Any] | None = None,
        model_kwargs: dict[str, Any] | None = None,
        dynamics: str | DynamicsFn = "learned",
        reward: str | RewardFn = "learned",
        termination: str | TerminationFn = "learned",
        value: ValueFn | BaseAlgorithm | None = None,
        learn_policy: bool = False,
        policy_learning_rate: float = 1e-3,
        learning_starts: int = 100,
        train_freq: int = 50,
        buffer_size: int = 100_000,
        exploration: float = 0.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        monitor_wrapper: bool = True,
        verbose: int = 0,
        seed: int | None = None,
        device: Any = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_choice("policy", policy, SELECTIONS, TreeSearch, "a TreeSearch")
        if not isinstance(model, CompiledModel):
            self.check_model_arguments(model, dynamics=dynamics, reward=reward, termination=termination)
        self.arguments = {
            "policy": policy,
            "model": model,
            "simulations": simulations,
            "gamma": gamma,
            "search_kwargs": search_kwargs,
            "model_kwargs": model_kwargs,
            "dynamics": dynamics,
            "reward": reward,
            "termination": termination,
            "value": value,
            "learn_policy": learn_policy,
            "policy_learning_rate": policy_learning_rate,
            "learning_starts": learning_starts,
            "train_freq": train_freq,
            "buffer_size": buffer_size,
            "exploration": exploration,
            "stats_window_size": stats_window_size,
            "tensorboard_log": tensorboard_log,
            "monitor_wrapper": monitor_wrapper,
            "verbose": verbose,
            "seed": seed,
        }
        self.decision_times_ms: collections.deque[float] = collections.deque(maxlen=DECISIONS)
        self._searched: Searched | None = None
        super().__init__(
            TreePolicy,
            env,  # type: ignore[arg-type]  # None is for load, as in Stable-Baselines3's own algorithms
            learning_rate=0.0,  # the world model has its own
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            gamma=gamma,
            train_freq=train_freq,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            monitor_wrapper=monitor_wrapper,
            seed=seed,
            sde_support=False,
        )
        self._refuse_normalisation()
        if _init_setup_model:
            self._setup_model()

    @property
    def world_model(self) -> WorldModel:
        """The world model; a `CompiledModel` if one was given."""
        return self.policy.world_model  # type: ignore[return-value]

    @property
    def search(self) -> TreeSearch:
        """The search."""
        return self.policy.search

    def decide(self, observation: Any, state: Any = None, episode_start: Any = None) -> Decision:
        """Decide as `predict(..., deterministic=True)` does, and tell what the search expects.

        `plans` are the observations (means over particles) along the paths of most visits that begin with the best
        actions of the root, best first; shorter ones end in NaN. `particles` are those of the first.

        Args:
            observation: One observation, as the environment gives it.
            state: What the last decision's search found.
            episode_start: `[1]` bool.

        Raises:
            InvalidSettingError: The model is compiled: its states are no observations.
        """
        if self.policy.compiled_model is not None or isinstance(self.world_model, CompiledModel):
            raise InvalidSettingError("decide tells observations, which trees over compiled models do not hold")
        action, searched = self.policy.predict(observation, state, episode_start, deterministic=True)
        assert isinstance(searched, Searched)
        tree = searched.tree.one(0)
        ranked = np.argsort(-searched.decisions.visits[0], kind="stable")[:SHOWN]
        first = searched.decisions.slot[0]
        slots = [first, *(slot for slot in ranked if slot != first and searched.decisions.visits[0, slot])]
        paths = [principal_variation(tree, int(slot)) for slot in slots]
        plans = np.full((len(paths), max(map(len, paths)), tree.states.shape[1]), np.nan)
        for plan, path in zip(plans, paths, strict=True):
            plan[: len(path)] = tree.states[path]
        observed = searched.states[1][0]  # [R, P, O]
        particles = observed[paths[0]].swapaxes(0, 1) if observed.shape[1] > 1 else None
        return Decision(action, searched, plans, particles)

    def _setup_model(self) -> None:
        self._exploration = Exploration(self.action_space, self.arguments["exploration"])
        given, search = self.arguments["model"], self._make_search()
        self.policy_kwargs = {
            "world_model": given if isinstance(given, CompiledModel) else self._make_model(),
            "search": search,
            "network": self._make_network(search),
            "seed": derived_seed(self.seed, "planning"),
        }
        super()._setup_model()
        if self.policy.network is not None:
            rate, parameters = self.arguments["policy_learning_rate"], self.policy.network.parameters()
            self._optimizer = torch.optim.Adam(parameters, lr=rate)
            self._targets = SearchTargets(self.buffer_size)

    def _make_network(self, search: TreeSearch) -> PolicyValueNet | None:
        if not self.arguments["learn_policy"]:
            return None
        wrong = search.selection == "UCT" or search.choices is None
        if wrong or any(given is not None for given in (search.settings.value, search.settings.prior)):
            raise InvalidSettingError(
                "learn_policy=True learns the prior and the value of PUCT or Gumbel over Discrete or MultiDiscrete "
                f"actions: give neither yourself. Given: {search.selection} over {self.action_space}"
            )
        check(
            0 < self.arguments["policy_learning_rate"] < float("inf"),
            "policy_learning_rate",
            self.arguments["policy_learning_rate"],
            "greater than 0",
        )
        return PolicyValueNet(self.observation_space, search.edges, derived_seed(self.seed, "network"))

    def _make_search(self) -> TreeSearch:
        given, settings = self.arguments["policy"], dict(self.arguments["search_kwargs"] or {})
        own = {"simulations": self.arguments["simulations"], "discount": self.arguments["gamma"]}
        value = value_function(self.arguments["value"], self.observation_space)
        if isinstance(given, TreeSearch):
            if settings or value is not None:
                raise InvalidSettingError(
                    "a TreeSearch has its settings: give it search_kwargs and value, not the agent"
                )
            if given.action_space != self.action_space:
                raise InvalidSettingError(
                    f"the search was made for actions {given.action_space}, but the environment's are "
                    f"{self.action_space}"
                )
            return given
        if value is not None:
            own["value"] = value
        if twice := sorted(own.keys() & settings.keys()):
            raise InvalidSettingError(f"search_kwargs repeats the arguments {', '.join(twice)}: give them once")
        return TreeSearch(self.action_space, given, **own, **settings)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        planned = self.num_timesteps >= learning_starts
        action = self._planned_action() if planned else np.array([self.action_space.sample() for _ in range(n_envs)])
        if not isinstance(self.action_space, spaces.Box):
            action = self._exploration(action, self.policy.generator) if planned else action
            return action, action
        scaled = self.policy.scale_action(action)
        if planned and self._exploration.amount:
            scaled = self._exploration(scaled, self.policy.generator)
            action = self.policy.unscale_action(scaled)
        return action, scaled

    def _planned_action(self) -> Array:
        """Return the actions `[N, ...]` of searches from the environments' present observations."""
        model = self.world_model
        if isinstance(model, WorldModel) and not model.fitted:  # Stable-Baselines3 trains after a rollout only
            self.train()
        assert self._last_obs is not None
        begin = time.perf_counter()
        action, searched = self.policy.predict(
            self._last_obs,
            self._searched,  # type: ignore[arg-type]
            self._last_episode_starts,
        )
        assert isinstance(searched, Searched)
        self._searched = searched
        self.decision_times_ms.append(1000 * (time.perf_counter() - begin))
        if self.policy.network is not None:
            rows = self.policy.rows(self._last_obs)[0].cpu().numpy()
            self._targets.add(rows, searched.decisions.policy, self.search.root_values(searched.decisions))
        return action

    def dump_logs(self) -> None:
        """Write the log."""
        if self.decision_times_ms:
            for percentile in (50, 99):
                took = float(np.percentile(self.decision_times_ms, percentile))
                self.logger.record(f"time/decision_ms_p{percentile}", took)
        super().dump_logs()

    def train(self, gradient_steps: int = 1, batch_size: int = 0) -> None:
        """Fit the model to all transitions, and the network to the searches, a step for each of the environments'.

        The arguments are Stable-Baselines3's and play no role.
        """
        if isinstance(self.world_model, WorldModel):
            self._n_updates += self.fit_model(self.recorded()).gradient_steps
        if self.policy.network is not None and len(self._targets):
            steps = self.arguments["train_freq"] * self.n_envs
            loss = train_network(self.policy.network, self._optimizer, self._targets, steps, self.policy.generator)
            self._n_updates += steps
            self.logger.record("train/policy_loss", loss)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._setup_learn(*args, **kwargs)
        assert self._last_episode_starts is not None
        if self._last_episode_starts.all():
            self._searched = None
        return result

    def _extra_state(self) -> dict[str, Any]:
        return {"planning_seed": self.policy.seed}

    def _restore_extra(self, state: dict[str, Any]) -> None:
        self.policy.seed_planning(state["planning_seed"])

    def _extra_resume_state(self) -> dict[str, Any]:
        generator = getattr(self.world_model, "generator", None)
        return {
            "planning_generator": self.policy.generator.get_state(),
            "model_generator": None if generator is None else generator.get_state(),
            "searched": None if self._searched is None else searched_to_arrays(self._searched),
            "noise": self._exploration.state,
            "learning": None if self.policy.network is None else learning_state(self._optimizer, self._targets),
        }

    def _restore_extra_resume(self, state: dict[str, Any]) -> None:
        self.policy.generator.set_state(state["planning_generator"])
        generator = getattr(self.world_model, "generator", None)
        if generator is not None:
            generator.set_state(state["model_generator"])
        self._searched = None if state["searched"] is None else searched_from_arrays(state["searched"])
        self._exploration.state = state["noise"]
        if self.policy.network is not None:
            restore_learning(self._optimizer, self._targets, state["learning"])
