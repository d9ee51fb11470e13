"""Models, inputs and reference outputs, written where pagdeploy, torch and onnxruntime are."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pagdeploy.graph.cost import count_cost
from pagdeploy.graph.gates import OWN, expose, force_selections, gates_of
from pagdeploy.ops import DOMAIN
from pagdeploy.ops.bodies import attach_bodies
from pagdeploy.ops.derive import register_schemas
from pagdeploy.pipeline import lower
from pagdeploy.precision import Precision
from pagdeploy.verbs.proof import run_lowered
from road.cases import Arrays, Case, Feed, Gate, sampled, write_cases
from road.networks import Network, networks

RUNNER = "trt_runner"
RUNNER_SOURCE = Path(__file__).parents[1] / "tensorrt_runner" / "trt_runner.cpp"
VERSIONS = ("pagdeploy", "onnx", "onnxruntime", "numpy")


def prepare(folder: Path, groups: list[str], precisions: list[str], small: bool) -> list[Case]:
    """Write everything that `run` needs but the runner and the plugins."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for network in networks(groups, small):
        feeds = [_write_feed(folder, network, name) for name in network.inputs]
        for precision in precisions:
            cases.append(_write_case(folder, network, feeds, precision))
            print(f"{cases[-1].name}: {len(feeds)} feeds", flush=True)
    write_cases(folder, cases, {name: metadata.version(name) for name in VERSIONS})
    return cases


def _write_feed(folder: Path, network: Network, name: str) -> Feed:
    """The inputs of one feed, and the reference's answer to them in float32."""
    inputs = network.inputs[name]
    gates = gates_of(network.model)
    chosen = network.selections.get(name)
    answers = _reference(network, inputs, chosen)
    decided = chosen or {gate.selection: answers[gate.selection + OWN] for gate in gates}
    stem = f"{network.name}.{name}".replace(" ", "-")
    base = f"{network.name}.inputs-{_same_inputs(network, name)}.npz"
    if not (folder / base).is_file():
        _save(folder / base, {f"in/{n}": array for n, array in inputs.items()})
    kept = {f"in/{n}": array for n, array in decided.items()}
    kept |= {f"reference/{n}": sampled(a, _step(network, n)) for n, a in answers.items()}
    _save(folder / f"{stem}.npz", kept)
    return Feed(
        name,
        (base, f"{stem}.npz"),
        decided_by_network=chosen is None and bool(gates),
        density=network.densities.get(name),
        macs=_macs(network, inputs, decided),
    )


def _save(path: Path, arrays: Arrays) -> None:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _step(network: Network, name: str) -> int:
    return network.step if name in {value.name for value in network.model.graph.output} else 1


def _same_inputs(network: Network, name: str) -> int:
    """The first feed with the same arrays, so that they are stored once."""
    mine = network.inputs[name]
    for index, others in enumerate(network.inputs.values()):
        if all(np.array_equal(mine[n], others[n]) for n in mine):
            return index
    raise AssertionError("a feed equals itself")


def _reference(network: Network, inputs: Arrays, chosen: Arrays | None) -> Arrays:
    """Outputs, logits, and each gate's own decision, under the selection's name with OWN."""
    model, gates = network.model, gates_of(network.model)
    shown = expose(model, [gate.logits for gate in gates])
    if chosen is None:
        shown = expose(shown, [gate.selection for gate in gates])
        answers = dict(run_lowered(attach_bodies(shown), inputs))
        answers |= {g.selection + OWN: answers[g.selection] for g in gates}
        outputs = {value.name for value in model.graph.output}
        answers = {n: a for n, a in answers.items() if n in outputs or not _is_selection(n, gates)}
    else:
        forced = attach_bodies(force_selections(shown, list(chosen)))
        answers = dict(run_lowered(forced, {**inputs, **chosen}))
    given = {g.logits: inputs[g.logits] for g in gates if g.logits in inputs}
    return answers | given


def _is_selection(name: str, gates: list[Any]) -> bool:
    return any(name == gate.selection for gate in gates)


