"""Trained generators that come with mixgan: `model://hmog-fashion` is the folder pretrained_weights/hmog-fashion."""

from __future__ import annotations

from pathlib import Path

from mixgan_cli.errors import ConfigError, nearest

SCHEME = "model://"
"""Beginning of the address of a generator that comes with mixgan."""
FOLDER = Path(__file__).with_name("pretrained_weights")


def pretrained_models() -> list[str]:
    """Return the names of the generators that come with mixgan."""
    return sorted(file.parent.name for file in FOLDER.glob("*/generator.safetensors"))


def pretrained_name(run_or_file: str | Path) -> str | None:
    """Return the name in an address such as model://hmog-fashion, or None if it is the path of a run or a file."""
    text = str(run_or_file)
    return text.removeprefix(SCHEME) if text.startswith(SCHEME) else None


def pretrained_folder(name: str) -> Path:
    """Return the folder of a generator that comes with mixgan.

    It has generator.safetensors, the model card MODEL.md, and config.yaml and results.json of the run.

    Raises:
        ConfigError: there is none of this name.
    """
    names = pretrained_models()
    if name not in names:
        raise ConfigError(
            f"{SCHEME}{name}: mixgan has no such generator.{nearest(name, names)} Known: {', '.join(names)}"
        )
    return FOLDER / name


def generator_path(run_or_file: str | Path) -> Path:
    """Return the path of a run or a file as it is, or the file behind an address such as model://hmog-fashion.

    Raises:
        ConfigError: there is no generator of this address.
    """
    name = pretrained_name(run_or_file)
    return Path(run_or_file) if name is None else pretrained_folder(name) / "generator.safetensors"
