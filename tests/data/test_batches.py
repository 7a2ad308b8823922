"""Batches are a function of the seed and the number of images shown, wherever the set is kept."""

from itertools import pairwise

import pytest
import torch

from mixgan_cli.data import batches
from mixgan_cli.data.batches import (
    FLIP_BLOCK,
    Dequantized,
    Flipped,
    Order,
    PackedBatches,
    StreamedBatches,
    make_batches,
)
from mixgan_cli.data.images import to_uint8
from mixgan_cli.data.packed import Packed

CPU = torch.device("cpu")


N = 10

PACKED = Packed(torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1), None, "numbers")

STORED = Packed(torch.randint(0, 256, (100, 1, 4, 4), dtype=torch.uint8), None, "noise")

NOISE = STORED.subset(torch.arange(0, 100, 2))

LEFT = torch.tensor([[1.0, 0.0, -1.0], [1.0, 0.5, -1.0]])
"""An image that differs from its mirror image."""


def shown(batches, nimg, batch):
    return to_uint8(batches.get_batch(nimg, batch)).flatten().tolist()


@pytest.mark.parametrize("packed", [STORED, NOISE])
def test_images_are_gathered_into_given_memory(packed):
    memory, indices = torch.empty(3, 1, 4, 4, dtype=torch.uint8), torch.tensor([4, 0, 4])
    assert packed.gather(indices, memory) is memory
    assert torch.equal(memory, packed[indices])


def test_epoch_shows_every_image_once():
    batches = PackedBatches(PACKED, seed=0, device=CPU)
    for epoch in range(3):
        images = shown(batches, N * epoch, 5) + shown(batches, N * epoch + 5, 5)
        assert sorted(images) == list(range(N))


def test_order_differs_by_epoch_and_seed():
    batches = PackedBatches(PACKED, seed=0, device=CPU)
    assert shown(batches, 0, N) != shown(batches, N, N)
    assert shown(batches, 0, N) != shown(PackedBatches(PACKED, seed=1, device=CPU), 0, N)


def test_order_depends_only_on_the_image_number():
    """A resumed run, or one with another batch size, sees the images that the uninterrupted one would have."""
    batches = PackedBatches(PACKED, 0, CPU)
    whole = [image for nimg in range(0, 60, 3) for image in shown(batches, nimg, 3)]
    late = PackedBatches(PACKED, 0, CPU)
    assert shown(late, 37, 23) == whole[37:60]


def test_batch_can_span_epochs_and_exceed_the_set():
    batches = PackedBatches(PACKED, 0, CPU)
    images = shown(batches, 7, 25)
    assert len(images) == 25 and sorted(images[3:13]) == list(range(N))


def test_without_seed_the_set_keeps_its_order():
    order = Order(5, None, torch.device("cpu"))
    assert order.indices(0, 12).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


@pytest.mark.parametrize("seed", [0, None])
def test_streamed_batches_equal_those_on_the_device(seed):
    there, ahead = PackedBatches(NOISE, seed, CPU), StreamedBatches(NOISE, seed, CPU)
    nimg = 0
    for batch in (16, 16, 16, 7, 16, 60, 1):  # across epochs, and sizes that were not prefetched
        assert torch.equal(there.get_batch(nimg, batch), ahead.get_batch(nimg, batch))
        nimg += batch
    assert torch.equal(there.get_batch(3, 5), ahead.get_batch(3, 5))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: copying ahead to a GPU is not tested")
def test_streamed_batches_on_a_gpu():
    device = torch.device("cuda")
    there, ahead = PackedBatches(NOISE, 0, device), StreamedBatches(NOISE, 0, device)
    for nimg in range(0, 800, 16):
        assert torch.equal(there.get_batch(nimg, 16), ahead.get_batch(nimg, 16))


@pytest.mark.parametrize(
    ("place", "kind"), [("device", PackedBatches), ("host", StreamedBatches), ("disk", StreamedBatches)]
)
def test_place_can_be_chosen(place, kind):
    found = make_batches(NOISE, 0, CPU, place)
    assert isinstance(found, kind)
    assert torch.equal(found.get_batch(0, 8), PackedBatches(NOISE, 0, CPU).get_batch(0, 8))
    if place == "disk":
        assert found.packed is NOISE  # nothing has been read


