"""Compilation by numba, of code that only this package holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled", "compiled_in_place"]

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function at its first call, and keep the machine code in a file where that is possible.

    Kept code is renewed when the function's own file changes, but not when a function that it calls changes in another
    one: after such a change delete `__pycache__`.
    """
    return _compile(function)


def compiled_in_place(function: Function) -> Function:
    """Compile a function that makes no arrays and returns none to Python, but writes to those that it is given.

    Without the counting of references it runs twice as fast where many arrays are handed on; see `compiled`.
    """
    return _compile(function, _nrt=False)


def _compile(function: Function, **options: Any) -> Function:
    try:
        return cast(Function, numba.njit(function, cache=True, **options))
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return cast(Function, numba.njit(function, **options))
