"""The wheel, installed elsewhere, finds its configuration and trains from another folder."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mixgan_cli.config.compose import groups
from mixgan_cli.models.pretrained import pretrained_models
from mixgan_cli.reporting.published import FOLDER
from tests.conftest import TINY

pytestmark = pytest.mark.integ

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_contains_every_yaml_and_the_published_values(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for group, choices in groups().items():
        for choice in choices:
            assert f"mixgan_cli/conf/{group}/{choice}.yaml" in names
    assert "mixgan_cli/conf/config.yaml" in names
    for path in FOLDER.iterdir():
        assert f"mixgan_cli/reporting/{FOLDER.name}/{path.name}" in names
    for model in pretrained_models():
        assert f"mixgan_cli/models/pretrained_weights/{model}/generator.safetensors" in names


def test_installed_wheel_trains(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    where = subprocess.run(
        [sys.executable, "-c", "import mixgan_cli; print(mixgan_cli.__file__)"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(site)
    settings = [setting for setting in TINY if not setting.startswith("training.nimg")]
    trained = subprocess.run(
        [site / "bin" / "mixgan", "train", *settings, "training.nimg=2048"],
        cwd=elsewhere, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    run_dir = elsewhere / json.loads(trained.stdout.splitlines()[-1])["run_dir"]
    assert (run_dir / "DONE").is_file()
