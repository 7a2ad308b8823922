"""The command line: run a command with its composed configuration, and turn errors into exit codes.

Exit codes: 0 done, 1 failed, 2 invalid configuration or input (one message, no traceback), 130 interrupted by Ctrl+C,
143 by SIGTERM, 129 by SIGHUP, 141 if the reader of the output ended, 137 if a job of a sweep was killed (SIGKILL).
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import hydra
from omegaconf import DictConfig

from mixgan_cli import __version__
from mixgan_cli.config import help as help_on
from mixgan_cli.config import redact
from mixgan_cli.config.arguments import flags_first, naming_keys, parse_flags, positional_overrides, quote_path
from mixgan_cli.config.commands import (
    EvaluateCommand,
    ExportCommand,
    FetchCommand,
    ListCommand,
    ReportCommand,
    SampleCommand,
)
from mixgan_cli.config.compose import explain, is_composition_error
from mixgan_cli.config.parse import check_values
from mixgan_cli.config.redact import log_to_stderr
from mixgan_cli.config.schema import Run, Strict, conf_dir
from mixgan_cli.errors import ConfigError, TrainingStopped, UserError, error_summary, nearest
from mixgan_cli.runtime.child_process import ProcessDied, run_in_child
from mixgan_cli.runtime.io import write_errors
from mixgan_cli.runtime.signals import Interrupted, Interruptions, interruption
from mixgan_cli.runtime.streams import CLOSED_PIPE_EXIT_CODE, OutputError, discard_output, prepare_streams, print_line
from mixgan_cli.sweeps.plan import plan, sweep_dir_override, swept_words
from mixgan_cli.sweeps.sweep import Outcome, Sweep

log = logging.getLogger("mixgan")

MAX_LINE = 2000
"""Maximum length of a line of a message, which may quote a long value."""
OUT_OF_MEMORY = "not enough memory|an't allocate memory|CUDA out of memory"
"""Messages of RuntimeErrors that torch raises when memory runs out."""


@dataclass(frozen=True)
class Command:
    """A command. The module of the same name in `mixgan_cli.commands` runs it."""

    config: str
    """The name of its primary configuration."""
    schema: type[Strict]
    """The keys of this configuration."""
    help: str
    example: str
    positional: str | None = None
    """The key that positional arguments set."""


COMMANDS = {
    "train": Command("config", Run, "train a model and evaluate it", "mixgan train model=hmog data=fashion_mnist"),
    "evaluate": Command(
        "evaluate",
        EvaluateCommand,
        "compute metrics of a run or of images",
        "mixgan evaluate run=DIR evaluation=full",
        "run",
    ),
    "report": Command(
        "report", ReportCommand, "write an HTML page about runs or sweeps", "mixgan report outputs/RUN", "paths"
    ),
    "list": Command("list", ListCommand, "list the runs in a folder", "mixgan list outputs sort=state", "paths"),
    "fetch": Command(
        "fetch", FetchCommand, "download and prepare a data set, or the Inception weights", "mixgan fetch data=cifar10"
    ),
    "bench": Command(
        "config", Run, "time a training iteration of a configuration", "mixgan bench -m model=mggan,hmog model.k=1,32"
    ),
    "sample": Command(
        "sample", SampleCommand, "draw samples from a run", "mixgan sample run=DIR n=64 format=grid", "run"
    ),
    "export": Command(
        "export", ExportCommand, "export a generator with a model card", "mixgan export run=DIR to=FOLDER", "run"
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    prepare_streams()
    spin_briefly()
    try:
        with Interruptions():
            code = _main(list(sys.argv[1:] if arguments is None else arguments))
            print_line()
    except BrokenPipeError:  # `| head -1`
        discard_output()
        return CLOSED_PIPE_EXIT_CODE
    except OutputError as error:
        discard_output()
        log.error("mixgan: %s", error)
        return 1
    except BaseException as error:
        if not (signal := interruption(error)):
            raise
        log.error("mixgan: interrupted by %s", signal)
        return signal.exit_code
    return code


def spin_briefly() -> None:
    """Let OpenMP's threads wait asleep after a short spin, unless the user has set how they wait.

    A thread that spins takes time from the thread that it waits for if other programs use the cores. This many spins
    cost nothing on an idle machine (docs/performance.md). libgomp reads the variable when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@contextmanager
