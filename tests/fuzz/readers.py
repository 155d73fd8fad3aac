"""What is fuzzed: each reader with its samples, its errors, and what would be a wrong answer."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from agent.archive import Limits, name_problem, read_files
from agent.entry.session import parse_request
from agent.errors import Damaged, Refused, RescueError, UsageError
from agent.etcd import protobuf
from agent.etcd.answers import (
    KvHash,
    parse_added,
    parse_alarms,
    parse_hash,
    parse_members,
    parse_range,
    parse_status,
    understood,
)
from agent.etcd.errors import EtcdError
from agent.etcd.transport import Reply, failure
from agent.model.codec import parse_json
from agent.model.facts import EtcdConfig, TlsFiles
from agent.model.plan import plan_from_plain, plan_to_plain
from agent.records.journal import JOURNAL_DIR, Journal, Record
from agent.records.locks import LOCK_FILE, read_lock
from agent.snapshot.verify import verify_snapshot
from agent.survey import crc32c, snapfiles
from agent.survey.bbolt import Database
from agent.survey.causes import find_causes
from agent.survey.certificates import read_certificates
from agent.survey.containers import parse_containers
from agent.survey.dbcheck import check_db
from agent.survey.envfile import parse_env, values
from agent.survey.flags import from_environment, parse_argv
from agent.survey.livekeys import iter_keys
from agent.survey.loglines import join_cri, normalise
from agent.survey.manifest import etcd_config
from agent.survey.pod import parse_pod
from agent.survey.positioned import DamagedAt
from agent.survey.schema import conf_state, read_db
from agent.survey.settings import Settings, settle
from agent.survey.unitfile import parse_unit, words
from agent.survey.wal import read_log
from coordinator.channel import MAX_GARBAGE, Messages, greeted
from coordinator.hostkeys import KnownHosts, Server
from coordinator.inventory import load_inventory
from tests.fuzz import repair
from tests.fuzz.inventory_readers import INVENTORY_READERS
from tests.fuzz.more_readers import MORE_READERS
from tests.fuzz.openshift311_readers import OPENSHIFT311_READERS
from tests.fuzz.reader import Ranges, Reader, Wrong, file_of

MIB = 1024 * 1024


def _wal(data: bytes) -> Any:
    with file_of(data, "wal/0000000000000000-0000000000000000.wal") as (host, _):
        return read_log(host, "/wal")


def _wal_covered(sample: bytes) -> Ranges:
    """The data of every record; not their frames, types and padding, which nothing protects."""
    found, at = [], 0
    while at + 8 <= len(sample):
        length = int.from_bytes(sample[at : at + 8], "little")
        size = length & ((1 << 56) - 1)
        if not length:
            break
        content = protobuf.message(sample[at + 8 : at + 8 + size], {3: 2}).get(3, b"")
        assert isinstance(content, bytes)
        found.append((at + 8 + size - len(content), at + 8 + size))
        at += 8 + size + ((length >> 56) & 7 if length >> 63 else 0)
    return [(start, end) for start, end in found if start < end]


def _wal_warned(answer: Any) -> bool:
    return bool(answer.facts.damage or answer.facts.torn_tail)


def _db(data: bytes) -> Any:
    with file_of(data, "db") as (host, path):
        facts, places = read_db(host, path), check_db(host, path, 5)
        if not places and facts.damage and facts.damage.reason.startswith("page "):
            raise Wrong(f"the check of all pages passed over {facts.damage}")
        if facts.damage is None:
            with Database(host, path) as db:
                conf_state(db)
            for _ in iter_keys(host, path):
                pass
        return replace(facts, txid=0), places


def _db_like(answer: Any, whole: Any) -> bool:
    """Where one meta is bad bbolt takes the other: the commit before. The tree must be whole."""
    facts, places = answer
    return facts.page_size == whole[0].page_size and (not places or places == whole[1])


def _metas(sample: bytes) -> Ranges:
    return [(16, 80), (4096 + 16, 4096 + 80)]


def _snapshot(data: bytes) -> Any:
    with file_of(data, "saved.db") as (host, path):
        return verify_snapshot(host, path)


def _all(sample: bytes) -> Ranges:
    return [(0, len(sample))]


def _snap(data: bytes) -> Any:
    with file_of(data, "0000000000000002-0000000000000015.snap") as (host, path):
        problem = snapfiles.check_snapshot(host, path)
        if problem:
            return problem
    found = protobuf.message(data, {1: 0, 2: 2})
    content = found.get(2, b"")
    assert isinstance(content, bytes)
    if crc32c.update(0, content) != protobuf.unsigned(found, 1) & 0xFFFFFFFF:
        raise Wrong("a snapshot whose checksum does not fit was passed")
    return content


def _snap_warned(answer: Any) -> bool:
    return not isinstance(answer, bytes)


def _manifest(data: bytes) -> Any:
    with file_of(data, "etcd.yaml") as (host, path):
        text = host.read_text(path, MIB)
    pod = parse_pod(text, path)
    try:
        told = yaml.safe_load(text.replace("\t", " "))
    except (yaml.YAMLError, ValueError, RecursionError):
        told = None  # PyYAML makes dates and numbers of what stays text here
    if isinstance(told, dict) and "\t" not in text:
        _compare(pod.containers, told.get("spec", {}).get("containers", []))
    return etcd_config(text, path)


def _compare(containers: Any, told: Any) -> None:
    """What PyYAML itself makes of the same text."""
    for mine, theirs in zip(containers, told, strict=True):
        for key in ("command", "args"):
            plain = theirs.get(key) or []
            is_text = all(isinstance(item, str) for item in plain) and "<<" not in theirs
            if is_text and list(getattr(mine, key)) != plain:
                raise Wrong(f"{key}: {getattr(mine, key)} for {plain}")


def _command(data: bytes) -> EtcdConfig:
    argv = [word.decode(errors="surrogateescape") for word in data.split(b"\0")]
    environment = from_environment(dict(word.partition("=")[::2] for word in argv))
    got = Settings("unit", parse_argv(argv), environment, lambda path: (path, ""))
    return settle(got, "")


def _environment(data: bytes) -> Any:
    text = data.decode(errors="surrogateescape")
    found = parse_env(text)
    for one in found:
        if not 0 <= one.start <= one.end <= len(text):
            raise Wrong(f"{one} lies outside the text")
    return from_environment(values(found))


def _unit(data: bytes) -> Any:
    text = data.decode(errors="surrogateescape")
    found = parse_unit(text)
    return [words(setting) for setting in found]


def _answer(data: bytes) -> Any:
    failure("https://h:2379", Reply(503, {}, data))
    reply, found = Reply(200, {}, data), []
    for parse in (parse_status, parse_members, parse_range, parse_alarms, parse_added, _hash):
        with suppress(EtcdError):
            found.append(understood("https://h:2379", reply, parse))
    return found


def _hash(said: dict[str, Any]) -> KvHash:
    return parse_hash(said, 0)


def _containers(data: bytes) -> Any:
    return parse_containers(data.decode(errors="replace"))


def _journal(data: bytes) -> list[Record]:
    name = hashlib.sha256(b"").hexdigest()
    with file_of(data, f"{JOURNAL_DIR}/{name}.jsonl") as (host, _):
        return Journal.open(host, name).records


def _is_all_but_last(answer: Any, whole: Any) -> bool:
    """What a crash cut off the end is dropped; nothing else may be."""
    return bool(answer in (whole, whole[:-1]))


def _plan(data: bytes) -> Any:
    plan = plan_from_plain(parse_json(data, "plan"))
    if plan_from_plain(json.loads(json.dumps(plan_to_plain(plan)))) != plan:
        raise Wrong("a plan that does not survive the way to a host")
    return plan


def _lock(data: bytes) -> Any:
    with file_of(data, LOCK_FILE) as (host, _):
        lock = read_lock(host)
    if lock is not None and not (type(lock.token) is int and lock.time < 2**63):
        raise Wrong(f"{lock}")
    return lock


def _archive(data: bytes) -> Any:
    with file_of(data, "set.tar") as (host, path), host.open(path) as file:
        found = read_files(file, path, Limits(total=8 * MIB, free_ratio=4 * MIB))
    for name in found:
        if name_problem(name):
            raise Wrong(f"{name!r}: {name_problem(name)}")
    return found


def _archive_covered(sample: bytes) -> Ranges:
    """A packed archive behind gzip's own header, which holds a time; else the headers."""
    if sample[:2] == b"\x1f\x8b":
        return [(10, len(sample))]
    blocks = range(0, len(sample), 512)
    return [(at, at + 512) for at in blocks if sample[at + 257 : at + 262] == b"ustar"]


