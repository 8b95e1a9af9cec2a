"""Dyna-Q finds its way through a maze: Q-learning that also learns from what its model remembers.

What one learns: real steps are dear and imagined ones are not. With 50 imagined updates after each real step the agent
is near the shortest path in its third episode, without any after its twentieth (Sutton and Barto 2018, figure 8.2).
Draws dyna_q.png. Run: python examples/dyna_q.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes
from stable_baselines3.common.monitor import Monitor

import mbrl_gym  # noqa: F401  registers the tasks
from mbrl_gym.agents import DynaQ
from mbrl_gym.wrappers import ShowValues

parser = argparse.ArgumentParser()
parser.add_argument("--episodes", type=int, default=50)
parser.add_argument("--repetitions", type=int, default=10, help="agents that are averaged over")
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="dyna_q.png")
arguments = parser.parse_args()
episodes, repetitions = (3, 1) if arguments.small else (arguments.episodes, arguments.repetitions)

figure, (curves, maze) = plt.subplots(1, 2, figsize=(12, 5), dpi=110, layout="constrained")
for planning_steps in (0, 5, 50):
    lengths = []
    for seed in range(repetitions):
        env = Monitor(gym.make("mbrl/DynaMaze-v0", render_mode="rgb_array"))
        agent = DynaQ("epsilon-greedy", env, planning_steps=planning_steps, gamma=0.95, seed=seed)
        agent.learn(1_000_000, callback=StopTrainingOnMaxEpisodes(episodes))
        lengths.append(env.get_episode_lengths())
    mean = np.mean(lengths, 0)
    curves.plot(np.arange(2, episodes + 1), mean[1:], label=f"{planning_steps} imagined updates a step")
    print(
        f"{planning_steps:2} imagined updates a step: {np.sum(lengths, 1).mean():5,.0f} real steps in {episodes} "
        f"episodes, {mean[-5:].mean():.0f} in each of the last five"
    )
curves.axhline(14, color="k", linestyle=":", label="the shortest path")
curves.set(title=f"mbrl/DynaMaze-v0, mean of {repetitions} agents", yscale="log")
curves.set(yticks=(14, 50, 200, 800), yticklabels=(14, 50, 200, 800))
curves.minorticks_off()
curves.set(xlabel="episode (the first, which is a random walk, left out)", ylabel="real steps of an episode")
curves.legend()

shown = ShowValues(env, agent)  # draws what the last agent has learned
shown.reset(seed=0)
maze.imshow(shown.render())
maze.set_title("values and best actions after 50 imagined updates a step")
maze.axis("off")
figure.savefig(arguments.out)
