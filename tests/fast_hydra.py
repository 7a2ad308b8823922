"""Make Hydra ten times faster in the tests, which compose some thousand configurations.

What Hydra does with conf/ depends only on the choices of groups, so the tests keep it and share it between processes:
the list of chosen files, and these files merged. Values (`training.batch=8`) are applied to a copy. Folders other than
conf/, such as `--config-dir`, are read by Hydra as usual. tests/test_fast_hydra.py compares the results with Hydra's.
Processes that tests start themselves run Hydra as it is.
"""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from mixgan_cli.config.schema import conf_dir

Plugins.instance()  # finds the class below, which is another one than that of an import before
Files: type[ConfigSource] = SourcesRegistry.instance().resolve("file")
_load, _mode = Files.load_config, Hydra.get_mode
_select, _interpolations = defaults_list.create_defaults_list, defaults_list._create_interpolation_map
_merge = ConfigLoaderImpl._compose_config_from_defaults_list
PACKAGED = {("pkg", "hydra.conf"), ("structured", "")}
"""Hydra's own sources: they never change."""
_kept: dict[str, bytes] = {}
_folder: Path | None = None


def _once(key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
    """Return a copy of what `compute` returned for this key, in this process or in another one of this test run."""
    name = hashlib.sha256(repr(key).encode()).hexdigest()
    path = _folder / name if _folder else None
    if name not in _kept:
        if path and path.is_file():
            _kept[name] = path.read_bytes()
        else:
            _kept[name] = pickle.dumps(compute())
            if path:
                aside = path.with_suffix(f".{os.getpid()}")
                aside.write_bytes(_kept[name])
                aside.replace(path)
    return pickle.loads(_kept[name])


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


def _only_conf(repo: IConfigRepository) -> bool:
    sources = {(source.scheme(), source.path) for source in repo.get_sources()}
    return sources - PACKAGED == {("file", str(conf_dir()))}


def _select_once(
    repo: IConfigRepository, config_name: str | None, overrides_list: list[Any], *flags: Any, **named: Any
) -> Any:
    """Choose the files: what Hydra returns for the same choices of groups, with the values of this call."""
    values = defaults_list.Overrides(repo=repo, overrides_list=overrides_list).config_overrides
    choices = [override for override in overrides_list if override not in values]
    if not _only_conf(repo):
        return _select(repo, config_name, overrides_list, *flags, **named)
    key = ("select", config_name, [choice.input_line for choice in choices], flags, sorted(named.items()))
    selected = _once(key, lambda: _select(repo, config_name, choices, *flags, **named))
    selected.config_overrides = selected.overrides.config_overrides = values
    return selected


def _merge_once(self: ConfigLoaderImpl, defaults: Sequence[Any], repo: IConfigRepository) -> Any:
    if not _only_conf(repo):
        return _merge(self, defaults, repo)
    return _once(("merge", defaults), lambda: _merge(self, defaults, repo))


def _interpolations_if_any(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
    """Return the values for `${…}` in a list of defaults, which few lists have."""
    return (
        _interpolations(overrides, defaults, self_added)
        if any(default.is_interpolation() for default in defaults)
        else OmegaConf.create()
    )


def _mode_if_overridden(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """Compose once: Hydra composes everything a first time only to read `hydra.mode`, which conf/ does not set."""
    return _mode(self, config_name, overrides) if any("hydra" in word for word in overrides) else None


def _share_sources(self: CachingConfigRepository, delegate: IConfigRepository) -> None:
    """Copy the list of sources but not the sources: Hydra may extend the list, and does not change a source."""
    self.delegate = copy.copy(delegate)
    self.cache = {}


REPLACED: dict[tuple[Any, str], Any] = {
    (Files, "load_config"): _load_once,
    (Hydra, "get_mode"): _mode_if_overridden,
    (CachingConfigRepository, "__init__"): _share_sources,
    (config_loader_impl, "create_defaults_list"): _select_once,
    (defaults_list, "_create_interpolation_map"): _interpolations_if_any,
    (ConfigLoaderImpl, "_compose_config_from_defaults_list"): _merge_once,
}
ORIGINAL = {(owner, name): getattr(owner, name) for owner, name in REPLACED}


def install(functions: dict[tuple[Any, str], Any] = REPLACED) -> None:
    """Change Hydra for this process and those it forks."""
    for (owner, name), function in functions.items():
        setattr(owner, name, function)


def share(folder: Path) -> None:
    """Share the results with other processes through a folder."""
    global _folder
    folder.mkdir(parents=True, exist_ok=True)
    _folder = folder
