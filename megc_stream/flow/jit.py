"""How kernels are compiled: lazily, cached on disk where that is possible, releasing the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
from numba.core.compiler import CompilerBase, DefaultPassBuilder

__all__ = ["inner_kernel", "kernel", "strict_kernel"]

# These keep results repeatable on one type of CPU; reordering of sums stays off.
_FASTMATH = {"contract", "nsz", "arcp", "nnan", "ninf"}


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` at its first call for finite values only; later processes load it from numba's cache."""
    return _compiled(function, fastmath=_FASTMATH)


def strict_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile like :func:`kernel`, with IEEE arithmetic: NaN and infinity may occur."""
    return _compiled(function, fastmath=False)


def inner_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function``, one loop over 1D arrays, to be inlined into kernels; it cannot be called from Python.

    The caller promises what C's ``restrict`` does: no array that is written shares an element with another one. LLVM
    then turns loops over a dozen arrays into vector code; without the promise it gives up on them.
    """
    return _compiled(
        function,
        fastmath=_FASTMATH,
        forceinline=True,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        pipeline_class=_Restrict,
    )


class _Restrict(CompilerBase):
    """Numba's own pipeline; arguments are declared free of overlap, for which ``jit`` has no option."""

    def define_pipelines(self) -> list[Any]:
        self.state.flags.noalias = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    # Numba keeps its cache beside the source, else in the user's cache folder, or where NUMBA_CACHE_DIR says. If none
    # is writable it refuses to cache, which must not keep the package from being used.
    options.update(nopython=True, nogil=True, error_model="numpy")
    try:
        compiled = numba.jit(cache=True, **options)(function)
    except RuntimeError:
        compiled = numba.jit(cache=False, **options)(function)
    return cast(Callable[..., Any], compiled)