def safe_path() -> Iterator[None]:
    """Keep the current folder off the module path of processes that start in the block, if it is not on this one's.

    The jobs of launchers and the ranks of a run start as `python -m` and `python -c`, which import from the current
    folder: a file torch.py in it would be run. Python 3.10 does not know the variable.
    """
    if "PYTHONSAFEPATH" in os.environ or "" in sys.path or str(Path.cwd()) in sys.path:
        yield
        return
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]


def _main(arguments: list[str]) -> int:
    log_to_stderr()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print_line(overview())
        return 0
    if "--version" in arguments:
        print_line(f"mixgan {__version__}")
        return 0
    name, *overrides = arguments
    if name in ("-sc", "--shell-completion"):
        return shell_completion(overrides[0] if overrides else "")
    if name not in COMMANDS:
        log.error("mixgan: there is no command %r.%s Commands: %s", name, nearest(name, COMMANDS), ", ".join(COMMANDS))
        return 2
    if name == "evaluate" and "--protocol" in overrides:
        print_line(help_on.protocols())
        return 0
    wanted, topic = help_wanted(overrides)
    if wanted:
        try:
            print_line(command_help(name, topic))
        except UserError as error:
            return report_error(error, name).code
        return 0
    if name == "fetch":  # `mixgan fetch weights`
        overrides = ["weights=true" if word == "weights" else word for word in overrides]
    if name == "list":
        overrides = ["json=true" if word == "--json" else word for word in overrides]
    overrides = flags_first(overrides)
    if key := COMMANDS[name].positional:
        overrides = positional_overrides(overrides, key)
    return run_command(name, overrides)


def shell_completion(request: str) -> int:
    """Answer a request of a shell and return the exit code: `install=SHELL`, `uninstall=SHELL` or `query=SHELL`.

    A query completes the command line in $COMP_LINE: first the command, then, by Hydra, its groups, choices and keys.
    """
    name, words = "train", os.environ.get("COMP_LINE", "").split()
    if not re.fullmatch(r"(install|uninstall|query)=(bash|zsh|fish)", request):
        log.error("mixgan -sc %s: use install=bash, install=zsh or install=fish", request)
        return 2
    if request.startswith("query="):
        if len(words) < 2 or (len(words) == 2 and not os.environ["COMP_LINE"].endswith(" ")):
            print(*(command for command in COMMANDS if command.startswith(words[1] if len(words) > 1 else "")))
            return 0
        name = words[1]
        if name not in COMMANDS:
            return 0
        os.environ["COMP_LINE"] = os.environ["COMP_LINE"].replace(f" {name}", "", 1)  # Hydra knows no commands
    sys.argv = ["mixgan", "-sc", request]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=COMMANDS[name].config)(print)()
    except Exception:  # what is typed so far cannot be composed, so there is nothing to complete
        return 0
    return 0


