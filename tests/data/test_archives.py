"""Folders, zips and tars have one interface, and damaged ones are reported."""

import errno
import io
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mixgan_cli.data.archives import Archive, damage_errors
from mixgan_cli.data.cache import cache_dir
from mixgan_cli.data.datasets.arrays import read_array
from mixgan_cli.errors import DataError

CONTENTS = {"set/b/2.bin": b"two", "set/a/1.bin": b"one" * 5000, "set/.hidden": b"no", "__MACOSX/set/a/1.bin": b"no"}
SHOWN = ["set/a/1.bin", "set/b/2.bin"]


def packed_as(kind, tmp_path):
    folder = tmp_path / "folder"
    for name, content in CONTENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if kind == "folder":
        return folder
    path = tmp_path / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in CONTENTS:
                archive.write(folder / name, name)
    else:
        with tarfile.open(path, "w" if kind == "tar" else "w:gz") as archive:
            for name in CONTENTS:
                archive.add(folder / name, name)
    return path


KINDS = ["folder", "zip", "tar", "tar.gz", "tgz"]


@pytest.mark.parametrize("kind", KINDS)
def test_names_contents_and_order(kind, tmp_path):
    archive = Archive(packed_as(kind, tmp_path), "data.root")
    assert archive.names == SHOWN
    assert dict(archive.read_each(SHOWN)) == {name: CONTENTS[name] for name in SHOWN}
    assert [name for name, _ in archive.read_each(SHOWN[::-1])] == SHOWN[::-1]
    assert archive.read("set/b/2.bin") == b"two"
    with archive.open("set/a/1.bin") as file:
        assert file.read(4) == b"oneo"
    assert archive.find("1.bin") == "set/a/1.bin" and archive.find("b/2.bin") == "set/b/2.bin"
    assert archive.find(".bin") is None and archive.find("3.bin") is None


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_fingerprint_changes_with_the_source(kind, tmp_path):
    path = packed_as(kind, tmp_path)
    before = Archive(path, "data.root").fingerprint()
    assert before == Archive(path, "data.root").fingerprint()
    changed = path / SHOWN[0] if kind == "folder" else path
    changed.write_bytes(changed.read_bytes() + b"more")
    assert before != Archive(path, "data.root").fingerprint()


@pytest.mark.parametrize("kind", KINDS)
def test_fingerprint_follows_content_and_not_times_or_place(kind, tmp_path):
    """A copy elsewhere is the same; a file of the same name, size and time but of other content is not."""
    path, copy = packed_as(kind, tmp_path), tmp_path / f"copy.{kind}"
    before, changed = Archive(path, "data.root").fingerprint(), path / SHOWN[1] if path.is_dir() else path
    (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
    assert Archive(copy, "data.root").fingerprint() == before
    times, content = changed.stat(), changed.read_bytes()
    changed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert changed.stat().st_size == times.st_size and changed.stat().st_mtime_ns == times.st_mtime_ns
    assert Archive(path, "data.root").fingerprint() != before


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_files_are_read_again_only_if_they_changed(kind, tmp_path, monkeypatch):
    path = packed_as(kind, tmp_path)
    monkeypatch.setattr("mixgan_cli.data.fingerprint.SETTLED", -1)  # as if written long ago
    first = Archive(path, "data.root").fingerprint()
    monkeypatch.setattr("mixgan_cli.data.fingerprint.CHUNK", "not a number")  # reading would fail
    assert Archive(path, "data.root").fingerprint() == first
    os.utime(path / SHOWN[0] if path.is_dir() else path, (1, 1))
    with pytest.raises(TypeError):
        Archive(path, "data.root").fingerprint()


def test_files_too_large_to_be_read_are_not_fingerprinted(tmp_path):
    """A file with a hole of a terabyte takes no time."""
    with (tmp_path / "hole.png").open("wb") as file:
        file.truncate(2**40)
    assert Archive(tmp_path, "data.root").fingerprint()


def test_links_in_a_folder_are_followed(tmp_path):
    """A class folder that is a link, a link to a file, one to nothing, and one that leads back up."""
    packed_as("folder", tmp_path / "outside")
    root = tmp_path / "root"
    root.mkdir()
    (root / "class").symlink_to(tmp_path / "outside" / "folder" / "set" / "a")
    (root / "1.bin").symlink_to(tmp_path / "outside" / "folder" / "set" / "b" / "2.bin")
    (root / "gone.bin").symlink_to(tmp_path / "nowhere")
    (root / "up").symlink_to(root)
    archive = Archive(root, "data.root")
    assert archive.names == ["1.bin", "class/1.bin"] and archive.read("1.bin") == b"two"
    assert archive.left_out(["1.bin"]) == "2 files (1 .bin, 1 broken links)"


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_links_in_a_tar_are_their_targets(kind, tmp_path):
    path = tmp_path / f"set.{kind}"
    with tarfile.open(path, "w" if kind == "tar" else "w:gz") as archive:
        for name, link, target in (
            ("./a/1.bin", None, None),
            ("b/hard.bin", tarfile.LNKTYPE, "a/1.bin"),
            ("b/soft.bin", tarfile.SYMTYPE, "../a/1.bin"),
            ("b/gone.bin", tarfile.SYMTYPE, "x"),
        ):
            member = tarfile.TarInfo(name)
            if link is None:
                member.size = 3
                archive.addfile(member, io.BytesIO(b"one"))
            else:
                member.type, member.linkname = link, target
                archive.addfile(member)
    archive = Archive(path, "data.root")
    assert [Path(name).name for name in archive.names] == ["1.bin", "hard.bin", "soft.bin"]
    assert [content for _, content in archive.read_each(archive.names)] == [b"one"] * 3
    assert archive.left_out(archive.names) == "1 files (1 broken links)"


@pytest.mark.parametrize("of", ["iterdir", "stat"])
def test_unreadable_folder_is_named_and_not_left_out(of, tmp_path, monkeypatch):
    """Half of the images would be missing, and no one would know."""
    folder, real = packed_as("folder", tmp_path), getattr(Path, of)
    hidden = folder / "set" / "b" if of == "iterdir" else folder / "set" / "b" / "2.bin"

    def refuse(path, *arguments, **options):
        if path == hidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, of, refuse)  # root may read everything
    with pytest.raises(DataError, match=re.escape(f"{hidden}: cannot be read (Permission denied)")):
        Archive(folder, "data.root").fingerprint()


