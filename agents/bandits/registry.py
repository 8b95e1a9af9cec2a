"""The bandit algorithms by name, and as they are written on the command line."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from typing import Any

from mbrl_gym.errors import InvalidSettingError

from .algorithms import MOSS, UCB1, UCBV, EpsilonGreedy, ExploreThenCommit, GradientBandit, UCBTuned
from .families import KLUCB, BayesUCB, ThompsonSampling
from .forgetting import DiscountedUCB, SlidingWindowUCB
from .statistics import BanditAlgorithm

__all__ = ["BANDITS", "make_algorithm", "parse_algorithms", "parse_settings"]

BANDITS: dict[str, type[BanditAlgorithm]] = {
    "epsilon-greedy": EpsilonGreedy,
    "UCB1": UCB1,
    "UCB-tuned": UCBTuned,
    "UCB-V": UCBV,
    "KL-UCB": KLUCB,
    "MOSS": MOSS,
    "Thompson": ThompsonSampling,
    "Bayes-UCB": BayesUCB,
    "gradient": GradientBandit,
    "discounted-UCB": DiscountedUCB,
    "sliding-window-UCB": SlidingWindowUCB,
    "explore-then-commit": ExploreThenCommit,
}
"""The bandit algorithms by name."""


def make_algorithm(policy: str | BanditAlgorithm, **settings: Any) -> BanditAlgorithm:
    """Return a bandit algorithm.

    Args:
        policy: A name in `BANDITS`, in capitals or not, or an algorithm, which has its settings.
        **settings: Settings that differ from the defaults.

    Raises:
        InvalidSettingError: No such algorithm or setting, or one out of its range.
    """
    if isinstance(policy, BanditAlgorithm):
        if settings:
            raise InvalidSettingError(f"an algorithm has its settings: give it {', '.join(settings)}, not the policy")
        return policy
    kinds = {name.lower(): kind for name, kind in BANDITS.items()}
    if not isinstance(policy, str) or policy.lower() not in kinds:
        raise InvalidSettingError(
            f"the algorithm must be one of {', '.join(BANDITS)}, or a BanditAlgorithm, but {policy!r} was given"
        )
    kind = kinds[policy.lower()]
    allowed = [field.name for field in fields(kind)]
    for name in settings:
        if name not in allowed:
            raise InvalidSettingError(f"{policy} has no setting {name!r}; it has: {', '.join(allowed) or 'none'}")
    return kind(**settings)


def parse_algorithms(text: str) -> dict[str, BanditAlgorithm]:
    """Return algorithms by what was written: "UCB1:coefficient=2,epsilon-greedy:epsilon=0:initial_value=5".

    Raises:
        InvalidSettingError: Not of this form, or no such algorithm or setting.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InvalidSettingError(f"give algorithms such as UCB1:coefficient=2,Thompson, not {text!r}")
    named = {part: part.partition(":") for part in parts}
    return {part: make_algorithm(name.strip(), **parse_settings(rest, ":")) for part, (name, _, rest) in named.items()}


def parse_settings(text: str, separator: str) -> dict[str, Any]:
    """Return the settings of "name=2,other=0.5,third=true": numbers, true, false, none, and words.

    Raises:
        InvalidSettingError: Not of this form.
    """
    settings: dict[str, Any] = {}
    for part in filter(None, map(str.strip, text.split(separator))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip().isidentifier():
            raise InvalidSettingError(f"settings must be of the form name=value, but {part!r} was given")
        settings[name.strip()] = _value(value.strip())
    return settings


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
