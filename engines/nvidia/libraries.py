"""NVIDIA's run-time libraries on this machine: where each comes from, and which one is taken."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pagdeploy.engines.nvidia.elf import SharedLibrary, read_library
from pagdeploy.engines.nvidia.linker import Linker
from pagdeploy.engines.nvidia.plan import TENSORRT_RTX
from pagdeploy.errors import PagdeployError

_NAMES = re.compile(
    r"lib(nvinfer|nvonnxparser|tensorrt_(onnxparser_)?rtx"
    r"|cudart|cudnn|cublas|cufft|curand|cusolver|cusparse|nvrtc|nvJitLink)[^/]*\.so"
)
_TENSORRT = re.compile(r"lib(nvinfer|nvonnxparser|tensorrt_)")
_PACKAGES = ("tensorrt", "nvidia")  # how the names of the distributions begin


@dataclass(frozen=True)
class NativeLibrary:
    """A library that was found.

    Attributes:
        soname: The name that others need it by.
        path: Of the file.
        version: As full as can be told without loading it, or None.
        origin: The package that it belongs to, "LD_LIBRARY_PATH" or "system".
    """

    soname: str
    path: Path
    version: str | None
    origin: str

    @property
    def from_package(self) -> bool:
        """Whether a Python package brings it, so that the linker does not know it."""
        return self.origin not in ("LD_LIBRARY_PATH", "system")


@dataclass(frozen=True)
class Consumer:
    """A library that needs some of NVIDIA's.

    Attributes:
        path: Of the file.
        needs: Their sonames.
        lacks: Those that no package and no folder has.
    """

    path: Path
    needs: tuple[str, ...]
    lacks: tuple[str, ...]


def find_libraries(site: Sequence[Path], linker: Linker) -> list[NativeLibrary]:
    """TensorRT's and CUDA's libraries, once each, in the order in which they are taken.

    Args:
        site: Folders that hold Python packages, as sys.path has them.
        linker: Where else to look.
    """
    found: dict[tuple[Path, str], NativeLibrary] = {}
    for path, origin, version in (*_of_packages(site), *_of_the_linker(linker)):
        real = path.resolve()
        soname = _soname(real)
        if soname is not None and (real, soname) not in found:
            found[real, soname] = NativeLibrary(soname, path, version or _version(real), origin)
    return list(found.values())


def installed_version(flavour: str, libraries: Iterable[NativeLibrary]) -> str | None:
    """The version of the runtime that loads plans: of "tensorrt" or "tensorrt-rtx"."""
    name = r"libtensorrt_rtx\.so" if flavour == TENSORRT_RTX else r"libnvinfer\.so"
    return next((found.version for found in libraries if re.match(name, found.soname)), None)


def winner(soname: str, libraries: Iterable[NativeLibrary], linker: Linker) -> Path | None:
    """The file that Python's bindings take for a soname: their package's, or the linker's."""
    for library in libraries:
        if library.soname == soname and library.from_package:
            return library.path
    return linker.find(soname)


def read_consumer(path: Path, libraries: Sequence[NativeLibrary], linker: Linker) -> Consumer:
    """What a library needs of NVIDIA's, and what of that is not here.

    Raises:
        IncompatibleArtifact: it is damaged.
    """
    library: SharedLibrary = read_library(path, symbols=False)
    needs = tuple(name for name in library.needed if is_nvidias(name))
    here = {found.soname for found in libraries}
    lacks = tuple(
        name
        for name in needs
        if name not in here and linker.find(name, path, library.runpath) is None
    )
    return Consumer(path, needs, lacks)


def is_nvidias(name: str) -> bool:
    """Whether a file or soname is one of TensorRT's or of the CUDA toolkit's libraries."""
    return _NAMES.match(name) is not None


def is_tensorrts(name: str) -> bool:
    """Whether a file or soname is one of TensorRT's or TensorRT-RTX's libraries."""
    return _TENSORRT.match(name) is not None


def bindings(site: Sequence[Path]) -> list[Path]:
    """The extension modules of TensorRT's Python packages."""
    return [path for folder in site for path in sorted(folder.glob("tensorrt*/tensorrt*.so"))]


def _of_packages(site: Sequence[Path]) -> Iterator[tuple[Path, str, str]]:
    for distribution in metadata.distributions(path=[str(folder) for folder in site]):
        name = distribution.metadata["Name"] or ""
        if name.lower().startswith(_PACKAGES):
            for file in distribution.files or ():
                path = Path(str(distribution.locate_file(file)))
                if is_nvidias(path.name) and path.is_file():
                    yield path, name, distribution.version


def _of_the_linker(linker: Linker) -> Iterator[tuple[Path, str, None]]:
    for folder in linker.environment:
        yield from ((path, "LD_LIBRARY_PATH", None) for path in _wanted_in(folder))
    for name, path in linker.cache.items():
        if is_nvidias(name):
            yield path, "system", None
    for folder in linker.folders:
        yield from ((path, "system", None) for path in _wanted_in(folder))


def _wanted_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if is_nvidias(path.name))
    except OSError:  # LD_LIBRARY_PATH names whatever it likes
        return []


def _soname(path: Path) -> str | None:
    """None if the file is no shared library, such as a linker script."""
    try:
        return read_library(path, symbols=False).soname or path.name
    except PagdeployError:
        return None


def _version(path: Path) -> str | None:
    """From the name, "libnvinfer.so.10.13.3", or from TensorRT's symbol tensorrt_version_*."""
    named = path.name.partition(".so.")[2]
    if "." in named:
        return named
    if is_tensorrts(path.name):
        for symbol in read_library(path).exports:
            if found := re.fullmatch(r"tensorrt_version_(\d+(?:_\d+)+)", symbol):
                return found.group(1).replace("_", ".")
    return named or None
