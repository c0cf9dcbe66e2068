"""Pairs of crops with known action units, and the linear model that is fitted to them.

Portraits are set in motion and taken through face tracking and optical flow as any recording is, see
:mod:`megc_stream.training.corpus`; the expressions come one after the other, so that few frames make many pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import MissingExtraError
from megc_stream.flow import TVL1Solver
from megc_stream.recognition.action_units import (
    FEATURES,
    MIDLINE_UNITS,
    FaceMotion,
    UnitModel,
    face_motion,
    side_features,
)
from megc_stream.settings import FlowSettings
from megc_stream.synthesis import ClipPlan, PlannedEvent, plan_clip
from megc_stream.synthesis.action_units import EMOTION_UNITS, FACS_NAMES, SidedUnit, parse_units
from megc_stream.synthesis.plan import Blink
from megc_stream.training.corpus import rendered_crops

__all__ = ["UNITS", "UnitPair", "fit_unit_model", "format_unit_model", "plan_unit_clip", "unit_pairs"]

UNITS = tuple(FACS_NAMES)
"""The units that can be synthesised, and so learnt."""

_CROP_PX = 128
_FPS = 25.0
# Frames from rest to apex, and from rest to rest; then one more at rest.
_RISE, _LENGTH = 3, 6
_LEAD = 10
_BLINK_EVERY = 8
_ONE_SIDED_SHARE = 0.25
_KNOWN_SHARE = 0.5
_COMBINATIONS = tuple(units for combinations in EMOTION_UNITS.values() for units in combinations)


@dataclass(frozen=True, eq=False)
class UnitPair:
    """What was measured between two crops, and the units at work between them.

    ``units`` is empty for a pair without an expression; ``amplitude_iod`` is the largest displacement, in inter-ocular
    distances.
    """

    person: str
    motion: FaceMotion
    units: tuple[SidedUnit, ...]
    amplitude_iod: float


def plan_unit_clip(seed: int, events: int) -> ClipPlan:
    """Plan a clip of expressions in close order, at 25 frames per second.

    Half of the expressions are those of :data:`megc_stream.synthesis.action_units.EMOTION_UNITS`, the others one to
    three units drawn at random, a quarter of these on one side of the face only; 0.015 to 0.05 inter-ocular distances.
    The head sways, the light drifts; here and there the eyes blink, also within an expression.
    """
    rng = np.random.default_rng(seed)
    frames = _LEAD + (_LENGTH + 1) * events + _LEAD
    plan = plan_clip(
        seed,
        _FPS,
        frames / _FPS,
        events=0,
        interocular_px_range=(75.0, 130.0),
        noise_sigma=float(rng.uniform(1, 3)),
        blinks_per_s=0,
        speech_per_s=0,
    )
    planned = []
    for number in range(events):
        onset = _LEAD + (_LENGTH + 1) * number
        planned.append(
            PlannedEvent(
                onset=onset,
                apex=onset + _RISE,
                offset=onset + _LENGTH,
                emotion="",
                units=_some_units(rng),
                amplitude_iod=float(rng.uniform(0.015, 0.05)),
                asymmetry=float(rng.uniform(-0.2, 0.2)),
            )
        )
    blinks = [
        Blink(event.onset / _FPS + float(rng.uniform(-0.1, 0.1)), float(rng.uniform(0.15, 0.3)))
        for event in planned[_BLINK_EVERY - 1 :: _BLINK_EVERY]
    ]
    return msgspec.structs.replace(plan, events=tuple(planned), blinks=tuple(blinks))


def unit_pairs(
    person: str, portrait: NDArray[np.uint8], landmarks: NDArray[np.float32], seed: int, events: int
) -> list[UnitPair]:
    """Return the pairs of one clip: onset to apex of each expression, and of each second one a pair at rest after it.

    Parameters
    ----------
    person
        Who is seen.
    portrait
        uint8 (H, W) grey.
    landmarks
        (478, 2) mesh of the portrait, px.
    seed, events
        As for :func:`plan_unit_clip`.
    """
    plan = plan_unit_clip(seed, events)
    crops = list(rendered_crops(plan, portrait, landmarks))
    solver = TVL1Solver(_CROP_PX, _CROP_PX, **FlowSettings().model_dump())
    pairs = []
    for number, event in enumerate(plan.events):
        wanted = [(event.onset, event.apex, event.units, event.amplitude_iod)]
        if number % 2:
            wanted.append((event.onset, event.offset, (), 0.0))
        for first, second, units, amplitude_iod in wanted:
            a, b = crops[first], crops[second]
            if a.image is None or b.image is None or a.landmarks68 is None or a.segment != b.segment:
                continue
            flow = solver.solve(a.image, b.image, warm=False)
            pairs.append(UnitPair(person, face_motion(flow, a.landmarks68), units, amplitude_iod))
    return pairs


def fit_unit_model(pairs: Sequence[UnitPair], l2: float = 0.003) -> UnitModel:
    """Fit logistic regressions, one a unit, both sides of each pair as an example of their own.

    The sum over units of the mean cross-entropy, plus ``l2 / 2`` times the squared weights, is minimised (L-BFGS).

    Raises
    ------
    MissingExtraError
        torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "train", "fitting action units") from error
    seen = torch.tensor(np.stack([side_features(pair.motion) for pair in pairs]))
    truth = torch.tensor(np.stack([_labels(pair.units) for pair in pairs]))
    midline = torch.tensor([unit in MIDLINE_UNITS for unit in UNITS])
    weights = torch.zeros(len(UNITS), len(FEATURES), dtype=torch.float64, requires_grad=True)
    biases = torch.full((len(UNITS),), -2.0, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, biases], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        scores = torch.einsum("nsf,uf->nsu", seen, weights) + biases
        scores = torch.where(midline, scores.mean(dim=1, keepdim=True), scores)
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(scores, truth)
        total = 2 * len(UNITS) * entropy + l2 / 2 * (weights**2).sum()
        total.backward()
        return total

    optimiser.step(loss)
    return UnitModel(units=UNITS, weights=weights.detach().numpy(), biases=biases.detach().numpy())


