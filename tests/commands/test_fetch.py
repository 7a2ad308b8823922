"""`mixgan fetch`, from a server of its own."""

import functools
import hashlib
import http.server
import multiprocessing
import resource
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from mixgan_cli.commands import fetch
from mixgan_cli.data import locate
from mixgan_cli.data.cache import cache_dir
from mixgan_cli.data.datasets import cifar10
from mixgan_cli.data.datasets.celeba import CelebA
from mixgan_cli.data.datasets.folder import Flowers102
from mixgan_cli.data.datasets.mnist import IDX, MNIST
from mixgan_cli.data.locate import RemoteFile, download
from mixgan_cli.errors import DataError
from mixgan_cli.evaluation import inception
from tests.data.make import EACH, as_pickles, gzipped, in_a_folder, write_idx
from tests.processes import DEADLINE


class Quiet(http.server.ThreadingHTTPServer):
    """Says nothing of clients that leave early: its words would be taken for the program's."""

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.SimpleHTTPRequestHandler):
    """Keeps what was asked for, and of a file whose name begins with "slow" stops half-way until `go_on`."""

    asked: ClassVar[list[str]] = []
    go_on = threading.Event()

    def do_GET(self):
        self.asked.append(self.path)
        if not self.path.startswith("/slow"):
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.go_on.wait(60)
        self.wfile.write(content[len(content) // 2 :])


@pytest.fixture
def server(tmp_path):
    """A folder and the address it is served at."""
    folder = tmp_path / "served"
    folder.mkdir()
    Handler.asked.clear()
    Handler.go_on.clear()
    handler = functools.partial(Handler, directory=str(folder))
    with Quiet(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def served_cifar10(server, monkeypatch):
    folder, address = server
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(in_a_folder(as_pickles, folder / "source"), "cifar-10-batches-py")
    md5 = hashlib.md5((folder / "cifar-10-python.tar.gz").read_bytes()).hexdigest()
    remote = RemoteFile(f"{address}/cifar-10-python.tar.gz", "cifar-10-python.tar.gz", md5)
    monkeypatch.setattr(cifar10.CIFAR10, "remote", (remote,))
    monkeypatch.delenv("MIXGAN_DATA", raising=False)
    return folder / "cifar-10-python.tar.gz"


def test_fetch_downloads_verifies_and_prepares(mixgan, served_cifar10):
    outcome = mixgan("fetch", "data=cifar10")
    assert outcome.code == 0, outcome.err
    assert outcome.json["data"]["train"]["n"] == 5 * EACH and outcome.json["data"]["held_out"]["n"] == EACH
    served_cifar10.unlink()  # nothing is fetched twice
    again = mixgan("fetch", "data=cifar10")
    assert again.code == 0 and again.json == outcome.json


def test_wrong_checksum_is_refused(mixgan, served_cifar10):
    served_cifar10.write_bytes(served_cifar10.read_bytes()[:-100])
    outcome = mixgan("fetch", "data=cifar10")
    assert outcome.code == 2 and "the download of http" in outcome.err and "Traceback" not in outcome.err
    assert left(cache_dir()) == []


def left(folder):
    """The files there but locks."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_interrupted_download_is_repeated(server, monkeypatch):
    folder, address = server
    (folder / "file.bin").write_bytes(b"content")
    remote = RemoteFile(f"{address}/file.bin", "set/file.bin", hashlib.md5(b"content").hexdigest())

    def interrupted(url, root, filename, md5):
        (cache_dir() / "set" / filename).write_bytes(b"cont")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(locate, "download_url", interrupted)
        download("a set", [remote])
    assert left(cache_dir() / "set") == []
    (cache_dir() / "set" / "file.bin").write_bytes(b"damaged since")
    download("a set", [remote])
    assert (cache_dir() / "set" / "file.bin").read_bytes() == b"content"


def wait_until_half_is_here(partial):
    deadline = time.monotonic() + DEADLINE
    while not partial.is_file() or not partial.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.01)


KILLED = "from mixgan_cli.data.locate import *; download('a set', [RemoteFile({url!r}, 'file.bin', {md5!r})])"


def test_kill_during_a_download_leaves_no_file(server):
    folder, address = server
    content = bytes(range(256)) * 4000
    (folder / "slow.bin").write_bytes(content)
    url, md5 = f"{address}/slow.bin", hashlib.md5(content).hexdigest()
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(url=url, md5=md5)], stderr=subprocess.DEVNULL)
    wait_until_half_is_here(cache_dir() / ".file.bin.partial")
    process.kill()
    process.wait()
    assert not (cache_dir() / "file.bin").exists()
    Handler.go_on.set()
    download("a set", [RemoteFile(url, "file.bin", md5)])
    assert (cache_dir() / "file.bin").read_bytes() == content and left(cache_dir()) == ["file.bin"]


def with_little_room(remote, queue):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # a file cannot grow beyond it, as on a full disk
    try:
        download("a set", [remote])
    except DataError as error:
        queue.put(str(error))


def test_full_disk_is_reported(server):
    folder, address = server
    (folder / "file.bin").write_bytes(b"content" * 1000)
    remote = RemoteFile(f"{address}/file.bin", "file.bin", hashlib.md5(b"content" * 1000).hexdigest())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=with_little_room, args=(remote, queue))
    process.start()
    assert "the download of" in queue.get(timeout=DEADLINE)
    process.join()
    assert left(cache_dir()) == []
    download("a set", [remote])
    assert left(cache_dir()) == ["file.bin"]


def test_two_processes_download_a_file_once(server):
    folder, address = server
    content = bytes(range(256)) * 4000
    (folder / "slow.bin").write_bytes(content)
    (folder / "plain.bin").write_bytes(content)
    md5 = hashlib.md5(content).hexdigest()
    download("a set", [RemoteFile(f"{address}/plain.bin", "plain.bin", md5)])
    one_download = len(Handler.asked)
    remote = RemoteFile(f"{address}/slow.bin", "file.bin", md5)
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(download, "a set", [remote]) for _ in range(2)]
        wait_until_half_is_here(cache_dir() / ".file.bin.partial")
        time.sleep(0.2)  # for the second to come to the lock
        Handler.go_on.set()
        assert [future.result(timeout=DEADLINE) for future in both] == [None, None]
    assert Handler.asked.count("/slow.bin") == one_download and (cache_dir() / "file.bin").read_bytes() == content


def test_mnist_download_resumes_between_files(mixgan, server, monkeypatch):
    folder, address = server
    for part, n in (("train", 20), ("t10k", 5)):
        write_idx(folder / f"{part}-images-idx3-ubyte", np.full((n, 28, 28), n, np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 10)
    gzipped(folder)
    monkeypatch.delenv("MIXGAN_DATA", raising=False)
    md5 = {file: hashlib.md5((folder / f"{file}.gz").read_bytes()).hexdigest() for file in IDX}
    remote = [RemoteFile(f"{address}/{file}.gz", f"MNIST/raw/{file}.gz", md5[file]) for file in IDX]
    monkeypatch.setattr(MNIST, "remote", remote)
    last = folder / f"{IDX[-1]}.gz"
    content = last.read_bytes()
    last.unlink()
    outcome = mixgan("fetch", "data=mnist")
    assert outcome.code == 2 and f"the download of {address}/{IDX[-1]}.gz failed" in outcome.err
    assert left(cache_dir()) == sorted(f"{file}.gz" for file in IDX[:-1])
    last.write_bytes(content)
    Handler.asked.clear()
    outcome = mixgan("fetch", "data=mnist")
    assert outcome.code == 0, outcome.err
    assert (outcome.json["data"]["train"]["n"], outcome.json["data"]["held_out"]["n"]) == (20, 5)
    assert set(Handler.asked) == {f"/{IDX[-1]}.gz"}


@pytest.mark.parametrize(("source", "labels"), [(CelebA, "list_attr_celeba.txt"), (Flowers102, "imagelabels.mat")])
def test_labels_are_downloaded_before_images(source, labels):
    """With the images a copy is taken for whole: were they first, an interruption would leave it without labels."""
    assert [Path(remote.file).name == labels for remote in source.remote] == [True, False]


def test_missing_network_is_reported(server):
    _, address = server
    with pytest.raises(DataError, match=r"give data\.root=FOLDER"):
        download("a set", [RemoteFile(f"{address}/nothing", "nothing", None)])


def test_local_copy_is_used(mixgan, tmp_path):
    in_a_folder(as_pickles, tmp_path / "mine")
    outcome = mixgan("fetch", "data=cifar10", "data.root=mine")
    assert outcome.code == 0 and outcome.json["data"]["train"]["n"] == 5 * EACH
    assert not (cache_dir() / "cifar-10-python.tar.gz").exists()


@pytest.mark.parametrize("data", ["digits", "ring"])
def test_embedded_sets_need_no_download(mixgan, data):
    outcome = mixgan("fetch", f"data={data}")
    assert outcome.code == 0 and outcome.json["data"]


def test_weights_are_found(mixgan, monkeypatch, tmp_path):
    (tmp_path / "inception.pth").write_bytes(b"weights")
    monkeypatch.setenv("MIXGAN_WEIGHTS", str(tmp_path / "inception.pth"))
    outcome = mixgan("fetch", "weights")
    assert outcome.code == 0 and outcome.json["weights"]["path"] == str(tmp_path / "inception.pth")
    assert outcome.json["weights"]["checksum"] == hashlib.sha256(b"weights").hexdigest()[:16]


@pytest.fixture
def no_weights_yet(monkeypatch, tmp_path):
    """Where the weights would be kept, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def forget():
        for function in (inception.find_weights, inception.file_checksum, inception._download):
            function.cache_clear()

    forget()
    yield tmp_path / "torch" / "hub" / "checkpoints"
    forget()


def test_weights_are_downloaded_and_verified(mixgan, server, no_weights_yet, monkeypatch):
    folder, address = server
    (folder / inception.FILE).write_bytes(b"weights")
    monkeypatch.setattr(inception, "URL_INCEPTION_V3", f"{address}/{inception.FILE}")
    outcome = mixgan("fetch", "weights")
    assert outcome.code == 2 and "the download failed" in outcome.err and "invalid hash" in outcome.err
    assert not [path for path in no_weights_yet.rglob("*") if path.is_file()]

    inception._download.cache_clear()
    begins = hashlib.sha256(b"weights").hexdigest()[:8]
    monkeypatch.setattr(inception, "HASH_PREFIX", begins)
    monkeypatch.setattr(fetch, "HASH_PREFIX", begins)
    outcome = mixgan("fetch", "weights")
    assert outcome.code == 0, outcome.err
    assert outcome.json["weights"]["path"] == str(no_weights_yet / inception.FILE)
    assert (no_weights_yet / inception.FILE).read_bytes() == b"weights"


def test_damaged_weights_are_refused(mixgan, no_weights_yet):
    no_weights_yet.mkdir(parents=True)
    (no_weights_yet / inception.FILE).write_bytes(b"half")
    outcome = mixgan("fetch", "weights")
    assert outcome.code == 2 and "damaged" in outcome.err and inception.FILE in outcome.err


def test_fetch_without_a_target_is_refused(mixgan):
    outcome = mixgan("fetch")
    assert outcome.code == 2 and "give data=NAME, or weights" in outcome.err
    outcome = mixgan("fetch", "data=cifar100")
    assert outcome.code == 2 and "cifar10" in outcome.err
