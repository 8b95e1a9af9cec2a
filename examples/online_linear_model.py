"""A linear model learns a noisy walk online: predict a step, see it happen, learn from it, and so on.

What one learns: what a world model is (state and action in, a distribution over the next state out), that a good one
also knows how unsure it is, and that recursive updates find the constants of the task: its drift, what an action does,
and how large the noise is. Draws online_linear_model.png. Run: python examples/online_linear_model.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch

import mbrl_gym  # noqa: F401  registers the tasks
from mbrl_gym.models import LinearModel
from mbrl_gym.wrappers import RecordTransitions

parser = argparse.ArgumentParser()
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="online_linear_model.png")
arguments = parser.parse_args()
steps = 30 if arguments.small else 100

env = RecordTransitions(gym.make("mbrl/Drift-v0", max_episode_steps=steps))
env.action_space.seed(0)
model = LinearModel(env.observation_space, env.action_space)
observation, rows = env.reset(seed=0)[0], []
for step in range(steps):
    action = np.clip(env.action_space.sample() - 0.2 * observation, -1, 1)  # random, but not far from home
    if step >= 2:
        expected = model.outcome(torch.tensor(observation)[None], torch.tensor(action)[None])
        guess = observation[0] + expected.mean[0, 0, 0], expected.deviation[0, 0, 0]  # the first target is x' - x
    observation, *_ = env.step(action)
    if step >= 2:
        constants = model.intercept[0], model.weights[1, 0], model.residual_deviation[0]
        rows.append((step, *map(float, (observation[0], *guess, *constants))))
    if step >= 1:  # the first fit takes two steps
        model.update(env.transitions().rows(slice(step if model.fitted else 0, None)))

step, actual, predicted, deviation, *constants = np.array(rows).T
true = env.unwrapped.task.params
error, half = actual - predicted, steps // 2
print(f"error of the second half: {np.sqrt(np.mean(error[half:] ** 2)):.3f} (RMS; the noise alone: {true.noise_std})")
print(f"{np.mean(np.abs(error) < 2 * deviation):.0%} of the steps within 2 standard deviations (a Gaussian: 95%)")
figure, (above, below) = plt.subplots(2, 1, figsize=(9, 7), dpi=110, sharex=True, layout="constrained")
band = {"alpha": 0.3, "linewidth": 0, "label": "predicted, 2 standard deviations"}
above.fill_between(step, predicted - 2 * deviation, predicted + 2 * deviation, **band)
above.plot(step, predicted, label="predicted one step before")
above.plot(step, actual, "k.", markersize=4, label="actual")
above.set(title="mbrl/Drift-v0", ylabel="position x", ylim=(-3.5, 5))
names = ("drift", "effect of an action", "noise (standard deviation)")
for name, values, truth in zip(names, constants, (true.drift, true.max_step, true.noise_std), strict=True):
    line = below.plot(step, values, label=f"{name}: learned {values[-1]:.2f}, true {truth}")[0]
    below.axhline(truth, color=line.get_color(), linestyle=":")
below.set(title="what the model has learned (dotted: true)", xlabel="step", ylim=(-0.3, 1.3))
above.legend(loc="upper right", ncols=3)
below.legend(loc="center right")
figure.savefig(arguments.out)
