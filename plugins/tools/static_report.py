"""Compile every kernel for every architecture and write what the compiler made of it.

    python plugins/tools/static_report.py --build FOLDER -o docs/results/kernels-static.md

Needs nvcc; names of instructions need nvdisasm (from the CUDA toolkit, or the PyPI package
nvidia-cuda-nvdisasm). Exits 1 if a kernel spills registers, or if a tensor-core kernel lacks its
matrix instruction or 16-byte copies. Compiled files in FOLDER are used again while they are newer
than the sources.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[1]
SOURCES = (
    "pag_gate/kernel.cu",
    "perforated_conv/kernel.cu",
    "perforated_conv/fused_tail.cu",
    "perforated_conv/support.cu",
)
WGMMA_SOURCE = "perforated_conv/kernel_wgmma.cu"
ARCHITECTURES = ("75", "80", "86", "87", "89", "90", "100", "120")
MATRIX = re.compile(r"HMMA|HGMMA|IMMA|UTC\w*MMA|OMMA")


@dataclasses.dataclass
class Kernel:
    """One kernel on one architecture."""

    registers: int
    stack: int
    spills: int
    instructions: Counter[str] | None = None

    def count(self, pattern: str) -> int | None:
        """How many instructions match, or None if the code was not read."""
        if self.instructions is None:
            return None
        return sum(n for name, n in self.instructions.items() if re.match(pattern, name))


def compile_source(source: str, architecture: str, folder: Path) -> tuple[Path, str]:
    """The cubin and what ptxas said about it."""
    stem = source.replace("/", "-").removesuffix(".cu")
    cubin = folder / f"{stem}.{architecture}.cubin"
    log = cubin.with_suffix(".log")
    newest = max(
        path.stat().st_mtime
        for room in ("common", source.split("/")[0])
        for path in (PLUGINS / room).glob("*.*")
        if path.suffix in {".cu", ".cuh", ".hpp", ".inc"} and "plugin" not in path.name
    )
    if not (log.is_file() and cubin.is_file() and cubin.stat().st_mtime > newest):
        code = f"arch=compute_{architecture},code=sm_{architecture}"
        command = ["nvcc", "-std=c++17", "-O3", f"-gencode={code}", f"-I{PLUGINS}", "-cubin"]
        command += ["-Xptxas", "-v", "-o", str(cubin), str(PLUGINS / source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{source} for sm_{architecture} does not compile:\n{done.stderr}")
        log.write_text(done.stderr)
    return cubin, log.read_text()


def readable(names: list[str]) -> dict[str, str]:
    """Mangled names as a reader wants them."""
    program = shutil.which("c++filt")
    text = "\n".join(names)
    if program and names:
        text = subprocess.run([program], input=text, capture_output=True, text=True).stdout
    result = {}
    for mangled, plain in zip(names, text.splitlines(), strict=False):
        plain = plain.replace("(anonymous namespace)::", "")
        plain = re.sub(r"\(.*|^void |pagdeploy::", "", plain)
        for long, short in (("TensorCoreTile", "mma"), ("WarpgroupTile", "wgmma")):
            plain = plain.replace(long, short)
        result[mangled] = plain.replace("ExactFloatTile", "exact").replace("> >", ">>")
    return result


def parse_log(log: str) -> dict[str, Kernel]:
    """Registers, stack and spills by mangled name."""
    kernels: dict[str, Kernel] = {}
    name, stack, spills = "", 0, 0
    for line in log.splitlines():
        if found := re.search(r"Compiling entry function '(\S+)'", line):
            name = found.group(1)
        elif found := re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line
        ):
            stack, spills = int(found.group(1)), int(found.group(2)) + int(found.group(3))
        elif (found := re.search(r"Used (\d+) registers", line)) and name:
            kernels[name] = Kernel(int(found.group(1)), stack, spills)
            name = ""
    return kernels


def read_code(cubin: Path, kernels: dict[str, Kernel], nvdisasm: str) -> None:
    """Count the instructions of each kernel."""
    done = subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True)
    if done.returncode != 0:
        return
    current: Kernel | None = None
    for line in done.stdout.splitlines():
        if found := re.match(r"\s*\.text\.(\S+):|//-+ \.text\.(\S+)", line):
            current = kernels.get((found.group(1) or found.group(2)).rstrip(":"))
            if current is not None:
                current.instructions = Counter()
        elif current is not None and current.instructions is not None:
            if found := re.match(
                r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_.a-z]*)", line
            ):
                current.instructions[found.group(1)] += 1


def faults(name: str, architecture: str, kernel: Kernel) -> list[str]:
    """What must not be in a release."""
    where = f"{name} on sm_{architecture}"
    found = []
    if kernel.spills or kernel.count(r"LDL|STL"):
        found.append(f"{where} spills registers")
    tensor = ("mma<" in name) or name.startswith("fusedTail")
    # The types that sm_75 has no instructions for trap there; the planner never sends them.
    trapped = architecture == "75" and ("Half" not in name)
    if tensor and not trapped and kernel.instructions is not None:
        if not kernel.count(MATRIX.pattern):
            found.append(f"{where} has no matrix instruction")
        wide = r"LDG\S*128" if architecture == "75" else r"LDGSTS\S*128"
        if not kernel.count(wide):
            found.append(f"{where} has no 16-byte copies")
    return found


def table(rows: dict[str, dict[str, Kernel]], architectures: list[str], cell: object) -> list[str]:
    """A Markdown table with one row per kernel and one column per architecture."""
    head = "| kernel | " + " | ".join(f"sm_{a}" for a in architectures) + " |"
    lines = [head, "|---" * (len(architectures) + 1) + "|"]
    for name in sorted(rows):
        cells = [cell(rows[name][a]) if a in rows[name] else "" for a in architectures]  # type: ignore[operator]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def code_cell(kernel: Kernel) -> str:
    """Matrix instructions, 16-byte copies and loads, local accesses."""
    if kernel.instructions is None:
        return ""
    copies = kernel.count(r"LDGSTS\S*128")
    loads = (kernel.count(r"LDG\S*128") or 0) + (kernel.count(r"LDS\S*128") or 0)
    local = kernel.count(r"LDL|STL")
    return f"{kernel.count(MATRIX.pattern)} / {copies} / {loads} / {local}"


def main() -> None:
    """Compile, read, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, required=True, help="where compiled files are kept")
    parser.add_argument("-o", "--output", type=Path, help="the report; printed if not given")
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES))
    parser.add_argument("--nvdisasm", default=shutil.which("nvdisasm") or "", help="the program")
    options = parser.parse_args()
    if shutil.which("nvcc") is None:
        sys.exit("nvcc is not on the PATH")
    options.build.mkdir(parents=True, exist_ok=True)
    architectures = options.architectures.split(",")
    jobs = [(source, a) for a in architectures for source in SOURCES]
    if "90" in architectures:
        architectures.insert(architectures.index("90") + 1, "90a")
        jobs.append((WGMMA_SOURCE, "90a"))
    rows: dict[str, dict[str, Kernel]] = {}
    wrong: list[str] = []
    for source, architecture in jobs:
        cubin, log = compile_source(source, architecture, options.build)
        kernels = parse_log(log)
        if options.nvdisasm:
            read_code(cubin, kernels, options.nvdisasm)
        names = readable(list(kernels))
        for mangled, kernel in kernels.items():
            rows.setdefault(names[mangled], {})[architecture] = kernel
            wrong += faults(names[mangled], architecture, kernel)
    text = render(rows, architectures, wrong, bool(options.nvdisasm))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text)
    print(f"{len(rows)} kernels, {len(wrong)} faults")
    sys.exit(1 if wrong else 0)


