"""The operator: a home with a key and the hosts' true keys, and the right to one sudo command."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.lab import names
from tests.lab.paths import OPERATOR_HOME, REPO_DIR, STATE_DIR

_GOLDEN_SSH = STATE_DIR / "golden-ssh"
_SSH_CONFIG = """\
Host master-* lb
    User core
    IdentityFile ~/.ssh/id_ed25519
    StrictHostKeyChecking yes
    ConnectTimeout 5
"""

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def passwd_with_home(passwd: Path) -> str:
    """The machine's passwd with root's home moved: OpenSSH asks it, not $HOME."""
    lines = passwd.read_text().splitlines()
    for index, line in enumerate(lines):
        fields = line.split(":")
        if fields[0] == "root":
            lines[index] = ":".join([*fields[:5], str(OPERATOR_HOME), *fields[6:]])
    return "\n".join(lines) + "\n"


def openssh_private(key: PrivateKey) -> bytes:
    """A private key as OpenSSH stores it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def openssh_public(key: PrivateKey) -> bytes:
    """A public key as OpenSSH stores it, without a comment."""
    return key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )


def create() -> None:
    """Make the operator's key and home; the hosts' keys come with the hosts."""
    key = ed25519.Ed25519PrivateKey.generate()
    _GOLDEN_SSH.mkdir(mode=0o700, parents=True)
    (_GOLDEN_SSH / "id_ed25519").write_bytes(openssh_private(key))
    (_GOLDEN_SSH / "id_ed25519").chmod(0o600)
    (_GOLDEN_SSH / "id_ed25519.pub").write_bytes(openssh_public(key) + b" operator\n")
    (_GOLDEN_SSH / "config").write_text(_SSH_CONFIG)
    (_GOLDEN_SSH / "known_hosts").touch()
    restore()


def trust(host_keys: Mapping[str, list[bytes]]) -> None:
    """Fill known_hosts with the hosts' public keys, by name and by address."""
    addresses = names.all_hosts()
    lines = [
        f"{name},{addresses[name]} {key.decode()}\n"
        for name, keys in host_keys.items()
        for key in keys
    ]
    (_GOLDEN_SSH / "known_hosts").write_text("".join(lines))
    restore()


def public_key() -> str:
    """The operator's public key, for the hosts' authorized_keys."""
    return (_GOLDEN_SSH / "id_ed25519.pub").read_text()


def sudoers_line(page: str = "README.md") -> str:
    """What the operator's login may do as root: the line that the documentation tells to write.

    Raises ValueError where the page has not just one.
    """
    found = re.findall(r"^```sudoers\n(.+\n)```$", (REPO_DIR / page).read_text(), re.M)
    if len(found) != 1:
        raise ValueError(f"{page} has {len(found)} blocks of one sudoers line")
    return str(found[0])


def restore() -> None:
    """Bring the home back to how it was made."""
    OPERATOR_HOME.mkdir(mode=0o700, exist_ok=True)
    for entry in OPERATOR_HOME.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    shutil.copytree(_GOLDEN_SSH, OPERATOR_HOME / ".ssh")
