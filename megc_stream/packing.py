"""Records as bytes: msgpack maps, arrays inside them as dtype, shape and raw little-endian bytes.

Used on the links between stages and for snapshots. Nothing is ever unpickled.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any, Generic, TypeVar, cast, get_args, get_origin

import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import WireError

__all__ = ["UNREADABLE", "Unpacker", "pack"]

UNREADABLE = (ValueError, RecursionError, OverflowError)
"""What msgspec and numpy raise on bytes that were damaged or made up: wrong form, too deep, too large a number."""

_T = TypeVar("_T")
_DTYPES = frozenset(("uint8", "int64", "float32", "float64", "bool"))


class _Array(msgspec.Struct, frozen=True, array_like=True):
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@functools.cache  # numpy puts the name together anew each time, which takes longer than all the rest
def _name(dtype: np.dtype[Any]) -> str | None:
    """Return the name that an array of this type is packed under, if it can be."""
    return dtype.name if dtype.name in _DTYPES and sys.byteorder == "little" else None


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray) and (name := _name(value.dtype)) is not None:
        return _Array(name, value.shape, value.tobytes())
    raise NotImplementedError(f"cannot pack {type(value)}")


@functools.cache
def _dtypes(kind: Any) -> dict[str, np.dtype[Any]] | None:
    """Return the types, by name, that an array annotated ``NDArray[...]`` may have; None where it is no array."""
    if (get_origin(kind) or kind) is not np.ndarray:
        return None
    types = {name: np.dtype(name) for name in _DTYPES}
    scalars = {scalar for part in get_args(kind) for scalar in get_args(part)}
    return {name: dtype for name, dtype in types.items() if dtype.type in scalars} or types


def _decode(kind: Any, value: Any) -> Any:
    dtypes = _dtypes(kind)
    if dtypes is None:
        raise NotImplementedError(f"cannot unpack {kind}")
    array = msgspec.convert(value, _Array)
    dtype = dtypes.get(array.dtype)
    if dtype is None or any(n < 0 for n in array.shape):
        raise ValueError(f"array of dtype {array.dtype}, shape {array.shape}")
    result: NDArray[Any] = np.frombuffer(array.data, dtype)
    if result.size != math.prod(array.shape):
        raise ValueError(f"array of shape {array.shape} with {result.size} values")
    return result.reshape(array.shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode)


def pack(value: Any) -> bytes:
    """Return ``value`` (a record, or a structure of records and arrays) as msgpack."""
    return _encoder.encode(value)


class Unpacker(Generic[_T]):
    """Decoder of one type (a record, a union of records, a snapshot's state).

    Arrays come back read-only: they share the memory of the message.
    """

    def __init__(self, kind: type[_T] | Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind, dec_hook=_decode)

    def __call__(self, data: bytes | memoryview) -> _T:
        """Return the value packed in ``data``.

        Raises
        ------
        WireError
            The bytes are not such a value.
        """
        try:
            return cast(_T, self._decoder.decode(data))
        except UNREADABLE as error:
            raise WireError(f"message of {len(data)} bytes: cannot be understood ({error})") from error
