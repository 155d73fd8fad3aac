"""Every action, sent to a real agent in a state that is wrong for it: refused, nothing changed.

The order comes once over the session, as from a coordinator, and once typed at the console.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.actions.registry import ACTIONS
from agent.model.catalog import CATALOG
from agent.model.plan import FORMAT, Plan, Promise, Stage, Step, plan_to_plain
from tests.lab.console import ENV, act, say
from tests.lab.evidence import DATA, STATE, stored, tree
from tests.lab.faults import ids
from tests.lab.host import Host
from tests.lab.lab import MANIFEST, Lab
from tests.lab.operator import OK, fab

SECTION = "Plans checked twice"
URLS = {n: [f"https://10.77.0.1{n}:2380"] for n in range(3)}
NOBODY = {"name": "x", "peer_urls": ["https://10.77.0.99:2380"]}
NEVER = {
    "fence": "a fence may always be raised; and it proves that etcd is stopped by itself",
    "lift_fence": "it is only a note, and may be given up",
    "preflight": "it only looks",
    "check_ca_files": "it only looks",
    "check_api": "it only looks",
    "await_member": "it only looks",
    "wait_etcd_rollout": "it only looks",
    "wait_machine": "it only looks",
    "wait_control_plane": "it only looks",
    "take_backup_set": "it reads, and writes a directory of its own",
    "install_timer": "it has nothing to do with the state of etcd",
    "remove_timer": "it has nothing to do with the state of etcd",
    "unguard_peers": "it takes away what only it knows of",
    "guard_peers": "where etcd listens it does nothing, which is tested here too",
    "restart_control_plane": "what it restarts keeps no data; a host without etcd needs it as well",
    "set_initial_cluster": "where a restart would cost the quorum it leaves the file, as tested",
}
"""Actions without a state that is wrong for them, and why that does no harm."""


@dataclass(frozen=True)
class Wrong:
    """Arguments, and the codes of a refusal at the console: 3, or what a silent etcd gives."""

    args: Mapping[str, Any] = field(default_factory=dict)
    codes: tuple[int, ...] = (3,)


FILE = {"path": MANIFEST, "sha256": "0" * 64}
RESTORE = {
    "snapshot": "/root/none.db", "sha256": "0" * 64, "name": "x", "token": "t",
    "peer_urls": ["https://10.77.0.99:2380"], "initial_cluster": "x=https://10.77.0.99:2380",
}  # fmt: skip

# While etcd serves and its definition is in place.
SERVING: dict[str, Wrong] = {
    "peers_silent": Wrong({"endpoints": [["master-0", "10.77.0.10", 2380]]}),
    "park_definition": Wrong(FILE),
    "unpark_definition": Wrong(),
    "stop_etcd": Wrong(),
    "copy_data": Wrong(),
    "relocate_data": Wrong(),
    "install_data": Wrong(),
    "bring_back_data": Wrong({"data_dir": DATA, "quarantine": f"{STATE}/quarantine/x/y"}),
    "seed_cluster": Wrong(),
    "seed_in_manifest": Wrong(FILE),
    "prejoin": Wrong({"sources": ["https://10.77.0.10:2379"]}),
    "restart_kubelet": Wrong(),
    "member_add_learner": Wrong({"name": "master-0", "peer_urls": URLS[0]}),
    "member_promote": Wrong(NOBODY),
    "set_force_new_cluster": Wrong(),
    "place_definition": Wrong({"source": "/root/etcd.yaml", "path": MANIFEST, "sha256": "0" * 64}),
    "restore_snapshot": Wrong(RESTORE),
    "prove_restored": Wrong({"revision": 1}),
    "check_authority": Wrong({"fingerprint": "0" * 64}),
    "install_authority": Wrong({"source": "master-0", "fingerprint": "0" * 64}),
    "issue_certificates": Wrong({"roles": ["none"]}),
    "set_conf_members": Wrong({"members": "x=https://10.77.0.99:2380"}),
    "set_flannel_endpoints": Wrong({"gone": ["x"]}),
    "restart_master": Wrong({"component": "api"}),
    "install_ca_files": Wrong({"source": "master-0"}),
    "remove_backend": Wrong({"master": "x", "addresses": ["10.77.0.99"]}),
    "drain_node": Wrong({"master": "x", "node": "x"}),
    "park_master": Wrong(),
    "verify_endpoints": Wrong({"gone": ["10.77.0.99"]}),
    "place_master_file": Wrong({"path": "/root/x", "source": "/root/y", "sha256": "0" * 64}),
    # A host that is none of OpenShift 4.
    "force_redeployment": Wrong({"reason": "x"}),
    "set_quorum_guard": Wrong({"enabled": False}),
    "delete_member_secrets": Wrong({"node": "x"}),
    "delete_machine": Wrong({"name": "x", "uid": "x", "node": "x"}),
    "apply_machine": Wrong({"machine": {}, "replaces": "x"}, (2, 3)),  # an object is not typed
    "restore_static_resources": Wrong({"archive": "/root/none.tar.gz", "sha256": "0" * 64}),
}

# While etcd is stopped and its definition parked.
STOPPED: dict[str, Wrong] = {
    "park_definition": Wrong({"path": MANIFEST}),
    "unpark_definition": Wrong(FILE),
    "wait_serving": Wrong(),
    "wait_peer_port": Wrong(),
    "install_data": Wrong(),
    "seed_cluster": Wrong(),
    "prejoin": Wrong({"sources": ["https://10.77.0.10:2379"]}),
    "bring_back_data": Wrong({"data_dir": DATA, "quarantine": "/etc"}),
    "seed_in_manifest": Wrong(FILE),
    "member_add_learner": Wrong(NOBODY, (1, 3, 4)),
    "member_promote": Wrong(NOBODY, (1, 3, 4)),
    "compact_history": Wrong({}, (1, 3, 4, 5)),
    "defragment": Wrong({}, (1, 3, 4)),
    "disarm_nospace": Wrong({}, (1, 3, 4)),
    "clear_removed_alarm": Wrong({"id": "0123456789abcdef"}, (1, 3, 4)),
    "remove_stale_leases": Wrong({"revision": 1}, (1, 3, 4, 5)),
}


def test_every_action_has_a_state_that_is_wrong_for_it() -> None:
    later = {"member_remove", "clear_force_new_cluster"}  # with arguments that the lab knows
    assert set(SERVING) | set(STOPPED) | later | set(NEVER) == set(ACTIONS)
    for action in NEVER:
        spec = CATALOG[action]
        assert not spec.effects or spec.precondition


def picture(lab: Lab, host: Host) -> dict[str, Any]:
    """What a step could change: definition, kubelet's files, members, processes, data, state."""
    seen: dict[str, Any] = {
        "kubernetes": tree(host, "/etc/kubernetes"),
        "etcd": host.etcd_pids(),
        "members": ids(lab, "master-0"),
        "kubelet": host.run(["systemctl", "show", "kubelet", "-p", "MainPID"]).stdout,
        "ports": host.run(["nft", "list", "ruleset"]).stdout,
    }
    kept = ("parked/", "quarantine/", "fence.json", "lifted/")
    state = tree(host, STATE) if host.path(STATE).is_dir() else {}
    seen["state"] = {k: v for k, v in state.items() if k.startswith(kept)}
    if not host.etcd_pids():
        seen["data"] = tree(host, f"{DATA}/member")
    return seen


