"""The resources of the API that a rescue reads or changes, and where their objects are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """One kind of object, in one namespace (empty for a kind without)."""

    group: str
    version: str
    plural: str
    namespace: str = ""

    @property
    def full_name(self) -> str:
        """As `oc get` takes it without a doubt: machines.machine.openshift.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def scope(self) -> tuple[str, ...]:
        """The words that choose the namespace."""
        return ("-n", self.namespace) if self.namespace else ()

    def path(self, name: str = "") -> str:
        """The path of all objects, or of one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        middle = f"/namespaces/{self.namespace}" if self.namespace else ""
        return f"{root}{middle}/{self.plural}" + (f"/{name}" if name else "")


ETCD_NAMESPACE = "openshift-etcd"
MACHINE_NAMESPACE = "openshift-machine-api"

SECRETS = Resource("", "v1", "secrets", ETCD_NAMESPACE)
PODS = Resource("", "v1", "pods", ETCD_NAMESPACE)
CONFIG_MAPS = Resource("", "v1", "configmaps", ETCD_NAMESPACE)
NODES = Resource("", "v1", "nodes")
ETCDS = Resource("operator.openshift.io", "v1", "etcds")
MACHINES = Resource("machine.openshift.io", "v1beta1", "machines", MACHINE_NAMESPACE)
MACHINE_SETS = Resource("machine.openshift.io", "v1", "controlplanemachinesets", MACHINE_NAMESPACE)
CLUSTER_API_MACHINES = Resource("cluster.x-k8s.io", "v1beta1", "machines")
"""Of all namespaces."""
