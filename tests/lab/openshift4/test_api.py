"""Every refusal and every silence of the API, as a real kubectl meets it; no hosts are needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.actions.openshift4 import api as asked
from agent.actions.openshift4.api import NODE_KUBECONFIGS
from agent.actions.openshift4.guard import NOTE, OVERRIDE, GuardArgs, SetQuorumGuard
from agent.actions.openshift4.machines import (
    ApiArgs,
    ApplyArgs,
    ApplyMachine,
    CheckApi,
    ControlPlaneArgs,
    DeleteArgs,
    DeleteMachine,
    MachineArgs,
    WaitControlPlane,
    WaitMachine,
)
from agent.actions.openshift4.rollout import ForceRedeployment, RedeploymentArgs
from agent.actions.openshift4.secrets import DeleteMemberSecrets, SecretsArgs, names_of, require_own
from agent.errors import ApiUnavailable, Paused, PreconditionFailed, StepFailed
from agent.kube.client import Patience
from agent.platforms.openshift4 import LOCAL_KUBECONFIG
from agent.recipes.openshift4_new_machine import new_machine
from tests.lab.openshift4.alone import ETCD, MACHINES, ApiAlone, kind, secret_names
from tests.lab.openshift4.api.faults import Fault
from tests.lab.openshift4.api.kinds import Object

NODE = "master-1"
TWINS = ("master-10", "master-1.lab", "x-master-1")
"""Names that a search for master-1 would find, too."""

REASON = "recovery-2026-11-21 12:00:00.000000001+00:00"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiAlone]:
    alone = ApiAlone(tmp_path_factory.mktemp("api"))
    yield alone
    alone.close()


@pytest.fixture
def little_patience(api: ApiAlone, monkeypatch: pytest.MonkeyPatch) -> None:
    """For faults that stay; an answer that comes is waited for on a busy machine, too."""
    monkeypatch.setattr(asked, "PATIENCE", Patience(answer=3.0, between=0.1, whole=0.8))


@pytest.fixture
def api(server: ApiAlone, monkeypatch: pytest.MonkeyPatch) -> ApiAlone:
    """An API with one cluster in it, and short pauses between two tries."""
    server.reset()
    monkeypatch.setattr(asked, "PATIENCE", Patience(answer=10.0, between=0.1, whole=60.0))
    monkeypatch.setattr(asked, "INTERVAL", 0.05)
    server.make("etcds.operator.openshift.io", "cluster", spec={"managementState": "Managed"})
    for name in secret_names([NODE, "master-0", *TWINS]):
        server.make("secrets", name, ETCD, type="kubernetes.io/tls", data={"tls.key": "c2VjcmV0"})
    server.make("machines.machine.openshift.io", "lab-master-1", MACHINES, **machine(NODE))
    return server


def machine(node: str, phase: str = "Running") -> dict[str, Any]:
    labels = {"machine.openshift.io/cluster-api-machine-role": "master"}
    spec = {"providerID": f"lab:///{node}", "providerSpec": {"value": {"size": "m5"}}}
    status = {"phase": phase, "nodeRef": {"kind": "Node", "name": node}}
    return {"metadata": {"labels": labels}, "spec": spec, "status": status}


# ---- what each step does, and the faults that each one meets -----------------------------------


def _guard_off(api: ApiAlone) -> Any:
    return api.carry_out(SetQuorumGuard(), GuardArgs(enabled=False))


def _secrets(api: ApiAlone) -> Any:
    return api.carry_out(DeleteMemberSecrets(), SecretsArgs(NODE))


def _force(api: ApiAlone) -> Any:
    return api.carry_out(ForceRedeployment(), RedeploymentArgs(REASON))


def _apply(api: ApiAlone) -> Any:
    return api.carry_out(ApplyMachine(), made(api))


def made(api: ApiAlone) -> ApplyArgs:
    old = api.get("machines.machine.openshift.io", "lab-master-1", MACHINES)
    return ApplyArgs(new_machine(old, "lab-master-3"), old["metadata"]["uid"])


def _delete(api: ApiAlone) -> Any:
    old = api.objects.store.get(
        "/kubernetes.io/machine.openshift.io/machines/openshift-machine-api/lab-master-1"
    )
    uid = old.object["metadata"]["uid"] if old and old.object else "gone"
    return api.carry_out(DeleteMachine(), DeleteArgs("lab-master-1", uid, NODE))


def _guard_is_off(api: ApiAlone) -> bool:
    spec = api.get("etcds.operator.openshift.io", "cluster")["spec"]
    return bool(spec.get("unsupportedConfigOverrides") == {OVERRIDE: True})


def _secrets_are_gone(api: ApiAlone) -> bool:
    return api.names("secrets", ETCD) == secret_names(["master-0", *TWINS])


def _is_forced(api: ApiAlone) -> bool:
    spec: Object = api.get("etcds.operator.openshift.io", "cluster")["spec"]
    return bool(spec.get("forceRedeploymentReason") == REASON)


def _machines(*names: str) -> Callable[[ApiAlone], bool]:
    return lambda api: api.names("machines.machine.openshift.io", MACHINES) == list(names)


STEPS: dict[str, tuple[Callable[[ApiAlone], Any], Callable[[ApiAlone], bool], str]] = {
    "set_quorum_guard": (_guard_off, _guard_is_off, "patch"),
    "delete_member_secrets": (_secrets, _secrets_are_gone, "delete"),
    "force_redeployment": (_force, _is_forced, "patch"),
    "apply_machine": (_apply, _machines("lab-master-1", "lab-master-3"), "create"),
    "delete_machine": (_delete, _machines(), "delete"),
}
"""Step → what does it, what is so then, and the verb of its change."""

PASSING = ("throttle", "webhook-down", "timeout", "unavailable", "reset", "done-then-reset", "gone")
FOR_GOOD = ("forbidden", "webhook", "unauthorized", "timeout", "unavailable", "gone", "hang")
ALL = bool(os.environ.get("LAB_API_FAULTS"))


def rows(faults: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every fault on every step; in a short run each fault on one step, in turn."""
    steps = list(STEPS)
    every = [(step, fault) for fault in faults for step in steps]
    turn = [(steps[n % len(steps)], fault) for n, fault in enumerate(faults)]
    return every if ALL else turn


