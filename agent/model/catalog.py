"""Every action a step can name, in words: what it does, needs, and how it is taken back.

Recipes (pure) write these words into plans, actions (effects) implement them; a test holds the two
together.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ActionSpec:
    """title: what it does; precondition: when it may; undo: how it is taken back.

    final: from here on there is no way back. effects: False for an action that only looks.
    """

    name: str
    title: str
    precondition: str
    undo: str
    final: bool = False
    effects: bool = True


_SPECS = (
    ActionSpec(
        "preflight",
        "see that everything the plan needs is there, before anything stops",
        "none",
        "nothing: it only looks, and copies the etcd binary aside",
        effects=False,
    ),
    ActionSpec(
        "peers_silent",
        "see that no other member answers",
        "none",
        "nothing: it only looks",
        effects=False,
    ),
    ActionSpec(
        "guard_peers",
        "answer old members `410 Gone` on the peer port until etcd does it itself",
        "none",
        "take the guard away; it ends with the agent, too, or by itself after minutes",
        effects=False,
    ),
    ActionSpec(
        "unguard_peers",
        "let etcd answer its peers itself",
        "none",
        "nothing: it only takes the guard away",
        effects=False,
    ),
    ActionSpec(
        "park_definition",
        "park etcd's definition, so that nothing starts it",
        "the definition is in place and unchanged since the survey",
        "put the definition back",
    ),
    ActionSpec(
        "unpark_definition",
        "put etcd's definition back, unchanged",
        "it is parked, byte for byte as it was, without --force-new-cluster",
        "park the definition again",
    ),
    ActionSpec(
        "stop_etcd",
        "wait until etcd is stopped, and see that it stays so",
        "its definition is parked",
        "nothing: putting the definition back starts it",
    ),
    ActionSpec(
        "fence",
        "fence: park the definition, prove that etcd is stopped, leave a tombstone",
        "none: a fence may always be raised",
        "lift the fence and put the definition back",
    ),
    ActionSpec(
        "lift_fence",
        "lift the fence",
        "its etcd is a member again, or the fence is to be given up",
        "nothing: it is only a note",
    ),
    ActionSpec(
        "copy_data",
        "copy etcd's data; the original is never written to",
        "etcd is stopped here, and there is room for a full copy",
        "discard the copy",
    ),
    ActionSpec(
        "relocate_data",
        "move the old data into quarantine",
        "etcd is stopped here",
        "move the data back",
    ),
    ActionSpec(
        "install_data",
        "put the prepared data in place",
        "etcd is stopped, the old data is in quarantine, the prepared data is complete",
        "move the prepared data back to the work directory",
    ),
    ActionSpec(
        "bring_back_data",
        "bring quarantined data back",
        "etcd is stopped here, and nothing is in the way",
        "move the data into quarantine again",
    ),
    ActionSpec(
        "seed_cluster",
        "scratch etcd with --force-new-cluster on the copy, on loopback, until it is alone",
        "etcd is stopped here, and a complete copy is there",
        "nothing: only the copy was touched, and it is discarded",
    ),
    ActionSpec(
        "seed_in_manifest",
        "run etcd once with --force-new-cluster in its manifest, take the flag off, and prove it",
        "the copy is in place, the original in quarantine, the definition parked",
        "nothing: the flag's removal is part of the step itself",
        final=True,
    ),
    ActionSpec(
        "prejoin",
        "scratch etcd joins as a learner and catches up, then stops",
        "etcd is stopped here, the old data is in quarantine, the learner was added",
        "discard the data it fetched",
    ),
    ActionSpec(
        "restart_kubelet",
        "clear what holds the next start back: restart the kubelet; of a unit, reset its limit",
        "etcd's definition is parked, so that the restart starts nothing half-ready",
        "nothing: other pods keep running over a restart",
    ),
    ActionSpec(
        "wait_serving",
        "wait until etcd serves",
        "its definition is in place",
        "nothing: it only looks",
        effects=False,
    ),
    ActionSpec(
        "member_remove",
        "remove the old member, by an ID re-read just now",
        "the quorum holds with and without it; it is neither the local nor the last one",
        "nothing: the host comes back as a new member",
        final=True,
    ),
    ActionSpec(
        "member_add_learner",
        "add it as a learner, which has no vote and so cannot cost the quorum",
        "no other learner is on its way, and no member has its peer URL",
        "remove the learner again",
    ),
    ActionSpec(
        "member_promote",
        "promote it to a voter, once the leader says that it is in step",
        "it is a learner that has started under the kubelet",
        "nothing: it is a member in good health",
        final=True,
    ),
    ActionSpec(
        "place_definition",
        "take etcd's definition out of the backup set, and park it",
        "this host has no definition of etcd, in place or parked",
        "set the file aside again",
    ),
    ActionSpec(
        "restore_snapshot",
        "verify the snapshot and restore it beside the data, with a fresh cluster token",
        "the file is the one that the plan was made for, and there is room; nothing is stopped",
        "discard what was restored",
    ),
    ActionSpec(
        "prove_restored",
        "scratch etcd on the restored data, on loopback: it serves; stale API server leases go",
        "a complete restore is there",
        "nothing: only the restored data was touched, and it is discarded",
    ),
    ActionSpec(
        "remove_stale_leases",
        "remove the API server leases that came out of the snapshot",
        "the restored cluster serves",
        "nothing: a live API server writes its own anew within seconds",
    ),
    ActionSpec(
        "restart_control_plane",
        "restart kube-apiserver, -controller-manager, -scheduler and the kubelet, and prove it",
        "the restored cluster serves: they remember revisions that it has not given out yet",
        "nothing: they run, with nothing remembered",
    ),
    ActionSpec(
        "check_authority",
        "see that this host has the CA of etcd, with its key, to lend to another",
        "none",
        "nothing: it only looks",
        effects=False,
    ),
    ActionSpec(
        "install_authority",
        "put the CA of etcd in place, as another host of the cluster has it",
        "it is the CA that was surveyed, and its key belongs to it",
        "put back what was there, byte for byte",
    ),
    ActionSpec(
        "issue_certificates",
        "issue certificates anew, prove them, and then put them in place of the old ones",
        "the CA and its key are here, and are valid by this host's clock",
        "put back the old files, byte for byte",
    ),
    ActionSpec(
        "compact_history",
        "forget the history of keys, but for the newest revisions",
        "the cluster serves",
        "nothing: forgotten revisions do not come back; no key or value is lost",
    ),
    ActionSpec(
        "defragment",
        "rewrite the member's database without its free pages",
        "it serves, and there is room for a second file",
        "nothing: the contents are the same",
    ),
    ActionSpec(
        "disarm_nospace",
        "take the alarm NOSPACE back",
        "the database of every member is well below its quota",
        "nothing: where space is short etcd raises it again by itself",
    ),
    ActionSpec(
        "clear_removed_alarm",
        "take back the alarm CORRUPT that a removed member left behind",
        "that member is in the cluster no more, and all others hold the same keys",
        "nothing: it names a member that does not exist",
    ),
    ActionSpec(
        "set_initial_cluster",
        "bring --initial-cluster and --initial-cluster-state up to date",
        "the other members hold the quorum while this one restarts",
        "put back the definition's former bytes",
    ),
    ActionSpec(
        "set_force_new_cluster",
        "add --force-new-cluster to the parked definition",
        "the definition is parked",
        "put back the definition's former bytes",
    ),
    ActionSpec(
        "clear_force_new_cluster",
        "take --force-new-cluster off the definition",
        "there is exactly one etcd definition",
        "put back the definition's former bytes",
    ),
)

CATALOG: dict[str, ActionSpec] = {spec.name: spec for spec in _SPECS}
"""Name → spec of every action."""
