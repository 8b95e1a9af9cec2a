"""Judging models: every figure by hand, in closed form, or against models that are known to be right or wrong."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import CHOICES, LINE, MIXED, PLANE, SMALL, UNIT, transitions, wild
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import ExactModel, GaussianEnsemble, ModelReport, Outcome, Prediction, WorldModel, evaluate_model
from mbrl_gym.models.calibration import classification_error
from mbrl_gym.models.evaluation import windows
from mbrl_gym.noise import NoiseSizes
from mbrl_gym.wrappers import RecordTransitions

GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class KnownModel(WorldModel):
    """A model that does what it is told: `move` and `ends` make its steps, `says` is the outcome of T rows."""

    noise_sizes = NoiseSizes()

    def __init__(self, observation_space=LINE, action_space=UNIT, *, move=None, ends=None, says=None, unit=1):
        super().__init__(observation_space, action_space)
        self.move, self.ends, self.says, self.unit = move, ends, says, unit
        self.asked = 0  # rows whose outcome was asked for

    @property
    def particle_unit(self):
        return self.unit

    def start(self, observation, particles=1):
        self.check_particles(particles)
        return observation.expand(particles, *observation.shape)

    def step(self, state, action, noise=None):
        after = state if self.move is None else self.move(state, self.over_particles(action, len(state)))
        never = torch.zeros(after.shape[:2], dtype=torch.bool)
        ended = never if self.ends is None else self.ends(after)
        return Prediction(after, after, torch.zeros(after.shape[:2]), ended)

    def outcome(self, observation, action):
        if self.says is None:
            return super().outcome(observation, action)
        first, self.asked = self.asked, self.asked + len(observation)
        return Outcome(*(part[:, first : self.asked] for part in self.says))

    def fit(self, transitions):
        raise NotImplementedError

    def uncertainty(self, observation, action):
        return torch.zeros(len(observation))


def says(mean, deviation, terminated=None):
    """Return the outcome `[M, T, D]` of T rows."""
    mean = torch.as_tensor(np.asarray(mean, np.float64))
    ends = torch.zeros(mean.shape[1]) if terminated is None else torch.as_tensor(terminated)
    return Outcome(mean, torch.as_tensor(deviation).double().expand_as(mean), ends.expand(mean.shape[:2]))


def walks(count=30, length=20, seed=0):
    """Return interleaved episodes of x' = x + a on a plane."""
    generator = np.random.default_rng(seed)
    action = generator.uniform(-1.0, 1.0, (length, count, 1)).astype(np.float32)
    position = np.zeros((length + 1, count, 2), np.float32)
    position[0] = generator.normal(size=(count, 2))
    for step in range(length):
        position[step + 1] = position[step] + action[step]
    data = transitions(
        position[:-1].reshape(-1, 2),
        action.reshape(-1, 1),
        generator.normal(size=count * length),
        position[1:].reshape(-1, 2),
    )
    return data._replace(episode=np.tile(np.arange(count), length))


def targets_of(change, reward):
    """Return transitions with given changes `[T, O]` and rewards `[T]`, from observations around 0."""
    count, size = change.shape
    start = np.zeros((count, size))
    data = transitions(start, np.zeros((count, 1)), reward, change)
    return data._replace(observation=start, next_observation=change, reward=reward)  # in float64


# Windows --------------------------------------------------------------------------------------------------------


def test_windows_hold_consecutive_steps_of_one_episode():
    episode = np.array([7, 3, 7, 3, 3, 7, 7])
    assert_array_equal(windows(episode, 1)[:, 0], [1, 3, 4, 0, 2, 5, 6])
    assert_array_equal(windows(episode, 2), [[1, 3], [3, 4], [0, 2], [2, 5], [5, 6]])
    assert_array_equal(windows(episode, 3), [[1, 3, 4], [0, 2, 5], [2, 5, 6]])
    assert_array_equal(windows(episode, 4), [[0, 2, 5, 6]])
    assert windows(episode, 5).shape == (0, 5)
    assert windows(episode, 99).shape == (0, 99)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=25), st.integers(1, 8))
