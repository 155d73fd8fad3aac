"""Directories that are built once: under a temporary name, locked, then renamed into place."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab.paths import CACHE_DIR

_KEPT_SECONDS = 24 * 3600


def ensure(target: Path, build: Callable[[Path], None]) -> Path:
    """Return the cached directory, building it first where it is missing."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (CACHE_DIR / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.is_dir():
            return target
        unfinished = target.with_name(f".{target.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        build(unfinished)
        unfinished.rename(target)
    return target


def remove_old(is_current: Callable[[Path], bool]) -> None:
    """Remove what no recipe of today makes, unless it is so young that a lab may still use it."""
    for directory in CACHE_DIR.glob("[a-z]*"):
        age = time.time() - directory.stat().st_ctime
        if not is_current(directory) and age > _KEPT_SECONDS:
            shutil.rmtree(directory, ignore_errors=True)
