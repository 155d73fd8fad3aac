"""Reads tar and tar.gz archives that anybody may have made: bounded, strict, flat memory.

Accepted are regular files and directories with relative, normalised UTF-8 names, each once, up to
an end mark. Refused is all else that a tar archive can hold: links, devices, pipes, sparse files,
`..`, absolute names, global headers, names with control characters. Owners are never taken over.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Optional

from agent.errors import Damaged, Refused
from agent.host import Host
from agent.host.new_tree import NewTree

MIB = 1024 * 1024
_CHUNK = MIB
_GZIP = b"\x1f\x8b"
_KINDS = {tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "directory"}
_HEADERS = (
    tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
_MAX_HEADER = 8 * 1024
_MAX_CHAIN = 4
_HEADER_SHARE = 1024
_BROKEN = (
    tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError,
    LookupError,
)  # fmt: skip
_WHAT = {
    tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link", tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file", tarfile.XGLTYPE: "a global header",
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What an archive may cost. total: bytes unpacked, headers included; also bytes read.

    ratio: unpacked to packed bytes, looked at from `free_ratio` unpacked bytes on (an empty etcd
    database, and the preallocated end of a log, are zeros that shrink to a thousandth).
    """

    entries: int = 20_000
    total: int = 64 * 1024 * MIB
    entry: int = 64 * 1024 * MIB
    ratio: int = 250
    free_ratio: int = 256 * MIB
    depth: int = 32


DEFAULT = Limits()


@dataclass(frozen=True)
class Entry:
    """One member. kind: file or directory; mode: permission bits only; mtime: seconds.

    sha256: of the content, empty before it was read, and for a directory.
    """

    name: str
    kind: str
    size: int
    mode: int
    mtime: float
    sha256: str = ""


