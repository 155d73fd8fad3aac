"""What each action may be done in, and what it changes: one rule an action, thought and not done.

A rule yields what it breaks, in words, and brings the world forward as if it had been done.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.model.plan import Step
from agent.recipes.rules.common import Broken
from agent.recipes.rules.data import (
    copy_data,
    install_data,
    prejoin,
    relocate_data,
    seed_cluster,
    seed_in_manifest,
)
from agent.recipes.rules.looks import guard_peers, peers_silent, preflight, unguard_peers
from agent.recipes.rules.membership import (
    member_add_learner,
    member_promote,
    member_remove,
    set_initial_cluster,
)
from agent.recipes.rules.openshift4 import HOST_RULES
from agent.recipes.rules.openshift4_api import API_RULES
from agent.recipes.rules.openshift4_machine import MACHINE_RULES
from agent.recipes.rules.openshift311 import OPENSHIFT311
from agent.recipes.rules.restoring import RESTORES
from agent.recipes.rules.stopping import (
    fence,
    lift_fence,
    park_definition,
    restart_kubelet,
    stop_etcd,
    unpark_definition,
    wait_peer_port,
    wait_serving,
)
from agent.recipes.rules.timer import install_timer, remove_timer
from agent.recipes.rules.upkeep import (
    check_authority,
    clear_removed_alarm,
    compact_history,
    defragment,
    disarm_nospace,
    install_authority,
    issue_certificates,
)
from agent.recipes.world import Scene, World

Rule = Callable[[World, Step, Scene, str], Broken]
"""World, step, scene, and the host that the stage waits for (or nothing) → what is broken."""

RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        preflight, peers_silent, guard_peers, unguard_peers,
        park_definition, unpark_definition, stop_etcd, fence, lift_fence,
        copy_data, relocate_data, install_data, seed_cluster, seed_in_manifest, prejoin,
        check_authority, install_authority, issue_certificates, compact_history, defragment,
        disarm_nospace, clear_removed_alarm,
        restart_kubelet, wait_peer_port, wait_serving,
        member_remove, member_add_learner, member_promote, set_initial_cluster,
        install_timer, remove_timer,
        *RESTORES,
        *OPENSHIFT311,
        *HOST_RULES, *API_RULES, *MACHINE_RULES,
    )
}  # fmt: skip
"""Action → rule. What has none (the flag by itself, data brought back) is no part of a recipe."""
