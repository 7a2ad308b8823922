"""The cache of prepared sets: complete or absent, and prepared once, whatever happens meanwhile."""

import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from mixgan_cli.data import cache
from mixgan_cli.data.cache import Block, SplitReader, cache_dir
from mixgan_cli.data.packed import checksum
from mixgan_cli.errors import DataError
from tests.processes import DEADLINE

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
    return cache.prepare(
        "set", {"version": version}, {"train": SplitReader(lambda: blocks(**settings), "as they are", N)}
    )["train"]


def left():
    """Return the names in the cache, without locks."""
    return sorted(path.name for path in (cache_dir() / "prepared").iterdir() if path.suffix != ".lock")


def test_set_is_read_once():
    calls = []
    first, second = prepare(calls=calls), prepare(calls=calls)
    assert len(calls) == 1
    for packed in (first, second):
        assert torch.equal(packed.images_NCHW, IMAGES) and torch.equal(packed.labels_N, LABELS)
        assert packed.describe() == {"n": N, "checksum": checksum(IMAGES), "preprocessing": "as they are"}
    prepare(version=2, calls=calls)
    assert len(calls) == 2 and len(left()) == 2


def test_reading_needs_no_lock(monkeypatch):
    prepare()

    def refused(lock, name):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mixgan_cli.data.cache.file_lock", refused)
    assert torch.equal(prepare().images_NCHW, IMAGES)
    with pytest.raises(DataError, match="Permission denied"):
        prepare(version=2)


def test_set_without_labels():
    reader = SplitReader(lambda: (Block(IMAGES, None) for _ in range(1)), "as they are")
    assert cache.prepare("bare", {}, {"all": reader})["all"].labels_N is None


def test_damaged_source_leaves_nothing():
    with pytest.raises(DataError, match="the source is damaged"):
        prepare(broken_at=32)
    assert left() == []
    assert torch.equal(prepare().images_NCHW, IMAGES)


@pytest.mark.parametrize("damage", ["images", "labels", "about.json"])
def test_damaged_cache_is_prepared_again(damage):
    prepare()
    (folder,) = (cache_dir() / "prepared").glob("set-*[!k]")
    (path,) = folder.glob(f"*{damage}")
    path.write_bytes(path.read_bytes()[:-5])
    calls = []
    assert torch.equal(prepare(calls=calls).images_NCHW, IMAGES) and len(calls) == 1


def slowly(wait):
    prepare(wait=wait)


def test_killed_process_leaves_nothing_usable():
    """Kill it at several moments: what is left is never used, and the next process removes it."""
    context = multiprocessing.get_context("fork")
    for moment in (0.0, 0.15, 0.3):
        process = context.Process(target=slowly, args=(0.1,))
        process.start()
        deadline = time.monotonic() + DEADLINE
        while not list(cache_dir().glob(f"prepared/.set-*.{process.pid}/train.images")):  # it has begun to write
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(moment)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert [name.rpartition(".")[2] for name in left()] == [str(process.pid)]  # incomplete, under a temporary name
    assert torch.equal(prepare().images_NCHW, IMAGES)
    assert [name for name in left() if name.startswith(".")] == []


def read_and_count(results, calls):
    def counted():
        calls.put(1)
        yield from blocks(wait=0.05)

    packed = cache.prepare("set", {"version": 1}, {"train": SplitReader(counted, "as they are", N)})["train"]
    results.put(checksum(packed.images_NCHW))


def test_concurrent_processes_prepare_once():
    context = multiprocessing.get_context("fork")
    results, calls = context.Queue(), context.Queue()
    processes = [context.Process(target=read_and_count, args=(results, calls)) for _ in range(3)]
    for process in processes:
        process.start()
    assert {results.get(timeout=DEADLINE) for _ in processes} == {checksum(IMAGES)}
    for process in processes:
        process.join()
    assert calls.get(timeout=DEADLINE) == 1 and calls.empty()


def with_little_room(queue):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # a file cannot grow beyond it, as on a full disk
    try:
        prepare()
    except DataError as error:
        queue.put(str(error))


def test_full_disk_leaves_nothing():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=with_little_room, args=(queue,))
    process.start()
    assert "the prepared set cannot be written" in queue.get(timeout=DEADLINE)
    process.join()
    assert left() == []
    assert torch.equal(prepare().images_NCHW, IMAGES)


def test_unwritable_cache_is_reported(monkeypatch):
    monkeypatch.setenv("MIXGAN_CACHE", "/proc/nowhere")
    with pytest.raises(DataError, match=r"\$MIXGAN_CACHE"):
        prepare()


def test_home_folder_in_an_environment_variable_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MIXGAN_CACHE", "~/c")
    assert cache_dir() == tmp_path / "c"
    for value in ("", " "):  # as if it were not set
        monkeypatch.setenv("MIXGAN_CACHE", value)
        assert cache_dir() == tmp_path / ".cache" / "mixgan"


def test_user_without_a_home_folder_needs_a_cache_only(monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setenv("MIXGAN_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("MIXGAN_CACHE")
    with pytest.raises(DataError, match=r"no home folder .* Set \$MIXGAN_CACHE"):
        cache_dir()
