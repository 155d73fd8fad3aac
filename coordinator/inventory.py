"""Which hosts there are: from cluster.yaml, -H, another inventory, or the first one's members.

cluster.yaml, all keys but `hosts` optional, unknown ones refused:

    cluster: production          # a name for reports
    ssh:                         # for every host that does not say otherwise
      user: core
      port: 22
      jump: ann@bastion:22       # or a chain a,b; none: no jump, whatever ssh_config says
      config: ssh_config         # in place of ~/.ssh/config; relative to this file
      connect_timeout: 3         # seconds
    require_signed_plans: true   # agents take signed plans only (docs/signed-plans.md)
    allowed_signers: signers     # who may sign them (ssh-keygen(1)); relative to this file
    revoked_signers: revoked     # public keys that are taken no more; relative to this file
    load_balancer: lb            # OpenShift 3.11: the host of haproxy; as a row of hosts below
    ansible_inventory: hosts.ini # kept up to date when a host leaves; relative to this file
    hosts:
      - master-0                 # a name is enough; ssh_config may say the rest
      - name: master-1
        address: 192.0.2.11
        user: root
        port: 2222
        jump: bastion
      - name: here
        transport: local         # this machine itself
      - name: master-2
        transport: oc-debug      # a debug pod on the node of that name (docs/debug-pod.md)
    debug_pods:                  # of these, and of --via oc-debug
      image: registry/etcd-rescue:0.1
      tool: oc                   # or kubectl, or a path
      namespace: rescue          # and context, kubeconfig; relative to this file

At most 1 MiB and 256 hosts.
"""

from __future__ import annotations

import getpass
import logging
import socket
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.diagnosis.witness import named
from agent.errors import UsageError
from agent.model.facts import Member, Survey
from agent.model.signed import Policy
from coordinator import sshconfig
from coordinator.connection import Access, resolve
from coordinator.hosts import (
    TRANSPORTS,
    HostSpec,
    canonical,
    checked_jump,
    checked_name,
    checked_port,
    checked_user,
    split_address,
)
from coordinator.inventories.choose import hosts_from
from coordinator.probe import probe_ports as probe_ports
from coordinator.signing import POLICY_KEYS, read_policy
from coordinator.sshconfig import SshOptions
from coordinator.transports.pod import Pods
from coordinator.transports.pod_keys import KEY, read_wish
from coordinator.transports.pod_tools import checked_wish
from coordinator.yaml_input import read_yaml

MAX_HOSTS = 256
_OTHERS = ("load_balancer", "ansible_inventory")
LOCAL, POD = "local", "oc-debug"
_DNS_TIMEOUT = 1.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inventory:
    """The hosts of one cluster in the order given, and how to get onto them.

    complete: these are all hosts; else the others are to be found through the member lists.
    policy: who may sign plans, and whether they must be signed. balancer: the host of the load
    balancer, where cluster.yaml names one; ansible: the path of an Ansible inventory that is kept
    up to date with the cluster, empty for none.
    """

    hosts: tuple[HostSpec, ...] = ()
    cluster: str = ""
    access: Access = field(default_factory=Access)
    complete: bool = False
    policy: Policy = field(default_factory=Policy)
    balancer: HostSpec | None = None
    ansible: str = ""

    def host(self, name: str) -> HostSpec:
        """The host of that name. Raises UsageError naming those there are."""
        for spec in self.hosts:
            if spec.name == name:
                return spec
        known = ", ".join(spec.name for spec in self.hosts) or "none"
        raise UsageError(f"no host {name!r} in the inventory", f"there is: {known}")


def load_inventory(path: Path) -> Inventory:
    """cluster.yaml as described above. Raises UsageError with the place of what does not fit."""
    where = str(path)
    data = _mapping(
        read_yaml(path), where, {"cluster", "ssh", "hosts", *_OTHERS, KEY, *POLICY_KEYS}
    )
    ssh = _mapping(
        data.get("ssh") or {},
        f"{where}: ssh",
        {"user", "port", "jump", "config", "connect_timeout"},
    )
    rows = data.get("hosts")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_HOSTS:
        raise UsageError(f"{where}: `hosts` is not a list of 1 to {MAX_HOSTS} hosts")
    hosts = tuple(_host(row, ssh, f"{where}: hosts[{n}]") for n, row in enumerate(rows))
    _refuse_twins(hosts, where)
    cluster = data.get("cluster", "")
    if cluster:
        checked_name(cluster, "cluster name")
    policy = read_policy(data, path)
    access = replace(_access(ssh, path), pods=Pods(read_wish(data, path)))
    return Inventory(
        hosts, cluster or "", access, complete=True, policy=policy,
        balancer=_balancer(data, ssh, where), ansible=_ansible(data, path),
    )  # fmt: skip


