"""Run every command and every Python block of README and docs on a small scale, and check that every link exists.

A sweep runs two values of its first key and one value of the others. Networks, images and protocols are set by SMALL,
and data sets have the official layout with a few images. Commands within a sentence, and those in NOT_HERE, are only
composed.
"""

import re
import shlex
import shutil
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mixgan_cli.cli import COMMANDS
from mixgan_cli.commands import bench
from mixgan_cli.config.components import build
from mixgan_cli.models.networks import build_networks
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime import measure
from mixgan_cli.runtime.measure import Ceilings
from mixgan_cli.sweeps.plan import with_first_value
from mixgan_cli.training.checks import check_networks
from tests.conftest import MGGAN, TINY, composed, composition, program
from tests.data.make import as_pickles, in_a_folder, picture, write_idx

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
SHOWN = sorted(
    {
        line.partition("#")[0].removeprefix("srun ").strip()
        for block in re.findall(r"```(?:console|bash)\n(.*?)```", TEXT, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    }
)
EXAMPLES = {command.example.replace("DIR", "outputs/RUN") for command in COMMANDS.values()}
RUN = sorted({command for command in SHOWN if command.split()[0] == "mixgan"} | EXAMPLES)
NOT_HERE = {
    r"(sweep|hardware)=slurm": "a SLURM cluster; tests/sweeps/test_launchers.py simulates one",
    r"hardware\.nodes=2": "a second machine",
    r"(continue|start_from)=": "a run of yours; tests/training/test_lineage.py has one",
}
"""Commands that need something that is missing here, with what they need: they are only composed."""
INSTEAD = {"sweep.optimize=fid": "sweep.optimize=ms_ssim"}
"""Replacements for overrides that need the Inception weights."""
BEST = Ceilings({torch.float32: 1e10, torch.bfloat16: 1e10}, bandwidth=1e10)
"""Speeds of an imaginary machine, because measuring this one takes minutes."""
SMALL = {
    "training.nimg": 64, "training.batch": 8, "training.fakes": "null", "training.report_nimg": 16,
    "training.sample_nimg": 64, "training.evaluate_nimg": "null", "training.checkpoint_nimg": 32,
    "data.size": 8, "data.held_out": 4, "model.backbone.channels": 4,
    "evaluation.n_fake": 16, "evaluation.n_real": 16, "evaluation.interim": "null", "evaluation.download": "false",
    "hardware.device": "cpu", "hardware.devices": 1, "hardware.threads": 1, "sweep.jobs": 1,
    "hydra.sweeper.n_trials": 2, "training.figures": "false",
}  # fmt: skip
"""Overrides of each command that has such a key. Several processes are tested in tests/runtime/test_distributed.py and
tests/sweeps/test_launchers.py."""


def first_job(words):
    """Return the overrides of a command's first run."""
    overrides = OverridesParser.create().parse_overrides([word for word in words if "=" in word])
    return [with_first_value(override) for override in overrides]


def made_small(name, *words):
    """Return the command's words with fewer swept values and with SMALL."""
    values = iter([2])
    kept = []
    for word in words:
        override = OverridesParser.create().parse_override(word) if "=" in word else None
        if override and override.is_choice_sweep() and "search=optuna" not in words:
            first = list(override.sweep_string_iterator())[: next(values, 1)]
            word = f"{override.get_key_element()}={','.join(first)}"
        kept.append(INSTEAD.get(word, word))
    config = composition(*first_job(words), of=COMMANDS[name].config, hydra=True)
    for key, value in SMALL.items():
        group, _, last = key.rpartition(".")
        if last in (OmegaConf.select(config, group) or ()):
            kept.append(f"{key}={value}")
    return [name, *kept]


RECORDS = ROOT / "docs" / "records"


def test_table_of_stacked_mnist_has_its_records_values():
    runs = defaultdict(list)
    for folder in map(RunFolder, (RECORDS / "stacked_mnist").iterdir()):
        config, results = folder.read_config(), folder.read_results()
        key = f"{results.run['parameters']['generator']:,}", config["model"]["name"], config["model"]["pack"]
        values = results.metrics["stacked_kl"], results.metrics["stacked_modes"]
        runs[key].append((str(config["seed"]), f"{values[0]:.2f}", str(values[1])))
    wanted = [(size, *map(", ".join, zip(*sorted(of), strict=True))) for (size, *_), of in runs.items()]
    section = (ROOT / "docs" / "results.md").read_text().partition("## Stacked MNIST")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| .*", section, re.M)]
    assert sorted((row[1], row[2], row[4], row[5]) for row in rows[1:]) == sorted(wanted)


@pytest.fixture(scope="session")
def files(tmp_path_factory, finished_run):
    """Return a folder with what the commands need: two runs, a sweep, images of several kinds, and data sets."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        mixgan = program(folder, patch)
        for name, overrides in (("RUN", ()), ("OTHER", MGGAN)):
            shutil.copytree(finished_run(*overrides), folder / "outputs" / name)
        assert mixgan("train", "-m", *TINY, "sweep.name=betas", "model=mggan", "model.beta=0,1").code == 0
    for name in ("pictures", "samples", "reals", "faces/img_align_celeba"):
        suffix, width, height = ("jpg", 178, 218) if "faces" in name else ("png", 8, 8)
        for number in range(1, 25):
            picture(folder / name / f"{number:06d}.{suffix}", width, height, 10 * number)
    for archive, source in (("samples", "samples"), ("generated", "reals"), ("img_align_celeba", "faces")):
        with zipfile.ZipFile(folder / f"{archive}.zip", "w") as file:
            for path in sorted((folder / source).rglob("*.*")):
                file.write(path, path.relative_to(folder / source))
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    np.save(folder / "fashion_train.npy", images[:, :8, :8])
    for name in ("MNIST", "FashionMNIST"):
        for part in ("train", "t10k"):
            write_idx(folder / "data" / name / "raw" / f"{part}-images-idx3-ubyte", images)
            write_idx(folder / "data" / name / "raw" / f"{part}-labels-idx1-ubyte", np.arange(40, dtype=np.uint8) % 10)
    in_a_folder(as_pickles, folder / "data")
    (folder / "inception.pth").write_bytes(b"weights")
    shutil.copytree(RECORDS, folder / "docs" / "records")
    return folder


@pytest.fixture
def there(files, tmp_path, monkeypatch):
    """Copy these files to the current folder, and point $MIXGAN_DATA to the data sets."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("MIXGAN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(measure, "MIN_SECONDS", 0.001)
    monkeypatch.setattr(bench, "ceilings", lambda *_: BEST)


@pytest.mark.parametrize("command", [command for command in RUN if not re.search("|".join(NOT_HERE), command)])
def test_commands_run(mixgan, there, monkeypatch, tmp_path, command):
    words = shlex.split(command)[1:]
    prints = not words or {"--help", "--cfg", "--protocol"} & set(words)
    if "weights" in words:
        monkeypatch.setenv("MIXGAN_WEIGHTS", str(tmp_path / "inception.pth"))
    before = set(tmp_path.glob("outputs/*"))
    outcome = mixgan(*(words if prints else made_small(*words)))
    assert outcome.code == 0, outcome.err
    if prints:
        assert outcome.out
    elif words[0] == "train":
        runs = [path for path in set(tmp_path.glob("outputs/*")) - before if (path / "DONE").exists()]
        assert runs and len(runs) == outcome.json.get("jobs", {"done": 1})["done"]
    else:
        assert outcome.json


@pytest.mark.parametrize("pattern", NOT_HERE)
def test_what_cannot_run_here_composes(mixgan, pattern):
    commands = [command for command in RUN if re.search(pattern, command)]
    assert commands, "no command in README or docs matches this pattern"
    for command in commands:
        _, name, *words = shlex.split(command)
        outcome = mixgan(name, *first_job(words), "--cfg", "job")
        assert outcome.code == 0 and outcome.out, outcome.err


IN_SENTENCES = sorted(
    command
    for command in set(re.findall(r"`(mixgan \w+ [^`]*)`", TEXT)) - set(RUN)
    if not re.search(r"…|NAME|PATH|DIR|FILE", command)
)


@pytest.mark.parametrize("command", IN_SENTENCES)
def test_commands_in_sentences_compose(mixgan, command):
    _, name, *words = shlex.split(command)
    outcome = mixgan(name, *first_job(words), "--cfg", "job")
    assert outcome.code == 0 and outcome.out, outcome.err


@pytest.mark.parametrize("command", [command for command in RUN if command.startswith("mixgan train ")])
def test_train_commands_build_valid_networks(command):
    """The networks are built and pass all checks; this needs no data."""
    run = composed(*first_job(word for word in shlex.split(command)[2:] if "=" in word))
    shape = build(run.data).shape
    with torch.device("meta"):
        networks = build_networks(run.model, shape)
    check_networks(networks, run.objective, run.training.batch, run.training.fakes)


@pytest.mark.parametrize("command", sorted(set(SHOWN) - set(RUN)))
def test_other_commands_are_targets_of_make(command):
    target = re.fullmatch(r"make ([a-z0-9_-]+)( .*)?", command)
    assert target and f"\n{target[1]}: " in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("message", re.findall(r"^mixgan \w+: \S+=\S+: .*", TEXT, re.MULTILINE))
def test_printed_messages_are_exact(mixgan, message):
    name, override = re.match(r"mixgan (\w+): (\S+):", message).groups()
    outcome = mixgan(name, override)
    assert outcome.code == 2 and outcome.err == f"{message}\n"


TESTED_APART = {"extending.md": "tests/walks", "reuse.md": "tests/test_reuse_page.py"}
"""Pages whose Python blocks depend on each other, with the tests that run them."""
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    if page.name not in TESTED_APART
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_runs(there, block):
    names = {}
    exec(block, names)
    if "images" in names:
        assert names["images"].dtype == torch.uint8 and f"uint8 [{len(names['images'])}, C, H, W]" in block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_theory_names_code_and_tests_that_exist():
    """Each row names a definition of the linked file and a test."""
    page = (ROOT / "docs" / "theory.md").read_text()
    definitions = re.findall(r"\]\(\.\./(mixgan_cli/\S+\.py)\) `(\w+)`", page)
    tests = re.findall(r"`(test_\w+)`", page)
    assert len(definitions) >= 6 and len(tests) >= 12
    for file, name in definitions:
        assert re.search(rf"^(def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE), name
    written = "".join((ROOT / "tests" / f).read_text() for f in ("objectives/test_theory.py", "models/test_mggan.py"))
    assert [name for name in tests if f"def {name}(" not in written] == []