def _macs(network: Network, inputs: Arrays, decided: Arrays) -> dict[str, float]:
    shapes = {name: array.shape for name, array in inputs.items()}
    shares = {
        name: (np.bincount(array.ravel(), minlength=16) / array.size).tolist()
        for name, array in {**decided, **inputs}.items()
        if array.dtype == np.int32
    }
    cost = count_cost(network.model, shapes, shares)
    macs = {"dense": cost.dense, "needed": cost.sparse}
    if network.plain is not None:
        macs["plain"] = count_cost(network.plain, shapes, {}).dense
    return macs


def _write_case(folder: Path, network: Network, feeds: list[Feed], precision: str) -> Case:
    wanted = Precision(precision)
    plugin = lower(network.model, "plugin", precision=wanted)
    dense = lower(network.model, "dense", precision=wanted)
    gates = gates_of(network.model)
    selections = [gate.selection for gate in gates]
    logits = [gate.logits for gate in gates]
    roles = {"free": expose(plugin, [*logits, *selections])} if gates else {}
    shown = {value.name for value in plugin.graph.output}
    if not shown & set(selections):  # a gate alone has nothing behind it that could be forced
        roles["forced"] = force_selections(expose(plugin, logits), selections)
        roles["dense"] = force_selections(expose(dense, logits), selections)
    if network.plain is not None:
        roles["plain"] = lower(network.plain, "dense", precision=wanted)
    first = next(iter(network.inputs))
    shapes = {n: a.shape for n, a in network.inputs[first].items()}
    decided = np.load(folder / feeds[0].files[1])
    shapes |= {k.removeprefix("in/"): decided[k].shape for k in decided.files if "in/" in k}
    name = f"{network.name}.{precision}"
    for role, model in roles.items():
        if not network.dynamic:
            _fix_sizes(model, shapes)
        (folder / f"{name}.{role}.float32").write_text("\n".join(_float32_nodes(model)))
        network.cookbook.strip(model)
        (folder / f"{name}.{role}.onnx").write_bytes(model.SerializeToString())
    return Case(
        name=name,
        group=network.group,
        precision=precision,
        models={role: f"{name}.{role}.onnx" for role in roles},
        inputs={role: _input_names(model) for role, model in roles.items()},
        outputs=[value.name for value in network.model.graph.output],
        gates=[Gate(gate.name, gate.logits, gate.selection) for gate in gates],
        plugins=sum(node.domain == DOMAIN for node in plugin.graph.node),
        step=network.step,
        dynamic=network.dynamic,
        feeds=feeds,
    )


def _input_names(model: onnx.ModelProto) -> list[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in constants]


def _fix_sizes(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write the sizes of every input, so that the engine needs no profile."""
    for value in model.graph.input:
        if value.name in shapes:
            for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
                dim.dim_value = size
    del model.graph.value_info[:]  # sizes of before


def _float32_nodes(model: onnx.ModelProto) -> list[str]:
    """Nodes that compute in float32, for builders that would choose types by themselves."""
    register_schemas()
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    single = {name for name, type_ in types.items() if type_ == onnx.TensorProto.FLOAT}
    return [
        node.name
        for node in graph.node
        if node.op_type not in ("Cast", "Constant")
        if single & {*node.output, *(n for n in node.input if n in types)}
    ]


def compile_runner(folder: Path, headers: Path) -> Path:
    """Compile the runner against the headers of one TensorRT, for any library of its major.

    Raises:
        RuntimeError: nvcc is missing or fails.
    """
    program = folder / RUNNER
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise RuntimeError("the runner needs nvcc on the PATH")
    command = [nvcc, "-std=c++17", "-O2", "-cudart", "static", "-Xcompiler=-Wall,-Wextra,-Werror"]
    command += ["-isystem", str(headers), str(RUNNER_SOURCE), "-o", str(program), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the runner does not compile:\n{done.stderr}")
    return program


def megabytes(folder: Path) -> float:
    """What has to travel."""
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return math.ceil(size / 1e5) / 10