def _cluster(data: bytes) -> Any:
    with file_of(data, "cluster.yaml") as (host, path):
        return load_inventory(Path(host.real(path)))


def _certificate(data: bytes) -> Any:
    with file_of(data, "pki/server.crt") as (host, path):
        Path(host.real("/pki/server.key")).touch()
        files = TlsFiles(path, "/pki/server.key", path)
        config = EtcdConfig("/m", "", "m0", "/d", server_tls=files)
        return read_certificates(host, config, 1_700_000_000.0)


def _log(data: bytes) -> Any:
    lines = join_cri(data.decode(errors="replace").splitlines())
    return find_causes(tuple(normalise(line) for line in lines))


def _known_hosts(data: bytes) -> Any:
    with file_of(data, "known_hosts") as (host, path):
        known = KnownHosts([host.real(path)])
        try:
            known.check(Server("h", ("master-0",), 22, "h", True), "ssh-ed25519", b"other")
        except Refused:
            return known.types(("master-0",))
    raise Wrong("a key that is in no file was accepted")


class _Line:
    """A stream that gives the bytes in pieces."""

    def __init__(self, data: bytes) -> None:
        self._pieces = [data[at : at + 50] for at in range(0, len(data), 50)][::-1]

    def read(self, timeout: float) -> bytes:
        """The next piece."""
        return self._pieces.pop() if self._pieces else b""

    def write(self, data: bytes, timeout: float) -> None:
        """Take a request."""

    def errors(self) -> str:
        """Nothing."""
        return ""

    def close(self) -> None:
        """Nothing."""


