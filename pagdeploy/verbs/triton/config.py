"""A Triton model configuration: what a bundle says, in the fields of Triton's ModelConfig.

The schema is `protobuf/model_config.proto` of github.com/triton-inference-server/common; what the
fields must hold is checked by `model_config_utils.cc` of Triton's core and by the two backends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.manifest import Manifest, PlanInfo, Profile, Tensor

Arrays = Mapping[str, npt.NDArray[Any]]
Message = Mapping[str, Any]
"""A protobuf message: a field's value is a bool, int, str, `Enumerator`, message, or a list."""

DEFAULT_BATCH = 4  # what Triton's onnxruntime backend takes where a configuration says nothing
_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bfloat16": "TYPE_BF16",
}
# Triton's backend and platform for each of our engines, and the name it wants for the file.
_BACKENDS = {
    "onnxruntime": ("onnxruntime", "onnxruntime_onnx", "model.onnx"),
    "onnxruntime-cuda": ("onnxruntime", "onnxruntime_onnx", "model.onnx"),
    "tensorrt": ("tensorrt", "tensorrt_plan", "model.plan"),
}
_REBUILD = "Build the model again with --engine tensorrt, onnxruntime-cuda or onnxruntime."


class Enumerator(str):
    """A value of an enum, which protobuf's text format writes without quotes."""


def require_backend(manifest: Manifest) -> None:
    """Refuse a bundle that no backend of Triton runs.

    Raises:
        IncompatibleArtifact: Triton has no backend for its engine, or not for one of its tensors.
    """
    flavour = manifest.engine.flavour
    if flavour not in _BACKENDS:
        raise IncompatibleArtifact(
            f"Triton has no backend for the engine {flavour!r} of this bundle.", remedy=_REBUILD
        )
    for tensor in (*manifest.inputs, *manifest.outputs):
        if tensor.dtype not in _TYPES:
            raise IncompatibleArtifact(
                f"Triton has no type for {tensor.name!r}, which is {tensor.dtype}.",
                remedy="Export the model with inputs and outputs of another type.",
            )
        if 0 in tensor.shape or (flavour == "tensorrt" and not tensor.shape):
            raise IncompatibleArtifact(
                f"Triton's {flavour} backend does not take {tensor.name!r}, whose shape is"
                f" {tensor.shape}.",
                remedy="Export the model with at least one axis there, and one element on each.",
            )


def model_file(manifest: Manifest) -> str:
    """The name that Triton's backend gives to the file that runs."""
    return _BACKENDS[manifest.engine.flavour][2]


def why_not_batched(
    manifest: Manifest, reference: Arrays, axes: Mapping[str, str | None]
) -> str | None:
    """None, or why requests cannot be joined along the first axis.

    Args:
        manifest: Of the bundle.
        reference: The reference's answer to the sample; tells of gates that decide once a batch.
        axes: The name of the first axis of each input and output of the portable model; a plan
            tells that a size is dynamic, but not which sizes are equal.
    """
    if not manifest.inputs:
        return "it has no inputs"
    tensors = (*manifest.inputs, *manifest.outputs)
    for tensor in tensors:
        if len(tensor.shape) < 2 or isinstance(tensor.shape[0], int):
            return f"the first axis of {tensor.name!r} {tensor.shape} is no batch of any size"
    if len({axes.get(tensor.name) or tensor.name for tensor in tensors}) > 1:
        return "the first axes of its inputs and outputs need not be equal"
    batch = manifest.inputs[0].sample_shape[0]
    for gate in manifest.gates:
        if gate.selection in reference and reference[gate.selection].shape[0] != batch:
            return f"the gate {gate.name!r} decides once for a whole batch"
    if manifest.engine.plan is not None and not _single_profiles(manifest.engine.plan):
        return "no profile of its plan takes a batch of one"
    return None


def largest_batch(plan: PlanInfo) -> int:
    """The largest batch that a server may form of whatever requests the plan takes one by one."""
    singles = _single_profiles(plan)
    return min(max(_batch(q) for q in singles if _covers(q, p)) for p in singles)


def warm_up_sizes(manifest: Manifest, max_batch_size: int) -> list[int]:
    """The batches to run before a server is ready: one and the largest, where the sample fits."""
    if max_batch_size == 0:
        return [1]
    plan = manifest.engine.plan
    sizes = sorted({1, max_batch_size})
    return sizes if plan is None else [size for size in sizes if _takes(plan, manifest, size)]


def warm_up_data(array: npt.NDArray[Any], *, batched: bool) -> bytes:
    """An input of the sample as Triton reads it: little-endian, row by row, one of a batch."""
    first = array[:1] if batched else array
    return np.ascontiguousarray(first, first.dtype.newbyteorder("<")).tobytes()


