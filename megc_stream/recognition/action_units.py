"""Action units from the optical flow between the crops at onset and apex.

The flow is averaged over regions of the face that follow the landmarks, the motion of the head (a similarity fitted to
nose and temples) is taken out, and a linear model says which units made the pattern of what is left: one set of weights
per unit, for one side of the face, used for the other in the mirror. Each unit comes with the motions it rests on.

Left and right are the person's, as FACS and the data sets have it: in an unmirrored picture the person's left side is
on the right.
"""

from __future__ import annotations

import math
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import DataError, FlowError
from megc_stream.vocabulary import ACTION_UNIT_NAMES

__all__ = [
    "FEATURES",
    "MIDLINE_UNITS",
    "NOISE_PX",
    "FaceMotion",
    "MeasuredUnit",
    "RegionMotion",
    "UnitModel",
    "face_motion",
    "load_unit_model",
    "measure_units",
    "side_features",
]

Side = Literal["both", "left", "right"]

MIDLINE_UNITS = (17, 25, 26)
"""Units that have no sides."""

NOISE_PX = 0.1
"""Motion (root mean square over all regions) below which a pattern fades into none."""

_PRESENT = 0.5
_SHOWN_MOTIONS = 4
_LEAST_SHOWN_PX = 0.05
_RIGID_OUTLIER_PX = 0.1


class _Region(NamedTuple):
    """Where the flow is averaged: around the mean of some of the 68 points, moved by some px, Gaussian ``sigma_px``.

    Points are those of the image's left half; ``outwards_px`` is away from the midline.
    """

    points: tuple[int, ...]
    outwards_px: float
    up_px: float
    sigma_px: float


_SIDE_REGIONS: dict[str, _Region] = {
    "inner brow": _Region((20, 21), 0, 0, 3.5),
    "forehead above inner brow": _Region((20, 21), 0, 7, 4.0),
    "middle brow": _Region((19,), 0, 0, 3.5),
    "outer brow": _Region((17, 18), 0, 0, 3.5),
    "forehead above outer brow": _Region((18,), 0, 7, 4.0),
    "upper lid": _Region((37, 38), 0, 1, 2.5),
    "lower lid": _Region((40, 41), 0, -1.5, 2.5),
    "outer eye corner": _Region((36,), 4, 0, 3.0),
    "cheek": _Region((31, 36, 39, 48), 0, 2, 4.0),
    "lower cheek": _Region((31, 48, 48), 6, 4, 4.0),
    "side of the nose": _Region((27, 39), 0, -4, 3.0),
    "nostril wing": _Region((31,), 2, 1, 2.5),
    "nasolabial fold": _Region((31, 48), 1, 0, 3.5),
    "upper lip": _Region((50, 61), 1, 0, 2.5),
    "mouth corner": _Region((48,), 0, 0, 3.0),
    "beside mouth corner": _Region((48,), 6, 0, 3.0),
    "below mouth corner": _Region((48,), 0, -8, 3.5),
    "lower lip": _Region((58,), 0, 0, 2.5),
    "jaw": _Region((5, 48), 0, -6, 4.0),
}
_MIDDLE_REGIONS: dict[str, _Region] = {
    "glabella": _Region((21, 22), 0, 2, 3.0),
    "bridge of the nose": _Region((28, 29), 0, 0, 3.5),
    "philtrum": _Region((33, 51), 0, 0, 2.5),
    "middle of the upper lip": _Region((51, 62), 0, 0, 2.5),
    "middle of the lower lip": _Region((57, 66), 0, 0, 2.5),
    "chin": _Region((8, 57), 0, 0, 4.0),
    "tip of the chin": _Region((8,), 0, 3, 4.0),
}
_SIDES = len(_SIDE_REGIONS)
_LID_ROWS = [row for row, name in enumerate(_SIDE_REGIONS) if name.endswith(" lid")]

FEATURES: tuple[str, ...] = (
    *(f"{name}, {axis}" for name in _SIDE_REGIONS for axis in ("outwards", "up")),
    *(f"other {name}, {axis}" for name in _SIDE_REGIONS for axis in ("outwards", "up")),
    *(f"{name}, {axis}" for name in _MIDDLE_REGIONS for axis in ("towards this side", "up")),
)
"""Names of the numbers of :func:`side_features`, seen from one side of the face."""

