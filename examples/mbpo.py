"""MBPO swings up Gymnasium's pendulum from some minutes of real time: SAC that learns from a world model's imagination.

Reward and dynamics are learned. Run: python examples/mbpo.py --steps 1000
"""

import argparse

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from mbrl_gym.agents import MBPO

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=1000, help="real steps")
parser.add_argument("--episodes", type=int, default=10)
parser.add_argument("--small", action="store_true", help="a run of seconds")
arguments = parser.parse_args()
steps, episodes = (205, 1) if arguments.small else (arguments.steps, arguments.episodes)

agent = MBPO(
    "MlpPolicy",
    "Pendulum-v1",
    rollout_length=5,
    rollout_batch=1000,
    rollout_freq=50,
    model_train_freq=100,
    model_retain=20,
    learning_rate=1e-3,
    learning_starts=200,
    batch_size=256,
    policy_kwargs={"net_arch": [64, 64]},
    seed=0,
    verbose=1,
)
agent.learn(steps, log_interval=1)
mean, std = evaluate_policy(agent, Monitor(gym.make("Pendulum-v1")), episodes)
print(f"return after {steps} steps: {mean:.0f} +- {std:.0f} (random: about -1200, best: about -150)")
