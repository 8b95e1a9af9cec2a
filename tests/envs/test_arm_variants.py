"""The sparse arm, and the arm with a gripper: rules by hand, goals and relabelling, optimum against the real task."""

import math

import gymnasium as gym
import numpy as np
import pytest
from env_toys import flat
from gymnasium.wrappers import FlattenObservation
from gymnasium.wrappers.vector import FlattenObservation as FlattenVectorObservation
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.evaluation import evaluate_policy
from task_toys import start_states

from mbrl_gym.agents import as_sb3_vec_env
from mbrl_gym.agents.benchmark.evaluation import Evaluation, RandomPolicy
from mbrl_gym.envs.arm import Arm
from mbrl_gym.envs.arm_optimum import Links, closest, steps_to_disc
from mbrl_gym.envs.arm_pick_place import ArmPickPlace
from mbrl_gym.envs.arm_sparse import ArmSparse
from mbrl_gym.envs.task import Noise
from mbrl_gym.errors import InvalidSettingError

NOTHING = Noise(np.zeros(0), np.zeros(0))
PICK = "mbrl/ArmPickPlace-v0"
OPEN, CLOSE = -1.0, 1.0
FAR = (0.0, 1.5)  # a goal away from everything
LEARNING = {"learning_starts": 100, "batch_size": 32, "seed": 0, "policy_kwargs": {"net_arch": [16]}}


def pick_state(theta=(0.0, 0.0), thing=(1.8, 0.0), goal=FAR, closed=0.0, held=0.0):
    return np.array([*theta, *thing, *goal, closed, held])


def take(task, state, *actions):
    for action in actions:
        state = task.transition(state, np.array(action), NOTHING)
    return state


# --- the sparse arm ---


@pytest.mark.parametrize(
    ("target", "reward"), [((1.8, 0.0), 1.0), ((1.751, 0.0), 1.0), ((1.749, 0.0), 0.0), ((1.8, -0.2), 0.0)]
)
def test_sparse_reward_is_one_within_the_tolerance(target, reward):
    task = ArmSparse(dtype="float64")
    assert task.reward(None, None, task.observation(np.array([0.0, 0.0, *target]))) == reward


def test_sparse_arm_is_the_arm_but_for_its_reward():
    sparse, dense = (gym.make(f"mbrl/{name}-v0", tolerance=0.3) if name != "Arm" else gym.make(f"mbrl/{name}-v0")
                     for name in ("ArmSparse", "Arm"))  # fmt: skip
    assert_array_equal(sparse.reset(seed=4)[0], dense.reset(seed=4)[0])
    generator, paid = np.random.default_rng(0), 0.0
    for _ in range(50):
        action = generator.uniform(-1, 1, 2).astype(np.float32)
        one, other = sparse.step(action), dense.step(action)
        assert_array_equal(one[0], other[0])
        assert one[1] == float(-other[1] <= 0.3)
        assert one[2:4] == other[2:4]
        paid += one[1]
    assert issubclass(ArmSparse, Arm)


@pytest.mark.parametrize("make", [ArmSparse, ArmPickPlace])
def test_what_the_reward_depends_on_cannot_be_randomised(make):
    with pytest.raises(InvalidSettingError, match="cannot vary 'tolerance'; it can: link_1, link_2, max_step"):
        make(randomize={"tolerance": (0.01, 0.1)})


@pytest.mark.parametrize("task_class", [Arm, ArmSparse, ArmPickPlace])
def test_the_target_is_part_of_the_state(task_class):
    task = task_class(dtype="float64")
    state = start_states(task, 5)
    expected = task.observation(state)[:, 2:4] if task_class is ArmPickPlace else task.observation(state)[:, 4:6]
    assert_array_equal(np.stack(task.target(state), -1), expected)


# --- the gripper, by hand ---


def test_closing_near_the_object_centres_and_holds_it():
    task = ArmPickPlace(dtype="float64")
    held = take(task, pick_state(thing=(1.75, 0.05)), (0.0, 0.0, CLOSE))
    assert_allclose(held, pick_state(thing=(1.8, 0.0), closed=1, held=1))
    assert task.holding(held)
    carried = take(task, held, (1.0, 0.0, CLOSE), (0.5, -1.0, CLOSE))
    assert_allclose(carried[:2], [0.15, -0.1])
    assert_allclose(carried[2:4], [math.cos(0.15) + 0.8 * math.cos(0.05), math.sin(0.15) + 0.8 * math.sin(0.05)])
    assert_allclose(np.stack(task.object_position(carried)), np.stack(task.joints(carried)[2:]))


@pytest.mark.parametrize(("away", "held"), [(0.0999, 1.0), (0.1001, 0.0)])
def test_the_grasp_has_a_radius(away, held):
    task = ArmPickPlace(dtype="float64")
    after = take(task, pick_state(thing=(1.8 - away, 0.0)), (0.0, 0.0, CLOSE))
    assert_allclose(after[6:], [1.0, held])
    assert_allclose(after[2], 1.8 if held else 1.8 - away)


