"""Train the rooms networks as the PAG paper does: dense first, then gates with a density target.

Kong and Fowlkes 2018 (arXiv 1805.01556): the dense network learns all tasks; then gates are put
in, their decisions are sampled with Gumbel noise and passed straight through, and a KL term per
gate pulls the share of computed pixels to the target while the task losses go on. The last part
of the training runs without noise, on the very decisions that a deployed gate takes.

Run: python -m pagdeploy.examples.rooms.train --out DIR
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pagdeploy.examples.rooms.dataset import MARGIN, TRAINING_SEEDS, Batch, RoomSet, training_set
from pagdeploy.examples.rooms.model import LONGER, TARGETS, dense, gated, load_weights, save_weights
from pagdeploy.exporters.models.pag_resnet import PAGResNet
from pagdeploy.exporters.modules import PAGGate, sparsity_kl

BATCH = 16
SPARSITY_WEIGHT = 3.0
EVEN_SHARE = 0.04
"""Weight of an even mask in the sparsity loss; see `sparsity_loss`."""

GATE_RATE = 5.0
"""Learning rate of the gates relative to the other layers."""

HOTTEST, COLDEST = 1.0, 0.1
"""First and last Gumbel temperature; 0.1 is the official default."""

FREE_TEMPERATURE = 1.0
"""Temperature of the steps without noise, where only the gradient depends on it: wide enough to
reach pixels whose decision is not close."""

NOISE_ENDS = 0.6
"""Share of the gated training after which no gate draws noise any more."""

SETTLING_SCENES = 500
"""Training scenes on which the gates' biases are settled at the end."""

CLASS_WEIGHTS = torch.tensor([0.7, 1.0, 0.5, 2.0, 1.6, 1.3, 2.4, 1.1])
"""About the square root of the inverse class frequency, in the order of `CLASSES`."""


def task_losses(outputs: Sequence[Tensor], batch: Batch) -> dict[str, Tensor]:
    """The four weighted task losses, scalars, by task.

    Segmentation: cross-entropy. Boundary: cross-entropy with both kinds of pixel given equal
    weight (Xie and Tu 2015, arXiv 1504.06375, equation 2). Depth: |log d - log d*|. Normals:
    1 - cosine.
    """
    segmentation, boundary, depth, normals = outputs
    positive = batch.boundary.mean()
    weight = torch.where(batch.boundary > 0, 1 - positive, positive)  # (N, 1, H, W)
    edges = F.binary_cross_entropy_with_logits(boundary, batch.boundary, weight)
    ratio = torch.log(depth + 1e-3) - torch.log(batch.depth)  # (N, 1, H, W)
    cosine = (normals * batch.normals).sum(1)  # (N, H, W)
    return {
        "segmentation": F.cross_entropy(segmentation, batch.classes, CLASS_WEIGHTS),
        "boundary": 4 * edges,
        "depth": 1.5 * ratio.abs().mean(),
        "normals": 2 * (1 - cosine).mean(),
    }


def sparsity_loss(model: PAGResNet, target: float) -> tuple[Tensor, list[float]]:
    """The weighted sum of the gates' KL terms, and the density of each gate in this batch.

    Mask and target are both mixed with a little of an even mask. The best density stays the
    target, and a gate that computes all pixels, or none, keeps a finite gradient.
    """
    total, densities = torch.zeros(()), []
    for gate in model.gates().values():
        if gate.mask is not None:
            mixed = (1 - EVEN_SHARE) * gate.mask + EVEN_SHARE / 2  # (N, 2, H, W)
            total = total + sparsity_kl(mixed, (1 - EVEN_SHARE) * target + EVEN_SHARE / 2)
            densities.append(float(gate.mask.detach()[:, 1].mean()))
    return SPARSITY_WEIGHT * total, densities