def _session(data: bytes) -> Any:
    """As the coordinator reads an agent, and as an agent reads a coordinator."""
    for line in data.split(b"\n"):
        with suppress(UsageError):
            if not isinstance(parse_request(line), dict):
                raise Wrong(f"{line!r} is no request")
    messages = Messages(_Line(data), "h")
    channel = greeted("h", _Line(data), messages, timeout=5)
    said: list[str] = []
    answer = channel.call("survey", timeout=5, on_progress=said.append)
    if sum(map(len, said)) > len(data) + MAX_GARBAGE:
        raise Wrong("more was said than was sent")
    return answer


READERS = {
    reader.name: reader
    for reader in (
        Reader("wal", "wal", _wal, (), repair.wal, _wal_covered, _wal_warned),
        Reader("bbolt", "db", _db, (DamagedAt,), repair.db, _metas,
               lambda answer: bool(answer[0].damage), _db_like),
        Reader("snapshot", "snapshot", _snapshot, (Damaged, Refused), repair.snapshot, _all),
        Reader("raft snapshot", "snap", _snap, (), repair.snap, _all, _snap_warned),
        Reader("manifest", "manifest", _manifest, (Damaged, Refused)),
        Reader("flags and settings", "command", _command, ()),
        Reader("environment file", "environment", _environment, ()),
        Reader("systemd unit", "unit", _unit, ()),
        Reader("etcd's JSON answers", "answer", _answer, (EtcdError,)),
        Reader("container list", "containers", _containers, (Damaged,)),
        Reader("journal", "journal", _journal, (Damaged, UsageError), repair.journal, _all,
               like=_is_all_but_last),
        Reader("plan", "plan", _plan, (UsageError,), repair.plan, _all),
        Reader("lock", "lock", _lock, (Damaged,)),
        Reader("archive", "tar", _archive, (Damaged, Refused), repair.tar, _archive_covered,
               flips=1),
        Reader("cluster.yaml", "cluster", _cluster, (UsageError,)),
        Reader("certificate", "certificate", _certificate, ()),
        Reader("log", "log", _log, ()),
        Reader("known_hosts", "known_hosts", _known_hosts, (Refused,)),
        Reader("session protocol", "session", _session, (RescueError,)),
        *MORE_READERS,
        *INVENTORY_READERS,
        *OPENSHIFT311_READERS,
    )
}  # fmt: skip