@pytest.mark.parametrize(("nbytes", "place"), [(50, "device"), (51, "host"), (400, "host"), (401, "disk")])
def test_auto_takes_the_first_place_with_room(nbytes, place, monkeypatch):
    """The limits are half of 100 free bytes on the GPU, and half of the machine's 800 bytes."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(batches, "total_memory", lambda: 800)
    assert batches._first_fit(nbytes, torch.device("cuda")) == place
    on_cpu = "device" if nbytes <= 400 else "disk"  # the CPU has the memory of the machine
    assert batches._first_fit(nbytes, CPU) == on_cpu


@pytest.mark.parametrize(("share", "kind"), [(0.5, PackedBatches), (1e-12, StreamedBatches)])
def test_auto_logs_where_the_set_is(share, kind, monkeypatch, caplog):
    monkeypatch.setattr(batches, "MEMORY_SHARE", share)
    monkeypatch.setattr(batches.log, "propagate", True)
    with caplog.at_level("INFO", logger="mixgan"):
        assert isinstance(make_batches(NOISE, 0, CPU, "auto"), kind)
    assert "data: 50 images" in caplog.text


class Same:
    """Batches of one image, LEFT, in two channels."""

    def get_batch(self, nimg, batch):
        return LEFT.expand(batch, 2, 2, 3)


def flipped(batches, nimg, batch):
    """Return which images are flipped. Each must be LEFT or its mirror image, in every channel and row."""
    images = batches.get_batch(nimg, batch)
    assert images.shape == (batch, 2, 2, 3)
    right = torch.stack([LEFT[:, 2], LEFT[:, 1], LEFT[:, 0]], dim=1)
    flips = []
    for image in images:
        same, other = [all(torch.equal(channel, kind) for channel in image) for kind in (LEFT, right)]
        assert same != other
        flips.append(other)
    return flips


def test_half_of_the_images_are_flipped():
    share = sum(flipped(Flipped(Same(), 0, CPU), 0, 4000)) / 4000
    assert 0.46 < share < 0.54  # five standard deviations


def test_neighbours_are_flipped_independently():
    flips = flipped(Flipped(Same(), 0, CPU), 0, 4000)
    alike = sum(first == second for first, second in pairwise(flips)) / 3999
    assert 0.46 < alike < 0.54


def test_flips_depend_on_the_seed():
    first, again, other = [flipped(Flipped(Same(), seed, CPU), 0, 400) for seed in (0, 0, 1)]
    assert first == again and 100 < sum(a != b for a, b in zip(first, other, strict=True)) < 300


def test_flips_differ_between_epochs():
    """The number of images shown decides, so an image is flipped in some epochs only."""
    packed = Packed(torch.arange(600, dtype=torch.int64).remainder(256).to(torch.uint8).view(50, 3, 2, 2), None, "x")
    plain, batches = PackedBatches(packed, None, CPU), Flipped(PackedBatches(packed, None, CPU), 0, CPU)
    changed = [(batches.get_batch(50 * e, 50) != plain.get_batch(50 * e, 50)).flatten(1).any(1) for e in range(2)]
    assert 5 < (changed[0] != changed[1]).sum() < 45


@pytest.mark.parametrize("block", [FLIP_BLOCK, 16])
def test_flips_depend_only_on_the_image_number(block, monkeypatch):
    """Flips do not depend on the batch size or on where a run resumes, also at the borders of blocks."""
    monkeypatch.setattr(batches, "FLIP_BLOCK", block)
    steady = Flipped(Same(), 0, CPU)
    whole = [flip for nimg in range(0, 120, 3) for flip in flipped(steady, nimg, 3)]
    assert flipped(Flipped(Same(), 0, CPU), 0, 120) == whole
    assert flipped(Flipped(Same(), 0, CPU), 37, 83) == whole[37:]
    assert flipped(steady, 0, 5) == whole[:5]  # going back works too


def test_flips_differ_between_blocks(monkeypatch):
    monkeypatch.setattr(batches, "FLIP_BLOCK", 32)
    whole = flipped(Flipped(Same(), 0, CPU), 0, 96)
    assert len({tuple(whole[start : start + 32]) for start in (0, 32, 64)}) == 3


def test_flips_keep_the_random_state():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Flipped(Same(), 0, CPU).get_batch(0, 8)
    assert torch.equal(torch.rand(3), expected)


def test_dequantized_images_have_noise_of_half_a_grey_level():
    packed = Packed(torch.full((50, 1, 8, 8), 100, dtype=torch.uint8), None, "grey")
    plain = PackedBatches(packed, 0, torch.device("cpu"))
    torch.manual_seed(3)
    noise = 128 * (Dequantized(plain).get_batch(0, 50) - plain.get_batch(0, 50))
    assert -1e-4 <= noise.min() < 0.01 and 0.99 < noise.max() <= 1.0001
    assert noise.mean().item() == pytest.approx(0.5, abs=0.02) and noise.var().item() == pytest.approx(
        1 / 12, abs=0.005
    )
    torch.manual_seed(3)
    torch.testing.assert_close(128 * (Dequantized(plain).get_batch(0, 50) - plain.get_batch(0, 50)), noise)
