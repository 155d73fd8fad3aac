"""Parts of the lab that need no lab: options, names, the pause program, paths on a disk."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.lab import images, names, operator_home
from tests.lab.disk import Disk, DiskOptions
from tests.lab.etcd_versions import VERSIONS
from tests.lab.kubelet.timing import KubeletTiming
from tests.lab.manifests import etcd_flags
from tests.lab.options import LabOptions
from tests.lab.paths import OPERATOR_HOME


def test_options_survive_their_text() -> None:
    disks = {"master-1": DiskOptions("mount", "64m", python="none")}
    options = LabOptions(5, "3.4", KubeletTiming(teardown=3), disks, 8 << 20)
    assert LabOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize("wrong", [{"hosts": 0}, {"hosts": 10}, {"etcd": "2.0"}])
def test_impossible_labs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"lab has|unknown"):
        LabOptions(**wrong)  # type: ignore[arg-type]


def test_flags_are_in_kubeadms_order() -> None:
    for version in VERSIONS.values():
        flags = [f.partition("=")[0] for f in etcd_flags(1, version, quota=1 << 20)]
        assert flags == sorted(flags)


def test_pause_program_is_a_static_executable() -> None:
    program = images.pause_program()
    assert program[:4] == b"\x7fELF"
    entry = struct.unpack_from("<Q", program, 24)[0]
    assert entry - 0x400000 == 120
    assert len(program) == 120 + 9


def test_only_root_moves_home(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\n")
    first, second = operator_home.passwd_with_home(tmp_path / "passwd").splitlines()
    assert first == f"root:x:0:0:root:{OPERATOR_HOME}:/bin/bash"
    assert second.endswith("/root:/bin/sh")


def test_hosts_file_names_every_host() -> None:
    assert names.hosts_file().count("master-") == names.MAX_HOSTS


def test_paths_follow_the_hosts_own_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.lab.disk.STATE_DIR", tmp_path)
    disk = Disk(0, tmp_path, tmp_path, DiskOptions("symlink"))
    (disk.root / "var/lib").mkdir(parents=True)
    (disk.root / "var/lib/etcd").symlink_to("/mnt/disk/etcd")
    assert disk.path("/var/lib/etcd/member") == disk.top / "volume/etcd/member"
    assert disk.path("/var/lib/../lib/x") == disk.root / "var/lib/x"
    assert disk.path("/var/lib/containerd/a") == disk.top / "containerd/a"
