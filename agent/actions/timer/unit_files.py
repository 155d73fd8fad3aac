"""Unit files of ours on a host: looked at, written, removed; and what systemd says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from agent.actions.timer.units import UNIT_DIR, whose
from agent.errors import CommandFailed, PreconditionFailed
from agent.host import Host
from agent.host.own_files import remove_file

_PATIENCE = 30.0

Times = Mapping[str, Sequence[int]]
"""Unit file → its atime and mtime, in ns."""


def read_units(host: Host, names: Iterable[str]) -> dict[str, Optional[str]]:
    """File name → text, None where there is no such file."""
    found: dict[str, Optional[str]] = {}
    for name in names:
        path = f"{UNIT_DIR}/{name}"
        is_there = host.exists(path) or host.is_link(path)
        # A link (of `systemctl link`, or to /dev/null: masked) is somebody's will, and no file.
        found[name] = "" if host.is_link(path) else host.read_text(path) if is_there else None
    return found


def require_ours(host: Host, names: Iterable[str], verb: str) -> None:
    """Raise PreconditionFailed where a file of that name is not ours, or was edited."""
    for name, text in read_units(host, names).items():
        if text is None or whose(text) == "ours":
            continue
        path = f"{UNIT_DIR}/{name}"
        seen = "was edited" if whose(text) == "edited" else "is not of etcd-rescue"
        raise PreconditionFailed(
            f"{host.hostname()}: {path} {seen}",
            "what somebody wrote there is not ours to replace or to remove",
            f"keep what you need of it in a drop-in (systemctl edit {name}), then: "
            f"mv {path} {path}.mine && fab {verb}",
        )


def require_systemd(host: Host) -> None:
    """Raise PreconditionFailed where no systemd runs the host."""
    if not host.is_dir("/run/systemd/system"):
        raise PreconditionFailed(
            f"{host.hostname()}: systemd does not run this host",
            "the timer is one of systemd's",
            "have your scheduler run: rescue-agent scheduled-snapshot --help",
        )


def write_units(host: Host, texts: Mapping[str, str], times: Optional[Times] = None) -> None:
    """Put the files in place, 0644, and have systemd read them."""
    for name, text in texts.items():
        since = (times or {}).get(name)
        when = (int(since[0]), int(since[1])) if since else None
        host.write_atomic(f"{UNIT_DIR}/{name}", text.encode(), mode=0o644, times=when)
    systemctl(host, "daemon-reload")


def times_of(host: Host, names: Iterable[str]) -> dict[str, list[int]]:
    """File name → atime and mtime, in ns, of the files that there are."""
    found = [name for name in names if host.exists(f"{UNIT_DIR}/{name}")]
    infos = {name: host.stat(f"{UNIT_DIR}/{name}") for name in found}
    return {name: [info.st_atime_ns, info.st_mtime_ns] for name, info in infos.items()}


def is_forgotten(host: Host, names: Iterable[str]) -> bool:
    """Whether systemd has read that these files are not there (any more)."""
    return not any(
        show(host, name, "FragmentPath").get("FragmentPath") == f"{UNIT_DIR}/{name}"
        for name in names
    )


def remove_units(host: Host, names: Iterable[str]) -> list[str]:
    """Take the files away, and have systemd forget them; the names of those that were there."""
    gone = []
    for name in names:
        host.clear_cut_write(f"{UNIT_DIR}/{name}")
        if host.exists(f"{UNIT_DIR}/{name}"):
            remove_file(host, f"{UNIT_DIR}/{name}")
            gone.append(name)
    systemctl(host, "daemon-reload")
    for name in gone:
        systemctl(host, "reset-failed", name, ok=(0, 1, 5))
    return gone


def systemctl(host: Host, *words: str, ok: tuple[int, ...] = (0,), timeout: float = 0) -> str:
    """What systemctl says. Raises CommandFailed."""
    argv = ["systemctl", "--no-pager", "--no-ask-password", *words]
    return host.run(argv, timeout or _PATIENCE, ok=ok).stdout


def show(host: Host, unit: str, *properties: str) -> dict[str, str]:
    """Property → value; empty where systemd tells nothing."""
    try:
        said = systemctl(host, "show", unit, *(f"--property={name}" for name in properties))
    except CommandFailed:
        return {}
    pairs = (line.partition("=") for line in said.splitlines())
    return {name: value for name, equals, value in pairs if equals}
