"""The Python that a host has, or has not: none, an old one, one without parts of its library.

Real ones out of Debian packages, fetched once: 3.9 and 2.7 are bullseye's. Of 3.6 there is no
package: a script stands in for it, which says its version and takes no syntax newer than that.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.lab import cache, debs, recipe
from tests.lab.paths import CACHE_DIR

SUITE = "bullseye"
_MINIMAL = ("python3.9-minimal", "libpython3.9-minimal")
PACKAGES = {
    "3.9": (*_MINIMAL, "libpython3.9-stdlib", "libssl1.1", "libffi7", "libmpdec3"),
    "3.9-minimal": _MINIMAL,
    "2.7": ("python2.7-minimal", "libpython2.7-minimal", "libpython2.7-stdlib", "libffi7"),
}
"""Of a kind of host, what is unpacked on it. bookworm has the other libraries they need."""

LINKS = {
    "3.9": {"python3": "python3.9"},
    "3.9-minimal": {"python3": "python3.9"},
    "2.7": {"python2": "python2.7", "python": "python2"},
}
KINDS = ("host", "none", "3.6", *PACKAGES)

_STANDIN_36 = """\
#!/bin/sh
# Stands in for Python 3.6: it says its version where it is asked, and runs nothing of ours.
case "$*" in
*'sys.stdout.write("%d.%d" % v[:2]'*) printf 3.6 ;;
*) echo '  File "<string>", line 1: SyntaxError: invalid syntax' >&2 ;;
esac
exit 1
"""


def packages_dir(kind: str) -> Path:
    """The cache directory of a kind's unpacked packages."""
    return CACHE_DIR / f"python-{kind}-{recipe.digest(SUITE, PACKAGES[kind])}"


def is_current(directory: Path) -> bool:
    """Whether a cached directory is of these recipes."""
    return directory in map(packages_dir, PACKAGES)


def ensure() -> None:
    """Fetch what is missing; needs the network, so no enclosure."""
    for kind, packages in PACKAGES.items():

        def make(target: Path, packages: tuple[str, ...] = packages) -> None:
            debs.unpack_packages(SUITE, packages, target)
            for folder in ("usr/share", "etc"):
                shutil.rmtree(target / folder, ignore_errors=True)

        cache.ensure(packages_dir(kind), make)


def write(kind: str, base: Path, folder: Callable[[str], Path]) -> None:
    """Make a host's Python of that kind.

    base: what the host is laid over; folder: makes a directory of it.
    """
    if kind == "host":
        return
    programs = folder("usr/bin")
    for original in (base / "usr/bin").glob("python3*"):
        os.mknod(programs / original.name, 0o020000, 0)  # a whiteout
    if kind == "3.6":
        (programs / "python3").unlink()
        (programs / "python3").write_text(_STANDIN_36)
        (programs / "python3").chmod(0o755)
    if kind in PACKAGES:
        for path in (packages_dir(kind) / "usr").iterdir():
            shutil.copytree(path, folder(f"usr/{path.name}"), symlinks=True, dirs_exist_ok=True)
        for name, target in LINKS[kind].items():
            (programs / name).unlink(missing_ok=True)
            (programs / name).symlink_to(target)
