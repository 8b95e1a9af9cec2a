"""The mazes: every move against the book's map, the clock of those that change, and their shortest paths."""

import copy
from collections import deque
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy

import mbrl_gym
from mbrl_gym.envs import BlockingMaze, DynaMaze, Maze, ShortcutMaze, TaskVectorEnv
from mbrl_gym.envs.maze_changing import ChangingMaze
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import ExactModel, TabularModel
from mbrl_gym.wrappers import RecordTransitions

IDS = ("mbrl/DynaMaze-v0", "mbrl/BlockingMaze-v0", "mbrl/ShortcutMaze-v0")
ROWS, COLUMNS, GOAL = 6, 9, (0, 8)
UP, DOWN, RIGHT, LEFT = range(4)
STEPS = {UP: (-1, 0), DOWN: (1, 0), RIGHT: (0, 1), LEFT: (0, -1)}
MODES = tuple(AutoresetMode)

# The book's maps as [row, column] of the walls: example 8.1, and row 3 of examples 8.2 and 8.3.
DYNA = {(1, 2), (2, 2), (3, 2), (4, 5), (0, 7), (1, 7), (2, 7)}
GAP_RIGHT = {(3, column) for column in range(8)}
GAP_LEFT = {(3, column) for column in range(1, 9)}
GAPS = {(3, column) for column in range(1, 8)}
SITUATIONS = {  # task, state but for the cell, walls
    "dyna": (DynaMaze(), (), DYNA),
    "blocking, before": (BlockingMaze(), (1,), GAP_RIGHT),
    "blocking, after": (BlockingMaze(), (0,), GAP_LEFT),
    "shortcut, before": (ShortcutMaze(), (3000,), GAP_LEFT),
    "shortcut, after": (ShortcutMaze(), (0,), GAPS),
}


def number(cell):
    """Return the number of a cell (row, column)."""
    return COLUMNS * cell[0] + cell[1]


def neighbour(cell, action, walls):
    """Return the cell (row, column) to which an action leads."""
    row, column = cell[0] + STEPS[action][0], cell[1] + STEPS[action][1]
    inside = 0 <= row < ROWS and 0 <= column < COLUMNS
    return (row, column) if inside and (row, column) not in walls else cell


def breadth_first(start, walls_at):
    """Return the fewest steps to the goal when `walls_at(t)` are the walls of step t (from 0 on), or None."""
    queue, seen = deque([(start, 0)]), {(start, 0)}
    while queue:
        cell, steps = queue.popleft()
        if cell == GOAL:
            return steps
        for action in STEPS:
            following = neighbour(cell, action, walls_at(steps)), steps + 1
            if following not in seen and steps < 100:
                seen.add(following)
                queue.append(following)
    return None


def walk(env, actions):
    """Take the actions and return the last step."""
    for action in actions:
        step = env.step(action)
    return step


# --- the maps ---


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_move_is_the_books(name):
    task, clock, walls = SITUATIONS[name]
    for row in range(ROWS):
        for column in range(COLUMNS):
            cell = (row, column)
            if cell in walls:
                continue
            env = gym.make(IDS[0]).unwrapped
            env.task = task
            for action in STEPS:
                env.reset(options={"state": [number(cell), *clock]})
                observation, reward, terminated, truncated, _ = env.step(action)
                expected = neighbour(cell, action, walls)
                assert observation == number(expected)
                assert type(observation) is np.int64
                assert reward == (expected == GOAL != cell)
                assert terminated == (expected == GOAL)
                assert not truncated


@pytest.mark.parametrize("name", SITUATIONS)
def test_walls_and_moves_are_those_of_the_map(name):
    task, clock, walls = SITUATIONS[name]
    state = np.array([0, *clock], np.float32)
    assert {divmod(cell, COLUMNS) for cell in task.layout_at(state).walls} == walls
    moves = task.moves(state)
    assert moves.shape == (54, 4)
    for cell in np.ndindex(ROWS, COLUMNS):
        assert moves[number(cell)].tolist() == [number(neighbour(cell, action, walls)) for action in STEPS]


@pytest.mark.parametrize(("env_id", "start"), [*zip(IDS, [(2, 0), (5, 3), (5, 3)], strict=True)])
def test_episodes_start_where_the_books_do(env_id, start):
    env = gym.make(env_id)
    assert [env.reset(seed=seed)[0] for seed in (0, 1, None)] == [number(start)] * 3
    assert env.unwrapped.task.layout.goal == number(GOAL) == 8


