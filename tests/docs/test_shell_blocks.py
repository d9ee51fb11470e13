"""Every shell block of the README and the tutorial runs, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks_of, run_session, unsaid
from tests.house.tree import REPOSITORY

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

# Commands that are typed (```console) and not run here, with the reason.
NOT_RUN = {
    "docs/tutorial.md": "makes the environment that this test runs in",
    "docs/howto/jetson.md": "needs a Jetson",
    "docs/howto/score.md": "needs a folder of labelled pictures",
    "docs/howto/cpp.md": "needs a C++ compiler and installs files",
    "docs/howto/add-a-pass.md": "runs the tests",
    "docs/howto/add-an-op.md": "runs the tests",
}
RUN = (
    *("README.md", "docs/tutorial.md"),
    *(f"docs/howto/{name}.md" for name in ("own-model", "budget", "harden")),
)
LANGUAGES = {"", "cmake", "console", "cpp", "json", "python", "sh", "text"}
GUIDES = (
    *("README.md", "docs/tutorial.md"),
    *(str(path.relative_to(REPOSITORY)) for path in sorted((REPOSITORY / "docs/howto").iterdir())),
)


@pytest.mark.parametrize("page", GUIDES)
def test_every_command_is_run_or_says_why_not(page: str) -> None:
    languages = {block.language for block in blocks_of(page)}
    assert languages <= LANGUAGES, "a misspelt language would hide a block from these tests"
    assert ("sh" in languages) == (page in RUN), "a page with shell blocks is run"
    assert ("console" in languages) == (page in NOT_RUN), "what is not run has its reason"


@pytest.mark.parametrize("page", GUIDES)
def test_no_command_hides_in_an_indented_block(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (REPOSITORY / page).read_text(), flags=re.DOTALL | re.M)
    typed = r"^    ((?:cmake|ctest|make|pagdeploy|pip|python) [^#\n]*?) *(?:#.*)?$"
    commands = re.findall(typed, text, re.M)
    # Of these two, the one runs this test and the other is tests/verbs/test_demo.py.
    assert set(commands) <= ({"make demo", "make test"} if page == "README.md" else set())


@pytest.mark.parametrize("page", NOT_RUN)
def test_what_is_not_run_looks_typed(page: str) -> None:
    for block in blocks_of(page):
        if block.language == "console":
            assert block.text.startswith("$ "), f"line {block.line}"


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """An empty folder; the README's commands are typed in the clone, with a photograph at hand."""
    if request.node.callspec.params["page"] == "README.md":
        photo = pytest.importorskip("skimage.data").coffee()
        pytest.importorskip("PIL.Image").fromarray(photo).save(tmp_path / "photo.jpg")
        (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_shell_blocks_run_in_order(page: str, folder: Path) -> None:
    blocks = blocks_of(page)
    commands = [block for block in blocks if block.language == "sh"]
    outputs = run_session(commands, folder)
    assert len(outputs) == len(commands)
    for block, output in zip(commands, outputs, strict=True):
        shown = blocks[blocks.index(block) + 1 :][:1]
        if shown and shown[0].language == "text":
            assert unsaid(shown[0], output) == [], f"{page}:{shown[0].line}; it said:\n{output}"


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path: Path) -> None:
    code = [block.text for block in blocks_of("README.md") if block.language == "python"]
    assert code
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    (tmp_path / "readme.py").write_text("\n".join(code))
    run_session([Block("sh", "python readme.py\n", 1)], tmp_path)


def test_a_failing_block_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="a block failed"):
        run_session([Block("sh", "echo fine\n", 1), Block("sh", "false\necho on\n", 2)], tmp_path)


def test_an_output_that_is_not_printed_is_found(tmp_path: Path) -> None:
    (output,) = run_session([Block("sh", "echo '7 gates,  dense lowering'\n", 1)], tmp_path)
    assert unsaid(Block("text", "9 gates, gather lowering\n...\n", 1), output) == []
    assert unsaid(Block("text", "9 gates were found\n", 1), output) == ["9 gates were found"]
