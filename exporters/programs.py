"""Reading .pt2 files that nobody vouches for.

`torch.export.load` trusts its file: it unpickles objects, loads native libraries, evaluates sizes
and guards as Python, and resolves any dotted name below torch to an operator, `torch.os.system`
among them. So it gets only a copy that is made here: plain tensors, and a graph whose every word is
of a form that cannot become code.
"""

from __future__ import annotations

import ast
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

import pagdeploy.exporters.torch_ops  # noqa: F401  a saved program may use our operators
from pagdeploy.errors import IncompatibleArtifact, PagdeployError, UsageError

# What torch.export.save writes for a program of plain tensors; other entries hold pickles or
# native libraries.
_PLAIN_ENTRY = re.compile(
    r"models/\w+\.json|data/sample_inputs/\w+\.pt|data/weights/(weight_\d+|\w+_config\.json)"
    r"|data/constants/(tensor_\d+|\w+_config\.json)"
    r"|archive_format|archive_version|byteorder|version|\.data/\w+"
)
_EXTRA = "extra/"  # files of the user's, which loading does not need
# A few bytes can unpack to any number: weights hardly shrink, and text never to so little.
_MOST_TEXT, _MOST_UNPACKED = 2**26, 20  # bytes beyond which one entry may be so many times larger
# Operators whose calls can do no more than compute: an overload of one, which must exist.
_OVERLOAD = re.compile(
    r"torch\.ops\.(aten|prims|pagdeploy|torchvision|quantized_decomposed)\.(\w+)\.(\w+)"
)
_TOUCH_FILES = frozenset({"from_file", "save"})
_OPERATOR = re.compile(
    r"torch\.ops\.higher_order\.(?:cond|while_loop|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(?:add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_"
    r"|lshift|rshift|getitem)"
    r"|math\.(?:trunc|ceil|floor|sqrt)|torch\._?sym_\w+"
)
# Functions in the text of a size: sympy's that the serializer prints, and PyTorch's own.
_SIZE_FUNCTIONS = frozenset(
    "Symbol Integer Float Rational Add Mul Pow Mod Max Min Abs floor ceiling Eq Ne Lt Le Gt Ge"
    " Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan And Or Not"
    " CeilDiv CeilToInt CleanDiv FloatPow FloatTrueDiv FloorDiv FloorToInt Identity IntTrueDiv"
    " IsNonOverlappingAndDenseIndicator LShift ModularIndexing PowByNatural PythonMod RShift"
    " RoundDecimal RoundToInt ToFloat TruncToFloat TruncToInt Where".split()
)
_POWERS = frozenset("FloatPow LShift Pow PowByNatural".split())
_MOST_POWER, _LONGEST_SIZE, _LARGEST_SIZE = 8, 4096, 2**63
_SIZE_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp,
    ast.BinOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_NAME = re.compile(r"[\w .:;/+\-]*")  # has no quote, bracket or comma to leave a name by
_TREE = re.compile(r"[\w\s\[\]{}\":,.\\\-]*")
_KEPT_METADATA = "nn_module_stack"  # which module made the node; the rest is for debugging