def test_windows_are_those_that_a_loop_finds(episode, length):
    expected = set()
    for number in set(episode):
        rows = [row for row, other in enumerate(episode) if other == number]
        expected |= {tuple(rows[first : first + length]) for first in range(len(rows) - length + 1)}
    found = [tuple(window) for window in windows(np.array(episode), length).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


# Errors against the horizon -------------------------------------------------------------------------------------


def test_errors_by_hand():
    """Two interleaved episodes: 0 -> 1 -> 3 -> 4, and 10 -> 10 -> 12; the model doubles every action."""
    data = transitions(
        [[0], [10], [1], [10], [3]], [[1], [0], [0.5], [1], [1]], np.zeros(5), [[1], [10], [3], [12], [4]]
    )
    data = data._replace(episode=np.array([4, 2, 4, 2, 4]))
    model = KnownModel(move=lambda state, action: state + 2 * action)
    variance = np.var([0, 10, 1, 10, 3])
    one, two, three, four = evaluate_model(model, data, horizons=(1, 2, 3, 4)).horizons
    assert (one.horizon, one.windows, two.windows, three.windows, four.windows) == (1, 5, 3, 1, 0)
    # errors of one step: 2 - 1, 10 - 10, 2 - 3, 12 - 12, 5 - 4
    assert_allclose(one.error, 3 / 5 / variance)
    assert_allclose(one.baseline, (1 + 0 + 4 + 4 + 1) / 5 / variance)
    assert_allclose(one.rmse, [math.sqrt(3 / 5)])
    assert_allclose(one.baseline_rmse, [math.sqrt(10 / 5)])
    assert_allclose(one.ratio, 0.3)
    # of two steps: 0 + 2 + 1 - 3, 10 + 0 + 2 - 12, 1 + 1 + 2 - 4
    assert two.error == 0
    assert_allclose(two.baseline, (9 + 4 + 9) / 3 / variance)
    # of three: 0 + 2 + 1 + 2 - 4
    assert_allclose((three.error, three.baseline), (1 / variance, 16 / variance))
    assert math.isnan(four.error)
    assert math.isnan(four.ratio)
    assert math.isnan(one.misclassified)


def test_a_model_that_says_nothing_changes_is_exactly_as_good_as_the_baseline():
    for at in evaluate_model(KnownModel(PLANE), walks(), horizons=(1, 3, 20)).horizons:
        assert at.error > 0
        assert at.ratio == 1
        assert at.rmse == at.baseline_rmse


def test_an_exact_model_has_no_error_at_any_horizon():
    model = KnownModel(PLANE, move=lambda state, action: state + action)
    for at in evaluate_model(model, walks(), horizons=(1, 2, 20)).horizons:
        assert at.windows > 0
        assert at.error == 0
        assert at.baseline > 0.01


@pytest.mark.parametrize("env_id", ["mbrl/Arm-v0", "mbrl/CartPoleContinuous-v0"])
def test_the_exact_model_of_a_task_has_none_but_rounding(env_id):
    env = gym.make(env_id)
    rows, episode = [], 0
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    for _ in range(300):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, reward, following, terminated, truncated, episode))
        observation = following
        if terminated or truncated:
            observation, _ = env.reset()
            episode += 1
    data = walks()._make(np.array(column) for column in zip(*rows, strict=True))
    report = evaluate_model(ExactModel(env.unwrapped.task), data, horizons=(1, 10))
    assert all(at.windows > 50 and at.ratio < 1e-9 for at in report.horizons)
    assert report.calibration_error < 0.02
    assert report.reward_rmse < 1e-5
    assert report.nll < report.baseline_nll - 10
    if data.terminated.any():
        assert report.balanced_accuracy == 1


