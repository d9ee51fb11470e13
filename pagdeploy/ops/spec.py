"""What the declaration of one op consists of; everything else about an op is derived from it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from onnx.shape_inference import InferenceContext

DOMAIN = "pagdeploy"
VERSION = 1

Kind = Literal["int", "ints", "float"]
Default = int | tuple[int, ...] | float | None

DTYPES = ("float32", "float16", "bfloat16")
"""The floating-point types that every op states an error bound for."""

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_KINDS: Mapping[str, type] = MappingProxyType({"int": int, "ints": tuple, "float": float})


@dataclasses.dataclass(frozen=True)
class Port:
    """An input or an output of an op.

    Args:
        name: Its name in the schema and in the function body.
        type: The type variable it is bound to, a key of `Op.types`.
        doc: Shape and meaning, as one sentence.

    Raises:
        ValueError: the name is no identifier.
    """

    name: str
    type: str
    doc: str

    def __post_init__(self) -> None:
        _require_identifier(self.name)


@dataclasses.dataclass(frozen=True)
class Attribute:
    """An attribute of an op; every node carries every attribute of its op.

    Args:
        name: Its name in the schema.
        kind: "int", "ints" or "float".
        default: What those who make a node write where nothing else was asked for; None where
            only the maker knows.
        doc: Its meaning, as one sentence.
        names: The word for each value, if the integer stands for a choice.

    Raises:
        ValueError: the name is no identifier, the default is not of the kind, or only an "int"
            could have the names that were given.
    """

    name: str
    kind: Kind
    default: Default
    doc: str
    names: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_identifier(self.name)
        if self.kind not in _KINDS:
            raise ValueError(f"{self.name}: {self.kind!r} is no kind of attribute")
        if self.default is not None and type(self.default) is not _KINDS[self.kind]:
            raise ValueError(f"{self.name}: the default {self.default!r} is not of {self.kind!r}")
        if self.names and self.kind != "int":
            raise ValueError(f"{self.name}: only the values of an int have names")
        if self.names and self.default is not None and self.default not in self.names:
            raise ValueError(f"{self.name}: the default {self.default!r} has no name")
        object.__setattr__(self, "names", MappingProxyType(dict(self.names)))


@dataclasses.dataclass(frozen=True)
class Op:
    """One op of the domain `pagdeploy`.

    Args:
        name: Its name in an ONNX file.
        doc: What it computes, as Markdown.
        source: The paper or the equation it comes from.
        inputs: Its inputs, none of them optional.
        outputs: Its outputs.
        attributes: Its attributes.
        types: The ONNX types that each type variable may take.
        body: The statements of its ONNX function, between the braces; signature and opset are
            derived. It must not give attributes defaults: several runtimes ignore them.
        reference: The op in numpy, inputs by position and attributes by keyword: the
            specification that every other form is held to.
        infer: Type and shape inference, for `onnx.defs.OpSchema`.
        bounds: For each of `DTYPES` the largest scale-free error max|a-b| / max|b| that a correct
            implementation may show against `reference`.
        has_plugin: Whether our native libraries compute it; else every lowering, that for
            TensorRT too, writes it in standard ONNX.

    Raises:
        ValueError: a name occurs twice, a port uses an unknown type variable, or a bound is
            missing.
    """

    name: str
    doc: str
    source: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    attributes: tuple[Attribute, ...]
    types: Mapping[str, tuple[str, ...]]
    body: str
    reference: Callable[..., Any]
    infer: Callable[[InferenceContext], None]
    bounds: Mapping[str, float]
    has_plugin: bool = True

    def __post_init__(self) -> None:
        _require_identifier(self.name)
        names = [port.name for port in (*self.inputs, *self.outputs)]
        names += [attribute.name for attribute in self.attributes]
        if len(names) != len(set(names)):
            raise ValueError(f"{self.name}: a name occurs twice in {names}")
        for port in (*self.inputs, *self.outputs):
            if port.type not in self.types:
                raise ValueError(f"{self.name}: {port.name} has the unknown type {port.type!r}")
        if set(self.bounds) != set(DTYPES):
            raise ValueError(f"{self.name}: bounds are needed for exactly {DTYPES}")
        object.__setattr__(self, "types", MappingProxyType(dict(self.types)))
        object.__setattr__(self, "bounds", MappingProxyType(dict(self.bounds)))

    def attribute(self, name: str) -> Attribute:
        """The attribute of that name.

        Raises:
            KeyError: the op has none.
        """
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise KeyError(f"{self.name} has no attribute {name!r}")


def _require_identifier(name: str) -> None:
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"{name!r} is not an identifier")
