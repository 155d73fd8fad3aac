"""Everything a lab needs on the machine, made once: packages, base, etcd, keys."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence

from tests.lab import build, cache, debs, etcd_build, pki, recipe
from tests.lab.build import Progress
from tests.lab.etcd_versions import PREPARED


def obstacle() -> str | None:
    """Why no lab can run on this machine; None where one can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the lab runs on Linux on x86-64, not on {sys.platform} {platform.machine()}"
    if os.geteuid() != 0:
        return "the lab needs root"
    missing = build.missing_programs()
    if missing:
        return f"the lab needs {', '.join(missing)}: run tests/lab/setup.sh"
    return None


def is_ready() -> bool:
    """Whether everything has been made already."""
    made = [recipe.base_dir(), recipe.keys_dir(), *map(recipe.etcd_dir, PREPARED)]
    return not build.missing_programs() and all(path.is_dir() for path in made)


def ensure(
    versions: Sequence[str] = PREPARED, say: Progress = print, *, install: bool = False
) -> None:
    """Make what is missing; with install, the machine's packages too."""
    missing = build.missing_programs()
    if missing and install:
        say(f"installing {' '.join(missing)}")
        debs.install_into_machine(missing)
    base = build.ensure_base(say)
    for version in versions:
        etcd_build.ensure_etcd(version, base, say)
    pki.ensure_keys()
    cache.remove_old(recipe.is_current)
