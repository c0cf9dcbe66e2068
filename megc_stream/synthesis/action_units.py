"""Facial action units as smooth displacement fields on a face.

Face-local coordinates: unit = inter-ocular distance (IOD, between the eye centres, each the mean of its inner and outer
corner), origin half-way between the eye centres, x along the line of the eyes to the image right, y at a right angle to
it, downwards. Sides are the person's: ``left`` is the image right.

A field is a sum of Gaussian bumps anchored at points of MediaPipe's 478-point mesh, so it follows the face it is laid
on. What each action unit moves is from the FACS manual (Ekman, Friesen & Hager 2002); how far it reaches is set by
hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from megc_stream.errors import UsageError
from megc_stream.vocabulary import ACTION_UNIT_NAMES

__all__ = [
    "EMOTION_UNITS",
    "FACS_NAMES",
    "DisplacementField",
    "EyeLids",
    "FaceAxes",
    "Side",
    "SidedUnit",
    "action_unit_field",
    "eye_lids",
    "face_axes",
    "format_units",
    "mouth_opening_field",
    "mouth_widening_field",
    "parse_units",
]

Points: TypeAlias = NDArray[np.float64]
Side = Literal["both", "left", "right"]

FACS_NAMES = {unit: ACTION_UNIT_NAMES[unit] for unit in (1, 2, 4, 6, 7, 9, 10, 12, 14, 15, 17, 25)}
"""Names of the action units that can be synthesised, as the challenge's questions spell them."""

EMOTION_UNITS: dict[str, tuple[str, ...]] = {
    "positive": ("6+12", "12"),
    "negative": ("4", "4+7", "9", "10", "1+4+15", "15+17", "R14", "L14"),
    "surprise": ("1+2", "1+2+25"),
}
"""Combinations of action units that stand for each emotion; ``R14`` and ``L14`` are one-sided contempt."""


class SidedUnit(NamedTuple):
    """An action unit and the side of the person's face it shows on."""

    number: int
    side: Side = "both"


@dataclass(frozen=True)
class _Bump:
    """A Gaussian push at the mean of some mesh points; lengths in IOD, directions relative.

    ``right`` lists mesh points of the person's right side, ``left`` their mirror images; a bump on the midline has no
    ``left``. ``outwards`` is away from the midline, ``up`` against y. Standard deviations: ``width`` sideways,
    ``above`` and ``below`` the anchor.
    """

    right: tuple[int, ...]
    left: tuple[int, ...]
    outwards: float
    up: float
    width: float
    above: float
    below: float


_BUMPS: dict[int, tuple[_Bump, ...]] = {
    1: (_Bump((107, 55), (336, 285), 0.0, 1.0, 0.17, 0.30, 0.14),),
    2: (_Bump((63, 70), (293, 300), 0.15, 1.0, 0.20, 0.28, 0.14),),
    4: (
        _Bump((107, 55), (336, 285), -0.75, -0.8, 0.15, 0.22, 0.15),
        _Bump((105, 52), (334, 282), -0.1, -0.5, 0.18, 0.20, 0.14),
    ),
    6: (
        _Bump((117, 118, 50), (346, 347, 280), 0.1, 0.9, 0.24, 0.16, 0.22),
        _Bump((145,), (374,), 0.0, 0.4, 0.18, 0.07, 0.12),
        _Bump((226,), (446,), -0.4, 0.0, 0.13, 0.15, 0.15),
    ),
    7: (
        _Bump((145,), (374,), 0.0, 0.9, 0.18, 0.08, 0.12),
        _Bump((159,), (386,), 0.0, -0.35, 0.18, 0.10, 0.07),
    ),
    9: (
        _Bump((129,), (358,), 0.1, 1.0, 0.14, 0.22, 0.14),
        _Bump((193,), (417,), -0.1, 0.45, 0.12, 0.15, 0.18),
        _Bump((107, 55), (336, 285), -0.3, -0.45, 0.15, 0.20, 0.14),
        _Bump((37,), (267,), 0.0, 0.35, 0.15, 0.14, 0.08),
    ),
    10: (
        _Bump((39,), (269,), 0.0, 1.0, 0.15, 0.20, 0.07),
        _Bump((203,), (423,), 0.1, 0.5, 0.16, 0.18, 0.14),
    ),
    12: (
        _Bump((61,), (291,), 0.7, 0.8, 0.17, 0.17, 0.15),
        _Bump((205,), (425,), 0.15, 0.3, 0.22, 0.20, 0.20),
    ),
    14: (_Bump((61,), (291,), -1.0, 0.1, 0.14, 0.15, 0.15),),
    15: (
        _Bump((61,), (291,), 0.15, -1.0, 0.15, 0.13, 0.18),
        _Bump((202,), (422,), 0.05, -0.4, 0.16, 0.14, 0.16),
    ),
    17: (
        _Bump((199, 200), (), 0.0, 1.0, 0.27, 0.17, 0.22),
        _Bump((17,), (), 0.0, 0.5, 0.20, 0.09, 0.12),
    ),
    25: (
        _Bump((0, 13), (), 0.0, 0.4, 0.20, 0.13, 0.06),
        _Bump((14, 17), (), 0.0, -1.0, 0.20, 0.07, 0.22),
    ),
}
_MOUTH_OPENING = (
    _Bump((17,), (), 0.0, -1.0, 0.30, 0.12, 0.50),
    _Bump((0,), (), 0.0, 0.15, 0.20, 0.12, 0.10),
)
_MOUTH_WIDENING = (_Bump((61,), (291,), 1.0, 0.0, 0.18, 0.16, 0.16),)