def _balancer(data: Mapping[str, Any], ssh: Mapping[str, Any], where: str) -> HostSpec | None:
    row = data.get("load_balancer")
    return _host(row, ssh, f"{where}: load_balancer") if row else None


def _ansible(data: Mapping[str, Any], path: Path) -> str:
    value = data.get("ansible_inventory") or ""
    if not isinstance(value, str):
        raise UsageError(f"{path}: ansible_inventory {value!r} is not a path")
    return str(path.parent / Path(value).expanduser()) if value else ""


def with_names(inventory: Inventory, names: Iterable[str]) -> Inventory:
    """The hosts that -H names: [user@]host[:port], separated by commas, or `local`.

    A name that the inventory has means that host; user and port given on the command line win.
    Raises UsageError.
    """
    known = {spec.name: spec for spec in inventory.hosts}
    hosts = []
    for text in (part.strip(" ") for name in names for part in name.split(",")):
        user, name, port = split_address(text)
        spec = known.get(name) or HostSpec(name, transport=LOCAL if name == LOCAL else "ssh")
        hosts.append(replace(spec, user=user or spec.user, port=port or spec.port))
    _refuse_twins(hosts, "-H")
    return replace(inventory, hosts=tuple(hosts), complete=False)


def gather(
    cluster: str = "",
    names: Iterable[str] = (),
    host: str = "",
    ssh_config: str = "",
    source: str = "",
) -> Inventory:
    """The hosts to begin with, from what was given on the command line.

    cluster: a cluster.yaml, by default the one in the working directory if there is one. names: of
    -H; they take the file's hosts' details. host: the one a task is about, where nothing else names
    any. ssh_config: in place of the usual files. source: another inventory that names the hosts
    (inventories/choose.py), in place of a cluster.yaml. Raises UsageError, and Unreachable where
    that inventory does not answer.
    """
    default = Path("cluster.yaml")
    if source and cluster:
        raise UsageError("--hosts-from and --cluster", "both say which hosts there are")
    if source:
        # Not complete: an inventory may be older than the cluster; its members name the others.
        inventory = Inventory(_without_twins(hosts_from(source), source))
    elif cluster or default.is_file():
        inventory = load_inventory(Path(cluster) if cluster else default)
    else:
        inventory = Inventory()
    names = list(names)
    if names or (host and not inventory.hosts):
        inventory = with_names(inventory, names or [host])
    if not inventory.hosts:
        raise UsageError(
            "no hosts are given",
            "nothing says where the cluster is",
            "-H HOST with any one control-plane host, a cluster.yaml, or --hosts-from",
        )
    if ssh_config:
        inventory = replace(inventory, access=replace(inventory.access, config=ssh_config))
    return inventory


def via(inventory: Inventory, transport: str, image: str = "") -> Inventory:
    """The same hosts, all but this machine itself by another transport; "": as they say.

    image: of debug pods, in place of the inventory's. Raises UsageError.
    """
    if transport not in ("", *TRANSPORTS):
        raise UsageError(f"--via {transport}", f"known: {', '.join(TRANSPORTS)}")
    hosts = inventory.hosts
    if transport:
        hosts = tuple(h if h.transport == LOCAL else replace(h, transport=transport) for h in hosts)
    if image and not any(host.transport == POD for host in hosts):
        raise UsageError(
            "--image is of debug pods", "no host is got onto through one", f"--via {POD}"
        )
    wish = inventory.access.pods.wish
    pods = Pods(checked_wish(replace(wish, image=image or wish.image)))
    return replace(inventory, hosts=hosts, access=replace(inventory.access, pods=pods))


def _host(row: Any, ssh: Mapping[str, Any], where: str) -> HostSpec:
    if isinstance(row, str):
        row = {"name": row}
    row = _mapping(row, where, {"name", "address", "user", "port", "jump", "transport"})
    transport = row.get("transport", "ssh")
    if transport not in TRANSPORTS:
        raise UsageError(f"{where}: transport {transport!r} is none of {', '.join(TRANSPORTS)}")
    try:
        return HostSpec(
            name=checked_name(row.get("name")),
            address=checked_name(row["address"], "address") if row.get("address") else "",
            user=checked_user(row.get("user") or ssh.get("user") or ""),
            port=checked_port(row.get("port") or ssh.get("port") or 0),
            jump=checked_jump(row.get("jump") or ssh.get("jump") or ""),
            transport=transport,
        )
    except UsageError as error:
        raise UsageError(f"{where}: {error.seen}", error.why) from None


def _access(ssh: Mapping[str, Any], path: Path) -> Access:
    config, timeout = ssh.get("config") or "", ssh.get("connect_timeout") or 0
    if not isinstance(config, str):
        raise UsageError(f"{path}: ssh: config {config!r} is not a path")
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout <= 60:
        raise UsageError(f"{path}: ssh: connect_timeout {timeout!r} is not 0 to 60 seconds")
    if config:
        config = str(path.parent / Path(config).expanduser())
        if not Path(config).is_file():
            raise UsageError(f"{path}: ssh: config {config} is not a file")
    return Access(config=config, connect_timeout=float(timeout))


