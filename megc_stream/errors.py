"""Everything that megc_stream raises on purpose.

The tree::

    MegcError                  anything the user can do something about
    ├── UsageError             the call itself is wrong (exit code 2)
    │   └── SettingsError      a setting, variable or flag is unknown or out of range
    ├── CaptureError           a source cannot be opened, read or decoded
    ├── ModelError             a model file is missing, damaged or of another shape
    ├── FlowError              an array handed to the flow kernels has a wrong shape, type or value
    ├── WireError              a socket, endpoint or message is unusable
    ├── OutputError            results cannot be written
    ├── DataError              a table, annotation or truth file is malformed
    └── MissingExtraError      an optional package is not installed

A message says what failed, where, what was found, what was expected and what to do, on one line.
"""

from __future__ import annotations

__all__ = [
    "CaptureError",
    "DataError",
    "FlowError",
    "MegcError",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "SettingsError",
    "UsageError",
    "WireError",
]


class MegcError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line returns for it."""

    exit_code: int = 1


class UsageError(MegcError):
    """The call is wrong in itself: contradicting flags, a bad value, a folder that must not be overwritten."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting, environment variable or configuration file has an unknown key or a value out of range."""


class CaptureError(MegcError):
    """A source cannot be opened, read or decoded."""


class ModelError(MegcError):
    """A model is unknown, missing, damaged, or its inputs and outputs are not the expected ones."""


class FlowError(MegcError, ValueError):
    """An array handed to a flow function has the wrong shape, dtype, layout or values."""


class WireError(MegcError):
    """A socket cannot be opened, an endpoint is refused, or a message cannot be understood."""


class OutputError(MegcError):
    """Results cannot be written where they were asked for."""


class DataError(MegcError):
    """A table of annotations, predictions or truth is malformed."""


class MissingExtraError(MegcError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}'; install the extra '{extra}': "
            f"pip install '.[{extra}]' in a checkout"
        )
