"""Speed and error of flow methods on pairs with known motion: one thread, interleaved pair by pair.

Single pairs of every kind are solved cold, in ``rounds`` rounds; within a round every method sees a pair before any
sees the next, so that all meet the same load of the machine. Sequences are solved in order, as a stream is: the warm
solver on every pair, the others, too slow for all of them, on every ``every``-th; errors of all methods are taken on
those. DualTVL1 sees every pair once. Ratios are of medians within one run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.benchmarking.flow_measures import angular_error_deg, end_point_error_px, moving, tvl1_energy
from megc_stream.benchmarking.flow_sequences import CASES, FPS, NOISE_SIGMA, FlowSequence, K, Pair, make_pair
from megc_stream.benchmarking.machine import calibration_ms, processor
from megc_stream.benchmarking.textures import TextureName, make_texture
from megc_stream.errors import UsageError
from megc_stream.flow import TVL1Solver
from megc_stream.output.run_record import environment
from megc_stream.settings import FlowSettings
from megc_stream.spotting import mean_features

__all__ = [
    "STREAMING",
    "FeatureCost",
    "FlowBench",
    "FlowBenchSettings",
    "MethodFigures",
    "SizeFigures",
    "Target",
    "bench_flow",
    "single_thread",
]

STREAMING = "streaming"
"""Name of the case of sequences, beside those of single pairs."""
_BASE = "opencv dual tvl1"
_WARM, _COLD = "tvl1solver warm", "tvl1solver cold"
_FARNEBACK = "opencv farneback"
_DIS = ("opencv dis ultrafast", "opencv dis fast", "opencv dis medium")
_REFERENCE_PX = 128
# The case of single pairs that the targets speak of: local motion and a common shift, with noise.
_SINGLE = "sway"

Image = NDArray[np.uint8]
Method = Callable[[Image, Image], NDArray[np.float32]]


class FlowBenchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured.

    Parameters
    ----------
    sizes
        Widths of the square pictures, px, each >= 32.
    pairs
        Pairs of each kind, and sequences, at 128 px; larger pictures get fewer in proportion to their area, at least 2
        (fewer only if ``pairs`` is).
    rounds
        How often each method sees each single pair; DualTVL1 once.
    stream_pairs, every
        Pairs of a sequence, and which of them all methods see.
    texture
        The face.
    """

    sizes: tuple[int, ...] = (128, 256)
    pairs: int = 6
    rounds: int = 3
    stream_pairs: int = 120
    every: int = 10
    texture: TextureName = "generated"


class MethodFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One method on the pairs of one case.

    ``ms_p50``, ``ms_p95``: times over ``timed`` calls. ``times_dual``: median of DualTVL1 divided by this median.
    ``error_px``, ``moving_error_px``: mean end-point error over the crop without a border of 4 px, and where the local
    motion is > 0.4 px; ``angular_error_deg``: Barron's; ``energy``: TV-L1 energy per px, lambda 0.15. Means over
    ``compared`` pairs, the same for all methods; None where nothing moves locally.
    """

    ms_p50: float
    ms_p95: float
    times_dual: float
    timed: int
    error_px: float
    moving_error_px: float | None
    angular_error_deg: float
    energy: float
    compared: int


class FeatureCost(msgspec.Struct, frozen=True, kw_only=True):
    """What turning a 128x128 flow into MEAN's input costs: u, v, strain, ranges, regions, 42x42x3."""

    ms_p50: float
    ms_p95: float


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One thing asked of TVL1Solver at 128x128: ``value`` must be >= ``goal`` (or <= where ``at_most``).

    ``least`` is the bound below which the goal counts as missed by far; None where there is none.
    """

    name: str
    value: float
    goal: float
    least: float | None
    at_most: bool
    met: bool


class SizeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """All methods at one size: case -> method -> figures."""

    size_px: int
    pairs: int
    cases: dict[str, dict[str, MethodFigures]]


class FlowBench(msgspec.Struct, frozen=True, kw_only=True):
    """The result of :func:`bench_flow`: where, with what, and what came out.

    ``calibration_ms`` is the median time of a fixed loop of plain Python (200 000 additions), to compare machines.
    """

    machine: str
    cores: int
    versions: dict[str, str]
    settings: FlowBenchSettings
    sequence: dict[str, float]
    calibration_ms: float
    sizes: tuple[SizeFigures, ...]
    features: FeatureCost
    targets: tuple[Target, ...]


class _Tally:
    """Times and errors of one method on one case."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.errors: list[tuple[float, float, float, float]] = []

    def compare(self, flow: NDArray[np.float32], pair: Pair) -> None:
        self.errors.append(
            (
                end_point_error_px(flow, pair.flow),
                end_point_error_px(flow, pair.flow, moving(pair.local_px)),
                angular_error_deg(flow, pair.flow),
                tvl1_energy(pair.reference, pair.current, flow),
            )
        )

    def figures(self, base_s: float) -> MethodFigures:
        milliseconds = np.array(self.seconds) * 1e3
        errors = np.array(self.errors)
        with_motion = errors[np.isfinite(errors[:, 1]), 1]
        return MethodFigures(
            ms_p50=float(np.percentile(milliseconds, 50)),
            ms_p95=float(np.percentile(milliseconds, 95)),
            times_dual=base_s / float(np.median(self.seconds)),
            timed=len(self.seconds),
            error_px=float(errors[:, 0].mean()),
            moving_error_px=float(with_motion.mean()) if with_motion.size else None,
            angular_error_deg=float(errors[:, 2].mean()),
            energy=float(errors[:, 3].mean()),
            compared=len(errors),
        )


