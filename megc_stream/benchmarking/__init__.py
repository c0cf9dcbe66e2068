"""Benchmarks that ship with the package: generated material with known truth, measures, and what is measured."""

from megc_stream.benchmarking.flow_bench import FlowBench, FlowBenchSettings, bench_flow

__all__ = ["FlowBench", "FlowBenchSettings", "bench_flow"]