@pytest.mark.parametrize(("step", "fault"), rows((*PASSING, "conflict")))
def test_what_passes_is_lived_through(api: ApiAlone, step: str, fault: str) -> None:
    act, is_so, verb = STEPS[step]
    if fault == "conflict" and verb != "patch":
        step, (act, is_so, verb) = "force_redeployment", STEPS["force_redeployment"]
    verbs = ("connect",) if fault == "gone" else (verb,)
    api.faults(Fault(fault, verbs, times=2))
    act(api)
    assert is_so(api)


@pytest.mark.parametrize(("step", "fault"), rows(FOR_GOOD))
def test_what_stays_pauses_the_plan_and_is_gone_on_from(
    api: ApiAlone, monkeypatch: pytest.MonkeyPatch, step: str, fault: str
) -> None:
    # All but one of them are answered; how soon depends on how busy this machine is.
    answer = 3.0 if fault == "hang" else 20.0
    monkeypatch.setattr(asked, "PATIENCE", Patience(answer, between=0.1, whole=0.8))
    act, is_so, verb = STEPS[step]
    before = api.names("machines.machine.openshift.io", MACHINES), api.names("secrets", ETCD)
    verbs = ("connect",) if fault == "gone" else (verb,)
    api.faults(Fault(fault, verbs))
    with pytest.raises(Paused) as caught:
        act(api)
    assert caught.value.seen.startswith(f"step 07 ({step}): ")
    assert "fab resume" in caught.value.next
    is_denial = fault in ("forbidden", "webhook", "unauthorized")
    assert isinstance(caught.value, ApiUnavailable) is not is_denial
    told = {"forbidden": "cannot", "webhook": "frozen until Monday", "timeout": "timed out"}
    assert told.get(fault, "") in caught.value.seen
    api.faults()
    monkeypatch.setattr(asked, "PATIENCE", Patience())
    assert (
        api.names("machines.machine.openshift.io", MACHINES), api.names("secrets", ETCD)
    ) == before  # fmt: skip
    act(api)
    assert is_so(api)


def test_an_api_that_comes_and_goes(api: ApiAlone) -> None:
    """Between any two requests nothing serves for a while: every step gets there all the same."""
    for after in range(3):
        api.faults(*(Fault("gone", ("connect",), times=1, after=after + 2 * n) for n in range(4)))
        STEPS[list(STEPS)[after]][0](api)
    assert _guard_is_off(api)
    assert _secrets_are_gone(api)
    assert _is_forced(api)


def test_what_is_in_the_way_is_said_once(api: ApiAlone) -> None:
    """Both API servers are down and asked in turn, many times: each is told of once."""
    own, other = (api.root / "root" / path.lstrip("/") for path in NODE_KUBECONFIGS[:2])
    text = own.read_text()
    own.write_text(text.replace(api.server.url, "https://127.0.0.1:1"))
    other.write_text(text.replace(api.server.url, "https://127.0.0.1:2"))
    try:
        with pytest.raises(ApiUnavailable, match="did not do it for 5 s"):
            SetQuorumGuard().check(
                replace(api.context(), api_patience=5.0), GuardArgs(enabled=False)
            )
    finally:
        own.write_text(text)
        other.unlink()
    assert len(api.said) == 2
    assert "127.0.0.1:1 " in api.said[0]
    assert "127.0.0.1:2 " in api.said[1]