_EYE_CORNERS = ((33, 133), (362, 263))
_UPPER_LIDS = (246, 161, 160, 159, 158, 157, 173), (398, 384, 385, 386, 387, 388, 466)
_LOWER_LIDS = (7, 163, 144, 145, 153, 154, 155), (382, 381, 380, 374, 373, 390, 249)
_LOWER_BROWS = (46, 53, 52, 65, 55), (285, 295, 282, 283, 276)
_MESH_POINTS = 478


@dataclass(frozen=True)
class FaceAxes:
    """The face-local coordinate system in a picture: ``local = (image - origin) @ [across, down].T / iod_px``."""

    origin: Points
    across: Points
    iod_px: float

    @property
    def down(self) -> Points:
        """The unit vector of y in the picture: ``across`` turned by 90 degrees clockwise as seen."""
        return np.array([-self.across[1], self.across[0]])

    def to_local(self, points: NDArray[np.floating]) -> Points:
        """Turn (..., 2) points in image px into face-local coordinates in IOD."""
        offset = np.asarray(points, np.float64) - self.origin
        return np.stack([offset @ self.across, offset @ self.down], axis=-1) / self.iod_px

    def to_image_vectors(self, vectors: Points) -> Points:
        """Turn (..., 2) vectors in IOD into image px."""
        return (vectors[..., :1] * self.across + vectors[..., 1:] * self.down) * self.iod_px


def face_axes(landmarks: NDArray[np.floating]) -> FaceAxes:
    """Return the face-local axes of (478, 2) landmarks in image px.

    Raises
    ------
    UsageError
        Not 478 points, or the eyes coincide.
    """
    if landmarks.shape != (_MESH_POINTS, 2):
        raise UsageError(
            f"landmarks: got shape {landmarks.shape}, expected ({_MESH_POINTS}, 2) points of the face mesh"
        )
    right, left = (landmarks[list(corners)].astype(np.float64).mean(axis=0) for corners in _EYE_CORNERS)
    iod_px = float(np.hypot(*(left - right)))
    if not iod_px > 0:
        raise UsageError(f"landmarks: the eye centres coincide or are not finite (at {right}); expected a face")
    return FaceAxes(origin=(right + left) / 2, across=(left - right) / iod_px, iod_px=iod_px)


