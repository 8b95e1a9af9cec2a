"""What a tabular model remembers: how often each (state, action) led to each next state."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mbrl_gym.models.saved import make_room

__all__ = ["PairSums", "Tables", "TransitionCounts", "deviation", "find"]

SPREAD_RESOLUTION = 1e-12  # of the mean square: smaller variances of rewards are rounding


class PairSums(NamedTuple):
    """Sums over the next states of each pair `[Q + 1]`; the last entry is of pairs that never occurred."""

    visits: Tensor
    squared_counts: Tensor
    nexts: Tensor  # number of different next states
    ends: Tensor  # of visits that ended the episode
    end: Tensor  # of the next states' probabilities of ending it
    entered_end: Tensor  # of the probabilities of ending on entering those states from anywhere
    reward: Tensor  # of all rewards
    mean_reward: Tensor  # of the next states' mean rewards
    square: Tensor  # of all squared rewards
    mean_square: Tensor  # of the next states' mean squared rewards


class Tables(NamedTuple):
    """What predictions look up: K triples (pair, next state) in order, Q pairs, J states that were entered."""

    codes: Tensor  # [K] pair * states + next state
    counts: Tensor  # [K]
    following: Tensor  # [K] next state
    cumulative: Tensor  # [K + 1] counts of all triples before
    end: Tensor  # [K + 1] probability that the step ends the episode
    reward: Tensor  # [K + 1] mean
    square: Tensor  # [K + 1] mean of the squared reward
    pairs: Tensor  # [Q]
    first: Tensor  # [Q + 1] where the triples of a pair begin
    last: Tensor  # [Q + 1] and end (exclusive)
    mode: Tensor  # [Q + 1] most frequent next state
    sums: PairSums
    pair_reward: Tensor  # [Q + 1] mean; of all pairs where the pair never occurred
    pair_square: Tensor  # [Q + 1] likewise
    entered: Tensor  # [J]
    entered_end: Tensor  # [J + 1] probability that entering the state ends the episode; 0 of those never entered
    seen: Tensor  # [M] states before or after any step
    ever_ends: bool
    is_draw: bool


def find(table: Tensor, values: Tensor) -> Tensor:
    """Return where the values are in the sorted table `[n]`; n for those that are not."""
    place = torch.searchsorted(table, values.contiguous()).clamp(max=len(table) - 1)
    return torch.where(table[place] == values, place, len(table))


class TransitionCounts(nn.Module):
    """Counts, terminations and rewards of steps from numbered pairs to numbered states.

    Only what occurred is stored, so that memory grows with the different steps in the data and with nothing else.

    Args:
        states: Number S of states.
        actions: Number A of actions; a pair is state * A + action.
    """

    stored = ("codes", "counts", "ends", "rewards", "squares")

    def __init__(self, states: int, actions: int) -> None:
        super().__init__()
        self.states, self.actions = states, actions
        self.codes: Tensor
        self.counts: Tensor
        self.ends: Tensor
        self.rewards: Tensor
        self.squares: Tensor
        self.is_draw: Tensor
        for name in self.stored:
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64 if name == "codes" else torch.float64))
        self.register_buffer("is_draw", torch.tensor(False))  # whether the counts are drawn probabilities
        self._tables: Tables | None = None

    def clear(self) -> None:
        """Forget all steps."""
        for name in self.stored:
            setattr(self, name, getattr(self, name)[:0])
        self.is_draw.fill_(False)
        self._tables = None

    def add(self, pair: Tensor, following: Tensor, reward: Tensor, ended: Tensor) -> None:
        """Count steps `[T]`; on CPU, sums do not depend on how the steps are cut into calls."""
        codes = torch.cat((self.codes, pair * self.states + following))
        codes, place = torch.unique(codes, return_inverse=True)
        old, new = place[: len(self.codes)], place[len(self.codes) :]
        reward = reward.double()
        added = {"counts": torch.ones_like(reward), "ends": ended.double(), "rewards": reward, "squares": reward**2}
        for name, values in added.items():
            sums = reward.new_zeros(len(codes))
            sums[old] = getattr(self, name)
            setattr(self, name, sums.index_add_(0, new, values))
        self.codes = codes
        self._tables = None

    def draw_as(self, codes: Tensor, probability: Tensor, end: Tensor, reward: Tensor, square: Tensor) -> None:
        """Replace all counts by probabilities `[K]` of sorted codes, with what to expect of each step."""
        self.codes, self.counts = codes, probability
        self.ends, self.rewards, self.squares = (probability * part for part in (end, reward, square))
        self.is_draw.fill_(True)
        self._tables = None

    def tables(self) -> Tables:
        """Return what predictions look up, computed once after a change. There must be a step."""
        if self._tables is None:
            self._tables = self._compute_tables()
        return self._tables

    def _compute_tables(self) -> Tables:
        counts, following = self.counts, self.codes % self.states
        pairs, owner, nexts = torch.unique_consecutive(
            self.codes // self.states, return_inverse=True, return_counts=True
        )
        entered, place = torch.unique(following, return_inverse=True)
        entries, endings = (counts.new_zeros(len(entered)).index_add_(0, place, part) for part in (counts, self.ends))
        entered_end = endings / entries
        end, reward, square = (part / counts for part in (self.ends, self.rewards, self.squares))
        columns = PairSums(
            counts,
            counts**2,
            torch.ones_like(counts),
            self.ends,
            end,
            entered_end[place],
            self.rewards,
            reward,
            self.squares,
            square,
        )
        sums = counts.new_zeros((len(pairs) + 1, len(columns)))
        sums.index_add_(0, owner, torch.stack(columns, -1))
        per_pair = PairSums(*sums.unbind(-1))
        most = torch.zeros_like(sums[:-1, 0]).scatter_reduce(0, owner, counts, "amax")
        candidate = torch.where(counts == most[owner], following, self.states)
        mode = torch.full_like(pairs, self.states).scatter_reduce(0, owner, candidate, "amin")
        last = nexts.cumsum(0)
        return Tables(
            codes=self.codes,
            counts=counts,
            following=following,
            cumulative=_then(counts.new_zeros(1), counts.cumsum(0)),
            end=_then(end, 0),
            reward=_then(reward, 0),
            square=_then(square, 0),
            pairs=pairs,
            first=_then(last - nexts, 0),
            last=_then(last, 0),
            mode=_then(mode, 0),
            sums=per_pair,
            pair_reward=_then(per_pair.reward[:-1] / per_pair.visits[:-1], self.rewards.sum() / counts.sum()),
            pair_square=_then(per_pair.square[:-1] / per_pair.visits[:-1], self.squares.sum() / counts.sum()),
            entered=entered,
            entered_end=_then(entered_end, 0),
            seen=torch.unique(torch.cat((pairs // self.actions, entered))),
            ever_ends=bool((self.ends > 0).any()),
            is_draw=bool(self.is_draw),
        )

    def _apply(self, fn: Any, recurse: bool = True) -> TransitionCounts:
        self._tables = None  # buffers move to another device
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        make_room(self, self.stored, state_dict, prefix)
        self._tables = None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def deviation(mean: Tensor, square: Tensor) -> Tensor:
    """Return standard deviations from means and mean squares."""
    variance = square - mean**2
    return torch.where(variance > SPREAD_RESOLUTION * square, variance, 0.0).sqrt()


def _then(values: Tensor, more: Tensor | float) -> Tensor:
    """Return `[n]` values with one or more behind them."""
    more = torch.as_tensor(more, dtype=values.dtype, device=values.device)
    return torch.cat((values, more.reshape(-1)))
