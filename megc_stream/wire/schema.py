"""The message types described, and a hash that tells two versions of them apart."""

from __future__ import annotations

import functools
import hashlib
import json
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from megc_stream.wire.protocol import MESSAGES, PROTOCOL_VERSION, Envelope, Snapshot

__all__ = ["fields_of", "schema_hash", "structs_in", "type_text"]


@functools.cache
def schema_hash() -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of all message types: names, fields, types, defaults."""
    structs = structs_in((Envelope, *MESSAGES.values(), Snapshot))
    described = {
        struct.__name__: {field.encode_name: [type_text(field.type), field.required] for field in fields_of(struct)}
        for struct in structs
    }
    text = json.dumps([PROTOCOL_VERSION, described], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def structs_in(structs: Iterable[type[msgspec.Struct]]) -> list[type[msgspec.Struct]]:
    """Return some structs and all structs inside them, each once."""
    found: dict[type[msgspec.Struct], None] = {}
    for struct in structs:
        if struct not in found:
            found[struct] = None
            found.update(dict.fromkeys(structs_in(s for field in fields_of(struct) for s in _direct(field.type))))
    return list(found)


def fields_of(struct: type[msgspec.Struct]) -> list[msgspec.structs.FieldInfo]:
    """Return the fields of a struct as they are on the wire."""
    # What follows the map is no field of it.
    return [field for field in msgspec.structs.fields(struct) if field.name != "raw"]


def _direct(kind: Any) -> list[type[msgspec.Struct]]:
    """Return the structs that a type is made of."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [struct for argument in get_args(kind) for struct in _direct(argument)]


def type_text(kind: Any) -> str:
    """Return a type in words: ``array of str``, ``map of str to int``, ``float or null``."""
    arguments = get_args(kind)
    origin = get_origin(kind)
    if kind is Any:
        return "any"
    if kind is type(None):
        return "null"
    if hasattr(kind, "__metadata__"):
        return type_text(arguments[0])
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(argument) for argument in arguments)
    if origin is tuple and arguments[-1:] == (Ellipsis,):
        return f"array of {type_text(arguments[0])}"
    if origin is tuple:
        return f"({', '.join(type_text(argument) for argument in arguments)})"
    if origin is dict:
        return f"map of {type_text(arguments[0])} to {type_text(arguments[1])}"
    return str(kind.__name__)
