"""`make faults` with fewer kills at random moments: nothing is lost. `make test-all` kills as often as it does."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ALL

KILLS = "50" if ALL else "12"
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.integ
def test_nothing_is_lost():
    done = subprocess.run([sys.executable, str(SCRIPT), "--kills", KILLS], capture_output=True, text=True, check=False)
    print(done.stdout)
    rows = [line.split("|")[2:4] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert done.returncode == 0 and len(rows) == 11, done.stdout + done.stderr[-2000:]
    assert all(int(times) > 0 and lost.strip() == "nothing" for times, lost in rows)
    assert int(rows[0][0]) >= int(KILLS)
