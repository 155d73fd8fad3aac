"""The API by itself, with no host: a server in this process, and a root with a real kubectl."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.actions.base import Action, Context
from agent.host import Host
from agent.platforms.openshift4 import LOCAL_KUBECONFIG, OpenShift4
from tests.lab.openshift4.api.__main__ import server_tls
from tests.lab.openshift4.api.faults import Fault, Faults, to_text
from tests.lab.openshift4.api.kinds import KINDS, Kind, Object
from tests.lab.openshift4.api.objects import Objects
from tests.lab.openshift4.api.server import ApiServer
from tests.lab.openshift4.api.store import MemoryStore
from tests.lab.openshift4.credentials import ApiCredentials
from tests.lab.openshift4.kubectl import ensure_kubectl

ETCD, MACHINES = "openshift-etcd", "openshift-machine-api"


def kind(resource: str) -> Kind:
    """The kind of PLURAL or PLURAL.GROUP."""
    return next(k for k in KINDS if resource in (k.resource, k.plural))


class ApiAlone:
    """One API server over memory, and a host whose kubectl asks it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._faults = root / "faults.json"
        credentials = ApiCredentials.make()
        folder = root / "root/etc/pki"
        credentials.write(folder)
        files = [str(folder / name) for name in ("server.crt", "server.key", "ca.crt")]
        faults = Faults(self._faults)
        self.server = ApiServer(("127.0.0.1", 0), server_tls(*files), MemoryStore(), faults)
        self.server.start()
        config = root / "root" / LOCAL_KUBECONFIG.lstrip("/")
        config.parent.mkdir(parents=True)
        config.write_text(credentials.kubeconfig("/etc/pki", self.server.url))
        (root / "root/usr/bin").mkdir(parents=True)
        (root / "root/tmp").mkdir()
        shutil.copy2(ensure_kubectl(), root / "root/usr/bin/kubectl")
        self.host = Host(str(root / "root"))
        self.said: list[str] = []

    @property
    def objects(self) -> Objects:
        """What the API keeps, past the API."""
        return self.server.objects

    def reset(self) -> None:
        """Nothing kept, no faults."""
        self.server.objects = Objects(MemoryStore())
        self.faults()
        self.said.clear()

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()

    def faults(self, *rules: Fault) -> None:
        """Have these faults from now on, and no others."""
        self._faults.write_text(to_text(list(rules)))

    def make(self, resource: str, name: str, namespace: str = "", **parts: Any) -> Object:
        """Make an object; parts: of its own level (spec, status, data)."""
        of = kind(resource)
        metadata = {"name": name, **parts.pop("metadata", {})}
        return self.objects.create(of, namespace, {"metadata": metadata, **parts})

    def get(self, resource: str, name: str, namespace: str = "") -> Object:
        """Read an object."""
        return self.objects.show(self.objects.read(kind(resource), namespace, name))

    def names(self, resource: str, namespace: str = "") -> list[str]:
        """Names of all objects of a kind."""
        entries, _revision = self.objects.store.list(kind(resource).prefix(namespace))
        return [entry.key.rpartition("/")[2] for entry in entries]

    def context(self, step: str = "07", secrets: dict[str, str] | None = None) -> Context:
        """Where a step runs."""
        return Context(
            self.host, OpenShift4(), "plan", step, self.said.append, "plan-id", secrets or {}
        )

    def carry_out(self, action: Action[Any], args: Any, undo: Any = None) -> Any:
        """What the runner does with a step, but for the check, which asks etcd."""
        ctx = self.context()
        undo = undo if undo is not None else action.prepare(ctx, args)
        result = action.act(ctx, args, undo)
        action.prove(ctx, args, undo)
        return result


def secret_names(nodes: Sequence[str]) -> list[str]:
    """The names of all secrets of these members, sorted."""
    roles = ("peer", "serving", "serving-metrics")
    return sorted(f"etcd-{role}-{node}" for role in roles for node in nodes)
