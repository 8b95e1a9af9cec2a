"""A neural network learns the states and the rewards of Gymnasium's pendulum, and dreams an episode of them.

What one learns: how a model that is good at one step does many steps ahead, where it feeds on its own predictions, and
that the reward is learned like one more column of the state. Draws neural_model.png.
Run: python examples/neural_model.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch

from mbrl_gym.agents import random_transitions
from mbrl_gym.models import MLPModel, evaluate_model

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=4000, help="random steps, a tenth of which judges the model")
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="neural_model.png")
arguments = parser.parse_args()
steps, epochs = (1000, 3) if arguments.small else (arguments.steps, 150)

env = gym.make("Pendulum-v1")
data = random_transitions(env, steps, seed=0)
model = MLPModel(env.observation_space, env.action_space, max_epochs=epochs, seed=0)
report = model.fit(data.rows(slice(0, int(0.9 * steps))))
judged = data.rows(slice(int(0.9 * steps), None))
figures = evaluate_model(model, judged, horizons=(1, 10, 50))
print(
    f"{report.epochs} epochs in {report.seconds:.1f} s; reward: error {figures.reward_rmse:.3f} (RMS), "
    f"{figures.baseline_reward_rmse:.2f} if the mean is predicted"
)
for at in figures.horizons:
    print(
        f"{at.horizon:3} steps ahead: {at.error:.1e} of the variance is wrong (if nothing changed: {at.baseline:.1e})"
    )

horizon, actions = min(200, len(judged.reward)), torch.as_tensor(judged.action)
state, dreamt = model.start(torch.as_tensor(judged.observation[:1])), []
with torch.no_grad():
    for step in range(horizon):
        prediction = model.step(state, actions[step][None])  # the prediction's state is where the next step starts
        state = prediction.state
        dreamt.append([*prediction.observation[0, 0].tolist(), float(prediction.reward[0, 0])])
real = np.column_stack([judged.next_observation, judged.reward])[:horizon]
figure, panels = plt.subplots(4, 1, figsize=(9, 8.5), dpi=110, sharex=True, layout="constrained")
names = ("cos of the angle", "sin of the angle", "angular velocity [rad/s]", "reward")
for axes, name, truth, dream in zip(panels, names, real.T, np.array(dreamt).T, strict=True):
    axes.plot(truth, "k--", label="real")
    axes.plot(dream, label="dreamt: the model sees the first state and the actions, nothing else")
    axes.set_ylabel(name)
panels[0].set_title("Pendulum-v1, an episode that the network was not trained on")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
panels[-1].set_xlabel("steps ahead")
figure.savefig(arguments.out)
