"""What steps do on OpenShift 4: on its API, and in its own layout of backup sets."""

from __future__ import annotations

from typing import Any

from agent.actions.base import Action
from agent.actions.openshift4 import (
    backup,
    guard,
    machines,
    member,
    resources,
    rollout,
    secrets,
)

ACTIONS: tuple[Action[Any], ...] = (
    backup.TakeBackupSet(),
    member.AwaitMember(),
    resources.RestoreStaticResources(),
    guard.SetQuorumGuard(),
    secrets.DeleteMemberSecrets(),
    rollout.ForceRedeployment(),
    rollout.WaitEtcdRollout(),
    machines.CheckApi(),
    machines.DeleteMachine(),
    machines.ApplyMachine(),
    machines.WaitMachine(),
    machines.WaitControlPlane(),
)
