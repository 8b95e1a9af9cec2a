"""Model-predictive control by random shooting swings up Gymnasium's pendulum: imagine many futures, take the best.

What one learns: all that planning needs of a model is to be stepped from where the environment stands. Each decision
draws random action sequences, adds up the rewards that the model expects of each, and takes the first action of the
best. MPC("RandomShooting", ...) does so as an agent. Draws random_shooting.png. Run: python examples/random_shooting.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch

from mbrl_gym.agents import random_transitions
from mbrl_gym.models import MLPModel

parser = argparse.ArgumentParser()
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="random_shooting.png")
arguments = parser.parse_args()
steps, counts, length = (300, (5, 20), 5) if arguments.small else (2000, (3, 10, 30, 300), 150)

env, generator = gym.make("Pendulum-v1", max_episode_steps=length), torch.Generator()
model = MLPModel(env.observation_space, env.action_space, seed=0)
model.fit(random_transitions("Pendulum-v1", steps, seed=0))


@torch.no_grad()
def shoot(observation, candidates, blocks=6, hold=5):
    """Return random actions [H, K, 1], each held for some steps, and the imagined angles [H, K] and returns [K]."""
    actions = (4 * torch.rand((blocks, candidates, 1), generator=generator) - 2).repeat_interleave(hold, 0)
    state, angles, total = model.start(torch.as_tensor(observation).expand(candidates, -1)), [], torch.zeros(candidates)
    for action in actions:
        prediction = model.step(state, action)
        state, total = prediction.state, total + prediction.reward[0]
        angles.append(torch.atan2(prediction.observation[0, :, 1], prediction.observation[0, :, 0]))
    return actions, torch.stack(angles), total


figure, (futures, episode) = plt.subplots(1, 2, figsize=(12, 5), dpi=110, layout="constrained")
for candidates in counts:
    generator.manual_seed(0)
    observation, rewards, angles = env.reset(seed=0, options={"x_init": 3.1, "y_init": 0.1})[0], [], []
    for step in range(length):
        actions, imagined, total = shoot(observation, candidates)
        if (step, candidates) == (length // 10, counts[-1]):
            futures.plot(np.unwrap(imagined, axis=0), color="grey", linewidth=0.5, alpha=0.4)
            futures.plot(np.unwrap(imagined[:, total.argmax()]), color="C3", linewidth=2.5, label="the best one")
        observation, reward, *_ = env.step(actions[0, total.argmax()].numpy())
        rewards.append(reward)
        angles.append(np.arctan2(observation[1], observation[0]))
    print(f"{candidates:3} candidates a decision: return {sum(rewards):6.0f} in {length} steps")
    episode.plot(np.abs(angles), label=f"{candidates} candidates, return {sum(rewards):.0f}")
futures.set(title=f"{counts[-1]} futures that one decision imagines", xlabel="steps ahead", ylabel="angle [rad]")
futures.legend()
episode.set(title="Pendulum-v1", xlabel="step", ylabel="angle off the upright pose [rad]", ylim=(0, 4.5))
episode.legend()
figure.savefig(arguments.out)
