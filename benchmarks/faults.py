"""Inject faults into real runs, and compare each run with an undisturbed one.

    python benchmarks/faults.py [--kills 50] [--only NAME ...]        (make faults)

A run of a few seconds on the included digits is trained once undisturbed. Then it is trained with a fault, and the same
command is repeated until the run is finished. The result counts as lost if anything differs: a tensor of the last or
the best state (weights, moving average, optimisers) or of the generator's file, a line of metrics.jsonl, except its
times, or a metric of results.json; or if a temporary file is left. Runs are processes forked from this one, so that
each starts at once. The exit code is 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mixgan_cli import cli
from mixgan_cli.commands import train  # noqa: F401 - before the fork, for all of its processes
from mixgan_cli.training import loop
from mixgan_cli.training.checkpoint import read_state

RUN = (
    "model=mggan", "model.k=2", "training.fakes=8", "hardware=cpu", "hardware.threads=1", "data.size=8",
    "model.backbone.channels=4", "training.batch=8", "training.nimg=2400", "training.report_nimg=40",
    "training.checkpoint_nimg=8", "training.sample_nimg=800", "training.evaluate_nimg=400", "training.keep=3",
    "evaluation.metrics=[ms_ssim,mixture]", "evaluation.n_fake=16", "evaluation.n_real=16", "training.figures=false",
)  # fmt: skip
"""A run that saves its state after every iteration and draws no figures, so it spends most of its time saving."""
GENERATOR = "checkpoints/generator.safetensors"
TIMES = ("seconds", "img_per_second", "evaluating")
RARELY = ("training.checkpoint_nimg=40",)
SHORT = ("training.nimg=240", "training.evaluate_nimg=80")
BRIEF = ("training.nimg=40", "training.evaluate_nimg=16")
LIMITS = (9_000, 30_000)
"""Limits of the file size [bytes]: room for the log, or for the log and sample grids, but not for a checkpoint."""
START_LIMIT = 4_000
"""Limit of the file size [bytes] that is less than the log of a third of the run."""
DISK_BYTES = 2**21
"""Size of the small disk: room for the whole run, but not for twice as many checkpoints."""
AUDITED = ("os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate")
"""Audit events that change the disk, apart from opening a file for writing."""
WRITES = ("write", "fsync", "truncate", "write_end_of_file")
"""Functions of C that write to a file and have no audit event; the last one is the end of torch.save."""


class Lost(Exception):
    """The run differs from the undisturbed one."""


class Skipped(Exception):
    """The fault cannot be injected on this machine."""


def begin(folder: Path, seed: int | str, *overrides: str, prepare: Callable[[], None] = lambda: None) -> int:
    """Start or resume the run in this folder, or a sweep over several seeds, and return its process id."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes background jobs ignore it
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup makes its program ignore it
        prepare()
        code = cli.main(["train", *RUN, f"seed={seed}", f"paths.run={folder}", *overrides])
    except KeyboardInterrupt:  # before the run handles signals
        code = 130
    finally:  # without unwinding further, which would delete the temporary folder of all runs
        os._exit(code)


def said(folder: Path) -> str:
    """Return the end of the run's output."""
    return folder.with_suffix(".log").read_text()[-1500:]


def wait(process: int) -> int:
    """Wait for the process and return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def ended(process: int, within: float) -> int | None:
    """Return the exit code, or None if the process does not end within this time [s]."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def finish(folder: Path, seed: int | str, *overrides: str) -> None:
    """Repeat the command, which must finish the run."""
    code = wait(begin(folder, seed, *overrides))
    if code:
        raise Lost(f"the run was not resumed: exit code {code}\n{said(folder)}")


