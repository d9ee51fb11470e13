"""Random tables, seats, storage and small things, placed so that a camera sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pagdeploy.examples.rooms.geometry import Box, Sphere
from pagdeploy.examples.rooms.layout import PROP, SEAT, STORAGE, TABLE, Layout, add
from pagdeploy.examples.rooms.textures import random_material

NEAREST_FURNITURE = 0.9
"""Metres that every piece of furniture keeps from the camera, past its own radius."""


def furnish(layout: Layout, random: np.random.Generator) -> None:
    """Place furniture so that most of it is in view and none of it stands in another piece."""
    width, _, length = (2 * h for h in layout.room.half)
    camera = layout.camera
    taken: list[tuple[float, float, float]] = []  # x, z, radius
    wanted = int(random.integers(4, 10))
    for _ in range(6 * wanted):
        if len(taken) == wanted:
            break
        bearing = camera.yaw + random.uniform(-0.7, 0.7)
        distance = random.uniform(1.2, 5.0)
        x = camera.position[0] + distance * math.sin(bearing)
        z = camera.position[2] + distance * math.cos(bearing)
        label = int(random.choice([TABLE, TABLE, SEAT, SEAT, STORAGE, PROP]))
        half_w, half_d = {
            TABLE: (random.uniform(0.35, 0.9), random.uniform(0.3, 0.5)),
            SEAT: (random.choice([0.23, 0.25, 0.8, 1.0]), random.uniform(0.23, 0.42)),
            STORAGE: (random.uniform(0.25, 0.8), random.uniform(0.15, 0.35)),
            PROP: (0.3, 0.3),
        }[label]
        radius = math.hypot(half_w, half_d)
        yaw = random.uniform(-math.pi, math.pi)
        if label == STORAGE or random.random() < 0.4:  # back to the nearest wall
            gaps = {0: z, 1: x, 2: length - z, 3: width - x}
            wall = min(gaps, key=lambda key: gaps[key])
            yaw = wall * math.pi / 2
            if wall % 2 == 0:
                z = half_d + 0.03 if wall == 0 else length - half_d - 0.03
                x = min(max(x, half_w + 0.05), width - half_w - 0.05)
            else:
                x = half_d + 0.03 if wall == 1 else width - half_d - 0.03
                z = min(max(z, half_w + 0.05), length - half_w - 0.05)
        elif not (radius < x < width - radius and radius < z < length - radius):
            continue
        from_camera = math.hypot(x - camera.position[0], z - camera.position[2])
        if from_camera < radius + NEAREST_FURNITURE:
            continue
        if any(math.hypot(x - ox, z - oz) < radius + other for ox, oz, other in taken):
            continue
        taken.append((x, z, radius))
        place = _Place(x, z, yaw)
        {TABLE: _table, SEAT: _seat, STORAGE: _storage, PROP: _props}[label](
            layout, random, place, half_w, half_d
        )


@dataclass(frozen=True)
class _Place:
    """A spot on the floor with a direction; makes boxes given in the piece's own axes."""

    x: float
    z: float
    yaw: float

    def at(self, right: float, back: float) -> tuple[float, float]:
        cosine, sine = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + cosine * right + sine * back, self.z + cosine * back - sine * right

    def box(self, right: float, up: float, back: float, half: tuple[float, float, float]) -> Box:
        x, z = self.at(right, back)
        return Box((x, up, z), half, self.yaw)


def _legs(place: _Place, half_w: float, half_d: float, top: float, thickness: float) -> list[Box]:
    half = (thickness, top / 2, thickness)
    right, back = half_w - thickness, half_d - thickness
    return [
        place.box(sign_x * right, top / 2, sign_z * back, half)
        for sign_x in (-1, 1)
        for sign_z in (-1, 1)
    ]


