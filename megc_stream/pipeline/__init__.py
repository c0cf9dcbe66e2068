"""Hosting stages: what a stage is, and the runner that links them in one process."""

from megc_stream.pipeline.embedded import run_embedded
from megc_stream.pipeline.stage import Sink, Stage

__all__ = ["Sink", "Stage", "run_embedded"]
