"""Bundles that are sound and bundles that are not, and what a reader has to say of each.

A case is what is done to a sound bundle, and the sentence that it is refused with: "{}" stands for
its path, "" for a bundle that opens, None for names that each reader writes in its own way.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pagdeploy.bundle import MANIFEST
from pagdeploy.manifest import UNSEALED, digest_of

Content = dict[str, Any]
Damage = Callable[[Path], object]


def write(bundle: Path, text: str) -> None:
    """Write a manifest, with the digest that it has to have."""
    unsealed = text.encode("utf-8", "surrogatepass")
    made = digest_of(unsealed, UNSEALED) if unsealed.count(UNSEALED.encode()) == 1 else UNSEALED
    (bundle / MANIFEST).write_bytes(unsealed.replace(UNSEALED.encode(), made.encode()))


def content_of(bundle: Path) -> Content:
    """The manifest, not sealed."""
    content = json.loads((bundle / MANIFEST).read_text())
    return {**content, "digest": UNSEALED}


def text(part: str, by: str) -> Damage:
    """A replacement in the manifest's text, which is sealed again."""

    def damage(bundle: Path) -> None:
        whole = json.dumps(content_of(bundle))
        assert part in whole, part
        write(bundle, whole.replace(part, by, 1))

    return damage


def entry(*path: str | int, value: Any) -> Damage:
    """Another value at a place of the manifest, which is sealed again."""

    def damage(bundle: Path) -> None:
        content = at = content_of(bundle)
        for key in path[:-1]:
            at = at[key]  # type: ignore[index]
        at[path[-1]] = value  # type: ignore[index]
        write(bundle, json.dumps(content))

    return damage


def without(*path: str | int) -> Damage:
    """An entry of the manifest is not there."""

    def damage(bundle: Path) -> None:
        content = at = content_of(bundle)
        for key in path[:-1]:
            at = at[key]  # type: ignore[index]
        del at[path[-1]]  # type: ignore[arg-type]
        write(bundle, json.dumps(content))

    return damage


def raw(content: bytes) -> Damage:
    """A manifest of these bytes."""
    return lambda bundle: (bundle / MANIFEST).write_bytes(content)


def listed(name: str) -> Damage:
    """The manifest lists a further file."""

    def damage(bundle: Path) -> None:
        files = content_of(bundle)["files"]
        entry("files", value={**files, name: "f" * 64})(bundle)

    return damage


def unsealed(part: str, by: str) -> Damage:
    """A replacement in the manifest's text, which keeps the digest that it had."""

    def damage(bundle: Path) -> None:
        whole = (bundle / MANIFEST).read_text()
        assert part in whole, part
        (bundle / MANIFEST).write_text(whole.replace(part, by, 1))

    return damage


def planned(**entries: Any) -> Damage:
    """A plan of TensorRT, which says this."""

    def damage(bundle: Path) -> None:
        engine = content_of(bundle)["engine"]
        plan = {"profiles": [], **entries}
        entry("engine", value={**engine, "flavour": "tensorrt", "plan": plan})(bundle)

    return damage


def profiled(size: int, name: str = "image") -> Damage:
    """A plan with a profile of an input, whose largest size this is."""
    return planned(profiles=[{name: {"min": [0], "opt": [1], "max": [size]}}])


def linked(bundle: Path) -> None:
    """The engine is a link to a file outside of the bundle."""
    outside = bundle.parent / "elsewhere.onnx"
    shutil.move(bundle / "engine.onnx", outside)
    (bundle / "engine.onnx").symlink_to(outside)


def linked_inside(bundle: Path) -> None:
    """The engine is a link to another name in the bundle."""
    (bundle / "engine.onnx").rename(bundle / ".engine")
    (bundle / "engine.onnx").symlink_to(".engine")


