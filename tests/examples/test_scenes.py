"""The room renderer: the same seed gives the same scene, and its labels agree with each other."""

from __future__ import annotations

import numpy as np
import pytest

from pagdeploy.examples.rooms.geometry import Box, FloatArray, Sphere
from pagdeploy.examples.rooms.layout import CEILING, CLASSES, FLOOR, PROP, WALL
from pagdeploy.examples.rooms.scenes import Scene, camera_rays, render

SEEDS = range(20, 32)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render(seed) for seed in SEEDS]


def points(scene: Scene) -> FloatArray:
    """Camera coordinates (3, H, W) in metres, from the depth map."""
    height, width = scene.depth.shape
    rays = camera_rays(height, width, scene.focal).reshape(3, height, width)
    return rays * scene.depth


def test_same_seed_gives_the_same_arrays() -> None:
    first, second = render(7), render(7)
    for name in ("image", "classes", "boundary", "depth", "normals", "instances"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)


def test_other_seed_gives_another_scene() -> None:
    assert np.abs(render(7).image - render(8).image).mean() > 0.02


@pytest.mark.parametrize(("height", "width"), [(96, 128), (61, 83), (1, 5), (40, 7)])
def test_any_size(height: int, width: int) -> None:
    scene = render(3, height, width)
    assert scene.image.shape == scene.normals.shape == (3, height, width)
    assert scene.classes.shape == scene.boundary.shape == scene.depth.shape == (height, width)
    assert scene.image.dtype == scene.depth.dtype == scene.normals.dtype == np.float32


def test_ranges(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.min() >= 0
        assert scene.image.max() <= 1
        assert scene.image.std() > 0.02
        assert scene.classes.max() < len(CLASSES)
        assert np.isfinite(scene.depth).all()
        assert scene.depth.min() > 0.05
        assert scene.depth.max() < 12


def test_every_class_appears(scenes: list[Scene]) -> None:
    seen = {int(label) for scene in scenes for label in np.unique(scene.classes)}
    assert seen == set(range(len(CLASSES)))


def test_normals_are_unit_and_face_the_camera(scenes: list[Scene]) -> None:
    for scene in scenes:
        lengths = np.linalg.norm(scene.normals, axis=0)
        np.testing.assert_allclose(lengths, 1, atol=1e-3)
        assert ((scene.normals * points(scene)).sum(axis=0) < 1e-3).all()


def test_normals_agree_with_depth(scenes: list[Scene]) -> None:
    """On flat faces the step to the next pixel is at a right angle to the normal."""
    for scene in scenes:
        place = points(scene)
        for axis in (1, 2):
            step = np.diff(place, axis=axis)
            normal = np.delete(scene.normals, -1, axis=axis)
            next_normal = np.delete(scene.normals, 0, axis=axis)
            flat = ((normal * next_normal).sum(axis=0) > 0.999999) & ~np.delete(
                scene.boundary, -1, axis=axis - 1
            )
            flat &= np.delete(scene.classes, -1, axis=axis - 1) != PROP
            assert flat.mean() > 0.5
            off_plane = np.abs((step * normal).sum(axis=0))[flat]
            assert np.percentile(off_plane, 99.9) < 2e-3


def test_floor_ceiling_and_walls_are_the_planes_of_a_room(scenes: list[Scene]) -> None:
    for scene in scenes:
        up = {}
        for label in (FLOOR, CEILING):
            normals = scene.normals[:, scene.classes == label]  # (3, S)
            if normals.shape[1]:
                up[label] = normals[:, 0]
                np.testing.assert_allclose(normals, np.broadcast_to(normals[:, :1], normals.shape))
        if len(up) == 2:
            np.testing.assert_allclose(up[FLOOR], -up[CEILING], atol=1e-6)
        walls = scene.normals[:, scene.instances == 2]
        if FLOOR in up and walls.shape[1] and (scene.classes == WALL).any():
            assert np.abs(up[FLOOR] @ walls).max() < 1e-4


def test_class_change_is_a_boundary(scenes: list[Scene]) -> None:
    for scene in scenes:
        for labels in (scene.classes.astype(np.int32), scene.instances):
            right = labels[:, :-1] != labels[:, 1:]
            down = labels[:-1] != labels[1:]
            assert scene.boundary[:, :-1][right].all()
            assert scene.boundary[:-1][down].all()


def test_a_jump_in_depth_inside_an_object_is_a_boundary(scenes: list[Scene]) -> None:
    """Where depth leaves the plane of a pixel by more than 5 cm, an edge must lie."""
    for scene in scenes:
        step = np.diff(points(scene), axis=2)  # (3, H, W - 1)
        off_plane = np.abs((step * scene.normals[:, :, :-1]).sum(axis=0))
        jump = (off_plane > 0.05) & (scene.classes[:, :-1] != PROP)
        assert scene.boundary[:, :-1][jump].all()


def test_boundary_is_thin(scenes: list[Scene]) -> None:
    assert 0.02 < np.mean([scene.boundary.mean() for scene in scenes]) < 0.15


def test_box_is_hit_at_its_face() -> None:
    box = Box((0.0, 0.0, 5.0), (1.0, 1.0, 2.0))
    origin = np.zeros((3, 1), np.float32)
    rays = np.array([[0, 0, 1], [0, 0, 4], [0.5, 0, 1]], np.float32).T
    np.testing.assert_allclose(box.first_hit(origin, rays), [3, 0.75, np.inf], rtol=1e-6)
    assert box.blocks(origin, rays).tolist() == [False, True, False]


def test_turned_box_is_hit_at_its_edge() -> None:
    box = Box((0.0, 0.0, 5.0), (1.0, 1.0, 1.0), np.pi / 4)
    ray = np.array([[0.0], [0.0], [1.0]], np.float32)
    hit = box.first_hit(np.zeros((3, 1), np.float32), ray)
    np.testing.assert_allclose(hit, [5 - np.sqrt(2)], rtol=1e-5)


def test_sphere_is_hit_at_its_front() -> None:
    sphere = Sphere((0.0, 0.0, 4.0), 1.0)
    rays = np.array([[0, 0, 1], [0, 1, 1]], np.float32).T
    hit = sphere.first_hit(np.zeros((3, 1), np.float32), rays)
    np.testing.assert_allclose(hit, [3, np.inf], rtol=1e-6)
    assert sphere.near(np.zeros((3, 1), np.float32), rays).tolist() == [True, False]
