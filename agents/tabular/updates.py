"""Action choices and updates of action values; all of it compiled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..compiled import compiled
from .outcomes import END, STEPS, VISITED, Outcomes, best, expected_target, record, sampled_target
from .queue import Queue, pop, put

__all__ = ["epsilon_greedy", "learn", "observe", "plan", "sweep", "ucb"]

Array = np.ndarray[Any, Any]


@compiled
def choose(scores: Array, generator: np.random.Generator) -> int:
    """Return one of the actions with the highest of the scores `[A]`, drawn at random."""
    highest, ties = scores[0], 1
    for action in range(1, len(scores)):
        if scores[action] > highest:
            highest, ties = scores[action], 1
        elif scores[action] == highest:
            ties += 1
    left = int(generator.random() * ties) if ties > 1 else 0
    for action in range(len(scores)):
        if scores[action] == highest:
            if left == 0:
                return action
            left -= 1
    return 0  # scores that are not numbers


@compiled
def epsilon_greedy(values: Array, states: Array, epsilon: float, generator: np.random.Generator) -> Array:
    """Return actions `[N]`: with probability epsilon any one, else one of the best."""
    actions = np.empty(len(states), np.int64)
    for row in range(len(states)):
        if generator.random() < epsilon:
            actions[row] = int(generator.random() * values.shape[1])
        else:
            actions[row] = choose(values[states[row]], generator)
    return actions


@compiled
def ucb(values: Array, visits: Array, states: Array, coefficient: float, generator: np.random.Generator) -> Array:
    """Return actions `[N]` of the highest Q(s, a) + c sqrt(ln N(s) / N(s, a)); untried ones come first.

    Sutton and Barto (2018), equation 2.10, in every state (Auer, Cesa-Bianchi and Fischer 2002).
    """
    actions = np.empty(len(states), np.int64)
    scores = np.empty(values.shape[1])
    for row in range(len(states)):
        state = states[row]
        total = visits[state].sum()
        for action in range(len(scores)):
            if visits[state, action] == 0:
                scores[action] = np.inf
            else:
                bonus = math.sqrt(math.log(total) / visits[state, action])
                scores[action] = values[state, action] + coefficient * bonus
        actions[row] = choose(scores, generator)
    return actions


@compiled
def learn(
    outcomes: Outcomes,
    values: Array,
    steps: tuple[Array, Array, Array, Array, Array],
    learning_rate: float,
    gamma: float,
    latest: bool,
) -> None:
    """Update action values by Q-learning from observed steps, one after the other, and record them.

    `steps` are N states, actions, rewards, next states, and whether the episode terminated.
    """
    state, action, reward, following, terminated = steps
    for row in range(len(state)):
        s, a = state[row], action[row]
        target = reward[row]
        if not terminated[row]:
            target += gamma * best(values, following[row])
        values[s, a] += learning_rate * (target - values[s, a])
        record(outcomes, s, a, reward[row], following[row], terminated[row], latest)


@compiled
def plan(
    outcomes: Outcomes,
    values: Array,
    updates: int,
    learning_rate: float,
    gamma: float,
    expected: bool,
    kappa: float,
    untried: bool,
    generator: np.random.Generator,
) -> None:
    """Update action values from remembered outcomes (Sutton and Barto 2018, section 8.2, Tabular Dyna-Q, step (f)).

    Each time a visited state is drawn, then one of the actions that were tried there. With `untried` it is one of all
    actions: those never tried lead back to the state with reward 0. Rewards grow by kappa sqrt(tau), where tau steps
    have passed since the action was last tried (Dyna-Q+, section 8.3).
    """
    for _ in range(updates):
        state = outcomes.visited[int(generator.random() * outcomes.sizes[VISITED])]
        if untried:
            action = int(generator.random() * values.shape[1])
        else:
            action = outcomes.tried[state, int(generator.random() * outcomes.tried_count[state])]
        if outcomes.newest[state, action] == END:
            target = gamma * best(values, state)
        elif expected:
            target = expected_target(outcomes, values, state, action, gamma)
        else:
            target = sampled_target(outcomes, values, state, action, gamma, generator)
        if kappa > 0:
            target += kappa * math.sqrt(outcomes.sizes[STEPS] - outcomes.last_tried[state, action])
        values[state, action] += learning_rate * (target - values[state, action])


@compiled
def observe(
    outcomes: Outcomes,
    values: Array,
    queue: Queue,
    steps: tuple[Array, Array, Array, Array, Array],
    gamma: float,
    theta: float,
    latest: bool,
) -> None:
    """Record observed steps, as for `learn`, and let their pairs wait for an update where it would change enough."""
    state, action, reward, following, terminated = steps
    for row in range(len(state)):
        record(outcomes, state[row], action[row], reward[row], following[row], terminated[row], latest)
        _prioritise(outcomes, values, queue, state[row], action[row], gamma, theta)


@compiled
def sweep(
    outcomes: Outcomes,
    values: Array,
    queue: Queue,
    updates: int,
    learning_rate: float,
    gamma: float,
    theta: float,
) -> int:
    """Update the pairs that wait, the most urgent first, and return how many were updated.

    Sutton and Barto (2018), section 8.4, Prioritized Sweeping, step (g), with the expected updates of Moore and Atkeson
    (1993). A pair whose error is still above theta, as with learning rates below 1, waits again.
    """
    done = 0
    while done < updates and queue.size[0] > 0:
        state, action = divmod(pop(queue), values.shape[1])
        before = best(values, state)
        target = expected_target(outcomes, values, state, action, gamma)
        values[state, action] += learning_rate * (target - values[state, action])
        _prioritise(outcomes, values, queue, state, action, gamma, theta)
        if best(values, state) != before:
            _prioritise_entering(outcomes, values, queue, state, gamma, theta)
        done += 1
    return done


@compiled
def _prioritise_entering(
    outcomes: Outcomes, values: Array, queue: Queue, state: int, gamma: float, theta: float
) -> None:
    number = outcomes.entering[state]
    while number != END:
        if outcomes.counts[number] > 0 and not outcomes.terminated[number]:
            _prioritise(outcomes, values, queue, outcomes.state[number], outcomes.action[number], gamma, theta)
        number = outcomes.older_entering[number]


@compiled
def _prioritise(
    outcomes: Outcomes, values: Array, queue: Queue, state: int, action: int, gamma: float, theta: float
) -> None:
    error = abs(expected_target(outcomes, values, state, action, gamma) - values[state, action])
    if error > theta:
        put(queue, state * values.shape[1] + action, error)
