"""Build the kernels as a shared library and call them on torch tensors."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
EMULATOR = ROOT / "tests" / "plugins" / "kernels"
CUDA_SOURCES = (
    "pag_gate/kernel.cu",
    "perforated_conv/fused_tail.cu",
    "perforated_conv/kernel.cu",
    "perforated_conv/kernel_wgmma.cu",
    "perforated_conv/launch.cu",
    "perforated_conv/support.cu",
)
HOST_SOURCES = ("perforated_conv/cost.cpp",)

MAX_BRANCHES = 16
DIRECT, PLANNED = -1, -2
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}

_Ints = ctypes.c_int * MAX_BRANCHES
_Pointers = ctypes.c_void_p * MAX_BRANCHES


class ConvArguments(ctypes.Structure):
    """Mirrors the struct of the same name in kernels.cu."""

    _fields_ = (
        *((name, ctypes.c_int) for name in "type images height width inputs outputs".split()),
        *((name, ctypes.c_int) for name in "kernel stride groups mode activation".split()),
        ("branches", ctypes.c_int),
        ("dilations", _Ints),
        ("values", _Ints),
        *(
            (name, ctypes.c_int)
            for name in ("perImage", "baseIsOneValue", "fillInactive", "allowTf32")
        ),
        ("alpha", ctypes.c_float),
        ("density", ctypes.c_float),
        ("input", ctypes.c_void_p),
        ("selection", ctypes.c_void_p),
        ("weights", _Pointers),
        ("bias", _Pointers),
        ("base", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
    )


class GateArguments(ctypes.Structure):
    """Mirrors the struct of the same name in kernels.cu."""

    _fields_ = (
        *((name, ctypes.c_int) for name in "type images height width channels".split()),
        ("channelsLast", ctypes.c_int),
        ("branches", ctypes.c_int),
        ("values", _Ints),
        ("logits", ctypes.c_void_p),
        ("selection", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
    )


def build_command(target: Path, capability: tuple[int, int] | None) -> list[str]:
    """The command that builds the library; for the CPU emulator if there is no GPU.

    Raises:
        RuntimeError: the compiler is missing.
    """
    own = Path(__file__).with_name("kernels.cu")
    cuda = [own, *(PLUGINS / source for source in CUDA_SOURCES)]
    host = [PLUGINS / source for source in HOST_SOURCES]
    if capability is None:
        compiler = shutil.which("g++") or shutil.which("c++")
        if compiler is None:
            raise RuntimeError("the self-check needs g++")
        flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden"]
        flags += ["-U_FORTIFY_SOURCE", f"-I{EMULATOR}/emulator", f"-I{EMULATOR}", f"-I{PLUGINS}"]
        host.append(EMULATOR / "emulator" / "simt_emulator.cpp")
        return [compiler, *flags, "-o", str(target), "-x", "c++", *map(str, (*cuda, *host))]
    compiler = shutil.which("nvcc")
    if compiler is None:
        raise RuntimeError("nvcc is not on the PATH")
    major, minor = capability
    name = f"{major}{minor}" + ("a" if capability == (9, 0) else "")
    flags = ["-std=c++17", "-O3", "-shared", "-cudart", "static", "--threads", "8"]
    flags += ["-Xcompiler", "-fPIC,-fvisibility=hidden", f"-I{PLUGINS}"]
    flags += [f"-gencode=arch=compute_{name},code=sm_{name}"]
    flags += [] if capability == (9, 0) else ["-DPAGDEPLOY_NO_WGMMA"]
    return [compiler, *flags, "-o", str(target), *map(str, (*cuda, *host))]


class Kernels:
    """The library. Tensors are channels-last where they have four axes.

    Args:
        target: Where the library lies or is to be built.
        device: "cuda", or "cpu" for the emulator.
    """

    def __init__(self, target: Path, device: str) -> None:
        self.device, self.path = device, target
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            capability = torch.cuda.get_device_capability() if device == "cuda" else None
            subprocess.run(build_command(target, capability), check=True)
        self._library = ctypes.CDLL(str(target))
        self._library.pag_variant_name.restype = ctypes.c_char_p
        self._library.pag_workspace.restype = ctypes.c_longlong
        self._library.pag_gate_workspace.restype = ctypes.c_longlong
        self._library.pag_support_workspace.restype = ctypes.c_longlong

    def stream(self) -> ctypes.c_void_p:
        """Torch's current stream, so that a CUDA graph captures the launches."""
        if self.device != "cuda":
            return ctypes.c_void_p(0)
        return ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)

    def variants(self) -> list[str]:
        """The names of the rows of variants.inc."""
        count = self._library.pag_variants()
        return [self._library.pag_variant_name(i).decode() for i in range(count)]

    def call(self, name: str, arguments: ctypes.Structure, *rest: Any) -> None:
        """Call a function that returns a CUDA error.

        Raises:
            RuntimeError: it did not return success.
        """
        code = getattr(self._library, name)(ctypes.byref(arguments), *rest, self.stream())
        if code != 0:
            raise RuntimeError(f"{name} failed with the CUDA error {code}")

    def fits(self, conv: Conv, variant: int) -> bool:
        """Whether the variant can compute the convolution on this device."""
        return bool(self._library.pag_fits(ctypes.byref(conv.arguments), variant))

    def planned(self, conv: Conv) -> int:
        """The variant that the planner takes."""
        return int(self._library.pag_planned(ctypes.byref(conv.arguments)))

    def tail_fits(self, gathered: Conv, pointwise: Conv) -> bool:
        """Whether the two can be fused on this device."""
        pair = (ctypes.byref(one.arguments) for one in (gathered, pointwise))
        return bool(self._library.pag_tail_fits(*pair))

    def workspace(self, arguments: ctypes.Structure, support: bool = False) -> torch.Tensor:
        """A poisoned workspace of the right size."""
        gate = isinstance(arguments, GateArguments)
        name = "pag_gate_workspace" if gate else "pag_workspace"
        function = getattr(self._library, "pag_support_workspace" if support else name)
        size = function(ctypes.byref(arguments))
        return torch.full((size // 4 + 1,), -77777777, dtype=torch.int32, device=self.device)


def pointer(tensor: torch.Tensor) -> int:
    """The address of a tensor's data, which must be dense in channels-last layout."""
    if tensor.ndim == 4 and not tensor.is_contiguous(memory_format=torch.channels_last):
        raise ValueError("the tensor is not in channels-last layout")
    return tensor.data_ptr()


class Conv:
    """A PerforatedConv, or a fused chain of them, on given tensors.

    Args:
        kernels: The library.
        x: Input (N, C, H, W).
        selection: int32 (N, 1, H, W), or (N, 1, 1, 1).
        weights: One (M, C / groups, k, k) per branch.
        bias: One (M,) per branch.
        base: (N, M, Ho, Wo), or one value.
        output: (N, M, Ho, Wo), overwritten.
        dilations: One per branch; "same" padding.
        values: The selection's value for each branch.
        options: Fields of `ConvArguments` that are not given by the tensors.
    """

    def __init__(
        self,
        kernels: Kernels,
        x: torch.Tensor,
        selection: torch.Tensor,
        weights: Sequence[torch.Tensor],
        bias: Sequence[torch.Tensor],
        base: torch.Tensor,
        output: torch.Tensor,
        *,
        dilations: Sequence[int] = (1,),
        values: Sequence[int] = (1,),
        **options: float,
    ) -> None:
        n, c, h, w = x.shape
        a = ConvArguments(
            type=TYPES[x.dtype], images=n, height=h, width=w, inputs=c, outputs=output.shape[1]
        )
        a.kernel, a.stride, a.groups = weights[0].shape[2], 1, c // weights[0].shape[1]
        a.fillInactive, a.alpha, a.density = 1, 0.01, 0.4
        a.branches = len(weights)
        a.dilations, a.values = _Ints(*dilations), _Ints(*values)
        a.perImage = int(tuple(selection.shape[2:]) == (1, 1) and output.shape[2:].numel() > 1)
        a.baseIsOneValue = int(base.numel() == 1)
        for name, value in options.items():
            setattr(a, name, value)
        a.input, a.output, a.selection = pointer(x), pointer(output), selection.data_ptr()
        a.base = base.data_ptr() if base.numel() == 1 else pointer(base)
        a.weights = _Pointers(*(pointer(weight) for weight in weights))
        a.bias = _Pointers(*(one.data_ptr() for one in bias))
        self.arguments, self._kernels = a, kernels
        self.scratch = kernels.workspace(a)
        a.workspace = self.scratch.data_ptr()
        self._support: torch.Tensor | None = None
        # The structure holds addresses only; these keep what lies there.
        self._keep = (x, selection, tuple(weights), tuple(bias), base, output)

    def run(self, variant: int = PLANNED) -> None:
        """Lists and convolution."""
        self._kernels.call("pag_conv", self.arguments, variant)

    def run_from_lists(self, variant: int = PLANNED) -> None:
        """The convolution alone, after `run` or `lists`."""
        self._kernels.call("pag_conv_from_lists", self.arguments, variant)

    def lists(self) -> None:
        """The lists alone."""
        self._kernels.call("pag_lists", self.arguments)

    def run_fused(self, pointwise: Conv) -> None:
        """This convolution and the 1x1 behind it in one launch."""
        self._kernels.call("pag_tail", self.arguments, ctypes.byref(pointwise.arguments))

    def run_before(self, gathered: Conv) -> None:
        """This convolution where `gathered` reads its output, and nowhere else."""
        if self._support is None:
            self._support = self._kernels.workspace(gathered.arguments, support=True)
        self._kernels.call(
            "pag_conv_on_support",
            self.arguments,
            ctypes.byref(gathered.arguments),
            ctypes.c_void_p(self._support.data_ptr()),
        )


class Gate:
    """A PAGGate on logits (N, K, H, W) in either layout, with lists for the branches 1..K-1."""

    def __init__(self, kernels: Kernels, logits: torch.Tensor, selection: torch.Tensor) -> None:
        n, k, h, w = logits.shape
        a = GateArguments(type=TYPES[logits.dtype], images=n, height=h, width=w, channels=k)
        a.channelsLast = int(not logits.is_contiguous())
        a.branches, a.values = max(1, k - 1), _Ints(*range(1, max(2, k)))
        a.logits, a.selection = logits.data_ptr(), selection.data_ptr()
        self.arguments, self._kernels = a, kernels
        self.scratch = kernels.workspace(a)
        a.workspace = self.scratch.data_ptr()
        self._keep = (logits, selection)

    def run(self) -> None:
        """The selection alone."""
        self._kernels.call("pag_gate", self.arguments)

    def run_with_lists(self) -> None:
        """Selection and lists."""
        self._kernels.call("pag_gate_and_lists", self.arguments)
