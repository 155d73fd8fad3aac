"""known_hosts as OpenSSH reads it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Refused
from coordinator.hostkeys import KnownHosts, Server, fingerprint, lookup_names

BLOB = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32
KEY = base64.b64encode(BLOB).decode()


def known(tmp_path: Path, text: str) -> KnownHosts:
    file = tmp_path / "known_hosts"
    file.write_text(text)
    return KnownHosts([str(file), str(tmp_path / "absent"), str(tmp_path)])


def server(name: str, port: int = 22, direct: bool = True) -> Server:
    return Server(name, lookup_names(name, port), port, name, direct)


def hashed(name: str) -> str:
    salt = b"s" * 20
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return "|1|" + "|".join(base64.b64encode(part).decode() for part in (salt, digest))


@pytest.mark.parametrize(
    ("patterns", "name", "port", "is_known"),
    [
        ("m1", "m1", 22, True),
        ("m1", "M1", 22, True),
        ("M1", "m1", 22, True),
        ("m1", "m10", 22, False),
        ("m1", "m1", 2222, True),
        ("[m1]:2222", "m1", 2222, True),
        ("[m1]:2222", "m1", 22, False),
        ("[m1]:2222", "m1", 2223, False),
        ("m2,m1", "m1", 22, True),
        ("m?", "m1", 22, True),
        ("*.example.org", "m1.example.org", 22, True),
        ("*.example.org,!m1.*", "m1.example.org", 22, False),
        ("!m1.*,*.example.org", "m1.example.org", 22, False),
        ("[::1]:2222", "::1", 2222, True),
        ("::1", "::1", 22, True),
        (hashed("m1"), "m1", 22, True),
        (hashed("m1"), "m2", 22, False),
        (hashed("[m1]:2222"), "m1", 2222, True),
        ("|1|broken", "m1", 22, False),
        ("|1|%%%|%%%", "m1", 22, False),
    ],
)
def test_patterns(tmp_path: Path, patterns: str, name: str, port: int, is_known: bool) -> None:
    hosts = known(tmp_path, f"# a comment\n\n{patterns} ssh-ed25519 {KEY} a comment\n")
    assert hosts.types(lookup_names(name, port)) == (["ssh-ed25519"] if is_known else [])
    if is_known:
        hosts.check(server(name, port), "ssh-ed25519", BLOB)
    else:
        with pytest.raises(Refused, match="not known here"):
            hosts.check(server(name, port), "ssh-ed25519", BLOB)


@pytest.mark.parametrize(
    "line",
    ["m1 ssh-ed25519", "m1", "m1 ssh-ed25519 %%%", f"@what m1 ssh-ed25519 {KEY}", "@revoked",
     f"@cert-authority m1 ssh-ed25519 {KEY}", "\0\xff"],
)  # fmt: skip
def test_lines_that_make_nothing_known(tmp_path: Path, line: str) -> None:
    assert known(tmp_path, line + "\n").of(["m1"]) == []


def test_a_key_with_its_own_port_is_not_overruled_by_the_bare_name(tmp_path: Path) -> None:
    other = base64.b64encode(BLOB[:-1] + b"x").decode()
    hosts = known(tmp_path, f"[m1]:2222 ssh-ed25519 {other}\nm1 ssh-ed25519 {KEY}\n")
    with pytest.raises(Refused, match="HAS CHANGED"):
        hosts.check(server("m1", 2222), "ssh-ed25519", BLOB)


def test_a_revocation_counts_for_this_host_and_key_only(tmp_path: Path) -> None:
    text = f"m1,m2 ssh-ed25519 {KEY}\n@revoked m1 ssh-ed25519 {KEY}\n"
    hosts = known(tmp_path, text)
    with pytest.raises(Refused, match=r"REVOKED.*" + r"SHA256:"):
        hosts.check(server("m1"), "ssh-ed25519", BLOB)
    hosts.check(server("m2"), "ssh-ed25519", BLOB)


def test_a_key_of_another_type_than_the_known_one_is_a_change(tmp_path: Path) -> None:
    hosts = known(tmp_path, f"m1 ssh-rsa {base64.b64encode(b'rsa').decode()}\n")
    with pytest.raises(Refused, match=r"HAS CHANGED: known is rsa SHA256:.*shown is ed25519"):
        hosts.check(server("m1"), "ssh-ed25519", BLOB)


def test_behind_a_jump_host_ssh_itself_accepts_the_key(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        known(tmp_path, "").check(server("m1", direct=False), "ssh-ed25519", BLOB)
    assert "ssh m1" in caught.value.next
    assert "keyscan" not in caught.value.next


def test_a_fingerprint_is_that_of_ssh_keygen() -> None:
    # ssh-keygen -lf of github.com's published ed25519 host key.
    blob = base64.b64decode("AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl")
    assert fingerprint(blob) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"


@given(st.binary(max_size=300))
def test_no_file_content_is_a_crash_or_lets_a_stranger_in(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "random_known_hosts"
    file.write_bytes(data)
    with pytest.raises(Refused):
        KnownHosts([str(file)]).check(server("m1"), "ssh-ed25519", BLOB)