def format_unit_model(model: UnitModel, remarks: Sequence[str]) -> str:
    """Return the TOML file that :func:`megc_stream.recognition.action_units.load_unit_model` reads."""
    lines = [*(f"# {remark}".rstrip() for remark in remarks), ""]
    for row, unit in enumerate(model.units):
        lines += [
            f"[units.{unit}]  # {FACS_NAMES[unit]}",
            f"bias = {model.biases[row]:.3f}",
            f"[units.{unit}.weights]",
        ]
        lines += [f'"{name}" = {value:.3f}' for name, value in zip(FEATURES, model.weights[row], strict=True)]
        lines.append("")
    return "\n".join(lines)


def _labels(units: Sequence[SidedUnit]) -> NDArray[np.float64]:
    """Return (2, U): which units are at work on the person's right and left side."""
    labels = np.zeros((2, len(UNITS)))
    for unit in units:
        for column, side in enumerate(("right", "left")):
            if unit.side in ("both", side):
                labels[column, UNITS.index(unit.number)] = 1
    return labels


def _some_units(rng: np.random.Generator) -> tuple[SidedUnit, ...]:
    if rng.random() < _KNOWN_SHARE:
        return parse_units(_COMBINATIONS[rng.integers(len(_COMBINATIONS))])
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2]))
    numbers = sorted(int(number) for number in rng.choice(UNITS, count, replace=False))
    side = ("left", "right")[rng.integers(2)] if rng.random() < _ONE_SIDED_SHARE else "both"
    return tuple(
        SidedUnit(number, "both" if number in MIDLINE_UNITS else side)  # type: ignore[arg-type]
        for number in numbers
    )
