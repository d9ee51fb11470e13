"""Files appear whole or not at all, and names stay in their folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.files import inside, is_file, replacing_file, replacing_folder, sha256_of


def test_a_file_takes_its_name_only_when_it_is_done(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("old")
    with replacing_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_cannot_be_written_where_there_is_no_folder_or_one_of_its_name(tmp_path):
    with pytest.raises(UsageError, match=r"The folder .*none does not exist\. Create it"):
        replacing_file(tmp_path / "none" / "f").__enter__()
    with pytest.raises(UsageError, match=r"is a folder\. Name a file to write"):
        replacing_file(tmp_path).__enter__()
    with pytest.raises(UsageError, match=r"nnn\.\.\. is too long for a file\. Choose a shorter"):
        replacing_file(tmp_path / ("n" * 250)).__enter__()


def ours(folder: Path) -> bool:
    """Whether a folder may be replaced."""
    return (folder / "ours").is_file()


def fill(path: Path, text: str = "new") -> None:
    """Write the folder anew."""
    with replacing_folder(path, may_replace=ours) as folder:
        (folder / "ours").write_text(text)


def test_a_folder_is_replaced_if_it_is_ours_or_empty(tmp_path):
    path = tmp_path / "d"
    fill(path, "first")
    (path / "rest").write_text("of the first")
    fill(path, "second")
    assert [file.name for file in path.iterdir()] == ["ours"]
    assert (path / "ours").read_text() == "second"
    empty = tmp_path / "empty"
    empty.mkdir()
    fill(empty)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d", "empty"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_not_ours_is_never_touched(tmp_path, kind):
    path = tmp_path / "theirs"
    if kind == "folder":
        path.mkdir()
        (path / "precious").write_text("data")
    else:
        path.write_text("data")
    with pytest.raises(UsageError, match="exists and was not written by pagdeploy"):
        fill(path)
    kept = path / "precious" if kind == "folder" else path
    assert kept.read_text() == "data"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path):
    path = tmp_path / "d"
    fill(path, "old")
    with pytest.raises(RuntimeError), replacing_folder(path, may_replace=ours) as folder:
        (folder / "half").write_text("")
        raise RuntimeError
    assert (path / "ours").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_to_a_folder_is_followed(tmp_path, exists):
    real, link = tmp_path / "real", tmp_path / "link"
    if exists:
        fill(real, "old")
    link.symlink_to(real)
    fill(link)
    assert link.is_symlink()
    assert (real / "ours").read_text() == "new"


def test_fingerprint_is_that_of_the_bytes(tmp_path):
    content = bytes(range(256)) * 5000  # more than one block
    (tmp_path / "f").write_bytes(content)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["a", "a/b.txt", "a/./b", "with space", "é"])
def test_names_in_the_folder_are_taken(tmp_path, name):
    assert inside(tmp_path, name).resolve().is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "a/..", "..", "/etc/passwd", "", "a\\..\\..\\x", "C:/x", "c:x", "a\0b"],
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(
        IncompatibleArtifact, match=r"lies outside of it\. Do not use this artifact"
    ):
        inside(tmp_path, name)


def test_links_that_lead_out_are_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    (folder / "fine").symlink_to(folder)
    assert inside(folder, "fine/x")
    with pytest.raises(IncompatibleArtifact, match="'link/secret', which lies outside"):
        inside(folder, "link/secret")


def test_an_impossible_name_is_no_file(tmp_path):
    assert not is_file(tmp_path / ("n" * 5000))
    assert not is_file(Path("a\0b"))
    assert not is_file(tmp_path)