def test_the_shortest_walk_through_the_dyna_maze():
    env = gym.make(IDS[0])
    env.reset(seed=0)
    actions = [DOWN, DOWN] + [RIGHT] * 3 + [UP] + [RIGHT] * 5 + [UP, UP]  # under the first wall, over the second
    assert walk(env, actions)[:4] == (number((1, 8)), 0.0, False, False)
    assert env.step(UP)[:4] == (number(GOAL), 1.0, True, False)


class Corner(Maze):
    drawing = "S.# ..G"


def test_other_mazes_are_drawn():
    task = Corner()
    assert task.observation_space.n == 6
    assert task.moves().tolist() == [[0, 3, 1, 0], [1, 4, 1, 0], [2, 5, 2, 1], [0, 3, 4, 3], [1, 4, 5, 3], [5, 5, 5, 4]]
    assert task.distances().tolist() == [3, 2, 1, 2, 1, 0]


@pytest.mark.parametrize("bad", ["S.G ..", "S.. ...", "SSG", "S.G x..", "SGG", ""])
def test_drawings_that_are_no_maze_are_refused(bad):
    class Bad(Maze):
        drawing = bad

    with pytest.raises(InvalidSettingError, match=r"one 'S' and one 'G'"):
        Bad()


@pytest.mark.parametrize("after", ["S..G ....", "G..S", "S.G."])
def test_a_maze_cannot_change_into_one_of_another_kind(after):
    class Odd(ChangingMaze):
        drawing, drawing_after = "S.#G", after

    with pytest.raises(InvalidSettingError, match="Odd need the same size, start and goal"):
        Odd()


@pytest.mark.parametrize(
    ("env_id", "state"),
    [
        (IDS[0], [54]),
        (IDS[0], [-1]),
        (IDS[0], [3.5]),
        (IDS[0], [number((1, 2))]),
        (IDS[1], [number((3, 4)), 0]),
        (IDS[1], [0, 1001]),
        (IDS[1], [0, -1]),
        (IDS[1], [0, 0.5]),
    ],
)
def test_states_that_cannot_be_are_refused(env_id, state):
    with pytest.raises(InvalidSettingError, match='options\\["state"\\] must be'):
        gym.make(env_id).reset(options={"state": state})


# --- the clock ---


def blocks_at(env):
    """Return the time step, from 1 on, at which the gap of a fresh blocking maze turns out to be closed.

    Walks back and forth through the gap; an episode that ends on the way starts anew.
    """
    for time in range(1, 100):
        below = env.unwrapped.get_state()["state"][0] == number((4, 8))
        if env.step(UP if below else DOWN)[0] == number((4, 8)) and below:
            return time
    raise AssertionError("never")


@pytest.mark.parametrize("change_at", [0, 1, 2, 7, 8])
def test_the_change_comes_right_after_its_step(change_at):
    env = gym.make("mbrl/BlockingMaze-v0", change_at=change_at)
    env.reset(options={"state": [number((4, 8)), change_at]})
    # Steps 1, 3, 5, ... go up; the first of them after step `change_at` is blocked.
    assert blocks_at(env) == change_at + 1 + change_at % 2


def test_the_registered_changes_come_after_1000_and_3000_steps():
    for env_id, cell, action, change_at in (
        ("mbrl/BlockingMaze-v0", (4, 8), UP, 1000),
        ("mbrl/ShortcutMaze-v0", (4, 8), UP, 3000),
    ):
        env = gym.make(env_id)
        env.reset(seed=0)
        walk(env, [DOWN] * (change_at - 1))
        snapshot = env.unwrapped.get_state()
        assert snapshot["state"].tolist() == [48, 1]
        passed = []
        for left in (1, 0):
            env.reset(options={"state": [number(cell), left]})
            passed.append(env.step(action)[0] == number((3, 8)))
        assert passed == [env_id == "mbrl/BlockingMaze-v0", env_id == "mbrl/ShortcutMaze-v0"]


def test_who_stands_in_the_gap_when_it_closes_can_leave():
    env = gym.make("mbrl/BlockingMaze-v0", change_at=1)
    env.reset(options={"state": [number((4, 8)), 1]})
    assert env.step(UP)[0] == number((3, 8))
    twin = gym.make("mbrl/BlockingMaze-v0", change_at=1)
    twin.reset(options={"state": env.unwrapped.get_state()["state"]})
    for one in (env, twin):
        assert one.step(LEFT)[0] == number((3, 8))
        assert one.step(DOWN)[0] == number((4, 8))
        assert one.step(UP)[0] == number((4, 8))


