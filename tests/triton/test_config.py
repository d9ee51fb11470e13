"""What a configuration says, held to Triton's own schema; fields, not text."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import text_format as protobuf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagdeploy.verbs.triton import bundle_triton
from pagdeploy.verbs.triton.config import Enumerator, text_format
from tests.triton.conftest import as_plan, built, reseal, text_of

TWO = """<ir_version: 8, opset_import: ["" : 17]>
two (float[n, 3, 6, 8] image, bool[n, 1, 6, 8] mask) => (float[n, 3, 6, 8] y, bool[n, 1, 6, 8] z) {
    weight = Cast <to = 1> (mask)
    y = Mul (image, weight)
    z = Not (mask)
}"""
BUDGET = """<ir_version: 8, opset_import: ["" : 17]>
budget (float[n, 3, h, 8] image, float budget) => (float[n, 3, h, 8] y) {
    y = Add (image, budget)
}"""


def config_of(schema: ModuleType, folder: Path) -> Any:
    """The configuration as Triton reads it: an unknown field or a wrong type is an error."""
    return protobuf.Parse((folder / "config.pbtxt").read_text("ascii"), schema.ModelConfig())


@pytest.fixture
def write(schema: ModuleType, tmp_path: Path) -> Any:
    """Write a bundle into a repository and return what the configuration says."""

    def run(bundle: Path, **options: Any) -> Any:
        return config_of(schema, bundle_triton(bundle, tmp_path / "models", **options).path)

    return run


def test_an_onnxruntime_model_of_any_size(bundle: Path, write: Any, schema: ModuleType) -> None:
    config = write(bundle, name="gated", instances=3)
    assert (config.name, config.backend, config.platform) == (
        "gated",
        "onnxruntime",
        "onnxruntime_onnx",
    )
    assert config.default_model_filename == "model.onnx"
    assert config.max_batch_size == 4
    (image,), (y,) = config.input, config.output
    assert (image.name, image.data_type, list(image.dims)) == (
        "image",
        schema.TYPE_FP32,
        [3, -1, -1],
    )
    assert (y.name, y.data_type, list(y.dims)) == ("y", schema.TYPE_FP32, [4, -1, -1])
    (group,) = config.instance_group
    assert (group.count, group.kind) == (3, schema.ModelInstanceGroup.KIND_CPU)
    assert config.HasField("dynamic_batching")
    assert not config.HasField("optimization")
    assert [(w.batch_size, w.count) for w in config.model_warmup] == [(1, 1), (4, 1)]
    for warm_up in config.model_warmup:
        sample = warm_up.inputs["image"]
        assert (sample.data_type, list(sample.dims)) == (schema.TYPE_FP32, [3, 20, 24])
        assert sample.input_data_file == "image"
    again = protobuf.Parse(protobuf.MessageToString(config), schema.ModelConfig())
    assert again == schema.ModelConfig.FromString(config.SerializeToString()) == config


def test_batches_can_be_bounded_and_left_out(bundle: Path, write: Any) -> None:
    config = write(bundle, max_batch_size=2, dynamic_batching=False)
    assert config.max_batch_size == 2 and not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [3, -1, -1]
    config = write(bundle, max_batch_size=1)
    assert not config.HasField("dynamic_batching"), "there is nothing to join"
    assert [warm_up.batch_size for warm_up in config.model_warmup] == [1]
    config = write(bundle, max_batch_size=0)
    assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [-1, 3, -1, -1]
    assert list(config.model_warmup[0].inputs["image"].dims) == [1, 3, 20, 24]
    assert [warm_up.batch_size for warm_up in config.model_warmup] == [1]


def test_on_a_gpu_onnxruntime_computes_as_it_was_verified(
    bundle: Path, write: Any, schema: ModuleType
) -> None:
    engine = text_of(bundle).engine.model_copy(update={"flavour": "onnxruntime-cuda"})
    config = write(reseal(bundle, engine=engine))
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU
    (cuda,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert (cuda.name, cuda.parameters["use_tf32"]) == ("cuda", "0")


def test_several_inputs_of_fixed_size_and_odd_names(
    tmp_path: Path, write: Any, schema: ModuleType
) -> None:
    names = {"image": 'a "b"\\n/c', "mask": "a__b__n_c", "y": "tiefe ü", "z": "z"}
    config = write(built(tmp_path, TWO, names))
    assert [i.name for i in config.input] == [names["image"], names["mask"]]
    assert [list(i.dims) for i in config.input] == [[3, 6, 8], [1, 6, 8]]
    assert [i.data_type for i in config.input] == [schema.TYPE_FP32, schema.TYPE_BOOL]
    assert [o.name for o in config.output] == ["tiefe ü", "z"]
    files = {name: entry.input_data_file for name, entry in config.model_warmup[0].inputs.items()}
    assert set(files) == {names["image"], names["mask"]}
    assert len(set(files.values())) == 2
    folder = tmp_path / "models" / "b" / "warmup"
    assert (folder / files[names["image"]]).stat().st_size == 3 * 6 * 8 * 4
    assert (folder / files[names["mask"]]).stat().st_size == 6 * 8


def test_a_scalar_has_one_element_and_stops_batching(tmp_path: Path, write: Any) -> None:
    config = write(built(tmp_path, BUDGET))
    assert config.max_batch_size == 0
    assert [list(i.dims) for i in config.input] == [[-1, 3, -1, 8], [1]]
    assert list(config.model_warmup[0].inputs["budget"].dims) == [1]
    assert (tmp_path / "models/b/warmup/budget").stat().st_size == 4


def test_a_plan_takes_its_bounds_from_its_profiles(
    bundle: Path, write: Any, schema: ModuleType
) -> None:
    config = write(as_plan(bundle))
    assert (config.backend, config.platform) == ("tensorrt", "tensorrt_plan")
    assert config.default_model_filename == "model.plan"
    assert config.max_batch_size == 8
    assert config.instance_group[0].kind == schema.ModelInstanceGroup.KIND_GPU
    assert not config.instance_group[0].profile, "the first is used anyway"
    assert not config.HasField("optimization"), "a CUDA graph serves one shape"
    assert [warm_up.batch_size for warm_up in config.model_warmup] == [1, 8]


SMALL = {"min": [1, 3, 8, 8], "opt": [4, 3, 16, 16], "max": [16, 3, 16, 16]}
LARGE = {"min": [1, 3, 8, 8], "opt": [1, 3, 20, 24], "max": [2, 3, 64, 64]}
SINGLE = {"min": [1, 3, 8, 8], "opt": [1, 3, 20, 24], "max": [1, 3, 32, 32]}
PAIRS = {"min": [2, 3, 8, 8], "opt": [2, 3, 20, 24], "max": [8, 3, 96, 96]}


@pytest.mark.parametrize(
    ("profiles", "batch", "warm_up"),
    [
        ([SMALL], 16, []),  # the sample is too large for it
        ([SMALL, LARGE], 2, [1, 2]),  # large requests could not be joined to more
        ([SINGLE, LARGE], 2, [1, 2]),  # what the first takes alone, the second takes twice
        ([LARGE, SINGLE], 2, [1, 2]),
        ([SINGLE, SMALL], 1, [1]),
        ([PAIRS, SINGLE], 1, [1]),
    ],
)
def test_a_batch_fits_whatever_is_joined(
    profiles: list[Any], batch: int, warm_up: list[int], bundle: Path, write: Any
) -> None:
    config = write(as_plan(bundle, profiles=[{"image": profile} for profile in profiles]))
    assert config.max_batch_size == batch
    assert [entry.batch_size for entry in config.model_warmup] == warm_up
    numbers = [str(number) for number in range(len(profiles))]
    assert list(config.instance_group[0].profile) == (numbers if len(profiles) > 1 else [])


def test_the_input_with_the_smallest_batch_decides(tmp_path: Path, write: Any) -> None:
    image = {"min": [1, 3, 6, 8], "opt": [1, 3, 6, 8], "max": [8, 3, 6, 8]}
    mask = {"min": [1, 1, 6, 8], "opt": [1, 1, 6, 8], "max": [4, 1, 6, 8]}
    config = write(as_plan(built(tmp_path, TWO), profiles=[{"image": image, "mask": mask}]))
    assert config.max_batch_size == 4


def test_a_plan_of_one_size_is_captured_as_a_cuda_graph(bundle: Path, write: Any) -> None:
    config = write(as_plan(bundle, shapes=[1, 20, 24], profiles=[]))
    assert config.optimization.cuda.graphs
    assert config.max_batch_size == 0 and list(config.input[0].dims) == [1, 3, 20, 24]


def test_a_plan_with_a_batch_of_fixed_images_is_captured_too(bundle: Path, write: Any) -> None:
    bounds = {"min": [1, 3, 20, 24], "opt": [4, 3, 20, 24], "max": [4, 3, 20, 24]}
    config = write(as_plan(bundle, shapes=["image.0", 20, 24], profiles=[{"image": bounds}]))
    assert config.optimization.cuda.graphs
    assert config.max_batch_size == 4 and list(config.input[0].dims) == [3, 20, 24]


@pytest.mark.parametrize(
    ("dtype", "type_name"),
    [
        ("float16", "TYPE_FP16"), ("bfloat16", "TYPE_BF16"), ("float64", "TYPE_FP64"),
        ("int8", "TYPE_INT8"), ("int32", "TYPE_INT32"), ("int64", "TYPE_INT64"),
        ("uint8", "TYPE_UINT8"), ("uint16", "TYPE_UINT16"),
    ],
)  # fmt: skip
def test_element_types_have_triton_s_names(
    dtype: str, type_name: str, bundle: Path, write: Any, schema: ModuleType
) -> None:
    outputs = [t.model_copy(update={"dtype": dtype}) for t in text_of(bundle).outputs]
    config = write(reseal(bundle, outputs=outputs))
    assert schema.DataType.Name(config.output[0].data_type) == type_name


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), number=st.integers(-(2**63), 2**63 - 1), flag=st.booleans())
def test_any_value_survives_the_text_format(
    schema: ModuleType, text: str, number: int, flag: bool
) -> None:
    message = {
        "name": text,
        "input": [{"name": text, "dims": [number, number], "optional": flag}],
        "instance_group": [{"kind": Enumerator("KIND_MODEL")}, {}],
        "parameters": [{"key": text, "value": {"string_value": text}}],
    }
    config = protobuf.Parse(text_format(message), schema.ModelConfig())
    assert config.name == config.input[0].name == text
    assert list(config.input[0].dims) == [number, number]
    assert config.input[0].optional is flag
    assert [group.kind for group in config.instance_group] == [3, 0]
    assert {k: v.string_value for k, v in config.parameters.items()} == {text: text}
