"""Where frames come from: video files, image folders, webcams and streams, behind one :class:`Source`."""

from megc_stream.capture.opening import open_source
from megc_stream.capture.source import Source

__all__ = ["Source", "open_source"]
