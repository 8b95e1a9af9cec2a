"""Tic-tac-toe against an opponent who plays at random, as an environment; and what brute force says of it."""

from functools import cache

import gymnasium as gym
import numpy as np
from gymnasium import spaces

X, O = 1, 2  # noqa: E741
LINES = [*np.arange(9).reshape(3, 3), *np.arange(9).reshape(3, 3).T, np.array([0, 4, 8]), np.array([2, 4, 6])]


def board(marks):
    cells = np.zeros(9, np.int64)
    for (row, column), mark in marks.items():
        cells[3 * row + column] = mark
    return cells


def wins(cells, mark):
    return any(all(cells[place] == mark for place in line) for line in LINES)


class TicTacToe(gym.Env):
    """We are x and move first; a win pays 1, a defeat or a move to a taken place -1."""

    observation_space = spaces.MultiDiscrete([3] * 9)
    action_space = spaces.Discrete(9)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.place(np.zeros(9, np.int64)), {}

    def place(self, cells):
        self.cells = cells.copy()
        return self.cells.copy()

    def step(self, action):
        if self.cells[action]:
            return self.cells.copy(), -1.0, True, False, {}
        self.cells[action] = X
        if wins(self.cells, X):
            return self.cells.copy(), 1.0, True, False, {}
        free = np.flatnonzero(self.cells == 0)
        if not len(free):
            return self.cells.copy(), 0.0, True, False, {}
        self.cells[self.np_random.choice(free)] = O
        lost = wins(self.cells, O)
        return self.cells.copy(), -float(lost), lost, False, {}

    @staticmethod
    def action_values(cells, discount):
        """Return what each move is worth `[9]`, NaN for taken places."""
        return np.array([_move(tuple(cells), place, discount) if not cells[place] else np.nan for place in range(9)])


@cache
def _best(cells, discount):
    return max(_move(cells, place, discount) for place in range(9) if not cells[place])


@cache
def _move(cells, place, discount):
    after = (*cells[:place], X, *cells[place + 1 :])
    if wins(after, X):
        return 1.0
    free = [other for other in range(9) if not after[other]]
    if not free:
        return 0.0
    worth = 0.0
    for other in free:
        answered = (*after[:other], O, *after[other + 1 :])
        if wins(answered, O):
            worth -= 1.0
        else:
            worth += discount * _best(answered, discount)
    return worth / len(free)
