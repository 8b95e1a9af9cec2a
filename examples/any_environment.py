"""Model-based control of an environment that this package knows nothing about: Gymnasium's pendulum.

The reward is learned together with the dynamics. Run: python examples/any_environment.py --steps 1500
"""

import argparse

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from mbrl_gym.agents import MPC

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=1500)
parser.add_argument("--episodes", type=int, default=5)
parser.add_argument("--small", action="store_true", help="a run of seconds")
arguments = parser.parse_args()
steps, episodes, length = (210, 1, 20) if arguments.small else (arguments.steps, arguments.episodes, 200)

agent = MPC("iCEM", "Pendulum-v1", planner_kwargs={"horizon": 20}, learning_starts=200, seed=0, verbose=1)
agent.learn(steps, log_interval=1)
mean, std = evaluate_policy(agent, Monitor(gym.make("Pendulum-v1", max_episode_steps=length)), episodes)
print(f"return after {steps} steps: {mean:.0f} +- {std:.0f} (random: about -1200, best: about -150)")
