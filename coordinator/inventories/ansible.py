"""Hosts of one cluster out of an Ansible inventory: which group, and how to get onto each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from agent.errors import UsageError
from coordinator.hosts import HostSpec, checked_jump, checked_name, checked_port, checked_user
from coordinator.inventories.groups import Groups, plain_text
from coordinator.inventories.ini import MAX_SIZE, parse_ini
from coordinator.inventories.yaml_groups import parse_yaml_groups

GROUPS = (
    "etcd", "kube_control_plane", "kube-master", "control_plane", "controlplane", "masters",
    "master", "controllers",
)  # fmt: skip
"""Groups that are looked for, the first that has hosts is taken: kubespray's and
openshift-ansible's names. etcd comes first: with an external etcd its hosts are others."""

_SSH = ("", "ssh", "smart", "paramiko", "paramiko_ssh")
_JUMP_OPTIONS = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")
_PROXY = re.compile(r"ssh\s+(.*-W\s+\[?%h\]?:%p.*)", re.DOTALL)


def read_groups(path: Path) -> Groups:
    """An inventory file, ini or yaml by its name's end, else by its first lines.

    Raises UsageError for what is neither, and for a program (a dynamic inventory): nothing of an
    inventory is executed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if data.startswith((b"#!", b"\x7fELF")):
        raise UsageError(
            f"{path}: a program, not a file of hosts",
            "an inventory is read here, and never executed",
            f"ansible-inventory -i {shlex.quote(str(path))} --list --yaml > hosts.yaml",
        )
    if _is_yaml(path, data):
        return parse_yaml_groups(data, str(path))
    return parse_ini(data, str(path))


def _is_yaml(path: Path, data: bytes) -> bool:
    if path.suffix in (".yaml", ".yml", ".json"):
        return True
    if path.suffix in (".ini", ".cfg"):
        return False
    lines = (line.strip() for line in data.decode(errors="replace").splitlines())
    first = next((line for line in lines if line and line[0] not in "#;"), "")
    return first == "---" or (not first.startswith("[") and first.endswith(":"))


def hosts_from_inventory(path: Path, group: str = "") -> tuple[HostSpec, ...]:
    """The hosts of a group, by default the first of GROUPS that has any. Raises UsageError."""
    groups = read_groups(path)
    found = groups.hosts_of(group) if group else ()
    for name in () if group else GROUPS:
        found = found or groups.hosts_of(name)
    if not found:
        there = ", ".join(name for name in groups.groups if groups.hosts_of(name)) or "none"
        raise UsageError(
            f"{path}: no hosts in {group or 'any of ' + ', '.join(GROUPS)}",
            f"groups with hosts: {there}",
            f"--hosts-from ansible:{path}:GROUP",
        )
    return tuple(_spec(path, name, groups.variables_of(name)) for name in found)


def _spec(path: Path, name: str, variables: Mapping[str, str]) -> HostSpec:
    said = _Said(f"{path}: {name}", variables)
    try:
        kind = said.text("ansible_connection").rpartition(".")[2]
        if kind == "local":
            return HostSpec(checked_name(name), transport="local")
        if kind not in _SSH:
            raise UsageError(f"ansible_connection {kind!r} is none that can be used here")
        port = said.text("ansible_port", "ansible_ssh_port")
        if port and not (port.isascii() and port.isdigit() and len(port) < 6):
            raise UsageError(f"{port!r} is not a port number")
        address = said.text("ansible_host", "ansible_ssh_host")
        return HostSpec(
            name=checked_name(name),
            address=checked_name(address.strip("[]"), "address") if address else "",
            user=checked_user(said.text("ansible_user", "ansible_ssh_user")),
            port=checked_port(int(port or 0)),
            jump=checked_jump(_jump(said)),
            key=said.text("ansible_ssh_private_key_file", "ansible_private_key_file"),
        )
    except UsageError as error:
        raise UsageError(f"{path}: {name}: {error.seen}", error.why, error.next) from None


class _Said:
    """A host's variables; what only Ansible can work out is refused where it is asked for."""

    def __init__(self, where: str, variables: Mapping[str, str]) -> None:
        self._where, self._variables = where, variables

    def text(self, *names: str) -> str:
        """The first of these variables that is set, without its quotes."""
        for name in names:
            value = plain_text(self._variables.get(name, "").strip())
            if "{{" in value or "{%" in value:
                raise UsageError(
                    f"{name} is a template: {value[:80]}",
                    "only Ansible can work it out",
                    "a cluster.yaml, or the plain value in host_vars of this file",
                )
            if value:
                return value
        return ""


def _jump(said: _Said) -> str:
    """[user@]host[:port],… out of ssh's -J, ProxyJump or `ProxyCommand ssh -W %h:%p host`."""
    for name in _JUMP_OPTIONS:
        text = said.text(name)
        if not text:
            continue
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
        found = _jump_of(words)
        if found:
            return found
    return ""


def _jump_of(words: list[str]) -> str:
    for at, word in enumerate(words):
        after = words[at + 1] if at + 1 < len(words) else ""
        if word == "-J":
            return after
        if word.startswith("-J"):
            return word[2:]
        option = after if word == "-o" else word[2:] if word.startswith("-o") else ""
        key, value = [*re.split(r"[\s=]+", option, maxsplit=1), ""][:2]
        if key.lower() == "proxyjump":
            return value.strip()
        if key.lower() == "proxycommand":
            return _proxy(value.strip())
    return ""


def _proxy(command: str) -> str:
    match = _PROXY.fullmatch(command)
    words = shlex.split(match[1]) if match else []
    user = port = host = ""
    while words:
        word = words.pop(0)
        if word == "-W":
            words[:1] = []
        elif word in ("-p", "-l") and words:
            value = words.pop(0)
            port, user = (value, user) if word == "-p" else (port, value)
        elif word in ("-q", "-A", "-T", "-x"):
            continue
        elif not word.startswith("-") and not host:
            host = word
        else:
            host, words = "", []
    if not host:
        raise UsageError(
            f"ProxyCommand {command[:120]!r} is none that can be understood here",
            "`ssh -W %h:%p [user@]host` is, and so is ProxyJump",
            "put it into ~/.ssh/config, for these hosts",
        )
    return (f"{user}@" if user and "@" not in host else "") + host + (f":{port}" if port else "")
