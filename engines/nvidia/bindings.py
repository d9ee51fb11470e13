"""TensorRT's Python modules: found, complete, or told apart by what is missing."""

from __future__ import annotations

import importlib
from typing import Any

from pagdeploy.errors import EnvironmentProblem


def import_bindings(names: tuple[str, ...], extra: str, purpose: str) -> Any:
    """The first of the modules that is installed, with the libraries that it needs.

    Args:
        names: Modules that offer the same.
        extra: Of pagdeploy, that installs them.
        purpose: What needs it, for the error.

    Raises:
        EnvironmentProblem: none is installed, or one is and does not work.
    """
    for name in names:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as problem:
            if problem.name == name:
                continue
            raise _broken(name, problem) from None
        except Exception as problem:  # ctypes and the bindings raise several types of their own
            raise _broken(name, problem) from None
        if not hasattr(module, "Builder"):
            raise _broken(name, AttributeError("the module has no Builder"))
        return module
    raise EnvironmentProblem.missing_extra(names[0].replace("_", "-"), extra, purpose)


def _broken(name: str, problem: Exception) -> EnvironmentProblem:
    text = str(problem).splitlines()[0].rstrip(".") if str(problem) else type(problem).__name__
    return EnvironmentProblem(
        f"The Python module {name} is installed, but does not work ({text}).",
        remedy="See with 'pagdeploy doctor' which of its libraries are missing.",
    )
