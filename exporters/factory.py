"""From the name of a model on the command line to the model."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import operator
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from torch.export import ExportedProgram

import pagdeploy.exporters.torch_ops  # noqa: F401  a saved program may use our operators
from pagdeploy.errors import EnvironmentProblem, IncompatibleArtifact, PagdeployError, UsageError

# What torch.export.save writes for a program of plain tensors; other entries hold pickles or
# native libraries.
_PLAIN_ENTRY = re.compile(
    r"models/\w+\.json|data/sample_inputs/\w+\.pt|data/weights/(weight_\d+|\w+_config\.json)"
    r"|data/constants/(tensor_\d+|\w+_config\.json)|extra/.*"
    r"|archive_format|archive_version|byteorder|version|\.data/\w+"
)
_FORMS = "file.py:factory, package.module:factory or model.pt2"


def load_factory(spec: str) -> nn.Module | ExportedProgram:
    """Make the model that `spec` names.

    A factory is anything that returns a module when called without arguments, or a module. The
    folder of a file is importable while the file loads and the factory runs. Both forms run the
    code that they name, and so may a .pt2 file: load only what you trust.

    Args:
        spec: file.py:factory, package.module:factory or model.pt2.

    Raises:
        UsageError: the spec has none of these forms, names nothing that exists, or does not lead
            to a module.
        EnvironmentProblem: the file or the module imports a package that is not installed.
        IncompatibleArtifact: see `load_program`.
    """
    if spec.endswith(".pt2"):
        return load_program(Path(spec))
    source, colon, name = spec.rpartition(":")
    if not (source and colon and name):
        raise UsageError(f"{spec!r} does not name a model.", remedy=f"Write {_FORMS}.")
    with _importable(source):
        module = _load_module(source, spec)
        try:
            factory = operator.attrgetter(name)(module)
        except AttributeError:
            raise UsageError(
                f"{source} has no attribute {name!r}.", remedy="Check the name of the factory."
            ) from None
        model = factory if isinstance(factory, nn.Module) else _call(factory, spec)
    if not isinstance(model, (nn.Module, ExportedProgram)):
        raise UsageError(
            f"{spec} returned an object of type {type(model).__name__}, not a torch.nn.Module.",
            remedy="Name a function that returns the model.",
        )
    return model


def load_program(path: Path) -> ExportedProgram:
    """Load a program written by torch.export.save.

    A .pt2 file is a zip of JSON, raw tensors and, in some places, pickles and native libraries,
    which torch.export.load runs. Pickled objects and native libraries are refused here. The
    expressions of dynamic shapes remain, and they are evaluated as text: load only what you
    trust.

    Raises:
        UsageError: there is no such file.
        IncompatibleArtifact: the file is damaged, of another version of PyTorch, or holds
            pickled objects or native libraries.
    """
    if not path.is_file():
        raise UsageError(f"There is no program {path}.", remedy="Check the path.")
    try:
        _refuse_code(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except PagdeployError:
        raise
    except Exception as problem:  # a damaged file surfaces as one of a dozen types
        raise IncompatibleArtifact(
            f"{path} is no program that this PyTorch ({torch.__version__}) can load "
            f"({_first_line(problem)}).",
            remedy="Save it again with torch.export.save, under this version of PyTorch.",
        ) from None


def _refuse_code(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            name = entry.partition("/")[2]  # everything lies in one folder
            plain = _PLAIN_ENTRY.fullmatch(name) is not None
            if name.startswith("data/sample_inputs/"):
                plain = plain and _is_plain(archive.read(entry))
            elif name.endswith("_config.json"):
                config = json.loads(archive.read(entry))["config"]
                plain = plain and not any(part["use_pickle"] for part in config.values())
            if not plain:
                raise IncompatibleArtifact(
                    f"{path} holds more than a program and its tensors ({name or entry}), which "
                    "could run when it is loaded.",
                    remedy="Name the model by its factory instead: file.py:factory.",
                )


def _is_plain(data: bytes) -> bool:
    """Whether a pickle holds only tensors and containers."""
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception:  # whatever stops the restricted loader is not plain
        return not data
    return True


@contextlib.contextmanager
def _importable(source: str) -> Iterator[None]:
    folder = str(Path(source).resolve().parent) if source.endswith(".py") else str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _load_module(source: str, spec: str) -> ModuleType:
    if source.endswith(".py") and not Path(source).is_file():
        raise UsageError(f"There is no file {source}.", remedy="Check the path.")
    try:
        if source.endswith(".py"):
            return _load_file(Path(source))
        return importlib.import_module(source)
    except ModuleNotFoundError as absent:
        missing = absent.name or ""
        if not source.endswith(".py") and f"{source}.".startswith(f"{missing}."):
            raise UsageError(
                f"There is no Python module {missing!r}.",
                remedy=f"Check the spelling, or write {_FORMS}.",
            ) from None
        raise EnvironmentProblem(
            f"{source} imports {missing!r}, which is not installed.",
            remedy="Install the package that provides it.",
        ) from absent
    except (Exception, SystemExit) as problem:  # it is the user's code
        raise _raised(f"Importing {source}", problem) from problem


def _load_file(path: Path) -> ModuleType:
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_model_file"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look it up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _call(factory: object, spec: str) -> object:
    if not callable(factory):
        raise UsageError(
            f"{spec} is an object of type {type(factory).__name__}, not a function.",
            remedy="Name a function that returns the model.",
        )
    try:
        return factory()
    except (Exception, SystemExit) as problem:  # it is the user's code
        raise _raised(f"The factory {spec}", problem) from problem


def _raised(what: str, problem: BaseException) -> UsageError:
    return UsageError(
        f"{what} raised {type(problem).__name__}: {_first_line(problem)}.",
        remedy="Mend it; running it in Python shows the whole traceback.",
    )


def _first_line(problem: BaseException) -> str:
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no message"
