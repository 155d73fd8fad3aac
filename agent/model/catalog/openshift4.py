"""Actions on OpenShift 4: its API, its etcd operator, and backup sets in its own layout.

The steps on the API are ordinary steps of a control-plane host, done with that node's own
kubeconfig. Each is idempotent: what is there already is left. Where the API does not answer they
raise ApiUnavailable, and their stage, which names KUBERNETES_API in `waits_for`, is put off.
"""

from __future__ import annotations

from agent.model.catalog.spec import ActionSpec

SPECS = (
    ActionSpec(
        "take_backup_set",
        "take a backup set: a verified snapshot, and the resources of the static pods",
        "etcd serves here, and there is room for the set",
        "nothing: a set is only added, and stays",
    ),
    ActionSpec(
        "await_member",
        "wait until the etcd operator has made this host a member again, and it serves",
        "its old member is out, its old data in quarantine, a redeployment was forced",
        "nothing: it only waits, and keeps the parked definition for the record",
        final=True,
    ),
    ActionSpec(
        "restore_static_resources",
        "put the static pod resources of the backup set back that are missing here",
        "the archive is the one that the plan was made for",
        "take them away again",
    ),
    ActionSpec(
        "set_quorum_guard",
        "switch the etcd operator's quorum guard off, or on again",
        "the API answers",
        "set it to what it was",
    ),
    ActionSpec(
        "delete_member_secrets",
        "delete the three secrets of the removed member, by their exact names",
        "no member of that name is in etcd's own list, read just now",
        "nothing: the etcd operator issues them anew",
    ),
    ActionSpec(
        "force_redeployment",
        "have the etcd operator roll etcd out anew, with a reason that was never used",
        "the API answers, and all members that there are serve",
        "nothing: a redeployment with unchanged settings changes nothing",
    ),
    ActionSpec(
        "wait_etcd_rollout",
        "wait until the etcd operator has rolled out to all nodes, and their pods run",
        "the API answers",
        "nothing: it only looks",
        effects=False,
    ),
)
"""Arguments, all of them required unless a default is given:

take_backup_set: folder (str, a directory of the host; the set lies in it, named by `stamp`), stamp
(str, YYYY-mm-dd_HHMMSS).
await_member: deadline (float seconds, default 900).
restore_static_resources: archive (str, a path of the host), sha256 (str, of the archive).
set_quorum_guard: enabled (bool; False sets useUnsupportedUnsafeNonHANonProductionUnstableEtcd, True
takes it away and leaves other overrides alone).
delete_member_secrets: node (str): etcd-peer-NODE, etcd-serving-NODE, etcd-serving-metrics-NODE.
force_redeployment: reason (str, made with the plan, so that a second run finds it there).
wait_etcd_rollout: reason (str), nodes (list of node names whose etcd pods must run and be ready),
deadline (float seconds, default 900).
"""
