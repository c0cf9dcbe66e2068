"""Optical flow and what is computed from it: numba kernels, numpy in, numpy out."""

from megc_stream.flow.batch import solve_batch
from megc_stream.flow.regions import region_features
from megc_stream.flow.strain import strain
from megc_stream.flow.tvl1 import TVL1Solver

__all__ = ["TVL1Solver", "region_features", "solve_batch", "strain"]
