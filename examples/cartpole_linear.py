"""Gymnasium's CartPole is balanced by linear regression: collect random steps, fit a model to them, plan with it.

What one learns: the whole loop of model-based reinforcement learning in three lines, and how little data it takes where
the model suits the task: CartPole is nearly linear about the upright pole. CartPole pays 1 a step wherever the pole is;
plans get a reward that tells upright from tilted. Draws cartpole_linear.png. Run: python examples/cartpole_linear.py
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from mbrl_gym.agents import MPC, random_transitions
from mbrl_gym.models import LinearModel

parser = argparse.ArgumentParser()
parser.add_argument("--episodes", type=int, default=10, help="that judge an agent, side by side")
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="cartpole_linear.png")
arguments = parser.parse_args()
sizes, episodes, steps = ([100], 2, 30) if arguments.small else ([25, 50, 100, 200], arguments.episodes, 500)


def upright(observation, action, following):  # what plans are to reach, of tensors
    return 1 - (following[..., 2] / 0.2) ** 2 - (following[..., 0] / 2.4) ** 2


env = make_vec_env("CartPole-v1", episodes, env_kwargs={"max_episode_steps": steps})
returns = []
for size in sizes:
    data = random_transitions("CartPole-v1", size, seed=0)  # collect
    model = LinearModel(env.observation_space, env.action_space)
    model.fit(data)  # fit
    settings = {"horizon": 20, "iterations": 4}
    agent = MPC("iCEM", "CartPole-v1", model=model, reward=upright, planner_kwargs=settings, seed=0)  # plan
    env.seed(1000)
    returns.append(evaluate_policy(agent, env, episodes, return_episode_rewards=True, warn=False)[0])
    print(f"{size:4} random steps, {data.terminated.sum():2} falls: mean return {np.mean(returns[-1]):3.0f} of {steps}")

figure, axes = plt.subplots(figsize=(8, 5), dpi=110, layout="constrained")
for size, real in zip(sizes, returns, strict=True):
    axes.scatter([size] * len(real), real, color="C0", alpha=0.4, label="an episode" if size == sizes[0] else None)
axes.plot(sizes, np.mean(returns, 1), color="C0", marker="s", label="mean")
axes.axhline(steps, color="k", linestyle=":", label="the most that there is")
axes.axhline(22, color="grey", linestyle="--", label="random actions")
axes.set(xscale="log", xticks=sizes, xticklabels=sizes, ylim=(0, None), xlabel="random steps that the model has seen")
axes.set(title="CartPole-v1, planned with a linear model", ylabel="return of an episode")
axes.minorticks_off()
axes.legend()
figure.savefig(arguments.out)
