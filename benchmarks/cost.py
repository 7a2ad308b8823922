"""What the reproduce targets cost: products and convolutions counted here, a GPU's hours estimated from them.

Each target's commands are taken from the Makefile, every configuration of their sweeps is composed and one of its
iterations counted, with a smaller batch where that changes nothing but the scale. Nothing of this was measured on a
GPU: an iteration is taken for FLOP / SUSTAINED + operations × LAUNCH, stated below. What is measured on this machine is
the speed of its CPU at a few configurations (docs/performance.md), from which the last column follows.
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
from mixgan_cli.config.schema import Run, conf_dir, parse
from mixgan_cli.models.networks import build_networks
from mixgan_cli.reporting.tables import to_markdown
from mixgan_cli.runtime.device import resolve_hardware
from mixgan_cli.runtime.measure import OpCounter
from mixgan_cli.sweeps.plan import plan
from mixgan_cli.training.loop import iterate
from mixgan_cli.training.setup import begin

ROOT = Path(__file__).parents[1]
SUSTAINED = 20e12
"""FLOP a second of small convolutions on an H100 in bf16, assumed: a fiftieth of what its data sheet says."""
LAUNCH = 3e-6
"""Seconds of an operation on a GPU at the least, recorded as a CUDA graph, assumed."""
CPU = 120e9
"""FLOP a second of two cores, measured: 0.7 of their ceiling, as most models reach (docs/performance.md)."""
HOST = 40e-6
"""Seconds of an operation on the CPU beside its arithmetic: mggan_ring's, measured (20,000 iterations in 317 s)."""
N_TRAIN = {"mnist": 60_000, "fashion_mnist": 60_000, "utzap50k": 45_025, "flowers102": 7_189, "celeba": 192_599}
"""Training images of the sets whose runs are measured in epochs, by the choice of `data=`."""
SMALLER = 8
"""By how much the batch is divided to count an iteration."""


def main() -> None:
    """Print the table."""
    makefile = (ROOT / "Makefile").read_text()
    rows = []
    for target in re.findall(r"^(reproduce-[a-z0-9_-]+):", makefile, re.MULTILINE):
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
                "images a run, millions": shown,
                "GPU-hours, estimated": f"{gpu / 3600:,.2g}" if gpu < 36000 else f"{gpu / 3600:,.0f}",
                "days of two CPU cores, estimated": f"{cpu / 86400:,.2g}" if cpu < 864000 else f"{cpu / 86400:,.0f}",
            }
        )
        print(rows[-1], flush=True)
    print(to_markdown(rows))


def commands(target: str) -> Iterator[list[str]]:
    """Yield the words of each `mixgan train` that a target runs."""
    made = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for part in re.split(r"\n|;|&&|\|\|", made.replace("\\\n", " ")):
        words = shlex.split(part)
        if words[1:2] == ["train"] and words[0].endswith("/mixgan"):
            yield words[2:]


def seconds(overrides: tuple[str, ...]) -> tuple[int, float, float]:
    """Return a run's images, and the seconds it takes on a GPU and on the CPU."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", [*overrides, "hardware=cpu"])
        if "root" in config.data:
            config.data.root = "anywhere"
        smaller = SMALLER if config.training.fakes is None else 1
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
