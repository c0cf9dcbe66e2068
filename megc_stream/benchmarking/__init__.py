"""Benchmarks that ship with the package: generated material with known truth, measures, and what is measured."""

from megc_stream.benchmarking.flow_bench import FlowBench, FlowBenchSettings, bench_flow
from megc_stream.benchmarking.latency_bench import LatencyBench, LatencyProbe, histogram_svg
from megc_stream.benchmarking.wire_bench import WireBench, WireBenchSettings, WireFigures, bench_wire

__all__ = [
    "FlowBench",
    "FlowBenchSettings",
    "LatencyBench",
    "LatencyProbe",
    "WireBench",
    "WireBenchSettings",
    "WireFigures",
    "bench_flow",
    "bench_wire",
    "histogram_svg",
]
