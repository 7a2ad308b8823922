"""`make gallery`: write docs/gallery.md and its pictures, samples of the generators that come with mixgan."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import mixgan_cli
from docs.study import markdown
from mixgan_cli.models.pretrained import FOLDER, SCHEME, pretrained_models
from mixgan_cli.models.sampler import Sampler
from mixgan_cli.reporting.plots.run import write_grid
from mixgan_cli.runs import RunFolder
from mixgan_cli.runtime.io import write_text

PAGE = Path(__file__).with_name("gallery.md")
PICTURES = Path(__file__).parent / "images" / "gallery"
COLUMNS = 12
SAMPLES = 3 * COLUMNS
"""Samples at the top of a picture."""
DRAWN = 1000
"""Samples from which those of each expert are chosen."""
START = """# Generators that come with mixgan

These generators were trained on Fashion-MNIST (32 × 32 pixels), and their weights are stored in 16-bit floating point.
They are small examples: the networks are thin and the loss is not that of the papers. `make models` trains them again
(`experiment=fashion_mnist_small`), and `make gallery` writes this page.

```console
mixgan sample run=model://hmog-fashion n=64
```

```python
import mixgan_cli

generator = mixgan_cli.load("model://hmog-fashion")
images = generator.sample(16, seed=0, expert=3)  # uint8 [16, C, H, W]
```

"""
PROTOCOL = """
Each generator was trained with one seed, and differences between single runs say little about the models.
`fid_classifier` compares 10,000 samples with the 10,000 test images, in the features of a classifier of the training
images (`evaluation.extractors=[classifier]`). MS-SSIM measures how similar the samples are to each other; a value near
that of the test images is best. The NMI is 1 if the expert determines the class of an image, and 0 if the two are
independent. All values were measured before the weights were rounded to 16 bits.

"""


def table() -> str:
    """Return the table of all generators: size, training and metrics."""
    rows = [["generator", "K", "parameters", "file [KB]", "training [images]", "`fid_classifier` ↓", "MS-SSIM", "NMI"]]
    for name in pretrained_models():
        folder = RunFolder(FOLDER / name)
        results, size = folder.read_results(), (folder.path / "generator.safetensors").stat().st_size
        metrics, run, k = results.metrics, results.run, folder.read_config()["model"]["k"]
        values = [
            f"{metrics['fid_classifier']:.1f}",
            f"{metrics['ms_ssim']:.3f}",
            f"{metrics['nmi']:.2f}" if k > 1 else "–",
        ]
        sizes = [f"{k}", f"{run['parameters']['generator']:,}", f"{size / 1000:.0f}", f"{run['nimg']:,}"]
        rows.append([f"[`{SCHEME}{name}`](#{name})", *sizes, *values])
    rows.append(["test images", *["–"] * 5, f"{metrics['ms_ssim_real']:.3f}", "–"])
    return markdown(rows)


def pictured(sampler: Sampler) -> Tensor:
    """Return the images of a picture, uint8 [N, C, H, W], COLUMNS in a row: samples; a gap; a row for each expert.

    The row of an expert has the first of DRAWN samples in which it has the largest weight.
    """
    fakes = sampler.draw(DRAWN, seed=0)
    parts = [fakes.samples[:SAMPLES]]
    if sampler.k > 1:
        white = torch.full_like(fakes.samples[:COLUMNS], 255)
        strongest = fakes.weights_BK.argmax(dim=1)
        rows = [torch.cat([fakes.samples[strongest == k], white])[:COLUMNS] for k in range(sampler.k)]
        parts += [white, *rows]
    return torch.cat(parts)


def section(name: str) -> str:
    """Return the part of the page about one generator: its picture and what the picture shows."""
    folder = RunFolder(FOLDER / name)
    usage = folder.read_results().metrics["expert_usage"]
    caption = f"{SAMPLES} samples, with seed 0"
    if len(usage) > 1:
        caption = (
            f"Above: {caption}. Below: samples in which one expert has the largest weight, one row for each expert"
        )
        caption += f". Usage of the experts: {', '.join(f'{share:.0%}'.replace('%', ' %') for share in usage)}"
        if rare := [f"{k}" for k, share in enumerate(usage) if share < 0.02]:
            caption += f". The gate rarely chooses expert {', '.join(rare)}"
    card = (FOLDER / name / "MODEL.md").relative_to(PAGE.parents[1])
    lines = [f"## {name}", f"![Samples of {name}](images/gallery/{name}.png)", f"*{caption}.* [Model card](../{card})"]
    return "\n\n".join(lines)


def page() -> str:
    """Return the page as Markdown."""
    return START + table() + "\n" + PROTOCOL + "\n\n".join(map(section, pretrained_models())) + "\n"


def draw() -> None:
    """Draw the pictures of all generators."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in pretrained_models():
        write_grid(PICTURES / f"{name}.png", pictured(mixgan_cli.load(f"{SCHEME}{name}")), COLUMNS)


if __name__ == "__main__":
    write_text(PAGE, page())
    draw()
