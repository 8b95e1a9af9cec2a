"""Compilation by numba, of code that only this package holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

__all__ = ["compiled"]

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function at its first call, and keep the machine code in a file where that is possible.

    Kept code is renewed when the function's own file changes, but not when a function that it calls changes in another
    one: after such a change delete `__pycache__`.
    """
    try:
        return cast(Function, numba.njit(function, cache=True, _nrt=False))
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return cast(Function, numba.njit(function))
