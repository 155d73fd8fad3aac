"""The machine controllers: an instance ends with its machine, and a new machine gets a new one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.lab import network
from tests.lab.host import Host
from tests.lab.openshift4.api.kinds import Object, at
from tests.lab.openshift4.layout import MANIFEST, RESOURCES

if TYPE_CHECKING:
    from tests.lab.openshift4.actor.cluster import Actor

_MACHINES = ("machines.machine.openshift.io", "openshift-machine-api")
_SSH = 22


def reinstall(host: Host) -> None:
    """A fresh system on the host's hardware: nothing of etcd is left, and it boots."""
    host.power_cut()
    network.heal(host.name)
    host.disk.restore()
    host.path(MANIFEST).unlink()
    shutil.rmtree(host.path("/var/lib/etcd/member"))
    for folder in host.path(RESOURCES).glob("etcd-pod-*"):
        shutil.rmtree(folder)
    shutil.rmtree(host.path(f"{RESOURCES}/etcd-certs"))
    host.boot(wait=False)


class MachineController:
    """Looks at every machine, and brings the host under it one step further."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._booted: dict[str, str] = {}

    def turn(self) -> None:
        """One look at all machines."""
        for machine in self._actor.list(*_MACHINES):
            if at(machine, "metadata.deletionTimestamp"):
                self._end(machine)
            elif at(machine, "status.phase") != "Running":
                self._make(machine)

    def _host_of(self, machine: Object) -> Host | None:
        return self._actor.lab.hosts.get(at(machine, "status.nodeRef.name"))

    def _end(self, machine: Object) -> None:
        """Drain (which hooks hold back), end the instance, let the machine and its node go."""
        name, host = machine["metadata"]["name"], self._host_of(machine)
        if at(machine, "spec.lifecycleHooks.preDrain"):
            held = {
                "type": "Drainable",
                "status": "False",
                "message": "Drain operation currently "
                "blocked by: [{Name:EtcdQuorumOperator Owner:clusteroperator/etcd}]",
            }
            self._actor.status(_MACHINES[0], name, _MACHINES[1], phase="Deleting",
                               conditions=[held])  # fmt: skip
            return
        if host is not None:
            host.power_cut()
            self._actor.drop("pods", f"etcd-{host.name}", "openshift-etcd")
            self._actor.drop("nodes", host.name)
        self._actor.drop(_MACHINES[0], name, _MACHINES[1])

    def _make(self, machine: Object) -> None:
        """Provisioning → Provisioned → Running, with a turn at least between two of them."""
        name, phase = machine["metadata"]["name"], at(machine, "status.phase")
        if not phase:
            self._actor.status(_MACHINES[0], name, _MACHINES[1], phase="Provisioning")
            return
        if name not in self._booted:
            free = [h for h in self._actor.lab.hosts.values() if not h.is_up]
            if free:
                reinstall(free[0])
                self._booted[name] = free[0].name
            return
        host = self._actor.lab.hosts[self._booted[name]]
        if not host.is_listening(_SSH):
            return
        if phase == "Provisioning":
            change = {"providerID": f"lab:///{host.name}/{name}"}
            self._actor.change(_MACHINES[0], name, _MACHINES[1],
                               lambda o: {**o, "spec": {**o["spec"], **change}})  # fmt: skip
            self._actor.status(_MACHINES[0], name, _MACHINES[1], phase="Provisioned")
            return
        if self._actor.get("nodes", host.name) is None:
            self._actor.make_node(host)
        self._actor.status(_MACHINES[0], name, _MACHINES[1], phase="Running",
                           nodeRef={"kind": "Node", "name": host.name})  # fmt: skip