# Nose and, a little inside the outline, temples: where no unit moves much.
_NOSE, _TEMPLES, _INSIDE = (27, 28, 29, 30), (0, 1, 15, 16), 0.12
_RIGID_SIGMA_PX = 3.0

# fmt: off
_MIRRORED = np.array([
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])
# fmt: on


class RegionMotion(msgspec.Struct, frozen=True, kw_only=True):
    """How a region of the face moved from onset to apex, relative to the head.

    ``across_px`` is away from the midline (inwards below 0; of a region in the middle: to the person's left),
    ``up_px`` upwards, ``px`` the length of both, in px of the crop, of which 50 are the inter-ocular distance.
    ``direction`` says the same in words.
    """

    region: str
    side: Literal["left", "right", "middle"]
    direction: str
    px: float
    across_px: float
    up_px: float


class MeasuredUnit(msgspec.Struct, frozen=True, kw_only=True):
    """An action unit, on which side of the person's face, how sure, and by which motion.

    ``confidence`` is the model's probability that the unit is there; of the units of an event it is at least 0.5.
    ``left`` and ``right`` are the probabilities for each side, equal for units of the midline.
    """

    number: int
    side: Side
    confidence: float
    left: float
    right: float
    motions: tuple[RegionMotion, ...] = ()

    @property
    def name(self) -> str:
        """The unit's name as the challenge spells it."""
        return ACTION_UNIT_NAMES[self.number]

    @property
    def code(self) -> str:
        """The unit as data sets write it: ``4``, ``L14`` (the person's left), ``R14``."""
        return {"both": "", "left": "L", "right": "R"}[self.side] + str(self.number)

    @property
    def present(self) -> bool:
        """Whether the unit is more probable than not."""
        return self.confidence >= _PRESENT


