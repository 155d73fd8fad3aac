"""Makes small bbolt files byte by byte, and databases of etcd in them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

from agent.survey.bbolt import BRANCH, BUCKET_FLAG, LEAF, MAGIC, NO_FREELIST, VERSION, fnv1a
from tests.unit.survey.make_wal import numbers, text

Tree = Mapping[bytes, Union[bytes, "Tree"]]


def meta_page(
    number: int, page_size: int, root: int, pages: int, txid: int, order: str = "<"
) -> bytes:
    head = struct.pack(order + "QHHI", number, 4, 0, 0)
    body = struct.pack(
        order + "4I5Q", MAGIC, VERSION, page_size, 0, root, 0, NO_FREELIST, pages, txid
    )
    return (head + body + struct.pack(order + "Q", fnv1a(body))).ljust(page_size, b"\0")


@dataclass
class DbMaker:
    """Lays a tree of buckets out in pages; `places` tells which pages a top-level bucket has."""

    page_size: int = 4096
    order: str = "<"
    per_leaf: int = 4
    inline_below: int = 0
    pages: dict[int, bytes] = field(default_factory=dict)
    next_page: int = 2
    places: dict[bytes, list[int]] = field(default_factory=dict)

    def file(self, tree: Tree, txid: int = 7) -> bytes:
        root = self.bucket(tree, True)
        newer, older = txid % 2, (txid + 1) % 2
        metas = {
            newer: meta_page(newer, self.page_size, root, self.next_page, txid, self.order),
            older: meta_page(older, self.page_size, root, self.next_page, txid - 1, self.order),
        }
        out = bytearray(self.page_size * self.next_page)
        for number, data in {**metas, **self.pages}.items():
            out[number * self.page_size : number * self.page_size + len(data)] = data
        return bytes(out)

    def bucket(self, tree: Tree, is_root: bool = False) -> int:
        """The root page of a bucket laid out as leaves of `per_leaf` keys below branches."""
        rows = []
        for key in sorted(tree):
            value = tree[key]
            if isinstance(value, bytes):
                rows.append((0, key, value))
                continue
            first = self.next_page
            rows.append((BUCKET_FLAG, key, self.bucket_value(value)))
            if is_root:
                self.places[key] = list(range(first, self.next_page))
        level = [
            self.leaf(rows[at : at + self.per_leaf]) for at in range(0, len(rows), self.per_leaf)
        ] or [self.leaf([])]
        while len(level) > 1:
            groups = [level[at : at + self.per_leaf] for at in range(0, len(level), self.per_leaf)]
            level = [self.branch(group) for group in groups]
        return level[0][1]

    def bucket_value(self, tree: Tree) -> bytes:
        flat = [(0, key, value) for key, value in sorted(tree.items()) if isinstance(value, bytes)]
        inline = self.leaf_bytes(0, flat)
        if len(inline) < self.inline_below and len(flat) == len(tree):
            return struct.pack(self.order + "QQ", 0, 0) + inline
        return struct.pack(self.order + "QQ", self.bucket(tree), 0)

    def leaf_bytes(self, number: int, rows: list[tuple[int, bytes, bytes]]) -> bytes:
        elements, body = b"", b""
        start = 16 + 16 * len(rows)
        for at, (flags, key, value) in enumerate(rows):
            pos = start + len(body) - (16 + 16 * at)
            elements += struct.pack(self.order + "IIII", flags, pos, len(key), len(value))
            body += key + value
        size = start + len(body)
        overflow = max(0, (size - 1) // self.page_size)
        head = struct.pack(self.order + "QHHI", number, LEAF, len(rows), overflow)
        return head + elements + body

    def leaf(self, rows: list[tuple[int, bytes, bytes]]) -> tuple[bytes, int]:
        data = self.leaf_bytes(self.next_page, rows)
        return (rows[0][1] if rows else b""), self._place(data)

    def branch(self, children: list[tuple[bytes, int]]) -> tuple[bytes, int]:
        elements, body = b"", b""
        start = 16 + 16 * len(children)
        for at, (key, page) in enumerate(children):
            pos = start + len(body) - (16 + 16 * at)
            elements += struct.pack(self.order + "IIQ", pos, len(key), page)
            body += key
        head = struct.pack(self.order + "QHHI", self.next_page, BRANCH, len(children), 0)
        return children[0][0], self._place(head + elements + body)

    def _place(self, data: bytes) -> int:
        number = self.next_page
        self.pages[number] = data
        self.next_page += max(1, -(-len(data) // self.page_size))
        return number


def revision(main: int, sub: int = 0, tombstone: bool = False) -> bytes:
    return struct.pack(">Q", main) + b"_" + struct.pack(">Q", sub) + (b"t" if tombstone else b"")


def key_value(key: bytes, value: bytes = b"v") -> bytes:
    return text(1, key) + text(5, value)


def member(member_id: int, name: str, learner: bool = False) -> bytes:
    value: dict[str, object] = {"id": member_id, "peerURLs": [f"https://{name}:2380"]}
    if name:
        value["name"] = name
        value["clientURLs"] = [f"https://{name}:2379"]
    if learner:
        value["isLearner"] = True
    return json.dumps(value).encode()


def etcd_tree(revisions: int = 20, index: int = 30) -> dict[bytes, dict[bytes, bytes]]:
    """Three members, one of them a learner with an ID of 15 digits; one alarm; `revisions` puts."""
    return {
        b"alarm": {numbers(0x1234567890ABCDEF, 1): b""},
        b"auth": {},
        b"cluster": {b"clusterVersion": b"3.5.0"},
        b"key": {
            revision(at + 2): key_value(b"/registry/pods/%d" % (at % 7)) for at in range(revisions)
        },
        b"members": {
            b"1234567890abcdef": member(0x1234567890ABCDEF, "master-0"),
            b"fff000000000001": member(0xFFF000000000001, "master-1", learner=True),
            b"ffff000000000002": member(0xFFFF000000000002, ""),
        },
        b"members_removed": {b"abcdef": b"removed"},
        b"meta": {
            b"consistent_index": struct.pack(">Q", index),
            b"term": struct.pack(">Q", 2),
            b"confState": b'{"voters":[1311768467294899695],"learners":[2],"auto_leave":false}',
            b"storageVersion": b"3.6.0",
        },
    }
