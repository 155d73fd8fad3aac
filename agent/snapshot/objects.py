"""Kubernetes objects in a database file: counted by kind, and how their values are stored."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from agent.host import Host
from agent.survey import protobuf
from agent.survey.bbolt import Database, Element, Page
from agent.survey.livekeys import Newest, finished_compaction
from agent.survey.schema import parse_revision

_HEAD = 1024
_VALUE_HEAD = 192
# k8s:enc:PROVIDER:VERSION:KEY: of the API server's encryption transformers (k8s.io/apiserver,
# pkg/server/options/encryptionconfig); the identity provider writes none.
_ENCRYPTED = re.compile(rb"k8s:enc:[a-z0-9]{1,32}:v[0-9]{1,3}:[ -9;-~]{1,128}:")
_GROUPED = ("services",)
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
    """Look at each live key of a database or snapshot file. Raises DamagedAt.

    Flat memory but for 8 to 16 bytes a key changed since the last compaction (see livekeys).
    """
    found = Objects()
    with Database(host, path) as db:
        keys = db.bucket("key")
        if keys is None:
            return found
        newest = Newest(finished_compaction(db))
        for page, element in keys.walk(backwards=True):
            revision = parse_revision(db, element.key)
            if not element.size:
                continue
            key, value = _key_and_head(page, element)
            if newest.is_first(key, revision.main) and not revision.tombstone:
                _count(found, key, value)
    return found


def _count(found: Objects, key: bytes, value: bytes) -> None:
    kind = kind_of(key)
    match = _ENCRYPTED.match(value)
    prefix = match[0].decode("ascii") if match else ""
    found.keys += 1
    found.kinds[kind] += 1
    found.prefixes[prefix] += 1
    if prefix:
        found.encrypted.setdefault(prefix, set()).add(kind)


def kind_of(key: bytes) -> str:
    """The kind in a key of the API server: "pods", "services/specs", "apps.example.com/widgets".

    /registry/RESOURCE/…, /registry/GROUP/RESOURCE/…; OpenShift has /kubernetes.io/… and
    /openshift.io/… in place of /registry/. Anything else is "other".
    """
    parts = key.decode("utf-8", "replace").split("/")
    if len(parts) < 4 or parts[0] or parts[1] not in ("registry", "kubernetes.io", "openshift.io"):
        return "other"
    if "." in parts[2] or parts[2] in _GROUPED:
        return f"{parts[2]}/{parts[3]}"
    return parts[2]


def _key_and_head(page: Page, element: Element) -> tuple[bytes, bytes]:
    """The key, and the beginning of the value, of the mvccpb.KeyValue that an element holds."""
    size = min(_HEAD, element.size)
    while True:
        data = page.slice(element.offset, size)
        try:
            return _parse(data)
        except (protobuf.Malformed, IndexError) as error:
            if size == element.size:
                raise page.damaged(f"page {page.id}: not a KeyValue: {error}") from None
        size = min(8 * size, element.size)


def _parse(data: bytes) -> tuple[bytes, bytes]:
    """Fields 1 (key) and 5 (value); all of the key and 192 bytes of the value must be in `data`."""
    key, at = b"", 0
    while at < len(data):
        tag, at = protobuf.varint(data, at)
        number, at = protobuf.varint(data, at)
        if tag & 7 == 0:
            continue
        if tag & 7 != 2:
            raise protobuf.Malformed(f"proto: wire type {tag & 7}")
        if at + (number if tag >> 3 == 1 else min(number, _VALUE_HEAD)) > len(data):
            raise protobuf.Malformed(protobuf.UNEXPECTED_EOF)
        if tag >> 3 == 5:
            return key, data[at : at + _VALUE_HEAD]
        key = data[at : at + number] if tag >> 3 == 1 else key
        at += number
    return key, b""
