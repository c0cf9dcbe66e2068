"""``python -m megc_stream`` is ``megc-stream``."""

from megc_stream.cli import main

main()