def load_program(path: Path) -> ExportedProgram:
    """Load a program written by torch.export.save, without running anything in it.

    Guards, stack traces and what else is kept for debugging are dropped.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: the file is damaged, of another version of PyTorch, or holds
            pickled objects, native libraries, operators beyond those of networks, or text where
            names and sizes belong.
    """
    if not path.is_file():
        raise UsageError(f"There is no program {path}.", remedy="Check the path.")
    try:
        copy = _clean_copy(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(copy)
    except PagdeployError:
        raise
    except Exception as problem:  # a damaged file surfaces as one of a dozen types
        raise IncompatibleArtifact(
            f"{path} is no program that this PyTorch ({torch.__version__}) can load "
            f"({_first_line(problem)}).",
            remedy="Save it again with torch.export.save, under this version of PyTorch.",
        ) from None


def _clean_copy(path: Path) -> io.BytesIO:
    """An archive of what was looked at: PyTorch's own reader of zips never sees the file."""
    result = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(result, "w") as copy:
        names = archive.namelist()
        doubled = [name for name in names if [n.lower() for n in names].count(name.lower()) > 1]
        for entry in names:
            name = entry.partition("/")[2]  # everything lies in one folder
            if name.startswith(_EXTRA):
                continue
            info = archive.getinfo(entry)
            if info.file_size > max(_MOST_TEXT, _MOST_UNPACKED * info.compress_size):
                raise _refusal(path, "an entry that unpacks to a multiple of its size", name)
            content = archive.read(entry)
            plain = _PLAIN_ENTRY.fullmatch(name) is not None and entry not in doubled
            if name.startswith("data/sample_inputs/"):
                plain = plain and _is_plain(content)
            elif name.endswith("_config.json"):
                config = json.loads(content)["config"]
                plain = plain and not any(part["use_pickle"] for part in config.values())
            if not plain:
                raise _refusal(path, "more than a program and its tensors", name or entry)
            if name.startswith("models/"):
                try:
                    content = json.dumps(_cleaned(json.loads(content))).encode()
                except _Unsafe as found:
                    what = "more than names, sizes and operators"
                    raise _refusal(path, what, str(found)) from None
            copy.writestr(entry, content)
    result.seek(0)
    return result


def _refusal(path: Path, what: str, where: str) -> IncompatibleArtifact:
    return IncompatibleArtifact(
        f"{path} holds {what} ({where}), which could run when it is loaded.",
        remedy="Name the model by its factory instead: file.py:factory.",
    )


def _is_plain(data: bytes) -> bool:
    """Whether a pickle holds only tensors and containers."""
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception:  # whatever stops the restricted loader is not plain
        return not data
    return True


class _Unsafe(Exception):
    """A word of a program that could become code; the message shows it."""


def _cleaned(graph: Any, key: str = "") -> Any:
    """A program's JSON without what only debugging needs; raises _Unsafe."""
    if isinstance(graph, list):
        return [_cleaned(part, key) for part in graph]
    if isinstance(graph, str):
        if not _FORMS.get(key, _is_name)(graph):
            raise _Unsafe(f"{key} {graph[:60]!r}")
        return graph
    if not isinstance(graph, dict):
        return graph
    for name in graph:
        if not _is_name(name):
            raise _Unsafe(repr(name[:60]))
    return {name: _cleaned_entry(name, value) for name, value in graph.items()}


def _cleaned_entry(key: str, value: Any) -> Any:
    if key == "guards_code":
        return []  # is run as Python
    if key == "metadata" and isinstance(value, dict):
        return {name: text for name, text in value.items() if name == _KEPT_METADATA}
    return _cleaned(value, key)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def _is_identifier(text: str) -> bool:
    return not text or _IDENTIFIER.fullmatch(text) is not None


def _is_tree(text: str) -> bool:
    """Of tuples, lists and dictionaries; an enumeration would be imported by its name."""
    return _TREE.fullmatch(text) is not None and "__enum__" not in text


def _is_size(text: str) -> bool:
    """Whether a text that sympy will evaluate is arithmetic on symbols."""
    if len(text) > _LONGEST_SIZE:
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _SIZE_NODES) or not _is_bounded(node):
            return False
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Name) and node.func.id in _SIZE_FUNCTIONS
        ):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            if not (isinstance(node.value, str) and _IDENTIFIER.fullmatch(node.value)):
                return False
    return True


def _is_bounded(node: ast.AST) -> bool:
    """Whether a number, or a power, stays of a size that can be computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return abs(node.value) <= _LARGEST_SIZE
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Pow, ast.LShift, ast.RShift)):
        return _is_small_power(node.left, node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _POWERS:
        return len(node.args) == 2 and _is_small_power(*node.args)
    return True


def _is_small_power(base: ast.AST, exponent: ast.AST) -> bool:
    """A small literal above, and no further power below: powers of powers grow without bound."""
    if isinstance(exponent, ast.Call) and len(exponent.args) == 1:
        exponent = exponent.args[0]  # Integer(2)
    if isinstance(exponent, ast.UnaryOp):
        exponent = exponent.operand
    if not isinstance(exponent, ast.Constant) or not isinstance(exponent.value, (int, float)):
        return False
    powers = (
        isinstance(each, (ast.Pow, ast.LShift))
        or (isinstance(each, ast.Name) and each.id in _POWERS)
        for each in ast.walk(base)
    )
    return abs(exponent.value) <= _MOST_POWER and not any(powers)


def _is_operator(text: str) -> bool:
    found = _OVERLOAD.fullmatch(text)
    if found is None:
        return _OPERATOR.fullmatch(text) is not None
    namespace, name, overload = found.groups()
    packet = getattr(getattr(torch.ops, namespace), name, None)
    known = isinstance(getattr(packet, overload, None), torch._ops.OpOverload)
    return known and name not in _TOUCH_FILES


# By key; names of values and parameters become Python source when a program is run.
_FORMS: dict[str, Callable[[str], bool]] = {
    "target": _is_operator,
    "as_operator": _is_operator,
    "expr_str": _is_size,
    "in_spec": _is_tree,
    "out_spec": _is_tree,
    "name": _is_identifier,
    "as_name": _is_identifier,
    "forward_arg_names": _is_identifier,
    "as_string": lambda text: True,  # an argument of an operator, never more than a string
    "as_strings": lambda text: True,
}


def _first_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no message"
