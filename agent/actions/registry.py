"""Name → action: the one list of what a step can do."""

from __future__ import annotations

from typing import Any

from agent.actions import (
    alarms,
    certificates,
    control_plane,
    data,
    definitions,
    edits,
    fence,
    guard,
    in_manifest,
    members,
    place_definition,
    preflight,
    restore,
    restore_proof,
    scratch,
    services,
)
from agent.actions.base import Action
from agent.actions.openshift4 import ACTIONS as OPENSHIFT4
from agent.actions.openshift311 import balancer, ca_files, master_file, remaining, retiring
from agent.actions.timer import install as timer
from agent.errors import UsageError

_ALL: tuple[Action[Any], ...] = (
    preflight.Preflight(),
    preflight.PeersSilent(),
    guard.GuardPeers(),
    guard.UnguardPeers(),
    definitions.ParkDefinition(),
    definitions.UnparkDefinition(),
    services.StopEtcd(),
    fence.Fence(),
    fence.LiftFence(),
    data.CopyData(),
    data.RelocateData(),
    data.InstallData(),
    data.BringBackData(),
    scratch.SeedCluster(),
    in_manifest.SeedInManifest(),
    scratch.Prejoin(),
    services.RestartKubelet(),
    services.WaitPeerPort(),
    services.WaitServing(),
    members.RemoveMember(),
    members.AddLearner(),
    members.Promote(),
    place_definition.PlaceDefinition(),
    restore.RestoreSnapshot(),
    restore_proof.ProveRestored(),
    restore_proof.RemoveStaleLeases(),
    control_plane.RestartControlPlane(),
    certificates.CheckAuthority(),
    certificates.InstallAuthority(),
    certificates.IssueCertificates(),
    alarms.CompactHistory(),
    alarms.Defragment(),
    alarms.DisarmNospace(),
    alarms.ClearRemovedAlarm(),
    edits.SetInitialCluster(),
    edits.SetForceNewCluster(),
    edits.ClearForceNewCluster(),
    remaining.SetConfMembers(),
    remaining.SetFlannelEndpoints(),
    remaining.RestartMaster(),
    ca_files.CheckCaFiles(),
    ca_files.InstallCaFiles(),
    balancer.RemoveBackend(),
    retiring.DrainNode(),
    retiring.ParkMaster(),
    retiring.VerifyEndpoints(),
    master_file.PlaceMasterFile(),
    timer.InstallTimer(),
    timer.RemoveTimer(),
    *OPENSHIFT4,
)

ACTIONS: dict[str, Action[Any]] = {action.name: action for action in _ALL}


def action_named(name: str) -> Action[Any]:
    """Give the action of that name. Raises UsageError naming the known ones."""
    if name not in ACTIONS:
        raise UsageError(f"no action {name!r}", f"known: {', '.join(sorted(ACTIONS))}")
    return ACTIONS[name]
