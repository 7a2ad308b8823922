"""The door: finds the command, hands it the composed configuration, and turns errors into exit codes.

Exit codes: 0 done, 1 failed, 2 a bad configuration or bad input (one message, no traceback), 130 interrupted by Ctrl+C,
143 by SIGTERM.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import hydra
from omegaconf import DictConfig

from mixgan_cli import __version__
from mixgan_cli.config import help as help_on
from mixgan_cli.config import redact
from mixgan_cli.config.compose import explain, of_composition
from mixgan_cli.config.redact import log_to_stderr
from mixgan_cli.config.schema import conf_dir
from mixgan_cli.errors import ConfigError, TrainingStopped, UserError, nearest
from mixgan_cli.runtime.io import write_errors
from mixgan_cli.runtime.signals import Interrupted, Interruptions
from mixgan_cli.sweeps.plan import as_word, plan, quoted
from mixgan_cli.sweeps.sweep import Outcome, Sweep

log = logging.getLogger("mixgan")

LONGEST = 2000
"""Characters of a line of a message: it may quote a value."""
FLAGS_WITH_A_WORD = (
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--info",
    "-i",
    "--config-dir",
    "-cd",
    "--config-name",
    "-cn",
    "--config-path",
    "-cp",
)
NO_MEMORY = "not enough memory|an't allocate memory|CUDA out of memory"
"""What torch says then, in a RuntimeError."""


@dataclass(frozen=True)
class Command:
    """A command: the module that runs it, its primary configuration, one line of help and an example."""

    config: str
    help: str
    example: str
    bare: str | None = None
    """The key whose value may be given without it."""


COMMANDS = {
    "train": Command("config", "train a model and evaluate it", "mixgan train model=hmog data=fashion_mnist"),
    "evaluate": Command(
        "evaluate", "measure a run, or a folder of images", "mixgan evaluate run=DIR evaluation=full", "run"
    ),
    "report": Command("report", "write a page about a run, a sweep or several", "mixgan report outputs/RUN", "paths"),
    "fetch": Command("fetch", "download and prepare a data set, or the Inception weights", "mixgan fetch data=cifar10"),
    "bench": Command(
        "config", "time an iteration of what train would run", "mixgan bench -m model=mggan,hmog model.k=1,32"
    ),
    "sample": Command("sample", "draw samples from a run", "mixgan sample run=DIR n=64 format=grid", "run"),
    "export": Command(
        "export", "write a generator for others, with a model card", "mixgan export run=DIR to=FOLDER", "run"
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    log_to_stderr()
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
        print(help_on.protocols())
        return 0
    wanted, topic = help_wanted(overrides)
    if wanted:
        try:
            print(command_help(name, topic))
        except UserError as error:
            return report(error, name).code
        return 0
    if name == "fetch":  # the one thing that is fetched and is no data set: `mixgan fetch weights`
        overrides = ["weights=true" if word == "weights" else word for word in overrides]
    if key := COMMANDS[name].bare:
        overrides = named(overrides, key)
    return run_command(name, overrides)


def named(words: Sequence[str], key: str) -> list[str]:
    """Return words of the command line, those that are neither key=value nor flags nor a flag's as the key's value.

    `run` takes one of them, `paths` all; beside the key itself, or more of them, they stay, and are refused.
    """
    bare, others = [], []
    for before, word in zip(["", *words], words, strict=False):
        is_path = "=" not in word or os.path.exists(word)  # noqa: PTH110 (Path's raises where a word is too long)
        if word.startswith("-") or before in FLAGS_WITH_A_WORD or not is_path:
            others.append(word)
        else:
            bare.append(word)
    if any(word.startswith(f"{key}=") for word in others) or (key != "paths" and len(bare) > 1):
        return list(words)
    values = f"[{','.join(map(quoted, bare))}]" if key == "paths" else "".join(map(quoted, bare))
    return [*others, f"{key}={values}"] if bare else others


def run_command(name: str, overrides: Sequence[str]) -> int:
    """Compose the command's configuration with Hydra, run it, and return its exit code."""
    command = COMMANDS[name]
    try:
        redact.refuse(overrides)
    except UserError as error:
        return report(error, name).code
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing, so the message is ours
    flags_first = sorted(overrides, key=lambda word: word not in ("-m", "--multirun"))
    sys.argv = [f"mixgan {name}", *flags_first]
    if name == "bench" and sys.argv[1:2] in (["-m"], ["--multirun"]):
        sys.argv.insert(2, "hydra.sweep.dir=${paths.outputs}/bench")  # where Hydra says what was asked
    exit_codes = [0]
    printed: set[str | None] = set()
    sweep: Sweep | None = None

    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command.config)
    def job(config: DictConfig) -> float | None:  # in a sweep perhaps in another process, or on another machine
        work = partial(run_job, name, config, sweep)
        outcome = sweep.run(config, work) if sweep else work()
        if outcome is None or outcome.result is None:  # stopped; failed, or one of several processes, which is silent
            exit_codes.append(outcome.code if outcome else 0)
            return None
        if sweep is None or sweep.pid == os.getpid():
            print(json.dumps(outcome.result), flush=True)
            printed.add(outcome.result.get("run_dir"))
        return sweep.optimized(outcome.result["metrics"]) if sweep else None

    try:
        if name == "train" and (sweep := plan(command.config, flags_first)):
            sys.argv.append(as_word(sweep))
            sweep.begin()
        with Interruptions():
            job()
    except Interrupted as error:
        log.error("mixgan %s: interrupted by %s; the same command goes on from here", name, error)
        exit_codes.append(error.exit_code)
    except KeyboardInterrupt:
        log.error("mixgan %s: interrupted", name)
        exit_codes.append(130)
    except SystemExit as stop:  # Hydra's parser of flags has said what is wrong
        exit_codes.append(2 if stop.code else 0)
    except Exception as error:
        if isinstance(error, OSError) and not of_composition(error):  # Hydra makes the folder of a sweep
            log.error("mixgan %s: %s: %s", name, error.filename, error.strerror)
            exit_codes.append(2)
        elif str(error) != "No trials are completed yet.":  # Optuna's end where every job failed, which is told below
            exit_codes.append(report(error, name).code)
    if sweep:
        try:
            exit_codes.append(sum_up(sweep, printed))
        except Exception as error:
            exit_codes.append(report(error, name).code)
    return max(exit_codes)


