"""Random furnished rooms: walls, lamps, a camera, and what hangs on the walls."""

from __future__ import annotations

import math

import numpy as np

from pagdeploy.examples.rooms.furniture import furnish
from pagdeploy.examples.rooms.geometry import Box
from pagdeploy.examples.rooms.layout import DECOR, Camera, Layout, add
from pagdeploy.examples.rooms.textures import Material, random_material

# A kind that is named twice is twice as likely.
FLOOR_KINDS = ("plain", "checker", "tiles", "wood", "wood", "cloth", "marble")
CEILING_KINDS = ("plain", "plain", "plain", "tiles")
WALL_KINDS = ("plain", "plain", "stripes", "cloth", "dots", "tiles")
PICTURE_KINDS = ("marble", "blotches", "cloth", "checker", "stripes")


def random_layout(random: np.random.Generator) -> Layout:
    """Draw a furnished room; everything comes from `random`, in a fixed order."""
    width, height, length = random.uniform(3, 7), random.uniform(2.3, 3.2), random.uniform(3, 8)
    room = Box((width / 2, height / 2, length / 2), (width / 2, height / 2, length / 2))
    surfaces = (
        random_material(
            random, ("plain", "checker", "tiles", "wood", "wood", "cloth", "marble"), 0.5
        ),
        random_material(random, ("plain", "plain", "plain", "tiles"), 0.8, second_near=True),
        random_material(
            random, ("plain", "plain", "stripes", "cloth", "dots", "tiles"), 0.65, True
        ),
    )
    camera = _camera(random, width, height, length)
    lamps = []
    for _ in range(int(random.integers(1, 3))):
        place = (
            width * random.uniform(0.2, 0.8),
            height * random.uniform(0.75, 0.97),
            length * random.uniform(0.2, 0.8),
        )
        warmth, strength = random.uniform(-0.12, 0.12), random.uniform(1.2, 4)
        lamps.append((place, (strength * (1 + warmth), strength, strength * (1 - warmth))))
    tint, level = random.uniform(-0.06, 0.06), random.uniform(0.12, 0.35)
    ambient = (level * (1 - tint), level, level * (1 + tint))
    layout = Layout(room, surfaces, camera, lamps, ambient)
    _hang_decor(layout, random)
    furnish(layout, random)
    return layout


def _camera(random: np.random.Generator, width: float, height: float, length: float) -> Camera:
    x, z = width * random.uniform(0.1, 0.9), length * random.uniform(0.1, 0.9)
    eye = min(random.uniform(0.9, 1.9), height - 0.3)
    best_yaw, best_room = 0.0, -1.0
    for yaw in random.uniform(-math.pi, math.pi, 3):
        ahead_x, ahead_z = math.sin(yaw), math.cos(yaw)
        to_x = (width - x if ahead_x > 0 else x) / max(abs(ahead_x), 1e-6)
        to_z = (length - z if ahead_z > 0 else z) / max(abs(ahead_z), 1e-6)
        if min(to_x, to_z) > best_room:
            best_yaw, best_room = float(yaw), min(to_x, to_z)
    return Camera(
        position=(x, eye, z),
        yaw=best_yaw,
        pitch=random.normal(0.16, 0.18),
        roll=random.normal(0, 0.03),
        view=random.uniform(math.radians(42), math.radians(75)),
    )


def _hang_decor(layout: Layout, random: np.random.Generator) -> None:
    """Put pictures, windows and doors on walls, and a rug on the floor."""
    width, height, length = (2 * h for h in layout.room.half)
    for _ in range(int(random.integers(2, 7))):
        wall = int(random.integers(4))
        run = width if wall < 2 else length
        kind = random.choice(["picture", "picture", "window", "door"])
        if kind == "door":
            half_w, half_h = random.uniform(0.38, 0.5), random.uniform(0.95, 1.05)
            level = half_h
            look = random_material(random, ("wood", "plain", "panels"), 0.45)
        else:
            half_w, half_h = random.uniform(0.2, 0.7), random.uniform(0.2, 0.6)
            level = random.uniform(1.3, height - half_h - 0.15) if height > 2.1 else 1.4
            look = random_material(
                random, ("marble", "blotches", "cloth", "checker", "stripes"), 0.5
            )
            if kind == "window":
                sky = (0.75, 0.85, 0.95)
                look = Material("blotches", sky, (0.5, 0.65, 0.5), 1.5, glow=random.uniform(0.6, 1))
        along = random.uniform(half_w + 0.1, run - half_w - 0.1)
        thick = 0.02
        place, half = (
            ((along, level, 0.0 if wall == 0 else length), (half_w, half_h, thick))
            if wall < 2
            else ((0.0 if wall == 2 else width, level, along), (thick, half_h, half_w))
        )
        add(layout, [Box(place, half)], DECOR, look)
    if random.random() < 0.5:
        look = random_material(random, ("stripes", "cloth", "checker", "dots", "blotches"), 0.45)
        half = (random.uniform(0.5, 1.3), 0.012, random.uniform(0.5, 1.3))
        place = (width * random.uniform(0.3, 0.7), 0.0, length * random.uniform(0.3, 0.7))
        add(layout, [Box(place, half, random.choice([0.0, 0.0, 0.4, -0.5]))], DECOR, look)