def test_only_downloads_are_said_to_be_deleted(tmp_path):
    """A folder or archive of the user may be the only copy."""
    for path, advice in ((tmp_path / "mine", "Replace it by an intact copy"), (cache_dir() / "set", "Delete it and")):
        expected = f"{path}: x.bin: truncated or damaged .*{advice}"
        with pytest.raises(DataError, match=expected), damage_errors(path, "x.bin"):
            raise ValueError("no image")


def test_backslashes_in_a_zip_separate_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("cats\\1.bin", b"one")
        archive.writestr("dogs\\@eaDir\\1.bin\\THUMB.bin", b"no")
    archive = Archive(tmp_path / "set.zip", "data.root")
    assert archive.names == ["cats/1.bin"] and archive.read("cats/1.bin") == b"one"
    assert archive.left_out(archive.names) == "1 files (1 hidden)"


@pytest.mark.parametrize(
    ("local", "central", "value", "reason"),
    [(6, 8, 1, "x.npy is encrypted with a password"), (8, 10, 9, "x.npy is compressed by the method 'deflate64'"),
     (8, 10, 77, "x.npy is compressed by the method 77")],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".zip", ".npz"])
def test_zip_that_cannot_be_unpacked_is_not_called_damaged(tmp_path, ending, local, central, value, reason):
    path = tmp_path / f"set{ending}"
    np.savez(tmp_path / "set.npz", x=np.zeros(3))
    content = bytearray((tmp_path / "set.npz").read_bytes())
    content[local] = content[content.index(b"PK\1\2") + central] = value
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as raised:
        _ = Archive(path, "data.root").names if ending == ".zip" else read_array(path, "x")
    assert "truncated or damaged" not in str(raised.value)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_truncated_archive_is_reported(kind, tmp_path):
    path = packed_as(kind, tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    with pytest.raises(DataError, match="truncated"):
        archive = Archive(path, "data.root")
        dict(archive.read_each(archive.names))


@pytest.mark.parametrize("more", [0, 100, 512])
def test_tar_cut_between_two_files_is_reported(more, tmp_path):
    """Python's tarfile would read it as a complete one with fewer files."""
    path = packed_as("tar", tmp_path)
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset + more])
    if more == 512:  # only the header of the last file is left
        assert last.size > 0
    with pytest.raises(DataError, match="truncated"):
        _ = Archive(path, "data.root").names


def test_missing_path_and_other_kinds_of_file(tmp_path):
    with pytest.raises(DataError, match="no such folder or zip"):
        Archive(tmp_path / "nowhere", "data.root")
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        Archive(tmp_path / "text.txt", "data.root")


def test_hostile_names_write_and_read_nothing_else(tmp_path):
    """Nothing is extracted, so names that point elsewhere do no harm."""
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as archive:
        (tmp_path / "payload").write_bytes(b"payload")
        archive.add(tmp_path / "payload", "../../outside.bin")
        link = tarfile.TarInfo("link.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    hostile = Archive(path, "data.root")
    assert "link.bin" not in hostile.names
    assert all(content == b"payload" for _, content in hostile.read_each(hostile.names))
    assert not (tmp_path.parent.parent / "outside.bin").exists()


def test_kinds_of_files_left_out_are_in_a_fixed_order(tmp_path):
    for name in ("one.png", "b.txt", "a.db", "c.db", "Readme", "d.csv"):
        (tmp_path / name).touch()
    assert Archive(tmp_path, "data.root").left_out(["one.png"]) == "5 files (2 .db, 1 .csv, 1 .txt, 1 no suffix)"
