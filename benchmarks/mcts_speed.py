"""Tree search beside DeepMind's mctx: simulations a second on a trivial model; part of `mcts.py`."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from mbrl_gym.agents import CompiledModel, TreeSearch, table_model

PEER = Path(__file__).parent / "peers" / "mctx_search.py"
ACTIONS = spaces.Discrete(4)
Figures = dict[str, Any]


def step(parameters, state, action, following, random):  # type: ignore[no-untyped-def]
    """Advance the state of 8 numbers."""
    reward = 0.0
    for i in range(8):
        following[i] = 0.9 * state[i] + 0.1 * (action[0] - 1.5) * (i - 3.5)
        reward -= following[i] * following[i]
    return reward, False


def evaluate(parameters, state, prior, random):  # type: ignore[no-untyped-def]
    """Judge a state; the prior is uniform, and stays so."""
    value = 0.0
    for i in range(8):
        value -= state[i] * state[i]
    return value


class Ours:
    """Our search of one size."""

    def __init__(self, trees: int, simulations: int, selection: str = "PUCT") -> None:
        self.model = CompiledModel(ACTIONS, step, state_size=8, evaluate=evaluate)
        self.search = TreeSearch(
            ACTIONS, selection, simulations=simulations, max_nodes=simulations + 1, horizon=simulations, reuse=False
        )
        self.states = np.random.default_rng(0).normal(size=(trees, 8))
        self.search.search(self.model, self.states)

    def seconds(self) -> float:
        """Search once."""
        begin = time.perf_counter()
        self.search.search(self.model, self.states)
        return time.perf_counter() - begin


class Mctx:
    """mctx in another process."""

    def __init__(self, python: Path) -> None:
        self.process = subprocess.Popen(
            [str(python), str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, trees: int, simulations: int) -> float:
        """Search once."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{trees} {simulations}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(python: Path, *, trees: int, simulations: int, turns: int) -> Figures:
    """Return simulations a second of both, medians over turns that alternate, and the median of the ratios."""
    ours, mctx = Ours(trees, simulations), Mctx(python)
    mctx.seconds(trees, simulations)
    pairs = []
    for _ in range(turns):
        theirs = mctx.seconds(trees, simulations)
        ours.seconds()  # what the other process drove out of the cache comes back
        mine = float(np.median([ours.seconds() for _ in range(5)]))
        pairs.append((mine, theirs))
    mctx.close()
    mine, theirs = np.array(pairs).T
    work = trees * simulations
    return {
        "ours": work / float(np.median(mine)),
        "mctx": work / float(np.median(theirs)),
        "ratio": float(np.median(theirs / mine)),
        "quartiles": np.quantile(theirs / mine, (0.25, 0.75)).tolist(),
    }


def growth(python: Path, *, sizes: list[int], turns: int) -> Figures:
    """Return the microseconds of a simulation in trees of growing size, of both."""
    mctx, rows = Mctx(python), []
    for simulations in sizes:
        ours = Ours(1, simulations)
        mctx.seconds(1, simulations)
        mine = min(ours.seconds() for _ in range(turns))
        theirs = min(mctx.seconds(1, simulations) for _ in range(max(1, turns // 4)))
        rows.append([simulations, 1e6 * mine / simulations, 1e6 * theirs / simulations])
    mctx.close()
    return {"rows": rows}


def agreement(*, problems: int, simulations: int, leaves: list[int]) -> Figures:
    """Return how several leaves in flight decide, beside one at a time.

    Problems are random tables of 200 states and 4 actions with one outcome each, or three.

    Returns:
        For 1 and 3 outcomes, by the number of leaves: the share of problems with the action of one leaf at a time, and
        the mean regret by value iteration. The row "1, other seed" is one leaf at a time with other random numbers.
    """
    rows = {"1, other seed": (1, 1000), **{str(count): (count, 0) for count in leaves}}
    figures: Figures = {}
    for outcomes in (1, 3):
        first, found, lost = [], {name: [] for name in rows}, {name: [] for name in rows}  # type: ignore[var-annotated]
        for seed in range(problems):
            model, q = random_problem(outcomes, seed)
            first.append(_action(model, simulations, 1, seed))
            for name, (count, shift) in rows.items():
                action = _action(model, simulations, count, seed + shift)
                found[name].append(action)
                lost[name].append(q.max() - q[action])
        figures[str(outcomes)] = {
            name: [float(np.mean(np.equal(found[name], first))), float(np.mean(lost[name]))] for name in rows
        }
    return figures


def random_problem(outcomes: int, seed: int) -> tuple[CompiledModel, Any]:
    """Return a random table, and the values `[4]` of the first state's actions over 10 steps, discounted by 0.9."""
    rng = np.random.default_rng(seed)
    shape = (200, 4, outcomes)
    probability, following = rng.dirichlet(np.ones(outcomes), (200, 4)), rng.integers(0, 200, shape)
    reward, ends = rng.normal(size=shape) + rng.normal(size=(200, 4, 1)), rng.random(shape) < 0.05
    value = np.zeros(200)
    for _ in range(10):
        q = (probability * (reward + 0.9 * ~ends * value[following])).sum(-1)
        value = q.max(1)
    return table_model(ACTIONS, probability, following, reward, ends), q[0]


def _action(model: CompiledModel, simulations: int, leaves: int, seed: int) -> int:
    search = TreeSearch(ACTIONS, simulations=simulations, leaves=leaves, horizon=10, discount=0.9)
    return int(search.search(model, [0], seed=seed).decisions.slot[0])