def run_job(name: str, config: DictConfig, sweep: Sweep | None) -> Outcome:
    """Run one command, in whatever process it is."""
    log_to_stderr()
    try:
        result = importlib.import_module(f"mixgan_cli.commands.{name}").run(config)
        if sweep and result:
            sweep.optimized(result["metrics"])
    except Exception as error:  # reported here, so that the other jobs of a sweep go on
        return report(error, name)
    return Outcome(0, result)


def sum_up(sweep: Sweep, printed: set[str | None]) -> int:
    """Tell what became of a sweep's jobs, write its tables, and return the highest of its jobs' exit codes."""
    from mixgan_cli.evaluation.protocol import differences
    from mixgan_cli.reporting.sweep import Table

    jobs = sweep.jobs()
    if all(job.status == "planned" for job in jobs):
        return 0  # what went wrong has been told
    for job in jobs:
        if job.state == "done" and job.run_dir not in printed:  # it ran elsewhere
            print(json.dumps(job.run.told()))
    table = Table(jobs, differences)
    with write_errors(f"hydra.sweep.dir: {sweep.folder}"):
        path = table.write(sweep.folder)
    log.info("\n%s\n\n%s", table.text(), path)
    print(json.dumps({"sweep_dir": str(sweep.folder), "jobs": table.counts, "table": str(path)}), flush=True)
    return max(job.exit_code or 0 for job in jobs)


def report(error: Exception, name: str) -> Outcome:
    """Tell the user what went wrong, in one message where it is theirs to mend, and return how the command ended."""
    run_dir = getattr(error, "run_dir", None)
    if isinstance(error, UserError):
        message, code = str(error), 2
    elif of_composition(error):
        message, code = explain(error, COMMANDS[name].config), 2
    elif isinstance(error, TrainingStopped):
        message, code = str(error), 1
    elif isinstance(error, MemoryError) or re.search(NO_MEMORY, str(error)):
        message, code = f"not enough memory ({str(error).splitlines()[0]}). Take smaller batches, models or sets", 1
    else:
        message = redact.masked("".join(traceback.format_exception(error)))
        sys.stderr.write(message)
        return Outcome(1, error=message, run_dir=run_dir)
    message = "\n".join(line if len(line) <= LONGEST else f"{line[:LONGEST]} …" for line in message.splitlines())
    log.error("mixgan %s: %s", name, message)
    return Outcome(code, error=message, run_dir=run_dir)


def overview() -> str:
    """Return what `mixgan` alone prints."""
    lines = [f"mixgan {__version__}: GANs whose generator is a mixture of experts", "", "Commands:"]
    lines += [f"  {name:<10} {command.help}" for name, command in COMMANDS.items()]
    lines += ["", "Examples:"]
    lines += [f"  {command.example}" for command in COMMANDS.values()]
    lines += ["", "mixgan COMMAND --help lists its groups and keys; mixgan train --cfg job prints a run."]
    return "\n".join(lines)


def command_help(name: str, topic: str | None = None) -> str:
    """Return a command's help: its keys and groups, or the choices of the group `topic` (of all groups: `all`).

    Raises:
        ConfigError: the command has no such group.
    """
    command = COMMANDS[name]
    groups = help_on.groups_of(command.config)
    if topic is not None:
        choices = help_on.choices(command.config, topic)
        if choices is None:
            known = ", ".join([*groups, "all"]) if groups else "none"
            raise ConfigError(f"--help {topic}: there is no such group.{nearest(topic, groups)} Known: {known}")
        return "\n".join(choices)
    lines = [f"mixgan {name}: {command.help}", "", f"  {command.example}", ""]
    lines += ["Keys with their defaults; set one with KEY=VALUE, a nested one with KEY.KEY=VALUE:", ""]
    lines += [*help_on.keys(command.config), ""]
    if groups:
        lines += ["Groups with their default and their choices; choose with GROUP=CHOICE:", ""]
        lines += [*help_on.table_of_groups(command.config), ""]
        lines += [f"mixgan {name} --help GROUP describes the choices of a group; --help all, of all groups."]
    lines += ["--cfg job prints the composed configuration; -m sweeps over comma-separated values;"]
    lines += ["--config-dir DIR adds a folder with groups of your own; --hydra-help lists Hydra's other options."]
    return "\n".join(lines)


def help_wanted(words: Sequence[str]) -> tuple[bool, str | None]:
    """Return whether words of the command line ask for help, and on which group: --help, --help GROUP, --help=GROUP."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, topic = word.partition("=")
        if flag in ("-h", "--help"):
            return True, topic if equals else following or None
    return False, None
