"""PPO balances Gymnasium's CartPole after training in a dream only: a world model of at most 2,000 real steps.

Every 500 real steps (random ones at first, then the policy's) an ensemble is fitted to all of them, with reward and
termination learned too, and PPO trains inside it while held-out members of the ensemble see it improve.
Run: python examples/dream.py --seed 0
"""

import argparse

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from mbrl_gym.agents import ImaginedPPO

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=2000, help="real steps in all, in rounds of 500")
parser.add_argument("--episodes", type=int, default=100, help="real episodes that judge the policy in the end")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

judged = Monitor(gym.make("CartPole-v1"))
judged.reset(seed=1000 + arguments.seed)
agent = ImaginedPPO("MlpPolicy", "CartPole-v1", learning_starts=500, train_freq=500, seed=arguments.seed, verbose=1)
agent.learn(arguments.steps)
mean, deviation = evaluate_policy(agent, judged, arguments.episodes)
print(f"{agent.num_timesteps} real steps: return {mean:.1f} +- {deviation:.1f} of 500 in {arguments.episodes} episodes")
