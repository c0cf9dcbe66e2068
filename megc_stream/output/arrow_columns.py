"""Columns of Arrow tables from Python values, without ``pyarrow.array``: that loads pandas wherever it is installed,
which takes most of a second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

__all__ = ["floats", "integers", "string_lists", "strings"]


def integers(values: Sequence[int]) -> pa.Array:
    """Return an int64 column."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.array(values, np.int64))])


def floats(values: Sequence[float | None]) -> pa.Array:
    """Return a float64 column; None becomes null."""
    known = np.array([value is not None for value in values], bool)
    numbers = np.array([0.0 if value is None else value for value in values], np.float64)
    valid = None if known.all() else pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.Array.from_buffers(pa.float64(), len(values), [valid, pa.py_buffer(numbers)])


def strings(values: Sequence[str]) -> pa.Array:
    """Return a string column."""
    encoded = [value.encode() for value in values]
    buffers = [None, pa.py_buffer(_offsets(encoded)), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def string_lists(values: Sequence[Sequence[str]]) -> pa.Array:
    """Return a column of lists of strings."""
    offsets = pa.Array.from_buffers(pa.int32(), len(values) + 1, [None, pa.py_buffer(_offsets(values))])
    return pa.ListArray.from_arrays(offsets, strings([text for several in values for text in several]))


def _offsets(values: Sequence[Sequence[object]]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Return where each value begins, and where the last one ends."""
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return offsets
