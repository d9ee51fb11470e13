"""Weights from a file into a model: only tensors are read, never code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pagdeploy.errors import EnvironmentProblem, IncompatibleArtifact, UsageError

_CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")  # nn.DataParallel, torch.compile
_SHOWN = 3  # names in an error


def load_weights(model: nn.Module, path: Path) -> tuple[str, ...]:
    """Load a checkpoint into a model, in place.

    Takes a state dict, or one wrapped as {"state_dict": ...}, {"model_state_dict": ...} or
    {"model": ...}; prefixes of nn.DataParallel and torch.compile are dropped. Floating-point
    tensors of another precision are cast to the model's. A model with a method `load_dense`
    also takes the checkpoint of its dense twin.

    Args:
        model: Any module; the parameters' dtypes stay.
        path: A .safetensors file, or a .pt, .pth, .bin or .ckpt file of torch.save.

    Returns:
        The names of the tensors that a dense twin does not have, so that they keep their initial
        values; empty for any other checkpoint.

    Raises:
        UsageError: there is no such file, or its suffix is another one.
        EnvironmentProblem: safetensors is not installed.
        IncompatibleArtifact: the file is damaged, holds more than tensors, or does not fit the
            model. Nothing but tensors is unpickled, so that no code of the file runs.
    """
    if not path.is_file():
        raise UsageError(f"There is no weights file {path}.", remedy="Check the path.")
    if path.suffix == ".safetensors":
        found = _read_safetensors(path)
    elif path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        found = _read_checkpoint(path)
    else:
        raise UsageError(
            f"{path} is no weights file: its suffix is {path.suffix!r}.",
            remedy="Give a .safetensors, .pt or .pth file.",
        )
    state = _unwrapped(found, path)
    own = model.state_dict()
    _require_equal_kinds(own, state, path)
    if _is_dense_twin(model, own, state):
        return _load_dense(model, own, state, path)
    # Files from other frameworks lack this counter, which evaluation does not use.
    missing = [n for n in own if n not in state and not n.endswith(".num_batches_tracked")]
    _require_equal_names(missing, [n for n in state if n not in own], path)
    model.load_state_dict(dict(state), strict=False)
    return ()


def _read_safetensors(path: Path) -> object:
    try:
        import safetensors
        from safetensors.torch import load_file
    except ImportError:
        raise EnvironmentProblem.missing_extra("safetensors", "export", f"Reading {path}") from None
    try:
        return load_file(path)
    except (safetensors.SafetensorError, ValueError):
        raise _damaged(path) from None


def _read_checkpoint(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        with path.open("rb") as stream:
            pickled = stream.read(1) == b"\x80"
        if pickled or zipfile.is_zipfile(path):
            raise _holds_code(path) from None
        raise _damaged(path) from None
    except Exception as problem:  # a damaged file surfaces as one of a dozen types
        if "TorchScript" in str(problem):
            raise _holds_code(path) from None
        raise _damaged(path) from None


def _damaged(path: Path) -> IncompatibleArtifact:
    return IncompatibleArtifact(
        f"{path} is damaged or truncated, or is no weights file at all.",
        remedy="Save it again, or fetch the file again if it was copied.",
    )


def _holds_code(path: Path) -> IncompatibleArtifact:
    return IncompatibleArtifact(
        f"{path} holds Python objects, which could run code when they are loaded.",
        remedy="Save only the tensors: torch.save(model.state_dict(), ...), or safetensors.",
    )


def _unwrapped(found: object, path: Path) -> dict[str, Tensor]:
    if isinstance(found, Mapping):
        for key in _CHECKPOINT_KEYS:
            if isinstance(found.get(key), Mapping):
                found = found[key]
                break
    if not isinstance(found, Mapping) or not found:
        raise IncompatibleArtifact(
            f"{path} holds no state dict.", remedy="Save model.state_dict() to it."
        )
    strange = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if strange:
        raise IncompatibleArtifact(
            f"{path} holds no plain state dict: {_listing(strange)} is no tensor.",
            remedy="Save model.state_dict() to it, or wrap it as {'state_dict': ...}.",
        )
    state = dict(found)
    for prefix in _WRAPPERS:
        if all(str(name).startswith(prefix) for name in state):
            state = {str(name).removeprefix(prefix): value for name, value in state.items()}
    return state


def _require_equal_kinds(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path
) -> None:
    """Refuse tensors of another shape, or integers where the model has floats."""
    for name, value in state.items():
        if name not in own:
            continue
        if value.shape != own[name].shape:
            raise _misfit(
                f"{path} does not fit the model: {name} has the shape {tuple(value.shape)} in the "
                f"file and {tuple(own[name].shape)} in the model."
            )
        if value.is_floating_point() != own[name].is_floating_point():
            raise _misfit(
                f"{path} does not fit the model: {name} is {value.dtype} in the file and "
                f"{own[name].dtype} in the model."
            )


def _require_equal_names(missing: Sequence[str], unexpected: Sequence[str], path: Path) -> None:
    faults = []
    if missing:
        faults.append(f"lacks {len(missing)} tensors ({_listing(missing)})")
    if unexpected:
        faults.append(f"has {len(unexpected)} too many ({_listing(unexpected)})")
    if faults:
        raise _misfit(f"{path} does not fit the model: it {' and '.join(faults)}.")


def _misfit(message: str) -> IncompatibleArtifact:
    return IncompatibleArtifact(
        message, remedy="Build the network with the options it was trained with."
    )


def _listing(names: Sequence[object]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(str, names[:_SHOWN])) + more


def _is_dense_twin(
    model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> bool:
    gated = any(".gate." in name for name in own)
    return gated and hasattr(model, "load_dense") and not any(".gate." in name for name in state)


class _Watched(Mapping[str, Tensor]):
    """A state dict that remembers which of its tensors were read."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._state = state
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        value = self._state[name]
        self.read.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


def _load_dense(
    model: Any, own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path
) -> tuple[str, ...]:
    watched = _Watched(state)
    try:
        model.load_dense(watched)
    except KeyError as absent:
        _require_equal_names([str(absent.args[0])], [], path)
    except RuntimeError:
        raise _misfit(f"{path} does not fit the model: it is of another network.") from None
    _require_equal_names([], [name for name in state if name not in watched.read], path)
    return tuple(name for name in own if ".gate." in name)
