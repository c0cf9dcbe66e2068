"""Turning displacements of material into the backward maps that pictures are warped with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from megc_stream.synthesis.action_units import FaceAxes

__all__ = ["FaceGrid", "Transform", "Vectors", "grid_over"]

Vectors = NDArray[np.float32]
Transform = NDArray[np.float64]
"""(2, 3): turns (x, y, 1) into (x, y)."""


@dataclass(frozen=True)
class FaceGrid:
    """A coarse, regular grid of points over a face at rest: (x, y) = origin + step_px * (column, row)."""

    origin: NDArray[np.float64]
    step_px: float
    columns: int
    rows: int

    def points(self) -> NDArray[np.float64]:
        """Return the (rows, columns, 2) points in image px."""
        x = self.origin[0] + self.step_px * np.arange(self.columns)
        y = self.origin[1] + self.step_px * np.arange(self.rows)
        return np.stack(np.meshgrid(x, y), axis=-1)

    def backward(self, forward: Vectors, iterations: int = 3) -> Vectors:
        """Invert a displacement: return b with b(q) = -d(q + b(q)).

        Material at x moves to x + d(x); what is seen at q came from q + b(q). Solved by fixed-point iteration from
        b = -d, whose error shrinks by the largest slope of d in every step.

        Parameters
        ----------
        forward
            (rows, columns, 2) float32, image px.
        iterations
            Number of steps; 3 leave less than 0.02 px of a micro-expression.
        """
        indices = _indices(self.rows, self.columns)
        result = -forward
        for _ in range(iterations):
            places = indices + result / self.step_px
            result = -cv2.remap(forward, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return result

    def over_picture(
        self, field: Vectors, to_picture: Transform, width: int, height: int
    ) -> tuple[slice, slice, Vectors]:
        """Resample a field over the pixels that a moved face covers; its vectors stay in rest coordinates.

        Parameters
        ----------
        field
            (rows, columns, 2) float32.
        to_picture
            Where points of the face at rest lie in the picture.
        width, height
            Picture size, px.

        Returns
        -------
        Row slice, column slice, and (rows, columns, 2) float32 values of the field there.
        """
        last = self.origin + self.step_px * np.array([self.columns - 1, self.rows - 1])
        corners = np.array([[x, y, 1.0] for x in (self.origin[0], last[0]) for y in (self.origin[1], last[1])])
        covered = corners @ to_picture.T
        left, top = np.clip(np.floor(covered.min(axis=0)), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(covered.max(axis=0)) + 1, 0, (width, height)).astype(int)
        if right <= left or bottom <= top:
            return slice(0, 0), slice(0, 0), np.zeros((0, 0, 2), np.float32)
        # Pixel of the cut-out -> picture -> face at rest -> index in the grid.
        to_index = cv2.invertAffineTransform(to_picture)
        to_index[:, 2] += to_index[:, :2] @ (left, top) - self.origin
        values = cv2.warpAffine(
            field,
            to_index / self.step_px,
            (int(right - left), int(bottom - top)),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )
        return slice(int(top), int(bottom)), slice(int(left), int(right)), values


def grid_over(axes: FaceAxes, low: NDArray[np.float64], high: NDArray[np.float64], step_px: float = 2.0) -> FaceGrid:
    """Return a grid over the part of a face between two corners (x, y) in face-local coordinates."""
    corners = axes.origin + axes.to_image_vectors(
        np.array([[x, y] for x in (low[0], high[0]) for y in (low[1], high[1])])
    )
    origin = np.floor(corners.min(axis=0))
    columns, rows = np.ceil((corners.max(axis=0) - origin) / step_px).astype(int) + 1
    return FaceGrid(origin, step_px, int(columns), int(rows))


def _indices(rows: int, columns: int) -> Vectors:
    return np.stack(np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32)), axis=-1)
