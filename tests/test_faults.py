"""`make faults` with fewer kills at random moments: nothing is lost. `make test-all` kills as often as it does.

Jobs of joblib and submitit are killed in tests/sweeps/test_launchers.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ALL

KILLS = "50" if ALL else "6"
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.integ
def test_nothing_is_lost():
    done = subprocess.run([sys.executable, str(SCRIPT), "--kills", KILLS], capture_output=True, text=True, check=False)
    print(done.stdout)
    rows = [line.split("|")[2:4] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert done.returncode == 0 and len(rows) == 14, done.stdout + done.stderr[-2000:]
    tried = [(int(times), lost.strip()) for times, lost in rows if "cannot be mounted" not in lost]
    assert len(tried) >= 13 and all(times > 0 and lost == "nothing" for times, lost in tried)
    assert int(rows[0][0]) >= int(KILLS)
