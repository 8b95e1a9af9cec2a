"""The learned termination: where episodes of CartPole end, and its weighing of rare ends."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from mbrl_gym.models.termination import TerminationNetwork, bounding_box


def cartpole(steps: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return next observations and terminations of random actions."""
    env = gym.make("CartPole-v1")
    env.action_space.seed(seed)
    env.reset(seed=seed)
    rows, ends = [], []
    for _ in range(steps):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        rows.append(observation)
        ends.append(terminated)
        if terminated or truncated:
            env.reset()
    return torch.as_tensor(np.array(rows)), torch.as_tensor(ends)


def fitted(rows: torch.Tensor, ends: torch.Tensor, seed: int = 0) -> TerminationNetwork:
    generator = torch.Generator().manual_seed(seed)
    network = TerminationNetwork(rows.shape[1], generator)
    network.fit(rows, ends, generator)
    return network


def balanced_accuracy(network: TerminationNetwork, rows: torch.Tensor, ends: torch.Tensor) -> float:
    predicted = network.logits(rows) > 0
    return float(predicted[ends].double().mean() + (~predicted[~ends]).double().mean()) / 2


def test_it_knows_where_cartpole_ends():
    test = cartpole(10_000, 100)
    accuracies = [balanced_accuracy(fitted(*cartpole(5_000, seed), seed), *test) for seed in range(3)]
    assert min(accuracies) > 0.995


def test_a_rare_end_weighs_as_much_as_everything_else():
    rows = torch.linspace(-1, 1, 2001)[:, None]
    ends = (rows[:, 0] > 0) & (torch.arange(2001) % 100 == 0)  # one of a hundred positions on the right, at random
    network = fitted(rows, ends)
    probability = network.logits(torch.tensor([[-0.9], [0.9]])).sigmoid()
    assert probability[0] < 0.05
    assert probability[1] > 0.5  # a likelihood of all steps alike would say 0.01


def test_only_a_bounded_number_of_other_steps_is_learned_from_and_the_generator_chooses_them():
    rows = torch.randn(14_000, 2, generator=torch.Generator().manual_seed(0))
    ends = rows.sum(1) > 2.5
    first, again, other = (fitted(rows, ends, seed) for seed in (0, 0, 1))
    assert torch.equal(first.logits(rows), again.logits(rows))
    assert not torch.equal(first.logits(rows), other.logits(rows))
    assert balanced_accuracy(first, rows, ends) > 0.99


def test_where_every_step_ends_an_episode_every_step_is_expected_to():
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    network = fitted(rows, torch.ones(50, dtype=torch.bool))
    assert (network.logits(3 * rows) > 0).all()
    assert (network.probability(3 * rows) > 0.99).all()


def test_the_probability_of_ends_at_random_is_their_share():
    generator = torch.Generator().manual_seed(0)
    rows, ends = torch.randn(8_000, 2, generator=generator), torch.rand(8_000, generator=generator) < 0.02
    probability = fitted(rows, ends).probability(torch.randn(2_000, 2, generator=generator))
    assert 0.01 < probability.mean() < 0.04


# Boxes ------------------------------------------------------------------------------------------------------------


def test_a_box_by_hand():
    """Column 0 ends below -1 and above 1; column 1, which is as extreme, is none of the reasons."""
    others = torch.tensor([[-0.9, 0.0], [0.8, 3.0], [0.0, -3.0], [0.5, 1.0]])
    ends = torch.tensor(
        [[-1.1, 0.0], [-1.3, 2.9], [1.2, 3.1], [1.4, 0.0], [-1.2, 1.0], [1.6, 1.0], [1.3, 0.0], [-2.0, 0.0]]
    )
    low, high = bounding_box(ends, others)
    torch.testing.assert_close(low, torch.tensor([-1.0, -torch.inf]))
    torch.testing.assert_close(high, torch.tensor([1.0, torch.inf]))


def test_of_bounds_that_explain_as_much_the_more_unusual_one_is_taken():
    generator = torch.Generator().manual_seed(0)
    others = torch.randn(500, 2, generator=generator).clamp(-2, 2)
    others[:, 1] += torch.where(torch.arange(500) == 0, 8.0, 0.0)  # ends lie beyond what was seldom seen
    ends = others[:8] * 0 + torch.tensor([2.5, 11.0])
    low, high = bounding_box(ends, others)
    assert high[0].isinf()
    assert others[:, 1].max() < high[1] < 11
    assert low.isinf().all()


def test_there_is_no_box_where_few_ends_or_other_reasons_speak_against_it():
    rows = torch.randn(2_000, 3, generator=torch.Generator().manual_seed(0))
    beyond = rows[:, 0] > 2
    assert bounding_box(rows[beyond], rows[~beyond]) is not None
    assert bounding_box(rows[beyond][:1], rows[~beyond]) is None
    together = rows.sum(1) > 3
    assert bounding_box(rows[together], rows[~together]) is None


def test_a_box_is_left_when_the_data_no_longer_allow_it_and_survives_a_state_dict():
    rows = torch.randn(2_000, 2, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    network, fresh = TerminationNetwork(2, generator), TerminationNetwork(2, generator)
    network.fit(rows, rows[:, 0] > 1.5, generator)
    assert balanced_accuracy(network, rows, rows[:, 0] > 1.5) == 1
    assert not torch.equal(fresh.logits(rows), network.logits(rows))
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh.logits(rows), network.logits(rows))
    ends = rows.norm(dim=1) > 1.8
    network.fit(rows, ends, generator)
    assert balanced_accuracy(network, rows, ends) > 0.98


@pytest.mark.parametrize("ended", [True, False])
def test_a_cautious_one_ends_episodes_outside_of_what_was_seen(ended):
    rows = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    ends = (rows[:, 0] > 0.8) & ended
    network, beyond = fitted(rows, ends), torch.tensor([[0.5, 1.1], [-0.1, 0.5], [0.5, -3.0]])
    assert not network.logits(beyond).gt(0).any()
    network.be_cautious()
    assert torch.equal(network.logits(rows) > 0, ends)
    assert (network.logits(beyond) > 0).all()
    restored = TerminationNetwork(2, torch.Generator())
    restored.load_state_dict(network.state_dict())
    assert torch.equal(restored.logits(beyond), network.logits(beyond))
