"""Procedural surface colours: functions from surface coordinates in metres to RGB."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pagdeploy.examples.rooms.geometry import BoolArray, FloatArray

Colour: TypeAlias = tuple[float, float, float]

NOISE_CELLS = 64
NOISE_TABLE: FloatArray = np.random.default_rng(0).random(
    (NOISE_CELLS, NOISE_CELLS), dtype=np.float32
)


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        kind: a key of `PATTERNS`.
        main: linear RGB albedo in [0, 1].
        second: the other colour of the pattern.
        period: size of one repetition in metres.
        angle: rotation of the pattern in radians.
        offset: shift of the pattern in periods, (u, v).
        gloss: strength of the highlight, 0 for matt.
        glow: light that the surface sends out itself, in units of the albedo.
    """

    kind: str
    main: Colour
    second: Colour
    period: float = 0.3
    angle: float = 0.0
    offset: tuple[float, float] = (0.0, 0.0)
    gloss: float = 0.0
    glow: float = 0.0


def value_noise(u: FloatArray, v: FloatArray, octaves: int = 1) -> FloatArray:
    """Smooth random values in [0, 1] at lattice coordinates u, v (P,), one cell per unit."""
    total = np.zeros_like(u)
    weight, weights = 1.0, 0.0
    for _ in range(octaves):
        column, row = np.floor(u), np.floor(v)
        right, down = u - column, v - row
        right, down = right * right * (3 - 2 * right), down * down * (3 - 2 * down)
        i, j = column.astype(np.int64) % NOISE_CELLS, row.astype(np.int64) % NOISE_CELLS
        i1, j1 = (i + 1) % NOISE_CELLS, (j + 1) % NOISE_CELLS
        top = NOISE_TABLE[j, i] * (1 - right) + NOISE_TABLE[j, i1] * right
        bottom = NOISE_TABLE[j1, i] * (1 - right) + NOISE_TABLE[j1, i1] * right
        total += np.float32(weight) * (top * (1 - down) + bottom * down)
        weights += weight
        weight *= 0.5
        u, v = u * np.float32(2.03), v * np.float32(2.03)
    return total / np.float32(weights)


def _as_float(choice: BoolArray) -> FloatArray:
    return choice.astype(np.float32)


def _plain(u: FloatArray, v: FloatArray) -> FloatArray:
    return np.float32(0.12) * value_noise(u * 3, v * 3, 2)


def _checker(u: FloatArray, v: FloatArray) -> FloatArray:
    return _as_float((np.floor(u) + np.floor(v)) % 2 > 0)


def _stripes(u: FloatArray, v: FloatArray) -> FloatArray:
    return _as_float(u - np.floor(u) > 0.55)


def _tiles(u: FloatArray, v: FloatArray) -> FloatArray:
    across, along = u - np.floor(u), v - np.floor(v)
    joint = (across < 0.06) | (along < 0.06)
    row: FloatArray = np.floor(v) * np.float32(1.7)
    column: FloatArray = np.floor(u) * np.float32(1.7)
    shade = np.float32(0.25) * value_noise(column, row)
    return np.where(joint, np.float32(1), shade)


def _wood(u: FloatArray, v: FloatArray) -> FloatArray:
    plank: FloatArray = np.floor(u)
    along: FloatArray = v * np.float32(0.8) + plank * np.float32(7.3)
    grain = value_noise(u * 9 + 5 * value_noise(u, v), along, 2)
    joint = u - plank < 0.04
    tone = np.float32(0.35) * value_noise(plank * np.float32(3.1), plank * np.float32(1.3))
    return np.where(joint, np.float32(1), np.float32(0.6) * grain + tone)


def _marble(u: FloatArray, v: FloatArray) -> FloatArray:
    vein: FloatArray = np.sin(u * 4 + 7 * value_noise(u, v, 3))
    return np.float32(0.5) + np.float32(0.5) * vein


def _cloth(u: FloatArray, v: FloatArray) -> FloatArray:
    return value_noise(u, v, 3)


def _panels(u: FloatArray, v: FloatArray) -> FloatArray:
    across, along = u - np.floor(u), v - np.floor(v)
    seam = (across < 0.05) | (along < 0.05)
    handle = (np.abs(across - 0.5) < 0.12) & (np.abs(along - 0.8) < 0.03)
    return _as_float(seam | handle)


def _blotches(u: FloatArray, v: FloatArray) -> FloatArray:
    return _as_float(value_noise(u * 2, v * 2, 2) > 0.5)


def _dots(u: FloatArray, v: FloatArray) -> FloatArray:
    across, along = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return _as_float(across * across + along * along < 0.08)


PATTERNS: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "plain": _plain,
    "checker": _checker,
    "stripes": _stripes,
    "tiles": _tiles,
    "wood": _wood,
    "marble": _marble,
    "cloth": _cloth,
    "panels": _panels,
    "blotches": _blotches,
    "dots": _dots,
}
"""Each takes coordinates in periods (P,) and returns the share of the second colour (P,)."""


def albedo(material: Material, u: FloatArray, v: FloatArray) -> FloatArray:
    """Linear RGB (3, P) of `material` at surface coordinates u, v (P,) in metres."""
    cosine, sine = np.float32(np.cos(material.angle)), np.float32(np.sin(material.angle))
    scale = np.float32(1 / material.period)
    turned_u = (cosine * u + sine * v) * scale + np.float32(material.offset[0])
    turned_v = (cosine * v - sine * u) * scale + np.float32(material.offset[1])
    share = PATTERNS[material.kind](turned_u, turned_v)  # (P,)
    main = np.array(material.main, np.float32)[:, None]
    second = np.array(material.second, np.float32)[:, None]
    return main + (second - main) * share  # (3, P)


def random_material(
    random: np.random.Generator,
    kinds: tuple[str, ...],
    brightness: float,
    second_near: bool = False,
) -> Material:
    """Draw a look of one of `kinds` around a `brightness` in [0, 1].

    With `second_near` the pattern's two colours differ in brightness only.
    """
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
