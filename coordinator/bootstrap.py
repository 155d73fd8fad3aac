"""Runs on a host, as root, before the agent does: checks, receives, unpacks and starts it.

Delivery sends this file's text ahead of everything else, followed by a call of `start`. It needs
Python 3.9 and nothing but its standard library, and it starts no second Python: the process that
checked the file's hash is the one that runs what was in it.

Whatever umask and directory the login came with, nothing made here is ever open to others.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from typing import Any, NoReturn


def start(
    state_dir: str, sha256: str, size: int, machine: str, argv: list[str], debug: bool = False
) -> NoReturn:
    """Make sure that `sha256`.pyz is below state_dir/agent, then become the agent with `argv`.

    Says one JSON line {"have": bool, "python": version, "arch": machine} or the same with "error";
    with have=false and no error it expects exactly `size` bytes of the file on stdin.
    """
    os.umask(0o077)
    os.chdir("/")
    if debug:
        os.environ["ETCD_RESCUE_DEBUG"] = "1"  # sudo hands no variables on
    report: dict[str, Any] = {"have": False, "python": sys.version.split()[0].rstrip("+")}
    report["arch"] = os.uname().machine
    if report["arch"] != machine:
        _give_up(report, f"machine is {report['arch']}, the agent was built for {machine}")
    try:
        agent_dir = _private_dir(state_dir)
        path = os.path.join(agent_dir, f"{sha256}.pyz")
        report["have"] = _hash_of(path) == sha256
        _say(report)
        if not report["have"]:
            _receive(path, sha256, size)
        site = _unpacked(agent_dir, path, sha256)
    except OSError as error:
        _give_up(report, f"{error.filename or state_dir}: {error.strerror or error}")
    except ValueError as error:
        _give_up(report, str(error))
    _become_agent(path, site, argv)


def _private_dir(state_dir: str) -> str:
    """state_dir/agent, both ours alone (0700). Raises ValueError for anybody else's or a link."""
    agent_dir = os.path.join(state_dir, "agent")
    for path in (state_dir, agent_dir, os.path.join(agent_dir, "unpacked")):
        os.makedirs(path, mode=0o700, exist_ok=True)  # missing parents get the umask's mode
        info = os.lstat(path)
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
            raise ValueError(f"{path} is a link, no directory, or not owned by uid {os.geteuid()}")
        mode = stat.S_IMODE(info.st_mode)
        if mode & 0o022:  # what is in there may be anybody's
            raise ValueError(
                f"{path} has mode {mode:04o}: others could put an agent of theirs there; look at"
                f" what is in it, or move it away; then: chmod 700 {path}"
            )
        if mode != 0o700:
            os.chmod(path, 0o700)
    return agent_dir


def _hash_of(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return ""


def _receive(path: str, sha256: str, size: int) -> None:
    """Take the file from stdin; nothing has its name before its content is checked and durable."""
    data = sys.stdin.buffer.read(size)
    if len(data) != size:
        raise ValueError(f"the connection ended after {len(data)} of {size} bytes of the agent")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("the agent arrived damaged: its sha256 is not the one announced")
    temp = f"{path}.{os.getpid()}.tmp"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(temp, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temp, path)
    except OSError:
        if os.path.exists(temp):
            os.unlink(temp)
        raise
    fd = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def _unpacked(agent_dir: str, path: str, sha256: str) -> str:
    """The file's packages as a directory for sys.path (a library cannot be loaded out of a zip).

    The directory belongs to one boot of the host: without an fsync per file, which would wait for
    the disk that etcd is waiting for, it cannot be trusted after a power cut, and need not be.
    """
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read(8)
    root = os.path.join(agent_dir, "unpacked")
    home = os.path.join(root, f"{sha256[:16]}-{boot}")
    if not os.path.isdir(home):
        import shutil  # not loaded where the agent is there already

        for name in os.listdir(root):
            if name.startswith(sha256[:16]) and f"-{boot}" not in name:
                shutil.rmtree(os.path.join(root, name), ignore_errors=True)
        _unpack(path, home)
    return os.path.join(home, "site-packages")


def _unpack(path: str, home: str) -> None:
    import shutil
    import zipfile

    temp = f"{home}.{os.getpid()}"
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(temp, [n for n in archive.namelist() if n.startswith("site-pack")])
        os.rename(temp, home)
    except OSError:
        shutil.rmtree(temp, ignore_errors=True)
        if not os.path.isdir(home):  # else another agent was faster
            raise


def _become_agent(path: str, site: str, argv: list[str]) -> NoReturn:
    sys.path.insert(0, site)
    sys.argv = [path, *argv]
    from agent.entry.cli import main

    sys.exit(main())


def _say(report: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def _give_up(report: dict[str, Any], error: str) -> NoReturn:
    _say({**report, "error": error})
    sys.exit(1)
