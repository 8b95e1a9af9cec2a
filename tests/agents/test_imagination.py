"""Branched roll-outs and minibatches of real and imagined transitions, against hand-made models."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal

from mbrl_gym.agents.imagination import Imagination, RolloutSchedule
from mbrl_gym.agents.mixed_replay import ImaginedBuffer, ImaginedRows, MixedReplayBuffer
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import AnalyticModel, ExactModel, GaussianEnsemble, LinearModel, Transitions

LINE = spaces.Box(-np.inf, np.inf, (1,), np.float32)
UNIT = spaces.Box(-2.0, 2.0, (1,), np.float32)


class Walk(AnalyticModel):
    """x' = x + a, reward x'; ends beyond 10; members disagree by |x|; predictions beyond 100 are not finite."""

    def __init__(self):
        super().__init__(
            LINE,
            UNIT,
            dynamics_fn=lambda x, a: torch.where(x + a > 100, torch.nan, x + a),
            reward_fn=lambda before, a, after: after[..., 0],
            termination_fn=lambda after: after[..., 0] > 10,
        )

    def uncertainty(self, observation, action):
        return observation[:, 0].abs()


def ones(observation):
    return torch.ones(len(observation), 1)


def imagine(starts, length, model=None, **settings):
    """Return what `Walk` imagines from starts with steps of 1, one `ImaginedRows` a step, and the report."""
    kept = []
    imagination = Imagination(ones, lambda action: action, **settings)
    observation = torch.as_tensor(starts, dtype=torch.float32)[:, None]
    report = imagination(model or Walk(), observation, length, kept.append, torch.Generator().manual_seed(0))
    return kept, report


def test_a_branch_is_one_path_of_the_model():
    kept, report = imagine([0.0, 5.0], 3)
    before = [sorted(rows.observation[:, 0].tolist()) for rows in kept]
    after = [sorted(rows.next_observation[:, 0].tolist()) for rows in kept]
    assert before == [[0, 5], [1, 6], [2, 7]]
    assert after == [[1, 6], [2, 7], [3, 8]]
    for rows in kept:
        assert_array_equal(rows.next_observation, rows.observation + rows.action)
        assert_array_equal(rows.reward, rows.next_observation[:, 0])
    assert (report.branches, report.length, report.rows) == (2, 3, 6)
    assert report.total == ((1 + 2 + 3) + (6 + 7 + 8)) / 2
    assert report.reward == 27 / 6
    assert math.isnan(report.disagreement)


def test_the_end_of_a_branch_is_no_termination_but_the_end_of_an_episode_is():
    kept, report = imagine([0.0, 9.5], 2)
    assert sorted(kept[0].terminated.tolist()) == [False, True]
    assert kept[0].terminated[kept[0].next_observation[:, 0] == 10.5].tolist() == [True]
    assert kept[1].observation[:, 0].tolist() == [1.0]  # nothing comes after the end of an episode
    assert kept[1].terminated.tolist() == [False]
    assert (report.terminated, report.stopped, report.rows) == (0.5, 0.0, 3)


def test_branches_stop_where_members_disagree():
    kept, report = imagine([0.0, 1.0, -5.0], 4, max_disagreement=2.5)
    assert [sorted(rows.observation[:, 0].tolist()) for rows in kept] == [[0, 1], [1, 2], [2], []]
    assert report.stopped == 1.0
    assert report.rows == 5
    # Looked at: 0, 1, 5; then 1, 2; then 2, 3; then 3.
    assert report.disagreement == pytest.approx((6 + 3 + 5 + 3) / 8)
    kept, report = imagine([0.0, 1.0], 2, max_disagreement=2.5)
    assert (report.stopped, report.rows) == (0.0, 4)


def test_disagreement_takes_from_rewards_but_not_from_those_that_are_told():
    (rows,), report = imagine([1.0, 4.0], 1, penalty=0.5)
    order = rows.observation[:, 0].argsort()
    assert_allclose(rows.reward[order], [2 - 0.5 * 1, 5 - 0.5 * 4])
    assert report.reward == 3.5
    assert report.disagreement == 2.5


def test_predictions_that_are_not_finite_are_dropped():
    kept, report = imagine([-200.0, 99.5], 2)
    assert kept[0].observation[:, 0].tolist() == [-200.0]
    assert (report.stopped, report.rows) == (0.5, 2)
    _, report = imagine([99.5], 2)
    assert (report.stopped, report.rows) == (1.0, 0)
    assert math.isnan(report.reward)


def fitted_ensemble(members, elites):
    """Return an ensemble whose members predict x + 1, x + 2, ... exactly, whatever the action."""
    model = GaussianEnsemble(LINE, UNIT, members=members, elites=elites, hidden=[4], max_epochs=1)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20, 1)).astype(np.float32)
    never = np.zeros(20, bool)
    model.fit(Transitions(x, x.clip(-2, 2), x[:, 0], x, never, never, np.arange(20)))
    with torch.no_grad():
        for part in (*model.weights, *model.biases, model.linear):
            part.zero_()
        model.target_mean.zero_()
        model.target_scale.fill_(1.0)
        model.biases[-1][:, 0, 0] = torch.arange(1.0, members + 1)
        model.max_log_variance.fill_(-30.0)
        model.min_log_variance.fill_(-40.0)
    model._forget()
    return model


@pytest.mark.parametrize("count", [1, 2, 3, 7, 60])
def test_every_step_runs_through_a_member_drawn_anew_and_all_serve_equally(count):
    model = fitted_ensemble(members=4, elites=3)
    elites = [float(member + 1) for member in model.elite_members]
    kept, _ = imagine([0.0] * count, 6, model)
    moves = torch.stack([(rows.next_observation - rows.observation)[:, 0].sort().values for rows in kept]).round()
    for step in moves:
        served = [int((step == elite).sum()) for elite in elites]
        assert sum(served) == count
        assert max(served) <= -(-count // 3)
    if count == 60:
        paths = kept[-1].next_observation[:, 0].round()
        assert len(paths.unique()) > 3  # members that stayed would leave three paths


@pytest.mark.parametrize("env_id", ["mbrl/Drone-v0", "mbrl/ArmTorque-v0", "mbrl/CartPoleContinuous-v0"])
def test_what_the_exact_model_imagines_is_what_happens(env_id):
    env = gym.make(env_id).unwrapped
    model, generator = ExactModel(env.task), torch.Generator().manual_seed(1)
    low, high = (torch.as_tensor(end) for end in (env.action_space.low, env.action_space.high))
    kept = []
    imagination = Imagination(
        act=lambda x: 2 * torch.rand(len(x), len(low), generator=generator) - 1,
        to_model=lambda action: low + 0.5 * (action + 1) * (high - low),
    )
    vector = gym.make_vec(env_id, num_envs=5)
    starts, _ = vector.reset(seed=0)
    imagination(model, torch.as_tensor(starts), 4, kept.append, generator)
    assert sum(len(rows.reward) for rows in kept) >= 10
    for rows in kept:
        for before, action, after, ends, reward in zip(*(part.numpy() for part in rows), strict=True):
            env.reset(options={"state": env.task.state(before)})
            actual, paid, terminated, _, _ = env.step(imagination.to_model(torch.as_tensor(action)).numpy())
            assert_allclose(after, actual, atol=2e-5)
            assert reward == pytest.approx(paid, abs=2e-5)
            assert bool(ends) == terminated


@pytest.mark.parametrize(
    ("given", "lengths"),
    [
        (3, {0: 3, 1000: 3}),
        (
            (1, 15, 20_000, 100_000),
            {0: 1, 20_000: 1, 25_714: 1, 25_715: 2, 60_000: 8, 99_999: 14, 100_000: 15, 10**6: 15},
        ),
        ([2, 2, 0, 10], {0: 2, 5: 2, 20: 2}),
    ],
)
def test_branches_grow_as_asked(given, lengths):
    schedule = RolloutSchedule.of(given)
    assert {step: schedule(step) for step in lengths} == lengths


@pytest.mark.parametrize("given", [0, (1, 2), (3, 2, 0, 10), (1, 2, 10, 10), (1, 2, -1, 5), (1.0, 2, 0, 1), "many"])
def test_lengths_that_make_no_sense_are_refused(given):
    with pytest.raises(InvalidSettingError, match="rollout_length must be a whole number"):
        RolloutSchedule.of(given)


def rows(values):
    column = torch.as_tensor(values, dtype=torch.float32)
    return ImaginedRows(column[:, None], column[:, None] / 100, column[:, None] + 1, column > 5, -column)


def drawn(buffer, count=4000):
    return set(buffer.sample(count).observation[:, 0].tolist())


def test_the_last_refreshes_are_kept():
    buffer = ImaginedBuffer(6, 2, 1, 1)
    buffer.refresh()
    buffer.add(rows([1, 2, 3]))
    buffer.add(rows([4]))
    assert len(buffer) == 4
    assert drawn(buffer) == {1, 2, 3, 4}
    buffer.refresh()
    buffer.add(rows([5]))
    assert drawn(buffer) == {1, 2, 3, 4, 5}
    buffer.refresh()
    assert drawn(buffer) == {5}
    buffer.add(rows([6, 7, 8, 9, 10, 11]))
    assert drawn(buffer) == {5, 6, 7, 8, 9, 10, 11}
    buffer.refresh()
    buffer.refresh()
    assert len(buffer) == 0


def test_rows_stay_together_and_are_drawn_uniformly():
    buffer = ImaginedBuffer(10, 3, 1, 1)
    for first in (0, 3):
        buffer.refresh()
        buffer.add(rows(range(first, first + 3)))
    sample = buffer.sample(30_000)
    x = sample.observation
    for part, expected in zip(sample, (x, x / 100, x + 1, (x > 5).float(), -x), strict=True):
        assert_array_equal(part, expected)
    counts = np.bincount(x[:, 0].long(), minlength=6)
    assert_allclose(counts, 5000, atol=6 * math.sqrt(30_000 * 5 / 36))


def mixed(real_ratio, real=20, **settings):
    buffer = MixedReplayBuffer(50, LINE, UNIT, "cpu", real_ratio=real_ratio, capacity=8, retain=1, **settings)
    for number in range(real):
        row = np.array([[-1.0 - number]], np.float32)
        buffer.add(row, row - 1, row / 1000, row[0], np.array([False]), [{}])
    return buffer


@pytest.mark.parametrize(
    ("ratio", "batch", "real"),
    [(0.05, 256, 13), (0.05, 100, 5), (0.05, 8, 0), (0.5, 5, 3), (0.0, 32, 0), (1.0, 32, 32), (0.9, 32, 29)],
)
def test_minibatches_are_mixed_as_asked(ratio, batch, real):
    buffer = mixed(ratio)
    assert (buffer.sample(batch).observations < 0).all()  # as long as nothing was imagined
    buffer.imagined.refresh()
    buffer.imagined.add(rows([3, 4, 8]))
    sample = buffer.sample(batch)
    assert buffer.real_rows(batch) == real
    assert (sample.observations[:real] < 0).all()
    assert (sample.observations[real:] > 0).all()
    assert_array_equal(sample.next_observations[real:], sample.observations[real:] + 1)
    assert_array_equal(sample.dones[real:], (sample.observations[real:] > 5).float())
    assert [part.shape for part in sample[:5]] == [(batch, 1)] * 5


def test_mixed_minibatches_have_the_types_of_real_ones():
    wide = spaces.Box(-9, 9, (2,), np.float64)
    buffer = MixedReplayBuffer(9, wide, spaces.Discrete(3), "cpu", real_ratio=0.5, capacity=4, retain=1)
    buffer.add(np.ones((1, 2)), np.ones((1, 2)), np.array([2]), np.ones(1), np.array([False]), [{}])
    real = buffer.sample(4)
    buffer.imagined.refresh()
    two = torch.tensor([[1.0, 1.0]])
    buffer.imagined.add(ImaginedRows(two, torch.tensor([[1]]), two, torch.tensor([True]), torch.tensor([2.0])))
    sample = buffer.sample(4)
    assert [part.dtype for part in sample[:5]] == [part.dtype for part in real[:5]]
    assert sample.actions[:, 0].tolist() == [2, 2, 1, 1]


def test_a_linear_model_deals_out_no_members():
    model = LinearModel(LINE, UNIT)
    x = np.random.default_rng(0).normal(size=(30, 1)).astype(np.float32)
    never = np.zeros(30, bool)
    model.fit(Transitions(x, x.clip(-2, 2), x[:, 0], x + 1, never, never, np.arange(30)))
    kept, report = imagine(x[:5, 0], 2, model)
    assert report.rows == 10
    assert_allclose(kept[0].next_observation, kept[0].observation + 1, atol=0.01)


def test_steps_are_drawn_from_the_models_distribution_or_are_its_mean():
    model, generator = LinearModel(LINE, UNIT), np.random.default_rng(0)
    x, action, noise = (generator.normal(size=(500, 1)).astype(np.float32) for _ in range(3))
    never = np.zeros(500, bool)
    model.fit(Transitions(x, action.clip(-2, 2), x[:, 0], x + 1 + 0.5 * noise, never, never, np.arange(500)))
    starts = np.zeros(2_000)
    drawn, mean = (imagine(starts, 1, model, noise=noisy)[0][0].next_observation for noisy in (True, False))
    assert mean.std() < 1e-6
    assert drawn.std() == pytest.approx(0.5, rel=0.1)
    assert drawn.mean() == pytest.approx(float(mean[0]), abs=0.05)
