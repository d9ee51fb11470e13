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

from pagdeploy.examples.rooms.casting import cast
from pagdeploy.examples.rooms.geometry import FloatArray, IntArray, column
from pagdeploy.examples.rooms.interior import random_layout
from pagdeploy.examples.rooms.layout import Camera
from pagdeploy.examples.rooms.lighting import develop, light

CREASE_COSINE = 0.97
"""Neighbouring surfaces of one object whose normals' cosine is below this make a boundary."""

STEP = 0.015
"""Metres by which neighbouring parallel surfaces of one object must differ to make a boundary."""


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
    hits = cast(layout, eye, directions)
    points = eye + directions * hits.depth  # (3, P)
    brightness = light(layout, points, hits, directions)  # (3, P)
    shape = (height, width)
    image = develop(brightness.reshape(3, *shape), random)
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
