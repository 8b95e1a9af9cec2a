"""Counts and Dirichlet posteriors by hand, by their moments, and on Gymnasium's own tables."""

import copy
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import CHOICES, LINE, MIXED, PAIRS, UNIT, transitions, wild
from numpy.testing import assert_allclose
from scipy import stats
from torch.testing import assert_close

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import TabularModel, Transitions, WorldModel, draw
from mbrl_gym.models.spaces import to_rows
from mbrl_gym.noise import Noise

THREE, TWO = spaces.Discrete(3), spaces.Discrete(2, start=-1)


def steps(rows):
    """Return transitions of (s, a, s', reward, terminated)."""
    before, action, after, reward, ends = (np.array(column) for column in zip(*rows, strict=True))
    count = len(rows)
    return Transitions(before, action, reward, after, ends.astype(bool), np.zeros(count, bool), np.zeros(count, int))


def by_hand():
    """Six steps of (0, -1): to 1, 1, 1 and 2; one of (1, 0) that ends in 2, and one of (0, 0)."""
    return steps(
        [
            (0, -1, 1, 1.0, False),
            (0, -1, 1, 2.0, True),
            (0, -1, 2, 8.0, False),
            (0, -1, 1, 3.0, False),
            (1, 0, 2, 10.0, True),
            (0, 0, 0, -6.0, False),
        ]
    )


def fitted(data, observation_space=THREE, action_space=TWO, **settings):
    model = TabularModel(observation_space, action_space, **settings)
    model.fit(data)
    return model


def at(model, observation, action, u, v=0.5):
    """Predict one step of one row for each of the uniform numbers u."""
    u = torch.as_tensor(u, dtype=torch.float64).reshape(-1, 1, 1)
    state = model.start(torch.as_tensor([observation]), len(u))
    noise = Noise(u[..., :0], torch.cat((u, torch.full_like(u, v)), -1))
    return model.step(state, torch.as_tensor([action]), noise)


def grid(count):
    return (torch.arange(count) + 0.5) / count


def leading_to(model, goal):
    """Return the model with an exact next observation."""
    fixed = copy.copy(model)
    fixed.dynamics_fn = lambda observation, action: goal
    return fixed


def walk(env, count, seed=0):
    """Act at random; return the transitions."""
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    rows = []
    for _ in range(count):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, reward, following, terminated, truncated, 0))
        observation = env.reset()[0] if terminated or truncated else following
    before, action, reward, after, *rest = zip(*rows, strict=True)
    if isinstance(env.observation_space, spaces.Tuple):
        before, after = (
            to_rows(env.observation_space, tuple(map(np.array, zip(*part, strict=True)))) for part in (before, after)
        )
    return Transitions(np.array(before), np.array(action), np.array(reward), np.array(after), *map(np.array, rest))


# By hand ------------------------------------------------------------------------------------------------------------


def test_the_posterior_by_hand():
    model = fitted(by_hand(), prior=2.0)
    third = 2 / 3
    observation, action = torch.tensor([0, 1, 2]), torch.tensor([-1, 0, 0])
    expected = [
        [third / 6, (3 + third) / 6, (1 + third) / 6],  # four visits and the prior's two
        [third / 3, third / 3, (1 + third) / 3],
        [1 / 3, 1 / 3, 1 / 3],
    ]
    assert_allclose(model.expected(observation, action), expected, rtol=1e-12)
    variances = [
        np.trace(stats.dirichlet(alpha).cov()) for alpha in 2 / 3 + np.array([[0, 3, 1], [0, 0, 1], [0, 0, 0]])
    ]
    assert_allclose(model.uncertainty(observation, action), np.sqrt(variances), rtol=1e-6)


def test_the_default_prior_is_one_visit_spread_over_all_observations():
    expected = fitted(by_hand()).expected(torch.tensor([0]), torch.tensor([-1]))
    assert_allclose(expected, [[1 / 15, (3 + 1 / 3) / 5, (1 + 1 / 3) / 5]], rtol=1e-12)


