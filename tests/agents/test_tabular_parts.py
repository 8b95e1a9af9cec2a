"""The queue, the outcome model and the compilation of tabular agents, each alone."""

import time

import gymnasium as gym
import numba
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tabular_toys import Corridor

from mbrl_gym.agents import DynaQ, DynaQPlus, PrioritizedSweeping
from mbrl_gym.agents.compiled import compiled
from mbrl_gym.agents.tabular.model import OutcomeModel
from mbrl_gym.agents.tabular.outcomes import record
from mbrl_gym.agents.tabular.queue import empty_queue, pop, put


@pytest.mark.parametrize("seed", range(3))
def test_the_queue_returns_the_most_urgent_of_those_that_wait(seed):
    generator = np.random.default_rng(seed)
    queue, waiting = empty_queue(40), {}
    for _ in range(3_000):
        if waiting and generator.random() < 0.45:
            item = pop(queue)
            assert waiting.pop(item) == max([*waiting.values(), queue.priority[item]])
        else:
            item, priority = int(generator.integers(40)), float(generator.random())
            put(queue, item, priority)  # often one that waits already, with a higher or a lower priority
            waiting[item] = priority
        assert queue.size[0] == len(waiting)
        assert set(queue.heap[: queue.size[0]].tolist()) == set(waiting)
        assert_array_equal(queue.place[queue.heap[: queue.size[0]]], np.arange(queue.size[0]))


@pytest.mark.parametrize("latest", [False, True])
def test_the_model_remembers_what_a_dictionary_would(latest):
    generator = np.random.default_rng(0)
    model, seen = OutcomeModel(6, 3), {}
    for step in range(1, 2_001):
        state, action, following = (int(number) for number in generator.integers([6, 3, 6]))
        terminated, reward = bool(generator.random() < 0.2), float(generator.normal())
        record(model.with_room(1), state, action, reward, following, terminated, latest)
        if latest:
            seen[state, action] = {}
        seen.setdefault((state, action), {}).setdefault((following, terminated), []).append(reward)
        assert model.last_tried[state, action] == step
    goes_on, reward = np.zeros((6, 3, 6)), np.zeros((6, 3))
    for (state, action), outcomes in seen.items():
        total = sum(map(len, outcomes.values()))
        for (following, terminated), rewards in outcomes.items():
            goes_on[state, action, following] += (not terminated) * len(rewards) / total
            reward[state, action] += sum(rewards) / total
    for actual, expected in zip(model.expected(), (goes_on, reward), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-12)
    copy = OutcomeModel(6, 3)
    copy.restore(model.state())
    assert copy.sizes == model.sizes
    for name, array in model.outcomes._asdict().items():
        other, used = getattr(copy.outcomes, name), model.sizes["outcomes"]
        assert_array_equal(other[:used], array[:used], err_msg=name)


def test_code_is_compiled_where_no_file_can_hold_it(monkeypatch):
    njit = numba.njit

    def nowhere(function, cache=False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(function)

    monkeypatch.setattr(numba, "njit", nowhere)
    assert compiled(lambda x: x + 1)(2) == 3


@pytest.mark.parametrize("make", [DynaQ, DynaQPlus, PrioritizedSweeping])
def test_two_hundred_thousand_planning_updates_a_second(make):
    """There are millions where the machine is idle."""
    rates = []
    for seed in range(5):
        agent = make("epsilon-greedy", "Taxi-v4", planning_steps=0, seed=seed).learn(300)
        agent.planning_steps, begin = 50, time.perf_counter()  # the queue of prioritised sweeping is full by now
        agent.train(20)
        rates.append(agent._n_updates / (time.perf_counter() - begin))
    assert max(rates) > 200_000


def test_an_agent_without_planning_makes_no_updates_but_those_of_q_learning():
    agent = DynaQ("epsilon-greedy", gym.wrappers.TimeLimit(Corridor(), 9), planning_steps=0, seed=0).learn(100)
    assert agent._n_updates == 0
    assert agent.outcome_model.sizes["steps"] == 100
