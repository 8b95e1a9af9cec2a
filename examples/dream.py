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
parser.add_argument("--small", action="store_true", help="a run of seconds")
arguments = parser.parse_args()
steps, episodes = (100, 1) if arguments.small else (arguments.steps, arguments.episodes)
settings = {"learning_starts": 500, "train_freq": 500}
if arguments.small:
    settings = {"learning_starts": 100, "train_freq": 100, "updates": 2, "check_freq": 1}

judged = Monitor(gym.make("CartPole-v1"))
judged.reset(seed=1000 + arguments.seed)
agent = ImaginedPPO("MlpPolicy", "CartPole-v1", **settings, seed=arguments.seed, verbose=1)
agent.learn(steps)
mean, deviation = evaluate_policy(agent, judged, episodes)
print(f"{agent.num_timesteps} real steps: return {mean:.1f} +- {deviation:.1f} of 500 in {episodes} episodes")