def render(
    rows: dict[str, dict[str, Kernel]], architectures: list[str], wrong: list[str], code: bool
) -> str:
    """The report as Markdown."""
    version = subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout
    release = re.search(r"release \S+ (V\S+)", version)
    busy = {
        name: kernels
        for name, kernels in rows.items()
        if any(k.count(MATRIX.pattern) or k.count(r"LDGSTS") for k in kernels.values())
    }
    lines = [
        "# The kernels as compiled",
        "",
        "Written by `python plugins/tools/static_report.py --build FOLDER -o "
        f"docs/results/kernels-static.md` with nvcc {release.group(1) if release else '?'}. "
        "No GPU is needed. `mma<type, rows, columns, warps down, warps across, stages, blocks>` "
        "are the tensor-core variants of `plugins/perforated_conv/variants.inc`.",
        "",
        f"Kernels that spill: {sum('spills' in fault for fault in wrong)}. "
        f"Other faults: {sum('spills' not in fault for fault in wrong)}.",
        *(f"- {fault}" for fault in wrong),
        "",
        "## Registers",
        "",
        *table(rows, architectures, lambda k: str(k.registers) + ("!" if k.spills else "")),
        "",
    ]
    if code:
        lines += [
            "## Instructions",
            "",
            "Matrix instructions (HMMA, HGMMA) / asynchronous copies of 16 bytes (LDGSTS.128) / "
            "other loads of 16 bytes / accesses to local memory, in the whole kernel. sm_75 has no "
            "asynchronous copies, and no products of bfloat16 and TF32, which the planner never "
            "asks it for.",
            "",
            *table(busy, architectures, code_cell),
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
