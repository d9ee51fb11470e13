"""Pictures of random furnished rooms with exact labels for four dense prediction tasks.

`render` is a ray caster in numpy. Every label comes from the geometry, not from the picture:
classes, boundaries (occlusions and creases), depth, surface normals.

Camera axes: x right, y down, z along the view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagdeploy.examples.rooms.geometry import (
    Box,
    FloatArray,
    IntArray,
    Sphere,
    bounding_sphere,
    column,
)
from pagdeploy.examples.rooms.layout import (
    CEILING,
    FLOOR,
    WALL,
    Camera,
    Layout,
    objects,
    random_layout,
)
from pagdeploy.examples.rooms.textures import Material, albedo

CREASE_COSINE = 0.97
"""Neighbouring surfaces of one object whose normals' cosine is below this make a boundary."""

STEP = 0.015
"""Metres by which neighbouring parallel surfaces of one object must differ to make a boundary."""

FACES_PER_PART = 8
"""Numbers of surfaces that are reserved for each solid; a box uses six, a ball one."""


@dataclass(frozen=True)
class Scene:
    """A picture and its labels.

    Attributes:
        image: (3, H, W) float32, display (gamma encoded) RGB in [0, 1].
        classes: (H, W) uint8, indices into `layout.CLASSES`.
        boundary: (H, W) bool, the pixels left of or above an occlusion edge or a crease.
        depth: (H, W) float32, metres along the optical axis (z), not along the ray.
        normals: (3, H, W) float32, unit, camera axes, towards the camera.
        instances: (H, W) int32, 0 floor, 1 ceiling, 2 to 5 walls, then one number an object.
        focal: focal length in pixels; the optical axis meets the middle of the picture.
    """

    image: FloatArray
    classes: NDArray[np.uint8]
    boundary: NDArray[np.bool_]
    depth: FloatArray
    normals: FloatArray
    instances: IntArray
    focal: float


def render(seed: int, height: int = 96, width: int = 128) -> Scene:
    """Render the room of `seed`; the same arguments always give the same arrays."""
    random = np.random.default_rng(seed)
    layout = random_layout(random)
    focal = height / 2 / math.tan(layout.camera.view / 2)
    rays = camera_rays(height, width, focal)  # (3, P), z = 1, so ray length is depth
    to_world = rotation(layout.camera)  # (3, 3)
    eye = column(layout.camera.position)  # (3, 1)
    directions = to_world @ rays  # (3, P)
    hits = _cast(layout, eye, directions)
    points = eye + directions * hits.depth  # (3, P)
    light = _light(layout, points, hits, directions)  # (3, P)
    shape = (height, width)
    image = _develop(light.reshape(3, *shape), random)
    normals = (to_world.T @ hits.normals).astype(np.float32)  # (3, P)
    local = rays * hits.depth  # (3, P), camera axes
    boundary = _boundary(
        hits.instances.reshape(shape),
        hits.surfaces.reshape(shape),
        normals.reshape(3, *shape),
        local.reshape(3, *shape),
    )
    return Scene(
        image=image,
        classes=hits.classes.reshape(shape),
        boundary=boundary,
        depth=hits.depth.reshape(shape),
        normals=normals.reshape(3, *shape),
        instances=hits.instances.reshape(shape),
        focal=focal,
    )


def camera_rays(height: int, width: int, focal: float) -> FloatArray:
    """Rays (3, H*W) through the pixel centres in camera axes, with z = 1."""
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / focal
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / focal
    grid_y, grid_x = np.meshgrid(y, x, indexing="ij")  # (H, W)
    rays = np.stack([grid_x, grid_y, np.ones_like(grid_x)])  # (3, H, W)
    return rays.reshape(3, -1).astype(np.float32)


def rotation(camera: Camera) -> FloatArray:
    """The matrix (3, 3) whose columns are the camera's right, down and forward in the world."""
    forward = np.array(
        [
            math.sin(camera.yaw) * math.cos(camera.pitch),
            -math.sin(camera.pitch),
            math.cos(camera.yaw) * math.cos(camera.pitch),
        ]
    )
    right = np.array([math.cos(camera.yaw), 0.0, -math.sin(camera.yaw)])
    down = np.cross(right, forward)
    cosine, sine = math.cos(camera.roll), math.sin(camera.roll)
    turned = [cosine * right + sine * down, cosine * down - sine * right, forward]
    return np.stack(turned, axis=1).astype(np.float32)


@dataclass
class _Hits:
    """What each ray meets first; arrays of P rays."""

    depth: FloatArray  # (P,)
    classes: NDArray[np.uint8]  # (P,)
    instances: IntArray  # (P,)
    surfaces: IntArray  # (P,), one number a flat face or ball
    normals: FloatArray  # (3, P), world axes, towards the camera
    colours: FloatArray  # (3, P), linear albedo
    gloss: FloatArray  # (P,)
    glow: FloatArray  # (P,)


