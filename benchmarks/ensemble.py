"""29 MEAN networks averaged: one graph against 29 sessions, one thread, batch 1, in interleaved rounds.

    python benchmarks/ensemble.py [--networks 29] [--rounds 200] [--weights W.hdf5 ...]

Prints the median time of both, their ratio, and how far the outputs of the one graph are from the mean of the others.
Without --weights the networks have random weights; the time does not depend on them.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from megc_stream.models import MeanHead, MeanStream, MeanWeights, OnnxModel, build_mean, read_mean_weights


def random_network(rng: np.random.Generator, classes: int = 3) -> MeanWeights:
    def some(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.1, shape).astype(np.float32)

    def stream(count: int) -> MeanStream:
        return MeanStream(
            some(count, 1, 5, 5), some(count), 1 + some(count), some(count), some(count), np.abs(some(count))
        )

    def head(outputs: int) -> MeanHead:
        return MeanHead(some(8, 14, 5, 5), some(8), some(outputs, 392), some(outputs))

    return MeanWeights((stream(3), stream(3), stream(8)), head(1), head(classes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=29)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--weights", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    files = [read_mean_weights(file) for file in given.weights]
    networks = [files[i % len(files)] if files else random_network(rng) for i in range(given.networks)]
    features = {"features": rng.random((1, 42, 42, 3), np.float32)}
    with tempfile.TemporaryDirectory() as folder:

        def opened(name: str, parts: list[MeanWeights]) -> OnnxModel:
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(build_mean(parts, {}))
            return OnnxModel(path)

        ensemble = opened("ensemble", networks)
        singles = [opened(f"single{number}", [network]) for number, network in enumerate(networks)]
        together: list[float] = []
        apart: list[float] = []
        for _ in range(given.rounds):
            began = time.perf_counter()
            averaged = ensemble.run(features)
            between = time.perf_counter()
            outputs = [single.run(features) for single in singles]
            together.append(between - began)
            apart.append(time.perf_counter() - between)
    one, many = (1e3 * statistics.median(times) for times in (together, apart))
    difference = max(
        float(np.abs(averaged[index] - np.mean([output[index] for output in outputs], axis=0)).max())
        for index in range(2)
    )
    print(
        f"{platform.processor() or platform.machine()}, {len(networks)} networks, one thread, batch 1, median of rounds"
    )
    print(f"one graph    {one:6.2f} ms (least {1e3 * min(together):.2f})")
    print(f"{len(networks)} sessions  {many:6.2f} ms (least {1e3 * min(apart):.2f})")
    print(f"ratio        {many / one:6.2f}")
    print(f"difference   {difference:.1e}")


if __name__ == "__main__":
    main()
