"""States of torch's optimisers as files hold them, whose keys are texts."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from mbrl_gym.errors import DamagedFileError

__all__ = ["optimizer_state", "restore_optimizer"]


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """Return the state of an optimiser."""
    state = optimizer.state_dict()
    return {**state, "state": {str(number): each for number, each in state["state"].items()}}


def restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Restore what `optimizer_state` returned.

    Raises:
        DamagedFileError: The state belongs to other parameters.
    """
    try:
        optimizer.load_state_dict({**state, "state": {int(number): each for number, each in state["state"].items()}})
    except ValueError as error:
        raise DamagedFileError(f"the file's optimiser state does not fit: {error}") from error
