"""Small files that claim or unpack to more than any memory holds give one error and take little memory.

One process reads them all, tests/data/read_hostile.py, and reports its peak memory.
"""

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from mixgan_cli.data.datasets import cifar10
from tests.processes import DEADLINE

MIB = 2**20
ROOT = Path(__file__).parents[2]


def zipped(path, name, content, files=1):
    """Write a zip of several files with the same content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(files):
            archive.writestr(f"{number or ''}{name}", content)


def listed(path, name, content, times):
    """Write a zip of one file that is listed `times` times."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, content)
        first = archive.filelist[0]
        for number in range(1, times):
            entry = zipfile.ZipInfo(f"{number}{name}")
            for field in ("header_offset", "file_size", "compress_size", "CRC", "compress_type"):
                setattr(entry, field, getattr(first, field))
            archive.filelist.append(entry)


def changed(path, name, content, before, after):
    """Write a zip of one file, and replace bytes of its headers."""
    zipped(path, name, content)
    raw = path.read_bytes()
    assert before in raw
    path.write_bytes(raw.replace(before, after))


def size(n):
    return struct.pack("<L", n)


def tarred(path, content=b"", name="a.png", kind=tarfile.REGTYPE, pax=None, claimed=None):
    """Write a tar with one entry of this kind that claims a size."""
    header = tarfile.TarInfo(name)
    header.type, header.pax_headers = kind, pax or {}
    header.size = len(content) if claimed is None else claimed
    settings = {"mode": "w:gz", "compresslevel": 1} if path.suffix == ".gz" else {"mode": "w"}
    with tarfile.open(path, **settings) as archive:
        archive.fileobj.write(header.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT))
        archive.fileobj.write(content + bytes(-len(content) % 512))


