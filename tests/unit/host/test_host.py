from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import CommandFailed, Damaged, Refused
from agent.host import STATE_DIR, Host
from tests.unit.rooted import picture

WORK = f"{STATE_DIR}/work"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(str(tmp_path))


def put(root: Path, path: str, text: str = "x") -> Path:
    real = root / path.lstrip("/")
    real.parent.mkdir(parents=True, exist_ok=True)
    real.write_text(text)
    return real


# ---- links under a prefix ------------------------------------------------------------------------


def test_an_absolute_link_leads_to_the_hosts_own_file(host: Host, tmp_path: Path) -> None:
    put(tmp_path, "/data/etcd/x", "inside")
    (tmp_path / "var").mkdir()
    (tmp_path / "var/etcd").symlink_to("/data/etcd")
    assert host.read_text("/var/etcd/x") == "inside"
    assert host.realpath("/var/etcd/x") == "/data/etcd/x"


def test_dots_never_climb_above_the_root(host: Host, tmp_path: Path) -> None:
    put(tmp_path, "/etc/passwd", "inside")
    (tmp_path / "up").symlink_to("../../../../etc/passwd")
    assert host.read_text("/up") == "inside"
    assert host.read_text("/../../etc/passwd") == "inside"


def test_a_circle_of_links_is_refused(host: Host, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/b")
    (tmp_path / "b").symlink_to("/a")
    with pytest.raises(Refused, match="too many levels"):
        host.read_bytes("/a")


def test_a_process_s_own_root_is_a_root_of_its_own(host: Host, tmp_path: Path) -> None:
    put(tmp_path, "/proc/7/root/opt/etcd/etcd", "the container's")
    put(tmp_path, "/opt/etcd/etcd", "the host's")
    (tmp_path / "proc/7/root/usr").mkdir()
    (tmp_path / "proc/7/root/usr/etcd").symlink_to("/opt/etcd/etcd")
    assert host.read_text("/proc/7/root/usr/etcd") == "the container's"
    assert host.exists("/proc/7/root/usr/etcd")


def test_the_kernel_s_links_are_left_to_the_kernel(host: Host, tmp_path: Path) -> None:
    (tmp_path / "proc").symlink_to("/proc")
    with host.open(f"/proc/{os.getpid()}/exe") as file:
        assert file.read(4) == b"\x7fELF"


# ---- programs under a prefix ---------------------------------------------------------------------

STATIC = "/usr/sbin/ldconfig"
needs_static = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists(STATIC), reason="needs root and a static program"
)


@needs_static
def test_a_command_runs_in_the_root_of_the_host(host: Host, tmp_path: Path) -> None:
    target = tmp_path / STATIC[1:]
    target.parent.mkdir(parents=True)
    shutil.copy2(STATIC, target)
    assert host.run(["ldconfig", "--version"]).stdout.startswith("ldconfig ")
    put(tmp_path, "/lib/x/a.txt")
    (tmp_path / "etc").mkdir()
    host.run(["ldconfig", "-v", "-C", "/etc/made.cache", "/lib/x"])
    assert (tmp_path / "etc/made.cache").exists()  # a path is the host's own, in argv too
    assert not os.path.exists("/etc/made.cache")


@needs_static
def test_what_only_we_have_is_no_command_of_the_host(host: Host) -> None:
    with pytest.raises(CommandFailed, match="no such command on this host"):
        host.run(["env"])
    (Path(host.root) / "log").mkdir()
    with pytest.raises(FileNotFoundError):
        host.spawn(["env"], "/log/x")


NAMES = st.sampled_from(["a", "b", "c", "..", "."])
TARGETS = st.builds(
    lambda absolute, parts: ("/" if absolute else "") + "/".join(parts),
    st.booleans(),
    st.lists(NAMES, min_size=1, max_size=5),
)


@given(
    links=st.dictionaries(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), TARGETS, max_size=5
    ),
    asked=st.lists(NAMES, min_size=1, max_size=6),
)
def test_no_tree_of_links_leads_out_of_the_root(
    links: dict[str, str], asked: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("root")
    for place, target in links.items():
        if any(parent.is_symlink() for parent in (root / place).parents):
            continue  # the test itself would follow a link, out of its root
        try:
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).symlink_to(target)
        except OSError:
            continue  # one link already stands where the next needs a directory
    host = Host(str(root))
    try:
        real = host.real("/" + "/".join(asked))
    except Refused:
        return  # a circle
    assert f"{real}/".startswith(f"{root}/")
    assert f"{os.path.realpath(real)}/".startswith(f"{root}/")


