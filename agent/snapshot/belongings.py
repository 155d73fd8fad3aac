"""What belongs to a snapshot on its host: manifests, certificates, encryption configuration."""

from __future__ import annotations

import grp
import os
import posixpath
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Optional

from agent.errors import RescueError
from agent.host import Host
from agent.model.facts import EtcdConfig
from agent.platforms.base import Platform
from agent.platforms.kubeadm import Kubeadm
from agent.survey.pod import ContainerSpec, parse_pod

ENCRYPTION_FLAG = "encryption-provider-config"
_MAX_FILE = 4 * 1024 * 1024
_MAX_FILES = 2000
_MAX_DEPTH = 4
_PKI = "/etc/kubernetes/pki"


@dataclass
class Belongings:
    """host path → what it is ("manifest", …), in the order found; problems: what could not be."""

    files: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, path: str, what: str) -> None:
        """Take a file along; the first word for what it is stays."""
        if path and len(self.files) < _MAX_FILES:
            self.files.setdefault(path, what)


def find_belongings(host: Host, platform: Platform, config: Optional[EtcdConfig]) -> Belongings:
    """The files that a restored cluster needs besides its data. Never raises for what is missing.

    Manifests: all of the watched directory, etcd's definition, a unit's drop-ins and environment
    files. Certificates and keys: the pki directory, and every file that etcd is told of. Encryption
    configuration: the file that a kube-apiserver's --encryption-provider-config names.
    """
    found = Belongings()
    for directory in dict.fromkeys((platform.manifest_dir, Kubeadm().on(host).manifest_dir)):
        for path in _plain_files(host, directory) if directory else ():
            found.add(path, "manifest")
            _add_encryption(host, path, found)
    if config is not None:
        for path in (config.definition, *config.files):
            found.add(path, "etcd")
    for directory in _pki_directories(platform, config):
        for path in _tree(host, directory, 0):
            found.add(path, _kind_of(path))
    for path in _named_files(config):
        found.add(path, _kind_of(path))
    for path in [p for p in found.files if not _is_usable(host, p, found)]:
        del found.files[path]
    return found


def _is_usable(host: Host, path: str, found: Belongings) -> bool:
    try:
        info = host.stat(path)
    except OSError as error:
        found.problems.append(f"{path}: {error.strerror}")
        return False
    if not stat.S_ISREG(info.st_mode) or info.st_size > _MAX_FILE:
        found.problems.append(f"{path}: not a regular file of at most {_MAX_FILE >> 20} MiB")
        return False
    return True


def _plain_files(host: Host, directory: str) -> Iterator[str]:
    """What the kubelet would read: files whose names do not begin with a dot."""
    for name in host.listdir(directory):
        path = posixpath.join(directory, name)
        with suppress(OSError):
            if not name.startswith(".") and stat.S_ISREG(host.stat(path).st_mode):
                yield path


def _add_encryption(host: Host, path: str, found: Belongings) -> None:
    try:
        pod = parse_pod(host.read_text(path, _MAX_FILE), path)
    except (OSError, RescueError):
        return  # not a pod: it is in the set as it is
    for spec in pod.containers:
        given = _flag(spec, ENCRYPTION_FLAG)
        if not given:
            continue
        source, problem = spec.host_path(given)
        if source:
            found.add(source, "encryption")
        else:
            found.problems.append(f"{path}: --{ENCRYPTION_FLAG}: {problem}")


def _flag(spec: ContainerSpec, name: str) -> str:
    """The value of a flag, given with = or as the next word; the last one counts."""
    value = ""
    argv = spec.argv
    for at, word in enumerate(argv):
        flag, equals, text = word.lstrip("-").partition("=")
        if word.startswith("-") and flag == name:
            value = text if equals else "".join(argv[at + 1 : at + 2])
    return value


def _pki_directories(platform: Platform, config: Optional[EtcdConfig]) -> list[str]:
    """Directories that hold nothing but a control plane's certificates and keys."""
    found = [_PKI, platform.pki_dir]
    for path in _named_files(config):
        directory = posixpath.dirname(path)
        if "etcd" in directory or "pki" in directory:
            found.append(directory)
    return list(dict.fromkeys(d for d in found if d))


def _named_files(config: Optional[EtcdConfig]) -> list[str]:
    if config is None:
        return []
    tls = (config.server_tls, config.peer_tls, config.client_tls)
    return [path for files in tls for path in (files.cert, files.key, files.ca) if path]


def _tree(host: Host, directory: str, depth: int) -> Iterator[str]:
    for name in host.listdir(directory) if depth < _MAX_DEPTH else ():
        path = posixpath.join(directory, name)
        if host.is_dir(path):
            if not host.is_link(path):
                yield from _tree(host, path, depth + 1)
        else:
            yield path


def _kind_of(path: str) -> str:
    return "key" if path.endswith(("key", "key.pem", ".pub")) else "certificate"


def owner_names(uid: int, gid: int) -> tuple[str, str]:
    """The names of a user and a group here; empty where there are none."""
    names = ["", ""]
    with suppress(KeyError):
        names[0] = pwd.getpwuid(uid).pw_name
    with suppress(KeyError):
        names[1] = grp.getgrgid(gid).gr_name
    return names[0], names[1]


def set_path(path: str) -> str:
    """Where a host's file lies in the set."""
    return f"host{os.path.normpath(path)}"
