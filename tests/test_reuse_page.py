"""Every block of docs/reuse.md, run one after the other on a tiny run: commands, and Python in one namespace."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from tests.conftest import TINY
from tests.evaluation.conftest import KnownLogits

PAGE = (Path(__file__).parents[1] / "docs" / "reuse.md").read_text()
BLOCKS = re.findall(r"```(console|python)\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("model", ["hmog", "mggan"])
def test_blocks_of_the_page_run(mixgan, monkeypatch, model):
    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "inception-v3-compat", KnownLogits)  # no weights to download
    few = ("evaluation=none", "training.figures=false", f"model={model}", "model.latent.distribution=normal")
    assert mixgan("train", *TINY, *few, "paths.run=outputs/RUN").code == 0
    Path("reals").mkdir()
    for number in range(20):
        pixels = np.random.default_rng(number).integers(256, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"reals/{number}.png")
    known: dict = {}
    for kind, block in BLOCKS:
        if kind == "python":
            exec(block, known)
            continue
        for line in block.splitlines():
            outcome = mixgan(*shlex.split(line, comments=True)[1:])
            assert outcome.code == 0, outcome.err
    assert known["usual"].shape == (16, 1, 8, 8) and not torch.equal(known["usual"], known["third"])
    assert torch.equal(known["again"], known["generator"].sample(16, seed=0)) or known["generator"].hard
    assert known["metrics"]["frechet_inception_distance"] > 0
    assert known["images"].shape == (16, 1, 8, 8) and known["images"].dtype == np.uint8
    assert np.load("adm.npz")["arr_0"].shape == (1000, 8, 8, 3)
    assert torch.equal(known["between"][0], known["generator"].sample(1, seed=5, expert=2)[0])
    assert len(list(Path("third").iterdir())) == 64 and Path("path.png").is_file()
    assert len(list(Path("outputs/RUN/samples").glob("seed*-truncation0.7-n64.png"))) == 3


def test_page_has_a_command_block_and_python_blocks():
    assert [kind for kind, _ in BLOCKS].count("python") >= 7 and BLOCKS[0][0] == "console"