@dataclass(frozen=True)
class DisplacementField:
    """A smooth displacement of the material of a face.

    With local coordinates (x, y) in IOD, d(x, y) = sum_i v_i exp(-((x - x_i)^2 / w_i^2 + (y - y_i)^2 / h_i^2) / 2), h_i
    being ``above_i`` where y < y_i and ``below_i`` elsewhere. All arrays are float64 with one row per bump.
    """

    axes: FaceAxes
    centres: Points
    vectors: Points
    widths: Points
    aboves: Points
    belows: Points

    def local(self, points: Points) -> Points:
        """Return the displacement, in IOD, at (..., 2) face-local points."""
        result = np.zeros(points.shape)
        for centre, vector, width, above, below in zip(
            self.centres, self.vectors, self.widths, self.aboves, self.belows, strict=True
        ):
            x, y = points[..., 0] - centre[0], points[..., 1] - centre[1]
            height = np.where(y < 0, above, below)
            result += np.exp(-0.5 * ((x / width) ** 2 + (y / height) ** 2))[..., None] * vector
        return result

    def at(self, points: NDArray[np.floating]) -> Points:
        """Return the displacement, in image px, of the material at (..., 2) points in image px."""
        return self.axes.to_image_vectors(self.local(self.axes.to_local(points)))

    def bounds(self) -> tuple[Points, Points]:
        """Return the lowest and highest local (x, y) beyond which every bump is below 0.3 % of its height."""
        reach = 3.4
        low = self.centres - reach * np.stack([self.widths, self.aboves], axis=-1)
        high = self.centres + reach * np.stack([self.widths, self.belows], axis=-1)
        return low.min(axis=0), high.max(axis=0)

    def peak(self) -> tuple[float, Points]:
        """Return the largest displacement in IOD and where it is, in face-local coordinates."""
        centre, reach, step = self.centres.mean(axis=0), np.ptp(self.centres, axis=0) / 2 + 0.3, 0.02
        best, where = 0.0, centre
        for _ in range(3):  # ever finer grids around the largest value
            x = np.arange(centre[0] - reach[0], centre[0] + reach[0] + step / 2, step)
            y = np.arange(centre[1] - reach[1], centre[1] + reach[1] + step / 2, step)
            grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
            lengths = np.hypot(*self.local(grid).T)
            best, where = float(lengths.max()), grid[lengths.argmax()]
            centre, reach, step = where, np.full(2, 1.5 * step), step / 10
        return best, where

    def scaled_to(self, amplitude_iod: float) -> DisplacementField:
        """Return the field scaled so that its largest displacement is ``amplitude_iod``."""
        return DisplacementField(
            self.axes,
            self.centres,
            self.vectors * (amplitude_iod / self.peak()[0]),
            self.widths,
            self.aboves,
            self.belows,
        )


def action_unit_field(
    landmarks: NDArray[np.floating], units: Sequence[SidedUnit], amplitude_iod: float, asymmetry: float = 0.0
) -> DisplacementField:
    """Return the combined field of some action units at full intensity.

    Parameters
    ----------
    landmarks
        (478, 2) mesh of the face at rest, image px.
    units
        Which action units, on which side.
    amplitude_iod
        Largest displacement of the combined field, in IOD.
    asymmetry
        -1..1: units on both sides are ``1 + asymmetry`` strong on the person's left, ``1 - asymmetry`` on the right.

    Raises
    ------
    UsageError
        An unknown unit, a unit of the midline on one side, no unit, or landmarks that are no face.
    """
    check_units(units)
    if not units:
        raise UsageError("action units: none given; expected at least one, e.g. 6+12")
    weights: dict[str, float] = {"left": 1 + asymmetry, "right": 1 - asymmetry}
    parts: list[tuple[_Bump, dict[str, float]]] = [
        (bump, weights if unit.side == "both" else {unit.side: 1.0}) for unit in units for bump in _BUMPS[unit.number]
    ]
    return _field(landmarks, parts).scaled_to(amplitude_iod)


def mouth_opening_field(landmarks: NDArray[np.floating]) -> DisplacementField:
    """Return the field of a mouth opened by 1 IOD (scale it down): lower lip and jaw down, upper lip slightly up."""
    return _field(landmarks, [(bump, {}) for bump in _MOUTH_OPENING]).scaled_to(1.0)


def mouth_widening_field(landmarks: NDArray[np.floating]) -> DisplacementField:
    """Return the field of mouth corners moved 1 IOD outwards each (scale it down)."""
    return _field(landmarks, [(bump, {"left": 1.0, "right": 1.0}) for bump in _MOUTH_WIDENING]).scaled_to(1.0)


def check_units(units: Sequence[SidedUnit]) -> None:
    """Raise UsageError for a unit that cannot be synthesised, or not on that side."""
    for unit in units:
        if unit.number not in _BUMPS:
            raise UsageError(
                f"action unit {unit.number}: not known here; expected one of {', '.join(map(str, _BUMPS))}"
            )
        if unit.side != "both" and not all(bump.left for bump in _BUMPS[unit.number]):
            raise UsageError(
                f"action unit {unit.number} lies on the midline: it cannot show on the {unit.side} side alone"
            )


def parse_units(text: str) -> tuple[SidedUnit, ...]:
    """Read action units written like ``1+2`` or ``R14`` (L, R: the person's left, right side).

    Raises
    ------
    UsageError
        Not of that form, or a unit that cannot be synthesised.
    """
    units = []
    for part in text.split("+"):
        found = re.fullmatch(r"([LR]?)(\d{1,2})", part.strip())
        if found is None:
            raise UsageError(
                f"action units '{text}': cannot read '{part}'; expected numbers joined by +, e.g. 6+12 or R14"
            )
        units.append(SidedUnit(int(found[2]), _SIDES[found[1]]))
    check_units(units)
    return tuple(units)


