"""The header of a plan, real and damaged."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagdeploy.engines.nvidia.plan import (
    PlanHeader,
    is_plan,
    parse_plan_header,
    read_plan_header,
)
from pagdeploy.errors import IncompatibleArtifact, UsageError
from tests.engines.nvidia.conftest import PLANS
from tests.engines.nvidia.toolbox import old_plan_bytes, plan_bytes


@pytest.mark.trt
def test_real_plans_name_their_builder_size_and_gpus(rtx_plans):
    for name, targets in PLANS.items():
        path = rtx_plans / name
        numbers = [target.removeprefix("SM") for target in targets]
        assert is_plan(path)
        assert read_plan_header(path) == PlanHeader(
            flavour="tensorrt-rtx",
            version="1.7.1.116",
            serialization=None,
            size=path.stat().st_size,
            compute_capabilities=tuple(f"{number[:-1]}.{number[-1]}" for number in numbers),
        )


@pytest.mark.trt
@pytest.mark.parametrize("kept", [3, 4, 35, 36, 1000, -1])
def test_a_real_plan_that_is_cut_off_is_refused(rtx_plans, tmp_path, kept):
    path = tmp_path / "cut.plan"
    path.write_bytes((rtx_plans / "sm89.plan").read_bytes()[:kept])
    text = "not a TensorRT plan" if kept == 3 else "is truncated"
    with pytest.raises(IncompatibleArtifact, match=text):
        read_plan_header(path)


@pytest.mark.trt
def test_json_in_front_of_a_real_plan_is_refused_and_comes_off_as_told(rtx_plans, tmp_path):
    plan = (rtx_plans / "sm89.plan").read_bytes()
    metadata = json.dumps({"task": "detect", "names": {"0": "cup"}}).encode()
    path = tmp_path / "yolo 11.engine"
    path.write_bytes(len(metadata).to_bytes(4, "little") + metadata + plan)
    assert is_plan(path)
    with pytest.raises(IncompatibleArtifact, match="bytes of JSON in front of its plan") as caught:
        read_plan_header(path)
    command = caught.value.remedy.removeprefix("Take them off: ")
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    assert (tmp_path / "plain.engine").read_bytes() == plan
    assert read_plan_header(tmp_path / "plain.engine").version == "1.7.1.116"


def test_plans_of_tensorrt_name_their_version():
    header = parse_plan_header(plan_bytes(version=(8, 6, 1, 6)), "x")
    assert (header.flavour, header.version, header.size) == ("tensorrt", "8.6.1.6", 64)
    assert header.compute_capabilities == ()  # the bits are TensorRT-RTX's
    assert str(header) == "TensorRT 8.6.1.6"


def test_plans_of_before_8_6_have_a_serialization_version_only():
    header = parse_plan_header(old_plan_bytes(232), "x")
    assert (header.version, header.serialization) == (None, 232)
    assert str(header) == "TensorRT 8.5 or older"
    with pytest.raises(IncompatibleArtifact, match=r"promises 64 bytes, and it has 63\."):
        parse_plan_header(old_plan_bytes()[:-1], "x")


def test_gpus_that_have_no_name_are_not_guessed():
    assert parse_plan_header(plan_bytes(b"vtrt", gpus=0b1001), "x").compute_capabilities == (
        "7.5",
        "8.9",
    )
    assert parse_plan_header(plan_bytes(b"vtrt", gpus=0x80), "x").compute_capabilities == ()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", r"x is not a TensorRT plan: it begins with b''\. Give the file"),
        (b"\x7fELF" + bytes(60), "x is not a TensorRT plan: it begins with"),
        (b"ftrt", "x is truncated: 4 bytes are not even a plan's header. Build it again"),
        (plan_bytes()[:-1], "x is truncated: its header promises 64 bytes, and it has 63"),
        (plan_bytes() + b"!", "x has something behind its end: its header promises 64"),
        (plan_bytes(layout=7), "whose header has layout 7, which is not known. Update pagdeploy"),
    ],
    ids=["empty", "other", "tag", "cut", "longer", "layout"],
)
def test_what_is_no_whole_plan_is_refused(content, text):
    with pytest.raises(IncompatibleArtifact, match=text):
        parse_plan_header(content, "x")


def test_there_is_no_such_file(tmp_path):
    assert not is_plan(tmp_path / "none.plan")
    with pytest.raises(UsageError, match="There is no file"):
        read_plan_header(tmp_path / "none.plan")


@pytest.mark.parametrize(
    "front",
    [
        b"\x04\0\0\0nope",  # no JSON
        b"\x02\0\0\0[]",  # not what is written there
        b"\xff\xff\xff\xff{}",  # longer than any metadata
        b"\x02\0\0\0{}ELF",  # no plan behind it
    ],
)
def test_other_bytes_in_front_are_no_metadata(tmp_path, front):
    path = Path(tmp_path / "x.engine")
    path.write_bytes(front + plan_bytes())
    assert not is_plan(path)
    with pytest.raises(IncompatibleArtifact, match="is not a TensorRT plan"):
        read_plan_header(path)


@given(
    st.one_of(
        st.binary(max_size=80),
        st.builds(lambda tag, rest: tag + rest, st.sampled_from([b"ftrt", b"vtrt", b"ptrt"]),
                  st.binary(max_size=80)),
        st.builds(lambda rest: b"\x08\0\0\0{" + rest, st.binary(max_size=20)),
    )
)  # fmt: skip
def test_any_bytes_are_a_header_or_one_sentence(content):
    try:
        header = parse_plan_header(content, "x")
    except IncompatibleArtifact as problem:
        assert problem.message.startswith("x ") and problem.remedy.endswith((".", "plain.engine"))
    else:
        assert header.size == len(content)