def test_the_prediction_is_the_mean_of_the_particles():
    def move(state, action):
        return state + torch.tensor([1.0, -1.0]).repeat_interleave(len(state) // 2)[:, None, None]

    model = KnownModel(PLANE, move=move, unit=2)
    alone = KnownModel(PLANE, move=lambda state, action: state + 1)
    for particles in (None, 6):
        at = evaluate_model(model, walks(), horizons=(3,), particles=particles).horizons[0]
        assert_allclose(at.ratio, 1, rtol=1e-6)
    assert evaluate_model(alone, walks(), horizons=(3,)).horizons[0].ratio > 2
    with pytest.raises(InvalidSettingError, match="multiple of 2 particles, but 3"):
        evaluate_model(model, walks(), particles=3)


def test_columns_that_are_constant_do_not_count():
    data = walks()
    frozen = data.observation.copy()
    frozen[:, 1] = 100.0
    following = data.next_observation.copy()
    following[:, 1] = 100.0
    data = data._replace(observation=frozen, next_observation=following)

    def move(state, action):
        return torch.stack((state[..., 0] + action[..., 0], state[..., 1] + 1e6), -1)

    at = evaluate_model(KnownModel(PLANE, move=move), data, horizons=(1,)).horizons[0]
    assert at.error == 0
    assert at.rmse == (0.0, 1e6)


def test_predictions_go_on_where_the_model_expects_an_end():
    def move(state, action):
        return state + 0.5 * action

    plain = evaluate_model(KnownModel(PLANE, move=move), walks(), horizons=(1, 10))
    ending = KnownModel(PLANE, move=move, ends=lambda after: torch.ones(after.shape[:2], dtype=torch.bool))
    assert evaluate_model(ending, walks(), horizons=(1, 10)).horizons == plain.horizons


def test_a_prediction_that_overflows_has_an_infinite_error():
    grows = KnownModel(PLANE, move=lambda state, action: state * 1e30 - state * 1e30 * 1e10)
    report = evaluate_model(grows, walks(), horizons=(1, 5))
    assert report.horizons[1].error == math.inf
    assert report.as_dict()["error_5"] == math.inf
    assert "inf" in report.table()


def test_the_order_in_which_episodes_alternate_changes_nothing():
    data = walks()
    sorted_rows = data.rows(np.argsort(data.episode, kind="stable"))
    model = KnownModel(PLANE, move=lambda state, action: state + 0.9 * action)
    for mine, other in zip(
        evaluate_model(model, data).horizons, evaluate_model(model, sorted_rows).horizons, strict=True
    ):
        assert mine.windows == other.windows
        assert_allclose(mine.error, other.error, rtol=1e-12)


def test_windows_are_drawn_by_the_seed_if_there_are_too_many():
    model = KnownModel(PLANE, move=lambda state, action: state + 0.9 * action)

    def errors(seed, starts=50):
        return [at.error for at in evaluate_model(model, walks(), horizons=(1, 20), starts=starts, seed=seed).horizons]

    report = evaluate_model(model, walks(), horizons=(1, 20), starts=50)
    assert [at.windows for at in report.horizons] == [50, 30]  # 30 episodes of 20 steps
    assert errors(0) == errors(0)
    assert errors(0)[0] != errors(1)[0]
    assert errors(0)[1] == errors(1)[1]
    assert_allclose(errors(0)[0], errors(0, starts=600)[0], rtol=0.5)


def choice_data(before, after):
    count = len(before)
    data = transitions(np.zeros((count, 1)), np.zeros((count, 1)), np.zeros(count), np.zeros((count, 1)))
    return data._replace(observation=np.array(before), next_observation=np.array(after))


def test_choices_are_right_or_wrong():
    """Three members vote: one stays, two go on by one (among 2, 3, 4, 5)."""
    go = torch.tensor([0, 1, 1])

    def move(state, action):
        return 2 + (state - 2 + go[:, None]) % 4

    model = KnownModel(CHOICES, move=move, unit=3, says=says(np.ones((1, 5, 5)), 0.0))
    data = choice_data([2, 3, 4, 4, 2], [3, 4, 4, 2, 3])
    one, two = evaluate_model(model, data, horizons=(1, 2)).horizons
    assert one.misclassified == 2 / 5
    assert one.baseline_misclassified == 4 / 5
    assert math.isnan(one.error)
    # two steps from rows 0 to 3 end at 4, 4, 2, 3; two votes for two steps on say 4, 5, 2, 2
    assert two.misclassified == 2 / 4
    assert two.baseline_misclassified == 4 / 4


# Likelihood -----------------------------------------------------------------------------------------------------


def test_likelihood_is_that_of_a_mixture_of_gaussians():
    generator = np.random.default_rng(0)
    change, reward = generator.normal(size=(50, 2)), generator.normal(size=50)
    mean, deviation = generator.normal(size=(3, 50, 3)), generator.uniform(0.5, 2.0, (3, 50, 3))
    model = KnownModel(PLANE, says=says(mean, deviation))
    report = evaluate_model(model, targets_of(change, reward), horizons=(1,))
    target = np.column_stack((change, reward))
    density = stats.norm.pdf(target, mean, deviation).prod(-1).mean(0)
    assert_allclose(report.nll, -np.log(density).mean(), rtol=1e-10)


def test_the_baseline_of_the_likelihood_is_the_spread_of_the_data():
    generator = np.random.default_rng(1)
    change, reward = generator.normal(0.5, 1.0, (40, 1)), generator.normal(3.0, 2.0, 40)
    report = evaluate_model(KnownModel(), targets_of(change, reward), horizons=(1,))
    expected = stats.norm.logpdf(change[:, 0], 0, np.sqrt(np.mean(change**2)))
    expected += stats.norm.logpdf(reward, reward.mean(), reward.std())
    assert_allclose(report.baseline_nll, -expected.mean(), rtol=1e-10)


def test_likelihood_of_choices():
    """Two components that weigh four choices; weights need not be normalised."""
    data = choice_data([2, 3, 5, 5, 2], [3, 4, 2, 5, 3])
    chance = np.random.default_rng(0).dirichlet(np.ones(4), (2, 5))
    mean = np.concatenate((3 * chance, np.zeros((2, 5, 1))), -1)
    model = KnownModel(CHOICES, says=says(mean, 0.0), move=lambda state, action: state)
    report = evaluate_model(model, data, horizons=(1,))
    chosen = np.array([1, 2, 0, 3, 1])
    assert_allclose(report.nll, -np.log(chance.mean(0)[np.arange(5), chosen]).mean(), rtol=1e-4)
    frequency = np.array([1, 2, 1, 1]) / 5
    assert_allclose(report.baseline_nll, -np.log(frequency[chosen]).mean(), rtol=1e-4)
    assert report.calibration_error != report.calibration_error  # nothing continuous varies


def test_a_certain_model_counts_as_certain_to_a_ten_thousandth():
    change = np.random.default_rng(2).normal(0.0, 3.0, (60, 1))
    data = targets_of(change, np.ones(60))
    target = np.column_stack((change, np.ones(60)))[None]
    report = evaluate_model(KnownModel(says=says(target, 0.0)), data, horizons=(1,))
    assert_allclose(report.nll, -stats.norm.logpdf(0.0, 0.0, 1e-4 * change.std()), rtol=1e-10)


# Calibration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0], ids="stated deviation is {} times the true one".format)
def test_coverage_has_its_closed_form(factor):
    """P(|y - m| < z s) with y ~ N(m, sigma), s = factor * sigma; within five binomial standard errors."""
    generator = np.random.default_rng(3)
    count = 4000
    mean, sigma = generator.normal(size=(count, 3)), generator.uniform(0.5, 2.0, (count, 3))
    target = mean + sigma * generator.normal(size=(count, 3))
    model = KnownModel(PLANE, says=says(mean[None], factor * sigma[None]))
    report = evaluate_model(model, targets_of(target[:, :2], target[:, 2]), horizons=(1,), levels=GRID)
    z = stats.norm.ppf(0.5 + np.array(GRID) / 2)
    expected = 2 * stats.norm.cdf(factor * z) - 1
    error = np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(np.array(report.column_coverage) - expected) < 5 * error).all()
    assert (np.abs(np.array(report.coverage) - expected) < 5 * error / math.sqrt(3)).all()
    assert_allclose(report.coverage, np.mean(report.column_coverage, 0), rtol=1e-12)
    assert_allclose(report.calibration_error, np.abs(expected - GRID).mean(), atol=5 * error.max() / math.sqrt(3))
    assert (report.calibration_error < 0.02) == (factor == 1)


