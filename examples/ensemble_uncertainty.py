"""An ensemble knows where it has not been: its members disagree where there were no data.

What one learns: networks that agree on their data part where there are none, so that their disagreement foretells the
error. An agent can avoid such places (disagreement=-1 of a planner), or look for them (explore="information").
Draws ensemble_uncertainty.png. Run: python examples/ensemble_uncertainty.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import spearmanr

from mbrl_gym.agents import random_transitions
from mbrl_gym.models import GaussianEnsemble
from mbrl_gym.wrappers import SimulatorModel

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=600, help="random steps to learn from")
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="ensemble_uncertainty.png")
arguments = parser.parse_args()
steps, grid = (200, 7) if arguments.small else (arguments.steps, 41)

env = gym.make("Pendulum-v1")
data = random_transitions(env, steps, seed=0)
slow = data.rows(np.abs(data.observation[:, 2]) < 3)  # the ensemble sees no fast ones
model = GaussianEnsemble(env.observation_space, env.action_space, seed=0)
model.fit(slow)

angle, speed = (part.ravel() for part in np.meshgrid(np.linspace(-np.pi, np.pi, grid), np.linspace(-8, 8, grid)))
places = torch.tensor(np.column_stack([np.cos(angle), np.sin(angle), speed]), dtype=torch.float32)
actions, real = torch.zeros((len(places), 1)), SimulatorModel(env)
with torch.no_grad():
    uncertainty = model.uncertainty(places, actions)
    happened = real.step(real.start(places), actions).observation[0]
    expected = model.step(model.start(places, particles=5), actions).observation.mean(0)
error = ((happened - expected) / torch.tensor(slow.observation).std(0)).square().mean(1).sqrt()
known = np.abs(speed) < 3
print(f"disagreement {uncertainty[known].mean():.3f} where there were data, {uncertainty[~known].mean():.3f} elsewhere")
print(f"error        {error[known].mean():.3f} where there were data, {error[~known].mean():.3f} elsewhere")
print(f"rank correlation of disagreement and error: {spearmanr(uncertainty, error).statistic:.2f}")

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.6), dpi=110, layout="constrained")
for axes, values, name in (
    (left, uncertainty, "disagreement of five networks"),
    (middle, error, "error of their mean"),
):
    picture = axes.pcolormesh(*(part.reshape(grid, grid) for part in (angle, speed, values.log10())), shading="nearest")
    figure.colorbar(picture, ax=axes, label="log10")
    axes.scatter(np.arctan2(*slow.observation[:, 1::-1].T), slow.observation[:, 2], s=2, color="white")
    axes.set(title=f"{name} (white: data)", xlabel="angle [rad]", ylabel="angular velocity [rad/s]")
right.scatter(uncertainty[~known], error[~known], s=6, color="C1", label="faster than all data")
right.scatter(uncertainty[known], error[known], s=6, color="C0", label="as fast as the data")
right.set(xscale="log", yscale="log", xlabel="disagreement", ylabel="error", title="every place of the maps")
right.legend()
figure.savefig(arguments.out)
