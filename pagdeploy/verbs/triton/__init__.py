"""Bundle for Triton: a bundle in, a model in a Triton Inference Server's repository out.

MODEL_REPOSITORY/
    serve.md             how to start the server for all models here that pagdeploy wrote
    NAME/config.pbtxt    the model's configuration
    NAME/bundle.json     the bundle's manifest: where the model comes from
    NAME/1/model.*       what runs, untouched
    NAME/plugins/*.so    the plugin libraries that a TensorRT plan needs, and what registers them
    NAME/warmup/*        the bundle's sample, which the server runs before it is ready
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pagdeploy.bundle import (
    MODEL,
    SAMPLE_INPUTS,
    SAMPLE_OUTPUTS,
    Bundle,
    open_bundle,
    refuse_inside_bundle,
)
from pagdeploy.errors import IncompatibleArtifact, UsageError
from pagdeploy.files import make_folder, replacing_file, replacing_folder
from pagdeploy.manifest import Manifest
from pagdeploy.verbs import Progress, silent
from pagdeploy.verbs.run import file_names
from pagdeploy.verbs.triton.autoreg import find_autoreg, opened_for, plugins_of
from pagdeploy.verbs.triton.config import (
    DEFAULT_BATCH,
    largest_batch,
    model_config,
    model_file,
    require_backend,
    text_format,
    warm_up_data,
    why_not_batched,
)
from pagdeploy.verbs.triton.guide import TITLE, differing_libraries, guide, server_command

CONFIG, ORIGIN, GUIDE = "config.pbtxt", "bundle.json", "serve.md"
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class TritonModel:
    """What was written.

    Attributes:
        path: Of the model's folder.
        name: Of the model.
        max_batch_size: 0 where requests are not joined; then clients send whole shapes.
        command: The shell lines that start a server for the whole repository.
        notes: What the user should know, one sentence each.
    """

    path: Path
    name: str
    max_batch_size: int
    command: str
    notes: list[str] = field(default_factory=list)


def bundle_triton(
    path: Path,
    repository: Path,
    *,
    name: str | None = None,
    instances: int = 1,
    max_batch_size: int | None = None,
    dynamic_batching: bool = True,
    progress: Progress = silent,
) -> TritonModel:
    """Write a bundle as a model of a Triton model repository; other models there are kept.

    Args:
        path: Of the bundle.
        repository: The folder of models; made if absent.
        name: Of the model; default: the bundle's, made safe. A model of the same name is replaced
            if pagdeploy wrote it.
        instances: How many run at once, on each GPU or on the CPU.
        max_batch_size: The largest batch a server may form, 0 for none; default: what the engine
            takes.
        dynamic_batching: Let the server join waiting requests, where they can be joined.
        progress: Told of the steps.

    Raises:
        UsageError: a path, name or size cannot be right.
        IncompatibleArtifact: the bundle is damaged, or no backend of Triton runs it.
        EnvironmentProblem: the library that registers its plugins is not installed.
    """
    progress(f"check {path}", 1, 3)
    bundle = open_bundle(path)
    manifest = bundle.manifest
    require_backend(manifest)
    if manifest.engine.plan is not None:
        _require_flavour(bundle)
    folder = repository / _model_name(bundle, name)
    _require_place(bundle, folder)
    libraries = _libraries(bundle)
    batch, notes = _batch(bundle, max_batch_size)
    inputs = [tensor.name for tensor in manifest.inputs]
    warm_up_files = dict(zip(inputs, file_names(inputs), strict=True))
    config = model_config(
        manifest,
        name=folder.name,
        max_batch_size=batch,
        dynamic_batching=dynamic_batching,
        instances=instances,
        warm_up_files=warm_up_files,
    )

    progress(f"write {folder}", 2, 3)
    make_folder(repository)
    with replacing_folder(folder, may_replace=_is_ours) as new:
        (new / CONFIG).write_text(text_format(config), encoding="ascii")
        (new / ORIGIN).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for made in ("1", "warmup", *(["plugins"] if libraries else [])):
            (new / made).mkdir()
        shutil.copyfile(bundle.file(manifest.engine.file), new / "1" / model_file(manifest))
        for file, library in libraries.items():
            shutil.copyfile(library, new / "plugins" / file)
        sample = bundle.arrays(SAMPLE_INPUTS)
        for tensor, file in warm_up_files.items():
            data = warm_up_data(sample[tensor], batched=batch > 0)
            (new / "warmup" / file).write_bytes(data)

    progress(f"write {repository / GUIDE}", 3, 3)
    models = _models_in(repository)
    with replacing_file(repository / GUIDE) as text:
        text.write_text(guide(repository, models), encoding="utf-8")
    notes += differing_libraries(models)
    return TritonModel(folder, folder.name, batch, server_command(repository, models), notes)


def _model_name(bundle: Bundle, name: str | None) -> str:
    if name is None:
        (safe,) = file_names([bundle.path.resolve().stem])
        return safe
    if not _SAFE.fullmatch(name):
        raise UsageError(
            f"The model name {name!r} is not safe in a path or a URL.",
            remedy="Take letters, digits, '_', '-' and '.', and begin with one of the first three.",
        )
    return name


def _require_flavour(bundle: Bundle) -> None:
    """Triton would hand any plan to TensorRT, which reads its own only."""
    from pagdeploy.engines.nvidia.plan import read_plan_header

    engine = bundle.manifest.engine
    header = read_plan_header(bundle.file(engine.file))
    if header.flavour != engine.flavour:
        raise IncompatibleArtifact(
            f"The plan of {bundle.path} was built with {header}, and its manifest says"
            f" {engine.flavour}.",
            remedy="Build the bundle again.",
        )


def _require_place(bundle: Bundle, folder: Path) -> None:
    """Refuse a repository that would break a bundle, or that is none."""
    repository = folder.parent
    refuse_inside_bundle(folder)
    if bundle.path.resolve().parent == repository.resolve():
        raise UsageError(
            f"The bundle {bundle.path} lies in {repository}, where Triton takes it for a model.",
            remedy="Choose another folder for the models.",
        )
    if (repository / CONFIG).exists():
        raise UsageError(
            f"{repository} is one model of a repository: it has a {CONFIG}.",
            remedy="Give the folder above it.",
        )
    text = repository / GUIDE
    if text.exists() and not (text.is_file() and text.read_bytes().startswith(TITLE.encode())):
        raise UsageError(
            f"{text} exists and was not written by pagdeploy.",
            remedy="Rename it, or choose another folder for the models.",
        )


def _libraries(bundle: Bundle) -> dict[str, Path]:
    """What has to lie beside the plan, by its name there: libraries, and what registers them."""
    plugins = plugins_of(bundle.manifest)
    if not plugins:
        return {}
    autoreg = find_autoreg(bundle.manifest)
    libraries = {}
    for plugin in plugins:
        name = PurePosixPath(plugin).name
        if not _SAFE.fullmatch(name):
            raise IncompatibleArtifact(
                f"The plugin library {plugin!r} has a name that Triton's command line cannot hold.",
                remedy="Rename the library to letters, digits, '_', '-' and '.', and build again.",
            )
        libraries[name] = bundle.file(plugin)
        libraries[opened_for(plugin)] = autoreg
    return libraries


def _batch(bundle: Bundle, asked: int | None) -> tuple[int, list[str]]:
    """The largest batch, and why there is none if that is not what the user wants."""
    if asked == 0:
        return 0, []
    reason = why_not_batched(
        bundle.manifest, bundle.arrays(SAMPLE_OUTPUTS), _first_axes(bundle.file(MODEL))
    )
    if reason is not None:
        if asked is not None:
            raise UsageError(
                f"Requests to {bundle.path} cannot be joined to batches: {reason}.",
                remedy="Leave --max-batch-size out, or export the model with a dynamic batch.",
            )
        return 0, [f"Requests are not joined to batches: {reason}."]
    plan = bundle.manifest.engine.plan
    if plan is None:
        return asked or DEFAULT_BATCH, []
    most = largest_batch(plan)
    if asked is not None and asked > most:
        raise UsageError(
            f"The plan takes batches of at most {most}, and --max-batch-size is {asked}.",
            remedy="Ask for less, or build it with larger --max-shapes.",
        )
    return asked or most, []


def _first_axes(model: Path) -> dict[str, str | None]:
    from pagdeploy.graph.read import read_model

    graph = read_model(model).graph
    shapes = {v.name: v.type.tensor_type.shape for v in (*graph.input, *graph.output)}
    return {name: shape.dim[0].dim_param if shape.dim else None for name, shape in shapes.items()}


def _models_in(repository: Path) -> dict[str, Manifest]:
    """The manifests of the models that this pagdeploy wrote and can read."""
    found = {}
    for folder in sorted(repository.iterdir()):
        if _SAFE.fullmatch(folder.name) and _is_ours(folder):
            try:
                text = (folder / ORIGIN).read_text(encoding="utf-8")
                found[folder.name] = Manifest.model_validate_json(text)
            except ValueError:  # of another format: it is served, but not described
                continue
    return found


def _is_ours(folder: Path) -> bool:
    try:
        content = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == "pagbundle"
