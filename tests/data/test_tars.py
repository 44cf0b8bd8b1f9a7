"""Every member is where the standard library says it is; what is damaged is said to be; an index is kept."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from intermodal.data import tars
from intermodal.data.tars import index_of
from intermodal.errors import InvalidData
from tests.data_files import write_shard

MEMBERS = [
    ("a/1.txt", "one"),
    ("a/1.JSON", '{"caption": ["x", "y"], "label": "", "n": 3}'),
    ("a/2.left.txt", "two"),
    ("a/3.txt", ""),
    ("a/1.cls", "7\n"),
    (".hidden.txt", "no"),
    ("none", "no"),
]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_are_where_tarfile_finds_them(tmp_path: Path, form: int) -> None:
    deep = "d.x/" + "/".join(["folder" * 6] * 4) + "/"
    accent = "" if form == tarfile.USTAR_FORMAT else "é" * 60
    path = write_shard(tmp_path / "a.tar", [*MEMBERS, (f"{deep}{accent}9.a.b.txt", "nine")], form)
    with tarfile.open(path, "a", format=form) as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("a/5.txt")
            link.type, link.linkname = kind, "a/1.txt"
            tar.addfile(link)
    found = index_of(path)
    assert found.names.to_pylist() == ["a/1", "a/2", "a/3", f"{deep}{accent}9"]
    assert found.kinds == (("txt", "json", "cls", "json:caption"), ("left.txt",), ("txt",), ("a.b.txt",))
    assert found.counts == (1, 1, 1, 1)
    data = path.read_bytes()
    with tarfile.open(path) as tar:
        for i, name in enumerate(found.names.to_pylist()):
            for key, (offset, size) in found.members(i).items():
                info = next(m for m in tar if m.name.lower() == f"{name}.{key}".lower())
                assert (offset, size) == (info.offset_data, info.size)
                assert tar.extractfile(info).read() == data[offset : offset + size]


def test_a_size_in_bytes_instead_of_digits_is_read(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [("1.txt", "abc")])
    data = bytearray(path.read_bytes())
    data[124:136] = b"\x80" + (3).to_bytes(11, "big")
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:512]) + 256)
    path.write_bytes(data)
    assert index_of(path).members(0) == {"txt": (512, 3)}


def test_an_index_is_made_once_for_each_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_shard(tmp_path / "a.tar", MEMBERS)
    made: list[str] = []
    before = tars._scanned

    def counted(file: io.BufferedReader, size: int, shard: str) -> object:
        made.append(shard)
        return before(file, size, shard)

    monkeypatch.setattr(tars, "_scanned", counted)
    first, second = index_of(path), index_of(path)
    assert made == ["a.tar"]
    assert [first.members(i) for i in range(3)] == [second.members(i) for i in range(3)]
    write_shard(path, [("9.txt", "nine")])
    os.utime(path, ns=(1, 1))
    assert index_of(path).names.to_pylist() == ["9"]
    kept = next((tmp_path / "cache" / "shards").iterdir())
    kept.write_bytes(kept.read_bytes()[:50])
    assert index_of(path).names.to_pylist() == ["9"]
    assert len(made) == 3


@pytest.mark.parametrize("keep", [700, 512 * 3 + 100, 512 * 2])
def test_a_shard_that_was_cut_off_is_refused(tmp_path: Path, keep: int) -> None:
    path = write_shard(tmp_path / "a.tar", [("1.txt", "a" * 600), ("2.txt", "b")])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InvalidData, match=r"a\.tar is (damaged or )?cut off.*copy or download it again"):
        index_of(path)


def test_a_missing_end_is_said_and_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_shard(tmp_path / "a.tar", [("1.txt", "a" * 600), ("2.txt", "b")])
    path.write_bytes(path.read_bytes()[: 512 * 5])
    assert index_of(path).names.to_pylist() == ["1", "2"]
    assert "a.tar has no end mark" in caplog.text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.tar is empty"),
        (b"\x1f\x8b" + bytes(600), r"a.tar is packed \(gzip\); unpack it to a plain .tar first"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), r"is packed \(zstd\)"),
        (b"hello " * 200, "a.tar is cut off, or no tar archive"),
    ],
)
def test_what_is_no_tar_file_is_said_to_be(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(InvalidData, match=message):
        index_of(tmp_path / "a.tar")


def test_a_damaged_header_in_the_middle_is_no_end(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [("1.txt", "a"), ("2.txt", "b"), ("3.txt", "c")])
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidData, match=r"a\.tar is damaged or cut off: no header at byte 1,024"):
        index_of(path)


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.tar", [("1.txt", "a"), ("2.txt", "b"), ("1.TXT", "c")])
    with pytest.raises(InvalidData, match=r"a\.tar holds the member 1\.TXT twice"):
        index_of(path)


def test_an_absent_shard_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"none\.tar cannot be read or indexed: No such file"):
        index_of(tmp_path / "none.tar")
