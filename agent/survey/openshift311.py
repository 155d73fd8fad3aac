"""What a master of OpenShift 3.11 has beside its etcd: API and controllers, CA files, flannel."""

from __future__ import annotations

import re
from typing import Any

import yaml

from agent.errors import Damaged
from agent.host import Host
from agent.model.facts.openshift311 import Component, Master311
from agent.platforms.openshift311 import (
    CA_HOST_DIRS,
    CA_HOST_FILES,
    MASTER_CONFIG,
    MASTER_PODS,
    NODE_CONFIG,
    pods_dir,
)
from agent.survey import flannel

API_PORT = 8443
CONTROLLERS_PORT = 8444
_PORT = re.compile(r".*:(\d{1,5})")


def read_master(host: Host) -> Master311:
    """Facts of this host. Raises Damaged for flannel's file where it cannot be read."""
    directory = pods_dir(host)
    components = tuple(
        Component(name, path if host.exists(path) else "", _port(host, name))
        for name, path in ((n, f"{directory}/{file}") for n, file in MASTER_PODS.items())
    )
    text = _flannel(host)
    return Master311(
        is_master=host.exists(MASTER_CONFIG),
        components=components,
        ca_files=tuple(p for p in (*CA_HOST_FILES, *CA_HOST_DIRS) if host.exists(p)),
        flannel_file=flannel.FILE if text else "",
        flannel=flannel.hosts_of(text),
        node=_node_name(host),
    )


def _flannel(host: Host) -> str:
    if not host.exists(flannel.FILE):
        return ""
    return host.read_bytes(flannel.FILE, 1 << 20).decode("utf-8", "surrogateescape")


def _port(host: Host, component: str) -> int:
    """The API's port out of servingInfo.bindAddress; the controllers' is fixed in 3.11."""
    if component != "api":
        return CONTROLLERS_PORT
    serving = _yaml(host, MASTER_CONFIG).get("servingInfo")
    address = serving.get("bindAddress") if isinstance(serving, dict) else None
    match = _PORT.fullmatch(address) if isinstance(address, str) else None
    return int(match[1]) if match else API_PORT


def _node_name(host: Host) -> str:
    """The node configuration's nodeName, else the host's name, as the kubelet takes it."""
    name = _yaml(host, NODE_CONFIG).get("nodeName")
    return name if isinstance(name, str) and name else host.hostname().lower()


def _yaml(host: Host, path: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(host.read_text(path, 1024 * 1024))
    except (OSError, Damaged, yaml.YAMLError, RecursionError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
