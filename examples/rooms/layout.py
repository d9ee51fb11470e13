"""What a room consists of: solids with a class, an object number and a look, lamps, a camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pagdeploy.examples.rooms.geometry import Box, Solid
from pagdeploy.examples.rooms.textures import Colour, Material

CLASSES = ("floor", "ceiling", "wall", "table", "seat", "storage", "prop", "decor")
"""Names of the class ids. Props are small things; decor is flat: pictures, windows, doors, rugs."""

FLOOR, CEILING, WALL, TABLE, SEAT, STORAGE, PROP, DECOR = range(len(CLASSES))


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
        ambient: linear RGB of the light that comes from everywhere.
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


def add(layout: Layout, solids: Sequence[Solid], label: int, look: Material) -> None:
    """Put one more object into the room; class `label`."""
    instance = layout.parts[-1].instance + 1 if layout.parts else 1
    layout.parts.extend(Part(solid, label, instance, look) for solid in solids)
