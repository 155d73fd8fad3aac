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
_RUNTIMES = f"{STATE_DIR}/runtime"
_CARRIED = re.compile(
    rf"(?P<tree>{_RUNTIMES}/(?:pinned-[a-z]+-)?(?P<id>[0-9a-f]{{64}}))/bin/python3\.11"
)
_LOADER = re.compile(r"ld-linux-[a-z0-9-]+\.so\.[0-9]")
_PLAIN = re.compile(r"/[A-Za-z0-9/_.+-]+")


@dataclass(frozen=True)
class Program:
    """argv: Python, its flags, the pinned agent. environment: for the unit. data: of the agent.

    runtime: the carried runtime to be pinned as well; empty where Python is the host's own.
    """

    argv: tuple[str, ...]
    environment: dict[str, str]
    path: str
    data: bytes
    runtime: str = ""


def own_program(host: Host, use: str) -> Program:
    """What a unit for `use` must start to run what runs now. Raises PreconditionFailed."""
    data = _own_bytes()
    path = f"{PINNED}/{use}/{hashlib.sha256(data).hexdigest()}.pyz"
    python, runtime = _own_python(host, use)
    # The file unpacks itself anew each time, in a place of its own: after a power cut nobody knows
    # what an earlier unpacking has left on the disk.
    environment = {
        "SHIV_ROOT": f"{STATE_DIR}/agent/unpacked/{use}",
        "SHIV_FORCE_EXTRACT": "1",
    }
    if runtime:
        environment["OPENSSL_CONF"] = "/dev/null"  # the host's may be of another OpenSSL
    return Program((*python, "-E", "-s", path), environment, path, data, runtime)


def _own_bytes() -> bytes:
    path = sys.argv[0]
    if not path.endswith(".pyz") or not zipfile.is_zipfile(path):
        raise PreconditionFailed(
            f"this agent runs from {path or 'no file'}, not from one rescue-agent.pyz",
            "the unit would have nothing to run that stays as it is",
            "fab install-timer   (delivers that file first)",
        )
    return Host().read_bytes(path, _MAX_AGENT)


def _own_python(host: Host, use: str) -> tuple[tuple[str, ...], str]:
    """The Python that runs us, as a unit must start it; and the carried runtime it is of, or "".

    A unit starts a copy of that runtime, by its own loader: the next delivery may bring another
    one, and take this one away.
    """
    path = sys.executable or ""
    if host.root != "/" or not _PLAIN.fullmatch(path) or not host.exists(path):
        raise PreconditionFailed(
            f"{path or 'this Python'} is not a program of {host.hostname()} that a unit can start",
            "the agent runs in a container here, or from a place with an unusual name",
            "the same over SSH",
        )
    match = _CARRIED.fullmatch(path)
    if match is None:
        return (path,), ""
    tree = match["tree"]
    loader = next((n for n in host.listdir(f"{tree}/lib") if _LOADER.fullmatch(n)), "")
    top = f"{_RUNTIMES}/{_pinned_name(use, match['id'])}"
    return (
        f"{top}/lib/{loader}", "--inhibit-cache", "--library-path", f"{top}/lib",
        f"{top}/bin/python3.11",
    ), f"{_RUNTIMES}/{match['id']}"  # fmt: skip


def _pinned_name(use: str, tree_id: str) -> str:
    """How a copy is called, beside the runtimes that deliveries keep and remove."""
    return f"pinned-{use}-{tree_id}"


def repinned(text: str, program: Program) -> str:
    """The text of a unit with the agent that it names replaced by this one."""
    return _PIN.sub(program.path, text)


def pin(host: Host, program: Program) -> None:
    """Put the agent where its unit starts it; the same bytes there are left alone."""
    if program.runtime:
        _pin_runtime(host, program)
    if host.exists(program.path) and host.read_bytes(program.path, _MAX_AGENT) == program.data:
        return
    host.makedirs(os.path.dirname(program.path))
    host.write_atomic(program.path, program.data, mode=0o600)


def _pin_runtime(host: Host, program: Program) -> None:
    """Another name for every file of the runtime: its tree is checked, and costs no space."""
    target = os.path.dirname(os.path.dirname(program.argv[0]))
    if host.is_dir(target):
        return
    copy = f"{STATE_DIR}/work/{os.path.basename(target)}"
    host.makedirs(os.path.dirname(copy))
    host.discard(copy)  # half a copy, of an agent that was killed
    host.run([f"{program.runtime}/bin/busybox", "cp", "-a", "-l", program.runtime, copy], 60)
    host.rename_new(copy, target)


def _unpin_runtime(host: Host, use: str) -> None:
    for name in host.listdir(_RUNTIMES):
        if name.startswith(f"pinned-{use}-"):
            _discard(host, f"{_RUNTIMES}/{name}")


def _discard(host: Host, path: str) -> None:
    """Out of its place by one rename, then deleted."""
    target = f"{STATE_DIR}/work/{os.path.basename(path)}"
    host.makedirs(os.path.dirname(target))
    host.discard(target)
    host.rename_new(path, target)
    host.discard(target)


def unpin(host: Host, use: str, keep: str = "", unpacked: bool = True) -> None:
    """Take pinned agents of a use away, all but `keep`; and with the last what they unpacked.

    Unless `unpacked`, that stays: one of them may be running.
    """
    directory = f"{PINNED}/{use}"
    for name in host.listdir(directory):
        if f"{directory}/{name}" != keep:
            remove_file(host, f"{directory}/{name}")
    if keep:
        return
    for path in (directory, PINNED):
        remove_empty(host, path)
    if not unpacked:
        return
    _unpin_runtime(host, use)
    if host.is_dir(f"{STATE_DIR}/agent/unpacked/{use}"):
        _discard(host, f"{STATE_DIR}/agent/unpacked/{use}")
