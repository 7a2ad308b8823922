"""Estimate the cost of the reproduce targets from the FLOP and operations of their iterations.

The commands of each target are read from the Makefile. Every configuration of their sweeps is composed, and one of its
iterations is counted, with a smaller batch where the counts are proportional to it. The GPU column is not measured: the
time of an iteration is estimated as FLOP / SUSTAINED + operations × LAUNCH. The CPU column uses the speed that was
measured with a few configurations (docs/performance.md).
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from mixgan_cli.commands.bench import noise
from mixgan_cli.config.components import build
from mixgan_cli.config.parse import parse
from mixgan_cli.config.schema import Run, conf_dir
from mixgan_cli.models.networks import build_networks
from mixgan_cli.reporting.tables import to_markdown
from mixgan_cli.runtime.device import resolve_hardware
from mixgan_cli.runtime.measure import OpCounter
from mixgan_cli.sweeps.plan import plan
from mixgan_cli.training.loop import iterate
from mixgan_cli.training.setup import begin

ROOT = Path(__file__).parents[1]
SUSTAINED = 20e12
"""FLOP/s of small convolutions on an H100 in bf16. Assumed: a fiftieth of the data sheet's value."""
LAUNCH = 3e-6
"""Minimum time of an operation in a CUDA graph [s]. Assumed."""
CPU = 120e9
"""FLOP/s of two CPU cores. Measured: most models reach 0.7 of the ceiling (docs/performance.md)."""
HOST = 40e-6
"""Overhead of an operation on the CPU [s]. Measured with mggan_ring (20,000 iterations in 317 s)."""
N_TRAIN = {"mnist": 60_000, "fashion_mnist": 60_000, "utzap50k": 45_025, "flowers102": 7_189, "celeba": 192_599}
"""Number of training images, by the choice of `data=`, for runs whose length is given in epochs."""
SMALLER = 8
"""Divisor of the batch size while an iteration is counted."""


def main() -> None:
    """Print the table."""
    makefile = (ROOT / "Makefile").read_text()
    rows = []
    for target in re.findall(r"^(reproduce-[a-z0-9_-]+): setup", makefile, re.MULTILINE):
        runs, images, gpu, cpu = 0, set(), 0.0, 0.0
        for words in commands(target):
            jobs = [tuple(job) for job in (plan("config", words).planned or ())]
            without_seed = [tuple(word for word in job if not word.startswith("seed=")) for job in jobs]
            for job in dict.fromkeys(without_seed):
                nimg, on_gpu, on_cpu = seconds(job)
                times = without_seed.count(job)
                runs, images = runs + times, images | {nimg}
                gpu, cpu = gpu + times * on_gpu, cpu + times * on_cpu
        shown = " to ".join(f"{n / 1e6:,.1f}" for n in sorted({min(images), max(images)}))
        rows.append(
            {
                "target": f"`{target}`",
                "runs": runs,
                "images per run, millions": shown,
                "GPU-hours, estimated": f"{gpu / 3600:,.2g}" if gpu < 36000 else f"{gpu / 3600:,.0f}",
                "days on two CPU cores, estimated": f"{cpu / 86400:,.2g}" if cpu < 864000 else f"{cpu / 86400:,.0f}",
            }
        )
        print(rows[-1], flush=True)
    print(to_markdown(rows))


def commands(target: str) -> Iterator[list[str]]:
    """Yield the overrides of each `mixgan train` command that a target runs."""
    made = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for part in re.split(r"\n|;|&&|\|\|", made.replace("\\\n", " ")):
        words = shlex.split(part)
        if words[1:2] == ["train"] and words[0].endswith("/mixgan"):
            yield words[2:]


def seconds(overrides: tuple[str, ...]) -> tuple[int, float, float]:
    """Return the number of images of a run, and its estimated time on a GPU and on the CPU [s]."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", [*overrides, "hardware=cpu"])
        if "root" in config.data:
            config.data.root = "anywhere"
        divisible = config.training.fakes is None and config.model.pack == 1 and "size" in config.data  # not of points
        smaller = SMALLER if divisible else 1
        config.training.batch //= smaller
        settings: Run = parse(config, Run)
    source, compute = build(settings.data), resolve_hardware(settings.hardware)
    state = begin(settings, build_networks(settings.model, source.shape), noise(source), compute)
    with OpCounter(lambda dtype, flops, moved: 0.0) as counted:
        iterate(state, 0)
    flops = sum(counted.flops.values()) * smaller
    shown = state.phases.n_real * smaller
    data = next((word.removeprefix("data=") for word in overrides if word.startswith("data=")), "")
    nimg = settings.training.in_images(N_TRAIN.get(data)).total_nimg
    iterations = nimg / shown
    on_gpu, on_cpu = flops / SUSTAINED + counted.operations * LAUNCH, flops / CPU + counted.operations * HOST
    return nimg, iterations * on_gpu, iterations * on_cpu


if __name__ == "__main__":
    main()
