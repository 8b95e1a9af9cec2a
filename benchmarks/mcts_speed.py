"""Tree search beside DeepMind's mctx: simulations a second on a trivial model; part of `mcts.py`."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from mbrl_gym.agents import CompiledModel, TreeSearch

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
    """Return in which share of random problems several leaves in flight choose the same action as one at a time.

    Problems are random tables of 200 states and 4 actions with 3 outcomes each, or a single one.
    """
    from mbrl_gym.agents import table_model

    shares: Figures = {}
    for outcomes in (1, 3):
        found: dict[int, list[int]] = {count: [] for count in (1, *leaves)}
        for seed in range(problems):
            rng = np.random.default_rng(seed)
            shape = (200, 4, outcomes)
            probability = rng.dirichlet(np.ones(outcomes), (200, 4))
            reward, ends = rng.normal(size=shape) + rng.normal(size=(200, 4, 1)), rng.random(shape) < 0.05
            model = table_model(ACTIONS, probability, rng.integers(0, 200, shape), reward, ends)
            for count in found:
                search = TreeSearch(ACTIONS, simulations=simulations, leaves=count, horizon=10, discount=0.9)
                found[count].append(int(search.search(model, [0], seed=seed).decisions.slot[0]))
        shares[f"{outcomes}"] = {str(n): float(np.mean(np.equal(found[n], found[1]))) for n in leaves}
    return shares
