"""Where the time of a training goes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

__all__ = ["PARTS", "Stopwatch", "splitting"]

PARTS = ("env", "fit", "plan", "update")
"""Steps of the environment; fits of a world model; choosing actions and imagining transitions; all other training."""


class Stopwatch:
    """Adds up the time that parts of a program take; what happens within an inner part does not count for the outer.

    Args:
        seconds: By part, what was spent before [s].
    """

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds = {**dict.fromkeys(PARTS, 0.0), **(seconds or {})}
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Count the time in between for a part."""
        self._charge()
        self._running.append(part)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._running:
            part = self._running[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls count for a part."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.timing(part):
                return function(*args, **kwargs)

        return timed


@contextmanager
def splitting(agent: BaseAlgorithm, watch: Stopwatch) -> Iterator[None]:
    """Split the time of all that an agent does in between.

    Methods of this one object, and of its environment, are replaced for as long as it trains.
    """
    acting = "collect_rollouts" if isinstance(agent, OnPolicyAlgorithm) else "_sample_action"
    parts = {acting: "plan", "_imagine": "plan", "train": "update", "fit_model": "fit", "_fit": "fit"}
    with ExitStack() as stack:
        for name, part in parts.items():
            if hasattr(agent, name):
                stack.enter_context(_replaced(agent, name, watch.around(part, getattr(agent, name))))
        for name in ("step", "reset"):
            stack.enter_context(_replaced(agent.env, name, watch.around("env", getattr(agent.env, name))))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Shadow a method of one object."""
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)
