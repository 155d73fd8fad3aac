"""The real kubectl, out of Debian's package: unpacked, not installed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.lab import cache, debs, recipe
from tests.lab.paths import CACHE_DIR

_PACKAGE = "kubernetes-client"


def kubectl_dir() -> Path:
    """The cache directory that has, or will have, `kubectl`; it can be mounted into hosts."""
    return CACHE_DIR / f"kubectl-{recipe.digest(recipe.SUITE, _PACKAGE)}"


def ensure_kubectl() -> Path:
    """Give the program, fetching it first where it is missing."""

    def fetch(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="lab-kubectl.") as work:
            debs.unpack_packages(recipe.SUITE, (_PACKAGE,), Path(work))
            shutil.copy2(Path(work, "usr/bin/kubectl"), target / "kubectl")

    return cache.ensure(kubectl_dir(), fetch) / "kubectl"
