"""What a host says of a restore to come, as it travels to the coordinator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from agent.diagnosis.revisions import Evidence
from agent.model.facts import EtcdConfig
from agent.snapshot.backup_set import BackupSet
from agent.snapshot.verify import SnapshotFacts


@dataclass(frozen=True)
class ToolFacts:
    """The tool that will restore. bumps: it can raise the revision."""

    name: str
    version: str
    bumps: bool


@dataclass(frozen=True)
class RestoreFacts:
    """snapshot, tool: None where not asked for. found: revisions that data here stands for.

    set: that the snapshot is of. modified: when the snapshot's file was last written, seconds since
    the epoch; 0 where there is none. config: of the definition that was asked about. resources: the
    archive of static pod resources beside a snapshot of OpenShift 4's layout, and its sha256.
    removed: IDs of members that the snapshot knows as removed.
    """

    snapshot: Optional[SnapshotFacts]
    tool: Optional[ToolFacts]
    found: tuple[Evidence, ...]
    modified: float = 0.0
    set: Optional[BackupSet] = None
    config: Optional[EtcdConfig] = None
    resources: tuple[str, str] = ("", "")
    removed: tuple[str, ...] = ()