def _cast(layout: Layout, eye: FloatArray, directions: FloatArray) -> _Hits:
    """Find the nearest surface on each ray, with its look."""
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
    hits = _Hits(
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


def _fill_room(hits: _Hits, layout: Layout, points: FloatArray, seen: NDArray[np.bool_]) -> None:
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
    hits: _Hits, where: NDArray[np.intp], material: Material, u: FloatArray, v: FloatArray
) -> None:
    hits.colours[:, where] = albedo(material, u, v)
    hits.gloss[where] = material.gloss
    hits.glow[where] = material.glow


def _light(layout: Layout, points: FloatArray, hits: _Hits, directions: FloatArray) -> FloatArray:
    """Linear RGB (3, P): ambient light, lamps with hard shadows, highlights."""
    upness = np.float32(0.85) + np.float32(0.15) * hits.normals[1]  # (P,)
    total = hits.colours * (column(layout.ambient) * upness + hits.glow)  # (3, P)
    view = -directions / np.sqrt((directions * directions).sum(axis=0))  # (3, P)
    raised = points + hits.normals * np.float32(2e-3)  # (3, P)
    for position, strength in layout.lamps:
        to_lamp = column(position) - raised  # (3, P)
        distance = np.sqrt((to_lamp * to_lamp).sum(axis=0))  # (P,)
        unit = to_lamp / distance  # (3, P)
        facing = np.maximum((unit * hits.normals).sum(axis=0), 0)  # (P,)
        lit = np.flatnonzero(facing > 0)
        facing[lit[_shadow(layout, raised[:, lit], to_lamp[:, lit])]] = 0
        falloff = 1 / (1 + np.float32(0.25) * distance * distance)  # (P,)
        halfway = unit + view  # (3, P)
        halfway /= np.sqrt((halfway * halfway).sum(axis=0)) + np.float32(1e-6)
        shine = np.maximum((halfway * hits.normals).sum(axis=0), 0) ** 40  # (P,)
        shine = hits.gloss * shine * (facing > 0)
        total += column(strength) * falloff * (hits.colours * facing + shine)
    return total


def _shadow(layout: Layout, points: FloatArray, to_lamp: FloatArray) -> NDArray[np.bool_]:
    """Whether anything stands between each point (3, P) and the lamp, (P,)."""
    shadow = np.zeros(points.shape[1], np.bool_)
    for indices in objects(layout):
        solids = [layout.parts[index].solid for index in indices]
        solids = [solid for solid in solids if _can_shade(solid)]
        if not solids:
            continue
        where = np.flatnonzero(~shadow & bounding_sphere(solids).near(points, to_lamp))  # (S,)
        origins, rays = points[:, where], to_lamp[:, where]  # (3, S)
        blocked = np.zeros(where.size, np.bool_)
        for solid in solids:
            blocked |= solid.blocks(origins, rays)
        shadow[where] = blocked
    return shadow


def _can_shade(solid: Box | Sphere) -> bool:
    """Leave flat things on walls and floor out of the shadow rays: they cast none."""
    return isinstance(solid, Sphere) or min(solid.half) > MIN_SHADE


def _develop(light: FloatArray, random: np.random.Generator) -> FloatArray:
    """Turn linear light (3, H, W) into display RGB: lens, exposure, gamma, noise."""
    _, height, width = light.shape
    softness = np.float32(random.uniform(0, 0.2))
    padded = np.pad(light, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (1 - 2 * softness) * padded[:, 1:-1] + softness * (padded[:, :-2] + padded[:, 2:])
    soft = (1 - 2 * softness) * rows[:, :, 1:-1] + softness * (rows[:, :, :-2] + rows[:, :, 2:])
    exposure = np.float32(random.uniform(0.15, 0.38) / max(float(soft.mean()), 0.02))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    vignette = 1 - np.float32(random.uniform(0, 0.15)) * (x * x + y * y)  # (H, W)
    exposed = 1 - np.exp(-np.float32(1.4) * soft * exposure * vignette)  # (3, H, W)
    image = exposed ** np.float32(1 / 2.2)
    image += random.uniform(0.002, 0.02) * random.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, 0, 1, dtype=np.float32)


def _boundary(
    instances: IntArray, surfaces: IntArray, normals: FloatArray, points: FloatArray
) -> NDArray[np.bool_]:
    """Mark pixels whose right or lower neighbour lies on another object or across a crease."""
    boundary = np.zeros(instances.shape, np.bool_)  # (H, W)
    for axis in (0, 1):
        here = np.s_[..., :-1, :] if axis == 0 else np.s_[..., :-1]
        there = np.s_[..., 1:, :] if axis == 0 else np.s_[..., 1:]
        other = instances[here] != instances[there]
        faces = surfaces[here] != surfaces[there]
        mine, its = normals[here], normals[there]
        bend = (mine * its).sum(axis=0) < CREASE_COSINE
        offset = points[there] - points[here]
        step = np.abs((mine * offset).sum(axis=0)) > STEP
        boundary[here] |= other | (faces & (bend | step))
    return boundary