def test_a_kubeconfig_that_has_ended_is_to_be_replaced(api: ApiAlone) -> None:
    api.faults(Fault("unauthorized", ("get",)))
    with pytest.raises(Paused) as caught:
        SetQuorumGuard().check(api.context(), GuardArgs(enabled=False))
    assert caught.value.next == "bring one that it takes: fab resume --kubeconfig FILE"


# ---- secrets -----------------------------------------------------------------------------------


def test_secrets_that_were_made_anew_since_stay(
    api: ApiAlone, little_patience: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after one deletion; the operator made that one anew before the plan was resumed."""
    action, args = DeleteMemberSecrets(), SecretsArgs(NODE)
    undo = action.prepare(api.context(), args)
    api.faults(Fault("hang", ("delete",), name=f"etcd-serving-{NODE}"))
    with pytest.raises(Paused):
        api.carry_out(action, args, undo)
    assert f"etcd-peer-{NODE}" not in api.names("secrets", ETCD)
    api.make("secrets", f"etcd-peer-{NODE}", ETCD)
    api.faults()
    monkeypatch.setattr(asked, "PATIENCE", Patience())
    assert not action.is_done(api.context(), args, undo)
    api.carry_out(action, args, undo)
    left = set(api.names("secrets", ETCD)) & set(names_of(NODE))
    assert left == {f"etcd-peer-{NODE}"}
    assert action.is_done(api.context(), args, undo)
    assert "c2VjcmV0" not in f"{undo}{api.said}"


@pytest.mark.parametrize(
    "name", ["", "*", "a/b", "master-1 master-2", "-master", "Master-1", "a.."]
)
def test_only_a_node_has_secrets(name: str) -> None:
    with pytest.raises(PreconditionFailed):
        names_of(name)


@pytest.mark.parametrize(("node", "member"), [(NODE, f"metrics-{NODE}"), (f"metrics-{NODE}", NODE)])
def test_a_secret_that_two_nodes_could_have_is_left_to_a_person(node: str, member: str) -> None:
    with pytest.raises(PreconditionFailed, match=f"member {member}"):
        require_own(node, ["master-0", member])
    require_own(node, ["master-0", *TWINS])


# ---- the guard ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        {},
        {"unsupportedConfigOverrides": None},
        {"unsupportedConfigOverrides": {}},
        {"unsupportedConfigOverrides": {OVERRIDE: True}},
        {"unsupportedConfigOverrides": {OVERRIDE: False, "other": {"a": 1}}},
        {"unsupportedConfigOverrides": {"other": [1, 2]}},
    ],
)
def test_the_guard_is_given_back_exactly_as_it_was(api: ApiAlone, before: Object) -> None:
    change = lambda old: {**old, "spec": {"logLevel": "Normal", **before}}  # noqa: E731
    api.objects.update(kind("etcds"), "", "cluster", change)
    _guard_off(api)
    _guard_off(api)  # a second run changes nothing of what was noted
    overrides = api.get("etcds", "cluster")["spec"]["unsupportedConfigOverrides"]
    assert overrides == {**(before.get("unsupportedConfigOverrides") or {}), OVERRIDE: True}
    api.carry_out(SetQuorumGuard(), GuardArgs(enabled=True))
    now = api.get("etcds", "cluster")
    given = before.get("unsupportedConfigOverrides")
    assert now["spec"].get("unsupportedConfigOverrides") == given
    assert NOTE not in now["metadata"].get("annotations", {})


def test_the_guard_leaves_what_others_changed_meanwhile(api: ApiAlone) -> None:
    _guard_off(api)
    patch = {"spec": {"unsupportedConfigOverrides": {OVERRIDE: True, "theirs": 1}}}
    api.objects.update(kind("etcds"), "", "cluster", lambda old: {**old, **patch})
    api.carry_out(SetQuorumGuard(), GuardArgs(enabled=True))
    assert api.get("etcds", "cluster")["spec"]["unsupportedConfigOverrides"] == {"theirs": 1}


# ---- machines ----------------------------------------------------------------------------------


def test_a_machine_of_another_is_never_changed(api: ApiAlone) -> None:
    args = made(api)
    api.make("machines.machine.openshift.io", "lab-master-3", MACHINES, spec={"mine": True})
    _delete(api)
    with pytest.raises(PreconditionFailed, match="not one that this plan made"):
        ApplyMachine().check(api.context(), args)
    assert api.get("machines", "lab-master-3", MACHINES)["spec"] == {"mine": True}


def test_a_new_machine_waits_for_the_old_one_to_be_gone(api: ApiAlone) -> None:
    with pytest.raises(PreconditionFailed, match="still there"):
        ApplyMachine().check(api.context(), made(api))


def test_a_machine_made_anew_under_the_old_name_is_not_deleted(api: ApiAlone) -> None:
    args = DeleteArgs("lab-master-1", "another-uid", NODE)
    assert DeleteMachine().is_done(api.context(), args, {})
    api.carry_out(DeleteMachine(), args, {})
    assert api.names("machines.machine.openshift.io", MACHINES) == ["lab-master-1"]


def test_a_machine_that_its_finalizer_holds_pauses_and_says_what_holds_it(api: ApiAlone) -> None:
    held = {"finalizers": ["machine.machine.openshift.io"]}
    hooks = {"lifecycleHooks": {"preDrain": [{"name": "EtcdQuorumOperator", "owner": "x"}]}}
    made_ = api.make("machines.machine.openshift.io", "lab-master-2", MACHINES, metadata=held,
                     spec=hooks)  # fmt: skip
    args = DeleteArgs("lab-master-2", made_["metadata"]["uid"], "master-2", deadline=0.2)
    with pytest.raises(Paused, match=r"machine\.machine\.openshift\.io, hook EtcdQuorumOperator"):
        api.carry_out(DeleteMachine(), args, {})


@pytest.mark.parametrize(
    ("phase", "ready", "error"),
    [("Provisioning", "False", Paused), ("Running", "Unknown", Paused),
     ("Failed", "False", StepFailed), ("Running", "True", None)],
)  # fmt: skip
def test_a_machine_is_followed_until_its_node_is_ready(
    api: ApiAlone, phase: str, ready: str, error: type[Exception] | None
) -> None:
    api.make("machines.machine.openshift.io", "lab-master-3", MACHINES, **machine("new", phase))
    api.make("nodes", "new", status={"conditions": [{"type": "Ready", "status": ready}]})
    args = MachineArgs("lab-master-3", deadline=0.1)
    if error is None:
        assert WaitMachine().act(api.context(), args, {})["node"] == "new"
        return
    with pytest.raises(error):
        WaitMachine().act(api.context(), args, {})


def test_what_a_set_makes_is_found_by_its_role(api: ApiAlone) -> None:
    api.make("machines.machine.openshift.io", "lab-master-x7k2-1", MACHINES, **machine("new"))
    api.make("nodes", "new", status={"conditions": [{"type": "Ready", "status": "True"}]})
    args = MachineArgs("", ("lab-master-1",), deadline=1)
    assert WaitMachine().act(api.context(), args, {})["machine"] == "lab-master-x7k2-1"


def test_a_host_that_no_machine_api_makes_is_waited_for(api: ApiAlone) -> None:
    label = {"labels": {"node-role.kubernetes.io/master": ""}}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    api.make("nodes", "master-0", metadata=label, status=ready)
    api.make("nodes", "worker-0", status=ready)
    args = ControlPlaneArgs(2, "reinstall its host")
    with pytest.raises(Paused) as caught:
        WaitControlPlane().act(api.context(), args, {})
    assert caught.value.why == "reinstall its host"
    api.make("nodes", "master-1", metadata=label, status=ready)
    WaitControlPlane().act(api.context(), args, {})


def test_what_rbac_forbids_is_known_before_anything_is_changed(api: ApiAlone) -> None:
    needs = ("get secrets", "delete secrets", "patch etcds", "create machines")
    assert CheckApi().act(api.context(), ApiArgs(needs), {}) == {"may": list(needs)}
    api.faults(Fault("forbidden", ("delete",), "secrets"))
    with pytest.raises(PreconditionFailed, match="delete secrets"):
        CheckApi().act(api.context(), ApiArgs(needs), {})


def test_the_operators_own_kubeconfig_leaves_nothing_behind(api: ApiAlone, tmp_path: Path) -> None:
    own = api.root / "root" / LOCAL_KUBECONFIG.lstrip("/")
    text = own.read_text()
    own.unlink()
    try:
        with pytest.raises(PreconditionFailed, match="kubeconfig"):
            CheckApi().act(api.context(), ApiArgs(("get secrets",)), {})
        given = api.context(secrets={"kubeconfig": text})
        CheckApi().act(given, ApiArgs(("get secrets",)), {})
    finally:
        own.write_text(text)
    work = api.root / "root/var/lib/etcd-rescue/work"
    assert [path.name for path in work.iterdir()] == ["kube"]  # what kinds the API has
