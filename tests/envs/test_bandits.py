"""The Bernoulli and the drifting bandit, and the Lai-Robbins bound: hand-computed values, integrals and laws."""

import math
import time

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats
from task_toys import start_states

from mbrl_gym.envs.bandit import Bandit
from mbrl_gym.envs.bandit_bernoulli import BanditBernoulli
from mbrl_gym.envs.bandit_drifting import BanditDrifting
from mbrl_gym.envs.task import Noise, draw
from mbrl_gym.errors import InvalidSettingError


def state_of(*means):
    """Return the start state of a bandit with these means."""
    return np.array([*means, *[0.0] * (len(means) + 1)])


def bernoulli_divergence(p, q):
    """Return KL(p || q) from its definition, for probabilities strictly between 0 and 1."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


# --- Bernoulli ---


@pytest.mark.parametrize(("uniform", "paid"), [(0.0, 1.0), (0.29, 1.0), (0.3, 0.0), (0.99, 0.0)])
def test_bernoulli_pull_by_hand(uniform, paid):
    task = BanditBernoulli(dtype="float64", arms=3)
    state = np.array([0.9, 0.3, 0.0, 0, 0, 1, 1.0])
    after = task.transition(state, np.int64(1), Noise(np.zeros(0), np.array([uniform])))
    assert_array_equal(after, [0.9, 0.3, 0.0, 0, 1, 0, paid])
    assert_array_equal(task.observation(after), [0, 1, 0, paid])
    assert task.reward(None, None, task.observation(after)) == paid
    info = task.info(state, np.int64(1), after)
    assert info["regret"] == pytest.approx(0.6)
    assert not info["optimal"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bernoulli_arms_pay_with_their_probabilities(dtype):
    task, pulls = BanditBernoulli(dtype=dtype, arms=5), 40_000
    means = [0.0, 1.0, 0.5, 0.01, 0.97]
    states = np.tile(state_of(*means).astype(dtype), (pulls, 1))
    generator = np.random.default_rng(0)
    for arm, mean in enumerate(means):
        noise = draw(generator, (pulls,), task.transition_noise, task.dtype)
        after = task.transition(states, np.full(pulls, arm), noise)
        paid = task.reward(None, None, task.observation(after))
        assert set(np.unique(paid)) <= {0.0, 1.0}
        assert abs(paid.mean() - mean) <= 4 * math.sqrt(mean * (1 - mean) / pulls)


def test_bernoulli_probabilities_are_uniform_between_their_bounds():
    states = start_states(BanditBernoulli(arms=4, prob_low=0.2, prob_high=0.6), 5_000)
    assert stats.kstest(states[:, :4].ravel(), stats.uniform(0.2, 0.4).cdf).pvalue > 1e-3
    assert_array_equal(states[:, 4:], 0)


def test_bernoulli_observation_space_is_the_unit_box():
    space = gym.make("mbrl/BanditBernoulli-v0", arms=3).observation_space
    assert_array_equal(space.low, 0)
    assert_array_equal(space.high, 1)
    assert space.shape == (4,)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"prob_high": 1.5}, "prob_high must be at most 1, but 1.5 was"),
        ({"prob_low": -0.1}, "prob_low must be at least 0, but -0.1 was"),
        ({"prob_low": 0.6, "prob_high": 0.5}, "prob_low must be at most prob_high, but 0.6 and 0.5 were"),
        ({"prob_high": 0.5, "randomize": {"prob_low": (0.1, 0.7)}}, "at most prob_high, but 0.7 and 0.5 were"),
        ({"arms": 1}, "arms must be a whole number of at least 2, but 1 was"),
    ],
)
def test_bernoulli_settings_out_of_range_are_refused(params, message):
    with pytest.raises(InvalidSettingError, match=message):
        BanditBernoulli(**params)


@pytest.mark.parametrize("mean", [-0.01, 1.01])
def test_bernoulli_refuses_states_that_are_no_probabilities(mean):
    env = gym.make("mbrl/BanditBernoulli-v0", arms=2)
    with pytest.raises(InvalidSettingError, match="options"):
        env.reset(options={"state": state_of(0.5, mean)})
    env.reset(options={"state": state_of(0.0, 1.0)})


def test_bernoulli_optimum_is_the_best_probability_at_every_pull():
    task = BanditBernoulli(arms=3)
    states = np.array([state_of(0.5, 0.25, 0.0), state_of(0.0, 1.0, 0.5)])
    assert_array_equal(task.optimal_return(states, steps=10), [5.0, 10.0])
    assert_array_equal(task.optimal_return(states), [500.0, 1000.0])


def test_bernoulli_optimum_averages_to_the_largest_of_ten_uniform_numbers():
    task = BanditBernoulli()
    best = task.optimal_return(start_states(task, 20_000))
    assert abs(best.mean() - 1000 * 10 / 11) < 4 * best.std() / math.sqrt(len(best))


# --- drifting ---


def test_drifting_pull_pays_by_the_means_before_the_walk():
    task = BanditDrifting(dtype="float64", arms=3, walk_std=0.1, reward_std=0.5)
    state = np.array([0.25, 2.0, -1.0, 0, 0, 1, 9.0])
    noise = Noise(np.array([-3.0, 1.0, -2.0, 0.5]), np.zeros(0))
    after = task.transition(state, np.int64(1), noise)
    assert_allclose(after, [0.35, 1.8, -0.95, 0, 1, 0, 0.5], rtol=1e-15)
    assert_array_equal(task.means(after), after[:3])


def test_drifting_regret_is_about_the_means_before_the_walk():
    task = BanditDrifting(dtype="float64", arms=2, walk_std=1.0)
    state = state_of(1.0, 0.75)
    noise = Noise(np.array([0.0, -5.0, 5.0]), np.zeros(0))  # the second arm is the best afterwards
    for arm, regret in ((0, 0.0), (1, 0.25)):
        info = task.info(state, np.int64(arm), task.transition(state, np.int64(arm), noise))
        assert info["regret"] == regret
        assert info["optimal"] == (regret == 0)


def test_drifting_means_start_equal_and_walk_independently():
    task, rows, steps = BanditDrifting(dtype="float64", arms=3, mean_loc=0.5), 4_000, 25
    state = start_states(task, rows)
    assert_array_equal(task.means(state), 0.5)
    generator = np.random.default_rng(1)
    for _ in range(steps):
        noise = draw(generator, (rows,), task.transition_noise, task.dtype)
        state = task.transition(state, np.zeros(rows, int), noise)  # all means walk, pulled or not
    walked = task.means(state) - 0.5
    for arm in range(3):
        assert stats.kstest(walked[:, arm], stats.norm(0.0, 0.01 * 5).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(walked.T) - np.eye(3)).max() < 4 / math.sqrt(rows)


def test_drifting_means_may_also_start_apart():
    states = start_states(BanditDrifting(arms=4, mean_loc=2.0, mean_std=0.5), 5_000)
    assert stats.kstest(states[:, :4].ravel(), stats.norm(2.0, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("mean_std", [0.0, 0.5])
def test_starts_draw_only_the_numbers_that_they_need(mean_std):
    task = BanditDrifting(arms=4, mean_std=mean_std)
    assert task.initial_noise.normal == (4 if mean_std else 0)
    assert task.state_size == start_states(task, 2).shape[1] == 9


def expected_maximum(means, std):
    """Return E max of independent normals by adaptive integration of x times the maximum's density."""

    def density(x):
        terms = [
            stats.norm.pdf(x, m, std) * np.prod([stats.norm.cdf(x, o, std) for j, o in enumerate(means) if j != i])
            for i, m in enumerate(means)
        ]
        return x * sum(terms)

    points = sorted(means)
    low, high = points[0] - 9 * std, points[-1] + 9 * std
    return integrate.quad(density, low, high, points=points, epsabs=1e-11, epsrel=1e-11, limit=400)[0]


