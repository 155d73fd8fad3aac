"""Large files to and from a host, as raw bytes over stdin and stdout of an agent of their own.

`send`: one JSON line {"sending": bytes}, then exactly so many bytes. `receive`: one JSON line
{"have": bytes}, then takes the rest of the file from stdin, then says {"received": path}.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from typing import Any, BinaryIO

from agent.errors import Damaged, Refused, UsageError
from agent.host import STATE_DIR, Host
from agent.host.part_file import part_file
from agent.model.codec import parse_json

INCOMING = f"{STATE_DIR}/work/incoming"
_CHUNK = 1024 * 1024
_HASH = re.compile(r"[0-9a-f]{64}\Z")


def send(host: Host, request: str, out: BinaryIO) -> None:
    """Write pieces of files of ours: `request` is JSON [[path, offset, size], …].

    Raises Refused for a path outside our state directory, Damaged where a file is shorter.
    """
    pieces = _pieces(request)
    _line(out, {"sending": sum(size for _path, _offset, size in pieces)})
    for path, offset, size in pieces:
        with host.open(path) as file:
            file.seek(offset)
            while size:
                data = file.read(min(_CHUNK, size))
                if not data:
                    raise Damaged(f"{path}: {size} bytes shorter than it was")
                out.write(data)
                size -= len(data)
    out.flush()


def _pieces(request: str) -> list[tuple[str, int, int]]:
    found = parse_json(request, "pieces")
    if not isinstance(found, list):
        raise UsageError("pieces: not a list")
    return [_piece(row) for row in found]


def _piece(row: Any) -> tuple[str, int, int]:
    if not (isinstance(row, list) and len(row) == 3 and isinstance(row[0], str)):
        raise UsageError("a piece is [path, offset, size]")
    path, offset, size = row
    numbers = [n for n in (offset, size) if isinstance(n, int) and not isinstance(n, bool)]
    if len(numbers) != 2 or offset < 0 or size < 0:
        raise UsageError("a piece is [path, offset, size]")
    if posixpath.normpath(path) != path or not path.startswith(f"{STATE_DIR}/"):
        raise Refused(f"{path} is not below {STATE_DIR}", "no other file is sent")
    return path, offset, size


def receive(host: Host, name: str, size: int, sha256: str, source: BinaryIO, out: BinaryIO) -> None:
    """Take a file into `work/incoming/SHA256/NAME`; under that name only once it is whole.

    What an interrupted transfer left of the same file (`.part`) is gone on with. Raises Damaged
    where the bytes are others than announced, Refused where they do not fit.
    """
    if not _HASH.match(sha256) or name != posixpath.basename(name) or name[:1] in ("", "."):
        raise UsageError("receive takes NAME SIZE SHA256")
    target = f"{INCOMING}/{sha256[:16]}/{name}"
    part = f"{INCOMING}/{sha256[:16]}/.{name}.part"
    host.makedirs(posixpath.dirname(target))
    if not host.exists(target):
        _take(host, part, size, sha256, source, out)
        host.rename_new(part, target)
    else:
        _line(out, {"have": size})
    _line(out, {"received": target})


def discard_incoming(host: Host, path: str) -> None:
    """Take a received file away, with the directory that was made for it."""
    folder = posixpath.dirname(path)
    if posixpath.dirname(folder) != INCOMING:
        raise Refused(f"{path} is not below {INCOMING}", "nothing else is taken away")
    host.discard(folder)


def _take(host: Host, part: str, size: int, sha256: str, source: BinaryIO, out: BinaryIO) -> None:
    digest = hashlib.sha256()
    with part_file(host, part) as file:
        have = 0
        while data := file.read(_CHUNK):
            digest.update(data)
            have += len(data)
        if have > size:
            file.seek(0)
            file.truncate()
            digest, have = hashlib.sha256(), 0
        _require_room(host, part, size - have)
        _line(out, {"have": have})
        while have < size:
            data = source.read(min(_CHUNK, size - have))
            if not data:
                raise Damaged(f"the connection ended after {have} of {size} bytes of {part}")
            digest.update(data)
            file.write(data)
            have += len(data)
    if digest.hexdigest() != sha256:
        host.discard(part)
        raise Damaged(
            f"{part}: sha256 {digest.hexdigest()} arrived, {sha256} was announced",
            "it was changed on the way, or while it was read",
            "run the same command again",
        )


def _require_room(host: Host, path: str, need: int) -> None:
    free, _inodes = host.free(path)
    if free < need + 64 * _CHUNK:
        raise Refused(
            f"{host.hostname()}: {need >> 20} MiB are to come, {free >> 20} MiB are free",
            "a full disk would stop etcd",
            f"make room below {STATE_DIR}",
        )


def _line(out: BinaryIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()
