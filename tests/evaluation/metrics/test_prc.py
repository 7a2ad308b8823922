import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.conftest import colours, evaluator

MEASURED = """
import re, torch
from pathlib import Path
from mixgan_cli.evaluation.metrics.prc import memory_of_precision_recall, precision_recall

def megabytes(field):
    return int(re.search(rf"{field}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

precision_recall(torch.randn(50, 64), torch.randn(50, 64))
features = torch.randn(8000, 64), torch.randn(7000, 64)
before = megabytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
precision_recall(*features)
print(megabytes("VmHWM") - before, memory_of_precision_recall(8000, 64) / 2**20)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read as Linux tells it")
@pytest.mark.integ
def test_precision_recall_memory_is_an_upper_bound():
    told = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True).stdout
    took, estimated = map(float, told.split())
    assert 4 * 2000 * 8000 / 2**20 < took < estimated


def test_precision_recall_refuses_too_little_memory(known, monkeypatch):
    monkeypatch.setattr("mixgan_cli.evaluation.metrics.prc.total_memory", lambda: 2**20)
    result = evaluator(colours(50), *known, "evaluation.metrics=[prc,ms_ssim]").measure(colours(50), {})
    assert set(result.unavailable) == {"precision_known", "recall_known"}
    assert "50 samples would take" in result.unavailable["recall_known"] and "GiB" in result.unavailable["recall_known"]
    assert set(result.metrics) == {"ms_ssim", "ms_ssim_real"}