@pytest.mark.parametrize(
    ("means", "walk_std"),
    [((0.0, 0.0, 0.0), 0.01), ((0.3, 0.25, -1.0), 0.02), ((2.0, -2.0), 1.0), ((-1.0, -1.0, -1.2, -1.3), 0.1)],
)
def test_drifting_optimum_equals_adaptive_integration(means, walk_std):
    task = BanditDrifting(arms=len(means), walk_std=walk_std)
    expected = max(means) + sum(expected_maximum(means, walk_std * math.sqrt(t)) for t in range(1, 6))
    assert_allclose(task.optimal_return(state_of(*means), steps=6), expected, rtol=1e-9, atol=1e-9)


def test_drifting_optimum_of_two_equal_arms_is_a_closed_form():
    # E max of two standard normals is 1 / sqrt(pi).
    task = BanditDrifting(arms=2, walk_std=0.1)
    expected = 0.1 / math.sqrt(math.pi) * sum(math.sqrt(t) for t in range(1000)) + 3.0 * 1000
    assert_allclose(task.optimal_return(state_of(3.0, 3.0), steps=1000), expected, rtol=1e-12)


def test_drifting_optimum_is_the_mean_return_of_a_clairvoyant():
    task, rows = BanditDrifting(dtype="float64", arms=4, walk_std=0.2), 20_000
    start = state_of(0.0, 0.1, -0.4, 0.1)
    state, total, generator = np.tile(start, (rows, 1)), np.zeros(rows), np.random.default_rng(0)
    for _ in range(20):
        action = task.means(state).argmax(-1)
        state = task.transition(state, action, draw(generator, (rows,), task.transition_noise, task.dtype))
        total += task.reward(None, None, task.observation(state))
    error = total.std() / math.sqrt(rows)
    assert abs(task.optimal_return(start, steps=20) - total.mean()) < 4 * error


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=6), st.floats(1e-6, 1.0), st.floats(-3, 3))
@settings(deadline=None, max_examples=50)
def test_drifting_optimum_shifts_with_the_means_and_beats_standing_still(means, walk_std, shift):
    task = BanditDrifting(arms=len(means), walk_std=walk_std)
    best = task.optimal_return(state_of(*means), steps=30)
    assert_allclose(task.optimal_return(state_of(*np.add(means, shift)), steps=30), best + 30 * shift, atol=1e-8)
    assert_allclose(task.optimal_return(state_of(*means[::-1]), steps=30), best, atol=1e-8)
    assert best >= 30 * max(means) - 1e-8


