"""Readers of definitions under systemd, of backup sets, and of etcd's snapshot stream."""

from __future__ import annotations

from typing import Any

from agent.errors import Damaged, Refused, UsageError
from agent.etcd.errors import EtcdError
from agent.etcd.grpc import Call
from agent.etcd.transport import RealFiles
from agent.model.plan import plan_from_plain, plan_to_plain
from agent.model.signed import plan_of_text, plan_text
from agent.records.carried import unpack
from agent.snapshot.backup_set import manifest_bytes, parse_manifest
from agent.snapshot.grpc_stream import SNAPSHOT, parse
from agent.survey.etcdyaml import parse_config
from agent.survey.execline import command
from agent.survey.redact import shown_argv, shown_line
from agent.survey.script import scripted_etcd
from agent.survey.unitfile import parse_unit, words
from tests.fuzz import repair
from tests.fuzz.reader import Reader, Wrong


def _config_file(data: bytes) -> Any:
    text = data.decode(errors="surrogateescape")
    document, found = parse_config(text, "/etc/etcd/etcd.conf.yml")
    for entry in found.values():
        if not isinstance(entry.value, str):
            raise Wrong(f"{entry}")
    return document.path


def _exec_start(data: bytes) -> Any:
    text = data.decode(errors="surrogateescape")
    found = []
    for setting in parse_unit(text):
        try:
            run = command(words(setting), {"MORE": "--debug"}, "etcd.service")
        except Refused:
            continue
        found.append(shown_argv([argument.text for argument in run.arguments]))
    return found


def _line(data: bytes) -> Any:
    return [shown_line(line) for line in data.decode(errors="replace").splitlines()]


def _signed_plan(data: bytes) -> Any:
    plan = plan_of_text(data.decode(errors="surrogateescape"), "plan.json")
    if plan_of_text(plan_text(plan), "again") != plan:
        raise Wrong("a plan that its own text does not give back")
    if plan_from_plain(plan_to_plain(plan)) != plan:
        raise Wrong("a plan that does not survive the way to a host")
    return plan


def _set_manifest(data: bytes) -> Any:
    found = parse_manifest(data, "MANIFEST.json")
    if parse_manifest(manifest_bytes(found), "again") != found:
        raise Wrong("a manifest that its own bytes do not give back")
    return found


def _script(data: bytes) -> Any:
    text = data.decode(errors="replace")
    found = scripted_etcd(text, {"ETCD_DATA_DIR": "/d", "NODE_a_IP": "10.0.0.1"}, "a script")
    if "\ud800" in repr(found) or "\ud801" in repr(found):
        raise Wrong(f"a mark of the reader's own in {found}")
    return shown_argv(found.arguments), found.unresolved


class _Socket:
    """What a member sent, in pieces."""

    def __init__(self, data: bytes) -> None:
        self._data, self.sent = data, 0

    def settimeout(self, seconds: float) -> None:
        """Nobody waits here."""

    def recv(self, size: int) -> bytes:
        """The next piece."""
        piece, self._data = self._data[:1000], self._data[1000:]
        return piece

    def sendall(self, data: bytes) -> None:
        """Take an answer."""
        self.sent += len(data)


def _stream(data: bytes) -> Any:
    call = Call("http://127.0.0.1:2379", RealFiles(), SNAPSHOT, b"", 5)
    call._socket = socket = _Socket(data)
    found = [parse("http://127.0.0.1:2379", message) for message in call.messages()]
    if sum(len(blob) for blob, _left in found) > len(data) or socket.sent > 20 * len(data) + 100:
        raise Wrong("more came out than was sent")
    return found


def _carried(data: bytes) -> Any:
    found = unpack(data, "carried-m0.json")
    for history in found.histories:
        if history.records[0].data["plan"]["id"] != history.plan.id:
            raise Wrong("a journal of another plan than it says")
    return found.host, found.made, found.survey, [h.records for h in found.histories]


def _everything(data: bytes) -> list[tuple[int, int]]:
    return [(0, len(data))]


MORE_READERS = (
    Reader("etcd's configuration file", "config", _config_file, (Damaged,)),
    Reader("ExecStart", "unit", _exec_start, ()),
    Reader("start script", "script", _script, (Refused,)),
    Reader("secrets in a line", "log", _line, ()),
    Reader("signed plan", "plan", _signed_plan, (UsageError,)),
    Reader("carried file", "carried", _carried, (UsageError, Damaged), repair.carried, _everything),
    Reader("backup set", "set", _set_manifest, (Damaged, Refused)),
    Reader("snapshot stream", "stream", _stream, (EtcdError,)),
)
