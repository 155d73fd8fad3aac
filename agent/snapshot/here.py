"""Snapshots on the machine that this runs on, which need not be a host: the operator's."""

from __future__ import annotations

from typing import Optional

from agent.host import Host
from agent.snapshot import backup_set, openshift4_set, rehearse
from agent.snapshot.backup_set import BackupSet
from agent.snapshot.rehearse import Rehearsal
from agent.snapshot.verify import Say, SnapshotFacts, removed_members


def verify_here(path: str, no_hash_ok: bool, say: Say) -> tuple[SnapshotFacts, Optional[BackupSet]]:
    """See backup_set.verify_path."""
    return backup_set.verify_path(Host(), path, no_hash_ok, say)


def removed_here(path: str) -> tuple[str, ...]:
    """See verify.removed_members."""
    return removed_members(Host(), path)


def resources_here(path: str) -> tuple[str, str]:
    """See openshift4_set.resources_beside."""
    return openshift4_set.resources_beside(Host(), path)


def rehearse_here(path: str, no_hash_ok: bool, say: Say) -> Rehearsal:
    """See rehearse.rehearse."""
    return rehearse.rehearse(Host(), path, no_hash_ok, say)
