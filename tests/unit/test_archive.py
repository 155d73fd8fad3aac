"""Archives that anybody may have made: what is taken, what is refused, what it may cost."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.archive import Archive, Limits, extract, name_problem, read_files
from agent.errors import Damaged, Refused
from agent.host import Host

MIB = 1024 * 1024
SMALL = Limits(total=64 * MIB)
FORMATS = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
CONTENT = {
    "manifest.json": b"{}",
    "certificates/server.crt": b"not one",
    "certificates/" + "x" * 90 + "/" + "y" * 90: bytes(3 * MIB),
    "empty": b"",
}


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, content in members:
            info.size = len(content) or info.size
            archive.addfile(info, io.BytesIO(content) if content else None)
    return out.getvalue()


def good(format: int = tarfile.PAX_FORMAT) -> bytes:
    files = [(member(name, mode=0o644), content) for name, content in CONTENT.items()]
    return tar((member("./", tarfile.DIRTYPE), b""), *files, format=format)


def read(data: bytes, limits: Limits = SMALL) -> dict[str, bytes]:
    return read_files(io.BytesIO(data), "set.tar", limits)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host whose every file is counted before and after: nothing outside may change."""
    (tmp_path / "outside").write_text("as it was")
    yield Host(str(tmp_path))
    assert (tmp_path / "outside").read_text() == "as it was"
    assert not Path("/tmp/pwned-by-archive").exists()


def unpack(host: Host, data: bytes, **more: int) -> object:
    return extract(host, io.BytesIO(data), "/new", "set.tar", SMALL, **more)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_what_went_in_comes_out(
    host: Host, tmp_path: Path, format: int, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(good(format))
    assert read(data) == CONTENT
    old = os.umask(0)
    try:
        done = extract(host, io.BytesIO(data), "/new", "set.tar")
    finally:
        os.umask(old)
    found = {
        str(p.relative_to(tmp_path / "new")): p.read_bytes()
        for p in (tmp_path / "new").rglob("*") if p.is_file()
    }  # fmt: skip
    assert found == CONTENT
    assert {entry.name for entry in done} == set(CONTENT)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "new").rglob("*")} <= {0o600, 0o700}


EVIL = [
    ("..", member("../evil")),
    ("..", member("a/../../evil")),
    ("absolute", member("/tmp/pwned-by-archive")),
    ("not normalised", member("a//b")),
    ("not normalised", member("a/./b")),
    ("symbolic link", member("a", tarfile.SYMTYPE, linkname="/etc")),
    ("hard link", member("a", tarfile.LNKTYPE, linkname="../outside")),
    ("a device", member("a", tarfile.CHRTYPE, devmajor=1, devminor=5)),
    ("a device", member("a", tarfile.BLKTYPE)),
    ("a pipe", member("a", tarfile.FIFOTYPE)),
    ("control characters", member("a\x1b]0;pwned\x07")),
    ("control characters", member("a\nb")),
    ("control characters", member("a\u202eb")),
    ("not UTF-8", member("a\udc80")),
    ("too long or too deep", member("/".join("a" * 40))),
    ("too long or too deep", member("a" * 256)),
    ("sparse", member("a", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})),
    ("sparse", member("a", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "1"})),
    ("extended header", member("a", pax_headers={"comment": "x" * 9000})),
    ("size is given", member("a", tarfile.DIRTYPE, size=512)),
]


@pytest.mark.reliability(
    "Hostile input",
    "an archive holds `..`, absolute names, links, devices or pipes: it is refused, nothing is"
    " written outside the new directory, and nothing is left of it",
)
@pytest.mark.parametrize(("told", "evil"), EVIL)
def test_members_that_are_refused(
    host: Host, tmp_path: Path, told: str, evil: tarfile.TarInfo
) -> None:
    data = tar((member("first"), b"1"), (evil, bytes(evil.size)))
    with pytest.raises((Refused, Damaged)) as caught:
        unpack(host, data)
    assert told in caught.value.seen
    assert str(caught.value).isprintable() or "\n" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["outside"]


def test_a_link_is_not_followed_by_a_later_member(host: Host, tmp_path: Path) -> None:
    data = tar((member("d", tarfile.SYMTYPE, linkname=str(tmp_path)), b""), (member("d/x"), b"1"))
    with pytest.raises(Refused, match="symbolic link"):
        unpack(host, data)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("told", "members"),
    [
        ("twice", ["a", "a"]),
        ("twice", ["a", "./a"]),
        ("is a file in the same archive", ["a", "a/b"]),
        ("is in the way", ["a/b", "a"]),
    ],
)
def test_nothing_is_written_twice(host: Host, told: str, members: list[str]) -> None:
    with pytest.raises(Refused, match=told):
        unpack(host, tar(*((member(name), b"1") for name in members)))


def test_an_existing_target_is_never_written_into(host: Host, tmp_path: Path) -> None:
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="exists"):
        unpack(host, good())
    (tmp_path / "new").unlink()
    (tmp_path / "new").mkdir()
    with pytest.raises(Refused, match="exists"):
        unpack(host, good())
    assert list((tmp_path / "new").iterdir()) == []


