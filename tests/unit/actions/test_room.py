"""Preflight on real file systems: small, full and read-only ones, each a tmpfs of its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.actions.tree import read_tree
from agent.errors import PreconditionFailed
from agent.host import STATE_DIR, Host
from agent.records.journal import Journal
from agent.runner import Runner
from tests.unit.rooted import DATA, MANIFEST, Rooted, kubeadm_host, picture, plan_of

Mount = Callable[[str, str], None]
ETC = os.path.dirname(MANIFEST)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount a tmpfs over a directory of the host below tmp_path, with what was in it."""
    mounted: list[str] = []

    def run(*argv: str) -> None:
        subprocess.run(argv, check=True, capture_output=True)

    def mount(directory: str, options: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs to mount a tmpfs")
        place, aside = str(tmp_path / directory[1:]), str(tmp_path / "aside")
        os.makedirs(place, 0o700, exist_ok=True)
        size, *more = options.split(",")
        try:
            run("mount", "-t", "tmpfs", "-o", f"mode=700,{size}", "tmpfs", aside_made(aside))
        except subprocess.CalledProcessError:
            pytest.skip("needs to mount a tmpfs")
        run("cp", "-a", f"{place}/.", aside)
        run("mount", "--move", aside, place)
        mounted.append(place)
        for option in more:
            run("mount", "-o", f"remount,{option}", place)

    def aside_made(aside: str) -> str:
        os.makedirs(aside, exist_ok=True)
        return aside

    yield mount
    for place in reversed(mounted):
        run("umount", "--lazy", place)


def preflight(host: Rooted, copies: bool = True, incoming: int = 0) -> None:
    args = {"copies": copies, "binary": False, "incoming": incoming}
    plan = plan_of(("preflight", args))
    Runner(host, Journal.create(host, plan), lambda text: None).run("01")


def test_a_host_with_room_is_left_as_it_is(tmp_path: Path) -> None:
    host = kubeadm_host(tmp_path)
    before = picture(tmp_path, DATA, "/etc")
    preflight(host, incoming=1 << 20)
    assert picture(tmp_path, DATA, "/etc") == before
    assert host.listdir(f"{STATE_DIR}/work") == []


@pytest.mark.parametrize(
    ("directory", "options", "incoming", "seen"),
    [
        (DATA, "size=50m", 0, "/var/lib/etcd needs 64 MiB for new data beside the old; 4"),
        (DATA, "size=200m", 100 << 20, "needs 228 MiB"),
        (DATA, "size=200m,nr_inodes=500", 0, "and 49[0-9] inodes are free"),
        (DATA, "size=200m,ro", 0, "/var/lib/etcd is on a file system that is mounted read-only"),
        (STATE_DIR, "size=50m", 0, "/var/lib/etcd-rescue: 49 MiB and"),
        (ETC, "size=1m,ro", 0, "/etc/kubernetes/manifests is on a file system that is mounted"),
        (ETC, "size=512k", 0, "must have room to come back"),
    ],
)
def test_no_room_is_told_with_what_was_seen(
    tmp_path: Path, mount: Mount, directory: str, options: str, incoming: int, seen: str
) -> None:
    host = kubeadm_host(tmp_path)
    mount(directory, options)
    with pytest.raises(PreconditionFailed) as caught:
        preflight(host, incoming=incoming)
    assert caught.match("m0: /")
    assert re.search(seen, str(caught.value)), str(caught.value)
    assert caught.value.why
    assert caught.value.next


def test_all_data_is_read_and_no_hole(tmp_path: Path) -> None:
    kubeadm_host(tmp_path)
    member = tmp_path / DATA[1:] / "member"
    on_disk = sum(p.stat().st_size for p in member.rglob("*") if p.is_file())
    read = read_tree(Host(str(tmp_path)), f"{DATA}/member")
    assert 370_000 <= read < on_disk
