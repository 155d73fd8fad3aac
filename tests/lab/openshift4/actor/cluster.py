"""The cluster's objects, and the loop that keeps them and the hosts in step."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from tests.lab.commands import CommandFailed
from tests.lab.etcd_client import EtcdUnavailable
from tests.lab.host import Host, wait_until
from tests.lab.lab import Lab
from tests.lab.openshift4.actor import etcd_operator, machines, reports
from tests.lab.openshift4.api.answers import Failure
from tests.lab.openshift4.api.kinds import KINDS, Kind, Object
from tests.lab.openshift4.api.objects import Objects
from tests.lab.openshift4.api.store import EtcdStore, StoreDown
from tests.lab.openshift4.layout import REVISION

ETCD, MACHINES = "openshift-etcd", "openshift-machine-api"
ROLE = "machine.openshift.io/cluster-api-machine-role"
_PASSING = (StoreDown, EtcdUnavailable, Failure, CommandFailed, RuntimeError, OSError)
"""What a host or an etcd raises that goes away in the middle of a turn; the next looks anew."""


def kind(resource: str) -> Kind:
    """The kind of PLURAL or PLURAL.GROUP."""
    return next(k for k in KINDS if resource in (k.resource, k.plural))


class Actor:
    """`with Actor(lab):` the cluster lives, and stops living at the end.

    guard: the etcd operator refuses new revisions with fewer than three voters, as newer ones do.
    machine_api: machines are made through the API; without it there are none.
    """

    def __init__(self, lab: Lab, *, guard: bool = False, machine_api: bool = True) -> None:
        self.lab, self.guard, self.machine_api = lab, guard, machine_api
        pki = lab.hosts["master-0"].disk.pki / "etcd"
        files = (pki / "ca.crt", pki / "healthcheck-client.crt", pki / "healthcheck-client.key")
        endpoints = [f"{host.address}:2379" for host in lab.hosts.values()]
        store = EtcdStore.of_files(endpoints, *files)
        store._timeout = 2.0
        self.objects = Objects(store)
        self.turns = 0
        self.passed = ""
        self._errors: list[BaseException] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._operator = etcd_operator.EtcdOperator(self)
        self._machines = machines.MachineController(self)

    # ---- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Actor:
        self.seed()
        self._thread.start()
        wait_until(lambda: self.turns > 1, 30, "the first turn of the cluster's operators")
        return self

    def __exit__(
        self, kind_: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if error is not None:
            state = "at work" if self._thread.is_alive() else "dead"
            print(f"operators: {state}, {self.turns} turns, last met: {self.passed or 'nothing'}")
            self._tell()
        self._over.set()
        self._thread.join(60)
        if self._errors and error is None:
            raise self._errors[0]

    def _tell(self) -> None:
        """Print what a failure is to be understood by."""
        with suppress(*_PASSING):
            print(self.get("etcds.operator.openshift.io", "cluster"))
        log = "for f in /var/log/pods/*/etcd/*.log; do echo == $f; tail -5 $f | cut -c1-300; done"
        for host in (h for h in self.lab.hosts.values() if h.is_up):
            told = host.run(["journalctl", "-u", "kubelet", "--no-pager", "-n", "12"], check=False)
            print(f"{host.name}: kubelet:\n{told.stdout}")
            print(host.run(["sh", "-c", log], check=False).stdout)

    def _run(self) -> None:
        parts: tuple[Callable[[], None], ...] = (
            self._machines.turn, lambda: reports.turn(self), self._operator.turn
        )  # fmt: skip
        while not self._over.wait(0.1):
            for part in parts:
                try:
                    part()
                except _PASSING as error:
                    self.passed = f"{type(error).__name__}: {error}"[:500]
                    continue
                except BaseException as error:
                    traceback.print_exc()
                    self._errors.append(error)
                    return
            self.turns += 1

    # ---- objects ---------------------------------------------------------------------------------

    def get(self, resource: str, name: str, namespace: str = "") -> Object | None:
        """One object, or None."""
        found = kind(resource)
        entry = self.objects.store.get(found.prefix(namespace) + name)
        return self.objects.show(entry) if entry else None

    def list(self, resource: str, namespace: str = "") -> list[Object]:
        """All objects of a kind."""
        entries, _revision = self.objects.store.list(kind(resource).prefix(namespace))
        return [self.objects.show(entry) for entry in entries]

    def make(self, resource: str, name: str, namespace: str = "", **parts: Any) -> Object:
        """Make an object."""
        metadata = {"name": name, **parts.pop("metadata", {})}
        return self.objects.create(kind(resource), namespace, {"metadata": metadata, **parts})

    def change(
        self, resource: str, name: str, namespace: str, change: Callable[[Object], Object]
    ) -> Object:
        """Change an object by a function of the old one; its status, too."""
        return self.objects.update(kind(resource), namespace, name, change)

    def status(self, resource: str, name: str, namespace: str, **status: Any) -> None:
        """Set parts of a status, where they are not so already."""
        old = self.get(resource, name, namespace)
        if old is None or all((old.get("status") or {}).get(k) == v for k, v in status.items()):
            return
        self.change(resource, name, namespace,
                    lambda o: {**o, "status": {**(o.get("status") or {}), **status}})  # fmt: skip

    def drop(self, resource: str, name: str, namespace: str = "") -> None:
        """Remove an object, finalizers or not."""
        with suppress(Failure):
            self.change(resource, name, namespace, _without_finalizers)
        with suppress(Failure):
            self.objects.delete(kind(resource), namespace, name, {})

    # ---- the cluster as the installer left it ----------------------------------------------------

    def seed(self) -> None:
        """Make every object that there is at the beginning."""
        spec = {"managementState": "Managed", "logLevel": "Normal"}
        rows = [
            {"nodeName": name, "currentRevision": REVISION, "targetRevision": 0}
            for name in self.lab.hosts
        ]
        status = {"latestAvailableRevision": REVISION, "nodeStatuses": rows}
        self.make("etcds.operator.openshift.io", "cluster", spec=spec, status=status)
        version = {"desired": {"version": "4.16.0"}}
        self.make("clusterversions.config.openshift.io", "version", spec={}, status=version)
        for host in self.lab.hosts.values():
            self.make_node(host)
            if self.machine_api:
                self.make_machine(host)
            etcd_operator.make_secrets(self, host.name)
        data = {"forceRedeploymentReason": "", "certs": etcd_operator.certs_of(self)}
        self.make("configmaps", f"etcd-pod-{REVISION}", ETCD, data=data)

    def make_node(self, host: Host) -> Object:
        """A control-plane node, as its kubelet registers it."""
        labels = {"node-role.kubernetes.io/master": "", "kubernetes.io/hostname": host.name}
        addresses = [{"type": "InternalIP", "address": host.address}]
        return self.make("nodes", host.name, metadata={"labels": labels},
                         status={"addresses": addresses})  # fmt: skip

    def make_machine(self, host: Host) -> Object:
        """The machine under a node, with all that controllers write into one."""
        name = f"lab-x7k2p-master-{host.index}"
        hook = [{"name": "EtcdQuorumOperator", "owner": "clusteroperator/etcd"}]
        value = {"kind": "LabMachineProviderSpec", "size": "m4.xlarge",
                 "userDataSecret": {"name": "master-user-data"}}  # fmt: skip
        metadata = {
            "labels": {ROLE: "master", "machine.openshift.io/cluster-api-cluster": "lab-x7k2p"},
            "annotations": {"machine.openshift.io/instance-state": "running"},
            "finalizers": ["machine.machine.openshift.io"],
        }
        spec = {"providerID": f"lab:///{host.name}", "lifecycleHooks": {"preDrain": hook},
                "metadata": {}, "providerSpec": {"value": value}}  # fmt: skip
        status = {"phase": "Running", "nodeRef": {"kind": "Node", "name": host.name}}
        return self.make("machines.machine.openshift.io", name, MACHINES, metadata=metadata,
                         spec=spec, status=status)  # fmt: skip


def _without_finalizers(old: Object) -> Object:
    meta = {k: v for k, v in old["metadata"].items() if k != "finalizers"}
    return {**old, "metadata": meta}
