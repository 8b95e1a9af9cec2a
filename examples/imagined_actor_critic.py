"""An actor-critic learns to balance Gymnasium's CartPole inside of a world model of random steps.

What one learns: policy and value can be learned from a model alone, by one-step actor-critic (Sutton and Barto 2018,
section 13.5) on 128 imagined episodes side by side; the real environment gives 1,000 random steps, and judges.
Draws imagined_actor_critic.png. Run: python examples/imagined_actor_critic.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import as_tensor, nn

from mbrl_gym.agents import random_transitions
from mbrl_gym.models import GaussianEnsemble
from mbrl_gym.wrappers import ImaginedVectorEnv

parser = argparse.ArgumentParser()
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="imagined_actor_critic.png")
arguments = parser.parse_args()
steps, updates = (200, 51) if arguments.small else (1000, 2001)
torch.manual_seed(0)
real, data = gym.make_vec("CartPole-v1", num_envs=10), random_transitions("CartPole-v1", steps, seed=0)
model = GaussianEnsemble(real.single_observation_space, real.single_action_space)
model.fit(data)
dream = ImaginedVectorEnv(model, data, num_envs=128, horizon=200, autoreset_mode="Disabled")
actor, critic = (nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, size)) for size in (2, 1))
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-3)

curve, observation = [], dream.reset(seed=0)[0]
for update in range(updates):
    if update % 250 == 0:
        seen, alive, total = real.reset(seed=0)[0], np.ones(10, bool), 0
        while alive.any():  # each of the ten has its first episode
            seen, reward, terminated, truncated, _ = real.step(actor(as_tensor(seen)).argmax(1).numpy())
            total, alive = total + reward @ alive, alive & ~(terminated | truncated)
        curve.append((128 * update, total / 10))
        print("{:7,} imagined steps: real return {:.0f} of 500".format(*curve[-1]), flush=True)
    choice = torch.distributions.Categorical(logits=actor(as_tensor(observation)))
    value = critic(as_tensor(observation))[:, 0]
    following, reward, terminated, truncated, _ = dream.step((action := choice.sample()).numpy())
    with torch.no_grad():  # nothing can be earned after a termination; a truncation only ends the dream
        target = as_tensor(reward) + 0.95 * as_tensor(~terminated) * critic(as_tensor(following))[:, 0]
    advantage = (target - value).detach()
    actor_loss = -choice.log_prob(action) * advantage / advantage.std() - 0.01 * choice.entropy()
    optimizer.zero_grad()
    ((target - value).square() + actor_loss).mean().backward()
    optimizer.step()
    reset = {"reset_mask": terminated | truncated}
    observation = dream.reset(options=reset)[0] if reset["reset_mask"].any() else following

plt.figure(figsize=(8, 5), dpi=110, layout="constrained")
plt.plot(*zip(*curve, strict=True), marker="o")
plt.gca().set(title="CartPole-v1: learned in a dream", xlabel="imagined steps", ylabel="mean return of real episodes")
plt.savefig(arguments.out)
