"""Dyna-Q, Dyna-Q+ and prioritised sweeping learn what the book says, and behave like algorithms of SB3."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tabular_toys import Corridor, Endless, Switches, Table, optimal_values, random_table, value_iteration

from mbrl_gym.agents import DynaQ, DynaQPlus, PrioritizedSweeping
from mbrl_gym.agents.tabular.numbers import Choices
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models.spaces import Numbering

AGENTS = [DynaQ, DynaQPlus, PrioritizedSweeping]


class Steps(BaseCallback):
    """Keeps every step (state, action, reward, next state, terminated, truncated) of the first environment."""

    def _on_step(self):
        info = self.locals["infos"][0]
        done, cut = bool(self.locals["dones"][0]), info.get("TimeLimit.truncated", False)
        following = info["terminal_observation"] if done else self.locals["new_obs"][0]
        state, action = int(self.model._last_obs[0]), int(self.locals["actions"][0])
        self.rows.append((state, action, float(self.locals["rewards"][0]), int(following), done and not cut, cut))
        return True

    def _on_training_start(self):
        self.rows = getattr(self, "rows", [])


# What is learned ------------------------------------------------------------------------------------------------------


def test_the_first_updates_by_hand():
    """Three cells, only steps right (epsilon 0, ties aside): 0.5 towards the reward, then back along the corridor."""
    settings = {"planning_steps": 0, "learning_rate": 0.5, "gamma": 0.9, "exploration_final_eps": 0.0, "seed": 0}
    steps = Steps()
    agent = DynaQ("epsilon-greedy", Corridor(2), **settings).learn(60, callback=steps)
    expected = np.zeros((3, 2))
    for state, action, reward, following, terminated, _ in steps.rows:
        target = reward + (0 if terminated else 0.9 * max(expected[following]))
        expected[state, action] = 0.5 * expected[state, action] + 0.5 * target
    assert_allclose(agent.q_values, expected, atol=1e-15)
    first = [row[4] for row in steps.rows].index(True)
    early = DynaQ("epsilon-greedy", Corridor(2), **settings).learn(first + 1)
    assert_array_equal(early.q_values, [[0, 0], [0, 0.5], [0, 0]])  # the first episode teaches its last step only


def test_planning_carries_the_reward_back_by_hand():
    """After one episode 0 -> 1 -> end, expected updates are Q(1) <- 1 and Q(0) <- gamma, whatever their order."""
    probability, reward = np.zeros((3, 1, 3)), np.zeros((3, 1, 3))
    probability[[0, 1, 2], 0, [1, 2, 2]] = 1
    reward[1, 0, 2] = 1
    env = Table(probability, reward, np.arange(3) == 2)
    agent = DynaQ("epsilon-greedy", env, planning_steps=1, learning_rate=0.5, gamma=0.9, seed=1)
    agent.learn(1)
    assert_array_equal(agent.q_values, np.zeros((3, 1)))
    agent.learn(1, reset_num_timesteps=False)
    # Q(1) = 0.5 by the real step; planning then draws state 0, or state 1 once more.
    assert agent.q_values[:, 0].tolist() in ([0.5 * 0.9 * 0.5, 0.5, 0], [0, 0.75, 0])
    agent.learn(200, reset_num_timesteps=False)
    assert_allclose(agent.q_values[:, 0], [0.9, 1, 0], atol=1e-9)


class BookDyna:
    """Tabular Dyna-Q and Dyna-Q+ as the book writes them, with dictionaries; draws as the agent does."""

    def __init__(self, states, actions, generator, *, alpha, gamma, n, kappa=None):
        self.q = np.zeros((states, actions))
        self.model, self.last, self.time = {}, {}, 0
        self.generator, self.alpha, self.gamma, self.n, self.kappa = generator, alpha, gamma, n, kappa

    def update(self, state, action, reward, following, terminated):
        target = reward + (0 if terminated else self.gamma * self.q[following].max())
        self.q[state, action] += self.alpha * (target - self.q[state, action])

    def step(self, state, action, reward, following, terminated):
        self.update(state, action, reward, following, terminated)
        self.time += 1
        self.model.setdefault(state, {})[action] = (reward, following, terminated)
        self.last[state, action] = self.time
        for _ in range(self.n):
            s = list(self.model)[int(self.generator.random() * len(self.model))]
            actions = list(self.model[s]) if self.kappa is None else range(self.q.shape[1])
            a = actions[int(self.generator.random() * len(actions))]
            r, after, end = self.model[s].get(a, (0.0, s, False))
            if self.kappa is None:
                self.generator.random()  # which outcome
            elif a in self.model[s]:
                self.generator.random()
            bonus = 0 if self.kappa is None else self.kappa * np.sqrt(self.time - self.last.get((s, a), 0))
            self.update(s, a, r + bonus, after, end)


@pytest.mark.parametrize("kappa", [None, 0.05])
def test_planning_is_the_books(kappa):
    settings = {"planning_steps": 7, "learning_rate": 0.3, "gamma": 0.9, "model": "latest", "seed": 5}
    if kappa is None:
        agent = DynaQ("epsilon-greedy", random_table(3), **settings)
    else:
        agent = DynaQPlus("epsilon-greedy", random_table(3), kappa=kappa, **settings)
    twin = np.random.default_rng(0)
    twin.bit_generator.state = agent._generator.bit_generator.state
    steps = Steps()
    agent.learn(150, callback=steps)
    book = BookDyna(5, 2, twin, alpha=0.3, gamma=0.9, n=7, kappa=kappa)
    for row in steps.rows:
        book.step(*row[:5])
    assert_allclose(agent.q_values, book.q, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_outcome_model_counts(seed):
    env = random_table(seed)
    agent = DynaQ("epsilon-greedy", env, exploration_final_eps=1.0, seed=seed)
    steps = Steps()
    agent.learn(400, callback=steps)
    goes_on, reward = agent.outcome_model.expected()
    counts, total, visits = np.zeros((5, 2, 5)), np.zeros((5, 2)), np.zeros((5, 2), int)
    for state, action, paid, following, terminated, _ in steps.rows:
        counts[state, action, following] += not terminated
        total[state, action] += paid
        visits[state, action] += 1
    assert_array_equal(agent.outcome_model.visits, visits)
    assert_allclose(goes_on, counts / np.maximum(visits, 1)[..., None], atol=1e-12)
    assert_allclose(reward, total / np.maximum(visits, 1), atol=1e-6)  # SB3's rewards are float32
    sizes = agent.outcome_model.sizes
    assert sizes["outcomes"] == len({row[:2] + row[3:5] for row in steps.rows})
    assert (sizes["steps"], sizes["pairs"]) == (400, (visits > 0).sum())


@pytest.mark.parametrize("seed", range(3))
def test_planning_finds_the_values_of_the_model_that_was_counted(seed):
    settings = {"gamma": 0.8, "exploration_final_eps": 1.0, "seed": seed}
    agent = DynaQ("epsilon-greedy", random_table(seed), expected_updates=True, learning_rate=1.0, **settings)
    agent.learn(2_000)
    agent.train(500)
    assert_allclose(agent.q_values, value_iteration(*agent.outcome_model.expected(), 0.8), atol=1e-9)
    # Sampled outcomes leave noise, which the mean over many sweeps does not have.
    agent = DynaQ("epsilon-greedy", random_table(seed), learning_rate=0.02, **settings).learn(2_000)
    mean = np.zeros(agent.q_values.shape)
    for _ in range(100):
        agent.train(1_000)
        mean += agent.q_values / 100
    assert_allclose(mean, value_iteration(*agent.outcome_model.expected(), 0.8), atol=0.1)


@pytest.mark.parametrize("make", AGENTS)
@pytest.mark.parametrize("seed", range(3))
def test_values_come_close_to_the_true_ones(make, seed):
    """About 600 visits of a pair: its target is known to 0.05, and values to several times that."""
    env = random_table(seed)
    settings = {"gamma": 0.8, "model": "counts", "exploration_final_eps": 1.0}
    if make is DynaQPlus:
        settings["kappa"] = 0.0
    if make is not PrioritizedSweeping:
        settings["learning_rate"] = lambda left: 0.005 + 0.1 * left
    agent = make("epsilon-greedy", env, seed=seed, **settings).learn(5_000)
    true, visited = optimal_values(env, 0.8), agent.outcome_model.visits > 0
    assert visited[:-1].all()
    error = np.abs(agent.q_values - true)[visited]
    assert error.max() < 0.5 < np.abs(true).max() / 3
    assert error.mean() < 0.25


@pytest.mark.parametrize("model", ["counts", "latest"])
@pytest.mark.parametrize("learning_rate", [1.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_sweeping_leaves_no_error_above_theta(seed, learning_rate, model):
    theta = 0.01
    agent = PrioritizedSweeping(
        "epsilon-greedy",
        random_table(seed, 12, 3),
        theta=theta,
        gamma=0.9,
        learning_rate=learning_rate,
        model=model,
        planning_steps=2,
        exploration_final_eps=0.5,
        seed=seed,
    )
    largest = []
    for _ in range(30):
        agent.learn(10, reset_num_timesteps=False)
        while agent.queue_length:
            agent.train(1)
        goes_on, reward = agent.outcome_model.expected()
        error = np.abs(reward + 0.9 * goes_on @ agent.q_values.max(1) - agent.q_values)
        largest.append(error[agent.outcome_model.visits > 0].max())
        assert largest[-1] <= theta + 1e-12
    assert max(largest) > 0.2 * theta  # it stops where it may


def test_sweeping_updates_the_most_urgent_first_and_what_leads_there():
    """0 -> 1 -> 2 -> end with reward 1: one pass backwards is three updates, each of which is final."""
    agent = PrioritizedSweeping("epsilon-greedy", Corridor(3), gamma=0.5, theta=1e-3, planning_steps=50, seed=0)
    steps = Steps()
    while agent.q_values.max() == 0:
        agent.learn(1, callback=steps, reset_num_timesteps=False)
    # Right from 2, right from 1, right from 0, and the tried steps left from 1 and 2 whose targets changed.
    right, left = agent.q_values[:3, 1], agent.q_values[:3, 0]
    assert_array_equal(right, [0.25, 0.5, 1.0])
    tried = agent.outcome_model.visits[:3, 0] > 0
    assert_array_equal(left, np.where(tried, [0.125, 0.125, 0.25], 0))
    assert agent.queue_length == 0
    assert agent._n_updates == 3 + tried.sum()


def test_terminated_steps_end_there_and_truncated_ones_go_on():
    """Reward 1 for ever is worth 1 / (1 - gamma), wherever episodes are cut off; a task that ends after a step, 1."""
    for make in AGENTS:
        settings = {"learning_rate": 0.5, "gamma": 0.9, "planning_steps": 20}
        env = gym.wrappers.TimeLimit(Endless(), 3)
        cut = make("epsilon-greedy", env, seed=0, **settings)
        if make is DynaQPlus:
            cut.kappa = 0.0
        cut.learn(60)
        assert_allclose(cut.q_values, [[10.0]], rtol=1e-3)
        ends = Table(np.ones((1, 1, 1)), np.ones((1, 1, 1)), np.array([True]))
        end = make("epsilon-greedy", ends, seed=0, **settings)
        end.kappa = 0.0
        end.learn(60)
        assert_allclose(end.q_values, [[1.0]], rtol=1e-3)


def test_a_model_of_latest_outcomes_forgets_and_one_of_counts_does_not():
    class Turncoat(Endless):
        steps = 0

        def step(self, action):
            self.steps += 1
            return 0, 1.0 if self.steps <= 30 else -1.0, True, False, {}

    latest, counts = (
        DynaQ("UCB", Turncoat(), model=model, planning_steps=50, seed=0).learn(60) for model in ("latest", "counts")
    )
    assert latest.outcome_model.expected()[1] == -1
    assert counts.outcome_model.expected()[1].item() == pytest.approx(0)
    assert latest.q_values.item() == pytest.approx(-1, abs=1e-6)
    assert abs(counts.q_values.item()) < 0.2


# How it explores ------------------------------------------------------------------------------------------------------


def bandit(means):
    """Return a task of one step."""
    return Table(np.ones((1, len(means), 1)), np.array(means)[None, :, None], np.array([True]))


def test_epsilon_greedy_takes_random_actions_at_the_rate_asked_and_breaks_ties_at_random():
    agent = DynaQ("epsilon-greedy", bandit([1.0, 0.0, 0.0, 0.0]), exploration_final_eps=0.4, seed=0)
    first = agent.policy.choose(np.zeros(4000, int))
    assert_allclose(np.bincount(first, minlength=4) / 4000, 0.25, atol=0.03)  # all are equal
    agent.learn(60)
    later = agent.policy.choose(np.zeros(4000, int))
    assert_allclose(np.bincount(later, minlength=4) / 4000, [0.7, 0.1, 0.1, 0.1], atol=0.03)
    assert_array_equal(agent.policy.choose(np.zeros(50, int), deterministic=True), 0)


def test_exploration_is_annealed_as_dqn_does_it():
    rates = []

    class Watch(BaseCallback):
        def _on_step(self):
            rates.append(self.model.exploration_rate)
            return True

    agent = DynaQ(
        "epsilon-greedy",
        Corridor(),
        exploration_initial_eps=1.0,
        exploration_final_eps=0.2,
        exploration_fraction=0.5,
        seed=0,
    )
    agent.learn(100, callback=Watch())
    assert_allclose(rates[:51], np.linspace(1.0, 0.2, 51))
    assert_allclose(rates[51:], 0.2)


def test_the_learning_rate_may_be_a_schedule():
    agent = DynaQ("epsilon-greedy", Endless(), learning_rate=lambda left: left, gamma=0.0, planning_steps=0, seed=0)
    agent.learn(1)
    assert agent.q_values.item() == 1.0
    slow = DynaQ(
        "epsilon-greedy", Endless(), learning_rate=lambda left: 0.5 * left, gamma=0.0, planning_steps=0, seed=0
    )
    slow.learn(2)
    assert slow.q_values.item() == 0.5 + 0.25 * 0.5


def test_ucb_tries_everything_and_then_the_highest_bound():
    means, coefficient = np.array([0.5, 0.4, 0.0]), 0.3
    agent = DynaQ("UCB", bandit(means), ucb_coefficient=coefficient, learning_rate=1.0, planning_steps=0, seed=0)
    steps = Steps()
    agent.learn(300, callback=steps)
    counts = np.zeros(3, int)
    for number, row in enumerate(steps.rows):
        if number >= 3:
            bound = means + coefficient * np.sqrt(np.log(counts.sum()) / counts)
            assert bound[row[1]] >= bound.max() - 1e-6
        counts[row[1]] += 1
        assert number != 2 or counts.all()
    assert counts[0] > counts[1] > counts[2] > 1


def test_the_bonus_finds_the_shortcut_that_plain_dyna_misses():
    """After 300 steps action 2 pays; who trusts the model never looks again."""

    class Late(Endless):
        action_space = spaces.Discrete(3)
        steps = 0

        def step(self, action):
            self.steps += 1
            late = self.steps > 300
            return 0, {0: 0.5, 1: 0.0, 2: float(late)}[int(action)], True, False, {}

    settings = {"exploration_final_eps": 0.0, "planning_steps": 10, "seed": 1, "initial_value": 1.0}
    plain = DynaQ("epsilon-greedy", Late(), **settings).learn(1500)
    curious = DynaQPlus("epsilon-greedy", Late(), kappa=0.05, **settings).learn(1500)
    assert plain.q_values.argmax() == 0
    assert curious.q_values.argmax() == 2
    assert curious.outcome_model.last_tried[0, 2] > 1400


# Spaces ---------------------------------------------------------------------------------------------------------------


def test_choices_are_numbered_as_models_do_it():
    for space in (spaces.Discrete(7, start=-3), spaces.MultiDiscrete([3, 1, 4], start=[2, 0, -5])):
        choices, numbering = Choices(space), Numbering(space)
        values = choices.all_values()
        assert values.dtype == space.dtype
        assert all(space.contains(value) for value in values)
        assert_array_equal(numbering.number(torch.as_tensor(values)), np.arange(choices.count))
        assert_array_equal(choices.number(values), np.arange(choices.count))


def test_multi_discrete_spaces_with_any_start():
    agent = DynaQ("epsilon-greedy", DummyVecEnv([Switches] * 2), gamma=0.0, exploration_final_eps=1.0, seed=0)
    agent.learn(1000)
    observations = np.array([[1, -1], [2, 1], [1, 0]])
    actions, state = agent.predict(observations, deterministic=True)
    assert state is None
    assert_array_equal(actions, [[5, 0], [6, 2], [5, 1]])
    assert actions.dtype == agent.action_space.dtype
    single = agent.predict(np.array([2, 0]), deterministic=True)[0]
    assert_array_equal(single, [6, 1])
    assert agent.action_space.contains(single)
    assert agent.q_values.shape == (6, 6)
    assert_allclose(np.diag(agent.q_values), 1.0, atol=1e-3)


@pytest.mark.parametrize("multi", [False, True])
def test_gymnasiums_wrappers_discretise_boxes(multi):
    env = gym.make("Pendulum-v1")
    env = gym.wrappers.DiscretizeAction(env, 5, multidiscrete=multi)
    env = gym.wrappers.DiscretizeObservation(env, (7, 7, 9), multidiscrete=multi)
    agent = DynaQ("epsilon-greedy", env, seed=0, gamma=0.95).learn(300)
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(agent.predict(observation, deterministic=True)[0])
    assert agent.outcome_model.sizes["states"] > 20


def test_discretised_cart_poles_are_balanced():
    """Random actions keep the pole up for some 22 steps."""
    high = np.array([2.4, 3.0, 0.21, 3.0], np.float32)
    box = spaces.Box(-high, high)
    bounded = gym.wrappers.TransformObservation(gym.make("CartPole-v1"), lambda seen: np.clip(seen, -high, high), box)
    env = gym.wrappers.DiscretizeObservation(bounded, (1, 3, 8, 6))
    agent = DynaQ("epsilon-greedy", env, planning_steps=20, exploration_final_eps=0.02, seed=0).learn(4_000)
    assert np.mean([episode["l"] for episode in list(agent.ep_info_buffer)[-20:]]) > 50


@pytest.mark.parametrize(
    ("env_id", "advice"),
    [
        ("CartPole-v1", r"observation space is Box.*DiscretizeObservation"),
        (
            "Blackjack-v1",
            r"Tuple.*TransformObservation\(env, numpy.array, gymnasium.spaces.MultiDiscrete\(\[32, 11, 2\]\)\)",
        ),
        ("mbrl/ArmPickPlace-v0", r"(?s)Dict.*TransformObservation"),
    ],
)
def test_other_observations_are_refused_by_name(env_id, advice):
    for make in AGENTS:
        with pytest.raises(UnsupportedSpaceError, match=advice):
            make("epsilon-greedy", env_id)


def test_the_advice_for_tuples_works():
    env = gym.wrappers.TransformObservation(gym.make("Blackjack-v1"), np.array, spaces.MultiDiscrete([32, 11, 2]))
    agent = DynaQ("epsilon-greedy", env, seed=0, learning_rate=0.02).learn(3_000)
    player_20 = agent.policy.states.number(np.array([[20, 10, 0]]))[0]
    assert agent.q_values[player_20, 0] > 0 > agent.q_values[player_20, 1]  # stick rather than hit


def test_other_actions_and_too_large_tables_are_refused():
    env = gym.wrappers.DiscretizeObservation(gym.make("Pendulum-v1"), 5)
    with pytest.raises(UnsupportedSpaceError, match=r"action space is Box.*DiscretizeAction"):
        DynaQ("epsilon-greedy", env)
    env = gym.wrappers.DiscretizeObservation(gym.make("mbrl/Arm-v0"), 20)
    with pytest.raises(UnsupportedSpaceError):
        DynaQ("epsilon-greedy", gym.wrappers.DiscretizeAction(env, 20))
    wide = Switches()
    wide.observation_space = spaces.MultiDiscrete([100] * 6)
    with pytest.raises(UnsupportedSpaceError, match="tables hold at most"):
        DynaQ("UCB", wide)


@pytest.mark.parametrize("observation", [7, -1, 0.5, [[1, 2]], [9, 1]], ids=str)
def test_observations_outside_the_space_are_refused(observation):
    agent = DynaQ("epsilon-greedy", Corridor(), seed=0)
    with pytest.raises(InvalidSettingError, match="not in Discrete"):
        agent.predict(np.array(observation))


@pytest.mark.parametrize(
    ("make", "wrong", "message"),
    [
        (DynaQ, {"policy": "MlpPolicy"}, "policy must be one of epsilon-greedy, UCB, but 'MlpPolicy' was given"),
        (DynaQ, {"planning_steps": -1}, "planning_steps must be at least 0"),
        (DynaQ, {"learning_rate": 0.0}, r"learning_rate must be in \(0, 1\]"),
        (DynaQ, {"gamma": 1.1}, "gamma must be in"),
        (DynaQ, {"model": "exact"}, "model must be one of counts, latest"),
        (DynaQ, {"exploration_final_eps": 2}, "exploration_final_eps"),
        (DynaQ, {"exploration_initial_eps": -1}, "exploration_initial_eps"),
        (DynaQ, {"exploration_fraction": 0}, "exploration_fraction"),
        (DynaQ, {"ucb_coefficient": float("nan")}, "ucb_coefficient"),
        (DynaQ, {"initial_value": float("inf")}, "initial_value"),
        (DynaQPlus, {"kappa": -1}, "kappa must be"),
        (PrioritizedSweeping, {"theta": -1}, "theta must be"),
        (PrioritizedSweeping, {"expected_updates": False}, "expected updates"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_settings_out_of_range_are_refused(make, wrong, message):
    with pytest.raises(InvalidSettingError, match=message):
        make(**{"policy": "epsilon-greedy", "env": Corridor(), **wrong})


def test_rewards_that_are_not_finite_are_refused():
    env = Table(np.ones((1, 1, 1)), np.full((1, 1, 1), np.nan), np.array([False]))
    with pytest.raises(InvalidSettingError, match="rewards must be finite"):
        DynaQ("epsilon-greedy", env).learn(3)


def test_vec_normalize_is_refused():
    with pytest.raises(InvalidSettingError, match="VecNormalize"):
        DynaQ("epsilon-greedy", VecNormalize(DummyVecEnv([Corridor]), norm_obs=False))


# Like an algorithm of Stable-Baselines3 -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:rich is experimental")  # of the progress bar
@pytest.mark.parametrize("make", AGENTS)
def test_callbacks_logger_monitor_and_progress_bar(make, tmp_path):
    env = gym.wrappers.TimeLimit(Corridor(), 30)
    agent = make("epsilon-greedy", env, seed=0, tensorboard_log=None)
    evaluation = EvalCallback(
        Monitor(gym.wrappers.TimeLimit(Corridor(), 30)),
        eval_freq=100,
        n_eval_episodes=2,
        log_path=tmp_path,
        best_model_save_path=tmp_path,
        verbose=0,
    )
    agent.learn(400, callback=evaluation, progress_bar=True, log_interval=1)
    assert np.load(tmp_path / "evaluations.npz")["results"].shape == (4, 2)
    assert len(agent.ep_info_buffer) > 5
    assert evaluate_policy(agent, Monitor(gym.wrappers.TimeLimit(Corridor(), 30)), 3) == (1.0, 0.0)
    assert make.load(tmp_path / "best_model.zip").predict(np.array(0))[0] in (0, 1)


def test_the_log_tells_of_the_model(tmp_path):
    agent = PrioritizedSweeping("epsilon-greedy", Corridor(), seed=0)
    agent.set_logger(configure(str(tmp_path), ["json"]))
    agent.learn(300, log_interval=1)
    agent.logger.close()
    text = (tmp_path / "progress.json").read_text().splitlines()[-1]
    for name in (
        "rollout/exploration_rate",
        "train/learning_rate",
        "train/n_updates",
        "train/queue_length",
        "model/states",
        "model/outcomes",
    ):
        assert name in text


@pytest.mark.parametrize("make", AGENTS)
def test_several_environments_fill_one_table(make):
    agent = make("epsilon-greedy", DummyVecEnv([Corridor] * 3), planning_steps=4, seed=0)
    agent.learn(600)
    assert agent.num_timesteps == 600
    assert agent.outcome_model.sizes["steps"] == 600
    if make is not PrioritizedSweeping:
        assert agent._n_updates == 4 * 600
    actions, _ = agent.predict(np.array([0, 1, 2]), deterministic=True)
    assert_array_equal(actions, [1, 1, 1])


@pytest.mark.parametrize("policy", ["epsilon-greedy", "UCB"])
@pytest.mark.parametrize("make", AGENTS)
def test_same_seed_same_values_whatever_the_global_generators_do(make, policy):
    class Disturb(BaseCallback):
        def _on_step(self):
            np.random.random(3)
            torch.rand(2)
            return True

    torch.manual_seed(0)
    first = make(policy, random_table(1), seed=3).learn(200)
    torch.manual_seed(1)
    np.random.seed(5)
    second = make(policy, random_table(1), seed=3).learn(200, callback=Disturb())
    assert_array_equal(first.q_values, second.q_values)
    assert not np.array_equal(first.q_values, make(policy, random_table(1), seed=4).learn(200).q_values)


@pytest.mark.parametrize("make", AGENTS)
def test_the_global_generators_are_left_alone(make):
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    make("epsilon-greedy", Corridor(), seed=0).learn(60)
    assert torch.equal(before[0], torch.get_rng_state())
    assert_array_equal(before[1], np.random.get_state()[1])


def test_deterministic_predictions_do_not_disturb_training():
    agent, twin = (DynaQ("epsilon-greedy", random_table(2), seed=0) for _ in range(2))
    for _ in range(3):
        agent.learn(40, reset_num_timesteps=False)
        twin.learn(40, reset_num_timesteps=False)
        assert_array_equal(*(agent.predict(np.arange(5), deterministic=True)[0] for _ in range(2)))
    assert_array_equal(agent.q_values, twin.q_values)


def test_the_values_are_shown_but_not_handed_out():
    agent = DynaQ("epsilon-greedy", Corridor(), initial_value=2.0, seed=0)
    shown = agent.q_values
    assert_array_equal(shown, np.full((4, 2), 2.0))
    with pytest.raises(ValueError, match="read-only"):
        shown[0] = 1.0
