"""A drone learns from random steps, and flies around obstacles in gusts of wind, well clear of all of them.

What one learns: a planner keeps a safety limit that no reward tells it of. `cost` and `cost_limit` rank plans that come
too close behind all others; the cost is how deep the drone is in an obstacle [m], so that -0.25 asks for 25 cm,
which leaves room for gusts that no plan foresees. Draws drone_obstacles.png. Run: python examples/drone_obstacles.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np

import mbrl_gym
from mbrl_gym.agents import MPC, random_transitions
from mbrl_gym.models import LinearModel
from mbrl_gym.wrappers import ShowPlans

parser = argparse.ArgumentParser()
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="drone_obstacles.png")
arguments = parser.parse_args()
steps, episodes, length = (100, 1, 4) if arguments.small else (1000, 3, 100)

TASK = "mbrl/DroneObstacles-v0"
school = gym.make(TASK, max_episode_steps=20)  # short episodes show many targets and obstacles
model = LinearModel(school.observation_space, school.action_space)
model.fit(random_transitions(school, steps, seed=0))
settings = {"cost": "exact", "cost_limit": -0.25, "planner_kwargs": {"horizon": 25, "population": 48}, "seed": 0}
settings["reward"] = lambda before, action, after: -after[..., :3].norm(dim=-1)  # the distance to the target
settings["termination"] = lambda after: school.unwrapped.task.cost(after) > 0  # in an obstacle
agent = MPC("iCEM", school, model=model, **settings)

env = ShowPlans(gym.make(TASK, render_mode="rgb_array", max_episode_steps=length), agent)
figure, panels = plt.subplots(2, 2, figsize=(12, 9), dpi=110, layout="constrained")
*pictures, curves = panels.flat
returns = []
for episode in range(episodes):
    observation, _ = env.reset(seed=episode)
    total, clearance, ended = 0.0, [], [False]
    while not any(ended):
        if episode == 0 and len(clearance) in (length // 10, length // 4, length // 2):
            axes = pictures.pop(0)
            axes.imshow(env.render())
            axes.axis("off")
        observation, reward, *ended, _ = env.step(env.decide())
        total += reward
        clearance.append(observation[12])
    returns.append(total)
    curves.plot(clearance, label=f"episode {episode}: return {total:.0f}")
    print(f"episode {episode}: return {total:6.1f}, nearest to an obstacle {100 * min(clearance):3.0f} cm")
print(f"score {np.mean(mbrl_gym.score(TASK, returns)):.2f} (1 is the best known) after {steps} random steps")
curves.axhline(0.25, color="k", linestyle=":", label="limit of plans")
curves.axhline(0, color="k", label="collision")
curves.set(xlabel="step", ylabel="distance to the nearest obstacle [m]", title=TASK)
curves.legend()
figure.savefig(arguments.out)
