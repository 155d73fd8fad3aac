"""An archive for an OpenPGP key, by a real gpg: only its owner reads it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.host import Host
from agent.snapshot.master.pack import Recipient, encrypt

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="no gpg here")


def gpg(home: Path, *words: str) -> bytes:
    env = {"PATH": os.environ["PATH"], "GNUPGHOME": str(home)}
    argv = ["gpg", "--batch", "--passphrase", "", *words]
    return subprocess.run(argv, env=env, check=True, capture_output=True, timeout=60).stdout


def daemons(below: str) -> list[str]:
    """Command lines of processes that name a path below."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if below in line]


def test_only_the_owner_of_the_key_reads_it(tmp_path: Path) -> None:
    home, archive = tmp_path / "home", tmp_path / ".etcd-rescue/work/backup.tar"
    for folder in (home, archive.parent.parent, archive.parent):
        folder.mkdir(mode=0o700)
    try:
        gpg(home, "--quick-gen-key", "operator@example", "default", "default", "never")
        key = gpg(home, "--armor", "--export", "operator@example").decode()
        archive.write_bytes(b"secret" * 1000)
        made = Path(encrypt(Host("/"), str(archive), Recipient("gpg", key)))
        assert b"secretsecret" not in made.read_bytes()
        assert gpg(home, "--decrypt", str(made)) == archive.read_bytes()
        assert not Path(f"{archive}.keys").exists()
        assert daemons(str(archive)) == []
    finally:  # its agent would outlive the test
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
