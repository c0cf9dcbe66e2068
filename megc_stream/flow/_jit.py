"""How kernels are compiled: lazily, cached on disk where that is possible, releasing the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba

__all__ = ["kernel"]

# These keep results repeatable on one type of CPU; reordering of sums stays off.
_FASTMATH = {"contract", "nsz", "arcp", "nnan", "ninf"}


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` at its first call; later processes load it from numba's cache.

    Numba keeps the cache beside the source, else in the user's cache folder, or where ``NUMBA_CACHE_DIR`` says. If
    none is writable it refuses to cache, which must not keep the package from being used.
    """
    options = {"nopython": True, "nogil": True, "fastmath": _FASTMATH, "error_model": "numpy"}
    try:
        compiled = numba.jit(cache=True, **options)(function)
    except RuntimeError:
        compiled = numba.jit(cache=False, **options)(function)
    return cast(Callable[..., Any], compiled)