def at_work(folder: Path) -> int | None:
    """Return the id of the process that trains the run in this folder, if any: it has the run's lock open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            if link.readlink() == (folder / ".lock").resolve():
                return int(link.parts[2])
    return None


def remains(folder: Path) -> dict[str, Any]:
    """Return the contents of the run's log, checkpoints, generator and results, without times, and what is left over.

    A checkpoint that does not exist is left out.
    """
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "log": [{name: value for name, value in record.items() if name not in TIMES} for record in records],
        **{
            name: flat(read_state(path))
            for name in ("last", "best")
            if (path := folder / "checkpoints" / f"{name}.pt").is_file()
        },
        "older checkpoints": [path.name for path in sorted((folder / "checkpoints").glob("[0-9]*.pt"))],
        "metrics": flat(json.loads((folder / "results.json").read_text())["metrics"]),
        "generator": {f"/{name}": tensor for name, tensor in load_file(folder / GENERATOR).items()},
        "temporary files": [str(path.relative_to(folder)) for path in folder.rglob("*.tmp")],
    }


def flat(node: Any, path: str = "") -> dict[str, Any]:
    """Return the tensors and values of a checkpoint by their path, without times and configuration."""
    if isinstance(node, (dict, list)):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        return {key: value for name, part in pairs for key, value in flat(part, f"{path}/{name}").items()}
    waiting = "/progress/unlogged" in path  # lines of the log that could not be written when the state was saved
    compared = path.rpartition("/")[2] not in TIMES and "/config/" not in path and not waiting
    return {path: node} if compared else {}


def compare(folder: Path, reference: dict[str, Any]) -> None:
    """Raise Lost if the run differs from the undisturbed one."""
    found = remains(folder)
    for part, expected in reference.items():
        if isinstance(expected, list):
            for one, other in zip_longest(expected, found.get(part, [])):
                if one != other:
                    raise Lost(f"{part}: {other} instead of {one}")
            continue
        for key in expected.keys() | found.get(part, {}).keys():
            one, other = expected.get(key), found.get(part, {}).get(key)
            tensors = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
            same = torch.equal(one, other) if tensors else type(one) is type(other) and one == other
            if not same:
                raise Lost(f"{part}{key} {'differs' if key in found.get(part, {}) else 'is missing'}")


def kill_before_write(place: int) -> None:
    """Let this process be killed before the write with this number (from 1) after the last iteration of its run.

    A write is anything that changes the disk: to open a file for it, write, sync, rename, link, remove.
    """
    left = [place]

    def written(*_: Any) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if begun and (opened or event in AUDITED):
            written()

    def profile(_: Any, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ in WRITES and not printed(called.__self__):
            written()

    def printed(owner: Any) -> bool:
        return isinstance(owner, io.StringIO | io.BytesIO) or owner in (sys.stdout, sys.stderr)

    begun: list[bool] = []
    real = loop.iterate

    def iterate(state: Any, *others: Any) -> Any:
        result = real(state, *others)
        if state.progress.nimg >= state.config["training"]["nimg"]:
            begun.append(True)
            sys.setprofile(profile)
        return result

    loop.iterate = iterate
    sys.addaudithook(audit)


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """Mount a disk of this size [bytes] in the memory.

    Raises:
        Skipped: it cannot be mounted.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "mixgan-faults", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Skipped(f"not tried: {error}") from error
    if done.returncode:
        raise Skipped(f"not tried: a disk cannot be mounted ({' '.join(done.stderr.split())})")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fill a disk with a file, and return the file."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


