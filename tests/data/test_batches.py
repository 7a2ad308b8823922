import torch

from mixgan_cli.data.batches import Order, PackedBatches
from mixgan_cli.data.images import to_uint8
from mixgan_cli.data.packed import Packed

N = 10
PACKED = Packed(torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1), None, "numbers")
CPU = torch.device("cpu")


def shown(batches, nimg, batch):
    return to_uint8(batches.get_batch(nimg, batch)).flatten().tolist()


def test_an_epoch_shows_every_image_once():
    batches = PackedBatches(PACKED, seed=0, device=CPU)
    for epoch in range(3):
        images = shown(batches, N * epoch, 5) + shown(batches, N * epoch + 5, 5)
        assert sorted(images) == list(range(N))


def test_epochs_and_seeds_differ_in_order():
    batches = PackedBatches(PACKED, seed=0, device=CPU)
    assert shown(batches, 0, N) != shown(batches, N, N)
    assert shown(batches, 0, N) != shown(PackedBatches(PACKED, seed=1, device=CPU), 0, N)


def test_order_depends_on_the_image_number_alone():
    """What a resumed run, or one with another batch size, is shown is what the uninterrupted one would have been."""
    batches = PackedBatches(PACKED, 0, CPU)
    whole = [image for nimg in range(0, 60, 3) for image in shown(batches, nimg, 3)]
    late = PackedBatches(PACKED, 0, CPU)
    assert shown(late, 37, 23) == whole[37:60]


def test_a_batch_may_span_epochs_and_exceed_the_set():
    batches = PackedBatches(PACKED, 0, CPU)
    images = shown(batches, 7, 25)
    assert len(images) == 25 and sorted(images[3:13]) == list(range(N))


def test_without_a_seed_every_epoch_is_in_the_datas_own_order():
    order = Order(5, None, torch.device("cpu"))
    assert order.indices(0, 12).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