def test_the_joints_turn_before_the_gripper_moves():
    task = ArmPickPlace(dtype="float64")
    ahead = (1.8 * math.cos(0.1), 1.8 * math.sin(0.1))
    after = take(task, pick_state(thing=ahead), (1.0, 0.0, CLOSE))
    assert_allclose(after, pick_state((0.1, 0.0), ahead, closed=1, held=1))
    behind = take(task, pick_state(thing=(1.8, 0.0)), (1.0, 0.0, CLOSE))
    assert_allclose(behind, pick_state((0.1, 0.0), closed=1))
    # An opening gripper carries the object to where the tip has turned, and leaves it there.
    dropped = take(task, after, (1.0, 0.0, OPEN), (1.0, 0.0, OPEN))
    assert_allclose(dropped, pick_state((0.3, 0.0), (1.8 * math.cos(0.2), 1.8 * math.sin(0.2))))


def test_a_gripper_that_is_closed_already_grasps_nothing():
    task = ArmPickPlace(dtype="float64")
    ahead = (1.8 * math.cos(0.2), 1.8 * math.sin(0.2))
    swept = take(task, pick_state(thing=ahead), (1.0, 0.0, CLOSE), (1.0, 0.0, CLOSE), (1.0, 0.0, CLOSE))
    assert_allclose(swept, pick_state((0.3, 0.0), ahead, closed=1))
    again = take(task, pick_state((0.2, 0.0), ahead, closed=1), (0.0, 0.0, CLOSE), (0.0, 0.0, OPEN), (0.0, 0.0, CLOSE))
    assert_allclose(again, pick_state((0.2, 0.0), ahead, closed=1, held=1))


@pytest.mark.parametrize(("command", "closed"), [(1e-6, 1), (7.0, 1), (0.0, 0), (-0.2, 0)])
def test_above_zero_closes(command, closed):
    task = ArmPickPlace(dtype="float64")
    assert take(task, pick_state(), (0.0, 0.0, command))[6] == closed


@given(st.lists(st.tuples(*[st.sampled_from([-2.0, -1.0, -0.3, 0.0, 0.3, 1.0])] * 3), max_size=30), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_an_object_moves_only_in_the_gripper(actions, seed):
    task = ArmPickPlace(dtype="float64", grasp_radius=1.0)
    state = start_states(task, 1, seed)[0]
    for action in actions:
        before, state = state, take(task, state, action)
        assert state[7] <= state[6]
        if before[7] == state[7] == 0:
            assert_array_equal(state[2:4], before[2:4])
        if state[7]:
            assert_allclose(state[2:4], np.stack(task.joints(state)[2:]), atol=1e-15)
        assert_array_equal(state[4:6], before[4:6])


def test_pick_place_starts_open_with_object_and_goal_over_the_ring():
    task = ArmPickPlace(dtype="float64", link_1=0.6, link_2=1.1)
    states = start_states(task, 20_000)
    assert_array_equal(states[:, 6:], 0)
    whole_turn = stats.uniform(-math.pi, math.tau).cdf
    for x, y in (states[:, 2:4].T, states[:, 4:6].T):
        share = (x * x + y * y - 0.5**2) / (1.7**2 - 0.5**2)
        assert stats.kstest(share, "uniform").pvalue > 1e-3
        assert stats.kstest(np.arctan2(y, x), whole_turn).pvalue > 1e-3
    for angle in states[:, :2].T:
        assert stats.kstest(angle, whole_turn).pvalue > 1e-3


@pytest.mark.parametrize(
    "state",
    [
        pick_state(closed=0.5),
        pick_state(closed=0, held=1),
        pick_state(thing=(1.0, 0.0), closed=1, held=1),
        pick_state(thing=(5.0, 0.0)),
    ],
)
def test_states_that_cannot_be_are_refused(state):
    env = gym.make(PICK)
    with pytest.raises(InvalidSettingError, match=r'options\["state"\]'):
        env.reset(options={"state": state})
    env.reset(options={"state": pick_state(closed=1, held=1)})


# --- goals ---


def test_reward_is_zero_within_the_tolerance_of_the_goal():
    env = gym.make(PICK).unwrapped
    achieved = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]], np.float32)
    desired = np.array([[0.5, 0.5], [0.5, 0.549], [0.46, 0.46]], np.float32)
    expected = np.array([0.0, 0.0, -1.0], np.float32)
    rewards = env.compute_reward(achieved, desired, [{}] * 3)
    assert rewards.dtype == np.float32
    assert_array_equal(rewards, expected)
    assert_array_equal(gym.make_vec(PICK, num_envs=2).unwrapped.compute_reward(achieved, desired, {}), expected)
    assert env.compute_reward(achieved[0], desired[0], {}) == 0.0


