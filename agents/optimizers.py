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
        values = {int(number): each for number, each in state["state"].items()}
        optimizer.load_state_dict({"state": values, "param_groups": [_group(each) for each in state["param_groups"]]})
    except ValueError as error:
        raise DamagedFileError(f"the file's optimiser state does not fit: {error}") from error


def _group(stored: dict[str, Any]) -> dict[str, Any]:
    """Return a group of parameters; files hold lists in place of tuples."""
    return {name: tuple(value) if name == "betas" else value for name, value in stored.items()}