def run_command(name: str, overrides: Sequence[str]) -> int:
    """Compose the command's configuration with Hydra, run it, and return its exit code."""
    command = COMMANDS[name]
    try:
        redact.refuse_secrets(overrides)
        given = parse_flags(overrides, command.config)
    except UserError as error:
        return report_error(error, name).code
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing
    words = [quote_path(word, given.multirun) if word in given.overrides else word for word in overrides]
    sys.argv = [f"mixgan {name}", *words]
    if given.info:  # Hydra logs it
        logging.getLogger("hydra").setLevel(logging.DEBUG)
    if name == "bench" and given.multirun:
        sys.argv.append("hydra.sweep.dir=${paths.outputs}/bench")  # for Hydra's own files
    exit_codes = [0]
    printed: set[str | None] = set()
    sweep: Sweep | None = None

    @hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=command.config)
    def job(config: DictConfig) -> float | None:  # a sweep may run it in another process or on another machine
        work = partial(run_job, name, config, sweep)
        outcome = sweep.run(config, work) if sweep else work()
        if outcome is None or outcome.result is None:  # skipped, failed, or not rank 0
            exit_codes.append(outcome.code if outcome else 0)
            return None
        if sweep is None or sweep.pid == os.getpid():
            try:
                print_line(json.dumps(outcome.result))
            except OutputError as error:  # the other jobs of a sweep run
                discard_output()
                exit_codes.append(report_error(error, name).code)
            printed.add(outcome.result.get("run_dir"))
        return sweep.objective_value(outcome.result["metrics"]) if sweep else None

    try:
        if given.multirun:
            words = swept_words(words)
            sys.argv[1 : 1 + len(words)] = words
        if name == "train" and (sweep := plan(command.config, words)):
            sys.argv.append(sweep_dir_override(sweep))
            sweep.begin()
        prints = given.cfg or given.info  # with values from the environment, which a YAML file may name
        with safe_path(), redact.masked_stdout() if prints else nullcontext():
            job()
    except Interrupted as error:
        log.error("mixgan %s: interrupted by %s; run the same command to continue", name, error)
        exit_codes.append(error.exit_code)
    except KeyboardInterrupt:
        log.error("mixgan %s: interrupted", name)
        exit_codes.append(130)
    except SystemExit as stop:  # Hydra's argument parser has printed what is wrong
        exit_codes.append(2 if stop.code else 0)
    except (BrokenPipeError, OutputError):
        raise
    except Exception as error:
        if signal := interruption(error):
            raise signal from error
        if isinstance(error, OSError) and not is_composition_error(error):
            if error.filename is None:  # Hydra prints a configuration
                raise OutputError(f"standard output cannot be written ({error_summary(error)})") from error
            log.error("mixgan %s: %s: %s", name, error.filename, error.strerror)  # the sweep's folder
            exit_codes.append(2)
        elif str(error) != "No trials are completed yet.":  # Optuna, if every job failed
            exit_codes.append(report_error(error, name).code)
    if sweep:
        try:
            exit_codes.append(finish_sweep(sweep, printed))
        except (BrokenPipeError, OutputError):
            raise
        except Exception as error:
            exit_codes.append(report_error(error, name).code)
    return max(exit_codes)


def run_job(name: str, config: DictConfig, sweep: Sweep | None) -> Outcome:
    """Run one command and return how it ended. A job of a sweep has a process of its own, which may be killed."""
    prepare_streams()  # of a process that a launcher started
    log_to_stderr()

    def prepare_and_run() -> Outcome:
        check_values(config, COMMANDS[name].schema)  # before torch is imported
        command = import_command(name)  # before the fork, so that not every job of a sweep has to

        def run() -> Outcome:
            with naming_keys(config):
                result = command.run(config)
            if sweep and result:
                sweep.objective_value(result["metrics"])
            return Outcome(0, result)

        work = partial(attempt, name, run)
        return run_in_child(work) if sweep else work()

    return attempt(name, prepare_and_run)


def import_command(name: str) -> ModuleType:
    """Import a command's module, and with it torch. A signal waits, as it aborts the import inside C code of torch."""
    with Interruptions() as interruptions, interruptions.deferred():
        command = importlib.import_module(f"mixgan_cli.commands.{name}")
    if interruptions.received:
        raise Interrupted(interruptions.received)
    return command


def attempt(name: str, work: Callable[[], Outcome]) -> Outcome:
    """Return the outcome of `work`. An error is reported and becomes one, so that the other jobs of a sweep run."""
    try:
        return work()
    except BrokenPipeError:
        raise
    except Exception as error:
        if signal := interruption(error):
            raise signal from error
        return report_error(error, name)


