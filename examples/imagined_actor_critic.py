"""An actor-critic learns to balance Gymnasium's CartPole inside of a world model of random steps.

One-step actor-critic (Sutton and Barto 2018, section 13.5) on 128 imagined episodes side by side; the real environment
only judges the policy. Draws imagined_actor_critic.png. Run: python examples/imagined_actor_critic.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import as_tensor, nn
from torch.distributions import Categorical

from mbrl_gym.agents import random_transitions
from mbrl_gym.models import GaussianEnsemble
from mbrl_gym.wrappers import ImaginedVectorEnv

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=1000, help="real random steps")
parser.add_argument("--episodes", type=int, default=10, help="real episodes that judge the policy")
arguments = parser.parse_args()

torch.manual_seed(0)
real, data = gym.make("CartPole-v1"), random_transitions("CartPole-v1", arguments.steps, seed=0)
model = GaussianEnsemble(real.observation_space, real.action_space)
model.fit(data)
dream = ImaginedVectorEnv(model, data, num_envs=128, horizon=200, autoreset_mode="Disabled")
actor, critic = (nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, size)) for size in (2, 1))
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-3)


def real_return(seed):
    observation, total, ended = real.reset(seed=seed)[0], 0.0, False
    while not ended:
        observation, reward, terminated, truncated, _ = real.step(int(actor(as_tensor(observation)).argmax()))
        total, ended = total + reward, terminated or truncated
    return total


curve, observation = [], dream.reset(seed=0)[0]
for update in range(2001):
    if update % 250 == 0:
        curve.append((128 * update, np.mean([real_return(seed) for seed in range(arguments.episodes)])))
        print("{:7,} imagined steps: real return {:.0f} of 500".format(*curve[-1]), flush=True)
    choice, value = Categorical(logits=actor(as_tensor(observation))), critic(as_tensor(observation))[:, 0]
    action = choice.sample()
    following, reward, terminated, truncated, _ = dream.step(action.numpy())
    with torch.no_grad():  # nothing can be earned after a termination; a truncation only ends the dream
        target = as_tensor(reward) + 0.95 * as_tensor(~terminated) * critic(as_tensor(following))[:, 0]
    advantage = (target - value).detach()
    actor_loss = -choice.log_prob(action) * advantage / advantage.std() - 0.01 * choice.entropy()
    optimizer.zero_grad()
    ((target - value).square() + actor_loss).mean().backward()
    optimizer.step()
    ended = terminated | truncated
    observation = dream.reset(options={"reset_mask": ended})[0] if ended.any() else following

plt.plot(*zip(*curve, strict=True), marker="o")
plt.gca().set(title="CartPole-v1 after a dream", xlabel="imagined steps", ylabel="return in real episodes")
plt.savefig("imagined_actor_critic.png")