def test_drifting_optimum_without_a_walk_is_the_best_mean():
    task = BanditDrifting(arms=2, walk_std=0.0)
    states = np.array([[state_of(0.5, 2.0)], [state_of(-1.0, -3.0)]])
    assert_array_equal(task.optimal_return(states, steps=7), [[14.0], [-7.0]])
    assert_array_equal(task.optimal_return(states, steps=0), [[0.0], [0.0]])


def test_drifting_optimum_of_a_whole_episode_takes_less_than_a_second():
    task = BanditDrifting()
    state = state_of(*np.linspace(-0.3, 0.3, 10))
    begin = time.process_time()
    task.optimal_return(state)
    assert time.process_time() - begin < 1.0


# --- the Lai-Robbins bound ---


def test_gaussian_bound_by_hand():
    task = Bandit(arms=3, reward_std=0.5)
    # gap / KL = 2 reward_std^2 / gap, for gaps of 1 and 0.25
    assert_allclose(task.lai_robbins(state_of(1.0, 2.0, 1.75)), 0.5 / 1 + 0.5 / 0.25)


def test_gaussian_divergence_equals_its_integral():
    task = Bandit(arms=2, reward_std=0.7)
    arm, best = stats.norm(0.2, 0.7), stats.norm(1.1, 0.7)
    divergence = integrate.quad(lambda x: arm.pdf(x) * (arm.logpdf(x) - best.logpdf(x)), -7, 8)[0]
    assert_allclose(task.lai_robbins(state_of(0.2, 1.1)), 0.9 / divergence)


def test_bernoulli_bound_by_hand():
    task = BanditBernoulli(arms=3)
    expected = 0.4 / bernoulli_divergence(0.5, 0.9) + 0.1 / bernoulli_divergence(0.8, 0.9)
    assert_allclose(task.lai_robbins(state_of(0.5, 0.9, 0.8)), expected)
    # KL(0 || 0.5) = ln 2
    assert_allclose(task.lai_robbins(state_of(0.0, 0.5, 0.5)), 0.5 / math.log(2))


@pytest.mark.parametrize("task", [Bandit(arms=3), BanditBernoulli(arms=3)], ids=["gaussian", "bernoulli"])
@pytest.mark.parametrize("mean", [0.0, 0.5, 1.0])
def test_equal_arms_bound_nothing(task, mean):
    assert task.lai_robbins(state_of(mean, mean, mean)) == 0


