"""Pictures of the mazes: what is where, that walls move, and what agents know and imagine."""

import gymnasium as gym
import numpy as np
import pytest

from mbrl_gym.envs.rendering.grid import HEAT, Grid
from mbrl_gym.envs.rendering.layout import Box
from mbrl_gym.envs.rendering.maze import WALL
from mbrl_gym.envs.rendering.palette import ACCENT, PANEL, TARGET
from mbrl_gym.errors import InvalidSettingError

IDS = ("mbrl/DynaMaze-v0", "mbrl/BlockingMaze-v0", "mbrl/ShortcutMaze-v0")
SIZES = [(64, 64), (480, 480), (640, 480), (300, 900)]
UP, DOWN, RIGHT, LEFT = range(4)


def make(env_id, size, state=None, **settings):
    env = gym.make(env_id, render_mode="rgb_array", width=size[0], height=size[1], **settings)
    env.reset(seed=0, options=None if state is None else {"state": state})
    return env


def bounds(image):
    """Return left, top, right, bottom of the maze in a picture, by its frame."""
    if image.shape[:2] == (64, 64):  # too small to find the frame: a margin of 1 pixel, and square cells
        return 1, 32 - 62 / 3, 63, 32 + 62 / 3
    framed = np.abs(image.astype(int) - (160, 172, 188)).sum(-1) < 60
    rows = np.flatnonzero(framed.sum(1) > 0.5 * image.shape[1])
    columns = np.flatnonzero(framed[rows[0] : rows[-1] + 1].sum(0) > 0.5 * (rows[-1] - rows[0]))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def sample(image, cell, x=0.5, y=0.5, frame=None):
    """Return the colour of the point at shares x and y of a cell (row, column)."""
    left, top, right, bottom = bounds(image) if frame is None else frame
    row, column = cell
    at_x = left + (column + x) * (right - left) / 9
    at_y = top + (row + y) * (bottom - top) / 6
    return image[round(at_y), round(at_x)].astype(int)


def near(color, other):
    return np.abs(color - other).max() < 12


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("env_id", IDS)
def test_everything_is_in_its_cell(env_id, size):
    env = make(env_id, size)
    env.step(LEFT)
    task, state = env.unwrapped.task, env.unwrapped.get_state()["state"]
    image = env.render()
    walls, frame = task.layout_at(state).walls, bounds(image)
    agent = divmod(int(state[0]), 9)
    for cell in np.ndindex(6, 9):
        expected = WALL if 9 * cell[0] + cell[1] in walls else TARGET if cell == (0, 8) else PANEL
        corner = sample(image, cell, 0.3, 0.3, frame)
        if cell not in (agent, divmod(task.layout.start, 9)):
            assert near(corner, expected), cell
    assert near(sample(image, agent), ACCENT)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("env_id", "opens", "closes"), [(IDS[1], 0, 8), (IDS[2], 8, None)])
def test_the_picture_changes_with_the_maze(env_id, opens, closes, size):
    env = make(env_id, size, [48, 1])
    env.step(LEFT)  # the clock stands at 0
    after = env.render()
    env.reset(options={"state": [47, 1]})
    before = env.render()
    assert near(sample(before, (3, opens)), WALL)
    assert near(sample(after, (3, opens)), PANEL)
    if closes is not None:
        assert near(sample(before, (3, closes)), PANEL)
        assert near(sample(after, (3, closes)), WALL)


@pytest.mark.parametrize("size", [(64, 64), (640, 480)])
def test_the_agent_looks_where_it_went(size):
    images = []
    for action in (UP, LEFT):  # both against the edge
        env = make(IDS[0], size, [0])
        env.step(action)
        images.append(env.render())
    assert (images[0] != images[1]).any()


@pytest.mark.parametrize("size", SIZES)
def test_values_colour_the_cells(size):
    env = make(IDS[0], size, [27])
    values = np.zeros((54, 4))
    values[[40, 53, 14], [2, 0, 1]] = 1.0, 0.5, -1.0
    env.unwrapped.show_values(values)
    image = env.render()
    # Corners of cells, where no arrow is.
    colors = [sample(image, divmod(cell, 9), 0.75, 0.25) for cell in (40, 53, 0)]
    assert near(colors[0], HEAT)
    assert near(colors[1], (np.array(HEAT) + PANEL) / 2)
    assert near(colors[2], PANEL)
    env.unwrapped.show_values(None)
    assert near(sample(env.render(), divmod(40, 9), 0.75, 0.25), PANEL)


