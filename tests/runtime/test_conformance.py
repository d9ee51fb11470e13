"""Python's reader of bundles and that of the C++ runtime: the same verdict, for the same reason.

Each is there for its own users: the base installation has no compiler, and a program in C++ has no
Python. So that they stay one reader, the schema of manifests is compiled into the runtime, and each
case of `bundle_cases` is shown to both.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pagdeploy.bundle import MANIFEST, open_bundle
from pagdeploy.errors import PagdeployError
from tests.runtime.bundle_cases import CASES, NONE, content_of, entry
from tests.runtime.conftest import INCOMPATIBLE, OK, USAGE, Verdict, ask_cpp
from tests.runtime.manifest_schema import SCHEMA, schema


def ask_python(bundle: Path) -> Verdict:
    """What Python's reader says."""
    try:
        open_bundle(bundle)
    except PagdeployError as problem:
        return problem.exit_code, problem.message
    return OK, ""


@pytest.fixture(scope="session")
def damaged(_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle for each case."""
    folder = tmp_path_factory.mktemp("damaged")
    made = {}
    for number, (name, (damage, _)) in enumerate(CASES.items()):
        made[name] = folder / str(number) / "m.pagbundle"
        shutil.copytree(_bundles["dense"], made[name])
        damage(made[name])
    return made


@pytest.fixture(scope="session")
def cpp_verdicts(damaged: dict[str, Path], runtime: Path) -> dict[str, Verdict]:
    """What the C++ runtime says of each case."""
    return dict(zip(damaged, ask_cpp(runtime, *damaged.values()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_python_gives_the_verdict(name: str, damaged: dict[str, Path]) -> None:
    expected = CASES[name][1]
    status, message = ask_python(damaged[name])
    if expected is None:
        assert status == INCOMPATIBLE
    else:
        assert message == expected.format(damaged[name])
        assert status == (USAGE if expected == NONE else INCOMPATIBLE if expected else OK)


@pytest.mark.parametrize("name", CASES)
def test_cpp_gives_the_same(
    name: str, damaged: dict[str, Path], cpp_verdicts: dict[str, Verdict]
) -> None:
    expected, found = ask_python(damaged[name]), cpp_verdicts[name]
    if CASES[name][1] is None:  # each writes such a name in its own way
        assert found[0] == expected[0]
    else:
        assert found == expected


def test_a_manifest_beyond_all_sizes_is_refused(bundle: Path, runtime: Path) -> None:
    with (bundle / MANIFEST).open("r+b") as stream:
        stream.truncate(2**40)  # sparse: no disk is used
    found = ask_python(bundle)
    message = f"The file {bundle / MANIFEST} is larger than any that pagdeploy writes."
    assert found == (INCOMPATIBLE, message)
    assert ask_cpp(runtime, bundle) == [found]


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        (("inputs", 0, "dtype"), "uint16", "is of uint16"),
        (("inputs", 0, "sample_shape"), [1], "is of any rank"),
        (("inputs", 0), {"shape": [1] * 9, "sample_shape": [1] * 9}, "has 9 axes"),
    ],
)
def test_what_only_python_takes_is_named(
    path: tuple[str | int, ...], value: Any, what: str, bundle: Path, runtime: Path
) -> None:
    """The C ABI counts dtypes and axes; nothing else may differ."""
    if isinstance(value, dict):
        value = {**content_of(bundle)["inputs"][0], **value}
    entry(*path, value=value)(bundle)
    assert ask_python(bundle) == (OK, "")
    message = f"'image' {what}, which the C++ runtime does not take."
    assert ask_cpp(runtime, bundle) == [(INCOMPATIBLE, message)]


def test_the_compiled_schema_is_that_of_python() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema()
