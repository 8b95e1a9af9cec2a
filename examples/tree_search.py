"""Monte Carlo tree search balances Gymnasium's CartPole inside the simulator itself, and shows one of its trees.

What one learns: where a model can be asked step by step, a tree spends its simulations on the actions that look good so
far, and needs neither gradients nor training. A search goes on from the subtree of the one before it, which `predict`
carries along as its state. Draws tree_search.png (which takes igraph: pip install "mbrl-gym[trees]").
Run: python examples/tree_search.py
"""

import argparse

import gymnasium as gym
import numpy as np

from mbrl_gym.agents import MCTS, plot_tree
from mbrl_gym.agents.planning.tree import root_table
from mbrl_gym.wrappers import SimulatorModel

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=100, help="most steps of an episode")
parser.add_argument("--episodes", type=int, default=1)
parser.add_argument("--simulations", type=int, default=32, help="simulations a step")
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="tree_search.png")
arguments = parser.parse_args()

env = gym.make("CartPole-v1", max_episode_steps=10 if arguments.small else arguments.steps)
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
plot_tree(state, title="CartPole-v1: the last tree, numbers are visits").savefig(arguments.out, dpi=120)
