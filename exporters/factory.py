"""From the name of a model on the command line to the model."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import operator
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from torch import nn
from torch.export import ExportedProgram

from pagdeploy.errors import EnvironmentProblem, UsageError
from pagdeploy.exporters.programs import load_program

_FORMS = "file.py:factory, package.module:factory or model.pt2"


def load_factory(spec: str) -> nn.Module | ExportedProgram:
    """Make the model that `spec` names.

    A factory is anything that returns a module when called without arguments, or a module. The
    folder of a file is importable while the file loads and the factory runs. Both forms run the
    code that they name; a .pt2 file runs none.

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
