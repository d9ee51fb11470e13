"""Why something cannot be used here, as a value: doctor shows it, a loader raises it."""

from __future__ import annotations

from typing import NamedTuple

from pagdeploy.errors import EnvironmentProblem, PagdeployError


class Obstacle(NamedTuple):
    """What is in the way.

    Attributes:
        reason: One sentence that names the thing.
        remedy: One sentence, or the command that removes it.
        missing: Whether this machine lacks something; else the thing itself does not fit.
    """

    reason: str
    remedy: str
    missing: bool = False

    def __str__(self) -> str:
        return f"{self.reason} {self.remedy}"

    def error(self, misfit: type[PagdeployError]) -> PagdeployError:
        """The same as an error, to be raised: of the kind `misfit`, unless something is missing."""
        kind = EnvironmentProblem if self.missing else misfit
        return kind(self.reason, remedy=self.remedy)
