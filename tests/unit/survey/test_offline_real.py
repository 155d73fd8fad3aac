"""The offline readers against what real etcds write, and against what they say at their start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.host import Host
from agent.model.facts import OfflineFacts
from agent.survey.dbcheck import check_db
from agent.survey.livekeys import iter_keys
from agent.survey.offline import read_offline
from tests.unit.etcd_lab import etcd_binaries, needs_etcd

PUTS = 60


pytestmark = needs_etcd()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Etcd:
    """One member on loopback with its data in `root`/etcd."""

    def __init__(self, binary: str, root: Path) -> None:
        self.binary, self.root = binary, root
        self.client, self.peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        argv = [
            self.binary, "--data-dir", str(self.root / "etcd"), "--name", "solo",
            "--listen-client-urls", self.client, "--advertise-client-urls", self.client,
            "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer,
            "--initial-cluster", f"solo={self.peer}", "--logger", "zap",
        ]  # fmt: skip
        with open(self.root / "log", "wb") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def post(self, path: str, body: str) -> dict[str, object]:
        """The JSON answer; retried for 20 s while etcd comes up."""
        deadline = time.monotonic() + 20
        while True:
            try:
                request = urllib.request.Request(self.client + path, body.encode())
                with urllib.request.urlopen(request, timeout=3) as answer:
                    found: dict[str, object] = json.load(answer)
                    return found
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.1)

    def log(self) -> str:
        return (self.root / "log").read_text(errors="replace")

    def facts(self) -> OfflineFacts:
        return read_offline(Host(str(self.root)), "/etcd")


@pytest.fixture(params=etcd_binaries(), ids=lambda path: str(path).replace("/", "-"))
def etcd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Etcd]:
    """A member that was killed after 60 puts."""
    member = Etcd(request.param, tmp_path)
    member.start()
    try:
        for _ in range(PUTS):
            member.post("/v3/kv/put", '{"key":"Zm9v","value":"%s"}' % ("YmFy" * 40))
        yield member
    finally:
        member.kill()


def segment(etcd: Etcd) -> Path:
    (path,) = (etcd.root / "etcd/member/wal").glob("*.wal")
    return path


def starts(etcd: Etcd) -> bool:
    etcd.start()
    try:
        etcd.post("/v3/maintenance/status", "{}")
    except OSError:
        return False
    return True


def test_facts_are_what_etcd_said(etcd: Etcd) -> None:
    status = etcd.post("/v3/maintenance/status", "{}")
    live = etcd.facts()
    etcd.kill()
    dead = etcd.facts()
    header = status["header"]
    assert isinstance(header, dict)
    for facts in (live, dead):
        assert facts.damage == ()
        assert facts.wal is not None
        assert facts.db is not None
        assert int(facts.wal.member_id, 16) == int(header["member_id"])
        assert int(facts.wal.cluster_id, 16) == int(header["cluster_id"])
        assert facts.wal.last_index >= int(str(status["raftIndex"]))
        assert facts.wal.term == int(str(status["raftTerm"]))
        assert facts.db.revision <= int(header["revision"])
        assert [m.id for m in facts.db.members] == [facts.wal.member_id]
    path = str(etcd.root / "etcd/member/snap/db")
    assert check_db(Host(), path) == []
    assert [live_key.key for live_key in iter_keys(Host(), path)] in ([], [b"foo"])


def test_torn_tail_is_what_etcd_repairs(etcd: Etcd) -> None:
    etcd.kill()
    path = segment(etcd)
    used = len(path.read_bytes().rstrip(b"\0"))
    os.truncate(path, used - 20)
    before = etcd.facts()
    assert before.wal is not None
    assert before.wal.torn_tail is not None
    assert before.wal.damage is None
    etcd.start()
    deadline = time.monotonic() + 20
    while "repaired" not in etcd.log() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "repaired" in etcd.log()
    etcd.kill()
    broken = path.with_name(path.name + ".broken")
    assert broken.stat().st_size == used - 20
    after = etcd.facts()
    assert after.wal is not None
    assert after.wal.damage is None
    assert after.wal.last_index >= before.wal.last_index


def test_flipped_bit_is_what_etcd_refuses(etcd: Etcd) -> None:
    etcd.kill()
    path = segment(etcd)
    data = bytearray(path.read_bytes())
    used = len(bytes(data).rstrip(b"\0"))
    data[used // 2] ^= 1
    path.write_bytes(data)
    facts = etcd.facts()
    assert facts.wal is not None
    assert facts.wal.damage is not None
    assert not starts(etcd)
    if facts.wal.damage.reason.startswith("crc mismatch"):
        assert "crc mismatch" in etcd.log()


def test_short_database_is_what_etcd_refuses(etcd: Etcd) -> None:
    etcd.kill()
    os.truncate(etcd.root / "etcd/member/snap/db", 4096)
    facts = etcd.facts()
    assert facts.db is not None
    assert facts.db.damage is not None
    assert not starts(etcd)
