"""Random furnished rooms: which solids stand where, what they are and how they look."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from pagdeploy.examples.rooms.geometry import Box, Solid, Sphere
from pagdeploy.examples.rooms.textures import Colour, Material

CLASSES = ("floor", "ceiling", "wall", "table", "seat", "storage", "prop", "decor")
"""Names of the class ids. Props are small things; decor is flat: pictures, windows, doors, rugs."""

FLOOR, CEILING, WALL, TABLE, SEAT, STORAGE, PROP, DECOR = range(len(CLASSES))

NEAREST_FURNITURE = 0.9
"""Metres that every piece of furniture keeps from the camera, past its own radius."""


@dataclass(frozen=True)
class Part:
    """One solid of a scene.

    Attributes:
        solid: its shape and place.
        label: class id, an index into `CLASSES`.
        instance: number of the object that it belongs to; a table's top and legs share one.
        material: its look.
    """

    solid: Solid
    label: int
    instance: int
    material: Material


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: place in metres, then angles in radians.

    Attributes:
        position: world coordinates.
        yaw: direction of view about the vertical; 0 looks along +z.
        pitch: positive looks down.
        roll: positive turns the camera clockwise.
        view: vertical field of view.
    """

    position: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float
    view: float


@dataclass
class Layout:
    """A room with its furniture, lamps and camera; `room` is seen from inside.

    Attributes:
        room: the box whose inner faces are floor, ceiling and walls.
        surfaces: looks of floor, ceiling and walls.
        camera: where the picture is taken.
        lamps: positions in metres and linear RGB strengths of the point lights.
        parts: everything in the room.
    """

    room: Box
    surfaces: tuple[Material, Material, Material]
    camera: Camera
    lamps: list[tuple[tuple[float, float, float], Colour]]
    ambient: Colour
    parts: list[Part] = field(default_factory=list)


def objects(layout: Layout) -> list[list[int]]:
    """Indices into `layout.parts`, one list for each object."""
    groups: dict[int, list[int]] = {}
    for index, part in enumerate(layout.parts):
        groups.setdefault(part.instance, []).append(index)
    return list(groups.values())