def _mapping(value: Any, where: str, keys: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected keys and values, found {type(value).__name__}")
    unknown = [key for key in value if key not in keys]
    if unknown:
        known = ", ".join(sorted(keys))
        raise UsageError(f"{where}: unknown key {unknown[0]!r}", f"known: {known}")
    return value


def _without_twins(hosts: tuple[HostSpec, ...], where: str) -> tuple[HostSpec, ...]:
    if len(hosts) > MAX_HOSTS:
        raise UsageError(f"{where}: {len(hosts)} hosts", f"one cluster has at most {MAX_HOSTS}")
    _refuse_twins(hosts, where)
    return hosts


def _refuse_twins(hosts: Iterable[HostSpec], where: str) -> None:
    seen: set[str] = set()
    for spec in hosts:
        if spec.name in seen:
            raise UsageError(f"{where}: the host {spec.name} is there twice")
        seen.add(spec.name)


# ---- found through one host ----------------------------------------------------------------------


def hosts_from_members(
    survey: Survey,
    known: HostSpec,
    access: Access | None = None,
    addresses: Collection[str] = (),
) -> list[HostSpec]:
    """The other hosts of the cluster, by the member list that `known`'s survey has.

    The list of a running etcd, else that of the stopped one's data. A host has its member's name
    where that leads somewhere (ssh_config, then DNS), with the peer URL's address otherwise; what
    ssh_config does not say of it is taken over from `known`. addresses: of hosts that are known,
    whatever they are called; a member at one of them is no other host.
    """
    there = {canonical(address) for address in addresses}
    access = access or Access()
    model = resolve(known, access) if known.transport == "ssh" else None
    found: dict[str, HostSpec] = {known.name: known}
    for member in _members(survey):
        address = _peer_address(member)
        if _is_itself(member, address, survey) or (address and address in there):
            continue
        name = _usable_name(member.name, found) or _usable_name(address, found)
        if not name:
            logger.warning("member %s has no usable name or address", member.id)
            continue
        found[name] = _described(name, address, known, model, access)
    return [spec for name, spec in found.items() if name != known.name]


def _members(survey: Survey) -> tuple[Member, ...]:
    if survey.online and survey.online.answers and survey.online.members:
        return survey.online.members
    db = survey.offline.db if survey.offline else None
    if db and db.members:
        return named(db.members, [survey.config] if survey.config else [])
    # A wiped host has no data to say who the others are, but its definition still does.
    pairs = survey.config.initial_cluster if survey.config else ()
    return tuple(Member("", name, (url,)) for name, url in pairs)


def _is_itself(member: Member, address: str, survey: Survey) -> bool:
    wal = survey.offline.wal if survey.offline else None
    ids = {survey.online.member_id if survey.online else "", wal.member_id if wal else ""} - {""}
    if ids and member.id:
        return member.id in ids
    name = survey.config.name if survey.config else survey.hostname
    return address in map(canonical, survey.addresses) or member.name == name


def _peer_address(member: Member) -> str:
    for url in member.peer_urls:
        try:
            host = urlsplit(url).hostname
            if host:
                return canonical(checked_name(host))
        except (ValueError, UsageError):
            continue
    return ""


def _usable_name(name: str, taken: Mapping[str, HostSpec]) -> str:
    try:
        return checked_name(name) if name not in taken else ""
    except UsageError:
        return ""


def _described(
    name: str, address: str, known: HostSpec, model: SshOptions | None, access: Access
) -> HostSpec:
    if known.transport == POD:
        return HostSpec(name, address, transport=POD)  # the member's name is the node's
    own = sshconfig.lookup(name, access.config)
    leads_somewhere = name == address or own.hostname != name or _resolves(name)
    spec = HostSpec(name, "" if leads_somewhere else address, known.user, known.port, known.jump)
    spec = replace(spec, key=known.key)
    if model is None:
        return spec
    is_default_user = own.user in ("", getpass.getuser())
    is_direct = not (own.jumps or own.proxy_command)
    return replace(
        spec,
        user=spec.user or (model.user if is_default_user else ""),
        port=spec.port or (model.port if own.port == 22 and model.port != 22 else 0),
        jump=spec.jump or (",".join(model.jumps) if is_direct else ""),
    )


def _resolves(name: str) -> bool:
    """True if the name has an address here; False too where DNS takes more than a second."""
    found = threading.Event()

    def ask() -> None:
        try:
            socket.getaddrinfo(name, 22, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_DNS_TIMEOUT)
    return found.is_set()