def to_goal(env):
    """Walk from anywhere above the wall to the goal."""
    while not (step := env.step(RIGHT if env.unwrapped.get_state()["state"][0] % 9 < 8 else UP))[2]:
        pass
    return step


def clock(env):
    return env.unwrapped.get_state()["state"][..., -1].tolist()


def test_the_clock_outlives_episodes_and_truncation_but_no_seed():
    env = gym.make("mbrl/BlockingMaze-v0", max_episode_steps=5)
    env.reset(seed=0)
    assert walk(env, [LEFT] * 5)[3]
    assert clock(env) == 995
    assert env.reset() == (48, {})
    assert clock(env) == 995
    env.step(UP)
    env.reset(options={"state": [1, 700]})
    assert clock(env) == 700
    env.reset(options={"state": [7, 700]})
    assert env.step(RIGHT)[2]
    assert env.reset()[0] == 48
    assert clock(env) == 699
    env.reset(seed=1)
    assert clock(env) == 1000


def test_the_clock_stays_at_zero():
    env = gym.make("mbrl/ShortcutMaze-v0", change_at=2)
    env.reset(seed=0)
    walk(env, [LEFT] * 9)
    assert clock(env) == 0


def test_learning_and_evaluation_have_clocks_of_their_own():
    """Stable-Baselines3 seeds an environment once; its learning then counts the steps of all episodes."""
    env, other = (gym.make("mbrl/BlockingMaze-v0", max_episode_steps=7) for _ in range(2))
    agent = DQN("MlpPolicy", env, learning_starts=1000, seed=0).learn(60)
    assert clock(env) == 940
    evaluate_policy(agent, other, n_eval_episodes=2, warn=False)
    assert clock(other) == 986
    assert clock(env) == 940
    agent.learn(40, reset_num_timesteps=False)
    assert clock(env) == 900


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS[1:])
def test_rows_keep_their_clocks_like_single_environments(env_id, mode):
    """Rows that end at different times, with resets of some rows in between, until long after the change."""
    settings = {"max_episode_steps": 9, "change_at": 40}
    native = gym.make_vec(env_id, num_envs=4, autoreset_mode=mode, **settings)
    singles = SyncVectorEnv([partial(gym.make, env_id, **settings)] * 4, autoreset_mode=mode)
    for env in (native, singles):
        env.reset(seed=0, options={"state": [7, 40]})
    generator, ends = np.random.default_rng(0), np.zeros(4, int)
    for time in range(70):
        actions = generator.choice(4, size=4, p=[0.4, 0.1, 0.4, 0.1])
        steps = [env.step(actions) for env in (native, singles)]
        for ours, theirs in zip(*(step[:4] for step in steps), strict=True):
            assert_array_equal(ours, theirs)
        ended = steps[1][2] | steps[1][3]
        ends += ended
        mask = (np.arange(4) == time % 4) & (time % 5 == 0) | ended & (mode is AutoresetMode.DISABLED)
        if mask.any():
            starts = [env.reset(options={"reset_mask": mask.copy()})[0] for env in (native, singles)]
            assert_array_equal(*starts)
        assert_array_equal(native.get_state()["state"], [one.unwrapped.get_state()["state"] for one in singles.envs])
    assert len(set(ends)) > 1
    assert clock(native) == [0] * 4


