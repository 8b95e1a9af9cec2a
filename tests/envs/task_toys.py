"""Starts and steps of any task as pure functions."""

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.task import draw


def start_states(task, rows, seed=0):
    """Draw start states `[rows, S]`."""
    return task.initial(draw(np.random.default_rng(seed), (rows,), task.initial_noise, task.dtype))


def some_steps(task, rows, seed=0):
    """Draw states on the way, with actions (in and beyond bounds) and noise for one step more."""
    generator = np.random.default_rng(seed)
    state = start_states(task, rows, seed)
    for _ in range(4):
        if isinstance(task.action_space, spaces.Box):
            action = generator.uniform(-1.3, 1.3, (rows, *task.action_space.shape)).astype(task.dtype)
        else:
            action = generator.integers(task.action_space.n, size=rows)
        noise = draw(generator, (rows,), task.transition_noise, task.dtype)
        before, state = state, task.transition(state, action, noise)
    return before, action, noise


def one_step(task, state, action, noise):
    """Return all that one step yields: next state, both observations, reward, terminal, info."""
    after = task.transition(state, action, noise)
    observation, next_observation = task.observation(state), task.observation(after)
    return {
        "state": after,
        "observation": observation,
        "next_observation": next_observation,
        "reward": task.reward(observation, action, next_observation),
        "terminal": task.terminal(next_observation),
        **task.info(state, action, after),
    }