def model_config(
    manifest: Manifest,
    *,
    name: str,
    max_batch_size: int,
    dynamic_batching: bool,
    instances: int,
    warm_up_files: Mapping[str, str],
) -> Message:
    """The configuration of a bundle's model.

    Args:
        manifest: Of the bundle.
        name: Of the model, and of its folder.
        max_batch_size: 0 where requests are not joined; then shapes are whole.
        dynamic_batching: Let the server join waiting requests.
        instances: How many run at once, on each GPU or on the CPU.
        warm_up_files: File in the folder `warmup` by input.
    """
    backend, platform, file = _BACKENDS[manifest.engine.flavour]
    batched = max_batch_size > 0
    config: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "platform": platform,
        "default_model_filename": file,
        "max_batch_size": max_batch_size,
        "input": [_tensor(tensor, batched) for tensor in manifest.inputs],
        "output": [_tensor(tensor, batched) for tensor in manifest.outputs],
        "instance_group": [_instances(manifest, instances)],
    }
    if dynamic_batching and max_batch_size > 1:
        config["dynamic_batching"] = {}
    if optimization := _optimization(manifest, batched):
        config["optimization"] = optimization
    config["model_warmup"] = [
        {
            "name": f"sample, batch of {size}",
            "batch_size": size,
            "inputs": [_warm_up(t, batched, warm_up_files[t.name]) for t in manifest.inputs],
            "count": 1,
        }
        for size in warm_up_sizes(manifest, max_batch_size)
    ]
    return config


def text_format(message: Message) -> str:
    """A message in protobuf's text format.

    Source: protobuf.dev/reference/protobuf/textformat-spec.
    """
    return "".join(_lines(message, ""))


def _lines(message: Message, indent: str) -> Iterator[str]:
    for field, content in message.items():
        for value in content if isinstance(content, list) else [content]:
            if isinstance(value, Mapping):
                yield f"{indent}{field} {{\n"
                yield from _lines(value, f"{indent}  ")
                yield f"{indent}}}\n"
            else:
                yield f"{indent}{field}: {_scalar(value)}\n"


def _scalar(value: bool | int | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, Enumerator)):
        return str(value)
    plain = set(range(0x20, 0x7F)) - set(b'"\\')
    escaped = (chr(byte) if byte in plain else f"\\{byte:03o}" for byte in value.encode("utf-8"))
    return f'"{"".join(escaped)}"'


def _tensor(tensor: Tensor, batched: bool) -> Message:
    sizes = tensor.shape[1:] if batched else tensor.shape
    return {
        "name": tensor.name,
        "data_type": Enumerator(_TYPES[tensor.dtype]),
        # onnxruntime's scalars have one element here: Triton's tensors have at least one axis.
        "dims": [-1 if isinstance(size, str) else size for size in sizes] or [1],
    }


def _warm_up(tensor: Tensor, batched: bool, file: str) -> Message:
    return {
        "key": tensor.name,
        "value": {
            "data_type": Enumerator(_TYPES[tensor.dtype]),
            "dims": list(tensor.sample_shape[1 if batched else 0 :]) or [1],
            "input_data_file": file,
        },
    }


def _instances(manifest: Manifest, count: int) -> Message:
    on_cpu = manifest.engine.flavour == "onnxruntime"
    group: dict[str, Any] = {
        "count": count,
        "kind": Enumerator("KIND_CPU" if on_cpu else "KIND_GPU"),
    }
    plan = manifest.engine.plan
    if plan is not None and len(plan.profiles) > 1:  # by default only the first is used
        group["profile"] = [str(number) for number in range(len(plan.profiles))]
    return group


def _optimization(manifest: Manifest, batched: bool) -> Message | None:
    if manifest.engine.flavour == "onnxruntime-cuda":
        # As the bundle was verified: with TensorFloat-32, which is the default, gates flip.
        options = {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"}
        parameters = [{"key": key, "value": value} for key, value in options.items()]
        accelerator = {"name": "cuda", "parameters": parameters}
        return {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}
    sizes = [size for t in manifest.inputs for size in t.shape[1 if batched else 0 :]]
    if manifest.engine.plan is not None and all(isinstance(size, int) for size in sizes):
        return {"cuda": {"graphs": True}}  # a graph serves one shape
    return None


def _single_profiles(plan: PlanInfo) -> list[Mapping[str, Profile]]:
    """The profiles that take a single request."""
    return [p for p in plan.profiles if p and all(b.min[:1] == [1] for b in p.values())]


def _batch(profile: Mapping[str, Profile]) -> int:
    return min(bounds.max[0] for bounds in profile.values())


def _covers(wide: Mapping[str, Profile], narrow: Mapping[str, Profile]) -> bool:
    """Whether one profile takes every size of another, the batch aside."""
    return wide.keys() == narrow.keys() and all(
        low <= inner_low and inner_high <= high
        for name, inner in narrow.items()
        for low, inner_low, inner_high, high in zip(
            wide[name].min[1:], inner.min[1:], inner.max[1:], wide[name].max[1:], strict=True
        )
    )


def _takes(plan: PlanInfo, manifest: Manifest, batch: int) -> bool:
    """Whether a profile takes that many images of the sample."""
    shapes = {t.name: [batch, *t.sample_shape[1:]] for t in manifest.inputs}
    return any(
        all(
            low <= size <= high
            for name, bounds in profile.items()
            for low, size, high in zip(bounds.min, shapes[name], bounds.max, strict=True)
        )
        for profile in plan.profiles
    )
