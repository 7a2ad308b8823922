"""`mixgan fetch`, from a server of its own."""

import functools
import hashlib
import http.server
import tarfile
import threading

import pytest

from mixgan_cli.data import download, flat
from mixgan_cli.data.download import Remote, fetch_into_cache
from mixgan_cli.data.prepared import cache_dir
from mixgan_cli.errors import DataError
from tests.data.test_flat import EACH, as_pickles, in_a_folder


class Quiet(http.server.ThreadingHTTPServer):
    """Says nothing of clients that leave early: its words would be taken for the program's."""

    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def server(tmp_path):
    """A folder and the address it is served at."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
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
    remote = Remote(f"{address}/cifar-10-python.tar.gz", "cifar-10-python.tar.gz", md5)
    monkeypatch.setattr(flat.CIFAR10, "remote", (remote,))
    monkeypatch.delenv("MIXGAN_DATA", raising=False)
    return folder / "cifar-10-python.tar.gz"


def test_it_downloads_checks_and_prepares(mixgan, served_cifar10):
    outcome = mixgan("fetch", "data=cifar10")
    assert outcome.code == 0, outcome.err
    assert outcome.json["data"]["train"]["n"] == 5 * EACH and outcome.json["data"]["held_out"]["n"] == EACH
    served_cifar10.unlink()  # nothing is fetched twice
    again = mixgan("fetch", "data=cifar10")
    assert again.code == 0 and again.json == outcome.json


def test_a_wrong_checksum(mixgan, served_cifar10):
    served_cifar10.write_bytes(served_cifar10.read_bytes()[:-100])
    outcome = mixgan("fetch", "data=cifar10")
    assert outcome.code == 2 and "the download of http" in outcome.err and "Traceback" not in outcome.err
    assert not [path for path in cache_dir().rglob("*") if path.is_file()]


def test_an_interrupted_download_is_repeated(server, monkeypatch):
    folder, address = server
    (folder / "file.bin").write_bytes(b"content")
    remote = Remote(f"{address}/file.bin", "set/file.bin", hashlib.md5(b"content").hexdigest())

    def interrupted(url, root, filename, md5):
        (cache_dir() / "set" / filename).write_bytes(b"cont")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download, "download_url", interrupted)
        fetch_into_cache("a set", [remote])
    assert list((cache_dir() / "set").iterdir()) == []
    (cache_dir() / "set" / "file.bin").write_bytes(b"damaged since")
    fetch_into_cache("a set", [remote])
    assert (cache_dir() / "set" / "file.bin").read_bytes() == b"content"


def test_without_a_network(server):
    _, address = server
    with pytest.raises(DataError, match=r"give data\.root=FOLDER"):
        fetch_into_cache("a set", [Remote(f"{address}/nothing", "nothing", None)])


def test_a_local_copy_is_taken(mixgan, tmp_path):
    in_a_folder(as_pickles, tmp_path / "mine")
    outcome = mixgan("fetch", "data=cifar10", "data.root=mine")
    assert outcome.code == 0 and outcome.json["data"]["train"]["n"] == 5 * EACH
    assert not (cache_dir() / "cifar-10-python.tar.gz").exists()


@pytest.mark.parametrize("data", ["digits", "ring"])
def test_what_needs_no_fetching(mixgan, data):
    outcome = mixgan("fetch", f"data={data}")
    assert outcome.code == 0 and outcome.json["data"]


def test_the_weights(mixgan, monkeypatch, tmp_path):
    (tmp_path / "inception.pth").write_bytes(b"weights")
    monkeypatch.setenv("MIXGAN_WEIGHTS", str(tmp_path / "inception.pth"))
    outcome = mixgan("fetch", "weights")
    assert outcome.code == 0 and outcome.json["weights"]["path"] == str(tmp_path / "inception.pth")
    assert outcome.json["weights"]["checksum"] == hashlib.sha256(b"weights").hexdigest()[:16]


def test_nothing_to_fetch(mixgan):
    outcome = mixgan("fetch")
    assert outcome.code == 2 and "give data=NAME, or weights" in outcome.err
    outcome = mixgan("fetch", "data=cifar100")
    assert outcome.code == 2 and "cifar10" in outcome.err