def test_a_mixture_is_calibrated_if_the_targets_come_from_it():
    """Two far components: the central interval of 30% lies in the gap for a single Gaussian of the same moments."""
    generator = np.random.default_rng(4)
    count = 6000
    member = generator.integers(2, size=count)
    target = np.where(member, 5.0, -5.0)[:, None] + generator.normal(size=(count, 1))
    data = targets_of(target, np.zeros(count))
    mean = np.zeros((2, count, 2))
    mean[0, :, 0], mean[1, :, 0] = -5.0, 5.0
    mixture = evaluate_model(KnownModel(says=says(mean, 1.0)), data, horizons=(1,))
    assert mixture.calibration_error < 0.015
    single = evaluate_model(KnownModel(says=says(np.zeros((1, count, 2)), math.sqrt(26))), data, horizons=(1,))
    assert single.calibration_error > 0.1
    assert mixture.nll < single.nll - 0.5


def test_certainty_is_calibrated_if_it_is_right_and_not_at_all_if_it_is_wrong():
    change = np.random.default_rng(5).normal(size=(200, 1))
    data = targets_of(change, np.ones(200))
    right = np.column_stack((change, np.ones(200)))[None]
    report = evaluate_model(KnownModel(says=says(right, 0.0)), data, horizons=(1,), levels=GRID)
    assert_allclose(report.coverage, GRID, atol=1e-6)
    assert report.calibration_error < 1e-6
    wrong = evaluate_model(KnownModel(says=says(right + 0.01, 0.0)), data, horizons=(1,), levels=GRID)
    assert_array_equal(wrong.coverage, 0)
    assert_allclose(wrong.calibration_error, 0.5)


