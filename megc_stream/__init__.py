"""megc_stream: streaming, real-time analysis of facial micro-expressions."""

__version__ = "0.1.0"