def png(path, side, text=b""):
    """Write a PNG of black pixels, one bit each, with a compressed text."""

    def chunk(kind, content):
        return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">LLBBBBB", side, side, 1, 0, 0, 0, 0))
        + (chunk(b"zTXt", b"Comment\0\0" + zlib.compress(text, 1)) if text else b"")
        + chunk(b"IDAT", zlib.compress(bytes((side + 7) // 8 + 1) * side, 1))
        + chunk(b"IEND", b"")
    )


def written(path, content, length=None):
    """Write a sparse file: its content, then zeros up to `length` that take no space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.truncate(path, length or len(content))


def idx(folder, content, ending="", length=None):
    """Write MNIST's four files with the same content."""
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            written(folder / f"{part}-{kind}-ubyte{ending}", content, length)


def batches(folder, content, ending="", length=None):
    """Write CIFAR-10's files with the same content."""
    for name in (*cifar10.CIFAR10.batches["train"], *cifar10.CIFAR10.batches["held_out"]):
        written(folder / f"{name}{ending}", content, length)


def npy(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def within(depth):
    """Return nested lists that share their parts: `depth` objects that stand for 2**depth."""
    node = [0, 0]
    for _ in range(depth):
        node = [node, node]
    return node


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


LONG = 2**40
ENTRY = b"PK\x01\x02\x14\x03\x14\0\0\0"
"""The start of an entry in a zip's directory; the last two bytes are its flags, such as encryption."""
ROWS = np.zeros((2, 3072), np.uint8)
HOSTILE = {
    # what it is: (file or folder, how it is read, error message, how it is written)
    "a long file in a zip": ("one.zip", "folder", "more than 268,435,456 bytes",
        lambda p: zipped(p, "a.png", bytes(300 * MIB))),
    "a file longer than it claims": ("lies.zip", "folder", "truncated or damaged",
        lambda p: changed(p, "a.png", bytes(100 * MIB + 5), size(100 * MIB + 5), size(5))),
    "a claim of more than a zip can hold": ("claims.zip", "folder", "claim to be more than can be in a zip",
        lambda p: changed(p, "a.png", b"12345", size(5), size(2**32 - 2))),
    "overlapping files": ("layers.zip", "folder", "claim to be more than can be in a zip",
        lambda p: listed(p, "a.png", bytes(200 * MIB), 3000)),
    "several files just short enough": ("many.zip", "folder", "cannot decode",
        lambda p: zipped(p, "a.png", bytes(200 * MIB), 8)),
    "an encrypted zip": ("secret.zip", "folder", "encrypted",
        lambda p: changed(p, "a.png", b"12345", ENTRY, ENTRY[:-2] + b"\1\0")),
    "a long file in a tar": ("one.tar.gz", "folder", "half of the memory",
        lambda p: tarred(p, bytes(300 * MIB))),
    "a claim of more than the tar has": ("claims.tar", "folder", "truncated or damaged",
        lambda p: tarred(p, claimed=2**43)),
    "a long header": ("header.tar.gz", "folder", "a header of",
        lambda p: tarred(p, bytes(300 * MIB), kind=tarfile.XHDTYPE)),
    "a long name": ("name.tar.gz", "folder", "a header of",
        lambda p: tarred(p, bytes(300 * MIB), kind=tarfile.GNUTYPE_LONGNAME)),
    "a header of negative size": ("less.tar", "folder", "a header of -512",
        lambda p: tarred(p, bytes(10**5), kind=tarfile.XHDTYPE, claimed=-512)),
    "a file of negative size": ("back.tar", "folder", "size below zero",
        lambda p: tarred(p, claimed=-1024)),
    "a file of negative size by pax header": ("pax.tar", "folder", "size below zero",
        lambda p: tarred(p, pax={"size": "-1024"})),
    "a sparse file": ("sparse.tar", "folder", "a sparse file",
        lambda p: tarred(p, kind=tarfile.GNUTYPE_SPARSE)),
    "a sparse file of the newer kind": ("holes.tar", "folder", "a sparse file",
        lambda p: tarred(p, b"9" * 512, pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})),
    "too many pixels": ("pixels", "folder", "11000×11000, more than",
        lambda p: png(p / "a.png", 11_000)),
    "far too many pixels": ("very", "folder", "could be decompression bomb",
        lambda p: png(p / "a.png", 40_000)),
    "many images of many pixels": ("large", "images", "too much memory",
        lambda p: [png(p / f"{n}.png", 6_000) for n in range(16)]),
    "a long text in an image": ("text", "folder", "Decompressed data too large",
        lambda p: png(p / "a.png", 8, bytes(300 * MIB))),
    "a program as image": ("eps", "folder", "not an image",
        lambda p: written(p / "a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")),
    "a long file in a folder": ("holes", "folder", "more than 268,435,456 bytes",
        lambda p: written(p / "a.png", b"", LONG)),
    "a long batch": ("bin", "cifar", "more than 1,073,741,824 bytes",
        lambda p: batches(p, b"", ".bin", LONG)),
    "arrays in a batch": ("npz", "cifar", "an array of 4.0 GiB",
        lambda p: [p.mkdir(), zipped(p / "test.npz", "data.npy", b""),
                   changed(p / "train.npz", "data.npy", b"12345", size(5), size(2**32 - 2))]),
    "a pickle that calls": ("code", "cifar", "it names posix.system",
        lambda p: batches(p, pickle.dumps(Calls(os.system, ("touch /tmp/harm",))))),
    "a pickle of many pieces": ("pieces", "cifar", "more than 1,048,576 instructions",
        lambda p: batches(p, b"\x80\x02" + b"]0" * MIB + b"N.")),
    "labels within labels": ("labels", "cifar", "no list of labels",
        lambda p: batches(p, pickle.dumps({"data": ROWS, "labels": within(60)}, 2))),
    "rows within rows": ("rows", "cifar", "no array of rows",
        lambda p: batches(p, pickle.dumps({"data": within(60), "labels": [0, 0]}, 2))),
    "an array that is made by call": ("call", "cifar", "truncated or damaged",
        lambda p: batches(p, pickle.dumps({"data": Calls(np.ndarray, (LONG,)), "labels": []}, 2))),
    "an encoded object that is not text": ("encode", "cifar", "something that is not text",
        lambda p: batches(p, b"c_codecs\nencode\n" + pickle.dumps((within(60), "latin1"), 0)[:-1] + b"R.")),
    "idx files of any length": ("idx", "mnist", "more than 134,217,728 bytes",
        lambda p: idx(p, b"\0\0\x08\3", length=LONG)),
    "idx files that claim": ("counts", "mnist", "truncated or damaged",
        lambda p: idx(p, b"\0\0\x08\3" + b"\x7f\xff\xff\xff" * 3 + b"1")),
    "idx files that unpack to more": ("gz", "mnist", "truncated or damaged",
        lambda p: idx(p, gzip.compress(b"\0\0\x08\3" + bytes(2000 * MIB), 1), ".gz")),
    "a long array": ("long.npy", "arrays", "an array of 1,024.0 GiB",
        lambda p: written(p, npy((LONG,)), LONG)),
    "an array that claims": ("short.npy", "arrays", "not a .npy or .npz of numbers, or damaged",
        lambda p: written(p, npy((LONG, 8, 8)))),
    "a long array in an npz": ("long.npz", "arrays", "an array of 0.3 GiB",
        lambda p: zipped(p, "images.npy", bytes(300 * MIB))),
    "an array in an npz that claims": ("short.npz", "arrays", "not a .npy or .npz of numbers, or damaged",
        lambda p: zipped(p, "images.npy", npy((LONG, 8, 8)))),
    "an array of objects": ("code.npy", "arrays", "allow_pickle=False",
        lambda p: np.save(p, np.array([Calls(os.system, ("touch /tmp/harm",))], object))),
    "labels of flowers": ("flowers", "flowers", "more than 65,536 bytes",
        lambda p: [png(p / "jpg" / "a.png", 8), written(p / "imagelabels.mat", b"", LONG)]),
}  # fmt: skip


pytestmark = pytest.mark.integ
"""Writing the hostile files and reading them in a process of limited memory takes twenty seconds."""


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """The folder, {case: (error, peak memory in MiB after it, before it)}, and the peak memory of the imports."""
    folder = tmp_path_factory.mktemp("hostile")
    for file, _, _, write in HOSTILE.values():
        write(folder / file)
    arguments = [f"{kind}={folder / file}" for file, kind, _, _ in HOSTILE.values()]
    command = [sys.executable, "-m", "tests.data.read_hostile", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MIXGAN_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(HOSTILE) + 1, done.stderr[-2000:]
    results = {name: (*line, before) for name, line, (_, before) in zip(HOSTILE, lines[1:], lines, strict=False)}
    return folder, results, lines[0][1]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_gives_one_error_and_takes_little_memory(read, name):
    folder, results, _ = read
    message, peak, before = results[name]
    assert message.startswith("DataError: ") and HOSTILE[name][2] in message, message
    assert str(folder / HOSTILE[name][0]) in message and len(message) < 1000
    assert peak - before < 1200, f"{peak - before} MiB"


def test_all_files_together_take_little_memory(read):
    _, results, at_first = read
    peak = max(peak for _, peak, _ in results.values())
    print(f"at most {peak - at_first} MiB beyond the {at_first} of the imports")
    assert peak - at_first < 2048


def test_hostile_archives_run_no_code(read):
    assert not Path("/tmp/harm").exists()
