"""Every error a user can see, as one tree; each says what happened and what to do about it.

    PagdeployError
    ├── VerificationFailed     exit 1   the engine does not say what the reference says
    ├── UsageError             exit 2   a flag, a path or an input that cannot be right
    ├── EnvironmentProblem     exit 3   something is not installed, or this machine cannot do it
    ├── IncompatibleArtifact   exit 4   a model or bundle that is damaged, foreign or too new
    └── BuildFailed            exit 5   the artifact is fine, but no engine came out of it

Anything else that is raised is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

from typing import ClassVar


class PagdeployError(Exception):
    """A mistake that the user can mend: one sentence and a remedy, never a traceback.

    Args:
        message: What is wrong, as one sentence that names the thing.
        remedy: What to do about it, as one sentence.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.message = message
        self.remedy = remedy


class VerificationFailed(PagdeployError):
    """The engine and the reference disagree by more than the bound."""

    exit_code = 1


class UsageError(PagdeployError):
    """The request itself cannot be right."""

    exit_code = 2


class EnvironmentProblem(PagdeployError):
    """Something that the request needs is not on this machine."""

    exit_code = 3

    @classmethod
    def missing_extra(cls, package: str, extra: str, purpose: str) -> EnvironmentProblem:
        """The error for an optional dependency that is not installed."""
        return cls(
            f"{purpose} needs the package {package!r}, which is not installed.",
            remedy=f"Install it with: pip install 'pagdeploy[{extra}]'",
        )


class IncompatibleArtifact(PagdeployError):
    """A model or bundle that cannot be used as it is."""

    exit_code = 4


class BuildFailed(PagdeployError):
    """No engine could be made from a sound model."""

    exit_code = 5