def format_units(units: Sequence[SidedUnit]) -> str:
    """Write action units like ``1+2`` or ``R14``; the inverse of :func:`parse_units`."""
    prefixes = {side: prefix for prefix, side in _SIDES.items()}
    return "+".join(f"{prefixes[unit.side]}{unit.number}" for unit in units)


_SIDES: dict[str, Side] = {"": "both", "L": "left", "R": "right"}


def _field(landmarks: NDArray[np.floating], parts: Sequence[tuple[_Bump, dict[str, float]]]) -> DisplacementField:
    axes = face_axes(landmarks)
    local = axes.to_local(landmarks)
    centres, vectors, sizes = [], [], []
    for bump, sides in parts:
        if not bump.left:
            places = [(bump.right, 0.0, 1.0)]
        else:
            # Outwards is towards +x (image right) on the person's left side.
            places = [
                (bump.left if side == "left" else bump.right, 1.0 if side == "left" else -1.0, weight)
                for side, weight in sides.items()
            ]
        for anchors, outwards, weight in places:
            centres.append(local[list(anchors)].mean(axis=0))
            vectors.append((weight * bump.outwards * outwards, -weight * bump.up))
            sizes.append((bump.width, bump.above, bump.below))
    widths, aboves, belows = np.array(sizes).T
    return DisplacementField(axes, np.array(centres), np.array(vectors), widths, aboves, belows)


@dataclass(frozen=True)
class EyeLids:
    """The lids of one eye in face-local coordinates: y of crease, upper and lower margin as functions of x, in IOD.

    A blink pulls the skin between crease and upper margin down over the eyeball, which does not move. ``x`` increases.
    """

    axes: FaceAxes
    x: Points
    crease: Points
    upper: Points
    lower: Points

    def _profiles(self, x: Points) -> tuple[Points, Points, Points]:
        crease, upper, lower = (np.interp(x, self.x, values) for values in (self.crease, self.upper, self.lower))
        return crease, upper, lower

    def bounds(self) -> tuple[Points, Points]:
        """Return the lowest and highest (x, y), in local coordinates, that a blink can move."""
        return np.array([self.x[0], self.crease.min()]), np.array([self.x[-1], self.lower.max()])

    def local_pull(self, points: Points, closure: float) -> Points:
        """Return, in IOD, the way back to where the material seen at (..., 2) local points came from."""
        y = points[..., 1]
        crease, upper, lower = self._profiles(points[..., 0])
        margin = upper + closure * (lower - upper)
        source = crease + (y - crease) * (upper - crease) / (margin - crease)
        return np.where((y > crease) & (y < margin), source - y, 0.0)

    def local_push(self, points: Points, closure: float) -> Points:
        """Return, in IOD, how far down the skin at (..., 2) local points moves when ``closure`` (0..1) is shut."""
        y = points[..., 1]
        crease, upper, lower = self._profiles(points[..., 0])
        return np.where((y > crease) & (y < upper), closure * (lower - upper) * (y - crease) / (upper - crease), 0.0)


def eye_lids(landmarks: NDArray[np.floating]) -> tuple[EyeLids, EyeLids]:
    """Return the lids of the person's right and left eye for (478, 2) landmarks of open eyes, image px."""
    axes = face_axes(landmarks)
    local = axes.to_local(landmarks)
    eyes = []
    for corners, uppers, lowers, brows in zip(_EYE_CORNERS, _UPPER_LIDS, _LOWER_LIDS, _LOWER_BROWS, strict=True):
        start, end = local[corners[0]], local[corners[1]]
        x = np.linspace(start[0], end[0], 33)
        upper = _curve(x, np.vstack([start, local[list(uppers)], end]))
        lower = np.maximum(_curve(x, np.vstack([start, local[list(lowers)], end])), upper)
        crease = upper - 0.75 * np.maximum(upper - _curve(x, local[list(brows)]), 0.05)
        eyes.append(EyeLids(axes, x, crease, upper, lower))
    return eyes[0], eyes[1]


def _curve(x: Points, points: Points) -> Points:
    order = np.argsort(points[:, 0])
    return np.asarray(np.interp(x, points[order, 0], points[order, 1]), np.float64)
