import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mixgan_cli
from mixgan_cli.models.sampler import truncate
from tests.conftest import MGGAN, TINY

FEW = ("evaluation=none", "training.figures=false")


@pytest.fixture(params=[(), MGGAN], ids=["hmog", "mggan"])
def run(mixgan, finished, request):
    return finished(*request.param)


@pytest.fixture
def hmog(finished):
    return finished()


def test_each_seed_writes_a_file(mixgan, run):
    outcome = mixgan("sample", "-m", f"run={run}", "seed=0,1,2", "n=5", "format=npz", "hardware=cpu")
    assert outcome.code == 0, outcome.err
    written = [np.load(run / "samples" / f"seed{seed}-n5.npz")["images"] for seed in range(3)]
    for seed, images in enumerate(written):
        alone = mixgan_cli.load(run).sample(5, seed=seed).permute(0, 2, 3, 1)
        np.testing.assert_array_equal(images, alone)
    assert not np.array_equal(written[0], written[1])
    assert [path.name for path in Path().iterdir() if path.is_file()] == []  # Hydra's record is in outputs/


def test_npz_has_latents_weights_and_experts(mixgan, run):
    settings = ("seed=3", "n=40", "format=npz", "hardware=cpu", "truncation=0.5")
    printed = mixgan("sample", f"run={run}", *settings).json
    assert printed["truncation"] == 0.5 and printed["to"].endswith("samples/seed3-truncation0.5-n40.npz")
    arrays, generator = np.load(printed["to"]), mixgan_cli.load(run)
    assert list(arrays)[:3] == ["images", "latents", "weights"]
    latents = truncate(generator.latents(40, seed=3), generator.prior, 0.5)
    np.testing.assert_array_equal(arrays["latents"], latents)
    fakes = generator.draw(40, seed=3, truncation=0.5)
    np.testing.assert_array_equal(arrays["images"], fakes.samples.permute(0, 2, 3, 1))
    np.testing.assert_array_equal(arrays["weights"], fakes.weights_BK)
    assert ("experts" in arrays) == generator.hard
    if generator.hard:
        for latent, expert, image in zip(latents, arrays["experts"], arrays["images"], strict=True):
            alone = generator(latent.unsqueeze(0), expert=int(expert))[0].permute(1, 2, 0).numpy()
            assert np.abs(alone.astype(int) - image).max() <= 1  # another batch may round otherwise


def stored_points(mixgan):
    """Train a run on points in the plane."""
    settings = [word for word in TINY if not word.startswith(("data.size", "model.backbone"))]
    outcome = mixgan("train", *settings, *FEW, "data=ring", "model.backbone.generator_widths=[8]")
    assert outcome.code == 0, outcome.err
    return outcome.json["run_dir"]


def test_points_as_arrays(mixgan):
    to = mixgan("sample", f"run={stored_points(mixgan)}", "format=npz", "n=7", "hardware=cpu").json["to"]
    assert np.load(to)["images"].shape == (7, 2) and np.load(to)["images"].dtype == np.float32


@pytest.mark.parametrize("bound", ["0", "-1", "inf", "nan", "much"])
def test_invalid_truncation_is_refused(mixgan, bound):
    outcome = mixgan("sample", "run=nowhere", f"truncation={bound}")
    assert outcome.code == 2 and "truncation=" in outcome.err and "Traceback" not in outcome.err


def test_samples_in_all_formats(mixgan, hmog):
    grid = mixgan("sample", f"run={hmog}", "n=9", "seed=4", "hardware=cpu", "to=grid.png").json
    assert (
        grid == {"to": "grid.png", "n": 9, "seed": 4, "truncation": None, "expert": None}
        and Image.open("grid.png").width > 100
    )
    mixgan("sample", f"run={hmog}", "n=9", "seed=4", "format=npz", "hardware=cpu", "to=a.npz")
    images = np.load("a.npz")["images"]
    assert images.shape == (9, 8, 8, 1) and images.dtype == np.uint8
    files = Path(mixgan("sample", f"run={hmog}", "n=9", "seed=4", "format=png", "hardware=cpu").json["to"])
    for number, path in enumerate(sorted(files.glob("*.png"))):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), images[number, :, :, 0])


@pytest.mark.parametrize("form", ["grid", "npz", "png"])
def test_unwritable_paths_are_refused(mixgan, hmog, form):
    outcome = mixgan("sample", f"run={hmog}", f"format={form}", "to=/proc/nowhere/x", "hardware=cpu")
    assert outcome.code == 2 and "to=/proc/nowhere/x: cannot be written" in outcome.err


