"""How to start Triton for the models that pagdeploy wrote into a repository, as text."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pagdeploy.manifest import Manifest
from pagdeploy.verbs.triton.autoreg import opened_for, plugins_of

TITLE = "# Serving these models with Triton\n"
"""The first line of a guide; a file that begins otherwise is not ours."""


def server_command(repository: Path, models: Mapping[str, Manifest]) -> str:
    """The shell lines that start a server with everything that the models need.

    Args:
        repository: The folder of models.
        models: The manifest of each model that pagdeploy wrote, by the model's name.
    """
    arguments = ['--model-repository="$MODELS"']
    if libraries := _libraries(models):
        paths = ";".join(f"$MODELS/{path}" for path in libraries)
        arguments.append(f'--backend-config=tensorrt,plugins="{paths}"')
    if any(m.engine.plan is not None and m.engine.plan.version_compatible for m in models.values()):
        arguments.append("--backend-config=tensorrt,version-compatible=true")
    command = " \\\n    ".join(["tritonserver", *arguments])
    return f"MODELS={shlex.quote(str(repository.resolve()))}\n{command}\n"


def guide(repository: Path, models: Mapping[str, Manifest]) -> str:
    """The text of the file that lies beside the models."""
    lines = [
        TITLE,
        "`pagdeploy bundle triton` writes this file anew each time.\n",
        *(f"    {line}" for line in server_command(repository, models).splitlines()),
        "",
        "In a container, `MODELS` is where this folder is mounted. When the server is up:\n",
        *(f"    curl -i localhost:8000/v2/models/{name}/ready" for name in sorted(models)),
    ]
    for name in sorted(models):
        lines += ["", f"## {name}\n", *(f"- {fact}" for fact in _facts(models[name]))]
    return "\n".join(lines) + "\n"


def differing_libraries(models: Mapping[str, Manifest]) -> list[str]:
    """A sentence for each plugin library of which two models carry different builds."""
    owners: dict[str, str] = {}
    found = []
    for name, manifest in sorted(models.items()):
        for file in plugins_of(manifest):
            library = PurePosixPath(file).name
            owner = owners.setdefault(library, name)
            if models[owner].files.get(file) != manifest.files.get(file):
                found.append(
                    f"The models {owner!r} and {name!r} carry different builds of {library}; a"
                    f" server loads that of {owner!r} for both."
                )
    return found


def _libraries(models: Mapping[str, Manifest]) -> list[str]:
    """What the server opens, relative to the repository; each file name once."""
    found: dict[str, str] = {}
    for name, manifest in sorted(models.items()):
        for file in map(opened_for, plugins_of(manifest)):
            found.setdefault(file, f"{name}/plugins/{file}")
    return list(found.values())


def _facts(manifest: Manifest) -> list[str]:
    engine, plan = manifest.engine, manifest.engine.plan
    facts = [f"built by pagdeploy {manifest.pagdeploy_version} for {engine.flavour}"]
    if plan is None:
        return [*facts, f"measured with onnxruntime {engine.version}"]
    if plan.version_compatible:
        facts.append(f"needs a server with TensorRT {engine.version} or later")
    else:
        facts.append(f"needs a server with TensorRT {engine.version}, exactly")
    gpus = ", ".join(plan.compute_capabilities) or manifest.host.compute_capability or "unknown"
    facts.append(
        f"made for GPUs of compute capability {gpus}"
        f" (hardware compatibility: {plan.hardware_compatibility})"
    )
    if plan.version_compatible:
        facts.append(
            "`version-compatible=true` lets plans bring code of their own into the server: load"
            " only those you trust"
        )
    return facts
