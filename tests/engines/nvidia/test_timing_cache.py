"""Measurements are kept, found again, and never half written."""

from __future__ import annotations

import pytest

from pagdeploy.engines.nvidia import timing_cache
from pagdeploy.errors import UsageError


class Cache:
    """As TensorRT's: bytes in, bytes out; it takes its own only."""

    def __init__(self, content):
        self.content = content

    def serialize(self):
        return self.content


class Config:
    def __init__(self):
        self.cache = None

    def create_timing_cache(self, content):
        return None if content.startswith(b"damaged") else Cache(content or b"new")

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch, "another GPU's measurements would choose this one's kernels"
        fits = not cache.content.startswith(b"other")
        self.cache = cache if fits else self.cache
        return fits

    def get_timing_cache(self):
        return self.cache


@pytest.mark.parametrize(
    ("kept", "seed", "used", "content"),
    [
        (b"mine", b"seed", True, b"mine"),
        (None, b"seed", True, b"seed"),
        (b"other GPU", b"seed", True, b"seed"),
        (b"damaged", None, False, b"new"),
        (b"other GPU", b"other GPU", False, b"new"),
        (None, None, False, b"new"),
    ],
)
def test_the_first_that_fits_is_used_and_kept(kept, seed, used, content, tmp_path):
    path, other = tmp_path / "deep" / "er" / "c.cache", tmp_path / "seed"
    if kept is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(kept)
    if seed is not None:
        other.write_bytes(seed)
    config = Config()
    assert timing_cache.attach(config, path, other if seed else None) == used
    assert timing_cache.keep(config, path) == content
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["c.cache"]


def test_a_folder_is_no_cache(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        timing_cache.attach(Config(), tmp_path)


def test_each_version_gpu_and_driver_has_its_own_file():
    names = {
        timing_cache.cache_path(*parts).name
        for parts in (
            ("tensorrt-10.1", "NVIDIA H200", "580.1"),
            ("tensorrt-10.2", "NVIDIA H200", "580.1"),
            ("tensorrt-10.1", "NVIDIA L4", "580.1"),
            ("tensorrt-10.1", "NVIDIA H200", "570"),
        )
    }
    assert len(names) == 4
    assert timing_cache.cache_path("v", "../../x", "d").name == "v-.._.._x-d.cache"