class Session:
    """A coordinator's line to the agent of a host; requests are answered in order."""

    def __init__(self, host: Host) -> None:
        (agent,) = host.path(f"{STATE}/agent").glob("*.pyz")
        self._argv = [*ENV, "python3", f"{STATE}/agent/{agent.name}", "session"]
        self._host = host

    def ask(self, *requests: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
        """The last answer to each request: {"ok": …} or {"error": …}."""
        lines = [
            json.dumps({"id": n, "verb": verb, "args": args})
            for n, (verb, args) in enumerate(requests)
        ]
        said = self._host.run(self._argv, stdin="\n".join(lines) + "\n", timeout=120).stdout
        rows = [json.loads(line) for line in said.splitlines()]
        return [next(r for r in reversed(rows) if r.get("id") == n) for n in range(len(requests))]


def order(host: Host, rows: Mapping[str, Wrong], token: int) -> list[dict[str, Any]]:
    """Send each of these steps under a plan that holds the lock; what came of each."""
    steps = tuple(
        Step(f"{n:02}", host.name, action, dict(wrong.args), "by a hand that knows no better")
        for n, (action, wrong) in enumerate(rows.items(), 1)
    )
    plan = Plan(
        FORMAT, "by-hand", "wrong states", float(token), {host.name: ""},
        (Stage("all", steps),), Promise(()),
    ).with_id()  # fmt: skip
    begin = {"plan": plan_to_plain(plan), "holder": "a test", "token": token}
    orders = [("step", {"plan": plan.id, "token": token, "step": s.id}) for s in steps]
    end = ("end", {"plan": plan.id, "token": token, "kind": "complete"})
    answers = Session(host).ask(("begin", begin), *orders, end)
    assert "ok" in answers[0], answers[0]
    return answers[1:-1]


def words(args: Mapping[str, Any]) -> list[str]:
    """Arguments as they are typed: a list is its name again and again."""
    return [
        f"{name.replace('_', '-')}={json.dumps(item) if isinstance(item, bool) else item}"
        for name, value in args.items()
        for item in (value if isinstance(value, list) else [value])
    ]


def require_refused(
    lab: Lab, host: Host, rows: Mapping[str, Wrong], token: int, done: Collection[str] = ()
) -> int:
    """Each step is refused over both ways, and the host is as it was; how many orders.

    done: what need not be typed again.
    """
    before = picture(lab, host)
    for (action, wrong), answer in zip(rows.items(), order(host, rows, token), strict=True):
        assert "error" in answer, f"{action}: {answer}"
        error = answer["error"]
        if wrong.codes == (3,):
            assert error["kind"] in ("precondition", "refused"), f"{action}: {error}"
        assert error["seen"], action
        assert "internal" not in error["seen"], f"{action}: {error}"
    assert picture(lab, host) == before
    verbs = say(host, "--help").stdout.replace(",", " ").split()
    typed = [name for name in rows if name not in done and name.replace("_", "-") in verbs]
    for action in typed:
        _type(host, action, rows[action])
    assert picture(lab, host) == before
    return len(rows) + len(typed)


def _type(host: Host, action: str, wrong: Wrong) -> None:
    """Type one verb; any of its codes is a refusal, and says why."""
    (agent,) = host.path(f"{STATE}/agent").glob("*.pyz")
    verb = [action.replace("_", "-"), *words(wrong.args)]
    argv = [*ENV, "python3", f"{STATE}/agent/{agent.name}", *verb]
    ended = host.run(argv, check=False, timeout=120)
    assert ended.returncode in wrong.codes, f"{verb}: {ended.returncode}\n{ended.stderr}"
    assert ended.stderr.strip(), verb
    assert "Traceback" not in ended.stderr
    if wrong.codes != (3,):
        _close_what_failed(host)


def _close_what_failed(host: Host) -> None:
    """A verb that began and failed leaves its plan open: it is taken back."""
    for row in json.loads(say(host, "journal").stdout):
        if row["state"] == "open":
            say(host, "rollback", row["plan"][:12])


@pytest.mark.reliability(
    SECTION, "the agent refuses each action in a state that is wrong for it, whoever sends it"
)
def test_the_agent_refuses_in_the_wrong_state(lab: Lab, figure: Callable[[str, int], None]) -> None:
    host, now = lab.hosts["master-1"], ids(lab, "master-0")
    fab("survey", hosts="master-1").expect(OK)
    own = {"id": f"{now['master-1']:016x}", "name": "master-1", "peer_urls": URLS[1]}
    serving = {**SERVING, "member_remove": Wrong(own)}
    count = require_refused(lab, host, serving, 100)
    quiet = order(host, {"guard_peers": Wrong()}, 200)
    assert "answers for itself" in quiet[0]["ok"]["result"]["left"]

    act(host, "park-definition")
    act(host, "stop-etcd")
    definition = stored_parked(host)
    count += require_refused(lab, host, STOPPED, 300, done=SERVING)
    variable = definition.read_bytes().replace(
        b"    image:",
        b"    env:\n    - name: ETCD_FORCE_NEW_CLUSTER\n      value: 'true'\n    image:",
    )
    good = definition.read_bytes()
    definition.write_bytes(variable)
    count += require_refused(lab, host, {"clear_force_new_cluster": Wrong()}, 400)
    definition.write_bytes(good)
    # Two of three left: this one may not restart for an edit now. It says so and leaves the file.
    other = lab.hosts["master-0"]
    before = stored(other)
    members = {"members": f"master-0={URLS[0][0]}", "state": "existing"}
    fab("survey", hosts="master-0").expect(OK)
    (left,) = order(other, {"set_initial_cluster": Wrong(members)}, 500)
    assert "would cost the quorum" in left["ok"]["result"]["left"]
    assert stored(other) == before
    act(host, "unpark-definition")
    act(host, "wait-serving")
    assert ids(lab, "master-0") == now
    figure("steps sent to agents in a wrong state, each refused", count)


def stored_parked(host: Host) -> Any:
    """Where etcd's definition is parked now."""
    (found,) = [p for p in host.path(f"{STATE}/parked").iterdir() if p.suffix == ".yaml"]
    return found
