"""`mbrl/BlockingMaze-v0` and `mbrl/ShortcutMaze-v0`: mazes that change while an agent knows its way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mbrl_gym.envs.gym_env import TaskVectorEnv
from mbrl_gym.envs.maze import INTEGER, Layout, Maze, MazeEnv, MazeParams
from mbrl_gym.envs.table import Table
from mbrl_gym.envs.task import Array, Noise, Params, cast, clip, column, stack_columns
from mbrl_gym.errors import InvalidSettingError

__all__ = [
    "BlockingMaze",
    "BlockingMazeEnv",
    "BlockingMazeParams",
    "BlockingMazeVectorEnv",
    "ChangingMaze",
    "ShortcutMaze",
    "ShortcutMazeEnv",
    "ShortcutMazeParams",
    "ShortcutMazeVectorEnv",
]

MOST_STEPS = 1 << 24  # float32 counts no further


@dataclass(frozen=True, kw_only=True)
class BlockingMazeParams(MazeParams):
    """Constants of the blocking maze."""

    change_at: int = 1000  # time steps before the maze changes, in all episodes together

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.change_at, int) or not 0 <= self.change_at <= MOST_STEPS:
            raise InvalidSettingError(
                f"change_at must be a whole number from 0 to {MOST_STEPS:,}, but {self.change_at} was given"
            )


@dataclass(frozen=True, kw_only=True)
class ShortcutMazeParams(BlockingMazeParams):
    """Constants of the shortcut maze."""

    change_at: int = 3000


class ChangingMaze(Maze):
    """A maze that is another one, of the same size, start and goal, after `change_at` time steps.

    The clock is a state column that nobody observes, and that outlives the episodes (`carried`): it counts down the
    time steps of all episodes together, and stays at 0. A reset with a seed, or to a given state, sets it.
    """

    drawing_after: ClassVar[str]
    state_columns = ("cell", "steps until the change")
    carried = ("steps until the change",)
    params_class: ClassVar[type[Params]] = BlockingMazeParams
    fully_observed = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        before, after = self.layout, Layout.of(self.drawing_after)
        if before._replace(walls=after.walls) != after:
            raise InvalidSettingError(f"both drawings of {type(self).__name__} need the same size, start and goal")
        self.layouts = (before, after)
        self._moves = Table(np.stack([before.moves(), after.moves()]).astype(self.dtype))

    def initial(self, noise: Noise) -> Array:
        """Return the start, before anything happened."""
        zero = noise.normal.sum(-1)
        return stack_columns(zero + self.layout.start, zero + self.params.change_at)

    def transition(self, state: Array, action: Array, noise: Noise) -> Array:
        """Go to the neighbouring cell, unless there is a wall; the clock goes on in any case."""
        left = column(state, 1)
        cell = self._moves[cast(left == 0, INTEGER), self.observation(state), cast(action, INTEGER)]
        return stack_columns(cell, clip(left - 1, 0, math.inf))

    def allows(self, state: Array) -> bool:
        """Return whether the cells can be entered at some time, and the clock can stand there."""
        left = column(state, 1)
        counted = (left == np.floor(left)) & (left >= 0) & (left <= self.params.change_at)
        return bool(np.all(counted)) and super().allows(state)

    def layout_at(self, state: Array | None = None) -> Layout:
        """Return the layout in a state `[S]`, by default at the first step."""
        left = self.params.change_at if state is None else np.asarray(state)[1]
        return self.layouts[0 if left > 0 else 1]

    def shortest_path(self, state: Array) -> np.ndarray[Any, Any]:
        """Return the fewest steps `[...]` (float64) from states `[..., S]` to the goal; inf where no way leads there.

        The walker knows in advance when and how the maze changes.
        """
        cell, left = np.moveaxis(np.asarray(state, np.float64), -1, 0).astype(np.int64)
        moves, table = self.moves(np.array([0, 1])), [self.distances(np.array([0, 0]))]
        while len(table) <= left.max(initial=0):  # row t: t steps before the change
            table.append(self._one_step_more(moves, table[-1]))
            if np.array_equal(table[-1], table[-2]):  # as they will be ever before
                break
        return np.array(table)[np.minimum(left, len(table) - 1), cell]


class BlockingMaze(ChangingMaze):
    """The maze of example 8.2: 10 steps at first; then the gap closes and another opens, through which it takes 16."""

    drawing = """
        ........G
        .........
        .........
        ########.
        .........
        ...S.....
    """
    drawing_after = """
        ........G
        .........
        .........
        .########
        .........
        ...S.....
    """


class ShortcutMaze(ChangingMaze):
    """The maze of example 8.3: 16 steps at first; then another gap opens, through which it takes 10."""

    params_class = ShortcutMazeParams
    drawing = BlockingMaze.drawing_after
    drawing_after = """
        ........G
        .........
        .........
        .#######.
        .........
        ...S.....
    """


class BlockingMazeEnv(MazeEnv):
    """The blocking maze of Sutton and Barto (2018), example 8.2.

    ## Description
    A walk through a grid of 6 x 9 cells from S to G, which a wall separates but for a gap at the right. After 1,000
    time steps this gap closes for good, and one at the left opens: an agent has to find out that its way is blocked,
    and to look for another (figure 8.4).

        ........G     ........G
        .........     .........
        .........     .........
        ########. --> .########
        .........     .........
        ...S.....     ...S.....

    The clock runs on over the ends of episodes. It starts anew where an environment is made or reset with a seed, and
    `reset(options={"state": [cell, steps until the change]})` sets it, as `change_at` does. An environment for
    evaluation has a clock of its own: make it with `change_at=0` to see what an agent makes of the changed maze.

    ## Action Space
    `Discrete(4)`: 0 up, 1 down, 2 right, 3 left. Against a wall or the edge an action leads nowhere.

    ## Observation Space
    `Discrete(54)`: the number of the cell, row by row from the top left: the start is 48, the goal 8. Neither the
    clock nor the walls are observed.

    ## Reward
    1 for entering the goal, else 0.

    ## Starting State
    The cell S, and the clock where it stood; `reset(options={"state": [cell, steps until the change]})` sets both.

    ## Episode End
    Terminated on entering the goal; truncated after 10,000 steps, more than the whole of the book's experiment has.
    (The book's episodes have no limit, but a policy that walks against a wall would never be evaluated.)

    ## Arguments
    `change_at=1000`; `dtype="float32"`, of states and rewards.

    ## Optimum
    The return tells no more than that the goal was reached: 1 where `task.shortest_path(state)` (10 steps
    from S, and 16 after the change) is within
    the episode. Scores are those of first episodes of 100 steps, `gym.make("mbrl/BlockingMaze-v0",
    max_episode_steps=100)`, in which 12% of random walks reach it; the book compares the reward that learners gather
    in 3,000 time steps.

    ## Version History
    v0: initial version.
    """

    task_class = BlockingMaze


class BlockingMazeVectorEnv(TaskVectorEnv):
    """Many copies of `BlockingMazeEnv` in one array, each with a clock of its own."""

    task_class = BlockingMaze


class ShortcutMazeEnv(MazeEnv):
    """The shortcut maze of Sutton and Barto (2018), example 8.3.

    ## Description
    A walk through a grid of 6 x 9 cells from S to G, which a wall separates but for a gap at the left. After 3,000
    time steps a second gap opens at the right, through which the way is shorter. Nothing tells: the old way is as good
    as ever, and only an agent that goes on exploring finds the new one (figure 8.5).

        ........G     ........G
        .........     .........
        .........     .........
        .######## --> .#######.
        .........     .........
        ...S.....     ...S.....

    The clock runs on over the ends of episodes. It starts anew where an environment is made or reset with a seed, and
    `reset(options={"state": [cell, steps until the change]})` sets it, as `change_at` does. An environment for
    evaluation has a clock of its own: make it with `change_at=0` to see what an agent makes of the changed maze.

    ## Action Space
    `Discrete(4)`: 0 up, 1 down, 2 right, 3 left. Against a wall or the edge an action leads nowhere.

    ## Observation Space
    `Discrete(54)`: the number of the cell, row by row from the top left: the start is 48, the goal 8. Neither the
    clock nor the walls are observed.

    ## Reward
    1 for entering the goal, else 0.

    ## Starting State
    The cell S, and the clock where it stood; `reset(options={"state": [cell, steps until the change]})` sets both.

    ## Episode End
    Terminated on entering the goal; truncated after 10,000 steps, more than the whole of the book's experiment has.
    (The book's episodes have no limit, but a policy that walks against a wall would never be evaluated.)

    ## Arguments
    `change_at=3000`; `dtype="float32"`, of states and rewards.

    ## Optimum
    The return tells no more than that the goal was reached: 1 where `task.shortest_path(state)` (16 steps
    from S, and 10 after the change) is within
    the episode. Scores are those of first episodes of 100 steps, `gym.make("mbrl/ShortcutMaze-v0",
    max_episode_steps=100)`, in which 4% of random walks reach it; the book compares the reward that learners gather
    in 6,000 time steps.

    ## Version History
    v0: initial version.
    """

    task_class = ShortcutMaze


class ShortcutMazeVectorEnv(TaskVectorEnv):
    """Many copies of `ShortcutMazeEnv` in one array, each with a clock of its own."""

    task_class = ShortcutMaze