@contextmanager
def single_thread() -> Iterator[None]:
    """Keep OpenCV to one thread inside the block."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def bench_flow(settings: FlowBenchSettings, progress: Callable[[str], None] | None = None) -> FlowBench:
    """Measure TVL1Solver (cold, warm) against OpenCV's DualTVL1 (defaults), DIS (3 presets) and Farneback.

    Parameters
    ----------
    settings
        What to measure.
    progress
        Called with a line of text before each size and case.

    Raises
    ------
    UsageError
        A size < 32, or a count < 1.
    MissingExtraError
        The texture is ``portrait``, and scikit-image is not installed.
    """
    _check(settings)
    tell = progress or (lambda text: None)
    texture = make_texture(settings.texture)
    with single_thread():
        sizes = tuple(_bench_size(size, settings, texture, tell) for size in settings.sizes)
        tell("features")
        features = _feature_cost(FlowSequence(texture, _REFERENCE_PX, 0, 10).pair(5).flow)
        calibrated_ms = calibration_ms()
    reference = next((figures for figures in sizes if figures.size_px == _REFERENCE_PX), None)
    here = environment()
    return FlowBench(
        machine=f"{processor()}, {here.platform}",
        cores=here.cpu_count,
        versions={"megc_stream": here.megc_stream, "python": here.python, **here.packages},
        settings=settings,
        sequence={"fps": FPS, "k": K, "noise_sigma": NOISE_SIGMA},
        calibration_ms=calibrated_ms,
        sizes=sizes,
        features=features,
        targets=() if reference is None else _targets(reference, features),
    )


def _check(settings: FlowBenchSettings) -> None:
    if not settings.sizes or min(settings.sizes) < 32:
        raise UsageError(f"bench flow: got sizes {settings.sizes}; expected widths of pictures in px, each at least 32")
    for name in ("pairs", "rounds", "stream_pairs", "every"):
        if getattr(settings, name) < 1:
            raise UsageError(f"bench flow: got {name} {getattr(settings, name)}; expected at least 1")


def _methods(size: int) -> dict[str, Method]:
    """Return all methods but the warm solver; each keeps its own buffers."""
    defaults = FlowSettings()
    solver = TVL1Solver(size, size, **defaults.model_dump())
    dual = cv2.optflow.DualTVL1OpticalFlow.create()
    presets = (cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, cv2.DISOPTICAL_FLOW_PRESET_FAST, cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis = [cv2.DISOpticalFlow.create(preset) for preset in presets]
    out = np.empty((size, size, 2), np.float32)
    return {
        _COLD: lambda a, b: solver.solve(a, b, warm=False, out=out),
        _DIS[0]: lambda a, b: dis[0].calc(a, b, None),
        _DIS[1]: lambda a, b: dis[1].calc(a, b, None),
        _DIS[2]: lambda a, b: dis[2].calc(a, b, None),
        _FARNEBACK: lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 5, 7, 1.5, 0),
        _BASE: lambda a, b: dual.calc(a, b, None),
    }


def _bench_size(
    size: int, settings: FlowBenchSettings, texture: NDArray[np.float32], tell: Callable[[str], None]
) -> SizeFigures:
    share = min(1.0, (_REFERENCE_PX / size) ** 2)
    count = max(min(2, settings.pairs), round(settings.pairs * share))
    methods = _methods(size)
    cases: dict[str, dict[str, MethodFigures]] = {}
    for case in CASES:
        tell(f"{size} px: {count} pairs '{case}'")
        pairs = [make_pair(case, texture, size, seed) for seed in range(count)]
        cases[case] = _bench_pairs(pairs, methods, settings.rounds)
    tell(f"{size} px: {count} sequences")
    sequences = [FlowSequence(texture, size, seed, settings.stream_pairs) for seed in range(count)]
    cases[STREAMING] = _bench_sequences(sequences, methods, settings.every)
    return SizeFigures(size_px=size, pairs=count, cases=cases)


def _bench_pairs(pairs: list[Pair], methods: dict[str, Method], rounds: int) -> dict[str, MethodFigures]:
    tallies = {name: _Tally() for name in methods}
    for name, method in methods.items():
        if name != _BASE:  # compiled code is loaded, buffers are made
            method(pairs[0].reference, pairs[0].current)
    for turn in range(rounds):
        for pair in pairs:
            for name, method in methods.items():
                if turn > 0 and name == _BASE:
                    continue
                flow = _timed(tallies[name], method, pair.reference, pair.current)
                if turn == 0:
                    tallies[name].compare(flow, pair)
    return _figures(tallies)


def _bench_sequences(sequences: list[FlowSequence], methods: dict[str, Method], every: int) -> dict[str, MethodFigures]:
    tallies = {name: _Tally() for name in (_WARM, *methods)}
    defaults = FlowSettings()
    size = len(sequences[0].pictures(0)[0])
    solver = TVL1Solver(size, size, **defaults.model_dump())
    out = np.empty((size, size, 2), np.float32)
    for sequence in sequences:
        solver.reset()
        for index in range(sequence.pairs):
            reference, current = sequence.pictures(index)
            flow = _timed(tallies[_WARM], lambda a, b: solver.solve(a, b, out=out), reference, current)
            if index % every == 0:
                pair = sequence.pair(index)
                tallies[_WARM].compare(flow, pair)
                for name, method in methods.items():
                    tallies[name].compare(_timed(tallies[name], method, reference, current), pair)
    return _figures(tallies)


def _timed(tally: _Tally, method: Method, reference: Image, current: Image) -> NDArray[np.float32]:
    begin_s = time.perf_counter()
    flow = method(reference, current)
    tally.seconds.append(time.perf_counter() - begin_s)
    return flow


def _figures(tallies: dict[str, _Tally]) -> dict[str, MethodFigures]:
    base_s = float(np.median(tallies[_BASE].seconds))
    return {name: tally.figures(base_s) for name, tally in tallies.items()}


def _feature_cost(flow: NDArray[np.float32], calls: int = 300) -> FeatureCost:
    # Of the 68 landmarks only those that bound brows and mouth count; placed as in an aligned crop.
    landmarks = np.zeros((68, 2), np.float32)
    for index, place in {
        17: (16, 30), 19: (28, 20), 24: (100, 20), 26: (112, 30), 41: (34, 40), 46: (95, 40),
        50: (56, 82), 57: (64, 100), 60: (44, 88), 64: (84, 88),
    }.items():  # fmt: skip
        landmarks[index] = place
    mean_features(flow, landmarks)
    seconds = []
    for _ in range(calls):
        begin_s = time.perf_counter()
        mean_features(flow, landmarks)
        seconds.append(time.perf_counter() - begin_s)
    p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
    return FeatureCost(ms_p50=float(p50), ms_p95=float(p95))


def _targets(figures: SizeFigures, features: FeatureCost) -> tuple[Target, ...]:
    streaming, single, clean = figures.cases[STREAMING], figures.cases[_SINGLE], figures.cases["clean"]
    targets = []
    for name, case, where, goal, least in (
        (_WARM, streaming, STREAMING, 400.0, 150.0),
        (_COLD, single, "single pairs", 250.0, 100.0),
    ):
        targets.append(_at_least(f"{name}: times DualTVL1, {where}", case[name].times_dual, goal, least))
        targets.extend(_errors_no_larger(name, case, where, (_BASE,)))
    targets.append(
        _at_least(
            f"{_COLD}: times Farneback, single pairs", single[_FARNEBACK].ms_p50 / single[_COLD].ms_p50, 1.0, None
        )
    )
    targets.extend(_errors_no_larger(_COLD, single, "single pairs", (_FARNEBACK, *_DIS)))
    targets.append(
        _at_most(f"{_COLD}: energy / DualTVL1's, noise-free pairs", clean[_COLD].energy / clean[_BASE].energy, 1.0)
    )
    targets.append(_at_most("features: ms", features.ms_p50, 0.15))
    return tuple(targets)


def _errors_no_larger(
    name: str, case: dict[str, MethodFigures], where: str, others: tuple[str, ...]
) -> Iterator[Target]:
    """Yield the errors of a method as a share of the least of some others, over the crop and where the face moves."""
    whose = "DualTVL1's" if others == (_BASE,) else "the least of Farneback's and DIS'"
    least_px = min(case[other].error_px for other in others)
    yield _at_most(f"{name}: error / {whose}, {where}", case[name].error_px / least_px, 1.0)
    moving_px = [case[other].moving_error_px or math.inf for other in others]
    own_px = case[name].moving_error_px
    if own_px is not None:
        yield _at_most(f"{name}: error where the face moves / {whose}, {where}", own_px / min(moving_px), 1.0)


def _at_least(name: str, value: float, goal: float, least: float | None) -> Target:
    return Target(name=name, value=value, goal=goal, least=least, at_most=False, met=value >= goal)


def _at_most(name: str, value: float, goal: float) -> Target:
    return Target(name=name, value=value, goal=goal, least=None, at_most=True, met=value <= goal)