def test_arms_that_a_few_pulls_tell_apart_bound_nothing():
    # An arm that once fails is not the one that never does; without noise one pull tells all.
    assert BanditBernoulli(arms=3).lai_robbins(state_of(0.5, 1.0, 0.0)) == 0
    assert Bandit(arms=3, reward_std=0.0).lai_robbins(state_of(0.5, 1.0, 1.0)) == 0


@given(st.floats(0, 1), st.floats(0, 1))
@example(0.5, 0.5 + 1e-9)  # where rounding swallows the divergence
@example(0.3, 0.3 + 1e-10)
@settings(max_examples=300)
def test_bernoulli_bound_is_finite_and_at_most_the_one_of_pinsker(first, second):
    # KL >= 2 gap^2, so that c <= 1 / (2 gap).
    gap = abs(first - second)
    assume(gap == 0 or gap > 1e-12)
    bound = BanditBernoulli(arms=2).lai_robbins(state_of(first, second))
    assert bound >= 0
    assert bound * gap <= 0.5 * (1 + 1e-9)


@pytest.mark.parametrize("best", [0.3, 0.5, 0.9])
def test_bernoulli_bound_of_close_arms_is_the_gaussian_one(best):
    # Cancellation must not spoil small gaps: 2 p (1 - p) / gap, as for normal rewards of the same variance.
    for gap in (1e-4, 1e-5):
        bound = BanditBernoulli(arms=2).lai_robbins(state_of(best, best - gap))
        assert_allclose(bound * gap, 2 * best * (1 - best), rtol=1e-3)


def test_bound_has_the_shape_of_the_batch_and_the_constants_of_each_row():
    task = Bandit(arms=2, randomize={"reward_std": (0.5, 2.0)})
    states = np.array([[[*state_of(0.0, 0.5), 1.0]], [[*state_of(0.0, 0.5), 2.0]]])
    assert_allclose(task.lai_robbins(states), [[4.0], [16.0]])
    assert task.lai_robbins(states.astype(np.float32)).dtype == np.float64


def test_regret_of_ucb_grows_about_as_the_bound_says():
    # The bound is about the growth c ln(n): before that, a learner may well have lost less.
    task, rows = Bandit(dtype="float64", arms=2), 600
    state, generator = np.tile(state_of(0.0, 1.0), (rows, 1)), np.random.default_rng(0)
    counts, sums, regret = np.zeros((rows, 2)), np.zeros((rows, 2)), [0.0]
    for pull in range(1, 1001):
        with np.errstate(divide="ignore", invalid="ignore"):
            index = sums / counts + np.sqrt(2 * np.log(pull) / counts)
        action = np.where(counts.min(-1) == 0, counts.argmin(-1), np.nan_to_num(index).argmax(-1))
        after = task.transition(state, action, draw(generator, (rows,), task.transition_noise, task.dtype))
        regret.append(regret[-1] + task.info(state, action, after)["regret"].mean())
        counts[np.arange(rows), action] += 1
        sums[np.arange(rows), action] += after[:, 4]
        state = after
    growth = task.lai_robbins(state_of(0.0, 1.0)) * math.log(1000 / 250)
    assert 1.0 < (regret[1000] - regret[250]) / growth < 1.6


def test_drifting_bandit_has_no_bound():
    with pytest.raises(NotImplementedError, match="BanditDrifting has no Lai-Robbins bound"):
        BanditDrifting().lai_robbins(np.zeros(21))


@pytest.mark.parametrize("task_class", [Bandit, BanditBernoulli, BanditDrifting])
def test_hidden_means_are_readable(task_class):
    task = task_class(arms=4)
    states = start_states(task, 3)
    assert_array_equal(task.means(states), states[:, :4])
    assert not np.shares_memory(task.means(states), states)


@pytest.mark.parametrize("last", [[1.0] * 10, [0.3] * 10, [1.0, 1.0] + [0.0] * 8])
def test_at_most_one_arm_was_last(last):
    env = gym.make("mbrl/Bandit-v0")
    with pytest.raises(InvalidSettingError, match="state"):
        env.reset(options={"state": [0.5] * 10 + last + [0.0]})
    env.reset(options={"state": [0.5] * 10 + [0.0] * 9 + [1.0, 0.0]})
