"""Constructor arguments of wrappers that hold a model."""

from __future__ import annotations

from typing import Any

from gymnasium.utils import RecordConstructorArgs

__all__ = ["record_arguments"]


class _Shared(dict[str, Any]):
    """Arguments of which copies hold the same values: wrappers around one model go on sharing it.

    Gymnasium copies the specs of all inner wrappers whenever an outer one is asked for its own.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        # Unless the wrapper is copied, its model included.
        return _Shared((name, memo.get(id(value), value)) for name, value in self.items())


def record_arguments(wrapper: RecordConstructorArgs, **arguments: Any) -> None:
    """Record the constructor arguments of a wrapper for its `spec`; it must have its model as an attribute already."""
    RecordConstructorArgs.__init__(wrapper, _disable_deepcopy=True, **arguments)
    wrapper._saved_kwargs = _Shared(arguments)