class Archive:
    """An archive read once, from front to back; `entries` gives its members as they come.

    source: anything with read(n), at its beginning; it is not closed. what: its name, for errors.
    """

    def __init__(self, source: BinaryIO, what: str, limits: Limits = DEFAULT) -> None:
        self.what, self.limits = what, limits
        self._packed = _Counted(source, limits.total, self._too_large)
        head = self._packed.read(len(_GZIP))
        self._packed.put_back(head)
        plain: Any = self._packed
        if head == _GZIP:
            plain = gzip.GzipFile(fileobj=self._packed, mode="rb")
        self._plain: Any = _Counted(plain, limits.total, self._too_large, self._check_ratio)
        self._seen: dict[str, str] = {}
        self._tar: Any = None
        self._current: Optional[tarfile.TarInfo] = None

    def entries(self) -> Iterator[Entry]:
        """Every member in turn; its content, if wanted, is read before the next one is asked for.

        Raises Damaged where the archive is cut short or no archive, Refused where a member is of a
        kind, a name or a size that is not taken. What came before such a member was given out.
        """
        try:
            self._tar = tarfile.open(  # noqa: SIM115 - not a file of ours to close
                fileobj=self._plain, mode="r|", tarinfo=_StrictInfo, bufsize=64 * 1024,
                encoding="utf-8", errors="surrogateescape",
            )  # fmt: skip
            while True:
                self._current = self._tar.next()
                if self._current is None:
                    break
                self._tar.members.clear()  # they would pile up
                entry = self._checked(self._current)
                if entry is not None:
                    yield entry
            self._require_nothing_behind()
        except _BROKEN as error:
            raise self._damaged(str(error) or type(error).__name__) from None
        except OSError as error:  # what gzip and tarfile say of bad input before Python 3.12
            if error.errno is not None:
                raise
            raise self._damaged(str(error)) from None

    def chunks(self) -> Iterator[bytes]:
        """The content of the file that `entries` gave last, at most 1 MiB at a time."""
        info, size = self._current, 0
        if info is None or info.type == tarfile.DIRTYPE:
            return
        try:
            file = self._tar.extractfile(info)
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                yield chunk
        except _BROKEN as error:
            raise self._damaged(str(error) or type(error).__name__) from None
        if size != info.size:
            raise self._damaged(f"{info.name}: {size} of {info.size} bytes")

    # ---- checks ----------------------------------------------------------------------------------

    def _checked(self, info: tarfile.TarInfo) -> Optional[Entry]:
        """The member as an Entry; None for the archive's own top directory (`./`)."""
        kind = _KINDS.get(info.type)
        if kind is None or info.sparse or "GNU.sparse.major" in info.pax_headers:
            what = _WHAT.get(info.type, "a sparse file" if kind else f"of type {info.type!r}")
            raise self._refused(info.name, f"it is {what}")
        if kind == "directory" and info.name.rstrip("/") in (".", ""):
            return None
        name = self._checked_name(info.name, kind)
        if not 0 <= info.size <= self.limits.entry or (kind == "directory" and info.size):
            raise self._refused(name, f"its size is given as {info.size} bytes")
        if len(self._seen) >= self.limits.entries:
            raise self._refused(name, f"the archive has more than {self.limits.entries} members")
        self._seen[name] = kind
        mtime = float(info.mtime) if 0 <= info.mtime < 2**40 else 0.0
        return Entry(name, kind, info.size, info.mode & 0o777, mtime)

    def _checked_name(self, name: str, kind: str) -> str:
        plain = name[2:] if name.startswith("./") else name
        plain = plain[:-1] if kind == "directory" and plain.endswith("/") else plain
        problem = name_problem(plain, self.limits.depth)
        if problem:
            raise self._refused(name, problem)
        if plain in self._seen:
            raise self._refused(name, "this name is in the archive twice")
        parent = plain.rpartition("/")[0]
        while parent:
            if self._seen.get(parent) == "file":
                raise self._refused(name, f"{parent} is a file in the same archive")
            parent = parent.rpartition("/")[0]
        return plain

    def _require_nothing_behind(self) -> None:
        """Behind the end mark only zeros may come; reading on also proves gzip's checksum."""
        while rest := self._tar.fileobj.read(_CHUNK):
            if rest.count(0) != len(rest):
                raise self._damaged("there is data behind the end of the archive")

    def _check_ratio(self, unpacked: int) -> None:
        packed = max(self._packed.count, 1)
        if unpacked > self.limits.free_ratio and unpacked > self.limits.ratio * packed:
            raise Refused(
                f"{self.what}: {unpacked} bytes come out of {packed}",
                "so small an archive that unpacks to so much is made to fill a disk",
            )

    def _too_large(self) -> Refused:
        return Refused(
            f"{self.what}: more than {self.limits.total // MIB} MiB",
            "no archive of this kind is that large",
        )

    def _refused(self, name: str, why: str) -> Refused:
        shown = name if len(name) <= 200 else f"{name[:200]}…"
        return Refused(
            f"{self.what}: member {shown!r}: {why}",
            "only regular files and directories with plain relative names are taken",
        )

    def _damaged(self, reason: str) -> Damaged:
        return Damaged(f"{self.what}: not a whole tar archive: {reason.splitlines()[0][:200]}")


def name_problem(name: str, depth: int = DEFAULT.depth) -> str:
    """Why `name` may not be a member's name, or an empty string."""
    parts = name.split("/")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if name.startswith("/"):
        return "its name is absolute"
    if ".." in parts:
        return "its name has `..` in it"
    if any(part in ("", ".") for part in parts):
        return "its name is empty or not normalised"
    if not name.isprintable():
        return "its name has control characters in it"
    if max(sizes) > 255 or sum(sizes) + len(parts) > 4096 or len(parts) > depth:
        return "its name is too long or too deep"
    return ""


def read_files(source: BinaryIO, what: str, limits: Limits) -> dict[str, bytes]:
    """Name → content of every file, in memory: for small archives; `limits.total` bounds it.

    Raises Damaged, Refused.
    """
    archive = Archive(source, what, limits)
    found = {}
    for entry in archive.entries():
        if entry.kind == "file":
            found[entry.name] = b"".join(archive.chunks())
    return found


