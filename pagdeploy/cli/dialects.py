"""trtexec's spelling of flags, accepted beside our own."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Spellings that are more than another case.
_SYNONYMS = {
    "--onnx": None,  # trtexec names the model by a flag; here it is the argument
    "--save-engine": "--output",
    "--timing-cache-file": "--timing-cache",
    "--vc": "--version-compatible",
    "--dynamic-plugins": "--plugins",
    "--static-plugins": "--plugins",
    "--fp16": "--precision=fp16",  # gone from TensorRT 11; here a type in the graph
    "--bf16": "--precision=bf16",
    "--int8": "--precision=int8",
    "--best": "--precision=fp16",
}
# Said by the order of the shapes, or by the precision being fp32.
_DROPPED = {"--profile", "--no-tF32"}


def translate(arguments: Sequence[str]) -> list[str]:
    """Arguments in our dialect: `--optShapes=x:1x3x8x8` becomes `--opt-shapes=x:1x3x8x8`.

    Only flags are touched, never their values, and nothing behind `--`.
    """
    translated: list[str] = []
    for number, argument in enumerate(arguments):
        if argument == "--":
            return translated + list(arguments[number:])
        match = re.match(r"^(--[A-Za-z][A-Za-z0-9-]*)(=.*)?$", argument, re.DOTALL)
        if match is None:
            translated.append(argument)
            continue
        flag = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: f"-{m[1].lower()}", match[1])
        value = match[2] or ""
        if flag in _DROPPED:
            continue
        known = _SYNONYMS.get(flag, flag)
        if known is not None:
            translated.append(f"{known}{value}")
        elif value:  # without "=" the value is the next argument, where we want it
            translated.append(value[1:])
    return translated