# ---- write_atomic --------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o277])
def test_modes_do_not_depend_on_the_umask(host: Host, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        host.makedirs("/a/b")
        host.write_atomic("/a/b/file", b"x")
        host.append_synced("/a/b/log", b"x", keep=0)
    finally:
        os.umask(before)
    for path, mode in (("a", 0o700), ("a/b", 0o700), ("a/b/file", 0o600), ("a/b/log", 0o600)):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == mode, path


def test_write_keeps_owner_mode_and_xattrs_of_the_target(host: Host, tmp_path: Path) -> None:
    path = put(tmp_path, "/etc/etcd.yaml", "old")
    path.chmod(0o640)
    os.setxattr(path, "user.label", b"kept")
    host.write_atomic("/etc/etcd.yaml", b"new", like=host.stat("/etc/etcd.yaml"))
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.getxattr(path, "user.label") == b"kept"


def test_write_through_a_link_keeps_the_link(host: Host, tmp_path: Path) -> None:
    target = put(tmp_path, "/srv/etcd.yaml", "old")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/etcd.yaml").symlink_to("/srv/etcd.yaml")
    host.write_atomic("/etc/etcd.yaml", b"new")
    assert target.read_text() == "new"
    assert (tmp_path / "etc/etcd.yaml").is_symlink()
    assert os.listdir(tmp_path / "etc") == ["etcd.yaml"]


def test_a_failed_write_leaves_nothing_behind(host: Host, tmp_path: Path) -> None:
    (tmp_path / "etc/etcd.yaml").mkdir(parents=True)  # a directory: the rename fails
    with pytest.raises(OSError, match="directory"):
        host.write_atomic("/etc/etcd.yaml", b"new")
    assert os.listdir(tmp_path / "etc") == ["etcd.yaml"]


def test_a_dead_agents_temporary_file_is_no_obstacle(host: Host, tmp_path: Path) -> None:
    left = put(tmp_path, "/etc/.etcd.yaml.rescue", "half")
    host.write_atomic("/etc/etcd.yaml", b"new")
    assert not left.exists()
    assert (tmp_path / "etc/etcd.yaml").read_bytes() == b"new"


def test_a_watcher_sees_whole_files_and_dot_files_only(host: Host, tmp_path: Path) -> None:
    directory = tmp_path / "manifests"
    directory.mkdir()
    seen: set[str] = set()
    sizes: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for name in os.listdir(directory):
                if not name.startswith("."):
                    seen.add(name)
                    sizes.add((directory / name).stat().st_size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(40):
        host.write_atomic("/manifests/etcd.yaml", bytes(200_000))
    stop.set()
    watcher.join()
    assert seen == {"etcd.yaml"}
    assert sizes == {200_000}


def test_makedirs_refuses_where_a_file_is_in_the_way(host: Host, tmp_path: Path) -> None:
    put(tmp_path, "/var/lib", "a file")
    with pytest.raises(Refused, match="no directory"):
        host.makedirs("/var/lib/etcd-rescue")


# ---- rename_new, move_new ------------------------------------------------------------------------


def test_rename_never_overwrites(host: Host, tmp_path: Path) -> None:
    source, target = put(tmp_path, "/a/one", "new"), put(tmp_path, "/b/one", "old")
    with pytest.raises(Refused, match="File exists"):
        host.rename_new("/a/one", "/b/one")
    assert (source.read_text(), target.read_text()) == ("new", "old")


@pytest.mark.parametrize("kind", ["empty directory", "link to nothing"])
def test_rename_never_overwrites_what_rename_would(host: Host, tmp_path: Path, kind: str) -> None:
    (tmp_path / "one").mkdir()
    if kind == "empty directory":
        (tmp_path / "two").mkdir()
    else:
        (tmp_path / "two").symlink_to("nowhere")
    with pytest.raises(Refused):
        host.rename_new("/one", "/two")
    assert (tmp_path / "one").is_dir()


def test_of_many_who_rename_to_one_name_one_wins(host: Host, tmp_path: Path) -> None:
    for round in range(30):
        for i in range(4):
            put(tmp_path, f"/from/{round}-{i}", str(i))
        (tmp_path / "to").mkdir(exist_ok=True)
        gate = threading.Barrier(4)
        won: list[int] = []

        def race(
            i: int, round: int = round, gate: threading.Barrier = gate, won: list[int] = won
        ) -> None:
            gate.wait()
            try:
                host.rename_new(f"/from/{round}-{i}", f"/to/{round}")
            except Refused:
                return
            won.append(i)

        threads = [threading.Thread(target=race, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert (tmp_path / f"to/{round}").read_text() == str(won[0])


class TwoDisks(Host):
    """A host whose /disk2 counts as another file system, as a bind mount would."""

    def mount_point(self, path: str) -> str:
        return "/disk2" if path.startswith("/disk2") else "/"


def test_a_move_across_file_systems_keeps_everything(tmp_path: Path) -> None:
    source = put(tmp_path, "/etc/etcd.yaml", "pod")
    source.chmod(0o640)
    os.setxattr(source, "user.label", b"kept")
    os.utime(source, ns=(1, 1_600_000_000_000_000_001))
    put(tmp_path, "/disk2/other")
    before = picture(tmp_path, "/etc/etcd.yaml")["etc/etcd.yaml"]
    TwoDisks(str(tmp_path)).move_new("/etc/etcd.yaml", "/disk2/parked")
    assert picture(tmp_path, "/disk2/parked")["disk2/parked"] == before
    assert not source.exists()
    assert sorted(os.listdir(tmp_path / "disk2")) == ["other", "parked"]


def test_a_move_across_file_systems_never_overwrites(tmp_path: Path) -> None:
    source, target = put(tmp_path, "/etc/x", "new"), put(tmp_path, "/disk2/x", "old")
    with pytest.raises(Refused, match="File exists"):
        TwoDisks(str(tmp_path)).move_new("/etc/x", "/disk2/x")
    assert (source.read_text(), target.read_text()) == ("new", "old")
    assert os.listdir(tmp_path / "disk2") == ["x"]


@pytest.mark.parametrize("left", [".x.moving", "x"])
def test_a_move_that_was_cut_is_finished(tmp_path: Path, left: str) -> None:
    source = put(tmp_path, "/etc/x", "content")
    put(tmp_path, f"/disk2/{left}", "cont" if left != "x" else "content")
    TwoDisks(str(tmp_path)).move_new("/etc/x", "/disk2/x")
    assert (tmp_path / "disk2/x").read_text() == "content"
    assert not source.exists()
    assert os.listdir(tmp_path / "disk2") == ["x"]


# ---- discard -------------------------------------------------------------------------------------


def test_discard_deletes_below_work_only(host: Host, tmp_path: Path) -> None:
    put(tmp_path, f"{WORK}/p1/member/snap/db")
    put(tmp_path, "/data/.etcd-rescue/work/p1/db")
    host.discard(f"{WORK}/p1")
    host.discard("/data/.etcd-rescue/work/p1")
    host.discard(f"{WORK}/not-there")
    assert os.listdir(tmp_path / WORK[1:]) == []


@pytest.mark.parametrize(
    "path",
    [
        "/", "/etc", "/var/lib/etcd", "/var/lib/etcd/member", STATE_DIR, WORK, f"{WORK}/",
        f"{WORK}/.", f"{WORK}/..", f"{WORK}/../journal", f"{WORK}/../../etcd",
        f"{WORK}/link", f"{WORK}/link/member", "/home/etcd-rescue/work/x", "/work/etcd-rescue",
        "/data/.etcd-rescue/work", "/data/.etcd-rescue/work/../quarantine",
    ],
)  # fmt: skip
def test_discard_refuses_everything_else(host: Host, tmp_path: Path, path: str) -> None:
    for kept in ("/var/lib/etcd/member/db", f"{STATE_DIR}/journal/x", "/home/etcd-rescue/work/x",
                 "/data/.etcd-rescue/quarantine/x", "/work/etcd-rescue", "/etc/x"):  # fmt: skip
        put(tmp_path, kept)
    (tmp_path / WORK[1:]).mkdir()
    (tmp_path / WORK[1:] / "link").symlink_to("/var/lib/etcd")
    before = picture(tmp_path, "/var/lib/etcd", "/home", "/data", "/etc", "/work")
    if path == f"{WORK}/link":
        host.discard(path)  # the link itself is ours; what it leads to is not
    else:
        with pytest.raises(Refused):
            host.discard(path)
    assert picture(tmp_path, "/var/lib/etcd", "/home", "/data", "/etc", "/work") == before
    assert (tmp_path / STATE_DIR[1:] / "journal/x").exists()


def test_discard_does_not_follow_links_in_the_tree(host: Host, tmp_path: Path) -> None:
    kept = put(tmp_path, "/var/lib/etcd/member/db")
    put(tmp_path, f"{WORK}/p1/x")
    (tmp_path / WORK[1:] / "p1/etcd").symlink_to(tmp_path / "var/lib/etcd")
    host.discard(f"{WORK}/p1")
    assert kept.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_discard_refuses_a_tree_with_a_mount_in_it(tmp_path: Path) -> None:
    script = f"""
import os, subprocess
from agent.errors import Refused
from agent.host import Host
root = {str(tmp_path)!r}
os.makedirs(root + "{WORK}/p1/image"); os.makedirs(root + "/image"); open(root + "/image/x", "w")
if subprocess.run(["mount", "--bind", root + "/image", root + "{WORK}/p1/image"]).returncode:
    raise SystemExit(77)
try:
    Host(root).discard("{WORK}/p1")
except Refused as error:
    assert "is mounted" in error.seen
    raise SystemExit(0 if os.path.exists(root + "/image/x") else 2)
raise SystemExit(1)
"""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script], check=False, capture_output=True
    )
    if done.returncode == 77:
        pytest.skip("no mount may be made here")
    assert done.returncode == 0, done.stderr


# ---- reading -------------------------------------------------------------------------------------


def test_reading_is_bounded_and_regular_only(host: Host, tmp_path: Path) -> None:
    put(tmp_path, "/big", "x" * 100)
    with pytest.raises(Damaged, match="larger than 99"):
        host.read_bytes("/big", 99)
    with pytest.raises(OSError, match="directory") as caught:
        host.read_bytes("/")
    assert caught.value.errno == errno.EISDIR
    (tmp_path / "bad").write_bytes(b"ab\xff")
    with pytest.raises(Damaged, match="offset 2"):
        host.read_text("/bad")


def test_free_space_of_what_does_not_exist_is_its_parents(host: Host) -> None:
    free, inodes = host.free("/not/there/yet")
    assert free > 0
    assert inodes > 0
