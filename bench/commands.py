"""The operator's command, as a whole process, by the clock."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

from tests.lab.paths import REPO_DIR


def timed_fab(words: Sequence[str]) -> tuple[float, str]:
    """Run fab to its end: seconds, and what it told. Raises CalledProcessError where it fails."""
    start = time.monotonic()
    done = subprocess.run(
        [str(REPO_DIR / ".venv/bin/fab"), *words],
        cwd=REPO_DIR, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return time.monotonic() - start, done.stderr
