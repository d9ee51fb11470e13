"""Correctness of every kernel against PyTorch in double precision."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from library import DIRECT, PLANNED, Conv, Gate, Kernels
from textures import selection

BOUNDS = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 1e-5}
TF32_BOUND = 2e-3
NAN = float("nan")


@dataclasses.dataclass
class Layer:
    """A convolution to check or to time."""

    n: int
    h: int
    w: int
    c: int
    m: int
    dilation: int = 1
    kernel: int = 3
    groups: int = 1
    dtype: torch.dtype = torch.float16
    mode: int = 0
    activation: int = 1

    def __str__(self) -> str:
        """As a line of a table names it."""
        name = f"{self.n}x{self.h}x{self.w} {self.c}>{self.m} k{self.kernel} d{self.dilation}"
        group = f" g{self.groups}" if self.groups > 1 else ""
        mode = " add" if self.mode else ""
        return f"{name}{group}{mode} {str(self.dtype).removeprefix('torch.')}"

    def flops(self) -> float:
        """Of the dense convolution."""
        work = self.kernel**2 * self.c * self.m / self.groups
        return 2.0 * self.n * self.h * self.w * work


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in channels-last layout, also where one channel makes torch indifferent."""
    n, c, h, w = tensor.shape
    storage = torch.empty((n, h, w, c), dtype=tensor.dtype, device=tensor.device)
    return storage.copy_(tensor.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def tensors(layer: Layer, device: str, branches: int = 1) -> dict[str, Any]:
    """Fresh random operands, and an output of NaN."""
    scale = (layer.kernel**2 * layer.c / layer.groups) ** -0.5

    def draw(*shape: int, by: float = 1.0) -> torch.Tensor:
        return (torch.randn(shape, device=device) * by).to(layer.dtype)

    weights = [
        channels_last(draw(layer.m, layer.c // layer.groups, layer.kernel, layer.kernel, by=scale))
        for _ in range(branches)
    ]
    output = torch.full((layer.n, layer.m, layer.h, layer.w), NAN, device=device)
    return {
        "x": channels_last(draw(layer.n, layer.c, layer.h, layer.w)),
        "weights": weights,
        "bias": [draw(layer.m, by=0.1) for _ in range(branches)],
        "base": channels_last(draw(layer.n, layer.m, layer.h, layer.w)),
        "output": channels_last(output.to(layer.dtype)),
    }


def oracle(
    layer: Layer, t: dict[str, Any], chosen: torch.Tensor, dilations: tuple[int, ...]
) -> torch.Tensor:
    """The op's definition in double precision."""
    base = t["base"].double().expand(layer.n, layer.m, layer.h, layer.w)
    y = base.clone()
    for b, dilation in enumerate(dilations):
        c = F.conv2d(
            t["x"].double(),
            t["weights"][b].double(),
            t["bias"][b].double(),
            padding=dilation * (layer.kernel // 2),
            dilation=dilation,
            groups=layer.groups,
        )
        active = chosen == b + 1
        y = torch.where(active, c + (base if layer.mode else 0.0), y)
        if layer.mode == 0 and layer.activation:
            y = torch.where(active, F.relu(y), y)
    return F.relu(y) if layer.mode and layer.activation else y


def error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """max|a-b| / max|b|; a NaN passes no bound."""
    difference = (got.double() - wanted).abs().max()
    return (difference / wanted.abs().max().clamp_min(1e-30)).item()


def _layers(small: bool) -> list[Layer]:
    single, brain = torch.float32, torch.bfloat16
    if small:
        return [
            Layer(1, 9, 11, 64, 72),
            Layer(2, 7, 9, 40, 64, dilation=6, mode=1, dtype=brain),
            Layer(1, 8, 9, 16, 24, dtype=single),
            Layer(1, 6, 7, 24, 24, groups=24),
            Layer(1, 6, 7, 7, 5, mode=1),
        ]
    return [
        Layer(1, 60, 80, 64, 64),
        Layer(2, 33, 41, 128, 136, dilation=2),
        Layer(1, 60, 80, 256, 256, dilation=4, mode=1),
        Layer(1, 20, 20, 72, 40, dilation=24),
        Layer(8, 60, 80, 512, 512, dilation=4),
        Layer(1, 61, 83, 256, 1024, kernel=1, mode=1),
        Layer(2, 60, 80, 128, 128, dtype=brain, mode=1),
        Layer(1, 60, 80, 128, 128, dtype=single),
        Layer(2, 37, 53, 64, 96, groups=4),
        Layer(2, 56, 56, 192, 192, groups=192),
        Layer(1, 31, 29, 7, 5, mode=1),
        Layer(1, 31, 29, 12, 20, kernel=7),
    ]


def _check_layer(kernels: Kernels, layer: Layer, texture: str, density: float) -> list[str]:
    """Every variant that fits; the descriptions of those that fail."""
    failures = []
    shape = (layer.n, layer.h, layer.w)
    chosen = selection(texture, shape, density, 3, kernels.device)
    t = tensors(layer, kernels.device)
    wanted = oracle(layer, t, chosen, (layer.dilation,))
    names = kernels.variants()
    for tf32 in (0, 1) if layer.dtype == torch.float32 else (0,):
        options = {"mode": layer.mode, "activation": layer.activation, "allowTf32": tf32}
        conv = Conv(kernels, selection=chosen, dilations=(layer.dilation,), **t, **options)
        for variant in (PLANNED, DIRECT, *range(len(names))):
            if variant >= 0 and not kernels.fits(conv, variant):
                continue
            t["output"].fill_(NAN)
            conv.scratch.fill_(-77777777)
            conv.run(variant)
            first = t["output"].clone()
            found = error(first, wanted)
            conv.run(variant)  # in the workspace that the first call has left
            repeats = torch.equal(first, t["output"])
            bound = TF32_BOUND if tf32 else BOUNDS[layer.dtype]
            if not (found <= bound and repeats):
                name = names[variant] if variant >= 0 else ("planned", "direct")[variant + 2 == 1]
                failures.append(
                    f"{layer}, {texture} {density}, {name}: error {found:.1e}, "
                    f"{'repeatable' if repeats else 'NOT REPEATABLE'}"
                )
    return failures


def _check_multi_pool(kernels: Kernels, layer: Layer, dilations: tuple[int, ...]) -> list[str]:
    """Several dilations in one launch."""
    shape = (layer.n, 1, layer.h, layer.w)
    chosen = torch.randint(0, len(dilations) + 1, shape, dtype=torch.int32, device=kernels.device)
    t = tensors(layer, kernels.device, len(dilations))
    wanted = oracle(layer, t, chosen, dilations)
    values = tuple(range(1, len(dilations) + 1))
    conv = Conv(kernels, selection=chosen, dilations=dilations, values=values, activation=1, **t)
    failures = []
    names = kernels.variants()
    for variant in range(len(names)):
        if kernels.fits(conv, variant):
            t["output"].fill_(NAN)
            conv.run(variant)
            found = error(t["output"], wanted)
            if not found <= BOUNDS[layer.dtype]:
                failures.append(f"multi-pool {layer}, {names[variant]}: error {found:.1e}")
    return failures


def _check_bottleneck(kernels: Kernels, layer: Layer, density: float) -> list[str]:
    """A gated residual: 1x1 on the support, 3x3 and 1x1 fused, added to the input in place."""
    outer = 2 * layer.m
    first = dataclasses.replace(layer, c=outer, kernel=1, dilation=1)
    last = dataclasses.replace(layer, m=outer, kernel=1, dilation=1, mode=1)
    a, b, c = (tensors(part, kernels.device) for part in (first, layer, last))
    chosen = selection("blob", (layer.n, layer.h, layer.w), density, 4, kernels.device)
    x = a["x"]
    everywhere = torch.ones_like(chosen)
    z = oracle(first, a, everywhere, (1,)).to(layer.dtype)
    z = oracle(layer, b | {"x": z}, everywhere, (layer.dilation,)).to(layer.dtype)
    wanted = oracle(last, c | {"x": z, "base": x}, chosen, (1,))
    before = Conv(
        kernels,
        x,
        chosen,
        a["weights"],
        a["bias"],
        a["base"],
        a["output"],
        activation=1,
        fillInactive=0,
    )
    gathered = Conv(
        kernels,
        a["output"],
        chosen,
        b["weights"],
        b["bias"],
        b["base"],
        b["output"],
        dilations=(layer.dilation,),
        activation=1,
    )
    inplace = x.clone(memory_format=torch.preserve_format)
    closing = Conv(
        kernels,
        b["output"],
        chosen,
        c["weights"],
        c["bias"],
        inplace,
        inplace,
        mode=1,
        activation=1,
    )
    if not kernels.tail_fits(gathered, closing):
        return []
    before.run_before(gathered)
    gathered.run_fused(closing)
    found = error(inplace, wanted)
    good = found <= 3 * BOUNDS[layer.dtype]  # three roundings
    return [] if good else [f"bottleneck {layer}, density {density}: error {found:.1e}"]


def _check_gates(kernels: Kernels, shape: tuple[int, int, int, int]) -> list[str]:
    """Selection of every layout and type; ties go to the lowest index."""
    failures = []
    for dtype in BOUNDS:
        # Whole numbers: most pixels have a tie.
        logits = torch.randint(-2, 2, shape, device=kernels.device).to(dtype)
        ranked = (
            logits.float() - torch.arange(shape[1], device=kernels.device).view(1, -1, 1, 1) / 64
        )
        wanted = ranked.argmax(1, keepdim=True).int()
        for layout in (logits.contiguous(), channels_last(logits)):
            result = torch.full_like(wanted, -7)
            gate = Gate(kernels, layout, result)
            gate.run()
            alone = torch.equal(result, wanted)
            result.fill_(-7)
            gate.run_with_lists()
            if not (alone and torch.equal(result, wanted)):
                failures.append(f"gate {shape} {dtype}")
    return failures


def check(kernels: Kernels, small: bool) -> dict[str, Any]:
    """Every kernel, variant, texture and density."""
    textures = ("salt", "blob") if small else ("salt", "pag", "blob", "block")
    densities = (0.0, 0.4, 0.96, 1.0) if small else (0.0, 0.1, 0.5, 0.9, 0.96, 1.0)
    failures: list[str] = []
    for i, layer in enumerate(_layers(small)):
        # On small shapes each layer takes one texture in turn; otherwise all of them.
        for texture in [textures[i % len(textures)]] if small else textures:
            for density in densities:
                failures += _check_layer(kernels, layer, texture, density)
    pool = Layer(1, 9, 10, 64, 64) if small else Layer(1, 60, 80, 128, 128)
    failures += _check_multi_pool(kernels, pool, (1, 2, 4) if small else (10, 8, 6, 4, 2, 1))
    for density in (0.0, 0.3, 1.0):
        for m in (64,) if small else (64, 128, 256):
            block = Layer(1, 9, 10, m, m, 2) if small else Layer(2, 60, 80, m, m, 2)
            failures += _check_bottleneck(kernels, block, density)
    for shape in ((2, 3, 7, 9),) if small else ((1, 2, 60, 80), (2, 7, 37, 53), (1, 16, 61, 83)):
        failures += _check_gates(kernels, shape)
    for failure in failures:
        print(f"FAIL {failure}")
    print(f"check: {len(failures)} failures")
    return {"failures": failures, "failed": len(failures)}


def graph(kernels: Kernels, small: bool) -> dict[str, Any]:
    """Gate, lists and convolution captured once, replayed for selections of other densities."""
    layer = Layer(1, 9, 11, 64, 64) if small else Layer(1, 60, 80, 256, 256, dilation=2)
    shape = (layer.n, layer.h, layer.w)
    t = tensors(layer, kernels.device)
    logits = torch.zeros((layer.n, 2, layer.h, layer.w), device=kernels.device).half()
    chosen = torch.zeros((layer.n, 1, layer.h, layer.w), dtype=torch.int32, device=kernels.device)
    gate = Gate(kernels, logits, chosen)
    conv = Conv(kernels, selection=chosen, dilations=(layer.dilation,), activation=1, **t)

    def run() -> None:
        gate.run()
        conv.run()

    run()
    replay = run
    if kernels.device == "cuda":
        torch.cuda.synchronize()
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            run()
        replay = captured.replay
    failures = []
    for seed, density in enumerate((0.0, 0.3, 1.0, 0.7)):
        wanted_selection = selection("pag", shape, density, seed, kernels.device)
        logits[:, 1:] = wanted_selection.half() - 0.5
        t["output"].fill_(NAN)
        replay()
        if kernels.device == "cuda":
            torch.cuda.synchronize()
        found = error(t["output"], oracle(layer, t, wanted_selection, (layer.dilation,)))
        if not (torch.equal(chosen, wanted_selection) and found <= BOUNDS[layer.dtype]):
            failures.append(f"replay at density {density}: error {found:.1e}")
            print(f"FAIL {failures[-1]}")
    print(f"graph: {len(failures)} failures in 4 replays")
    return {"failures": failures, "failed": len(failures)}