def test_steps_say_what_compute_reward_says():
    vec = gym.make_vec(PICK, num_envs=20, tolerance=1.5)
    vec.reset(seed=0)
    vec.action_space.seed(0)
    rewards = []
    for _ in range(10):
        observation, reward, _, _, info = vec.step(vec.action_space.sample())
        again = vec.unwrapped.compute_reward(observation["achieved_goal"], observation["desired_goal"], info)
        assert_array_equal(reward, again)
        assert_array_equal(info["is_success"], reward == 0)
        assert info["is_success"].dtype == np.bool_
        rewards.append(reward)
    assert set(np.unique(rewards)) == {-1.0, 0.0}


def test_flat_observations_are_the_tasks_own():
    env, vec = FlattenObservation(gym.make(PICK)), FlattenVectorObservation(gym.make_vec(PICK, num_envs=3))
    task = env.unwrapped.task
    assert [*env.unwrapped.observation_space] == ["achieved_goal", "desired_goal", "observation"]
    assert env.observation_space == task.observation_space
    observation, _ = env.reset(seed=1)
    assert_array_equal(observation, task.observation(env.unwrapped.get_state()["state"]))
    observation, _ = vec.reset(seed=1)
    assert_array_equal(observation, task.observation(vec.unwrapped.get_state()["state"]))


def test_adapter_passes_the_parts_and_the_success_on():
    adapter = as_sb3_vec_env(gym.make_vec(PICK, num_envs=3, autoreset_mode="SameStep", max_episode_steps=2))
    observation = adapter.reset()
    assert {name: part.shape for name, part in observation.items()} == {
        "achieved_goal": (3, 2),
        "desired_goal": (3, 2),
        "observation": (3, 10),
    }
    assert all(part.flags.c_contiguous for part in observation.values())
    adapter.step(np.zeros((3, 3), np.float32))
    _, reward, done, infos = adapter.step(np.zeros((3, 3), np.float32))
    assert done.all()
    for row, info in enumerate(infos):
        assert info["is_success"] is bool(reward[row] == 0)
        last = info["terminal_observation"]
        assert adapter.env_method("compute_reward", last["achieved_goal"], last["desired_goal"], {})[0] == reward[row]


@pytest.mark.parametrize("layout", ["single", "vector"])
def test_hindsight_replay_relabels_with_the_tasks_reward(layout):
    settings = {"tolerance": 0.4, "max_episode_steps": 10}
    if layout == "single":
        env = gym.make(PICK, **settings)
    else:
        env = as_sb3_vec_env(gym.make_vec(PICK, num_envs=4, autoreset_mode="SameStep", **settings))
    agent = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, **LEARNING).learn(200)
    assert agent.replay_buffer.size() * agent.n_envs == 200
    batch = agent.replay_buffer.sample(512)
    task = ArmPickPlace(tolerance=0.4)
    achieved, desired = batch.next_observations["achieved_goal"], batch.next_observations["desired_goal"]
    expected = task.compute_reward(achieved.numpy(), desired.numpy())
    assert_array_equal(batch.rewards[:, 0].numpy(), expected)
    assert set(expected.tolist()) == {-1.0, 0.0}
    returns, _ = evaluate_policy(agent, agent.get_env(), 4, return_episode_rewards=True, warn=False)
    assert all(-10 <= total <= 0 for total in returns)


def test_evaluation_of_dict_observations():
    evaluation = Evaluation(PICK, 4)
    policy = RandomPolicy(evaluation.env.action_space)
    observation = evaluation.starts()
    assert policy.predict(observation)[0].shape == (4, 3)
    assert evaluation(policy).shape == (4,)
    assert -50 <= evaluation.optimum() <= 0
    assert evaluation.decision_ms(SAC("MultiInputPolicy", gym.make(PICK), **LEARNING), 2) > 0
    evaluation.close()


# --- the optimum of picking and placing ---


def rollout(task, state, actions):
    """Return the return of the actions in the real task."""
    total = 0.0
    for action in actions:
        state = task.transition(state, np.asarray(action), NOTHING)
        total += task.reward(None, None, task.observation(state))
    return total


def best_of_many(task, state, steps, generator, rows=20_000):
    """Return the best return of random plans that turn at full speed, close once and open seldom."""
    states, returns = np.tile(state, (rows, 1)), np.zeros(rows)
    heading = generator.choice([-1.0, 0.0, 1.0], (rows, 2))
    close = generator.integers(0, steps, rows)
    for step in range(steps):
        turned = generator.random((rows, 2)) < 0.15
        heading = np.where(turned, generator.uniform(-1, 1, (rows, 2)), heading)
        grip = np.where(step >= close, 1.0, -1.0)
        states = task.transition(states, np.column_stack([heading, grip]), NOTHING)
        returns += task.reward(None, None, task.observation(states))
    return returns.max()