def test_rewards_and_ends_by_hand():
    """Means for (s, a, s'); where it never occurred, the mean for (s, a), and how often entering s' ended episodes."""
    model = fitted(by_hand(), dynamics_fn=lambda observation, action: goal.expand_as(observation))
    cases = {
        (0, -1, 1): (2.0, 1 / 3),
        (0, -1, 2): (8.0, 0.0),
        (0, -1, 0): (3.5, 0.0),  # nothing ever ended in 0
        (1, 0, 2): (10.0, 1.0),
        (0, 0, 2): (-6.0, 0.5),  # one of the two steps into 2 ended
        (2, 0, 1): (3.0, 1 / 3),  # a pair without a visit: the mean of all
    }
    for (before, action, after), (reward, end) in cases.items():
        goal = torch.tensor(after)
        outcome = model.outcome(torch.tensor([before]), torch.tensor([action]))
        assert_allclose(outcome.mean[0, 0], [*np.eye(3)[after], reward], rtol=1e-6)
        assert_allclose(outcome.terminated[0, 0], end, rtol=1e-6)
        draws = at(model, before, action, [0.5], v=end - 1e-6), at(model, before, action, [0.5], v=end + 1e-6)
        assert [bool(each.terminated) for each in draws] == [True, False]


def test_the_moments_of_a_step_by_hand():
    model = fitted(by_hand(), prior=2.0)
    outcome = model.outcome(torch.tensor([0, 2]), torch.tensor([-1, 0]))
    p = np.array([2 / 18, 11 / 18, 5 / 18])
    # Rewards 1, 2, 3 into state 1; 8 into 2; the mean of them all into 0, with their mean square.
    reward, square = p @ [3.5, 2.0, 8.0], p @ [78 / 4, 14 / 3, 64.0]
    assert_allclose(outcome.mean[0, 0], [*p, reward], rtol=1e-6)
    assert_allclose(outcome.deviation[0, 0], [*np.sqrt(p * (1 - p)), np.sqrt(square - reward**2)], rtol=1e-6)
    assert_allclose(outcome.terminated[0, 0], p @ [0, 1 / 3, 0], rtol=1e-6)
    assert_allclose(outcome.mean[0, 1], [1 / 3, 1 / 3, 1 / 3, 3.0], rtol=1e-6)  # never visited: the mean of all
    assert_allclose(outcome.terminated[0, 1], (0 + 1 / 3 + 1 / 2) / 3, rtol=1e-6)


def test_certain_rewards_have_no_deviation():
    data = steps([(0, -1, 1, 0.1, False)] * 7)
    assert fitted(data).outcome(torch.tensor([0]), torch.tensor([-1])).deviation[0, 0, -1] == 0


def test_without_noise_the_most_frequent_follows_and_what_was_never_tried_changes_nothing():
    tie = steps([(2, -1, 2, 0.0, False), (2, -1, 1, 0.0, True)])
    data = Transitions(*(np.concatenate(parts) for parts in zip(by_hand(), tie, strict=True)))
    model = fitted(data)
    prediction = model.step(model.start(torch.tensor([0, 1, 2, 2])), torch.tensor([-1, 0, -1, 0]))
    assert prediction.observation.tolist() == [[1, 2, 1, 2]]
    assert prediction.terminated.tolist() == [[False, True, True, False]]


def test_the_report_holds_the_mean_negative_log_likelihood():
    report = TabularModel(THREE, TWO, prior=2.0).fit(by_hand())
    p = [11 / 18, 11 / 18, 5 / 18, 11 / 18, 5 / 9, 5 / 9]
    assert_allclose(report.loss, -np.log(p).mean())
    assert report.transitions == 6


# Sampling -----------------------------------------------------------------------------------------------------------


def test_draws_have_the_posteriors_frequencies():
    """On a grid of uniform numbers, each state gets its probability up to one cell for each of the pieces."""
    model = fitted(by_hand(), prior=2.0)
    for observation, action in ((0, -1), (1, 0), (2, 0)):
        drawn = at(model, observation, action, grid(20_000)).observation.flatten()
        frequencies = torch.bincount(drawn, minlength=3) / 20_000
        expected = model.expected(torch.tensor([observation]), torch.tensor([action]))[0]
        assert_allclose(frequencies, expected, atol=5 / 20_000)


