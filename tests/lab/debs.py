"""Packages of other Debian suites, fetched and unpacked without touching the machine's own apt."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.commands import run

MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def _options(work: Path) -> list[str]:
    settings = {
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "APT::Sandbox::User": "root",
        "APT::Get::List-Cleanup": "false",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


@contextmanager
def _private_apt(suite: str) -> Iterator[tuple[list[str], Path]]:
    with tempfile.TemporaryDirectory(prefix="lab-apt.") as name:
        work = Path(name)
        (work / "state/lists/partial").mkdir(parents=True)
        (work / "cache/archives/partial").mkdir(parents=True)
        (work / "status").touch()
        (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
        options = _options(work)
        run(["apt-get", *options, "update"])
        yield options, work


def unpack_packages(suite: str, packages: Sequence[str], into: Path) -> None:
    """Download packages (not their dependencies) of a suite and unpack them into a directory."""
    with _private_apt(suite) as (options, work):
        run(["apt-get", *options, "download", *packages], cwd=work)
        for archive in sorted(work.glob("*.deb")):
            run(["dpkg-deb", "-x", archive, into])


def install_into_machine(packages: Sequence[str]) -> None:
    """Install packages of the machine's own suite."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], env=env)
    words = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    run(words, env=env, timeout=900)
