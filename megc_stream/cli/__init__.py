"""The command line: ``megc-stream COMMAND``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong use. Failures are one line on stderr, no traceback."""
    from megc_stream.cli.app import app
    from megc_stream.cli.console import fail
    from megc_stream.errors import MegcError, OutputError

    try:
        app(prog_name="megc-stream")
    except MegcError as error:
        fail(error)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            fail(
                OutputError(
                    f"{error.filename or 'the disk'}: {error.strerror or error}; free some space or check rights"
                )
            )
        # The reader of our output went away (`| head`): nothing is left to say.
        sys.stderr.close()
        sys.exit(1)
    except KeyboardInterrupt:
        # Before a command has begun; later ones are its own affair.
        sys.exit(130)
