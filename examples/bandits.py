"""Epsilon-greedy, UCB and curiosity on ten-armed bandits; curiosity is an algorithm of your own.

What one learns: exploration costs, and what it should look for. Epsilon-greedy explores forever and blindly; curiosity
alone learns most and earns least; UCB and curiosity beside reward try what they do not know yet, as long as it pays.
Draws bandits.png. Run: python examples/bandits.py
"""

import argparse
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np

from mbrl_gym.agents import run_bandit
from mbrl_gym.agents.bandits import BanditAlgorithm, Statistics


@dataclass(frozen=True, kw_only=True)
class Curiosity(BanditAlgorithm):
    """Pulls the arm of the best mean plus what the pull tells of it, of prior N(0, 1) and rewards of variance 1."""

    weight: float = 1.0  # reward that a nat of information is worth

    def start(self, rows, arms):
        return Statistics(np.zeros(rows), *(np.zeros((rows, arms)) for _ in range(3)))

    def learn(self, state, arm, reward):
        """Average the rewards of every arm."""
        rows, counts, means = np.arange(len(arm)), state.counts.copy(), state.means.copy()
        counts[rows, arm] += 1
        means[rows, arm] += (reward - means[rows, arm]) / counts[rows, arm]
        return state._replace(pulls=state.pulls + 1, counts=counts, means=means)

    def choose(self, state, generator):
        """Add the information gain [nats], by how much a pull narrows the posterior, to the mean."""
        gain = 0.5 * np.log((state.counts + 2) / (state.counts + 1))
        return (state.means + self.weight * gain + 1e-9 * generator.random(gain.shape)).argmax(1)


parser = argparse.ArgumentParser()
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="bandits.png")
arguments = parser.parse_args()
size = {"problems": 20, "pulls": 50} if arguments.small else {"problems": 1000, "pulls": 1000}

runs = [run_bandit("epsilon-greedy", **size, epsilon=0.1, label="epsilon-greedy")]
runs.append(run_bandit("UCB1", **size, coefficient=1.0, label="UCB1"))
for weight, label in ((10.0, "curiosity and reward"), (1e9, "curiosity alone")):
    runs.append(run_bandit(Curiosity(weight=weight), **size, label=label))
figure, panels = plt.subplots(1, 2, figsize=(12, 5), dpi=110, layout="constrained")
for run in runs:
    print(f"{run.label:20}: regret {run.regret[-1]:5.0f} +- {run.regret_error[-1]:2.0f} after {run.pulls} pulls")
    for axes, values in zip(panels, (run.regret, 100 * run.optimal), strict=True):
        axes.plot(np.arange(5, run.pulls, 10), values.reshape(-1, 10).mean(1), label=run.label)  # ten pulls a point
for axes, name in zip(panels, ("regret so far", "pulls of the best arm [%]"), strict=True):
    axes.set(title=f"mbrl/Bandit-v0, mean of {run.problems:,} problems", xlabel="pull", ylabel=name)
panels[0].set(yscale="log")
panels[1].legend()
figure.savefig(arguments.out)
