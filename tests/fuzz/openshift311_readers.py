"""Readers of OpenShift 3.11's files, and the splices that change them: only what is wanted goes."""

from __future__ import annotations

from typing import Any

from agent.errors import Damaged, Refused, UsageError
from agent.platforms.openshift311 import OpenShift311
from agent.snapshot.master.model import manifest_bytes, parse_manifest
from agent.survey.docker import parse_docker
from agent.survey.flannel import hosts_of, without_endpoints
from agent.survey.haproxy import lines_of, ports_to, servers, without_host
from agent.survey.sourcefile import parse_sourced
from coordinator.inventories.edit_ini import without_host as without_inventory_host
from coordinator.inventories.ini import parse_ini
from tests.fuzz.reader import Reader, Wrong


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _sourced(data: bytes) -> Any:
    text = _text(data)
    found = parse_sourced(text)
    for given in found.assignments:
        if not 0 <= given.start <= given.end <= len(text):
            raise Wrong("a value that stands outside the file")
    return found


def _haproxy(data: bytes) -> Any:
    text = _text(data)
    if "".join(text[line.start : line.end] for line in lines_of(text)) != text:
        raise Wrong("lines that do not make up the file")
    found = servers(text)
    for server in found[:3]:
        after = without_host(text, [server.address]) if server.address else text
        left = [s.address for s in servers(after)]
        if left != [s.address for s in found if s.address in left]:
            raise Wrong("other servers left than the one that was meant")
    return ports_to(text, {server.section for server in found})


def _flannel(data: bytes) -> Any:
    text = _text(data)
    hosts = hosts_of(text)
    for host in hosts[:3]:
        if hosts_of(without_endpoints(text, {host})) != tuple(h for h in hosts if h != host):
            raise Wrong("other endpoints left than the one that was meant")
    return hosts


def _inventory(data: bytes) -> Any:
    text = data.decode("utf-8-sig", errors="strict") if _is_text(data) else ""
    groups = parse_ini(text.encode(), "hosts")
    known = [g for g in ("masters", "etcd") if g in groups.groups]
    for host in groups.hosts_of("etcd")[:2]:
        without_inventory_host(text, "hosts", host, known)
    return known


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return True


def _master_manifest(data: bytes) -> Any:
    found = parse_manifest(data, "MANIFEST.json")
    if parse_manifest(manifest_bytes(found), "again") != found:
        raise Wrong("a manifest that its own text does not give back")
    return found


OPENSHIFT311_READERS = (
    Reader("sourced variables", "etcd.conf", _sourced),
    Reader("haproxy.cfg", "haproxy.cfg", _haproxy, (Refused,)),
    Reader("flannel's settings", "flanneld", _flannel, (Refused,)),
    Reader("Ansible inventory, edited", "inventory", _inventory, (UsageError, Refused)),
    Reader("manifest of a master's backup", "master-manifest", _master_manifest,
           (Damaged, Refused)),
    Reader("docker's list", "docker", lambda data: parse_docker(_text(data), OpenShift311()),
           (Damaged,)),
)  # fmt: skip
