"""YAML that somebody else wrote: what is refused, with the line, in little time and memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from agent.errors import UsageError
from coordinator.inventory import load_inventory
from coordinator.yaml_input import MAX_SIZE, parse_yaml, read_yaml

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi")
)

REFUSED = {
    "billion laughs": (LAUGHS.encode(), ":2: aliases"),
    "an anchor that contains itself": (b"a: &a [*a]\n", "aliases"),
    "a merge key": (b"a: {<<: {b: 1}}\n", "plain word"),
    "a tag that runs code": (b"a: !!python/object/apply:os.system [touch /run/pwned]\n", ":1: "),
    "a tag of a name": (b"a: !!python/name:os.system\n", ":1: "),
    "a tag of our own": (b"a: !vault |\n  x\n", ":1: "),
    "deep lists": (b"[" * 100_000, "nested more than"),
    "deep mappings": (b"{a: " * 50_000, "nested more than"),
    "deep blocks": (b"".join(b" " * n + b"a:\n" for n in range(900)), "nested more than"),
    "a NUL byte": (b"a: b\0c\n", "special characters"),
    "a control character": (b"a: \x1b[31m\n", "special characters"),
    "no UTF-8": (b"a: \xc3\x28\n", "not UTF-8 at offset 3"),
    "UTF-16": ("a: b\n".encode("utf-16"), "not UTF-8"),
    "a key twice": (b"a: 1\na: 2\n", "there twice"),
    "a key that is a list": (b"? [a]\n: b\n", "plain word"),
    "two documents": (b"a: 1\n---\nb: 2\n", "another document"),
    "a number without end": (b"a: " + b"9" * 5000 + b"\n", "x.yaml"),
    "a date that is none": (b"a: 2024-99-99\n", "x.yaml"),
    "very many values": (b"- a\n" * 30_000, "more than 20000 values"),
    "1 MiB of dashes": (b"- " * 500_000, "x.yaml"),
    "a tab": (b"a:\n\tb: 1\n", ":2: "),
    "too large": (b"a: " + b"x" * MAX_SIZE, "larger than"),
}


@pytest.mark.reliability(
    "Hostile input",
    "cluster.yaml holds aliases, tags, depth, size, bytes or keys that no such file needs: a clear"
    " error with its place, and nothing is evaluated",
)
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    data, told = REFUSED[name]
    with pytest.raises(UsageError) as caught:
        parse_yaml(data, "x.yaml")
    assert caught.value.seen.startswith("x.yaml")
    assert told in caught.value.seen
    assert len(caught.value.seen) < 500
    assert not Path("/run/pwned").exists()


@pytest.mark.reliability(
    "Hostile input", "a file of 100 MB is given as cluster.yaml: refused in flat memory"
)
def test_a_hundred_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="larger than 1048576 bytes"):
            read_yaml(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_SIZE


@pytest.mark.parametrize(
    "data", [b"hosts: [a]\r\n", b"\xef\xbb\xbfhosts: [a]\n", b"%YAML 1.1\n---\nhosts: [a]\n...\n"]
)
def test_what_other_editors_write_is_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "cluster.yaml").write_bytes(data)
    assert [spec.name for spec in load_inventory(tmp_path / "cluster.yaml").hosts] == ["a"]


NAMES = [
    "a;b", "$(id)", "`id`", "a b", "-oProxyCommand=id", "--", "a\nb", "a\\nb", "ä", "а", "a\x1b[m",
    "a'b", 'a"b', "a/b", "../a", "a..b", "", "a" * 300, "a|b", "a&b", "a>b", "{a,b}", "*", "~root",
    "a%h", "%h", "a@b", "a,b", "[::1", "\u202ea", "．",
]  # fmt: skip


FINE = {
    "user": ("", "a\\nb", "a..b", "a@b"),  # DOMAIN\\user, user@realm
    "jump": ("", "a@b", "a,b"),
    "address": ("",),
    "cluster": ("",),
}


@pytest.mark.reliability(
    "Hostile input",
    "names of hosts, users and jump hosts hold shell metacharacters, newlines, leading dashes or"
    " unicode: refused, before any command is made of them",
)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["name", "address", "user", "jump", "cluster"])
def test_names_that_are_no_names(tmp_path: Path, name: str, field: str) -> None:
    quoted = '"' + "".join(f"\\U{ord(c):08x}" for c in name) + '"'
    cluster = f"cluster: {quoted}\n" if field == "cluster" else ""
    row = f"{{name: m0, {field}: {quoted}}}" if field != "cluster" else "m0"
    row = f"{{name: {quoted}}}" if field == "name" else row
    path = tmp_path / "cluster.yaml"
    path.write_text(f"{cluster}hosts: [{row}]\n")
    if name in FINE.get(field, ()):
        load_inventory(path)
        return
    with pytest.raises(UsageError) as caught:
        load_inventory(path)
    assert all(c.isprintable() or c == "\n" for c in str(caught.value))
