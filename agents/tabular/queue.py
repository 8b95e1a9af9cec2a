"""A priority queue of numbered items, as a binary heap that knows where each item is; all of it compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..compiled import compiled

__all__ = ["Queue", "empty_queue", "pop", "put"]

Array = np.ndarray[Any, Any]


class Queue(NamedTuple):
    """Items 0 to I - 1, each at most once; Python's `heapq` could not change the priority of one that waits."""

    size: Array  # [1]: how many wait
    heap: Array  # [I]: those that wait; the parent of place p is at (p - 1) // 2 and has no lower priority
    place: Array  # [I]: where each item is in the heap; -1 if it does not wait
    priority: Array  # [I]: of each item that waits


def empty_queue(items: int) -> Queue:
    """Return a queue in which nothing waits."""
    return Queue(
        np.zeros(1, np.int64), np.zeros(items, np.int64), np.full(items, -1, np.int64), np.zeros(items, np.float64)
    )


@compiled
def put(queue: Queue, item: int, priority: float) -> None:
    """Let an item wait with a priority, or change the priority of one that waits."""
    if queue.place[item] < 0:
        queue.heap[queue.size[0]] = item
        queue.place[item] = queue.size[0]
        queue.size[0] += 1
    queue.priority[item] = priority
    _rise(queue, queue.place[item])
    _sink(queue, queue.place[item])


@compiled
def pop(queue: Queue) -> int:
    """Remove the item of the highest priority and return it; there must be one."""
    item = queue.heap[0]
    queue.size[0] -= 1
    last = queue.heap[queue.size[0]]
    queue.place[item] = -1
    if last != item:
        queue.heap[0] = last
        queue.place[last] = 0
        _sink(queue, 0)
    return item


@compiled
def _rise(queue: Queue, place: int) -> None:
    while place > 0:
        parent = (place - 1) // 2
        if queue.priority[queue.heap[parent]] >= queue.priority[queue.heap[place]]:
            return
        _swap(queue, place, parent)
        place = parent


@compiled
def _sink(queue: Queue, place: int) -> None:
    while True:
        largest = place
        for child in (2 * place + 1, 2 * place + 2):
            if child < queue.size[0] and queue.priority[queue.heap[child]] > queue.priority[queue.heap[largest]]:
                largest = child
        if largest == place:
            return
        _swap(queue, place, largest)
        place = largest


@compiled
def _swap(queue: Queue, first: int, second: int) -> None:
    queue.heap[first], queue.heap[second] = queue.heap[second], queue.heap[first]
    queue.place[queue.heap[first]], queue.place[queue.heap[second]] = first, second
