"""Mazes of cells, and `mbrl/DynaMaze-v0`, the one on which Sutton and Barto (2018) introduce Dyna-Q."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces

from mbrl_gym.envs.gym_env import TaskEnv, TaskVectorEnv
from mbrl_gym.envs.table import Table
from mbrl_gym.envs.task import (
    Array,
    Noise,
    NoiseSizes,
    Optimum,
    Params,
    Task,
    cast,
    column,
    stack_columns,
)
from mbrl_gym.errors import InvalidSettingError

__all__ = ["DynaMaze", "DynaMazeEnv", "DynaMazeVectorEnv", "Layout", "Maze", "MazeEnv", "MazeParams"]

STEPS = ((-1, 0), (1, 0), (0, 1), (0, -1))  # rows and columns by which up, down, right and left lead
INTEGER = np.dtype(np.int64)  # of Discrete observations


class Layout(NamedTuple):
    """Where things are in a maze; cells are numbered row by row from the top left."""

    rows: int
    columns: int
    walls: frozenset[int]
    start: int
    goal: int

    @classmethod
    def of(cls, drawing: str) -> Layout:
        """Return the layout of a drawing: lines of `.` (open), `#` (wall), one `S` (start) and one `G` (goal).

        Raises:
            InvalidSettingError: Lines of different lengths, other characters, or not one start and one goal.
        """
        lines = drawing.split()
        cells = "".join(lines)
        marks = (cells.count("S"), cells.count("G"))
        if len({len(line) for line in lines}) != 1 or set(cells) - set(".#SG") or marks != (1, 1):
            raise InvalidSettingError(
                "a maze is drawn as lines of one length that consist of '.', '#', one 'S' and one 'G', but "
                f"{drawing!r} was given"
            )
        walls = frozenset(cell for cell, mark in enumerate(cells) if mark == "#")
        return cls(len(lines), len(lines[0]), walls, cells.index("S"), cells.index("G"))

    @property
    def cells(self) -> int:
        """Number of cells, walls included."""
        return self.rows * self.columns

    def has_wall(self, cell: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return whether there are walls in cells `[...]`."""
        return np.isin(cell, list(self.walls))

    def moves(self) -> np.ndarray[Any, Any]:
        """Return the cell (int64) to which each action leads from each cell, `[cells, 4]`."""
        here = np.arange(self.cells)
        row, column = np.divmod(here, self.columns)
        leads = []
        for down, right in STEPS:
            beside = self.columns * np.clip(row + down, 0, self.rows - 1) + np.clip(column + right, 0, self.columns - 1)
            leads.append(np.where(self.has_wall(beside), here, beside))
        return np.stack(leads, -1)


@dataclass(frozen=True, kw_only=True)
class MazeParams(Params):
    """A maze whose drawing says everything has no constants."""


