"""The cache of prepared sets: whole or not there, once for all, whatever happens meanwhile."""

import multiprocessing
import os
import resource
import signal
import time

import pytest
import torch

from mixgan_cli.data.cache import Block, Part, cache_dir, prepared
from mixgan_cli.data.packed import Packed, checksum
from mixgan_cli.errors import DataError

N, SHAPE = 70, (3, 4, 4)
IMAGES = torch.randint(0, 256, (N, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(N) % 5


def blocks(calls=None, wait=0.0, broken_at=None):
    if calls is not None:
        calls.append(1)
    for first in range(0, N, 8):
        time.sleep(wait)
        if broken_at is not None and first >= broken_at:
            raise DataError("the source is damaged")
        yield Block(IMAGES[first : first + 8], LABELS[first : first + 8])


def prepare(version=1, **settings):
    return prepared("set", {"version": version}, {"train": Part(lambda: blocks(**settings), "as they are", N)})["train"]


def left():
    """What is in the cache but locks."""
    return sorted(path.name for path in (cache_dir() / "prepared").iterdir() if path.suffix != ".lock")


def test_it_is_what_was_read_and_read_once():
    calls = []
    first, second = prepare(calls=calls), prepare(calls=calls)
    assert len(calls) == 1
    for packed in (first, second):
        assert torch.equal(packed.images_NCHW, IMAGES) and torch.equal(packed.labels_N, LABELS)
        assert packed.describe() == {"n": N, "checksum": checksum(IMAGES), "preprocessing": "as they are"}
    prepare(version=2, calls=calls)
    assert len(calls) == 2 and len(left()) == 2


def test_what_is_there_needs_neither_lock_nor_leave_to_write(monkeypatch):
    prepare()

    def refused(lock, name):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mixgan_cli.data.cache.file_lock", refused)
    assert torch.equal(prepare().images_NCHW, IMAGES)
    with pytest.raises(DataError, match="Permission denied"):
        prepare(version=2)


def test_rows_of_it_are_not_copied_until_they_are_asked_for():
    packed = prepare().subset(torch.tensor([5, 3, 60]))
    assert packed.stored_MCHW.shape[0] == N and len(packed) == 3 and packed.nbytes == 3 * 48
    assert torch.equal(packed.images_NCHW, IMAGES[[5, 3, 60]]) and packed.labels_N.tolist() == [0, 3, 0]
    assert torch.equal(packed.subset(torch.tensor([2, 0])).images_NCHW, IMAGES[[60, 5]])
    assert packed.checksum == checksum(IMAGES[[5, 3, 60]]) == Packed(IMAGES[[5, 3, 60]], None, "").checksum
    assert torch.equal(packed.in_memory().images_NCHW, IMAGES[[5, 3, 60]])


def test_without_labels():
    part = Part(lambda: (Block(IMAGES, None) for _ in range(1)), "as they are")
    assert prepared("bare", {}, {"all": part})["all"].labels_N is None


def test_a_damaged_source_leaves_nothing():
    with pytest.raises(DataError, match="the source is damaged"):
        prepare(broken_at=32)
    assert left() == []
    assert torch.equal(prepare().images_NCHW, IMAGES)


@pytest.mark.parametrize("damage", ["images", "labels", "about.json"])
def test_a_damaged_cache_is_prepared_again(damage):
    prepare()
    (folder,) = (cache_dir() / "prepared").glob("set-*[!k]")
    (path,) = folder.glob(f"*{damage}")
    path.write_bytes(path.read_bytes()[:-5])
    calls = []
    assert torch.equal(prepare(calls=calls).images_NCHW, IMAGES) and len(calls) == 1


def slowly(wait):
    prepare(wait=wait)


def test_killed_half_way():
    """At several moments; what is left is never used, and the next one clears it away."""
    context = multiprocessing.get_context("fork")
    for moment in (0.0, 0.15, 0.3):
        process = context.Process(target=slowly, args=(0.1,))
        process.start()
        deadline = time.monotonic() + 60
        while not list(cache_dir().glob(f"prepared/.set-*.{process.pid}/train.images")):  # it has begun to write
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(moment)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert [name.rpartition(".")[2] for name in left()] == [str(process.pid)]  # half a set, and not by its name
    assert torch.equal(prepare().images_NCHW, IMAGES)
    assert [name for name in left() if name.startswith(".")] == []


def read_and_count(results, calls):
    def counted():
        calls.put(1)
        yield from blocks(wait=0.05)

    packed = prepared("set", {"version": 1}, {"train": Part(counted, "as they are", N)})["train"]
    results.put(checksum(packed.images_NCHW))


def test_two_at_once_prepare_it_once():
    context = multiprocessing.get_context("fork")
    results, calls = context.Queue(), context.Queue()
    processes = [context.Process(target=read_and_count, args=(results, calls)) for _ in range(3)]
    for process in processes:
        process.start()
    assert {results.get(timeout=60) for _ in processes} == {checksum(IMAGES)}
    for process in processes:
        process.join()
    assert calls.get(timeout=10) == 1 and calls.empty()


def with_little_room(queue):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # a file cannot grow beyond it, as on a full disk
    try:
        prepare()
    except DataError as error:
        queue.put(str(error))


def test_a_full_disk():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=with_little_room, args=(queue,))
    process.start()
    assert "the prepared set cannot be written" in queue.get(timeout=60)
    process.join()
    assert left() == []
    assert torch.equal(prepare().images_NCHW, IMAGES)


def test_a_cache_that_cannot_be_written(monkeypatch):
    monkeypatch.setenv("MIXGAN_CACHE", "/proc/nowhere")
    with pytest.raises(DataError, match=r"\$MIXGAN_CACHE"):
        prepare()