def test_a_uniform_number_between_two_observations_draws_the_second():
    model = fitted(by_hand(), prior=2.0)  # of six: three for 1, one for 2, then two thirds for each
    drawn = at(model, 0, -1, [2.99 / 6, 3 / 6, 3.99 / 6, 4 / 6, 4.7 / 6, 5.4 / 6]).observation[:, 0]
    assert drawn.tolist() == [1, 2, 2, 0, 1, 2]


def test_extreme_uniform_numbers_draw_what_can_follow():
    model = fitted(by_hand(), prior=1e-12)
    almost_one = 1 - 2**-24
    assert at(model, 0, -1, [0.0, almost_one]).observation[:, 0].tolist() == [1, 2]
    assert at(model, 1, 0, [0.0, almost_one]).observation[:, 0].tolist() == [2, 2]
    assert at(model, 2, -1, [0.0, almost_one]).observation[:, 0].tolist() == [0, 2]


@pytest.mark.parametrize("over", ["all", "seen"])
def test_the_prior_is_over_all_observations_or_those_seen(over):
    space = spaces.Discrete(6, start=10)
    data = by_hand()
    data = data._replace(observation=data.observation + 12, next_observation=data.next_observation + 12)
    model = fitted(data, space, prior=3.0, prior_over=over)
    never = model.expected(torch.tensor([12]), torch.tensor([0]))[0]
    unseen = model.expected(torch.tensor([10]), torch.tensor([0]))[0]
    some = 3 / 6 if over == "all" else 3 / 3
    outside = some if over == "all" else 0.0
    assert_allclose(never * 4, [outside, outside, 1 + some, some, some, outside])
    assert_allclose(unseen * 3, [outside, outside, some, some, some, outside])
    drawn = set(at(model, 10, 0, grid(100)).observation.flatten().tolist())
    assert drawn == (set(range(10, 16)) if over == "all" else {12, 13, 14})


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_outcome_sums_over_the_expected_observations(data):
    """For MultiDiscrete spaces, marginals and moments equal sums over the whole distribution."""
    number = data.draw(st.integers(1, 40))
    over = data.draw(st.sampled_from(["all", "seen"]))
    record = wild(PAIRS, number, observation_space=PAIRS, terminal=True, seed=number)
    model = fitted(record, PAIRS, PAIRS, prior=0.7, prior_over=over)
    probe = wild(PAIRS, 10, observation_space=PAIRS, seed=99)
    observation, action = torch.as_tensor(probe.observation), torch.as_tensor(probe.action)
    p = model.expected(observation, action)
    assert_allclose(p.sum(-1), 1)
    every = np.array(list(itertools.product([1, 2, 3], [0, 1])))
    mean = reward = end = 0
    for state in range(6):
        outcome = leading_to(model, torch.as_tensor(every[state]).expand(10, 2)).outcome(observation, action)
        weight = p[:, state]
        mean = mean + weight[:, None] * outcome.mean[0, :, :-1]
        reward = reward + weight * outcome.mean[0, :, -1]
        end = end + weight * outcome.terminated[0]
    outcome = model.outcome(observation, action)
    assert_allclose(outcome.mean[0, :, :-1], mean, atol=1e-6)
    assert_allclose(outcome.mean[0, :, -1], reward, rtol=1e-5)
    assert_allclose(outcome.terminated[0], end, atol=1e-6)


def test_given_rewards_and_ends_are_averaged_over_what_can_follow():
    model = fitted(
        by_hand(),
        prior=2.0,
        reward_fn=lambda observation, action, following: (following - observation + 10 * action).float(),
        termination_fn=lambda following: following == 2,
    )
    observation, action = torch.tensor([0, 1]), torch.tensor([-1, 0])
    p = model.expected(observation, action).numpy()
    outcome = model.outcome(observation, action)
    rewards = np.array([[-10.0, -9.0, -8.0], [-1.0, 0.0, 1.0]])
    assert_allclose(outcome.mean[0, :, -1], (p * rewards).sum(1), rtol=1e-6)
    variance = (p * rewards**2).sum(1) - (p * rewards).sum(1) ** 2
    assert_allclose(outcome.deviation[0, :, -1], np.sqrt(variance), rtol=1e-5)
    assert_allclose(outcome.terminated[0], p[:, 2], rtol=1e-6)
    assert model.terminates


