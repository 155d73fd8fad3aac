"""Actions on OpenShift 4's machines: the old one goes, a new one comes and becomes a node."""

from __future__ import annotations

from agent.model.catalog.spec import ActionSpec

SPECS = (
    ActionSpec(
        "check_api",
        "see that the API answers, and lets us do all that the plan will ask of it",
        "none",
        "nothing: it only looks",
        effects=False,
    ),
    ActionSpec(
        "delete_machine",
        "delete the old machine, and see that it is gone",
        "it is the very machine that the plan was made for, and its node is no member of etcd",
        "nothing: its instance is gone with it, and a new one is made",
        final=True,
    ),
    ActionSpec(
        "apply_machine",
        "make the new machine, as it was shown",
        "the old machine is gone, and no other machine has the new one's name",
        "nothing: a machine that is not wanted is deleted by hand",
        final=True,
    ),
    ActionSpec(
        "wait_machine",
        "wait until the new machine runs and its node is ready",
        "the new machine was made",
        "nothing: it only looks",
        effects=False,
    ),
    ActionSpec(
        "wait_control_plane",
        "wait until as many control-plane nodes are ready as there were",
        "none",
        "nothing: it only looks",
        effects=False,
    ),
)

ON_THE_API = frozenset(
    {"set_quorum_guard", "delete_member_secrets", "force_redeployment", "wait_etcd_rollout"}
    | {spec.name for spec in SPECS}
)
"""Actions that ask the Kubernetes API, with the node's own kubeconfig or with the operator's."""

MAX_API_PATIENCE = 3600
"""Seconds that an operator may give one request to it, with all its tries."""
