"""The op table: every op of the domain `pagdeploy`, declared once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pagdeploy.ops.pag_gate import PAG_GATE
from pagdeploy.ops.perforated_conv import PERFORATED_CONV
from pagdeploy.ops.perforated_conv_reference import Activation, Mode
from pagdeploy.ops.seg_aware_conv import SEG_AWARE_CONV
from pagdeploy.ops.seg_aware_conv_reference import Distance, Normalization, Outside
from pagdeploy.ops.spec import DOMAIN, VERSION, Attribute, Op, Port

OPS: Mapping[str, Op] = MappingProxyType(
    {op.name: op for op in (PAG_GATE, PERFORATED_CONV, SEG_AWARE_CONV)}
)

__all__ = [
    "DOMAIN",
    "OPS",
    "PAG_GATE",
    "PERFORATED_CONV",
    "SEG_AWARE_CONV",
    "VERSION",
    "Activation",
    "Attribute",
    "Distance",
    "Mode",
    "Normalization",
    "Op",
    "Outside",
    "Port",
]
