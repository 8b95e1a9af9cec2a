"""What Stable-Baselines3's critics expect beyond a plan's horizon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError

from .planning.evaluation import ValueFn

__all__ = ["value_function", "value_of"]


def value_of(algorithm: BaseAlgorithm) -> ValueFn:
    """Return what an algorithm of Stable-Baselines3 expects from an observation on, as a planner's `value`.

    PPO and A2C have learned the value of their policy. SAC, TD3 and DDPG take the least of their critics at the action
    that the policy takes if it is deterministic (SAC's own value would add its entropy, which is no return), DQN the
    best action's.

    The function follows the algorithm as it learns on. It takes observations `[..., O]` of any floating point dtype on
    any device and returns `[...]` there, with gradients to observations but none to the algorithm's weights. Values are
    discounted by the algorithm's `gamma`: give the planner the same `discount`. They are in units of the rewards that
    the algorithm has seen, which `VecNormalize` scales.

    Args:
        algorithm: PPO, A2C, SAC, TD3, DDPG or DQN (or a class derived from them) over flat Box observations.

    Raises:
        InvalidSettingError: Any other algorithm, or one that normalises observations or rewards outside of its policy.
        UnsupportedSpaceError: Observations that are not flat Boxes.
    """
    estimate = _estimate(algorithm)
    space = algorithm.observation_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise UnsupportedSpaceError(
            f"value_of takes algorithms over flat Box observations, but the observation space is {space}"
        )
    if algorithm.get_vec_normalize_env() is not None:
        raise InvalidSettingError(
            f"value_of takes algorithms that see rewards and observations as they are, but this {_name(algorithm)} was "
            "trained with VecNormalize"
        )
    critic = _Critic(algorithm, estimate)

    def value(observation: Tensor) -> Tensor:
        rows = observation.reshape(-1, observation.shape[-1])
        rows = rows.to(device=algorithm.device, dtype=torch.float32)
        if torch.is_grad_enabled() and observation.requires_grad:
            weights = {name: weight.detach() for name, weight in critic.named_parameters()}
            values = torch.func.functional_call(critic, weights, (rows,))
        else:
            with torch.no_grad():
                values = critic(rows)
        return values.view(observation.shape[:-1]).to(device=observation.device, dtype=observation.dtype)

    return value


def value_function(given: ValueFn | BaseAlgorithm | None, observation_space: spaces.Space[Any]) -> ValueFn | None:
    """Return an agent's argument `value` as a function; None if there is none.

    Raises:
        InvalidSettingError: An algorithm that was learned for other observations.
    """
    if not isinstance(given, BaseAlgorithm):
        return given
    if given.observation_space.shape != observation_space.shape:
        raise InvalidSettingError(
            f"value was learned for observations {given.observation_space}, but the environment's are "
            f"{observation_space}"
        )
    return value_of(given)


class _Critic(nn.Module):
    """A policy as a function from observations `[N, O]` to values `[N]`."""

    def __init__(self, algorithm: Any, estimate: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.policy, self.estimate = algorithm.policy, estimate

    def forward(self, observation: Tensor) -> Tensor:
        self.policy.set_training_mode(False)
        return self.estimate(self.policy, observation)


def _of_policy(policy: Any, observation: Tensor) -> Tensor:
    return policy.predict_values(observation)[:, 0]


def _of_deterministic_actor(policy: Any, observation: Tensor) -> Tensor:
    return _least(policy.critic, observation, policy.actor(observation))


def _of_gaussian_actor(policy: Any, observation: Tensor) -> Tensor:
    # The actor's own forward builds a distribution, which refuses observations that are not finite.
    mean, _, _ = policy.actor.get_action_dist_params(observation)
    return _least(policy.critic, observation, torch.tanh(mean))


def _least(critic: Any, observation: Tensor, action: Tensor) -> Tensor:
    """Return the least of the critics' values `[N]` of actions in [-1, 1]."""
    # A critic's own forward stops gradients to observations if it shares the actor's features.
    features = critic.extract_features(observation, critic.features_extractor)
    inputs = torch.cat((features, action), 1)
    return torch.cat([network(inputs) for network in critic.q_networks], 1).amin(1)


def _of_best_action(policy: Any, observation: Tensor) -> Tensor:
    return policy.q_net(observation).amax(1)


_ESTIMATES: dict[type[BaseAlgorithm], Callable[[Any, Tensor], Tensor]] = {
    PPO: _of_policy,
    A2C: _of_policy,
    SAC: _of_gaussian_actor,
    TD3: _of_deterministic_actor,
    DDPG: _of_deterministic_actor,
    DQN: _of_best_action,
}


def _name(algorithm: Any) -> str:
    return type(algorithm).__name__


def _estimate(algorithm: Any) -> Callable[[Any, Tensor], Tensor]:
    for kind, estimate in _ESTIMATES.items():
        if isinstance(algorithm, kind):
            return estimate
    known = ", ".join(kind.__name__ for kind in _ESTIMATES)
    raise InvalidSettingError(f"value_of takes an algorithm of {known}, but {_name(algorithm)} was given")
