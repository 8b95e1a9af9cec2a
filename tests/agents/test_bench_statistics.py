"""Statistics of benchmarks: hand-made data, published examples, scipy, and plain resampling as an oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mbrl_gym.agents.benchmark.statistics import (
    Reached,
    first_reached,
    interquartile_mean,
    median_time,
    performance_profile,
    probability_of_improvement,
    ratio_of_times,
)
from mbrl_gym.errors import InvalidSettingError


def reached(*times, censored=()):
    return [*(Reached(float(t), False) for t in times), *(Reached(float(t), True) for t in censored)]


# Interquartile means --------------------------------------------------------------------------------------------------


def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end():
    assert interquartile_mean({"a": np.array([-1000, 2, 3, 4, 5, 6, 7, 1000.0])}).value == 4.5
    assert interquartile_mean({"a": np.array([-1000, 2, 3.0, 4]), "b": np.array([1000, 5, 6, 7])}).value == 4.5
    assert interquartile_mean({"a": np.array([1.0, 2, 6])}).value == 3.0  # a quarter of three runs is none


def test_leading_axes_are_treated_one_by_one():
    scores = np.random.default_rng(0).normal(size=(3, 5))
    together = interquartile_mean({"a": scores})
    for row in range(3):
        alone = interquartile_mean({"a": scores[row]})
        assert together.value[row] == pytest.approx(alone.value)
        assert together.low[row] < together.value[row] < together.high[row]


def test_runs_are_resampled_within_their_task():
    """Without strata, resamples would hold one task more often than the other, and the interval were no point."""
    found = interquartile_mean({"a": np.zeros(5), "b": np.ones(5)})
    assert found == (0.5, 0.5, 0.5)


def test_intervals_are_those_of_plain_resampling():
    generator = np.random.default_rng(1)
    scores = {"a": generator.normal(0, 1, 6), "b": generator.normal(3, 2, 4)}
    values = []
    for _ in range(20_000):
        drawn = [generator.choice(each, len(each)) for each in scores.values()]
        ordered = np.sort(np.concatenate(drawn))
        values.append(ordered[2:8].mean())  # of ten
    found = interquartile_mean(scores, resamples=20_000)
    assert (found.low, found.high) == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.06)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        found = interquartile_mean({"a": generator.normal(size=20)}, resamples=300)
        hits += found.low <= 0 <= found.high
    assert 0.85 < hits / 200 <= 0.99  # percentile intervals of few runs are a little short


def test_one_run_has_no_interval():
    found = interquartile_mean({"a": np.array([3.0]), "b": np.array([1.0, 2.0])})
    assert found.value == 2.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_the_same_seed_gives_the_same_interval():
    scores = {"a": np.random.default_rng(3).normal(size=7)}
    assert interquartile_mean(scores, seed=4) == interquartile_mean(scores, seed=4)
    assert interquartile_mean(scores, seed=4) != interquartile_mean(scores, seed=5)


def test_no_scores_are_refused():
    with pytest.raises(InvalidSettingError, match="at least one task"):
        interquartile_mean({})


# Comparisons ----------------------------------------------------------------------------------------------------------


def test_probability_of_improvement_by_hand():
    # Of nine pairs, 1-0, 2-0, 3-0, 3-2 and 3-2 are wins, and 2-2 and 2-2 ties.
    found = probability_of_improvement({"a": np.array([1, 2, 3])}, {"a": np.array([0, 2, 2])})
    assert found.value == pytest.approx((5 + 2 / 2) / 9)
    both = probability_of_improvement(
        {"a": np.array([1, 2, 3]), "b": np.array([9, 9]), "only ours": np.array([1])},
        {"a": np.array([0, 2, 2]), "b": np.array([1]), "only theirs": np.array([7])},
    )
    assert both.value == pytest.approx((6 / 9 + 1) / 2)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
)
def test_probability_of_improvement_is_the_statistic_of_mann_and_whitney(ours, others):
    found = probability_of_improvement({"a": np.array(ours)}, {"a": np.array(others)}, resamples=10)
    statistic = stats.mannwhitneyu(ours, others, method="asymptotic").statistic
    assert found.value == pytest.approx(statistic / (len(ours) * len(others)))
    reverse = probability_of_improvement({"a": np.array(others)}, {"a": np.array(ours)}, resamples=10)
    assert found.value + reverse.value == pytest.approx(1)


def test_agents_without_a_common_task_are_not_compared():
    with pytest.raises(InvalidSettingError, match="share no task: a and b"):
        probability_of_improvement({"a": np.ones(2)}, {"b": np.ones(2)})


def test_a_performance_profile_by_hand():
    scores = {"a": np.array([0.1, 0.5, 0.9, 1.0]), "b": np.array([0.5, 0.7])}
    found = performance_profile(scores, np.array([0.0, 0.5, 0.8, 1.0]))
    assert found.value == pytest.approx([1, (2 / 4 + 1 / 2) / 2, (2 / 4 + 0) / 2, 0])  # more than, not at least
    assert found.low[0] == found.high[0] == 1
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()
    assert (np.diff(found.value) <= 0).all()


# Times ----------------------------------------------------------------------------------------------------------------


def test_when_a_score_was_first_reached():
    steps, scores = np.array([0, 10, 20, 30]), np.array([0.1, 0.95, 0.5, 0.92])
    assert first_reached(steps, scores, 0.9) == (10, False)
    assert first_reached(steps, scores, 0.95) == (10, False)
    assert first_reached(steps, scores, 0.96) == (30, True)


GEHAN = reached(  # weeks of remission with 6-mercaptopurine (Gehan 1965; Cox and Oakes 1984, table 1.1)
    *(6, 6, 6, 7, 10, 13, 16, 22, 23), censored=(6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)
)
CONTROL = reached(1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)  # with a placebo


def test_the_published_medians_of_gehans_patients():
    treated, control = median_time(GEHAN), median_time(CONTROL)
    assert (treated.median, treated.reached, treated.runs) == (23, 9, 21)
    assert (control.median, control.reached, control.runs) == (8, 21, 21)
    assert control.low < 8 < control.high <= 23
    assert treated.low > control.low


def test_censored_runs_are_neither_dropped_nor_taken_for_finished():
    found = median_time(reached(100, censored=(300, 300)))
    assert math.isinf(found.median)
    assert (found.reached, found.runs, found.at_least) == (1, 3, 300)
    assert math.isinf(found.high)
    assert median_time(reached(100, 200, censored=(300,))).median == 200  # not 100 or 150, nor 200 of 300 as finished
    assert median_time(reached(100, 200, 250)).median == 200
    never = median_time(reached(censored=(50, 80)))
    assert math.isinf(never.median)
    assert never.at_least == 50


def test_one_run_has_a_time_without_an_interval():
    found = median_time(reached(7))
    assert found.median == 7
    assert math.isnan(found.low)


def test_ratios_of_times():
    ratio, bound = ratio_of_times(reached(1000, 1000, 1000), reached(10, 10, 10))
    assert (ratio, bound) == ((100, 100, 100), False)
    ratio, bound = ratio_of_times(reached(censored=(1000, 1000, 1000)), reached(5, 10, 10))
    assert (ratio.value, ratio.low, bound) == (100, 100, True)
    assert ratio.high == 200
    ratio, bound = ratio_of_times(reached(1000, 2000, 3000), reached(10, censored=(50, 50)))
    assert math.isnan(ratio.value)  # ours did not reach it: there is nothing to compare
    ratio, bound = ratio_of_times(reached(30), reached(10))
    assert (ratio.value, bound) == (3, False)
    assert math.isnan(ratio.low)
