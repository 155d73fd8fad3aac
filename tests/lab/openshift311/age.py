"""`age`, out of its Debian package: for the operator, and not for the hosts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.lab import cache, debs, recipe


def ensure_age() -> Path:
    """The directory with age and age-keygen, made first where it is missing."""

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="lab-age.") as work:
            debs.unpack_packages(recipe.SUITE, ("age",), Path(work))
            for name in ("age", "age-keygen"):
                shutil.copy2(Path(work) / "usr/bin" / name, target / name)

    return cache.ensure(recipe.age_dir(), build)
