"""Small environments with known values, and value iteration."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Table(gym.Env):
    """Draws next states from probabilities [S, A, S]; `reward` [S, A, S]; `ends` [S] says which states terminate."""

    def __init__(self, probability, reward, ends, start=0):
        self.probability, self.reward, self.ends = probability, reward, ends
        self.first = self.state = start
        states, actions, _ = probability.shape
        self.observation_space, self.action_space = spaces.Discrete(states), spaces.Discrete(actions)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.first
        return self.state, {}

    def step(self, action):
        before, self.state = (
            self.state,
            int(self.np_random.choice(len(self.ends), p=self.probability[self.state, action])),
        )
        return self.state, float(self.reward[before, action, self.state]), bool(self.ends[self.state]), False, {}

    def get_state(self):
        return {"state": self.state, "generator": self.np_random.bit_generator.state}

    def set_state(self, state):
        self.state = state["state"]
        self.np_random.bit_generator.state = state["generator"]


def random_table(seed, states=5, actions=2):
    """Return an MDP with up to three next states a pair, whose last state ends episodes."""
    generator = np.random.default_rng(seed)
    probability = np.zeros((states, actions, states))
    for pair in np.ndindex(states, actions):
        following = generator.choice(states, 3, replace=False)
        probability[pair][following] = generator.dirichlet(np.ones(3))
    reward = np.round(generator.normal(size=(states, actions, states)), 2)
    return Table(probability, reward, np.arange(states) == states - 1)


def value_iteration(goes_on, reward, gamma):
    """Return Q [S, A] for probabilities [S, A, S] that the episode goes on in a state, and mean rewards [S, A]."""
    values = np.zeros(reward.shape)
    for _ in range(3000):
        values = reward + gamma * goes_on @ values.max(1)
    return values


def optimal_values(env, gamma):
    """Return the true Q [S, A] of a Table."""
    return value_iteration(env.probability * ~env.ends, (env.probability * env.reward).sum(-1), gamma)


class Corridor(gym.Env):
    """Cells 0 to `length` - 1 and two actions, left and right; a step right from the last cell pays 1 and ends it."""

    action_space = spaces.Discrete(2)

    def __init__(self, length=3):
        self.length, self.cell = length, 0
        self.observation_space = spaces.Discrete(length + 1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 0
        return self.cell, {}

    def step(self, action):
        self.cell = max(0, self.cell + 2 * int(action) - 1)
        there = self.cell == self.length
        return self.cell, float(there), there, False, {}

    def get_state(self):
        return {"cell": self.cell}

    def set_state(self, state):
        self.cell = state["cell"]


class Endless(gym.Env):
    """One state, one action, reward 1 for ever."""

    observation_space, action_space = spaces.Discrete(1), spaces.Discrete(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 0, 1.0, False, False, {}


class Switches(gym.Env):
    """Shows a target of two choices, counted from odd numbers; pays 1 for the action that is equal to it."""

    observation_space = spaces.MultiDiscrete([2, 3], start=[1, -1])
    action_space = spaces.MultiDiscrete([2, 3], start=[5, 0])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action)), action
        hit = bool(np.array_equal(action - [5, 0], self.target - [1, -1]))
        return self._draw(), float(hit), False, False, {}

    def _draw(self):
        self.target = self.np_random.integers([1, -1], [3, 2])
        return self.target
