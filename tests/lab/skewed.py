"""Hosts whose clock is wrong: what every dynamic program there is told of the time.

The hosts share the machine's kernel and so its clock. A small library (clock.c) that the host's own
/etc/ld.so.preload names shifts the time of day for every program that is started from then on and
asks the C library for it: sshd, date, openssl, the agent's Python. It does not reach what asks the
kernel itself, as Go's programs do (etcd, containerd, crictl), nor times of files. Time that only
counts on (CLOCK_MONOTONIC) stays as it is, as it does where somebody sets a clock.

Not libfaketime: with Python 3.11 its 0.9.10 lets Event.wait hang, or sleep fail with EINVAL.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.lab import cache, debs, recipe
from tests.lab.commands import run
from tests.lab.host import Host
from tests.lab.paths import CACHE_DIR, LAB_DIR

_SOURCE = LAB_DIR / "clock.c"
_PACKAGE = "tcc"  # a C compiler of 300 KB that needs no headers for this
_LIBRARY = "/usr/lib/lab/clock.so"
_PRELOAD, _AHEAD = "/etc/ld.so.preload", "/etc/lab-clock"


def clock_dir() -> Path:
    """The cache directory that has, or will have, `clock.so`."""
    return CACHE_DIR / f"clock-{recipe.digest(recipe.SUITE, _PACKAGE, _SOURCE.read_text())}"


def ensure_clock() -> Path:
    """Give the library, building it first where it is missing; that needs the network."""

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="lab-clock.") as work:
            debs.unpack_packages(recipe.SUITE, (_PACKAGE,), Path(work))
            words = ["-shared", "-nostdlib", "-nostdinc", "-o", target / "clock.so", _SOURCE]
            run([Path(work, "usr/bin/tcc"), *words])

    return cache.ensure(clock_dir(), make) / "clock.so"


def set_clock(host: Host, ahead: int) -> None:
    """Put a host's clock so many seconds ahead, for all that is started there from now on."""
    host.write(_LIBRARY, ensure_clock().read_bytes(), 0o755)
    host.write(_AHEAD, f"{ahead}\n", 0o644)
    host.write(_PRELOAD, f"{_LIBRARY}\n", 0o644)


def put_clock_right(host: Host) -> None:
    """The machine's own time again, for what runs already too."""
    host.path(_PRELOAD).unlink()
    host.path(_AHEAD).unlink()
