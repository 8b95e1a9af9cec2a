"""A bandit algorithm of your own beside known ones, on slot machines that pay 1 or nothing.

Soft-max sampling pulls arms by exp(mean / temperature). Run: python examples/bandits.py --steps 2000
"""

import argparse
from dataclasses import dataclass

import numpy as np

from mbrl_gym.agents import run_bandit
from mbrl_gym.agents.bandits import BanditAlgorithm, Statistics


@dataclass(frozen=True, kw_only=True)
class Softmax(BanditAlgorithm):
    """Pulls arms by exp(mean / temperature), as if each had been pulled once for 1."""

    temperature: float = 0.05

    positive = ("temperature",)  # checked where the algorithm is made

    def start(self, rows, arms):
        """Know nothing of `rows` bandits."""
        return Statistics(np.zeros(rows), np.ones((rows, arms)), np.ones((rows, arms)), np.zeros((rows, arms)))

    def learn(self, state, arm, reward):
        """Average the rewards of every arm."""
        rows, counts, means = np.arange(len(arm)), state.counts.copy(), state.means.copy()
        counts[rows, arm] += 1
        means[rows, arm] += (reward - means[rows, arm]) / counts[rows, arm]
        return state._replace(pulls=state.pulls + 1, counts=counts, means=means)

    def choose(self, state, generator):
        """Draw by the soft-max: the largest of the scores with Gumbel noise."""
        return (state.means / self.temperature + generator.gumbel(size=state.means.shape)).argmax(1)


parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=2000, help="pulls of each problem")
parser.add_argument("--episodes", type=int, default=500, help="problems")
arguments = parser.parse_args()

for algorithm in (Softmax(), "UCB1", "KL-UCB", "Thompson"):
    run = run_bandit(algorithm, "mbrl/BanditBernoulli-v0", problems=arguments.episodes, pulls=arguments.steps)
    print(f"{run.label}: regret {run.regret[-1]:.1f} +- {run.regret_error[-1]:.1f}, {run.law_ratio:.2f} of the law")
