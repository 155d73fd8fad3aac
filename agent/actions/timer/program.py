"""What a unit of ours starts: a copy of this agent that no delivery takes away, and its Python.

The copy lies in /var/lib/etcd-rescue/agent/pinned/USE/SHA256.pyz, one directory for each use.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import zipfile
from dataclasses import dataclass

from agent.errors import PreconditionFailed
from agent.host import STATE_DIR, Host
from agent.host.own_files import remove_empty, remove_file

PINNED = f"{STATE_DIR}/agent/pinned"
_MAX_AGENT = 64 * 1024 * 1024
_PIN = re.compile(rf"{PINNED}/[a-z]+/[0-9a-f]{{64}}\.pyz")
_PLAIN = re.compile(r"/[A-Za-z0-9/_.+-]+")


@dataclass(frozen=True)
class Program:
    """argv: Python, its flags, the pinned agent. environment: for the unit. data: of the agent."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    path: str
    data: bytes


def own_program(host: Host, use: str) -> Program:
    """What a unit for `use` must start to run what runs now. Raises PreconditionFailed."""
    data = _own_bytes()
    path = f"{PINNED}/{use}/{hashlib.sha256(data).hexdigest()}.pyz"
    python = _own_python(host)
    # The file unpacks itself anew each time, in a place of its own: after a power cut nobody knows
    # what an earlier unpacking has left on the disk.
    environment = {
        "SHIV_ROOT": f"{STATE_DIR}/agent/unpacked/{use}",
        "SHIV_FORCE_EXTRACT": "1",
    }
    return Program((*python, "-E", "-s", path), environment, path, data)


def _own_bytes() -> bytes:
    path = sys.argv[0]
    if not path.endswith(".pyz") or not zipfile.is_zipfile(path):
        raise PreconditionFailed(
            f"this agent runs from {path or 'no file'}, not from one rescue-agent.pyz",
            "the unit would have nothing to run that stays as it is",
            "fab install-timer   (delivers that file first)",
        )
    return Host().read_bytes(path, _MAX_AGENT)


def _own_python(host: Host) -> tuple[str, ...]:
    """The Python that runs us, as a unit must name it."""
    path = sys.executable or ""
    if host.root != "/" or not _PLAIN.fullmatch(path) or not host.exists(path):
        raise PreconditionFailed(
            f"{path or 'this Python'} is not a program of {host.hostname()} that a unit can start",
            "the agent runs in a container here, or from a place with an unusual name",
            "fab install-timer over SSH",
        )
    return (path,)


def repinned(text: str, program: Program) -> str:
    """The text of a unit with the agent that it names replaced by this one."""
    return _PIN.sub(program.path, text)


def pin(host: Host, program: Program) -> None:
    """Put the agent where its unit starts it; the same bytes there are left alone."""
    if host.exists(program.path) and host.read_bytes(program.path, _MAX_AGENT) == program.data:
        return
    host.makedirs(os.path.dirname(program.path))
    host.write_atomic(program.path, program.data, mode=0o600)


def unpin(host: Host, use: str, keep: str = "") -> None:
    """Take pinned agents of a use away, all but `keep`; and with the last what they unpacked."""
    directory = f"{PINNED}/{use}"
    for name in host.listdir(directory):
        if f"{directory}/{name}" != keep:
            remove_file(host, f"{directory}/{name}")
    if keep:
        return
    for path in (directory, PINNED):
        remove_empty(host, path)
    unpacked = f"{STATE_DIR}/agent/unpacked/{use}"
    if host.is_dir(unpacked):
        host.makedirs(f"{STATE_DIR}/work")
        host.rename_new(unpacked, f"{STATE_DIR}/work/unpacked-{use}")
        host.discard(f"{STATE_DIR}/work/unpacked-{use}")