def flipped(name: str) -> Damage:
    """One bit of a file is another."""

    def damage(bundle: Path) -> None:
        whole = bytearray((bundle / name).read_bytes())
        whole[len(whole) // 2] ^= 1
        (bundle / name).write_bytes(whole)

    return damage


def sealed_twice(bundle: Path) -> None:
    """The digest stands in the manifest twice."""
    content = json.loads((bundle / MANIFEST).read_text())
    content["source_sha256"] = content["digest"]
    (bundle / MANIFEST).write_text(json.dumps(content))


def zipped(bundle: Path) -> None:
    """The folder became an archive of that name."""
    with zipfile.ZipFile(bundle.with_suffix(".zip"), "w") as archive:
        for file in bundle.rglob("*"):
            archive.write(file, file.relative_to(bundle))
    shutil.rmtree(bundle)
    bundle.with_suffix(".zip").rename(bundle)


def with_hidden_files(bundle: Path) -> None:
    """What file managers leave behind."""
    (bundle / ".DS_Store").touch()
    (bundle / "sample/.directory").touch()


def with_more_files(bundle: Path) -> None:
    """A file that nobody lists."""
    (bundle / "sample/more.npz").touch()


SOUND = ""
NONE = "{} is not a bundle: it has no manifest.json."
FOREIGN = "{}/manifest.json is not a manifest that pagdeploy wrote."
CHANGED = "{}/manifest.json was changed after the build."
OUTSIDE = "{} names the file {!r}, which lies outside of it."
UNLISTED = "{} holds the file 'sample/inputs.npz', which its manifest does not list."
ABSENT = "{} does not hold the file {!r}."
PLAN = {"profiles": [], "plugins": ["plugins/evil.so"]}

CASES: dict[str, tuple[Damage, str | None]] = {
    "untouched": (lambda bundle: None, SOUND),
    "sealed again": (text("", ""), SOUND),
    "hidden files": (with_hidden_files, SOUND),
    "a link that stays inside": (linked_inside, SOUND),
    "no such folder": (shutil.rmtree, NONE),
    "no manifest": (lambda bundle: (bundle / MANIFEST).unlink(), NONE),
    "an archive": (zipped, NONE),
    # ---- texts ----
    "nothing": (raw(b""), FOREIGN),
    "no JSON": (raw(b"{"), FOREIGN),
    "a list": (raw(b"[]"), FOREIGN),
    "null": (raw(b"null"), FOREIGN),
    "no entries": (raw(b"{}"), FOREIGN),
    "no UTF-8": (raw(b"\xff\xfe\x00"), FOREIGN),
    "deep lists": (raw(b"[" * 100_000), FOREIGN),
    "deep objects": (raw(b'{"a":' * 50_000), FOREIGN),
    "a mark of the byte order": (text("{", "\ufeff{"), FOREIGN),
    "a surrogate": (text('"name": "', '"name": "\\ud800'), FOREIGN),
    "a zero in a name": (text('"name": "', '"name": "\\u0000'), FOREIGN),
    "a zero in the name of a file": (listed("a\0b"), FOREIGN),
    "a zero behind a backslash": (text('"name": "', '"name": "\\\\\\u0000'), FOREIGN),
    "a backslash and what would be a zero": (entry("gates", 0, "name", value="a\\u0000b"), SOUND),
    "two backslashes and what would be a zero": (
        entry("gates", 0, "name", value="a\\\\u0000b"), SOUND,
    ),
    "NaN": (text('"sample_range": [', '"sample_range": [NaN, '), FOREIGN),
    "a comment": (text("{", "/* */ {"), FOREIGN),
    "a comma at the end": (text(', "digest"', ', "ops": [],, "digest"'), FOREIGN),
    "something behind the end": (
        lambda bundle: raw((bundle / MANIFEST).read_bytes() + b"{}")(bundle), FOREIGN,
    ),
    "white space behind the end": (
        lambda bundle: raw((bundle / MANIFEST).read_bytes() + b" ")(bundle), CHANGED,
    ),
    "an entry twice": (text('"ops":', '"ops": 7, "ops":'), FOREIGN),
    "an entry twice with one value": (text('"ops":', '"ops": [], "ops":'), FOREIGN),
    "a file twice": (text('"files": {', '"files": {"a": "x", "a": 5, '), FOREIGN),
    "an entry twice, once in escapes": (text('"ops":', '"\\u006fps": [], "ops":'), FOREIGN),
    # ---- versions ----
    "another format": (entry("format", value="zip"), FOREIGN),
    "no format": (without("format"), FOREIGN),
    "no version": (without("format_version"), FOREIGN),
    "an older version": (
        entry("format_version", value=2), "{} has bundle format 2; this pagdeploy reads format 3.",
    ),
    "a later version": (
        entry("format_version", value=10**9),
        "{} has bundle format 1000000000; this pagdeploy reads format 3.",
    ),
    "a negative version": (
        entry("format_version", value=-1),
        "{} has bundle format -1; this pagdeploy reads format 3.",
    ),
    "version 0": (
        entry("format_version", value=0), "{} has bundle format 0; this pagdeploy reads format 3.",
    ),
    "the lowest version": (
        entry("format_version", value=-(2**63)),
        "{} has bundle format -9223372036854775808; this pagdeploy reads format 3.",
    ),
    "a version below it": (entry("format_version", value=-(2**63) - 1), FOREIGN),
    "a version of 64 bits": (entry("format_version", value=2**64 - 1), FOREIGN),
    "a version of 30 digits": (entry("format_version", value=10**29), FOREIGN),
    "a version with a fraction": (entry("format_version", value=3.0), FOREIGN),
    "a version that is text": (entry("format_version", value="3"), FOREIGN),
    "a version that is true": (entry("format_version", value=True), FOREIGN),
    # ---- entries ----
    "an unknown entry": (entry("run_this", value="rm"), FOREIGN),
    "an unknown entry inside": (entry("engine", "run_this", value="rm"), FOREIGN),
    "no host": (without("host"), FOREIGN),
    "no logits": (without("gates", 0, "logits"), FOREIGN),
    "a default": (without("engine", "libraries"), SOUND),
    "another engine": (entry("engine", "flavour", value="../evil"), FOREIGN),
    "another lowering": (entry("engine", "lowering", value="none"), FOREIGN),
    "a name that is a number": (entry("inputs", 0, "name", value=7), FOREIGN),
    "a name that is null": (entry("inputs", 0, "name", value=None), FOREIGN),
    "a density that is text": (entry("gates", 0, "density", value=["0.5", 0.5]), FOREIGN),
    "a density that is true": (entry("gates", 0, "density", value=[True, 0.5]), FOREIGN),
    "a density that is whole": (entry("gates", 0, "density", value=[1, 0]), SOUND),
    "a density beyond all numbers": (text('"density": [', '"density": [1e400, '), FOREIGN),
    "a density of 30 digits": (entry("gates", 0, "density", value=[10**29, 0.5]), SOUND),
    "a density of 400 digits": (entry("gates", 0, "density", value=[10**399, 0.5]), FOREIGN),
    "a size that is negative": (entry("inputs", 0, "shape", 0, value=-1), FOREIGN),
    "a size of 32 bits": (entry("inputs", 0, "shape", 0, value=2**31), FOREIGN),
    "a size with a fraction": (entry("inputs", 0, "sample_shape", 0, value=1.0), FOREIGN),
    "a shape that is no list": (entry("inputs", 0, "shape", value=3), FOREIGN),
    "a range of three numbers": (entry("inputs", 0, "sample_range", value=[0, 1, 2]), FOREIGN),
    "a range of one number": (entry("inputs", 0, "sample_range", value=[0]), FOREIGN),
    "a range of nulls": (entry("inputs", 0, "sample_range", value=[None, None]), FOREIGN),
    "inputs that are an object": (entry("inputs", value={}), FOREIGN),
    "files that are a list": (entry("files", value=[]), FOREIGN),
    "a plan of onnxruntime": (entry("engine", "plan", value=PLAN), FOREIGN),
    "TensorRT without a plan": (entry("engine", "flavour", value="tensorrt"), FOREIGN),
    "a plan": (planned(), SOUND),
    "a plan's profile": (profiled(2**31 - 1), SOUND),
    "a profile of no input": (profiled(1, "other"), FOREIGN),
    "a profile of 32 bits": (profiled(2**31), FOREIGN),
    "a profile that is negative": (profiled(-1), FOREIGN),
    "a profile of 30 digits": (profiled(10**29), FOREIGN),
    "a level": (planned(builder_optimization_level=5), SOUND),
    "a level that is negative": (planned(builder_optimization_level=-1), FOREIGN),
    "a level of 30 digits": (planned(builder_optimization_level=10**29), FOREIGN),
    "a memory pool of 63 bits": (planned(memory_pools={"a": 2**63 - 1}), SOUND),
    "a memory pool of 64 bits": (planned(memory_pools={"a": 2**63}), FOREIGN),
    "a memory pool of 30 digits": (planned(memory_pools={"a": 10**30}), FOREIGN),
    "a memory pool that is negative": (planned(memory_pools={"a": -1}), FOREIGN),
    # ---- the digest ----
    "an engine outside, not sealed again": (
        unsealed('"file": "engine.onnx"', '"file": "../engine.plan"'), CHANGED,
    ),
    "a file above, not sealed again": (unsealed('"files": {', '"files": {"../x": "",'), CHANGED),
    "a dtype, not sealed again": (unsealed('"float32"', '"uint16"'), CHANGED),
    "a digest of other letters": (text(UNSEALED, "\u00e9" * 64), FOREIGN),
    "no digest": (without("digest"), FOREIGN),
    "two digests": (sealed_twice, FOREIGN),
    "a short digest": (text(UNSEALED, "0" * 63), FOREIGN),
    "another digest": (text(UNSEALED, "f" * 64), CHANGED),
    "digits": (raw(b"7"), FOREIGN),
    # ---- files ----
    "a file that changed": (
        flipped("sample/inputs.npz"),
        "{} was changed: 'sample/inputs.npz' is not the file that was built.",
    ),
    "a file that is gone": (
        lambda bundle: (bundle / "model.onnx").unlink(), "{} lacks its file 'model.onnx'.",
    ),
    "a file that is listed and not there": (listed("more"), "{} lacks its file 'more'."),
    "a file that is not listed": (
        with_more_files, "{} holds the file 'sample/more.npz', which its manifest does not list.",
    ),
    "a link to nowhere": (
        lambda bundle: (bundle / "link").symlink_to("gone"),
        "{} holds the file 'link', which its manifest does not list.",
    ),
    "a link that leads out": (linked, OUTSIDE.format("{}", "engine.onnx")),
    "a file above": (listed("../x"), OUTSIDE.format("{}", "../x")),
    "an absolute file": (listed("/etc/passwd"), OUTSIDE.format("{}", "/etc/passwd")),
    "a file that goes up": (listed("sample/../../x"), OUTSIDE.format("{}", "sample/../../x")),
    "a drive": (listed("C:x"), OUTSIDE.format("{}", "C:x")),
    "two files above": (
        entry("files", value={"../z": "", "../a": ""}), OUTSIDE.format("{}", "../a"),
    ),
    "no name": (listed(""), OUTSIDE.format("{}", "")),
    "an engine outside": (
        entry("engine", "file", value="../engine.onnx"), OUTSIDE.format("{}", "../engine.onnx"),
    ),
    "an engine that is not listed": (
        entry("engine", "file", value="other.onnx"), ABSENT.format("{}", "other.onnx"),
    ),
    "a library that is not listed": (
        entry("engine", "libraries", value=["/lib/evil.so"]), ABSENT.format("{}", "/lib/evil.so"),
    ),
    "no sample": (without("files", "sample/inputs.npz"), UNLISTED),
    "a name of 5000 letters": (listed("n" * 5000), None),
    "a backslash": (listed("..\\x"), None),
}  # fmt: skip
