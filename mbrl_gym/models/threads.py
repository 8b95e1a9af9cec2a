"""Work that is split over threads of its own, each of which computes alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["in_threads"]

Item = TypeVar("Item")

_pools: dict[int, ThreadPoolExecutor] = {}  # by number of threads
os.register_at_fork(after_in_child=_pools.clear)  # threads do not live on in a child


def in_threads(work: Callable[[Sequence[Item]], None], items: Sequence[Item]) -> None:
    """Call `work` with shares of the items, one for each of torch's threads, and wait for all of them.

    Torch's own threads meet after every operation, which costs more than it saves where operations are
    small; these meet once.
    Within `work` every operation has one thread, and gradients are recorded as for the caller.

    Args:
        work: Handles a share of the items; shares must not write to the same memory.
        items: What there is to do, in pieces of about the same size.
    """
    threads = min(torch.get_num_threads(), len(items))
    if threads <= 1:
        work(items)
        return
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def as_caller(share: Sequence[Item]) -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            work(share)

    for done in [_pool(threads).submit(as_caller, items[first::threads]) for first in range(threads)]:
        done.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _pools:
        wanted = torch.get_num_threads()
        pool = ThreadPoolExecutor(threads, "mbrl-gym", initializer=_compute_alone)
        # All threads start now: their number of threads is also what torch gives to threads that start later.
        barrier = threading.Barrier(threads)
        for started in [pool.submit(barrier.wait) for _ in range(threads)]:
            started.result()
        torch.set_num_threads(wanted)
        _pools[threads] = pool
    return _pools[threads]


def _compute_alone() -> None:
    torch.get_num_threads()  # a thread's first question gives it the number of all others; what is set before is lost
    torch.set_num_threads(1)