def extract(
    host: Host,
    source: BinaryIO,
    target: str,
    what: str,
    limits: Limits = DEFAULT,
    mode_mask: int = 0o700,
) -> tuple[Entry, ...]:
    """Unpack into the new directory `target`; every file fsynced, its sha256 in its Entry.

    target must not exist; its parent must. It belongs to who runs this, 0700, until the caller says
    otherwise. mode_mask: what is left of the members' permission bits; owner's read and write (for
    a directory also search) are always set; set-user-ID and the like never. Nothing is left behind
    where it fails. Raises Damaged, Refused; OSError where the disk is full or read-only.
    """
    archive = Archive(source, what, limits)
    done: list[Entry] = []
    with NewTree(host, target) as tree:
        for entry in archive.entries():
            mode = entry.mode & mode_mask & 0o777
            if entry.kind == "directory":
                tree.directory(entry.name, mode | 0o700)
                done.append(entry)
            else:
                digest = _write(archive, tree, entry.name, mode | 0o600)
                done.append(replace(entry, sha256=digest))
    return tuple(done)


def _write(archive: Archive, tree: NewTree, name: str, mode: int) -> str:
    digest = hashlib.sha256()
    with tree.file(name, mode) as file:
        for chunk in archive.chunks():
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


# ---- underneath ----------------------------------------------------------------------------------


class _Counted:
    """A stream that counts what is read from it, up to a limit."""

    def __init__(self, source: Any, limit: int, too_large: Any, look: Any = None) -> None:
        self.count = 0
        self._source, self._limit, self._too_large, self._look = source, limit, too_large, look
        self._back = b""

    def put_back(self, data: bytes) -> None:
        """Give these bytes again, before all others."""
        self._back, self.count = data, self.count - len(data)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, at most 1 MiB. Raises Refused above the limit."""
        size = min(size, _CHUNK) if size >= 0 else _CHUNK
        data: bytes
        if self._back:
            data, self._back = self._back[:size], self._back[size:]
        else:
            data = self._source.read(size) or b""
        self.count += len(data)
        if self.count > self._limit:
            raise self._too_large()
        if self._look is not None:
            self._look(self.count)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Not possible: gzip asks for it only to begin anew."""
        raise io.UnsupportedOperation("seek")

    def tell(self) -> int:
        """How much was read."""
        return self.count


class _StrictInfo(tarfile.TarInfo):
    """tarfile's parser of headers, without its leniency: what it would skip or swallow raises."""

    @classmethod
    def fromtarfile(cls, tar: Any) -> Any:
        """One header and those that belong to it; anything but a header or the end mark is damage.

        tarfile takes a header that is cut short, or wrong, for the end of the archive.
        """
        tar.chain = getattr(tar, "chain", 0) + 1
        if tar.chain > _MAX_CHAIN:
            raise tarfile.ReadError("headers of headers")
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            if tar.chain > 1:
                raise tarfile.ReadError("it ends in the middle of a member's headers") from None
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None
        finally:
            tar.chain -= 1

    def _proc_member(self, tar: Any) -> Any:
        """Where tarfile decides what a header is; documented there as the place to extend it."""
        if self.size < 0:
            raise tarfile.ReadError(f"a member of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE or self.type == tarfile.XGLTYPE:
            raise tarfile.ReadError(f"{_WHAT[self.type]}, which no archive of ours has")
        if self.type in _HEADERS:
            # They are read whole into memory, and parsed slowly.
            tar.headers = getattr(tar, "headers", 0) + self.size
            share = MIB + _HEADER_SHARE * (tar.fileobj.pos // tarfile.BLOCKSIZE)
            if self.size > _MAX_HEADER or tar.headers > share:
                raise tarfile.ReadError(f"an extended header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]

    def _refuse_sparse(self, *_: Any) -> None:
        """GNU's sparse files told in extended headers; their maps have no bounds."""
        raise tarfile.ReadError(f"{_WHAT[tarfile.GNUTYPE_SPARSE]}, which no archive of ours has")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse
