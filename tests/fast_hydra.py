"""Halve what Hydra costs in the tests, which compose some thousand configurations.

A file of conf/ is parsed once in a process. `mixgan` composes once in a call: Hydra composes everything a first time
only to learn `hydra.mode`, which nothing in conf/ sets. Processes that tests start themselves run Hydra as it is.
"""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource

Plugins.instance()  # finds the class below, which is another one than that of an import before
Files: type[ConfigSource] = SourcesRegistry.instance().resolve("file")
_load, _mode = Files.load_config, Hydra.get_mode


@cache
def _pickled(folder: str, name: str, changed: int) -> bytes:
    return pickle.dumps(_load(Files("tests", f"file://{folder}"), name))


def _load_once(self: ConfigSource, config_path: str) -> ConfigResult:
    path = Path(self.path, self._normalize_file_name(config_path))
    if not path.is_file():
        return _load(self, config_path)
    loaded: ConfigResult = pickle.loads(_pickled(self.path, config_path, path.stat().st_mtime_ns))
    loaded.provider = self.provider
    return loaded


def _mode_if_overridden(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    return _mode(self, config_name, overrides) if any("hydra" in word for word in overrides) else None


def install() -> None:
    """Change Hydra for this process and those it forks."""
    Files.load_config = _load_once
    Hydra.get_mode = _mode_if_overridden
