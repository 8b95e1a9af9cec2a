"""Figures that tell how far a Dyna agent's imagination is from what happens."""

from __future__ import annotations

import math

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer

from mbrl_gym.models import FitReport, Transitions, WorldModel
from mbrl_gym.models.base import as_tensor

from .imagination import Branches
from .mixed_replay import MixedReplayBuffer

__all__ = ["branch_figures", "fit_figures", "one_step_error", "real_rewards"]

LATEST = 1000  # steps of each environment that count as the present


def fit_figures(report: FitReport) -> dict[str, float]:
    """Return what a fit did, by the names of the log; NaN where there is nothing to tell."""
    return {
        "model/transitions": report.transitions,
        "model/epochs": report.epochs,
        "model/loss": report.loss,
        "model/holdout_loss": float(np.mean(report.holdout_loss)) if report.holdout_loss else math.nan,
        "time/fit_seconds": report.seconds,
    }


def branch_figures(branches: Branches, buffer: MixedReplayBuffer) -> dict[str, float]:
    """Return what was imagined, and rewards of the latest real steps, by the names of the log; NaN likewise."""
    reward, total = real_rewards(buffer, branches.length)
    return {
        "imagined/rollout_length": branches.length,
        "imagined/transitions": len(buffer.imagined),
        "imagined/stopped_share": branches.stopped,
        "imagined/terminated_share": branches.terminated,
        "imagined/disagreement": branches.disagreement,
        "imagined/reward_mean": branches.reward,
        "imagined/return_mean": branches.total,
        "real/reward_mean": reward,
        "real/return_mean": total,
    }


@torch.inference_mode()
def one_step_error(model: WorldModel, data: Transitions, device: torch.device) -> float:
    """Return the mean squared error of predicted targets (changes and reward) over their variance in the data.

    The mean over all targets that vary; 1 is what predicting the mean would achieve. NaN where nothing varies.
    """
    outcome = model.outcome(as_tensor(data.observation, device), as_tensor(data.action, device))
    actual = model.targets(data)
    variance = actual.var(0, correction=0)
    errors = (outcome.mean.mean(0).double() - actual).square().mean(0)[variance > 1e-12]
    return float((errors / variance[variance > 1e-12]).mean())


def real_rewards(buffer: ReplayBuffer, length: int) -> tuple[float, float]:
    """Return the mean reward of the latest real steps, and the mean sum over windows of `length` steps.

    Windows end with their episode, as branches do. The sum is NaN if there is no whole window.
    """
    count = min(LATEST, buffer.buffer_size if buffer.full else buffer.pos)
    order = np.arange(buffer.pos - count, buffer.pos)  # negative numbers are the oldest rows of a full buffer
    rewards, dones = buffer.rewards[order], buffer.dones[order]
    if count < length:
        return float(rewards.mean()), math.nan
    windows = count - length + 1
    total, running = np.zeros_like(rewards[:windows]), np.ones_like(rewards[:windows])
    for step in range(length):
        total += running * rewards[step : step + windows]
        running *= 1 - dones[step : step + windows]
    return float(rewards.mean()), float(total.mean())