# Gymnasium's own tables ---------------------------------------------------------------------------------------------


def test_frozen_lake_is_recovered_within_the_error_of_its_counts():
    env = gym.make("FrozenLake-v1")
    data = walk(env, 20_000)
    model = fitted(data, env.observation_space, env.action_space)
    tested = 0
    for state, actions in env.unwrapped.P.items():
        for action, branches in actions.items():
            visits = int(((data.observation == state) & (data.action == action)).sum())
            if not visits:
                continue
            true = np.zeros(16)
            for probability, following, _, _ in branches:
                true[following] += probability
            found = model.expected(torch.tensor([state]), torch.tensor([action]))[0].numpy()
            bound = 5 * np.sqrt(true * (1 - true) / visits) + 1 / (visits + 1)  # five sigma, and the prior's visit
            assert (np.abs(found - true) <= bound).all()
            for _, following, reward, ends in branches:
                goal = torch.tensor([following])
                exact = leading_to(model, goal).outcome(torch.tensor([state]), torch.tensor([action]))
                assert exact.mean[0, 0, -1] == reward
                assert exact.terminated[0, 0] == ends
            tested += 1
    assert tested == 11 * 4  # holes and goal are never left
    assert found.max() > 0.3


@pytest.mark.parametrize("env_id", ["Taxi-v4", "CliffWalking-v1"])
def test_deterministic_tables_are_exact_where_they_were_visited(env_id):
    env = gym.make(env_id)
    data = walk(env, 20_000)
    model = fitted(data, env.observation_space, env.action_space)
    pairs = np.unique(np.stack([data.observation, data.action]), axis=1)
    assert pairs.shape[1] > (40 if "Cliff" in env_id else 1500)
    prediction = model.step(model.start(torch.as_tensor(pairs[0])), torch.as_tensor(pairs[1]))
    for i, (state, action) in enumerate(pairs.T):
        ((probability, following, reward, ends),) = env.unwrapped.P[state][action]
        assert probability == 1
        assert prediction.observation[0, i] == following
        assert prediction.reward[0, i] == reward
        assert prediction.terminated[0, i] == ends
    assert prediction.terminated.any()


def test_blackjacks_tuples_are_tables_too():
    env = gym.make("Blackjack-v1")
    data = walk(env, 5_000)
    model = fitted(data, env.observation_space, env.action_space, prior_over="seen")
    observation, action = torch.as_tensor(data.observation[:50]), torch.as_tensor(data.action[:50])
    assert_allclose(model.expected(observation, action).sum(-1), 1)
    noise = draw(torch.Generator().manual_seed(0), (4, 50), model.noise_sizes)
    prediction = model.step(model.start(observation, 4), action, noise)
    assert prediction.observation.shape == (4, 50, 45)
    assert (prediction.observation.sum(-1) == 3).all()  # one choice of each of the three
    stick = torch.as_tensor(data.observation[data.action == 0][:20])
    outcome = model.outcome(stick, torch.zeros(20, dtype=torch.int64))
    assert (outcome.terminated > 0.5).all()  # all but the prior ends when one sticks
    assert_allclose(outcome.mean[0, :, :-1].sum(-1), 3, rtol=1e-5)


@pytest.mark.parametrize("multidiscrete", [False, True])
def test_discretised_observations_are_tables(multidiscrete):
    env = gym.wrappers.DiscretizeObservation(gym.make("MountainCar-v0"), 20, multidiscrete=multidiscrete)
    model = fitted(data := walk(env, 500), env.observation_space, env.action_space)
    prediction = model.step(model.start(torch.as_tensor(data.observation)), torch.as_tensor(data.action))
    assert (prediction.observation[0].numpy() == data.next_observation).mean() > 0.5
    action = gym.wrappers.DiscretizeAction(gym.make("MountainCarContinuous-v0"), 5).action_space
    TabularModel(env.observation_space, action)