class FaceMotion(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The motion of all regions relative to the head.

    ``sides`` is (19, 2, 2) float64 px: region, side (the person's right, left), (outwards, up). ``middle`` is (7, 2)
    float64 px: region, (to the person's left, up). ``strength_px`` is the root mean square over all of them.
    """

    sides: NDArray[np.float64]
    middle: NDArray[np.float64]
    strength_px: float

    @property
    def without_lids_px(self) -> float:
        """Root mean square over all regions but the lids, px: how far an expression has gone, whether or not the eyes
        blink."""
        sides = np.delete(self.sides, _LID_ROWS, axis=0)
        return math.sqrt(float((np.sum(sides**2) + np.sum(self.middle**2)) / (sides.size + self.middle.size)))

    def listed(self) -> tuple[RegionMotion, ...]:
        """Return every region's motion in words and px, the longest first."""
        found = [
            _motion(name, side, self.sides[row, column])
            for row, name in enumerate(_SIDE_REGIONS)
            for column, side in enumerate(("right", "left"))
        ]
        found += [_motion(name, "middle", self.middle[row]) for row, name in enumerate(_MIDDLE_REGIONS)]
        return tuple(sorted(found, key=lambda motion: -motion.px))


class UnitModel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The linear model: ``weights`` (U, F) float64 over :data:`FEATURES`, ``biases`` (U,), for ``units`` by number."""

    units: tuple[int, ...]
    weights: NDArray[np.float64]
    biases: NDArray[np.float64]


def face_motion(flow: NDArray[np.float32], landmarks68: NDArray[Any]) -> FaceMotion:
    """Return how the regions of a face moved, the head's motion taken out.

    Parameters
    ----------
    flow
        (128, 128, 2) float32, px: motion from the crop at onset to the crop at apex.
    landmarks68
        (68, 2) landmarks in the crop at onset, px.

    Raises
    ------
    FlowError
        Arrays of another shape, or not finite.
    """
    if flow.ndim != 3 or flow.shape[2] != 2:
        raise FlowError(f"face_motion: flow has shape {flow.shape}, expected (H, W, 2)")
    points = np.asarray(landmarks68, np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all() or not np.isfinite(flow).all():
        raise FlowError(
            f"face_motion: landmarks68 {landmarks68.shape} or flow not as expected; expected finite (68, 2) and flow"
        )
    head = _head_motion(flow, points)
    sides = np.zeros((_SIDES, 2, 2))
    for row, region in enumerate(_SIDE_REGIONS.values()):
        indices = list(region.points)
        # The person's right side is the left of the picture.
        for column, (chosen, outwards) in enumerate(((indices, -1.0), (_MIRRORED[indices].tolist(), 1.0))):
            centre = points[chosen].mean(axis=0) + np.array([outwards * region.outwards_px, -region.up_px])
            across, down = _mean_flow(flow, centre, region.sigma_px) - head(centre)
            sides[row, column] = outwards * across, -down
    middle = np.zeros((len(_MIDDLE_REGIONS), 2))
    for row, region in enumerate(_MIDDLE_REGIONS.values()):
        centre = points[list(region.points)].mean(axis=0) - np.array([0.0, region.up_px])
        across, down = _mean_flow(flow, centre, region.sigma_px) - head(centre)
        middle[row] = across, -down
    strength_px = math.sqrt(float((np.sum(sides**2) + np.sum(middle**2)) / (sides.size + middle.size)))
    return FaceMotion(sides=sides, middle=middle, strength_px=strength_px)


def side_features(motion: FaceMotion) -> NDArray[np.float64]:
    """Return (2, F) float64 what the model sees from the person's right and left side, see :data:`FEATURES`.

    All numbers are divided by sqrt(strength^2 + NOISE_PX^2): the pattern counts, not its strength.
    """
    views = []
    for column, towards in ((0, -1.0), (1, 1.0)):
        middle = motion.middle * (towards, 1.0)
        views.append(
            np.concatenate([motion.sides[:, column].ravel(), motion.sides[:, 1 - column].ravel(), middle.ravel()])
        )
    return np.stack(views) / math.hypot(motion.strength_px, NOISE_PX)


def measure_units(motion: FaceMotion, model: UnitModel | None = None) -> tuple[MeasuredUnit, ...]:
    """Return every unit that the model knows, the most probable first; those with ``present`` are there.

    Parameters
    ----------
    motion
        From :func:`face_motion`, onset to apex.
    model
        The shipped one without it.

    Notes
    -----
    The probability of unit u on a side with features x is 1 / (1 + exp(-(w_u . x + b_u))); ``confidence`` is the larger
    of both sides', and the unit is on both sides if both are at least 0.5. Of a unit of the midline the mean of
    w_u . x + b_u over both sides counts.
    """
    model = model or load_unit_model()
    features = side_features(motion)
    scores = features @ model.weights.T + model.biases
    found = []
    for row, number in enumerate(model.units):
        values = scores[:, row]
        if number in MIDLINE_UNITS:
            values = np.full(2, values.mean())
        right, left = (1 / (1 + math.exp(-float(np.clip(value, -50, 50)))) for value in values)
        side: Side = "both"
        if number not in MIDLINE_UNITS and min(left, right) < _PRESENT:
            side = "left" if left > right else "right"
        if max(left, right) < _PRESENT:
            side = "both"
        found.append(
            MeasuredUnit(
                number=number,
                side=side,
                confidence=max(left, right),
                left=left,
                right=right,
                motions=_reasons(motion, features, model.weights[row], side),
            )
        )
    return tuple(sorted(found, key=lambda unit: (-unit.confidence, unit.number)))


@cache
def load_unit_model(path: Path | None = None) -> UnitModel:
    """Return the shipped model, or that of a file made by ``models/fit_action_units.py``.

    Raises
    ------
    DataError
        The file cannot be read, or is not such a model.
    """
    file = path or Path(__file__).with_name("action_units.toml")
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))["units"]
        units = tuple(int(number) for number in tables)
        weights = np.array([[table["weights"][name] for name in FEATURES] for table in tables.values()], np.float64)
        biases = np.array([table["bias"] for table in tables.values()], np.float64)
    except OSError as error:
        raise DataError(f"action units {file}: cannot be read ({error.strerror}); expected a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"action units {file}: not a model of action units ({error!r}); make one with models/fit_action_units.py"
        ) from error
    if weights.shape != (len(units), len(FEATURES)) or any(number not in ACTION_UNIT_NAMES for number in units):
        raise DataError(f"action units {file}: units {units}; expected known FACS numbers, each with its weights")
    return UnitModel(units=units, weights=weights, biases=biases)


class _HeadMotion(NamedTuple):
    """x -> shift + [[scale, -turn], [turn, scale]] (x - centre), px."""

    centre: NDArray[np.float64]
    shift_x: float
    shift_y: float
    scale: float
    turn: float

    def __call__(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = point - self.centre
        return np.array([self.shift_x + self.scale * x - self.turn * y, self.shift_y + self.turn * x + self.scale * y])


def _head_motion(flow: NDArray[np.float32], points: NDArray[np.float64]) -> _HeadMotion:
    """Fit a similarity to the motion of nose and temples; points that move on their own lose their weight (Cauchy)."""
    middle = points.mean(axis=0)
    temples = points[list(_TEMPLES)]
    places = np.concatenate([points[list(_NOSE)], temples + _INSIDE * (middle - temples)])
    moved = np.array([_mean_flow(flow, place, _RIGID_SIGMA_PX) for place in places])
    centre = places.mean(axis=0)
    x, y = (places - centre).T
    one, none = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate([np.column_stack([one, none, x, -y]), np.column_stack([none, one, y, x])])
    wanted = np.concatenate([moved[:, 0], moved[:, 1]])
    weights = np.ones(len(places))
    solution = np.zeros(4)
    for _ in range(8):
        root = np.tile(np.sqrt(weights), 2)
        solution = np.linalg.lstsq(rows * root[:, None], wanted * root, rcond=None)[0]
        rest = (rows @ solution - wanted).reshape(2, -1)
        weights = 1 / (1 + (rest**2).sum(axis=0) / _RIGID_OUTLIER_PX**2)
    return _HeadMotion(centre, *solution.tolist())


def _mean_flow(flow: NDArray[np.float32], centre: NDArray[np.float64], sigma_px: float) -> NDArray[np.float64]:
    """Return the Gaussian mean of the flow around a point, over the part inside the crop; 0 where there is none."""
    height, width = flow.shape[:2]
    reach = 3 * sigma_px
    left, right = max(0, math.ceil(centre[0] - reach)), min(width, math.floor(centre[0] + reach) + 1)
    top, bottom = max(0, math.ceil(centre[1] - reach)), min(height, math.floor(centre[1] + reach) + 1)
    if left >= right or top >= bottom:
        return np.zeros(2)
    x = np.exp(-0.5 * ((np.arange(left, right) - centre[0]) / sigma_px) ** 2)
    y = np.exp(-0.5 * ((np.arange(top, bottom) - centre[1]) / sigma_px) ** 2)
    total = float(x.sum() * y.sum())
    mean: NDArray[np.float64] = np.einsum("y,x,yxc->c", y, x, flow[top:bottom, left:right].astype(np.float64)) / total
    return mean


def _reasons(
    motion: FaceMotion, features: NDArray[np.float64], weights: NDArray[np.float64], side: Side
) -> tuple[RegionMotion, ...]:
    """Return the motions that speak most for a unit, the strongest reason first."""
    reasons: dict[tuple[str, str], tuple[float, RegionMotion]] = {}
    for column, here in enumerate(("right", "left")):
        if side not in ("both", here):
            continue
        shares = (features[column] * weights).reshape(-1, 2).sum(axis=1)
        for row, name in enumerate(_SIDE_REGIONS):
            reasons[name, here] = shares[row], _motion(name, here, motion.sides[row, column])
        for row, name in enumerate(_MIDDLE_REGIONS):
            share = shares[2 * _SIDES + row]
            if share > reasons.get((name, "middle"), (-math.inf,))[0]:
                reasons[name, "middle"] = share, _motion(name, "middle", motion.middle[row])
    best = sorted(reasons.values(), key=lambda reason: -reason[0])
    return tuple([found for share, found in best if share > 0 and found.px >= _LEAST_SHOWN_PX][:_SHOWN_MOTIONS])


def _motion(region: str, side: str, vector: NDArray[np.float64]) -> RegionMotion:
    across, up = float(vector[0]), float(vector[1])
    return RegionMotion(
        region=region,
        side=side,  # type: ignore[arg-type]
        direction=_direction(side, across, up),
        px=round(math.hypot(across, up), 3),
        across_px=round(across, 3),
        up_px=round(up, 3),
    )


def _direction(side: str, across: float, up: float) -> str:
    """Return one of eight directions in words."""
    positive, negative = ("to the left", "to the right") if side == "middle" else ("outwards", "inwards")
    words = []
    if abs(up) > abs(across) * math.tan(math.pi / 8):
        words.append("up" if up > 0 else "down")
    if abs(across) > abs(up) * math.tan(math.pi / 8):
        words.append(positive if across > 0 else negative)
    return " and ".join(words) or "at rest"
