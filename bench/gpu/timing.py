"""Times of the kernels beside cuDNN's dense convolution, in the same process and in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from checks import BOUNDS, Layer, channels_last, error, oracle, tensors
from library import PLANNED, Conv, Gate, Kernels
from textures import selection

Launch = Callable[[int], object]
L2_BYTES = 64 << 20
CALLS = 20  # in one graph: launches are shorter than the resolution of an event


def microseconds(device: str, *launches: Launch, runs: int = 9) -> list[float]:
    """Median time of one call of each launch, measured in turns; launch(i) uses input set i."""
    if device != "cuda":  # the self-check: each is called once, and the times mean nothing
        times = []
        for launch in launches:
            started = time.perf_counter()
            launch(0)
            times.append((time.perf_counter() - started) * 1e6)
        return times
    graphs = []
    side = torch.cuda.Stream()
    for launch in launches:
        with torch.cuda.stream(side):
            for i in range(3):
                launch(i)
        side.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            for i in range(CALLS):
                launch(i)
        graphs.append(graph)
    samples: list[list[float]] = [[] for _ in launches]
    for run in range(runs + 1):
        for graph, taken in zip(graphs, samples, strict=True):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            if run > 0:  # the first replay warms up
                taken.append(start.elapsed_time(end) * 1e3 / CALLS)
    return [statistics.median(taken) for taken in samples]


def ceilings() -> dict[str, float]:
    """Copy bandwidth and matrix rate, the limits that times are read against."""
    a = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    x, y = (torch.randn(8192, 8192, device="cuda").half() for _ in range(2))
    z = torch.empty_like(x)
    one = torch.zeros(1, device="cuda")
    copy, product, empty = microseconds(
        "cuda", lambda i: b.copy_(a), lambda i: torch.mm(x, y, out=z), lambda i: one.add_(1)
    )
    found = {
        "copy_TBps": 2 * a.numel() / copy / 1e6,
        "half_TFLOPs": 2 * 8192**3 / product / 1e6,
        "small_kernel_us": empty,
    }
    print("  ".join(f"{name} {value:.2f}" for name, value in found.items()), flush=True)
    return found


def _sets(layer: Layer, device: str) -> int:
    """Input sets enough to leave the L2 cache between uses of one."""
    size = layer.n * layer.h * layer.w * (layer.c + 2 * layer.m) * 2
    return max(1, min(6, 2 * L2_BYTES // size + 1)) if device == "cuda" else 1


def _dense(layer: Layer, t: dict[str, Any], dilation: int) -> torch.Tensor:
    """The dense convolution with bias and activation, as cuDNN fuses it."""
    pad, stride = [dilation * (layer.kernel // 2)] * 2, [1, 1]
    if t["x"].is_cuda:
        return torch.cudnn_convolution_relu(
            t["x"], t["weights"][0], t["bias"][0], stride, pad, [dilation] * 2, 1
        )
    y = F.conv2d(t["x"].float(), t["weights"][0].float(), t["bias"][0].float(), 1, pad, dilation)
    return F.relu(y).to(layer.dtype)


LAYERS = [
    Layer(n, h, w, c, c, dilation=d)
    for n in (1, 8)
    for h, w, c, d in ((120, 160, 64, 1), (60, 80, 128, 1), (60, 80, 256, 2), (60, 80, 512, 4))
]
SMALL_LAYERS = [Layer(1, 9, 11, 64, 64)]
DENSITIES = (1.0, 0.7, 0.5, 0.3, 0.1, 0.0)


def _best_variant(kernels: Kernels, convs: list[Conv]) -> tuple[int, float]:
    """The variant with the shortest convolution, and its time."""
    best, shortest = PLANNED, float("inf")
    for variant in range(len(kernels.variants())):
        if not kernels.fits(convs[0], variant):
            continue
        [taken] = microseconds(
            kernels.device,
            lambda i, v=variant: convs[i % len(convs)].run_from_lists(v),
            runs=3,
        )
        if taken < shortest:
            best, shortest = variant, taken
    return best, shortest


def _measure(
    kernels: Kernels, layer: Layer, sets: list[dict[str, Any]], texture: str, density: float
) -> dict[str, Any]:
    """Dense, masked dense, and the op with its best variant, in turns."""
    chosen = selection(texture, (layer.n, layer.h, layer.w), density, 3, kernels.device)
    options = {"dilations": (layer.dilation,), "activation": 1, "density": density}
    convs = [Conv(kernels, selection=chosen, **t, **options) for t in sets]
    for conv in convs:
        conv.run()
    # Once for each texture: the stage `check` has seen the rest, and double precision is slow.
    checked = density == 0.5
    wanted = oracle(layer, sets[0], chosen, (layer.dilation,)) if checked else None
    if wanted is not None and not error(sets[0]["output"], wanted) <= BOUNDS[layer.dtype]:
        raise RuntimeError(f"{layer}, {texture} {density}: wrong before any timing")
    best, alone = _best_variant(kernels, convs)
    count = len(sets)

    def masked(i: int) -> torch.Tensor:
        t = sets[i % count]
        return torch.where(chosen == 1, _dense(layer, t, layer.dilation), t["base"])

    dense_us, masked_us, op_us, lists_us = microseconds(
        kernels.device,
        lambda i: _dense(layer, sets[i % count], layer.dilation),
        masked,
        lambda i: convs[i % count].run(best),
        lambda i: convs[i % count].lists(),
    )
    names = kernels.variants()
    planned = kernels.planned(convs[0])
    return {
        "layer": str(layer),
        "texture": texture,
        "density": density,
        "variant": names[best] if best >= 0 else "direct",
        "planned": names[planned] if planned >= 0 else "direct",
        "dense_us": dense_us,
        "masked_us": masked_us,
        "op_us": op_us,
        "conv_us": alone,
        "lists_us": lists_us,
        "dense_TFLOPs": layer.flops() / dense_us / 1e6,
        "conv_TFLOPs": density * layer.flops() / alone / 1e6,
        "speedup": dense_us / op_us,
        "speedup_over_masked": masked_us / op_us,
    }


def _layer_rows(kernels: Kernels, layer: Layer, small: bool) -> list[dict[str, Any]]:
    """One row per texture and density."""
    sets = [tensors(layer, kernels.device) for _ in range(_sets(layer, kernels.device))]
    rows = []
    for texture in ("pag",) if small else ("salt", "pag", "blob"):
        for density in (0.5,) if small else DENSITIES:
            row = _measure(kernels, layer, sets, texture, density)
            rows.append(row)
            print(
                f"{row['layer']:34} {texture:5} {density:4.1f} | dense {row['dense_us']:7.1f} us "
                f"{row['dense_TFLOPs']:4.0f} TF/s | conv {row['conv_us']:7.1f} us "
                f"{row['conv_TFLOPs']:4.0f} TF/s {row['variant']} (planned {row['planned']}) | "
                f"lists {row['lists_us']:5.1f} us | op {row['op_us']:7.1f} us "
                f"x{row['speedup']:.2f}, over masked x{row['speedup_over_masked']:.2f}",
                flush=True,
            )
    return rows


def layers(kernels: Kernels, small: bool) -> dict[str, Any]:
    """Single layers, the multi-pool, and the gate."""
    rows = []
    for layer in SMALL_LAYERS if small else LAYERS:
        rows += _layer_rows(kernels, layer, small)
    return {"layers": rows, "multi_pool": _multi_pool(kernels, small), "gate": _gate(kernels)}


def _multi_pool(kernels: Kernels, small: bool) -> dict[str, float]:
    """Six dilations in one launch against six dense convolutions and selects."""
    layer = Layer(1, 9, 11, 64, 64) if small else Layer(1, 60, 80, 512, 512)
    dilations = (10, 8, 6, 4, 2, 1)
    shape = (layer.n, 1, layer.h, layer.w)
    chosen = torch.randint(0, 7, shape, dtype=torch.int32, device=kernels.device)
    t = tensors(layer, kernels.device, 6)
    conv = Conv(
        kernels, selection=chosen, dilations=dilations, values=range(1, 7), activation=1, **t
    )

    def dense(_: int) -> torch.Tensor:
        y = t["base"]
        for b, dilation in enumerate(dilations):
            branch = t | {"weights": [t["weights"][b]], "bias": [t["bias"][b]]}
            y = torch.where(chosen == b + 1, _dense(layer, branch, dilation), y)
        return y

    best, _ = _best_variant_of_one(kernels, conv)
    dense_us, op_us = microseconds(kernels.device, dense, lambda i: conv.run(best))
    print(f"multi-pool: dense {dense_us:.1f} us, op {op_us:.1f} us, x{dense_us / op_us:.2f}")
    return {"dense_us": dense_us, "op_us": op_us, "speedup": dense_us / op_us}


def _best_variant_of_one(kernels: Kernels, conv: Conv) -> tuple[int, float]:
    conv.run()
    return _best_variant(kernels, [conv])


def _gate(kernels: Kernels) -> dict[str, float]:
    """Argmax alone, and with the lists, on a map of 60x80."""
    logits = torch.randn(1, 2, 60, 80, device=kernels.device).half()
    chosen = torch.zeros(1, 1, 60, 80, dtype=torch.int32, device=kernels.device)
    gate = Gate(kernels, logits, chosen)
    alone, both = microseconds(
        kernels.device, lambda i: gate.run(), lambda i: gate.run_with_lists()
    )
    print(f"gate on 60x80: {alone:.1f} us, with lists {both:.1f} us")
    return {"gate_us": alone, "gate_and_lists_us": both}


def _bottleneck(kernels: Kernels, layer: Layer, density: float) -> dict[str, Any]:
    """A bottleneck whose 3x3 is gated (`replace` on its own input), and one that is gated as a
    whole (`add` on the shortcut, with the last two convolutions perforated)."""
    outer, d = 4 * layer.m, layer.dilation
    first = Layer(layer.n, layer.h, layer.w, outer, layer.m, kernel=1)
    last = Layer(layer.n, layer.h, layer.w, layer.m, outer, kernel=1)
    a, b, c = (tensors(part, kernels.device) for part in (first, layer, last))
    shape = (layer.n, layer.h, layer.w)
    chosen = selection("pag", shape, density, 3, kernels.device)
    x, zero = a["x"], torch.zeros(1, dtype=layer.dtype, device=kernels.device)
    z1, z2, y = (channels_last(torch.zeros_like(one["output"])) for one in (a, b, c))

    def dense_conv(t: dict[str, Any], source: torch.Tensor, part: Layer, dil: int) -> torch.Tensor:
        return _dense(part, t | {"x": source}, dil)

    def dense(_: int) -> torch.Tensor:
        z = dense_conv(b, dense_conv(a, x, first, 1), layer, d)
        if not x.is_cuda:
            return F.relu(dense_conv(c, z, last, 1) + x)
        return torch.cudnn_convolution_add_relu(
            z, c["weights"][0], x, 1.0, c["bias"][0], [1, 1], [0, 0], [1, 1], 1
        )

    options = {"activation": 1, "density": density}
    replace = Conv(kernels, z1, chosen, b["weights"], b["bias"], z1, z2, dilations=(d,), **options)
    middle = Conv(
        kernels,
        z1,
        chosen,
        b["weights"],
        b["bias"],
        zero,
        z2,
        dilations=(d,),
        fillInactive=0,
        **options,
    )
    closing = Conv(kernels, z2, chosen, c["weights"], c["bias"], x, y, mode=1, **options)

    def gated_3x3(_: int) -> None:
        z1.copy_(dense_conv(a, x, first, 1))
        replace.run()
        dense_conv(c, z2, last, 1)

    def gated_block(_: int) -> None:
        z1.copy_(dense_conv(a, x, first, 1))
        middle.run()
        closing.run()

    # Above some 85 % of support the planner of a network would keep the first 1x1 dense.
    before = Conv(kernels, x, chosen, a["weights"], a["bias"], zero, z1, fillInactive=0, **options)
    # In place, as a residual wants it; a copy of x, so that x stays as it is.
    inplace = x.clone(memory_format=torch.preserve_format)
    ending = Conv(
        kernels,
        z2,
        chosen,
        c["weights"],
        c["bias"],
        inplace,
        inplace,
        mode=1,
        fillInactive=0,
        **options,
    )
    fusable = kernels.tail_fits(middle, ending)

    def fused_block(_: int) -> None:
        before.run_before(middle)
        if fusable:
            middle.run_fused(ending)
        else:
            middle.run()
            ending.run()

    whole, select, add, fused = microseconds(
        kernels.device, dense, gated_3x3, gated_block, fused_block
    )
    print(
        f"block {layer} density {density}: dense {whole:.1f} us, gated 3x3 {select:.1f} us "
        f"x{whole / select:.2f}, gated block {add:.1f} us x{whole / add:.2f}, on its support"
        f"{' and fused' if fusable else ''} {fused:.1f} us x{whole / fused:.2f}",
        flush=True,
    )
    return {
        "layer": str(layer),
        "density": density,
        "dense_us": whole,
        "gated_3x3_us": select,
        "gated_block_us": add,
        "support_block_us": fused,
        "fused": fusable,
    }


def blocks(kernels: Kernels, small: bool) -> dict[str, Any]:
    """Whole bottlenecks, dense and gated."""
    rows = []
    for layer in SMALL_LAYERS if small else LAYERS:
        for density in (0.4,) if small else (1.0, 0.7, 0.5, 0.3, 0.1):
            rows.append(_bottleneck(kernels, layer, density))
    return {"blocks": rows}
