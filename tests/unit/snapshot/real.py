"""Snapshots of real etcds, and what those etcds said they hold."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.unit.etcd_lab import Node, Plain, running


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def post(node: Node, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(node.endpoint + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def put(node: Node, *pairs: tuple[bytes, bytes]) -> int:
    """Put all pairs in one transaction; its revision."""
    ops = [{"requestPut": {"key": encoded(k), "value": encoded(v)}} for k, v in pairs]
    return int(post(node, "/v3/kv/txn", {"success": ops})["header"]["revision"])


def delete(node: Node, key: bytes) -> None:
    post(node, "/v3/kv/deleterange", {"key": encoded(key)})


def compact(node: Node, revision: int) -> None:
    """Compact, and wait until the old revisions are gone from the database."""
    post(node, "/v3/kv/compaction", {"revision": revision, "physical": True})


def count_keys(node: Node) -> int:
    body = {"key": encoded(b"\0"), "range_end": encoded(b"\0"), "count_only": True}
    return int(post(node, "/v3/kv/range", body).get("count", 0))


def save(node: Node, path: Path) -> Path:
    """A snapshot taken by the etcdctl beside that etcd."""
    etcdctl = str(Path(node.binary).parent / "etcdctl")
    subprocess.run(
        [etcdctl, "--endpoints", node.endpoint, "snapshot", "save", str(path)],
        env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"}, check=True, capture_output=True,
    )  # fmt: skip
    return path


@contextmanager
def single(folder: Path, binary: str, *extra: str) -> Iterator[Node]:
    """One etcd without TLS, alone."""
    with running(folder, binary, Plain(tls=False, extra=extra)) as (node,):
        yield node


def random_history(node: Node, seed: int, changes: int) -> None:
    """Puts, deletions and compactions in a random order, some keys long, some values large."""
    dice = random.Random(seed)
    revision = compacted = 1
    for _ in range(changes):
        name = b"/registry/%s/%d" % (b"x" * dice.choice((1, 60, 200)), dice.randrange(40))
        act = dice.random()
        if act < 0.7:
            value = dice.randbytes(dice.choice((10, 900, 5000, 20_000)))
            revision = put(node, (name, value), (name + b"/second", b"v"))
        elif act < 0.95:
            delete(node, name)
        elif revision > compacted:
            compacted = dice.randrange(max(compacted + 1, revision - 20), revision + 1)
            compact(node, compacted)
