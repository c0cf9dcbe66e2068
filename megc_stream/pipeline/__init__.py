"""Hosting stages: what a stage is, and the runners that link them on threads, in processes and across hosts."""

from megc_stream.pipeline.embedded import Chain, run_chains, run_embedded
from megc_stream.pipeline.stage import Sink, Stage

__all__ = ["Chain", "Sink", "Stage", "run_chains", "run_embedded"]
