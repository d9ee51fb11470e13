"""Boxes and spheres in metres, and where rays meet them, in plain numpy.

World axes: x and z lie in the floor, y points up, the floor is y = 0. Rays are stored by
component, (3, P), because numpy is fastest on contiguous rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int32]

SMALLEST_SLOPE = np.float32(1e-7)
"""Ray components below this are treated as this, so that no division by zero happens."""


def turn(points: FloatArray, yaw: float) -> FloatArray:
    """Rotate points or directions (3, P) about the vertical axis by `yaw` radians."""
    cosine, sine = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
    x, y, z = points
    return np.stack([cosine * x + sine * z, y, cosine * z - sine * x])  # (3, P)


@dataclass(frozen=True)
class Box:
    """A box that stands upright: `centre` and `half` size in metres, turned by `yaw` radians."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw: float = 0.0

    def local(self, points: FloatArray) -> FloatArray:
        """World points (3, P) in the box's own axes, with the box centre as origin."""
        return turn(points - column(self.centre), -self.yaw)

    def slabs(
        self, origins: FloatArray, directions: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Ray lengths to the entry and exit of each pair of faces.

        Args:
            origins: (3, 1) or (3, P).
            directions: (3, P); lengths are in units of these vectors.

        Returns:
            enter (3, P), leave (3, P) per axis, and the ray's own entry (P,) and exit (P,).
        """
        start = self.local(origins)  # (3, 1) or (3, P)
        slope = turn(directions, -self.yaw)  # (3, P)
        slope = np.where(np.abs(slope) < SMALLEST_SLOPE, SMALLEST_SLOPE, slope)
        half = column(self.half)
        low = (-half - start) / slope  # (3, P)
        high = (half - start) / slope  # (3, P)
        enter, leave = np.minimum(low, high), np.maximum(low, high)
        return enter, leave, enter.max(axis=0), leave.min(axis=0)

    def first_hit(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """Ray lengths (P,) to the outside of the box; infinity where it is missed."""
        _, _, near, far = self.slabs(origins, directions)
        return np.where((near < far) & (near > 0), near, np.float32(np.inf))

    def blocks(self, origins: FloatArray, directions: FloatArray) -> BoolArray:
        """Whether the box covers part of each segment from origin to origin + direction, (P,)."""
        _, _, near, far = self.slabs(origins, directions)
        return (near < far) & (far > 0) & (near < 1)

    def face(self, local_points: FloatArray) -> tuple[IntArray, FloatArray]:
        """The face that each surface point lies on.

        Args:
            local_points: (3, P) points on the surface, in the box's own axes.

        Returns:
            axis (P,), 0 to 2, and side (P,), -1 or +1.
        """
        excess = np.abs(local_points) - column(self.half)  # (3, P), zero on the face
        axis = excess.argmax(axis=0).astype(np.int32)  # (P,)
        chosen = np.take_along_axis(local_points, axis[None].astype(np.intp), axis=0)[0]  # (P,)
        return axis, np.where(chosen < 0, np.float32(-1), np.float32(1))

    def normals(self, axis: IntArray, side: FloatArray) -> FloatArray:
        """Outward unit normals (3, P) in world axes of the faces that `face` returned."""
        unit = np.zeros((3, axis.size), np.float32)
        unit[axis, np.arange(axis.size)] = side
        return turn(unit, self.yaw)


@dataclass(frozen=True)
class Sphere:
    """A ball with `centre` and `radius` in metres."""

    centre: tuple[float, float, float]
    radius: float

    def roots(self, origins: FloatArray, directions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Ray lengths (P,) to both crossings; not a number where the ray passes by."""
        start = origins - column(self.centre)  # (3, 1) or (3, P)
        square = (directions * directions).sum(axis=0)  # (P,)
        along = (start * directions).sum(axis=0)  # (P,)
        # Distance of the ray's closest point, not b*b - 4ac: float32 would lose the radius.
        closest = start - directions * (along / square)  # (3, P)
        inside = np.float32(self.radius**2) - (closest * closest).sum(axis=0)  # (P,)
        reach = np.where(inside > 0, np.sqrt(np.maximum(inside, 0) / square), np.float32(np.nan))
        return -along / square - reach, -along / square + reach

    def first_hit(self, origins: FloatArray, directions: FloatArray) -> FloatArray:
        """Ray lengths (P,) to the outside of the ball; infinity where it is missed."""
        near, _ = self.roots(origins, directions)
        return np.where(near > 0, near, np.float32(np.inf))

    def blocks(self, origins: FloatArray, directions: FloatArray) -> BoolArray:
        """Whether the ball covers part of each segment from origin to origin + direction, (P,)."""
        near, far = self.roots(origins, directions)
        return (far > 0) & (near < 1)

    def near(self, origins: FloatArray, directions: FloatArray) -> BoolArray:
        """Whether the line of each ray (3, P) meets the ball, (P,); cheaper than the hits."""
        start = column(self.centre) - origins  # (3, 1) or (3, P)
        along = (start * directions).sum(axis=0)  # (P,)
        square = (directions * directions).sum(axis=0)  # (P,)
        apart = (start * start).sum(axis=0) - np.float32(1.01 * self.radius**2)  # (1,) or (P,)
        met: BoolArray = apart * square < along * along
        return met

    def normals(self, points: FloatArray) -> FloatArray:
        """Outward unit normals (3, P) at world points (3, P) on the surface."""
        return (points - column(self.centre)) / np.float32(self.radius)


Solid: TypeAlias = Box | Sphere


def bounding_sphere(solids: Sequence[Solid]) -> Sphere:
    """A sphere around all of `solids`, not the smallest one."""
    corners = []
    for solid in solids:
        size = (solid.radius,) * 3 if isinstance(solid, Sphere) else solid.half
        reach = float(np.linalg.norm(size))
        corners.extend([np.array(solid.centre) - reach, np.array(solid.centre) + reach])
    middle = (np.min(corners, axis=0) + np.max(corners, axis=0)) / 2
    radius = max(
        float(np.linalg.norm(np.array(solid.centre) - middle))
        + (solid.radius if isinstance(solid, Sphere) else float(np.linalg.norm(solid.half)))
        for solid in solids
    )
    x, y, z = middle.tolist()
    return Sphere((x, y, z), radius)


def column(values: tuple[float, float, float]) -> FloatArray:
    """Three numbers as a float32 array (3, 1) that broadcasts against points."""
    return np.array(values, np.float32)[:, None]
