"""A bundle that anybody touched is refused before anything in it is interpreted."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pagdeploy.bundle import (
    MANIFEST,
    open_bundle,
    read_arrays,
    seal,
    write_arrays,
    writing_bundle,
)
from pagdeploy.errors import BuildFailed, IncompatibleArtifact, PagdeployError, UsageError
from pagdeploy.manifest import UNSEALED, digest_of

FILES = ("engine.onnx", "model.onnx", "sample/inputs.npz", "sample/outputs.npz")


def edited(bundle: Path, **changes: object) -> None:
    """Write the manifest with some entries changed, its digest made right again."""
    content = json.loads((bundle / MANIFEST).read_text())
    content.update(changes)
    text = json.dumps({**content, "digest": UNSEALED}).encode()
    sealed = text.replace(UNSEALED.encode(), digest_of(text, UNSEALED).encode())
    (bundle / MANIFEST).write_bytes(sealed)


def test_a_sound_bundle_opens(bundle):
    opened = open_bundle(bundle)
    assert sorted(opened.manifest.files) == sorted(FILES)
    assert set(opened.arrays("sample/inputs.npz")) == {"image"}
    assert {"y", "l1", "s1", "l2", "s2"} == set(opened.arrays("sample/outputs.npz"))
    assert [gate.name for gate in opened.manifest.gates] == ["node s1", "node s2"]
    edited(bundle)  # as the next tests do, with no change
    open_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_in_any_file_is_noticed(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(IncompatibleArtifact, match=f"was changed: '{name}' is not the file that"):
        open_bundle(bundle)


def test_any_changed_byte_of_the_manifest_is_noticed(bundle):
    whole = (bundle / MANIFEST).read_bytes()
    for at in range(0, len(whole), 7):
        if whole[at : at + 1].isspace():
            continue
        damaged = bytearray(whole)
        damaged[at] = ord("7") if whole[at] != ord("7") else ord("3")
        (bundle / MANIFEST).write_bytes(damaged)
        with pytest.raises(PagdeployError):
            open_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(IncompatibleArtifact, match=f"lacks its file '{name}'"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "sample/../../x", "..\\x", "C:\\x", ""])
def test_a_manifest_that_names_a_file_outside_is_refused(bundle, name):
    files = json.loads((bundle / MANIFEST).read_text())["files"]
    edited(bundle, files={**files, name: "f" * 64})
    with pytest.raises(IncompatibleArtifact, match=r"which lies outside of it\. Do not use"):
        open_bundle(bundle)


def test_an_engine_outside_is_refused(bundle):
    engine = json.loads((bundle / MANIFEST).read_text())["engine"]
    edited(bundle, engine={**engine, "file": "../engine.onnx"})
    with pytest.raises(IncompatibleArtifact, match=r"'\.\./engine\.onnx', which lies outside"):
        open_bundle(bundle)
    edited(bundle, engine={**engine, "file": "other.onnx"})
    with pytest.raises(IncompatibleArtifact, match=r"does not hold the file 'other\.onnx'"):
        open_bundle(bundle)


def test_a_link_that_leaves_the_bundle_is_refused(bundle, tmp_path):
    (bundle / "engine.onnx").rename(tmp_path / "elsewhere.onnx")
    (bundle / "engine.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(IncompatibleArtifact, match=r"'engine\.onnx', which lies outside"):
        open_bundle(bundle)


@pytest.mark.parametrize("version", [1, 99, 10**9])
def test_a_newer_format_is_told(bundle, version):
    edited(bundle, format_version=version, feature_of_the_future=True)
    text = f"has bundle format {version}; this pagdeploy reads format 3. Update pagdeploy"
    with pytest.raises(IncompatibleArtifact, match=text):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"format_version": 1e999}',
        b'{"format_version": NaN}',
        b'{"format_version": "x"}',
        b'{"format_version": []}',
        b'{"format_version": 1' + b"0" * 5000 + b"}",
        b'{"\\ud800": 1}',
    ],
    ids=lambda content: content[:24].decode("latin1"),
)
def test_a_manifest_that_is_none_is_refused(bundle, content):
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(IncompatibleArtifact, match="is not a manifest that pagdeploy wrote"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["\ud800", "n" * 5000, "a\0b"])
def test_impossible_names_are_refused(bundle, name):
    content = json.loads((bundle / MANIFEST).read_text())
    content["files"][name] = "f" * 64
    (bundle / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(IncompatibleArtifact):
        open_bundle(bundle)


def test_unknown_entries_are_refused(bundle):
    content = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**content, "run_this": "rm"}))
    with pytest.raises(IncompatibleArtifact, match="is not a manifest that pagdeploy wrote"):
        open_bundle(bundle)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / ("n" * 5000)):
        with pytest.raises(UsageError, match=r"is not a bundle: it has no manifest\.json"):
            open_bundle(path)


class _Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["ATTACK"],)


def test_pickles_are_never_executed(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTACK", str(tmp_path / "executed"))
    np.savez(tmp_path / "a.npz", x=np.array([_Attack()], object))
    with pytest.raises(IncompatibleArtifact, match=r"is not an \.npz file of plain arrays"):
        read_arrays(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(_Attack()))
    with pytest.raises(IncompatibleArtifact, match=r"is not an \.npz file of plain arrays"):
        read_arrays(tmp_path / "b.npz")
    assert not (tmp_path / "executed").exists()


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = {"x": np.arange(6.0).reshape(2, 3), "odd/name é": np.zeros(0, np.int32)}
    write_arrays(tmp_path / "a.npz", arrays)
    loaded = read_arrays(tmp_path / "a.npz")
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_a_damaged_archive_never_escapes_as_another_error(tmp_path):
    write_arrays(tmp_path / "a.npz", {"x": np.random.default_rng(0).random((30, 30))})
    whole = (tmp_path / "a.npz").read_bytes()
    damages = [whole[:cut] for cut in range(0, len(whole), 301)]
    for at in range(0, len(whole), 61):
        other = bytearray(whole)
        other[at] ^= 0xFF
        damages.append(bytes(other))
    refused = 0
    for damaged in damages:
        (tmp_path / "b.npz").write_bytes(damaged)
        try:
            read_arrays(tmp_path / "b.npz")
        except IncompatibleArtifact:
            refused += 1
    assert refused > len(damages) // 2
    with pytest.raises(UsageError, match="There is no file"):
        read_arrays(tmp_path / "none.npz")


def test_a_zip_bomb_is_refused_unopened(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"small")
    with pytest.raises(IncompatibleArtifact, match=r"is not an \.npz file of plain arrays"):
        read_arrays(tmp_path / "a.npz")  # it holds bytes that are no array
    raw = (tmp_path / "a.npz").read_bytes()
    small, huge = (5).to_bytes(4, "little"), (0xF0000000).to_bytes(4, "little")
    at = raw.index(b"PK\x01\x02") + 24  # uncompressed size in the central directory
    assert raw[at : at + 4] == small
    one = raw[:at] + huge + raw[at + 4 :]
    (tmp_path / "a.npz").write_bytes(one)
    with pytest.raises(IncompatibleArtifact, match=r"holds 3\.8 GiB of arrays; at most 2 are read"):
        read_arrays(tmp_path / "a.npz")


def test_an_array_that_claims_a_huge_shape_is_refused(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }"
    header = header.ljust(118) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        size = len(header).to_bytes(2, "little")
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + size + header)
    with pytest.raises(IncompatibleArtifact, match=r"is not an \.npz file of plain arrays"):
        read_arrays(tmp_path / "a.npz")


def test_a_failing_build_leaves_the_old_bundle(bundle):
    before = {name: (bundle / name).read_bytes() for name in (*FILES, MANIFEST)}
    with pytest.raises(KeyboardInterrupt), writing_bundle(bundle) as folder:
        (folder / "engine.onnx").write_bytes(b"half")
        raise KeyboardInterrupt
    assert {name: (bundle / name).read_bytes() for name in before} == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_a_failing_first_build_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), writing_bundle(tmp_path / "m.pagbundle"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("manifest", ["{}", '{"name": "my web app"}', "[]", "not json"])
def test_a_manifest_of_another_tool_protects_its_folder(tmp_path, manifest):
    folder = tmp_path / "web-app"
    folder.mkdir()
    (folder / MANIFEST).write_text(manifest)
    (folder / "precious.js").write_text("data")
    with pytest.raises(UsageError, match="exists and was not written by pagdeploy"):
        writing_bundle(folder).__enter__()
    assert (folder / "precious.js").read_text() == "data"


def test_sealing_vouches_for_every_file(bundle):
    manifest = open_bundle(bundle).manifest
    (bundle / "notes.txt").write_text("more")
    seal(bundle, manifest.model_copy(update={"pagdeploy_version": "other"}))
    assert sorted(open_bundle(bundle).manifest.files) == sorted((*FILES, "notes.txt"))


def test_a_name_that_looks_like_an_escape_is_sealed_and_read(bundle):
    manifest = open_bundle(bundle).manifest
    image = manifest.inputs[0].model_copy(update={"name": r"a\u0000b"})
    seal(bundle, manifest.model_copy(update={"inputs": [image]}))
    assert open_bundle(bundle).manifest.inputs[0].name == r"a\u0000b"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", UNSEALED])
def test_what_no_reader_takes_is_not_published(bundle, name):
    before = {name: (bundle / name).read_bytes() for name in (*FILES, MANIFEST)}
    manifest = open_bundle(bundle).manifest
    image = manifest.inputs[0].model_copy(update={"name": name})
    with (
        pytest.raises(BuildFailed, match="cannot stand in a manifest, so no bundle was made"),
        writing_bundle(bundle) as folder,
    ):
        seal(folder, manifest.model_copy(update={"inputs": [image]}))
    assert {name: (bundle / name).read_bytes() for name in before} == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
