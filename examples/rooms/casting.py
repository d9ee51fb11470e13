"""What each ray of a picture meets first: depth, labels, normal and look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagdeploy.examples.rooms.geometry import FloatArray, IntArray, Sphere, bounding_sphere
from pagdeploy.examples.rooms.layout import CEILING, FLOOR, WALL, Layout, objects
from pagdeploy.examples.rooms.textures import Material, albedo

FACES_PER_PART = 8
"""Numbers of surfaces that are reserved for each solid; a box uses six, a ball one."""


@dataclass
class Hits:
    """What each ray meets first; arrays of P rays."""

    depth: FloatArray  # (P,)
    classes: NDArray[np.uint8]  # (P,)
    instances: IntArray  # (P,)
    surfaces: IntArray  # (P,), one number a flat face or ball
    normals: FloatArray  # (3, P), world axes, towards the camera
    colours: FloatArray  # (3, P), linear albedo
    gloss: FloatArray  # (P,)
    glow: FloatArray  # (P,)


def cast(layout: Layout, eye: FloatArray, directions: FloatArray) -> Hits:
    """Find the nearest surface on each ray, with its look.

    Args:
        layout: the scene.
        eye: where all rays start, (3, 1), world axes.
        directions: (3, P), world axes; depth is in units of these vectors.
    """
    count = directions.shape[1]
    depth = layout.room.slabs(eye, directions)[3]  # (P,), the inner faces: where rays leave
    nearest: IntArray = np.full(count, -1, np.int32)
    for indices in objects(layout):
        around = bounding_sphere([layout.parts[index].solid for index in indices])
        where = np.flatnonzero(around.near(eye, directions))  # (S,)
        some = directions[:, where]  # (3, S)
        for index in indices:
            length = layout.parts[index].solid.first_hit(eye, some)  # (S,)
            closer = length < depth[where]
            depth[where[closer]] = length[closer]
            nearest[where[closer]] = index
    hits = Hits(
        depth=depth,
        classes=np.zeros(count, np.uint8),
        instances=np.zeros(count, np.int32),
        surfaces=np.zeros(count, np.int32),
        normals=np.zeros((3, count), np.float32),
        colours=np.zeros((3, count), np.float32),
        gloss=np.zeros(count, np.float32),
        glow=np.zeros(count, np.float32),
    )
    points = eye + directions * depth  # (3, P)
    _fill_room(hits, layout, points, nearest == -1)
    for index in np.unique(nearest[nearest >= 0]).tolist():
        part, where = layout.parts[index], np.flatnonzero(nearest == index)
        here = points[:, where]  # (3, S)
        hits.classes[where] = part.label
        hits.instances[where] = 5 + part.instance
        if isinstance(part.solid, Sphere):
            normals = part.solid.normals(here)
            u, v = part.solid.radius * np.arctan2(normals[0], normals[2]), here[1]
            face: IntArray = np.zeros(where.size, np.int32)
        else:
            local = part.solid.local(here)  # (3, S)
            axis, side = part.solid.face(local)
            normals, face = part.solid.normals(axis, side), _face_number(axis, side)
            u, v = _face_coordinates(local, axis)
        hits.normals[:, where] = normals
        hits.surfaces[where] = FACES_PER_PART * (index + 1) + face
        _paint(hits, where, part.material, u, v)
    return hits


def _fill_room(hits: Hits, layout: Layout, points: FloatArray, seen: NDArray[np.bool_]) -> None:
    where = np.flatnonzero(seen)
    local = layout.room.local(points[:, where])  # (3, S)
    axis, side = layout.room.face(local)
    u, v = _face_coordinates(local, axis)
    wall = 2 + (axis == 2) * 2 + (side > 0)  # (S,), 2 to 5
    level = np.where(side < 0, FLOOR, CEILING)
    hits.classes[where] = np.where(axis == 1, level, WALL)
    hits.instances[where] = np.where(axis == 1, level, wall)
    hits.surfaces[where] = _face_number(axis, side)
    hits.normals[:, where] = -layout.room.normals(axis, side)
    for label, material in zip((FLOOR, CEILING, WALL), layout.surfaces, strict=True):
        mine = hits.classes[where] == label
        _paint(hits, where[mine], material, u[mine], v[mine])


def _face_number(axis: IntArray, side: FloatArray) -> IntArray:
    return (2 * axis + (side > 0)).astype(np.int32)


def _face_coordinates(local: FloatArray, axis: IntArray) -> tuple[FloatArray, FloatArray]:
    """Coordinates u, v (S,) in metres on the face across `axis`; v is the height on walls."""
    u = np.where(axis == 0, local[2], local[0])
    v = np.where(axis == 1, local[2], local[1])
    return u, v


def _paint(
    hits: Hits, where: NDArray[np.intp], material: Material, u: FloatArray, v: FloatArray
) -> None:
    hits.colours[:, where] = albedo(material, u, v)
    hits.gloss[where] = material.gloss
    hits.glow[where] = material.glow