def random_layout(random: np.random.Generator) -> Layout:
    """Draw a furnished room; everything comes from `random`, in a fixed order."""
    width, height, length = random.uniform(3, 7), random.uniform(2.3, 3.2), random.uniform(3, 8)
    room = Box((width / 2, height / 2, length / 2), (width / 2, height / 2, length / 2))
    surfaces = (
        _material(random, ("plain", "checker", "tiles", "wood", "wood", "cloth", "marble"), 0.5),
        _material(random, ("plain", "plain", "plain", "tiles"), 0.8, second_near=True),
        _material(random, ("plain", "plain", "stripes", "cloth", "dots", "tiles"), 0.65, True),
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
    _furnish(layout, random)
    return layout


def _camera(
    random: np.random.Generator, width: float, height: float, length: float
) -> Camera:
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


def _material(
    random: np.random.Generator,
    kinds: tuple[str, ...],
    brightness: float,
    second_near: bool = False,
) -> Material:
    main = _colour(random, brightness)
    second = _colour(random, brightness)
    if second_near:
        change = random.uniform(0.65, 1.15)
        second = (main[0] * change, main[1] * change, main[2] * change)
    return Material(
        kind=kinds[int(random.integers(len(kinds)))],
        main=main,
        second=second,
        period=random.uniform(0.15, 0.7),
        angle=float(random.choice([0, math.pi / 2])),
        offset=(random.uniform(0, 40), random.uniform(0, 40)),
        gloss=max(0.0, random.uniform(-0.4, 0.4)),
    )


def _colour(random: np.random.Generator, brightness: float) -> Colour:
    grey = float(np.clip(random.normal(brightness, 0.22), 0.05, 0.95))
    tint = random.normal(0, 0.1 + 0.25 * random.random(), 3)
    red, green, blue = np.clip(grey * (1 + tint), 0.02, 0.98).tolist()
    return red, green, blue


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
            look = _material(random, ("wood", "plain", "panels"), 0.45)
        else:
            half_w, half_h = random.uniform(0.2, 0.7), random.uniform(0.2, 0.6)
            level = random.uniform(1.3, height - half_h - 0.15) if height > 2.1 else 1.4
            look = _material(random, ("marble", "blotches", "cloth", "checker", "stripes"), 0.5)
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
        _add(layout, [Box(place, half)], DECOR, look)
    if random.random() < 0.5:
        look = _material(random, ("stripes", "cloth", "checker", "dots", "blotches"), 0.45)
        half = (random.uniform(0.5, 1.3), 0.012, random.uniform(0.5, 1.3))
        place = (width * random.uniform(0.3, 0.7), 0.0, length * random.uniform(0.3, 0.7))
        _add(layout, [Box(place, half, random.choice([0.0, 0.0, 0.4, -0.5]))], DECOR, look)


def _furnish(layout: Layout, random: np.random.Generator) -> None:
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

    def box(
        self, right: float, up: float, back: float, half: tuple[float, float, float]
    ) -> Box:
        x, z = self.at(right, back)
        return Box((x, up, z), half, self.yaw)


def _add(layout: Layout, solids: list[Solid] | list[Box], label: int, look: Material) -> None:
    instance = layout.parts[-1].instance + 1 if layout.parts else 1
    layout.parts.extend(Part(solid, label, instance, look) for solid in solids)


def _legs(
    place: _Place, half_w: float, half_d: float, top: float, thickness: float
) -> list[Box]:
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
    look = _material(random, ("wood", "wood", "plain", "marble"), 0.5)
    solids = _legs(place, half_w, half_d, top - 2 * slab, random.uniform(0.02, 0.045))
    solids.append(place.box(0, top - slab, 0, (half_w, slab, half_d)))
    _add(layout, solids, TABLE, look)
    for _ in range(int(random.integers(0, 4))):
        x, z = place.at(
            half_w * random.uniform(-0.75, 0.75), half_d * random.uniform(-0.65, 0.65)
        )
        _prop(layout, random, x, top, z, random.uniform(0.05, 0.13))


def _seat(
    layout: Layout, random: np.random.Generator, place: _Place, half_w: float, half_d: float
) -> None:
    look = _material(random, ("plain", "cloth", "stripes", "cloth", "wood"), 0.45)
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
    _add(layout, solids, SEAT, look)


def _storage(
    layout: Layout, random: np.random.Generator, place: _Place, half_w: float, half_d: float
) -> None:
    height = random.uniform(0.6, 2.0)
    if random.random() < 0.5:  # a closed cabinet
        look = _material(random, ("panels", "panels", "plain", "wood"), 0.5)
        _add(layout, [place.box(0, height / 2, 0, (half_w, height / 2, half_d))], STORAGE, look)
        return
    look = _material(random, ("wood", "plain"), 0.5)
    board, levels = 0.015, int(random.integers(2, 5))
    solids = [
        place.box(side * (half_w - board), height / 2, 0, (board, height / 2, half_d))
        for side in (-1, 1)
    ]
    solids.append(place.box(0, height / 2, board - half_d, (half_w, height / 2, board)))
    inner = (half_w - 2 * board, board, half_d)
    ups = [0.05 + (height - 0.05 - board) * level / levels for level in range(levels + 1)]
    solids.extend(place.box(0, up, 0, inner) for up in ups)
    _add(layout, solids, STORAGE, look)
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
    look = _material(random, kinds, 0.5)
    if random.random() < 0.5:
        _add(layout, [Sphere((x, up + size, z), size)], PROP, look)
        return
    half = (size * random.uniform(0.4, 0.8), size * random.uniform(0.4, 1), size * 0.6)
    box = Box((x, up + half[1], z), half, random.uniform(-math.pi, math.pi))
    _add(layout, [box], PROP, look)