class Faults:
    """The faults. Each public method injects one kind, as often as it returns. `chance` draws the moments."""

    def __init__(self, root: Path, kills: int, chance: random.Random) -> None:
        self.root, self.kills, self.chance = root, kills, chance
        self.references: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.seconds = 0.0

    def undisturbed(self, seed: int, *overrides: str) -> dict[str, Any]:
        """Return the contents of the run without a fault."""
        key = (seed, *overrides)
        if key not in self.references:
            began = time.monotonic()
            folder = self.root / f"undisturbed-{len(self.references)}"
            finish(folder, seed, *overrides)
            self.seconds = self.seconds or time.monotonic() - began
            self.references[key] = remains(folder)
        return self.references[key]

    def _at_random(self, number: int, name: str, times: int, code: int) -> int:
        """Send a signal at random moments until it hit `times` times; each run is resumed until it is finished."""
        hits = seed = 0
        while hits < times:
            reference, folder = self.undisturbed(seed % 3), self.root / f"{name}-{seed}"
            while True:
                process = begin(folder, seed % 3)
                got = ended(process, self.chance.uniform(0, self.seconds))
                if got is None:
                    os.kill(process, number)
                    got = wait(process)
                if got == 0:
                    break
                if got != code and not (got == -number):  # before its handler is installed, a signal ends the process
                    raise Lost(f"exit code {got}\n{said(folder)}")
                hits += 1
            compare(folder, reference)
            seed += 1
        return hits

    def killed_at_random(self) -> int:
        """SIGKILL at random moments, most of them during a save."""
        return self._at_random(signal.SIGKILL, "killed", self.kills, -signal.SIGKILL)

    def told_to_end(self) -> int:
        """SIGTERM at random moments: the run saves its state and exits with 143."""
        return self._at_random(signal.SIGTERM, "terminated", max(1, self.kills // 4), 143)

    def interrupted(self) -> int:
        """SIGINT (Ctrl+C) at random moments: the run saves its state and exits with 130."""
        return self._at_random(signal.SIGINT, "interrupted", max(1, self.kills // 10), 130)

    def hung_up(self) -> int:
        """SIGHUP (a closed terminal) at random moments: the run saves its state and exits with 129."""
        return self._at_random(signal.SIGHUP, "hung-up", max(1, self.kills // 10), 129)

    def killed_within_a_save(self) -> int:
        """SIGKILL before each single step of a save: writing, syncing, renaming, linking, removing."""
        steps = [(os, "fsync"), (Path, "replace"), (os, "link"), (Path, "unlink"), (torch, "save")]
        hits = 0
        for place, name in steps:
            for call in (1, 2, 7, 20):
                folder = self.root / f"within-{name}-{call}"

                def kill_there(place: Any = place, name: str = name, call: int = call) -> None:
                    real, left = getattr(place, name), [call]

                    def counted(*arguments: Any, **named: Any) -> Any:
                        left[0] -= 1
                        if not left[0]:
                            os.kill(os.getpid(), signal.SIGKILL)
                        return real(*arguments, **named)

                    setattr(place, name, counted)

                if wait(begin(folder, 0, *SHORT, prepare=kill_there)) != -signal.SIGKILL:
                    raise Lost(f"{name} was not called {call} times: the fault was not injected")
                hits += 1
                finish(folder, 0, *SHORT)
                compare(folder, self.undisturbed(0, *SHORT))
        return hits

    def killed_before_each_final_write(self) -> int:
        """SIGKILL before each write after the last iteration: state, evaluation, log, generator, results, `DONE`."""
        every = max(1, 50 // self.kills)
        hits = 0
        for place in count(1 + self.chance.randrange(every), every):
            folder = self.root / f"final-{place}"
            code = wait(begin(folder, 0, *BRIEF, prepare=lambda place=place: kill_before_write(place)))
            if code != -signal.SIGKILL:
                break
            hits += 1
            finish(folder, 0, *BRIEF)
            compare(folder, self.undisturbed(0, *BRIEF))
        if code or hits * every < 50:
            raise Lost(f"after {hits} places, exit code {code}\n…{said(folder)}")
        return hits

    def disk_full(self) -> int:
        """Files cannot grow for a while: the run continues, and writes checkpoints and log lines later."""
        for limit in LIMITS:
            folder = self.root / f"full-{limit}"
            process = self._half_way(folder, limit)
            if ended(process, 0.3) is not None:
                raise Lost(f"the run ended\n…{said(folder)}")
            for path in (folder / "checkpoints").glob("*.pt"):
                read_state(path)  # every file is complete
            resource.prlimit(process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            if wait(process):
                raise Lost(f"the run failed\n…{said(folder)}")
            self._compare_rare(folder, "could not be written (File too large)")
        return len(LIMITS)

    def disk_full_at_the_start(self) -> int:
        """A killed run is resumed while files cannot grow: its log lines wait, and are written when there is space."""
        folder, words = self.root / "full-at-the-start", "metrics.jsonl cannot be written (File too large)"
        process = begin(folder, 0, *RARELY)
        self._until(folder, process, 800)
        os.kill(process, signal.SIGKILL)
        wait(process)
        limits = START_LIMIT, resource.RLIM_INFINITY
        process = begin(folder, 0, *RARELY, prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
        deadline = time.monotonic() + 60
        while words not in said(folder):
            if time.monotonic() > deadline or ended(process, 0.01) is not None:
                raise Lost(f"the run did not start without its log\n…{said(folder)}")
        resource.prlimit(process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if wait(process):
            raise Lost(f"the run failed\n…{said(folder)}")
        self._compare_rare(folder, words)
        return 1

    def disk_full_at_the_end(self) -> int:
        """The results cannot be written: the run reports this and exits with 1; the same command writes them later."""
        for limit in LIMITS:
            folder = self.root / f"full-at-the-end-{limit}"
            if (code := wait(self._half_way(folder, limit))) != 1:
                raise Lost(f"exit code {code}, not 1\n…{said(folder)}")
            finish(folder, 0, *RARELY)
            self._compare_rare(folder, "trained, but the results cannot be written (File too large)")
        return len(LIMITS)

    def small_disk(self) -> int:
        """The disk is full for a while: the run continues, or is resumed when there is space."""
        disk, hits = self.root / "small-disk", 0
        with mounted(disk, DISK_BYTES):
            for number in range(max(3, self.kills // 10)):
                folder = disk / f"run-{number}"
                output = self.root / f"small-disk-{number}.log"
                folder.with_suffix(".log").symlink_to(output)
                process = begin(folder, 0, *RARELY)
                self._until(folder, process, 40 * self.chance.randrange(1, 40))
                filler = fill(disk)
                code = self._told(folder, process, "(No space left on device)")
                if code is None:  # the first run ends on the full disk
                    code = ended(process, 600 if number == 0 else self.chance.uniform(0, self.seconds / 2))
                filler.unlink()
                code = wait(process) if code is None else code
                if code not in (0, 1):
                    raise Lost(f"exit code {code}\n…{said(folder)}")
                finish(folder, 0, *RARELY)
                self._compare_rare(folder, "(No space left on device)")
                shutil.rmtree(folder)
                hits += 1
        return hits

    def deleted_folder(self) -> int:
        """The run's folder is deleted or moved while it trains: the run stops with 1, and is resumed where it says."""
        away = self.root / "moved-there"
        for number, lose in enumerate((lambda path: path.rename(away), lambda path: shutil.rmtree(path, True))):
            folder = self.root / f"deleted-{number}"
            process = begin(folder, 0, *RARELY)
            self._until(folder, process, 40 * self.chance.randrange(1, 40))
            lose(folder)
            if (code := wait(process)) != 1:
                raise Lost(f"exit code {code}, not 1\n…{said(folder)}")
            place = re.search(r"; (?:paths\.run=(.+)|the same command) resumes it$", said(folder), re.MULTILINE)
            if not place:
                raise Lost(f"the output does not say where the state is\n…{said(folder)}")
            kept = Path(place[1] or folder)
            finish(kept, 0, *RARELY)
            reference, found = self.undisturbed(0, *RARELY), remains(kept)
            if kept != away:  # what the folder held is gone: older states, and the log up to there
                reference = {part: value for part, value in reference.items() if part != "older checkpoints"}
                reference["log"] = reference["log"][-len(found["log"]) :]
                if "best" not in found:
                    del reference["best"]
            compare(kept, reference)
        return 2

    def read_only(self) -> int:
        """The checkpoint folder is read-only for a while (removed if the user is root): the run continues."""
        folder, root = self.root / "read-only", os.getuid() == 0
        states, away = folder / "checkpoints", folder / "away"
        process = begin(folder, 0, *RARELY)
        self._until(folder, process, 400)
        if root:
            states.rename(away)
            states.touch()  # a file: nothing can be written below it
        else:
            states.chmod(0o555)
        if ended(process, 0.3) is not None:
            raise Lost(f"the run ended\n…{said(folder)}")
        if root:
            states.unlink()
            away.rename(states)
        else:
            states.chmod(0o755)
        if wait(process):
            raise Lost(f"the run failed\n…{said(folder)}")
        self._compare_rare(folder, "could not be written (")
        return 1

    def damaged_state(self) -> int:
        """`last.pt` is truncated after the run: this is reported, and the run resumes from an older checkpoint."""
        folder, hits = self.root / "damaged", 0
        process = begin(folder, 0)
        self._until(folder, process, 400)
        os.kill(process, signal.SIGKILL)
        wait(process)
        last = folder / "checkpoints" / "last.pt"
        whole = last.read_bytes()
        for size in (0, 100, len(whole) // 2, len(whole) - 1):
            last.unlink()  # an older checkpoint may be the same file
            last.write_bytes(whole[:size])
            if (code := wait(begin(folder, 0))) != 2:
                raise Lost(f"truncated to {size} bytes, the run exited with {code}")
            hits += 1
        if "cannot be read as a checkpoint" not in said(folder):
            raise Lost(f"the error was not reported\n…{said(folder)}")
        last.write_bytes(sorted((folder / "checkpoints").glob("[0-9]*.pt"))[0].read_bytes())
        finish(folder, 0)
        compare(folder, self.undisturbed(0))
        return hits

    def job_killed(self) -> int:
        """SIGKILL to a job of a sweep (sequential, joblib, submitit): the others run; the same command resumes it."""
        launchers = [(), ("sweep=joblib",), ("sweep=submitit",)] * (self.kills // 25) or [()]
        hits = tries = 0
        while hits < len(launchers):
            if tries == 10 * len(launchers):
                raise Lost(f"{hits} of {tries} jobs were killed: the fault was not injected")
            folder = self.root / f"job-{tries}-${{seed}}"  # Hydra fills in the seed
            words = ("0,1", "-m", f"hydra.sweep.dir={self.root}/sweep-{tries}", *SHORT, *launchers[hits])
            runs = [self.root / f"job-{tries}-{seed}" for seed in (0, 1)]
            process, run = begin(folder, *words), self.chance.choice(runs)
            while not at_work(run):
                if ended(process, 0.02) is not None:
                    raise Lost(f"the job was not started\n…{said(folder)}")
            time.sleep(self.chance.uniform(0, self.seconds / 10))  # SHORT is a tenth
            if worker := at_work(run):
                os.kill(worker, signal.SIGKILL)
            code = wait(process)
            if code not in (0, 128 + signal.SIGKILL):
                raise Lost(f"exit code {code}\n…{said(folder)}")
            if code and not all((other / "DONE").exists() for other in runs if other != run):
                raise Lost(f"the other job did not run\n…{said(folder)}")
            finish(folder, *words)
            for seed, each in enumerate(runs):
                compare(each, self.undisturbed(seed, *SHORT))
            hits, tries = hits + bool(code), tries + 1
        return hits

    def _until(self, folder: Path, process: int, nimg: int) -> None:
        """Wait until the run has logged this number of images."""
        log, deadline = folder / "metrics.jsonl", time.monotonic() + 60
        while not (log.is_file() and f'"nimg": {nimg},' in log.read_text()):
            if time.monotonic() > deadline or ended(process, 0.002) is not None:
                raise Lost(f"the run did not reach {nimg} images\n…{said(folder)}")

    def _told(self, folder: Path, process: int, words: str) -> int | None:
        """Wait until the run prints these words; return its exit code if it ends before, else None."""
        while words not in folder.with_suffix(".log").read_text():
            if (code := ended(process, 0.01)) is not None:
                return code
        return None

    def _half_way(self, folder: Path, limit: int) -> int:
        """Return the process of a half-finished run whose files cannot grow beyond `limit` bytes from now on."""
        process = begin(folder, 0, *RARELY)
        self._until(folder, process, 400)
        resource.prlimit(process, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return process

    def _compare_rare(self, folder: Path, words: str) -> None:
        """Compare all but the older checkpoints, some of which could not be written, and require the message."""
        if words not in folder.with_suffix(".log").read_text():
            raise Lost(f"the output lacks {words!r}\n…{said(folder)}")
        reference = self.undisturbed(0, *RARELY)
        compare(folder, {part: value for part, value in reference.items() if part != "older checkpoints"})


def all_of(faults: Faults) -> Iterator[tuple[str, Callable[[], int]]]:
    """Yield every fault by name."""
    for name in vars(Faults):
        if not name.startswith("_") and name != "undisturbed":
            yield name, getattr(faults, name)


def main() -> int:
    """Inject the faults and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="number of SIGKILLs at random moments")
    parser.add_argument("--seed", type=int, default=None, help="seed of the moments (default: random)")
    parser.add_argument("--only", nargs="+", default=None)
    arguments = parser.parse_args()
    os.environ["MIXGAN_CACHE"] = tempfile.mkdtemp()
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"random moments: --seed {seed}\n\n| fault | times | lost | seconds |\n|---|---|---|---|", flush=True)
    lost = 0
    with tempfile.TemporaryDirectory() as root:
        faults = Faults(Path(root), arguments.kills, random.Random(seed))
        faults.undisturbed(0)
        for name, do in all_of(faults):
            if arguments.only and name not in arguments.only:
                continue
            began = time.monotonic()
            try:
                times, what = do(), "nothing"
            except Skipped as error:
                times, what = 0, str(error)
            except Lost as error:
                times, what, lost = 0, f"**{error}**", lost + 1
            print(
                f"| {(do.__doc__ or name).rstrip('.')} | {times} | {what} | {time.monotonic() - began:.0f} |",
                flush=True,
            )
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
