"""The kinds of objects that this API keeps, and the columns that a table of them has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Column = tuple[str, Callable[[Object], Any]]


def at(item: Object, path: str) -> Any:
    """The value at a dotted path; an empty text for none."""
    value: Any = item
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else value


def _column(name: str, path: str) -> Column:
    return name, lambda item: at(item, path)


def condition(item: Object, kind: str) -> str:
    """The status of a condition; empty for none."""
    found = [c for c in at(item, "status.conditions") or [] if c.get("type") == kind]
    return str(found[0].get("status", "")) if found else ""


def _ready(item: Object) -> str:
    told = at(item, "status.containerStatuses") or []
    return f"{sum(bool(c.get('ready')) for c in told)}/{len(told)}"


@dataclass(frozen=True)
class Kind:
    """One kind of object. group is empty for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    short: tuple[str, ...] = ()
    columns: tuple[Column, ...] = field(default=(), hash=False)

    @property
    def api_version(self) -> str:
        """As objects say it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As RBAC messages say it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def prefix(self, namespace: str) -> str:
        """Where objects lie in etcd: below /kubernetes.io, as OpenShift has it."""
        middle = f"{self.group}/{self.plural}" if self.group else self.plural
        where = f"{namespace}/" if self.namespaced and namespace else ""
        return f"/kubernetes.io/{middle}/{where}"


_PHASE = _column("Phase", "status.phase")
_MACHINE = (
    _PHASE, _column("Node", "status.nodeRef.name"), _column("ProviderID", "spec.providerID")
)  # fmt: skip
KINDS = (
    Kind("", "v1", "namespaces", "Namespace", False, ("ns",)),
    Kind("", "v1", "secrets", "Secret", True, (), (
        _column("Type", "type"), ("Data", lambda item: len(item.get("data") or {})))),
    Kind("", "v1", "nodes", "Node", False, ("no",), (
        ("Status", lambda i: "Ready" if condition(i, "Ready") == "True" else "NotReady"),)),
    Kind("", "v1", "pods", "Pod", True, ("po",), (
        ("Ready", _ready), ("Status", lambda item: at(item, "status.phase")))),
    Kind("", "v1", "configmaps", "ConfigMap", True, ("cm",)),
    Kind("machine.openshift.io", "v1beta1", "machines", "Machine", True, (), _MACHINE),
    Kind("machine.openshift.io", "v1", "controlplanemachinesets", "ControlPlaneMachineSet", True,
         (), (_column("State", "spec.state"),)),
    Kind("cluster.x-k8s.io", "v1beta1", "machines", "Machine", True, (), _MACHINE),
    Kind("operator.openshift.io", "v1", "etcds", "Etcd", False, (), (
        _column("Reason", "spec.forceRedeploymentReason"),)),
    Kind("config.openshift.io", "v1", "clusterversions", "ClusterVersion", False, (), (
        _column("Version", "status.desired.version"),)),
)  # fmt: skip


def kinds_of(group: str, version: str) -> list[Kind]:
    """All kinds of one group and version."""
    return [k for k in KINDS if (k.group, k.version) == (group, version)]


def find(group: str, version: str, plural: str) -> Kind | None:
    """The kind of a path, or None."""
    return next((k for k in kinds_of(group, version) if k.plural == plural), None)
