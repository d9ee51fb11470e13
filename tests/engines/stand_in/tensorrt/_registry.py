"""The plugin registry: creators by name, version and namespace, from shared libraries."""

from __future__ import annotations

import ctypes
from typing import Any

from tensorrt._types import MAJOR, Strict

Key = tuple[str, ...]
_ENTRIES = ("getPluginCreators", "getCreators")[: 2 if MAJOR >= 10 else 1]


class IPluginRegistry(Strict):
    """Refuses in silence what it cannot load, and a creator that it knows."""

    def __init__(self) -> None:
        self._creators: dict[Key, object] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._creators

    def load_library(self, plugin_path: str) -> Any:
        """A handle, or None."""
        try:
            library = ctypes.CDLL(plugin_path)
            told = ctypes.c_char_p.in_dll(library, "stand_in_creators").value or b""
        except (OSError, ValueError):
            return None
        keys = [tuple(word.split(":")) for word in told.decode().split()]
        known = any(key in self._creators for key in keys)
        if known or not any(hasattr(library, entry) for entry in _ENTRIES):
            return None
        self._creators |= {key: object() for key in keys}
        return library

    if MAJOR >= 10:

        def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:
            """A creator, or None."""
            return self._creators.get((type, version, plugin_namespace))

    if MAJOR < 11:

        def get_plugin_creator(self, type: str, version: str, plugin_namespace: str = "") -> Any:
            """A creator, or None."""
            return self._creators.get((type, version, plugin_namespace))


_registry = IPluginRegistry()


def get_plugin_registry() -> IPluginRegistry:
    """The one of this process."""
    return _registry
