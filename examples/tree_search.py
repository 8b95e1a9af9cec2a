"""Monte Carlo tree search balances Gymnasium's CartPole inside the simulator itself, and shows one of its trees.

Run: python examples/tree_search.py --episodes 1
"""

import argparse

import gymnasium as gym
import numpy as np

from mbrl_gym.agents import MCTS
from mbrl_gym.agents.planning.tree import root_table
from mbrl_gym.wrappers import SimulatorModel

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200, help="most steps of an episode")
parser.add_argument("--episodes", type=int, default=1)
parser.add_argument("--simulations", type=int, default=32, help="simulations a step")
arguments = parser.parse_args()

env = gym.make("CartPole-v1", max_episode_steps=min(arguments.steps, 100))
agent = MCTS("UCT", env, model=SimulatorModel(env), simulations=arguments.simulations, seed=0)
for episode in range(arguments.episodes):
    observation, _ = env.reset(seed=episode)
    state, start, steps, done = None, np.ones(1, bool), 0, False
    while not done:
        action, state = agent.predict(observation, state, start, deterministic=True)
        observation, _, terminated, truncated, _ = env.step(action)
        start, steps, done = np.zeros(1, bool), steps + 1, terminated or truncated
    print(f"episode {episode}: {steps} steps; the last root, of {state.decisions.simulated[0]} simulations:")
    print(root_table(state.decisions))