def test_modes_are_masked(host: Host, tmp_path: Path) -> None:
    data = tar((member("d", tarfile.DIRTYPE, mode=0o7777), b""), (member("d/f", mode=0o7777), b"1"))
    unpack(host, data, mode_mask=0o755)
    assert stat.S_IMODE((tmp_path / "new/d").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "new/d/f").stat().st_mode) == 0o755
    assert (tmp_path / "new/d/f").stat().st_uid == os.geteuid()


@pytest.mark.reliability(
    "Hostile input",
    "an archive is cut short at any byte, or a bit of it is flipped: it is refused as damaged or"
    " read as it was, never taken for a smaller one",
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "tar.gz"])
def test_a_cut_archive_is_never_taken_for_a_whole_one(pack: Callable[[bytes], bytes]) -> None:
    whole = tar((member("a"), b"1" * 700), (member("b" * 150), b"2"))
    data = pack(whole)
    end = len(data) if pack is gzip.compress else whole.rstrip(b"\0").__len__() // 512 * 512 + 512
    for cut in range(0, end, 7):
        with pytest.raises(Damaged):
            read(data[:cut])
    assert set(read(data)) == {"a", "b" * 150}


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_of_a_gzipped_archive_is_found(seed: int) -> None:
    chance = random.Random(seed)
    names = {"a": chance.randbytes(700), "b": b"2" * 9000}
    data = bytearray(gzip.compress(tar(*((member(n), c) for n, c in names.items())), mtime=0))
    for _ in range(60):
        bit = chance.randrange(80, len(data) * 8)  # gzip's own header has a time and a system
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            read(bytes(data))
        data[bit // 8] ^= 1 << bit % 8
    assert read(bytes(data)) == names


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", b"\x1f\x8b", b"\x1f\x8b\x08\x00" + bytes(40), bytes(512), b"x" * 5000,
     b"\xfd7zXZ\x00", b"BZh91AY&SY"],
)  # fmt: skip
def test_what_is_no_archive(data: bytes) -> None:
    if data == bytes(512):
        assert read(data) == {}  # an end mark and nothing before it
        return
    with pytest.raises(Damaged, match=r"set\.tar: not a whole tar archive"):
        read(data)


def test_data_behind_the_end_is_not_ignored() -> None:
    with pytest.raises(Damaged, match="behind the end"):
        read(good() + tar((member("hidden"), b"1")))


# ---- bombs ---------------------------------------------------------------------------------------


class Zeros(io.RawIOBase):
    """A gzipped tar of one file of `size` zeros, made as it is read."""

    def __init__(self, size: int) -> None:
        head = member("bomb", size=size).tobuf(tarfile.GNU_FORMAT)
        self._packer = zlib.compressobj(9, wbits=31)
        self._ready, self._left = self._packer.compress(head), size

    def read(self, size: int = -1) -> bytes:
        while len(self._ready) < size and self._left > 0:
            self._ready += self._packer.compress(bytes(MIB))
            self._left -= MIB
        data, self._ready = self._ready[:size], self._ready[size:]
        return data


@pytest.mark.reliability(
    "Hostile input",
    "a small archive unpacks to very much: it is refused at its limit, in flat memory, and nothing"
    " of it is left",
)
@pytest.mark.parametrize(
    ("told", "limits"),
    [
        ("come out of", Limits(entry=2**41, free_ratio=24 * MIB)),
        ("more than 32 MiB", Limits(entry=2**41, total=32 * MIB)),
        ("its size is given as", Limits(entry=2**40 - 1)),
    ],
)
def test_a_bomb_is_cut_off(host: Host, tmp_path: Path, told: str, limits: Limits) -> None:
    bomb = Zeros(2**40)
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match=told):
            extract(host, bomb, "/new", "set.tar", limits)  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB
    assert not (tmp_path / "new").exists()


def test_too_many_members() -> None:
    data = tar(*((member(f"f{n}"), b"") for n in range(50)))
    assert len(read(data, Limits(entries=50))) == 50
    with pytest.raises(Refused, match="more than 49 members"):
        read(data, Limits(entries=49))


def test_headers_of_headers_come_to_an_end() -> None:
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 100
    chain = (head.tobuf(tarfile.GNU_FORMAT) + b"a" * 100 + bytes(412)) * 3000
    with pytest.raises(Damaged, match="headers of headers"):
        read(chain)


def test_a_header_that_claims_gigabytes_is_not_read_into_memory() -> None:
    head = tarfile.TarInfo("././@PaxHeader")
    head.type, head.size = tarfile.XHDTYPE, 7 * 1024**3
    with pytest.raises(Damaged, match="extended header of"):
        read(head.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


def test_memory_is_flat_however_many_members() -> None:
    one = member("f", mode=0o600).tobuf(tarfile.GNU_FORMAT)
    archive = Archive(io.BytesIO(one * 2 + bytes(1024)), "set.tar")
    with pytest.raises(Refused, match="twice"):
        list(archive.entries())
    assert len(archive._tar.members) <= 1


@pytest.mark.parametrize("name", ["a", "a/b", "a b", "ä", "-rf", "$(x)", "a;b", "a" * 255])
def test_names_that_are_taken(name: str) -> None:
    assert name_problem(name) == ""
