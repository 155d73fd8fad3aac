"""Kubernetes objects in a database file: counted by kind, and how their values are stored."""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass, field

from agent.etcd import protobuf
from agent.host import Host
from agent.survey.bbolt import HEADER_SIZE, Database, Page
from agent.survey.livekeys import Newest, finished_compaction
from agent.survey.schema import REVISION_SIZE

_VALUE_HEAD = 192
_KEY, _VALUE = 0x0A, 0x2A  # mvccpb.KeyValue: fields 1 and 5, of length
# k8s:enc:PROVIDER:VERSION:KEY: of the API server's encryption transformers (k8s.io/apiserver,
# pkg/server/options/encryptionconfig); the identity provider writes none.
_ENCRYPTED = re.compile(rb"k8s:enc:[a-z0-9]{1,32}:v[0-9]{1,3}:[ -9;-~]{1,128}:")
_ROOTS = (b"registry", b"kubernetes.io", b"openshift.io")
_GROUPED = (b"services",)
"""Kinds that have one more level: services/specs, services/endpoints."""


@dataclass
class Objects:
    """keys: that exist. kinds: objects by kind, "other" for keys outside of /registry/.

    prefixes: values by the prefix of their encryption provider ("k8s:enc:aescbc:v1:key1:"), ""
    for those that are not encrypted. encrypted: prefix → kinds with values under it.
    """

    keys: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    prefixes: Counter[str] = field(default_factory=Counter)
    encrypted: dict[str, set[str]] = field(default_factory=dict)


def count_objects(host: Host, path: str) -> Objects:
    """Look at each live key of a verified database or snapshot file. Raises DamagedAt.

    Flat memory but for 8 to 16 bytes a key changed since the last compaction (see livekeys).
    """
    counts: Counter[tuple[bytes, bytes]] = Counter()
    with Database(host, path) as db:
        keys = db.bucket("key")
        newest = Newest(finished_compaction(db))
        for page in keys.leaves(backwards=True) if keys else ():
            try:
                _count(page, newest, counts)
            except (protobuf.Malformed, IndexError, struct.error) as error:
                raise page.damaged(f"page {page.id}: not as etcd writes it: {error}") from None
    return _told(counts)


def _count(page: Page, newest: Newest, counts: Counter[tuple[bytes, bytes]]) -> None:
    """Count the newest records of a leaf by (kind, encryption prefix).

    Records without content raise the revision and are no keys.
    """
    data = page.slice(0, page.size)
    fields = struct.unpack_from(f"{page.db.layout.order}{4 * page.count}I", data, HEADER_SIZE)
    for row in range(page.count - 1, -1, -1):
        _flags, pos, size, length = fields[4 * row : 4 * row + 4]
        at = HEADER_SIZE + 16 * row + pos
        if not length:
            continue
        main = int.from_bytes(data[at : at + 8], "big")
        key, value = _key_and_head(data, at + size, length)
        if newest.is_first(key, main) and size == REVISION_SIZE:
            match = _ENCRYPTED.match(value)
            counts[_kind(key), match[0] if match else b""] += 1


def _told(counts: Counter[tuple[bytes, bytes]]) -> Objects:
    found = Objects()
    for (name, encryption), count in counts.items():
        kind, prefix = name.decode("utf-8", "replace"), encryption.decode("ascii")
        found.keys += count
        found.kinds[kind] += count
        found.prefixes[prefix] += count
        if prefix:
            found.encrypted.setdefault(prefix, set()).add(kind)
    return found


def kind_of(key: bytes) -> str:
    """The kind in a key of the API server: "pods", "services/specs", "apps.example.com/widgets".

    /registry/RESOURCE/…, /registry/GROUP/RESOURCE/…; OpenShift has /kubernetes.io/… and
    /openshift.io/… in place of /registry/. Anything else is "other".
    """
    return _kind(key).decode("utf-8", "replace")


def _kind(key: bytes) -> bytes:
    parts = key.split(b"/", 4)
    if len(parts) < 4 or parts[0] or parts[1] not in _ROOTS:
        return b"other"
    kind = parts[2]
    return kind + b"/" + parts[3] if b"." in kind or kind in _GROUPED else kind


def _key_and_head(data: bytes, at: int, size: int) -> tuple[bytes, bytes]:
    """The key, and the beginning of the value, of the mvccpb.KeyValue there.

    Fields 1 (key) and 5 (value) have a length, the others are varints. Raises Malformed,
    IndexError.
    """
    key, value, end = b"", b"", at + size
    while at < end:
        tag, at = data[at], at + 1
        if tag & 7 == 0:
            while data[at] > 127:
                at += 1
            at += 1
            continue
        number, at = protobuf.varint(data, at)
        if tag & 7 != 2 or at + number > end:
            raise protobuf.Malformed(f"proto: field {tag >> 3} does not fit")
        if tag == _KEY:
            key = data[at : at + number]
        elif tag == _VALUE:
            value = data[at : at + min(number, _VALUE_HEAD)]
        at += number
    return key, value