class Maze(Task):
    """A walk through the cells of a drawing, from S to G: reward 1 on entering the goal, which ends the episode.

    Observation: the number of the cell, row by row from the top left. Actions: up, down, right, left, in the order of
    the book; against a wall or the edge they lead nowhere. Nothing is random. For another maze derive a class with
    another drawing:

        class Corner(Maze):
            drawing = "S.# ..G"
    """

    drawing: ClassVar[str]  # rows are separated by white space
    params_class: ClassVar[type[Params]] = MazeParams
    state_columns: tuple[str, ...] = ("cell",)
    scene = "maze"
    render_fps = 10
    nominal_steps = 100  # of random walks from the start, 4% find the goal of DynaMaze within them
    optimum = Optimum("exact", "breadth-first search; scored episodes end after 100 steps")
    initial_noise = transition_noise = NoiseSizes()
    observation_space: spaces.Discrete
    action_space: spaces.Discrete

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.layout = Layout.of(self.drawing)
        self.layouts: tuple[Layout, ...] = (self.layout,)  # all that there are in the course of time
        self.observation_space = spaces.Discrete(self.layout.cells)
        self.action_space = spaces.Discrete(len(STEPS))
        self._moves = Table(self.layout.moves().astype(self.dtype))

    # What happens -------------------------------------------------------------------------------------------------

    def initial(self, noise: Noise) -> Array:
        """Return the start."""
        return stack_columns(noise.normal.sum(-1) + self.layout.start)  # the sum of no numbers: zeros `[...]`

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Go to the neighbouring cell, unless there is a wall."""
        return stack_columns(self._moves[self.observation(state), cast(action, INTEGER)])

    def allows(self, state: Array) -> bool:
        """Return whether the cells can be entered, at some time at least."""
        cell = column(state, 0)
        entered = np.any([~layout.has_wall(cell) for layout in self.layouts], axis=0)
        return bool(np.all(entered & (cell == np.floor(cell)))) and super().allows(state)

    def observation(self, state: Array) -> Array:
        """Return the cell."""
        return cast(column(state, 0), INTEGER)

    def state(self, observation: Array) -> Array:
        """Return the cell."""
        self.check_observed()
        return stack_columns(cast(observation, self.dtype))

    def reward(self, observation: Array, action: Array, next_observation: Array) -> Array:
        """Return 1 for entering the goal, else 0."""
        goal = self.layout.goal
        return cast((observation != goal) & (next_observation == goal), self.dtype)

    def terminal(self, next_observation: Array) -> Array:
        """Return whether the goal is reached."""
        return next_observation == self.layout.goal

    # What is known about it ---------------------------------------------------------------------------------------

    def layout_at(self, state: Array | None = None) -> Layout:
        """Return the layout in a state `[S]`, by default at the first step."""
        return self.layout

    def moves(self, state: Array | None = None) -> np.ndarray[Any, Any]:
        """Return the cell (int64) to which each action leads from each cell, `[cells, 4]`.

        Args:
            state: The state `[S]` of the maze, whose cell does not matter; by default that of the first step.
        """
        return self.layout_at(state).moves()

    def distances(self, state: Array | None = None) -> np.ndarray[Any, Any]:
        """Return the fewest steps from each cell to the goal, `[cells]` (float64); inf where no way leads there.

        Args:
            state: The state `[S]` in which the maze is taken to stay, as for `moves`.
        """
        moves = self.moves(state)
        steps = np.where(np.arange(len(moves)) == self.layout.goal, 0.0, math.inf)
        for _ in moves:
            steps = self._one_step_more(moves, steps)
        return steps

    def _one_step_more(self, moves: np.ndarray[Any, Any], steps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return distances `[cells]` from those that hold after the next step."""
        return np.where(np.arange(len(moves)) == self.layout.goal, 0.0, 1.0 + steps[moves].min(-1))

    def shortest_path(self, state: Array) -> np.ndarray[Any, Any]:
        """Return the fewest steps `[...]` (float64) from states `[..., S]` to the goal; inf where no way leads there.

        Where the maze changes, the walker knows in advance when and how.
        """
        return self.distances()[np.asarray(state)[..., 0].astype(np.int64)]

    def action_values(self, discount: float = 0.95, state: Array | None = None) -> np.ndarray[Any, Any]:
        """Return the best discounted return of each action in each cell, `[cells, 4]` (float64).

        To enter the goal with the k-th step is worth `discount ** (k - 1)`; in the goal itself nothing is to be had.

        Args:
            discount: Of a step, in [0, 1].
            state: The state `[S]` in which the maze is taken to stay, as for `moves`.

        Raises:
            InvalidSettingError: A discount out of its range.
        """
        if not 0.0 <= discount <= 1.0:
            raise InvalidSettingError(f"discount must be between 0 and 1, but {discount!r} was given")
        steps = self.distances(state)[self.moves(state)]
        values = np.where(np.isfinite(steps), float(discount) ** steps, 0.0)
        values[self.layout.goal] = 0.0
        return values

    def best_return(self, state: Array, steps: int) -> Array:
        """Return 1 where the goal can be entered in time, else 0."""
        path = self.shortest_path(state)
        return ((path > 0) & (path <= steps)).astype(np.float64)


class DynaMaze(Maze):
    """The maze of example 8.1, whose shortest path has 14 steps."""

    drawing = """
        .......#G
        ..#....#.
        S.#....#.
        ..#......
        .....#...
        .........
    """


class MazeEnv(TaskEnv):
    """What all mazes' environments add: keys to walk with."""

    def get_keys_to_action(self) -> dict[tuple[int, ...], int]:
        """Return the actions of the arrow keys, as `gymnasium.utils.play` asks for them."""
        from mbrl_gym.envs.rendering.maze import KEYS

        return KEYS


class DynaMazeEnv(MazeEnv):
    """The Dyna maze of Sutton and Barto (2018), example 8.1.

    ## Description
    A walk through a grid of 6 x 9 cells with walls, from S to G. What is learned with how many steps, with and without
    planning, is the book's figure 8.2.

        .......#G
        ..#....#.
        S.#....#.
        ..#......
        .....#...
        .........

    ## Action Space
    `Discrete(4)`: 0 up, 1 down, 2 right, 3 left. Against a wall or the edge an action leads nowhere.

    ## Observation Space
    `Discrete(54)`: the number of the cell, row by row from the top left: the start is 18, the goal 8.

    ## Reward
    1 for entering the goal, else 0.

    ## Starting State
    The cell S; `reset(options={"state": [cell]})` sets it.

    ## Episode End
    Terminated on entering the goal; truncated after 10,000 steps, which random walks from S exceed once in 300,000.
    (The book's episodes have no limit, but a policy that walks against a wall would never be evaluated.)

    ## Arguments
    `dtype="float32"`, of states and rewards.

    ## Optimum
    The return tells no more than that the goal was reached: 1 where `task.shortest_path(state)` (14 steps from S) is
    within the episode. Scores are of episodes of 100 steps, `gym.make("mbrl/DynaMaze-v0", max_episode_steps=100)`,
    in which 4% of random walks reach it; beyond that compare steps, or discounted returns with
    `task.action_values(discount)`.

    ## Version History
    v0: initial version.
    """

    task_class = DynaMaze


class DynaMazeVectorEnv(TaskVectorEnv):
    """Many copies of `DynaMazeEnv` in one array."""

    task_class = DynaMaze
