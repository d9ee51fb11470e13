"""TensorRT's log: into Python's, with the errors kept for the sentence that the user gets."""

from __future__ import annotations

import logging
from typing import Any, Protocol

_log = logging.getLogger("pagdeploy.tensorrt")
_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
    "VERBOSE": logging.DEBUG,
}


class Log(Protocol):
    """A logger that TensorRT accepts, with a memory.

    Attributes:
        errors: Every error so far, as TensorRT put it.
    """

    errors: list[str]


def make_log(trt: Any) -> Log:
    """A logger for builders, parsers and runtimes of that module.

    Args:
        trt: The module `tensorrt` or `tensorrt_rtx`.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            level = _LEVELS.get(severity.name, logging.DEBUG)
            if level == logging.ERROR:
                self.errors.append(message)
                level = logging.INFO  # the sentence that follows says it; -v shows the original
            _log.log(level, "%s", message)

    logger: Log = Logger()
    return logger


def last_error(log: Log, otherwise: str) -> str:
    """The last error without its source location, as half a sentence."""
    lines = [line for text in log.errors for line in text.strip().splitlines()]
    if not lines:
        return otherwise
    text = lines[-1]
    _, _, rest = text.partition(": Error Code ")
    return (rest.partition(": ")[2] or text).strip().rstrip(".")


def first_line(text: str) -> str:
    """What a library says of a failure, as half a sentence."""
    return (text.strip().splitlines() or ["it gives no reason"])[0].rstrip(".")