def _table(
    layout: Layout, random: np.random.Generator, place: _Place, half_w: float, half_d: float
) -> None:
    top, slab = random.uniform(0.42, 0.85), random.uniform(0.015, 0.035)
    look = random_material(random, ("wood", "wood", "plain", "marble"), 0.5)
    solids = _legs(place, half_w, half_d, top - 2 * slab, random.uniform(0.02, 0.045))
    solids.append(place.box(0, top - slab, 0, (half_w, slab, half_d)))
    add(layout, solids, TABLE, look)
    for _ in range(int(random.integers(0, 4))):
        x, z = place.at(half_w * random.uniform(-0.75, 0.75), half_d * random.uniform(-0.65, 0.65))
        _prop(layout, random, x, top, z, random.uniform(0.05, 0.13))


def _seat(
    layout: Layout, random: np.random.Generator, place: _Place, half_w: float, half_d: float
) -> None:
    look = random_material(random, ("plain", "cloth", "stripes", "cloth", "wood"), 0.45)
    level, back = random.uniform(0.38, 0.5), random.uniform(0.75, 1.0)
    if half_w < 0.5:  # a chair
        solids = _legs(place, half_w, half_d, level - 0.04, 0.02)
        solids.append(place.box(0, level - 0.02, 0, (half_w, 0.02, half_d)))
        solids.append(
            place.box(0, (level + back) / 2, 0.02 - half_d, (half_w, (back - level) / 2, 0.02))
        )
    else:  # a sofa
        arm = random.uniform(0.06, 0.12)
        solids = [
            place.box(0, level / 2, 0, (half_w, level / 2, half_d)),
            place.box(0, back / 2, 0.08 - half_d, (half_w, back / 2, 0.08)),
            place.box(half_w - arm, 0.3, 0, (arm, 0.3, half_d)),
            place.box(arm - half_w, 0.3, 0, (arm, 0.3, half_d)),
        ]
    add(layout, solids, SEAT, look)


def _storage(
    layout: Layout, random: np.random.Generator, place: _Place, half_w: float, half_d: float
) -> None:
    height = random.uniform(0.6, 2.0)
    if random.random() < 0.5:  # a closed cabinet
        look = random_material(random, ("panels", "panels", "plain", "wood"), 0.5)
        add(layout, [place.box(0, height / 2, 0, (half_w, height / 2, half_d))], STORAGE, look)
        return
    look = random_material(random, ("wood", "plain"), 0.5)
    board, levels = 0.015, int(random.integers(2, 5))
    solids = [
        place.box(side * (half_w - board), height / 2, 0, (board, height / 2, half_d))
        for side in (-1, 1)
    ]
    solids.append(place.box(0, height / 2, board - half_d, (half_w, height / 2, board)))
    inner = (half_w - 2 * board, board, half_d)
    ups = [0.05 + (height - 0.05 - board) * level / levels for level in range(levels + 1)]
    solids.extend(place.box(0, up, 0, inner) for up in ups)
    add(layout, solids, STORAGE, look)
    for up in ups[:-1]:
        if random.random() < 0.6:
            x, z = place.at(half_w * random.uniform(-0.6, 0.6), half_d * 0.3)
            _prop(layout, random, x, up + board, z, min(0.09, 0.4 * height / levels))


def _props(
    layout: Layout, random: np.random.Generator, place: _Place, half_w: float, half_d: float
) -> None:
    del half_d
    _prop(layout, random, place.x, 0.0, place.z, random.uniform(0.6, 1.0) * half_w)


def _prop(
    layout: Layout, random: np.random.Generator, x: float, up: float, z: float, size: float
) -> None:
    """Stand a ball or a small box of about `size` metres radius on a surface at height `up`."""
    kinds = ("plain", "dots", "stripes", "checker", "blotches")
    look = random_material(random, kinds, 0.5)
    if random.random() < 0.5:
        add(layout, [Sphere((x, up + size, z), size)], PROP, look)
        return
    half = (size * random.uniform(0.4, 0.8), size * random.uniform(0.4, 1), size * 0.6)
    box = Box((x, up + half[1], z), half, random.uniform(-math.pi, math.pi))
    add(layout, [box], PROP, look)
