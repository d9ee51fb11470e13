"""Measurements are kept, found again, and never half written."""

from __future__ import annotations

import pytest

from pagdeploy.engines.nvidia import timing_cache
from pagdeploy.errors import UsageError


class Cache:
    """As TensorRT's: lines of bytes in and out; another GPU's it does not take."""

    def __init__(self, content):
        self.lines = set(content.split())

    def combine(self, other, ignore_mismatch):
        assert not ignore_mismatch, "another GPU's measurements would choose this one's kernels"
        if b"other-gpu" in other.lines:
            return False
        self.lines |= other.lines
        return True

    def serialize(self):
        return b" ".join(sorted(self.lines))


class Config:
    def __init__(self):
        self.cache = None

    def create_timing_cache(self, content):
        return None if content.startswith(b"damaged") else Cache(content)

    def set_timing_cache(self, cache, ignore_mismatch):
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


@pytest.mark.parametrize(
    ("kept", "seed", "used", "content"),
    [
        (b"mine", b"seed", True, b"mine seed"),
        (None, b"seed", True, b"seed"),
        (b"other-gpu", b"seed", True, b"seed"),
        (b"damaged", None, False, b""),
        (b"other-gpu", b"other-gpu", False, b""),
        (None, None, False, b""),
    ],
)
def test_what_fits_is_used_together_and_kept(kept, seed, used, content, tmp_path):
    path, other = tmp_path / "deep" / "er" / "c.cache", tmp_path / "seed"
    if kept is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(kept)
    if seed is not None:
        other.write_bytes(seed)
    config = Config()
    paths = [path, other] if seed else [path]
    assert timing_cache.attach(config, paths, named=False) == used
    timing_cache.require_writable(path)
    assert timing_cache.keep(config, path) == content
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["c.cache"]


def test_what_another_build_has_kept_meanwhile_stays(tmp_path):
    path, config = tmp_path / "c.cache", Config()
    timing_cache.attach(config, [path], named=True)
    config.cache.lines.add(b"mine")
    path.write_bytes(b"theirs")
    assert timing_cache.keep(config, path) == b"mine theirs"


@pytest.mark.parametrize("content", [b"damaged", b"other-gpu"])
def test_a_named_file_that_is_something_else_is_not_replaced(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a timing cache of this TensorRT on this GPU"):
        timing_cache.attach(Config(), [path], named=True)
    assert path.read_bytes() == content


def test_a_folder_is_no_cache_and_a_file_no_folder(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        timing_cache.attach(Config(), [tmp_path], named=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        timing_cache.require_writable(tmp_path / "file" / "c.cache")


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
