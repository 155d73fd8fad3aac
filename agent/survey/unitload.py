"""Where systemd finds a unit: its file, its drop-ins, and what keeps it from starting.

Paths and order: systemd.unit(5), "UNIT FILE LOAD PATH"; src/shared/dropin.c.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from agent.host import Host

ADMIN_DIR = "/etc/systemd/system"
LOAD_PATH = (
    "/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient",
    "/run/systemd/generator.early", ADMIN_DIR, "/etc/systemd/system.attached",
    "/run/systemd/system", "/run/systemd/system.attached", "/run/systemd/generator",
    "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
    "/run/systemd/generator.late",
)  # fmt: skip
"""Directories of unit files, the one that wins first."""

VENDOR = ("/usr/", "/lib/", "/run/")
"""Below these, files belong to packages and generators: an edit there would be overwritten."""

MAX_FILE = 1024 * 1024
_DEV_NULL = "/dev/null"


@dataclass(frozen=True)
class UnitFiles:
    """The files of one unit. fragment: its own file, empty where there is none.

    masked_by: the path that leads to /dev/null (or is empty), in front of everything else.
    dropins: in the order in which systemd reads them.
    """

    name: str
    fragment: str = ""
    dropins: tuple[str, ...] = ()
    masked_by: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The unit's own file first, then its drop-ins."""
        return (*((self.fragment,) if self.fragment else ()), *self.dropins)


def find_unit(host: Host, name: str, without: str = "") -> UnitFiles:
    """The files of the unit `name`; `without` names a drop-in that is to be looked past."""
    fragment = masked_by = ""
    for directory in LOAD_PATH:
        path = f"{directory}/{name}"
        if not host.exists(path) and not host.is_link(path):
            continue
        if is_masked(host, path):
            masked_by = masked_by or path
            continue  # what is behind it is still worth knowing
        if host.exists(path):
            fragment = path
            break
    dropins = [path for path in _dropins(host, name) if path != without]
    return UnitFiles(name, fragment, tuple(dropins), masked_by)


def is_masked(host: Host, path: str) -> bool:
    """True for a link to /dev/null or an empty file: systemd loads no unit then."""
    if host.is_link(path) and host.realpath(path) == _DEV_NULL:
        return True
    return host.exists(path) and not host.is_dir(path) and host.stat(path).st_size == 0


def _dropins(host: Host, name: str) -> list[str]:
    """Drop-ins by their file names; of two with one name, the directory that wins."""
    chosen: dict[str, str] = {}
    stem, _, kind = name.rpartition(".")
    prefixes = [stem[: i + 1] for i, c in enumerate(stem) if c == "-"]
    owners = [name, *(f"{prefix}.{kind}" for prefix in reversed(prefixes)), kind]
    for owner in owners:
        for directory in LOAD_PATH:
            folder = f"{directory}/{owner}.d"
            for entry in host.listdir(folder):
                if entry.endswith(".conf") and not entry.startswith("."):
                    chosen.setdefault(entry, f"{folder}/{entry}")
    found = [chosen[entry] for entry in sorted(chosen)]
    return [path for path in found if not is_masked(host, path) and host.exists(path)]


def is_vendor(path: str) -> bool:
    """True for a file that belongs to a package or a generator, not to the administrator."""
    return posixpath.normpath(path).startswith(VENDOR) and not path.startswith("/usr/local/etc")


def is_enabled(host: Host, name: str) -> bool:
    """True if some target or unit pulls it in: a link below .wants or .requires."""
    for directory in (ADMIN_DIR, "/run/systemd/system", "/usr/lib/systemd/system",
                      "/lib/systemd/system"):  # fmt: skip
        for entry in host.listdir(directory):
            if entry.endswith((".wants", ".requires")):
                path = f"{directory}/{entry}/{name}"
                if host.is_link(path) or host.exists(path):
                    return True
    return False