@pytest.mark.parametrize("mode", MODES)
def test_tensors_keep_their_clocks_like_arrays(mode):
    task = BlockingMaze(change_at=25)
    twins = [TaskVectorEnv(task, 6, xp=xp, max_episode_steps=7, autoreset_mode=mode) for xp in (np, torch)]
    generator = np.random.default_rng(0)
    for twin in twins:
        twin.reset(seed=0, options={"state": [7, 25]})
    for _ in range(60):
        actions = generator.integers(4, size=6)
        arrays, tensors = (twin.step(actions) for twin in twins)
        assert tensors[0].dtype == torch.int64
        assert_array_equal(tensors[0], arrays[0])
        ended = arrays[2] | arrays[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            for twin in twins:
                twin.reset(options={"reset_mask": ended})
        assert_array_equal(twins[1].get_state()["state"], twins[0].get_state()["state"])
    assert clock(twins[0]) == [0] * 6


def test_a_seed_starts_the_clocks_of_the_chosen_rows_anew():
    vec = gym.make_vec("mbrl/BlockingMaze-v0", num_envs=3)
    vec.reset(seed=0)
    vec.step(np.zeros(3, int))
    vec.reset(options={"reset_mask": np.array([True, False, False])})
    assert clock(vec) == [999, 999, 999]
    vec.reset(seed=1, options={"reset_mask": np.array([True, False, False])})
    assert clock(vec) == [1000, 999, 999]
    vec.reset(seed=1)
    assert clock(vec) == [1000, 1000, 1000]


def test_a_clone_in_the_middle_changes_at_the_same_step():
    env = TimeLimit(gym.make("mbrl/BlockingMaze-v0", change_at=11).unwrapped, 4)
    env.reset(seed=0)
    walk(env, [RIGHT] * 6)
    snapshot, twin = env.unwrapped.get_state(), copy.deepcopy(env)
    elsewhere = gym.make("mbrl/BlockingMaze-v0", change_at=11).unwrapped
    elsewhere.set_state(snapshot)
    for one in (env, twin, elsewhere):
        one.reset()
        one.unwrapped.set_state({**snapshot, "state": np.array([number((4, 8)), clock(one)])})
        assert blocks_at(one) == 7  # after 5 more


@pytest.mark.parametrize("value", [-1, 2.5, 1000.0, 2**24 + 1])
def test_the_change_comes_after_a_whole_number_of_steps(value):
    with pytest.raises(InvalidSettingError, match=r"^change_at must be a whole number from 0 to 16,777,216"):
        BlockingMaze(change_at=value)


def test_the_clock_counts_as_far_as_it_may():
    task = BlockingMaze(change_at=2**24)
    state = np.array([48, 2**24], np.float32)
    assert task.transition(state, LEFT, None)[1] == 2**24 - 1


# --- what is known about them ---


@pytest.mark.parametrize("name", SITUATIONS)
def test_distances_equal_another_search(name):
    task, clock, walls = SITUATIONS[name]
    distances = task.distances(np.array([0, *clock], np.float32))
    for cell in np.ndindex(ROWS, COLUMNS):
        if cell not in walls:
            assert distances[number(cell)] == breadth_first(cell, lambda step: walls)


def test_the_books_shortest_paths():
    assert DynaMaze().shortest_path([18]) == 14
    assert BlockingMaze().shortest_path([[48, 1000], [48, 0]]).tolist() == [10, 16]
    assert ShortcutMaze().shortest_path([[48, 3000], [48, 0]]).tolist() == [16, 10]


@pytest.mark.parametrize(
    ("task", "before", "after"), [(BlockingMaze(), GAP_RIGHT, GAP_LEFT), (ShortcutMaze(), GAP_LEFT, GAPS)]
)
def test_shortest_paths_around_the_change_equal_another_search(task, before, after):
    cells = [*[cell for cell in np.ndindex(ROWS, COLUMNS) if cell not in before & after][::3], (5, 3), (3, 0), (3, 8)]
    for left in (0, 1, 2, 4, 5, 6, 9, 10, 16, 17, 40):
        expected = [breadth_first(cell, lambda step, left=left: before if step < left else after) for cell in cells]
        states = np.array([[number(cell), left] for cell in cells])
        assert task.shortest_path(states).tolist() == expected
    assert task.shortest_path(states.reshape(1, -1, 2)).shape == (1, len(cells))


class Gate(ChangingMaze):
    drawing, drawing_after = "S#.G", "S..G"


class Shut(Maze):
    drawing = "S#.G"


def test_a_closed_gate_is_waited_for():
    assert Gate().shortest_path([[0, 1000], [0, 7], [0, 0], [2, 5], [3, 5]]).tolist() == [1003, 10, 3, 1, 0]
    assert Shut().shortest_path([[0], [2]]).tolist() == [np.inf, 1]
    assert Shut().optimal_return([[0], [2]]).tolist() == [0, 1]
    assert Shut().action_values(1.0).tolist() == [[0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]


def test_the_best_return_says_whether_the_goal_can_be_reached_in_time():
    task = DynaMaze()
    states = np.array([[18.0], [17.0], [8.0]])
    assert [task.optimal_return(states, steps).tolist() for steps in (0, 1, 13, 14)] == [
        [0, 0, 0],
        [0, 1, 0],
        [0, 1, 0],
        [1, 1, 0],
    ]
    assert task.optimal_return(states).tolist() == [1, 1, 0]


@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.parametrize("discount", [0.0, 0.7, 0.95, 1.0])
def test_action_values_equal_value_iteration(name, discount):
    task, clock, walls = SITUATIONS[name]
    value = np.zeros((ROWS, COLUMNS))
    for _ in range(60):
        values = np.zeros((54, 4))
        for cell in np.ndindex(ROWS, COLUMNS):
            for action in STEPS:
                after = neighbour(cell, action, walls)
                if cell != GOAL:
                    values[number(cell), action] = 1.0 if after == GOAL else discount * value[after]
        value = values.max(-1).reshape(ROWS, COLUMNS)
    assert_allclose(task.action_values(discount, np.array([0, *clock], np.float32)), values, atol=1e-12)


@pytest.mark.parametrize("discount", [-0.1, 1.1, np.nan])
def test_discounts_out_of_range_are_refused(discount):
    with pytest.raises(InvalidSettingError, match="discount must be between 0 and 1"):
        DynaMaze().action_values(discount)


def test_random_walks_reach_the_goal_within_the_registered_steps():
    """As the docstrings say: once in 300,000 not, and within 100 steps for 4%, 12% and 4%."""
    for task, within_100 in ((DynaMaze(), 0.04), (BlockingMaze(), 0.12), (ShortcutMaze(), 0.04)):
        goal, moves = task.layout.goal, task.moves()
        moves[goal] = goal
        chance = np.zeros((54, 54))
        np.add.at(chance, (np.repeat(np.arange(54), 4), moves.ravel()), 0.25)
        arrived = [np.linalg.matrix_power(chance, steps)[task.layout.start, goal] for steps in (100, 10_000)]
        assert arrived[0] == pytest.approx(within_100, abs=0.005)
        assert 1 - arrived[1] < 1 / 290_000


@pytest.mark.parametrize("env_id", IDS)
def test_scores_are_of_episodes_of_the_nominal_length(env_id):
    """A walk along the best actions scores 1, one against the wall as much less as random ones earn."""
    env = gym.make(env_id, max_episode_steps=100)
    values = env.unwrapped.task.action_values()
    assert env.unwrapped.task.nominal_steps == 100
    returns = []
    for policy in (lambda cell: int(values[cell].argmax()), lambda cell: DOWN):
        cell, _ = env.reset(seed=1_000_000)
        total, ended = 0.0, False
        while not ended:
            cell, reward, terminated, truncated, _ = env.step(policy(cell))
            total, ended = total + reward, terminated or truncated
        returns.append(total)
    best, worst = mbrl_gym.score(env_id, returns)
    random = mbrl_gym.reference(env_id).random
    assert best == 1.0
    assert worst == pytest.approx(-random / (1 - random))


# --- models of them ---


def test_the_exact_model_refuses_the_mazes_that_change():
    for env_id in IDS[1:]:
        with pytest.raises(UnsupportedSpaceError, match=r"fully observed.*Maze hides"):
            ExactModel(gym.make(env_id).unwrapped.task)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_exact_model_knows_every_move(dtype):
    task = DynaMaze(dtype=dtype)
    model = ExactModel(task)
    cells = torch.tensor([cell for cell in range(54) if divmod(cell, 9) not in DYNA]).repeat_interleave(4)
    actions = torch.arange(4).repeat(47)
    prediction = model.step(model.start(cells, 2), actions)
    expected = [
        number(neighbour(divmod(int(cell), 9), int(action), DYNA)) for cell, action in zip(cells, actions, strict=True)
    ]
    assert prediction.observation.tolist() == [expected] * 2
    assert prediction.terminated[0].tolist() == [after == 8 for after in expected]
    assert prediction.reward[0].tolist() == [
        float(after == 8 != cell) for cell, after in zip(cells.tolist(), expected, strict=True)
    ]


def test_a_table_learns_the_maze_from_recorded_steps():
    env = RecordTransitions(gym.make(IDS[0]))
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(3000):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    data = env.transitions()
    assert data.observation.dtype == np.int64
    assert data.observation.shape == (3000,)
    model = TabularModel(env.observation_space, env.action_space)
    model.fit(data)
    exact = ExactModel(DynaMaze())
    seen = torch.from_numpy(np.unique(np.stack([data.observation, data.action]), axis=1))
    learned, known = (one.step(one.start(seen[0]), seen[1]) for one in (model, exact))
    assert_array_equal(learned.observation, known.observation)
    assert_allclose(learned.reward, known.reward)
