"""Hosts of Debian 11: Python 3.9, glibc 2.31, and everything else as old. Made where asked for.

Its containerd speaks an older CRI than the lab's crictl: etcd runs under systemd there, and its
programs must be static (3.6's are).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab import build, cache, debs, recipe
from tests.lab.commands import run
from tests.lab.paths import CACHE_DIR

SUITE = "bullseye"


def base_dir() -> Path:
    """The cache directory of the recipe as it is now."""
    key = recipe.digest(recipe.base_dir().name, Path(__file__).read_text())
    return CACHE_DIR / f"debian11-{key}"


def root_dir() -> Path:
    """The root file system under these hosts, made where it is missing: some minutes, 600 MB."""

    def make(target: Path) -> None:
        plain = target / "plain"
        include = ",".join(recipe.BASE_PACKAGES)
        words = ["debootstrap", "--variant=minbase", f"--include={include}", SUITE]
        run([*words, plain / "root", debs.MIRROR], timeout=1800)
        for folder in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
            shutil.rmtree(plain / "root" / folder, ignore_errors=True)
            (plain / "root" / folder).mkdir()
        build._customize(plain, target, None)
        shutil.rmtree(plain)

    return cache.ensure(base_dir(), make) / "root"