def test_columns_without_spread_are_not_calibrated():
    data = targets_of(np.random.default_rng(6).normal(size=(50, 2)) * [1, 0], np.ones(50))
    report = evaluate_model(KnownModel(PLANE, says=says(np.zeros((1, 50, 3)), 1.0)), data, horizons=(1,))
    assert report.coverage == report.column_coverage[0]
    assert np.isnan(report.column_coverage[1:]).all()


def test_the_exact_model_of_a_noisy_task_is_calibrated():
    env = gym.make_vec("mbrl/Drift-v0", num_envs=400)
    observation, _ = env.reset(seed=0)
    action = np.zeros((400, 1), np.float32)
    following, reward, *_ = env.step(action)
    data = transitions(observation, action, reward, following)._replace(episode=np.arange(400))
    report = evaluate_model(ExactModel(gym.make("mbrl/Drift-v0").unwrapped.task), data, horizons=(1, 2))
    assert report.calibration_error < 0.04
    assert report.horizons[0].error > 0
    assert report.horizons[1].windows == 0


def test_calibration_of_choices_by_hand():
    """Bins of a fifteenth: (0.600, 0.667] holds two rows, (0.667, 0.733] one, (0.933, 1] two."""
    chance = torch.tensor([0.61, 0.68, 0.66, 0.95, 1.0])
    correct = torch.tensor([True, True, False, True, False])
    expected = (abs(1 - (0.61 + 0.66)) + abs(1 - 0.68) + abs(1 - (0.95 + 1.0))) / 5
    assert_allclose(classification_error(chance, correct), expected, rtol=1e-6)


@pytest.mark.parametrize("sharpened", [False, True])
def test_calibration_of_choices_that_are_drawn_as_stated(sharpened):
    generator = np.random.default_rng(7)
    count = 20_000
    chance = generator.dirichlet(np.ones(4), count)
    after = 2 + (chance.cumsum(1) < generator.random((count, 1))).sum(1)
    stated = chance**3 / (chance**3).sum(1, keepdims=True) if sharpened else chance
    mean = np.concatenate((stated, np.zeros((count, 1))), 1)[None]
    model = KnownModel(CHOICES, says=says(mean, 0.0), move=lambda state, action: state)
    report = evaluate_model(model, choice_data(np.full(count, 2), after), horizons=(1,))
    if sharpened:
        confident = stated.max(1).mean() - chance[np.arange(count), stated.argmax(1)].mean()
        assert_allclose(report.classification_error, confident, atol=0.02)
        assert confident > 0.15
    else:
        assert report.classification_error < 0.02


# Reward and termination -----------------------------------------------------------------------------------------


def test_reward_errors_by_hand():
    reward = np.array([1.0, 2.0, 3.0, 6.0])
    expected = np.zeros((2, 4, 2))
    expected[0, :, 1], expected[1, :, 1] = [0.0, 2.0, 2.0, 5.0], [2.0, 4.0, 2.0, 5.0]  # on average 1, 3, 2, 5
    data = targets_of(np.arange(4.0)[:, None], reward)
    report = evaluate_model(KnownModel(says=says(expected, 1.0)), data, horizons=(1,))
    assert_allclose(report.reward_rmse, math.sqrt(3 / 4))
    assert_allclose(report.baseline_reward_rmse, reward.std())


def test_termination_errors_by_hand():
    """Of four ends in ten steps one is missed, of six other steps two are taken for ends: the threshold is 0.4."""
    ended = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
    chance = [0.9, 0.6, 0.41, 0.39, 0.7, 0.99, 0.0, 0.2, 0.3, 0.39]
    data = targets_of(np.arange(10.0)[:, None], np.zeros(10))._replace(terminated=ended)
    report = evaluate_model(KnownModel(says=says(np.zeros((1, 10, 2)), 1.0, chance)), data, horizons=(1,))
    assert report.terminations == 4
    assert report.missed_terminations == 1 / 4
    assert report.false_terminations == 2 / 6
    assert_allclose(report.balanced_accuracy, (3 / 4 + 4 / 6) / 2)
    never = evaluate_model(KnownModel(says=says(np.zeros((1, 10, 2)), 1.0)), data, horizons=(1,))
    assert never.balanced_accuracy == 0.5
    without = data._replace(terminated=np.zeros(10, bool))
    report = evaluate_model(KnownModel(says=says(np.zeros((1, 10, 2)), 1.0, chance)), without, horizons=(1,))
    assert math.isnan(report.balanced_accuracy)
    assert report.false_terminations == 0.4


