"""Where the files of a restore lie: on a host already, or here and brought to the hosts once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.diagnosis.origin import Named
from agent.diagnosis.revisions import Evidence
from agent.errors import RescueError, UsageError
from agent.model.codec import from_plain
from agent.snapshot.backup_set import BackupSet
from agent.snapshot.bulk import INCOMING
from agent.snapshot.here import removed_here, resources_here, verify_here
from agent.snapshot.restore_facts import RestoreFacts
from agent.snapshot.verify import SnapshotFacts
from coordinator.channel import fan_out
from coordinator.tasks.common import Looked
from coordinator.transfer import Piece, fetch, upload

_VERIFY_SECONDS = 1800.0
_ANSWER = 60.0


@dataclass(frozen=True)
class Found:
    """A verified snapshot. host: where it lies, empty for here; path: of the database file there.

    modified: when the file was last written, seconds since the epoch; 0 where not known. resources:
    the archive of static pod resources that is of one set with it, and its sha256; empty for none.
    removed: IDs of members that it knows as removed.
    """

    facts: SnapshotFacts
    host: str
    path: str
    modified: float = 0.0
    set: BackupSet | None = None
    resources: tuple[str, str] = ("", "")
    removed: tuple[str, ...] = ()

    @property
    def named(self) -> Named:
        """What it tells of its cluster."""
        return Named(self.facts.cluster_id, self.facts.members, self.removed)


@dataclass(frozen=True)
class Placed:
    """Where the snapshot and the tool lie. paths: host → path there. tool: a path on all hosts.

    sent: (host, path) of what was put there for this, to be taken away again. resources: host →
    where the archive of static pod resources lies there.
    """

    paths: dict[str, str]
    tool: str = ""
    sent: tuple[tuple[str, str], ...] = field(default=())
    resources: dict[str, str] = field(default_factory=dict)


def find(looked: Looked, file: str, no_hash_ok: bool) -> Found:
    """Verify a snapshot file or set where it lies: FILE here, or HOST:/path.

    Raises UsageError for an unknown host, and what verify_path raises.
    """
    host, path = on_host(looked, file)
    looked.progress.say(f"verifying {file}")
    if not host:
        path = os.path.abspath(path)
        facts, found_set = verify_here(path, no_hash_ok, looked.progress.say)
        taken = os.stat(path).st_mtime
        resources, removed = resources_here(path), removed_here(facts.path)
    else:
        said = look(looked, host, {"snapshot": path, "copy": no_hash_ok})
        if said.snapshot is None:
            raise RescueError(f"internal: {host} did not verify {path}")
        facts, found_set, taken = said.snapshot, said.set, said.modified
        resources, removed = said.resources, said.removed
    if found_set is not None:
        taken = found_set.time
        path = path if path.endswith(found_set.main) else f"{path}/{found_set.main}"
    if resources[0]:
        path = facts.path
    return Found(facts, host, path, taken, found_set, resources, removed)


def on_host(looked: Looked, file: str) -> tuple[str, str]:
    """(host, path) of HOST:/path; an empty host for a file here. Raises UsageError."""
    host, colon, path = file.partition(":")
    if not colon or not path.startswith("/") or "/" in host:
        return "", file
    known = [o.host for o in looked.observations]
    if host not in known:
        raise UsageError(
            f"{file}: no host {host!r}", f"known: {', '.join(known)}", f"-H {host},… (or FILE here)"
        )
    return host, path


def look(looked: Looked, host: str, args: dict[str, object]) -> RestoreFacts:
    """Ask one host what a restore there rests on."""
    plain = looked.fleet.call(
        host, "restore_look", args, _VERIFY_SECONDS,
        lambda text: looked.progress.say(f"{host}: {text}"),
    )  # fmt: skip
    facts: RestoreFacts = from_plain(RestoreFacts, plain, f"look at {host}")
    return facts


def place(looked: Looked, found: Found, hosts: Sequence[str], tool: str = "") -> Placed:
    """Bring the snapshot (and the operator's tool) to every one of these hosts, once.

    A host that has the same file at the same path needs nothing. Raises what `upload` raises.
    """
    tool_host, tool_path = on_host(looked, tool) if tool else ("", "")
    send_tool = bool(tool) and not tool_host
    resources: dict[str, str] = {}

    def one(host: str) -> tuple[str, str, list[str]]:
        sent = []
        path = found.path
        archive, archive_sum = found.resources
        if archive and not found.host:
            say, way = looked.progress.say, looked.fleet.way(host)
            resources[host] = upload(way, Path(archive), say, archive_sum)
            sent.append(resources[host])
        elif archive and host == found.host:
            resources[host] = archive
        if host != found.host and not _has(looked, host, found):
            path = upload(looked.fleet.way(host), source, looked.progress.say, digest)
            sent.append(path)
        there = tool_path
        if send_tool:
            there = upload(looked.fleet.way(host), Path(tool_path), looked.progress.say)
        return path, there, sent

    with tempfile.TemporaryDirectory(prefix="etcd-rescue-") as folder:
        source, digest = Path(found.path), found.facts.sha256
        if found.host and any(h != found.host and not _has(looked, h, found) for h in hosts):
            source = _brought_here(looked, found, Path(folder))
        answers = fan_out(hosts, one)
    for host, answer in answers.items():
        if isinstance(answer, RescueError):
            answer.seen = answer.seen if host in answer.seen else f"{host}: {answer.seen}"
            raise answer
    done = {h: a for h, a in answers.items() if not isinstance(a, RescueError)}
    tools = {there for _path, there, _sent in done.values()}
    if len(tools) > 1:
        raise RescueError("internal: the tool lies at different places")
    return Placed(
        {host: path for host, (path, _there, _sent) in done.items()},
        tools.pop() if tools else "",
        tuple((host, path) for host, (_path, _there, sent) in done.items() for path in sent),
        resources,
    )


def would_place(found: Found, hosts: Sequence[str]) -> Placed:
    """Where `place` would put the snapshot, for a plan that is only shown."""
    incoming = f"{INCOMING}/{found.facts.sha256[:16]}/{os.path.basename(found.path)}"
    return Placed({host: found.path if host == found.host else incoming for host in hosts})


def _has(looked: Looked, host: str, found: Found) -> bool:
    """True if a file with the same hash lies at the same path of another host."""
    if not found.host:
        return False
    try:
        args: dict[str, object] = {"snapshot": found.path, "copy": not found.facts.is_hashed}
        said = look(looked, host, args)
    except RescueError:
        return False
    return said.snapshot is not None and said.snapshot.sha256 == found.facts.sha256


def _brought_here(looked: Looked, found: Found, folder: Path) -> Path:
    """Fetch the snapshot from the host that has it, to send it to the others."""
    looked.progress.say(f"fetching {found.host}:{found.path}, to bring it to the other hosts")
    staged = str(
        looked.fleet.call(found.host, "restore_stage", {"path": found.path}, _VERIFY_SECONDS)
    )
    target = folder / os.path.basename(found.path)
    piece = Piece(staged, target, found.facts.size, found.facts.sha256)
    try:
        fetch(looked.fleet.way(found.host), [piece], looked.progress.say)
    finally:
        take_away(looked, [(found.host, staged)])
    return target


def take_away(looked: Looked, sent: Sequence[tuple[str, str]]) -> None:
    """Discard what was put on hosts for a restore; what cannot be reached keeps it."""
    for host, path in sent:
        with suppress(RescueError):
            looked.fleet.call(host, "discard_upload", {"path": path}, _ANSWER)


def evidence(looked: Looked, also: Sequence[str]) -> list[Evidence]:
    """The revisions of other snapshots or data that the operator names, here or on hosts.

    Raises UsageError where one says no revision: it was named for that.
    """
    found = []
    for file in also:
        host, path = on_host(looked, file)
        if host:
            said = look(looked, host, {"more": [path]})
            rows = [e.revision for e in said.found if e.source.endswith(f": {path}")]
        else:
            rows = [verify_here(os.path.abspath(path), True, looked.progress.say)[0].revision]
        if not rows:
            raise UsageError(f"--also {file}: no revision can be read from it")
        found.append(Evidence(file, rows[0]))
    return found