def optimiser(
    model: nn.Module, rate: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW whose rate rises for 5 % of the steps and then falls along a cosine.

    Gates learn faster than the pre-trained layers, as the pooling branches in the released code.
    """
    modules = [module for module in model.modules() if isinstance(module, PAGGate)]
    gates = {id(p) for gate in modules for p in gate.parameters()}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if id(p) not in gates]},
        {"params": [p for p in model.parameters() if id(p) in gates], "lr": GATE_RATE * rate},
    ]
    adam = torch.optim.AdamW(groups, lr=rate, weight_decay=1e-3)

    def factor(step: int) -> float:
        warm = max(1, steps // 20)
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return adam, torch.optim.lr_scheduler.LambdaLR(adam, factor)


def set_decisions(model: PAGResNet, progress: float, source: random.Random) -> None:
    """Say how each gate, MultiPool's included, decides in the next step.

    Noise comes with a probability that falls from 1 to 0, at a temperature that falls from
    HOTTEST to COLDEST. Steps with and without noise can only both meet the density target if the
    probabilities move to 0 and 1.
    """
    cooled = min(1.0, progress / NOISE_ENDS)
    for module in model.modules():
        if isinstance(module, PAGGate):
            module.noise = source.random() >= cooled
            cold = HOTTEST * (COLDEST / HOTTEST) ** cooled
            module.temperature = cold if module.noise else FREE_TEMPERATURE


def start_gates(model: PAGResNet, target: float) -> None:
    """Give every gate logits that are near zero and compute `target` of the pixels."""
    with torch.no_grad():
        for gate in model.gates().values():
            if isinstance(gate.head, nn.Conv2d) and gate.head.bias is not None:
                nn.init.normal_(gate.head.weight, std=0.05)
                gate.head.bias.copy_(torch.tensor([0.0, math.log(target / (1 - target))]))


def settle_gates(model: PAGResNet, rooms: RoomSet, target: float) -> dict[str, float]:
    """Shift each gate's bias so that its density in evaluation is the target on training scenes.

    Training measures densities with the statistics of the batch and on pictures with changed
    colours; a deployed gate sees running statistics and plain pictures. Gates are taken in the
    order of the network, since each changes what the later ones see.

    Returns:
        The change of each gate's compute logit, by gate.
    """
    model.eval()
    step = max(1, len(rooms) // SETTLING_SCENES)
    chosen = np.arange(0, len(rooms), step)
    images = rooms.batch(chosen, MARGIN // 2, MARGIN // 2).image  # (N, 3, H, W)
    shifts: dict[str, float] = {}
    with torch.no_grad():
        for name, gate in model.gates().items():
            leads = _compute_leads(model, gate, images)  # (N * h * w,)
            shifts[name] = -float(leads.sort().values[int((1 - target) * len(leads))])
            bias = gate.head.get_parameter("bias")  # (2,)
            bias[1] += shifts[name]
    return shifts


def _compute_leads(model: PAGResNet, gate: PAGGate, images: Tensor) -> Tensor:
    """How far the compute logit of `gate` is ahead of the pass logit, (N * h * w,)."""
    leads: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> None:
        leads.append((logits[:, 1] - logits[:, 0]).flatten())  # (n * h * w,)

    hook = gate.head.register_forward_hook(keep)
    for some in torch.split(images, 50):
        model(some)
    hook.remove()
    return torch.cat(leads)


def train(
    model: PAGResNet,
    rooms: RoomSet,
    *,
    name: str,
    steps: int,
    rate: float,
    target: float | None,
    seed: int,
    out: Path,
) -> None:
    """Train for `steps` batches and write `out`/`name`.safetensors; `target` None means dense."""
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam, schedule = optimiser(model, rate, steps)
    source = random.Random(seed)
    started = time.perf_counter()
    for step, batch in enumerate(rooms.training_batches(BATCH, steps, seed)):
        progress = step / steps
        if target is not None:
            set_decisions(model, progress, source)
        image = batch.image.contiguous(memory_format=torch.channels_last)
        losses = task_losses(model(image), batch)
        densities: list[float] = []
        if target is not None:
            losses["sparsity"], densities = sparsity_loss(model, target)
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        adam.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            parts = " ".join(f"{key} {float(value.detach()):.3f}" for key, value in losses.items())
            shares = " ".join(f"{density:.2f}" for density in densities)
            seconds = time.perf_counter() - started
            print(f"{name} {step + 1}/{steps} {seconds:.0f} s  {parts}  {shares}", flush=True)
        if step % 1000 == 999:
            save_weights(model, out / f"{name}.safetensors")
    if target is not None:
        shifts = settle_gates(model, rooms, target)
        print(name, "settled by", " ".join(f"{shift:+.2f}" for shift in shifts.values()))
    save_weights(model, out / f"{name}.safetensors")


def main() -> None:
    """Train the dense network, then every gated one from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--data", type=Path, help="folder for the rendered scenes; default: out")
    parser.add_argument("--scenes", type=int, default=len(TRAINING_SEEDS))
    parser.add_argument("--dense", type=Path, help="dense weights to start from, not trained again")
    parser.add_argument("--dense-steps", type=int, default=8_000)
    parser.add_argument("--gated-steps", type=int, default=5_500)
    parser.add_argument(
        "--then",
        nargs="*",
        choices=[*TARGETS, LONGER],
        default=list(TARGETS),
        help=f"networks to train from the dense one; {LONGER} has no gates",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    np.random.seed(arguments.seed)
    out: Path = arguments.out
    started = time.perf_counter()
    seeds = range(TRAINING_SEEDS.start, TRAINING_SEEDS.start + arguments.scenes)
    rooms = training_set(arguments.data or out, seeds, arguments.threads)
    print(f"{len(rooms)} scenes ready after {time.perf_counter() - started:.0f} s", flush=True)
    base = dense()
    if arguments.dense:
        load_weights(base, arguments.dense)
    else:
        train(
            base,
            rooms,
            name="dense",
            steps=arguments.dense_steps,
            rate=3e-3,
            target=None,
            seed=arguments.seed,
            out=out,
        )
    for number, name in enumerate(arguments.then, start=1):
        target = TARGETS.get(name)
        model = dense() if target is None else gated()
        if target is None:
            model.load_state_dict(base.state_dict())
        else:
            model.load_dense(base.state_dict())
            start_gates(model, target)
        train(
            model,
            rooms,
            name=name,
            steps=arguments.gated_steps,
            rate=1.5e-3,
            target=target,
            seed=arguments.seed + number,
            out=out,
        )
    print(f"all done after {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