@pytest.mark.parametrize("to", ["/", "."])
@pytest.mark.parametrize(
    ("form", "why"), [("grid", ": cannot be written (Is a directory)"), ("png", ": not the name of a folder")]
)
def test_folder_without_a_name_is_refused(mixgan, hmog, to, form, why):
    outcome = mixgan("sample", f"run={hmog}", "n=1", f"to={to}", f"format={form}", "hardware=cpu")
    assert outcome.code == 2 and f"to={to}{why}" in outcome.err


@pytest.mark.parametrize(("form", "name"), [("grid", "a.png"), ("npz", "a.npz")])
def test_own_files_are_replaced_and_others_kept(mixgan, hmog, form, name):
    command = ("sample", f"run={hmog}", "n=4", f"format={form}", f"to={name}", "hardware=cpu")
    assert mixgan(*command).code == 0 and mixgan(*command, "seed=1").code == 0
    next((hmog / "samples").glob("0*.png")).rename("mine.png")
    np.savez("mine.npz", images=np.zeros(3))
    for mine in (b"mine", Path("mine.png").read_bytes(), Path("mine.npz").read_bytes(), b"PK\x05\x06" + bytes(18)):
        Path(name).write_bytes(mine)
        outcome = mixgan(*command)
        assert outcome.code == 2 and f"to={name}: it would be replaced" in outcome.err, outcome.err
        assert Path(name).read_bytes() == mine
    assert mixgan(*command, "force=true").code == 0 and Path(name).read_bytes() != mine


def test_links_and_fifos_in_a_run_are_not_written_through(mixgan, hmog):
    """The run may come from anyone: what it names is not what the user names."""
    results, picture = (hmog / "results.json").read_text(), hmog / "samples" / "seed0-n4.png"
    picture.symlink_to("../results.json")
    command = ("sample", f"run={hmog}", "n=4", "hardware=cpu")
    assert mixgan(*command).code == 0 and not picture.is_symlink() and (hmog / "results.json").read_text() == results
    picture.unlink()
    os.mkfifo(picture)
    outcome = mixgan(*command)
    assert outcome.code == 2 and "cannot be written (not a regular file)" in outcome.err and picture.is_fifo()


def test_points_are_drawn_again(mixgan):
    run = stored_points(mixgan)
    for seed in (0, 1):
        assert mixgan("sample", f"run={run}", f"seed={seed}", "to=a.png", "hardware=cpu").code == 0


def test_grid_and_arrays_go_to_standard_output(hmog, start):
    program = start("sample", f"run={hmog}", "n=4", "to=/dev/stdout", "hardware=cpu")
    program.process.join()
    written = (program.logs / "out").read_bytes()
    assert program.poll() == 0 and written.startswith(b"\x89PNG") and written.endswith(b"}\n")
    assert Path("/dev/stdout").is_symlink()


def test_folder_with_files_is_refused(mixgan, hmog):
    assert mixgan("sample", f"run={hmog}", "format=png", "to=pictures", "hardware=cpu").code == 0
    outcome = mixgan("sample", f"run={hmog}", "format=png", "to=pictures", "seed=1", "hardware=cpu")
    assert outcome.code == 2 and "the folder is not empty" in outcome.err


def test_killed_sampling_of_pictures_can_be_repeated(mixgan, hmog):
    command = ("sample", f"run={hmog}", "format=png", "to=pictures", "n=4", "hardware=cpu")
    assert mixgan(*command).code == 0
    for number in (1, 3):  # as if it had been killed while the pictures were moved to a folder that was there
        Path("pictures", f"{number:06d}.png").unlink()
    assert mixgan(*command).code == 0 and len(list(Path("pictures").iterdir())) == 4


def test_unknown_expert_is_refused(mixgan, hmog):
    outcome = mixgan("sample", f"run={hmog}", "expert=8", "hardware=cpu")
    assert outcome.code == 2 and "numbered 0 to 7" in outcome.err


def test_name_of_no_checkpoint_is_refused(mixgan, hmog):
    outcome = mixgan("sample", f"run={hmog}", "checkpoint=bset", "hardware=cpu")
    assert (
        outcome.code == 2 and "checkpoint='bset': a checkpoint is last, best or a number of images shown" in outcome.err
    )
