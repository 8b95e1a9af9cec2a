"""An actor-critic learns to balance Gymnasium's CartPole inside of a world model of random steps.

One-step actor-critic (Sutton and Barto 2018, section 13.5) on 128 imagined episodes side by side; the real environment
only judges the policy. Draws imagined_actor_critic.png. Run: python examples/imagined_actor_critic.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

from mbrl_gym.agents import random_transitions
from mbrl_gym.models import GaussianEnsemble
from mbrl_gym.wrappers import ImaginedVectorEnv

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=1000, help="real random steps")
parser.add_argument("--updates", type=int, default=2000, help="imagined steps of all 128 episodes, one update each")
parser.add_argument("--episodes", type=int, default=10, help="real episodes that judge the policy")
arguments = parser.parse_args()

torch.manual_seed(0)
real = gym.make("CartPole-v1")
data = random_transitions("CartPole-v1", arguments.steps, seed=0)
model = GaussianEnsemble(real.observation_space, real.action_space)
model.fit(data)
dream = ImaginedVectorEnv(model, data, num_envs=128, horizon=200, autoreset_mode="Disabled")
actor, critic = (nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, size)) for size in (2, 1))
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-3)


def real_return(seed):
    (observation, _), total, ended = real.reset(seed=seed), 0.0, False
    while not ended:
        observation, reward, terminated, truncated, _ = real.step(int(actor(torch.as_tensor(observation)).argmax()))
        total, ended = total + reward, terminated or truncated
    return total


curve, observation = [], dream.reset(seed=0)[0]
for update in range(arguments.updates + 1):
    if update % 250 == 0:
        curve.append((128 * update, np.mean([real_return(seed) for seed in range(arguments.episodes)])))
        print(
            f"{curve[-1][0]:7,} imagined steps: return {curve[-1][1]:.0f} of 500 in {arguments.episodes} real episodes"
        )
    choice = Categorical(logits=actor(torch.as_tensor(observation)))
    action = choice.sample()
    following, reward, terminated, truncated, _ = dream.step(action.numpy())
    with torch.no_grad():  # nothing can be earned after a termination; a truncation only ends the dream
        later = critic(torch.as_tensor(following))[:, 0] * torch.as_tensor(~terminated)
    error = torch.as_tensor(reward) + 0.95 * later - critic(torch.as_tensor(observation))[:, 0]
    advantage = error.detach() / error.detach().std()
    loss = error.square() - choice.log_prob(action) * advantage - 0.01 * choice.entropy()
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()
    ended = terminated | truncated
    observation = dream.reset(options={"reset_mask": ended})[0] if ended.any() else following

plt.plot(*zip(*curve, strict=True), marker="o")
plt.xlabel(f"imagined steps, in a model of {arguments.steps:,} real ones")
plt.ylabel(f"return in {arguments.episodes} real episodes")
plt.title("CartPole-v1: an actor-critic that learns in a dream")
plt.savefig("imagined_actor_critic.png")
