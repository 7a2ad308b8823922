"""The door: finds the command, hands it the composed configuration, and turns errors into exit codes.

Exit codes: 0 done, 1 failed, 2 a bad configuration or bad input (one message, no traceback), 130 interrupted.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import hydra
from omegaconf import DictConfig, OmegaConf

from mixgan_cli import __version__, secrecy
from mixgan_cli.composition import CompositionError, explain, groups
from mixgan_cli.config import conf_dir
from mixgan_cli.errors import TrainingStopped, UserError, nearest

log = logging.getLogger("mixgan")


@dataclass(frozen=True)
class Command:
    """A command: the module that runs it, its primary configuration, one line of help and an example."""

    config: str
    help: str
    example: str


COMMANDS = {
    "train": Command("config", "train a model and evaluate it", "mixgan train model=hmog data=fashion_mnist"),
    "evaluate": Command("evaluate", "measure a run, or a folder of images", "mixgan evaluate run=DIR evaluation=full"),
    "fetch": Command("fetch", "download and prepare a data set, or the Inception weights", "mixgan fetch data=cifar10"),
    "sample": Command("sample", "draw pictures from a run", "mixgan sample run=DIR n=64 format=grid"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _log_to_stderr()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        print(f"mixgan {__version__}")
        return 0
    name, *overrides = arguments
    if name not in COMMANDS:
        log.error("mixgan: there is no command %r.%s Known: %s", name, nearest(name, COMMANDS), ", ".join(COMMANDS))
        return 2
    if name == "evaluate" and "--protocol" in overrides:
        print(protocols())
        return 0
    if {"-h", "--help"} & set(overrides):
        print(command_help(name))
        return 0
    if name == "fetch":  # the one thing that is fetched and is no data set: `mixgan fetch weights`
        overrides = ["weights=true" if word == "weights" else word for word in overrides]
    return run_command(name, overrides)


def run_command(name: str, overrides: Sequence[str]) -> int:
    """Compose the command's configuration with Hydra, run it, and return its exit code."""
    command = COMMANDS[name]
    try:
        secrecy.refuse(overrides)
    except UserError as error:
        return report(error, name)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing, so the message is ours
    sys.argv = [f"mixgan {name}", *sorted(overrides, key=lambda word: word not in ("-m", "--multirun"))]  # flags first
    exit_codes = [0]

    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command.config)
    def job(config: DictConfig) -> None:
        try:
            result = importlib.import_module(f"mixgan_cli.commands.{name}").run(config)
            print(json.dumps(result), flush=True)
        except Exception as error:  # reported here, so that the other jobs of a sweep go on
            exit_codes.append(report(error, name))

    try:
        job()
    except KeyboardInterrupt:
        log.error("mixgan %s: interrupted; the same command goes on from the last checkpoint", name)
        return 130
    except CompositionError as error:
        return report(error, name)
    except OSError as error:  # Hydra makes the folder of a sweep
        log.error("mixgan %s: %s: %s", name, error.filename, error.strerror)
        return 2
    except Exception as error:
        return report(error, name)
    return max(exit_codes)


def report(error: Exception, name: str) -> int:
    """Tell the user what went wrong, in one message where it is theirs to mend, and return the exit code."""
    if isinstance(error, UserError):
        message, code = str(error), 2
    elif isinstance(error, CompositionError):
        message, code = explain(error, COMMANDS[name].config), 2
    elif isinstance(error, TrainingStopped):
        message, code = str(error), 1
    else:
        sys.stderr.write(secrecy.masked("".join(traceback.format_exception(error))))
        return 1
    log.error("mixgan %s: %s", name, message)
    return code


def overview() -> str:
    """Return what `mixgan` alone prints."""
    lines = [f"mixgan {__version__}: GANs whose generator is a mixture of experts", "", "Commands:"]
    lines += [f"  {name:<10} {command.help}" for name, command in COMMANDS.items()]
    lines += ["", "Examples:"]
    lines += [f"  {command.example}" for command in COMMANDS.values()]
    lines += ["", "mixgan COMMAND --help lists its groups and keys; mixgan train --cfg job prints a run."]
    return "\n".join(lines)


def command_help(name: str) -> str:
    """Return the command's help: its keys as they stand in YAML, and each group with what its choices are."""
    command = COMMANDS[name]
    source = (conf_dir() / f"{command.config}.yaml").read_text(encoding="utf-8")
    keys, _, _ = source.partition("\nhydra:")
    lines = [f"mixgan {name}: {command.help}", "", f"  {command.example}", "", keys.strip(), ""]
    lines.append("Groups (group=choice), each a folder of conf/:")
    used = {
        group for default in OmegaConf.create(source).defaults if isinstance(default, DictConfig) for group in default
    }
    for group, choices in groups().items():
        if group.partition("/")[0] not in used:
            continue
        lines.append(f"  {group}")
        for choice in choices:
            path = conf_dir() / group / f"{choice}.yaml"
            about = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
            about = [line for line in about if not line.startswith("@package")]
            lines.append(f"    {choice:<16} {about[0] if about else ''}")
    lines += ["", "--cfg job prints the composed configuration; -m sweeps over comma-separated values;"]
    lines += ["--config-dir DIR adds a folder of your own groups; --hydra-help tells the rest."]
    return "\n".join(lines)


def protocols() -> str:
    """Return the named protocols, each with its keys."""
    lines = ["Protocols (evaluation=NAME); each key can be set, and is stored with the numbers:"]
    for choice in groups()["evaluation"]:
        source = (conf_dir() / "evaluation" / f"{choice}.yaml").read_text(encoding="utf-8")
        about, _, keys = source.partition("\n")
        lines += ["", f"{choice}: {about.removeprefix('#').strip()}"]
        lines += [f"  {line}" for line in keys.splitlines() if line and not line.startswith(("defaults", "  - "))]
    return "\n".join(lines)


def _log_to_stderr() -> None:
    """People read stderr; stdout is for scripts."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(secrecy.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    logging.getLogger("hydra").setLevel(logging.CRITICAL)  # what Hydra would log, the message says already