# Models, reports and refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [PLANE, CHOICES, MIXED], ids=["Box", "Discrete", "Dict"])
def test_learned_models_of_any_space_are_judged(space):
    data = wild(UNIT, 300, terminal=True, observation_space=space)
    model = GaussianEnsemble(space, UNIT, **SMALL)
    model.fit(data)
    before = (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), model.generator.get_state().tolist())
    report = evaluate_model(model, data, horizons=(1, 2))
    after = (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), model.generator.get_state().tolist())
    assert before == after
    figures = report.as_dict()
    assert all(isinstance(value, float) and math.isfinite(value) for value in figures.values())
    assert ("error_1" in figures) == (space != CHOICES)
    assert ("misclassified_1" in figures) == ("classification_error" in figures) == (space != PLANE)
    assert figures["nll"] < figures["baseline_nll"]
    assert report.horizons[0].error < report.horizons[0].baseline or space == CHOICES
    assert report.balanced_accuracy > 0.5


def test_exact_functions_within_a_learned_model_are_judged_as_exact():
    data = walks()
    data = data._replace(reward=data.action[:, 0])
    model = GaussianEnsemble(PLANE, UNIT, dynamics_fn=lambda x, a: x + a, reward_fn=lambda x, a, y: a[..., 0], **SMALL)
    model.fit(data)
    report = evaluate_model(model, data, horizons=(1, 20))
    assert all(at.error == 0 for at in report.horizons)
    assert report.calibration_error < 0.01
    assert report.reward_rmse < 1e-6


def test_the_table_shows_what_is_defined():
    data = targets_of(np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.array([0.0, 0.0, 2.0, 2.0]))
    data = data._replace(observation=np.array([[0.0], [1.0], [0.0], [1.0]]))
    data = data._replace(next_observation=np.array([[1.0], [0.0], [1.0], [0.0]]))
    report = evaluate_model(KnownModel(says=says(np.zeros((1, 4, 2)), 1.0)), data, horizons=(1, 5), levels=(0.5, 0.9))
    assert report.table().splitlines() == [
        "| steps ahead | windows | error | nothing changes | ratio |",
        "|---|---|---|---|---|",
        "| 1 | 4 | 4 | 4 | 1 |",
        "| 5 | 0 | - | - | - |",
        "",
        "| one step ahead | model | baseline |",
        "|---|---|---|",
        f"| negative log likelihood [nats] | {report.nll:.3g} | {report.baseline_nll:.3g} |",
        f"| calibration error | {report.calibration_error:.3g} | - |",
        f"| coverage of 90% intervals | {report.coverage[1]:.3g} | - |",
        "| RMSE of the reward | 1.41 | 1 |",
    ]
    assert_allclose(report.coverage, (0.25, 0.75), atol=1e-3)  # changes lie at 1 sigma, rewards at 0 and 2
    assert isinstance(report, ModelReport)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"horizons": ()}, "horizons"),
        ({"horizons": (1, 0)}, "horizons.*at least 1.*0"),
        ({"starts": 0}, "starts.*at least 1.*0"),
        ({"levels": (0.5, 1.0)}, "levels.*between 0 and 1.*1.0"),
        ({"levels": ()}, "levels"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(InvalidSettingError, match=message):
        evaluate_model(KnownModel(PLANE), walks(), **wrong)


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(InvalidSettingError, match="at least 1 row"):
        evaluate_model(KnownModel(PLANE), walks().rows(slice(0)))
    with pytest.raises(InvalidSettingError, match="fit"):
        evaluate_model(GaussianEnsemble(PLANE, UNIT), walks())


def test_windows_with_missing_steps_are_left_out():
    env = RecordTransitions(gym.make("mbrl/Arm-v0"))
    env.action_space.seed(0)
    for _ in range(8):
        env.reset(seed=0)
        for _ in range(50):
            env.step(env.action_space.sample())
    data, task = env.transitions(), env.unwrapped.task
    kept = np.sort(np.random.default_rng(0).choice(len(data.reward), 2 * len(data.reward) // 3, replace=False))
    report = evaluate_model(ExactModel(task), data.rows(kept), horizons=(1, 2, 3))
    assert all(at.windows > 0 and at.error < 1e-9 for at in report.horizons)
    assert report.horizons[2].windows < len(kept) / 2