def test_memory_does_not_grow_with_the_spaces():
    space = spaces.MultiDiscrete([20] * 6)  # 64 million observations
    generator = np.random.default_rng(0)
    place = generator.integers(20, size=(300, 6))
    data = transitions(place, generator.integers(3, size=300), np.ones(300), place)
    data = data._replace(observation=place, next_observation=(place + 1) % 20)
    model = fitted(data, space, spaces.Discrete(3), prior=1e-3)
    assert sum(value.numel() for value in model.state_dict().values()) < 2000
    state, action = model.start(torch.as_tensor(place)), torch.as_tensor(data.action)
    assert torch.equal(model.step(state, action).observation[0], torch.as_tensor(data.next_observation))
    assert_allclose(model.outcome(torch.as_tensor(place), action).mean[0, :, :-1].sum(-1), 6, rtol=1e-5)
    with pytest.raises(InvalidSettingError, match="at most 10000000 probabilities"):
        model.sample_posterior(torch.Generator())


# Updates and files --------------------------------------------------------------------------------------------------


@given(cuts=st.lists(st.integers(1, 59), max_size=6))
@settings(max_examples=25, deadline=None)
def test_updates_equal_one_fit_exactly(cuts):
    data = wild(PAIRS, 60, observation_space=PAIRS, terminal=True)
    model = TabularModel(PAIRS, PAIRS)
    for part in np.split(np.arange(60), sorted(cuts)):
        if len(part):
            model.update(data.rows(part))
    whole = fitted(data, PAIRS, PAIRS).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, whole[name]), name


def test_a_fit_forgets_what_came_before():
    model = fitted(steps([(2, 0, 2, 5.0, True)] * 9))
    model.fit(by_hand())
    assert torch.equal(model.table.codes, fitted(by_hand()).table.codes)
    assert torch.equal(model.table.rewards, fitted(by_hand()).table.rewards)


