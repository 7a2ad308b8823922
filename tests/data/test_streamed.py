"""Sets that do not fit: the same batches, from memory or from a file."""

import pytest
import torch

from mixgan_cli.data import batches
from mixgan_cli.data.batches import PackedBatches, StreamedBatches, batches_of
from mixgan_cli.data.packed import Packed

CPU = torch.device("cpu")
N = 50
STORED = Packed(torch.randint(0, 256, (2 * N, 1, 4, 4), dtype=torch.uint8), None, "noise")
PACKED = STORED.subset(torch.arange(0, 2 * N, 2))


@pytest.mark.parametrize("seed", [0, None])
def test_they_are_those_of_the_set_on_the_device(seed):
    there, ahead = PackedBatches(PACKED, seed, CPU), StreamedBatches(PACKED, seed, CPU)
    nimg = 0
    for batch in (16, 16, 16, 7, 16, 60, 1):  # over the border of epochs, and not what was expected
        assert torch.equal(there.get_batch(nimg, batch), ahead.get_batch(nimg, batch))
        nimg += batch
    assert torch.equal(there.get_batch(3, 5), ahead.get_batch(3, 5))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: copying ahead to a GPU is not tested")
def test_on_a_gpu():
    device = torch.device("cuda")
    there, ahead = PackedBatches(PACKED, 0, device), StreamedBatches(PACKED, 0, device)
    for nimg in range(0, 800, 16):
        assert torch.equal(there.get_batch(nimg, 16), ahead.get_batch(nimg, 16))


@pytest.mark.parametrize(
    ("place", "kind"), [("device", PackedBatches), ("host", StreamedBatches), ("disk", StreamedBatches)]
)
def test_the_place_is_a_choice(place, kind):
    found = batches_of(PACKED, 0, CPU, place)
    assert isinstance(found, kind)
    assert torch.equal(found.get_batch(0, 8), PackedBatches(PACKED, 0, CPU).get_batch(0, 8))
    if place == "disk":
        assert found.packed is PACKED  # nothing is read before its time


@pytest.mark.parametrize(("nbytes", "place"), [(50, "device"), (51, "host"), (400, "host"), (401, "disk")])
def test_the_first_place_it_fits_into(nbytes, place, monkeypatch):
    """Half of 100 bytes free on a GPU, half of the machine's 800."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(batches, "total_memory", lambda: 800)
    assert batches._fitting(nbytes, torch.device("cuda")) == place
    on_cpu = "device" if nbytes <= 400 else "disk"  # there the device's memory is the machine's
    assert batches._fitting(nbytes, CPU) == on_cpu


@pytest.mark.parametrize(("share", "kind"), [(0.5, PackedBatches), (1e-12, StreamedBatches)])
def test_or_it_is_found_out(share, kind, monkeypatch, caplog):
    monkeypatch.setattr(batches, "SHARE", share)
    monkeypatch.setattr(batches.log, "propagate", True)
    with caplog.at_level("INFO", logger="mixgan"):
        assert isinstance(batches_of(PACKED, 0, CPU, "auto"), kind)
    assert "data: 50 images" in caplog.text