def test_values_of_walls_and_the_goal_count_for_nothing():
    env = make(IDS[0], (320, 240))
    values = np.zeros((54, 4))
    values[40] = 1.0
    env.unwrapped.show_values(values)
    expected = env.render()
    values[[8, 11]] = 99.0  # the goal and a wall
    env.unwrapped.show_values(values)
    np.testing.assert_array_equal(env.render(), expected)


@pytest.mark.parametrize("size", [(160, 120), (480, 480), (640, 480)])
@pytest.mark.parametrize("action", [UP, DOWN, RIGHT, LEFT])
def test_arrows_point_to_the_best_action(size, action):
    env = make(IDS[0], size, [0])
    values = np.zeros((54, 4))
    env.unwrapped.show_values(values)
    without = env.render().astype(int)
    values[:, action] = 1.0
    env.unwrapped.show_values(values)
    image = env.render().astype(int)
    left, top, right, _ = bounds(env.render())
    side = (right - left) / 9
    row, column = 4, 3
    cell = np.s_[
        round(top + row * side) + 3 : round(top + (row + 1) * side) - 3,
        round(left + column * side) + 3 : round(left + (column + 1) * side) - 3,
    ]
    dark = image[cell].sum(-1) < without[cell].sum(-1) - 200
    assert dark.any()
    offset = np.argwhere(dark).mean(0) - (np.array(dark.shape) - 1) / 2  # the head is heavier than the shaft
    towards = {UP: (-1, 0), DOWN: (1, 0), RIGHT: (0, 1), LEFT: (0, -1)}[action]
    assert offset @ towards > 0
    assert abs(offset @ towards[::-1]) < 2


def test_cells_without_a_preference_have_no_arrows():
    env = make(IDS[0], (160, 120))  # without a legend, which names values
    without = env.render()
    env.unwrapped.show_values(np.full((54, 4), 3.0))
    np.testing.assert_array_equal(env.render(), without)
    values = np.full((54, 4), 3.0)
    values[40, 1] = 2.0
    env.unwrapped.show_values(values)
    assert (env.render() != without).any()


@pytest.mark.parametrize("size", [(160, 120), (640, 480)])
def test_imagined_cells_are_drawn_as_paths(size):
    env = make(IDS[0], size)
    without = env.render()
    env.unwrapped.imagine(np.array([[19, 20, 29, 38, 37], [27, 36, 37, 38, 39]]))
    plans = env.render()
    assert (plans != without).any()
    assert not near(sample(plans, (2, 1), 0.5, 0.5), PANEL)
    env.unwrapped.imagine(np.array([[19, 20, 29]]), np.array([[19, 20, 29], [27, 36, 45], [18, 18, 18]]))
    assert (env.render() != plans).any()
    env.unwrapped.imagine(None)
    np.testing.assert_array_equal(env.render(), without)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e300])
def test_ends_and_nonsense_can_be_imagined(bad):
    env = make(IDS[0], (160, 120))
    plans = np.array([[19.0, bad, bad], [27.0, 36.0, bad]])
    env.unwrapped.imagine(plans, np.stack([plans[0], plans[1], plans[1]]))
    assert env.render().shape == (120, 160, 3)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 1), (0, 3), (2, 0)])
def test_imagined_cells_of_other_shapes_are_refused(shape):
    env = make(IDS[0], (64, 64))
    with pytest.raises(InvalidSettingError, match=r"plans must have shape \(number, steps\)"):
        env.unwrapped.imagine(np.zeros(shape))


@pytest.mark.parametrize("size", [1.0, 7.3, 30.9])
def test_cells_of_a_grid_lie_side_by_side(size):
    grid = Grid.in_box(6, 9, Box(10.0, 20.0, 10.0 + 9 * size, 20.0 + 8 * size))
    assert grid.box.width == pytest.approx(9 * grid.size)
    assert grid.cell(0)[:2] == (grid.left, grid.top)
    assert grid.cell(53)[2:] == pytest.approx((grid.box.right, grid.box.bottom))
    cells = [grid.cell(cell) for cell in range(54)]
    middles = [((cell.left + cell.right) / 2, (cell.top + cell.bottom) / 2) for cell in cells]
    np.testing.assert_allclose(grid.centers(np.arange(54)), middles)
    assert grid.size == pytest.approx(size if size < 8 else 30)


def test_the_trail_is_the_way_so_far():
    env = make(IDS[0], (640, 480))
    still = env.render()
    for action in (RIGHT, DOWN, DOWN, RIGHT):
        env.step(action)
    image = env.render()
    for cell in ((2, 1), (3, 1), (4, 1)):
        assert not near(sample(image, cell), sample(still, cell))
    assert near(sample(image, (4, 4)), PANEL)
