"""The learned termination: where episodes of CartPole end, and its weighing of rare ends."""

import gymnasium as gym
import numpy as np
import torch

from mbrl_gym.models.termination import TerminationNetwork


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
    assert np.mean(accuracies) > 0.99
    assert min(accuracies) > 0.985


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
