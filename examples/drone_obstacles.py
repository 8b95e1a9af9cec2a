"""A drone learns to fly, and flies around obstacles in gusts of wind, 10 cm clear of all of them.

What one learns: a planner keeps a safety limit that no reward tells it of. `cost` and `cost_limit` rank plans that come
too close behind all others; here the cost is how deep the drone is in an obstacle, so that -0.1 is 10 cm of clearance.
Draws drone_obstacles.png: pictures of one flight with the plans, and the clearance of all steps.
Run: python examples/drone_obstacles.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np

import mbrl_gym
from mbrl_gym.agents import MPC
from mbrl_gym.wrappers import ShowPlans

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=400, help="to learn from")
parser.add_argument("--episodes", type=int, default=3)
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="drone_obstacles.png")
arguments = parser.parse_args()
steps, episodes, length = (60, 1, 8) if arguments.small else (arguments.steps, arguments.episodes, 100)

TASK = "mbrl/DroneObstacles-v0"
school = gym.make(TASK, max_episode_steps=20)  # short episodes show many targets and obstacles
settings = {"model": "linear", "learning_starts": 50, "planner_kwargs": {"horizon": 25, "population": 48}, "seed": 0}
agent = MPC("iCEM", school, reward="exact", termination="exact", cost="exact", cost_limit=-0.1, **settings)
agent.learn(steps)

env = ShowPlans(gym.make(TASK, render_mode="rgb_array", max_episode_steps=length), agent)
returns, clearances, pictures = [], [], []
for episode in range(episodes):
    observation, _ = env.reset(seed=episode)
    total, clearance, ended = 0.0, [], [False]
    while not any(ended):
        if episode == 0 and len(clearance) in (0, length // 4, length // 2):
            pictures.append(env.render())
        observation, reward, *ended, _ = env.step(env.decide())
        total += reward
        clearance.append(observation[12])
    returns.append(total)
    clearances.append(clearance)
    print(f"episode {episode}: return {total:7.1f}, nearest to an obstacle {100 * min(clearance):.0f} cm")
print(f"score {np.mean(mbrl_gym.score(TASK, returns)):.2f} (1 is the best known) after {steps} steps")

figure, panels = plt.subplots(
    1, len(pictures) + 1, figsize=(4.4 * (len(pictures) + 1), 3.8), dpi=110, layout="constrained"
)
for axes, picture in zip(panels, pictures, strict=False):
    axes.imshow(picture)
    axes.axis("off")
for number, clearance in enumerate(clearances):
    panels[-1].plot(clearance, label=f"episode {number}")
panels[-1].axhline(0.1, color="k", linestyle=":", label="limit")
panels[-1].set(xlabel="step", ylabel="distance to the nearest obstacle [m]", ylim=(0, 3))
panels[-1].legend(fontsize=8)
figure.savefig(arguments.out)
