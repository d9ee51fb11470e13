"""From surfaces to a photograph: lamps, shadows, highlights, then lens, exposure and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pagdeploy.examples.rooms.casting import Hits
from pagdeploy.examples.rooms.geometry import FloatArray, Solid, Sphere, bounding_sphere, column
from pagdeploy.examples.rooms.layout import Layout, objects

THINNEST_SHADE = 0.0125
"""Half thickness in metres below which a box casts no shadow: rugs."""


def light(layout: Layout, points: FloatArray, hits: Hits, directions: FloatArray) -> FloatArray:
    """Linear RGB (3, P): ambient light, lamps with hard shadows, highlights."""
    upness = np.float32(0.85) + np.float32(0.15) * hits.normals[1]  # (P,)
    total: FloatArray = hits.colours * (column(layout.ambient) * upness + hits.glow)  # (3, P)
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


def _can_shade(solid: Solid) -> bool:
    return isinstance(solid, Sphere) or min(solid.half) > THINNEST_SHADE


def develop(light: FloatArray, random: np.random.Generator) -> FloatArray:
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
    image: FloatArray = exposed ** np.float32(1 / 2.2)
    image += random.uniform(0.002, 0.02) * random.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, np.float32(0), np.float32(1))
