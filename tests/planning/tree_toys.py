"""Problems for tree searches whose answers are known."""

import numpy as np
import torch
from gymnasium import spaces

from mbrl_gym.agents.planning.tree import table_model
from mbrl_gym.models import AnalyticModel


def walk():
    """Return a model of a walk on a line that pays the distance from 0, negative."""
    return AnalyticModel(
        spaces.Box(-99, 99, (1,)),
        spaces.Box(-1, 1, (1,)),
        dynamics_fn=lambda observation, action: observation + action,
        reward_fn=lambda observation, action, following: -following[..., 0].abs(),
        termination_fn=lambda following: torch.zeros(following.shape[:-1], dtype=torch.bool),
    )


def steps():
    """Return the same walk with choices -1, 0, 1, which ends at 0 and pays 10 there."""
    return AnalyticModel(
        spaces.Box(-99, 99, (1,)),
        spaces.Discrete(3, start=-1),
        dynamics_fn=lambda observation, action: observation + action[..., None],
        reward_fn=lambda observation, action, following: 10.0 * (following[..., 0] == 0) - 1.0,
        termination_fn=lambda following: following[..., 0] == 0,
    )


class TreeProblem:
    """A complete tree of given depth whose rewards are drawn; states are numbered level by level, the root is 0."""

    def __init__(self, depth, actions, seed, *, scale=1.0, shift=0.0):
        self.depth, self.actions = depth, actions
        levels = [actions**d for d in range(depth + 1)]
        self.first = np.cumsum([0, *levels])
        states = self.first[-1]
        inner = self.first[-2]
        rng = np.random.default_rng(seed)
        # Eighths: sums are exact.
        self.reward = scale * (rng.integers(0, 9, (states, actions)) / 8) + shift
        self.following = np.zeros((states, actions), int)
        self.following[:inner] = 1 + np.arange(inner)[:, None] * actions + np.arange(actions)
        self.ends = np.ones((states, actions), bool)
        self.ends[: self.first[-3]] = False
        shape = (states, actions, 1)
        parts = (np.ones(shape), *(part.reshape(shape) for part in (self.following, self.reward, self.ends)))
        self.model = table_model(spaces.Discrete(actions), *parts)

    def values(self, discount=1.0):
        """Return the best returns `[K]` of the root's actions, by brute force."""
        best = np.zeros(len(self.reward))
        for state in reversed(range(self.first[-2])):
            best[state] = self.action_values(state, best, discount).max()
        return self.action_values(0, best, discount)

    def action_values(self, state, best, discount):
        goes_on = ~self.ends[state]
        return self.reward[state] + discount * goes_on * best[self.following[state]]


class RandomMDP:
    """States with random outcomes, rewards and ends; values by value iteration."""

    def __init__(self, seed, states=6, actions=3, outcomes=3, end=0.1):
        rng = np.random.default_rng(seed)
        shape = (states, actions, outcomes)
        self.probability = rng.dirichlet(np.ones(outcomes), (states, actions))
        self.following = np.stack(
            [[rng.choice(states, outcomes, replace=False) for _ in range(actions)] for _ in range(states)]
        )
        self.reward, self.ends = rng.normal(size=shape), rng.random(shape) < end
        self.model = table_model(spaces.Discrete(actions), self.probability, self.following, self.reward, self.ends)

    def values(self, discount, steps):
        """Return the values `[S, K]` of actions with so many steps to go."""
        value = np.zeros(len(self.reward))
        for _ in range(steps):
            target = self.reward + discount * ~self.ends * value[self.following]
            q = (self.probability * target).sum(-1)
            value = q.max(1)
        return q
