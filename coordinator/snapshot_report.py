"""What a snapshot, a verification and a rehearsal came to, as lines for a person."""

from __future__ import annotations

from dataclasses import dataclass

from agent.errors import plain
from agent.snapshot.backup_set import BackupSet
from agent.snapshot.rehearse import Rehearsal
from agent.snapshot.verify import SnapshotFacts


@dataclass(frozen=True)
class TakenSet:
    """Where a set lies on this machine, what it is, and the seconds that it took.

    kept_on_host: its directory there as well, or empty.
    """

    path: str
    seconds: float
    set: BackupSet
    kept_on_host: str = ""


@dataclass(frozen=True)
class Verified:
    """A snapshot that is whole, and the set that it belongs to."""

    snapshot: SnapshotFacts
    set: BackupSet | None = None


def _tell(text: str) -> None:
    print(plain(text))


def taken(value: TakenSet) -> None:
    """Print a set that was taken."""
    found = value.set
    state = "" if found.quorum or found.kind == "copy" else ", without a quorum"
    what = "snapshot" if found.kind == "snapshot" else "copy of the stopped data directory"
    _tell(f"{what} of {found.host} (etcd {found.etcd_version or 'unknown'}{state})")
    if found.snapshot is not None:
        _facts(found.snapshot)
    belongings = sum(1 for file in found.files if file.what not in ("snapshot", "data"))
    _tell(f"set: {value.path} ({len(found.files)} files, {found.size / 2**20:.1f} MiB; of them "
          f"{belongings} manifests, certificates and keys), {value.seconds:.1f} s")  # fmt: skip
    if value.kept_on_host:
        _tell(f"kept on {found.host} as well: {value.kept_on_host}")
    for problem in found.problems:
        _tell(f"note: {problem}")


def verified(value: Verified) -> None:
    """Print what a whole snapshot holds."""
    _tell(f"{value.snapshot.path} is whole")
    _facts(value.snapshot)
    if value.set is not None:
        _tell(f"set {value.set.name}: {len(value.set.files)} files, taken {value.set.created} "
              f"on {value.set.host}")  # fmt: skip


def _facts(facts: SnapshotFacts) -> None:
    _tell(f"revision {facts.revision}, {facts.keys} keys, {facts.size / 2**20:.1f} MiB"
          + (f", cluster {facts.cluster_id}" if facts.cluster_id else "")
          + (f", etcd {facts.etcd_version}" if facts.etcd_version else ""))  # fmt: skip
    _tell(f"sha256 {facts.sha256}" + ("" if facts.is_hashed else " (the file carries no hash)"))
    if not facts.cluster_id:
        _tell("cluster ID: not in the file; etcd keeps it in its log. `fab restore` proves by the "
              "members' IDs whether it is the hosts' cluster")  # fmt: skip
    for member in facts.members:
        learner = " (learner)" if member.is_learner else ""
        _tell(f"member {member.id} {member.name or '(unnamed)'}{learner}: "
              f"{', '.join(member.peer_urls)}")  # fmt: skip


def rehearsed(value: Rehearsal) -> None:
    """Print what a rehearsal found."""
    _tell(f"{value.snapshot.path} can be restored: a scratch etcd {value.etcd} on {value.host} "
          f"served {value.keys} keys at revision {value.revision}")  # fmt: skip
    _facts(value.snapshot)
    for kind, count in sorted(value.kinds.items(), key=lambda item: (-item[1], item[0])):
        _tell(f"{count:>9}  {kind}")
    for prefix, count in value.prefixes.items():
        kinds = ", ".join(value.encrypted.get(prefix, ()))
        _tell(f"{count:>9}  values encrypted with {prefix} ({kinds})" if prefix
              else f"{count:>9}  values not encrypted")  # fmt: skip
    _tell(f"{value.seconds:.1f} s, of them {value.serving:.1f} s until it served "
          f"(restored with {value.tool})")  # fmt: skip
