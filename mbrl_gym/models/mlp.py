"""One probabilistic network: the plain baseline among the learned models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gymnasium import spaces
from torch import Tensor

from mbrl_gym.models.base import DynamicsFn, RewardFn, TerminationFn
from mbrl_gym.models.ensemble import GaussianEnsemble

__all__ = ["MLPModel"]


class MLPModel(GaussianEnsemble):
    """A single network that predicts a Gaussian over the next step (Nix and Weigend 1994; "P" of Chua et al. 2018).

    It is a `GaussianEnsemble` of one member, trained on all transitions but the held-out ones instead of a bootstrap
    sample. It knows how noisy a step is, where it has seen enough of them, but not what it has not seen: for that, an
    ensemble is needed.

    Args:
        observation_space: Flat `Box`, `Discrete`, `MultiDiscrete`, or a `Dict` or `Tuple` of these.
        action_space: `Discrete`, `MultiDiscrete`, or flat, bounded `Box`.
        dynamics_fn: Exact next observation, in place of the learned one.
        reward_fn: Exact reward, in place of the learned one.
        termination_fn: Exact termination, in place of the learned one.
        hidden: Sizes of the hidden layers (SiLU activations).
        learning_rate: Of Adam.
        weight_decay: Decoupled weight decay of weights and biases.
        batch_size: Largest minibatch; smaller data sets are cut into at least eight.
        max_epochs: Bound on a fit's passes over the data.
        patience: Epochs without better holdout loss after which a fit stops.
        holdout: Share of the transitions that is held out for early stopping.
        precision: "float32" or "bf16", of the hidden layers in predictions; see `GaussianEnsemble`.
        seed: Seeds initial weights and minibatches.

    Raises:
        UnsupportedSpaceError: A space that models cannot handle.
        InvalidSettingError: A setting out of its range.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        dynamics_fn: DynamicsFn | None = None,
        reward_fn: RewardFn | None = None,
        termination_fn: TerminationFn | None = None,
        hidden: Sequence[int] = (64, 64),
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-5,
        batch_size: int = 128,
        max_epochs: int = 150,
        patience: int = 15,
        holdout: float = 0.1,
        precision: str = "float32",
        seed: int = 0,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            dynamics_fn=dynamics_fn,
            reward_fn=reward_fn,
            termination_fn=termination_fn,
            members=1,
            hidden=hidden,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            max_epochs=max_epochs,
            patience=patience,
            holdout=holdout,
            precision=precision,
            seed=seed,
        )
        del self.arguments["members"], self.arguments["elites"]

    def uncertainty(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the predicted noise `[N]`, since a single network does not know what it does not know.

        The root mean square, over observation differences and reward, of the predicted standard deviation, in units of
        the targets' standard deviation in the data. It need not grow away from the data.
        """
        _, deviation = self._distribution(self.encode_observation(observation), action)
        return (deviation[0] / self.target_scale).square().mean(-1).sqrt()