@pytest.mark.parametrize("seed", range(3))
def test_no_random_plan_beats_the_optimum(seed):
    task = ArmPickPlace(dtype="float64", max_step=0.6, grasp_radius=0.4, tolerance=0.3)
    generator = np.random.default_rng(seed)
    found = 0
    for state in start_states(task, 3, seed):
        best = float(task.optimal_return(state, 8))
        sampled = best_of_many(task, state, 8, generator)
        assert sampled <= best
        found += sampled >= best - 1
    assert found  # the search is no straw man


@pytest.mark.parametrize(("closed", "held"), [(0, 0), (1, 0), (1, 1)])
def test_the_real_task_attains_the_optimum(closed, held):
    task = ArmPickPlace(dtype="float64")
    links = Links(1.0, 0.8)
    for state in start_states(task, 8, seed=3):
        state[6:] = closed, held
        if held:
            state[2:4] = np.stack(task.joints(state)[2:])
        best = float(task.optimal_return(state))
        first, waits = round(1 - best), 2 if closed else 1
        if best == -50:
            continue
        plans = [grasp_plan(links, task.params, state, first, n) for n in ([0] if held else range(waits, first + 1))]
        reached = max(rollout(task, state, plan) for plan in plans if plan is not None)
        assert reached == best


def grasp_plan(links, params, state, total, grasp_step):
    """Return actions that grasp in a step and are at the goal in step `total`, or None if a search finds none."""
    start, thing, goal = state[:2], state[2:4], state[4:6]
    half = grasp_step * params.max_step
    side = np.linspace(-half, half, 161)
    grasps = start + np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    tips = np.stack([links.first * np.cos(grasps[:, 0]), links.first * np.sin(grasps[:, 0])], -1)
    both = grasps.sum(-1)
    tips += links.second * np.stack([np.cos(both), np.sin(both)], -1)
    if grasp_step:
        grasps = grasps[np.hypot(*(tips - thing).T) <= params.grasp_radius]
    rest = total - grasp_step
    onward = steps_to_disc(links, grasps, goal, params.tolerance, params.max_step, rest)
    if not (onward <= rest).any():
        return None
    grasp = grasps[onward.argmin()]
    _, end = closest(links, grasp, np.full(2, rest * params.max_step), goal)
    go = (grasp - start) / max(half, 1e-9)
    carry = (end - grasp) / max(rest * params.max_step, 1e-9)
    reach = [(*go, OPEN)] * (grasp_step - 1) + [(*go, CLOSE)] * min(grasp_step, 1)
    return reach + [(*carry, CLOSE)] * rest + [(0.0, 0.0, CLOSE)] * (50 - total)


def test_pick_place_optimum_by_hand():
    task = ArmPickPlace(dtype="float64", grasp_radius=1e-6, tolerance=1e-6)

    def at(angle):
        return (1.8 * math.cos(angle), 1.8 * math.sin(angle))

    states = np.array(
        [
            pick_state(thing=at(1.0), goal=at(1.0)),  # there from the start
            pick_state(thing=at(0.0), goal=at(0.3)),  # grasp, three steps
            pick_state(thing=at(0.2), goal=at(-0.1)),  # two steps, the second of which grasps, and three back
            pick_state(thing=at(0.0), goal=at(0.3), closed=1),  # open, grasp, three steps
            pick_state(thing=at(0.0), goal=at(0.3), closed=1, held=1),
            pick_state(thing=at(2.5), goal=at(-2.5)),  # 25 steps and, across the back, 13 (1.283 rad)
        ]
    )
    expected = np.array([0, -3, -4, -4, -2, -37])
    assert_array_equal(task.optimal_return(states), expected)
    assert_array_equal(task.optimal_return(states.reshape(2, 3, 8), 3), [[0, -3, -3], [-3, -2, -3]])
    assert_array_equal(task.optimal_return(states, 0), np.zeros(6))


def test_pick_place_optimum_with_randomised_constants_is_that_of_each_row():
    task = ArmPickPlace(dtype="float64", randomize={"grasp_radius": (0.02, 0.3), "link_1": (0.7, 1.2)})
    states = start_states(task, 4)
    alone = [
        ArmPickPlace(dtype="float64", grasp_radius=state[8], link_1=state[9]).optimal_return(state[:8])
        for state in states
    ]
    assert_array_equal(task.optimal_return(states), alone)


def test_dict_parts_follow_the_flat_columns():
    env = gym.make(PICK)
    observation, _ = env.reset(seed=0)
    assert_array_equal(flat(observation)[:2], observation["observation"][4:6])
    assert env.unwrapped.task.observation_space.shape == flat(observation).shape