def test_refused_transitions_leave_the_model_as_it_was():
    model = fitted(by_hand())
    before = copy.deepcopy(model.state_dict())
    data = by_hand()
    bad = {
        "next_observation": np.full(6, 3),
        "observation": np.full(6, -1),
        "action": np.full(6, 1),
    }
    for name, values in bad.items():
        with pytest.raises(InvalidSettingError, match="outside the space Discrete"):
            model.fit(data._replace(**{name: values}))
    with pytest.raises(InvalidSettingError, match="finite"):
        model.update(data._replace(reward=np.full(6, np.inf)))
    with pytest.raises(InvalidSettingError, match="at least 1, but 0"):
        model.fit(data.rows(slice(0)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# Posterior draws ----------------------------------------------------------------------------------------------------


def test_posterior_draws_have_the_posteriors_mean_and_deviation():
    model, generator = fitted(by_hand(), prior=2.0), torch.Generator().manual_seed(0)
    pairs = torch.cartesian_prod(torch.arange(3), torch.tensor([-1, 0]))
    observation, action = pairs.T
    drawn = torch.stack([model.sample_posterior(generator).expected(observation, action) for _ in range(400)])
    assert_allclose(drawn.sum(-1), 1)
    expected, deviation = model.expected(observation, action), model.uncertainty(observation, action)
    spread = drawn.std(0)
    assert ((drawn.mean(0) - expected).abs() <= 5 * spread / 400**0.5).all()
    assert_allclose(drawn.var(0).sum(-1).sqrt(), deviation, rtol=0.12)


def test_a_posterior_draw_is_a_model_that_knows_everything(tmp_path):
    model = fitted(by_hand(), prior=2.0)
    first, again, other = (model.sample_posterior(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    observation, action = torch.tensor([0, 1, 2]), torch.tensor([-1, 0, 0])
    assert torch.equal(first.expected(observation, action), again.expected(observation, action))
    assert not torch.equal(first.expected(observation, action), other.expected(observation, action))
    assert (first.uncertainty(observation, action) == 0).all()
    assert (model.uncertainty(observation, action) > 0).all()
    frequencies = torch.bincount(at(first, 2, 0, grid(20_000)).observation.flatten(), minlength=3) / 20_000
    assert_allclose(frequencies, first.expected(observation, action)[2], atol=5 / 20_000)
    reward = first.step(first.start(torch.tensor([0])), torch.tensor([-1])).reward
    assert reward in (3.5, 2.0, 8.0)
    first.save(tmp_path / "draw")
    loaded = WorldModel.load(tmp_path / "draw")
    assert torch.equal(loaded.expected(observation, action), first.expected(observation, action))
    for learn in (loaded.update, lambda data: loaded.sample_posterior(torch.Generator())):
        with pytest.raises(InvalidSettingError, match="from which it was drawn"):
            learn(by_hand())
    loaded.fit(by_hand())
    assert torch.equal(loaded.expected(observation, action), model.expected(observation, action))


@pytest.mark.parametrize("over", ["all", "seen"])
@pytest.mark.parametrize("prior", [1e-6, 1e-2, 50.0])
def test_draws_with_any_prior_are_distributions(prior, over):
    model = fitted(by_hand(), spaces.Discrete(200), prior=prior, prior_over=over)
    drawn = model.sample_posterior(torch.Generator().manual_seed(0))
    observation, action = torch.tensor([0, 1, 150]), torch.tensor([-1, 0, 0])
    expected = drawn.expected(observation, action)
    assert_allclose(expected.sum(-1), 1)
    if prior < 1e-3:
        assert_allclose(expected.max(-1).values[1:], 1, atol=1e-3)  # a Dirichlet of tiny weights picks one
    prediction = at(drawn, 150, 0, grid(50))
    assert ((prediction.observation >= 0) & (prediction.observation < (200 if over == "all" else 3))).all()


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [LINE, MIXED], ids=str)
def test_continuous_observations_are_refused_with_what_would_work(space):
    with pytest.raises(
        UnsupportedSpaceError, match=r"TabularModel.*gymnasium.wrappers.DiscretizeObservation"
    ) as caught:
        TabularModel(space, CHOICES)
    assert str(space) in str(caught.value)
    assert hasattr(gym.wrappers, "DiscretizeObservation")


def test_continuous_actions_are_refused_with_what_would_work():
    with pytest.raises(UnsupportedSpaceError, match=r"TabularModel.*gymnasium.wrappers.DiscretizeAction") as caught:
        TabularModel(CHOICES, UNIT)
    assert str(UNIT) in str(caught.value)
    assert hasattr(gym.wrappers, "DiscretizeAction")


def test_more_observations_than_integers_are_refused():
    with pytest.raises(UnsupportedSpaceError, match=r"2\^62.*discretise more coarsely"):
        TabularModel(spaces.MultiDiscrete([100] * 5), CHOICES)


@pytest.mark.parametrize(
    ("setting", "allowed"), [({"prior": 0.0}, "greater than 0"), ({"prior": -1}, "0"), ({"prior_over": "some"}, "seen")]
)
def test_settings_out_of_range_are_refused(setting, allowed):
    with pytest.raises(InvalidSettingError, match=f"{next(iter(setting))} must be .*{allowed}"):
        TabularModel(CHOICES, CHOICES, **setting)


def test_it_does_not_predict_before_a_fit():
    model = TabularModel(CHOICES, CHOICES)
    assert not model.fitted
    assert not model.terminates
    with pytest.raises(InvalidSettingError, match="not fitted yet"):
        model.step(model.start(torch.tensor([2])), torch.tensor([2]))


def test_a_copy_updates_apart():
    model = fitted(by_hand())
    twin = copy.deepcopy(model)
    twin.update(by_hand())
    observation, action = torch.tensor([0]), torch.tensor([-1])
    assert twin.uncertainty(observation, action) < model.uncertainty(observation, action)
    assert_close(model.expected(observation, action), fitted(by_hand()).expected(observation, action))
