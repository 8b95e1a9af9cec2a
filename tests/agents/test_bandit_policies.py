"""Bandit algorithms: indices by hand and against a scalar reference, limits, symmetries, and laws."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
from bandit_toys import (
    history_of,
    observe,
    scalar_discounted,
    scalar_gradient,
    scalar_index,
    scalar_window,
    upper_bernoulli,
)
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats
from stable_baselines3.common.evaluation import evaluate_policy

import mbrl_gym  # noqa: F401  (registers the environments)
from mbrl_gym.agents import BANDITS, BanditPolicy, as_sb3_vec_env
from mbrl_gym.agents.bandits import UCB1, GradientBandit, make_algorithm
from mbrl_gym.agents.bandits.confidence import bernoulli_upper, beta_quantile
from mbrl_gym.agents.bandits.statistics import best
from mbrl_gym.errors import DamagedFileError, InvalidSettingError, UnsupportedSpaceError

GAUSSIAN, BERNOULLI = "mbrl/Bandit-v0", "mbrl/BanditBernoulli-v0"
INDICES = {
    "epsilon-greedy": {},
    "UCB1": {"coefficient": 2.0},
    "UCB-tuned": {},
    "UCB-V": {},
    "KL-UCB": {"c": 3.0},
    "MOSS": {"horizon": 500},
    "Bayes-UCB": {},
}


def policy_for(name, arms, binary=False, seed=0, **kwargs):
    return BanditPolicy(name, gym.make(BERNOULLI if binary else GAUSSIAN, arms=arms), seed=seed, **kwargs)


def state_after(policy, histories, state=None):
    """Let a policy see N histories of one length side by side, and return its state."""
    rows, arms = len(histories), policy.arms
    if state is None:
        _, state = policy.predict(np.tile(observe(arms), (rows, 1)))
    for step in zip(*histories, strict=True):
        _, state = policy.predict(np.stack([observe(arms, *pull) for pull in step]), state)
    return state


def repeated(state, rows):
    """Return a state of many bandits that are known alike, from that of one."""
    if isinstance(state, np.ndarray):
        return np.repeat(state, rows, axis=0)
    parts = [repeated(part, rows) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


# Indices ---------------------------------------------------------------------------------------------------------


def index_after(name, history, arms=2, binary=False, **kwargs):
    policy = policy_for(name, arms, binary, **kwargs)
    return policy.algorithm.index(state_after(policy, [history]), policy.generator)[0]


THREE = [(0, 1.0), (0, 0.0), (1, 1.0)]  # arm 0: 2 pulls, mean 0.5, variance 0.25; arm 1: 1 pull, mean 1


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        ("epsilon-greedy", {}, [0.5, 1.0]),
        ("epsilon-greedy", {"initial_value": 5.0, "step_size": 0.1}, [(5 - 0.4) * 0.9, 4.6]),
        ("UCB1", {"coefficient": 2.0}, [0.5 + 2 * math.sqrt(math.log(3) / 2), 1 + 2 * math.sqrt(math.log(3))]),
        ("UCB-tuned", {}, [0.5 + math.sqrt(math.log(3) / 8), 1 + math.sqrt(math.log(3) / 4)]),
        (
            "UCB-V",
            {"zeta": 1.0},
            [0.5 + math.sqrt(0.25 * math.log(3)) + 1.5 * math.log(3), 1 + 3 * math.log(3)],
        ),
        ("MOSS", {"horizon": 100}, [0.5 + math.sqrt(math.log(25) / 2), 1 + math.sqrt(math.log(50))]),
        ("MOSS", {}, [0.5, 1 + math.sqrt(1.175 * math.log(1.5))]),  # 3 / (2 * 2) < 1
        ("KL-UCB", {"family": "gaussian", "reward_std": 0.5}, [0.5 + 0.5 * math.sqrt(math.log(3)), 1 + 0.741152]),
        ("KL-UCB", {}, [0.5 * (1 + math.sqrt(1 - 1 / 3)), 1.0]),  # 4 q (1 - q) = exp(-2 ln(3) / 2)
        ("Bayes-UCB", {}, [0.6736482, math.sqrt(0.75)]),  # 75 % quantiles of beta(2, 2) and beta(2, 1)
    ],
)
def test_index_by_hand(name, kwargs, expected):
    assert_allclose(index_after(name, THREE, binary=True, **kwargs), expected, rtol=1e-6)


def test_gaussian_posterior_by_hand():
    policy = policy_for("Thompson", 2, prior_mean=1.0, prior_std=2.0, reward_std=0.5)
    mean, std = policy.algorithm.normal(state_after(policy, [THREE]))
    # Precision 1/4 of the prior and 4 of each reward.
    assert_allclose(mean, [[(0.25 + 4 * 1.0) / 8.25, (0.25 + 4 * 1.0) / 4.25]])
    assert_allclose(std, [[8.25**-0.5, 4.25**-0.5]])


def test_gradient_bandit_by_hand():
    algorithm = GradientBandit(step_size=0.4, baseline=False)
    state = algorithm.learn(algorithm.start(1, 2), np.array([0]), np.array([2.0]))
    assert_allclose(state.preferences, [[0.4, -0.4]])
    baseline = GradientBandit(step_size=0.4)
    state = baseline.learn(baseline.start(1, 2), np.array([0]), np.array([2.0]))
    assert_array_equal(state.preferences, [[0, 0]])  # the first reward is its own baseline
    state = baseline.learn(state, np.array([1]), np.array([5.0]))
    assert_allclose(state.preferences, [[-0.6, 0.6]])


def test_discounted_and_window_by_hand():
    history = [(0, 1.0), (1, 3.0), (0, 2.0)]
    n0, n1 = 1.25, 0.5
    expected = [(2 + 0.25) / n0 + 2 * math.sqrt(math.log(1.75) / n0), 3 + 2 * math.sqrt(math.log(1.75) / n1)]
    assert_allclose(index_after("discounted-UCB", history, discount=0.5, xi=1.0), expected)
    policy = policy_for("sliding-window-UCB", 2, window=2)
    state = state_after(policy, [history])
    assert_array_equal(state.counts, [[1, 1]])
    assert_array_equal(state.sums, [[2, 3]])


def test_explore_then_commit_by_hand():
    policy = policy_for("explore-then-commit", 3, explore_pulls=2)
    history = [(0, 1.0), (1, 2.0), (2, 0.0), (0, 1.0), (2, 0.0), (1, 2.0)]
    state = state_after(policy, [history])
    assert policy.algorithm.choose(state, policy.generator) == 1
    # The choice stands, whatever comes after it.
    state = state_after(policy, [[(1, -50.0), (1, -50.0)]], state)
    assert policy.algorithm.choose(state, policy.generator) == 1
    state = state_after(policy, [history[:4]])
    assert policy.algorithm.choose(state, policy.generator) in (1, 2)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), arms=st.integers(2, 5), pulls=st.integers(1, 40), binary=st.booleans())
@pytest.mark.parametrize("name", INDICES)
def test_vectorised_indices_equal_the_scalar_reference(name, seed, arms, pulls, binary):
    rng = np.random.default_rng(seed)
    histories = [history_of(rng, arms, pulls, binary) for _ in range(3)]
    policy = policy_for(name, arms, binary, **INDICES[name])
    index = policy.algorithm.index(state_after(policy, histories), policy.generator)
    expected = [
        [
            scalar_index(name, history, arm, binary=binary, settings={"arms": arms, **INDICES[name]})
            for arm in range(arms)
        ]
        for history in histories
    ]
    assert_allclose(index, expected, rtol=1e-8, atol=1e-8)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), arms=st.integers(2, 4), pulls=st.integers(1, 30), window=st.integers(1, 40))
def test_forgetting_equals_sums_over_the_history(seed, arms, pulls, window):
    rng = np.random.default_rng(seed)
    histories = [history_of(rng, arms, pulls, False) for _ in range(3)]
    policy = policy_for("discounted-UCB", arms, discount=0.9)
    index = policy.algorithm.index(state_after(policy, histories), policy.generator)
    expected = [[scalar_discounted(each, arm, discount=0.9, xi=0.6) for arm in range(arms)] for each in histories]
    assert_allclose(index, expected, rtol=1e-9)
    policy = policy_for("sliding-window-UCB", arms, window=window)
    chosen = policy.algorithm.choose(state_after(policy, histories), policy.generator)
    for row, each in zip(chosen, histories, strict=True):
        index = [scalar_window(each, arm, window=window, xi=0.6) for arm in range(arms)]
        assert index[row] == pytest.approx(max(index))


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), baseline=st.booleans(), pulls=st.integers(0, 30))
def test_gradient_bandits_equal_the_scalar_reference(seed, baseline, pulls):
    rng = np.random.default_rng(seed)
    histories = [history_of(rng, 4, pulls, False) for _ in range(3)]
    policy = policy_for("gradient", 4, baseline=baseline, step_size=0.3)
    found = policy.algorithm.probabilities(state_after(policy, histories))
    expected = [scalar_gradient(each, 4, step_size=0.3, baseline=baseline) for each in histories]
    assert_allclose(found, expected, rtol=1e-9)


# Confidence bounds -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    mean=st.one_of(st.just(0.0), st.just(1.0), st.floats(1e-9, 1 - 1e-9)),
    divergence=st.one_of(st.just(0.0), st.floats(1e-9, 20.0)),
)
def test_kl_bound_equals_a_bracketing_solver(mean, divergence):
    found = bernoulli_upper(np.array([mean]), np.array([divergence]))[0]
    expected = upper_bernoulli(mean, divergence)
    assert found == pytest.approx(expected, abs=1e-9)
    assert mean <= found <= 1.0


@settings(deadline=None, max_examples=200)
@given(
    first=st.floats(0.1, 2e4),
    second=st.floats(0.1, 2e4),
    tail=st.floats(1e-8, 1.0),
)
def test_beta_quantile_equals_scipys(first, second, tail):
    found = beta_quantile(*(np.array([number]) for number in (first, second, tail)))[0]
    assert found == pytest.approx(special.betainccinv(first, second, tail), abs=1e-9)


def test_equal_numbers_are_solved_once_and_go_to_their_places():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 4, (50, 6)).astype(float)
    means = rng.integers(0, 2, (50, 6)) / counts
    found = bernoulli_upper(means, 1.0 / counts)
    for place in np.ndindex(found.shape):
        assert found[place] == pytest.approx(upper_bernoulli(means[place], 1.0 / counts[place]), abs=1e-9)


# Limits and symmetries -------------------------------------------------------------------------------------------


def play(policy, env_id, problems, pulls, seed=0, **kwargs):
    """Return actions, rewards and regrets `[pulls, problems]`."""
    env = gym.make_vec(env_id, num_envs=problems, max_episode_steps=pulls, **kwargs)
    observation, _ = env.reset(seed=seed)
    state, found = None, []
    for _ in range(pulls):
        action, state = policy.predict(observation, state)
        observation, reward, _, _, info = env.step(action)
        found.append((action, reward, info["regret"]))
    return tuple(np.array(part) for part in zip(*found, strict=True))


def test_ucb_without_exploration_is_greedy_after_a_pull_of_each():
    actions, rewards, _ = play(policy_for("UCB1", 5, coefficient=0.0), GAUSSIAN, 40, 60, arms=5)
    assert_array_equal(np.sort(actions[:5], axis=0), np.tile(np.arange(5)[:, None], (1, 40)))
    for problem in range(40):
        for pull in range(5, 60):
            before, paid = actions[:pull, problem], rewards[:pull, problem]
            means = [paid[before == arm].mean(dtype=np.float64) for arm in range(5)]
            assert means[actions[pull, problem]] == pytest.approx(max(means))


def test_epsilon_one_is_uniform():
    actions, _, _ = play(policy_for("epsilon-greedy", 4, epsilon=1.0), GAUSSIAN, 200, 100, arms=4)
    assert stats.chisquare(np.bincount(actions.ravel())).pvalue > 1e-3


def test_decaying_epsilon_follows_its_schedule():
    policy = policy_for("epsilon-greedy", 2, epsilon=0.8, decay=5.0)
    state = repeated(state_after(policy, [[(0, 1.0)] * 49]), 20_000)  # arm 0 is best; pull 50 explores with 5 * 2 / 50
    share = np.mean(policy.algorithm.choose(state, policy.generator) == 1)
    assert abs(share - 0.2 / 2) < 4 * math.sqrt(0.1 * 0.9 / 20_000)


def test_a_window_and_a_discount_that_forget_nothing_are_ucb():
    history = history_of(np.random.default_rng(1), 3, 30, False)
    ucb = index_after("UCB1", history, arms=3, coefficient=2 * math.sqrt(0.6))
    assert_allclose(index_after("discounted-UCB", history, arms=3, discount=1.0), ucb)
    state = state_after(policy_for("sliding-window-UCB", 3, window=30), [history])
    assert_allclose(state.sums / state.counts, state_after(policy_for("UCB1", 3), [history]).means)


def test_ties_are_broken_at_random():
    index = np.tile([2.0, 3.0, np.inf, 1.0, np.inf, np.inf], (6_000, 1))
    chosen = np.bincount(best(index, np.random.default_rng(0)), minlength=6)
    assert_array_equal(chosen[[0, 1, 3]], 0)
    assert stats.chisquare(chosen[[2, 4, 5]]).pvalue > 1e-3


@pytest.mark.parametrize("name", BANDITS)
@pytest.mark.parametrize("binary", [False, True])
def test_the_first_pull_takes_any_arm(name, binary):
    policy = policy_for(name, 4, binary)
    actions, _ = policy.predict(np.zeros((4_000, 5)))
    assert stats.chisquare(np.bincount(actions, minlength=4)).pvalue > 1e-3


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 2**32))
@pytest.mark.parametrize("name", BANDITS)
def test_the_order_of_the_arms_plays_no_role(name, seed):
    """Renamed arms are known, and pulled, as often as before."""
    rng = np.random.default_rng(seed)
    history, order = history_of(rng, 3, 25, True), rng.permutation(3)
    renamed = [(int(order[arm]), reward) for arm, reward in history]
    policy = policy_for(name, 3, binary=True)
    rows = 400
    state, other = (repeated(state_after(policy, [each]), rows) for each in (history, renamed))
    for part, counterpart in zip(state, other, strict=True):
        if isinstance(part, np.ndarray) and part.ndim == 2:
            assert_allclose(part, counterpart[:, order])
    shares, others = (np.bincount(policy.algorithm.choose(s, policy.generator), minlength=3) for s in (state, other))
    assert np.abs(shares - others[order]).max() < 6 * math.sqrt(rows / 2)


@pytest.mark.parametrize("name", BANDITS)
def test_the_given_state_stays_as_it_is_and_rows_do_not_mix(name):
    rng = np.random.default_rng(5)
    histories = [history_of(rng, 3, 12, True) for _ in range(4)]
    settings = {"window": 5} if name == "sliding-window-UCB" else {}
    policy = policy_for(name, 3, binary=True, **settings)
    state = state_after(policy, histories)
    kept = [np.array(part) for part in state]
    state_after(policy, histories, state)
    for part, before in zip(state, kept, strict=True):
        assert_array_equal(part, before)
    for row, history in enumerate(histories):
        alone = state_after(policy, [history])
        for part, own in zip(state, alone, strict=True):
            column = np.array(part)[..., row] if isinstance(part, tuple) else part[row]
            assert_array_equal(column, np.array(own)[..., 0] if isinstance(own, tuple) else own[0])


@pytest.mark.parametrize("name", BANDITS)
def test_rows_where_an_episode_starts_know_nothing(name):
    settings = {"window": 4} if name == "sliding-window-UCB" else {}
    policy = policy_for(name, 3, binary=True, **settings)
    old, new = history_of(np.random.default_rng(6), 3, 6, True), history_of(np.random.default_rng(7), 3, 9, True)
    state = state_after(policy, [old, old])
    # Row 1 starts anew while row 0 goes on; then both do the same.
    _, state = policy.predict(np.stack([observe(3, *new[0]), observe(3)]), state, np.array([False, True]))
    state = state_after(policy, [[new[1]], [new[0]]], state)
    for row, history in ((0, [*old, *new[:2]]), (1, new[:1])):
        for part, own in zip(state, state_after(policy, [history]), strict=True):
            if isinstance(part, np.ndarray):
                assert_allclose(part[row], own[0])
    state = state_after(policy, [new[2:], new[1:-1]], state)  # rows of different ages side by side
    for row, history in ((0, [*old, *new]), (1, new[:-1])):
        for part, own in zip(state, state_after(policy, [history]), strict=True):
            if isinstance(part, np.ndarray):
                assert_allclose(part[row], own[0])


def test_thompson_draws_are_those_of_the_posterior():
    policy = policy_for("Thompson", 2, binary=True)
    state = repeated(state_after(policy, [[(0, 1.0), (0, 1.0), (0, 0.0), (1, 0.0)]]), 5_000)
    draws = policy.algorithm.index(state, policy.generator)
    assert stats.kstest(draws[:, 0], stats.beta(3, 2).cdf).pvalue > 1e-3
    assert stats.kstest(draws[:, 1], stats.beta(1, 2).cdf).pvalue > 1e-3
    gaussian = policy_for("Thompson", 2)
    draws = gaussian.algorithm.index(repeated(state_after(gaussian, [[(0, 2.0), (0, 4.0)]]), 5_000), gaussian.generator)
    assert stats.kstest(draws[:, 0], stats.norm(2.0, 3**-0.5).cdf).pvalue > 1e-3
    assert stats.kstest(draws[:, 1], stats.norm.cdf).pvalue > 1e-3


# Play --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", [GAUSSIAN, BERNOULLI])
@pytest.mark.parametrize("name", BANDITS)
def test_every_algorithm_beats_random_pulls_and_no_regret_is_negative(name, env_id):
    problems, pulls = 100, 120
    _, rewards, regrets = play(policy_for(name, 10, env_id == BERNOULLI), env_id, problems, pulls)
    _, _, random = play(policy_for("epsilon-greedy", 10, epsilon=1.0), env_id, problems, pulls)
    assert regrets.min() >= 0
    factor = (
        0.97 if name in ("discounted-UCB", "UCB-V", "gradient", "explore-then-commit") else 0.85
    )  # explore for long
    assert regrets.sum() < factor * random.sum()
    # What is lost against the best arm is the regret but for the rewards' noise: all of them were the same problems.
    means = gym.make_vec(env_id, num_envs=problems)
    means.reset(seed=0)
    best_mean = means.unwrapped.get_state()["state"][:, :10].max(1)
    lost = (best_mean - rewards).sum(0)
    assert lost.mean() == pytest.approx(regrets.sum(0).mean(), abs=4 * math.sqrt(pulls / problems))
    assert lost.mean() > 0


def test_forgetting_pays_where_arms_change():
    """Two arms trade their places after 1,000 pulls: those that forget notice, sample means hardly."""

    def share_afterwards(name, **settings):
        policy, generator = policy_for(name, 2, binary=True, **settings), np.random.default_rng(0)
        observation, state, hits = np.zeros((100, 3)), None, 0
        for pull in range(1_300):
            action, state = policy.predict(observation, state)
            good = action == (0 if pull < 1_000 else 1)
            hits += good.sum() if pull >= 1_000 else 0
            reward = generator.random(100) < np.where(good, 0.7, 0.3)
            observation = np.concatenate([np.eye(2)[action], reward[:, None]], 1)
        return hits / 30_000

    remembering = max(share_afterwards("UCB1", coefficient=0.5), share_afterwards("Thompson"))
    assert share_afterwards("sliding-window-UCB", window=60) > remembering + 0.2
    assert share_afterwards("discounted-UCB", discount=0.95, xi=0.1) > remembering + 0.2


@pytest.mark.parametrize("name", ["epsilon-greedy", "Thompson", "sliding-window-UCB"])
def test_evaluate_policy_of_stable_baselines3(name):
    env = as_sb3_vec_env(
        gym.make_vec(GAUSSIAN, num_envs=50, max_episode_steps=60, autoreset_mode="SameStep", reward_std=0.1)
    )
    policy = BanditPolicy(name, env, seed=0, **({"window": 50} if name.startswith("sliding") else {}))
    env.seed(0)
    mean, _ = evaluate_policy(policy, env, n_eval_episodes=100, warn=False)
    env.seed(0)
    random, _ = evaluate_policy(BanditPolicy("epsilon-greedy", env, epsilon=1.0, seed=0), env, 100, warn=False)
    assert mean > random + 30  # of about 60 times 1.54, the expected largest of 10 means


def test_deterministic_plays_no_role_and_seeds_decide():
    env = gym.make(GAUSSIAN)
    found = []
    for seed, deterministic in ((1, False), (1, True), (2, False)):
        policy = BanditPolicy("epsilon-greedy", env, epsilon=0.5, seed=seed)
        observation, state, actions = env.reset(seed=0)[0], None, []
        for _ in range(40):
            action, state = policy.predict(observation, state, np.array([not actions]), deterministic)
            assert action.shape == ()
            observation = env.step(action)[0]
            actions.append(int(action))
        found.append(actions)
    assert found[0] == found[1] != found[2]


def test_actions_that_do_not_start_at_zero():
    class Shifted(gym.Env):
        observation_space = spaces.Box(-np.inf, np.inf, (4,))
        action_space = spaces.Discrete(3, start=5)

    actions, _ = BanditPolicy("UCB1", Shifted(), seed=0).predict(np.zeros((200, 4)))
    assert set(actions) == {5, 6, 7}


# Files and errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BANDITS)
def test_a_loaded_policy_goes_on_as_the_saved_one(name, tmp_path):
    rng = np.random.default_rng(0)
    policy = policy_for(name, 3, binary=True, seed=4)
    state = state_after(policy, [history_of(rng, 3, 5, True) for _ in range(20)])
    policy.save(tmp_path / "bandit")
    loaded = BanditPolicy.load(tmp_path / "bandit.zip")
    assert loaded.algorithm == policy.algorithm
    assert loaded.action_space == policy.action_space
    observation = np.tile(observe(3, 1, 1.0), (20, 1))
    assert_array_equal(loaded.predict(observation, state)[0], policy.predict(observation, state)[0])


def test_damaged_files_give_one_error(tmp_path):
    policy = policy_for("UCB1", 3)
    policy.save(tmp_path / "a.zip")
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedFileError):
        BanditPolicy.load(tmp_path / "b.zip")


def test_algorithms_of_users_are_not_stored(tmp_path):
    class Mine(UCB1):
        pass

    with pytest.raises(InvalidSettingError, match="hold the algorithms of BANDITS, not Mine"):
        BanditPolicy(Mine(), GAUSSIAN).save(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("UCB2", {}, "must be one of epsilon-greedy, UCB1, .* but 'UCB2' was given"),
        ("UCB1", {"c": 2.0}, "UCB1 has no setting 'c'; it has: coefficient"),
        ("UCB1", {"coefficient": -1.0}, "coefficient of UCB1 must be at least 0, but -1.0 was given"),
        ("UCB1", {"coefficient": math.nan}, "coefficient of UCB1 must be a finite number, but nan"),
        ("epsilon-greedy", {"epsilon": 1.5}, r"epsilon of EpsilonGreedy must be in \[0, 1\], but 1.5 was given"),
        ("KL-UCB", {"family": "poisson"}, "must be one of auto, bernoulli, gaussian, but 'poisson'"),
        ("KL-UCB", {"family": "bernoulli"}, "family of KLUCB must be gaussian for rewards between -inf and inf"),
        ("sliding-window-UCB", {"window": 2.5}, "window of SlidingWindowUCB must be a whole number, but 2.5"),
        ("explore-then-commit", {"explore_pulls": 0}, "must be greater than 0, but 0 was given"),
        (UCB1(), {"coefficient": 1.0}, "an algorithm has its settings"),
    ],
)
def test_wrong_settings_are_named(name, settings, message):
    with pytest.raises(InvalidSettingError, match=message):
        BanditPolicy(name, GAUSSIAN, **settings)


def test_what_is_no_bandit_is_refused():
    with pytest.raises(UnsupportedSpaceError, match=r"Discrete\(k\) actions and a Box of k \+ 1 columns"):
        BanditPolicy("UCB1", "CartPole-v1")
    with pytest.raises(UnsupportedSpaceError):
        BanditPolicy("UCB1", "mbrl/Arm-v0")


def test_wrong_observations_and_states_are_named():
    policy = policy_for("UCB1", 3)
    with pytest.raises(InvalidSettingError, match=r"shape \(4,\) or \(N, 4\), but \(5,\) was given"):
        policy.predict(np.zeros(5))
    with pytest.raises(InvalidSettingError, match="rewards must be finite"):
        policy.predict(np.array([1.0, 0, 0, np.nan]))
    _, state = policy.predict(np.zeros((2, 4)))
    with pytest.raises(InvalidSettingError, match="of 2 bandits, but 3 were observed"):
        policy.predict(np.zeros((3, 4)), state)


def test_names_are_found_in_any_case():
    assert make_algorithm("kl-ucb", c=3.0) == BANDITS["KL-UCB"](c=3.0)