def finish_sweep(sweep: Sweep, printed: set[str | None]) -> int:
    """Print the results of a sweep's jobs, write its tables, and return the highest exit code of its jobs."""
    from mixgan_cli.reporting.sweep_table import SweepTable

    jobs = sweep.jobs()
    if all(job.status == "planned" for job in jobs):
        return 0  # no job was started; the error has been printed
    for job in jobs:
        if job.state == "done" and job.run_dir not in printed:  # it ran in another process
            print_line(json.dumps(job.run.summary()))
    table = SweepTable(jobs)
    with write_errors(f"hydra.sweep.dir: {sweep.folder}"):
        path = table.write(sweep.folder)
    log.info("\n%s\n\n%s", table.text(), path)
    print_line(json.dumps({"sweep_dir": str(sweep.folder), "jobs": table.counts, "table": str(path)}))
    return max(job.exit_code or 0 for job in jobs)


def report_error(error: Exception, name: str) -> Outcome:
    """Print an error, without a traceback if the user can fix it, and return how the command ended."""
    run_dir = getattr(error, "run_dir", None)
    if isinstance(error, UserError):
        message, code = str(error), 2
    elif is_composition_error(error):
        message, code = explain(error, COMMANDS[name].config, sys.argv[1:]), 2
    elif isinstance(error, (TrainingStopped, OutputError)):
        message, code = str(error), 1
    elif isinstance(error, ProcessDied):
        message, code = str(error), error.exit_code
    elif isinstance(error, MemoryError) or re.search(OUT_OF_MEMORY, str(error)):
        message, code = f"not enough memory ({error_summary(error)}). Use a smaller batch, model or data set", 1
    elif isinstance(error, OSError) and error.errno is not None:  # a full or read-only disk, a name that is too long
        message, code = f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}", 2
    else:
        message = redact.masked("".join(traceback.format_exception(error)))
        sys.stderr.write(message)
        return Outcome(1, error=message, run_dir=run_dir)
    message = redact.masked(message)  # it may be kept in the record of a job
    message = "\n".join(line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} …" for line in message.splitlines())
    log.error("mixgan %s: %s", name, message)
    return Outcome(code, error=message, run_dir=run_dir)


def overview() -> str:
    """Return the text that `mixgan` without arguments prints."""
    lines = [f"mixgan {__version__}: GANs whose generator is a mixture of experts", "", "Commands:"]
    lines += [f"  {name:<10} {command.help}" for name, command in COMMANDS.items()]
    lines += ["", "Examples:"]
    lines += [f"  {command.example}" for command in COMMANDS.values()]
    lines += [
        "",
        "mixgan COMMAND --help lists its groups and keys; mixgan train --cfg job prints a configuration.",
    ]
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
    lines = [f"mixgan {name}: {command.help}", f"  {command.example}", ""]
    lines += ["Keys with their defaults; set one with KEY=VALUE, a nested one with KEY.KEY=VALUE:", ""]
    lines += [*help_on.keys(command.config), ""]
    if groups:
        lines += ["Groups with their default and their choices; choose with GROUP=CHOICE:"]
        lines += [*help_on.table_of_groups(command.config), ""]
        lines += [f"mixgan {name} --help GROUP describes the choices of a group; --help all, of all groups."]
    lines += ["--cfg job prints the composed configuration; -m sweeps over comma-separated values;"]
    lines += ["--config-dir DIR adds a folder with groups of your own; --hydra-help lists Hydra's other options."]
    return "\n".join(lines)


def help_wanted(words: Sequence[str]) -> tuple[bool, str | None]:
    """Return whether words of the command line ask for help, and on which group: --help, --help GROUP, --help=GROUP."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        flag, equals, topic = word.partition("=")
        if flag in ("-h", "--help"):
            return True, topic if equals else following or None
    return False, None
