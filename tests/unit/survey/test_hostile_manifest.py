"""Manifests that nobody would write who means well: a clear error, in little memory."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from agent.errors import Damaged, Refused
from agent.host import Host
from agent.platforms.kubeadm import Kubeadm
from agent.survey.manifest import etcd_config
from agent.survey.watched import read_watched
from tests.unit.survey.manifests import with_flags

PATH = "/etc/kubernetes/manifests/etcd.yaml"
GOOD = with_flags()


def laughs(depth: int) -> str:
    letters = "abcdefghijklmnop"[:depth]
    lines = [f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip(letters, letters[1:])]
    return "a: &a [x]\n" + "\n".join(lines) + "\n" + GOOD


HOSTILE = {
    "billion laughs": (laughs(9), "unfold to too many values"),
    "an anchor in itself": ("a: &a [*a]\n" + GOOD, "contains itself"),
    "a tag that runs code": (GOOD + "x: !!python/object/apply:os.system [id]\n", "tag"),
    "a tag of a name": (GOOD + "x: !!python/name:os.system\n", "tag"),
    "deep lists": (GOOD + "x: " + "[" * 5000, "nested"),
    "deep mappings": (GOOD + "x: " + "{a: " * 5000, "nested"),
    "very many values": (GOOD + "x: [" + "1," * 30_000 + "]\n", "too many"),
    "a key twice": (GOOD + "spec: {}\n", "given twice"),
    "a key that is a list": (GOOD + "? [a]\n: b\n", "plain word"),
    "a NUL byte": (GOOD + "x: a\0b\n", "special characters"),
    "an escape character": (GOOD + "x: \x1b[31m\n", "special characters"),
    "two documents": (GOOD + "---\n" + GOOD, "another document"),
    "two etcds": (
        GOOD.replace("containers:\n", "containers:\n  - {name: b, command: [etcd]}\n"),
        "run etcd",
    ),
    "a number as a flag": (GOOD.replace("- etcd\n", "- etcd\n    - 1e999\n", 1), "not a string"),
    "larger than any": (GOOD + "# " + "x" * 1024 * 1024, "characters"),
    "a list": ("- a\n", "not a mapping"),
    "nothing": ("", "empty"),
    "only a comment": ("# etcd\n", "empty"),
}


@pytest.mark.reliability(
    "Hostile input",
    "a manifest holds aliases, tags, depth, size, bytes or keys that no pod needs: a clear error"
    " with its place, nothing is evaluated, memory stays bounded",
)
@pytest.mark.parametrize("name", HOSTILE)
def test_manifests_that_are_refused(name: str) -> None:
    text, told = HOSTILE[name]
    tracemalloc.start()
    try:
        with pytest.raises((Damaged, Refused)) as caught:
            etcd_config(text, PATH)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told in caught.value.seen
    assert caught.value.seen.startswith(PATH)
    assert len(str(caught.value)) < 1000
    assert peak < 64 * 1024 * 1024


@pytest.mark.parametrize("change", ["\r\n", "\ufeff", "...\n"], ids=["CRLF", "BOM", "end mark"])
def test_what_other_editors_write_is_read(change: str) -> None:
    text = {"\r\n": GOOD.replace("\n", "\r\n"), "\ufeff": f"\ufeff{GOOD}"}.get(
        change, GOOD + change
    )
    assert etcd_config(text, PATH).flags == etcd_config(GOOD, PATH).flags


@pytest.mark.reliability(
    "Hostile input",
    "the watched directory holds 100 MB, bytes that are no text, pipes, devices and links: each is"
    " told or passed over as the kubelet does, and etcd's own manifest is read",
)
def test_a_watched_directory_full_of_traps(tmp_path: Path) -> None:
    watched = tmp_path / "etc/kubernetes/manifests"
    watched.mkdir(parents=True)
    (watched / "etcd.yaml").write_text(GOOD)
    with (watched / "large.yaml").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    (watched / "bytes.yaml").write_bytes(b"\xc3\x28")
    (watched / "laughs.yaml").write_text(laughs(9))
    (watched / "a\nb;$(id)\x1b[m.yaml").write_text("a: [")
    (watched / "zero.yaml").symlink_to("/dev/zero")
    (watched / "circle.yaml").symlink_to("circle.yaml")
    (watched / "away.yaml").symlink_to("/etc/kubernetes/absent")
    (watched / "below").mkdir()
    os.mkfifo(watched / "pipe.yaml")
    tracemalloc.start()
    try:
        config, strays, problems = read_watched(Host(str(tmp_path)), Kubeadm())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert config is not None
    assert config.data_dir == "/var/lib/etcd"
    told = {Path(stray.path).name: stray.problem for stray in strays}
    assert {"large.yaml", "bytes.yaml", "laughs.yaml", "a\nb;$(id)\x1b[m.yaml"} <= set(told)
    assert "pipe.yaml" not in told
    assert "larger than 1048576 bytes" in told["large.yaml"]
    assert problems == ()
    assert peak < 64 * 1024 * 1024
